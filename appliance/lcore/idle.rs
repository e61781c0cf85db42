//! What an lcore does when there is nothing to do. Pure polling burns a core for nothing; so after a run of
//! empty rounds it sleeps, longer each time up to a cap, and one frame wakes it fully. The cap is the
//! latency that a first frame after silence may meet.

use std::time::Duration;

/// Empty rounds before the first sleep, so that a steady flow never meets one: 11 µs of polling with two vhost-user ports.
const PATIENCE: u32 = 256;

/// The first sleep, in microseconds; each further one is twice as long.
const FIRST_US: u32 = 1;

/// The state of an lcore's patience.
#[derive(Debug)]
pub struct Idle {
    cap_us: Option<u32>,
    empty: u32,
    next_us: u32,
}

impl Idle {
    /// `cap_us`: the longest sleep; `None` to poll without end.
    #[must_use]
    pub const fn new(cap_us: Option<u32>) -> Self {
        Self { cap_us, empty: 0, next_us: FIRST_US }
    }

    /// How long to sleep after a round that moved `work` frames.
    #[inline]
    pub fn after(&mut self, work: usize) -> Option<Duration> {
        if work > 0 {
            self.empty = 0;
            self.next_us = FIRST_US;
            return None;
        }
        let cap = self.cap_us?;
        self.empty = self.empty.saturating_add(1);
        if self.empty <= PATIENCE {
            return None;
        }
        let pause = self.next_us.min(cap);
        self.next_us = pause.saturating_mul(2);
        Some(Duration::from_micros(u64::from(pause)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_grow_to_the_cap_and_work_ends_them() {
        let mut idle = Idle::new(Some(5));
        for _ in 0..PATIENCE {
            assert_eq!(idle.after(0), None);
        }
        let sleeps: Vec<_> = (0..5).map(|_| idle.after(0).map(|d| d.as_micros())).collect();
        assert_eq!(sleeps, [Some(1), Some(2), Some(4), Some(5), Some(5)]);
        assert_eq!(idle.after(1), None);
        assert_eq!(idle.after(0), None);
    }

    #[test]
    fn polling_never_sleeps() {
        let mut idle = Idle::new(None);
        assert!((0..10_000).all(|_| idle.after(0).is_none()));
    }
}

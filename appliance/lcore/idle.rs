//! What an lcore does when there is nothing to do. Pure polling uses a whole core for nothing. So after some time
//! without work it sleeps, longer each time up to a cap, and one frame ends that. The cap is the latency that the
//! first frame after a pause may see.

use std::time::Duration;

/// The first sleep, in microseconds; each further one is twice as long.
const FIRST_US: u32 = 1;

/// How long an lcore has had no work, and its next sleep.
#[derive(Debug)]
pub struct Idle {
    cap_us: Option<u32>,
    /// Without work before the first sleep, in TSC cycles.
    poll_cycles: u64,
    /// TSC of the last work.
    last_work_tsc: u64,
    next_us: u32,
}

impl Idle {
    /// `cap_us`: the longest sleep; `None` to poll without end. `poll_cycles`: TSC cycles without work before the
    /// first sleep. A sender that pauses for less sees no sleep; a sleep, however short, may take 20 µs.
    #[must_use]
    pub const fn new(cap_us: Option<u32>, poll_cycles: u64) -> Self {
        Self { cap_us, poll_cycles, last_work_tsc: 0, next_us: FIRST_US }
    }

    /// How long to sleep after a round that moved `work` frames and ended at TSC `now`.
    #[inline]
    pub fn after(&mut self, work: usize, now: u64) -> Option<Duration> {
        if work > 0 {
            self.last_work_tsc = now;
            self.next_us = FIRST_US;
            return None;
        }
        let cap = self.cap_us?;
        if now.saturating_sub(self.last_work_tsc) <= self.poll_cycles {
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
    fn sleeps_grow_to_the_cap_and_end_with_work() {
        let mut idle = Idle::new(Some(5), 100);
        assert_eq!(idle.after(1, 1000), None);
        assert_eq!(idle.after(0, 1001), None);
        assert_eq!(idle.after(0, 1100), None, "within its polling time");
        let sleeps: Vec<_> = (1101..1106).map(|now| idle.after(0, now).map(|d| d.as_micros())).collect();
        assert_eq!(sleeps, [Some(1), Some(2), Some(4), Some(5), Some(5)]);
        assert_eq!(idle.after(1, 2000), None);
        assert_eq!(idle.after(0, 2100), None, "polling again");
        assert_eq!(idle.after(0, 2101), Some(Duration::from_micros(1)), "and from the shortest");
    }

    #[test]
    fn polling_never_sleeps() {
        let mut idle = Idle::new(None, 0);
        assert!((0..10_000).all(|now| idle.after(0, now).is_none()));
    }
}

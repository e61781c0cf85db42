//! What an lcore does when there is nothing to do. Pure polling uses a whole core for nothing. So after some time
//! without work it sleeps, longer each time up to a cap, and one frame ends that. The cap is the latency that the
//! first frame after a pause may see.

use std::time::Duration;

/// The first sleep, in microseconds; each further one is twice as long.
const FIRST_US: u32 = 1;

/// How long the kernel may take to wake an lcore, in microseconds: a timer in a VM.
const WAKE_US: u64 = 20;
/// Bits of the smallest Ethernet frame on the wire, with preamble and gap (IEEE 802.3 clause 4.2.3.3, Annex 4A).
const MIN_FRAME_BITS: u64 = 84 * 8;

/// The longest sleep, in microseconds, after which the smallest frames at full speed have not filled a receive ring of so
/// many descriptors. 0: an lcore must not sleep.
#[must_use]
pub const fn longest_sleep_us(descriptors: u16, mbps: u32) -> u64 {
    // Mbit/s are bits per microsecond.
    let fill_us = descriptors as u64 * MIN_FRAME_BITS / if mbps == 0 { 1 } else { mbps as u64 };
    fill_us.saturating_sub(WAKE_US)
}

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

    /// Another longest sleep, as in [`Idle::new`].
    pub const fn set_longest(&mut self, cap_us: Option<u32>) {
        self.cap_us = cap_us;
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

    /// A ring of the default size overran with a cap of 100 µs: at 10 Gbit/s it is full after 34 µs.
    #[test]
    fn a_ring_does_not_overrun_while_an_lcore_sleeps() {
        for descriptors in [64, 512, 1024, 4096] {
            for mbps in [100, 1_000, 10_000, 25_000, 100_000, 400_000] {
                let frames = |us: u64| us * u64::from(mbps) / MIN_FRAME_BITS;
                let sleep_us = longest_sleep_us(descriptors, mbps);
                assert!(sleep_us == 0 || frames(sleep_us + WAKE_US) <= u64::from(descriptors));
                assert!(frames(sleep_us + WAKE_US + 1) + 1 >= u64::from(descriptors).min(frames(WAKE_US)));
            }
        }
        assert_eq!(longest_sleep_us(512, 10_000), 14);
        assert_eq!(longest_sleep_us(512, 1_000), 324);
        assert_eq!(longest_sleep_us(512, 100_000), 0);
        assert_eq!(longest_sleep_us(4096, 25_000), 90);
    }

    #[test]
    fn the_longest_sleep_changes() {
        let mut idle = Idle::new(Some(100), 0);
        let mut sleeps = |cap: Option<u32>| {
            idle.set_longest(cap);
            [1, 2, 3].map(|now| idle.after(0, now).map(|pause| pause.as_micros()))
        };
        assert_eq!(sleeps(Some(100)), [Some(1), Some(2), Some(4)]);
        assert_eq!(sleeps(Some(5)), [Some(5); 3]);
        assert_eq!(sleeps(None), [None; 3]);
        assert_eq!(sleeps(Some(100)), [Some(10), Some(20), Some(40)]);
    }

    #[test]
    fn polling_never_sleeps() {
        let mut idle = Idle::new(None, 0);
        assert!((0..10_000).all(|now| idle.after(0, now).is_none()));
    }
}

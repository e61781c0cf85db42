//! Coalescing of what guests send: when a ring of a guest is polled again. A poll of a ring that another CPU fills moves
//! some ten cache lines between the two, for one frame as for four. So after a poll that found few frames the next one is
//! deferred for a moment, in which more arrive. A frame after a pause is not deferred. Enters: what a poll found. Leaves:
//! whether to poll now. NICs do the same with their interrupts (`ethtool -C`, `rx-usecs`).

/// How long a poll is deferred, in microseconds. At a million frames a second three frames arrive, each for less than half of the cycles of
/// one alone.
const DEFER_US: u64 = 3;

/// The same in cycles of the TSC, for lcores that poll for so long before they sleep: a ring whose poll is deferred must
/// not look like one without work. 0 for lcores that poll without end, which want the least latency.
#[must_use]
pub const fn defer_cycles(hz: u64, poll_cycles: u64) -> u64 {
    let defer = hz / 1_000_000 * DEFER_US;
    if defer < poll_cycles / 2 { defer } else { poll_cycles / 2 }
}

/// Of one receive queue.
#[derive(Debug, Default, Clone, Copy)]
pub struct RxCoalesce {
    /// TSC.
    next_poll: u64,
}

impl RxCoalesce {
    /// Whether the poll at `now` is left out.
    #[inline]
    #[must_use]
    pub const fn is_deferred(&self, now: u64) -> bool {
        now < self.next_poll
    }

    /// A poll at `now` found `frames`, at least one and at most `limit`. There may be more behind a full burst.
    #[inline]
    pub const fn polled(&mut self, now: u64, frames: usize, limit: usize, defer_cycles: u64) {
        if frames < limit {
            self.next_poll = now + defer_cycles;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_is_deferred_after_few_frames_and_not_after_a_full_burst() {
        let mut coalesce = RxCoalesce::default();
        assert!(!coalesce.is_deferred(0));
        coalesce.polled(100, 31, 32, 50);
        assert_eq!([100, 149, 150].map(|now| coalesce.is_deferred(now)), [true, true, false]);
        coalesce.polled(200, 32, 32, 50);
        assert!(!coalesce.is_deferred(200));
    }

    #[test]
    fn lcores_that_poll_without_end_defer_nothing() {
        assert_eq!(defer_cycles(2_000_000_000, 0), 0);
    }

    #[test]
    fn it_is_shorter_than_the_polling_before_a_sleep() {
        let hz = 2_000_000_000;
        let defers: Vec<_> = [1, 2, 4, 5, 50].map(|us| defer_cycles(hz, us * 2000)).into();
        assert_eq!(defers, [1000, 2000, 4000, 5000, 6000]);
    }
}

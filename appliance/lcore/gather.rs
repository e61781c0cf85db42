//! When a ring of a guest is polled again. A poll of a ring that another CPU fills moves some ten cache lines between
//! the two, for one frame as for four. So after a poll that found few frames the ring rests for a moment, in which more
//! arrive. A frame after a pause meets no rest. Enters: what a poll found. Leaves: whether to poll now.

/// The rest, in microseconds. At a million frames a second it gathers three, each for less than half of the cycles of
/// one alone.
const REST_US: u64 = 3;

/// The rest in cycles of the TSC, for lcores that poll for so long before they sleep: a ring that rests must not look
/// like one without work. 0 for lcores that poll without end, which want the least latency.
#[must_use]
pub const fn rest_cycles(hz: u64, poll_cycles: u64) -> u64 {
    let rest = hz / 1_000_000 * REST_US;
    if rest < poll_cycles / 2 { rest } else { poll_cycles / 2 }
}

/// Of one receive queue.
#[derive(Debug, Default, Clone, Copy)]
pub struct Gather {
    /// TSC.
    rests_until: u64,
}

impl Gather {
    /// Whether the ring rests at `now`.
    #[inline]
    #[must_use]
    pub const fn rests(&self, now: u64) -> bool {
        now < self.rests_until
    }

    /// A poll at `now` found `frames`, at least one and at most `limit`. There may be more behind a full burst.
    #[inline]
    pub const fn polled(&mut self, now: u64, frames: usize, limit: usize, rest_cycles: u64) {
        if frames < limit {
            self.rests_until = now + rest_cycles;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_rests_after_few_frames_and_not_after_a_full_burst() {
        let mut gather = Gather::default();
        assert!(!gather.rests(0));
        gather.polled(100, 31, 32, 50);
        assert_eq!([100, 149, 150].map(|now| gather.rests(now)), [true, true, false]);
        gather.polled(200, 32, 32, 50);
        assert!(!gather.rests(200));
    }

    #[test]
    fn lcores_that_poll_without_end_do_not_let_rings_rest() {
        assert_eq!(rest_cycles(2_000_000_000, 0), 0);
    }

    #[test]
    fn a_rest_is_shorter_than_the_polling_before_a_sleep() {
        let hz = 2_000_000_000;
        let rests: Vec<_> = [1, 2, 4, 5, 50].map(|us| rest_cycles(hz, us * 2000)).into();
        assert_eq!(rests, [1000, 2000, 4000, 5000, 6000]);
    }
}

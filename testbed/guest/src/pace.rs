//! The pace of a trial: how many frames are due at a time, by the time stamp counter.
//!
//! A frame that is due while the tester receives is sent a moment later. If the tester had no CPU for a while, sending
//! all due frames would make a burst that is not part of the trial, and the tester would cause losses. So frames
//! beyond a backlog are skipped and counted.

/// The usual backlog, in bursts.
const BACKLOG: u64 = 8;

/// A constant rate.
#[derive(Debug)]
pub struct Pace {
    began: u64,
    ticks_per_frame: f64,
    least: u64,
    most: u64,
    backlog: u64,
    settled: u64,
    /// Frames that were due while the tester had no CPU.
    pub skipped: u64,
}

impl Pace {
    /// `pps` frames per second from `now` on, on a counter with `hz` ticks per second; at most `most` at a time.
    pub fn new(now: u64, hz: u64, pps: f64, most: usize) -> Self {
        let most = most as u64;
        Self {
            began: now,
            ticks_per_frame: hz as f64 / pps,
            least: 1,
            most,
            backlog: BACKLOG * most,
            settled: 0,
            skipped: 0,
        }
    }

    /// Skips frames only beyond so many, not beyond the usual backlog.
    pub fn with_backlog(self, frames: u64) -> Self {
        Self { backlog: frames, ..self }
    }

    /// Frames wait until so many are due, or as many as are sent at a time.
    pub fn in_groups(self, frames: usize) -> Self {
        Self { least: (frames as u64).clamp(1, self.most), ..self }
    }

    /// How many frames are due now. They count as sent.
    #[inline]
    pub fn due(&mut self, now: u64) -> usize {
        let all = (now.saturating_sub(self.began) as f64 / self.ticks_per_frame) as u64 + 1;
        let due = all - self.settled;
        if due < self.least {
            return 0;
        }
        let some = due.min(self.most);
        let skipped = due.saturating_sub(self.backlog);
        self.skipped += skipped;
        self.settled += some + skipped;
        some as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_due_at_equal_distances_the_first_at_once() {
        let mut pace = Pace::new(1000, 2_000_000, 500_000.0, 32); // every 4 ticks
        let sent: Vec<_> = (1000..1012).map(|now| pace.due(now)).collect();
        assert_eq!(sent, [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(pace.due(1023), 3);
        assert_eq!(pace.skipped, 0);
    }

    #[test]
    fn a_small_backlog_is_sent_and_the_rest_is_skipped() {
        let mut pace = Pace::new(0, 1000, 1000.0, 8);
        assert_eq!(pace.due(0), 1);
        assert_eq!([10, 10, 10].map(|now| pace.due(now)), [8, 2, 0]);
        assert_eq!((pace.due(110), pace.skipped), (8, 100 - 64));
        assert_eq!([110; 8].map(|now| pace.due(now)), [8, 8, 8, 8, 8, 8, 8, 0]);
        assert_eq!((pace.due(111), pace.skipped), (1, 36));
    }

    #[test]
    fn groups_are_sent_when_complete() {
        let mut pace = Pace::new(0, 1000, 1000.0, 4).in_groups(9);
        let sent: Vec<_> = (0..9).map(|now| pace.due(now)).collect();
        assert_eq!(sent, [0, 0, 0, 4, 0, 0, 0, 4, 0]);
        assert_eq!([16, 17, 19].map(|now| pace.due(now)), [4, 4, 4]);
        assert_eq!(pace.skipped, 0);
    }

    #[test]
    fn a_larger_backlog_is_sent_too() {
        let mut pace = Pace::new(0, 1000, 1000.0, 8).with_backlog(100);
        assert_eq!((pace.due(99), pace.skipped), (8, 0));
        let mut pace = Pace::new(0, 1000, 1000.0, 8).with_backlog(100);
        assert_eq!((pace.due(149), pace.skipped), (8, 50));
    }

    proptest! {
        #[test]
        fn all_that_was_due_is_sent_or_skipped(
            steps in prop::collection::vec(0u64..5000, 1..200),
            pps in 1.0..2e9f64,
            most in 1usize..64,
        ) {
            let hz = 2_600_000_000;
            let (mut pace, mut now, mut sent) = (Pace::new(5, hz, pps, most), 5, 0);
            for step in steps {
                now += step;
                let some = pace.due(now);
                prop_assert!(some <= most);
                sent += some as u64;
            }
            let exact = (now - 5) as f64 * pps / hz as f64;
            while now > 5 && pace.due(now) > 0 {
                sent += pace.settled - pace.skipped - sent;
            }
            prop_assert_eq!(sent, pace.settled - pace.skipped);
            prop_assert!(pace.settled.abs_diff(exact as u64 + 1) <= 1);
        }
    }
}

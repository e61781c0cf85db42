//! How long a stream was silent, in the time of the world outside.
//!
//! While a guest is being moved its own clock stands still, so that by this clock hardly anything was missing. But
//! every datagram carries the time of its sender, whose clock went on: from the pause on, the difference between
//! arrival and sending is smaller by the length of the pause. So the pause is found from the datagrams that took
//! least time, before and after, and added to the one gap in which it lies. At most one pause is looked for in
//! what is handed over, and not in its first or last quarter.

/// What arrived: its number, the sender's time, the receiver's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its number.
    pub sequence: u64,
    /// Sender's clock.
    pub sent_us: u64,
    /// Receiver's clock.
    pub at_us: u64,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gaps {
    /// How long the receiver's clock stood still; 0 if it did not noticeably.
    pub pause_us: u64,
    /// The longest time between two arrivals, by the receiver's clock.
    pub own_us: u64,
    /// The longest time between two arrivals, by a clock that went on.
    pub longest_us: u64,
    /// When that gap began, by the receiver's clock.
    pub began_us: u64,
    /// Index of the first arrival after the pause; the number of arrivals if there was none.
    pub resumed: usize,
}

/// Below this, differences of transit time cannot be told from a pause.
const NOISE_US: i64 = 2_000;
/// How far before the first arrival that is certainly after the pause its beginning is looked for.
const DOUBT_US: u64 = 30_000;

fn transit(a: &Arrival) -> i64 {
    a.at_us as i64 - a.sent_us as i64
}

/// Finds the longest gap. Arrivals are in the order in which they came.
pub fn gaps(arrivals: &[Arrival]) -> Gaps {
    let mut found = Gaps { resumed: arrivals.len(), ..Gaps::default() };
    let quarter = arrivals.len() / 4;
    if quarter > 0 {
        let least = |part: &[Arrival]| part.iter().map(transit).min().unwrap_or(0);
        let before = least(&arrivals[..quarter]);
        let pause = before - least(&arrivals[arrivals.len() - quarter..]);
        // What was sent well after the receiver had stopped took, by its clock, less time than is possible.
        let certain = arrivals.iter().position(|a| transit(a) < before - NOISE_US);
        if let (true, Some(certain)) = (pause >= NOISE_US, certain) {
            found.pause_us = pause as u64;
            found.resumed = straddle(arrivals, certain);
        }
    }
    for (n, pair) in arrivals.windows(2).enumerate() {
        let own = pair[1].at_us.saturating_sub(pair[0].at_us);
        let real = own + if n + 1 == found.resumed { found.pause_us } else { 0 };
        found.own_us = found.own_us.max(own);
        if real > found.longest_us {
            (found.longest_us, found.began_us) = (real, pair[0].at_us);
        }
    }
    found
}

/// The pause lies before arrival `certain`: in the longest gap of those just before it, since what had been
/// waiting then comes all at once, and nothing shows which of it was sent just before the pause.
fn straddle(arrivals: &[Arrival], certain: usize) -> usize {
    let near = arrivals[certain].at_us.saturating_sub(DOUBT_US);
    let mut best = (0, certain);
    for n in (1..=certain).rev().take_while(|&n| arrivals[n].at_us >= near) {
        let gap = arrivals[n].at_us.saturating_sub(arrivals[n - 1].at_us);
        if gap > best.0 {
            best = (gap, n);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2,000 datagrams, one per millisecond, 300 us under way. The receiver stops at `stop` ms for `pause` ms;
    /// `late` ms after it goes on, it gets all that waited.
    fn moved(stop: u64, pause: u64, late: u64, offset: u64) -> Vec<Arrival> {
        (0..2_000)
            .map(|n| {
                let sent = n * 1_000;
                let real = match sent + 300 {
                    r if r > stop * 1_000 => r.max((stop + pause + late) * 1_000),
                    r => r,
                };
                let own = if real > stop * 1_000 { real - pause * 1_000 } else { real };
                Arrival { sequence: n, sent_us: sent + offset, at_us: own }
            })
            .collect()
    }

    #[test]
    fn adds_the_pause_to_the_gap_in_which_it_lies() {
        let found = gaps(&moved(1_000, 80, 4, 77_000));
        assert_eq!(found.pause_us, 80_000);
        // The last to arrive was sent at 999 ms and arrived 300 us later; the next came at 1,084 ms.
        assert_eq!((found.longest_us, found.own_us), (84_700, 4_700));
        assert_eq!((found.began_us, found.resumed), (999_300, 1_000));
    }

    #[test]
    fn finds_no_pause_where_the_clock_went_on() {
        let mut arrivals = moved(1_000, 0, 50, 0);
        let found = gaps(&arrivals);
        assert_eq!((found.pause_us, found.own_us, found.longest_us), (0, 50_700, 50_700));
        arrivals.truncate(3);
        assert_eq!(gaps(&arrivals).longest_us, 1_000);
        assert_eq!(gaps(&[]), Gaps::default());
    }

    proptest! {
        #[test]
        fn is_exact_for_any_pause(stop in 600u64..1_400, pause in 5u64..200, late in 2u64..25, offset in 0u64..1_000_000) {
            let found = gaps(&moved(stop, pause, late, offset));
            prop_assert_eq!(found.pause_us, pause * 1_000);
            prop_assert_eq!(found.longest_us, (pause + late) * 1_000 + 700);
        }
    }
}

//! What a trial is answered by, and who is to blame for what.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::trial::{Arrivals, Trial};

/// The tester itself could not keep the rate if it sent less than this part of what was asked.
const KEPT: f64 = 0.995;

/// What the sending side counts while frames count.
#[derive(Debug, Default)]
pub struct MigrationCounters {
    /// Frames given to the device's ring, whether it took them or not.
    pub offered: u64,
    /// Of these, not taken: the ring was full.
    pub refused: u64,
    /// Not offered, for want of buffers: they are stuck in the device's rings.
    pub no_buffers: u64,
    skipped_before: u64,
    longest: u64,
    idle: u64,
    all: u64,
}

impl MigrationCounters {
    /// Nothing counted yet, when the pace had skipped so many.
    pub fn from_now(skipped_before: u64) -> Self {
        Self { skipped_before, ..Self::default() }
    }

    /// A round took so many ticks, and moved so many frames.
    #[inline]
    pub fn gap(&mut self, ticks: u64, moved: usize) {
        self.longest = self.longest.max(ticks);
        self.all += ticks;
        if moved == 0 {
            self.idle += ticks;
        }
    }
}

/// Times on the way, in ticks, to three digits.
#[derive(Debug)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// None yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, MOST_TICKS, 3)?))
    }

    /// One.
    #[inline]
    pub fn note(&mut self, ticks: u64) {
        self.0.saturating_record(ticks);
    }

    /// How many.
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    fn micros(&self, hz: u64) -> Micros {
        let us = |ticks: u64| (ticks as f64 * 1e6 / hz as f64 * 100.0).round() / 100.0;
        let at = |quantile| us(self.0.value_at_quantile(quantile));
        Micros {
            frames: self.0.len(),
            min: us(self.0.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: us(self.0.max()),
        }
    }
}

/// Some ten seconds.
const MOST_TICKS: u64 = 1 << 35;

/// Microseconds from the sending of a frame until the tester had it back.
#[derive(Debug, Serialize)]
struct Micros {
    frames: u64,
    min: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

/// The answer to a trial.
#[derive(Debug, Serialize)]
pub struct Report {
    pps: f64,
    /// What was really offered.
    offered_pps: f64,
    offered: u64,
    received: u64,
    /// Offered, and not come back.
    lost: u64,
    refused: u64,
    duplicated: u64,
    reordered: u64,
    strange: u64,
    skipped: u64,
    /// The tester did not offer what was asked: the trial says nothing of the device at that rate.
    limited: bool,
    /// The tester was away for so long that its receiving ring may have overflown: losses may be its own.
    away: bool,
    longest_round_us: f64,
    /// Time in rounds in which nothing was to do: what the tester has to spare.
    spare_percent: f64,
    descriptors: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_us: Option<Micros>,
}

impl Report {
    /// Draws the sum.
    pub fn new(
        wants: &Trial,
        tally: &MigrationCounters,
        skipped: u64,
        arrivals: &Arrivals,
        descriptors: u16,
        hz: u64,
    ) -> Self {
        let received = arrivals.sequences.received;
        let longest_s = tally.longest as f64 / hz as f64;
        let offered_pps = tally.offered as f64 / wants.seconds;
        Self {
            pps: wants.pps,
            offered_pps,
            offered: tally.offered,
            received,
            lost: tally.offered.saturating_sub(received),
            refused: tally.refused,
            duplicated: arrivals.sequences.duplicated,
            reordered: arrivals.sequences.reordered,
            strange: arrivals.strange,
            skipped: skipped - tally.skipped_before + tally.no_buffers,
            limited: (tally.offered as f64) < (wants.pps * wants.seconds * KEPT).floor(),
            away: longest_s * wants.pps > f64::from(descriptors) / 2.0,
            longest_round_us: (longest_s * 1e7).round() / 10.0,
            spare_percent: (1000.0 * tally.idle as f64 / tally.all.max(1) as f64).round() / 10.0,
            descriptors,
            latency_us: arrivals.latency.as_ref().map(|l| l.micros(hz)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 2_000_000_000;

    /// Of a trial of 1000 frames in a second, of which so many were offered and arrived; 256 descriptors.
    fn report(tally: MigrationCounters, arrived: u64) -> Report {
        let wants: Trial =
            serde_json::from_str(r#"{"from": 0, "flows": "x", "pps": 1000, "seconds": 1}"#).unwrap();
        let mut arrivals = Arrivals::new(0, 1000, true).unwrap();
        for n in 0..arrived {
            arrivals.sequences.note(n);
        }
        Report::new(&wants, &tally, 0, &arrivals, 256, HZ)
    }

    #[test]
    fn what_did_not_come_back_is_lost_and_refused_is_part_of_it() {
        let r = report(MigrationCounters { offered: 1000, refused: 3, ..MigrationCounters::default() }, 990);
        assert_eq!((r.offered, r.received, r.lost, r.refused), (1000, 990, 10, 3));
        assert!(!r.limited && !r.away);
    }

    #[test]
    fn what_was_not_offered_is_the_testers_fault_and_no_loss() {
        assert!(!report(MigrationCounters { offered: 995, ..MigrationCounters::default() }, 995).limited);
        let r =
            report(MigrationCounters { offered: 994, no_buffers: 6, ..MigrationCounters::default() }, 994);
        assert_eq!((r.limited, r.lost, r.skipped), (true, 0, 6));
    }

    #[test]
    fn an_absence_as_long_as_half_a_ring_is_named() {
        let absent =
            |frames: u64| MigrationCounters { longest: frames * HZ / 1000, ..MigrationCounters::default() };
        assert!(!report(absent(128), 0).away);
        assert!(report(absent(129), 0).away);
    }

    #[test]
    fn latencies_are_microseconds() {
        let mut latency = Latency::new().unwrap();
        for ticks in [2000, 2000, 2000, 20_000] {
            latency.note(ticks);
        }
        let us = latency.micros(HZ);
        assert_eq!((us.frames, us.min, us.p50), (4, 1.0, 1.0));
        assert!((us.max - 10.0).abs() < 0.02, "{us:?}");
    }
}

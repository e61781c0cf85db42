//! The report of a trial, which distinguishes losses of the DUT from limits of the tester.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::trial::{Arrivals, Trial};

/// The tester did not keep the rate if it sent less than this part of it.
const KEPT: f64 = 0.995;

/// The counters of the sending side, without the warm-up.
#[derive(Debug, Default)]
pub struct TrialCounters {
    /// Frames offered to the ring of the DUT, taken or not.
    pub offered: u64,
    /// Of these, frames that found the ring full.
    pub refused: u64,
    /// Frames not offered for lack of buffers: all are in the rings of the DUT.
    pub no_buffers: u64,
    skipped_before: u64,
    longest: u64,
    idle: u64,
    all: u64,
}

impl TrialCounters {
    /// Starts at 0, after the pace has skipped so many frames.
    pub fn started_now(skipped_before: u64) -> Self {
        Self { skipped_before, ..Self::default() }
    }

    /// Adds a round of so many ticks, which moved so many frames.
    #[inline]
    pub fn record_gap(&mut self, ticks: u64, moved: usize) {
        self.longest = self.longest.max(ticks);
        self.all += ticks;
        if moved == 0 {
            self.idle += ticks;
        }
    }
}

/// Latencies in ticks, to three digits.
#[derive(Debug)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// No latency yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, MOST_TICKS, 3)?))
    }

    /// Adds a latency.
    #[inline]
    pub fn record(&mut self, ticks: u64) {
        self.0.saturating_record(ticks);
    }

    /// The number of latencies.
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

/// About ten seconds.
const MOST_TICKS: u64 = 1 << 35;

/// Microseconds from the sending of a frame until the tester has received it.
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

/// The report of a trial.
#[derive(Debug, Serialize)]
pub struct Report {
    pps: f64,
    /// The rate that was offered.
    offered_pps: f64,
    offered: u64,
    received: u64,
    /// Offered and not received.
    lost: u64,
    refused: u64,
    duplicated: u64,
    reordered: u64,
    strange: u64,
    skipped: u64,
    /// The tester did not offer the rate, so the trial has no result for it.
    limited: bool,
    /// The tester had no CPU for so long that its receive ring may have overflown: it may have caused losses.
    away: bool,
    longest_round_us: f64,
    /// The part of the time in rounds without work: the reserve of the tester.
    spare_percent: f64,
    descriptors: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_us: Option<Micros>,
}

impl Report {
    /// Of a trial that has ended.
    pub fn new(
        trial: &Trial,
        tally: &TrialCounters,
        skipped: u64,
        arrivals: &Arrivals,
        descriptors: u16,
        hz: u64,
    ) -> Self {
        let received = arrivals.sequences.received;
        let longest_s = tally.longest as f64 / hz as f64;
        let offered_pps = tally.offered as f64 / trial.seconds;
        Self {
            pps: trial.pps,
            offered_pps,
            offered: tally.offered,
            received,
            lost: tally.offered.saturating_sub(received),
            refused: tally.refused,
            duplicated: arrivals.sequences.duplicated,
            reordered: arrivals.sequences.reordered,
            strange: arrivals.strange,
            skipped: skipped - tally.skipped_before + tally.no_buffers,
            limited: (tally.offered as f64) < (trial.pps * trial.seconds * KEPT).floor(),
            away: longest_s * trial.pps > f64::from(descriptors) / 2.0,
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

    /// Of a trial with 1000 frames in a second, of which so many were offered and arrived; 256 descriptors.
    fn report(tally: TrialCounters, arrived: u64) -> Report {
        let trial: Trial =
            serde_json::from_str(r#"{"from": 0, "flows": "x", "pps": 1000, "seconds": 1}"#).unwrap();
        let mut arrivals = Arrivals::new(0, 1000, true).unwrap();
        for n in 0..arrived {
            arrivals.sequences.record(n);
        }
        Report::new(&trial, &tally, 0, &arrivals, 256, HZ)
    }

    #[test]
    fn frames_not_received_are_lost_and_include_the_refused() {
        let r = report(TrialCounters { offered: 1000, refused: 3, ..TrialCounters::default() }, 990);
        assert_eq!((r.offered, r.received, r.lost, r.refused), (1000, 990, 10, 3));
        assert!(!r.limited && !r.away);
    }

    #[test]
    fn frames_not_offered_limit_the_tester_and_are_not_lost() {
        assert!(!report(TrialCounters { offered: 995, ..TrialCounters::default() }, 995).limited);
        let r = report(TrialCounters { offered: 994, no_buffers: 6, ..TrialCounters::default() }, 994);
        assert_eq!((r.limited, r.lost, r.skipped), (true, 0, 6));
    }

    #[test]
    fn a_gap_of_more_than_half_a_ring_is_reported() {
        let absent = |frames: u64| TrialCounters { longest: frames * HZ / 1000, ..TrialCounters::default() };
        assert!(!report(absent(128), 0).away);
        assert!(report(absent(129), 0).away);
    }

    #[test]
    fn latencies_are_microseconds() {
        let mut latency = Latency::new().unwrap();
        for ticks in [2000, 2000, 2000, 20_000] {
            latency.record(ticks);
        }
        let us = latency.micros(HZ);
        assert_eq!((us.frames, us.min, us.p50), (4, 1.0, 1.0));
        assert!((us.max - 10.0).abs() < 0.02, "{us:?}");
    }
}

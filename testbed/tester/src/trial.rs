//! A trial: frames at a constant rate for a given time from one end to the other, and their counters.
//!
//! A trial may begin with a warm-up, whose frames are sent but not counted: caches warm up, and a sleeping DUT wakes
//! up. A frame that finds the ring of the DUT full is lost, as on a wire: it is not sent again.

use anyhow::bail;
use dpdk::{BURST_MAX, Burst, IpHeader, L4Offload, Mbuf, TxOffload, cycles};
use serde::Deserialize;
use stopover_guest_tools::pace::Pace;
use stopover_guest_tools::sequence::SequenceTracker;

use crate::ports::{End, Lab};
use crate::report::{Latency, Report, TrialCounters};
use crate::stamp::{self, Stamp};

/// A trial, as it is read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The end that sends, 0 or 1. The other receives.
    pub from: usize,
    /// The name of the frames.
    pub flows: String,
    /// Frames per second.
    pub pps: f64,
    /// The time in which frames are counted.
    pub seconds: f64,
    /// The time of the warm-up.
    #[serde(default)]
    pub warm_seconds: f64,
    /// The most frames at a time.
    #[serde(default = "burst")]
    pub burst: usize,
    /// Whether frames are sent so many at a time, not each when it is due.
    #[serde(default)]
    pub grouped: bool,
    /// Whether another process shares the CPU of the tester. Then the tester yields when it is not late.
    #[serde(default)]
    pub give_way: bool,
    /// Whether the UDP checksums are left to the DUT, as a guest leaves them to its NIC. Needs `--checksums`.
    #[serde(default)]
    pub unfinished: bool,
    /// Whether to measure latencies, which lowers the rate that the tester can send.
    #[serde(default)]
    pub latency: bool,
}

fn burst() -> usize {
    32
}

/// The time to wait for more frames after the last one.
const TAIL_S: f64 = 0.02;
/// Rounds between two receptions at the sending end: frames of the DUT itself must not fill that ring.
const LOOK_BACK: u32 = 256;
/// The sequence numbers that a tracker takes.
const MOST_FRAMES: f64 = (1u64 << 28) as f64;

/// Executes a trial; `number` distinguishes it from others.
pub fn run(trial: &Trial, number: u16, frames: &[Vec<u8>], lab: &mut Lab) -> anyhow::Result<Report> {
    let frames_wanted = trial.pps * (trial.seconds + trial.warm_seconds);
    if trial.from > 1 || !(1..=BURST_MAX).contains(&trial.burst) || trial.pps <= 0.0 {
        bail!("invalid trial: {trial:?}");
    }
    if !(1.0..MOST_FRAMES).contains(&frames_wanted) {
        bail!("invalid number of frames, {frames_wanted}: {trial:?}");
    }
    let [zero, one] = &mut lab.ends;
    let (sender, receiver) = if trial.from == 0 { (zero, one) } else { (one, zero) };
    if trial.unfinished && !sender.takes_unfinished() {
        bail!("checksums cannot be left to the device of end {}", trial.from);
    }
    let mut arrivals = Arrivals::new(number, frames_wanted as usize, trial.latency)?;
    let mut burst = Burst::new();
    while receiver.rx.burst(&mut burst, BURST_MAX) + sender.rx.burst(&mut burst, BURST_MAX) > 0 {
        burst.clear();
    }

    let hz = cycles::tsc_hz();
    let ticks = |seconds: f64| (seconds * hz as f64) as u64;
    let began = cycles::tsc();
    let count_from = began + ticks(trial.warm_seconds);
    let end = count_from + ticks(trial.seconds);
    let group = if trial.grouped { trial.burst } else { 1 };
    let mut pace = Pace::new(began, hz, trial.pps, trial.burst).in_groups(group);
    let mut source = Source { frames, at: 0, sequence: 0, trial: number, unfinished: trial.unfinished };
    let mut tally = TrialCounters::default();
    let (mut last, mut round, mut counting) = (began, 0u32, false);
    loop {
        let now = cycles::tsc();
        if now >= end {
            break;
        }
        if !counting && now >= count_from {
            counting = true;
            arrivals.count_from = source.sequence;
            tally = TrialCounters::started_now(pace.skipped);
        }
        let got = arrivals.take(receiver, &mut burst, now);
        let due = pace.due(now);
        if due > 0 {
            source.send(due, &mut sender.tx, &lab.pool, &mut burst, &mut tally);
        }
        tally.record_gap(now - last, got + due);
        last = now;
        round = round.wrapping_add(1);
        if round.is_multiple_of(LOOK_BACK) {
            sender.rx.burst(&mut burst, BURST_MAX);
            burst.clear();
        }
        if trial.give_way && due < trial.burst && got < BURST_MAX {
            std::thread::yield_now();
        }
    }
    arrivals.take_rest(receiver, &mut burst, ticks(TAIL_S), trial.give_way);
    Ok(Report::new(trial, &tally, pace.skipped, &arrivals, lab.descriptors, hz))
}

/// The frames to send, in order, repeatedly.
struct Source<'a> {
    frames: &'a [Vec<u8>],
    at: usize,
    sequence: u32,
    trial: u16,
    unfinished: bool,
}

/// The device computes the checksum of a frame with UDP directly behind its IP header.
fn leave_checksum(packet: &mut Mbuf) {
    let over_ipv6 = packet.head().get(12..14) == Some(&[0x86, 0xdd]);
    let (ip, l3_len) = if over_ipv6 { (IpHeader::V6, 40) } else { (IpHeader::V4 { checksum: false }, 20) };
    packet.set_tx_offload(TxOffload { l2_len: 14, l3_len, l4_len: 8, ip, l4: L4Offload::Udp, tso_segsz: 0 });
}

impl Source<'_> {
    #[inline]
    fn send(
        &mut self,
        due: usize,
        tx: &mut dpdk::TxQueue,
        pool: &dpdk::Mempool,
        burst: &mut Burst,
        tally: &mut TrialCounters,
    ) {
        if !pool.alloc_bulk(burst, due) {
            tally.no_buffers += due as u64;
            return;
        }
        for packet in burst.iter() {
            packet.prefetch_head(0);
        }
        let tsc = cycles::tsc();
        for packet in burst.iter_mut() {
            let bytes = &self.frames[self.at];
            self.at = if self.at + 1 == self.frames.len() { 0 } else { self.at + 1 };
            if let Some(room) = packet.extend(bytes.len()) {
                room.copy_from_slice(bytes);
                Stamp { tsc, sequence: self.sequence, trial: self.trial }.write(room);
            }
            if self.unfinished {
                leave_checksum(packet);
            }
            self.sequence += 1;
        }
        tx.burst(burst);
        tally.offered += due as u64;
        tally.refused += burst.len() as u64;
        burst.clear();
    }
}

/// The frames received from the DUT.
pub struct Arrivals {
    trial: u16,
    /// The first sequence number that counts.
    pub count_from: u32,
    /// Of the counted frames.
    pub sequences: SequenceTracker,
    /// Frames of the warm-up.
    pub warm: u64,
    /// Frames without a stamp of this trial.
    pub strange: u64,
    /// In ticks.
    pub latency: Option<Latency>,
}

impl Arrivals {
    /// For a trial of so many frames.
    pub fn new(trial: u16, frames: usize, latency: bool) -> anyhow::Result<Self> {
        Ok(Self {
            trial,
            count_from: u32::MAX,
            sequences: SequenceTracker::with_room(frames),
            warm: 0,
            strange: 0,
            latency: if latency { Some(Latency::new()?) } else { None },
        })
    }

    /// Receives a burst; returns its number of frames.
    #[inline]
    fn take(&mut self, end: &mut End, burst: &mut Burst, now: u64) -> usize {
        let n = end.rx.burst(burst, BURST_MAX);
        for packet in burst.iter() {
            packet.prefetch_head(packet.len() as isize - stamp::LEN as isize);
        }
        for packet in burst.iter() {
            self.record(Stamp::read(packet.head()), now);
        }
        burst.clear();
        n
    }

    /// Receives until no frame has arrived for `tail` ticks.
    fn take_rest(&mut self, end: &mut End, burst: &mut Burst, tail: u64, give_way: bool) {
        let mut last_arrival = cycles::tsc();
        while cycles::tsc() - last_arrival < tail {
            let now = cycles::tsc();
            if self.take(end, burst, now) > 0 {
                last_arrival = now;
            }
            if give_way {
                std::thread::yield_now();
            }
        }
    }

    #[inline]
    fn record(&mut self, stamp: Option<Stamp>, now: u64) {
        let Some(stamp) = stamp.filter(|s| s.trial == self.trial) else {
            self.strange += 1;
            return;
        };
        let Some(sequence) = stamp.sequence.checked_sub(self.count_from) else {
            self.warm += 1;
            return;
        };
        if self.sequences.record(u64::from(sequence))
            && let Some(latency) = &mut self.latency
        {
            latency.record(now.saturating_sub(stamp.tsc));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_its_own_frames_after_the_warm_up() {
        let mut a = Arrivals::new(3, 100, true).unwrap();
        let stamp = |sequence, trial| Some(Stamp { tsc: 1000, sequence, trial });
        a.record(stamp(0, 3), 1100);
        a.count_from = 2;
        for s in [stamp(1, 3), stamp(2, 3), stamp(4, 3), stamp(3, 3), stamp(4, 3), stamp(5, 2), None] {
            a.record(s, 1500);
        }
        assert_eq!((a.warm, a.strange), (2, 2));
        assert_eq!((a.sequences.received, a.sequences.duplicated, a.sequences.reordered), (3, 1, 1));
        assert_eq!(a.latency.unwrap().count(), 4);
    }
}

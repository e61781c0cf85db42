//! One trial: frames at a constant rate for a stated time from one end to the other, and the sequences on them.
//!
//! A trial may open with a while whose frames are sent like the others but not counted: caches warm up then, and
//! a device that slept wakes. What the device's ring does not take at once is lost, as on a wire: nothing is sent twice
//! or later.

use anyhow::bail;
use dpdk::{BURST_MAX, Burst, cycles};
use serde::Deserialize;
use stopover_guest_tools::sequences::Sequences;

use crate::pace::Pace;
use crate::ports::{End, Lab};
use crate::report::{Latency, MigrationCounters, Report};
use crate::stamp::{self, Stamp};

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The end that sends, 0 or 1. The other receives.
    pub from: usize,
    /// Which frames.
    pub flows: String,
    /// Frames a second.
    pub pps: f64,
    /// How long, counted.
    pub seconds: f64,
    /// How long before that, not counted.
    #[serde(default)]
    pub warm_seconds: f64,
    /// Most frames at a time.
    #[serde(default = "burst")]
    pub burst: usize,
    /// Whether another process shares the tester's CPU: then it gives way when it is not behind.
    #[serde(default)]
    pub give_way: bool,
    /// Whether latencies are wanted, which cost the tester some of its rate.
    #[serde(default)]
    pub latency: bool,
}

fn burst() -> usize {
    32
}

/// How long after the last frame others may still arrive.
const TAIL_S: f64 = 0.02;
/// Rounds between two looks at what comes to the sending end: the device's own frames, which must not fill its ring.
const LOOK_BACK: u32 = 256;
/// Sequence numbers that the sequences take.
const MOST_FRAMES: f64 = (1u64 << 28) as f64;

/// Carries a trial out. `number` tells it from others.
pub fn run(wants: &Trial, number: u16, frames: &[Vec<u8>], lab: &mut Lab) -> anyhow::Result<Report> {
    let frames_wanted = wants.pps * (wants.seconds + wants.warm_seconds);
    if wants.from > 1 || !(1..=BURST_MAX).contains(&wants.burst) || wants.pps <= 0.0 {
        bail!("not to be done: {wants:?}");
    }
    if !(1.0..MOST_FRAMES).contains(&frames_wanted) {
        bail!("{frames_wanted} frames are none, or too many: {wants:?}");
    }
    let [zero, one] = &mut lab.ends;
    let (sender, receiver) = if wants.from == 0 { (zero, one) } else { (one, zero) };
    let mut arrivals = Arrivals::new(number, frames_wanted as usize, wants.latency)?;
    let mut burst = Burst::new();
    while receiver.rx.burst(&mut burst, BURST_MAX) + sender.rx.burst(&mut burst, BURST_MAX) > 0 {
        burst.clear();
    }

    let hz = cycles::tsc_hz();
    let ticks = |seconds: f64| (seconds * hz as f64) as u64;
    let began = cycles::tsc();
    let count_from = began + ticks(wants.warm_seconds);
    let end = count_from + ticks(wants.seconds);
    let mut pace = Pace::new(began, hz, wants.pps, wants.burst);
    let mut source = Source { frames, at: 0, sequence: 0, trial: number };
    let mut tally = MigrationCounters::default();
    let (mut last, mut round, mut counting) = (began, 0u32, false);
    loop {
        let now = cycles::tsc();
        if now >= end {
            break;
        }
        if !counting && now >= count_from {
            counting = true;
            arrivals.count_from = source.sequence;
            tally = MigrationCounters::from_now(pace.skipped);
        }
        let got = arrivals.take(receiver, &mut burst, now);
        let due = pace.due(now);
        if due > 0 {
            source.send(due, &mut sender.tx, &lab.pool, &mut burst, &mut tally);
        }
        tally.gap(now - last, got + due);
        last = now;
        round = round.wrapping_add(1);
        if round.is_multiple_of(LOOK_BACK) {
            sender.rx.burst(&mut burst, BURST_MAX);
            burst.clear();
        }
        if wants.give_way && due < wants.burst && got < BURST_MAX {
            std::thread::yield_now();
        }
    }
    let tail = ticks(TAIL_S);
    let mut heard = cycles::tsc();
    while cycles::tsc() - heard < tail {
        let now = cycles::tsc();
        if arrivals.take(receiver, &mut burst, now) > 0 {
            heard = now;
        }
        if wants.give_way {
            std::thread::yield_now();
        }
    }
    Ok(Report::new(wants, &tally, pace.skipped, &arrivals, lab.descriptors, hz))
}

/// Frames to send, in order, again and again.
struct Source<'a> {
    frames: &'a [Vec<u8>],
    at: usize,
    sequence: u32,
    trial: u16,
}

impl Source<'_> {
    #[inline]
    fn send(
        &mut self,
        due: usize,
        tx: &mut dpdk::TxQueue,
        pool: &dpdk::Mempool,
        burst: &mut Burst,
        tally: &mut MigrationCounters,
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
            self.sequence += 1;
        }
        tx.burst(burst);
        tally.offered += due as u64;
        tally.refused += burst.len() as u64;
        burst.clear();
    }
}

/// What has come out of the device.
pub struct Arrivals {
    trial: u16,
    /// The first sequence number that counts.
    pub count_from: u32,
    /// Of those that count.
    pub sequences: Sequences,
    /// Frames sent before the counting began.
    pub warm: u64,
    /// Frames without a stamp of this trial.
    pub strange: u64,
    /// Times on the way, in ticks.
    pub latency: Option<Latency>,
}

impl Arrivals {
    /// None yet, of so many frames of a trial.
    pub fn new(trial: u16, frames: usize, latency: bool) -> anyhow::Result<Self> {
        Ok(Self {
            trial,
            count_from: u32::MAX,
            sequences: Sequences::with_room(frames),
            warm: 0,
            strange: 0,
            latency: if latency { Some(Latency::new()?) } else { None },
        })
    }

    /// Takes what has arrived, says how many.
    #[inline]
    fn take(&mut self, end: &mut End, burst: &mut Burst, now: u64) -> usize {
        let n = end.rx.burst(burst, BURST_MAX);
        for packet in burst.iter() {
            packet.prefetch_head(packet.len() as isize - stamp::LEN as isize);
        }
        for packet in burst.iter() {
            self.note(Stamp::read(packet.head()), now);
        }
        burst.clear();
        n
    }

    #[inline]
    fn note(&mut self, stamp: Option<Stamp>, now: u64) {
        let Some(stamp) = stamp.filter(|s| s.trial == self.trial) else {
            self.strange += 1;
            return;
        };
        let Some(sequence) = stamp.sequence.checked_sub(self.count_from) else {
            self.warm += 1;
            return;
        };
        if self.sequences.note(u64::from(sequence))
            && let Some(latency) = &mut self.latency
        {
            latency.note(now.saturating_sub(stamp.tsc));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_its_own_frames_from_the_first_that_counts() {
        let mut a = Arrivals::new(3, 100, true).unwrap();
        let stamp = |sequence, trial| Some(Stamp { tsc: 1000, sequence, trial });
        a.note(stamp(0, 3), 1100);
        a.count_from = 2;
        for s in [stamp(1, 3), stamp(2, 3), stamp(4, 3), stamp(3, 3), stamp(4, 3), stamp(5, 2), None] {
            a.note(s, 1500);
        }
        assert_eq!((a.warm, a.strange), (2, 2));
        assert_eq!((a.sequences.received, a.sequences.duplicated, a.sequences.reordered), (3, 1, 1));
        assert_eq!(a.latency.unwrap().count(), 4);
    }
}

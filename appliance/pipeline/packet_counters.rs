//! The counters of packets, one set for each lcore. While no frame is being processed,
//! `received + copied + originated = sent + to_control + held + Σ dropped`.

use super::drop_reason::DropReason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counters of one lcore. Only that lcore writes them, with a plain load and store, never a locked instruction;
/// any thread may read. Padded so that two lcores never share a cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct PacketCounters {
    /// Frames taken from receive queues.
    pub received: AtomicU64,
    /// Frames copied from others: replicas, segments beyond the first, ICMP errors.
    pub copied: AtomicU64,
    /// Frames from the control thread to send.
    pub originated: AtomicU64,
    /// Frames that transmit queues accepted.
    pub sent: AtomicU64,
    /// Frames handed to the control thread.
    pub to_control: AtomicU64,
    /// Frames that wait now, in the hold of a migrating node or for a full device. Decreases when they are sent or
    /// dropped.
    pub held: AtomicU64,
    /// Of the frames sent: those redirected because their node has left.
    pub redirected: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl Default for PacketCounters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            received: zero(),
            copied: zero(),
            originated: zero(),
            sent: zero(),
            to_control: zero(),
            held: zero(),
            redirected: zero(),
            dropped: std::array::from_fn(|_| zero()),
        }
    }
}

/// Adds to a counter that has one writer.
#[inline]
pub fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

impl PacketCounters {
    /// Subtracts `n` frames from those that are held.
    pub fn release(&self, n: u64) {
        self.held.store(self.held.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// Counts `n` frames dropped for `reason`.
    #[inline]
    pub fn drop(&self, reason: DropReason, n: u64) {
        add(&self.dropped[reason as usize], n);
    }

    /// How many were dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].load(Relaxed)
    }

    /// A reading of all counters.
    #[must_use]
    pub fn read(&self) -> PacketReading {
        PacketReading {
            received: self.received.load(Relaxed),
            copied: self.copied.load(Relaxed),
            originated: self.originated.load(Relaxed),
            sent: self.sent.load(Relaxed),
            to_control: self.to_control.load(Relaxed),
            held: self.held.load(Relaxed),
            redirected: self.redirected.load(Relaxed),
            dropped: self.dropped.iter().map(|c| c.load(Relaxed)).collect(),
        }
    }
}

/// A reading of one lcore's counters, or a sum of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketReading {
    /// See [`PacketCounters::received`].
    pub received: u64,
    /// See [`PacketCounters::copied`].
    pub copied: u64,
    /// See [`PacketCounters::originated`].
    pub originated: u64,
    /// See [`PacketCounters::sent`].
    pub sent: u64,
    /// See [`PacketCounters::to_control`].
    pub to_control: u64,
    /// See [`PacketCounters::held`].
    pub held: u64,
    /// See [`PacketCounters::redirected`].
    pub redirected: u64,
    /// By reason, in the order of [`DropReason::ALL`].
    pub dropped: Vec<u64>,
}

impl Default for PacketReading {
    fn default() -> Self {
        Self {
            received: 0,
            copied: 0,
            originated: 0,
            sent: 0,
            to_control: 0,
            held: 0,
            redirected: 0,
            dropped: vec![0; DropReason::ALL.len()],
        }
    }
}

impl PacketReading {
    /// Adds another reading to this one.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, u64::wrapping_add);
    }

    /// The difference to an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut d = self.clone();
        d.combine(earlier, u64::wrapping_sub);
        // Frames that were held then count as received in the time since.
        d.held = self.held;
        d.received = d.received.wrapping_add(earlier.held);
        d
    }

    fn combine(&mut self, other: &Self, f: fn(u64, u64) -> u64) {
        self.received = f(self.received, other.received);
        self.copied = f(self.copied, other.copied);
        self.originated = f(self.originated, other.originated);
        self.sent = f(self.sent, other.sent);
        self.to_control = f(self.to_control, other.to_control);
        self.held = f(self.held, other.held);
        self.redirected = f(self.redirected, other.redirected);
        for (a, b) in self.dropped.iter_mut().zip(&other.dropped) {
            *a = f(*a, *b);
        }
    }

    /// Frames that are not accounted for yet, such as those between queues; 0 while no frame is being processed.
    #[must_use]
    pub fn unaccounted(&self) -> i64 {
        let ins = self.received.wrapping_add(self.copied).wrapping_add(self.originated);
        let kept = self.sent.wrapping_add(self.to_control).wrapping_add(self.held);
        let outs = self.dropped.iter().fold(kept, |s, d| s.wrapping_add(*d));
        ins.wrapping_sub(outs) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounting_holds_when_every_frame_is_counted() {
        let c = PacketCounters::default();
        add(&c.received, 10);
        add(&c.copied, 2);
        add(&c.sent, 8);
        add(&c.to_control, 1);
        assert_eq!(c.read().unaccounted(), 3);
        c.drop(DropReason::TooBig, 3);
        let packets = c.read();
        assert_eq!(packets.unaccounted(), 0);
        assert_eq!(packets.dropped[DropReason::TooBig as usize], 3);
        assert_eq!(packets.since(&packets), PacketReading::default());
    }
}

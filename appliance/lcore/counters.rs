//! The counters of an lcore: it alone writes them, the control thread reads them.

use crate::pipeline::packet_counters::{PacketCounters, PacketReading};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// An lcore's frames at one port. Padded: the counters of two lcores, which write them all the time, are allocated
/// one after the other.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PortCounters {
    /// Received from its receive queues.
    pub received: AtomicU64,
    /// Accepted by its transmit queue.
    pub sent: AtomicU64,
    /// Meant for it, and dropped because it was down or full.
    pub tx_dropped: AtomicU64,
}

/// A reading of [`PortCounters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortReading {
    /// See [`PortCounters::received`].
    pub received: u64,
    /// See [`PortCounters::sent`].
    pub sent: u64,
    /// See [`PortCounters::tx_dropped`].
    pub tx_dropped: u64,
}

impl PortReading {
    /// What was counted since an earlier reading.
    #[must_use]
    pub fn since(self, then: Self) -> Self {
        Self {
            received: self.received.wrapping_sub(then.received),
            sent: self.sent.wrapping_sub(then.sent),
            tx_dropped: self.tx_dropped.wrapping_sub(then.tx_dropped),
        }
    }
}

/// A reading of [`LoopCounters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of LoopCounters")]
pub struct TimeReading {
    pub polls: u64,
    pub empty_polls: u64,
    pub bursts: u64,
    pub sleeps: u64,
    pub busy_cycles: u64,
    pub idle_cycles: u64,
}

/// A reading of all counters of one lcore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LcoreReading {
    /// Its frames by outcome.
    pub packets: PacketReading,
    /// Its time.
    pub time: TimeReading,
    /// Events for the control thread that were lost.
    pub events: EventReading,
    /// Its frames by port.
    pub ports: Vec<PortReading>,
}

impl LcoreReading {
    /// What was counted since an earlier reading; a port that is missing there counts as zeros.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let ports = self
            .ports
            .iter()
            .enumerate()
            .map(|(at, now)| now.since(earlier.ports.get(at).copied().unwrap_or_default()));
        let (lost, before) = (self.events, earlier.events);
        let (now, then) = (self.time, earlier.time);
        Self {
            packets: self.packets.since(&earlier.packets),
            time: TimeReading {
                polls: now.polls.wrapping_sub(then.polls),
                empty_polls: now.empty_polls.wrapping_sub(then.empty_polls),
                bursts: now.bursts.wrapping_sub(then.bursts),
                sleeps: now.sleeps.wrapping_sub(then.sleeps),
                busy_cycles: now.busy_cycles.wrapping_sub(then.busy_cycles),
                idle_cycles: now.idle_cycles.wrapping_sub(then.idle_cycles),
            },
            events: EventReading {
                arrivals_lost: lost.arrivals_lost.wrapping_sub(before.arrivals_lost),
                routers_lost: lost.routers_lost.wrapping_sub(before.routers_lost),
                stations_lost: lost.stations_lost.wrapping_sub(before.stations_lost),
            },
            ports: ports.collect(),
        }
    }
}

/// Where an lcore's time goes.
#[derive(Debug, Default)]
pub struct LoopCounters {
    /// Rounds of the loop.
    pub polls: AtomicU64,
    /// Rounds that found nothing to do.
    pub empty_polls: AtomicU64,
    /// Bursts with at least one frame.
    pub bursts: AtomicU64,
    /// Sleeps because there was no work.
    pub sleeps: AtomicU64,
    /// TSC cycles of rounds that found work.
    pub busy_cycles: AtomicU64,
    /// TSC cycles of rounds that found none, asleep or not.
    pub idle_cycles: AtomicU64,
}

/// Events for the control thread that found their ring full.
#[derive(Debug, Default)]
pub struct EventCounters {
    /// Arrivals of migrations, and stations that one waits for.
    pub arrivals_lost: AtomicU64,
    /// IPv6 routers, and loops through segments.
    pub routers_lost: AtomicU64,
    /// Other stations.
    pub stations_lost: AtomicU64,
}

/// A reading of [`EventCounters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of EventCounters")]
pub struct EventReading {
    pub arrivals_lost: u64,
    pub routers_lost: u64,
    pub stations_lost: u64,
}

/// All counters of one lcore. Starts on a cache line pair of its own.
#[derive(Debug)]
#[repr(align(128))]
pub struct LcoreCounters {
    /// Its frames by outcome.
    pub packets: PacketCounters,
    /// Its time.
    pub time: LoopCounters,
    /// Events for the control thread that were lost.
    pub events: EventCounters,
    /// Its frames by port.
    pub ports: Box<[PortCounters]>,
}

impl LcoreCounters {
    /// All zero, for this many ports.
    #[must_use]
    pub fn new(ports: usize) -> Self {
        Self {
            packets: PacketCounters::default(),
            time: LoopCounters::default(),
            events: EventCounters::default(),
            ports: (0..ports).map(|_| PortCounters::default()).collect(),
        }
    }

    /// Those of one port now.
    #[must_use]
    pub fn read_port(&self, at: usize) -> PortReading {
        self.ports.get(at).map_or_else(PortReading::default, |port| PortReading {
            received: port.received.load(Relaxed),
            sent: port.sent.load(Relaxed),
            tx_dropped: port.tx_dropped.load(Relaxed),
        })
    }

    /// All of them now.
    #[must_use]
    pub fn read(&self) -> LcoreReading {
        let ports = (0..self.ports.len()).map(|at| self.read_port(at));
        LcoreReading {
            packets: self.packets.read(),
            time: TimeReading {
                polls: self.time.polls.load(Relaxed),
                empty_polls: self.time.empty_polls.load(Relaxed),
                bursts: self.time.bursts.load(Relaxed),
                sleeps: self.time.sleeps.load(Relaxed),
                busy_cycles: self.time.busy_cycles.load(Relaxed),
                idle_cycles: self.time.idle_cycles.load(Relaxed),
            },
            events: EventReading {
                arrivals_lost: self.events.arrivals_lost.load(Relaxed),
                routers_lost: self.events.routers_lost.load(Relaxed),
                stations_lost: self.events.stations_lost.load(Relaxed),
            },
            ports: ports.collect(),
        }
    }
}

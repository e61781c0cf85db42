//! What an lcore tells of itself: written by that lcore alone, read by the control thread.

use crate::pipeline::fate::Counters;
use std::sync::atomic::AtomicU64;

/// An lcore's frames at one port.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Taken from its receive queues.
    pub received: AtomicU64,
    /// Accepted by its transmit queue.
    pub sent: AtomicU64,
    /// Meant for it, and dropped because it was down or full.
    pub tx_dropped: AtomicU64,
}

/// How an lcore spends its time.
#[derive(Debug, Default)]
pub struct LoopCounters {
    /// Rounds of the loop.
    pub polls: AtomicU64,
    /// Rounds that found nothing to do.
    pub empty_polls: AtomicU64,
    /// Bursts with at least one frame.
    pub bursts: AtomicU64,
    /// Sleeps for want of work.
    pub sleeps: AtomicU64,
    /// TSC cycles of rounds that found work.
    pub busy_cycles: AtomicU64,
    /// TSC cycles of rounds that found none, asleep or not.
    pub idle_cycles: AtomicU64,
}

/// All counters of one lcore. Starts on a cache line pair of its own.
#[derive(Debug)]
#[repr(align(128))]
pub struct LcoreCounters {
    /// The fates of its frames.
    pub books: Counters,
    /// Its time.
    pub time: LoopCounters,
    /// Its frames by port.
    pub ports: Box<[PortCounters]>,
}

impl LcoreCounters {
    /// All zero, for this many ports.
    #[must_use]
    pub fn new(ports: usize) -> Self {
        Self {
            books: Counters::default(),
            time: LoopCounters::default(),
            ports: (0..ports).map(|_| PortCounters::default()).collect(),
        }
    }
}

//! The capture of `stopover trace --capture`: the command arms it, and the next frame of a port that matches is
//! copied to the control thread. Disarmed, it costs one load per burst. Its copies are not part of packet accounting:
//! the frame itself is processed as any other.

use super::packet::MbufPool;
use crate::pipeline::packet::Pool;
use crossbeam::queue::ArrayQueue;
use dpdk::{Burst, Mbuf};
use std::sync::atomic::{AtomicU64, Ordering};
use stopover_net::Mac;

/// One capture for all lcores.
#[derive(Debug)]
pub struct Capture {
    /// Port number plus one; 0 while disarmed.
    armed: AtomicU64,
    /// Source MAC to match, as a number; 0 for any.
    source: AtomicU64,
    /// Destination MAC to match, as a number; 0 for any.
    destination: AtomicU64,
    captured: ArrayQueue<Mbuf>,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            armed: AtomicU64::new(0),
            source: AtomicU64::new(0),
            destination: AtomicU64::new(0),
            captured: ArrayQueue::new(1),
        }
    }
}

/// Where the inner Ethernet header of a VXLAN frame begins, by IP version. Enough for a filter; the stages parse the
/// headers.
const INNER_IPV4: usize = 50;
const INNER_IPV6: usize = 70;

impl Capture {
    /// Arms it for a frame of this port, with these MACs if given.
    pub fn arm(&self, port: u16, source: Option<Mac>, destination: Option<Mac>) {
        while self.captured.pop().is_some() {}
        self.source.store(source.map_or(0, Mac::to_u64), Ordering::Relaxed);
        self.destination.store(destination.map_or(0, Mac::to_u64), Ordering::Relaxed);
        self.armed.store(u64::from(port) + 1, Ordering::Release);
    }

    /// Disarms it.
    pub fn disarm(&self) {
        self.armed.store(0, Ordering::Release);
        while self.captured.pop().is_some() {}
    }

    /// The captured frame, once.
    pub fn take(&self) -> Option<Mbuf> {
        self.captured.pop()
    }

    /// Searches a burst, if a frame of this port is waited for.
    #[inline]
    pub fn inspect(&self, port: u16, burst: &Burst, pool: &mut MbufPool) {
        if self.armed.load(Ordering::Relaxed) == u64::from(port) + 1 {
            self.search(port, burst, pool);
        }
    }

    #[cold]
    fn search(&self, port: u16, burst: &Burst, pool: &mut MbufPool) {
        let Some(found) = burst.iter().find(|packet| self.matches(packet.head())) else { return };
        let waited = u64::from(port) + 1;
        let first = self.armed.compare_exchange(waited, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if first && let Some(copy) = pool.copy(found) {
            let _ = self.captured.push(copy);
        }
    }

    fn matches(&self, head: &[u8]) -> bool {
        [0, INNER_IPV4, INNER_IPV6].into_iter().any(|at| {
            let mac = |from: usize| {
                head.get(at + from..at + from + 6)
                    .and_then(|b| b.try_into().ok())
                    .map(|b| Mac::new(b).to_u64())
            };
            let fits = |wanted: u64, found: Option<u64>| wanted == 0 || found == Some(wanted);
            fits(self.destination.load(Ordering::Relaxed), mac(0))
                && fits(self.source.load(Ordering::Relaxed), mac(6))
        })
    }
}

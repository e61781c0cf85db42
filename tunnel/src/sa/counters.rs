//! What an SA counts, shared with the thread that reads it. The lcore that has the SA writes, with stores alone; the one
//! word that several lcores write is who owns a receiving window, once.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// Nobody.
const FREE: u32 = u32::MAX;

/// Counters of an SA, at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SaStats {
    /// Inbound: frames whose tag was right and whose number was new. Outbound: sequence numbers that were given.
    pub frames: u64,
    /// Bytes of their texts.
    pub bytes: u64,
    /// Dropped as [`SaDrop::Replayed`](super::SaDrop::Replayed).
    pub replayed: u64,
    /// Dropped as [`SaDrop::BadSeal`](super::SaDrop::BadSeal).
    pub bad_seal: u64,
}

/// The counters, and the owner of the window.
#[derive(Debug)]
pub struct SaCounters {
    frames: AtomicU64,
    bytes: AtomicU64,
    replayed: AtomicU64,
    bad_seal: AtomicU64,
    owner: AtomicU32,
}

impl Default for SaCounters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            frames: zero(),
            bytes: zero(),
            replayed: zero(),
            bad_seal: zero(),
            owner: AtomicU32::new(FREE),
        }
    }
}

/// Of one writer.
#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

impl SaCounters {
    /// What they are now.
    #[must_use]
    pub fn read(&self) -> SaStats {
        SaStats {
            frames: self.frames.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
            bad_seal: self.bad_seal.load(Relaxed),
        }
    }

    /// The lcore that has the window; `None` before a valid frame came.
    #[inline]
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        Some(self.owner.load(Acquire)).filter(|owner| *owner != FREE)
    }

    /// The window is this lcore's from now on, unless another has it. Returns whose it is.
    pub fn claim(&self, lcore: u32) -> u32 {
        self.owner.compare_exchange(FREE, lcore, AcqRel, Acquire).map_or_else(|other| other, |_| lcore)
    }

    #[inline]
    pub(super) fn count_frame(&self, bytes: usize) {
        add(&self.frames, 1);
        add(&self.bytes, bytes as u64);
    }

    /// Any lcore counts these, before the window has an owner.
    #[inline]
    pub(super) fn count_replayed(&self) {
        self.replayed.fetch_add(1, Relaxed);
    }

    #[inline]
    pub(super) fn count_bad_seal(&self) {
        self.bad_seal.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_one_owner() {
        let counters = SaCounters::default();
        assert_eq!(counters.owner(), None);
        assert_eq!((counters.claim(3), counters.claim(4), counters.claim(3)), (3, 3, 3));
        assert_eq!(counters.owner(), Some(3));
    }
}

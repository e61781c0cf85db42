//! Brings SAs near before they are needed. With thousands of peers, the SA of the next frame, its counters, its window
//! and its key are each a line of far memory, and one leads to the other. A burst asks for those of all its frames at
//! once, step by step. Enters: peers, headers that nobody has authenticated. Leaves: nothing but hints.

use super::{InboundSas, OutboundSas};
use crate::esp::Header;
use stopover_lockfree::prefetch;

/// Bytes of a cache line.
const LINE: usize = 64;

/// All lines of a value that is aligned to lines.
#[inline]
fn prefetch_all<T>(value: &T) {
    const { assert!(align_of::<T>() >= LINE) };
    for at in (0..size_of::<T>()).step_by(LINE) {
        prefetch(std::ptr::from_ref(value).wrapping_byte_add(at));
    }
}

impl<K> OutboundSas<K> {
    /// First step: the SA of the peer.
    #[inline]
    pub fn prefetch(&self, peer: u32) {
        if let Some(sa) = self.get(peer) {
            prefetch_all(sa);
        }
    }

    /// Second step, once the SA is there: what it counts with. The key is the engine's to bring near.
    #[inline]
    pub fn prefetch_rest(&self, peer: u32) {
        if let Some(sa) = self.get(peer) {
            prefetch(std::ptr::from_ref(&**sa.counters()));
        }
    }
}

impl<K> InboundSas<K> {
    /// First step: the SA that a header names.
    #[inline]
    pub fn prefetch(&self, header: Header) {
        // The generation is in the SA itself, which is far.
        if let Some(sa) = self.at(header.spi) {
            prefetch_all(sa);
        }
    }

    /// Second step, once the SA is there: what it counts with, and the word of its window. The key is the engine's to
    /// bring near.
    #[inline]
    pub fn prefetch_rest(&self, header: Header) {
        if let Some(sa) = self.at(header.spi) {
            prefetch(std::ptr::from_ref(&**sa.counters()));
            sa.window().prefetch(header.sequence_low);
        }
    }
}

//! One cache line of four entries, and the protocol by which the writer changes it while readers read.
//!
//! A slot's key word is `EMPTY`, `TOMB` (emptied, but a reader may still be looking) or a key. Rules, for the
//! writer:
//! - filling: value first, then key; in an `EMPTY` slot, which no reader has a claim on;
//! - emptying: key to `TOMB`; to `EMPTY` only after a grace period;
//! - moving an entry: only from its first to its second bucket, copy before emptying, because readers look in
//!   that order; so a reader that does not find it in the first will find it in the second;
//! - refilling the slot of a moved entry at once: allowed once per grace period and slot.
//!
//! The reader checks the key again after it has read the value: with at most one refill while it looks, the
//! key word cannot have changed and changed back, so an unchanged key means that the value belongs to it.

use crate::sync::{AtomicU64, Ordering};
use std::array;

/// Entries in a bucket.
pub(crate) const SLOTS: usize = 4;
/// Key word of a slot that was never used, or rested for a grace period.
pub(crate) const EMPTY: u64 = 0;
/// Key word of a slot emptied within the current grace period.
pub(crate) const TOMB: u64 = u64::MAX;

/// Keys and values apart, so that the four keys are compared out of one half line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Bucket {
    keys: [AtomicU64; SLOTS],
    values: [AtomicU64; SLOTS],
}

impl Bucket {
    pub(crate) fn new() -> Self {
        Self {
            keys: array::from_fn(|_| AtomicU64::new(EMPTY)),
            values: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// For readers: the value of `key`, and whether it is here. Free of branches that depend on the data: in
    /// which slot a key sits cannot be predicted.
    #[inline(always)]
    pub(crate) fn probe(&self, key: u64) -> (u64, bool) {
        let mut matches = 0u32;
        for (slot, word) in self.keys.iter().enumerate() {
            matches |= u32::from(word.load(Ordering::Acquire) == key) << slot;
        }
        // Without a match some slot's value is read all the same, and not used.
        let slot = matches.trailing_zeros() as usize % SLOTS;
        // Acquire: if this is the value of a refill, the key read next is not older than the refill.
        let value = self.values[slot].load(Ordering::Acquire);
        // Acquire: if it was removed by now, the copy made before is seen in the second bucket.
        let same = self.keys[slot].load(Ordering::Acquire) == key;
        (value, same & (matches != 0))
    }

    /// For the writer: the slot whose key word is `word`.
    #[inline]
    pub(crate) fn find(&self, word: u64) -> Option<usize> {
        (0..SLOTS).find(|&slot| self.key(slot) == word)
    }

    #[inline]
    pub(crate) fn key(&self, slot: usize) -> u64 {
        self.keys[slot].load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn value(&self, slot: usize) -> u64 {
        self.values[slot].load(Ordering::Relaxed)
    }

    /// Entries, as `(slot, key, value)`.
    #[inline]
    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, u64, u64)> + '_ {
        (0..SLOTS)
            .map(|slot| (slot, self.key(slot), self.value(slot)))
            .filter(|&(_, key, _)| key != EMPTY && key != TOMB)
    }

    /// Gives the entry in `slot` another value, which readers see at once.
    #[inline]
    pub(crate) fn update(&self, slot: usize, value: u64) {
        // The same again must not take the line away from the readers.
        if self.value(slot) != value {
            self.values[slot].store(value, Ordering::Release);
        }
    }

    /// Puts an entry into an `EMPTY` slot.
    #[inline]
    pub(crate) fn fill(&self, slot: usize, key: u64, value: u64) {
        self.values[slot].store(value, Ordering::Release);
        self.keys[slot].store(key, Ordering::Release);
    }

    /// Removes the entry of `slot`. Release: a reader that sees this also sees the copy made before.
    #[inline]
    pub(crate) fn empty(&self, slot: usize) {
        self.keys[slot].store(TOMB, Ordering::Release);
    }

    /// Puts another entry into the slot of one that was copied away. Not twice in one grace period.
    #[inline]
    pub(crate) fn refill(&self, slot: usize, key: u64, value: u64) {
        self.empty(slot);
        self.fill(slot, key, value);
    }

    /// Makes an emptied slot ready for use, after the grace period.
    #[inline]
    pub(crate) fn deferred_free(&self, slot: usize) {
        self.keys[slot].store(EMPTY, Ordering::Release);
    }
}

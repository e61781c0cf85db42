//! A growing array of replaceable values: host index to prebuilt outer header, network index to network.
//! Readers pay two dependent loads and wait for nothing; the writer sets and clears single slots. Growth adds
//! tiers, each twice as long as the one before, so that no slot ever moves.
#![allow(unsafe_code)] // atomic pointers whose pointees are kept alive by the epoch

use crate::{
    epoch::{Domain, Reader, Writer},
    sync::{AtomicPtr, Ordering},
};
use std::{array, fmt, marker::PhantomData, ptr};

/// Slots in the first tier: as many as there are hosts in a large installation, so that nearly every index is found
/// without a search for its tier.
const FIRST: u64 = 1 << 14;
/// Tiers that hold every `u32` index: 2^14 · (2^19 − 1) > 2^32.
const TIERS: usize = 19;

/// An index at or beyond the array's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeyondLimit {
    /// The requested index.
    pub index: u32,
    /// Indices must be below this.
    pub limit: u32,
}

impl fmt::Display for BeyondLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} is beyond the table's limit: expected less than {}", self.index, self.limit)
    }
}

impl std::error::Error for BeyondLimit {}

/// The array. Share it by reference or `Arc`; the holder of the domain's [`Writer`] may change it.
pub struct Slots<T> {
    /// Tier t is null or the start of `FIRST << t` slots from a boxed slice. A slot is null (empty) or a
    /// value from `Box::into_raw`.
    tiers: [AtomicPtr<AtomicPtr<T>>; TIERS],
    limit: u32,
    domain: Domain,
}

/// Which tier, and where in it.
#[inline]
const fn place(index: u32) -> (usize, usize) {
    if (index as u64) < FIRST {
        return (0, index as usize);
    }
    let shifted = index as u64 + FIRST;
    let tier = shifted.ilog2() - FIRST.ilog2();
    (tier as usize, (shifted - (FIRST << tier)) as usize)
}

impl<T: Send + Sync + 'static> Slots<T> {
    /// An empty array for indices below `limit`, in `writer`'s domain. The limit costs nothing until used: it
    /// guards against a wild index taking all memory.
    #[must_use]
    pub fn new(writer: &Writer, limit: u32) -> Self {
        Self { tiers: array::from_fn(|_| AtomicPtr::new(ptr::null_mut())), limit, domain: writer.domain() }
    }

    /// The array as `reader` sees it; valid until the reader's next quiescent point. Take it once per burst.
    ///
    /// # Panics
    /// If `reader` is of another domain.
    #[inline]
    #[must_use]
    pub fn view<'a>(&'a self, reader: &'a Reader) -> View<'a, T> {
        self.domain.check_reader(reader);
        View { slots: self, _reader: PhantomData }
    }

    /// The value in slot `index` as the writer sees it.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    #[must_use]
    pub fn get<'a>(&'a self, writer: &'a Writer, index: u32) -> Option<&'a T> {
        self.domain.check_writer(writer);
        let value = self.slot(index)?.load(Ordering::Acquire);
        // SAFETY: non-null slots hold live boxes, replaced by `set` and `clear` and freed by `reclaim`, which
        // need the writer mutably; the result borrows it, and the array.
        unsafe { value.as_ref() }
    }

    /// Puts `value` into slot `index`, in place of an earlier value. Returns whether there was one.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn set(&self, writer: &mut Writer, index: u32, value: T) -> Result<bool, BeyondLimit> {
        self.domain.check_writer(writer);
        if index >= self.limit {
            return Err(BeyondLimit { index, limit: self.limit });
        }
        let (tier, _) = place(index);
        if self.tiers[tier].load(Ordering::Relaxed).is_null() {
            let fresh: Box<[AtomicPtr<T>]> =
                (0..FIRST << tier).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
            self.tiers[tier].store(Box::into_raw(fresh).cast(), Ordering::Release);
        }
        Ok(self.slot(index).is_some_and(|slot| Self::exchange(writer, slot, Box::into_raw(Box::new(value)))))
    }

    /// Empties slot `index`. Returns whether it held a value.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn clear(&self, writer: &mut Writer, index: u32) -> bool {
        self.domain.check_writer(writer);
        self.slot(index).is_some_and(|slot| Self::exchange(writer, slot, ptr::null_mut()))
    }

    fn exchange(writer: &mut Writer, slot: &AtomicPtr<T>, new: *mut T) -> bool {
        let old = slot.swap(new, Ordering::AcqRel);
        if old.is_null() {
            return false;
        }
        // SAFETY: non-null slots come from `Box::into_raw`; the swap has just made this one unreachable.
        unsafe { writer.retire_raw(old) }
        true
    }
}

impl<T> Slots<T> {
    #[inline]
    fn slot(&self, index: u32) -> Option<&AtomicPtr<T>> {
        let (tier, offset) = place(index);
        let start = self.tiers[tier].load(Ordering::Acquire);
        if start.is_null() {
            return None;
        }
        // SAFETY: a non-null tier is a boxed slice of `FIRST << tier` slots that lives as long as `self`, and
        // `place` gives offsets below that.
        Some(unsafe { &*start.add(offset) })
    }

    /// Bytes of the array itself, without the values.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let slots: u64 = (0..TIERS)
            .filter(|&t| !self.tiers[t].load(Ordering::Acquire).is_null())
            .map(|t| FIRST << t)
            .sum();
        size_of::<Self>() + slots as usize * size_of::<AtomicPtr<T>>()
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        for (tier, start) in self.tiers.iter().enumerate() {
            let start = start.load(Ordering::Acquire);
            if start.is_null() {
                continue;
            }
            let slots = ptr::slice_from_raw_parts_mut(start, (FIRST << tier) as usize);
            // SAFETY: `start` came from a boxed slice of this length; references into it borrow `self`.
            let slots = unsafe { Box::from_raw(slots) };
            for slot in &slots {
                let value = slot.load(Ordering::Acquire);
                if !value.is_null() {
                    // SAFETY: non-null slots come from `Box::into_raw`, and references to them borrow `self`.
                    drop(unsafe { Box::from_raw(value) });
                }
            }
        }
    }
}

impl<T> fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// [`Slots`] between two quiescent points of one reader.
pub struct View<'a, T> {
    slots: &'a Slots<T>,
    _reader: PhantomData<&'a Reader>,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<'_, T> {}

impl<T> fmt::Debug for View<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.slots.fmt(f)
    }
}

impl<'a, T> View<'a, T> {
    /// Prefetches the first cache line of the value in slot `index`, if there is one.
    #[inline]
    pub fn prefetch(self, index: u32) {
        if let Some(slot) = self.slots.slot(index) {
            crate::prefetch(slot.load(Ordering::Acquire));
        }
    }

    /// The value in slot `index`, if there is one.
    #[inline]
    #[must_use]
    pub fn get(self, index: u32) -> Option<&'a T> {
        let value = self.slots.slot(index)?.load(Ordering::Acquire);
        // SAFETY: non-null slots hold boxes that the epoch domain keeps until the reader's next quiescent
        // point (checked to be its reader in `view`), and `'a` borrows both reader and array.
        unsafe { value.as_ref() }
    }
}

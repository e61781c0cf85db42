//! A run of buckets, the unit of growth, and the directory that finds the segment of a hash.
#![allow(unsafe_code)] // buckets behind a tagged pointer, kept alive by the epoch

use super::{bucket::Bucket, hash::Hash};
use crate::sync::{AtomicPtr, Ordering};
use std::{mem, ptr::NonNull};

/// Segments are aligned to this, which leaves the low bits of their address for their size.
pub(super) const SEGMENT_ALIGN: usize = 1024;
/// Buckets per unit of segment size.
const UNIT: usize = 16;
/// The largest segment: its rebuilding bounds the time of one insert.
pub(super) const MAX_UNITS: usize = 448;
/// A segment of this size or less is not shared by two halves of the directory's range.
pub(super) const SPLIT_UNITS: usize = 256;

const _: () = assert!(MAX_UNITS < SEGMENT_ALIGN);

/// Address and size of a segment in one word, so that readers get both with one load. Size in units: 1, 2,
/// 3 … 8, then in steps of a quarter of a power of two, so that growth never leaves a segment half empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentRef(NonNull<Bucket>);

// SAFETY: it points to atomics, which any thread may use; whether they still live is for the unsafe functions
// below to know.
unsafe impl Send for SegmentRef {}

impl SegmentRef {
    /// Buckets in a segment of `units`.
    pub(super) const fn buckets_in(units: usize) -> usize {
        units * UNIT
    }

    /// Makes `units` units of empty buckets at `start`.
    ///
    /// # Safety
    /// `start` is valid for writing that many buckets and aligned to [`SEGMENT_ALIGN`].
    pub(super) unsafe fn create(start: NonNull<Bucket>, units: usize) -> Self {
        for i in 0..Self::buckets_in(units) {
            // SAFETY: `i` is within the memory the caller gave.
            unsafe { start.add(i).write(Bucket::new()) };
        }
        Self(start.map_addr(|address| address | units))
    }

    /// Ends the life of the buckets; the memory is left to the caller.
    ///
    /// # Safety
    /// The segment is not used any more, by anybody.
    pub(super) unsafe fn destroy(self) {
        if mem::needs_drop::<Bucket>() {
            for i in 0..self.len() {
                // SAFETY: `create` made this bucket, and the caller guarantees that it is unused.
                unsafe { self.start().add(i).drop_in_place() };
            }
        }
    }

    #[inline]
    pub(super) fn units(self) -> usize {
        self.0.addr().get() & (SEGMENT_ALIGN - 1)
    }

    /// Buckets.
    #[inline]
    pub(super) fn len(self) -> usize {
        self.units() * UNIT
    }

    /// The first bucket.
    #[inline]
    pub(super) fn start(self) -> NonNull<Bucket> {
        let size = self.units();
        // SAFETY: `create` set the size bits of an aligned, non-null address; without them it is that again.
        unsafe { NonNull::new_unchecked(self.0.as_ptr().map_addr(|address| address ^ size)) }
    }

    /// Bucket `index` of this segment.
    ///
    /// # Safety
    /// The segment lives, and is not given back to the arena, for all of `'a`; `index < self.len()`.
    #[inline]
    pub(super) unsafe fn bucket<'a>(self, index: usize) -> &'a Bucket {
        debug_assert!(index < self.len());
        // SAFETY: `create` made this many buckets there; the caller guarantees that they live.
        unsafe { self.start().add(index).as_ref() }
    }

    /// All buckets.
    ///
    /// # Safety
    /// The segment lives, and is not given back to the arena, for all of `'a`.
    #[inline]
    pub(super) unsafe fn buckets<'a>(self) -> &'a [Bucket] {
        // SAFETY: `create` made this many buckets there; the caller guarantees that they live.
        unsafe { NonNull::slice_from_raw_parts(self.start(), self.len()).as_ref() }
    }
}

/// The size after `units`.
pub(super) const fn next_units(units: usize) -> usize {
    if units < 8 { units + 1 } else { units + (1 << (units.ilog2() - 2)) }
}

/// The smallest size of the series that is not below `units`.
pub(super) const fn round_units(units: usize) -> usize {
    if units <= 8 {
        return if units == 0 { 1 } else { units };
    }
    units.next_multiple_of(1 << (units.ilog2() - 2))
}

/// Segments by the upper bits of the hash. Replaced as a whole when it doubles (it is small: one word per
/// segment of thousands of entries); its words are changed in place when a segment is replaced.
#[derive(Debug)]
pub(super) struct Directory {
    shift: u32,
    entries: Box<[AtomicPtr<Bucket>]>,
}

impl Directory {
    /// 2^`depth` entries, all for `segment`. `depth` is from 1 to 32.
    pub(super) fn new(depth: u32, segment: SegmentRef) -> Self {
        let entries = (0..1usize << depth).map(|_| AtomicPtr::new(segment.0.as_ptr())).collect();
        Self { shift: 64 - depth, entries }
    }

    /// One bit more of the hash, same segments.
    pub(super) fn doubled(&self) -> Self {
        let entries =
            (0..self.entries.len() * 2).map(|i| AtomicPtr::new(self.at(i / 2).0.as_ptr())).collect();
        Self { shift: self.shift - 1, entries }
    }

    /// The segment of `hash`.
    #[inline]
    pub(super) fn segment(&self, hash: Hash) -> SegmentRef {
        self.entries().segment(hash)
    }

    /// The part that a burst of lookups needs, by value: from memory it would be loaded for each lookup.
    #[inline]
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries { shift: self.shift, entries: &self.entries }
    }

    #[inline]
    fn at(&self, index: usize) -> SegmentRef {
        load_segment(&self.entries[index])
    }

    pub(super) fn set(&self, index: usize, segment: SegmentRef) {
        self.entries[index].store(segment.0.as_ptr(), Ordering::Release);
    }
}

/// The entries of a [`Directory`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Entries<'d> {
    shift: u32,
    /// 2^(64 − `shift`) of them.
    entries: &'d [AtomicPtr<Bucket>],
}

impl Entries<'_> {
    /// See [`Directory::segment`].
    #[inline(always)]
    pub(super) fn segment(self, hash: Hash) -> SegmentRef {
        // SAFETY: `Directory::new` makes 2^(64 − `shift`) entries and `doubled` twice as many for a shift of one
        // less, no other code makes or changes either, and `upper` gives the upper 64 − `shift` bits of a hash.
        load_segment(unsafe { self.entries.get_unchecked(hash.upper(self.shift)) })
    }
}

#[inline(always)]
fn load_segment(entry: &AtomicPtr<Bucket>) -> SegmentRef {
    // SAFETY: entries are only ever made from a `SegmentRef`, which is not null.
    SegmentRef(unsafe { NonNull::new_unchecked(entry.load(Ordering::Acquire)) })
}

//! The control thread's half: changes one entry at a time, in place.
#![allow(unsafe_code)] // buckets kept alive by the arena until the writer itself releases them

use super::{
    Epoch, MapError, Shared, Writer,
    bucket::{Bucket, SLOTS, TOMB},
    is_reserved,
    placement::{Entry, Location, find, put, put_migrating, slot_with},
    segment::SegmentRef,
};
use hashbrown::HashMap;
use std::{collections::VecDeque, fmt, sync::Arc};

/// Changes between two looks at what may be reused.
const TEND_EVERY: u32 = 64;
/// Slots and segments may wait this many before the writer itself starts an epoch to free them.
const WAITING: usize = 256;

/// The writer's record of a segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) memory: SegmentRef,
    /// How many upper bits of the hash its keys share, and which.
    pub(super) depth: u32,
    pub(super) prefix: usize,
    pub(super) live: usize,
    pub(super) tombs: usize,
    /// Distinguishes this memory from an earlier one at the same position of the list.
    pub(super) serial: u64,
}

impl Segment {
    #[inline]
    pub(super) fn buckets(&self) -> &[Bucket] {
        // SAFETY: a segment in the writer's list is released by the writer alone, after taking it off the
        // list, and the arena is kept by the map that this list is part of.
        unsafe { self.memory.buckets() }
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.live < full(self.memory.len())
    }
}

/// Entries at which so many buckets count as full: 7/8. Above, chains of moves get long and lookups often
/// need the second bucket.
pub(super) const fn full(buckets: usize) -> usize {
    buckets * SLOTS / 8 * 7
}

/// An emptied slot that waits for a grace period.
#[derive(Debug)]
struct DeferredFree {
    after: Epoch,
    segment: u32,
    serial: u64,
    place: Location,
}

/// The writing half. Every change needs the domain's epoch [`Writer`], which proves that there is one writer.
pub struct MapWriter {
    pub(super) shared: Arc<Shared>,
    /// By number; `None` where a merged segment was.
    pub(super) segments: Vec<Option<Segment>>,
    /// The shared directory, in segment numbers.
    pub(super) directory: Vec<u32>,
    pub(super) serial: u64,
    len: usize,
    limit: usize,
    deferred: VecDeque<DeferredFree>,
    /// Slots (by address) refilled right after a move, and the epoch until which they may not be again.
    refilled: HashMap<usize, Epoch>,
    pub(super) retired: VecDeque<(Epoch, SegmentRef)>,
    /// For the entries of a segment that is being rebuilt; empty in between.
    pub(super) scratch: Vec<Entry>,
    untended: u32,
}

impl MapWriter {
    pub(super) fn of_one_segment(shared: Arc<Shared>, memory: SegmentRef, limit: usize) -> Self {
        Self {
            shared,
            segments: vec![Some(Segment { memory, depth: 0, prefix: 0, live: 0, tombs: 0, serial: 0 })],
            directory: vec![0, 0],
            serial: 0,
            len: 0,
            limit,
            deferred: VecDeque::new(),
            refilled: HashMap::new(),
            retired: VecDeque::new(),
            scratch: Vec::new(),
            untended: 0,
        }
    }

    /// Inserts or replaces; returns the value that the key had. Readers see the change at once.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn insert(&mut self, writer: &mut Writer, key: u64, value: u64) -> Result<Option<u64>, MapError> {
        self.upsert(writer, key, |_| value)
    }

    /// As [`MapWriter::insert`], with a value that depends on the one that was there. The table is searched once.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn upsert(
        &mut self,
        writer: &mut Writer,
        key: u64,
        value: impl FnOnce(Option<u64>) -> u64,
    ) -> Result<Option<u64>, MapError> {
        self.shared.domain.check_writer(writer);
        debug_assert!(!is_reserved(key), "a reserved key reached the table");
        if is_reserved(key) {
            return Err(MapError::ReservedKey);
        }
        if let Some((segment, at)) = self.locate(key) {
            let bucket = &segment.buckets()[at.bucket];
            let old = bucket.value(at.slot);
            bucket.update(at.slot, value(Some(old)));
            return Ok(Some(old));
        }
        let value = value(None);
        if self.len >= self.limit {
            return Err(MapError::Limit(self.limit));
        }
        self.maintain_periodically(writer);
        let entry = Entry { hash: self.shared.hasher.hash(key), key, value };
        loop {
            let number = self.number(&entry);
            if self.place(writer, number, &entry) {
                self.len += 1;
                return Ok(None);
            }
            self.grow(writer, number)?;
        }
    }

    /// Replaces the value of a key that is present; returns the old value.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    #[inline]
    pub fn update(&mut self, writer: &mut Writer, key: u64, value: u64) -> Option<u64> {
        self.shared.domain.check_writer(writer);
        let (segment, at) = self.locate(key)?;
        let bucket = &segment.buckets()[at.bucket];
        let old = bucket.value(at.slot);
        bucket.update(at.slot, value);
        Some(old)
    }

    /// Takes the entry of `key` out and returns its value.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn remove(&mut self, writer: &mut Writer, key: u64) -> Option<u64> {
        self.shared.domain.check_writer(writer);
        let (segment, place) = self.locate(key)?;
        let old = segment.buckets()[place.bucket].value(place.slot);
        let number = self.directory[self.index(key)];
        self.empty(writer, number, place);
        self.maintain_periodically(writer);
        self.shrink(writer, number);
        Some(old)
    }

    /// Keeps the entries for which `keep` is true and removes the others. Returns how many were removed.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn retain(&mut self, writer: &mut Writer, mut keep: impl FnMut(u64, u64) -> bool) -> usize {
        self.shared.domain.check_writer(writer);
        let before = self.len;
        for number in 0..self.segments.len() {
            let Some(segment) = &self.segments[number] else { continue };
            let gone: Vec<Location> = segment
                .buckets()
                .iter()
                .enumerate()
                .flat_map(|(bucket, b)| {
                    b.entries().map(move |(slot, k, v)| (Location { bucket, slot }, k, v))
                })
                .filter(|&(_, key, value)| !keep(key, value))
                .map(|(place, ..)| place)
                .collect();
            for place in gone {
                self.empty(writer, number as u32, place);
            }
        }
        for number in 0..self.segments.len() {
            while self.segments[number].is_some() && self.shrink(writer, number as u32) {}
        }
        self.maintain(writer);
        before - self.len
    }

    /// The value of `key`, as last written.
    #[inline]
    #[must_use]
    pub fn get(&self, key: u64) -> Option<u64> {
        let (segment, at) = self.locate(key)?;
        Some(segment.buckets()[at.bucket].value(at.slot))
    }

    /// All entries, in no order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.segments
            .iter()
            .flatten()
            .flat_map(|segment| segment.buckets())
            .flat_map(|bucket| bucket.entries().map(|(_, key, value)| (key, value)))
    }

    /// Entries.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No entry is there.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Slots, full or not, in segments that readers can reach.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.segments.iter().flatten().map(|s| s.memory.len() * SLOTS).sum()
    }

    /// Bytes of the map: blocks taken from the system, the directory, and the writer's own records.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.shared.arena(|arena| arena.bytes())
            + self.directory.len() * (size_of::<u32>() + size_of::<SegmentRef>())
            + self.segments.capacity() * size_of::<Option<Segment>>()
            + self.deferred.capacity() * size_of::<DeferredFree>()
            + self.refilled.allocation_size()
            + self.retired.capacity() * size_of::<(Epoch, SegmentRef)>()
            + self.scratch.capacity() * size_of::<Entry>()
    }

    /// Prefetches the cache lines of `key` for a following change of it. For batches: prefetch a
    /// few keys ahead.
    #[inline]
    pub fn prefetch(&self, key: u64) {
        let hash = self.shared.hasher.hash(key);
        if let Some(segment) = &self.segments[self.directory[self.index(key)] as usize] {
            let buckets = segment.buckets();
            crate::prefetch(&raw const buckets[hash.first(buckets.len())]);
            crate::prefetch(&raw const buckets[hash.second(buckets.len())]);
        }
    }

    /// Makes what all readers have passed fit for use again. Changes do this by themselves now and then; call
    /// it when the control thread is idle.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn maintain(&mut self, writer: &mut Writer) {
        self.shared.domain.check_writer(writer);
        self.untended = 0;
        if self.deferred.len() + self.retired.len() + self.refilled.len() >= WAITING {
            self.begin_grace(writer);
        }
        while self.deferred.front().is_some_and(|r| writer.passed(r.after)) {
            let Some(deferred) = self.deferred.pop_front() else { break };
            // The slot no longer exists if its segment was rebuilt meanwhile.
            if let Some(segment) = &mut self.segments[deferred.segment as usize]
                && segment.serial == deferred.serial
            {
                segment.buckets()[deferred.place.bucket].deferred_free(deferred.place.slot);
                segment.tombs -= 1;
            }
        }
        if self.deferred.is_empty() {
            self.deferred.shrink_to(4 * WAITING);
        }
        if self.refilled.len() >= WAITING {
            self.refilled.retain(|_, after| !writer.passed(*after));
        }
        let shared = &self.shared;
        let mut released = false;
        while self.retired.front().is_some_and(|(after, _)| writer.passed(*after)) {
            let Some((_, memory)) = self.retired.pop_front() else { break };
            // SAFETY: from this arena; taken off list and directory before `after`, which all have passed.
            shared.arena(|arena| unsafe { arena.release(memory) });
            released = true;
        }
        if released {
            shared.arena(|arena| arena.trim());
        }
    }

    #[inline]
    fn maintain_periodically(&mut self, writer: &mut Writer) {
        self.untended += 1;
        if self.untended >= TEND_EVERY {
            self.maintain(writer);
        }
    }

    /// Sees to it that the grace period of what waits longest has begun.
    fn begin_grace(&self, writer: &mut Writer) {
        let deferred = self.deferred.front().map(|r| r.after);
        let retired = self.retired.front().map(|&(after, _)| after);
        let oldest = deferred.into_iter().chain(retired).min();
        if oldest.is_none_or(|after| after > writer.epoch()) {
            writer.advance();
        }
    }

    /// Puts a new entry into segment `number`, if it has room.
    fn place(&mut self, writer: &mut Writer, number: u32, entry: &Entry) -> bool {
        let Some(segment) = &self.segments[number as usize] else { return false };
        if !segment.has_room() {
            return false;
        }
        let mut done = put(segment.buckets(), entry);
        if !done && slot_with(segment.buckets(), entry.hash, TOMB).is_some() {
            self.begin_grace(writer);
            self.maintain(writer);
            done = self.segments[number as usize].as_ref().is_some_and(|s| put(s.buckets(), entry));
        }
        let Some(segment) = &mut self.segments[number as usize] else { return false };
        if !done {
            let grace = writer.grace();
            let mut now_refilled = Vec::new();
            let refilled = &mut self.refilled;
            done = put_migrating(
                segment.buckets(),
                self.shared.hasher,
                entry,
                |bucket, slot| refilled.get(&address(bucket, slot)).is_none_or(|&after| writer.passed(after)),
                |bucket, slot| now_refilled.push((address(bucket, slot), grace)),
            );
            refilled.extend(now_refilled);
        }
        segment.live += usize::from(done);
        done
    }

    /// Takes an entry out of its slot.
    fn empty(&mut self, writer: &Writer, number: u32, place: Location) {
        let Some(segment) = &mut self.segments[number as usize] else { return };
        segment.buckets()[place.bucket].empty(place.slot);
        segment.live -= 1;
        segment.tombs += 1;
        self.len -= 1;
        let serial = segment.serial;
        self.deferred.push_back(DeferredFree { after: writer.grace(), segment: number, serial, place });
    }

    #[inline]
    fn index(&self, key: u64) -> usize {
        self.shared.hasher.hash(key).upper(64 - self.directory.len().ilog2())
    }

    #[inline]
    fn number(&self, entry: &Entry) -> u32 {
        self.directory[entry.hash.upper(64 - self.directory.len().ilog2())]
    }

    #[inline]
    fn locate(&self, key: u64) -> Option<(&Segment, Location)> {
        if is_reserved(key) {
            return None;
        }
        let segment = self.segments[self.directory[self.index(key)] as usize].as_ref()?;
        Some((segment, find(segment.buckets(), self.shared.hasher.hash(key), key)?))
    }
}

/// A name for a slot.
fn address(bucket: &Bucket, slot: usize) -> usize {
    (&raw const *bucket).addr() + slot
}

impl fmt::Debug for MapWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapWriter").field("len", &self.len).field("capacity", &self.capacity()).finish()
    }
}

//! How the map grows and shrinks: a segment is copied into fresh memory, which readers find in the directory
//! from then on; the old one is not changed, for readers still in it, and is freed after a grace period.
#![allow(unsafe_code)] // segments being built, and the shared directory

use super::{
    MapError, MapWriter, Writer,
    arena::Arena,
    bucket::EMPTY,
    hash::Hasher,
    placement::{Entry, put, put_migrating},
    segment::{Directory, MAX_UNITS, SPLIT_UNITS, SegmentRef, next_units, round_units},
    writer::{Segment, full},
};
use crate::sync::Ordering;
use std::mem;

/// The directory holds at most 2^this entries: enough for 10^11 nodes.
const MAX_DEPTH: u32 = 24;

/// The size at which so many entries leave room for some more.
fn units_for(entries: usize) -> usize {
    let wanted = entries + entries / 16 + 1;
    round_units(wanted.div_ceil(full(SegmentRef::buckets_in(1))))
}

/// Builds a segment of `units` or more out of `entries`. `None` if no size up to the largest will do.
fn build(
    arena: &mut Arena,
    hasher: Hasher,
    entries: &[Entry],
    mut units: usize,
) -> Result<Option<SegmentRef>, MapError> {
    while units <= MAX_UNITS {
        let memory = arena.allocate(units)?;
        // SAFETY: allocated just now, and released only below.
        let buckets = unsafe { memory.buckets() };
        let mut second = Vec::new();
        for entry in entries {
            let first = &buckets[entry.hash.first(buckets.len())];
            match first.find(EMPTY) {
                Some(slot) => first.fill(slot, entry.key, entry.value),
                None => second.push(entry),
            }
        }
        // No reader looks yet, so any slot may be refilled.
        if second.iter().all(|e| put(buckets, e) || put_migrating(buckets, hasher, e, |_, _| true, |_, _| {}))
        {
            return Ok(Some(memory));
        }
        // SAFETY: from this arena, and not published.
        unsafe { arena.release(memory) };
        units = next_units(units);
    }
    Ok(None)
}

impl MapWriter {
    /// Makes room in segment `number`, which has refused an entry.
    pub(super) fn grow(&mut self, writer: &mut Writer, number: u32) -> Result<(), MapError> {
        let Some(segment) = &self.segments[number as usize] else { return Err(MapError::Crowded) };
        let now = segment.memory.units();
        if now >= 8 && segment.live < full(segment.memory.len()) / 8 {
            return Err(MapError::Crowded);
        }
        let mut units = units_for(segment.live + 1).max(now);
        if units == now && segment.tombs == 0 {
            units = next_units(now);
        }
        self.with_entries([Some(number), None], |map, entries| {
            let hasher = map.shared.hasher;
            match map.shared.arena(|arena| build(arena, hasher, entries, units))? {
                Some(memory) => {
                    map.replace(writer, number, memory, entries.len());
                    Ok(())
                }
                None => map.split(writer, number, entries),
            }
        })
    }

    /// Makes segment `number` smaller, or one with its buddy, if it is rather empty. Returns whether it
    /// did. Without memory for it nothing changes.
    pub(super) fn shrink(&mut self, writer: &mut Writer, number: u32) -> bool {
        let Some(segment) = &self.segments[number as usize] else { return false };
        if segment.live >= full(segment.memory.len()) / 3 {
            return false;
        }
        let buddy = self.buddy(segment);
        let units = units_for((segment.live + buddy.map_or(0, |(_, live)| live)) * 5 / 4);
        let worthwhile = match buddy {
            Some(_) => units <= SPLIT_UNITS,
            None => units < segment.memory.units(),
        };
        let buddy = buddy.map(|(number, _)| number);
        worthwhile
            && self.with_entries([Some(number), buddy], |map, entries| {
                let hasher = map.shared.hasher;
                let built = map.shared.arena(|arena| build(arena, hasher, entries, units));
                let Ok(Some(memory)) = built else { return false };
                match buddy {
                    Some(buddy) => map.merge(writer, number, buddy, memory, entries.len()),
                    None => map.replace(writer, number, memory, entries.len()),
                }
                true
            })
    }

    /// The segment that was, or would be, split off the same one, and its live entries.
    fn buddy(&self, segment: &Segment) -> Option<(u32, usize)> {
        if segment.depth == 0 {
            return None;
        }
        let number = self.directory[(segment.prefix ^ 1) << (self.depth() - segment.depth)];
        let buddy = self.segments[number as usize].as_ref()?;
        (buddy.depth == segment.depth).then_some((number, buddy.live))
    }

    fn depth(&self) -> u32 {
        self.directory.len().ilog2()
    }

    /// Runs `f` with the entries of one or two segments, listed in a buffer that is kept: a fresh one of this
    /// size costs the kernel more time than the rebuilding takes.
    fn with_entries<R>(
        &mut self,
        numbers: [Option<u32>; 2],
        f: impl FnOnce(&mut Self, &mut [Entry]) -> R,
    ) -> R {
        let mut entries = mem::take(&mut self.scratch);
        let hasher = self.shared.hasher;
        let segments = numbers.iter().flatten().filter_map(|&n| self.segments[n as usize].as_ref());
        for bucket in segments.flat_map(Segment::buckets) {
            entries.extend(bucket.entries().map(|(_, key, value)| Entry {
                hash: hasher.hash(key),
                key,
                value,
            }));
        }
        let result = f(self, &mut entries);
        entries.clear();
        self.scratch = entries;
        result
    }

    /// Puts `memory` in place of segment `number`, same keys.
    fn replace(&mut self, writer: &mut Writer, number: u32, memory: SegmentRef, live: usize) {
        let Some(segment) = &self.segments[number as usize] else { return };
        let (depth, prefix) = (segment.depth, segment.prefix);
        self.install(writer, number, memory, depth, prefix, live);
        self.publish(number);
    }

    /// Makes two of segment `number`, by the next bit of the hash.
    fn split(&mut self, writer: &mut Writer, number: u32, entries: &mut [Entry]) -> Result<(), MapError> {
        let Some(segment) = &self.segments[number as usize] else { return Err(MapError::Crowded) };
        let (depth, prefix) = (segment.depth, segment.prefix);
        if depth >= MAX_DEPTH {
            return Err(MapError::Crowded);
        }
        let upper = |e: &Entry| e.hash.0 >> (63 - depth) & 1 == 1;
        entries.sort_unstable_by_key(upper);
        let (low, high) = entries.split_at(entries.partition_point(|e| !upper(e)));
        let hasher = self.shared.hasher;
        let (a, b) = self.shared.arena(|arena| {
            let a = build(arena, hasher, low, units_for(low.len()))?.ok_or(MapError::Crowded)?;
            let b = match build(arena, hasher, high, units_for(high.len())) {
                Ok(Some(b)) => b,
                failed => {
                    // SAFETY: built just now, and not published.
                    unsafe { arena.release(a) };
                    return Err(failed.err().unwrap_or(MapError::Crowded));
                }
            };
            Ok((a, b))
        })?;
        if depth == self.depth() {
            self.double(writer);
        }
        let other = self.vacant();
        self.install(writer, number, a, depth + 1, prefix << 1, low.len());
        self.install(writer, other, b, depth + 1, prefix << 1 | 1, high.len());
        self.publish(number);
        self.publish(other);
        Ok(())
    }

    fn merge(&mut self, writer: &mut Writer, number: u32, buddy: u32, memory: SegmentRef, live: usize) {
        let Some(gone) = self.segments[buddy as usize].take() else { return };
        self.install(writer, number, memory, gone.depth - 1, gone.prefix >> 1, live);
        self.publish(number);
        self.retired.push_back((writer.grace(), gone.memory));
    }

    /// A number for a new segment.
    fn vacant(&mut self) -> u32 {
        let at = self.segments.iter().position(Option::is_none).unwrap_or_else(|| {
            self.segments.push(None);
            self.segments.len() - 1
        });
        at as u32
    }

    /// Enters a segment into the list; the old one is freed later. The caller publishes it before it
    /// changes anything else.
    fn install(
        &mut self,
        writer: &Writer,
        number: u32,
        memory: SegmentRef,
        depth: u32,
        prefix: usize,
        live: usize,
    ) {
        self.serial += 1;
        let new = Segment { memory, depth, prefix, live, tombs: 0, serial: self.serial };
        if let Some(old) = self.segments[number as usize].replace(new) {
            self.retired.push_back((writer.grace(), old.memory));
        }
    }

    /// Publishes segment `number` to readers for all its hashes.
    fn publish(&mut self, number: u32) {
        let Some(segment) = &self.segments[number as usize] else { return };
        let span = self.depth() - segment.depth;
        // SAFETY: the writer replaces the directory in `double` alone, and nothing is reclaimed here.
        let directory = unsafe { self.shared.directory() };
        for index in segment.prefix << span..(segment.prefix + 1) << span {
            directory.set(index, segment.memory);
            self.directory[index] = number;
        }
    }

    /// Takes one more bit of the hash into the directory.
    fn double(&mut self, writer: &mut Writer) {
        // SAFETY: as in `publish`.
        let doubled = unsafe { self.shared.directory() }.doubled();
        let old = self.shared.directory.swap(Box::into_raw(Box::new(doubled)), Ordering::AcqRel);
        // SAFETY: `old` is from `Box::into_raw`, and the swap has just made it unreachable.
        unsafe { writer.retire_raw::<Directory>(old) };
        self.directory = self.directory.iter().flat_map(|&n| [n, n]).collect();
    }
}

//! The slot of an entry in a segment. Writer only.

use super::{
    bucket::{Bucket, EMPTY},
    hash::{Hash, Hasher},
};

/// Bucket and slot of an entry in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) bucket: usize,
    pub(super) slot: usize,
}

/// Buckets looked at for a chain of moves before the segment is given up as full.
const SEARCH: usize = 96;

/// An entry with its hash.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) hash: Hash,
    pub(super) key: u64,
    pub(super) value: u64,
}

/// Finds `key`.
#[inline]
pub(super) fn find(buckets: &[Bucket], hash: Hash, key: u64) -> Option<Location> {
    slot_with(buckets, hash, key)
}

/// The first slot of the two buckets of `hash` whose key word is `word`.
#[inline]
pub(super) fn slot_with(buckets: &[Bucket], hash: Hash, word: u64) -> Option<Location> {
    let in_bucket = |bucket: usize| buckets[bucket].find(word).map(|slot| Location { bucket, slot });
    in_bucket(hash.first(buckets.len())).or_else(|| in_bucket(hash.second(buckets.len())))
}

/// Puts a new entry into an empty slot of one of its buckets, the first if possible.
#[inline]
pub(super) fn put(buckets: &[Bucket], entry: &Entry) -> bool {
    match slot_with(buckets, entry.hash, EMPTY) {
        Some(at) => {
            buckets[at.bucket].fill(at.slot, entry.key, entry.value);
            true
        }
        None => false,
    }
}

/// One step of a chain: the entry in slot `slot` of step `from`'s bucket could move to `bucket`.
struct Step {
    bucket: usize,
    from: usize,
    slot: usize,
}

/// Puts a new entry, both of whose buckets are full, into a slot made free by moving entries from their first
/// to their second bucket. `may_refill` decides whether a slot may be refilled at once, `refilled` is called for each
/// that was. Nothing is changed if there is no such chain of moves.
pub(super) fn put_migrating(
    buckets: &[Bucket],
    hasher: Hasher,
    entry: &Entry,
    mut may_refill: impl FnMut(&Bucket, usize) -> bool,
    mut refilled: impl FnMut(&Bucket, usize),
) -> bool {
    let count = buckets.len();
    let root = |bucket| Step { bucket, from: usize::MAX, slot: 0 };
    let mut steps = Vec::with_capacity(SEARCH);
    steps.extend([root(entry.hash.first(count)), root(entry.hash.second(count))]);
    let mut at = 0;
    let (mut from, mut slot, end) = 'search: loop {
        let Some(bucket) = steps.get(at).map(|s: &Step| s.bucket) else { return false };
        for (slot, key, _) in buckets[bucket].entries() {
            let hash = hasher.hash(key);
            let to = hash.second(count);
            // Only forward moves; and no bucket twice, so that no chain crosses itself.
            if hash.first(count) != bucket || steps.iter().any(|s| s.bucket == to) {
                continue;
            }
            if !may_refill(&buckets[bucket], slot) {
                continue;
            }
            if let Some(empty) = buckets[to].find(EMPTY) {
                break 'search (at, slot, Location { bucket: to, slot: empty });
            }
            if steps.len() < SEARCH {
                steps.push(Step { bucket: to, from: at, slot });
            }
        }
        at += 1;
    };

    // From the empty end backwards, so that each entry is copied before its slot is taken.
    let source = &buckets[steps[from].bucket];
    buckets[end.bucket].fill(end.slot, source.key(slot), source.value(slot));
    while let Some(parent) = steps.get(steps[from].from) {
        let hole = &buckets[steps[from].bucket];
        let source = &buckets[parent.bucket];
        let moved = steps[from].slot;
        hole.refill(slot, source.key(moved), source.value(moved));
        refilled(hole, slot);
        slot = moved;
        from = steps[from].from;
    }
    let hole = &buckets[steps[from].bucket];
    hole.refill(slot, entry.key, entry.value);
    refilled(hole, slot);
    true
}

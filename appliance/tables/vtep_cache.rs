//! A cache of keys that one reader has found in a table: nearly every frame from the underlay comes from a VTEP that
//! has just sent another. Direct-mapped, a few KiB for each reader. It has only keys that were found in the table,
//! and is cleared when any key is removed from the table. There is one for each version of IP.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// 512 keys of IPv4 are 4 KiB: they remain in the L1 cache.
const SLOTS: usize = 512;

/// A key of the cache.
pub trait Key: Copy + PartialEq {
    /// The key of no address.
    const NONE: Self;
    /// Its place, any number. Adjacent keys, as VTEP addresses often are, have different ones below [`SLOTS`].
    fn place(self) -> u64;
}

/// See [`super::vtep4_key`].
impl Key for u64 {
    const NONE: Self = 0;

    #[inline(always)]
    fn place(self) -> u64 {
        self ^ self >> 9
    }
}

/// The bits of an IPv6 address.
impl Key for u128 {
    const NONE: Self = 0;

    #[inline(always)]
    fn place(self) -> u64 {
        let words = self as u64 ^ (self >> 64) as u64;
        words ^ words >> 9 ^ words >> 32
    }
}

/// The writer's half: how many keys were removed from the table.
#[derive(Debug)]
pub struct Removals(Arc<AtomicU64>);

/// One reader's half.
#[derive(Debug)]
pub struct VtepCache<K: Copy> {
    removals: Arc<AtomicU64>,
    /// The number of removals when `keys` were found.
    removals_seen: Cell<u64>,
    /// A key each, or [`Key::NONE`].
    keys: Box<[Cell<K>; SLOTS]>,
}

impl Removals {
    /// For a table from which nothing was removed yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(0)))
    }

    /// A cache for another reader.
    #[must_use]
    pub fn cache<K: Key>(&self) -> VtepCache<K> {
        let keys = Box::new([const { Cell::new(K::NONE) }; SLOTS]);
        VtepCache { removals: Arc::clone(&self.0), removals_seen: Cell::new(0), keys }
    }

    /// Counts the removal of a key.
    pub fn count(&self) {
        // Release: a reader of the count sees the table without the key.
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl Default for Removals {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key> VtepCache<K> {
    /// Clears the cache if a key was removed since. Once per burst, before any lookup.
    #[inline(always)]
    pub fn refresh(&self) {
        // Acquire: later lookups in the table do not find the keys whose removal was counted.
        let removals = self.removals.load(Ordering::Acquire);
        if removals != self.removals_seen.get() {
            self.clear(removals);
        }
    }

    #[cold]
    fn clear(&self, removals: u64) {
        self.removals_seen.set(removals);
        self.keys.iter().for_each(|key| key.set(K::NONE));
    }

    /// Whether this key, which is not [`Key::NONE`], is in the cache.
    #[inline(always)]
    #[must_use]
    pub fn has(&self, key: K) -> bool {
        self.keys[slot(key)].get() == key
    }

    /// Adds a key that was found in the table after the last [`VtepCache::refresh`].
    pub fn remember(&self, key: K) {
        self.keys[slot(key)].set(key);
    }
}

#[inline(always)]
fn slot<K: Key>(key: K) -> usize {
    key.place() as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cached_until_any_key_is_removed() {
        are_cached_until_one_is_removed((0..100).map(|n| 1u64 << 32 | 0x0a00_0100 | n).collect());
        are_cached_until_one_is_removed((0..100).map(|n| 0xfd00u128 << 112 | n).collect());
        are_cached_until_one_is_removed((0..100).map(|n| 0xfd00u128 << 112 | n << 64 | 1).collect());
    }

    fn are_cached_until_one_is_removed<K: Key>(keys: Vec<K>) {
        let removals = Removals::new();
        let (one, other) = (removals.cache(), removals.cache());
        for key in &keys {
            assert!(!one.has(*key));
            one.remember(*key);
        }
        one.refresh();
        assert!(keys.iter().all(|key| one.has(*key)), "neighbours do not displace each other");
        assert!(!other.has(keys[0]), "each reader finds its own");
        removals.count();
        assert!(one.has(keys[0]), "within a burst it stays");
        one.refresh();
        assert!(!keys.iter().any(|key| one.has(*key)));
        one.remember(keys[1]);
        one.refresh();
        assert!(one.has(keys[1]));
    }

    #[test]
    fn a_key_replaces_another_in_its_slot() {
        let known = Removals::new().cache();
        let key = 1u64 << 32 | 5;
        let rival = (key + 1..).find(|rival| slot(*rival) == slot(key)).unwrap();
        known.remember(key);
        known.remember(rival);
        assert!(known.has(rival) && !known.has(key));
    }
}

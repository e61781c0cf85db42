//! A cache of keys that one reader has found in a table: nearly every frame from the underlay comes from a VTEP that
//! has just sent another. Direct-mapped, a few KiB for each reader. It has only keys that were found in the table,
//! and is cleared when any key is removed from the table.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// 512 keys are 4 KiB: they remain in the L1 cache.
const SLOTS: usize = 512;

/// The writer's half: how many keys were removed from the table.
#[derive(Debug)]
pub struct Removals(Arc<AtomicU64>);

/// One reader's half.
#[derive(Debug)]
pub struct VtepCache {
    removals: Arc<AtomicU64>,
    /// The number of removals when `keys` were found.
    removals_seen: Cell<u64>,
    /// A key each, 0 for none.
    keys: Box<[Cell<u64>; SLOTS]>,
}

impl Removals {
    /// For a table from which nothing was removed yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(0)))
    }

    /// A cache for another reader.
    #[must_use]
    pub fn cache(&self) -> VtepCache {
        let keys = Box::new([const { Cell::new(0) }; SLOTS]);
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

impl VtepCache {
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
        self.keys.iter().for_each(|key| key.set(0));
    }

    /// Whether this key, which is not 0, is in the cache.
    #[inline(always)]
    #[must_use]
    pub fn has(&self, key: u64) -> bool {
        self.keys[slot(key)].get() == key
    }

    /// Adds a key that was found in the table after the last [`VtepCache::refresh`].
    pub fn remember(&self, key: u64) {
        self.keys[slot(key)].set(key);
    }
}

/// Adjacent keys, as VTEP addresses often are, have different slots.
#[inline(always)]
const fn slot(key: u64) -> usize {
    (key ^ key >> 9) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cached_until_any_key_is_removed() {
        let removals = Removals::new();
        let (one, other) = (removals.cache(), removals.cache());
        let keys: Vec<u64> = (0..100).map(|n| 1 << 32 | 0x0a00_0100 | n).collect();
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
        let key = 1 << 32 | 5;
        let rival = (key + 1..).find(|rival| slot(*rival) == slot(key)).unwrap();
        known.remember(key);
        known.remember(rival);
        assert!(known.has(rival) && !known.has(key));
    }
}

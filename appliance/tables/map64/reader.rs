//! The lcores' half: lookups one by one and in bursts.
#![allow(unsafe_code)] // buckets kept alive by the epoch, and prefetches

use super::{Reader, Shared, bucket::Bucket, is_reserved};
use std::{ptr, sync::Arc};

/// The most keys that one call of [`MapReader::lookup_burst`] takes: one bit each in its result.
pub const BURST: usize = 64;

/// The reading half. Clone it for every lcore.
#[derive(Debug, Clone)]
pub struct MapReader {
    pub(super) shared: Arc<Shared>,
}

impl MapReader {
    /// The value of `key`. Reserved keys (0 and `u64::MAX`) are never found.
    ///
    /// # Panics
    /// If `reader` is of another domain.
    #[inline]
    #[must_use]
    pub fn get(&self, reader: &Reader, key: u64) -> Option<u64> {
        self.shared.domain.check_reader(reader);
        let hash = self.shared.hasher.hash(key);
        // SAFETY: `reader` is of the domain and borrowed until we return, so it has no quiescent point;
        // `self` keeps the shared part.
        let segment = unsafe { self.shared.directory() }.segment(hash);
        let buckets = segment.len();
        // SAFETY: for the same reason the segment, which the directory held just now, lives until we return;
        // `first` and `second` are below `buckets`.
        let (first, second) =
            unsafe { (segment.bucket(hash.first(buckets)), segment.bucket(hash.second(buckets))) };
        let (value, found) = first.probe(key);
        let (value, found) = if found { (value, found) } else { second.probe(key) };
        (found && !is_reserved(key)).then_some(value)
    }

    /// Looks up to [`BURST`] keys up together. Bit i of the result says that `keys[i]` was found, and then
    /// `values[i]` is its value; otherwise `values[i]` means nothing. Reserved keys are never found, so a
    /// frame without a key may stand in the burst as key 0.
    ///
    /// All first buckets are prefetched before any is looked at, then the second buckets of those that were
    /// not found: the memory's latency is paid about once or twice per burst, not once per key.
    ///
    /// # Panics
    /// If `reader` is of another domain, or `keys` is longer than [`BURST`] or than `values`.
    #[inline]
    pub fn lookup_burst(&self, reader: &Reader, keys: &[u64], values: &mut [u64]) -> u64 {
        self.shared.domain.check_reader(reader);
        assert!(
            keys.len() <= BURST && keys.len() <= values.len(),
            "a burst of {} keys is too long",
            keys.len()
        );
        let values = &mut values[..keys.len()];
        let hasher = self.shared.hasher;
        // SAFETY: `reader` is of the domain and borrowed until we return, so it has no quiescent point;
        // `self` keeps the shared part.
        let directory = unsafe { self.shared.directory() };

        let mut places: [(*const Bucket, *const Bucket); BURST] = [(ptr::null(), ptr::null()); BURST];
        for (place, &key) in places.iter_mut().zip(keys) {
            let hash = hasher.hash(key);
            let segment = directory.segment(hash);
            let buckets = segment.len();
            // SAFETY: as for the directory: what it held just now lives until we return; both indices are
            // below `buckets`.
            let (first, second) =
                unsafe { (segment.bucket(hash.first(buckets)), segment.bucket(hash.second(buckets))) };
            *place = (first, second);
            prefetch(first);
        }

        let mut found = 0u64;
        let mut missed = [0u8; BURST];
        let mut misses = 0;
        for (i, &key) in keys.iter().enumerate() {
            // SAFETY: set in the loop above; see there.
            let (value, hit) = unsafe { &*places[i].0 }.probe(key);
            values[i] = value;
            found |= u64::from(hit) << i;
            // Without a branch, for which keys miss cannot be predicted.
            missed[misses] = i as u8;
            misses += usize::from(!hit);
        }
        for &i in &missed[..misses] {
            prefetch(places[i as usize].1);
        }
        for &i in &missed[..misses] {
            let i = i as usize;
            // SAFETY: set in the first loop; see there.
            let (value, hit) = unsafe { &*places[i].1 }.probe(keys[i]);
            values[i] = value;
            found |= u64::from(hit) << i;
        }
        for &i in &missed[..misses] {
            // Reserved keys match empty slots, in the first bucket or the second.
            found &= !(u64::from(is_reserved(keys[i as usize])) << i);
        }
        found
    }
}

/// Asks for a cache line. Never faults.
#[inline(always)]
pub(super) fn prefetch(bucket: *const Bucket) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; valid for any address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(bucket.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bucket;
}

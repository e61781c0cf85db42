//! The lcores' half: lookups one by one and in bursts.
#![allow(unsafe_code)] // buckets kept alive by the epoch, and prefetches

use super::{Reader, Shared, bucket::Bucket, is_reserved, segment::SegmentRef};
use std::{mem::MaybeUninit, sync::Arc};

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

        // Not initialised, as that would cost as much as some of the lookups.
        let mut places = [const { MaybeUninit::<(&Bucket, SegmentRef)>::uninit() }; BURST];
        for (place, &key) in places.iter_mut().zip(keys) {
            let hash = hasher.hash(key);
            let segment = directory.segment(hash);
            // SAFETY: as for the directory: the segment that it held just now lives until we return; `first`
            // is below its length.
            let first = unsafe { segment.bucket(hash.first(segment.len())) };
            prefetch(&raw const *first);
            place.write((first, segment));
        }

        let mut found = 0u64;
        for (i, ((&key, value), place)) in keys.iter().zip(values.iter_mut()).zip(&places).enumerate() {
            // SAFETY: the loop above has written one place for each key.
            let (first, _) = unsafe { place.assume_init_ref() };
            let (at_first, hit) = first.probe(key);
            *value = at_first;
            found |= u64::from(hit & !is_reserved(key)) << i;
        }

        let missed = u64::MAX.checked_shr(64 - keys.len() as u32).unwrap_or(0) & !found;
        for i in bits(missed) {
            // SAFETY: `i` is below the number of keys, for each of which a place was written.
            let (first, segment) = unsafe { places[i].assume_init_mut() };
            // The same segment as before: in a newer one the key could be in the bucket not looked at there.
            // SAFETY: it lives, see above, and `second` is below its length.
            *first = unsafe { segment.bucket(hasher.hash(keys[i]).second(segment.len())) };
            prefetch(&raw const **first);
        }
        for i in bits(missed) {
            // SAFETY: as above.
            let (second, _) = unsafe { places[i].assume_init_ref() };
            let (value, hit) = second.probe(keys[i]);
            values[i] = value;
            found |= u64::from(hit & !is_reserved(keys[i])) << i;
        }
        found
    }
}

/// The numbers of the bits set in `word`, from the lowest.
#[inline(always)]
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(lowest)
    })
}

/// Asks for a cache line. Never faults.
#[inline(always)]
pub fn prefetch<T>(line: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; valid for any address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

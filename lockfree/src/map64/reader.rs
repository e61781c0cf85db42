//! The lcores' half: lookups one by one and in bursts.
#![allow(unsafe_code)] // buckets kept alive by the epoch

use super::{
    Reader, Shared,
    bucket::Bucket,
    hash::Hasher,
    is_reserved,
    segment::{Entries, SegmentRef},
};
use crate::prefetch;
use std::{fmt, mem::MaybeUninit, sync::Arc};

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

    /// Looks up to [`BURST`] keys up together. Bit i of the result is set if `keys[i]` was found, and then
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
        assert!(
            keys.len() <= BURST && keys.len() <= values.len(),
            "a burst of {} keys is too long",
            keys.len()
        );
        let mut burst = self.begin_burst(reader);
        for (place, &key) in burst.places.iter_mut().zip(keys) {
            place.write(locate(burst.hasher, burst.directory, key));
        }
        burst.len = keys.len();
        burst.finish(keys, values)
    }

    /// Begins a burst whose keys become known one after another ([`Burst::keys_of`]): what happens between one and the
    /// next, and before [`Burst::finish`], runs while the memory for the keys so far is being loaded.
    ///
    /// # Panics
    /// If `reader` is of another domain.
    #[inline]
    #[must_use]
    pub fn begin_burst<'r>(&'r self, reader: &'r Reader) -> Burst<'r> {
        self.shared.domain.check_reader(reader);
        // SAFETY: `reader` is of the domain and borrowed for `'r`, so it has no quiescent point meanwhile; `self`,
        // borrowed as well, keeps the shared part.
        let directory = unsafe { self.shared.directory() }.entries();
        // The places are not initialised, as that would cost as much as some of the lookups.
        Burst {
            hasher: self.shared.hasher,
            directory,
            places: [const { MaybeUninit::uninit() }; BURST],
            len: 0,
        }
    }
}

/// The first bucket of a key, prefetched, and the segment it is in. Both live for as long as the directory is borrowed.
#[inline(always)]
fn locate(hasher: Hasher, directory: Entries<'_>, key: u64) -> (&Bucket, SegmentRef) {
    let hash = hasher.hash(key);
    let segment = directory.segment(hash);
    // SAFETY: a directory is borrowed only between two quiescent points, see `MapReader::begin_burst`, so
    // the segment that it held just now lives; `first` is below its length.
    let first = unsafe { segment.bucket(hash.first(segment.len())) };
    prefetch(&raw const *first);
    (first, segment)
}

/// Up to [`BURST`] lookups in progress together.
pub struct Burst<'r> {
    hasher: Hasher,
    directory: Entries<'r>,
    /// The first `len` are written.
    places: [MaybeUninit<(&'r Bucket, SegmentRef)>; BURST],
    len: usize,
}

impl Burst<'_> {
    /// Makes this the burst of the keys that `key_of` makes of the items, as many as [`BURST`] and `keys` have room
    /// for, and leaves them in `keys`. Each is prefetched before `key_of` is called for the next.
    #[inline(always)]
    pub fn keys_of<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        keys: &mut [u64],
        mut key_of: impl FnMut(T) -> u64,
    ) {
        // Not kept in `self` meanwhile, where they would be loaded and stored again for every key.
        let (hasher, directory) = (self.hasher, self.directory);
        let mut len = 0;
        for ((item, key), place) in items.zip(keys).zip(&mut self.places) {
            *key = key_of(item);
            place.write(locate(hasher, directory, *key));
            len += 1;
        }
        self.len = len;
    }

    /// As [`MapReader::lookup_burst`]. `keys`: those that were added, in the same order; another key may be
    /// reported as absent.
    ///
    /// # Panics
    /// If there are not as many `keys`, or fewer `values`.
    #[inline(always)]
    pub fn finish(&mut self, keys: &[u64], values: &mut [u64]) -> u64 {
        assert!(keys.len() == self.len, "{} keys of a burst of {}", keys.len(), self.len);
        let values = &mut values[..keys.len()];
        let mut found = 0u64;
        for (i, ((&key, value), place)) in keys.iter().zip(values.iter_mut()).zip(&self.places).enumerate() {
            // SAFETY: there are as many keys as `len`, below which `keys_of` or `lookup_burst` has written.
            let (first, _) = unsafe { place.assume_init_ref() };
            let (at_first, hit) = first.probe(key);
            *value = at_first;
            found |= u64::from(hit & !is_reserved(key)) << i;
        }

        let missed = u64::MAX.checked_shr(64 - keys.len() as u32).unwrap_or(0) & !found;
        for i in bits(missed) {
            // SAFETY: `i` is below `len`, as above.
            let (first, segment) = unsafe { self.places[i].assume_init_mut() };
            // The same segment as before: in a newer one the key could be in the bucket not looked at there.
            // SAFETY: it lives, see `locate`, and `second` is below its length.
            *first = unsafe { segment.bucket(self.hasher.hash(keys[i]).second(segment.len())) };
            prefetch(&raw const **first);
        }
        for i in bits(missed) {
            // SAFETY: as above.
            let (second, _) = unsafe { self.places[i].assume_init_ref() };
            let (value, hit) = second.probe(keys[i]);
            values[i] = value;
            found |= u64::from(hit & !is_reserved(keys[i])) << i;
        }
        found
    }
}

impl fmt::Debug for Burst<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Burst").field("len", &self.len).finish_non_exhaustive()
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

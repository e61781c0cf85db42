//! A hash map from 64-bit keys to 64-bit values for ten million nodes: one writer, any number of wait-free
//! readers, changed in place while they read.
//!
//! Entries sit inline in cache-line buckets of four. A key has two possible buckets and is put into the
//! first as long as there is room, so that a lookup mostly touches one line. Buckets form segments; a segment
//! that fills up is copied into a larger one, or into two, and the old one is freed when every lcore has
//! passed: the map grows by about a quarter of one segment at a time, is never copied as a whole, and is
//! always between about 65 and 90 % full. A small directory finds the segment by the upper bits of the hash.
//!
//! What readers may rely on: a key that is present all the time is always found; the value is one that the
//! key had during the lookup; two lookups of one key by one reader never return an older value after a newer one. See
//! `bucket.rs`.
#![allow(unsafe_code)] // the directory is an atomic pointer, kept alive by the epoch

mod arena;
pub(crate) mod bucket;
mod hash;
mod page;
mod placement;
mod reader;
mod resize;
mod segment;
mod writer;

use crate::epoch::{Domain, Epoch, Reader, Writer};
use crate::sync::{AtomicPtr, Ordering};
use arena::Arena;
use hash::Hasher;
use segment::Directory;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

pub use page::Piece;
pub use reader::{BURST, Burst, MapReader};
pub use writer::MapWriter;

/// Why an entry could not be inserted. The map is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapError {
    /// Keys 0 and `u64::MAX` mark empty slots.
    ReservedKey,
    /// The map holds as many entries as it was allowed to.
    Limit(usize),
    /// The system has no memory for a larger segment.
    Memory,
    /// No arrangement of the keys fits although the map is nearly empty: their hashes collide.
    Crowded,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedKey => f.write_str("the key is reserved: expected neither 0 nor 2^64-1"),
            Self::Limit(limit) => write!(f, "the table is full: expected at most {limit} entries"),
            Self::Memory => f.write_str("no memory is left for the table to grow"),
            Self::Crowded => f.write_str("too many keys share one place in the table"),
        }
    }
}

impl std::error::Error for MapError {}

/// Keys that no entry may have.
#[inline]
const fn is_reserved(key: u64) -> bool {
    key == bucket::EMPTY || key == bucket::TOMB
}

/// An empty map of `writer`'s domain, for at most `limit` entries.
pub fn new(writer: &Writer, limit: usize) -> Result<(MapWriter, MapReader), MapError> {
    with_hasher(writer, limit, Hasher::random())
}

/// As [`new`], with a hash that is the same in every run, for tests and measurements that must repeat. Not for
/// keys that others choose.
pub fn new_seeded(writer: &Writer, limit: usize, seed: u64) -> Result<(MapWriter, MapReader), MapError> {
    with_hasher(
        writer,
        limit,
        Hasher::keyed(seed, [seed ^ 0x9e37_79b9_7f4a_7c15, seed ^ 0xd1b5_4a32_d192_ed03]),
    )
}

fn with_hasher(writer: &Writer, limit: usize, hasher: Hasher) -> Result<(MapWriter, MapReader), MapError> {
    let mut arena = Arena::default();
    let segment = arena.allocate(1)?;
    // Never depth 0, whose shift by 64 bits would be undefined.
    let directory = Box::into_raw(Box::new(Directory::new(1, segment)));
    let shared = Arc::new(Shared {
        directory: AtomicPtr::new(directory),
        hasher,
        domain: writer.domain(),
        arena: Mutex::new(arena),
    });
    let reader = MapReader { shared: Arc::clone(&shared) };
    Ok((MapWriter::of_one_segment(shared, segment, limit), reader))
}

/// The part that writer and readers share.
#[derive(Debug)]
struct Shared {
    /// From `Box::into_raw`.
    directory: AtomicPtr<Directory>,
    hasher: Hasher,
    domain: Domain,
    /// Here, and not with the writer, so that segments outlive the writer as long as readers are left. Only
    /// the writer locks it.
    arena: Mutex<Arena>,
}

impl Shared {
    /// The directory.
    ///
    /// # Safety
    /// For all of `'a`: this `Shared` lives, and either a reader of its domain has no quiescent point, or the
    /// epoch writer is not used to reclaim.
    #[inline]
    unsafe fn directory<'a>(&self) -> &'a Directory {
        // SAFETY: the pointer is that of a live box: when it is replaced, the old one is retired into the
        // domain, which frees it only after a quiescent point of every reader; see above for the rest.
        unsafe { &*self.directory.load(Ordering::Acquire) }
    }

    fn arena<R>(&self, f: impl FnOnce(&mut Arena) -> R) -> R {
        f(&mut self.arena.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw`; writer and readers of the map are dropped.
        drop(unsafe { Box::from_raw(self.directory.load(Ordering::Acquire)) });
    }
}

//! Memory for keys, in slots of one size: locked into RAM, left out of core dumps, zeros in a forked child, and wiped
//! when a slot is free again. Enters: requests for slots. Leaves: [`Slot`]s, and figures about the memory. Not here:
//! what the bytes mean.
//!
//! The memory grows by chunks of 2 MiB, each one huge page where the kernel has one or makes one, which can take it
//! some milliseconds, and gives none back while it lives. A slot is taken under a lock, by whoever makes keys. It is
//! shared by clones, which are counted in the slot itself, and freed without a lock, by whoever drops the last one.

use crate::error::{Error, ErrorKind};
use crate::sys;
use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroize;

/// Bytes of what is in a slot: an expanded key, of 1,008 bytes in ipsec-mb 1.3.
pub(super) const CONTENT_LEN: usize = size_of::<sys::gcm_key_data>();
/// Slots are aligned to cache lines, as ipsec-mb wants its keys.
pub(super) const ALIGNMENT: usize = 64;
/// Bytes of a slot. The last ones count its clones.
pub(super) const SLOT_LEN: usize = (CONTENT_LEN + size_of::<Clones>()).next_multiple_of(ALIGNMENT);
const CLONES_AT: usize = SLOT_LEN - size_of::<Clones>();
const CHUNK_LEN: usize = 2 << 20;
const SLOTS: usize = CHUNK_LEN / SLOT_LEN / WORD_BITS * WORD_BITS;
const WORD_BITS: usize = u64::BITS as usize;

/// How many clones a slot has besides the first.
type Clones = AtomicU64;

/// The memory. A clone is the same memory; it is unmapped with its last slot.
#[derive(Debug, Clone, Default)]
pub struct KeyMemory(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    chunks: Mutex<Vec<Arc<Chunk>>>,
    /// That memory is not locked was logged.
    reported: AtomicBool,
}

/// Bytes of a [`KeyMemory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyMemoryStats {
    /// Mapped.
    pub mapped: usize,
    /// Of them, in slots that are taken.
    pub taken: usize,
    /// Of the mapped ones, not locked: the kernel may write them to swap space.
    pub unlocked: usize,
    /// Of the mapped ones, not left out of core dumps.
    pub dumped: usize,
}

impl KeyMemory {
    /// No memory yet: the first slot brings the first chunk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> KeyMemoryStats {
        let chunks = self.0.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stats = KeyMemoryStats::default();
        for chunk in chunks.iter() {
            stats.mapped += CHUNK_LEN;
            stats.taken += chunk.taken() * SLOT_LEN;
            stats.unlocked += if chunk.locked { 0 } else { CHUNK_LEN };
            stats.dumped += if chunk.undumped { 0 } else { CHUNK_LEN };
        }
        stats
    }

    /// A slot of zeros.
    pub(super) fn take(&self) -> Result<Slot, Error> {
        let mut chunks = self.0.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = chunks.iter().find_map(Chunk::take) {
            return Ok(slot);
        }
        let (chunk, unlocked) = Chunk::map()?;
        let chunk = Arc::new(chunk);
        if let Some(unlocked) = unlocked
            && !self.0.reported.swap(true, Ordering::Relaxed)
        {
            log::warn!(
                "keys are not locked into memory, and could be written to swap space: mlock of {CHUNK_LEN} bytes: \
                 {unlocked}; hint: LimitMEMLOCK=infinity in the unit of systemd, or the capability CAP_IPC_LOCK"
            );
        }
        let slot = Chunk::take(&chunk).ok_or_else(|| Error::new(ErrorKind::Refused, "no slot for a key"))?;
        chunks.push(chunk);
        Ok(slot)
    }
}

/// A mapping of [`CHUNK_LEN`] bytes.
#[derive(Debug)]
struct Chunk {
    base: NonNull<u8>,
    /// A bit for each slot that is taken.
    bits: [AtomicU64; SLOTS / WORD_BITS],
    locked: bool,
    undumped: bool,
}

// SAFETY: the chunk itself only has the address; the bytes are reached through slots, each of which has its own.
unsafe impl Send for Chunk {}
// SAFETY: as above; the bits are atomic.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// With the error of locking it, if that failed.
    fn map() -> Result<(Self, Option<io::Error>), Error> {
        let base = map_aligned()?;
        let at = base.as_ptr().cast::<c_void>();
        // SAFETY: the mapping is ours and has this length; none of these calls changes bytes that are in use.
        let (undumped, unlocked) = unsafe {
            // A kernel that refuses one of these two has smaller pages, or copies the keys into forked children.
            libc::madvise(at, CHUNK_LEN, libc::MADV_HUGEPAGE);
            libc::madvise(at, CHUNK_LEN, libc::MADV_WIPEONFORK);
            let undumped = libc::madvise(at, CHUNK_LEN, libc::MADV_DONTDUMP) == 0;
            (undumped, (libc::mlock(at, CHUNK_LEN) != 0).then(io::Error::last_os_error))
        };
        let bits = [const { AtomicU64::new(0) }; SLOTS / WORD_BITS];
        Ok((Self { base, bits, locked: unlocked.is_none(), undumped }, unlocked))
    }

    fn taken(&self) -> usize {
        self.bits.iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// Only one thread takes at a time.
    fn take(chunk: &Arc<Self>) -> Option<Slot> {
        // Acquire: what was there was wiped before the slot was free.
        let words = chunk.bits.iter().map(|word| (word, word.load(Ordering::Acquire).trailing_ones()));
        let (at, (word, bit)) = words.enumerate().find(|(_, (_, bit))| *bit < u64::BITS)?;
        word.fetch_or(1 << bit, Ordering::Relaxed);
        // SAFETY: there are as many bits as slots, so it is inside of the mapping.
        let bytes = unsafe { chunk.base.add((at * WORD_BITS + bit as usize) * SLOT_LEN) };
        Some(Slot { bytes, chunk: chunk.clone() })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: a slot keeps its chunk, so there is none; the mapping is ours and has this length.
        unsafe { libc::munmap(self.base.as_ptr().cast(), CHUNK_LEN) };
    }
}

/// Maps a chunk at a multiple of its length, where it can be one huge page.
fn map_aligned() -> Result<NonNull<u8>, Error> {
    let len = 2 * CHUNK_LEN;
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address that the kernel chooses.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, -1, 0) };
    let failed = || {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOMEM);
        Error::from_rc(format!("memory for keys: mmap of {len} bytes"), -errno)
    };
    if start == libc::MAP_FAILED {
        return Err(failed());
    }
    let start = NonNull::new(start.cast::<u8>()).ok_or_else(failed)?;
    let before = start.align_offset(CHUNK_LEN);
    let behind = len - CHUNK_LEN - before;
    // SAFETY: an aligned chunk lies within two chunks, so all three parts are inside of the mapping, which nobody uses
    // yet. Nothing is unmapped with a length of 0.
    unsafe {
        let base = start.add(before);
        if before > 0 {
            libc::munmap(start.as_ptr().cast(), before);
        }
        if behind > 0 {
            libc::munmap(base.add(CHUNK_LEN).as_ptr().cast(), behind);
        }
        Ok(base)
    }
}

/// [`CONTENT_LEN`] bytes at a multiple of [`ALIGNMENT`]. They are wiped when the last clone is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    bytes: NonNull<u8>,
    chunk: Arc<Chunk>,
}

// SAFETY: the clones share the bytes, as those of an `Arc` do; the chunk is Send and Sync.
unsafe impl Send for Slot {}
// SAFETY: it gives away an address only; whoever reads or writes there argues for it.
unsafe impl Sync for Slot {}

impl Slot {
    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.bytes.as_ptr()
    }

    fn clones(&self) -> &Clones {
        // SAFETY: inside of the slot, behind its content, so that nothing else is written there while the slot is taken;
        // aligned, as the length of a slot is; zero when it was taken.
        unsafe { self.bytes.add(CLONES_AT).cast().as_ref() }
    }
}

impl Clone for Slot {
    fn clone(&self) -> Self {
        self.clones().fetch_add(1, Ordering::Relaxed);
        Self { bytes: self.bytes, chunk: self.chunk.clone() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // As `Arc` does it: what others did with the slot comes before it is wiped.
        if self.clones().fetch_sub(1, Ordering::Release) != 0 {
            return;
        }
        std::sync::atomic::fence(Ordering::Acquire);
        // SAFETY: the bytes are ours alone until the bit is clear, initialized since they were mapped, and aligned.
        unsafe { self.bytes.cast::<[u64; SLOT_LEN / 8]>().as_mut() }.zeroize();
        // SAFETY: both are in one mapping.
        let slot = unsafe { self.bytes.offset_from(self.chunk.base) } as usize / SLOT_LEN;
        if let Some(word) = self.chunk.bits.get(slot / WORD_BITS) {
            word.fetch_and(!(1 << (slot % WORD_BITS)), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn bytes(slot: &Slot) -> &[u8] {
        // SAFETY: the tests write through no other pointer meanwhile.
        unsafe { std::slice::from_raw_parts(slot.as_ptr(), CONTENT_LEN) }
    }

    fn fill(slot: &Slot) {
        // SAFETY: nobody reads meanwhile.
        unsafe { slot.as_ptr().write_bytes(0x5a, CONTENT_LEN) };
    }

    #[test]
    fn slots_are_apart_and_wiped_when_they_are_free() {
        let memory = KeyMemory::new();
        assert_eq!(memory.stats(), KeyMemoryStats::default());
        let slots: Vec<Slot> = (0..SLOTS + 1).map(|_| memory.take().unwrap()).collect();
        let places: BTreeSet<usize> = slots.iter().map(|slot| slot.as_ptr() as usize).collect();
        assert_eq!(places.len(), SLOTS + 1);
        assert!(places.iter().all(|place| place % ALIGNMENT == 0));
        let stats = memory.stats();
        assert_eq!((stats.mapped, stats.taken), (2 * CHUNK_LEN, (SLOTS + 1) * SLOT_LEN));
        assert_eq!(stats.dumped, 0);

        slots.iter().for_each(fill);
        drop(slots);
        assert_eq!(memory.stats().taken, 0);
        let again: Vec<Slot> = (0..SLOTS + 1).map(|_| memory.take().unwrap()).collect();
        assert!(again.iter().all(|slot| bytes(slot).iter().all(|byte| *byte == 0)), "all are wiped");
        assert_eq!(places, again.iter().map(|slot| slot.as_ptr() as usize).collect());
        assert_eq!(memory.stats().mapped, 2 * CHUNK_LEN);
    }

    #[test]
    fn a_slot_outlives_the_handle_of_its_memory() {
        let slot = KeyMemory::new().take().unwrap();
        fill(&slot);
        assert!(bytes(&slot).iter().all(|byte| *byte == 0x5a));
    }

    #[test]
    fn the_last_clone_frees_the_slot() {
        let memory = KeyMemory::new();
        let slot = memory.take().unwrap();
        fill(&slot);
        let clones: Vec<Slot> = (0..100).map(|_| slot.clone()).collect();
        drop(slot);
        let threads: Vec<_> = clones
            .into_iter()
            .map(|clone| {
                std::thread::spawn(move || {
                    let again = clone.clone();
                    drop(clone);
                    assert!(bytes(&again).iter().all(|byte| *byte == 0x5a));
                    again
                })
            })
            .collect();
        let mut clones: Vec<Slot> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let last = clones.pop();
        drop(clones);
        assert_eq!(memory.stats().taken, SLOT_LEN);
        drop(last);
        assert_eq!(memory.stats().taken, 0);
        assert!(bytes(&memory.take().unwrap()).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn threads_free_slots_while_others_are_taken() {
        let memory = KeyMemory::new();
        let (send, receive) = std::sync::mpsc::sync_channel::<Slot>(100);
        let freeing = std::thread::spawn(move || {
            receive.into_iter().fold(0, |n, slot| {
                drop(slot);
                n + 1
            })
        });
        for _ in 0..100_000 {
            let slot = memory.take().unwrap();
            assert!(bytes(&slot).iter().all(|byte| *byte == 0));
            fill(&slot);
            send.send(slot).unwrap();
        }
        drop(send);
        assert_eq!(freeing.join().unwrap(), 100_000);
        assert_eq!((memory.stats().mapped, memory.stats().taken), (CHUNK_LEN, 0));
    }
}

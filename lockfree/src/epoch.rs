//! Finds out when no lcore uses an old version any more. One writer (the control thread) and a fixed number of readers
//! (the lcores) share a counter, the epoch. The writer advances it after it has changed the tables; each
//! reader publishes the epoch it has reached, once per loop, when it holds nothing it read from a table
//! ("quiescent state based reclamation", as in rte_rcu_qsbr). It answers two questions:
//! may this memory be freed or reused, and does every lcore forward by revision N (the barrier)?
//!
//! In this module: epochs and deferred frees. Not in it: any table.
//!
//! The rule that makes borrowed table contents safe is in the types: tables hand out references that borrow
//! the [`Reader`], and [`Reader::quiescent`] needs it mutably, so no reference survives a quiescent point.
#![allow(unsafe_code)] // frees memory whose last reader is known only by the epoch, not by a lifetime

use crate::sync::{AtomicU64, Ordering, fence};
use crossbeam::utils::CachePadded;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// A reader's slot when it is parked: it holds nothing, so it delays no thread.
const PARKED: u64 = u64::MAX;

/// A point in the writer's time. Later epochs compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch as a number, for display.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Shared {
    /// The latest epoch; only the writer stores here.
    global: CachePadded<AtomicU64>,
    /// One line per reader, so that a reader's store disturbs no other reader.
    readers: Box<[CachePadded<AtomicU64>]>,
    /// Memory that a dropped writer could not free yet; freed with the domain.
    orphans: Mutex<Vec<Deferred>>,
}

/// The identity of one writer and its readers. Tables keep it to refuse readers and writers of another
/// domain, whose epochs do not apply to them.
#[derive(Debug, Clone)]
pub struct Domain(Arc<Shared>);

impl Domain {
    /// Panics unless `reader` belongs to this domain.
    #[inline]
    pub fn check_reader(&self, reader: &Reader) {
        assert!(Arc::ptr_eq(&self.0, &reader.shared), "a table was read by a reader of another epoch domain");
    }

    /// Panics unless `writer` belongs to this domain.
    #[inline]
    pub fn check_writer(&self, writer: &Writer) {
        assert!(Arc::ptr_eq(&self.0, &writer.shared), "a table was written by the writer of another domain");
    }
}

/// Opens a domain with one writer and `readers` readers, all parked: a reader that no lcore has taken up yet
/// holds up nothing.
#[must_use]
pub fn domain(readers: usize) -> (Writer, Vec<Parked>) {
    let shared = Arc::new(Shared {
        global: CachePadded::new(AtomicU64::new(0)),
        readers: (0..readers).map(|_| CachePadded::new(AtomicU64::new(PARKED))).collect(),
        orphans: Mutex::new(Vec::new()),
    });
    let parked = (0..readers).map(|slot| Parked { shared: Arc::clone(&shared), slot }).collect();
    (Writer { shared, now: 0, passed: 0, garbage: VecDeque::new() }, parked)
}

/// A reader that holds nothing and is not counted. [`Parked::online`] makes it a [`Reader`].
#[derive(Debug)]
pub struct Parked {
    shared: Arc<Shared>,
    slot: usize,
}

impl Parked {
    /// Takes part from now on: what the returned reader reads is kept alive for it.
    #[must_use]
    pub fn online(self) -> Reader {
        let seen = enter(&self.shared, self.slot);
        Reader { shared: self.shared, slot: self.slot, seen }
    }
}

/// Publishes that the reader in `slot` takes part again, before it reads anything.
fn enter(shared: &Shared, slot: usize) -> u64 {
    let now = shared.global.load(Ordering::Acquire);
    // Release, although this means only "from here on": the writer may take it, instead of the PARKED stored
    // before, as proof that earlier reads are over.
    shared.readers[slot].store(now, Ordering::Release);
    // Pairs with the fence in `Writer::scan`: either the writer sees the store above and waits for us, or we
    // see everything the writer unlinked before it looked.
    fence(Ordering::SeqCst);
    now
}

/// One reader of the domain's tables, owned by one thread at a time. Dropping it parks it permanently.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    slot: usize,
    seen: u64,
}

impl Reader {
    /// Publishes that this reader holds nothing from any table. Call once per loop; costs one load of a line that
    /// changes only when the writer advances, and then one store to the reader's own line.
    #[inline]
    pub fn quiescent(&mut self) {
        let now = self.shared.global.load(Ordering::Acquire);
        if now != self.seen {
            self.seen = now;
            self.shared.readers[self.slot].store(now, Ordering::Release);
        }
    }

    /// The epoch this reader published last.
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.seen)
    }

    /// Runs `sleep` parked, so that a sleeping lcore delays neither frees nor barriers. A panic in `sleep`
    /// leaves the reader taking part.
    pub fn park_during<R>(&mut self, sleep: impl FnOnce() -> R) -> R {
        struct Back<'a>(&'a mut Reader);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.seen = enter(&self.0.shared, self.0.slot);
            }
        }
        self.shared.readers[self.slot].store(PARKED, Ordering::Release);
        let _back = Back(self);
        sleep()
    }

    /// Stops taking part, for longer than a sleep.
    #[must_use]
    pub fn park(self) -> Parked {
        // Dropping `self` stores PARKED.
        Parked { shared: Arc::clone(&self.shared), slot: self.slot }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.readers[self.slot].store(PARKED, Ordering::Release);
    }
}

/// Memory to be freed once every reader has passed `after`.
#[derive(Debug)]
struct Deferred {
    after: Epoch,
    memory: *mut (),
    free: unsafe fn(*mut ()),
}

// SAFETY: `retire_raw` takes only memory of `Send` contents, and only one thread, the one that holds the
// `Deferred`, frees it.
unsafe impl Send for Deferred {}

impl Deferred {
    fn run(self) {
        // SAFETY: `free` was made for `memory` by `retire_raw`, whose caller guarantees that it is unreachable
        // for new readers; the caller of `run` has established that old readers have passed `after`, or that
        // no reader exists any more.
        unsafe { (self.free)(self.memory) }
    }
}

/// The right to change the domain's tables; there is one. Every table's writing half takes it by `&mut`, so
/// that "one writer" is checked by the compiler.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    now: u64,
    /// An epoch known to be passed by all readers; never decreases.
    passed: u64,
    garbage: VecDeque<Deferred>,
}

impl Writer {
    /// The identity that tables of this domain keep.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain(Arc::clone(&self.shared))
    }

    /// Ends a batch of changes: starts the next epoch and returns it. Once it is [passed](Self::passed),
    /// every reader works by all changes made before this call, and holds nothing that they removed.
    pub fn advance(&mut self) -> Epoch {
        self.now += 1;
        self.shared.global.store(self.now, Ordering::Release);
        Epoch(self.now)
    }

    /// The current epoch.
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.now)
    }

    /// The epoch that must be passed before memory that is unlinked now may be reused. It is in the future: it can
    /// only be passed after the next [`Self::advance`].
    #[inline]
    #[must_use]
    pub fn grace(&self) -> Epoch {
        Epoch(self.now + 1)
    }

    /// Has every reader been quiescent, or parked, since `epoch` began? Looks at the readers only if the
    /// answer is not known yet.
    #[inline]
    pub fn passed(&mut self, epoch: Epoch) -> bool {
        if epoch.0 > self.passed && epoch.0 <= self.now {
            self.scan();
        }
        epoch.0 <= self.passed
    }

    /// The latest epoch that every reader has passed. Parked readers count as having passed all.
    pub fn min_passed(&mut self) -> Epoch {
        self.scan();
        Epoch(self.passed)
    }

    fn scan(&mut self) {
        // Pairs with the fence in `enter`.
        fence(Ordering::SeqCst);
        let slowest = self.shared.readers.iter().map(|r| r.load(Ordering::Acquire)).min().unwrap_or(PARKED);
        // PARKED is the greatest number, so that parked readers drop out of the minimum.
        self.passed = self.passed.max(slowest.min(self.now));
    }

    /// Drops `boxed` after every reader has passed the grace period that starts now. The caller must have
    /// made it unreachable for readers before.
    pub fn retire<T: Send + 'static>(&mut self, boxed: Box<T>) {
        // SAFETY: the pointer comes from a box that we own.
        unsafe { self.retire_raw(Box::into_raw(boxed)) }
    }

    /// As [`Self::retire`], for memory that readers may still be looking at, to which a `Box` would wrongly
    /// claim sole access.
    ///
    /// # Safety
    /// `memory` came from `Box::into_raw`, is no longer reachable for readers that start now, and is freed
    /// nowhere else.
    pub unsafe fn retire_raw<T: Send + 'static>(&mut self, memory: *mut T) {
        unsafe fn free<T>(memory: *mut ()) {
            // SAFETY: `memory` is the `*mut T` from `Box::into_raw` that was retired; it is freed once.
            drop(unsafe { Box::from_raw(memory.cast::<T>()) });
        }
        self.garbage.push_back(Deferred { after: self.grace(), memory: memory.cast(), free: free::<T> });
    }

    /// Frees what every reader has passed and returns how many objects that were. What was retired since the
    /// last [`Self::advance`] waits for the next.
    pub fn reclaim(&mut self) -> usize {
        let mut freed = 0;
        while let Some(after) = self.garbage.front().map(|d| d.after) {
            if !self.passed(after) {
                break;
            }
            if let Some(deferred) = self.garbage.pop_front() {
                deferred.run();
                freed += 1;
            }
        }
        freed
    }

    /// Objects retired and not yet freed.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.garbage.len()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Readers may still hold some of it: it is freed with the last of them.
        self.shared.orphans.lock().unwrap_or_else(PoisonError::into_inner).extend(self.garbage.drain(..));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for deferred in self.orphans.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            deferred.run();
        }
    }
}

//! Nothing is freed under a reader; a passed epoch means that the reader works by the changes before it.

use super::explore;
use crate::cell::Cell;
use crate::epoch::{Parked, domain};
use crate::sync;
use loom::{cell::UnsafeCell, sync::Arc, thread};

/// A value whose reading and dropping loom watches: a drop that a read does not happen before is an error.
struct Watched {
    content: UnsafeCell<u64>,
}

impl Watched {
    fn new(content: u64) -> Self {
        Self { content: UnsafeCell::new(content) }
    }

    #[allow(unsafe_code)] // loom's cell gives raw pointers
    fn read(&self) -> u64 {
        // SAFETY: only `drop` writes; that it does not overlap is what loom checks.
        self.content.with(|content| unsafe { *content })
    }
}

impl Drop for Watched {
    #[allow(unsafe_code)] // loom's cell gives raw pointers
    fn drop(&mut self) {
        // SAFETY: sole access; loom checks that no read overlaps.
        self.content.with_mut(|content| unsafe { *content = u64::MAX });
    }
}

// SAFETY: shared for reading only, see `read`.
#[allow(unsafe_code)]
unsafe impl Sync for Watched {}

fn one(mut parked: Vec<Parked>) -> Parked {
    parked.pop().unwrap()
}

#[test]
fn a_replaced_value_outlives_its_readers() {
    explore(3, || {
        let (mut writer, parked) = domain(1);
        let cell = Arc::new(Cell::new(&writer, Watched::new(1)));
        let mut reader = one(parked).online();
        let reading = thread::spawn({
            let cell = Arc::clone(&cell);
            move || {
                let first = cell.read(&reader).read();
                reader.quiescent();
                let second = cell.read(&reader).read();
                assert!((1..=2).contains(&first) && second >= first, "{first} then {second}");
            }
        });
        cell.publish(&mut writer, Watched::new(2));
        writer.advance();
        writer.reclaim();
        reading.join().unwrap();
        writer.reclaim();
        assert_eq!(writer.pending(), 0, "a dropped reader delays nothing");
    });
}

#[test]
fn a_reader_that_goes_online_is_seen_or_sees_the_changes() {
    explore(3, || {
        let (mut writer, parked) = domain(1);
        let cell = Arc::new(Cell::new(&writer, Watched::new(1)));
        let reading = thread::spawn({
            let cell = Arc::clone(&cell);
            move || {
                let mut reader = one(parked).online();
                assert!((1..=2).contains(&cell.read(&reader).read()));
                reader.park_during(|| ());
                assert!((1..=2).contains(&cell.read(&reader).read()));
            }
        });
        cell.publish(&mut writer, Watched::new(2));
        writer.advance();
        writer.reclaim();
        reading.join().unwrap();
    });
}

#[test]
fn a_reader_that_passed_an_epoch_sees_earlier_changes() {
    explore(3, || {
        let (mut writer, parked) = domain(1);
        let cell = Arc::new(Cell::new(&writer, Watched::new(1)));
        // What the reader has used since the barrier; loom's, so that its order is judged too.
        let used_old_after = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let mut reader = one(parked).online();
        let reading = thread::spawn({
            let (cell, used) = (Arc::clone(&cell), Arc::clone(&used_old_after));
            move || {
                reader.quiescent();
                let passed = reader.epoch();
                let value = cell.read(&reader).read();
                if passed.get() >= 1 && value == 1 {
                    used.store(true, loom::sync::atomic::Ordering::SeqCst);
                }
            }
        });
        cell.publish(&mut writer, Watched::new(2));
        let barrier = writer.advance();
        assert_eq!(barrier.get(), 1);
        reading.join().unwrap();
        assert!(writer.passed(barrier));
        assert!(!used_old_after.load(loom::sync::atomic::Ordering::SeqCst));
    });
}

/// The checker does notice: freeing without a grace period is caught.
#[test]
#[should_panic]
#[allow(unsafe_code)] // the mistake to be found
fn the_checker_finds_a_free_without_grace() {
    explore(3, || {
        let current = Arc::new(sync::AtomicPtr::new(Box::into_raw(Box::new(Watched::new(1)))));
        let reading = thread::spawn({
            let current = Arc::clone(&current);
            // SAFETY: none: this is the mistake. Loom stops before the memory is really freed.
            move || unsafe { &*current.load(sync::Ordering::Acquire) }.read()
        });
        let old = current.load(sync::Ordering::Acquire);
        // SAFETY: as above; in place, so that the memory stays and only loom's watch is tripped.
        unsafe { std::ptr::drop_in_place(old) };
        reading.join().unwrap();
    });
}

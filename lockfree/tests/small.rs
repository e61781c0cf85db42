//! Epochs, cells and slots, one thread at a time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use proptest::prelude::*;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use stopover_lockfree::{
    cell::Cell,
    epoch::{Parked, Reader, Writer, domain},
    map_wide::{WideReader, WideWriter},
    map64::{MapReader, MapWriter},
    slots::{BeyondLimit, Slots},
};

fn one() -> (Writer, Reader) {
    let (writer, mut parked) = domain(1);
    (writer, parked.pop().unwrap().online())
}

/// The writing halves go to the control thread, the reading halves to every lcore.
#[test]
fn halves_cross_threads() {
    fn send<T: Send>() {}
    fn share<T: Send + Sync>() {}
    send::<(Writer, Reader, Parked)>();
    send::<(MapWriter, WideWriter)>();
    share::<(MapReader, WideReader, Slots<u32>, Cell<u32>)>();
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>, u32);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn an_epoch_is_passed_when_every_reader_has_been_quiescent() {
    let (mut writer, mut parked) = domain(3);
    let asleep = parked.pop().unwrap();
    let (mut b, mut a) = (parked.pop().unwrap().online(), parked.pop().unwrap().online());
    let first = writer.advance();
    assert!(!writer.passed(first));
    a.quiescent();
    assert!(!writer.passed(first));
    b.quiescent();
    assert!(writer.passed(first), "the parked third delays nothing");
    let second = writer.advance();
    assert!(second > first && !writer.passed(second) && writer.min_passed() == first);
    a.quiescent();
    b.park_during(|| assert!(writer.passed(second), "nor does one that sleeps"));
    let third = writer.advance();
    a.quiescent();
    assert!(!writer.passed(third), "awake again");
    drop(b);
    assert!(writer.passed(third), "dropped");
    let asleep = asleep.online();
    let fourth = writer.advance();
    a.quiescent();
    assert!(!writer.passed(fourth));
    let _parked = asleep.park();
    assert!(writer.passed(fourth));
    assert!(!writer.passed(writer.grace()), "a grace period needs an advance");
}

#[test]
fn a_panic_while_parked_leaves_the_reader_online() {
    let (mut writer, mut reader) = one();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        reader.park_during(|| panic!("in the sleep"));
    }));
    assert!(panicked.is_err());
    let next = writer.advance();
    assert!(!writer.passed(next));
}

#[test]
fn memory_is_freed_once_after_its_grace_period() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (mut writer, mut reader) = one();
    writer.retire(Box::new(Counted(Arc::clone(&drops), 0)));
    reader.quiescent();
    assert_eq!((writer.reclaim(), drops.load(Ordering::Relaxed)), (0, 0), "no advance yet");
    writer.advance();
    assert_eq!(writer.reclaim(), 0, "not passed yet");
    reader.quiescent();
    assert_eq!((writer.reclaim(), drops.load(Ordering::Relaxed)), (1, 1));
    writer.retire(Box::new(Counted(Arc::clone(&drops), 0)));
    drop(writer);
    assert_eq!(drops.load(Ordering::Relaxed), 1, "the reader may still look at it");
    drop(reader);
    assert_eq!(drops.load(Ordering::Relaxed), 2);
}

#[test]
fn a_cell_keeps_what_a_reader_holds() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (mut writer, mut reader) = one();
    let cell = Cell::new(&writer, Counted(Arc::clone(&drops), 1));
    let held = cell.read(&reader);
    cell.publish(&mut writer, Counted(Arc::clone(&drops), 2));
    writer.advance();
    writer.reclaim();
    assert_eq!((held.1, cell.read(&reader).1, cell.get(&writer).1), (1, 2, 2));
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    reader.quiescent();
    writer.reclaim();
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    drop(cell);
    assert_eq!(drops.load(Ordering::Relaxed), 2);
}

#[test]
fn slots_end_at_their_limit() {
    let (mut writer, reader) = one();
    let slots = Slots::new(&writer, 100);
    assert_eq!(slots.set(&mut writer, 99, 1), Ok(false));
    assert_eq!(slots.set(&mut writer, 100, 1), Err(BeyondLimit { index: 100, limit: 100 }));
    assert_eq!(slots.view(&reader).get(u32::MAX), None);
    assert!(!slots.clear(&mut writer, u32::MAX));
    assert_eq!(slots.view(&reader).get(99), Some(&1));
}

proptest! {
    #[test]
    fn slots_agree_with_a_hash_map(
        ops in proptest::collection::vec((0..5000u32, proptest::option::of(any::<u32>())), 0..300),
    ) {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut writer, mut reader) = one();
        let slots = Slots::new(&writer, 5000);
        let mut model = HashMap::new();
        let mut made = 0;
        for (index, value) in ops {
            match value {
                Some(value) => {
                    made += 1;
                    let was = slots.set(&mut writer, index, Counted(Arc::clone(&drops), value)).unwrap();
                    assert_eq!(was, model.insert(index, value).is_some());
                }
                None => assert_eq!(slots.clear(&mut writer, index), model.remove(&index).is_some()),
            }
            reader.quiescent();
        }
        for index in 0..5000 {
            assert_eq!(slots.view(&reader).get(index).map(|c| c.1), model.get(&index).copied());
            assert_eq!(slots.get(&writer, index).map(|c| c.1), model.get(&index).copied());
        }
        writer.advance();
        reader.quiescent();
        writer.reclaim();
        assert_eq!(drops.load(Ordering::Relaxed), made - model.len());
        drop(slots);
        assert_eq!(drops.load(Ordering::Relaxed), made, "each value is dropped once");
    }
}

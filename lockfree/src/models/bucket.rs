//! A reader that looks into the first and then the second bucket finds the key that moves between them, and
//! never takes the value of another.

use super::explore;
use crate::epoch::domain;
use crate::map64::bucket::{Bucket, EMPTY, SLOTS};
use loom::{sync::Arc, thread};

const X: u64 = 11;
const Y: u64 = 22;
const VALUE_OF_X: u64 = 0xaaaa;
const VALUE_OF_Y: u64 = 0xbbbb;

/// What a lookup does.
fn find_value(first: &Bucket, second: &Bucket, key: u64) -> Option<u64> {
    let (value, found) = first.probe(key);
    let (value, found) = if found { (value, true) } else { second.probe(key) };
    found.then_some(value)
}

#[test]
fn a_moved_key_is_found_after_its_slot_is_refilled() {
    explore(3, || {
        let pair = Arc::new((Bucket::new(), Bucket::new()));
        pair.0.fill(1, X, VALUE_OF_X);
        let reading = thread::spawn({
            let pair = Arc::clone(&pair);
            move || {
                assert_eq!(find_value(&pair.0, &pair.1, X), Some(VALUE_OF_X));
                assert!([None, Some(VALUE_OF_Y)].contains(&find_value(&pair.0, &pair.1, Y)));
            }
        });
        pair.1.fill(2, X, VALUE_OF_X);
        pair.0.refill(1, Y, VALUE_OF_Y);
        reading.join().unwrap();
    });
}

#[test]
fn a_slot_is_not_reused_under_a_reader() {
    explore(3, || {
        let (mut writer, mut parked) = domain(1);
        let pair = Arc::new((Bucket::new(), Bucket::new()));
        pair.0.fill(0, X, VALUE_OF_X);
        let mut reader = parked.pop().unwrap().online();
        let reading = thread::spawn({
            let pair = Arc::clone(&pair);
            move || {
                for _ in 0..2 {
                    let x = find_value(&pair.0, &pair.1, X);
                    assert!([None, Some(VALUE_OF_X), Some(VALUE_OF_X + 1)].contains(&x), "{x:x?}");
                    reader.quiescent();
                }
            }
        });
        // X is removed, Y takes its slot, Y is removed, X returns: only the grace periods keep a reader from taking
        // the value of Y for that of X.
        pair.0.empty(0);
        let rested = writer.advance();
        if writer.passed(rested) {
            pair.0.deferred_free(0);
            pair.0.fill(0, Y, VALUE_OF_Y);
            pair.0.refill(0, X, VALUE_OF_X + 1);
        }
        reading.join().unwrap();
    });
}

#[test]
fn a_value_is_updated_in_place() {
    explore(3, || {
        let pair = Arc::new((Bucket::new(), Bucket::new()));
        pair.0.fill(SLOTS - 1, X, 1);
        let reading = thread::spawn({
            let pair = Arc::clone(&pair);
            move || {
                let first = find_value(&pair.0, &pair.1, X).unwrap();
                let second = find_value(&pair.0, &pair.1, X).unwrap();
                assert!((1..=2).contains(&first) && second >= first, "{first} then {second}");
            }
        });
        pair.0.update(SLOTS - 1, 2);
        reading.join().unwrap();
        assert_eq!(pair.0.find(EMPTY), Some(0));
    });
}

/// The checker does notice: emptying before copying loses the key for a moment.
#[test]
#[should_panic(expected = "lost in the move")]
fn the_checker_finds_a_move_in_the_wrong_order() {
    explore(3, || {
        let pair = Arc::new((Bucket::new(), Bucket::new()));
        pair.0.fill(0, X, VALUE_OF_X);
        let reading = thread::spawn({
            let pair = Arc::clone(&pair);
            move || assert!(find_value(&pair.0, &pair.1, X).is_some(), "lost in the move")
        });
        pair.0.empty(0);
        pair.1.fill(0, X, VALUE_OF_X);
        reading.join().unwrap();
    });
}

/// The checker does notice: two refills without a grace period between them deceive the second look at the
/// key.
#[test]
#[should_panic(expected = "another key's value")]
fn the_checker_finds_a_second_refill_in_one_grace_period() {
    explore(3, || {
        let bucket = Arc::new(Bucket::new());
        bucket.fill(0, X, VALUE_OF_X);
        let reading = thread::spawn({
            let bucket = Arc::clone(&bucket);
            move || {
                let (value, found) = bucket.probe(X);
                assert!(!found || value != VALUE_OF_Y, "another key's value");
            }
        });
        bucket.refill(0, Y, VALUE_OF_Y);
        bucket.refill(0, X, VALUE_OF_X + 1);
        reading.join().unwrap();
    });
}

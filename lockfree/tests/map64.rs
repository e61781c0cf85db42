//! The 64-bit map against a plain hash map.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use proptest::{collection::vec, prelude::*};
use std::collections::HashMap;
use stopover_lockfree::{
    epoch::{Reader, Writer, domain},
    map64::{self, BURST, MapError, MapReader, MapWriter},
};

struct Bench {
    writer: Writer,
    reader: Reader,
    map: MapWriter,
    lookups: MapReader,
    model: HashMap<u64, u64>,
}

impl Bench {
    fn new(limit: usize) -> Self {
        let (writer, mut parked) = domain(1);
        let (map, lookups) = map64::new(&writer, limit).unwrap();
        let reader = parked.pop().unwrap().online();
        Self { writer, reader, map, lookups, model: HashMap::new() }
    }

    fn insert(&mut self, key: u64, value: u64) {
        let old = self.map.insert(&mut self.writer, key, value).unwrap();
        assert_eq!(old, self.model.insert(key, value), "insert of {key}");
    }

    fn remove(&mut self, key: u64) {
        assert_eq!(self.map.remove(&mut self.writer, key), self.model.remove(&key), "remove of {key}");
    }

    /// Lets everything wait out its grace period.
    fn settle(&mut self) {
        self.writer.advance();
        self.reader.quiescent();
        self.writer.reclaim();
        self.map.maintain(&mut self.writer);
    }

    /// Both halves agree with the model on every key there and on `others`.
    fn check(&self, others: impl IntoIterator<Item = u64>) {
        assert_eq!(self.map.len(), self.model.len());
        assert_eq!(self.map.iter().collect::<HashMap<_, _>>(), self.model);
        let mut keys: Vec<u64> = self.model.keys().copied().collect();
        keys.extend(others);
        let mut values = [0; BURST];
        for burst in keys.chunks(BURST) {
            let found = self.lookups.lookup_burst(&self.reader, burst, &mut values);
            for (i, key) in burst.iter().enumerate() {
                let expected = self.model.get(key).copied();
                assert_eq!((found >> i & 1 == 1).then_some(values[i]), expected, "burst, key {key}");
                assert_eq!(self.lookups.get(&self.reader, *key), expected, "single, key {key}");
                assert_eq!(self.map.get(*key), expected, "writer, key {key}");
            }
            assert_eq!(found.checked_shr(burst.len() as u32).unwrap_or(0), 0, "bits beyond the burst");
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u64, u64),
    Update(u64, u64),
    Remove(u64),
    /// Keep the keys that leave this rest.
    Retain(u64),
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    // Few keys, so that operations meet; spread over the word, as network index and MAC are.
    let key = (1..400u64).prop_map(|k| ((k % 7 + 1) << 48) | (k * 0x0001_0001));
    prop_oneof![
        8 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Op::Insert(k, v)),
        2 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Op::Update(k, v)),
        5 => key.prop_map(Op::Remove),
        1 => (0..3u64).prop_map(Op::Retain),
        1 => Just(Op::Settle),
    ]
}

/// Pieces of a map that changes between them.
#[test]
fn pieces_list_each_lasting_entry_once() {
    let stays = |k: &u64| k.is_multiple_of(3);
    let mut bench = Bench::new(1 << 20);
    for key in 1..=40_000 {
        bench.insert(key, key);
    }
    let (mut found, mut from, mut grown) = (Vec::new(), Some(0), 40_000);
    while let Some(at) = from {
        let piece = bench.map.piece(at, 500, |_| true);
        assert!(piece.rows.len() <= 501 && piece.scanned < 1 << 16);
        assert!(piece.rows.iter().all(|(key, value)| bench.model.get(key) == Some(value)));
        found.extend(piece.rows);
        from = piece.next;
        // First it grows sevenfold, then hardly anything is left.
        if grown < 300_000 {
            (grown + 1..=grown + 20_000).for_each(|key| bench.insert(key, key));
            grown += 20_000;
        } else {
            let kept = bench.map.retain(&mut bench.writer, |key, _| key <= 40_000 && stays(&key));
            bench.model.retain(|key, _| *key <= 40_000 && stays(key));
            assert!(kept == 0 || bench.map.len() == bench.model.len());
        }
        bench.settle();
    }
    let mut times = HashMap::new();
    found.iter().for_each(|(key, _)| *times.entry(*key).or_insert(0) += 1);
    assert!((1..=40_000).filter(stays).all(|key| times.get(&key) == Some(&1)));
    assert!(times.values().all(|n| *n == 1));
    assert_eq!(bench.map.piece(u64::MAX, 1, |_| true).next, None);
    assert!(bench.map.piece(0, 0, |_| true).rows.len() <= 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_agrees_with_a_hash_map(ops in vec(op(), 0..1500)) {
        let mut bench = Bench::new(usize::MAX);
        for op in ops {
            match op {
                Op::Insert(key, value) => bench.insert(key, value),
                Op::Update(key, value) => {
                    let expected = bench.model.get_mut(&key).map(|v| std::mem::replace(v, value));
                    assert_eq!(bench.map.update(&mut bench.writer, key, value), expected);
                }
                Op::Remove(key) => bench.remove(key),
                Op::Retain(rest) => {
                    let before = bench.model.len();
                    bench.model.retain(|k, _| k % 3 == rest);
                    let gone = bench.map.retain(&mut bench.writer, |k, _| k % 3 == rest);
                    assert_eq!(gone, before - bench.model.len());
                }
                Op::Settle => bench.settle(),
            }
        }
        bench.check([3, 5, u64::MAX - 1]);
    }

    /// Growth through many segments and back, with keys as they come in practice (consecutive) or at random.
    #[test]
    #[cfg_attr(miri, ignore)]
    fn grows_to_a_hundred_thousand_and_shrinks_again(
        count in 50_000..100_000u64,
        scatter in prop_oneof![Just(1u64), any::<u64>().prop_map(|s| s | 1)],
        settle_every in prop_oneof![Just(100u64), Just(1_000_000)],
    ) {
        let key = |i: u64| (i + 1).wrapping_mul(scatter) % (u64::MAX - 1) + 1;
        let mut bench = Bench::new(usize::MAX);
        for i in 0..count {
            if key(i) != u64::MAX {
                bench.insert(key(i), i);
            }
            if i % settle_every == 0 {
                bench.settle();
            }
        }
        bench.settle();
        bench.check((0..1000).map(|i| key(count + i)).filter(|&k| k != u64::MAX));
        let fill = bench.map.len() as f64 / bench.map.capacity() as f64;
        prop_assert!(fill > 0.6, "only {fill:.2} full at {count}");

        let large = bench.map.memory_bytes();
        for i in 0..count {
            if i % 1000 != 0 {
                bench.remove(key(i));
            }
            if i % settle_every == 0 {
                bench.settle();
            }
        }
        bench.settle();
        bench.check((0..1000).map(key));
        prop_assert!(bench.map.capacity() < bench.model.len() * 8 + 1024, "{:?}", bench.map);
        prop_assert!(bench.map.memory_bytes() <= large);
    }
}

#[test]
fn reserved_keys_are_refused_and_never_found() {
    let mut bench = Bench::new(usize::MAX);
    for key in 1..=20 {
        bench.insert(key, key);
    }
    for key in 1..=10 {
        bench.remove(key);
    }
    let mut values = [7; 4];
    // Tombs and empty slots are there to be mistaken for them.
    let found = bench.lookups.lookup_burst(&bench.reader, &[0, 11, u64::MAX, 12], &mut values);
    assert_eq!((found, values[1], values[3]), (0b1010, 11, 12));
    assert_eq!(bench.lookups.get(&bench.reader, 0), None);
    assert_eq!(bench.lookups.get(&bench.reader, u64::MAX), None);
    assert_eq!(bench.map.get(0), None);
    assert_eq!(bench.map.remove(&mut bench.writer, u64::MAX), None);
}

#[test]
#[cfg(not(debug_assertions))]
fn reserved_keys_are_not_inserted() {
    let mut bench = Bench::new(usize::MAX);
    for key in [0, u64::MAX] {
        assert_eq!(bench.map.insert(&mut bench.writer, key, 1), Err(MapError::ReservedKey));
    }
}

#[test]
fn the_limit_holds_for_new_keys_only() {
    let mut bench = Bench::new(3);
    for key in 1..=3 {
        bench.insert(key, key);
    }
    assert_eq!(bench.map.insert(&mut bench.writer, 4, 4), Err(MapError::Limit(3)));
    bench.insert(2, 20);
    bench.remove(1);
    bench.insert(4, 4);
    bench.check([1, 5]);
}

#[test]
fn a_burst_may_be_empty_or_full() {
    let mut bench = Bench::new(usize::MAX);
    for key in 1..=BURST as u64 {
        bench.insert(key, !key);
    }
    let keys: Vec<u64> = (1..=BURST as u64).collect();
    let mut values = [0; BURST];
    assert_eq!(bench.lookups.lookup_burst(&bench.reader, &keys, &mut values), u64::MAX);
    assert!(keys.iter().zip(values).all(|(k, v)| v == !k));
    assert_eq!(bench.lookups.lookup_burst(&bench.reader, &[], &mut []), 0);
}

#[test]
#[should_panic(expected = "another epoch domain")]
fn a_reader_of_another_domain_is_refused() {
    let bench = Bench::new(usize::MAX);
    let other = Bench::new(usize::MAX);
    let _ = bench.lookups.get(&other.reader, 1);
}

#[test]
fn churn_with_a_reader_that_never_passes_is_correct() {
    let mut bench = Bench::new(usize::MAX);
    for round in 0..40u64 {
        for key in 1..=500 {
            bench.insert(key + round * 17, round);
        }
        for key in 1..=450 {
            bench.remove(key + round * 17);
        }
    }
    bench.check(1..100);
    bench.settle();
    bench.check(1..100);
}

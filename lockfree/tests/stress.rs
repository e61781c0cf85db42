//! Readers that spin while the writer churns. Each value has its key and its version, so that a wrong, a
//! missing or an old answer shows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use stopover_lockfree::{
    cell::Cell,
    epoch::{Reader, Writer, domain},
    map_wide,
    map64::{self, BURST, MapWriter},
    slots::Slots,
};

const READERS: usize = 2;
const TIME: Duration = Duration::from_millis(600);

/// A small generator of numbers that look random (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Runs `read` over and over in [`READERS`] threads, with a quiescent point or a nap after each, while `write`
/// runs; returns how often `read` ran.
fn contend<S: Send>(
    readers: Vec<Reader>,
    state: impl Fn() -> S,
    read: impl Fn(&Reader, &mut S, &mut Dice) + Sync,
    write: impl FnOnce(),
) -> u64 {
    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    thread::scope(|scope| {
        for (number, mut reader) in readers.into_iter().enumerate() {
            let (stop, rounds, read) = (&stop, &rounds, &read);
            let mut state = state();
            scope.spawn(move || {
                let mut dice = Dice(0x9e37_79b9 + number as u64);
                while !stop.load(Ordering::Relaxed) {
                    read(&reader, &mut state, &mut dice);
                    rounds.fetch_add(1, Ordering::Relaxed);
                    if dice.roll().is_multiple_of(64) {
                        reader.park_during(thread::yield_now);
                    } else {
                        reader.quiescent();
                    }
                }
            });
        }
        // Also when `write` panics, or the readers would never end.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        write();
    });
    rounds.into_inner()
}

/// Keys that remain, and above them keys that are added and removed.
const STAY: u64 = 3000;
const COME_AND_GO: u64 = 60_000;

/// Waves: growth through all sizes, churn at each, and back to nearly nothing.
fn churn(writer: &mut Writer, map: &mut MapWriter) {
    let mut dice = Dice(1);
    let mut version = 0;
    let end = Instant::now() + TIME;
    for wave in (1..).take_while(|_| Instant::now() < end) {
        for _ in 0..60_000 {
            let key = dice.roll() % COME_AND_GO + STAY + 1;
            version += 1;
            if dice.roll() % 4 < if wave % 4 < 2 { 3 } else { 1 } {
                map.insert(writer, key, key << 32 | version & 0xffff_ffff).unwrap();
            } else {
                map.remove(writer, key);
            }
            if version % 4 == 0 {
                let stays = dice.roll() % STAY + 1;
                map.update(writer, stays, stays << 32 | version).unwrap();
            }
            if version % 32 == 0 {
                writer.advance();
                writer.reclaim();
            }
        }
        if wave % 4 == 3 {
            map.retain(writer, |key, _| key <= STAY);
            assert_eq!(map.len(), STAY as usize);
        }
    }
}

#[test]
fn readers_of_the_map_always_find_lasting_keys() {
    let (mut writer, parked) = domain(READERS);
    let (mut map, lookups) = map64::new(&writer, usize::MAX).unwrap();
    for key in 1..=STAY {
        map.insert(&mut writer, key, key << 32).unwrap();
    }
    let readers = parked.into_iter().map(|p| p.online()).collect();
    let rounds = contend(
        readers,
        || vec![0u64; STAY as usize + 1],
        |reader, newest, dice| {
            let keys: [u64; BURST] = std::array::from_fn(|i| match i % 3 {
                0 => dice.roll() % COME_AND_GO + STAY + 1,
                _ => dice.roll() % STAY + 1,
            });
            let mut values = [0; BURST];
            let found = lookups.lookup_burst(reader, &keys, &mut values);
            for (i, (&key, &value)) in keys.iter().zip(&values).enumerate() {
                let hit = found >> i & 1 == 1;
                assert!(hit || key > STAY, "key {key} was lost");
                assert!(!hit || value >> 32 == key, "key {key} got the value of {}", value >> 32);
                if key <= STAY {
                    let newest = &mut newest[key as usize];
                    assert!(value >= *newest, "key {key} is older than before");
                    *newest = value;
                }
            }
            let key = dice.roll() % STAY + 1;
            assert_eq!(lookups.get(reader, key).map(|v| v >> 32), Some(key));
        },
        || churn(&mut writer, &mut map),
    );
    assert!(rounds > 0, "the readers never ran");
}

#[test]
fn readers_of_the_wide_map_follow_chains_that_change() {
    const STAY: u64 = 40;
    let key = |n: u64| [n % 3, n, !n];
    let (mut writer, parked) = domain(READERS);
    let (mut map, lookups) = map_wide::with_hash_bits(&writer, 1000, 3).unwrap();
    for n in 0..STAY {
        map.insert(&mut writer, &key(n * 2), n * 2).unwrap();
    }
    let readers = parked.into_iter().map(|p| p.online()).collect();
    let rounds = contend(
        readers,
        || (),
        |reader, (), dice| {
            let n = dice.roll() % (STAY * 2);
            let got = lookups.get(reader, &key(n)).map(|v| v % 1000);
            assert!(got == Some(n) || got.is_none() && n % 2 == 1, "key {n}: {got:?}");
        },
        || {
            let mut dice = Dice(2);
            let end = Instant::now() + TIME / 2;
            for turn in (0u64..).take_while(|t| t % 64 != 0 || Instant::now() < end) {
                let n = (dice.roll() % (STAY * 2)) | 1;
                if dice.roll().is_multiple_of(2) {
                    map.insert(&mut writer, &key(n), n + 1000 * turn).unwrap();
                } else {
                    map.remove(&mut writer, &key(n));
                }
                map.update(&mut writer, &key(n ^ 1), (n ^ 1) + 1000 * turn).unwrap();
                if turn % 16 == 0 {
                    writer.advance();
                    map.maintain(&mut writer);
                    writer.reclaim();
                }
            }
        },
    );
    assert!(rounds > 0, "the readers never ran");
}

/// Panics if it is read after its end.
struct Canary {
    alive: AtomicBool,
    number: u64,
}

impl Canary {
    fn new(number: u64) -> Self {
        Self { alive: AtomicBool::new(true), number }
    }

    fn look(&self) -> u64 {
        assert!(self.alive.load(Ordering::Relaxed), "read after it was freed");
        self.number
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.alive.store(false, Ordering::Relaxed);
    }
}

#[test]
fn readers_of_cells_and_slots_hold_only_the_living() {
    let (mut writer, parked) = domain(READERS);
    let cell = Arc::new(Cell::new(&writer, Canary::new(0)));
    let slots = Arc::new(Slots::<Canary>::new(&writer, 1000));
    let readers = parked.into_iter().map(|p| p.online()).collect();
    let rounds = contend(
        readers,
        HashMap::<u32, u64>::new,
        |reader, newest, dice| {
            let index = (dice.roll() % 1000) as u32;
            let (held, seen) = (cell.read(reader), slots.view(reader).get(index));
            for _ in 0..20 {
                held.look();
                if let Some(seen) = seen {
                    let newest = newest.entry(index).or_default();
                    assert!(seen.look() >= *newest, "slot {index} is older than before");
                    *newest = seen.number;
                }
            }
        },
        || {
            let mut dice = Dice(3);
            let end = Instant::now() + TIME / 2;
            for turn in (1u64..).take_while(|t| t % 64 != 0 || Instant::now() < end) {
                let index = (dice.roll() % 1000) as u32;
                if dice.roll().is_multiple_of(4) {
                    slots.clear(&mut writer, index);
                } else {
                    slots.set(&mut writer, index, Canary::new(turn)).unwrap();
                }
                cell.publish(&mut writer, Canary::new(turn));
                writer.advance();
                writer.reclaim();
            }
        },
    );
    assert!(rounds > 0, "the readers never ran");
}

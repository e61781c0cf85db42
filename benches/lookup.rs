//! Looking up: a burst of destinations at once in tables of several sizes, as the candidates for the fast table do
//! it, one address as ARP asks for it, and changes. Keys come in random order from the whole table, not from a few
//! that the caches keep.
//!
//! The candidates beside ours: hashbrown, as a left-right map would read it (one lookup after another, no prefetch
//! in its interface), with the keys hashed as foldhash does it and inline values.

#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

mod common;

use common::{BURST, address};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use stopover::tables::{
    Tables, View,
    words::{Net, node_key},
};
use stopover_config::net::{Mac, Vni};

struct Filled {
    tables: Tables,
    view: View,
    net: Net,
}

/// Station number `n`: consecutive numbers, as they are given out.
fn station(n: u32) -> Mac {
    Mac::from_u64(0x5254_0000_0000 | u64::from(n))
}

fn filled(nodes: u32) -> Filled {
    let (mut tables, views) = Tables::new(1).unwrap();
    let net = tables.net(Vni::new(100).unwrap()).unwrap();
    for n in 0..nodes {
        tables.set_remote(net, station(n), n % 100).unwrap();
        tables.set_owner(net, address(n), station(n)).unwrap();
    }
    tables.publish();
    Filled { tables, view: views.into_iter().next().unwrap().online(), net }
}

/// Numbers from 0 to `nodes` in no guessable order, each as likely at any time (xorshift64*, Vigna 2016).
struct Random {
    state: u64,
    nodes: u32,
}

impl Random {
    fn next(&mut self) -> u32 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let upper = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((upper * u64::from(self.nodes)) >> 32) as u32
    }
}

/// A number that takes some 30 cycles to make.
fn work(random: &mut Random) -> u32 {
    for _ in 0..3 {
        black_box(random.next());
    }
    random.next()
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    for nodes in [1_000, 100_000, 1_000_000, 10_000_000] {
        let Filled { mut tables, mut view, net } = filled(nodes);
        let mut random = Random { state: 88_172_645_463_325_252, nodes };
        let mut keys = [0; BURST];
        let mut words = [0; BURST];
        group.throughput(Throughput::Elements(BURST as u64));
        group.bench_function(BenchmarkId::new("keys_only", nodes), |b| {
            b.iter(|| {
                for key in &mut keys {
                    *key = node_key(net, station(random.next()));
                }
                black_box(&keys);
            });
        });
        group.bench_function(BenchmarkId::new("burst", nodes), |b| {
            b.iter(|| {
                for key in &mut keys {
                    *key = node_key(net, station(random.next()));
                }
                view.places(&keys, &mut words);
                black_box(&words);
            });
        });
        // With other work between the keys, as the reading of frames is: done before the lookup, and meanwhile.
        group.bench_function(BenchmarkId::new("work_then_burst", nodes), |b| {
            b.iter(|| {
                for key in &mut keys {
                    *key = node_key(net, station(work(&mut random)));
                }
                view.places(&keys, &mut words);
                black_box(&words);
            });
        });
        group.bench_function(BenchmarkId::new("burst_at_work", nodes), |b| {
            b.iter(|| {
                let mut places = view.begin_places();
                places.keys_of(0..BURST, &mut keys, |_| node_key(net, station(work(&mut random))));
                places.finish(&keys, &mut words);
                black_box(&words);
            });
        });
        group.bench_function(BenchmarkId::new("burst_missing", nodes), |b| {
            b.iter(|| {
                for key in &mut keys {
                    *key = node_key(net, station(random.next())) ^ 1 << 36;
                }
                view.places(&keys, &mut words);
                black_box(&words);
            });
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("owner", nodes), |b| {
            b.iter(|| black_box(view.owner(net, address(random.next()))));
        });
        group.bench_function(BenchmarkId::new("update", nodes), |b| {
            b.iter(|| {
                let n = random.next();
                tables.set_remote(net, station(n), n % 77).unwrap();
            });
        });
        view.quiescent();
        tables.publish();
        drop((tables, view));

        let map: hashbrown::HashMap<u64, u64> =
            (0..nodes).map(|n| (node_key(net, station(n)), u64::from(n))).collect();
        group.throughput(Throughput::Elements(BURST as u64));
        group.bench_function(BenchmarkId::new("hashbrown", nodes), |b| {
            b.iter(|| {
                for word in &mut words {
                    let key = node_key(net, station(random.next()));
                    *word = map.get(&key).copied().unwrap_or(0);
                }
                black_box(&words);
            });
        });
    }
    group.finish();
}

/// The readers' cost of changes: bursts while another thread moves nodes between hosts, so many times a second, and
/// publishes every millisecond as the control thread does. Compare with the one change a second: the other thread
/// spins then as well, and its CPU may share a core with ours.
fn storm(c: &mut Criterion) {
    let mut group = c.benchmark_group("storm");
    group.throughput(Throughput::Elements(BURST as u64));
    for nodes in [1_000, 1_000_000] {
        let Filled { mut tables, mut view, net } = filled(nodes);
        for (name, per_second) in [("1", 1), ("1e5", 100_000), ("1e6", 1_000_000), ("1_again", 1)] {
            let stop = Arc::new(AtomicBool::new(false));
            let writer = {
                let stop = Arc::clone(&stop);
                thread::spawn(move || {
                    let mut random = Random { state: 0x9e37_79b9_7f4a_7c15, nodes };
                    let (began, mut done, mut published) = (Instant::now(), 0u64, Instant::now());
                    while !stop.load(Relaxed) {
                        if began.elapsed().as_nanos() as u64 * per_second / 1_000_000_000 <= done {
                            std::hint::spin_loop();
                            continue;
                        }
                        tables.set_remote(net, station(random.next()), done as u32 % 77).unwrap();
                        done += 1;
                        if published.elapsed() >= Duration::from_millis(1) {
                            published = Instant::now();
                            tables.publish();
                        }
                    }
                    (tables, done as f64 / began.elapsed().as_secs_f64())
                })
            };
            let mut random = Random { state: 88_172_645_463_325_252, nodes };
            let (mut keys, mut words) = ([0; BURST], [0; BURST]);
            group.bench_function(BenchmarkId::new(format!("{nodes}_nodes"), name), |b| {
                b.iter(|| {
                    for key in &mut keys {
                        *key = node_key(net, station(random.next()));
                    }
                    view.places(&keys, &mut words);
                    view.quiescent();
                    black_box(&words);
                });
            });
            stop.store(true, Relaxed);
            let reached;
            (tables, reached) = writer.join().unwrap();
            if per_second > 1 && reached < per_second as f64 * 0.95 {
                println!("only {reached:.0} of {per_second} changes a second were made");
            }
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = lookup, storm }
criterion_main!(benches);

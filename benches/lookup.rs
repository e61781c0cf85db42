//! Lookups in our tables of several sizes: a burst of destinations, before and during other work, and one address as
//! for ARP; and changes. Keys are in random order from the whole table, so that caches do not have them. It also
//! prints the memory per node. `storm.rs` has lookups during changes.

#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

mod common;

use common::{
    BURST, address,
    tables::{Filled, Keys, Random, filled, slot, station},
};
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use std::hint::black_box;
use stopover::tables::{
    Tables, View,
    packed::{Bd, node_key},
    peer::IsolationClass,
};

/// A number that takes about 30 cycles.
fn work(random: &mut Random) -> u32 {
    for _ in 0..3 {
        black_box(random.next());
    }
    random.next()
}

/// Bursts of lookups: keys alone, keys that are looked up, before or while other work is done, and keys of no node.
fn bursts(
    group: &mut BenchmarkGroup<'_, WallTime>,
    (nodes, bd): (u32, Bd),
    view: &View,
    random: &mut Random,
) {
    let mut keys = [0; BURST];
    let mut words = [0; BURST];
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function(BenchmarkId::new("keys_only", nodes), |b| {
        b.iter(|| {
            for key in &mut keys {
                *key = node_key(bd, station(random.next()));
            }
            black_box(&keys);
        });
    });
    group.bench_function(BenchmarkId::new("burst", nodes), |b| {
        b.iter(|| {
            for key in &mut keys {
                *key = node_key(bd, station(random.next()));
            }
            view.lookup_nodes(&keys, &mut words);
            black_box(&words);
        });
    });
    // With other work for each key, such as parsing: before the lookup, and during it.
    group.bench_function(BenchmarkId::new("work_then_burst", nodes), |b| {
        b.iter(|| {
            for key in &mut keys {
                *key = node_key(bd, station(work(random)));
            }
            view.lookup_nodes(&keys, &mut words);
            black_box(&words);
        });
    });
    group.bench_function(BenchmarkId::new("burst_at_work", nodes), |b| {
        b.iter(|| {
            let mut places = view.begin_lookup();
            places.keys_of(0..BURST, &mut keys, |_| node_key(bd, station(work(random))));
            places.finish(&keys, &mut words);
            black_box(&words);
        });
    });
    group.bench_function(BenchmarkId::new("burst_missing", nodes), |b| {
        b.iter(|| {
            for key in &mut keys {
                *key = node_key(bd, station(random.next())) ^ 1 << 36;
            }
            view.lookup_nodes(&keys, &mut words);
            black_box(&words);
        });
    });
}

fn lookup(c: &mut Criterion) {
    let empty = Tables::new(1).map_or(0, |(tables, _)| tables.memory_bytes());
    let mut group = c.benchmark_group("lookup");
    for nodes in [1_000, 100_000, 1_000_000, 10_000_000] {
        let (table, mut view) = filled(nodes);
        let bytes = (table.tables.memory_bytes() - empty) as f64 / f64::from(nodes);
        println!("{bytes:.1} bytes for each of {nodes} nodes");
        let Filled { mut tables, bd } = table.with_addresses(nodes);
        Keys::new(bd, nodes).check(&mut view);
        let mut random = Random::new(nodes);
        bursts(&mut group, (nodes, bd), &view, &mut random);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("owner", nodes), |b| {
            b.iter(|| black_box(view.owner(bd, address(random.next()))));
        });
        group.bench_function(BenchmarkId::new("update", nodes), |b| {
            b.iter(|| {
                let n = random.next();
                tables.set_remote(bd, station(n), slot(n % 77), IsolationClass::default()).unwrap();
            });
        });
        view.quiescent();
        tables.publish();
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = lookup }
criterion_main!(benches);

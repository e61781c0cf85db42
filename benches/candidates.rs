//! The candidates for the fast table, at rest: bursts of 32 keys, drawn at random out of all, in tables of several
//! sizes; and the memory of each. Ours is among them, so that all are measured in one run. `keys_only` is what
//! drawing the keys costs, which is in all the others.
//!
//! rte_hash wants root and huge pages, some 450 MiB of them for ten million keys, and is left out without.

#![allow(missing_docs, reason = "criterion's macros")]

mod common;

use common::{
    BURST,
    tables::{self, Hashed, Keys, Reader},
};
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use std::hint::black_box;
use stopover::tables::Tables;

fn measure(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    nodes: u32,
    burst: &mut Keys,
    mut reader: impl Reader,
) {
    burst.check(&mut reader);
    group.bench_function(BenchmarkId::new(name, nodes), |b| b.iter(|| burst.run(&mut reader)));
}

fn memory(name: &str, nodes: u32, bytes: usize) {
    println!("{name}: {:.1} bytes for each of {nodes} keys", bytes as f64 / f64::from(nodes));
}

fn candidates(c: &mut Criterion) {
    let dpdk = tables::dpdk();
    let empty = Tables::new(1).map_or(0, |(tables, _)| tables.memory_bytes());
    let mut group = c.benchmark_group("candidates");
    group.throughput(Throughput::Elements(BURST as u64));
    for nodes in [1_000, 100_000, 1_000_000, 10_000_000] {
        let (ours, view) = tables::ours(nodes);
        let net = ours.net;
        let burst = &mut Keys::new(net, nodes);
        group.bench_function(BenchmarkId::new("keys_only", nodes), |b| {
            b.iter(|| {
                burst.draw();
                black_box(&burst.keys);
            });
        });
        measure(&mut group, "ours", nodes, burst, view);
        memory("ours", nodes, ours.tables.memory_bytes() - empty);
        drop(ours);

        let map = tables::unchanging(net, nodes);
        measure(&mut group, "hashbrown_unchanging", nodes, burst, map);

        let (writer, reader) = tables::mirrored(net, nodes);
        measure(&mut group, "hashbrown_left_right", nodes, burst, reader);
        memory("hashbrown_left_right", nodes, writer.0.memory_bytes());
        drop(writer);

        if let Some(dpdk) = dpdk {
            let before = dpdk.heap_bytes();
            let (writer, reader) = tables::rte_hash(dpdk, net, nodes);
            memory("rte_hash", nodes, (dpdk.heap_bytes() - before) as usize);
            measure(&mut group, "rte_hash", nodes, burst, reader.clone());
            measure(&mut group, "rte_hash_hashed", nodes, burst, Hashed(reader));
            drop(writer);
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = candidates }
criterion_main!(benches);

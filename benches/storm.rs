//! The candidates for the fast table while it is being rewritten: bursts while another thread moves nodes between
//! hosts, so many times a second, and publishes every millisecond as the control thread does. Compare with the one
//! change a second: the other thread spins then as well, and its CPU may share a core with ours. Wants two CPUs.

#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

mod common;

use common::{
    BURST,
    tables::{self, Hashed, Keys, Random, Reader, Writer},
};
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Changes a second, by name.
const STORMS: [(&str, u64); 4] = [("1", 1), ("1e5", 100_000), ("1e6", 1_000_000), ("1_again", 1)];
const PUBLISHED_EVERY: Duration = Duration::from_millis(1);

/// Moves nodes until told to stop. Returns the table, and how many it moved each second.
fn rewrite<W: Writer>(mut writer: W, nodes: u32, per_second: u64, stop: &AtomicBool) -> (W, f64) {
    let mut random = Random::other(nodes);
    let (began, mut done, mut published) = (Instant::now(), 0u64, Instant::now());
    while !stop.load(Relaxed) {
        if began.elapsed().as_nanos() as u64 * per_second / 1_000_000_000 <= done {
            hint::spin_loop();
            continue;
        }
        writer.set(random.next(), done as u32 % 77);
        done += 1;
        if published.elapsed() >= PUBLISHED_EVERY {
            published = Instant::now();
            writer.publish();
        }
    }
    (writer, done as f64 / began.elapsed().as_secs_f64())
}

fn measure<W: Writer>(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    nodes: u32,
    burst: &mut Keys,
    (mut writer, mut reader): (W, impl Reader),
) {
    burst.check(&mut reader);
    for (storm, per_second) in STORMS {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || rewrite(writer, nodes, per_second, &stop))
        };
        let id = BenchmarkId::new(format!("{name}/{nodes}_nodes"), storm);
        group.bench_function(id, |b| b.iter(|| burst.run(&mut reader)));
        stop.store(true, Relaxed);
        let reached;
        (writer, reached) = thread.join().unwrap();
        if per_second > 1 && reached < per_second as f64 * 0.95 {
            println!("{name}: only {reached:.0} of {per_second} changes a second were made");
        }
    }
}

fn storm(c: &mut Criterion) {
    let dpdk = tables::dpdk();
    let mut group = c.benchmark_group("storm");
    group.throughput(Throughput::Elements(BURST as u64));
    for nodes in [1_000, 1_000_000] {
        let ours = tables::ours(nodes);
        let net = ours.0.net;
        let burst = &mut Keys::new(net, nodes);
        measure(&mut group, "ours", nodes, burst, ours);
        measure(&mut group, "hashbrown_left_right", nodes, burst, tables::mirrored(net, nodes));
        if let Some(dpdk) = dpdk {
            let (writer, reader) = tables::rte_hash(dpdk, net, nodes);
            measure(&mut group, "rte_hash_hashed", nodes, burst, (writer, Hashed(reader)));
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = storm }
criterion_main!(benches);

//! Lookups while another thread moves nodes between hosts at some rate, and publishes every millisecond as the
//! control thread does. Compare with one change a second: the other thread spins then as well, and its CPU may share
//! a core with this one. Needs two CPUs.

#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

mod common;

use common::{
    BURST,
    tables::{Filled, Keys, Random, filled, slot, station},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use stopover::tables::peer::IsolationClass;

/// Changes a second, by name.
const STORMS: [(&str, u64); 4] = [("1", 1), ("1e5", 100_000), ("1e6", 1_000_000), ("1_again", 1)];
const PUBLISHED_EVERY: Duration = Duration::from_millis(1);

/// Moves nodes until stopped. Returns the tables, and how many nodes it moved each second.
fn rewrite(mut table: Filled, nodes: u32, per_second: u64, stop: &AtomicBool) -> (Filled, f64) {
    let mut random = Random::other(nodes);
    let (began, mut done, mut published) = (Instant::now(), 0u64, Instant::now());
    while !stop.load(Relaxed) {
        if began.elapsed().as_nanos() as u64 * per_second / 1_000_000_000 <= done {
            hint::spin_loop();
            continue;
        }
        let slot = slot(done as u32 % 77);
        table.tables.set_remote(table.bd, station(random.next()), slot, IsolationClass::default()).unwrap();
        done += 1;
        if published.elapsed() >= PUBLISHED_EVERY {
            published = Instant::now();
            table.tables.publish();
        }
    }
    (table, done as f64 / began.elapsed().as_secs_f64())
}

fn storm(c: &mut Criterion) {
    let mut group = c.benchmark_group("storm");
    group.throughput(Throughput::Elements(BURST as u64));
    for nodes in [1_000, 1_000_000] {
        let (mut table, mut view) = filled(nodes);
        let mut burst = Keys::new(table.bd, nodes);
        burst.check(&mut view);
        for (storm, per_second) in STORMS {
            let stop = Arc::new(AtomicBool::new(false));
            let thread = {
                let stop = Arc::clone(&stop);
                thread::spawn(move || rewrite(table, nodes, per_second, &stop))
            };
            let id = BenchmarkId::new(format!("{nodes}_nodes"), storm);
            group.bench_function(id, |b| b.iter(|| burst.run(&mut view)));
            stop.store(true, Relaxed);
            let reached;
            (table, reached) = thread.join().unwrap();
            if per_second > 1 && reached < per_second as f64 * 0.95 {
                println!("{nodes} nodes: only {reached:.0} of {per_second} changes a second were made");
            }
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = storm }
criterion_main!(benches);

//! Looking up: a burst of destinations at once in tables of several sizes, one address as ARP asks for it, and
//! a burst while the writer changes what is read.

#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

mod common;

use common::{BURST, address, remote};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use stopover::tables::{
    Tables, View,
    words::{Net, node_key},
};
use stopover_config::net::Vni;

struct Filled {
    tables: Tables,
    view: View,
    net: Net,
}

fn filled(nodes: u32) -> Filled {
    let (mut tables, views) = Tables::new(1).unwrap();
    let net = tables.net(Vni::new(100).unwrap()).unwrap();
    for n in 0..nodes {
        tables.set_remote(net, remote(n), n % 100).unwrap();
        tables.set_owner(net, address(n), remote(n)).unwrap();
    }
    tables.publish();
    Filled { tables, view: views.into_iter().next().unwrap().online(), net }
}

/// A walk over 0 to `nodes` in no guessable order.
fn next(n: u32, nodes: u32) -> u32 {
    n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) % nodes
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    for nodes in [1_000, 100_000, 1_000_000] {
        let Filled { mut tables, mut view, net } = filled(nodes);
        let mut n = 1;
        let mut keys = [0; BURST];
        let mut words = [0; BURST];
        group.throughput(Throughput::Elements(BURST as u64));
        group.bench_function(BenchmarkId::new("burst", nodes), |b| {
            b.iter(|| {
                for key in &mut keys {
                    n = next(n, nodes);
                    *key = node_key(net, remote(n));
                }
                view.places(&keys, &mut words);
                black_box(&words);
            });
        });
        group.bench_function(BenchmarkId::new("burst_missing", nodes), |b| {
            b.iter(|| {
                for key in &mut keys {
                    n = next(n, nodes);
                    *key = node_key(net, remote(n)) ^ 1 << 40;
                }
                view.places(&keys, &mut words);
                black_box(&words);
            });
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("owner", nodes), |b| {
            b.iter(|| {
                n = next(n, nodes);
                black_box(view.owner(net, address(n)))
            });
        });
        group.bench_function(BenchmarkId::new("update", nodes), |b| {
            b.iter(|| {
                n = next(n, nodes);
                tables.set_remote(net, remote(n), n % 77).unwrap();
                view.quiescent();
                tables.publish()
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = lookup }
criterion_main!(benches);

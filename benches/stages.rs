//! Single stages with a cost of their own: guard, tags, outer headers, checksums. Per frame, in buffers that no cache
//! has.

#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up ends")]

mod common;

use common::{Arena, TRUNK, VM, World, golden, remote};
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use std::hint::black_box;
use stopover::pipeline::{guard, packet::Packet, ports::Role, vlan};
use stopover::tables::peer::Peer;
use stopover_net::Vni;
use stopover_net::{frame, l4_checksum};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn stages(c: &mut Criterion) {
    let mut group = c.benchmark_group("stages");
    group.throughput(Throughput::Elements(1));
    guards(&mut group);
    headers(&mut group);
    let mut arena = Arena::new(|n| {
        let mut frame = golden("tcp4");
        frame[..6].copy_from_slice(&remote(n % common::NODES).octets());
        frame
    });
    group.bench_function("touch_only", |b| {
        b.iter(|| {
            let buffer = arena.take();
            black_box(buffer.head()[0]);
            arena.put_back(buffer);
        });
    });
    group.finish();
}

fn guards(group: &mut Group<'_>) {
    let world = World::new(false);
    let Role::Vif(vif) = &world.ports[usize::from(VM)].role else { panic!("a vif") };
    for name in ["tcp4", "tcp6", "arp_request"] {
        let frame = golden(name);
        let mut arena = Arena::new(|_| frame.clone());
        group.bench_function(format!("guard/{name}"), |b| {
            b.iter(|| {
                let bytes = arena.peek();
                let frame = frame::parse(bytes, bytes.len()).unwrap();
                black_box(
                    guard::check_addresses(&frame)
                        .and_then(|()| guard::check_vif(vif, &frame, bytes).map(|_| ())),
                )
            });
        });
    }
}

/// Tags, outer headers and checksums.
fn headers(group: &mut Group<'_>) {
    let frame = golden("tcp4");
    let mut arena = Arena::new(|_| frame.clone());
    group.bench_function("tag_and_untag", |b| {
        b.iter(|| {
            let mut buffer = arena.take();
            assert!(vlan::push(&mut buffer, TRUNK, 0) && vlan::pop(&mut buffer));
            arena.put_back(buffer);
        });
    });
    let vni = Vni::new(100).unwrap();
    for (name, v6) in [("outer4", false), ("outer6_with_checksum", true)] {
        let world = World::new(v6);
        let template = &world.view.path_to(Peer::new(1)).unwrap().template;
        let mut header = [0; stopover_net::outer::MAX_LEN];
        group.bench_function(name, |b| {
            b.iter(|| {
                let bytes = arena.peek();
                template.outer.fill(&mut header, bytes.len(), vni, 50_000, template.tos.of(0xb8, 0)).unwrap();
                if v6 {
                    template.outer.seal(&mut header, std::iter::once(bytes));
                }
                black_box(&header);
            });
        });
    }
    group.bench_function("l4_checksum/tcp4", |b| {
        b.iter(|| {
            let bytes = arena.peek();
            let frame = frame::parse(bytes, bytes.len()).unwrap();
            black_box(l4_checksum::finish_l4(&frame, std::iter::once(bytes)))
        });
    });
}

criterion_group! { name = benches; config = common::criterion(); targets = stages }
criterion_main!(benches);

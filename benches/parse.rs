//! Parsing: tenant frames, tunnel datagrams, and the hash of a flow. Per frame, in buffers that no cache has.

#![allow(missing_docs, reason = "criterion's macros")]

mod common;

use common::{Arena, golden};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use stopover_net::{
    fast_parse::{self, Sender},
    flow, frame,
    underlay::{self, Expect},
};

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    for name in ["tcp4", "tcp6", "udp4", "arp_request", "tcp4_vlan"] {
        let frame = golden(name);
        let mut arena = Arena::new(|_| frame.clone());
        group.bench_function(format!("frame/{name}"), |b| {
            b.iter(|| {
                let bytes = arena.peek();
                black_box(frame::parse(bytes, bytes.len()))
            });
        });
    }
    let sender = Sender::from_mac(common::A);
    for name in ["tcp4", "udp4"] {
        let frame = golden(name);
        let mut arena = Arena::new(|_| frame.clone());
        group.bench_function(format!("fast_parse_sent/{name}"), |b| {
            b.iter(|| {
                let bytes = arena.peek();
                black_box(fast_parse::sent(bytes, bytes.len(), &sender))
            });
        });
    }
    let frame = golden("vxlan4");
    let mut arena = Arena::new(|_| frame.clone());
    group.bench_function("fast_parse_tunnel/vxlan4", |b| {
        b.iter(|| {
            let bytes = arena.peek();
            let tunnel = fast_parse::tunnel(bytes, bytes.len(), 4789);
            black_box((tunnel, bytes.get(fast_parse::TUNNEL_LEN..).and_then(fast_parse::received)))
        });
    });
    let frame = golden("tcp4");
    let mut arena = Arena::new(|_| frame.clone());
    group.bench_function("frame_and_flow/tcp4", |b| {
        b.iter(|| {
            let bytes = arena.peek();
            black_box(frame::parse(bytes, bytes.len()).map(|f| flow::source_port(flow::hash(&f))))
        });
    });
    let expect = Expect { vlan: None, udp_port: 4789 };
    for name in ["vxlan4", "vxlan6"] {
        let frame = golden(name);
        let mut arena = Arena::new(|_| frame.clone());
        group.bench_function(format!("underlay/{name}"), |b| {
            b.iter(|| {
                let bytes = arena.peek();
                black_box(underlay::parse(bytes, bytes.len(), &expect))
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = parse }
criterion_main!(benches);

//! Bursts of 32 through all stages, without a device: the best that a core can do. Divide the clock of the core by
//! the frames per second for the cycles of one frame.

#![allow(missing_docs, reason = "criterion's macros")]

mod common;

use common::{
    A, Arena, B, BURST, Buffer, C, D, NODES, SEGMENT, TRUNK, UNDERLAY, VM, World,
    frames::{around, from, inward, retag, tagged, two_vifs},
    remote,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stopover_net::Mac;

fn burst(c: &mut Criterion) {
    let mut group = c.benchmark_group("burst");
    group.throughput(Throughput::Elements(BURST as u64));
    let as_is: fn(&mut Buffer) = |_| {};
    let unfilled: fn(&mut Buffer) = |buffer| buffer.unfilled = true;
    let mut run =
        |name: &str, v6: bool, port: u16, frame: &dyn Fn(u32) -> Vec<u8>, change: fn(&mut Buffer)| {
            let mut world = World::new(v6);
            let mut arena = Arena::new(frame);
            group.bench_function(name, |b| b.iter(|| world.burst(port, &mut arena, change)));
        };
    let everywhere = |n| remote(n % NODES);
    run("vif_to_host_ipv4", false, VM, &from("tcp4", A, everywhere), as_is);
    run("vif_to_host_ipv6", true, VM, &from("tcp4", A, everywhere), as_is);
    run("vif_ipv6_to_host_ipv4", false, VM, &from("tcp6", A, everywhere), as_is);
    run("vif_to_host_ipv4_checksum_filled", false, VM, &from("tcp4", A, everywhere), unfilled);
    run("segment_to_host_ipv4", false, SEGMENT, &from("tcp4", C, everywhere), as_is);
    let from_trunk = |n| tagged(&from("tcp4", D, everywhere)(n));
    run("trunk_to_host_ipv4", false, TRUNK, &from_trunk, retag);
    run("vif_to_vif", false, VM, &from("tcp4", A, |_| B), as_is);
    run("vif_floods", false, VM, &from("tcp4", A, |_| Mac::BROADCAST), as_is);
    run("host_ipv4_to_vif", false, UNDERLAY, &inward("vxlan4", 50, |_| A), as_is);
    run("host_ipv4_to_two_vifs", false, UNDERLAY, &inward("vxlan4", 50, two_vifs), as_is);
    let of_ipv6 = |n| around(&from("tcp6", remote(n % NODES), |_| A)(n));
    run("host_ipv4_to_vif_ipv6", false, UNDERLAY, &of_ipv6, as_is);
    run("host_ipv6_to_vif", true, UNDERLAY, &inward("vxlan6", 70, |_| A), as_is);
    run("host_ipv6_to_two_vifs", true, UNDERLAY, &inward("vxlan6", 70, two_vifs), as_is);
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = burst }
criterion_main!(benches);

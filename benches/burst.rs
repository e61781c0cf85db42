//! The whole path of bursts of 32 through all stages, without a device: what a core can do at best. Divide
//! the core's clock by the frames per second for the cycles of one frame.

#![allow(missing_docs, reason = "criterion's macros")]

mod common;

use common::{A, Arena, B, BURST, Buffer, C, NODES, SEGMENT, UNDERLAY, VM, World, golden, remote};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stopover::wire::checksum::update16;
use stopover_config::net::Mac;

/// The golden frame from a station here to others.
fn from(src: Mac, dst: impl Fn(u32) -> Mac) -> impl Fn(u32) -> Vec<u8> {
    let golden = golden("tcp4");
    move |n| {
        let mut frame = golden.clone();
        frame[..6].copy_from_slice(&dst(n).octets());
        frame[6..12].copy_from_slice(&src.octets());
        frame
    }
}

/// The golden tunnel datagram, made as from a node at another host to a vif here.
fn inward(name: &'static str, outer_len: usize) -> impl Fn(u32) -> Vec<u8> {
    let golden = golden(name);
    move |n| {
        let mut frame = golden.clone();
        let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let dst = if n.is_multiple_of(2) { A } else { B };
        let macs = [dst.octets(), remote(n % NODES).octets()].concat();
        let sum_at = outer_len - 10;
        for (i, new) in macs.chunks_exact(2).enumerate() {
            let at = outer_len + 2 * i;
            let sum = update16(word(&frame, sum_at), word(&frame, at), word(new, 0));
            frame[at..at + 2].copy_from_slice(new);
            if word(&frame, sum_at) != 0 {
                frame[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
            }
        }
        frame
    }
}

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
    run("vif_to_host_ipv4", false, VM, &from(A, everywhere), as_is);
    run("vif_to_host_ipv6", true, VM, &from(A, everywhere), as_is);
    run("vif_to_host_ipv4_checksum_filled", false, VM, &from(A, everywhere), unfilled);
    run("segment_to_host_ipv4", false, SEGMENT, &from(C, everywhere), as_is);
    run("vif_to_vif", false, VM, &from(A, |_| B), as_is);
    run("vif_floods", false, VM, &from(A, |_| Mac::BROADCAST), as_is);
    run("host_ipv4_to_vif", false, UNDERLAY, &inward("vxlan4", 50), as_is);
    run("host_ipv6_to_vif", true, UNDERLAY, &inward("vxlan6", 70), as_is);
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = burst }
criterion_main!(benches);

//! The stages between parsing and sending, each alone and per frame: a burst of 32 with parsed headers, in buffers
//! that no cache has. Parsing, and returning sent buffers, is not included; freeing a dropped frame is. `burst.rs`
//! has the cost of ordinary frames on the fast path, where stages cannot be separated.

#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up ends")]

mod common;

use common::{
    A, Arena, BURST, BenchPipeline, Buffer, NODES, OTHER_VM, TRUNK, VM, World, address, golden, remote,
    tables::slot,
};
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use std::{
    hint::black_box,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};
use stopover::migration::record::{
    EndMarkerBarrier, MigrationCounters, MigrationRecord, RecordMode, RedirectTarget,
};
use stopover::pipeline::{PacketBurst, PacketCtx, encap::EncapMeta, packet::Packet, ports::Origin};
use stopover::tables::{
    packed::{FdbEntry, PackedFdbEntry, node_key},
    peer::Peer,
};
use stopover_net::{Mac, Vni};
use stopover_net::{checksum::update16, vxlan::OverlayFlags};

type Group<'c> = BenchmarkGroup<'c, WallTime>;

const AT_VM: Origin = Origin::Port { port: VM, vlan: 0 };
const FROM_HOST: Origin = Origin::Underlay { peer: Peer::new(1), hop: false, apart: 0 };

/// The setting of a measurement.
struct Setting {
    world: World,
    arena: Arena,
    origin: Origin,
    /// Writes the frame into the next buffer.
    change: Box<dyn FnMut(&mut Buffer)>,
}

/// The result of a burst.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    sent: usize,
    held: usize,
    dropped: u64,
}

const ALL_SENT: Outcome = Outcome { sent: BURST, held: 0, dropped: 0 };

impl Setting {
    fn new(world: World, origin: Origin, frame: impl Fn(u32) -> Vec<u8>) -> Self {
        Self { world, arena: Arena::new(frame), origin, change: Box::new(|_| {}) }
    }

    fn change(mut self, change: impl FnMut(&mut Buffer) + 'static) -> Self {
        self.change = Box::new(change);
        self
    }

    /// Runs one burst. Returns the time of the stage, and the result. `look` gets the sent frames.
    fn burst(
        &mut self,
        stage: &impl Fn(&mut BenchPipeline<'_>, &mut PacketBurst<Buffer>),
        look: impl FnOnce(&[Buffer]),
    ) -> (Duration, Outcome) {
        let before = self.world.dropped();
        let mut ctxs = self.world.ctxs(&mut self.arena, self.origin, &mut self.change);
        let began = Instant::now();
        stage(&mut self.world.path(), &mut ctxs);
        let took = began.elapsed();
        look(&self.world.sink.sent);
        ctxs.drain(..).for_each(|ctx| self.arena.put_back(ctx.packet));
        let sent = self.world.sink.recycle(&mut self.arena);
        let outcome =
            Outcome { sent, held: self.world.sink.release(), dropped: self.world.dropped() - before };
        (took, outcome)
    }

    /// Measures a stage that processes a burst. Panics unless every burst has the expected result and every sent
    /// frame is `right`: otherwise the measurement is invalid.
    fn measure(
        mut self,
        group: &mut Group<'_>,
        name: &str,
        (expected, right): (Outcome, impl Fn(&[u8]) -> bool),
        stage: impl Fn(&mut BenchPipeline<'_>, &mut PacketBurst<Buffer>),
    ) {
        let look = |sent: &[Buffer]| assert!(sent.iter().all(|frame| right(frame.head())), "{name}");
        for _ in 0..2 {
            assert_eq!(self.burst(&stage, look).1, expected, "{name}");
        }
        group.bench_function(name, |b| {
            b.iter_custom(|frames| {
                let bursts = frames.div_ceil(BURST as u64);
                let mut all = Duration::ZERO;
                for _ in 0..bursts {
                    let (took, outcome) = self.burst(&stage, |_| {});
                    assert_eq!(outcome, expected, "{name}");
                    all += took;
                }
                all.mul_f64(frames as f64 / (bursts * BURST as u64) as f64)
            });
        });
    }
}

/// A stage that processes one frame after another.
fn each(
    stage: impl Fn(&mut BenchPipeline<'_>, PacketCtx<Buffer>),
) -> impl Fn(&mut BenchPipeline<'_>, &mut PacketBurst<Buffer>) {
    move |path, ctxs| ctxs.drain(..).for_each(|ctx| stage(path, ctx))
}

/// A golden frame to these stations.
fn to(name: &str, dst: impl Fn(u32) -> Mac) -> impl Fn(u32) -> Vec<u8> {
    let golden = golden(name);
    move |n| {
        let mut frame = golden.clone();
        frame[..6].copy_from_slice(&dst(n).octets());
        frame
    }
}

fn everywhere(n: u32) -> Mac {
    remote(n % NODES)
}

fn long(len: usize) -> impl Fn(&[u8]) -> bool {
    move |frame| frame.len() == len
}

fn lookup(group: &mut Group<'_>) {
    let setting = Setting::new(World::new(false), AT_VM, to("tcp4", everywhere));
    let nothing = Outcome { sent: 0, held: 0, dropped: 0 };
    setting.measure(group, "lookup", (nothing, |_: &[u8]| true), |path, ctxs| {
        let mut keys = [0; BURST];
        for (ctx, key) in ctxs.iter().zip(&mut keys) {
            *key = node_key(ctx.bd, ctx.frame.dst);
        }
        let mut words = [0; BURST];
        path.view.lookup_nodes(&keys, &mut words);
        let slots = path.view.slots();
        for word in words {
            let Some(FdbEntry::Remote { slot, .. }) = PackedFdbEntry(word).unpack() else {
                panic!("a node at a host")
            };
            black_box(slots.get(slot.get()));
        }
    });
}

/// Requests of a VM for addresses of nodes at other hosts, answered in place.
fn resolve(group: &mut Group<'_>) {
    let answer = |path: &mut BenchPipeline<'_>, ctx: PacketCtx<Buffer>| assert!(path.resolve(ctx).is_none());
    let mut n = 0;
    let mut next = move || {
        n = (n + 40_502) % NODES; // only even ones have addresses
        n
    };
    let request = golden("arp_request");
    let setting = Setting::new(World::new(false), AT_VM, |_| golden("arp_request"));
    let setting = setting.change(move |buffer| {
        let IpAddr::V4(target) = address(next()) else { panic!("an IPv4 address") };
        let head = buffer.head_mut();
        head.copy_from_slice(&request);
        head[38..42].copy_from_slice(&target.octets());
    });
    let reply = |frame: &[u8]| frame[..6] == A.octets() && frame[20..22] == [0, 2];
    setting.measure(group, "resolve/arp", (ALL_SENT, reply), each(answer));

    let mut world = World::new(false);
    let address6 = |n: u32| Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, (n >> 16) as u16 | 0x8000, n as u16);
    for n in 0..NODES {
        world.tables.set_owner(world.bd, address6(n).into(), remote(n)).unwrap();
    }
    world.tables.publish();
    world.view.quiescent();
    let solicit = golden("ns_unicast");
    let mut n = 0;
    let setting = Setting::new(world, AT_VM, |_| golden("ns_unicast")).change(move |buffer| {
        n = (n + 40_503) % NODES;
        let head = buffer.head_mut();
        head.copy_from_slice(&solicit);
        let word = |head: &[u8], at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let mut sum = word(head, 56);
        for (at, new) in (62..78).step_by(2).zip(address6(n).segments()) {
            sum = update16(sum, word(head, at), new);
            head[at..at + 2].copy_from_slice(&new.to_be_bytes());
        }
        head[56..58].copy_from_slice(&sum.to_be_bytes());
    });
    let advert = |frame: &[u8]| frame[..6] == A.octets() && frame[54] == 136;
    setting.measure(group, "resolve/nd", (ALL_SENT, advert), each(answer));
}

fn deliver(group: &mut Group<'_>) {
    let len = golden("tcp4").len();
    let setting = || Setting::new(World::new(false), FROM_HOST, to("tcp4", |_| A));
    let to_vif = each(|path, ctx| path.deliver(ctx, OTHER_VM, 0));
    setting().measure(group, "deliver/vif", (ALL_SENT, long(len)), to_vif);
    let to_trunk = each(|path, ctx| path.deliver(ctx, TRUNK, 10));
    setting().measure(group, "deliver/trunk", (ALL_SENT, long(len + 4)), to_trunk);
}

fn encap(group: &mut Group<'_>) {
    let len = golden("tcp4").len();
    for (name, v6, outer) in [("encap/ipv4", false, 50), ("encap/ipv6_with_checksum", true, 70)] {
        let setting = Setting::new(World::new(v6), AT_VM, to("tcp4", everywhere));
        let encap = each(|path, ctx| path.encap(ctx, slot(0)));
        setting.measure(group, name, (ALL_SENT, long(len + outer)), encap);
    }
    let label = EncapMeta {
        flags: OverlayFlags::HOP.with(OverlayFlags::NODE),
        node: Some(remote(1)),
        ..EncapMeta::PLAIN
    };
    let setting = Setting::new(World::new(false), AT_VM, to("tcp4", everywhere));
    let marked = each(move |path, ctx| path.encap_with(ctx, slot(0), label));
    setting.measure(group, "encap/ipv4_marked", (ALL_SENT, |frame: &[u8]| frame.len() > len + 50), marked);
}

/// Per received frame: a copy to each host, the last of which is the frame itself.
fn replicate(group: &mut Group<'_>) {
    let len = golden("tcp4").len();
    for hosts in [1, 10, 100] {
        let mut world = World::new(false);
        world.flood_to(hosts);
        let setting = Setting::new(world, AT_VM, to("tcp4", |_| Mac::BROADCAST));
        let expected = Outcome { sent: BURST * hosts as usize, ..ALL_SENT };
        let replicate = each(|path, ctx| path.replicate(ctx));
        setting.measure(group, &format!("replicate/{hosts}"), (expected, long(len + 50)), replicate);
    }
}

/// Finishes what a guest left to its NIC, for another host.
fn offload(group: &mut Group<'_>) {
    let encap = || each(|path: &mut BenchPipeline<'_>, ctx| path.encap(ctx, slot(0)));
    let len = golden("tcp4").len();
    let setting = Setting::new(World::new(false), AT_VM, to("tcp4", everywhere));
    let setting = setting.change(|buffer| buffer.unfilled = true);
    setting.measure(group, "offload/checksum_and_encap", (ALL_SENT, long(len + 50)), encap());

    let setting = Setting::new(World::new(false), AT_VM, to("gso4", everywhere));
    let setting = setting.change(|buffer| (buffer.unfilled, buffer.gso) = (true, Some(1_000)));
    let expected = Outcome { sent: 3 * BURST, ..ALL_SENT };
    // 70 bytes of the tenant's headers.
    let segment = long(1_000 + 70 + 50);
    setting.measure(group, "offload/3_segments_and_encap", (expected, segment), encap());
}

/// Dropped, with an ICMP error to the sender.
fn too_big(group: &mut Group<'_>) {
    for (name, frame, v6) in [("too_big/ipv4", "tcp4", false), ("too_big/ipv6", "tcp6", true)] {
        let setting = Setting::new(World::with_inner_mtu(false, 80), AT_VM, to(frame, everywhere));
        let expected = Outcome { sent: BURST, held: 0, dropped: BURST as u64 };
        let error = move |frame: &[u8]| frame[..6] == A.octets() && frame[12] == if v6 { 0x86 } else { 0x08 };
        setting.measure(group, name, (expected, error), each(|path, ctx| path.encap(ctx, slot(0))));
    }
}

/// Frames for a migrating node: held until earlier frames of their sender have arrived, or redirected to its new
/// host.
fn migrating(group: &mut Group<'_>) {
    let world = |mode: RecordMode| {
        let mut world = World::new(false);
        world.sink.enable_hold();
        let record = MigrationRecord {
            bd: world.bd,
            vni: Vni::new(100).unwrap(),
            mac: A,
            port: VM,
            vlan: 0,
            stand_in: None,
            mode,
            counters: Arc::new(MigrationCounters::default()),
        };
        world.tables.set_migrating(record).unwrap();
        world.tables.publish();
        world.view.quiescent();
        let Some(FdbEntry::Migrating { index, .. }) = world.view.fdb_entry(world.bd, A) else {
            panic!("migrating")
        };
        (world, index)
    };
    let len = golden("tcp4").len();
    let (arriving, index) = world(RecordMode::Arriving(Arc::new(EndMarkerBarrier::new(2, 0, None, [1]))));
    let held = Outcome { sent: 0, held: BURST, dropped: 0 };
    let step = each(move |path, ctx| path.migrating_node(ctx, index));
    let setting = Setting::new(arriving, FROM_HOST, to("tcp4", |_| A));
    setting.measure(group, "migrating/held", (held, |_: &[u8]| true), step);

    let (arriving, index) = world(RecordMode::Arriving(Arc::new(EndMarkerBarrier::new(2, 0, None, [1]))));
    let setting = Setting::new(arriving, FROM_HOST, to("tcp4", |_| A));
    setting.measure(group, "migrating/held_and_replayed", (ALL_SENT, long(len)), move |path, ctxs| {
        ctxs.drain(..).for_each(|ctx| path.migrating_node(ctx, index));
        path.egress.replay();
    });

    let (left, index) = world(RecordMode::Forward(RedirectTarget::Host(1)));
    let step = each(move |path, ctx| path.migrating_node(ctx, index));
    let setting = Setting::new(left, FROM_HOST, to("tcp4", |_| A));
    setting.measure(group, "migrating/sent_on", (ALL_SENT, long(len + 50)), step);
}

fn pipeline(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(1));
    let stages = [lookup, resolve, deliver, encap, replicate, offload, too_big, migrating];
    for stage in stages {
        stage(&mut group);
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = pipeline }
criterion_main!(benches);

//! A node migrates while several lcores forward: host 2 sends flows to it by host A, then, after their end markers,
//! to host B directly. Stages and barrier are the real ones; queues, rings and the underlay are lists, and any of
//! them may be delayed for any time. No flow loses, duplicates or reorders a frame.

use super::{
    A, Exits, Lab, R2, UNDERLAY, VM_A,
    frames::{self, FROM_1, FROM_2, Tunnel},
};
use crate::migration::hold::HeldKind;
use crate::migration::record::{EndMarkerBarrier, MigrationRecord, RecordMode, RedirectTarget};
use crate::migration::source_ports::SourcePorts;
use crate::pipeline::{PacketCtx, packet::VecPacket, ports::Network, ports::Origin};
use crate::tables::peer::Peer;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use stopover_lockfree::barrier::{Barrier, Member, Ring, Ticket};
use stopover_net::Vni;
use stopover_net::{
    flow, frame,
    marker::{self, Kind, Marker, Relay},
};

const LCORES: usize = 2;
const SENDER_QUEUES: usize = 2;
const FLOWS: u16 = 6;
const BURST: usize = 2;
const DEPTH: usize = 64;
const RING: usize = 2;
const HOP: u8 = 1;
const CONTROL: u8 = 2;
/// The host that sends.
const SENDER: u32 = 2;

/// A datagram between two hosts.
struct Datagram {
    source_port: u16,
    flags: u8,
    inner: Vec<u8>,
}

/// The link: from the sender to A or B, or from A to B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Leg {
    ToOld,
    OldToNew,
    ToNew,
}

struct Lcore {
    member: Member,
    queue: VecDeque<(Leg, Datagram)>,
    ring: VecDeque<Vec<u8>>,
    taken: u64,
    /// Frames that wait for room in the first lcore's ring.
    waits: VecDeque<Vec<u8>>,
    flushed: u64,
    parked: VecDeque<(Option<Ticket>, VecPacket, Network)>,
    held: Vec<(u32, u32, HeldKind, Vec<u8>)>,
}

/// A gateway with one underlay queue for each of its lcores. The first sends from the node's port.
struct Gateway {
    lab: Lab,
    lcores: Vec<Lcore>,
    /// The arrival of the node; `None` at the old host.
    arrival: Option<Arc<EndMarkerBarrier>>,
    network: Network,
}

impl Gateway {
    fn new(arrives: bool, waits_for_queues: bool) -> Self {
        let mut lab = Lab::new();
        let network = Network { bd: lab.net100, vni: Vni::new(100).unwrap() };
        let arrival = arrives.then(|| Arc::new(EndMarkerBarrier::new(9, 0, Some(1), [SENDER])));
        if let Some(arrival) = &arrival {
            arrival.open(9);
            let Network { bd, vni } = network;
            let mode = RecordMode::Arriving(Arc::clone(arrival));
            let counters = Arc::default();
            let record =
                MigrationRecord { bd, vni, mac: A.mac, port: VM_A, vlan: 0, stand_in: None, mode, counters };
            lab.tables.set_migrating(record).unwrap();
            lab.publish();
        } else {
            lab.exits.holding_port = Some(VM_A);
        }
        lab.exits.barrier_on = waits_for_queues;
        lab.exits.pool.left = usize::MAX;
        let barrier = Barrier::new(LCORES);
        let lcore = |number| Lcore {
            member: Member::new(Arc::clone(&barrier), number, vec![DEPTH], 1),
            queue: VecDeque::new(),
            ring: VecDeque::new(),
            taken: 0,
            waits: VecDeque::new(),
            flushed: 0,
            parked: VecDeque::new(),
            held: Vec::new(),
        };
        Self { lab, lcores: (0..LCORES).map(lcore).collect(), arrival, network }
    }

    fn receive(&mut self, leg: Leg, datagram: Datagram) {
        self.lcores[usize::from(datagram.source_port) % LCORES].queue.push_back((leg, datagram));
    }

    /// One round of an lcore. Returns the frames for the node and the datagrams for its new host.
    fn round(&mut self, at: usize) -> (Vec<Vec<u8>>, Vec<Datagram>) {
        let mut out = (Vec::new(), Vec::new());
        self.lab.exits.foreign_port = (at != 0).then_some(VM_A);
        self.lab.exits.held = std::mem::take(&mut self.lcores[at].held);
        let is_asked = self.lcores[at].member.begin_round();
        let n = self.lcores[at].queue.len().min(BURST);
        let burst = self.lcores[at].queue.drain(..n).map(|(leg, d)| {
            let tunnel = if leg == Leg::OldToNew { FROM_1 } else { FROM_2 };
            VecPacket::new(&Tunnel { flags: d.flags, ..tunnel }.around(&d.inner))
        });
        let burst: Vec<_> = burst.collect();
        if n > 0 {
            let sent = self.lab.burst(UNDERLAY, burst).sent;
            self.deliver_out(at, sent, &mut out);
        }
        self.lcores[at].member.polled(0, n);
        let parked = std::mem::take(&mut self.lab.exits.parked);
        let fresh = !parked.is_empty();
        self.lcores[at].parked.extend(parked.into_iter().map(|(packet, network)| (None, packet, network)));
        for _ in 0..BURST {
            let Some(handed) = self.lcores[at].ring.pop_front() else { break };
            self.lcores[at].taken += 1;
            self.at_port(handed, &mut out);
        }
        self.release_held(at, &mut out);
        self.hand_over(at);
        let waits = Ring { taken: self.lcores[at].flushed, len: self.lcores[at].waits.len() };
        let (taken, len) = (self.lcores[at].taken, self.lcores[at].ring.len());
        if is_asked {
            self.lcores[at].member.end_round(|_| Ring { taken, len }, |_| waits);
        }
        if fresh {
            let ticket = self.lcores[at].member.request();
            self.lcores[at].parked.iter_mut().filter(|p| p.0.is_none()).for_each(|p| p.0 = Some(ticket));
        }
        while let Some((Some(ticket), ..)) = self.lcores[at].parked.front()
            && self.lcores[at].member.is_complete(*ticket)
            && let Some((_, packet, network)) = self.lcores[at].parked.pop_front()
        {
            self.lab.counters.release(1);
            let sent = self.lab.packets_of(0, |path| path.forward_marker(packet, network)).sent;
            self.deliver_out(at, sent, &mut out);
        }
        self.relayed(&mut out);
        self.lcores[at].held = std::mem::take(&mut self.lab.exits.held);
        out
    }

    /// Passes sent frames to the owner of the port, or to the underlay.
    fn deliver_out(&mut self, at: usize, sent: Vec<(u16, Vec<u8>)>, out: &mut (Vec<Vec<u8>>, Vec<Datagram>)) {
        for (port, bytes) in sent {
            match (port, at) {
                (UNDERLAY, _) => out.1.push(Datagram {
                    source_port: u16::from_be_bytes([bytes[34], bytes[35]]),
                    flags: bytes[49],
                    inner: bytes[50..].to_vec(),
                }),
                (_, 0) => self.at_port(bytes, out),
                (..) => self.lcores[at].waits.push_back(bytes),
            }
        }
    }

    /// Moves frames of an lcore into the ring of the first one, as far as there is room.
    fn hand_over(&mut self, at: usize) {
        while self.lcores[0].ring.len() < RING
            && let Some(bytes) = self.lcores[at].waits.pop_front()
        {
            self.lcores[at].flushed += 1;
            self.lcores[0].ring.push_back(bytes);
        }
    }

    /// The owner of the port processes a frame or a marker for it.
    fn at_port(&mut self, bytes: Vec<u8>, out: &mut (Vec<Vec<u8>>, Vec<Datagram>)) {
        let (network, packet) = (self.network, VecPacket::new(&bytes));
        if marker::parse(&bytes).is_ok() {
            let sent = self.lab.packets_of(1, |path| path.handle_marker_at_port(packet, network, VM_A)).sent;
            self.deliver_out(0, sent, out);
            return self.relayed(out);
        }
        if self.arrival.is_some() {
            return out.0.push(bytes);
        }
        let Network { bd, vni } = network;
        let frame = frame::parse(&bytes, bytes.len()).unwrap();
        let origin = Origin::Underlay { peer: Peer::new(u32::MAX), hop: true, apart: 0 };
        let ctx = PacketCtx { packet, frame, bd, vni, origin, priority: 0 };
        let sent = self.lab.packets_of(1, |path| path.redirect(ctx, A.mac, RedirectTarget::Host(1), 0)).sent;
        self.deliver_out(0, sent, out);
    }

    /// Relays markers behind the redirected frames of the port.
    fn relayed(&mut self, out: &mut (Vec<Vec<u8>>, Vec<Datagram>)) {
        for (_, bytes) in std::mem::take(&mut self.lab.exits.relayed) {
            self.lab.counters.release(1);
            let (network, packet) = (self.network, VecPacket::new(&bytes));
            let sent = self
                .lab
                .packets_of(0, |path| path.relay_marker(packet, network, Peer::new(1), Relay::default()))
                .sent;
            self.deliver_out(0, sent, out);
        }
    }

    /// Releases the frames that were held until the end marker of the sender.
    fn release_held(&mut self, at: usize, out: &mut (Vec<Vec<u8>>, Vec<Datagram>)) {
        if !self.arrival.as_ref().is_some_and(|arrival| arrival.is_open(SENDER)) {
            return;
        }
        for (.., bytes) in std::mem::take(&mut self.lab.exits.held) {
            self.lab.counters.release(1);
            let packet = VecPacket::new(&bytes);
            let hand_over =
                |path: &mut crate::pipeline::Pipeline<'_, Exits, _>| path.egress.sent.push((VM_A, packet));
            let sent = self.lab.packets_of(0, hand_over).sent;
            self.deliver_out(at, sent, out);
        }
    }
}

/// The rules that the markers follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rules {
    /// A marker waits for the frames that the queues held at its arrival.
    barrier: bool,
    /// Each source port has its marker.
    ports: bool,
}

const RULES: Rules = Rules { barrier: true, ports: true };

struct World {
    rules: Rules,
    old: Gateway,
    new: Gateway,
    underlay: BTreeMap<(Leg, u16), VecDeque<Datagram>>,
    sender_queues: [SourcePorts; SENDER_QUEUES],
    sent: [u32; FLOWS as usize],
    moved: bool,
    got: Vec<(u16, u32)>,
}

fn packet(flow: u16, number: u32) -> Vec<u8> {
    let data = [&flow.to_be_bytes()[..], &number.to_be_bytes()].concat();
    let l4 = frames::udp(R2.ip4.into(), A.ip4.into(), (5000 + flow, 6000), &data);
    frames::eth(A.mac, R2.mac, frames::IPV4, &frames::ip4(R2.ip4, A.ip4, frames::UDP, 0, &l4))
}

impl World {
    fn new(rules: Rules) -> Self {
        Self {
            rules,
            old: Gateway::new(false, rules.barrier),
            new: Gateway::new(true, rules.barrier),
            underlay: BTreeMap::new(),
            sender_queues: [SourcePorts::new(1), SourcePorts::new(1)],
            sent: [0; FLOWS as usize],
            moved: false,
            got: Vec::new(),
        }
    }

    fn port_of(flow: u16) -> u16 {
        let bytes = packet(flow, 0);
        flow::source_port(flow::hash(&frame::parse(&bytes, bytes.len()).unwrap()))
    }

    fn carry(&mut self, leg: Leg, datagram: Datagram) {
        self.underlay.entry((leg, datagram.source_port)).or_default().push_back(datagram);
    }

    fn send(&mut self, flow: u16) {
        let flow = flow % FLOWS;
        let inner = packet(flow, self.sent[usize::from(flow)]);
        self.sent[usize::from(flow)] += 1;
        let source_port =
            self.sender_queues[usize::from(flow) % SENDER_QUEUES].port(1, Self::port_of(flow), 1);
        let leg = if self.moved { Leg::ToNew } else { Leg::ToOld };
        self.carry(leg, Datagram { source_port, flags: 0, inner });
    }

    /// The sender learns that the node has moved: from now on it sends to the new host.
    fn migrate(&mut self) {
        if std::mem::replace(&mut self.moved, true) {
            return;
        }
        for sender_queue in 0..SENDER_QUEUES {
            let mut used = self.sender_queues[sender_queue].used(1);
            if used.is_empty() {
                used.push(50_000);
            }
            used.truncate(if self.rules.ports { used.len() } else { 1 });
            for (port, source_port) in (0..).zip(&used) {
                let marker = Marker {
                    kind: Kind::End,
                    relayed: false,
                    ends: false,
                    sender_queue: sender_queue as u8,
                    sender_queues: SENDER_QUEUES as u8,
                    port,
                    ports: used.len() as u8,
                    source_port: *source_port,
                    host: SENDER,
                    generation: 0,
                    node: A.mac,
                    paused_us: 0,
                };
                let inner = marker::build(&marker).to_vec();
                self.carry(Leg::ToOld, Datagram { source_port: *source_port, flags: CONTROL, inner });
            }
        }
    }

    fn round(&mut self, old: bool, at: usize) {
        let gateway = if old { &mut self.old } else { &mut self.new };
        let (got, sent) = gateway.round(at % LCORES);
        for bytes in got {
            let number =
                |at: usize, n: usize| bytes[at..at + n].iter().fold(0, |v, b| v << 8 | u32::from(*b));
            self.got.push((number(42, 2) as u16, number(44, 4)));
        }
        for datagram in sent {
            assert!(datagram.flags & HOP != 0);
            self.carry(Leg::OldToNew, datagram);
        }
    }

    /// The underlay delivers one frame of one of its links.
    fn bring(&mut self, path: (Leg, u16)) -> bool {
        let Some(datagram) = self.underlay.get_mut(&path).and_then(VecDeque::pop_front) else { return false };
        let gateway = if path.0 == Leg::ToOld { &mut self.old } else { &mut self.new };
        gateway.receive(path.0, datagram);
        true
    }

    fn paths(&self) -> Vec<(Leg, u16)> {
        self.underlay.iter().filter(|(_, queue)| !queue.is_empty()).map(|(path, _)| *path).collect()
    }

    /// Runs everything except what is delayed, until nothing happens any more.
    fn settle(&mut self, lcores: &[(bool, usize)], is_delayed: impl Fn((Leg, u16)) -> bool) {
        for _ in 0..200 {
            for path in self.paths().into_iter().filter(|path| !is_delayed(*path)) {
                while self.bring(path) {}
            }
            for (old, at) in lcores {
                self.round(*old, *at);
            }
        }
    }

    #[track_caller]
    fn is_exact(&mut self) {
        self.settle(&ALL, |_| false);
        assert!(!self.moved || self.new.arrival.as_ref().unwrap().is_open(SENDER));
        for flow in 0..FLOWS {
            let got: Vec<u32> = self.got.iter().filter(|(of, _)| *of == flow).map(|(_, n)| *n).collect();
            assert_eq!(got, (0..self.sent[usize::from(flow)]).collect::<Vec<_>>(), "flow {flow}");
        }
    }
}

/// All lcores of the old host and of the new.
const ALL: [(bool, usize); 4] = [(true, 0), (true, 1), (false, 0), (false, 1)];

#[derive(Debug, Clone)]
enum Step {
    Send(u16),
    Migrates,
    Bring(prop::sample::Index),
    Round(bool, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..FLOWS).prop_map(Step::Send),
        1 => Just(Step::Migrates),
        8 => any::<prop::sample::Index>().prop_map(Step::Bring),
        8 => (any::<bool>(), 0..LCORES).prop_map(|(old, at)| Step::Round(old, at)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn flows_are_complete_and_in_order_for_any_order_of_events(steps in prop::collection::vec(step(), 0..150)) {
        let mut world = World::new(RULES);
        for step in steps {
            match step {
                Step::Send(flow) => world.send(flow),
                Step::Migrates => world.migrate(),
                Step::Bring(path) => {
                    let paths = world.paths();
                    if !paths.is_empty() {
                        world.bring(*path.get(&paths));
                    }
                }
                Step::Round(old, at) => world.round(old, at),
            }
        }
        world.migrate();
        world.is_exact();
    }
}

/// Every flow sends before and after the migration, while an lcore of the old host is delayed.
fn with_a_queue_delayed(rules: Rules) -> World {
    let mut world = World::new(rules);
    (0..FLOWS).for_each(|flow| world.send(flow));
    for path in world.paths() {
        while world.bring(path) {}
    }
    world.migrate();
    (0..FLOWS).for_each(|flow| world.send(flow));
    world.settle(&ALL.into_iter().filter(|lcore| *lcore != (true, 1)).collect::<Vec<_>>(), |_| false);
    world
}

/// The same, while the underlay delays the frames of one source port.
fn with_a_port_delayed(rules: Rules) -> World {
    let mut world = World::new(rules);
    (0..FLOWS).for_each(|flow| world.send(flow));
    world.migrate();
    (0..FLOWS).for_each(|flow| world.send(flow));
    world.settle(&ALL, |path| path == (Leg::ToOld, World::port_of(4)));
    world
}

#[test]
fn the_flows_of_this_test_come_on_all_queues() {
    let queues: Vec<_> = (0..FLOWS).map(|flow| usize::from(World::port_of(flow)) % LCORES).collect();
    for sender_queue in 0..SENDER_QUEUES {
        for queue in 0..LCORES {
            let of_queue = queues.iter().skip(sender_queue).step_by(SENDER_QUEUES);
            assert!(of_queue.into_iter().any(|q| *q == queue), "{queues:?}");
        }
    }
}

#[test]
fn a_delayed_queue_is_waited_for() {
    let mut world = with_a_queue_delayed(RULES);
    assert!(!world.new.arrival.as_ref().unwrap().is_open(SENDER));
    world.is_exact();
    with_a_queue_delayed(Rules { ports: false, ..RULES }).is_exact();
}

#[test]
#[should_panic(expected = "flow")]
fn the_checker_finds_a_missing_wait_for_a_queue() {
    with_a_queue_delayed(Rules { barrier: false, ports: false }).is_exact();
}

#[test]
fn a_delayed_source_port_is_waited_for() {
    let mut world = with_a_port_delayed(RULES);
    assert!(!world.new.arrival.as_ref().unwrap().is_open(SENDER));
    world.is_exact();
}

#[test]
#[should_panic(expected = "flow")]
fn the_checker_finds_a_missing_marker_of_a_source_port() {
    with_a_port_delayed(Rules { ports: false, ..RULES }).is_exact();
}

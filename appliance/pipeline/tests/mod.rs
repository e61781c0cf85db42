//! Tests of the stages. [`Lab`] is one appliance with a port of each role; each file tests one stage on it, with
//! whole frames as input and output. After every burst, and when the lab is dropped, the packet accounting must hold.

mod decap;
mod eligible;
mod encap;
mod exits;
mod frames;
mod golden;
mod graph;
mod guard;
mod learn;
mod local;
mod loops;
mod migration;
mod offload;
mod properties;
mod rare;
mod replicate;
mod resolve;
mod too_big;
mod tunnels;
mod vlan;
mod walk;
mod workers;

use super::{
    Egress, Learn, Pipeline, RouterSeen, Scratch,
    drop_reason::DropReason,
    eligible::eligible,
    graph::{Direction, FROM_HOLD, FROM_TENANT, FROM_UNDERLAY},
    migration_egress::{Behind, MigrationEgress, MigrationEvent, QueuedMarker},
    packet::{Packet, Pool, VecPacket, VecPool},
    packet_counters::{PacketCounters, PacketReading, add},
    ports::{Allowed, Network, Pair, Port, Role, Segment, Underlay, Vif},
};
use crate::migration::{hold::HeldKind, record::MigrationRecord, source_ports::UsedPorts};
use crate::tables::{
    Tables, View,
    entries::{EncapTemplate, Member, NetworkEntry, Path, Seal},
    packed::Bd,
    peer::{Accept, IsolationClass, NetworkSeal, PathClass, Peer, Slot},
};
use exits::Exits;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use stopover_net::{FloodPolicy, Mac, VlanId, Vni};
use stopover_net::{
    ecn::OuterTos,
    outer::{OuterHeader, OuterSpec},
};
use walk::Walk;

/// A VM or other station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Station {
    mac: Mac,
    ip4: Ipv4Addr,
    ip6: Ipv6Addr,
}

const fn station(n: u8) -> Station {
    Station {
        mac: Mac::new([0x52, 0x54, 0, 0, 0, n]),
        ip4: Ipv4Addr::new(192, 168, 0, n),
        ip6: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, n as u16),
    }
}

/// At vif `VM_A` in network 100, and, with the same addresses, at `VM_200` in network 200.
const A: Station = station(10);
/// At vif `VM_B`.
const B: Station = station(11);
/// Learned at `SEGMENT`.
const S: Station = station(50);
/// Learned at `TRUNK`, VLAN 10, which is network 100.
const T: Station = station(60);
/// At host 1, over IPv4.
const R1: Station = station(101);
/// At host 2, over IPv6.
const R2: Station = station(102);
/// At host 3, which cannot be reached.
const R3: Station = station(103);
/// Registered nowhere.
const NOBODY: Station = station(200);

const UNDERLAY: u16 = 0;
const VM_A: u16 = 1;
/// Its device fills in checksums and segments TCP.
const VM_B: u16 = 2;
const SEGMENT: u16 = 3;
/// VLAN 10 is network 100, VLAN 20 is network 200; untagged is nothing.
const TRUNK: u16 = 4;
/// In network 200, without guard.
const VM_200: u16 = 5;
/// A second underlay port, on VLAN 30, that takes IPv6 datagrams without a UDP checksum.
const UNDERLAY_30: u16 = 6;

/// An address that all vifs may share.
const SHARED: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 250);
const OUR_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
const NEXT_HOP: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
const OUR_4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const HOST_1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OUR_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const HOST_2: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const VXLAN_PORT: u16 = 4789;
/// What fits the underlay of 1500 bytes behind IPv4 and IPv6 outer headers.
const INNER_MTU_4: u16 = 1450;
const INNER_MTU_6: u16 = 1430;

/// The output of one burst.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Out {
    /// By port, in order.
    sent: Vec<(u16, Vec<u8>)>,
    /// The buffers of `sent`.
    packets: Vec<VecPacket>,
    /// One entry per frame, in the order of [`DropReason::ALL`].
    dropped: Vec<DropReason>,
    learned: Vec<Learn>,
    punted: Vec<(u16, Vec<u8>)>,
}

impl Out {
    /// The only frame that was sent, from this port; nothing was dropped.
    #[track_caller]
    fn only(&self, port: u16) -> &[u8] {
        assert_eq!(self.dropped, []);
        match self.sent.as_slice() {
            [(by, frame)] if *by == port => frame,
            other => panic!("not one frame by port {port}: {other:02x?}"),
        }
    }

    /// Checks that nothing was sent, and one frame was dropped for this reason.
    #[track_caller]
    fn is_dropped(&self, reason: DropReason) {
        assert_eq!((self.sent.as_slice(), self.dropped.as_slice()), (&[][..], &[reason][..]));
        assert_eq!(self.punted, []);
    }

    /// The ports that frames were sent from, in order.
    fn ports(&self) -> Vec<u16> {
        self.sent.iter().map(|(port, _)| *port).collect()
    }
}

/// The appliance under test.
struct Lab {
    tables: Tables,
    view: View,
    ports: Vec<Port>,
    counters: PacketCounters,
    exits: Exits,
    scratch: Scratch,
    /// Sent by earlier bursts.
    sent_before: u64,
    notes: Walk,
    net100: Bd,
    net200: Bd,
}

fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}

fn path(peer: Peer, dst: IpAddr, vlan: Option<u16>) -> Path {
    let src = if dst.is_ipv4() { IpAddr::V4(OUR_4) } else { IpAddr::V6(OUR_6) };
    let vlan = vlan.map(|id| VlanId::new(id).unwrap());
    let spec =
        OuterSpec { src_mac: OUR_MAC, dst_mac: NEXT_HOP, vlan, src, dst, dst_port: VXLAN_PORT, ttl: 64 };
    Path {
        peer,
        port: if vlan.is_some() { UNDERLAY_30 } else { UNDERLAY },
        inner_mtu: if dst.is_ipv4() { INNER_MTU_4 } else { INNER_MTU_6 },
        template: EncapTemplate {
            tos: OuterTos::COPY,
            zero_checksum: false,
            outer: OuterHeader::new(&spec).unwrap(),
        },
        seal: Seal::None,
    }
}

fn vif(network: Network, who: Station, guard: bool) -> Role {
    Role::Vif(Vif {
        network,
        mac: who.mac,
        ipv4: [who.ip4, SHARED].into_iter().collect(),
        ipv6: [who.ip6, who.mac.link_local()].into_iter().collect(),
        addressed: true,
        shared: [IpAddr::V4(SHARED)].into(),
        guard,
        allowed: Allowed::default(),
    })
}

fn underlay(vlan: Option<u16>, zero: bool) -> Role {
    Role::Underlay(Underlay {
        mac: OUR_MAC,
        vlan: vlan.map(|id| VlanId::new(id).unwrap()),
        udp_port: VXLAN_PORT,
        addresses: [IpAddr::V4(OUR_4), IpAddr::V6(OUR_6)].into_iter().collect(),
        pcp: false,
        udp6_zero_checksum: zero,
    })
}

fn port(role: Role) -> Port {
    Port { mtu: 1500, fills_checksums: false, segments_tcp: false, role }
}

impl Lab {
    fn new() -> Self {
        let (mut tables, views) = Tables::new(1).unwrap();
        let (net100, net200) = (tables.bd(vni(100)).unwrap(), tables.bd(vni(200)).unwrap());
        let (first, second) = (Network { bd: net100, vni: vni(100) }, Network { bd: net200, vni: vni(200) });
        let vlans = [(VlanId::new(10).unwrap(), first), (VlanId::new(20).unwrap(), second)];
        let mut ports = vec![
            port(underlay(None, false)),
            port(vif(first, A, true)),
            port(vif(first, B, true)),
            port(Role::Segment(Segment::new(Some(first), []))),
            port(Role::Segment(Segment::new(None, vlans))),
            port(vif(second, A, false)),
            port(underlay(Some(30), true)),
        ];
        let capable = &mut ports[usize::from(VM_B)];
        (capable.fills_checksums, capable.segments_tcp) = (true, true);

        for (bd, at, vlan, who) in [
            (net100, VM_A, 0, A),
            (net100, VM_B, 0, B),
            (net100, SEGMENT, 0, S),
            (net100, TRUNK, 10, T),
            (net200, VM_200, 0, A),
        ] {
            tables.set_local(bd, who.mac, at, vlan, None).unwrap();
            tables.set_owner(bd, who.ip4.into(), who.mac).unwrap();
            tables.set_owner(bd, who.ip6.into(), who.mac).unwrap();
        }
        for (host, who) in [(1, R1), (2, R2), (3, R3)] {
            let slot = tables.put_peer(Peer::new(host), true, Accept::Plain).unwrap();
            tables.set_remote(net100, who.mac, slot, IsolationClass::default()).unwrap();
            tables.set_owner(net100, who.ip4.into(), who.mac).unwrap();
            tables.set_owner(net100, who.ip6.into(), who.mac).unwrap();
        }
        for (host, ip) in [(1, IpAddr::V4(HOST_1)), (2, IpAddr::V6(HOST_2))] {
            let peer = Peer::new(host);
            tables.put_vtep(ip, peer).unwrap();
            tables.set_path(peer, PathClass::Plain, Some(path(peer, ip, None))).unwrap();
        }

        let view = views.into_iter().next().unwrap().online();
        let mut lab = Self {
            tables,
            view,
            ports,
            counters: PacketCounters::default(),
            scratch: Scratch::default(),
            exits: Exits { pool: VecPool { left: 1000 }, ..Exits::default() },
            sent_before: 0,
            notes: Walk::default(),
            net100,
            net200,
        };
        lab.flood(FloodPolicy::Flood);
        lab
    }

    /// Sets this policy for both networks. Network 100: all its ports; hosts 1 and 2, of which 2 has a segment.
    fn flood(&mut self, flood: FloodPolicy) {
        let member = |port, vlan, segment| Member { port, vlan, segment };
        let first = NetworkEntry {
            migrating: [].into(),
            moved: [].into(),
            bd: self.net100,
            vni: vni(100),
            flood,
            mtu: 0,
            seal: NetworkSeal::ByHost,
            slots: [self.slot(1), self.slot(2)].into(),
            segment_slots: [self.slot(2)].into(),
            ports: [
                member(VM_A, 0, false),
                member(VM_B, 0, false),
                member(SEGMENT, 0, true),
                member(TRUNK, 10, true),
            ]
            .into(),
        };
        let second = NetworkEntry {
            migrating: [].into(),
            moved: [].into(),
            bd: self.net200,
            vni: vni(200),
            flood,
            mtu: 0,
            seal: NetworkSeal::ByHost,
            slots: [].into(),
            segment_slots: [].into(),
            ports: [member(TRUNK, 20, true), member(VM_200, 0, false)].into(),
        };
        self.tables.put_network(first).unwrap();
        self.tables.put_network(second).unwrap();
        self.publish();
    }

    /// The slot of a host.
    fn slot(&self, host: u32) -> Slot {
        self.tables.slot(Peer::new(host), PathClass::Plain).unwrap()
    }

    fn publish(&mut self) {
        self.view.quiescent();
        self.tables.publish();
    }

    /// Changes the path to a host.
    fn rewrite_path(&mut self, host: u32, to: IpAddr, vlan: Option<u16>, change: impl FnOnce(&mut Path)) {
        let peer = Peer::new(host);
        let mut path = path(peer, to, vlan);
        change(&mut path);
        self.tables.set_path(peer, PathClass::Plain, Some(path)).unwrap();
        self.publish();
    }

    /// One frame received from a port.
    fn one(&mut self, port: u16, frame: &[u8]) -> Out {
        self.burst(port, vec![VecPacket::new(frame)])
    }

    /// A burst received from a port.
    #[track_caller]
    fn burst(&mut self, port: u16, burst: Vec<VecPacket>) -> Out {
        let received = burst.len() as u64;
        let is_underlay = matches!(self.ports[usize::from(port)].role, Role::Underlay(_));
        let is_slow = |packet: &&VecPacket| !eligible(&self.view, &self.ports, port, *packet);
        let slow = burst.iter().filter(is_slow).count();
        let mut burst = burst.into_iter().collect();
        let mut scratch = std::mem::take(&mut self.scratch);
        let direction = if is_underlay { &FROM_UNDERLAY } else { &FROM_TENANT };
        let out = self.packets_from(direction, received, |path| {
            if is_underlay {
                path.underlay(port, &mut burst, &mut scratch);
            } else {
                path.tenant(port, &mut burst, &mut scratch);
            }
        });
        self.scratch = scratch;
        assert_eq!(self.notes.slow, slow, "frames that took the slow path");
        out
    }

    /// Runs a call on the pipeline, as the lcore does for frames that have waited, and returns its output. `received`:
    /// how many frames it receives.
    #[track_caller]
    fn packets_of(&mut self, received: u64, call: impl FnOnce(&mut Pipeline<'_, Exits, Walk>)) -> Out {
        self.packets_from(&FROM_HOLD, received, call)
    }

    #[track_caller]
    fn packets_from(
        &mut self,
        direction: &'static Direction,
        received: u64,
        call: impl FnOnce(&mut Pipeline<'_, Exits, Walk>),
    ) -> Out {
        let before = self.counters.read();
        let handed = self.exits.handed.len();
        add(&self.counters.received, received);
        self.notes.begin(direction, received);
        call(&mut Pipeline {
            view: &self.view,
            ports: &self.ports,
            counters: &self.counters,
            egress: &mut self.exits,
            tracer: &mut self.notes,
        });
        add(&self.counters.held, (self.exits.handed.len() - handed) as u64);
        add(&self.counters.sent, self.exits.sent.len() as u64);
        self.sent_before += self.exits.sent.len() as u64;
        self.assert_accounted();
        let packets = self.counters.read().since(&before);
        let dropped = DropReason::ALL
            .iter()
            .flat_map(|reason| vec![*reason; packets.dropped[*reason as usize] as usize])
            .collect();
        let (ports, packets): (Vec<_>, Vec<_>) = std::mem::take(&mut self.exits.sent).into_iter().unzip();
        Out {
            sent: ports.into_iter().zip(packets.iter().map(|p| p.head().to_vec())).collect(),
            packets,
            dropped,
            learned: std::mem::take(&mut self.exits.learned),
            punted: std::mem::take(&mut self.exits.punted),
        }
    }

    #[track_caller]
    fn assert_accounted(&self) {
        let packets: PacketReading = self.counters.read();
        assert_eq!(packets.unaccounted(), 0, "{packets:?}");
        assert_eq!(packets.sent, self.sent_before);
    }

    /// The trace of the last burst.
    fn trace(&self) -> String {
        self.notes.log.notes.iter().map(|note| format!("{}: {}\n", note.title(), note.text)).collect()
    }
}

impl std::ops::Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_accounted();
        }
    }
}

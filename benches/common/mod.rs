//! The common part of the benchmarks: frames in more memory than the caches can hold, visited in an order that no
//! prefetcher predicts, like mbufs of a mempool; and an appliance whose ports accept every frame.

#![allow(dead_code, reason = "each benchmark uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up ends")]

mod arena;
pub mod frames;
mod sink;
pub mod tables;

pub use arena::{Arena, Buffer};
use arrayvec::ArrayVec;
pub use sink::Sink;
use std::{net::IpAddr, time::Duration};
use stopover::pipeline::{
    MAX_BURST, PacketBurst, PacketCtx, Pipeline, Scratch,
    drop_reason::DropReason,
    packet::Packet,
    packet_counters::PacketCounters,
    ports::{Allowed, Network, Origin, Port, Role, Segment, Underlay, Vif},
    tracer::NoTrace,
};
use stopover::tables::{
    Tables, View,
    entries::{EncapTemplate, Member, NetworkEntry, Path, Seal},
    packed::Bd,
    peer::{Accept, IsolationClass, NetworkSeal, PathClass, Peer, Slot},
};
use stopover_net::{FloodPolicy, Mac, VlanId, Vni};
use stopover_net::{
    ecn::OuterTos,
    frame,
    outer::{OuterHeader, OuterSpec},
};

/// Frames in a burst.
pub const BURST: usize = 32;

/// Nodes behind host 1, by number.
pub const NODES: u32 = 100_000;

pub const OUR_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
pub const UNDERLAY: u16 = 0;
pub const VM: u16 = 1;
pub const OTHER_VM: u16 = 2;
pub const SEGMENT: u16 = 3;
pub const TRUNK: u16 = 4;
/// MACs and IPv4 addresses of the golden frames.
pub const A: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 0x0a]);
pub const B: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 0x0b]);
/// A station behind the segment.
pub const C: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 0x0c]);
/// A station behind the trunk, in VLAN 10.
pub const D: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 0x0d]);

/// Short runs: they show the order of magnitude and whether a change matters, not the last percent.
pub fn criterion() -> criterion::Criterion {
    criterion::Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
}

/// A frame built by scapy, from the wire module's tests.
pub fn golden(name: &str) -> Vec<u8> {
    let line = include_str!("../../net/testdata/golden.txt")
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no golden frame {name}"));
    (0..line.len()).step_by(2).map(|i| u8::from_str_radix(&line[i..i + 2], 16).unwrap()).collect()
}

/// Station number `n` at another host.
pub fn remote(n: u32) -> Mac {
    let n = n.to_be_bytes();
    Mac::new([0x52, 0x54, 1, n[1], n[2], n[3]])
}

/// Frames that were received together.
pub type Burst = ArrayVec<Buffer, MAX_BURST>;

/// The stages of one lcore, over buffers of the arena.
pub type BenchPipeline<'a> = Pipeline<'a, Sink, NoTrace>;

/// The network, as numbered on the wire.
const VNI: u32 = 0x12_3456;

/// An appliance: an underlay port, two vifs, a segment and a trunk in one network, and [`NODES`] nodes at
/// host 1, half of them with an address.
#[derive(Debug)]
pub struct World {
    pub tables: Tables,
    pub view: View,
    pub bd: Bd,
    pub ports: Vec<Port>,
    pub counters: PacketCounters,
    pub sink: Sink,
    tracer: NoTrace,
    scratch: Scratch,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The ports in the order of their numbers: underlay, two vifs, segment, trunk.
fn roles(network: Network) -> [Role; 5] {
    let vif = |mac: Mac, address: [u8; 4]| {
        let ipv4 = [address.into()].into_iter().collect();
        let ipv6 = [mac.link_local(), ip_v6(address[3])].into_iter().collect();
        Role::Vif(Vif {
            network,
            mac,
            ipv4,
            ipv6,
            addressed: true,
            guard: true,
            allowed: Allowed::default(),
            shared: [].into(),
        })
    };
    let underlay = Role::Underlay(Underlay {
        mac: OUR_MAC,
        vlan: None,
        udp_port: 4789,
        addresses: [ip("10.0.0.2"), ip("fd00::2")].into_iter().collect(),
        pcp: false,
        udp6_zero_checksum: false,
    });
    [
        underlay,
        vif(A, [192, 168, 0, 10]),
        vif(B, [192, 168, 0, 11]),
        Role::Segment(Segment::new(Some(network), [])),
        Role::Segment(Segment::new(None, [(VlanId::new(10).unwrap(), network)])),
    ]
}

impl World {
    pub fn new(v6: bool) -> Self {
        Self::with_inner_mtu(v6, 1430)
    }

    /// `inner_mtu`: the largest layer 3 packet, in bytes, that fits the path to the host.
    pub fn with_inner_mtu(v6: bool, inner_mtu: u16) -> Self {
        let (mut tables, views) = Tables::new(1).unwrap();
        let vni = Vni::new(VNI).unwrap();
        let bd = tables.bd(vni).unwrap();
        let network = Network { bd, vni };
        let port = |role| Port { mtu: 1500, fills_checksums: false, segments_tcp: false, role };
        for (mac, at, vlan) in [(A, VM, 0), (B, OTHER_VM, 0), (C, SEGMENT, 0), (D, TRUNK, 10)] {
            tables.set_local(bd, mac, at, vlan, None).unwrap();
        }
        let slot = put_peer(&mut tables, Peer::new(1), v6, inner_mtu);
        for n in 0..NODES {
            tables.set_remote(bd, remote(n), slot, IsolationClass::default()).unwrap();
            if n % 2 == 0 {
                tables.set_owner(bd, address(n), remote(n)).unwrap();
            }
        }
        for vtep in ["10.0.0.1", "fd00::1"] {
            tables.put_vtep(ip(vtep), Peer::new(1)).unwrap();
        }
        let members = [(VM, 0, false), (OTHER_VM, 0, false), (SEGMENT, 0, true), (TRUNK, 10, true)];
        tables.put_network(network_entry(network, [slot].into(), &members)).unwrap();
        tables.publish();
        Self {
            tables,
            view: views.into_iter().next().unwrap().online(),
            bd,
            ports: roles(network).map(port).into(),
            counters: PacketCounters::default(),
            sink: Sink::default(),
            tracer: NoTrace,
            scratch: Scratch::default(),
        }
    }

    /// Sets the network to one local port, that of the VM, and this many hosts.
    pub fn flood_to(&mut self, hosts: u32) {
        let network = Network { bd: self.bd, vni: Vni::new(VNI).unwrap() };
        let slots =
            (1..=hosts).map(|host| put_peer(&mut self.tables, Peer::new(host), false, 1430)).collect();
        self.tables.put_network(network_entry(network, slots, &[(VM, 0, false)])).unwrap();
        self.tables.publish();
        self.view.quiescent();
    }

    /// Runs one burst from a port through the stages. Panics if a frame is dropped: the measurement would be invalid.
    #[inline]
    pub fn burst(&mut self, port: u16, arena: &mut Arena, change: impl Fn(&mut Buffer)) {
        let mut burst = arena.burst(change);
        self.take(port, &mut burst);
        assert!(self.sink.recycle(arena) >= BURST, "{:?}", self.counters);
        self.view.quiescent();
    }

    /// Passes a burst from a port through the stages.
    #[inline]
    pub fn take(&mut self, port: u16, burst: &mut Burst) {
        let mut path = Pipeline {
            view: &self.view,
            ports: &self.ports,
            counters: &self.counters,
            egress: &mut self.sink,
            tracer: &mut self.tracer,
        };
        if port == UNDERLAY {
            path.underlay(port, burst, &mut self.scratch);
        } else {
            path.tenant(port, burst, &mut self.scratch);
        }
    }

    /// The stages.
    #[inline]
    pub fn path(&mut self) -> BenchPipeline<'_> {
        Pipeline {
            view: &self.view,
            ports: &self.ports,
            counters: &self.counters,
            egress: &mut self.sink,
            tracer: &mut self.tracer,
        }
    }

    /// A burst as it is between stages.
    pub fn ctxs(
        &self,
        arena: &mut Arena,
        origin: Origin,
        mut change: impl FnMut(&mut Buffer),
    ) -> PacketBurst<Buffer> {
        let ctx = |_| {
            let mut packet = arena.take();
            change(&mut packet);
            let frame = frame::parse(packet.head(), packet.len()).unwrap();
            PacketCtx { packet, frame, bd: self.bd, vni: Vni::new(VNI).unwrap(), origin, priority: 0 }
        };
        (0..BURST).map(ctx).collect()
    }

    /// How many frames were dropped, for any reason.
    pub fn dropped(&self) -> u64 {
        DropReason::ALL.iter().map(|reason| self.counters.dropped(*reason)).sum()
    }
}

/// Puts a host with a resolved path.
pub fn put_peer(tables: &mut Tables, peer: Peer, v6: bool, inner_mtu: u16) -> Slot {
    let (src, dst) = if v6 { ("fd00::2", "fd00::1") } else { ("10.0.0.2", "10.0.0.1") };
    let spec = OuterSpec {
        src_mac: OUR_MAC,
        dst_mac: Mac::new([2, 0, 0, 0, 0, 1]),
        vlan: None,
        src: ip(src),
        dst: ip(dst),
        dst_port: 4789,
        ttl: 64,
    };
    let outer = OuterHeader::new(&spec).unwrap();
    let template = EncapTemplate { tos: OuterTos::COPY, zero_checksum: false, outer };
    let path = Path { port: UNDERLAY, inner_mtu, template, seal: Seal::None, peer };
    let slot = tables.put_peer(peer, true, Accept::Plain).unwrap();
    tables.set_path(peer, PathClass::Plain, Some(path)).unwrap();
    slot
}

/// A network with these hosts and these ports: number, VLAN tag, whether there is a segment.
fn network_entry(network: Network, slots: Box<[Slot]>, members: &[(u16, u16, bool)]) -> NetworkEntry {
    let member =
        |(port, vlan, segment): &(u16, u16, bool)| Member { port: *port, vlan: *vlan, segment: *segment };
    NetworkEntry {
        migrating: [].into(),
        moved: [].into(),
        bd: network.bd,
        vni: network.vni,
        flood: FloodPolicy::Flood,
        seal: NetworkSeal::ByHost,
        mtu: 0,
        slots,
        segment_slots: [].into(),
        ports: members.iter().map(member).collect(),
    }
}

fn ip_v6(n: u8) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, u16::from(n))
}

/// The address of node `n`.
pub fn address(n: u32) -> IpAddr {
    IpAddr::from((0x0a40_0000 + n).to_be_bytes())
}

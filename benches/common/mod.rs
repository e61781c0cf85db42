//! What the benchmarks share: frames in more memory than the caches hold, visited in an order that no
//! prefetcher guesses, as mbufs come from a mempool; and an appliance whose ports take everything.

#![allow(dead_code, reason = "each benchmark uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up ends")]

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};
use stopover::pipeline::{
    Io, Learn, Pipeline, Scratch,
    fate::Counters,
    moving::Class,
    packet::{Packet, Pool, TxOffload},
    ports::{Network, Port, Role, Segment, Underlay, Vif},
    witness::Nobody,
};
use stopover::tables::{
    Tables, View,
    entries::{HostEntry, Member, NetworkEntry, Way},
    moving::{Arrival, Moving},
    words::Net,
};
use stopover::wire::outer::{OuterHeader, OuterSpec};
use stopover_config::net::{FloodPolicy, Mac, VlanId, Vni};

/// Frames in a burst.
pub const BURST: usize = 32;
/// Buffers of 512 bytes: 64 MiB, twice the largest third-level cache in use.
pub const BUFFERS: usize = 1 << 17;
const SIZE: usize = 512;
const HEADROOM: usize = 128;
/// Odd, and far from a power of two: visits every buffer before any again.
const STRIDE: usize = 40_503;

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

/// Short runs: these tell the order of magnitude and whether a change matters, not the last percent.
pub fn criterion() -> criterion::Criterion {
    criterion::Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
}

/// A frame built by scapy, from the wire module's tests.
pub fn golden(name: &str) -> Vec<u8> {
    let line = include_str!("../../appliance/wire/testdata/golden.txt")
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

/// A frame in a buffer of the arena.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8; SIZE]>,
    start: usize,
    end: usize,
    slot: usize,
    pub unfilled: bool,
}

impl Packet for Buffer {
    fn len(&self) -> usize {
        self.end - self.start
    }
    fn head(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
    fn head_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }
    fn segments(&self) -> impl Iterator<Item = &[u8]> + Clone {
        std::iter::once(self.head())
    }
    fn push(&mut self, n: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(n)?;
        self.bytes.get_mut(self.start..self.start + n)
    }
    fn pull(&mut self, n: usize) -> bool {
        let fits = n <= self.len();
        self.start += if fits { n } else { 0 };
        fits
    }
    fn truncate(&mut self, len: usize) -> bool {
        let fits = len <= self.len();
        self.end = if fits { self.start + len } else { self.end };
        fits
    }
    fn replace(&mut self, bytes: &[u8]) -> bool {
        self.start = HEADROOM;
        self.end = HEADROOM + bytes.len();
        self.unfilled = false;
        let Some(room) = self.bytes.get_mut(self.start..self.end) else { return false };
        room.copy_from_slice(bytes);
        true
    }
    fn checksum_unfilled(&self) -> bool {
        self.unfilled
    }
    fn checksum_bad(&self) -> bool {
        false
    }
    fn gso_size(&self) -> Option<u16> {
        None
    }
    fn stripped_vlan(&self) -> Option<VlanId> {
        None
    }
    fn request_offload(&mut self, _: TxOffload) -> bool {
        true
    }
    fn clear_offload(&mut self) {
        self.unfilled = false;
    }
}

/// More buffers than the caches hold, each with its frame.
#[derive(Debug)]
pub struct Arena {
    /// `None` while a frame is under way.
    buffers: Vec<Option<Box<[u8; SIZE]>>>,
    lens: Vec<usize>,
    next: usize,
}

impl Arena {
    /// `frame(i)` is the frame in buffer `i`.
    pub fn new(frame: impl Fn(u32) -> Vec<u8>) -> Self {
        let mut arena = Self { buffers: Vec::new(), lens: Vec::new(), next: 0 };
        for i in 0..BUFFERS {
            let frame = frame(i as u32);
            let mut bytes = Box::new([0; SIZE]);
            bytes[HEADROOM..HEADROOM + frame.len()].copy_from_slice(&frame);
            arena.buffers.push(Some(bytes));
            arena.lens.push(frame.len());
        }
        arena
    }

    /// The next frame. Stages write into headroom and headers only, so what a frame was it is again.
    #[inline]
    pub fn take(&mut self) -> Buffer {
        self.next = (self.next + STRIDE) % BUFFERS;
        let bytes = self.buffers[self.next].take().unwrap();
        let (slot, end) = (self.next, HEADROOM + self.lens[self.next]);
        Buffer { bytes, start: HEADROOM, end, slot, unfilled: false }
    }

    /// Takes a frame back.
    #[inline]
    pub fn give(&mut self, buffer: Buffer) {
        self.buffers[buffer.slot] = Some(buffer.bytes);
    }

    /// The bytes of the next frame, in place.
    #[inline]
    pub fn peek(&mut self) -> &[u8] {
        self.next = (self.next + STRIDE) % BUFFERS;
        let bytes = self.buffers[self.next].as_deref().unwrap();
        &bytes[HEADROOM..HEADROOM + self.lens[self.next]]
    }
}

/// Ports that take everything; copies come from a list that is filled again when they have been sent.
#[derive(Debug, Default)]
pub struct Sink {
    /// Sent, to be given back to the arena.
    pub sent: Vec<Buffer>,
    spare: Vec<Buffer>,
}

/// Marks a buffer that is a copy.
const COPY: usize = usize::MAX;

impl Sink {
    fn copy_of(&mut self, frame: &[&[u8]]) -> Option<Buffer> {
        let mut bytes = self.spare.pop().map_or_else(|| Box::new([0; SIZE]), |spare| spare.bytes);
        let mut end = HEADROOM;
        for part in frame {
            bytes.get_mut(end..end + part.len())?.copy_from_slice(part);
            end += part.len();
        }
        Some(Buffer { bytes, start: HEADROOM, end, slot: COPY, unfilled: false })
    }

    /// Gives what was sent back to where it came from, and says how much it was.
    #[inline]
    pub fn empty(&mut self, arena: &mut Arena) -> usize {
        let sent = self.sent.len();
        for buffer in self.sent.drain(..) {
            if buffer.slot == COPY {
                self.spare.push(buffer);
            } else {
                arena.give(buffer);
            }
        }
        sent
    }
}

impl Io for Sink {
    type P = Buffer;
    #[inline]
    fn send(&mut self, _: u16, packet: Buffer) {
        self.sent.push(packet);
    }
    fn punt(&mut self, _: u16, packet: Buffer) -> Result<(), Buffer> {
        Err(packet)
    }
    fn learn(&mut self, _: Learn) {}
    fn router(&mut self, _: Net, _: Ipv6Addr) {}
    fn waits(&self, _: u32, _: u32) -> bool {
        false
    }
    fn keep(&mut self, _: &Moving, _: u32, _: u32, _: Class, _: &Buffer) -> bool {
        false
    }
    fn relay(&mut self, _: u16, packet: Buffer) -> Result<(), Buffer> {
        Err(packet)
    }
    fn arrived(&mut self, _: Net, _: Mac, _: u32, _: u64) {}
    fn own_back(&mut self, _: &Arrival, _: u32) {}
    fn may_err(&mut self) -> bool {
        true
    }
}

impl Pool<Buffer> for Sink {
    fn copy(&mut self, packet: &Buffer) -> Option<Buffer> {
        self.copy_of(&[packet.head()])
    }
    fn copy_range(&mut self, head: &[u8], packet: &Buffer, from: usize, len: usize) -> Option<Buffer> {
        self.copy_of(&[head, packet.head().get(from..from + len)?])
    }
    fn make(&mut self, bytes: &[u8]) -> Option<Buffer> {
        self.copy_of(&[bytes])
    }
}

/// An appliance: an underlay port, two vifs, a segment and a trunk in one network, and [`NODES`] nodes at
/// host 1, half of them with an address.
#[derive(Debug)]
pub struct World {
    pub tables: Tables,
    pub view: View,
    pub net: Net,
    pub ports: Vec<Port>,
    pub counters: Counters,
    pub sink: Sink,
    scratch: Scratch,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl World {
    pub fn new(v6: bool) -> Self {
        let (mut tables, views) = Tables::new(1).unwrap();
        let vni = Vni::new(0x12_3456).unwrap();
        let net = tables.net(vni).unwrap();
        let network = Network { net, vni };
        let vif = |mac: Mac, address: [u8; 4]| {
            let ipv4 = [address.into()].into_iter().collect();
            let ipv6 = [mac.link_local(), ip_v6(address[3])].into_iter().collect();
            Role::Vif(Vif { network, mac, ipv4, ipv6, addressed: true, guard: true })
        };
        let underlay = Role::Underlay(Underlay {
            mac: OUR_MAC,
            vlan: None,
            udp_port: 4789,
            addresses: [ip("10.0.0.2"), ip("fd00::2")].into_iter().collect(),
            udp6_zero_checksum: false,
        });
        let roles = [
            underlay,
            vif(A, [192, 168, 0, 10]),
            vif(B, [192, 168, 0, 11]),
            Role::Segment(Segment::new(Some(network), [])),
            Role::Segment(Segment::new(None, [(VlanId::new(10).unwrap(), network)])),
        ];
        let port = |role| Port { mtu: 1500, fills_checksums: false, segments_tcp: false, role };
        for (mac, at) in [(A, VM), (B, OTHER_VM), (C, SEGMENT)] {
            tables.set_local(net, mac, at, 0, None).unwrap();
        }
        for n in 0..NODES {
            tables.set_remote(net, remote(n), 1).unwrap();
            if n % 2 == 0 {
                tables.set_owner(net, address(n), remote(n)).unwrap();
            }
        }
        let (src, dst) = if v6 { ("fd00::2", "fd00::1") } else { ("10.0.0.2", "10.0.0.1") };
        tables.put_vtep(ip("10.0.0.1"), 1).unwrap();
        tables.put_vtep(ip("fd00::1"), 1).unwrap();
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
        let way = Way { outer, port: UNDERLAY, inner_mtu: 1430, dscp: None, zero_checksum: false };
        tables.put_host(1, HostEntry { way: Some(way), marks: true }).unwrap();
        let member = |port, vlan, segment| Member { port, vlan, segment };
        let entry = NetworkEntry {
            net,
            vni,
            flood: FloodPolicy::Flood,
            hosts: [1].into(),
            segment_hosts: [].into(),
            ports: [
                member(VM, 0, false),
                member(OTHER_VM, 0, false),
                member(SEGMENT, 0, true),
                member(TRUNK, 10, true),
            ]
            .into(),
        };
        tables.put_network(entry).unwrap();
        tables.publish();
        Self {
            tables,
            view: views.into_iter().next().unwrap().online(),
            net,
            ports: roles.map(port).into(),
            counters: Counters::default(),
            sink: Sink::default(),
            scratch: Scratch::default(),
        }
    }

    /// Runs one burst from a port through the stages. Panics if a frame is dropped: then something else was
    /// measured than meant.
    #[inline]
    pub fn burst(&mut self, port: u16, arena: &mut Arena, change: impl Fn(&mut Buffer)) {
        let mut burst = (0..BURST)
            .map(|_| {
                let mut buffer = arena.take();
                change(&mut buffer);
                buffer
            })
            .collect();
        let mut path = Pipeline {
            view: &self.view,
            ports: &self.ports,
            counters: &self.counters,
            io: &mut self.sink,
            witness: &mut Nobody,
        };
        if port == UNDERLAY {
            path.underlay(port, &mut burst, &mut self.scratch);
        } else {
            path.tenant(port, &mut burst, &mut self.scratch);
        }
        assert!(self.sink.empty(arena) >= BURST, "{:?}", self.counters);
        self.view.quiescent();
    }
}

fn ip_v6(n: u8) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, u16::from(n))
}

/// The address of node `n`.
pub fn address(n: u32) -> IpAddr {
    IpAddr::from((0x0a40_0000 + n).to_be_bytes())
}

//! The records that the fast tables' indices point to: one per slot, per peer and per network. Immutable once
//! published; a change publishes a new record.

use super::{
    packed::Bd,
    peer::{Accept, NetworkSeal, PathClass, Peer, Slot, TunnelIndex},
};
use std::mem::offset_of;
use stopover_net::{FloodPolicy, Mac, Vni};
use stopover_net::{ecn::OuterTos, outer::OuterHeader};

/// What a slot leads to. An untagged IPv4 path is read from the first cache line alone: with ten thousand hosts every
/// line counts.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct SlotEntry {
    /// The path in force; `None` while the next hop is not resolved.
    pub path: Option<Path>,
    /// Whose slot it is.
    pub peer: Peer,
}

/// A way to send to a peer.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Path {
    /// The underlay port to send from.
    pub port: u16,
    /// Largest inner layer 3 packet, in bytes, that fits the underlay with its outer headers.
    pub inner_mtu: u16,
    /// The outer headers.
    pub template: EncapTemplate,
    /// Whether the datagrams are encrypted.
    pub seal: Seal,
    /// Where it leads.
    pub peer: Peer,
}

/// The outer headers of a path, and how they follow from a frame.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct EncapTemplate {
    /// The outer traffic class or type of service.
    pub tos: OuterTos,
    /// Send IPv6 datagrams without a UDP checksum (RFC 6935).
    pub zero_checksum: bool,
    /// The outer headers, built once, patched per frame.
    pub outer: OuterHeader,
}

/// How the datagrams of a path are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// Not at all: plain VXLAN (RFC 7348).
    None,
    /// By the tunnel with this number; there may be no key for it yet.
    Tunnel(TunnelIndex),
}

/// Where the last byte that an untagged IPv4 path needs is in a [`SlotEntry`].
const USED_BY_IPV4: usize =
    offset_of!(Path, template) + offset_of!(EncapTemplate, outer) + OuterHeader::USED_BY_IPV4;
const _: () = assert!(offset_of!(SlotEntry, path) == 0 && USED_BY_IPV4 <= 64);

/// Another host.
#[derive(Debug, Clone)]
pub struct PeerEntry {
    /// It is an appliance: it understands overlay flags and end markers, which a foreign VTEP may drop.
    pub is_appliance: bool,
    /// Which datagrams are accepted from it.
    pub accept: Accept,
    /// Its slots, by path class.
    pub slots: [Slot; PathClass::COUNT],
}

impl PeerEntry {
    /// Its slot of this class.
    #[must_use]
    pub const fn slot(&self, class: PathClass) -> Slot {
        self.slots[class as usize]
    }
}

/// A network of which this appliance has members.
#[derive(Debug, Clone)]
pub struct NetworkEntry {
    /// Its number here.
    pub bd: Bd,
    /// Its number on the wire.
    pub vni: Vni,
    /// The policy for frames without a known receiver.
    pub flood: FloodPolicy,
    /// The declared MTU of its stations, in bytes; 0 if none is declared.
    pub mtu: u16,
    /// Whether its frames must be sealed.
    pub seal: NetworkSeal,
    /// The slots of other hosts with members.
    pub slots: Box<[Slot]>,
    /// Those of hosts that have segments.
    pub segment_slots: Box<[Slot]>,
    /// Local ports in the network.
    pub ports: Box<[Member]>,
    /// Nodes that are locked for a migration, or were until just now. Each gets a separate copy of a group frame, by
    /// the path of its other frames.
    pub migrating: Box<[Mac]>,
    /// The same for some time longer, sorted: another host, which learns later that a lock has ended, may still send
    /// them separate copies.
    pub moved: Box<[Mac]>,
}

/// A local port's membership of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The port.
    pub port: u16,
    /// The VLAN tag to send with; 0 for none.
    pub vlan: u16,
    /// Unregistered stations may be behind it.
    pub segment: bool,
}

//! The records that the fast tables' indices point to: one per host, one per network. Immutable once
//! published; a change publishes a new record.

use super::packed::Bd;
use std::mem::offset_of;
use stopover_net::{FloodPolicy, Mac, Vni};
use stopover_net::{ecn::OuterTos, outer::OuterHeader};

/// A remote host as the packet path needs it. An untagged IPv4 path is read from the first cache line alone: with ten
/// thousand hosts every line counts.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct HostEntry {
    /// Its path; `None` while the next hop is not resolved.
    pub path: Option<Path>,
    /// It is an appliance: it understands overlay flags and end markers, which a foreign VTEP may drop.
    pub is_appliance: bool,
}

/// A resolved path to a host.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Path {
    /// The underlay port to send from.
    pub port: u16,
    /// Largest inner layer 3 packet, in bytes, that fits the underlay with its outer headers.
    pub inner_mtu: u16,
    /// The outer traffic class or type of service.
    pub tos: OuterTos,
    /// Send IPv6 datagrams without a UDP checksum (RFC 6935).
    pub zero_checksum: bool,
    /// The outer headers, built once, patched per frame.
    pub outer: OuterHeader,
}

const _: () =
    assert!(offset_of!(HostEntry, path) == 0 && offset_of!(Path, outer) + OuterHeader::USED_BY_IPV4 <= 64);

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
    /// Indices of other hosts with members.
    pub hosts: Box<[u32]>,
    /// Those of `hosts` that have segments.
    pub segment_hosts: Box<[u32]>,
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

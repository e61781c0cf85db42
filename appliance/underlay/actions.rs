//! The results of the underlay control plane for its caller: frames to send, next hops found and lost, and events for
//! the log. Plain data.

use std::fmt;
use std::net::IpAddr;
use stopover_net::{Mac, VlanId};

/// The values of an outer header to one VTEP, except TTL, DSCP and UDP ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// Index of the underlay port to send from.
    pub port: usize,
    /// Outer source MAC: the port's.
    pub src_mac: Mac,
    /// Outer destination MAC: the next hop's.
    pub dst_mac: Mac,
    /// Outer 802.1Q tag.
    pub vlan: Option<VlanId>,
    /// Outer source address, of the family of the destination.
    pub src_ip: IpAddr,
    /// Largest outer IP packet in bytes (headers included, Ethernet and tag not): the smaller of the port's MTU
    /// and the path MTU learned from ICMP.
    pub mtu: u16,
}

/// An event for the operator. [`fmt::Display`] gives the log line. `port` is the index of the underlay port, `ip` the
/// address of a neighbour on its link unless stated otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named for what they are; the units stand above and below")]
pub enum Event {
    /// Another station, at `mac`, uses or wants to use `ip`, an address of ours. At most once in 10 s for an address.
    Conflict { port: usize, ip: IpAddr, mac: Mac },
    /// A neighbour in use stopped answering or never answered.
    Unreachable { port: usize, ip: IpAddr },
    /// A neighbour that was unreachable answers again.
    Reachable { port: usize, ip: IpAddr, mac: Mac },
    /// A neighbour in use has another MAC than before.
    Moved { port: usize, ip: IpAddr, old: Mac, new: Mac },
    /// The path to a tracked destination has an MTU of `mtu` bytes for outer packets, less than the port.
    PathMtu { dst: IpAddr, mtu: u16 },
    /// No connected prefix, route or gateway matches a tracked destination, or no packet can be sent to its address.
    NoRoute { dst: IpAddr },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { port, ip, mac } => write!(
                f,
                "address conflict: {mac} uses our underlay address {ip} (port {port}); we keep it: give one of the two another address"
            ),
            Self::Unreachable { port, ip } => {
                write!(f, "underlay neighbour {ip} (port {port}) does not answer; requests continue")
            }
            Self::Reachable { port, ip, mac } => {
                write!(f, "underlay neighbour {ip} (port {port}) answers again, at {mac}")
            }
            Self::Moved { port, ip, old, new } => {
                write!(f, "underlay neighbour {ip} (port {port}) moved from {old} to {new}")
            }
            Self::PathMtu { dst, mtu } => {
                write!(
                    f,
                    "a router reports that the path to {dst} takes outer packets of at most {mtu} bytes"
                )
            }
            Self::NoRoute { dst } => write!(
                f,
                "no route to VTEP {dst}: expected a connected prefix, route or gateway of the same family on an underlay port"
            ),
        }
    }
}

/// The result of one call. A destination is at most once in `resolved` and `lost` together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actions {
    /// Whole Ethernet frames, each with the index of the port to send it from. Not padded to 60 bytes.
    pub send: Vec<(usize, Vec<u8>)>,
    /// Tracked destinations whose resolution is new or has changed.
    pub resolved: Vec<(IpAddr, Resolution)>,
    /// Tracked destinations that are no longer resolved.
    pub lost: Vec<IpAddr>,
    /// For the log.
    pub events: Vec<Event>,
}

impl Actions {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.send.is_empty() && self.resolved.is_empty() && self.lost.is_empty() && self.events.is_empty()
    }
}

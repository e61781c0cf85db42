//! What the underlay control plane hands back to its caller: frames to send, next hops found and lost, and what
//! an operator should read in the log. Plain data.

use std::fmt;
use std::net::IpAddr;
use stopover_net::{Mac, VlanId};

/// Everything an outer header to one VTEP needs beside TTL, DSCP and UDP ports.
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

/// Something an operator should know. [`fmt::Display`] gives the log line. `port` is the index of the underlay
/// port, `ip` the address of a neighbour on its link unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named for what they are; the units stand above and below")]
pub enum Event {
    /// Another station, at `mac`, uses or wants to use `ip`, an address of ours. At most once in 10 s for an address.
    Conflict { port: usize, ip: IpAddr, mac: Mac },
    /// A wanted neighbour stopped answering or never answered.
    Unreachable { port: usize, ip: IpAddr },
    /// A neighbour that was unreachable answers again.
    Reachable { port: usize, ip: IpAddr, mac: Mac },
    /// A wanted neighbour has another MAC than before.
    Moved { port: usize, ip: IpAddr, old: Mac, new: Mac },
    /// The path to a wanted destination takes outer packets of `mtu` bytes, fewer than the port.
    PathMtu { dst: IpAddr, mtu: u16 },
    /// No connected prefix, route or gateway leads to a wanted destination, or it is none a packet can be sent to.
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
                write!(f, "underlay neighbour {ip} (port {port}) does not answer; asking on")
            }
            Self::Reachable { port, ip, mac } => {
                write!(f, "underlay neighbour {ip} (port {port}) answers again, at {mac}")
            }
            Self::Moved { port, ip, old, new } => {
                write!(f, "underlay neighbour {ip} (port {port}) moved from {old} to {new}")
            }
            Self::PathMtu { dst, mtu } => {
                write!(f, "path to {dst} takes outer packets of at most {mtu} bytes, says a router")
            }
            Self::NoRoute { dst } => write!(
                f,
                "no route to VTEP {dst}: expected a connected prefix, route or gateway of the same family on an underlay port"
            ),
        }
    }
}

/// The result of one call. Within one call a destination stands at most once in `resolved` and `lost` together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actions {
    /// Whole Ethernet frames, each with the index of the port to send it from. Not padded to 60 bytes.
    pub send: Vec<(usize, Vec<u8>)>,
    /// Wanted destinations whose resolution is new or has changed.
    pub resolved: Vec<(IpAddr, Resolution)>,
    /// Wanted destinations that were resolved and are not any more.
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

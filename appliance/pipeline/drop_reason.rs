//! The reasons to drop a frame, with the text that an operator reads. Each has a counter, see [`packet_counters`].
//!
//! [`packet_counters`]: super::packet_counters

use stopover_net::{frame::BadFrame, underlay::BadOuter};
use stopover_tunnel::sa::SaDrop;

macro_rules! drop_reasons {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal, $explanation:literal; )*) => {
        /// Why a frame was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum DropReason { $( #[doc = $explanation] $variant, )* }

        impl DropReason {
            /// Every reason, in the order of their counters.
            pub const ALL: &[Self] = &[ $( Self::$variant, )* ];

            /// The name of its counter.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// What it means, in a sentence for the operator.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $( Self::$variant => $explanation, )* }
            }
        }
    };
}

drop_reasons! {
    Malformed = "malformed", "the frame is truncated, or a length or header field in it is wrong";
    HeadersSplit = "headers_split", "the headers do not lie in the frame's first buffer segment";
    BadSourceMac = "bad_source_mac", "the source MAC is zero or a group address";
    LinkLocalControl = "link_local_control", "the destination is a MAC that no bridge forwards: spanning tree, pause, LACP, LLDP (IEEE 802.1Q table 8-1), and control protocols of Cisco and Extreme bridges (PVST+, CDP, VTP, DTP, UDLD, EDP, EAPS)";
    GuardMac = "guard_mac", "a vif sent from a MAC that is not its own";
    GuardIp = "guard_ip", "a vif sent from an IP address that is not its own";
    GuardArp = "guard_arp", "a vif sent ARP or ND that claims a MAC or IP address that is not its own";
    GuardRouter = "guard_router", "a vif without `router: true` sent a router advertisement or redirect, or an IPv6 fragment that hides one";
    GuardDhcp = "guard_dhcp", "a vif without `dhcp_server: true` sent what only a DHCP server or relay sends";
    VlanOnVif = "vlan_on_vif", "a vif sent a frame with a VLAN tag (one of priority only, VLAN 0, is taken off)";
    UnknownVlan = "unknown_vlan", "a segment sent a VLAN that its configuration maps to no network";
    InnerVlan = "inner_vlan", "a VLAN tag inside the overlay (RFC 7348 section 6.1 wants it discarded)";
    SourceIsRemote = "source_is_remote", "a segment sent from the MAC of a node that is registered at another host: a loop, a spoof, or a move that the board has not decided yet";
    SourceIsLocal = "source_is_local", "the underlay, or a segment, sent a frame from the MAC of a node that is elsewhere on this host: a loop or a spoof";
    StationLimit = "station_limit", "a segment sent from a MAC that is not learned, because the port or the network has all the stations it may have, or new ones appear too fast (`max_stations`, `max_network_stations`, `new_stations_per_s`)";
    SegmentBlocked = "segment_blocked", "a segment port that is blocked for the network, because another port forwards for the same LAN (`show port info all` says which)";
    SegmentLoop = "segment_loop", "a segment sent the same flooded frame repeatedly: there is a loop";
    SameSegment = "same_segment", "source and destination are behind the same port and reach each other without us";
    UnknownUnicast = "unknown_unicast", "the destination MAC is not registered and the network's flood policy sends it nowhere";
    FloodDisabled = "flood_disabled", "broadcast or multicast in a network whose flood policy is drop";
    NoMembers = "no_members", "a frame to be replicated, and no other port or host has members of the network";
    HostUnresolved = "host_unresolved", "the next hop towards the destination host has no known MAC yet, or there is no route";
    TooBig = "too_big", "the frame does not fit the underlay's MTU with its outer headers; the sender gets an ICMP error where the protocol allows";
    NoHeadroom = "no_headroom", "the buffer has no room for the outer headers";
    PoolEmpty = "pool_empty", "no buffer was free for a copy or an answer";
    TxFull = "tx_full", "the sending port's queue stayed full";
    TxRefused = "tx_refused", "the sending device cannot do what the frame asks of it";
    PortDown = "port_down", "the sending port has no link, no VM is connected, or its device is not in service";
    ServedApart = "served_apart", "no loss: a copy of a group frame that a migrating node, or its segment, gets by another path";
    HandoffFull = "handoff_full", "the ring to the lcore that owns the sending queue is full";
    ControlFull = "control_full", "the ring to the control thread is full";
    OuterNotOurs = "outer_not_ours", "an underlay frame for another station's MAC, or for a VLAN that is not the underlay's";
    OuterMalformed = "outer_malformed", "outer headers truncated, with wrong lengths or a wrong header checksum";
    OuterFragment = "outer_fragment", "an IP fragment of a tunnel datagram (RFC 7348 section 4.3 lets a VTEP discard them)";
    OuterChecksum = "outer_checksum", "a wrong UDP checksum, or none on IPv6 where it was not allowed";
    OuterUnexpected = "outer_unexpected", "an underlay frame of a protocol or port that the VTEP does not handle";
    BadVxlan = "bad_vxlan", "a VXLAN header without its I flag, or too short an inner frame (RFC 7348 section 5), or another datagram to the tunnel's port of no known kind";
    UnknownVtep = "unknown_vtep", "the outer source address is no registered host's";
    PlainRefused = "plain_refused", "plain VXLAN from a host of which only sealed datagrams are accepted";
    NoTunnel = "no_tunnel", "the frame must be sealed, and there is no tunnel to its host; it has waited for one, or there was no room to wait";
    SealExhausted = "seal_exhausted", "the keys of the tunnel have sealed all that they may, or are too old, and no new ones have replaced them";
    SealFailed = "seal_failed", "the cipher has refused to seal the frame";
    NoTailroom = "no_tailroom", "the buffer has no room for what a seal adds behind the frame";
    UnknownSpi = "unknown_spi", "a sealed datagram under an SPI that no tunnel of ours has: its sender has old keys, or it is forged";
    BadSeal = "bad_seal", "a sealed datagram that its key does not open: forged, or altered on the way";
    Replayed = "replayed", "a sealed datagram that came before, or that is older than the replay window";
    NotItsNode = "not_its_node", "a sealed frame from the MAC of a node that is at another host than the one whose key has sealed it";
    UnknownVni = "unknown_vni", "a VNI of which this host has no member";
    EcnViolation = "ecn_violation", "congestion experienced on the underlay, and the inner packet cannot carry the mark (RFC 6040 section 4.2)";
    NotHere = "not_here", "a frame from the underlay for a node that is not at this host; forwarding it could loop";
    HoldFull = "hold_full", "the frame's node is migrating, and the hold has no room within its budget of bytes";
    HoldExpired = "hold_expired", "the frame's node was migrating, and appeared nowhere, or took no frame, within the hold's budget of time";
    WindowOver = "window_over", "a copy of a delivered frame, held in case its node had left, and not needed";
    EndMarker = "end_marker", "not a frame but an end marker between appliances, which was processed here or arrived too late";
    BadMarker = "bad_marker", "an end marker that is malformed";
    BadChecksumOffload = "bad_checksum_offload", "the sender left a checksum or segmentation unfinished that makes no sense for the frame";
    Answered = "answered", "an ARP or ND request that needs no answer from us: a probe for the requester's own address";
    Shutdown = "shutdown", "still queued when the appliance stopped";
}

impl From<BadFrame> for DropReason {
    fn from(bad: BadFrame) -> Self {
        match bad {
            BadFrame::HeadersSplit => Self::HeadersSplit,
            _ => Self::Malformed,
        }
    }
}

impl From<BadOuter> for DropReason {
    fn from(bad: BadOuter) -> Self {
        match bad {
            BadOuter::HeadersSplit => Self::HeadersSplit,
            BadOuter::WrongVlan => Self::OuterNotOurs,
            BadOuter::Fragment => Self::OuterFragment,
            BadOuter::VxlanTruncated
            | BadOuter::VxlanFlags
            | BadOuter::VniZero
            | BadOuter::InnerRunt
            | BadOuter::BadShim => Self::BadVxlan,
            _ => Self::OuterMalformed,
        }
    }
}

impl From<SaDrop> for DropReason {
    fn from(drop: SaDrop) -> Self {
        match drop {
            SaDrop::NoTunnel => Self::NoTunnel,
            SaDrop::SealExhausted => Self::SealExhausted,
            SaDrop::NoHeadroom => Self::NoHeadroom,
            SaDrop::NoTailroom => Self::NoTailroom,
            SaDrop::SealFailed => Self::SealFailed,
            SaDrop::UnknownSpi => Self::UnknownSpi,
            SaDrop::Replayed => Self::Replayed,
            SaDrop::BadSeal => Self::BadSeal,
            SaDrop::NotEsp | SaDrop::BadPadding | SaDrop::BadNextHeader => Self::OuterMalformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_names_are_unique() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|d| d.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}

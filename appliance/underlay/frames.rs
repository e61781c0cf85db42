//! Parses and builds frames of the underlay control plane with [`stopover_net`]. Enters: a whole Ethernet frame that
//! the packet path did not process as VXLAN. Leaves: a [`Packet`] for the port, or the [`Outcome`] with the reason
//! why not. Built frames get the MAC and VLAN tag of the port here. No decisions here.

use super::counters::Outcome;
use super::port::{UnderlayPort, is_station};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use stopover_net::Mac;
use stopover_net::arp::{self, ArpFacts, BadArp};
use stopover_net::checksum::{self, Sum};
use stopover_net::ethernet::{self, ethertype};
use stopover_net::frame::{self, BadFrame, Fragment, Frame, Kind, L4};
use stopover_net::ipv4::{self, protocol};
use stopover_net::ipv6::{self, ALL_NODES, extension, multicast_mac};
use stopover_net::l4_checksum::{L4Check, check_l4};
use stopover_net::nd::{self, Advert, AdvertSpec, BadNd, Nd, Solicit};
use stopover_net::{icmp, icmpv4, icmpv6, udp};

/// Unreachable, fragmentation needed and DF set (RFC 1191 section 4).
const CODE_FRAGMENTATION_NEEDED: u8 = 4;
/// Multicast listener query, version 1 or 2 (RFC 3810 section 5.1).
const MLD_QUERY: u8 = 130;
/// Version 2 multicast listener report (RFC 3810 section 5.2).
const MLD2_REPORT: u8 = 143;
/// All MLDv2-capable routers (RFC 3810 section 5.2.14).
const MLD2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// What a router that predates RFC 1191 may mean by a next-hop MTU of zero (RFC 1191 section 7.1).
const PLATEAUS: [u32; 7] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006];

/// Where a tag goes: behind the two MACs.
const TAG_AT: usize = 12;

/// The packet that an ICMP error quotes, as far as it is needed to recognise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quoted {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub udp_dst: u16,
    /// Whole IP packet in bytes, by its own header.
    pub len: u32,
}

/// The content of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet {
    Arp(ArpFacts),
    Solicit(Solicit),
    Advert(Advert),
    /// A ping of an address of ours.
    Echo,
    /// Multicast listener query.
    MldQuery,
    /// Fragmentation needed, packet too big, sent to `to`. `mtu` in bytes of the IP packet.
    TooBig {
        to: IpAddr,
        quoted: Quoted,
        mtu: u32,
    },
}

/// Parses a frame received by `port`.
pub(super) fn parse(port: &UnderlayPort, bytes: &[u8]) -> Result<(Frame, Packet), Outcome> {
    let frame = frame::parse(bytes, bytes.len()).map_err(|bad| match bad {
        BadFrame::Runt
        | BadFrame::Ipv4Truncated
        | BadFrame::Ipv4Overrun
        | BadFrame::Ipv6Truncated
        | BadFrame::Ipv6Overrun => Outcome::Truncated,
        _ => Outcome::Malformed,
    })?;
    if frame.src == port.mac {
        return Err(Outcome::OwnFrame);
    }
    // VID 0 only carries a priority: such a frame is untagged (IEEE 802.1Q table 9-2).
    let vid = frame.vlan.map_or(0, |tag| tag.vid());
    let foreign_tag = frame.vlan.is_some_and(|tag| tag.tpid != ethertype::VLAN);
    if foreign_tag || vid != port.vlan.map_or(0, |v| v.get()) {
        return Err(Outcome::WrongVlan);
    }
    if !frame.dst.is_group() && frame.dst != port.mac {
        return Err(Outcome::OtherMac);
    }
    if frame.src.station().is_err() {
        return Err(Outcome::BadSource);
    }
    let packet = match &frame.kind {
        Kind::Arp => parse_arp(&frame, bytes),
        Kind::Ipv4(ip) => parse_ipv4(port, &frame, ip, bytes),
        Kind::Ipv6(ip) => parse_ipv6(port, &frame, ip, bytes),
        Kind::Rarp | Kind::Other => Err(Outcome::EtherType),
    }?;
    Ok((frame, packet))
}

fn parse_arp(frame: &Frame, bytes: &[u8]) -> Result<Packet, Outcome> {
    let arp = arp::parse(frame, bytes).map_err(|bad| match bad {
        BadArp::Truncated => Outcome::Truncated,
        BadArp::SenderMac => Outcome::BadSource,
        BadArp::NotEthernetIpv4 | BadArp::Operation => Outcome::Malformed,
    })?;
    let probe = arp.sender_ip.is_unspecified() && !arp.is_reply;
    if probe || is_station(arp.sender_ip.into()) { Ok(Packet::Arp(arp)) } else { Err(Outcome::BadSource) }
}

fn parse_ipv4(port: &UnderlayPort, frame: &Frame, ip: &frame::Ipv4, bytes: &[u8]) -> Result<Packet, Outcome> {
    let l3 = usize::from(frame.l3_off);
    let header = bytes.get(l3..l3 + usize::from(ip.hdr_len)).ok_or(Outcome::Truncated)?;
    if !checksum::is_valid(header) {
        return Err(Outcome::Checksum);
    }
    if !port.owns(ip.dst.into()) {
        return Err(Outcome::OtherAddress);
    }
    let src = IpAddr::V4(ip.src);
    if !is_station(src) || port.owns(src) || port.subnet_broadcast(src) {
        return Err(Outcome::BadSource);
    }
    if ip.fragment != Fragment::Whole {
        return Err(Outcome::Fragment);
    }
    let (kind, code, rest) = message(port, frame, bytes)?;
    match (kind, code) {
        // A reply that repeats options could be diverted by source routing.
        (icmpv4::kind::ECHO_REQUEST, 0) if header.len() == ipv4::HEADER_LEN => Ok(Packet::Echo),
        (icmpv4::kind::UNREACHABLE, CODE_FRAGMENTATION_NEEDED) => {
            let icmp = icmpv4::Header::new_checked(rest).map_err(|_| Outcome::Truncated)?;
            let quoted = quoted_ipv4(&rest[icmpv4::HEADER_LEN..]).ok_or(Outcome::PathMtuRefused)?;
            let mtu = match icmp.next_hop_mtu() {
                0 => PLATEAUS.into_iter().find(|p| *p < quoted.len).unwrap_or(0),
                mtu => u32::from(mtu),
            };
            Ok(Packet::TooBig { to: ip.dst.into(), quoted, mtu })
        }
        _ => Err(Outcome::UnexpectedIcmp),
    }
}

fn parse_ipv6(port: &UnderlayPort, frame: &Frame, ip: &frame::Ipv6, bytes: &[u8]) -> Result<Packet, Outcome> {
    let to_group = ip.dst == ALL_NODES || port.groups().contains(&ip.dst);
    if port.link_local().is_none() || !(to_group || port.owns(ip.dst.into())) {
        return Err(Outcome::OtherAddress);
    }
    if !(ip.src.is_unspecified() || is_station(ip.src.into())) {
        return Err(Outcome::BadSource);
    }
    if ip.fragment != Fragment::Whole || ip.proto == extension::FRAGMENT {
        return Err(Outcome::Fragment);
    }
    if ip.routing {
        return Err(Outcome::UnexpectedProtocol);
    }
    if matches!(frame.l4, L4::Icmpv6 { kind, .. } if icmpv6::is_nd(kind)) {
        return parse_nd(frame, bytes);
    }
    let (kind, code, rest) = message(port, frame, bytes)?;
    let from_station = !ip.src.is_unspecified() && !port.owns(ip.src.into());
    match (kind, code) {
        (MLD_QUERY, _) if ip.hop_limit == 1 && ip.src.is_unicast_link_local() => Ok(Packet::MldQuery),
        (MLD_QUERY, _) => Err(Outcome::Malformed),
        (_, _) if !from_station => Err(Outcome::BadSource),
        (icmpv6::kind::ECHO_REQUEST, 0) if !to_group && ip.ext_len == 0 => Ok(Packet::Echo),
        (icmpv6::kind::PACKET_TOO_BIG, _) if !to_group => {
            let icmp = icmpv6::Header::new_checked(rest).map_err(|_| Outcome::Truncated)?;
            let quoted = quoted_ipv6(&rest[icmpv6::HEADER_LEN..]).ok_or(Outcome::PathMtuRefused)?;
            Ok(Packet::TooBig { to: ip.dst.into(), quoted, mtu: icmp.word() })
        }
        _ => Err(Outcome::UnexpectedIcmp),
    }
}

fn parse_nd(frame: &Frame, bytes: &[u8]) -> Result<Packet, Outcome> {
    match nd::parse(frame, bytes) {
        Ok(Nd::Solicit(solicit)) => Ok(Packet::Solicit(solicit)),
        Ok(Nd::Advert(advert)) => Ok(Packet::Advert(advert)),
        Ok(Nd::RouterSolicit | Nd::RouterAdvert | Nd::Redirect) => Err(Outcome::NotForUs),
        Err(BadNd::Checksum) => Err(Outcome::Checksum),
        Err(BadNd::LinkLayer) => Err(Outcome::BadSource),
        Err(_) => Err(Outcome::Malformed),
    }
}

/// Type, code and all bytes of the ICMP or ICMPv6 message of an IP packet. The checksum is verified; only a listener
/// query may be sent to a group.
fn message<'a>(port: &UnderlayPort, frame: &Frame, bytes: &'a [u8]) -> Result<(u8, u8, &'a [u8]), Outcome> {
    let (kind, code) = match frame.l4 {
        L4::Icmp { kind, code } | L4::Icmpv6 { kind, code } => (kind, code),
        L4::Udp { .. } => return Err(Outcome::UnexpectedUdp),
        L4::Tcp { .. } => return Err(Outcome::UnexpectedTcp),
        L4::Malformed => return Err(Outcome::Malformed),
        L4::None | L4::Other => return Err(Outcome::UnexpectedProtocol),
    };
    if check_l4(frame, std::iter::once(bytes)) != L4Check::Good {
        return Err(Outcome::Checksum);
    }
    if frame.dst != port.mac && kind != MLD_QUERY {
        return Err(Outcome::OtherMac);
    }
    let from = frame.l4_off.map_or(bytes.len(), usize::from);
    Ok((kind, code, bytes.get(from..frame.l3_end()).ok_or(Outcome::Truncated)?))
}

/// A quote need not hold the whole packet: only its headers are looked at.
fn quoted_ipv4(b: &[u8]) -> Option<Quoted> {
    let ip = ipv4::Header::of(b.first_chunk()?);
    let has_udp = ip.version() == 4 && ip.protocol() == protocol::UDP && ip.flags_and_offset() & 0x1fff == 0;
    // Our packets have no options, so the UDP header follows directly.
    if !has_udp || ip.header_len() != ipv4::HEADER_LEN {
        return None;
    }
    let udp = udp::Header::of(b[ipv4::HEADER_LEN..].first_chunk()?);
    Some(Quoted {
        src: ip.src().into(),
        dst: ip.dst().into(),
        udp_dst: udp.dst_port(),
        len: ip.total_len().into(),
    })
}

fn quoted_ipv6(b: &[u8]) -> Option<Quoted> {
    let ip = ipv6::Header::of(b.first_chunk()?);
    if ip.version() != 6 || ip.next_header() != protocol::UDP {
        return None;
    }
    let udp = udp::Header::of(b[ipv6::HEADER_LEN..].first_chunk()?);
    let len = u32::from(ip.payload_len()) + ipv6::HEADER_LEN as u32;
    Some(Quoted { src: ip.src().into(), dst: ip.dst().into(), udp_dst: udp.dst_port(), len })
}

/// `frame`, which has no tag, with the tag of the underlay if it has one.
fn tagged(port: &UnderlayPort, frame: &[u8]) -> Vec<u8> {
    let mut out = frame.to_vec();
    if let Some(vlan) = port.vlan {
        let tag = [ethertype::VLAN.to_be_bytes(), vlan.get().to_be_bytes()];
        out.splice(TAG_AT..TAG_AT, tag.into_iter().flatten());
    }
    out
}

/// An ARP request for `target`: broadcast, or to `to` alone. From 0.0.0.0 it is the probe of RFC 5227.
pub(super) fn arp_request(port: &UnderlayPort, to: Option<Mac>, src: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    tagged(port, &arp::build_request(to.unwrap_or(Mac::BROADCAST), (port.mac, src), target))
}

/// The ARP reply to `request`, with our MAC.
pub(super) fn arp_reply(port: &UnderlayPort, request: &ArpFacts) -> Vec<u8> {
    tagged(port, &arp::build_reply(request, port.mac))
}

/// A neighbour solicitation for `target`: to its solicited-node group, or to `to` alone. From `::` it is duplicate
/// address detection.
pub(super) fn solicit(port: &UnderlayPort, to: Option<Mac>, src: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    tagged(port, &nd::build_solicit((port.mac, src), target, to))
}

/// A solicited advertisement of `own`.
pub(super) fn advert(port: &UnderlayPort, own: Ipv6Addr, (dst_mac, dst): (Mac, Ipv6Addr)) -> Vec<u8> {
    let (owner, src, target) = (port.mac, own, own);
    let spec =
        AdvertSpec { owner, dst_mac, src, dst, target, router: false, solicited: true, overrides: true };
    tagged(port, &nd::build_advert(&spec))
}

/// An announcement of `own` to all: an ARP announcement (RFC 5227 section 1.1) or an unsolicited advertisement (RFC
/// 4861 section 7.2.6).
pub(super) fn announcement(port: &UnderlayPort, own: IpAddr) -> Vec<u8> {
    match own {
        IpAddr::V4(own) => tagged(port, &arp::build_announcement(port.mac, own)),
        IpAddr::V6(own) => tagged(port, &nd::build_announcement(port.mac, own, false)),
    }
}

/// The reply to a ping, tagged as the ping was. `None` if it is no ping.
pub(super) fn echo_reply(frame: &Frame, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut reply = bytes.get(..frame.l3_end())?.to_vec();
    icmp::echo_reply(frame, &mut reply).then_some(reply)
}

/// An MLDv2 report of `groups` (RFC 3810 section 5.2), so that snooping switches forward solicitations for our
/// addresses.
pub(super) fn mld_report(port: &UnderlayPort, own: Ipv6Addr, groups: &[Ipv6Addr]) -> Vec<u8> {
    /// Listening to all sources of a group (RFC 3810 section 5.2.12).
    const MODE_IS_EXCLUDE: u8 = 2;
    /// Hop-by-hop header with the router alert option for MLD (RFC 2711), padded to eight bytes.
    const ROUTER_ALERT: [u8; 8] = [protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    let mut message = vec![MLD2_REPORT, 0, 0, 0, 0, 0];
    message.extend((groups.len() as u16).to_be_bytes());
    for group in groups {
        message.extend([MODE_IS_EXCLUDE, 0, 0, 0]);
        message.extend(group.octets());
    }
    let mut sum = Sum::pseudo_v6(own, MLD2_ROUTERS, protocol::ICMPV6, message.len() as u32);
    sum.add(&message);
    message[icmpv6::CHECKSUM_AT..icmpv6::CHECKSUM_AT + 2].copy_from_slice(&sum.finish().to_be_bytes());

    let mut eth = [0; ethernet::HEADER_LEN];
    ethernet::emit(&mut eth, multicast_mac(MLD2_ROUTERS), port.mac, ethertype::IPV6);
    let mut ip = [0; ipv6::HEADER_LEN];
    let spec = ipv6::Spec {
        traffic_class: 0,
        payload_len: (ROUTER_ALERT.len() + message.len()) as u16,
        next_header: extension::HOP_BY_HOP,
        hop_limit: 1,
        src: own,
        dst: MLD2_ROUTERS,
    };
    ipv6::emit(&mut ip, &spec);
    tagged(port, &[&eth[..], &ip, &ROUTER_ALERT, &message].concat())
}

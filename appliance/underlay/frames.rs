//! Frames of the underlay control plane to and from bytes. Enters: a whole Ethernet frame that the packet path
//! did not take as VXLAN. Leaves: a [`Packet`] that concerns the port, validated as the RFCs demand, or the
//! [`Outcome`] that says why not. Also builds every frame this module sends. It decides nothing.

use super::counters::Outcome;
use super::port::{ALL_NODES, UnderlayPort, is_station, multicast_mac, solicited_node};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use stopover_config::net::Mac;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const VID_MASK: u16 = 0x0fff;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const PROTO_HOP_BY_HOP: u8 = 0;
const PROTO_ICMP: u8 = 1;
const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;
const PROTO_FRAGMENT: u8 = 44;
const PROTO_ICMPV6: u8 = 58;
const PROTO_DEST_OPTIONS: u8 = 60;
const ICMP_ECHO_REPLY: u8 = 0;
const ICMP_UNREACHABLE: u8 = 3;
const ICMP_FRAGMENTATION_NEEDED: u8 = 4;
const ICMP_ECHO: u8 = 8;
const ICMPV6_TOO_BIG: u8 = 2;
const ICMPV6_ECHO: u8 = 128;
const ICMPV6_ECHO_REPLY: u8 = 129;
const ICMPV6_MLD_QUERY: u8 = 130;
const ICMPV6_SOLICIT: u8 = 135;
const ICMPV6_ADVERT: u8 = 136;
const ICMPV6_MLD2_REPORT: u8 = 143;
const OPTION_SOURCE_MAC: u8 = 1;
const OPTION_TARGET_MAC: u8 = 2;
const NA_SOLICITED: u8 = 0x40;
const NA_OVERRIDE: u8 = 0x20;
/// All MLDv2-capable routers (RFC 3810 section 5.2.14).
const MLD2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Extension headers walked before the packet is called malformed; legitimate ones have one or two.
const MAX_EXTENSIONS: usize = 4;
/// What a router that predates RFC 1191 may mean by a next-hop MTU of zero (RFC 1191 section 7.1).
const PLATEAUS: [u32; 7] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006];

/// An ARP packet for Ethernet and IPv4 (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arp {
    pub reply: bool,
    pub sender_mac: Mac,
    pub sender_ip: Ipv4Addr,
    pub target_ip: Ipv4Addr,
}

/// The packet an ICMP error quotes, as far as it is needed to recognise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quoted {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub udp_dst: u16,
    /// Whole IP packet in bytes, by its own header.
    pub len: u32,
}

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Arp(Arp),
    /// Neighbour solicitation; `src` unspecified means duplicate address detection.
    Solicit {
        src: Ipv6Addr,
        target: Ipv6Addr,
        mac: Option<Mac>,
    },
    /// Neighbour advertisement.
    Advert {
        target: Ipv6Addr,
        mac: Option<Mac>,
        solicited: bool,
        overrides: bool,
    },
    /// Echo request; `rest` is what follows type, code and checksum.
    Echo {
        src: IpAddr,
        dst: IpAddr,
        rest: &'a [u8],
    },
    /// Multicast listener query.
    MldQuery,
    /// Fragmentation needed, packet too big, sent to `to`. `mtu` in bytes of the IP packet.
    TooBig {
        to: IpAddr,
        quoted: Quoted,
        mtu: u32,
    },
}

/// A frame that concerns the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub src: Mac,
    /// The frame came to the port's own MAC, not to a group.
    pub unicast: bool,
    pub packet: Packet<'a>,
}

fn bytes<const N: usize>(b: &[u8], at: usize) -> Result<[u8; N], Outcome> {
    b.get(at..).and_then(|b| b.first_chunk::<N>()).copied().ok_or(Outcome::Truncated)
}

fn byte(b: &[u8], at: usize) -> Result<u8, Outcome> {
    b.get(at).copied().ok_or(Outcome::Truncated)
}

fn word(b: &[u8], at: usize) -> Result<u16, Outcome> {
    bytes(b, at).map(u16::from_be_bytes)
}

fn ipv4(b: &[u8], at: usize) -> Result<Ipv4Addr, Outcome> {
    bytes::<4>(b, at).map(Ipv4Addr::from)
}

fn ipv6(b: &[u8], at: usize) -> Result<Ipv6Addr, Outcome> {
    bytes::<16>(b, at).map(Ipv6Addr::from)
}

fn mac(b: &[u8], at: usize) -> Result<Mac, Outcome> {
    bytes::<6>(b, at).map(Mac)
}

/// The Internet checksum (RFC 1071) over `parts`, each of even length except the last. Zero over data that
/// contains a right checksum.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn checksum_icmpv6(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> u16 {
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    checksum(&[&src.octets(), &dst.octets(), &len, &[0, 0, 0, PROTO_ICMPV6], message])
}

/// Reads a frame as `port` sees it.
pub(super) fn parse<'a>(port: &UnderlayPort, frame: &'a [u8]) -> Result<Frame<'a>, Outcome> {
    let (dst, src) = (mac(frame, 0)?, mac(frame, 6)?);
    let (vid, ethertype, payload_at) = match word(frame, 12)? {
        ETHERTYPE_VLAN => (word(frame, 14)? & VID_MASK, word(frame, 16)?, 18),
        other => (0, other, 14),
    };
    if src == port.mac {
        return Err(Outcome::OwnFrame);
    }
    // VID 0 only carries a priority: such a frame is untagged (IEEE 802.1Q table 9-2).
    if vid != port.vlan.map_or(0, |v| v.get()) {
        return Err(Outcome::WrongVlan);
    }
    if !dst.is_group() && dst != port.mac {
        return Err(Outcome::OtherMac);
    }
    if src.station().is_err() {
        return Err(Outcome::BadSource);
    }
    let payload = frame.get(payload_at..).unwrap_or_default();
    let packet = match ethertype {
        ETHERTYPE_ARP => parse_arp(payload)?,
        ETHERTYPE_IPV4 => parse_ipv4(port, payload)?,
        ETHERTYPE_IPV6 => parse_ipv6(port, payload)?,
        _ => return Err(Outcome::EtherType),
    };
    let unicast = dst == port.mac;
    if matches!(packet, Packet::Echo { .. } | Packet::TooBig { .. }) && !unicast {
        return Err(Outcome::OtherMac);
    }
    Ok(Frame { src, unicast, packet })
}

fn parse_arp(b: &[u8]) -> Result<Packet<'_>, Outcome> {
    let (op, sender_mac) = (word(b, 6)?, mac(b, 8)?);
    let (sender_ip, target_ip) = (ipv4(b, 14)?, ipv4(b, 24)?);
    let ethernet_ipv4 = word(b, 0)? == 1 && word(b, 2)? == ETHERTYPE_IPV4 && bytes(b, 4)? == [6, 4];
    if !ethernet_ipv4 || !matches!(op, ARP_REQUEST | ARP_REPLY) {
        return Err(Outcome::Malformed);
    }
    // The all-zero sender is the probe of RFC 5227 section 1.1.
    let probe = sender_ip.is_unspecified() && op == ARP_REQUEST;
    if sender_mac.station().is_err() || !(probe || is_station(sender_ip.into())) {
        return Err(Outcome::BadSource);
    }
    Ok(Packet::Arp(Arp { reply: op == ARP_REPLY, sender_mac, sender_ip, target_ip }))
}

fn parse_ipv4<'a>(port: &UnderlayPort, b: &'a [u8]) -> Result<Packet<'a>, Outcome> {
    let header_len = usize::from(byte(b, 0)? & 0x0f) * 4;
    let total_len = usize::from(word(b, 2)?);
    let (src, dst) = (ipv4(b, 12)?, ipv4(b, 16)?);
    if byte(b, 0)? >> 4 != 4 || header_len < 20 || total_len < header_len {
        return Err(Outcome::Malformed);
    }
    let (Some(header), Some(body)) = (b.get(..header_len), b.get(header_len..total_len)) else {
        return Err(Outcome::Truncated);
    };
    if checksum(&[header]) != 0 {
        return Err(Outcome::Checksum);
    }
    if !port.owns(dst.into()) {
        return Err(Outcome::OtherAddress);
    }
    if !is_station(src.into()) || port.owns(src.into()) || port.subnet_broadcast(src.into()) {
        return Err(Outcome::BadSource);
    }
    if word(b, 6)? & 0x3fff != 0 {
        return Err(Outcome::Fragment);
    }
    match byte(b, 9)? {
        PROTO_ICMP => {}
        PROTO_UDP => return Err(Outcome::UnexpectedUdp),
        PROTO_TCP => return Err(Outcome::UnexpectedTcp),
        _ => return Err(Outcome::UnexpectedProtocol),
    }
    let rest = body.get(4..).ok_or(Outcome::Truncated)?;
    if checksum(&[body]) != 0 {
        return Err(Outcome::Checksum);
    }
    match (body[0], body[1]) {
        (ICMP_ECHO, 0) if rest.len() >= 4 => Ok(Packet::Echo { src: src.into(), dst: dst.into(), rest }),
        (ICMP_ECHO, 0) => Err(Outcome::Truncated),
        (ICMP_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED) => {
            let quoted = quoted_ipv4(rest.get(4..).unwrap_or_default())?;
            let mtu = match word(rest, 2)? {
                0 => PLATEAUS.into_iter().find(|p| *p < quoted.len).unwrap_or(576),
                mtu => u32::from(mtu),
            };
            Ok(Packet::TooBig { to: dst.into(), quoted, mtu })
        }
        _ => Err(Outcome::UnexpectedIcmp),
    }
}

fn quoted_ipv4(b: &[u8]) -> Result<Quoted, Outcome> {
    let header_len = usize::from(byte(b, 0)? & 0x0f) * 4;
    let first_or_whole = word(b, 6)? & 0x1fff == 0;
    if byte(b, 0)? >> 4 != 4 || header_len < 20 || byte(b, 9)? != PROTO_UDP || !first_or_whole {
        return Err(Outcome::PathMtuRefused);
    }
    let (src, dst, udp_dst) = (ipv4(b, 12)?.into(), ipv4(b, 16)?.into(), word(b, header_len + 2)?);
    Ok(Quoted { src, dst, udp_dst, len: u32::from(word(b, 2)?) })
}

fn quoted_ipv6(b: &[u8]) -> Result<Quoted, Outcome> {
    if byte(b, 0)? >> 4 != 6 || byte(b, 6)? != PROTO_UDP {
        return Err(Outcome::PathMtuRefused);
    }
    let (src, dst, udp_dst) = (ipv6(b, 8)?.into(), ipv6(b, 24)?.into(), word(b, 42)?);
    Ok(Quoted { src, dst, udp_dst, len: u32::from(word(b, 4)?) + 40 })
}

fn parse_ipv6<'a>(port: &UnderlayPort, b: &'a [u8]) -> Result<Packet<'a>, Outcome> {
    let payload_len = usize::from(word(b, 4)?);
    let (hop_limit, src, dst) = (byte(b, 7)?, ipv6(b, 8)?, ipv6(b, 24)?);
    if byte(b, 0)? >> 4 != 6 {
        return Err(Outcome::Malformed);
    }
    let payload = b.get(40..40 + payload_len).ok_or(Outcome::Truncated)?;
    let to_group = dst == ALL_NODES || port.groups().contains(&dst);
    if port.link_local().is_none() || !(to_group || port.owns(dst.into())) {
        return Err(Outcome::OtherAddress);
    }
    if !(src.is_unspecified() || is_station(src.into())) {
        return Err(Outcome::BadSource);
    }
    let message = match skip_extensions(byte(b, 6)?, payload)? {
        (PROTO_ICMPV6, message) => message,
        (PROTO_FRAGMENT, _) => return Err(Outcome::Fragment),
        (PROTO_UDP, _) => return Err(Outcome::UnexpectedUdp),
        (PROTO_TCP, _) => return Err(Outcome::UnexpectedTcp),
        _ => return Err(Outcome::UnexpectedProtocol),
    };
    let rest = message.get(4..).ok_or(Outcome::Truncated)?;
    if checksum_icmpv6(src, dst, message) != 0 {
        return Err(Outcome::Checksum);
    }
    match (message[0], message[1]) {
        (ICMPV6_ECHO, 0) if to_group => Err(Outcome::UnexpectedIcmp),
        (ICMPV6_ECHO, 0) if src.is_unspecified() || port.owns(src.into()) => Err(Outcome::BadSource),
        (ICMPV6_ECHO, 0) if rest.len() >= 4 => Ok(Packet::Echo { src: src.into(), dst: dst.into(), rest }),
        (ICMPV6_ECHO, 0) => Err(Outcome::Truncated),
        (ICMPV6_TOO_BIG, _) => {
            let (mtu, quoted) = (bytes(rest, 0).map(u32::from_be_bytes)?, quoted_ipv6(&rest[4..])?);
            Ok(Packet::TooBig { to: dst.into(), quoted, mtu })
        }
        (ICMPV6_MLD_QUERY, _) if hop_limit == 1 && src.is_unicast_link_local() => Ok(Packet::MldQuery),
        // A hop limit below 255 means that a router forwarded it: not from this link (RFC 4861 section 7.1).
        (ICMPV6_MLD_QUERY, _) | (ICMPV6_SOLICIT | ICMPV6_ADVERT, 1..) => Err(Outcome::Malformed),
        (ICMPV6_SOLICIT | ICMPV6_ADVERT, _) if hop_limit != 255 => Err(Outcome::Malformed),
        (ICMPV6_SOLICIT, _) => parse_solicit(src, dst, rest),
        (ICMPV6_ADVERT, _) => parse_advert(src, dst, rest),
        _ => Err(Outcome::UnexpectedIcmp),
    }
}

/// Walks over hop-by-hop and destination options to the header that counts.
fn skip_extensions(mut next: u8, mut b: &[u8]) -> Result<(u8, &[u8]), Outcome> {
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(next, PROTO_HOP_BY_HOP | PROTO_DEST_OPTIONS) {
            return Ok((next, b));
        }
        let len = usize::from(byte(b, 1)?) * 8 + 8;
        next = b[0];
        b = b.get(len..).ok_or(Outcome::Truncated)?;
    }
    Err(Outcome::Malformed)
}

/// RFC 4861 section 7.1.1. `rest` is the message after its checksum.
fn parse_solicit(src: Ipv6Addr, dst: Ipv6Addr, rest: &[u8]) -> Result<Packet<'static>, Outcome> {
    let target = ipv6(rest, 4)?;
    let mac = nd_option(rest.get(20..).unwrap_or_default(), OPTION_SOURCE_MAC)?;
    let dad = src.is_unspecified();
    if target.is_multicast() || (dad && (mac.is_some() || dst != solicited_node(target))) {
        return Err(Outcome::Malformed);
    }
    Ok(Packet::Solicit { src, target, mac })
}

/// RFC 4861 section 7.1.2.
fn parse_advert(src: Ipv6Addr, dst: Ipv6Addr, rest: &[u8]) -> Result<Packet<'static>, Outcome> {
    let (flags, target) = (byte(rest, 0)?, ipv6(rest, 4)?);
    let mac = nd_option(rest.get(20..).unwrap_or_default(), OPTION_TARGET_MAC)?;
    let solicited = flags & NA_SOLICITED != 0;
    if target.is_multicast() || (dst.is_multicast() && solicited) || src.is_unspecified() {
        return Err(Outcome::Malformed);
    }
    Ok(Packet::Advert { target, mac, solicited, overrides: flags & NA_OVERRIDE != 0 })
}

/// The link-layer address in the option of type `wanted`; other options are passed over (RFC 4861 section 4.6).
fn nd_option(mut b: &[u8], wanted: u8) -> Result<Option<Mac>, Outcome> {
    let mut found = None;
    while let [kind, units, ..] = *b {
        let len = usize::from(units) * 8;
        if len == 0 {
            return Err(Outcome::Malformed);
        }
        let option = b.get(..len).ok_or(Outcome::Malformed)?;
        if kind == wanted && len == 8 && found.is_none() {
            found = Some(mac(option, 2)?.station().map_err(|_| Outcome::BadSource)?);
        }
        b = &b[len..];
    }
    if b.is_empty() { Ok(found) } else { Err(Outcome::Malformed) }
}

/// The Ethernet header of a frame from `port`, tagged if the underlay is.
fn ethernet(port: &UnderlayPort, dst: Mac, ethertype: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend(dst.0);
    out.extend(port.mac.0);
    if let Some(vlan) = port.vlan {
        out.extend(ETHERTYPE_VLAN.to_be_bytes());
        out.extend(vlan.get().to_be_bytes());
    }
    out.extend(ethertype.to_be_bytes());
    out
}

fn arp(port: &UnderlayPort, dst: Mac, op: u16, sender_ip: Ipv4Addr, target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut out = ethernet(port, dst, ETHERTYPE_ARP);
    out.extend([0, 1, 8, 0, 6, 4]);
    out.extend(op.to_be_bytes());
    out.extend(port.mac.0);
    out.extend(sender_ip.octets());
    out.extend(target.0.0);
    out.extend(target.1.octets());
    out
}

/// Who has `target`? Broadcast, or to `to` alone.
pub(super) fn arp_request(port: &UnderlayPort, to: Option<Mac>, src: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(port, to.unwrap_or(Mac::BROADCAST), ARP_REQUEST, src, (Mac([0; 6]), target))
}

/// `own` is at our MAC, said to one station.
pub(super) fn arp_reply(port: &UnderlayPort, own: Ipv4Addr, to: Mac, to_ip: Ipv4Addr) -> Vec<u8> {
    arp(port, to, ARP_REPLY, own, (to, to_ip))
}

fn ip6(
    port: &UnderlayPort,
    dst_mac: Mac,
    next: u8,
    hop_limit: u8,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    body: &[u8],
) -> Vec<u8> {
    let mut out = ethernet(port, dst_mac, ETHERTYPE_IPV6);
    out.extend([0x60, 0, 0, 0]);
    out.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend([next, hop_limit]);
    out.extend(src.octets());
    out.extend(dst.octets());
    out.extend(body);
    out
}

fn icmpv6(kind: u8, src: Ipv6Addr, dst: Ipv6Addr, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(rest);
    let sum = checksum_icmpv6(src, dst, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Who has `target`? To its solicited-node group, or to `to` alone. From `::` it is duplicate address detection,
/// which carries no source link-layer option (RFC 4861 section 4.3).
pub(super) fn solicit(port: &UnderlayPort, to: Option<Mac>, src: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let (dst_mac, dst) = match to {
        Some(mac) => (mac, target),
        None => (multicast_mac(solicited_node(target)), solicited_node(target)),
    };
    let mut rest = vec![0; 4];
    rest.extend(target.octets());
    if !src.is_unspecified() {
        rest.extend([OPTION_SOURCE_MAC, 1]);
        rest.extend(port.mac.0);
    }
    ip6(port, dst_mac, PROTO_ICMPV6, 255, src, dst, &icmpv6(ICMPV6_SOLICIT, src, dst, &rest))
}

/// `own` is at our MAC. To the station that asked, or to all nodes unasked (RFC 4861 sections 7.2.4, 7.2.6).
pub(super) fn advert(port: &UnderlayPort, own: Ipv6Addr, to: Option<(Mac, Ipv6Addr)>) -> Vec<u8> {
    let (dst_mac, dst) = to.unwrap_or((multicast_mac(ALL_NODES), ALL_NODES));
    let flags = if to.is_some() { NA_SOLICITED | NA_OVERRIDE } else { NA_OVERRIDE };
    let mut rest = vec![flags, 0, 0, 0];
    rest.extend(own.octets());
    rest.extend([OPTION_TARGET_MAC, 1]);
    rest.extend(port.mac.0);
    ip6(port, dst_mac, PROTO_ICMPV6, 255, own, dst, &icmpv6(ICMPV6_ADVERT, own, dst, &rest))
}

/// The answer to a ping, back to where it came from. `rest` as in [`Packet::Echo`].
pub(super) fn echo_reply(port: &UnderlayPort, to: Mac, own: IpAddr, peer: IpAddr, rest: &[u8]) -> Vec<u8> {
    match (own, peer) {
        (IpAddr::V6(own), IpAddr::V6(peer)) => {
            ip6(port, to, PROTO_ICMPV6, 64, own, peer, &icmpv6(ICMPV6_ECHO_REPLY, own, peer, rest))
        }
        (IpAddr::V4(own), IpAddr::V4(peer)) => {
            let mut message = vec![ICMP_ECHO_REPLY, 0, 0, 0];
            message.extend(rest);
            let sum = checksum(&[&message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            let total_len = u16::try_from(message.len() + 20).unwrap_or(u16::MAX).to_be_bytes();
            let mut header = vec![0x45, 0, total_len[0], total_len[1], 0, 0, 0x40, 0, 64, PROTO_ICMP, 0, 0];
            header.extend(own.octets());
            header.extend(peer.octets());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            let mut out = ethernet(port, to, ETHERTYPE_IPV4);
            out.extend(header);
            out.extend(message);
            out
        }
        _ => Vec::new(),
    }
}

/// An MLDv2 report that we listen to `groups` (RFC 3810 section 5.2), so that snooping switches let
/// solicitations for our addresses through.
pub(super) fn mld_report(port: &UnderlayPort, own: Ipv6Addr, groups: &[Ipv6Addr]) -> Vec<u8> {
    /// Listening to all sources of a group (RFC 3810 section 5.2.12).
    const MODE_IS_EXCLUDE: u8 = 2;
    let mut rest = vec![0, 0];
    rest.extend(u16::try_from(groups.len()).unwrap_or(u16::MAX).to_be_bytes());
    for group in groups {
        rest.extend([MODE_IS_EXCLUDE, 0, 0, 0]);
        rest.extend(group.octets());
    }
    // Hop-by-hop header with the router alert option for MLD (RFC 2711), padded to eight bytes.
    let mut body = vec![PROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    body.extend(icmpv6(ICMPV6_MLD2_REPORT, own, MLD2_ROUTERS, &rest));
    ip6(port, multicast_mac(MLD2_ROUTERS), PROTO_HOP_BY_HOP, 1, own, MLD2_ROUTERS, &body)
}

/// `own` is at our MAC, said to all: an ARP announcement (RFC 5227 section 1.1) or an unsolicited advertisement.
pub(super) fn announcement(port: &UnderlayPort, own: IpAddr) -> Vec<u8> {
    match own {
        IpAddr::V4(own) => arp_request(port, None, own, own),
        IpAddr::V6(own) => advert(port, own, None),
    }
}

//! ICMP and ICMPv6 messages that Stopover sends: "your frame is too big for the tunnel", so that path MTU
//! discovery works (RFC 1191, RFC 8201), and echo replies for the VTEP's own addresses.
//!
//! On an L2 network there is no router between sender and receiver that could send such an error. It is sent
//! in the name of the frame's destination, from its IP and MAC address, the only source that the sender
//! and any filter before it accept.

use crate::bytes::{array, at_mut, be16, put};
use crate::checksum::{Sum, update16};
use crate::ethernet;
use crate::frame::{Fragment, Frame, Kind, L4};
use crate::ipv4::protocol;
use crate::{icmpv4, icmpv6, ipv4, ipv6};
use arrayvec::ArrayVec;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A finished Ethernet frame with "fragmentation needed".
pub type FragNeeded = ArrayVec<u8, 600>;
/// A finished Ethernet frame with "packet too big".
pub type PacketTooBig = ArrayVec<u8, 1300>;

/// "the entire ICMP message ... should contain as much of the original datagram as possible without the
/// length of the ICMP datagram exceeding 576 bytes" (RFC 1812 section 4.3.2.3).
const MAX_IPV4_ERROR: usize = 576;
/// Destination unreachable, code: fragmentation needed and DF set.
const CODE_FRAG_NEEDED: u8 = 4;
/// Errors have precedence 6 (RFC 1812 section 4.3.2.5).
const ERROR_TOS: u8 = 0xc0;
const TTL: u8 = 64;

/// Notifies the sender of an IPv4 frame that its packets may have at most `mtu` bytes (RFC 1191 section 4).
/// `head` is the frame's first segment; as much of it as fits is quoted.
///
/// `None` where RFC 1122 section 3.2.2 and RFC 1812 section 4.3.2.7 forbid an error: about an ICMP error, a
/// fragment other than the first, a multicast or broadcast destination (IP or MAC), or a source that is no
/// single host; and if it is not IPv4. DF is not considered: the appliance never fragments.
#[must_use]
pub fn build_frag_needed(head: &[u8], frame: &Frame, mtu: u16) -> Option<FragNeeded> {
    let Kind::Ipv4(ip) = &frame.kind else { return None };
    let about_error = match frame.l4 {
        L4::Icmp { kind, .. } => icmpv4::is_error(kind),
        L4::Malformed => ip.proto == protocol::ICMP,
        _ => false,
    };
    if about_error
        || ip.fragment == Fragment::Later
        || frame.dst.is_group()
        || frame.src.is_group()
        || !is_unicast_v4(ip.src)
        || !is_unicast_v4(ip.dst)
    {
        return None;
    }
    let quote = quote(head, frame, MAX_IPV4_ERROR - ipv4::HEADER_LEN - icmpv4::HEADER_LEN)?;
    let mut icmp = [icmpv4::kind::UNREACHABLE, CODE_FRAG_NEEDED, 0, 0, 0, 0, 0, 0];
    put::<6, 2, _>(&mut icmp, mtu.to_be_bytes());
    let mut sum = Sum::new();
    sum.add(&icmp);
    sum.add(quote);
    put::<{ icmpv4::CHECKSUM_AT }, 2, _>(&mut icmp, sum.finish().to_be_bytes());

    let mut header = [0; ipv4::HEADER_LEN];
    let spec = ipv4::Spec {
        tos: ERROR_TOS,
        total_len: (ipv4::HEADER_LEN + icmp.len() + quote.len()) as u16,
        df: true,
        ttl: TTL,
        protocol: protocol::ICMP,
        src: ip.dst,
        dst: ip.src,
    };
    ipv4::emit(&mut header, &spec);
    assemble(head, frame, &[&header, &icmp, quote])
}

/// Notifies the sender of an IPv6 frame that its packets may have at most `mtu` bytes (RFC 4443 section 3.2).
/// `head` is the frame's first segment; it is quoted up to 1280 bytes in all.
///
/// `None` where RFC 4443 section 2.4(e) forbids an error, for multicast destinations (no
/// source address for the error), and if it is not IPv6.
#[must_use]
pub fn build_packet_too_big(head: &[u8], frame: &Frame, mtu: u32) -> Option<PacketTooBig> {
    let Kind::Ipv6(ip) = &frame.kind else { return None };
    let about_error = match frame.l4 {
        L4::Icmpv6 { kind, .. } => icmpv6::forbids_error(kind),
        // A later fragment does not show the type: it may be part of an error.
        L4::None | L4::Malformed => ip.proto == protocol::ICMPV6,
        _ => false,
    };
    if about_error
        || frame.dst.is_group()
        || frame.src.is_group()
        || !is_unicast_v6(ip.src)
        || !is_unicast_v6(ip.dst)
    {
        return None;
    }
    let quote = quote(head, frame, ipv6::MIN_MTU - ipv6::HEADER_LEN - icmpv6::HEADER_LEN)?;
    let mut icmp = [icmpv6::kind::PACKET_TOO_BIG, 0, 0, 0, 0, 0, 0, 0];
    put::<4, 4, _>(&mut icmp, mtu.to_be_bytes());
    let len = icmp.len() + quote.len();
    let mut sum = Sum::pseudo_v6(ip.dst, ip.src, protocol::ICMPV6, len as u32);
    sum.add(&icmp);
    sum.add(quote);
    put::<{ icmpv6::CHECKSUM_AT }, 2, _>(&mut icmp, sum.finish().to_be_bytes());

    let mut header = [0; ipv6::HEADER_LEN];
    let spec = ipv6::Spec {
        traffic_class: 0,
        payload_len: len as u16,
        next_header: protocol::ICMPV6,
        hop_limit: TTL,
        src: ip.dst,
        dst: ip.src,
    };
    ipv6::emit(&mut header, &spec);
    assemble(head, frame, &[&header, &icmp, quote])
}

/// As much of the frame's IP packet as lies in `head`, at most `limit` bytes.
fn quote<'a>(head: &'a [u8], frame: &Frame, limit: usize) -> Option<&'a [u8]> {
    let l3 = usize::from(frame.l3_off);
    head.get(l3..frame.l3_end().min(head.len()).min(l3 + limit))
}

/// Ethernet header (with the original's VLAN tag) back to the sender, then `parts`.
fn assemble<const N: usize>(head: &[u8], frame: &Frame, parts: &[&[u8]]) -> Option<ArrayVec<u8, N>> {
    let mut out = ArrayVec::new();
    out.try_extend_from_slice(&frame.src.octets()).ok()?;
    out.try_extend_from_slice(&frame.dst.octets()).ok()?;
    out.try_extend_from_slice(head.get(12..usize::from(frame.l3_off))?).ok()?;
    for part in parts {
        out.try_extend_from_slice(part).ok()?;
    }
    Some(out)
}

const fn is_unicast_v4(ip: Ipv4Addr) -> bool {
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast())
}

const fn is_unicast_v6(ip: Ipv6Addr) -> bool {
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast())
}

/// Turns the echo request in `head` (the first segment of `frame`; the data may lie in others) into its
/// reply, in place: MAC and IP addresses exchanged, TTL fresh, checksums updated incrementally, so a request
/// with a wrong checksum yields a reply with a wrong one. False, and nothing changed, if it is not a whole
/// echo request to and from unicast addresses.
pub fn echo_reply(frame: &Frame, head: &mut [u8]) -> bool {
    let Some(l4) = frame.l4_off.map(usize::from) else { return false };
    if frame.dst.is_group() || frame.src.is_group() || head.len() < l4 + icmpv4::HEADER_LEN {
        return false;
    }
    let l3 = usize::from(frame.l3_off);
    match (&frame.kind, frame.l4) {
        (Kind::Ipv4(ip), L4::Icmp { kind: icmpv4::kind::ECHO_REQUEST, code: 0 })
            if ip.fragment == Fragment::Whole && is_unicast_v4(ip.src) && is_unicast_v4(ip.dst) =>
        {
            let Some(header) = at_mut::<{ ipv4::HEADER_LEN }>(head, l3) else { return false };
            let old = be16::<{ ipv4::TTL_AT }, _>(header);
            put::<{ ipv4::TTL_AT }, 1, _>(header, [TTL]);
            let new = be16::<{ ipv4::TTL_AT }, _>(header);
            let sum = update16(be16::<{ ipv4::CHECKSUM_AT }, _>(header), old, new);
            put::<{ ipv4::CHECKSUM_AT }, 2, _>(header, sum.to_be_bytes());
            put::<12, 4, _>(header, ip.dst.octets());
            put::<16, 4, _>(header, ip.src.octets());
            retype(head, l4, icmpv4::kind::ECHO_REPLY);
        }
        (Kind::Ipv6(ip), L4::Icmpv6 { kind: icmpv6::kind::ECHO_REQUEST, code: 0 })
            if ip.fragment == Fragment::Whole && is_unicast_v6(ip.src) && is_unicast_v6(ip.dst) =>
        {
            let Some(header) = at_mut::<{ ipv6::HEADER_LEN }>(head, l3) else { return false };
            put::<7, 1, _>(header, [TTL]);
            put::<8, 16, _>(header, ip.dst.octets());
            put::<24, 16, _>(header, ip.src.octets());
            retype(head, l4, icmpv6::kind::ECHO_REPLY);
        }
        _ => return false,
    }
    if let Some(eth) = at_mut::<{ ethernet::HEADER_LEN }>(head, 0) {
        let macs = (array::<0, 6, _>(eth), array::<6, 6, _>(eth));
        put::<0, 6, _>(eth, macs.1);
        put::<6, 6, _>(eth, macs.0);
    }
    true
}

/// Changes the type of the ICMP or ICMPv6 message at `l4` (both have type, code, checksum there).
fn retype(head: &mut [u8], l4: usize, kind: u8) {
    if let Some(icmp) = at_mut::<4>(head, l4) {
        let old = be16::<0, _>(icmp);
        put::<0, 1, _>(icmp, [kind]);
        let sum = update16(be16::<2, _>(icmp), old, be16::<0, _>(icmp));
        put::<2, 2, _>(icmp, sum.to_be_bytes());
    }
}

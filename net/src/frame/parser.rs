//! The parser of a tenant's frame. The first segment and the length of the frame enter; the facts ([`Frame`]), or the
//! reason why the frame is refused ([`BadFrame`]), leave.

use super::{BadFrame, Fragment, Frame, Ipv4, Ipv6, Kind, L4, MAX_EXTENSIONS};
use crate::bytes::{at, be16};
use crate::ethernet::{self, Tag, ethertype, is_tag};
use crate::ipv4::protocol;
use crate::ipv6::extension;
use crate::{icmpv4, ipv4, ipv6, tcp, udp};

/// Parses the frame whose first segment begins with `head` and whose segments together are `total_len`
/// bytes long. A `head` longer than `total_len` is cut.
// Inlined into its few callers: they read three or four facts, and the rest is then never stored (measured:
// 5 ns inlined, 11 ns as a call, for parsing and hashing TCP over IPv4).
#[inline(always)]
pub fn parse(head: &[u8], total_len: usize) -> Result<Frame, BadFrame> {
    let head = head.get(..total_len).unwrap_or(head);
    let eth = ethernet::Header::of(need(head, total_len, 0, BadFrame::Runt)?);
    let mut link =
        Link { eth, vlan: None, ethertype: eth.ethertype(), l3_off: ethernet::HEADER_LEN, len: total_len };
    if is_tag(link.ethertype) {
        let tag = ethernet::Vlan::of(need(head, total_len, ethernet::HEADER_LEN, BadFrame::Runt)?);
        link.vlan = Some(Tag { tpid: link.ethertype, tci: tag.tci() });
        link.ethertype = tag.ethertype();
        link.l3_off += ethernet::TAG_LEN;
    }
    match link.ethertype {
        ethertype::IPV4 => parse_ipv4(link, head),
        ethertype::IPV6 => parse_ipv6(link, head),
        ethertype::ARP => Ok(link.into_frame(Kind::Arp, NO_L4)),
        ethertype::RARP => Ok(link.into_frame(Kind::Rarp, NO_L4)),
        _ => Ok(link.into_frame(Kind::Other, NO_L4)),
    }
}

/// Facts of the Ethernet header, from which the [`Frame`] is made. The frame is written once, when all is known:
/// writing it field by field and then copying it costs more than all the parsing.
#[derive(Clone, Copy)]
struct Link<'a> {
    eth: ethernet::Header<'a>,
    vlan: Option<Tag>,
    ethertype: u16,
    l3_off: usize,
    len: usize,
}

impl Link<'_> {
    #[inline(always)]
    fn into_frame(self, kind: Kind, (l4_off, l4): (Option<u16>, L4)) -> Frame {
        Frame {
            dst: self.eth.dst(),
            src: self.eth.src(),
            vlan: self.vlan,
            double_tagged: self.vlan.is_some() && is_tag(self.ethertype),
            ethertype: self.ethertype,
            l3_off: self.l3_off as u16,
            l4_off,
            len: self.len as u32,
            kind,
            l4,
        }
    }
}

const NO_L4: (Option<u16>, L4) = (None, L4::None);

/// The `N` bytes from `off`; `bad` if the frame ends before, `HeadersSplit` if only its first segment does.
#[inline(always)]
fn need<const N: usize>(head: &[u8], end: usize, off: usize, bad: BadFrame) -> Result<&[u8; N], BadFrame> {
    match at(head, off) {
        Some(bytes) if off + N <= end => Ok(bytes),
        _ if off + N <= end => Err(BadFrame::HeadersSplit),
        _ => Err(bad),
    }
}

#[inline(always)]
fn parse_ipv4(link: Link<'_>, head: &[u8]) -> Result<Frame, BadFrame> {
    let (l3, frame_len) = (link.l3_off, link.len);
    let ip = ipv4::Header::of(need(head, frame_len, l3, BadFrame::Ipv4Truncated)?);
    let (hdr_len, total_len) = (ip.header_len(), usize::from(ip.total_len()));
    if ip.version() != 4 {
        return Err(BadFrame::Ipv4Version);
    }
    if hdr_len < ipv4::HEADER_LEN || hdr_len > total_len {
        return Err(BadFrame::Ipv4HeaderLength);
    }
    if l3 + total_len > frame_len {
        return Err(BadFrame::Ipv4Overrun);
    }
    if l3 + hdr_len > head.len() {
        return Err(BadFrame::HeadersSplit);
    }
    let word = ip.flags_and_offset();
    let fragment = match (word & 0x1fff, word & ipv4::FLAG_MF) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    };
    let facts = Ipv4 {
        hdr_len: hdr_len as u8,
        tos: ip.tos(),
        total_len: ip.total_len(),
        proto: ip.protocol(),
        ttl: ip.ttl(),
        df: word & ipv4::FLAG_DF != 0,
        fragment,
        src: ip.src(),
        dst: ip.dst(),
    };
    // ICMPv6 belongs to IPv6 alone; over IPv4 it is just another protocol.
    let proto = if ip.protocol() == protocol::ICMPV6 { u8::MAX } else { ip.protocol() };
    let l4 = parse_l4(head, l3 + hdr_len, l3 + total_len, proto, fragment)?;
    Ok(link.into_frame(Kind::Ipv4(facts), l4))
}

#[inline(always)]
fn parse_ipv6(link: Link<'_>, head: &[u8]) -> Result<Frame, BadFrame> {
    let (l3, frame_len) = (link.l3_off, link.len);
    let ip = ipv6::Header::of(need(head, frame_len, l3, BadFrame::Ipv6Truncated)?);
    if ip.version() != 6 {
        return Err(BadFrame::Ipv6Version);
    }
    let first = l3 + ipv6::HEADER_LEN;
    let end = first + usize::from(ip.payload_len());
    if end > frame_len {
        return Err(BadFrame::Ipv6Overrun);
    }
    let walk = match ip.next_header() {
        protocol::TCP | protocol::UDP | protocol::ICMPV6 => {
            Walk { proto: ip.next_header(), off: first, fragment: Fragment::Whole, routing: false }
        }
        next => walk_extensions(head, first, end, next)?,
    };
    let facts = Ipv6 {
        payload_len: ip.payload_len(),
        ext_len: (walk.off - first) as u16,
        tclass: ip.traffic_class(),
        proto: walk.proto,
        hop_limit: ip.hop_limit(),
        routing: walk.routing,
        fragment: walk.fragment,
        src: ip.src(),
        dst: ip.dst(),
    };
    let proto = if walk.proto == protocol::ICMP { u8::MAX } else { walk.proto };
    let l4 = parse_l4(head, walk.off, end, proto, walk.fragment)?;
    Ok(link.into_frame(Kind::Ipv6(facts), l4))
}

/// Where a walk over extension headers ended.
struct Walk {
    proto: u8,
    off: usize,
    fragment: Fragment,
    routing: bool,
}

/// Skips extension headers (RFC 8200 section 4) from `off` up to `end`, stopping at a later fragment's data.
fn walk_extensions(head: &[u8], off: usize, end: usize, next: u8) -> Result<Walk, BadFrame> {
    let mut walk = Walk { proto: next, off, fragment: Fragment::Whole, routing: false };
    for _ in 0..=MAX_EXTENSIONS {
        if !matches!(
            walk.proto,
            extension::HOP_BY_HOP
                | extension::ROUTING
                | extension::FRAGMENT
                | extension::AUTHENTICATION
                | extension::DESTINATION
                | extension::MOBILITY
                | extension::HIP
                | extension::SHIM6
        ) {
            return Ok(walk);
        }
        // Every extension header is at least 8 bytes long.
        let header: &[u8; 8] = need(head, end, walk.off, BadFrame::Ipv6Extension)?;
        let len = match walk.proto {
            extension::FRAGMENT => 8,
            extension::AUTHENTICATION => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        if len < 8 || walk.off + len > end {
            return Err(BadFrame::Ipv6Extension);
        }
        match walk.proto {
            extension::ROUTING => walk.routing |= header[3] != 0,
            extension::FRAGMENT => {
                let word = be16::<2, _>(header);
                if word >> 3 != 0 {
                    walk.fragment = Fragment::Later;
                } else if word & 1 != 0 {
                    walk.fragment = Fragment::First;
                }
            }
            _ => {}
        }
        walk.proto = header[0];
        walk.off += len;
        if walk.fragment == Fragment::Later {
            return Ok(walk);
        }
    }
    Err(BadFrame::Ipv6Extensions)
}

/// Reads the L4 header at `off` of a packet that ends at `end`. `proto` 255 (reserved by IANA) means
/// "another".
#[inline(always)]
fn parse_l4(
    head: &[u8],
    off: usize,
    end: usize,
    proto: u8,
    fragment: Fragment,
) -> Result<(Option<u16>, L4), BadFrame> {
    if fragment == Fragment::Later || proto == extension::NONE {
        return Ok(NO_L4);
    }
    let room = end - off;
    let l4 = match proto {
        protocol::TCP if room >= tcp::HEADER_LEN => {
            let tcp = tcp::Header::of(at(head, off).ok_or(BadFrame::HeadersSplit)?);
            let hdr_len = tcp.header_len();
            if hdr_len < tcp::HEADER_LEN || hdr_len > room {
                L4::Malformed
            } else if off + hdr_len > head.len() {
                return Err(BadFrame::HeadersSplit);
            } else {
                L4::Tcp {
                    src_port: tcp.src_port(),
                    dst_port: tcp.dst_port(),
                    hdr_len: hdr_len as u8,
                    flags: tcp.flags(),
                }
            }
        }
        protocol::UDP if room >= udp::HEADER_LEN => {
            let udp = udp::Header::of(at(head, off).ok_or(BadFrame::HeadersSplit)?);
            let len = usize::from(udp.len());
            if len < udp::HEADER_LEN || (len > room && fragment == Fragment::Whole) {
                L4::Malformed
            } else {
                L4::Udp { src_port: udp.src_port(), dst_port: udp.dst_port(), len: udp.len() }
            }
        }
        protocol::ICMP | protocol::ICMPV6 if room >= icmpv4::HEADER_LEN => {
            let icmp = icmpv4::Header::of(at(head, off).ok_or(BadFrame::HeadersSplit)?);
            let (kind, code) = (icmp.kind(), icmp.code());
            if proto == protocol::ICMP { L4::Icmp { kind, code } } else { L4::Icmpv6 { kind, code } }
        }
        protocol::TCP | protocol::UDP | protocol::ICMP | protocol::ICMPV6 => L4::Malformed,
        _ => L4::Other,
    };
    Ok((Some(off as u16), l4))
}

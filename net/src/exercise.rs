//! What the fuzz targets of `fuzz/` do with arbitrary bytes, and what the unit tests do with the saved corpus
//! and with generated input: one function per target, asserting what must hold for any input at all.
//!
//! Compiled for the unit tests, and with the feature `exercise` for the fuzz targets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::ethernet::{HEADER_LEN, ethertype};
use crate::fast_parse::{Sender, TenantFrame, Transport};
use crate::frame::{self, Fragment, Frame, Kind, L4};
use crate::gso::Segmenter;
use crate::l4_checksum::{L4Check, check_l4, finish_l4};
use crate::marker::{self, BadMarker, Marker, Relay};
use crate::underlay::{self, BadOuter, Expect, UdpChecksum, Underlay, Vxlan};
use crate::vxlan::{OverlayFlags, SHIM_LEN};
use crate::{Mac, VlanId};
use crate::{arp, ecn, fast_parse, flow, icmp, nd};
use std::net::{IpAddr, Ipv4Addr};

/// Input format of all targets: two bytes (big-endian): the byte at which the first segment ends, the rest is
/// the frame. So a fuzzer finds split headers by itself.
#[must_use]
pub fn split(input: &[u8]) -> (&[u8], &[u8]) {
    match input {
        [hi, lo, frame @ ..] => {
            let cut = usize::from(u16::from_be_bytes([*hi, *lo]));
            (frame.get(..cut).unwrap_or(frame), frame)
        }
        _ => (input, input),
    }
}

/// What `fast_parse` accepts the complete parser accepts, with the same facts.
fn fast_parse_frame(head: &[u8], whole: &[u8]) {
    let accepts = "accepted by fast_parse only";
    if let Some(sent) = fast_parse::sent(head, whole.len(), &Sender::any()) {
        let frame = frame::parse(head, whole.len()).expect(accepts);
        assert!(!frame.src.is_group() && !frame.dst.is_group());
        assert_eq!(fast_parse::sent(head, whole.len(), &Sender::from_mac(frame.src)), Some(sent));
        let other = Mac::from_u64(frame.src.to_u64() ^ 1);
        assert_eq!(fast_parse::sent(head, whole.len(), &Sender::from_mac(other)), None);
        let Kind::Ipv4(ip) = frame.kind else { panic!("{frame:?}") };
        let expected = |ip| {
            let sender = Sender::from_mac(frame.src).with_expected_ip(ip);
            fast_parse::sent(head, whole.len(), &sender).map(|sent| sent.expected)
        };
        assert!(sent.expected && expected(Some(ip.src)) == Some(true));
        let neighbour = Ipv4Addr::from_bits(ip.src.to_bits() ^ 1);
        assert_eq!((expected(Some(neighbour)), expected(None)), (Some(false), Some(false)));
        assert_eq!((sent.dst, sent.src, frame.vlan), (frame.dst, frame.src, None));
        let tenant = fast_parse::tenant(head, whole.len()).expect(accepts);
        assert_eq!(Transport::of_sent(head), Some(tenant.transport));
        assert_eq!((sent.src_ip, sent.tos, sent.flow), (ip.src, ip.tos, flow::hash(&frame)));
        assert!(matches!(frame.l4, L4::Tcp { .. } | L4::Udp { .. }), "{frame:?}");
    }
    if let Some(sent) = fast_parse::sent6(head, whole.len(), &Sender::any().over_ipv6()) {
        let frame = frame::parse(head, whole.len()).expect(accepts);
        let from = |mac| fast_parse::sent6(head, whole.len(), &Sender::from_mac(mac).over_ipv6());
        let other = Mac::from_u64(frame.src.to_u64() ^ 1);
        assert_eq!((from(frame.src), from(other)), (Some(sent), None));
        let tenant = fast_parse::tenant(head, whole.len()).expect(accepts);
        assert_eq!((sent.dst, sent.src, sent.tos), (tenant.dst, tenant.src, tenant.tos));
        assert_eq!((IpAddr::V6(sent.src_ip), sent.flow), (tenant.src_ip, tenant.flow));
        assert!(tenant.tci.is_none() && (tenant.transport.tcp || tenant.src_port != 547));
        assert_eq!(Transport::of_sent6(head), Some(tenant.transport));
    }
    if let Some(tenant) = fast_parse::tenant(head, whole.len()) {
        fast_parse_tenant(&tenant, head, whole);
    }
    if let Some(received) = fast_parse::received(whole) {
        let frame = frame::parse(whole, whole.len()).expect(accepts);
        assert_eq!((received.dst, received.src, frame.vlan), (frame.dst, frame.src, None));
        assert_eq!(Some(received.tos), frame.tos());
        assert!(!frame.dst.is_group() && !frame.src.is_group());
        assert!(!matches!(frame.l4, L4::Icmpv6 { .. }), "{frame:?}");
    }
}

/// As [`fast_parse_frame`], for a frame of any kind. Its checksum is that of the complete parser.
fn fast_parse_tenant(tenant: &TenantFrame, head: &[u8], whole: &[u8]) {
    let frame = frame::parse(head, whole.len()).expect("accepted by fast_parse only");
    assert!(!frame.src.is_group() && !frame.dst.is_group() && !frame.double_tagged);
    assert_eq!((tenant.dst, tenant.src), (frame.dst, frame.src));
    assert_eq!((Some(tenant.src_ip), Some(tenant.tos)), (frame.ips().map(|(src, _)| src), frame.tos()));
    assert_eq!((tenant.tci, tenant.flow), (frame.vlan.map(|tag| tag.tci), flow::hash(&frame)));
    assert!(frame.vlan.is_none_or(|tag| tag.tpid == ethertype::VLAN));
    let (tcp, src_port, header_len, end) = match frame.l4 {
        L4::Tcp { src_port, hdr_len, .. } => (true, src_port, hdr_len, frame.l3_end()),
        L4::Udp { src_port, len, .. } => {
            (false, src_port, 8, usize::from(frame.l4_off.unwrap()) + usize::from(len))
        }
        _ => panic!("{frame:?}"),
    };
    let tag_len = usize::from(frame.l3_off) - HEADER_LEN;
    let start = frame.l4_off.unwrap() - tag_len as u16;
    let ipv6 = matches!(frame.kind, Kind::Ipv6(_));
    let transport = Transport { ipv6, tcp, start, header_len, end: (end - tag_len) as u32 };
    assert_eq!((tenant.src_port, tenant.transport), (src_port, transport));

    let mut filled = [&whole[..12], &whole[12 + tag_len..]].concat();
    transport.fill_checksum(&mut filled).unwrap();
    let sum = finish_l4(&frame, std::iter::once(whole)).unwrap();
    assert_eq!(filled[sum.offset - tag_len..][..2], sum.value.to_be_bytes());
    let end = filled.len().min(end - tag_len - 1);
    assert_eq!(transport.fill_checksum(&mut filled[..end]), None);
}

/// As [`fast_parse_frame`], for a datagram of any kind.
fn fast_parse_datagram(head: &[u8], len: usize, expect: &Expect) {
    let Some(datagram) = fast_parse::datagram(head, len, expect.vlan, expect.udp_port) else { return };
    for parse in [underlay::parse, underlay::parse_foreign] {
        let parsed = parse(head, len, expect);
        if underlay::is_martian(datagram.src) {
            assert_eq!(parsed.err(), Some(BadOuter::MartianSource));
            continue;
        }
        let Ok(Underlay::Vxlan(vxlan)) = parsed else { panic!("{datagram:?}") };
        assert_eq!(
            (datagram.dst_mac, datagram.src, datagram.dst, datagram.tos, datagram.vni),
            (vxlan.dst_mac, vxlan.src, vxlan.dst, vxlan.tos, vxlan.vni)
        );
        assert_eq!((vxlan.flags.with_separate_copies(0), vxlan.node), (OverlayFlags::NONE, None));
        assert_eq!((datagram.inner_off, datagram.inner_len), (vxlan.inner_off, vxlan.inner_len));
        assert!(vxlan.inner_end() <= head.len());
        assert_eq!(datagram.has_checksum, vxlan.checksum == UdpChecksum::Present);
        if datagram.has_checksum {
            assert_eq!(datagram.checksum_ok(head), vxlan.udp_checksum_ok(std::iter::once(head)));
        }
    }
}

/// As [`fast_parse_frame`].
fn fast_parse_tunnel(head: &[u8], len: usize, expect: &Expect) {
    let Some(tunnel) = fast_parse::tunnel(head, len, expect.udp_port).filter(|_| expect.vlan.is_none())
    else {
        return;
    };
    for parse in [underlay::parse, underlay::parse_foreign] {
        let parsed = parse(head, len, expect);
        if underlay::martian_v4(tunnel.src) {
            assert_eq!(parsed.err(), Some(BadOuter::MartianSource));
            continue;
        }
        let Ok(Underlay::Vxlan(vxlan)) = parsed else { panic!("{tunnel:?}") };
        assert_eq!(
            (tunnel.dst_mac, tunnel.src.into(), tunnel.dst.into()),
            (vxlan.dst_mac, vxlan.src, vxlan.dst)
        );
        assert_eq!(
            (tunnel.tos, tunnel.vni, vxlan.flags.with_separate_copies(0), vxlan.node),
            (vxlan.tos, vxlan.vni, OverlayFlags::NONE, None)
        );
        assert_eq!((vxlan.checksum, vxlan.l3_off), (UdpChecksum::Absent, 14));
        assert_eq!(
            (usize::from(vxlan.inner_off), usize::from(vxlan.inner_len)),
            (fast_parse::TUNNEL_LEN, tunnel.inner_len)
        );
        assert!(vxlan.inner_end() <= head.len());
    }
}

/// Parses a tenant frame and drives everything that takes its facts.
pub fn frame_parse(input: &[u8]) {
    let (head, whole) = split(input);
    fast_parse_frame(head, whole);
    let Ok(frame) = frame::parse(head, whole.len()) else { return };
    facts_hold(&frame, head, whole.len());
    assert!(flow::source_port(flow::hash(&frame)) >= flow::FIRST_PORT);

    let segments = || [head, whole.get(head.len()..).unwrap_or_default()].into_iter();
    let mut finished = whole.to_vec();
    if let Some(sum) = finish_l4(&frame, segments()) {
        finished[sum.offset..sum.offset + 2].copy_from_slice(&sum.value.to_be_bytes());
        assert_eq!(check_l4(&frame, std::iter::once(finished.as_slice())), L4Check::Good);
        assert_eq!(finish_l4(&frame, std::iter::once(finished.as_slice())), Some(sum));
    }

    let mut changed = head.to_vec();
    let _ = icmp::echo_reply(&frame, &mut changed);
    let mut changed = head.to_vec();
    assert_eq!(ecn::set(&frame, &mut changed, ecn::CE), frame.tos().is_some());

    for error in [
        icmp::build_frag_needed(head, &frame, 1400).map(|e| e.to_vec()),
        icmp::build_packet_too_big(head, &frame, 1400).map(|e| e.to_vec()),
    ]
    .into_iter()
    .flatten()
    {
        let facts = frame::parse(&error, error.len()).unwrap();
        assert_eq!((facts.dst, facts.src), (frame.src, frame.dst));
        assert_eq!(check_l4(&facts, std::iter::once(error.as_slice())), L4Check::Good);
        // No error about an error, or two hosts could play ping-pong.
        assert!(icmp::build_frag_needed(&error, &facts, 576).is_none());
        assert!(icmp::build_packet_too_big(&error, &facts, 1280).is_none());
    }
    segment(&frame, head, whole);
}

/// Segments a frame as for a guest with segmentation offload; the data of all segments is the data of the frame.
fn segment(frame: &Frame, head: &[u8], whole: &[u8]) {
    let Ok(segmenter) = Segmenter::new(frame, head, 536) else { return };
    let (start, mut count) = (segmenter.header_len(), 0);
    let mut at = start;
    for segment in segmenter.clone() {
        assert_eq!(segment.payload.start, at);
        assert!(segment.payload.len() <= 536);
        at = segment.payload.end;
        count += 1;
        let mut bytes = vec![0; start];
        segmenter.write_header(&segment, &mut bytes).unwrap();
        bytes.extend_from_slice(&whole[segment.payload.clone()]);
        assert_eq!(frame::parse(&bytes, bytes.len()), Ok(segment.frame));
    }
    assert_eq!((at, count), (frame.l3_end(), Segmenter::count(&segmenter)));
}

/// All offsets and lengths of accepted facts lie where they claim.
fn facts_hold(frame: &Frame, head: &[u8], len: usize) {
    assert!(usize::from(frame.l3_off) <= head.len());
    assert!(frame.l3_end() <= len);
    let fragment = match &frame.kind {
        Kind::Ipv4(ip) => ip.fragment,
        Kind::Ipv6(ip) => ip.fragment,
        _ => {
            assert_eq!((frame.l4, frame.l4_off), (L4::None, None));
            return;
        }
    };
    let off = frame.l4_off.map(usize::from);
    if let Some(off) = off {
        assert!(off <= frame.l3_end());
        assert_ne!(fragment, Fragment::Later);
    }
    match frame.l4 {
        L4::Tcp { hdr_len, .. } => {
            assert!(off.unwrap() + usize::from(hdr_len) <= head.len().min(frame.l3_end()))
        }
        L4::Udp { len, .. } if fragment == Fragment::Whole => {
            assert!(off.unwrap() + usize::from(len) <= frame.l3_end());
        }
        L4::Udp { .. } | L4::Icmp { .. } | L4::Icmpv6 { .. } => assert!(off.unwrap() + 8 <= head.len()),
        L4::None | L4::Other | L4::Malformed => {}
    }
}

/// Parses a frame from the underlay, with and without a VLAN expected.
pub fn underlay_parse(input: &[u8]) {
    let (head, whole) = split(input);
    for vlan in [None, VlanId::new(30).ok()] {
        let expect = Expect { vlan, udp_port: 4789 };
        fast_parse_tunnel(head, whole.len(), &expect);
        fast_parse_datagram(head, whole.len(), &expect);
        let (parsed, foreign) = (
            underlay::parse(head, whole.len(), &expect),
            underlay::parse_foreign(head, whole.len(), &expect),
        );
        flags_hold(&parsed, &foreign);
        if let Ok(Underlay::Datagram(other)) = parsed {
            let end = other.off() + usize::from(other.len);
            assert!(end <= whole.len() && (other.len <= 1 || head[other.off()] & 0x08 == 0));
        }
        let Ok(Underlay::Vxlan(v)) = parsed else { continue };
        let sealed = underlay::parse_sealed(head, usize::from(v.udp_off), whole.len());
        assert_eq!(
            sealed.map(|inner| (inner.vni, inner.flags, inner.off)),
            Ok((v.vni, v.flags, v.inner_off))
        );
        assert!(v.inner_len >= 14 && v.inner_end() <= whole.len());
        assert!(usize::from(v.inner_off) <= head.len());
        let tail = whole.get(head.len()..).unwrap_or_default();
        let split = v.udp_checksum_ok([head, tail].into_iter());
        assert_eq!(split, v.udp_checksum_ok(std::iter::once(whole)));
        let inner_head = &head[usize::from(v.inner_off)..head.len().min(v.inner_end())];
        if let Ok(inner) = frame::parse(inner_head, usize::from(v.inner_len)) {
            facts_hold(&inner, inner_head, usize::from(v.inner_len));
        }
    }
}

/// OverlayFlags change nothing but what they stand for: to a foreign sender's frame everything else is the same.
fn flags_hold(parsed: &Result<Underlay, BadOuter>, foreign: &Result<Underlay, BadOuter>) {
    match (parsed, foreign) {
        (Ok(Underlay::Vxlan(v)), Ok(Underlay::Vxlan(f))) => {
            let shim = if v.flags.contains(OverlayFlags::NODE) { SHIM_LEN as u16 } else { 0 };
            assert_eq!(v.node.is_some(), shim > 0);
            assert!(v.node.is_none_or(|node| node.station().is_ok()));
            assert!(shim == 0 || !v.flags.contains(OverlayFlags::CONTROL));
            assert_eq!((f.flags, f.node), (OverlayFlags::NONE, None));
            let same = Vxlan { inner_off: f.inner_off + shim, inner_len: f.inner_len - shim, ..*f };
            assert_eq!(*v, Vxlan { flags: v.flags, node: v.node, ..same });
        }
        // Only a shim that is bad, not all in the first segment, or leaves no inner frame, makes a difference.
        (Err(bad), Ok(Underlay::Vxlan(_))) => {
            assert!(matches!(bad, BadOuter::BadShim | BadOuter::HeadersSplit | BadOuter::InnerRunt));
        }
        // A datagram too short for a frame without the shim may be refused for the shim first.
        (Err(bad), Err(BadOuter::InnerRunt)) => {
            assert!(matches!(bad, BadOuter::BadShim | BadOuter::HeadersSplit | BadOuter::InnerRunt));
        }
        _ => assert_eq!(parsed, foreign),
    }
}

/// Reads an end marker, writes it again and relays it.
pub fn marker(input: &[u8]) {
    let (_, frame) = split(input);
    let Ok(parsed) = marker::parse(frame) else { return };
    assert!(
        parsed.sender_queue < parsed.sender_queues
            && parsed.sender_queues <= marker::MAX_SENDER_QUEUES
            && parsed.node.station().is_ok()
    );
    let ours = marker::build(&parsed);
    assert_eq!(marker::parse(&ours), Ok(parsed));
    assert_eq!(ours[..16], frame[..16]);
    for len in 0..marker::FRAME_LEN {
        assert_eq!(marker::parse(&frame[..len]), Err(BadMarker::Truncated));
    }
    let mut relayed = frame.to_vec();
    marker::relay_in_place(&mut relayed, Relay { paused_us: 77, ends: false });
    assert_eq!(marker::parse(&relayed), Ok(Marker { relayed: true, paused_us: 77, ..parsed }));
    // All bytes but the flags and the pause are as they were, so are flags that we do not know.
    let changed = |at: usize| relayed[at] != frame[at];
    assert!((0..frame.len()).filter(|at| changed(*at)).all(|at| at == 16 || (32..36).contains(&at)));
    assert_eq!(relayed[16], frame[16] | 1);
}

/// Reads ARP and ND, and answers requests.
pub fn arp_nd(input: &[u8]) {
    let (head, whole) = split(input);
    let Ok(frame) = frame::parse(head, whole.len()) else { return };
    let owner = Mac::new([2, 0, 0, 0, 0, 9]);
    if let Ok(facts) = arp::parse(&frame, head) {
        assert!(!facts.sender_mac.is_group());
        let reply = arp::build_reply(&facts, owner);
        let reply_frame = frame::parse(&reply, reply.len()).unwrap();
        let read = arp::parse(&reply_frame, &reply).unwrap();
        assert!(read.is_reply && read.sender_mac == owner && read.sender_ip == facts.target_ip);
        assert_eq!((read.target_mac, read.target_ip), (facts.sender_mac, facts.sender_ip));
    }
    if let Ok(nd::Nd::Solicit(solicit)) = nd::parse(&frame, head) {
        let answer = nd::build_answer(&solicit, &frame, owner, false);
        let answer_frame = frame::parse(&answer, answer.len()).unwrap();
        // The requester may have a multicast or loopback source; our answer need not be accepted then.
        if !solicit.src.is_multicast() {
            match nd::parse(&answer_frame, &answer).unwrap() {
                nd::Nd::Advert(advert) => {
                    assert_eq!((advert.target, advert.target_mac), (solicit.target, Some(owner)));
                    assert_eq!(advert.solicited, !solicit.dad);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

//! Facts of golden frames, refusals of lying ones, and L4 checksums.

use super::{A, B, all_golden, facts, golden};
use crate::ethernet::{Tag, ethertype};
use crate::frame::{BadFrame, Fragment, Frame, Ipv4, Ipv6, Kind, L4, parse};
use crate::l4_checksum::{L4Check, check_l4, finish_l4};
use crate::tcp::flag;
use std::net::{Ipv4Addr, Ipv6Addr};

const A4: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);
const B4: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 11);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xa);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xb);

#[test]
fn tcp_over_ipv4_in_full() {
    let expected = Frame {
        dst: B,
        src: A,
        vlan: None,
        double_tagged: false,
        ethertype: ethertype::IPV4,
        l3_off: 14,
        l4_off: Some(34),
        len: 167,
        kind: Kind::Ipv4(Ipv4 {
            hdr_len: 20,
            tos: 0xb9,
            total_len: 153,
            proto: 6,
            ttl: 64,
            df: true,
            fragment: Fragment::Whole,
            src: A4,
            dst: B4,
        }),
        l4: L4::Tcp { src_port: 40000, dst_port: 443, hdr_len: 32, flags: flag::PSH | flag::ACK },
    };
    assert_eq!(facts(&golden("tcp4")), expected);
    assert_eq!((expected.l3_end(), expected.l3_len(), expected.tos()), (167, 153, Some(0xb9)));
    assert_eq!(expected.ips(), Some((A4.into(), B4.into())));
}

#[test]
fn tcp_over_ipv6_in_full() {
    let frame = facts(&golden("tcp6"));
    assert_eq!(
        frame.kind,
        Kind::Ipv6(Ipv6 {
            payload_len: 70,
            ext_len: 0,
            tclass: 0x2e,
            proto: 6,
            hop_limit: 61,
            routing: false,
            fragment: Fragment::Whole,
            src: A6,
            dst: B6,
        })
    );
    assert_eq!(
        frame.l4,
        L4::Tcp { src_port: 40000, dst_port: 443, hdr_len: 20, flags: flag::FIN | flag::ACK }
    );
    assert_eq!((frame.l3_off, frame.l4_off, frame.l3_end()), (14, Some(54), 124));
}

#[test]
fn padding_is_not_part_of_the_packet() {
    let bytes = golden("udp4_padded");
    let frame = facts(&bytes);
    assert_eq!((bytes.len(), frame.len, frame.l3_end()), (60, 60, 45));
    assert_eq!(frame.l4, L4::Udp { src_port: 5000, dst_port: 53, len: 11 });
}

#[test]
fn options_and_extension_headers_are_skipped() {
    let frame = facts(&golden("udp4_ip_options"));
    assert_eq!((frame.l4_off, frame.l4), (Some(38), L4::Udp { src_port: 5, dst_port: 6, len: 16 }));

    let frame = facts(&golden("udp6_extensions"));
    assert_eq!((frame.l4_off, frame.l4), (Some(70), L4::Udp { src_port: 5000, dst_port: 53, len: 15 }));
    assert!(matches!(frame.kind, Kind::Ipv6(Ipv6 { ext_len: 16, proto: 17, routing: false, .. })));

    let frame = facts(&golden("udp6_routing"));
    assert!(matches!(frame.kind, Kind::Ipv6(Ipv6 { ext_len: 24, proto: 17, routing: true, .. })));
}

#[test]
fn one_tag_is_parsed_and_a_second_is_reported() {
    let frame = facts(&golden("tcp4_vlan"));
    assert_eq!(frame.vlan, Some(Tag { tpid: ethertype::VLAN, tci: 5 << 13 | 100 }));
    assert_eq!((frame.ethertype, frame.l3_off, frame.l4_off), (ethertype::IPV4, 18, Some(38)));
    assert!(!frame.double_tagged);

    let frame = facts(&golden("tcp4_qinq"));
    assert_eq!(frame.vlan, Some(Tag { tpid: ethertype::QINQ, tci: 7 }));
    assert_eq!((frame.ethertype, frame.kind, frame.double_tagged), (ethertype::VLAN, Kind::Other, true));
}

#[test]
fn retagged_facts_equal_those_of_the_retagged_frame() {
    let tagged = golden("tcp4_vlan");
    let untagged = [&tagged[..12], &tagged[16..]].concat();
    let (with, without) = (facts(&tagged), facts(&untagged));
    assert_eq!(with.retagged(None), without);
    assert_eq!(without.retagged(with.vlan), with);
    let other = Some(Tag { tpid: ethertype::VLAN, tci: 9 });
    assert_eq!(with.retagged(other), Frame { vlan: other, ..with });
}

#[test]
fn fragments() {
    let fragment = |name: &str| {
        let frame = facts(&golden(name));
        let fragment = match frame.kind {
            Kind::Ipv4(ip) => ip.fragment,
            Kind::Ipv6(ip) => ip.fragment,
            other => panic!("{other:?}"),
        };
        (fragment, frame.l4)
    };
    // The first fragment's UDP length is that of the whole datagram, beyond this frame.
    let udp = L4::Udp { src_port: 5, dst_port: 6, len: 100 };
    assert_eq!(fragment("frag4_first"), (Fragment::First, udp));
    assert_eq!(fragment("frag6_first"), (Fragment::First, udp));
    assert_eq!(fragment("frag4_later"), (Fragment::Later, L4::None));
    assert_eq!(fragment("frag6_later"), (Fragment::Later, L4::None));
    let udp = L4::Udp { src_port: 5, dst_port: 6, len: 17 };
    assert_eq!(fragment("frag6_atomic"), (Fragment::Whole, udp));
}

#[test]
fn arp_rarp_and_anything_else() {
    assert_eq!(facts(&golden("arp_request")).kind, Kind::Arp);
    assert_eq!(facts(&golden("rarp")).kind, Kind::Rarp);
    let frame = facts(&[0xff; 14]);
    assert_eq!((frame.kind, frame.ethertype, frame.l3_len()), (Kind::Other, 0xffff, 0));
    assert_eq!(parse(&[0xff; 13], 13), Err(BadFrame::Runt));
}

/// Changes bytes of a golden frame and parses it.
fn broken(name: &str, changes: &[(usize, u8)]) -> Result<Frame, BadFrame> {
    let mut bytes = golden(name);
    for &(at, value) in changes {
        bytes[at] = value;
    }
    parse(&bytes, bytes.len())
}

#[test]
fn contradictory_ip_headers_are_refused_by_name() {
    assert_eq!(broken("tcp4", &[(14, 0x65)]), Err(BadFrame::Ipv4Version));
    assert_eq!(broken("tcp4", &[(14, 0x44)]), Err(BadFrame::Ipv4HeaderLength));
    assert_eq!(broken("tcp4", &[(16, 0), (17, 19)]), Err(BadFrame::Ipv4HeaderLength));
    assert_eq!(broken("tcp4", &[(17, 154)]), Err(BadFrame::Ipv4Overrun));
    assert_eq!(broken("tcp4", &[(16, 0xff), (17, 0xff)]), Err(BadFrame::Ipv4Overrun));
    assert_eq!(broken("tcp6", &[(14, 0x45)]), Err(BadFrame::Ipv6Version));
    assert_eq!(broken("tcp6", &[(19, 71)]), Err(BadFrame::Ipv6Overrun));
    // Hop-by-hop header of 8 + 255 * 8 bytes.
    assert_eq!(broken("udp6_extensions", &[(55, 255)]), Err(BadFrame::Ipv6Extension));
    // Payload length 20: the second extension header is cut.
    assert_eq!(broken("udp6_extensions", &[(19, 12)]), Err(BadFrame::Ipv6Extension));
}

#[test]
fn endless_extension_headers_are_refused() {
    let chain = |n: usize| {
        let mut bytes = golden("udp6")[..54].to_vec();
        bytes[20] = 60;
        for i in 0..n {
            bytes.extend([if i + 1 == n { 59 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        bytes[19] = (8 * n) as u8;
        parse(&bytes, bytes.len()).map(|f| f.l4)
    };
    assert_eq!(chain(crate::frame::MAX_EXTENSIONS), Ok(L4::None));
    assert_eq!(chain(crate::frame::MAX_EXTENSIONS + 1), Err(BadFrame::Ipv6Extensions));
}

#[test]
fn contradictory_l4_headers_are_malformed_and_forwardable() {
    let l4 = |name: &str, changes: &[(usize, u8)]| broken(name, changes).unwrap().l4;
    assert_eq!(l4("tcp4", &[(46, 0x40)]), L4::Malformed, "TCP header of 16 bytes");
    assert_eq!(l4("tcp4_vlan", &[(50, 0xf0)]), L4::Malformed, "TCP options beyond the packet");
    assert_eq!(l4("udp4", &[(39, 42)]), L4::Malformed, "UDP length beyond the packet");
    assert_eq!(l4("udp4", &[(39, 7)]), L4::Malformed, "UDP length below its header");
    assert_eq!(l4("udp4", &[(17, 27)]), L4::Malformed, "UDP header cut");
    assert_eq!(l4("udp4", &[(23, 58)]), L4::Other, "ICMPv6 does not exist over IPv4");
    assert_eq!(l4("udp6", &[(20, 1)]), L4::Other, "ICMP does not exist over IPv6");
}

#[test]
fn every_prefix_is_refused_or_has_consistent_facts() {
    for (name, bytes) in all_golden() {
        for len in 0..bytes.len() {
            // The frame itself is cut: what remains must still hold all that its lengths claim.
            if let Ok(frame) = parse(&bytes[..len], len) {
                assert!(frame.l3_end() <= len, "{name} cut to {len}");
            } else if len >= 18 {
                assert!(!matches!(parse(&bytes[..len], len), Err(BadFrame::HeadersSplit)), "{name} {len}");
            }
            // Only the first segment is short: same facts or "headers split".
            match parse(&bytes[..len], bytes.len()) {
                Ok(frame) => assert_eq!(frame, facts(&bytes), "{name} split at {len}"),
                Err(bad) => assert_eq!(bad, BadFrame::HeadersSplit, "{name} split at {len}"),
            }
        }
    }
    for len in 14..34 {
        assert_eq!(parse(&golden("tcp4")[..len], len), Err(BadFrame::Ipv4Truncated));
    }
    for len in 34..167 {
        assert_eq!(parse(&golden("tcp4")[..len], len), Err(BadFrame::Ipv4Overrun));
    }
}

#[test]
fn checksums_of_scapy_are_found_good_and_reproduced() {
    let mut proved = 0;
    for (name, bytes) in all_golden() {
        let frame = facts_or_skip(&bytes);
        let Some(frame) = frame else { continue };
        let check = check_l4(&frame, std::iter::once(bytes.as_slice()));
        if matches!(name, "ns_bad_checksum" | "ns_short") {
            assert_eq!(check, L4Check::Bad);
        } else if check == L4Check::Good {
            proved += 1;
            let mut zeroed = bytes.clone();
            let sum = finish_l4(&frame, std::iter::once(bytes.as_slice())).unwrap();
            zeroed[sum.offset..sum.offset + 2].fill(0);
            for cut in [frame.l3_end() - 1, usize::from(frame.l4_off.unwrap()) + 20, bytes.len()] {
                let (head, tail) = zeroed.split_at(cut.min(zeroed.len()));
                assert_eq!(finish_l4(&frame, [head, tail].into_iter()), Some(sum), "{name} cut at {cut}");
            }
            assert_eq!(bytes[sum.offset..sum.offset + 2], sum.value.to_be_bytes(), "{name}");
        } else {
            assert_ne!(check, L4Check::Bad, "{name}");
        }
    }
    assert!(proved > 40, "{proved}");
    assert_eq!(&golden("udp4_checksum_ffff")[40..42], [0xff, 0xff]);
}

fn facts_or_skip(bytes: &[u8]) -> Option<Frame> {
    parse(bytes, bytes.len()).ok()
}

#[test]
fn checksums_that_one_frame_cannot_prove() {
    for name in ["frag4_first", "frag6_first", "frag4_later", "udp6_routing", "arp_request", "tcp4_qinq"] {
        let bytes = golden(name);
        assert_eq!(finish_l4(&facts(&bytes), std::iter::once(bytes.as_slice())), None, "{name}");
        let check = check_l4(&facts(&bytes), std::iter::once(bytes.as_slice()));
        assert_eq!(check, L4Check::NotApplicable, "{name}");
    }
    // Segments that end too early.
    let bytes = golden("tcp4");
    assert_eq!(finish_l4(&facts(&bytes), std::iter::once(&bytes[..100])), None);
    assert_eq!(check_l4(&facts(&bytes), std::iter::once(&bytes[..100])), L4Check::Bad);
}

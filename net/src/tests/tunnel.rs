//! The outer header against golden frames, both ways.

use super::{A, B, assert_golden, facts, golden};
use crate::checksum;
use crate::frame::BadFrame;
use crate::outer::{MixedFamilies, OuterHeader, OuterSpec};
use crate::underlay::{BadOuter, Expect, UdpChecksum, Underlay, Vxlan, parse, parse_foreign, parse_sealed};
use crate::vxlan::OverlayFlags;
use crate::{Mac, VlanId, Vni};

const GA: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
const GB: Mac = Mac::new([2, 0, 0, 0, 0, 2]);

fn spec(src: &str, dst: &str, vlan: Option<u16>) -> OuterSpec {
    OuterSpec {
        src_mac: GA,
        dst_mac: GB,
        vlan: vlan.map(|v| VlanId::new(v).unwrap()),
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        dst_port: 4789,
        ttl: 64,
    }
}

/// The golden inner frame behind a header for VNI 0x123456 from port 50000 with TOS 0xba.
fn encap(spec: &OuterSpec, seal: bool) -> Vec<u8> {
    let (inner, header) = (golden("inner"), OuterHeader::new(spec).unwrap());
    let mut out = vec![0xee; header.len()];
    header.fill(&mut out, inner.len(), Vni::new(0x12_3456).unwrap(), 50000, 0xba).unwrap();
    if seal {
        let (a, b) = inner.split_at(33);
        header.seal(&mut out, [a, b].into_iter());
    }
    out.extend(inner);
    out
}

#[test]
fn encapsulation_is_that_of_scapy() {
    let (v4, v6) = (("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2"));
    assert_golden(&encap(&spec(v4.0, v4.1, None), false), "vxlan4");
    assert_golden(&encap(&spec(v4.0, v4.1, None), true), "vxlan4");
    assert_golden(&encap(&spec(v4.0, v4.1, Some(30)), false), "vxlan4_vlan");
    assert_golden(&encap(&spec(v6.0, v6.1, None), false), "vxlan6_zero");
    assert_golden(&encap(&spec(v6.0, v6.1, None), true), "vxlan6");
    assert_golden(&encap(&spec(v6.0, v6.1, Some(30)), true), "vxlan6_vlan");
}

#[test]
fn a_header_filled_with_its_checksum_equals_one_sealed_later() {
    for (vlan, len) in [(None, 70), (Some(30), 74)] {
        let header = OuterHeader::new(&spec("fd00::1", "2001:db8:ffff::fffe", vlan)).unwrap();
        for n in 0..2000u32 {
            let inner: Vec<u8> = (0..14 + n % 90).map(|i| (i * n) as u8).collect();
            let (vni, port) = (Vni::new(1 + n * 8191 % 0xff_ffff).unwrap(), 49152 + (n * 7 % 16384) as u16);
            let (mut once, mut twice) = ([0xee; 75], [0xee; 75]);
            let mut sum = checksum::Sum::new();
            sum.add(&inner);
            header.fill_ipv6(&mut once, (inner.len(), sum), vni, port, n as u8).unwrap();
            header.fill(&mut twice, inner.len(), vni, port, n as u8).unwrap();
            header.seal(&mut twice, std::iter::once(inner.as_slice()));
            assert_eq!(once, twice, "{n}");
            assert_eq!(once[len], 0xee, "nothing behind the header is touched");
        }
        assert_eq!(header.fill_ipv6(&mut [0; 69], (60, checksum::Sum::new()), Vni::ONE, 50000, 0), None);
        assert_eq!(header.fill_ipv6(&mut [0; 75], (65_520, checksum::Sum::new()), Vni::ONE, 50000, 0), None);
    }
}

#[test]
fn header_lengths_and_refusals() {
    let v4 = OuterHeader::new(&spec("10.0.0.1", "10.0.0.2", None)).unwrap();
    let v6 = OuterHeader::new(&spec("fd00::1", "fd00::2", Some(5))).unwrap();
    assert_eq!((v4.len(), v4.is_ipv6(), v6.len(), v6.is_ipv6()), (50, false, 74, true));
    assert_eq!(OuterHeader::new(&spec("10.0.0.1", "fd00::2", None)), Err(MixedFamilies));

    let vni = Vni::new(1).unwrap();
    let mut out = [0xee; 74];
    assert_eq!(v4.fill(&mut out[..49], 60, vni, 50000, 0), None, "buffer too short");
    assert_eq!(v4.fill(&mut out, 65_500, vni, 50000, 0), None, "IPv4 total length over 65535");
    assert_eq!(out, [0xee; 74]);
    assert_eq!(v4.fill(&mut out, 65_535 - 36, vni, 50000, 0), Some(()));
    assert_eq!(out[50], 0xee, "nothing behind the header is touched");
    assert_eq!(v6.fill(&mut out, 65_535 - 16, vni, 50000, 0), Some(()));
    assert_eq!(v6.fill(&mut out, 65_535 - 15, vni, 50000, 0), None);
}

const PORT: Expect = Expect { vlan: None, udp_port: 4789 };

fn vxlan(name: &str, expect: &Expect) -> Vxlan {
    let bytes = golden(name);
    match parse(&bytes, bytes.len(), expect) {
        Ok(Underlay::Vxlan(v)) => v,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn decapsulation_facts_in_full() {
    let inner_len = golden("inner").len() as u16;
    let expected = Vxlan {
        dst_mac: GB,
        src_mac: GA,
        src: "10.0.0.1".parse().unwrap(),
        dst: "10.0.0.2".parse().unwrap(),
        tos: 0xba,
        ttl: 64,
        udp_src: 50000,
        vni: Vni::new(0x12_3456).unwrap(),
        flags: OverlayFlags::NONE,
        node: None,
        checksum: UdpChecksum::Absent,
        l3_off: 14,
        udp_off: 34,
        inner_off: 50,
        inner_len,
    };
    assert_eq!(vxlan("vxlan4", &PORT), expected);
    let tagged = Expect { vlan: VlanId::new(30).ok(), udp_port: 4789 };
    let shifted = Vxlan { l3_off: 18, udp_off: 38, inner_off: 54, ..expected };
    assert_eq!(vxlan("vxlan4_vlan", &tagged), shifted);
    let v6 = Vxlan {
        src: "fd00::1".parse().unwrap(),
        dst: "fd00::2".parse().unwrap(),
        checksum: UdpChecksum::Present,
        udp_off: 54,
        inner_off: 70,
        ..expected
    };
    assert_eq!(vxlan("vxlan6", &PORT), v6);
    assert_eq!(vxlan("vxlan6_zero", &PORT), Vxlan { checksum: UdpChecksum::AbsentV6, ..v6 });
    let bytes = golden("vxlan4");
    let inner = facts(&bytes[50..]);
    assert_eq!((inner.dst, inner.src), (B, A));
}

#[test]
fn everything_allowed_by_rfc7348_is_accepted() {
    let bytes = golden("vxlan4_reserved");
    let Ok(Underlay::Vxlan(v)) = parse_foreign(&bytes, bytes.len(), &PORT) else { panic!("refused") };
    assert_eq!((v.vni.get(), v.flags, v.node), (7, OverlayFlags::NONE, None), "reserved bits are ignored");
    assert_eq!(usize::from(v.inner_off) + golden("inner").len(), bytes.len());
    assert_eq!(vxlan("vxlan4_options", &PORT).inner_off, 54);
    assert_eq!(vxlan("vxlan6_extension", &PORT).inner_off, 78);
    let padded = vxlan("vxlan4_padded", &PORT);
    assert_eq!((padded.inner_len, padded.inner_end()), (14, 64));
    assert_eq!(golden("vxlan4_padded").len(), 64 + 9);
}

#[test]
fn udp_checksums_are_verified_over_all_segments() {
    for name in ["vxlan4_checksum", "vxlan6", "vxlan6_extension"] {
        let bytes = golden(name);
        let v = vxlan(name, &PORT);
        assert_eq!(v.checksum, UdpChecksum::Present);
        for cut in 0..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert!(v.udp_checksum_ok([a, b].into_iter()), "{name} cut at {cut}");
        }
        for at in usize::from(v.udp_off)..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x10;
            assert!(!v.udp_checksum_ok(std::iter::once(wrong.as_slice())), "{name} bit flipped in {at}");
        }
        assert!(!v.udp_checksum_ok(std::iter::once(&bytes[..bytes.len() - 1])));
    }
}

#[test]
fn everything_else_is_refused_by_name() {
    let bad = |name: &str, expect: &Expect| {
        let bytes = golden(name);
        parse(&bytes, bytes.len(), expect).unwrap_err()
    };
    for (name, reason) in [
        ("vxlan4_vlan", BadOuter::WrongVlan),
        ("vxlan4_fragment", BadOuter::Fragment),
        ("vxlan6_fragment", BadOuter::Fragment),
        ("vxlan4_vni0", BadOuter::VniZero),
        ("vxlan4_inner_runt", BadOuter::InnerRunt),
        ("vxlan4_short", BadOuter::VxlanTruncated),
        ("vxlan4_udp_len", BadOuter::UdpLength),
        ("vxlan4_ip_checksum", BadOuter::Ipv4Checksum),
        ("vxlan4_martian", BadOuter::MartianSource),
    ] {
        assert_eq!(bad(name, &PORT), reason, "{name}");
    }
    let other_vlan = Expect { vlan: VlanId::new(31).ok(), udp_port: 4789 };
    assert_eq!(bad("vxlan4_vlan", &other_vlan), BadOuter::WrongVlan);
    assert_eq!(bad("vxlan4", &other_vlan), BadOuter::WrongVlan);
}

#[test]
fn a_priority_tag_counts_as_untagged() {
    let mut bytes = golden("vxlan4_vlan");
    bytes[14..16].copy_from_slice(&[0xe0, 0]);
    assert!(matches!(parse(&bytes, bytes.len(), &PORT), Ok(Underlay::Vxlan(v)) if v.inner_off == 54));
}

#[test]
fn other_underlay_frames_are_classified() {
    let kind = |name: &str| {
        let bytes = golden(name);
        parse(&bytes, bytes.len(), &PORT).unwrap()
    };
    assert!(matches!(kind("arp_request"), Underlay::Arp(_)));
    assert!(matches!(kind("icmp4_echo"), Underlay::Icmp(_)));
    assert!(matches!(kind("icmp6_echo"), Underlay::Icmpv6(_)));
    assert!(matches!(kind("ns"), Underlay::Nd(_)));
    assert!(matches!(kind("ns_dad"), Underlay::Nd(_)), "from :: is legal in ND");
    assert!(matches!(kind("rarp"), Underlay::Other(_)));
    assert!(matches!(kind("tcp4"), Underlay::Other(_)));
    assert!(matches!(kind("vxlan4_other_port"), Underlay::Other(_)));
}

#[test]
fn no_prefix_parses_as_vxlan() {
    for name in ["vxlan4", "vxlan6", "vxlan4_options", "vxlan6_extension"] {
        let bytes = golden(name);
        for len in 0..bytes.len() {
            let cut = parse(&bytes[..len], len, &PORT).unwrap_err();
            assert!(cut != BadOuter::HeadersSplit, "{name} cut to {len}: {cut}");
            match parse(&bytes[..len], bytes.len(), &PORT) {
                Ok(Underlay::Vxlan(v)) => assert!(len >= usize::from(v.inner_off)),
                other => assert_eq!(other, Err(BadOuter::HeadersSplit), "{name} split at {len}"),
            }
        }
    }
}

#[test]
fn reasons_have_unique_names_and_ordered_discriminants() {
    for (i, reason) in BadOuter::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, i);
        assert!(BadOuter::ALL[..i].iter().all(|r| r.name() != reason.name()));
    }
    for reason in BadFrame::ALL {
        assert_eq!(BadOuter::from(*reason).name(), reason.name());
    }
}

/// The same bytes as [`Underlay::Datagram`], and the header that leads to them.
#[test]
fn a_datagram_of_another_kind_has_its_facts() {
    let bytes = golden("vxlan4_no_i");
    for parse in [parse, parse_foreign] {
        let Ok(Underlay::Datagram(other)) = parse(&bytes, bytes.len(), &PORT) else { panic!() };
        assert_eq!((other.off(), usize::from(other.len)), (42, bytes.len() - 42));
        assert_eq!(other.checksum, UdpChecksum::Absent);
        assert_eq!(other.src.to_string(), "10.0.0.1");
        assert_eq!(bytes[other.off()], 0xf7);
        assert_eq!(parse(&bytes[..42], bytes.len(), &PORT), Err(BadOuter::HeadersSplit));
    }
}

#[test]
fn headers_without_vxlan_are_read_as_written() {
    let v4 = ("10.0.0.1", "10.0.0.2");
    let v6 = ("fd00::1", "fd00::2");
    for ((src, dst), vlan) in [(v4, None), (v6, None), (v4, Some(30)), (v6, Some(30))] {
        let spec = spec(src, dst, vlan);
        let outer = OuterHeader::new(&spec).unwrap();
        assert_eq!(outer.dst_port(), 4789);
        for payload in [&[][..], &[0xc0], &[0xc0; 37], &[0xc0; 1400]] {
            let mut frame = vec![0xee; outer.udp_len()];
            outer.fill_udp(&mut frame, payload.len(), 50_000, 0x28).unwrap();
            outer.seal_udp(&mut frame, std::iter::once(payload));
            frame.extend_from_slice(payload);
            let expect = Expect { vlan: spec.vlan, udp_port: 4789 };
            let Ok(Underlay::Datagram(other)) = parse(&frame, frame.len(), &expect) else { panic!("{src}") };
            assert_eq!((other.src, other.dst, other.udp_src, other.tos), (spec.src, spec.dst, 50_000, 0x28));
            assert_eq!((other.off(), usize::from(other.len)), (outer.udp_len(), payload.len()));
            let present = other.checksum == UdpChecksum::Present;
            assert_eq!(present, spec.src.is_ipv6());
            assert_eq!(present, other.udp_checksum_ok(std::iter::once(&frame[..])));
        }
        assert_eq!(outer.fill_udp(&mut [0; 20], 1, 1, 0), None);
        assert_eq!(outer.fill_udp(&mut [0; 80], 65_530, 1, 0), None);
    }
}

#[test]
fn a_sealed_text_is_read_like_a_datagram() {
    let bytes = golden("vxlan4_node");
    let Ok(Underlay::Vxlan(v)) = parse(&bytes, bytes.len(), &PORT) else { panic!() };
    let inner = parse_sealed(&bytes, usize::from(v.udp_off), bytes.len()).unwrap();
    assert_eq!((inner.vni, inner.flags, inner.node), (v.vni, v.flags, v.node));
    assert_eq!((inner.off, inner.len), (v.inner_off, v.inner_len));
    let no_flag = golden("vxlan4_no_i");
    assert_eq!(parse_sealed(&no_flag, 34, no_flag.len()), Err(BadOuter::VxlanFlags));
    assert_eq!(parse_sealed(&bytes, 34, bytes.len() - 1), Err(BadOuter::UdpLength));
    assert_eq!(parse_sealed(&bytes, bytes.len() - 7, bytes.len()), Err(BadOuter::HeadersSplit));
    assert_eq!(parse_sealed(&bytes[..45], 34, bytes.len()), Err(BadOuter::HeadersSplit));
}

//! Signals between appliances during a migration: flags and shim of a datagram, and end markers, against
//! golden frames.

use super::{B, assert_golden, facts, golden};
use crate::frame;
use crate::marker::{self, BadMarker, Kind, Marker, Relay};
use crate::outer::{OuterHeader, OuterSpec};
use crate::underlay::{BadOuter, Expect, UdpChecksum, Underlay, Vxlan, parse, parse_foreign};
use crate::vxlan::{OverlayFlags, SHIM_LEN, shim};
use crate::{Mac, Vni};

const PORT: Expect = Expect { vlan: None, udp_port: 4789 };

fn vxlan(bytes: &[u8]) -> Result<Vxlan, BadOuter> {
    match parse(bytes, bytes.len(), &PORT)? {
        Underlay::Vxlan(v) => Ok(v),
        other => panic!("{other:?}"),
    }
}

fn foreign(bytes: &[u8]) -> Result<Vxlan, BadOuter> {
    match parse_foreign(bytes, bytes.len(), &PORT)? {
        Underlay::Vxlan(v) => Ok(v),
        other => panic!("{other:?}"),
    }
}

/// A marked frame as the pipeline sends it, from parts cut anywhere.
fn encap(src: &str, dst: &str, flags: OverlayFlags, node: Option<Mac>, inner: &[u8]) -> Vec<u8> {
    let header = OuterHeader::new(&OuterSpec {
        src_mac: Mac::new([2, 0, 0, 0, 0, 1]),
        dst_mac: Mac::new([2, 0, 0, 0, 0, 2]),
        vlan: None,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        dst_port: 4789,
        ttl: 64,
    })
    .unwrap();
    let payload = [node.map(shim).as_ref().map_or(&[][..], |s| s.as_slice()), inner].concat();
    let mut out = vec![0xee; header.len()];
    header.fill(&mut out, payload.len(), Vni::new(0x12_3456).unwrap(), 50000, 0xba).unwrap();
    header.set_flags(&mut out, flags);
    let (a, b) = payload.split_at(5);
    header.seal(&mut out, [a, b].into_iter());
    out.extend(payload);
    out
}

#[test]
fn marked_frames_are_those_of_scapy() {
    let (v4, v6) = (("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2"));
    let (inner, both) = (golden("inner"), OverlayFlags::HOP.with(OverlayFlags::NODE));
    assert_golden(&encap(v4.0, v4.1, OverlayFlags::NONE, None, &inner), "vxlan4");
    assert_golden(&encap(v4.0, v4.1, OverlayFlags::HOP, None, &inner), "vxlan4_hop");
    assert_golden(&encap(v4.0, v4.1, both, Some(B), &inner), "vxlan4_node");
    assert_golden(&encap(v6.0, v6.1, OverlayFlags::NONE, None, &inner), "vxlan6");
    assert_golden(&encap(v6.0, v6.1, OverlayFlags::HOP, None, &inner), "vxlan6_hop");
    assert_golden(&encap(v6.0, v6.1, both, Some(B), &inner), "vxlan6_node");
    let control = OverlayFlags::HOP.with(OverlayFlags::CONTROL);
    assert_golden(&encap(v4.0, v4.1, control, None, &golden("marker_relayed")), "vxlan4_marker");
}

#[test]
fn a_mark_touches_the_last_byte_of_the_header_only() {
    for name in ["vxlan4", "vxlan4_vlan", "vxlan6", "vxlan6_vlan"] {
        let v6 = name.contains('6');
        let header = OuterHeader::new(&OuterSpec {
            src_mac: B,
            dst_mac: B,
            vlan: name.ends_with("vlan").then(|| crate::VlanId::new(30).unwrap()),
            src: if v6 { "fd00::1" } else { "10.0.0.1" }.parse().unwrap(),
            dst: if v6 { "fd00::2" } else { "10.0.0.2" }.parse().unwrap(),
            dst_port: 4789,
            ttl: 64,
        })
        .unwrap();
        let before = golden(name);
        let mut after = before.clone();
        header.set_flags(&mut after, OverlayFlags::CONTROL);
        let changed: Vec<usize> = (0..before.len()).filter(|&i| before[i] != after[i]).collect();
        assert_eq!((changed, after[header.len() - 1]), (vec![header.len() - 1], 2), "{name}");
        header.set_flags(&mut after, OverlayFlags::NONE);
        assert_eq!(after, before);
        let mut short = vec![0xee; header.len() - 1];
        header.set_flags(&mut short, OverlayFlags::HOP);
        assert_eq!(short, vec![0xee; header.len() - 1], "no room: nothing is written");
    }
}

#[test]
fn marks_and_shim_are_read() {
    let plain = vxlan(&golden("vxlan4")).unwrap();
    assert_eq!((plain.flags, plain.node), (OverlayFlags::NONE, None));
    let hop = vxlan(&golden("vxlan4_hop")).unwrap();
    assert_eq!(hop, Vxlan { flags: OverlayFlags::HOP, ..plain });
    let both = OverlayFlags::HOP.with(OverlayFlags::NODE);
    let node = vxlan(&golden("vxlan4_node")).unwrap();
    let shifted = plain.inner_off + SHIM_LEN as u16;
    assert_eq!(node, Vxlan { flags: both, node: Some(B), inner_off: shifted, ..plain });
    for name in ["vxlan4_node", "vxlan4_node_checksum", "vxlan6_node"] {
        let bytes = golden(name);
        let v = vxlan(&bytes).unwrap();
        assert_eq!(&bytes[usize::from(v.inner_off)..v.inner_end()], golden("inner"), "{name}");
    }
    let marker = vxlan(&golden("vxlan4_marker")).unwrap();
    assert_eq!((marker.flags, marker.node), (OverlayFlags::HOP.with(OverlayFlags::CONTROL), None));
    assert_eq!(usize::from(marker.inner_len), marker::FRAME_LEN);
    let inner = &golden("vxlan4_marker")[usize::from(marker.inner_off)..];
    assert_eq!(marker::parse(inner), Ok(RELAYED));
}

#[test]
fn the_udp_checksum_covers_mark_and_shim() {
    for name in ["vxlan4_node_checksum", "vxlan6_node"] {
        let bytes = golden(name);
        let v = vxlan(&bytes).unwrap();
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
    }
}

#[test]
fn bad_shims_are_refused_by_name() {
    for (name, bad) in [
        ("vxlan4_node_zero", BadOuter::BadShim),
        ("vxlan4_node_group", BadOuter::BadShim),
        ("vxlan4_node_cut", BadOuter::BadShim),
        ("vxlan4_node_control", BadOuter::BadShim),
        ("vxlan4_node_runt", BadOuter::InnerRunt),
        ("vxlan4_reserved", BadOuter::BadShim),
    ] {
        assert_eq!(vxlan(&golden(name)), Err(bad), "{name}");
    }
    // The two unused bytes, and the five unused bits, may have any value.
    let mut bytes = golden("vxlan4_node");
    bytes[49] |= 0xf8;
    bytes[56..58].fill(0xff);
    assert_eq!(vxlan(&bytes), vxlan(&golden("vxlan4_node")));
}

#[test]
fn flags_of_a_foreign_sender_are_ignored() {
    let plain = foreign(&golden("vxlan4")).unwrap();
    assert_eq!(Ok(plain), vxlan(&golden("vxlan4")));
    assert_eq!(foreign(&golden("vxlan4_hop")), Ok(plain));
    for name in ["vxlan4_node", "vxlan4_node_zero", "vxlan4_node_group", "vxlan4_node_control"] {
        let longer = Vxlan { inner_len: plain.inner_len + SHIM_LEN as u16, ..plain };
        assert_eq!(foreign(&golden(name)), Ok(longer), "{name}");
    }
    assert_eq!(foreign(&golden("vxlan4_node_cut")), Err(BadOuter::InnerRunt));
}

#[test]
fn no_prefix_parses_as_a_flagged_frame() {
    for name in ["vxlan4_hop", "vxlan4_node", "vxlan6_node", "vxlan4_marker"] {
        let bytes = golden(name);
        for len in 0..bytes.len() {
            let cut = parse(&bytes[..len], len, &PORT).unwrap_err();
            assert!(cut != BadOuter::HeadersSplit, "{name} cut to {len}: {cut}");
            match parse(&bytes[..len], bytes.len(), &PORT) {
                Ok(Underlay::Vxlan(v)) => assert!(len >= usize::from(v.inner_off), "{name} split at {len}"),
                other => assert_eq!(other, Err(BadOuter::HeadersSplit), "{name} split at {len}"),
            }
        }
    }
}

const ARRIVED: Marker = Marker {
    kind: Kind::Arrived,
    relayed: false,
    ends: false,
    sender_queue: 0,
    sender_queues: 1,
    port: 0,
    ports: 1,
    source_port: 0,
    host: 7,
    generation: 0x0102_0304_0506_0708,
    node: B,
    paused_us: 0,
};
const RELAYED: Marker = Marker { relayed: true, paused_us: 123_456, ..ARRIVED };
const END: Marker = Marker {
    kind: Kind::End,
    sender_queue: 3,
    sender_queues: 4,
    host: 0xa0b0_c0d0,
    generation: 0,
    ..ARRIVED
};

#[test]
fn markers_match_the_documented_layout() {
    for (name, facts) in [("marker_arrived", ARRIVED), ("marker_end", END), ("marker_relayed", RELAYED)] {
        assert_eq!(marker::parse(&golden(name)), Ok(facts), "{name}");
        assert_golden(&marker::build(&facts), name);
    }
    let mut bytes = golden("marker_arrived");
    marker::relay_in_place(&mut bytes, Relay { paused_us: 123_456, ends: false });
    assert_golden(&bytes, "marker_relayed");
    // To a switch between it is an ordinary frame of no protocol we look into.
    let frame = facts(&bytes);
    assert_eq!((frame.kind, frame.ethertype, frame.dst), (frame::Kind::Other, marker::ETHERTYPE, B));
    assert!(
        !marker::SOURCE.is_group() && marker::SOURCE.octets()[0] & 2 != 0,
        "locally administered station"
    );
}

#[test]
fn markers_are_refused_by_name() {
    let broken = |at: usize, value: u8| {
        let mut bytes = golden("marker_end");
        bytes[at] = value;
        marker::parse(&bytes)
    };
    for (at, value, bad) in [
        (0, 0x53, BadMarker::Node),
        (6, 0x06, BadMarker::NotMarker),
        (11, 1, BadMarker::NotMarker),
        (12, 0x08, BadMarker::NotMarker),
        (13, 0xb6, BadMarker::NotMarker),
        (14, 0, BadMarker::Version),
        (14, 2, BadMarker::Version),
        (15, 0, BadMarker::Kind),
        (15, 3, BadMarker::Kind),
        (17, 4, BadMarker::SenderQueue),
        (18, 3, BadMarker::SenderQueue),
        (18, 0, BadMarker::SenderQueue),
        (18, 65, BadMarker::SenderQueue),
        (19, 65, BadMarker::Port),
        (36, 1, BadMarker::Port),
    ] {
        assert_eq!(broken(at, value), Err(bad), "byte {at} = {value}");
    }
    assert_eq!(broken(18, 64).map(|m| m.sender_queues), Ok(64));
    assert_eq!(broken(19, 64).map(|m| (m.port, m.ports)), Ok((0, 64)));
    assert_eq!(broken(16, 2).map(|m| m.ends), Ok(true));
    // What has no meaning yet is no reason to refuse.
    for (at, value) in [(16, 0xfc), (37, 0xff), (40, 0xff), (59, 0xff)] {
        assert_eq!(broken(at, value), Ok(END), "byte {at} = {value}");
    }
    let mut nobody = golden("marker_end");
    nobody[..6].fill(0);
    assert_eq!(marker::parse(&nobody), Err(BadMarker::Node));
    assert_eq!(marker::parse(&golden("arp_request")), Err(BadMarker::Truncated));
    assert_eq!(marker::parse(&golden("inner")), Err(BadMarker::NotMarker));
}

#[test]
fn no_prefix_parses_as_a_marker() {
    let bytes = golden("marker_relayed");
    for len in 0..bytes.len() {
        let mut cut = bytes[..len].to_vec();
        assert_eq!(marker::parse(&cut), Err(BadMarker::Truncated), "{len}");
        marker::relay_in_place(&mut cut, Relay::default());
        assert_eq!(cut, bytes[..len], "nothing is written to {len} bytes");
    }
}

#[test]
fn reasons_have_unique_names_and_ordered_discriminants() {
    for (i, reason) in BadMarker::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, i);
        assert!(BadMarker::ALL[..i].iter().all(|r| r.name() != reason.name()));
    }
}

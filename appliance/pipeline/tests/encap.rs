//! Encapsulation: outer headers byte by byte.

use super::frames::{FROM_1, FROM_2, Tunnel, other, source_port, udp4, udp4_tos, udp6};
use super::*;
use stopover_net::ecn::OuterTos;

/// The expected datagram to the host of `tunnel`, with this source port.
fn expected(tunnel: Tunnel, sent: &[u8], inner: &[u8]) -> Vec<u8> {
    Tunnel { source_port: source_port(sent), ..tunnel.back() }.around(inner)
}

#[test]
fn outer_ipv4_headers_are_correct() {
    let mut lab = Lab::new();
    for inner in [udp4(A, R1, 0), udp4(A, R1, 101), udp6(A, R1, 0, 8), other(A.mac, R1.mac, 46)] {
        let out = lab.one(VM_A, &inner);
        let sent = out.only(UNDERLAY);
        assert_eq!(sent, expected(FROM_1, sent, &inner));
        assert!(source_port(sent) >= 49152);
    }
}

#[test]
fn outer_ipv6_headers_are_correct_and_the_checksum_covers_the_frame() {
    let mut lab = Lab::new();
    for len in 0..64 {
        let inner = udp4(A, R2, len);
        let out = lab.one(VM_A, &inner);
        let sent = out.only(UNDERLAY);
        assert_eq!(sent, expected(FROM_2, sent, &inner), "{len}");
        assert!(frames::l4_is_right(sent));
    }
}

#[test]
fn without_checksum_over_ipv6_where_configured() {
    let mut lab = Lab::new();
    lab.rewrite_path(2, HOST_2.into(), None, |path| path.template.zero_checksum = true);
    let inner = udp4(A, R2, 20);
    let out = lab.one(VM_A, &inner);
    let sent = out.only(UNDERLAY);
    assert_eq!(sent, expected(Tunnel { checksum: false, ..FROM_2 }, sent, &inner));
}

#[test]
fn a_tagged_underlay_and_another_port() {
    let mut lab = Lab::new();
    lab.rewrite_path(1, HOST_1.into(), Some(30), |_| {});
    let inner = udp4(A, R1, 20);
    let out = lab.one(VM_A, &inner);
    let sent = out.only(UNDERLAY_30);
    let untagged = [&sent[..12], &sent[16..]].concat();
    assert_eq!(sent[12..16], [0x81, 0, 0, 30]);
    assert_eq!(untagged, expected(FROM_1, &untagged, &inner));
}

#[test]
fn tos_is_copied_ecn_and_all() {
    let mut lab = Lab::new();
    for tos in [0, 1, 2, 3, 0xb8, 0xbb, 0xff] {
        for inner in [udp4_tos(A, R1, tos, 9), udp6(A, R1, tos, 9)] {
            let out = lab.one(VM_A, &inner);
            let sent = out.only(UNDERLAY);
            assert_eq!(sent, expected(Tunnel { tos, ..FROM_1 }, sent, &inner));
        }
        let out = lab.one(VM_A, &udp6(A, R2, tos, 9));
        let sent = out.only(UNDERLAY);
        assert_eq!(sent, expected(Tunnel { tos, ..FROM_2 }, sent, &udp6(A, R2, tos, 9)));
    }
}

#[test]
fn a_fixed_dscp_still_copies_ecn() {
    let mut lab = Lab::new();
    lab.rewrite_path(1, HOST_1.into(), None, |path| path.template.tos = OuterTos::fixed(46));
    for (tos, outer) in [(0, 0xb8), (0xff, 0xbb), (2, 0xba)] {
        let out = lab.one(VM_A, &udp4_tos(A, R1, tos, 9));
        assert_eq!(out.only(UNDERLAY)[15], outer);
        assert!(frames::ip4_is_right(out.only(UNDERLAY)));
    }
    // A frame without IP has no class of its own.
    assert_eq!(lab.one(VM_A, &other(A.mac, R1.mac, 46)).only(UNDERLAY)[15], 0xb8);
}

#[test]
fn a_flow_has_one_source_port_and_flows_have_different_ones() {
    let mut lab = Lab::new();
    let first = source_port(lab.one(VM_A, &udp4(A, R1, 5)).only(UNDERLAY));
    for len in 6..40 {
        assert_eq!(source_port(lab.one(VM_A, &udp4_tos(A, R1, len, usize::from(len))).only(UNDERLAY)), first);
    }
    let mut ports = std::collections::BTreeSet::new();
    for n in 0..200u16 {
        let mut frame = udp4(A, R1, 5);
        frame[34..36].copy_from_slice(&(1000 + n).to_be_bytes());
        ports.insert(source_port(lab.one(VM_A, &frame).only(UNDERLAY)));
    }
    assert!(ports.len() > 190, "{}", ports.len());
}

#[test]
fn a_host_without_a_path_is_unresolved() {
    let mut lab = Lab::new();
    lab.one(VM_A, &udp4(A, R3, 5)).is_dropped(DropReason::HostUnresolved);
    lab.tables.remove_peer(Peer::new(1));
    lab.publish();
    lab.one(VM_A, &udp4(A, R1, 5)).is_dropped(DropReason::HostUnresolved);
}

#[test]
fn without_headroom_nothing_is_sent() {
    let mut lab = Lab::new();
    let mut packet = VecPacket::new(&udp4(A, R1, 5));
    packet.push(100);
    packet.head_mut()[..].copy_within(100.., 0);
    packet.truncate(udp4(A, R1, 5).len());
    lab.burst(VM_A, vec![packet.clone()]).is_dropped(DropReason::NoHeadroom);
    // There is room for the four bytes of a tag.
    let mut to_trunk = packet;
    to_trunk.head_mut()[..6].copy_from_slice(&T.mac.octets());
    assert_eq!(lab.burst(VM_A, vec![to_trunk]).only(TRUNK)[12..16], [0x81, 0, 0, 10]);
}

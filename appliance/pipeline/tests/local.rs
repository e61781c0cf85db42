//! Frames between ports of one host, and frames that are never forwarded.

use super::frames::{other, udp4, udp6};
use super::*;

#[test]
fn frames_between_two_vifs_are_unchanged() {
    let mut lab = Lab::new();
    for frame in [udp4(A, B, 33), udp6(A, B, 0, 33), other(A.mac, B.mac, 60)] {
        assert_eq!(lab.one(VM_A, &frame).only(VM_B), frame);
        assert!(lab.trace().contains("deliver: to port 2\n"), "{}", lab.trace());
    }
    let back = udp4(B, A, 33);
    assert_eq!(lab.one(VM_B, &back).only(VM_A), back);
}

#[test]
fn vif_and_segment_reach_each_other() {
    let mut lab = Lab::new();
    let there = udp4(A, S, 10);
    assert_eq!(lab.one(VM_A, &there).only(SEGMENT), there);
    let back = udp4(S, A, 10);
    assert_eq!(lab.one(SEGMENT, &back).only(VM_A), back);
}

#[test]
fn networks_with_the_same_addresses_are_separate() {
    let mut lab = Lab::new();
    // B is not in network 200: its MAC is unknown there, and the frame goes to the other member of that network only.
    let out = lab.one(VM_200, &udp4(A, B, 10));
    assert_eq!(out.ports(), [TRUNK]);
    assert_eq!(out.sent[0].1[12..16], [0x81, 0, 0, 20]);
    let inward = frames::Tunnel { vni: 200, ..frames::FROM_1 }.around(&udp4(R1, A, 10));
    assert_eq!(lab.one(UNDERLAY, &inward).only(VM_200), udp4(R1, A, 10));
}

#[test]
fn behind_one_port_frames_are_not_sent_back() {
    let mut lab = Lab::new();
    lab.tables.set_local(lab.net100, NOBODY.mac, SEGMENT, 0, None).unwrap();
    lab.publish();
    lab.one(SEGMENT, &udp4(S, NOBODY, 10)).is_dropped(DropReason::SameSegment);
    lab.one(VM_A, &other(A.mac, A.mac, 50)).is_dropped(DropReason::SameSegment);
}

#[test]
fn group_addresses_between_bridges_are_not_forwarded() {
    let mut lab = Lab::new();
    for last in 0..=15 {
        let dst = Mac::new([1, 0x80, 0xc2, 0, 0, last]);
        lab.one(VM_A, &other(A.mac, dst, 46)).is_dropped(DropReason::LinkLocalControl);
        lab.one(SEGMENT, &other(S.mac, dst, 46)).is_dropped(DropReason::LinkLocalControl);
        let inward = frames::FROM_1.around(&other(R1.mac, dst, 46));
        lab.one(UNDERLAY, &inward).is_dropped(DropReason::LinkLocalControl);
    }
    let next = Mac::new([1, 0x80, 0xc2, 0, 0, 16]);
    assert_eq!(lab.one(VM_A, &other(A.mac, next, 46)).sent.len(), 5);
}

#[test]
fn control_frames_of_vendor_bridges_are_not_forwarded() {
    let mut lab = Lab::new();
    for dst in [
        0x0100_0ccc_cccc, // CDP, VTP, DTP, PAgP, UDLD
        0x0100_0ccc_cccd, // PVST+
        0x0100_0c00_0000, // ISL
        0x0100_0ccd_cdcd, // UplinkFast
        0x0100_0ccc_ccc7, // CFM
        0x00e0_2b00_0000, // EDP
        0x00e0_2b00_0004, // EAPS
        0x00e0_2b00_0006,
    ] {
        let dst = Mac::from_u64(dst);
        lab.one(VM_A, &other(A.mac, dst, 46)).is_dropped(DropReason::LinkLocalControl);
        lab.one(SEGMENT, &other(S.mac, dst, 46)).is_dropped(DropReason::LinkLocalControl);
        let tagged = frames::tagged(&other(T.mac, dst, 46), 0x8100, 10);
        lab.one(TRUNK, &tagged).is_dropped(DropReason::LinkLocalControl);
        let inward = frames::FROM_1.around(&other(R1.mac, dst, 46));
        lab.one(UNDERLAY, &inward).is_dropped(DropReason::LinkLocalControl);
    }
    // Of the same vendors, but not only between bridges; and MVRP, which a bridge without it forwards.
    for dst in [0x0100_0ccc_ccc8, 0x0100_0cdd_dddd, 0x00e0_2b00_0001, 0x0180_c200_0021] {
        assert_eq!(lab.one(SEGMENT, &other(S.mac, Mac::from_u64(dst), 46)).dropped, [], "{dst:x}");
    }
}

#[test]
fn no_station_has_a_group_address_or_zero() {
    let mut lab = Lab::new();
    for src in [Mac::BROADCAST, Mac::new([1, 0, 0x5e, 0, 0, 1]), Mac::new([0; 6])] {
        lab.one(SEGMENT, &other(src, A.mac, 46)).is_dropped(DropReason::BadSourceMac);
        lab.one(UNDERLAY, &frames::FROM_1.around(&other(src, A.mac, 46)))
            .is_dropped(DropReason::BadSourceMac);
    }
}

#[test]
fn every_prefix_of_a_frame_is_malformed() {
    let mut lab = Lab::new();
    for whole in [udp4(A, B, 33), udp6(A, B, 0, 33)] {
        for len in 0..whole.len() {
            lab.one(VM_A, &whole[..len]).is_dropped(DropReason::Malformed);
        }
    }
    // A frame without IP has no other length.
    let plain = other(A.mac, B.mac, 40);
    for len in 14..plain.len() {
        assert_eq!(lab.one(VM_A, &plain[..len]).only(VM_B), &plain[..len]);
    }
}

#[test]
fn a_burst_keeps_its_order_and_each_frame_is_counted() {
    let mut lab = Lab::new();
    let frames: Vec<_> = (0..64).map(|i| udp4(A, if i % 2 == 0 { B } else { S }, 10 + i)).collect();
    let out = lab.burst(VM_A, frames.iter().map(|f| VecPacket::new(f)).collect());
    assert_eq!(out.dropped, []);
    let by = |port| frames.iter().enumerate().filter(move |(i, _)| (i % 2 == 0) == (port == VM_B));
    for port in [VM_B, SEGMENT] {
        let got: Vec<_> = out.sent.iter().filter(|(p, _)| *p == port).map(|(_, f)| f).collect();
        assert_eq!(got, by(port).map(|(_, f)| f).collect::<Vec<_>>());
    }
}

#[test]
fn frames_of_an_unknown_port_are_dropped() {
    let mut lab = Lab::new();
    lab.tables.set_local(lab.net100, NOBODY.mac, 99, 0, None).unwrap();
    lab.publish();
    lab.one(VM_A, &udp4(A, NOBODY, 10)).is_dropped(DropReason::PortDown);
}

#[test]
fn a_wrong_transport_checksum_is_forwarded() {
    let mut lab = Lab::new();
    for (port, frame, to) in
        [(VM_A, udp4(A, B, 9), VM_B), (SEGMENT, udp4(S, B, 9), VM_B), (SEGMENT, udp4(S, R1, 9), UNDERLAY)]
    {
        let mut packet = VecPacket::new(&frame);
        packet.bad_checksum = true;
        let out = lab.burst(port, vec![packet]);
        assert!(out.only(to).ends_with(&frame));
    }
}

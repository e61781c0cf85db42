//! The edge between a VLAN trunk and the overlay.

use super::frames::{other, tagged, udp4};
use super::*;

const C_TAG: u16 = 0x8100;
const S_TAG: u16 = 0x88a8;

#[test]
fn a_tag_is_removed_and_added() {
    let mut lab = Lab::new();
    let frame = udp4(T, A, 20);
    // An untagged frame has no priority.
    assert_eq!(lab.one(TRUNK, &tagged(&frame, C_TAG, 0xa000 | 10)).only(VM_A), frame);
    let back = udp4(A, T, 20);
    assert_eq!(lab.one(VM_A, &back).only(TRUNK), tagged(&back, C_TAG, 10));
}

#[test]
fn a_tagged_frame_reaches_another_host_untagged() {
    let mut lab = Lab::new();
    let frame = udp4(T, R1, 20);
    let out = lab.one(TRUNK, &tagged(&frame, C_TAG, 10));
    assert_eq!(out.only(UNDERLAY)[50..], frame);
}

#[test]
fn a_tag_that_the_device_stripped_counts() {
    let mut lab = Lab::new();
    let frame = udp4(T, A, 20);
    let mut packet = VecPacket::new(&frame);
    packet.stripped = Some(VlanId::new(10).unwrap());
    assert_eq!(lab.burst(TRUNK, vec![packet.clone()]).only(VM_A), frame);
    // With another tag inside, there were two.
    let mut inner = VecPacket::new(&tagged(&frame, C_TAG, 10));
    inner.stripped = Some(VlanId::new(20).unwrap());
    lab.burst(TRUNK, vec![inner]).is_dropped(DropReason::InnerVlan);
    lab.burst(VM_A, vec![packet]).is_dropped(DropReason::VlanOnVif);
}

#[test]
fn vlans_without_a_network_are_dropped() {
    let mut lab = Lab::new();
    let frame = udp4(T, A, 20);
    for vid in [1, 11, 4094, 4095] {
        lab.one(TRUNK, &tagged(&frame, C_TAG, vid)).is_dropped(DropReason::UnknownVlan);
    }
    lab.one(TRUNK, &frame).is_dropped(DropReason::UnknownVlan);
    lab.one(TRUNK, &tagged(&frame, C_TAG, 0xe000)).is_dropped(DropReason::UnknownVlan);
    lab.one(TRUNK, &tagged(&frame, S_TAG, 10)).is_dropped(DropReason::UnknownVlan);
    lab.one(SEGMENT, &tagged(&udp4(S, A, 20), C_TAG, 10)).is_dropped(DropReason::UnknownVlan);
}

#[test]
fn a_priority_tag_is_no_vlan() {
    let mut lab = Lab::new();
    let frame = udp4(S, A, 20);
    assert_eq!(lab.one(SEGMENT, &tagged(&frame, C_TAG, 0xe000)).only(VM_A), frame);
    let frame = udp4(A, S, 20);
    assert_eq!(lab.one(VM_A, &tagged(&frame, C_TAG, 0xe000)).only(SEGMENT), frame);
}

#[test]
fn a_vif_has_no_vlans() {
    let mut lab = Lab::new();
    for tpid in [C_TAG, S_TAG] {
        lab.one(VM_A, &tagged(&udp4(A, B, 20), tpid, 10)).is_dropped(DropReason::VlanOnVif);
    }
    lab.one(VM_A, &tagged(&udp4(A, B, 20), S_TAG, 0)).is_dropped(DropReason::VlanOnVif);
}

#[test]
fn stacked_tags_do_not_enter_the_overlay() {
    let mut lab = Lab::new();
    let frame = udp4(T, A, 20);
    for inner in [C_TAG, S_TAG] {
        lab.one(TRUNK, &tagged(&tagged(&frame, inner, 10), C_TAG, 10)).is_dropped(DropReason::InnerVlan);
    }
    lab.one(TRUNK, &tagged(&tagged(&frame, C_TAG, 10), S_TAG, 10)).is_dropped(DropReason::UnknownVlan);
    lab.one(VM_A, &tagged(&tagged(&udp4(A, B, 20), C_TAG, 10), C_TAG, 0)).is_dropped(DropReason::InnerVlan);
}

#[test]
fn a_frame_that_ends_in_its_tag_is_malformed() {
    let mut lab = Lab::new();
    let frame = tagged(&other(T.mac, A.mac, 46), C_TAG, 10);
    for len in 0..18 {
        lab.one(TRUNK, &frame[..len]).is_dropped(DropReason::Malformed);
    }
    assert_eq!(lab.one(TRUNK, &frame[..18]).only(VM_A).len(), 14);
}

#[test]
fn each_network_of_a_trunk_has_its_own_tag() {
    let mut lab = Lab::new();
    let out = lab.one(VM_A, &other(A.mac, Mac::BROADCAST, 50));
    let trunk = out.sent.iter().filter(|(port, _)| *port == TRUNK).map(|(_, f)| &f[12..16]);
    assert_eq!(trunk.collect::<Vec<_>>(), [[0x81, 0, 0, 10]]);
    let out = lab.one(VM_200, &other(A.mac, Mac::BROADCAST, 50));
    assert_eq!(out.only(TRUNK)[12..16], [0x81, 0, 0, 20]);
    // No frame crosses between VLANs of the trunk.
    let frame = tagged(&other(T.mac, Mac::BROADCAST, 50), C_TAG, 20);
    assert_eq!(lab.one(TRUNK, &frame).only(VM_200), other(T.mac, Mac::BROADCAST, 50));
}

#[test]
fn priority_is_kept_between_trunks() {
    let mut lab = Lab::new();
    let Role::Segment(segment) = &mut lab.ports[usize::from(SEGMENT)].role else { panic!("a segment") };
    let bd = segment.untagged.unwrap();
    *segment = Segment::new(None, [(VlanId::new(30).unwrap(), bd)]);
    lab.tables.set_local(lab.net100, S.mac, SEGMENT, 30, None).unwrap();
    lab.publish();
    let frame = udp4(T, S, 20);
    for priority in [0, 0x2000, 0xa000, 0xf000] {
        let out = lab.one(TRUNK, &tagged(&frame, C_TAG, priority | 10));
        assert_eq!(out.only(SEGMENT), tagged(&frame, C_TAG, priority | 30));
    }
    // Copies keep it too, and so does a frame with a priority tag of a guest.
    let all = other(T.mac, Mac::BROADCAST, 46);
    lab.flood(FloodPolicy::Flood);
    let out = lab.one(TRUNK, &tagged(&all, C_TAG, 0xa000 | 10));
    let at_vm: Vec<_> = out.sent.iter().filter(|(port, _)| *port == VM_A).collect();
    assert_eq!(at_vm, [&(VM_A, all.clone())]);
    let from_vm = udp4(A, T, 20);
    let out = lab.one(VM_A, &tagged(&from_vm, C_TAG, 0x6000));
    assert_eq!(out.only(TRUNK), tagged(&from_vm, C_TAG, 0x6000 | 10));
}

#[test]
fn priority_crosses_the_overlay_where_the_dscp_carries_it() {
    let mut lab = Lab::new();
    let there = tagged(&frames::udp4_tos(T, R1, 0xb9, 20), C_TAG, 0xb000 | 10);
    // By default neither DSCP nor priority of the tenant is used.
    lab.rewrite_path(1, HOST_1.into(), None, |path| {
        path.template.tos = stopover_net::ecn::OuterTos::fixed(0)
    });
    assert_eq!(lab.one(TRUNK, &there).only(UNDERLAY)[15], 0x01);
    lab.rewrite_path(1, HOST_1.into(), None, |path| path.template.tos = stopover_net::ecn::OuterTos::PCP);
    assert_eq!(lab.one(TRUNK, &there).only(UNDERLAY)[15], 0xa1, "CS5, and the ECN of the inner packet");
    assert_eq!(lab.one(VM_A, &frames::udp4_tos(A, R1, 0xb9, 20)).only(UNDERLAY)[15], 0x01);
    // In the other direction: to a trunk with its priority, to a vif without a tag.
    let back = frames::Tunnel { tos: 0xa0, ..frames::FROM_1 };
    for (pcp, tci) in [(false, 10), (true, 0xa000 | 10)] {
        let Role::Underlay(own) = &mut lab.ports[usize::from(UNDERLAY)].role else { panic!("an underlay") };
        own.pcp = pcp;
        let (to_trunk, to_vif) = (udp4(R1, T, 20), udp4(R1, A, 20));
        let out = lab.burst(UNDERLAY, [&to_trunk, &to_vif].map(|f| VecPacket::new(&back.around(f))).into());
        assert_eq!(out.sent, [(TRUNK, tagged(&to_trunk, C_TAG, tci)), (VM_A, to_vif)]);
    }
}

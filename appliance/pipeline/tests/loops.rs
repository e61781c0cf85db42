//! Blocked segments, and loops.

use super::frames::{FROM_1, other, tagged, udp4};
use super::*;
use stopover_net::HostName;
use stopover_net::loop_probe::{self, Probe};

fn block(lab: &Lab, port: u16, vlan: u16, on: bool) {
    let Role::Segment(segment) = &lab.ports[usize::from(port)].role else { panic!("a segment") };
    segment.gate.set_blocked(vlan, on);
}

#[test]
fn a_blocked_segment_neither_sends_nor_receives_floods() {
    let mut lab = Lab::new();
    let (broadcast, unicast) = (other(S.mac, Mac::BROADCAST, 50), udp4(S, A, 5));
    let inward = FROM_1.around(&other(R1.mac, Mac::BROADCAST, 50));
    let from_vm = other(A.mac, Mac::BROADCAST, 50);
    assert!(lab.one(UNDERLAY, &inward).ports().contains(&SEGMENT));
    block(&lab, SEGMENT, 0, true);
    for frame in [&broadcast, &unicast, &udp4(NOBODY, A, 5)] {
        let out = lab.one(SEGMENT, frame);
        assert_eq!(out.learned, [], "its stations are learned by the other port");
        out.is_dropped(DropReason::SegmentBlocked);
    }
    // Other ports get the same as before.
    assert_eq!(lab.one(UNDERLAY, &inward).ports(), [VM_B, TRUNK, VM_A]);
    assert!(!lab.one(VM_A, &from_vm).ports().contains(&SEGMENT));
    assert!(
        !lab.one(TRUNK, &tagged(&other(T.mac, Mac::BROADCAST, 50), 0x8100, 10)).ports().contains(&SEGMENT)
    );
    block(&lab, SEGMENT, 0, false);
    assert_eq!(lab.one(SEGMENT, &unicast).only(VM_A), unicast);
    assert!(lab.one(VM_A, &from_vm).ports().contains(&SEGMENT));
}

#[test]
fn a_trunk_is_blocked_for_one_of_its_networks() {
    let mut lab = Lab::new();
    block(&lab, TRUNK, 20, true);
    let frame = udp4(B, A, 5);
    lab.one(TRUNK, &tagged(&frame, 0x8100, 20)).is_dropped(DropReason::SegmentBlocked);
    assert_eq!(lab.one(TRUNK, &tagged(&udp4(T, A, 5), 0x8100, 10)).ports(), [VM_A]);
    // In network 200 there is no other receiver.
    lab.one(VM_200, &other(A.mac, Mac::BROADCAST, 50)).is_dropped(DropReason::SegmentBlocked);
    block(&lab, TRUNK, 20, false);
    assert_eq!(lab.one(VM_200, &other(A.mac, Mac::BROADCAST, 50)).ports(), [TRUNK]);
}

#[test]
fn repeated_frames_are_no_longer_flooded() {
    let mut lab = Lab::new();
    lab.exits.all_repeated = true;
    lab.one(SEGMENT, &other(S.mac, Mac::BROADCAST, 50)).is_dropped(DropReason::SegmentLoop);
    lab.one(TRUNK, &tagged(&other(T.mac, NOBODY.mac, 50), 0x8100, 10)).is_dropped(DropReason::SegmentLoop);
    // Only flooded frames from a segment count.
    assert_eq!(lab.one(SEGMENT, &udp4(S, A, 5)).ports(), [VM_A]);
    assert_eq!(lab.one(VM_A, &other(A.mac, Mac::BROADCAST, 50)).dropped, []);
    assert_eq!(lab.one(UNDERLAY, &FROM_1.around(&other(R1.mac, Mac::BROADCAST, 50))).dropped, []);
}

#[test]
fn loop_probes_go_to_the_control_thread_only() {
    let mut lab = Lab::new();
    let probe = |vlan| {
        let (vni, host) = (vni(100), HostName::new("gw-b").unwrap());
        loop_probe::build(Mac::new([2, 0, 0, 0, 0, 7]), &Probe { vni, port: 1, vlan, instance: 5, host })
    };
    // Also from a blocked port, which must learn when it is needed again.
    block(&lab, SEGMENT, 0, true);
    for (port, vlan) in [(SEGMENT, 0), (TRUNK, 10), (TRUNK, 77)] {
        let out = lab.one(port, &probe(vlan));
        assert_eq!((out.sent, out.dropped, out.learned), (vec![], vec![], vec![]));
        assert_eq!(out.punted, [(port, probe(vlan))]);
    }
    let mut stripped = VecPacket::new(&probe(0));
    stripped.stripped = Some(VlanId::new(10).unwrap());
    let out = lab.burst(TRUNK, vec![stripped]);
    assert_eq!(loop_probe::parse(&out.punted[0].1).unwrap().0, 10);
    // Probes from a VM or from another host are ignored.
    let mut from_vm = probe(0);
    from_vm[6..12].copy_from_slice(&A.mac.octets());
    lab.one(VM_A, &from_vm).is_dropped(DropReason::LinkLocalControl);
    lab.one(UNDERLAY, &FROM_1.around(&probe(0))).is_dropped(DropReason::LinkLocalControl);
    lab.exits.control_full = true;
    lab.one(SEGMENT, &probe(0)).is_dropped(DropReason::ControlFull);
}

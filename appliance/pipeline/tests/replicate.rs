//! Frames without one known receiver.

use super::frames::{FROM_1, FROM_2, Tunnel, other, source_port, tagged};
use super::*;
use stopover_net::FloodPolicy::{Drop as DropAll, Flood, ToSegments};

const MULTICAST: Mac = Mac::new([1, 0, 0x5e, 1, 2, 3]);

/// Broadcast, multicast and unknown unicast.
fn kinds(from: Mac) -> [(bool, Vec<u8>); 3] {
    [
        (true, other(from, Mac::BROADCAST, 50)),
        (true, other(from, MULTICAST, 50)),
        (false, other(from, NOBODY.mac, 50)),
    ]
}

/// The same frames by port, in whatever order they left.
#[track_caller]
fn assert_reached(out: &Out, expected: &[(u16, Vec<u8>)]) {
    let sorted = |mut list: Vec<(u16, Vec<u8>)>| {
        list.sort();
        list
    };
    assert_eq!(sorted(out.sent.clone()), sorted(expected.to_vec()));
    assert_eq!(out.dropped, []);
}

/// What must leave for a host, with the source port that one of the frames sent has.
fn to_host(tunnel: Tunnel, out: &Out, inner: &[u8]) -> (u16, Vec<u8>) {
    let source_port = out.sent.iter().find(|(p, _)| *p == UNDERLAY).map_or(0, |(_, f)| source_port(f));
    (UNDERLAY, Tunnel { source_port, ..tunnel.back() }.around(inner))
}

#[test]
fn flood_goes_to_every_other_port_and_every_host_once() {
    let mut lab = Lab::new();
    for (group, frame) in kinds(A.mac) {
        let out = lab.one(VM_A, &frame);
        // A copy of a unicast frame must not be redirected by the old host of its node.
        let flags = if group { 0 } else { 1 };
        let expected = [
            (VM_B, frame.clone()),
            (SEGMENT, frame.clone()),
            (TRUNK, tagged(&frame, 0x8100, 10)),
            to_host(Tunnel { flags, ..FROM_1 }, &out, &frame),
            to_host(Tunnel { flags, ..FROM_2 }, &out, &frame),
        ];
        assert_reached(&out, &expected);
    }
}

#[test]
fn the_underlay_is_never_flooded_from_the_underlay() {
    let mut lab = Lab::new();
    for (_, frame) in kinds(R1.mac) {
        for tunnel in [FROM_1, FROM_2] {
            let out = lab.one(UNDERLAY, &tunnel.around(&frame));
            let expected = [
                (VM_A, frame.clone()),
                (VM_B, frame.clone()),
                (SEGMENT, frame.clone()),
                (TRUNK, tagged(&frame, 0x8100, 10)),
            ];
            assert_reached(&out, &expected);
            assert!(lab.trace().contains("split horizon"), "{}", lab.trace());
        }
    }
}

#[test]
fn to_segments_narrows_unknown_unicast_only() {
    let mut lab = Lab::new();
    lab.flood(ToSegments);
    for (group, frame) in kinds(A.mac) {
        let out = lab.one(VM_A, &frame);
        if group {
            assert_eq!(out.sent.len(), 5);
        } else {
            let expected = [
                (SEGMENT, frame.clone()),
                (TRUNK, tagged(&frame, 0x8100, 10)),
                to_host(Tunnel { flags: 1, ..FROM_2 }, &out, &frame),
            ];
            assert_reached(&out, &expected);
        }
    }
    for (group, frame) in kinds(R1.mac) {
        let out = lab.one(UNDERLAY, &FROM_1.around(&frame));
        let mut expected = vec![(SEGMENT, frame.clone()), (TRUNK, tagged(&frame, 0x8100, 10))];
        if group {
            expected.extend([(VM_A, frame.clone()), (VM_B, frame.clone())]);
        }
        assert_reached(&out, &expected);
    }
}

#[test]
fn policy_drop_floods_nothing() {
    let mut lab = Lab::new();
    lab.flood(DropAll);
    for (group, frame) in kinds(A.mac) {
        let reason = if group { DropReason::FloodDisabled } else { DropReason::UnknownUnicast };
        lab.one(VM_A, &frame).is_dropped(reason);
    }
    for (group, frame) in kinds(R1.mac) {
        let reason = if group { DropReason::FloodDisabled } else { DropReason::UnknownUnicast };
        lab.one(UNDERLAY, &FROM_1.around(&frame)).is_dropped(reason);
    }
}

#[test]
fn a_frame_without_receivers() {
    let mut lab = Lab::new();
    let network = |ports: &[Member]| NetworkEntry {
        migrating: [].into(),
        moved: [].into(),
        bd: lab.net100,
        vni: vni(100),
        flood: Flood,
        mtu: 0,
        seal: NetworkSeal::ByHost,
        slots: [].into(),
        segment_slots: [].into(),
        ports: ports.into(),
    };
    let alone = network(&[Member { port: VM_A, vlan: 0, segment: false }]);
    let empty = network(&[]);
    lab.tables.put_network(alone).unwrap();
    lab.publish();
    for (group, frame) in kinds(A.mac) {
        lab.one(VM_A, &frame).is_dropped(if group {
            DropReason::NoMembers
        } else {
            DropReason::UnknownUnicast
        });
    }
    lab.tables.put_network(empty).unwrap();
    lab.publish();
    for (group, frame) in kinds(R1.mac) {
        let out = lab.one(UNDERLAY, &FROM_1.around(&frame));
        out.is_dropped(if group { DropReason::NoMembers } else { DropReason::UnknownUnicast });
    }
}

#[test]
fn copies_without_a_buffer_are_counted_as_drops() {
    let frame = other(A.mac, Mac::BROADCAST, 50);
    for left in 0..=4 {
        let mut lab = Lab::new();
        lab.exits.pool.left = left;
        let out = lab.one(VM_A, &frame);
        assert_eq!(out.sent.len(), left + 1);
        assert_eq!(out.dropped, vec![DropReason::PoolEmpty; 4 - left]);
        assert_eq!(lab.counters.read().copied, 4);
    }
}

#[test]
fn a_host_without_a_path_does_not_affect_others() {
    let mut lab = Lab::new();
    lab.tables.set_path(Peer::new(1), PathClass::Plain, None).unwrap();
    lab.publish();
    let out = lab.one(VM_A, &other(A.mac, Mac::BROADCAST, 50));
    assert_eq!(out.dropped, [DropReason::HostUnresolved]);
    let mut ports = out.ports();
    ports.sort_unstable();
    assert_eq!(ports, [UNDERLAY, VM_B, SEGMENT, TRUNK]);
}

#[test]
fn only_hosts_are_left() {
    let mut lab = Lab::new();
    let network = NetworkEntry {
        migrating: [].into(),
        moved: [].into(),
        bd: lab.net100,
        vni: vni(100),
        flood: Flood,
        mtu: 0,
        seal: NetworkSeal::ByHost,
        slots: [lab.slot(1), lab.slot(2)].into(),
        segment_slots: [].into(),
        ports: [Member { port: VM_A, vlan: 0, segment: false }].into(),
    };
    lab.tables.put_network(network).unwrap();
    lab.publish();
    let frame = other(A.mac, MULTICAST, 50);
    let out = lab.one(VM_A, &frame);
    let expected = [to_host(FROM_1, &out, &frame), to_host(FROM_2, &out, &frame)];
    assert_reached(&out, &expected);
    assert_eq!(lab.counters.read().copied, 1);
}

/// Network 100 with one more migrating node.
fn migrating(lab: &mut Lab, node: Station) -> u32 {
    let network = lab.view.network(lab.net100).unwrap().clone();
    lab.tables
        .put_network(NetworkEntry { migrating: [node.mac].into(), moved: [node.mac].into(), ..network })
        .unwrap();
    lab.tables.set_migrating_flag(lab.net100, node.mac, true);
    lab.publish();
    stopover_net::vxlan::separate_copy_bit(node.mac)
}

/// A datagram with a group frame that flags which nodes have a separate copy.
pub(super) fn apart(tunnel: Tunnel, set: u32, frame: &[u8]) -> Vec<u8> {
    let mut bytes = Tunnel { checksum: false, ..tunnel }.around(frame);
    bytes[43..46].copy_from_slice(&set.to_be_bytes()[1..]);
    bytes
}

#[test]
fn a_migrating_node_at_another_host_gets_a_separate_copy() {
    let mut lab = Lab::new();
    let set = migrating(&mut lab, R1);
    let frame = other(A.mac, Mac::BROADCAST, 50);
    let out = lab.one(VM_A, &frame);
    let to_1: Vec<_> =
        out.sent.iter().filter(|(p, f)| *p == UNDERLAY && f[30..34] == HOST_1.octets()).collect();
    let shim = [&R1.mac.octets()[..], &[0, 0], &frame].concat();
    assert_eq!(to_1.len(), 2);
    assert_eq!((to_1[0].1[49], &to_1[0].1[50..]), (4, &shim[..]), "for R1 alone");
    assert_eq!(to_1[1].1[43..46], set.to_be_bytes()[1..], "for all but R1");
    assert_eq!((to_1[1].1[49], &to_1[1].1[50..]), (0, &frame[..]));
    assert_eq!(source_port(&to_1[0].1), source_port(&to_1[1].1), "in order with each other");
}

#[test]
fn a_node_with_a_separate_copy_does_not_get_the_common_one() {
    let mut lab = Lab::new();
    let frame = other(R1.mac, Mac::BROADCAST, 50);
    let set = migrating(&mut lab, A);
    let others = [(VM_B, frame.clone()), (SEGMENT, frame.clone()), (TRUNK, tagged(&frame, 0x8100, 10))];
    assert_reached(&lab.one(UNDERLAY, &apart(FROM_1, set, &frame)), &others);
    let shim = [&A.mac.octets()[..], &[0, 0], &frame].concat();
    let own = Tunnel { flags: 4, ..FROM_1 };
    assert_eq!(lab.one(UNDERLAY, &own.around(&shim)).only(VM_A), frame);
    // All stations of a segment receive the other copy.
    let shim = [&S.mac.octets()[..], &[0, 0], &frame].concat();
    lab.one(UNDERLAY, &apart(own, 1, &shim)).is_dropped(DropReason::ServedApart);
}

/// Has the same bit as B.
const LIKE_B: Station = super::station(11 + 23);

#[test]
fn a_node_with_the_bit_of_a_migrating_one_gets_the_common_copy() {
    let mut lab = Lab::new();
    lab.tables.set_remote(lab.net100, LIKE_B.mac, lab.slot(1), IsolationClass::default()).unwrap();
    let set = migrating(&mut lab, LIKE_B);
    assert_eq!(set, stopover_net::vxlan::separate_copy_bit(B.mac));
    let frame = other(A.mac, Mac::BROADCAST, 50);
    let out = lab.one(VM_A, &frame);
    assert!(out.sent.contains(&(VM_B, frame)), "at the sender's host");
    let frame = other(R1.mac, Mac::BROADCAST, 50);
    let out = lab.one(UNDERLAY, &apart(FROM_1, set, &frame));
    assert!(out.sent.contains(&(VM_B, frame)), "at another");
}

#[test]
fn a_receiving_host_applies_present_and_recent_locks() {
    let frame = other(R1.mac, Mac::BROADCAST, 50);
    let set = stopover_net::vxlan::separate_copy_bit(B.mac);
    let is_delivered = |lab: &mut Lab| lab.one(UNDERLAY, &apart(FROM_1, set, &frame)).ports().contains(&VM_B);
    let mut lab = Lab::new();
    assert!(is_delivered(&mut lab));
    lab.tables.set_migrating_flag(lab.net100, B.mac, true);
    lab.publish();
    assert!(!is_delivered(&mut lab));
    lab.tables.set_migrating_flag(lab.net100, B.mac, false);
    let network = lab.view.network(lab.net100).unwrap().clone();
    lab.tables.put_network(NetworkEntry { moved: [B.mac].into(), ..network }).unwrap();
    lab.publish();
    assert!(!is_delivered(&mut lab), "the sender may not know yet");
}

#[test]
fn flags_of_a_foreign_vtep_are_ignored() {
    let mut lab = Lab::new();
    lab.tables.put_peer(Peer::new(1), false, Accept::Plain).unwrap();
    lab.publish();
    let frame = other(R1.mac, Mac::BROADCAST, 50);
    let out = lab.one(UNDERLAY, &apart(FROM_1, 0x00ff_ffff, &frame));
    assert!(out.sent.contains(&(VM_A, frame)));
}

#[test]
fn a_migrating_node_does_not_receive_its_own_floods() {
    let mut lab = Lab::new();
    let set = migrating(&mut lab, A);
    let frame = other(A.mac, Mac::BROADCAST, 50);
    let out = lab.one(VM_A, &frame);
    assert!(out.ports().iter().all(|port| *port != VM_A));
    let datagram = out.sent.iter().find(|(port, _)| *port == UNDERLAY).unwrap();
    assert_eq!(datagram.1[43..46], set.to_be_bytes()[1..], "its old host must not send it back");
}

#[test]
fn a_full_sized_group_frame_is_flooded_to_a_migrating_node_too() {
    let mut lab = Lab::new();
    migrating(&mut lab, R1);
    let frame = other(A.mac, Mac::BROADCAST, usize::from(INNER_MTU_4));
    let out = lab.one(VM_A, &frame);
    let to_1 = out.sent.iter().filter(|(p, f)| *p == UNDERLAY && f[30..34] == HOST_1.octets());
    let flags: Vec<_> = to_1.map(|(_, f)| f[43..50].to_vec()).collect();
    assert_eq!(flags.len(), 1, "a shim would not fit");
    assert_eq!(flags[0][..3], [0, 0, 0]);
}

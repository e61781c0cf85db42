//! Frames without one known receiver.

use super::frames::{FROM_1, FROM_2, Tunnel, other, source_port, tagged};
use super::*;
use stopover_config::net::FloodPolicy::{Drop as DropAll, Flood, ToSegments};

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
        // A copy of a unicast frame must not be sent on where its node has left.
        let marks = if group { 0 } else { 1 };
        let expected = [
            (VM_B, frame.clone()),
            (SEGMENT, frame.clone()),
            (TRUNK, tagged(&frame, 0x8100, 10)),
            to_host(Tunnel { marks, ..FROM_1 }, &out, &frame),
            to_host(Tunnel { marks, ..FROM_2 }, &out, &frame),
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
                to_host(Tunnel { marks: 1, ..FROM_2 }, &out, &frame),
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
fn drop_sends_nothing_anywhere() {
    let mut lab = Lab::new();
    lab.flood(DropAll);
    for (group, frame) in kinds(A.mac) {
        let reason = if group { Drop::FloodDisabled } else { Drop::UnknownUnicast };
        lab.one(VM_A, &frame).is_dropped(reason);
    }
    for (group, frame) in kinds(R1.mac) {
        let reason = if group { Drop::FloodDisabled } else { Drop::UnknownUnicast };
        lab.one(UNDERLAY, &FROM_1.around(&frame)).is_dropped(reason);
    }
}

#[test]
fn a_frame_with_nobody_to_go_to() {
    let mut lab = Lab::new();
    let network = |ports: &[Member]| NetworkEntry {
        net: lab.net100,
        vni: vni(100),
        flood: Flood,
        mtu: 0,
        hosts: [].into(),
        segment_hosts: [].into(),
        ports: ports.into(),
    };
    let alone = network(&[Member { port: VM_A, vlan: 0, segment: false }]);
    let empty = network(&[]);
    lab.tables.put_network(alone).unwrap();
    lab.publish();
    for (group, frame) in kinds(A.mac) {
        lab.one(VM_A, &frame).is_dropped(if group { Drop::NoMembers } else { Drop::UnknownUnicast });
    }
    lab.tables.put_network(empty).unwrap();
    lab.publish();
    for (group, frame) in kinds(R1.mac) {
        let out = lab.one(UNDERLAY, &FROM_1.around(&frame));
        out.is_dropped(if group { Drop::NoMembers } else { Drop::UnknownUnicast });
    }
}

#[test]
fn an_exhausted_pool_costs_copies_and_they_are_counted() {
    let frame = other(A.mac, Mac::BROADCAST, 50);
    for left in 0..=4 {
        let mut lab = Lab::new();
        lab.exits.pool.left = left;
        let out = lab.one(VM_A, &frame);
        assert_eq!(out.sent.len(), left + 1);
        assert_eq!(out.dropped, vec![Drop::PoolEmpty; 4 - left]);
        assert_eq!(lab.counters.read().copied, 4);
    }
}

#[test]
fn hosts_without_a_way_do_not_keep_others_from_theirs() {
    let mut lab = Lab::new();
    lab.tables.put_host(1, HostEntry { way: None, marks: true }).unwrap();
    lab.publish();
    let out = lab.one(VM_A, &other(A.mac, Mac::BROADCAST, 50));
    assert_eq!(out.dropped, [Drop::HostUnresolved]);
    let mut ports = out.ports();
    ports.sort_unstable();
    assert_eq!(ports, [UNDERLAY, VM_B, SEGMENT, TRUNK]);
}

#[test]
fn only_hosts_are_left() {
    let mut lab = Lab::new();
    let network = NetworkEntry {
        net: lab.net100,
        vni: vni(100),
        flood: Flood,
        mtu: 0,
        hosts: [1, 2].into(),
        segment_hosts: [].into(),
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

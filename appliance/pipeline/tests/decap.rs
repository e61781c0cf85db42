//! Decapsulation: what a tunnel datagram must fulfil before its inner frame is accepted.

use super::frames::{FROM_1, FROM_2, Tunnel, ip4_is_right, other, tagged, udp4, udp4_tos, udp6};
use super::*;
use stopover_net::Mac;

const OTHER_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 9]);

/// The datagram with one byte changed and a correct IPv4 header checksum.
fn with(mut frame: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    frame[at] = value;
    if frame[12..14] == frames::IPV4.to_be_bytes() {
        frame[24..26].copy_from_slice(&[0, 0]);
        let end = 14 + usize::from(frame[14] & 0xf) * 4;
        let sum = frames::checksum(&[&frame[14..end.min(frame.len())]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

#[test]
fn good_datagrams_are_opened() {
    let mut lab = Lab::new();
    for inner in [udp4(R1, A, 33), udp6(R1, A, 0, 33), other(R1.mac, A.mac, 46)] {
        for tunnel in [FROM_1, FROM_2, Tunnel { checksum: true, ..FROM_1 }] {
            assert_eq!(lab.one(UNDERLAY, &tunnel.around(&inner)).only(VM_A), inner);
        }
    }
    let to_trunk = udp4(R1, T, 33);
    assert_eq!(lab.one(UNDERLAY, &FROM_1.around(&to_trunk)).only(TRUNK), tagged(&to_trunk, 0x8100, 10));
}

#[test]
fn reserved_bits_of_a_foreign_vtep_are_ignored() {
    let mut lab = Lab::new();
    lab.tables.put_peer(Peer::new(1), false, Accept::Plain).unwrap();
    lab.publish();
    let inner = udp4(R1, A, 33);
    for (at, value) in [(42, 0xff), (43, 0xff), (44, 0xff), (45, 0xff), (49, 0xff)] {
        assert_eq!(lab.one(UNDERLAY, &with(FROM_1.around(&inner), at, value)).only(VM_A), inner);
    }
}

#[test]
fn plain_frames_of_a_host_that_must_seal_are_refused() {
    let mut lab = Lab::new();
    let inner = udp4(R1, A, 33);
    assert_eq!(lab.one(UNDERLAY, &FROM_1.around(&inner)).only(VM_A), inner);
    for (accept, plain) in [(Accept::Both, true), (Accept::Sealed, false), (Accept::Plain, true)] {
        lab.tables.put_peer(Peer::new(1), true, accept).unwrap();
        lab.tables.put_vtep(HOST_1.into(), Peer::new(1)).unwrap();
        lab.publish();
        for tunnel in [FROM_1, Tunnel { checksum: true, ..FROM_1 }, Tunnel { flags: 1, ..FROM_1 }] {
            let out = lab.one(UNDERLAY, &tunnel.around(&inner));
            if plain {
                assert_eq!(out.only(VM_A), inner);
            } else {
                out.is_dropped(DropReason::PlainRefused);
            }
        }
        assert_eq!(lab.one(VM_A, &udp4(A, R1, 33)).ports(), [UNDERLAY], "what is sent does not depend on it");
    }
}

#[test]
fn padding_is_trimmed() {
    let mut lab = Lab::new();
    let inner = other(R1.mac, A.mac, 0);
    let padded = [FROM_1.around(&inner), vec![0xaa; 30]].concat();
    assert_eq!(lab.one(UNDERLAY, &padded).only(VM_A), inner);
    let padded = [FROM_2.around(&inner), vec![0xaa; 30]].concat();
    assert_eq!(lab.one(UNDERLAY, &padded).only(VM_A), inner);
}

#[test]
fn frames_for_others_are_dropped() {
    let mut lab = Lab::new();
    let inner = udp4(R1, A, 33);
    let wrong_mac = Tunnel { macs: (OTHER_MAC, NEXT_HOP), ..FROM_1 };
    let broadcast = Tunnel { macs: (Mac::BROADCAST, NEXT_HOP), ..FROM_1 };
    let wrong_ip = Tunnel { dst: "10.0.0.77".parse().unwrap(), ..FROM_1 };
    let wrong_ip6 = Tunnel { dst: "fd00::77".parse().unwrap(), ..FROM_2 };
    for tunnel in [wrong_mac, broadcast, wrong_ip, wrong_ip6] {
        lab.one(UNDERLAY, &tunnel.around(&inner)).is_dropped(DropReason::OuterNotOurs);
    }
    let good = FROM_1.around(&inner);
    lab.one(UNDERLAY, &tagged(&good, 0x8100, 30)).is_dropped(DropReason::OuterNotOurs);
    lab.one(UNDERLAY_30, &good).is_dropped(DropReason::OuterNotOurs);
    lab.one(UNDERLAY_30, &tagged(&good, 0x8100, 31)).is_dropped(DropReason::OuterNotOurs);
    lab.one(UNDERLAY_30, &tagged(&good, 0x88a8, 30)).is_dropped(DropReason::OuterNotOurs);
    assert_eq!(lab.one(UNDERLAY_30, &tagged(&good, 0x8100, 30)).only(VM_A), inner);
    // A priority tag is no VLAN.
    assert_eq!(lab.one(UNDERLAY, &tagged(&good, 0x8100, 0xe000)).only(VM_A), inner);
}

#[test]
fn only_known_hosts_and_networks_are_accepted() {
    let mut lab = Lab::new();
    let inner = udp4(R1, A, 33);
    for tunnel in [
        Tunnel { src: "10.0.0.3".parse().unwrap(), ..FROM_1 },
        Tunnel { src: "fd00::3".parse().unwrap(), ..FROM_2 },
    ] {
        lab.one(UNDERLAY, &tunnel.around(&inner)).is_dropped(DropReason::UnknownVtep);
    }
    for vni in [1, 101, 0xff_ffff] {
        lab.one(UNDERLAY, &Tunnel { vni, ..FROM_1 }.around(&inner)).is_dropped(DropReason::UnknownVni);
    }
}

#[test]
fn udp_checksums_are_verified_where_there_is_one() {
    let mut lab = Lab::new();
    let inner = udp4(R1, A, 33);
    for tunnel in [Tunnel { checksum: true, ..FROM_1 }, FROM_2] {
        let good = tunnel.around(&inner);
        for at in [good.len() - 1, good.len() - 30] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            lab.one(UNDERLAY, &bad).is_dropped(DropReason::OuterChecksum);
            // A sender on this machine has not computed it yet: there is nothing to verify.
            let mut unfilled = VecPacket::new(&bad);
            unfilled.unfilled = true;
            let out = lab.burst(UNDERLAY, vec![unfilled]);
            assert_eq!((out.ports(), out.dropped.len()), (vec![VM_A], 0));
            assert!(!out.packets[0].unfilled);
        }
    }
    let none = Tunnel { checksum: false, ..FROM_2 }.around(&inner);
    lab.one(UNDERLAY, &none).is_dropped(DropReason::OuterChecksum);
    assert_eq!(lab.one(UNDERLAY_30, &tagged(&none, 0x8100, 30)).only(VM_A), inner);
}

#[test]
fn each_wrong_outer_header_field_is_found() {
    let mut lab = Lab::new();
    let good = FROM_1.around(&udp4(R1, A, 33));
    let long = (good.len() as u16 - 14 + 1).to_be_bytes();
    let mut wrong_sum = good.clone();
    wrong_sum[24] ^= 1;
    let cases = [
        ("version", with(good.clone(), 14, 0x55), DropReason::OuterMalformed),
        ("header length", with(good.clone(), 14, 0x44), DropReason::OuterMalformed),
        ("total length", with(with(good.clone(), 16, long[0]), 17, long[1]), DropReason::OuterMalformed),
        ("header checksum", wrong_sum, DropReason::OuterMalformed),
        ("source 0.0.0.0/8 loopback", with(good.clone(), 26, 127), DropReason::OuterMalformed),
        ("multicast source", with(good.clone(), 26, 224), DropReason::OuterMalformed),
        ("UDP length beyond IP", with(good.clone(), 38, 0x7f), DropReason::OuterMalformed),
        ("UDP length below 8", with(with(good.clone(), 38, 0), 39, 7), DropReason::OuterMalformed),
        ("first fragment", with(good.clone(), 20, 0x20), DropReason::OuterFragment),
        ("later fragment", with(good.clone(), 21, 3), DropReason::OuterFragment),
        ("VXLAN cut off", with(with(good.clone(), 38, 0), 39, 12), DropReason::BadVxlan),
        ("no I flag", with(good.clone(), 42, 0xf7), DropReason::BadVxlan),
        ("VNI 0", with(good.clone(), 48, 0), DropReason::BadVxlan),
        ("inner runt", with(with(good.clone(), 38, 0), 39, 16 + 13), DropReason::BadVxlan),
        ("another port", with(good.clone(), 37, 0), DropReason::OuterUnexpected),
        ("another protocol", with(good.clone(), 23, 47), DropReason::OuterUnexpected),
        ("another EtherType", with(other(NEXT_HOP, OUR_MAC, 50), 12, 0x88), DropReason::OuterUnexpected),
    ];
    for (what, frame, reason) in cases {
        let out = lab.one(UNDERLAY, &frame);
        assert_eq!((out.sent.len(), out.dropped), (0, vec![reason]), "{what}");
    }
    let good = FROM_2.around(&udp4(R1, A, 33));
    let mut loopback = good.clone();
    loopback[22..38].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
    let cases = [
        ("version", with(good.clone(), 14, 0x40), DropReason::OuterMalformed),
        ("payload length", with(good.clone(), 18, 0x7f), DropReason::OuterMalformed),
        ("source", loopback, DropReason::OuterMalformed),
        ("fragment", with(with(with(good.clone(), 20, 44), 54, 17), 57, 1), DropReason::OuterFragment),
    ];
    for (what, frame, reason) in cases {
        let out = lab.one(UNDERLAY, &frame);
        assert_eq!((out.sent.len(), out.dropped), (0, vec![reason]), "{what}");
    }
}

#[test]
fn every_prefix_of_a_datagram_is_refused() {
    let mut lab = Lab::new();
    for whole in [FROM_1.around(&udp4(R1, A, 33)), FROM_2.around(&udp6(R1, A, 0, 33))] {
        for len in 0..whole.len() {
            lab.one(UNDERLAY, &whole[..len]).is_dropped(DropReason::OuterMalformed);
        }
    }
}

#[test]
fn the_inner_frame_must_be_valid_and_untagged() {
    let mut lab = Lab::new();
    let inner = udp4(R1, A, 33);
    for tpid in [0x8100, 0x88a8] {
        for tci in [0, 10, 0xe000] {
            let frame = FROM_1.around(&tagged(&inner, tpid, tci));
            lab.one(UNDERLAY, &frame).is_dropped(DropReason::InnerVlan);
        }
    }
    for len in 14..inner.len() {
        lab.one(UNDERLAY, &FROM_1.around(&inner[..len])).is_dropped(DropReason::Malformed);
    }
}

#[test]
fn congestion_marks_are_combined_as_in_rfc_6040() {
    const NOT: u8 = 0;
    const ECT1: u8 = 1;
    const ECT0: u8 = 2;
    const CE: u8 = 3;
    // (inner, outer, what arrives)
    let figure_4 = [
        (NOT, NOT, Some(NOT)),
        (NOT, ECT0, Some(NOT)),
        (NOT, ECT1, Some(NOT)),
        (NOT, CE, None),
        (ECT0, NOT, Some(ECT0)),
        (ECT0, ECT0, Some(ECT0)),
        (ECT0, ECT1, Some(ECT1)),
        (ECT0, CE, Some(CE)),
        (ECT1, NOT, Some(ECT1)),
        (ECT1, ECT0, Some(ECT1)),
        (ECT1, ECT1, Some(ECT1)),
        (ECT1, CE, Some(CE)),
        (CE, NOT, Some(CE)),
        (CE, ECT0, Some(CE)),
        (CE, ECT1, Some(CE)),
        (CE, CE, Some(CE)),
    ];
    let mut lab = Lab::new();
    for (inner, outer, arrives) in figure_4 {
        // The DSCP of the underlay ends with the tunnel (RFC 2983, pipe model).
        for tunnel in [Tunnel { tos: 0xb8 | outer, ..FROM_1 }, Tunnel { tos: 0xb8 | outer, ..FROM_2 }] {
            let four = lab.one(UNDERLAY, &tunnel.around(&udp4_tos(R1, A, 0x28 | inner, 9)));
            let six = lab.one(UNDERLAY, &tunnel.around(&udp6(R1, A, 0x28 | inner, 9)));
            match arrives {
                Some(ecn) => {
                    assert_eq!(four.only(VM_A), udp4_tos(R1, A, 0x28 | ecn, 9));
                    assert!(ip4_is_right(four.only(VM_A)));
                    assert_eq!(six.only(VM_A), udp6(R1, A, 0x28 | ecn, 9));
                }
                None => {
                    four.is_dropped(DropReason::EcnViolation);
                    six.is_dropped(DropReason::EcnViolation);
                }
            }
        }
    }
    // A frame without IP cannot be marked and is not dropped: otherwise ARP would fail on a congested underlay.
    let arp = frames::arp(A.mac, 2, (R1.mac, R1.ip4), (A.mac, A.ip4));
    assert_eq!(lab.one(UNDERLAY, &Tunnel { tos: CE, ..FROM_1 }.around(&arp)).only(VM_A), arp);
}

#[test]
fn a_frame_for_a_node_elsewhere_is_not_forwarded() {
    let mut lab = Lab::new();
    lab.one(UNDERLAY, &FROM_1.around(&udp4(R1, R2, 9))).is_dropped(DropReason::NotHere);
    lab.one(UNDERLAY, &FROM_1.around(&udp4(NOBODY, R1, 9))).is_dropped(DropReason::NotHere);
}

#[test]
fn a_local_source_from_the_underlay_is_dropped() {
    let mut lab = Lab::new();
    for from in [A, S, T] {
        lab.one(UNDERLAY, &FROM_1.around(&udp4(from, B, 9))).is_dropped(DropReason::SourceIsLocal);
    }
    // In network 200 the MAC of B is unknown.
    let tunnel = Tunnel { vni: 200, ..FROM_1 };
    assert_eq!(lab.one(UNDERLAY, &tunnel.around(&udp4(B, A, 9))).only(VM_200), udp4(B, A, 9));
}

#[test]
fn frames_for_the_vtep_go_to_the_control_thread() {
    let mut lab = Lab::new();
    let ours = Station { mac: OUR_MAC, ip4: OUR_4, ip6: OUR_6 };
    let theirs = Station { mac: NEXT_HOP, ip4: HOST_1, ip6: HOST_2 };
    let ping4 = frames::eth(
        ours.mac,
        theirs.mac,
        frames::IPV4,
        &frames::ip4(theirs.ip4, ours.ip4, frames::ICMP, 0, &frames::icmp4(8, 0, &[0; 12])),
    );
    let ping6 = frames::eth(
        ours.mac,
        theirs.mac,
        frames::IPV6,
        &frames::ip6(theirs.ip6, ours.ip6, 58, 0, 64, &frames::icmp6(theirs.ip6, ours.ip6, 128, &[0; 12])),
    );
    let requests =
        [frames::arp_request(theirs, OUR_4), frames::solicit(theirs.mac, theirs.ip6, OUR_6), ping4, ping6];
    for frame in &requests {
        let out = lab.one(UNDERLAY, frame);
        assert_eq!((out.punted, out.sent, out.dropped), (vec![(UNDERLAY, frame.clone())], vec![], vec![]));
        let mut to_another = frame.clone();
        to_another[..6].copy_from_slice(&OTHER_MAC.octets());
        lab.one(UNDERLAY, &to_another).is_dropped(DropReason::OuterNotOurs);
    }
    assert_eq!(lab.counters.read().to_control, 4);
    lab.exits.control_full = true;
    lab.one(UNDERLAY, &requests[0]).is_dropped(DropReason::ControlFull);
}

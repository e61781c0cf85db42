//! Learning from segments, and its limits.

use super::frames::{NO_MAC, advert, arp, other, solicit, tagged, udp4};
use super::*;

fn learn(lab: &Lab, port: u16, vlan: u16, mac: Mac, ip: Option<IpAddr>) -> Learn {
    Learn { port, bd: lab.net100, vlan, mac, ip }
}

#[test]
fn a_new_station_is_reported_and_its_frame_forwarded() {
    let mut lab = Lab::new();
    let frame = udp4(NOBODY, A, 5);
    let out = lab.one(SEGMENT, &frame);
    assert_eq!(out.only(VM_A), frame);
    assert_eq!(out.learned, [learn(&lab, SEGMENT, 0, NOBODY.mac, None)]);
    let out = lab.one(TRUNK, &tagged(&frame, 0x8100, 10));
    assert_eq!(out.learned, [learn(&lab, TRUNK, 10, NOBODY.mac, None)]);
}

#[test]
fn a_known_station_is_touched_and_not_reported() {
    let mut lab = Lab::new();
    let Some(crate::tables::packed::FdbEntry::Local { station, .. }) =
        lab.tables.fdb_entry(lab.net100, S.mac)
    else {
        panic!("not local");
    };
    assert!(!lab.tables.take_seen(station));
    let out = lab.one(SEGMENT, &udp4(S, A, 5));
    assert_eq!(out.learned, []);
    assert!(lab.tables.take_seen(station));
    assert!(!lab.tables.take_seen(station));
}

#[test]
fn a_station_at_another_port_or_vlan_has_moved() {
    let mut lab = Lab::new();
    let frame = udp4(S, A, 5);
    let out = lab.one(TRUNK, &tagged(&frame, 0x8100, 10));
    assert_eq!(out.only(VM_A), frame);
    assert_eq!(out.learned, [learn(&lab, TRUNK, 10, S.mac, None)]);
}

#[test]
fn a_node_of_another_host_is_dropped_until_the_board_moves_it() {
    let mut lab = Lab::new();
    let out = lab.one(SEGMENT, &udp4(R1, A, 5));
    assert_eq!(out.learned, [learn(&lab, SEGMENT, 0, R1.mac, None)]);
    out.is_dropped(DropReason::SourceIsRemote);
}

#[test]
fn a_vif_does_not_appear_behind_a_segment() {
    let mut lab = Lab::new();
    // A loop in the segment returns A's broadcast; to flood it again would cause a storm.
    let out = lab.one(SEGMENT, &other(A.mac, Mac::BROADCAST, 50));
    out.is_dropped(DropReason::SourceIsLocal);
    lab.one(TRUNK, &tagged(&udp4(A, B, 5), 0x8100, 10)).is_dropped(DropReason::SourceIsLocal);
    // The same MAC in another network is another station.
    let frame = udp4(B, A, 5);
    assert_eq!(lab.one(TRUNK, &tagged(&frame, 0x8100, 20)).only(VM_200), frame);
}

#[test]
fn nothing_is_learned_from_vifs_and_the_underlay() {
    let mut lab = Lab::new();
    assert_eq!(lab.one(VM_200, &other(NOBODY.mac, A.mac, 50)).learned, []);
    assert_eq!(lab.one(VM_A, &udp4(A, B, 50)).learned, []);
    assert_eq!(lab.one(UNDERLAY, &frames::FROM_1.around(&udp4(NOBODY, A, 5))).learned, []);
}

/// The addresses of a vif are declared. A shared one belongs to the last that announced it.
#[test]
fn a_vif_that_announces_a_shared_address_is_reported() {
    let mut lab = Lab::new();
    let announce = arp(Mac::BROADCAST, 1, (A.mac, SHARED), (NO_MAC, SHARED));
    let learned = learn(&lab, VM_A, 0, A.mac, Some(SHARED.into()));
    assert_eq!(lab.one(VM_A, &announce).learned, [learned]);
    lab.tables.set_owner(lab.net100, SHARED.into(), A.mac).unwrap();
    assert_eq!(lab.one(VM_A, &announce).learned, []);
    assert_eq!(lab.one(VM_A, &arp(Mac::BROADCAST, 1, (A.mac, A.ip4), (NO_MAC, A.ip4))).learned, []);
}

#[test]
fn addresses_are_learned_from_arp_and_nd() {
    let mut lab = Lab::new();
    let new4 = Ipv4Addr::new(192, 168, 0, 99);
    let new6: Ipv6Addr = "fd00:1::99".parse().unwrap();
    let all = (Mac::new([0x33, 0x33, 0, 0, 0, 1]), "ff02::1".parse().unwrap());
    for (frame, ip) in [
        (arp(Mac::BROADCAST, 1, (S.mac, new4), (NO_MAC, A.ip4)), IpAddr::V4(new4)),
        (arp(A.mac, 2, (S.mac, new4), (A.mac, A.ip4)), IpAddr::V4(new4)),
        (arp(Mac::BROADCAST, 1, (S.mac, new4), (NO_MAC, new4)), IpAddr::V4(new4)),
        (solicit(S.mac, new6, A.ip6), IpAddr::V6(new6)),
        (advert(all, S.mac, new6, 0x20), IpAddr::V6(new6)),
    ] {
        assert_eq!(lab.one(SEGMENT, &frame).learned, [learn(&lab, SEGMENT, 0, S.mac, Some(ip))]);
    }
    // Known already.
    assert_eq!(lab.one(SEGMENT, &arp(A.mac, 2, (S.mac, S.ip4), (A.mac, A.ip4))).learned, []);
    // Probes claim nothing yet.
    let probe = arp(Mac::BROADCAST, 1, (S.mac, Ipv4Addr::UNSPECIFIED), (NO_MAC, new4));
    assert_eq!(lab.one(SEGMENT, &probe).learned, []);
    assert_eq!(lab.one(SEGMENT, &solicit(S.mac, Ipv6Addr::UNSPECIFIED, new6)).learned, []);
    // Another MAC inside the message is a proxy.
    let mut proxy = arp(A.mac, 2, (NOBODY.mac, new4), (A.mac, A.ip4));
    proxy[6..12].copy_from_slice(&S.mac.octets());
    assert_eq!(lab.one(SEGMENT, &proxy).learned, []);
}

#[test]
fn a_full_port_learns_no_new_station_and_keeps_its_own() {
    let mut lab = Lab::new();
    let Role::Segment(trunk) = &lab.ports[usize::from(TRUNK)].role else { panic!("a segment") };
    let gate = std::sync::Arc::clone(&trunk.gate);
    gate.set_vlan_full(10, true);
    let new = tagged(&udp4(NOBODY, A, 5), 0x8100, 10);
    let out = lab.one(TRUNK, &new);
    assert_eq!(out.learned, []);
    out.is_dropped(DropReason::StationLimit);
    // Nor a station that was at another port, or belongs to another host.
    lab.one(TRUNK, &tagged(&udp4(S, A, 5), 0x8100, 10)).is_dropped(DropReason::StationLimit);
    lab.one(TRUNK, &tagged(&udp4(R1, A, 5), 0x8100, 10)).is_dropped(DropReason::StationLimit);
    // Known stations, other networks, other ports and frames from the underlay are not affected.
    assert_eq!(lab.one(TRUNK, &tagged(&udp4(T, A, 5), 0x8100, 10)).ports(), [VM_A]);
    assert_eq!(lab.one(TRUNK, &tagged(&udp4(NOBODY, A, 5), 0x8100, 20)).ports(), [VM_200]);
    assert_eq!(lab.one(SEGMENT, &udp4(NOBODY, A, 5)).ports(), [VM_A]);
    assert_eq!(lab.one(UNDERLAY, &frames::FROM_1.around(&udp4(NOBODY, T, 5))).ports(), [TRUNK]);
    // A node that is locked for a migration has an entry here before it sends.
    lab.tables.set_migrating_flag(lab.net100, R1.mac, true);
    lab.publish();
    assert_eq!(lab.one(TRUNK, &tagged(&udp4(R1, A, 5), 0x8100, 10)).learned.len(), 1);
    gate.set_vlan_full(10, false);
    assert_eq!(lab.one(TRUNK, &new).learned, [learn(&lab, TRUNK, 10, NOBODY.mac, None)]);
}

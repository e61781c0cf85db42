//! A vif speaks for itself only.

use super::frames::{
    self, ARP, ICMPV6, IPV4, IPV6, NO_MAC, UDP, advert, arp, eth, icmp6, ip4, ip6, solicit, udp4, udp6,
};
use super::*;

fn switch_off(lab: &mut Lab) {
    for port in &mut lab.ports {
        if let Role::Vif(vif) = &mut port.role {
            vif.guard = false;
        }
    }
}

const fn posing_as(ip_of: Station) -> Station {
    Station { mac: A.mac, ..ip_of }
}

/// What a guarded vif must not send, and why.
fn forbidden() -> Vec<(&'static str, Vec<u8>, Drop)> {
    let all_nodes = "ff02::1".parse().unwrap();
    let all_nodes_mac = Mac::new([0x33, 0x33, 0, 0, 0, 1]);
    let nobody6 = Ipv6Addr::UNSPECIFIED;
    let echo_from_nowhere = icmp6(nobody6, B.ip6, 128, &[0; 12]);
    let mut spoofed_option = solicit(A.mac, A.ip6, R1.ip6);
    spoofed_option.truncate(54);
    let body = [&[0; 4][..], &R1.ip6.octets(), &[1, 1], &B.mac.octets()].concat();
    let (group, group_mac) = frames::solicited_node(R1.ip6);
    let lying_ns =
        eth(group_mac, A.mac, IPV6, &ip6(A.ip6, group, ICMPV6, 0, 255, &icmp6(A.ip6, group, 135, &body)));
    let target_of_b = [&[0x20, 0, 0, 0][..], &B.ip6.octets(), &[2, 1], &A.mac.octets()].concat();
    let na_for_b = eth(
        all_nodes_mac,
        A.mac,
        IPV6,
        &ip6(A.ip6, all_nodes, ICMPV6, 0, 255, &icmp6(A.ip6, all_nodes, 136, &target_of_b)),
    );
    let mac_of_b = [&[0x20, 0, 0, 0][..], &A.ip6.octets(), &[2, 1], &B.mac.octets()].concat();
    let na_with_mac_of_b = eth(
        all_nodes_mac,
        A.mac,
        IPV6,
        &ip6(A.ip6, all_nodes, ICMPV6, 0, 255, &icmp6(A.ip6, all_nodes, 136, &mac_of_b)),
    );
    let mut arp_as_b = arp(Mac::BROADCAST, 1, (B.mac, A.ip4), (NO_MAC, R1.ip4));
    arp_as_b[6..12].copy_from_slice(&A.mac.octets());
    vec![
        ("another MAC", udp4(Station { mac: S.mac, ..A }, B, 5), Drop::GuardMac),
        ("another MAC, not IP", frames::other(B.mac, S.mac, 46), Drop::GuardMac),
        ("another IPv4 address", udp4(posing_as(B), S, 5), Drop::GuardIp),
        ("another IPv6 address", udp6(posing_as(B), S, 0, 5), Drop::GuardIp),
        ("IPv4 from 0.0.0.0", udp4(Station { ip4: Ipv4Addr::UNSPECIFIED, ..A }, S, 5), Drop::GuardIp),
        ("IPv6 from ::", udp6(Station { ip6: nobody6, ..A }, S, 0, 5), Drop::GuardIp),
        (
            "echo from ::",
            eth(B.mac, A.mac, IPV6, &ip6(nobody6, B.ip6, ICMPV6, 0, 64, &echo_from_nowhere)),
            Drop::GuardIp,
        ),
        ("ARP with another IP", arp(Mac::BROADCAST, 1, (A.mac, B.ip4), (NO_MAC, S.ip4)), Drop::GuardArp),
        (
            "gratuitous ARP for another",
            arp(Mac::BROADCAST, 2, (A.mac, B.ip4), (A.mac, B.ip4)),
            Drop::GuardArp,
        ),
        ("ARP with another MAC inside", arp_as_b, Drop::GuardArp),
        ("solicitation with another MAC inside", lying_ns, Drop::GuardArp),
        ("advertisement of another's address", na_for_b, Drop::GuardArp),
        ("advertisement with another's MAC", na_with_mac_of_b, Drop::GuardArp),
        ("ARP cut off", eth(Mac::BROADCAST, A.mac, ARP, &[0; 20]), Drop::Malformed),
    ]
}

#[test]
fn nothing_is_sent_in_another_name() {
    let mut lab = Lab::new();
    for (what, frame, reason) in forbidden() {
        let out = lab.one(VM_A, &frame);
        assert_eq!((out.sent.len(), out.dropped), (0, vec![reason]), "{what}");
    }
}

#[test]
fn with_the_guard_off_all_of_it_passes() {
    let mut lab = Lab::new();
    switch_off(&mut lab);
    for (what, frame, reason) in forbidden() {
        let out = lab.one(VM_A, &frame);
        if reason == Drop::Malformed {
            out.is_dropped(reason);
        } else {
            assert!(!out.sent.is_empty() || out.dropped == [Drop::SameSegment], "{what}: {out:?}");
        }
    }
}

#[test]
fn what_a_vif_needs_to_come_to_life_passes() {
    let mut lab = Lab::new();
    let unspecified = Ipv4Addr::UNSPECIFIED;
    let discover = frames::udp(unspecified.into(), Ipv4Addr::BROADCAST.into(), (68, 67), &frames::data(240));
    let discover =
        eth(Mac::BROADCAST, A.mac, IPV4, &ip4(unspecified, Ipv4Addr::BROADCAST, UDP, 0, &discover));
    let routers: Ipv6Addr = "ff02::2".parse().unwrap();
    let reports: Ipv6Addr = "ff02::16".parse().unwrap();
    let from = Ipv6Addr::UNSPECIFIED;
    let router_solicit = eth(
        Mac::new([0x33, 0x33, 0, 0, 0, 2]),
        A.mac,
        IPV6,
        &ip6(from, routers, ICMPV6, 0, 255, &icmp6(from, routers, 133, &[0; 4])),
    );
    let mld = eth(
        Mac::new([0x33, 0x33, 0, 0, 0, 0x16]),
        A.mac,
        IPV6,
        &ip6(from, reports, ICMPV6, 0, 1, &icmp6(from, reports, 143, &[0; 24])),
    );
    let link_local = A.mac.link_local();
    let from_link_local = udp6(Station { ip6: link_local, ..A }, B, 0, 5);
    let probe4 = arp(Mac::BROADCAST, 1, (A.mac, unspecified), (NO_MAC, NOBODY.ip4));
    let announcement4 = arp(Mac::BROADCAST, 1, (A.mac, A.ip4), (NO_MAC, A.ip4));
    let probe6 = solicit(A.mac, from, NOBODY.ip6);
    let announcement6 =
        advert((Mac::new([0x33, 0x33, 0, 0, 0, 1]), "ff02::1".parse().unwrap()), A.mac, A.ip6, 0x20);
    let rarp = eth(Mac::BROADCAST, A.mac, 0x8035, &[0; 46]);
    for (what, frame) in [
        ("DHCP", discover),
        ("router solicitation", router_solicit),
        ("MLD report", mld),
        ("ARP probe", probe4),
        ("ARP announcement", announcement4),
        ("ND probe", probe6),
        ("ND announcement", announcement6),
        ("RARP of a migrated guest", rarp),
    ] {
        let out = lab.one(VM_A, &frame);
        assert_eq!((out.sent.len(), &out.dropped[..]), (5, &[][..]), "{what}");
    }
    assert_eq!(lab.one(VM_A, &from_link_local).only(VM_B), from_link_local);
}

#[test]
fn a_segment_has_no_guard() {
    let mut lab = Lab::new();
    let frame = udp4(Station { ip4: NOBODY.ip4, ..S }, A, 5);
    assert_eq!(lab.one(SEGMENT, &frame).only(VM_A), frame);
}

#[test]
fn without_declared_addresses_only_the_mac_is_guarded() {
    let mut lab = Lab::new();
    for port in &mut lab.ports {
        if let Role::Vif(vif) = &mut port.role {
            vif.addressed = false;
        }
    }
    for frame in [
        udp4(posing_as(R2), R1, 20),
        udp6(posing_as(R2), R1, 0, 20),
        frames::arp_request(posing_as(R2), B.ip4),
    ] {
        assert_eq!(lab.one(VM_A, &frame).dropped, []);
    }
    lab.one(VM_A, &udp4(B, R1, 20)).is_dropped(Drop::GuardMac);
    let other_mac_inside = arp(Mac::BROADCAST, 1, (B.mac, A.ip4), (NO_MAC, R1.ip4));
    let mut other_mac_inside = other_mac_inside;
    other_mac_inside[6..12].copy_from_slice(&A.mac.octets());
    lab.one(VM_A, &other_mac_inside).is_dropped(Drop::GuardArp);
}

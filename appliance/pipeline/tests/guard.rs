//! A vif may use its own addresses only.

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

const fn sent_with_addresses_of(ip_of: Station) -> Station {
    Station { mac: A.mac, ..ip_of }
}

/// Frames that a guarded vif must not send, and the reasons.
fn forbidden() -> Vec<(&'static str, Vec<u8>, DropReason)> {
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
        ("another MAC", udp4(Station { mac: S.mac, ..A }, B, 5), DropReason::GuardMac),
        ("another MAC, not IP", frames::other(B.mac, S.mac, 46), DropReason::GuardMac),
        ("another IPv4 address", udp4(sent_with_addresses_of(B), S, 5), DropReason::GuardIp),
        ("another IPv6 address", udp6(sent_with_addresses_of(B), S, 0, 5), DropReason::GuardIp),
        ("IPv4 from 0.0.0.0", udp4(Station { ip4: Ipv4Addr::UNSPECIFIED, ..A }, S, 5), DropReason::GuardIp),
        ("IPv6 from ::", udp6(Station { ip6: nobody6, ..A }, S, 0, 5), DropReason::GuardIp),
        (
            "echo from ::",
            eth(B.mac, A.mac, IPV6, &ip6(nobody6, B.ip6, ICMPV6, 0, 64, &echo_from_nowhere)),
            DropReason::GuardIp,
        ),
        (
            "ARP with another IP",
            arp(Mac::BROADCAST, 1, (A.mac, B.ip4), (NO_MAC, S.ip4)),
            DropReason::GuardArp,
        ),
        (
            "gratuitous ARP for another",
            arp(Mac::BROADCAST, 2, (A.mac, B.ip4), (A.mac, B.ip4)),
            DropReason::GuardArp,
        ),
        ("ARP with another MAC inside", arp_as_b, DropReason::GuardArp),
        ("solicitation with another MAC inside", lying_ns, DropReason::GuardArp),
        ("advertisement of another's address", na_for_b, DropReason::GuardArp),
        ("advertisement with another's MAC", na_with_mac_of_b, DropReason::GuardArp),
        ("ARP cut off", eth(Mac::BROADCAST, A.mac, ARP, &[0; 20]), DropReason::Malformed),
    ]
}

#[test]
fn frames_with_foreign_addresses_are_dropped() {
    let mut lab = Lab::new();
    for (what, frame, reason) in forbidden() {
        let out = lab.one(VM_A, &frame);
        assert_eq!((out.sent.len(), out.dropped), (0, vec![reason]), "{what}");
    }
}

#[test]
fn without_the_guard_all_of_them_pass() {
    let mut lab = Lab::new();
    switch_off(&mut lab);
    for (what, frame, reason) in forbidden() {
        let out = lab.one(VM_A, &frame);
        if reason == DropReason::Malformed {
            out.is_dropped(reason);
        } else {
            assert!(!out.sent.is_empty() || out.dropped == [DropReason::SameSegment], "{what}: {out:?}");
        }
    }
}

#[test]
fn address_configuration_of_a_vif_passes() {
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
        udp4(sent_with_addresses_of(R2), R1, 20),
        udp6(sent_with_addresses_of(R2), R1, 0, 20),
        frames::arp_request(sent_with_addresses_of(R2), B.ip4),
    ] {
        assert_eq!(lab.one(VM_A, &frame).dropped, []);
    }
    lab.one(VM_A, &udp4(B, R1, 20)).is_dropped(DropReason::GuardMac);
    let other_mac_inside = arp(Mac::BROADCAST, 1, (B.mac, A.ip4), (NO_MAC, R1.ip4));
    let mut other_mac_inside = other_mac_inside;
    other_mac_inside[6..12].copy_from_slice(&A.mac.octets());
    lab.one(VM_A, &other_mac_inside).is_dropped(DropReason::GuardArp);
}

fn allow(lab: &mut Lab, allowed: Allowed) {
    let Role::Vif(vif) = &mut lab.ports[usize::from(VM_A)].role else { panic!("a vif") };
    vif.allowed = allowed;
}

fn ll(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

const ALL_NODES: Mac = Mac::new([0x33, 0x33, 0, 0, 0, 1]);

fn icmp6_from(src: Ipv6Addr, kind: u8) -> Vec<u8> {
    let dst = ll("ff02::1");
    eth(ALL_NODES, A.mac, IPV6, &ip6(src, dst, ICMPV6, 0, 255, &icmp6(src, dst, kind, &[0; 12])))
}

fn icmp4_from(src: Ipv4Addr, kind: u8) -> Vec<u8> {
    eth(B.mac, A.mac, IPV4, &ip4(src, B.ip4, frames::ICMP, 0, &frames::icmp4(kind, 1, &[0; 28])))
}

fn udp4_between(ports: (u16, u16), to: Mac) -> Vec<u8> {
    let l4 = frames::udp(A.ip4.into(), B.ip4.into(), ports, &frames::data(240));
    eth(to, A.mac, IPV4, &ip4(A.ip4, B.ip4, UDP, 0, &l4))
}

fn udp6_between(ports: (u16, u16)) -> Vec<u8> {
    let l4 = frames::udp(A.ip6.into(), B.ip6.into(), ports, &frames::data(240));
    eth(B.mac, A.mac, IPV6, &ip6(A.ip6, B.ip6, UDP, 0, 64, &l4))
}

/// The first fragment of an ICMPv6 message without a byte of it: the rest may be anything.
fn fragment_without_header() -> Vec<u8> {
    let fragment = [ICMPV6, 0, 0, 1, 0, 0, 0, 7];
    eth(ALL_NODES, A.mac, IPV6, &ip6(A.mac.link_local(), ll("ff02::1"), 44, 0, 255, &fragment))
}

/// Frames that only routers and DHCP servers may send, and the reasons.
fn servers_frames() -> Vec<(&'static str, Vec<u8>, DropReason)> {
    vec![
        ("router advertisement", icmp6_from(A.mac.link_local(), 134), DropReason::GuardRouter),
        ("redirect", icmp6_from(A.mac.link_local(), 137), DropReason::GuardRouter),
        ("IPv4 redirect", icmp4_from(A.ip4, 5), DropReason::GuardRouter),
        ("IPv4 router advertisement", icmp4_from(A.ip4, 9), DropReason::GuardRouter),
        ("hidden advertisement", fragment_without_header(), DropReason::GuardRouter),
        ("DHCP reply", udp4_between((67, 68), Mac::BROADCAST), DropReason::GuardDhcp),
        ("DHCP reply to one station", udp4_between((67, 68), B.mac), DropReason::GuardDhcp),
        ("DHCP reply to another host", udp4_between((67, 68), R1.mac), DropReason::GuardDhcp),
        ("DHCP relay", udp4_between((67, 67), B.mac), DropReason::GuardDhcp),
        ("DHCPv6 reply", udp6_between((547, 546)), DropReason::GuardDhcp),
    ]
}

#[test]
fn a_vif_is_no_router_and_no_dhcp_server() {
    for addressed in [true, false] {
        let mut lab = Lab::new();
        let Role::Vif(vif) = &mut lab.ports[usize::from(VM_A)].role else { panic!("a vif") };
        vif.addressed = addressed;
        for (what, frame, reason) in servers_frames() {
            let out = lab.one(VM_A, &frame);
            assert_eq!((out.sent.len(), out.dropped), (0, vec![reason]), "{what}");
        }
        // Requests are allowed.
        assert_eq!(lab.one(VM_A, &udp4_between((68, 67), Mac::BROADCAST)).dropped, []);
        assert_eq!(lab.one(VM_A, &icmp6_from(A.mac.link_local(), 133)).dropped, []);
    }
}

#[test]
fn a_router_and_a_dhcp_server_may_be_allowed() {
    let mut lab = Lab::new();
    allow(&mut lab, Allowed { router: true, dhcp_server: true, ..Allowed::default() });
    for (what, frame, _) in servers_frames() {
        assert_eq!(lab.one(VM_A, &frame).dropped, [], "{what}");
    }
    allow(&mut lab, Allowed { router: true, ..Allowed::default() });
    lab.one(VM_A, &udp4_between((67, 68), B.mac)).is_dropped(DropReason::GuardDhcp);
    assert_eq!(lab.one(VM_A, &icmp6_from(A.mac.link_local(), 134)).dropped, []);
    allow(&mut lab, Allowed { dhcp_server: true, ..Allowed::default() });
    lab.one(VM_A, &icmp6_from(A.mac.link_local(), 134)).is_dropped(DropReason::GuardRouter);
    // Without a guard the frame passes.
    switch_off(&mut lab);
    for (what, frame, _) in servers_frames() {
        assert_eq!(lab.one(VM_A, &frame).dropped, [], "{what}");
    }
}

#[test]
fn a_guest_chooses_its_link_local_address() {
    let mut lab = Lab::new();
    // An address as in RFC 7217, not from the MAC.
    let stable = ll("fe80::5b1c:9a3e:77f0:1d42");
    let learned = [Learn { port: VM_A, bd: lab.net100, vlan: 0, mac: A.mac, ip: Some(stable.into()) }];
    let all = (ALL_NODES, ll("ff02::1"));
    let target = B.mac.link_local();
    for (what, frame) in [
        ("neighbour solicitation", solicit(A.mac, stable, target)),
        ("neighbour advertisement", advert(all, A.mac, stable, 0x20)),
        ("router solicitation", icmp6_from(stable, 133)),
        ("UDP", udp6(Station { ip6: stable, ..A }, B, 0, 5)),
    ] {
        let out = lab.one(VM_A, &frame);
        assert_eq!((&out.dropped[..], &out.learned[..]), (&[][..], &learned[..]), "{what}");
    }
    // It is probed before it is used.
    let probe = lab.one(VM_A, &solicit(A.mac, Ipv6Addr::UNSPECIFIED, stable));
    assert_eq!((probe.dropped, probe.learned), (vec![], vec![]));
    // Once registered, it is not reported again, and no other node may use it.
    lab.tables.set_owner(lab.net100, stable.into(), A.mac).unwrap();
    lab.publish();
    assert_eq!(lab.one(VM_A, &udp6(Station { ip6: stable, ..A }, B, 0, 5)).learned, []);
    let thief = Station { ip6: stable, ..B };
    lab.one(VM_B, &udp6(thief, A, 0, 5)).is_dropped(DropReason::GuardIp);
    lab.one(VM_B, &advert(all, B.mac, stable, 0x20)).is_dropped(DropReason::GuardIp);
    let body = [&[0x20, 0, 0, 0][..], &stable.octets(), &[2, 1], &B.mac.octets()].concat();
    let message = icmp6(target, all.1, 136, &body);
    let stolen = eth(all.0, B.mac, IPV6, &ip6(target, all.1, ICMPV6, 0, 255, &message));
    lab.one(VM_B, &stolen).is_dropped(DropReason::GuardArp);
    // Addresses of other kinds are declared.
    lab.one(VM_A, &udp6(Station { ip6: ll("fd00:1::77"), ..A }, B, 0, 5)).is_dropped(DropReason::GuardIp);
}

#[test]
fn pairs_of_address_and_mac_are_allowed() {
    let mut lab = Lab::new();
    let virtual_mac = Mac::new([0, 0, 0x5e, 0, 1, 7]);
    let pairs = [(A.mac, "10.1.0.0/16"), (virtual_mac, "192.168.0.77/32"), (virtual_mac, "fd00:1::7700/120")]
        .map(|(mac, prefix)| Pair { mac, prefix: prefix.parse().unwrap() });
    allow(&mut lab, Allowed { pairs: pairs.into(), ..Allowed::default() });
    let from = |ip4: &str| Station { ip4: ip4.parse().unwrap(), ..A };
    // The fast path accepts the same as the slow path: to another port, and to another host.
    for ip in ["10.1.0.0", "10.1.255.255", "192.168.0.10"] {
        assert_eq!(lab.one(VM_A, &udp4(from(ip), B, 5)).only(VM_B), udp4(from(ip), B, 5));
        assert_eq!(lab.one(VM_A, &udp4(from(ip), R1, 5)).dropped, []);
        let arp = arp(Mac::BROADCAST, 1, (A.mac, ip.parse().unwrap()), (NO_MAC, NOBODY.ip4));
        assert_eq!(lab.one(VM_A, &arp).dropped, [], "{ip}");
    }
    for ip in ["10.0.255.255", "10.2.0.0", "192.168.0.77"] {
        lab.one(VM_A, &udp4(from(ip), B, 5)).is_dropped(DropReason::GuardIp);
        let arp = arp(Mac::BROADCAST, 1, (A.mac, ip.parse().unwrap()), (NO_MAC, NOBODY.ip4));
        lab.one(VM_A, &arp).is_dropped(DropReason::GuardArp);
    }
    // A separate MAC for a separate address, as in VRRP.
    let virtual_station =
        Station { mac: virtual_mac, ip4: "192.168.0.77".parse().unwrap(), ip6: ll("fd00:1::77aa") };
    assert_eq!(lab.one(VM_A, &udp4(virtual_station, B, 5)).dropped, []);
    assert_eq!(lab.one(VM_A, &udp6(virtual_station, B, 0, 5)).dropped, []);
    assert_eq!(lab.one(VM_A, &frames::arp_request(virtual_station, NOBODY.ip4)).dropped, []);
    lab.one(VM_A, &udp4(Station { ip4: A.ip4, ..virtual_station }, B, 5)).is_dropped(DropReason::GuardIp);
    lab.one(VM_A, &udp6(Station { ip6: ll("fd00:1::7800"), ..virtual_station }, B, 0, 5))
        .is_dropped(DropReason::GuardIp);
    let of_a = advert((ALL_NODES, ll("ff02::1")), virtual_mac, A.ip6, 0x20);
    lab.one(VM_A, &of_a).is_dropped(DropReason::GuardIp);
    lab.one(VM_A, &udp4(Station { mac: S.mac, ..A }, B, 5)).is_dropped(DropReason::GuardMac);
}

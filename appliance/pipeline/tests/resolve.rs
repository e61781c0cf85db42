//! ARP and neighbour discovery: which requests are answered, forwarded or dropped.

use super::frames::{NO_MAC, advert, arp, arp_request, solicit, solicit_to, solicited_node};
use super::*;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac::new([0x33, 0x33, 0, 0, 0, 1]);
const ANY4: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// The flag of a frame with a shim.
const NODE: u8 = 4;
const ANY6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

fn arp_reply(owner: Station, to: Station) -> Vec<u8> {
    arp(to.mac, 2, (owner.mac, owner.ip4), (to.mac, to.ip4))
}

#[test]
fn arp_for_a_remote_node_is_answered_here() {
    let mut lab = Lab::new();
    for remote in [R1, R2, R3] {
        let out = lab.one(VM_A, &arp_request(A, remote.ip4));
        assert_eq!(out.only(VM_A), arp_reply(remote, A));
        // Unicast, as from a host that confirms an entry (RFC 1122 section 2.3.2.1), or for an unknown node.
        for dst in [remote.mac, NOBODY.mac] {
            let ask = arp(dst, 1, (A.mac, A.ip4), (NO_MAC, remote.ip4));
            assert_eq!(lab.one(VM_A, &ask).only(VM_A), arp_reply(remote, A));
        }
    }
    assert_eq!(lab.counters.read().copied, 0);
}

#[test]
fn a_unicast_request_for_another_node_reaches_that_node() {
    let mut lab = Lab::new();
    // R1 is the known owner; the receiver of the request may be the new one.
    let ask = |dst| arp(dst, 1, (A.mac, A.ip4), (NO_MAC, R1.ip4));
    assert_eq!(lab.one(VM_A, &ask(B.mac)).only(VM_B), ask(B.mac));
    assert_eq!(lab.one(VM_A, &ask(R2.mac)).only(UNDERLAY)[70..], ask(R2.mac));
    let ask = |dst| solicit_to(dst, R1.ip6, A.mac, A.ip6, R1.ip6);
    assert_eq!(lab.one(VM_A, &ask(S.mac)).only(SEGMENT), ask(S.mac));
    assert_eq!(lab.one(VM_A, &ask(R2.mac)).only(UNDERLAY)[70..], ask(R2.mac));
    // The same for an address of a local node.
    let ask = arp(S.mac, 1, (A.mac, A.ip4), (NO_MAC, B.ip4));
    assert_eq!(lab.one(VM_A, &ask).only(SEGMENT), ask);
}

#[test]
fn the_answer_to_a_trunk_is_tagged() {
    let mut lab = Lab::new();
    let out = lab.one(TRUNK, &frames::tagged(&arp_request(T, R1.ip4), 0x8100, 10));
    assert_eq!(out.only(TRUNK), frames::tagged(&arp_reply(R1, T), 0x8100, 10));
    let out = lab.one(TRUNK, &frames::tagged(&solicit(T.mac, T.ip6, R1.ip6), 0x8100, 10));
    let answer = advert((T.mac, T.ip6), R1.mac, R1.ip6, 0x60);
    assert_eq!(out.only(TRUNK), frames::tagged(&answer, 0x8100, 10));
}

#[test]
fn a_node_on_the_same_segment_answers_itself() {
    let mut lab = Lab::new();
    lab.tables.set_local(lab.net100, NOBODY.mac, SEGMENT, 0, None).unwrap();
    lab.tables.set_owner(lab.net100, NOBODY.ip4.into(), NOBODY.mac).unwrap();
    lab.tables.set_owner(lab.net100, NOBODY.ip6.into(), NOBODY.mac).unwrap();
    lab.publish();
    lab.one(SEGMENT, &arp_request(S, NOBODY.ip4)).is_dropped(DropReason::SameSegment);
    lab.one(SEGMENT, &solicit(S.mac, S.ip6, NOBODY.ip6)).is_dropped(DropReason::SameSegment);
}

#[test]
fn a_request_for_a_local_node_reaches_that_port_only() {
    let mut lab = Lab::new();
    for policy in [FloodPolicy::Flood, FloodPolicy::Drop, FloodPolicy::ToSegments] {
        lab.flood(policy);
        let ask = arp_request(A, S.ip4);
        assert_eq!(lab.one(VM_A, &ask).only(SEGMENT), ask);
        let ask = solicit(A.mac, A.ip6, T.ip6);
        assert_eq!(lab.one(VM_A, &ask).only(TRUNK), frames::tagged(&ask, 0x8100, 10));
    }
}

#[test]
fn a_request_for_an_unknown_address_is_flooded() {
    let mut lab = Lab::new();
    for ask in [arp_request(A, NOBODY.ip4), solicit(A.mac, A.ip6, NOBODY.ip6)] {
        assert_eq!(lab.one(VM_A, &ask).sent.len(), 5);
    }
    // An owner without an entry is unknown.
    lab.tables.set_owner(lab.net100, NOBODY.ip4.into(), NOBODY.mac).unwrap();
    lab.publish();
    assert_eq!(lab.one(VM_A, &arp_request(A, NOBODY.ip4)).sent.len(), 5);
    lab.flood(FloodPolicy::Drop);
    lab.one(VM_A, &arp_request(A, NOBODY.ip4)).is_dropped(DropReason::FloodDisabled);
}

#[test]
fn networks_do_not_answer_for_each_other() {
    let mut lab = Lab::new();
    let ask = arp_request(A, R1.ip4);
    assert_eq!(lab.one(VM_200, &ask).only(TRUNK), frames::tagged(&ask, 0x8100, 20));
}

/// A frame for one node only, as it is in the tunnel to another appliance: flag NODE and shim.
fn sent_to_owner(out: &Out, owner: Mac) -> Vec<u8> {
    let sent = out.only(UNDERLAY);
    assert_eq!(sent[49], NODE);
    assert_eq!(sent[50..56], owner.octets());
    sent[58..].to_vec()
}

#[test]
fn a_probe_for_a_used_address_is_sent_to_its_owner_only() {
    let mut lab = Lab::new();
    let probe = |target| arp(Mac::BROADCAST, 1, (A.mac, ANY4), (NO_MAC, target));
    // Only the owner itself may defend the address, also where broadcasts are not flooded.
    for policy in [FloodPolicy::Flood, FloodPolicy::Drop] {
        lab.flood(policy);
        assert_eq!(sent_to_owner(&lab.one(VM_A, &probe(R1.ip4)), R1.mac), probe(R1.ip4));
    }
    lab.flood(FloodPolicy::Flood);
    assert_eq!(lab.one(VM_A, &probe(NOBODY.ip4)).sent.len(), 5);
    // A local owner defends itself.
    assert_eq!(lab.one(VM_A, &probe(S.ip4)).only(SEGMENT), probe(S.ip4));
    // An address that is registered for the prober itself is free for it.
    lab.one(VM_A, &probe(A.ip4)).is_dropped(DropReason::Answered);
}

#[test]
fn a_forwarded_probe_reaches_its_node_only() {
    let mut lab = Lab::new();
    let probe = arp(Mac::BROADCAST, 1, (R1.mac, ANY4), (NO_MAC, S.ip4));
    let shim = [&S.mac.octets()[..], &[0, 0]].concat();
    let tunnel = frames::Tunnel { flags: NODE, ..frames::FROM_1 };
    let frame = tunnel.around(&[shim, probe.clone()].concat());
    assert_eq!(lab.one(UNDERLAY, &frame).only(SEGMENT), probe);
}

#[test]
fn duplicate_address_detection_of_ipv6() {
    let mut lab = Lab::new();
    let probe = |target| solicit(A.mac, ANY6, target);
    assert_eq!(sent_to_owner(&lab.one(VM_A, &probe(R1.ip6)), R1.mac), probe(R1.ip6));
    assert_eq!(lab.one(VM_A, &probe(NOBODY.ip6)).sent.len(), 5);
    assert_eq!(lab.one(VM_A, &probe(S.ip6)).ports(), [SEGMENT]);
    lab.one(VM_A, &probe(A.ip6)).is_dropped(DropReason::Answered);
}

#[test]
fn announcements_are_flooded() {
    let mut lab = Lab::new();
    let request_form = arp(Mac::BROADCAST, 1, (A.mac, A.ip4), (NO_MAC, A.ip4));
    let reply_form = arp(Mac::BROADCAST, 2, (A.mac, A.ip4), (A.mac, A.ip4));
    let unsolicited = advert((ALL_NODES_MAC, ALL_NODES), A.mac, A.ip6, 0x20);
    for frame in [request_form, reply_form, unsolicited] {
        let out = lab.one(VM_A, &frame);
        assert_eq!((out.sent.len(), &out.dropped[..]), (5, &[][..]));
        assert!(out.sent.contains(&(VM_B, frame)));
    }
}

#[test]
fn a_request_for_the_own_address_is_dropped() {
    let mut lab = Lab::new();
    lab.one(SEGMENT, &arp(Mac::BROADCAST, 1, (S.mac, NOBODY.ip4), (NO_MAC, S.ip4)))
        .is_dropped(DropReason::Answered);
    lab.one(SEGMENT, &solicit(S.mac, S.mac.link_local(), S.ip6)).is_dropped(DropReason::Answered);
}

#[test]
fn answers_are_forwarded_to_their_receiver() {
    let mut lab = Lab::new();
    let reply = arp_reply(A, B);
    assert_eq!(lab.one(VM_A, &reply).only(VM_B), reply);
    let out = lab.one(VM_A, &arp_reply(A, R1));
    assert_eq!(out.only(UNDERLAY)[50..], arp_reply(A, R1));
    let advertised = advert((R1.mac, R1.ip6), A.mac, A.ip6, 0x60);
    assert_eq!(lab.one(VM_A, &advertised).only(UNDERLAY)[50..], advertised);
}

#[test]
fn solicitations_for_a_remote_node_are_answered_here() {
    let mut lab = Lab::new();
    let answer = advert((A.mac, A.ip6), R1.mac, R1.ip6, 0x60);
    assert_eq!(lab.one(VM_A, &solicit(A.mac, A.ip6, R1.ip6)).only(VM_A), answer);
    // Unicast, to check that the neighbour is reachable (RFC 4861 section 7.3.1).
    let unicast = solicit_to(R1.mac, R1.ip6, A.mac, A.ip6, R1.ip6);
    assert_eq!(lab.one(VM_A, &unicast).only(VM_A), answer);
    let link_local = A.mac.link_local();
    let answer = advert((A.mac, link_local), R2.mac, R2.ip6, 0x60);
    assert_eq!(lab.one(VM_A, &solicit(A.mac, link_local, R2.ip6)).only(VM_A), answer);
}

#[test]
fn invalid_neighbour_discovery_is_dropped() {
    let mut lab = Lab::new();
    let good = solicit(S.mac, S.ip6, R1.ip6);
    let mut far = good.clone();
    far[21] = 254;
    let mut wrong_sum = good.clone();
    wrong_sum[57] ^= 1;
    let (group, mac) = solicited_node(R1.ip6);
    let body = [&[0; 4][..], &R1.ip6.octets(), &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
    let no_length = frames::eth(
        mac,
        S.mac,
        frames::IPV6,
        &frames::ip6(S.ip6, group, 58, 0, 255, &frames::icmp6(S.ip6, group, 135, &body)),
    );
    for frame in [far, wrong_sum, no_length] {
        lab.one(SEGMENT, &frame).is_dropped(DropReason::Malformed);
    }
    lab.one(SEGMENT, &arp(Mac::BROADCAST, 9, (S.mac, S.ip4), (NO_MAC, A.ip4)))
        .is_dropped(DropReason::Malformed);
}

#[test]
fn requests_from_the_underlay_are_delivered_not_answered() {
    let mut lab = Lab::new();
    let ask = arp_request(NOBODY, A.ip4);
    let out = lab.one(UNDERLAY, &frames::FROM_1.around(&ask));
    assert!(out.sent.contains(&(VM_A, ask)));
    assert!(!out.ports().contains(&UNDERLAY));
    // Nor are those for nodes at other hosts.
    let out = lab.one(UNDERLAY, &frames::FROM_1.around(&arp_request(NOBODY, R2.ip4)));
    assert!(!out.ports().contains(&UNDERLAY));
}

#[test]
fn an_answer_for_a_router_has_the_router_flag() {
    let mut lab = Lab::new();
    let ask = solicit(A.mac, A.ip6, R1.ip6);
    let plain = advert((A.mac, A.ip6), R1.mac, R1.ip6, 0x60);
    assert_eq!(lab.one(VM_A, &ask).only(VM_A), plain);
    // Its advertisement from the underlay is flooded; the control thread is notified, once.
    let body = frames::icmp6(R1.ip6, ALL_NODES, 134, &[0; 12]);
    let ra = frames::eth(
        ALL_NODES_MAC,
        R1.mac,
        frames::IPV6,
        &frames::ip6(R1.ip6, ALL_NODES, frames::ICMPV6, 0, 255, &body),
    );
    lab.one(UNDERLAY, &frames::FROM_1.around(&ra));
    let router = RouterSeen { bd: lab.net100, mac: R1.mac, ip: R1.ip6, router: true };
    assert_eq!(lab.exits.routers, [router]);
    lab.tables.set_router(lab.net100, R1.ip6, R1.mac, true);
    lab.publish();
    lab.one(UNDERLAY, &frames::FROM_1.around(&ra));
    assert_eq!(lab.exits.routers.len(), 1);
    let answer = advert((A.mac, A.ip6), R1.mac, R1.ip6, 0xe0);
    assert_eq!(lab.one(VM_A, &ask).only(VM_A), answer);
    // A new record of the same owner keeps the flag; another owner is no router.
    lab.tables.set_owner(lab.net100, R1.ip6.into(), R1.mac).unwrap();
    lab.publish();
    assert_eq!(lab.one(VM_A, &ask).only(VM_A), answer);
    lab.tables.set_owner(lab.net100, R1.ip6.into(), R2.mac).unwrap();
    lab.publish();
    let answer = advert((A.mac, A.ip6), R2.mac, R1.ip6, 0x60);
    assert_eq!(lab.one(VM_A, &ask).only(VM_A), answer);
}

/// The router flag of the last advertisement sent to A.
fn router_flag(lab: &mut Lab, target: Ipv6Addr) -> bool {
    let out = lab.one(VM_A, &solicit(A.mac, A.ip6, target));
    out.only(VM_A)[58] & 0x80 != 0
}

#[test]
fn an_answer_for_an_unknown_link_local_address_has_the_router_flag() {
    let mut lab = Lab::new();
    let default_route = R1.mac.link_local();
    lab.tables.set_owner(lab.net100, default_route.into(), R1.mac).unwrap();
    lab.publish();
    assert!(
        router_flag(&mut lab, default_route),
        "nothing is known of it: it may be somebody's default route"
    );
    assert!(!router_flag(&mut lab, R1.ip6), "no default route goes to a global address");
    lab.tables.set_router(lab.net100, default_route, R1.mac, false);
    assert!(!router_flag(&mut lab, default_route), "it has advertised that it is none");
    // Messages of another node have no effect.
    lab.tables.set_router(lab.net100, default_route, R2.mac, true);
    assert!(!router_flag(&mut lab, default_route));
    lab.tables.set_router(lab.net100, default_route, R1.mac, true);
    assert!(router_flag(&mut lab, default_route));
}

#[test]
fn a_stations_advertisements_set_its_router_flag() {
    let mut lab = Lab::new();
    let expected = |router| RouterSeen { bd: lab.net100, mac: S.mac, ip: S.ip6, router };
    let (yes, no) = (expected(true), expected(false));
    let advertise = |flags| advert((ALL_NODES_MAC, ALL_NODES), S.mac, S.ip6, flags);
    let body = frames::icmp6(S.ip6, ALL_NODES, 134, &[0; 12]);
    let l3 = frames::ip6(S.ip6, ALL_NODES, frames::ICMPV6, 0, 255, &body);
    let router_advert = frames::eth(ALL_NODES_MAC, S.mac, frames::IPV6, &l3);
    let messages =
        [(advertise(0x20), &no), (advertise(0xa0), &yes), (advertise(0x20), &no), (router_advert, &yes)];
    for (frame, expected) in messages {
        assert_eq!(lab.one(SEGMENT, &frame).sent.len(), 5, "and it goes on");
        assert_eq!(std::mem::take(&mut lab.exits.routers), std::slice::from_ref(expected));
        lab.tables.set_router(lab.net100, S.ip6, S.mac, expected.router);
        lab.one(SEGMENT, &frame);
        assert_eq!(lab.exits.routers, [], "known");
    }
}

#[test]
fn an_answer_to_a_probe_of_a_host_is_learned_and_dropped() {
    let mut lab = Lab::new();
    let prober = stopover_net::prober::mac(&stopover_net::HostName::new("gw-1").unwrap());
    let reply = arp(prober, 2, (S.mac, S.ip4), (prober, ANY4));
    let answer = advert((prober, prober.link_local()), S.mac, S.ip6, 0x60);
    for (frame, ip) in [(reply, IpAddr::V4(S.ip4)), (answer, IpAddr::V6(S.ip6))] {
        let out = lab.one(SEGMENT, &frame);
        let learned = Learn { port: SEGMENT, bd: lab.net100, vlan: 0, mac: S.mac, ip: Some(ip) };
        assert_eq!(out.learned, [learned], "although it is known");
        out.is_dropped(DropReason::Answered);
    }
}

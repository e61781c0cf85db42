//! Destinations: routes over several ports, changes of links and gateways, path MTU.

use super::*;

/// Two gateways on port 3.
fn gateways() -> Underlay {
    let mut config = port(3, 1, &["10.0.0.1/24"]);
    config.gateways = vec![ip("10.0.0.253"), ip("10.0.0.254")];
    up(vec![config])
}

fn answer(u: &mut Underlay, now_ms: u64, sender: &str, last: u8) -> Actions {
    u.input(now_ms, 3, &arp_reply_to_us(&port(0, last, &[]), sender))
}

#[test]
fn gateways_are_requested_before_any_destination() {
    let config = UnderlayPort { gateways: vec![ip("10.0.0.254")], ..port(3, 1, &["10.0.0.1/24"]) };
    let mut u = Underlay::new(vec![config.clone()]);
    assert_eq!(u.tick(0), Actions::default(), "not while the link is down");
    assert_eq!(u.next_tick(0), u64::MAX);
    let a = u.link(5_000, 3, true);
    let request = frames::arp_request(&config, None, v4("10.0.0.1"), v4("10.0.0.254"));
    assert!(a.send.contains(&(3, request)));
    answer(&mut u, 5_010, "10.0.0.254", 0xfe);
    let a = u.track(6_000, ip("198.51.100.1"), 4789);
    assert_eq!((a.resolved[0].1.dst_mac, a.send.len()), (mac(0xfe), 0));
    let row = &u.show(6_000)[0];
    assert!(row.router);
    assert_eq!((row.age_ms, row.used_by.clone()), (Some(990), vec![ip("198.51.100.1")]));
}

#[test]
fn a_failed_gateway_is_replaced_until_it_answers() {
    let mut u = gateways();
    answer(&mut u, 3_000, "10.0.0.253", 0xfd);
    answer(&mut u, 3_000, "10.0.0.254", 0xfe);
    let far = [ip("198.51.100.1"), ip("198.51.100.2")];
    for dst in far {
        assert_eq!(u.track(3_000, dst, 4789).resolved[0].1.dst_mac, mac(0xfd));
    }
    // Only the second answers the probes at 33 s.
    let mut log = run(&mut u, 3_000, 33_000);
    answer(&mut u, 33_010, "10.0.0.254", 0xfe);
    log.extend(run(&mut u, 33_010, 39_000));
    let changes: Vec<_> = log.iter().filter(|(_, a)| !a.resolved.is_empty() || !a.lost.is_empty()).collect();
    assert_eq!(changes.len(), 1);
    let (at, a) = changes[0];
    assert_eq!((*at, a.lost.len()), (39_000, 0), "moved without a gap");
    assert_eq!(
        a.resolved.iter().map(|(dst, r)| (*dst, r.dst_mac)).collect::<Vec<_>>(),
        far.map(|d| (d, mac(0xfe)))
    );

    let back = answer(&mut u, 50_000, "10.0.0.253", 0xfd);
    assert_eq!(back.resolved.iter().map(|(_, r)| r.dst_mac).collect::<Vec<_>>(), [mac(0xfd), mac(0xfd)]);
    assert_eq!(back.events, [Event::Reachable { port: 3, ip: ip("10.0.0.253"), mac: mac(0xfd) }]);
}

#[test]
fn destinations_follow_the_link_state_at_once() {
    let mut u = us();
    u.track(3_000, ip("10.0.0.2"), 4789);
    answer(&mut u, 3_000, "10.0.0.2", 2);
    assert_eq!(u.link(4_000, 3, false).lost, [ip("10.0.0.2")]);
    assert_eq!(run(&mut u, 4_000, 100_000), vec![], "silence while the link is down");
    assert_eq!(
        u.input(50_000, 3, &frames::arp_request(&peer(), None, v4("10.0.0.2"), v4("10.0.0.1"))).send,
        vec![]
    );
    let a = u.link(100_000, 3, true);
    assert_eq!(a.resolved[0].1.dst_mac, mac(2), "the known MAC is used while it is probed");
    let probe = frames::arp_request(&port(3, 1, &[]), Some(mac(2)), v4("10.0.0.1"), v4("10.0.0.2"));
    assert!(a.send.contains(&(3, probe)));
    assert_eq!(u.link(100_001, 3, true), Actions::default(), "reported twice");
}

#[test]
fn the_other_port_takes_over() {
    let mut second = port(8, 5, &["10.0.0.5/24"]);
    second.vlan = Some(VlanId::new(30).unwrap());
    second.mtu = 1500;
    let mut u = up(vec![port(3, 1, &["10.0.0.1/24"]), second.clone()]);
    u.track(3_000, ip("10.0.0.2"), 4789);
    answer(&mut u, 3_000, "10.0.0.2", 2);
    let a = u.link(4_000, 3, false);
    assert_eq!(a.lost, [ip("10.0.0.2")]);
    assert_eq!(a.send, vec![(8, frames::arp_request(&second, None, v4("10.0.0.5"), v4("10.0.0.2")))]);
    let tagged_peer = UnderlayPort { vlan: second.vlan, ..peer() };
    let reply = arp_reply(&tagged_peer, v4("10.0.0.2"), mac(5), v4("10.0.0.5"));
    let a = u.input(4_010, 8, &reply);
    let (vlan, src_ip) = (second.vlan, ip("10.0.0.5"));
    let resolution = Resolution { port: 8, src_mac: mac(5), dst_mac: mac(2), vlan, src_ip, mtu: 1500 };
    assert_eq!(a.resolved, [(ip("10.0.0.2"), resolution)]);
    let a = u.link(9_000, 3, true);
    assert_eq!((a.resolved.len(), a.lost.len()), (0, 0), "what works stays");
}

#[test]
fn no_route_is_reported_once() {
    let mut u = us();
    for dst in ["198.51.100.1", "10.0.0.1", "224.0.0.1", "::"] {
        assert_eq!(u.track(3_000, ip(dst), 4789).events, [Event::NoRoute { dst: ip(dst) }], "{dst}");
        assert_eq!(u.track(3_000, ip(dst), 4789), Actions::default());
    }
    assert_eq!(run(&mut u, 3_000, 100_000), vec![]);
}

#[test]
fn a_destination_is_tracked_until_its_last_udp_port_is_removed() {
    let mut u = us();
    u.track(3_000, ip("10.0.0.2"), 4789);
    assert_eq!(u.track(3_000, ip("10.0.0.2"), 8472), Actions::default());
    u.untrack(3_001, ip("10.0.0.2"), 4789);
    assert_eq!(u.show_destinations(3_001).len(), 1);
    u.untrack(3_001, ip("10.0.0.2"), 8472);
    u.untrack(3_001, ip("10.0.0.2"), 8472);
    assert_eq!((u.show_destinations(3_001).len(), u.show(3_001)[0].used_by.len()), (0, 0));
}

#[test]
fn path_mtu_is_lowered_and_expires() {
    let mut u = us();
    u.track(3_000, ip("10.0.0.2"), 4789);
    answer(&mut u, 3_000, "10.0.0.2", 2);
    let message = fragmentation_needed("10.0.0.1", "10.0.0.2", 4789, 1_550, 1_400);
    let a = u.input(4_000, 3, &message);
    assert_eq!(
        a.resolved.iter().map(|(dst, r)| (*dst, r.mtu)).collect::<Vec<_>>(),
        [(ip("10.0.0.2"), 1_400)]
    );
    assert_eq!(a.events, [Event::PathMtu { dst: ip("10.0.0.2"), mtu: 1_400 }]);
    assert_eq!(u.input(104_000, 3, &message), Actions::default(), "repeated: kept longer");
    assert_eq!(u.show_destinations(104_000)[0].path_mtu, Some((1_400, 600_000)));
    let raised = u.tick(704_000);
    assert_eq!(raised.resolved.iter().map(|(_, r)| r.mtu).collect::<Vec<_>>(), [1_600]);
    assert_eq!(count(&u, Outcome::PathMtuLowered), 2);
}

#[test]
fn path_mtu_has_a_floor() {
    let mut u = us();
    for (dst, sender) in [("10.0.0.2", "10.0.0.1"), ("fd00::2", "fd00::1")] {
        u.track(3_000, ip(dst), 4789);
        u.input(3_000, 3, &arp_reply_to_us(&peer(), "10.0.0.2"));
        u.input(3_000, 3, &frames::advert(&peer(), v6("fd00::2"), (mac(1), v6("fd00::1"))));
        let (message, floor) = match ip(dst) {
            IpAddr::V4(_) => (fragmentation_needed(sender, dst, 4789, 1_550, 68), 576),
            IpAddr::V6(_) => (packet_too_big(sender, dst, 4789, 1_550, 68), 1_280),
        };
        assert_eq!(u.input(3_000, 3, &message).resolved[0].1.mtu, floor, "{dst}");
    }
}

#[test]
fn an_old_router_reports_no_mtu() {
    let mut u = us();
    u.track(3_000, ip("10.0.0.2"), 4789);
    answer(&mut u, 3_000, "10.0.0.2", 2);
    let a = u.input(3_000, 3, &fragmentation_needed("10.0.0.1", "10.0.0.2", 4789, 1_550, 0));
    assert_eq!(a.resolved[0].1.mtu, 1_492);
}

#[test]
fn path_mtu_for_what_we_never_sent_is_refused() {
    let mut u = us();
    u.track(3_000, ip("10.0.0.2"), 4789);
    answer(&mut u, 3_000, "10.0.0.2", 2);
    let refused = [
        ("another destination", fragmentation_needed("10.0.0.1", "10.0.0.3", 4789, 1_550, 1_400)),
        ("another UDP port", fragmentation_needed("10.0.0.1", "10.0.0.2", 53, 1_550, 1_400)),
        ("it would have fitted", fragmentation_needed("10.0.0.1", "10.0.0.2", 4789, 1_400, 1_400)),
        ("longer than our port sends", fragmentation_needed("10.0.0.1", "10.0.0.2", 4789, 1_601, 1_400)),
        ("no reduction", fragmentation_needed("10.0.0.1", "10.0.0.2", 4789, 1_600, 1_599 + 2)),
        ("another family", packet_too_big("fd00::1", "fd00::2", 4789, 1_550, 1_400)),
    ];
    for (n, (why, message)) in refused.iter().enumerate() {
        assert_eq!(u.input(3_000, 3, message), Actions::default(), "{why}");
        assert_eq!(count(&u, Outcome::PathMtuRefused), n as u64 + 1, "{why}");
    }
}

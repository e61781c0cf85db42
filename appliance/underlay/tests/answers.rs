//! Answers to received frames, and frames without one.

use super::*;

#[test]
fn link_up_announces_and_probes_every_address() {
    let config = port(3, 1, &["10.0.0.1/24", "fd00::1/64"]);
    let mut u = Underlay::new(vec![config.clone()]);
    let link_local = config.link_local().unwrap();
    let first = u.link(1_000, 3, true).send;
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let expected = [
        frames::mld_report(&config, link_local, &config.groups()),
        frames::arp_request(&config, None, v4("0.0.0.0"), v4("10.0.0.1")),
        frames::announcement(&config, ip("10.0.0.1")),
        frames::solicit(&config, None, unspecified, v6("fd00::1")),
        frames::announcement(&config, ip("fd00::1")),
        frames::solicit(&config, None, unspecified, link_local),
        frames::announcement(&config, link_local.into()),
    ];
    assert_eq!(first, expected.map(|f| (3, f)));
    let log = run(&mut u, 1_001, 100_000);
    assert_eq!(log.iter().map(|(at, a)| (*at, a.send.len())).collect::<Vec<_>>(), [(2_000, 4), (3_000, 4)]);
}

#[test]
fn two_instances_find_and_ping_each_other() {
    let mut a = us();
    let mut b = up(vec![port(0, 2, &["10.0.0.2/24", "fd00::2/64"])]);
    for (dst, src) in [("10.0.0.2", "10.0.0.1"), ("fd00::2", "fd00::1")] {
        let question = a.track(10_000, ip(dst), 4789).send.remove(0).1;
        let answer = b.input(10_000, 0, &question).send.remove(0).1;
        assert_eq!(a.input(10_000, 3, &answer).resolved[0].1.dst_mac, mac(2), "{dst}");
        assert_eq!(b.track(10_000, ip(src), 4789).resolved[0].1.dst_mac, mac(1), "{src} was learned");
    }
}

#[test]
fn a_tagged_underlay_answers_tagged_and_only_its_own_vlan() {
    let vlan = |n| Some(VlanId::new(n).unwrap());
    let mut u = up(vec![UnderlayPort { vlan: vlan(30), ..port(3, 1, &["10.0.0.1/24"]) }]);
    let ask =
        |vlan| frames::arp_request(&UnderlayPort { vlan, ..peer() }, None, v4("10.0.0.2"), v4("10.0.0.1"));
    let answer = u.input(10_000, 3, &ask(vlan(30))).send.remove(0).1;
    assert_eq!(answer[12..18], [0x81, 0, 0, 30, 8, 6]);
    assert_eq!(u.input(10_000, 3, &ask(vlan(31))), Actions::default());
    assert_eq!(u.input(10_000, 3, &ask(None)), Actions::default());
    assert_eq!(count(&u, Outcome::WrongVlan), 2);
}

#[test]
fn a_priority_tag_is_no_vlan() {
    let mut u = us();
    let mut ask = frames::arp_request(&peer(), None, v4("10.0.0.2"), v4("10.0.0.1"));
    ask.splice(12..12, [0x81, 0, 0xe0, 0]);
    let answer = u.input(10_000, 3, &ask).send.remove(0).1;
    assert_eq!(answer[12..14], [8, 6], "answered untagged");
}

#[test]
fn a_gateway_outside_our_prefix_is_answered_but_not_learned() {
    let mut u = up(vec![port(3, 1, &["10.0.0.1/32"])]);
    let a = u.input(10_000, 3, &frames::arp_request(&peer(), None, v4("10.0.0.254"), v4("10.0.0.1")));
    assert_eq!(a.send.len(), 1);
    assert_eq!(u.show(10_000), vec![]);
}

#[test]
fn requests_for_others_are_not_answered() {
    let mut u = us();
    let others = [
        frames::arp_request(&peer(), None, v4("10.0.0.2"), v4("10.0.0.3")),
        frames::arp_request(&peer(), None, v4("0.0.0.0"), v4("10.0.0.2")),
        frames::announcement(&peer(), ip("10.0.0.2")),
        frames::announcement(&peer(), ip("fd00::2")),
        arp_reply_to_us(&peer(), "10.0.0.2"),
    ];
    for frame in &others {
        assert_eq!(u.input(10_000, 3, frame), Actions::default());
    }
    assert_eq!((count(&u, Outcome::NotForUs), u.show(0).len()), (5, 0));
    assert_eq!(u.input(10_000, 4, &others[0]), Actions::default(), "no underlay port");
}

#[test]
fn our_address_is_defended_once_in_ten_seconds() {
    let thief = port(0, 9, &["10.0.0.1/24", "fd00::1/64"]);
    for (own, own_ip) in [("10.0.0.1", ip("10.0.0.1")), ("fd00::1", ip("fd00::1"))] {
        let mut u = us();
        let claim = frames::announcement(&thief, own_ip);
        let a = u.input(10_000, 3, &claim);
        assert_eq!(a.events, [Event::Conflict { port: 3, ip: own_ip, mac: mac(9) }], "{own}");
        assert_eq!(a.send, vec![(3, frames::announcement(&port(3, 1, &[]), own_ip))]);
        assert_eq!(u.input(19_999, 3, &claim), Actions::default());
        assert_eq!(u.input(20_000, 3, &claim).events.len(), 1);
        assert_eq!(count(&u, Outcome::Conflict), 3);
    }
}

#[test]
fn probes_for_our_address_are_answered_every_time() {
    let mut u = us();
    let newcomer = port(0, 9, &[]);
    let probe = frames::arp_request(&newcomer, None, v4("0.0.0.0"), v4("10.0.0.1"));
    let answer = arp_reply(&port(3, 1, &[]), v4("10.0.0.1"), mac(9), v4("0.0.0.0"));
    assert!(u.input(10_000, 3, &probe).send.contains(&(3, answer.clone())));
    assert_eq!(u.input(10_100, 3, &probe).send, vec![(3, answer)]);

    let dad = frames::solicit(&newcomer, None, Ipv6Addr::UNSPECIFIED, v6("fd00::1"));
    let answer = frames::announcement(&port(3, 1, &[]), ip("fd00::1"));
    assert!(u.input(10_000, 3, &dad).send.contains(&(3, answer.clone())));
    assert_eq!(u.input(10_100, 3, &dad).send, vec![(3, answer)]);
    assert_eq!(u.show(0), vec![], "nobody is learned from a probe");
}

#[test]
fn our_own_frames_are_no_conflict() {
    let mut u = Underlay::new(vec![port(3, 1, &["10.0.0.1/24", "fd00::1/64"]), port(4, 7, &["10.0.0.7/24"])]);
    let mut echoes = u.link(0, 3, true).send;
    echoes.extend(u.link(0, 4, true).send);
    for (_, frame) in &echoes {
        assert_eq!(u.input(10, 3, frame).events, vec![]);
        assert_eq!(u.input(10, 4, frame).events, vec![]);
    }
}

#[test]
fn storms_are_answered_within_the_budget() {
    let mut u = us();
    let ask = frames::arp_request(&peer(), None, v4("10.0.0.2"), v4("10.0.0.1"));
    let answered: usize = (0..50_000u64).map(|n| u.input(10_000 + n / 50, 3, &ask).send.len()).sum();
    // The full bucket of 1000, and 1000 a second for the 999 ms the storm lasts.
    assert_eq!(answered, 1_999);
    assert_eq!(count(&u, Outcome::RateLimited), 50_000 - 1_999);
    let c = u.counters(3).unwrap();
    assert_eq!(c.received, c.rows().iter().skip(4).map(|(_, n)| n).sum::<u64>());
}

#[test]
fn log_lines_are_bounded() {
    let mut u = up(vec![port(3, 1, &["10.0.0.1/8"])]);
    for n in 0..300u32 {
        u.track(10_000, Ipv4Addr::from(0x0a01_0000 + n).into(), 4789);
    }
    let log = run(&mut u, 10_000, 16_000);
    let events: usize = log.iter().map(|(_, a)| a.events.len()).sum();
    assert_eq!(events as u64 + u.events_suppressed(), 300);
    assert!((100..=130).contains(&events), "{events}");
}

#[test]
fn events_have_readable_text() {
    let conflict = Event::Conflict { port: 3, ip: ip("10.0.0.1"), mac: mac(9) }.to_string();
    assert!(conflict.starts_with("address conflict: 52:54:00:00:00:09 uses our underlay address 10.0.0.1"));
    let no_route = Event::NoRoute { dst: ip("fd00::9") }.to_string();
    assert!(
        no_route.contains("fd00::9") && no_route.contains("expected a connected prefix, route or gateway")
    );
}

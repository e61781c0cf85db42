//! The states of a neighbour entry over time.

use super::*;

const GROUP: Mac = Mac::new([0x33, 0x33, 0xff, 0, 0, 2]);

#[test]
fn a_tracked_vtep_is_requested_quickly_then_slowly_without_end() {
    let mut u = us();
    let start = u.track(10_000, ip("10.0.0.2"), 4789);
    let broadcast = frames::arp_request(&port(3, 1, &[]), None, v4("10.0.0.1"), v4("10.0.0.2"));
    assert_eq!(start.send, vec![(3, broadcast)]);
    assert_eq!((start.resolved.len(), start.lost.len()), (0, 0));
    let log = run(&mut u, 10_001, 80_000);
    let times: Vec<_> = sends(&log).iter().map(|(at, _)| *at).collect();
    // Three within 0.4 s, three a second apart, then failed, then 2, 4, 8, 16, 30 s apart.
    assert_eq!(
        times,
        [10_200, 10_400, 10_600, 11_600, 12_600, 15_600, 17_600, 21_600, 29_600, 45_600, 75_600]
    );
    assert!(sends(&log).iter().all(|(_, to)| *to == Mac::BROADCAST));
    let events: Vec<_> = log.iter().flat_map(|(at, a)| a.events.iter().map(|e| (*at, *e))).collect();
    assert_eq!(events, [(13_600, Event::Unreachable { port: 3, ip: ip("10.0.0.2") })]);
    assert_eq!(state(&u, "10.0.0.2"), Some(State::Failed));

    let back = u.input(90_000, 3, &arp_reply_to_us(&peer(), "10.0.0.2"));
    assert_eq!(back.resolved.len(), 1);
    assert_eq!(back.events, [Event::Reachable { port: 3, ip: ip("10.0.0.2"), mac: mac(2) }]);
    assert_eq!(state(&u, "10.0.0.2"), Some(State::Reachable));
}

#[test]
fn an_answer_resolves_at_once() {
    let mut u = us();
    u.track(10_000, ip("10.0.0.2"), 4789);
    let a = u.input(10_001, 3, &arp_reply_to_us(&peer(), "10.0.0.2"));
    let resolution = Resolution {
        port: 3,
        src_mac: mac(1),
        dst_mac: mac(2),
        vlan: None,
        src_ip: ip("10.0.0.1"),
        mtu: 1600,
    };
    assert_eq!(a.resolved, [(ip("10.0.0.2"), resolution)]);
    assert_eq!(u.input(10_002, 3, &arp_reply_to_us(&peer(), "10.0.0.2")), Actions::default());
}

#[test]
fn what_a_predecessor_knew_is_used_before_any_answer() {
    let mut old = us();
    old.track(10_000, ip("10.0.0.2"), 4789);
    old.input(10_001, 3, &arp_reply_to_us(&peer(), "10.0.0.2"));
    let known: Vec<_> = old.known().collect();
    assert_eq!(known, [(3, ip("10.0.0.2"), mac(2))]);
    let mut new = Underlay::new(vec![port(3, 1, &["10.0.0.1/24"])]);
    new.inherit(0, 3, ip("10.0.0.2"), mac(2));
    new.inherit(0, 3, ip("10.9.0.2"), mac(9));
    new.inherit(0, 4, ip("10.0.0.3"), mac(3));
    assert_eq!(new.known().count(), 1, "the others are on no link of it");
    assert_eq!(new.track(0, ip("10.0.0.2"), 4789).resolved, [], "the link is down");
    let resolved = new.link(1, 3, true).resolved;
    assert_eq!(resolved.len(), 1);
    assert_eq!((resolved[0].0, resolved[0].1.dst_mac), (ip("10.0.0.2"), mac(2)));
    assert_eq!(state(&new, "10.0.0.2"), Some(State::Probe), "it is verified");
}

#[test]
fn the_mac_is_used_while_probed_and_dropped_after_six_probes() {
    let mut u = us();
    u.track(10_000, ip("10.0.0.2"), 4789);
    u.input(10_000, 3, &arp_reply_to_us(&peer(), "10.0.0.2"));
    let log = run(&mut u, 10_001, 47_000);
    let all = Mac::BROADCAST;
    let expected =
        [(40_000, mac(2)), (41_000, mac(2)), (42_000, mac(2)), (43_000, all), (44_000, all), (45_000, all)];
    assert_eq!(sends(&log), expected);
    let lost: Vec<_> =
        log.iter().filter(|(_, a)| !a.lost.is_empty()).map(|(at, a)| (*at, a.lost.clone())).collect();
    assert_eq!(lost, [(46_000, vec![ip("10.0.0.2")])]);
}

#[test]
fn a_confirmed_neighbour_costs_one_unicast_in_thirty_seconds() {
    let mut u = us();
    u.track(0, ip("fd00::2"), 4789);
    let answer = frames::advert(&peer(), v6("fd00::2"), (mac(1), v6("fd00::1")));
    assert_eq!(u.input(3_000, 3, &answer).resolved.len(), 1);
    let mut now_ms = 3_000;
    for _ in 0..50 {
        let log = run(&mut u, now_ms, now_ms + 30_000);
        assert_eq!(sends(&log), [(now_ms + 30_000, mac(2))]);
        assert_eq!(state(&u, "fd00::2"), Some(State::Probe));
        now_ms += 30_001;
        assert_eq!(u.input(now_ms, 3, &answer), Actions::default());
        assert_eq!(state(&u, "fd00::2"), Some(State::Reachable));
    }
}

#[test]
fn ipv6_asks_the_solicited_node_group() {
    let mut u = us();
    let a = u.track(10_000, ip("fd00::2"), 4789);
    assert_eq!(a.send, vec![(3, frames::solicit(&port(3, 1, &[]), None, v6("fd00::1"), v6("fd00::2")))]);
    assert_eq!(dst_mac(&a.send[0].1), GROUP);
}

#[test]
fn gratuitous_arp_moves_an_entry_but_makes_none() {
    let mut u = us();
    let moved = port(0, 9, &["10.0.0.2/24"]);
    let gratuitous = frames::announcement(&moved, ip("10.0.0.2"));
    assert_eq!(u.input(9_000, 3, &gratuitous), Actions::default());
    assert_eq!(u.show(9_000), vec![]);

    u.track(10_000, ip("10.0.0.2"), 4789);
    u.input(10_000, 3, &arp_reply_to_us(&peer(), "10.0.0.2"));
    let a = u.input(10_100, 3, &gratuitous);
    assert_eq!(a.resolved[0].1.dst_mac, mac(9));
    assert_eq!(a.events, [Event::Moved { port: 3, ip: ip("10.0.0.2"), old: mac(2), new: mac(9) }]);
    assert_eq!(state(&u, "10.0.0.2"), Some(State::Stale));
    // An unsolicited change is verified at the new MAC.
    assert_eq!(sends(&run(&mut u, 10_101, 15_100)), [(15_100, mac(9))]);
}

#[test]
fn fifty_moves_in_a_row_are_all_applied() {
    let mut u = us();
    u.track(10_000, ip("10.0.0.2"), 4789);
    for n in 0..50u8 {
        let at = 10_000 + u64::from(n) * 200;
        let a = u.input(at, 3, &frames::announcement(&port(0, 100 + n, &[]), ip("10.0.0.2")));
        assert_eq!(a.resolved[0].1.dst_mac, mac(100 + n));
    }
}

#[test]
fn of_two_that_answer_one_request_the_first_counts() {
    let mut u = us();
    u.track(10_000, ip("10.0.0.2"), 4789);
    u.input(10_010, 3, &arp_reply_to_us(&peer(), "10.0.0.2"));
    let second = u.input(10_020, 3, &arp_reply_to_us(&port(0, 9, &[]), "10.0.0.2"));
    assert_eq!(second, Actions::default());
    assert_eq!(state(&u, "10.0.0.2"), Some(State::Stale), "but it is verified soon");
    assert_eq!(u.show_destinations(0)[0].resolution.unwrap().dst_mac, mac(2));
    let later = u.input(11_010, 3, &arp_reply_to_us(&port(0, 9, &[]), "10.0.0.2"));
    assert_eq!(later.resolved[0].1.dst_mac, mac(9));
}

#[test]
fn static_neighbours_are_neither_requested_nor_changed() {
    let mut config = port(3, 1, &["10.0.0.1/24"]);
    config.neighbours = vec![(ip("10.0.0.2"), mac(0x77))];
    let mut u = up(vec![config]);
    let a = u.track(10_000, ip("10.0.0.2"), 4789);
    assert_eq!((a.send.len(), a.resolved[0].1.dst_mac), (0, mac(0x77)));
    let a = u.input(20_000, 3, &frames::announcement(&peer(), ip("10.0.0.2")));
    assert_eq!(a, Actions::default());
    assert_eq!(run(&mut u, 20_000, 1_000_000), vec![]);
    let row = &u.show(20_000)[0];
    assert_eq!((row.state, row.mac, row.age_ms, row.port), (State::Static, Some(mac(0x77)), None, 3));
    assert_eq!(row.used_by, vec![ip("10.0.0.2")]);
}

/// RFC 4861 appendix C, the rows for a received advertisement.
#[test]
fn advertisements_obey_the_override_flag() {
    let reachable = || {
        let mut u = us();
        u.track(10_000, ip("fd00::2"), 4789);
        u.input(10_000, 3, &frames::advert(&peer(), v6("fd00::2"), (mac(1), v6("fd00::1"))));
        u
    };
    let from = |last, solicited| {
        let speaker = port(0, last, &[]);
        if solicited {
            frames::advert(&speaker, v6("fd00::2"), (mac(1), v6("fd00::1")))
        } else {
            frames::announcement(&speaker, ip("fd00::2"))
        }
    };
    let mac_now = |u: &Underlay| u.show(0)[0].mac;

    let mut u = reachable();
    u.input(10_001, 3, &without_override(from(9, true)));
    assert_eq!((state(&u, "fd00::2"), mac_now(&u)), (Some(State::Stale), Some(mac(2))));
    u.input(10_002, 3, &without_override(from(9, true)));
    assert_eq!((state(&u, "fd00::2"), mac_now(&u)), (Some(State::Stale), Some(mac(2))));

    let mut u = reachable();
    u.input(10_001, 3, &from(9, true));
    assert_eq!((state(&u, "fd00::2"), mac_now(&u)), (Some(State::Reachable), Some(mac(9))));

    let mut u = reachable();
    u.input(10_001, 3, &from(9, false));
    assert_eq!((state(&u, "fd00::2"), mac_now(&u)), (Some(State::Stale), Some(mac(9))));

    let mut u = reachable();
    u.input(10_001, 3, &from(2, false));
    assert_eq!((state(&u, "fd00::2"), mac_now(&u)), (Some(State::Reachable), Some(mac(2))));

    let mut u = us();
    u.track(10_000, ip("fd00::2"), 4789);
    let a = u.input(10_001, 3, &from(2, false));
    assert_eq!((state(&u, "fd00::2"), a.resolved.len()), (Some(State::Stale), 1));
}

#[test]
fn a_requester_is_learned_and_needs_no_broadcast_later() {
    let mut u = us();
    u.input(10_000, 3, &frames::arp_request(&peer(), None, v4("10.0.0.2"), v4("10.0.0.1")));
    u.input(10_000, 3, &frames::solicit(&peer(), None, v6("fd00::2"), v6("fd00::1")));
    assert_eq!((state(&u, "10.0.0.2"), state(&u, "fd00::2")), (Some(State::Stale), Some(State::Stale)));
    for dst in ["10.0.0.2", "fd00::2"] {
        let a = u.track(10_100, ip(dst), 4789);
        assert_eq!(a.resolved[0].1.dst_mac, mac(2), "{dst}");
        assert_eq!(
            a.send.iter().map(|(_, f)| dst_mac(f)).collect::<Vec<_>>(),
            [mac(2)],
            "verified by unicast"
        );
    }
}

#[test]
fn unused_entries_are_removed() {
    let mut u = us();
    u.input(10_000, 3, &frames::arp_request(&peer(), None, v4("10.0.0.2"), v4("10.0.0.1")));
    u.track(10_000, ip("10.0.0.3"), 4789);
    run(&mut u, 10_000, 50_000);
    u.untrack(50_000, ip("10.0.0.3"), 4789);
    assert_eq!(run(&mut u, 50_000, 609_999), vec![]);
    assert_eq!((state(&u, "10.0.0.2"), state(&u, "10.0.0.3")), (Some(State::Stale), None));
    run(&mut u, 609_999, 610_000);
    assert_eq!(u.show(610_000), vec![]);
    assert_eq!(u.next_tick(610_000), u64::MAX);
}

#[test]
fn a_storm_of_requests_evicts_the_oldest_learned_and_no_tracked_vtep() {
    let mut u = up(vec![port(3, 1, &["10.0.0.1/8"])]);
    u.track(10_000, ip("10.0.0.2"), 4789);
    for n in 0..6_000u32 {
        let asker = Ipv4Addr::from(0x0a01_0000 + n);
        u.input(10_000 + u64::from(n), 3, &frames::arp_request(&peer(), None, asker, v4("10.0.0.1")));
    }
    run(&mut u, 16_000, 20_000);
    let rows = u.show(20_000);
    assert_eq!(rows.iter().filter(|r| r.used_by.is_empty()).count(), 4_096);
    assert_eq!(state(&u, "10.0.0.2"), Some(State::Failed));
    assert_eq!((state(&u, "10.1.0.0"), state(&u, "10.1.23.111")), (None, Some(State::Stale)));
    assert_eq!(u.counters(3).unwrap().evicted, 6_000 - 4_096);
}

#[test]
fn a_start_with_a_thousand_vteps_is_spread_over_time() {
    let mut u = up(vec![port(3, 1, &["10.0.0.1/8"])]);
    let mut sent = 0;
    for n in 0..1_000u32 {
        sent += u.track(10_000, Ipv4Addr::from(0x0a01_0000 + n).into(), 4789).send.len();
    }
    assert_eq!(sent, 256);
    let log = run(&mut u, 10_000, 10_199);
    assert!(log.iter().all(|(_, a)| a.send.len() <= 256));
    assert_eq!(sent + sends(&log).len(), 256 + 190);
    run(&mut u, 10_200, 12_000);
    let incomplete = u.show(12_000).iter().filter(|r| r.state == State::Incomplete).count();
    assert_eq!(incomplete, 1_000);
}

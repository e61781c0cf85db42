//! Changes of next hops while destinations are in use.

use super::*;

const FAR: &str = "198.51.100.1";

fn hops(gateways: &[&str], routes: &[(&str, &str)], neighbours: &[(&str, u8)]) -> NextHops {
    NextHops {
        gateways: gateways.iter().map(|g| ip(g)).collect(),
        routes: routes.iter().map(|(to, via)| Route { to: to.parse().unwrap(), via: ip(via) }).collect(),
        neighbours: neighbours.iter().map(|(n, last)| (ip(n), mac(*last))).collect(),
    }
}

/// A destination behind the gateway 10.0.0.253, resolved.
fn in_use() -> Underlay {
    let mut u = up(vec![UnderlayPort { gateways: vec![ip("10.0.0.253")], ..port(3, 1, &["10.0.0.1/24"]) }]);
    answer(&mut u, 3_000, "10.0.0.253", 0xfd);
    assert_eq!(macs(&u.track(3_000, ip(FAR), 4789)), [mac(0xfd)]);
    u
}

fn answer(u: &mut Underlay, now_ms: u64, sender: &str, last: u8) -> Actions {
    u.input(now_ms, 3, &arp_reply_to_us(&port(0, last, &[]), sender))
}

fn macs(a: &Actions) -> Vec<Mac> {
    a.resolved.iter().map(|(_, r)| r.dst_mac).collect()
}

#[test]
fn a_new_gateway_is_used_once_it_answers() {
    let mut u = in_use();
    let a = u.change_next_hops(4_000, 3, hops(&["10.0.0.254"], &[], &[]));
    assert_eq!((macs(&a), a.lost.len()), (vec![], 0), "the path of before stays");
    let request = frames::arp_request(&port(3, 1, &["10.0.0.1/24"]), None, v4("10.0.0.1"), v4("10.0.0.254"));
    assert_eq!(a.send, [(3, request)]);
    assert_eq!(u.resolved(ip(FAR)).unwrap().dst_mac, mac(0xfd));
    assert_eq!(macs(&answer(&mut u, 4_010, "10.0.0.254", 0xfe)), [mac(0xfe)]);
    let routers: Vec<_> = u.show(4_020).into_iter().filter(|row| row.router).map(|row| row.ip).collect();
    assert_eq!(routers, [ip("10.0.0.254")], "the old one is no router any more");
}

#[test]
fn a_gateway_that_never_answers_loses_the_destination() {
    let mut u = in_use();
    u.change_next_hops(4_000, 3, hops(&["10.0.0.254"], &[], &[]));
    let lost: Vec<_> = run(&mut u, 4_000, 20_000).into_iter().flat_map(|(_, a)| a.lost).collect();
    assert_eq!(lost, [ip(FAR)]);
    assert_eq!(u.resolved(ip(FAR)), None);
}

#[test]
fn without_a_route_the_destination_is_lost_and_comes_back() {
    let mut u = in_use();
    assert_eq!(u.change_next_hops(4_000, 3, NextHops::default()).lost, [ip(FAR)]);
    // The old gateway's MAC is still known.
    let a = u.change_next_hops(5_000, 3, hops(&[], &[("198.51.100.0/24", "10.0.0.253")], &[]));
    assert_eq!(macs(&a), [mac(0xfd)]);
}

#[test]
fn static_neighbours_come_and_go() {
    let mut u = in_use();
    let a = u.change_next_hops(4_000, 3, hops(&["10.0.0.253"], &[], &[("10.0.0.253", 0x77)]));
    assert_eq!((macs(&a), a.lost.len()), (vec![mac(0x77)], 0));
    assert_eq!(macs(&answer(&mut u, 4_010, "10.0.0.253", 0xfd)), [], "it is not changed by traffic");
    // No entry any more: the MAC is used until the neighbour answers with another.
    let a = u.change_next_hops(5_000, 3, hops(&["10.0.0.253"], &[], &[]));
    assert_eq!((macs(&a), a.lost.len(), a.send.len()), (vec![], 0, 1));
    assert_eq!(macs(&answer(&mut u, 5_010, "10.0.0.253", 0xfd)), [mac(0xfd)]);
}

#[test]
fn what_stays_is_not_touched() {
    let mut u = in_use();
    let same = hops(&["10.0.0.253"], &[], &[]);
    assert_eq!(u.change_next_hops(4_000, 3, same.clone()), Actions::default());
    assert_eq!(u.change_next_hops(4_000, 9, same), Actions::default(), "another port");
}

/// A destination behind a gateway of port 3; port 4 leads there, too.
fn with_second() -> Underlay {
    let mut u = in_use();
    u.add_port(UnderlayPort { gateways: vec![ip("10.1.0.254")], ..port(4, 2, &["10.1.0.1/24"]) });
    u.link(4_000, 4, true);
    u
}

/// A station on the link of port 4 answers.
fn answer_by_4(u: &mut Underlay, now_ms: u64, sender: &str) -> Vec<(IpAddr, usize)> {
    let reply = arp_reply(&port(0, 0x44, &[]), v4(sender), mac(2), v4("10.1.0.1"));
    u.input(now_ms, 4, &reply).resolved.into_iter().map(|(dst, to)| (dst, to.port)).collect()
}

#[test]
fn a_new_port_answers_before_it_is_used() {
    let near = "10.1.0.77";
    let mut u = with_second();
    let request = frames::arp_request(&port(9, 9, &[]), None, v4("10.1.0.9"), v4("10.1.0.1"));
    assert_eq!(u.input(4_010, 4, &request).send.len(), 1, "it answers");
    assert!(!u.has_route_beside(3, ip(FAR)), "no route of it is used");
    assert_eq!(
        macs(&u.track(4_020, ip(near), 4789)),
        [mac(0xfd)],
        "nor its link, but the gateway of the other"
    );

    u.use_port(4_030, 4, true);
    assert!(u.has_route_beside(3, ip(FAR)) && u.has_route_beside(4, ip(near)));
    assert_eq!(u.resolved(ip(near)).unwrap().port, 3, "until it answers");
    assert_eq!(answer_by_4(&mut u, 4_040, near), [(ip(near), 4)]);
    assert_eq!(u.resolved(ip(FAR)).unwrap().port, 3, "what works stays");
}

#[test]
fn a_port_that_goes_is_sent_by_until_another_works() {
    let mut u = with_second();
    u.use_port(4_030, 4, true);
    let a = u.use_port(4_100, 3, false);
    assert_eq!((macs(&a), a.lost.len()), (vec![], 0), "the path of before stays");
    assert!(u.is_sent_by(3) && !u.is_sent_by(4));
    assert_eq!(answer_by_4(&mut u, 4_110, "10.1.0.254"), [(ip(FAR), 4)]);
    assert!(!u.is_sent_by(3) && u.is_sent_by(4));
    assert_eq!(u.remove_port(4_200, 3), Actions::default());
    assert!(u.show(4_210).iter().all(|row| row.port == 4) && u.counters(3).is_none());
}

#[test]
fn a_port_that_was_to_go_is_used_again() {
    let mut u = with_second();
    u.use_port(4_030, 4, true);
    u.use_port(4_100, 3, false);
    let a = u.use_port(4_150, 3, true);
    assert_eq!((macs(&a), a.lost.len()), (vec![], 0));
    assert_eq!(u.resolved(ip(FAR)).unwrap().port, 3);
    assert_eq!(answer_by_4(&mut u, 4_160, "10.1.0.254"), [], "what works stays");
}

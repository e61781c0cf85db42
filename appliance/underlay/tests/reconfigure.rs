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

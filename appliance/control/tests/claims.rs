//! Claims of stations: which are sent to the board, and what follows when it accepts or refuses them.

use super::{
    stations::{OTHER_SEGMENT, SEGMENT, VIF, lab},
    *,
};
use stopover_bbs::model::Accepted;
use stopover_net::arp;

#[test]
fn address_of_a_remote_node_remains_until_the_board_moves_it() {
    let mut lab = lab();
    lab.apply(node(mac(9), 2, &["192.168.0.9"], &[]));
    let effects = lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.9")));
    assert_eq!(effects, [claim(mac(50), &["192.168.0.9"])]);
    assert_eq!(lab.owner("192.168.0.9"), Some(mac(9)), "no local spoof answers for it");
    assert_eq!(lab.refuse(mac(50)), [withdraw(mac(50))]);
    assert_eq!(lab.owner("192.168.0.9"), Some(mac(9)));

    // The owner's host is down: the board gives the address to us.
    lab.age(501);
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.9")));
    lab.apply(host(OWN, &["10.0.0.1"], 4789));
    lab.apply(node(mac(9), 2, &[], &["192.168.0.9"]));
    lab.apply(node(mac(50), OWN, &["192.168.0.9"], &[]));
    lab.accept(mac(50));
    assert_eq!(lab.owner("192.168.0.9"), Some(mac(50)));
}

#[test]
fn remote_node_is_claimed_and_added_once_the_board_accepts() {
    let mut lab = lab();
    lab.apply(node(mac(9), 2, &["192.168.0.9"], &[]));
    assert_eq!(lab.learn(SEGMENT, mac(9), Some(ip("192.168.0.9"))), [claim(mac(9), &["192.168.0.9"])]);
    assert_eq!(lab.location(mac(9)), Where::Host(2));
    assert_eq!(lab.learn(SEGMENT, mac(9), None), [], "once is enough");
    lab.accept(mac(9));
    assert_eq!((lab.location(mac(9)), lab.owner("192.168.0.9")), (Where::Port(SEGMENT), Some(mac(9))));
    // The board's record says the same.
    lab.apply(host(OWN, &["10.0.0.1"], 4789));
    lab.apply(node(mac(9), OWN, &["192.168.0.9"], &[]));
    assert_eq!(lab.location(mac(9)), Where::Port(SEGMENT));
    assert_eq!(lab.age(300_000), [withdraw(mac(9))]);
    assert_eq!(lab.location(mac(9)), Where::Nowhere, "nothing remains of its earlier location");
}

#[test]
fn refused_move_is_withdrawn_and_retried_with_backoff() {
    let mut lab = lab();
    lab.apply(node(mac(9), 2, &[], &[]));
    lab.learn(SEGMENT, mac(9), None);
    assert_eq!(lab.refuse(mac(9)), [withdraw(mac(9))]);
    assert_eq!(lab.location(mac(9)), Where::Host(2));
    // Soon, and then less and less often.
    for quiet_ms in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        lab.now_ms += quiet_ms - 1;
        assert_eq!(lab.learn(SEGMENT, mac(9), None), []);
        lab.now_ms += 1;
        assert_eq!(lab.learn(SEGMENT, mac(9), None), [claim(mac(9), &[])]);
        assert_eq!(lab.refuse(mac(9)), [withdraw(mac(9))]);
    }
    // At once, if no host has it at the board.
    lab.stations.allow_claim(lab.now_ms, lab.bds[0], mac(9));
    assert_eq!(lab.learn(SEGMENT, mac(9), None), [claim(mac(9), &[])]);
}

#[test]
fn station_seen_later_elsewhere_returns_only_by_later_frames() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    lab.apply(node(mac(50), 2, &["192.168.0.50"], &[]));
    let moved = lab.stations.node_moved(&mut lab.tables, lab.now_ms, vni(100), mac(50));
    let announcement = Effect::Send { port: SEGMENT, vlan: 0, frame: arp::build_rarp(mac(50)).to_vec() };
    let withdrawal = Effect::WithdrawUnlessLocal { vni: vni(100), mac: mac(50) };
    assert_eq!((moved, lab.location(mac(50))), (vec![withdrawal, announcement], Where::Host(2)));
    assert_eq!(lab.owner("192.168.0.50"), Some(mac(50)));
    // Frames still under way when it left.
    lab.now_ms += 99;
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50"))), []);
    // It is really back.
    lab.now_ms += 1;
    assert_eq!(lab.learn(SEGMENT, mac(50), None), [claim(mac(50), &[])]);
    let sent = lab.stations.to_claim(vni(100), mac(50), vec![]);
    assert!(sent.received && sent.facts.is_learned());
    // The board returns it with its addresses.
    let addresses = Accepted { ips: vec![ip("192.168.0.50")], refused: vec![] };
    lab.stations.accepted(&mut lab.tables, lab.now_ms, vni(100), mac(50), Some(addresses));
    assert_eq!((lab.location(mac(50)), lab.owner("192.168.0.50")), (Where::Port(SEGMENT), Some(mac(50))));
    assert_eq!(lab.stations.get(lab.bds[0], mac(50)).unwrap().ips, [ip("192.168.0.50")]);
}

#[test]
fn new_facts_are_claimed_once() {
    let mut lab = lab();
    let next_claim = |lab: &mut Lab, ips: &[&str]| {
        let claim = lab.stations.to_claim(vni(100), mac(50), ips.iter().map(|s| ip(s)).collect());
        (claim.received, claim.announced)
    };
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    assert_eq!(next_claim(&mut lab, &["192.168.0.50"]), (true, vec![ip("192.168.0.50")]));
    assert_eq!(next_claim(&mut lab, &["192.168.0.50"]), (false, vec![]));
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.51")));
    assert_eq!(next_claim(&mut lab, &["192.168.0.50", "192.168.0.51"]), (false, vec![ip("192.168.0.51")]));
    // It moves to another segment.
    lab.learn(OTHER_SEGMENT, mac(50), None);
    assert!(next_claim(&mut lab, &["192.168.0.50"]).0);
    // Declared ones precede learned ones, and addresses that they used are not declared.
    lab.learn(SEGMENT, mac(2), Some(ip("192.168.0.200")));
    let ips = vec![ip("192.168.0.2"), ip("192.168.0.200")];
    let claim = lab.stations.to_claim(vni(100), mac(2), ips);
    assert!(claim.received && !claim.facts.is_learned());
    assert_eq!((claim.used, claim.announced), (vec![ip("192.168.0.200")], vec![ip("192.168.0.200")]));
}

#[test]
fn address_announced_later_elsewhere_is_removed_and_the_node_remains() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.100")));
    lab.apply(node(mac(9), 2, &["192.168.0.100"], &[]));
    lab.stations.addresses_moved(&mut lab.tables, lab.now_ms, vni(100), mac(50), &[ip("192.168.0.100")]);
    assert_eq!((lab.location(mac(50)), lab.owner("192.168.0.100")), (Where::Port(SEGMENT), Some(mac(9))));
    assert_eq!(lab.stations.get(lab.bds[0], mac(50)).unwrap().ips, [ip("192.168.0.50")]);
    // Frames under way do not restore it; later ones do.
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.100"))), []);
    lab.now_ms += 100;
    let effect = claim(mac(50), &["192.168.0.50", "192.168.0.100"]);
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.100"))), [effect]);
    assert_eq!(lab.owner("192.168.0.100"), Some(mac(9)), "until the board accepts it");
    // If it does not, the node is still here.
    let addresses = Accepted { ips: vec![ip("192.168.0.50")], refused: vec!["held".into()] };
    lab.stations.accepted(&mut lab.tables, lab.now_ms, vni(100), mac(50), Some(addresses));
    assert_eq!((lab.location(mac(50)), lab.owner("192.168.0.100")), (Where::Port(SEGMENT), Some(mac(9))));
}

#[test]
fn refused_learned_station_is_replaced_by_the_registered_one() {
    let mut lab = lab();
    // Two appliances learned it at once; the other's claim was first, and its node reaches us before the refusal.
    lab.learn(SEGMENT, mac(9), Some(ip("192.168.0.9")));
    lab.apply(node(mac(9), 2, &["192.168.0.9"], &[]));
    assert_eq!(lab.location(mac(9)), Where::Port(SEGMENT));
    assert_eq!(lab.refuse(mac(9)), [withdraw(mac(9))]);
    assert_eq!((lab.location(mac(9)), lab.owner("192.168.0.9")), (Where::Host(2), Some(mac(9))));
}

#[test]
fn refused_declared_station_remains_and_is_shown() {
    let mut lab = lab();
    lab.apply(node(mac(1), 2, &["192.168.0.1"], &[]));
    lab.link(VIF, true);
    assert_eq!(lab.refuse(mac(1)), []);
    assert_eq!(lab.location(mac(1)), Where::Port(VIF));
    let bd = lab.bds[0];
    assert_eq!(lab.stations.get(bd, mac(1)).unwrap().refused.as_deref(), Some("elsewhere"));
    lab.accept(mac(1));
    assert_eq!(lab.stations.get(bd, mac(1)).unwrap().refused, None);
    // When it is down, it is at the other host, and is found there.
    lab.link(VIF, false);
    assert_eq!((lab.location(mac(1)), lab.owner("192.168.0.1")), (Where::Host(2), Some(mac(1))));
}

#[test]
fn claim_without_a_reply_is_withdrawn() {
    let mut lab = lab();
    lab.apply(node(mac(9), 2, &[], &[]));
    lab.learn(SEGMENT, mac(9), None);
    assert_eq!(lab.age(19_999), []);
    assert_eq!(lab.age(1), [withdraw(mac(9))]);
    assert_eq!(lab.age(100_000), []);
    lab.accept(mac(9));
    assert_eq!(lab.location(mac(9)), Where::Host(2), "too late");
}

#[test]
fn old_refusal_does_not_affect_a_new_station() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    assert_eq!(lab.refuse(mac(50)), [withdraw(mac(50))]);
    // It is seen again after the quiet time, at another port, and accepted this time.
    lab.now_ms += 10_000;
    lab.learn(OTHER_SEGMENT, mac(50), Some(ip("192.168.0.51")));
    lab.accept(mac(50));
    assert_eq!(lab.location(mac(50)), Where::Port(OTHER_SEGMENT));
    let station = lab.stations.get(lab.bds[0], mac(50)).unwrap();
    assert_eq!(station.ips, [ip("192.168.0.51")]);
}

#[test]
fn replies_about_unknown_stations_change_nothing() {
    let mut lab = lab();
    assert_eq!(lab.refuse(mac(77)), []);
    lab.accept(mac(77));
    let tables = &mut lab.tables;
    assert_eq!(lab.stations.refused(tables, 0, vni(999), mac(1), "no such network"), []);
    lab.stations.accepted(tables, 0, vni(999), mac(1), None);
    assert_eq!(lab.tables.nodes().count(), 1);
}

#[test]
fn refused_station_is_claimed_at_once_when_no_host_has_it() {
    let mut lab = lab();
    lab.apply(node(mac(9), 2, &[], &[]));
    lab.learn(SEGMENT, mac(9), None);
    lab.refuse(mac(9));
    lab.apply(Change::NodeGone { vni: vni(100), mac: mac(9), ips: vec![] });
    assert_eq!(lab.learn(SEGMENT, mac(9), None), [], "it does not know yet");
    let bd = lab.bds[0];
    lab.stations.allow_claim(lab.now_ms, bd, mac(9));
    assert_eq!(lab.learn(SEGMENT, mac(9), None), [claim(mac(9), &[])]);
    assert_eq!(lab.location(mac(9)), Where::Port(SEGMENT));
}

#[test]
fn removals_of_followed_stations_are_deferred() {
    let mut lab = lab();
    let (bd, station) = (lab.bds[0], mac(50));
    lab.learn(SEGMENT, station, Some(ip("192.168.0.50")));
    lab.stations.follow(bd, station);
    let removal = |why| Effect::Removal { bd, mac: station, why };
    assert_eq!(lab.refuse(station), [removal(Removal::Refused)]);
    assert_eq!(lab.age(300_000), [removal(Removal::Silent)]);
    assert_eq!(lab.link(SEGMENT, false), [withdraw(mac(2)), removal(Removal::PortDown)]);
    assert_eq!(lab.location(station), Where::Port(SEGMENT));
    // It was not marked as unconfirmed: it is claimed as before.
    lab.stations.unfollow(bd, station);
    assert_eq!(lab.age(300_000), [withdraw(station)]);
    assert_eq!(lab.location(station), Where::Nowhere);
}

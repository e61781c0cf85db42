//! Stations come, move and go; the board agrees or does not.

use super::*;
use crate::control::station_limits::{self, Limits, PortLimits};
use crate::pipeline::{RouterSeen, ports::Gate};
use stopover_bbs::model::Accepted;

const SEGMENT: u16 = 10;
const OTHER_SEGMENT: u16 = 11;
const VIF: u16 = 1;

fn lab() -> Lab {
    let addresses = ["192.168.0.1", "fd00::1"].map(ip);
    let mut lab = Lab::new(&[
        (0, mac(1), VIF, &addresses, Kind::Vif),
        (0, mac(2), SEGMENT, &[ip("192.168.0.2")], Kind::Static),
    ]);
    // Host 2 is another; the segments have a link, and the static station behind one is there with it.
    lab.apply(host(2, &["10.0.0.2"], 4789));
    assert_eq!(lab.link(SEGMENT, true), [claim(mac(2), &["192.168.0.2"])]);
    assert_eq!(lab.link(OTHER_SEGMENT, true), []);
    lab
}

#[test]
fn a_vif_is_here_while_its_port_is_up() {
    let mut lab = lab();
    assert_eq!(lab.location(mac(1)), Where::Nowhere);
    assert_eq!(lab.link(VIF, true), [claim(mac(1), &["192.168.0.1", "fd00::1"])]);
    assert_eq!(lab.location(mac(1)), Where::Port(VIF));
    assert_eq!((lab.owner("192.168.0.1"), lab.owner("fd00::1")), (Some(mac(1)), Some(mac(1))));
    assert_eq!(lab.age(1_000_000_000), [], "declared stations do not age");
    assert_eq!(lab.link(VIF, false), [withdraw(mac(1))]);
    assert_eq!((lab.location(mac(1)), lab.owner("192.168.0.1")), (Where::Nowhere, None));
    assert_eq!(lab.location(mac(2)), Where::Port(SEGMENT));
}

#[test]
fn a_segments_stations_are_learned_and_forgotten() {
    let mut lab = lab();
    assert_eq!(lab.learn(SEGMENT, mac(50), None), [claim(mac(50), &[])]);
    assert_eq!(lab.location(mac(50)), Where::Port(SEGMENT));
    assert_eq!(lab.learn(SEGMENT, mac(50), None), [], "nothing new");
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50"))), [claim(mac(50), &["192.168.0.50"])]);
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50"))), []);
    assert_eq!(
        lab.learn(SEGMENT, mac(50), Some(ip("fd00::50"))),
        [claim(mac(50), &["192.168.0.50", "fd00::50"])]
    );
    assert_eq!(lab.owner("fd00::50"), Some(mac(50)));
    assert_eq!(lab.age(299_999), []);
    assert_eq!(lab.age(1), [withdraw(mac(50))]);
    assert_eq!(
        (lab.location(mac(50)), lab.owner("192.168.0.50"), lab.owner("fd00::50")),
        (Where::Nowhere, None, None)
    );
}

#[test]
fn who_sends_does_not_age() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), None);
    let id = lab.stations.get(lab.bds[0], mac(50)).unwrap().id;
    for _ in 0..10 {
        lab.view.touch(id);
        assert_eq!(lab.age(299_999), []);
    }
    assert_eq!(lab.age(299_999), []);
    assert_eq!(lab.age(1), [withdraw(mac(50))]);
}

#[test]
fn a_first_frame_with_an_address_makes_one_claim() {
    let mut lab = lab();
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50"))), [claim(mac(50), &["192.168.0.50"])]);
    for useless in ["0.0.0.0", "255.255.255.255", "127.0.0.1", "224.0.0.1", "::", "::1", "ff02::1"] {
        assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip(useless))), [], "{useless}");
    }
}

#[test]
fn the_oldest_of_too_many_addresses_gives_way() {
    let mut lab = lab();
    for n in 0..16 {
        lab.learn(SEGMENT, mac(50), Some(IpAddr::from([10, 1, 0, n])));
    }
    let claim_updates = lab.learn(SEGMENT, mac(50), Some(ip("10.1.0.16")));
    let [ClaimUpdate::Claim { ips, .. }] = claim_updates.as_slice() else { panic!("{claim_updates:?}") };
    assert_eq!((ips.len(), ips[0], ips[15]), (16, ip("10.1.0.1"), ip("10.1.0.16")));
    assert_eq!((lab.owner("10.1.0.0"), lab.owner("10.1.0.16")), (None, Some(mac(50))));
}

#[test]
fn a_station_moves_between_ports_and_keeps_its_addresses() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    assert_eq!(lab.learn(OTHER_SEGMENT, mac(50), None), [claim(mac(50), &["192.168.0.50"])]);
    assert_eq!(
        (lab.location(mac(50)), lab.owner("192.168.0.50")),
        (Where::Port(OTHER_SEGMENT), Some(mac(50)))
    );
    assert_eq!(lab.link(SEGMENT, false), [withdraw(mac(2))]);
    assert_eq!(lab.location(mac(50)), Where::Port(OTHER_SEGMENT));
    assert_eq!(lab.link(OTHER_SEGMENT, false), [withdraw(mac(50))]);
}

#[test]
fn fifty_moves_in_a_row_are_all_believed() {
    let mut lab = lab();
    for n in 0..50 {
        let port = [SEGMENT, OTHER_SEGMENT][n % 2];
        lab.learn(port, mac(50), None);
        assert_eq!(lab.location(mac(50)), Where::Port(port));
    }
    assert_eq!(lab.tables.nodes().filter(|(_, m, _)| *m == mac(50)).count(), 1);
}

#[test]
fn what_is_declared_is_not_taken_away_by_hearsay() {
    let mut lab = lab();
    lab.link(VIF, true);
    assert_eq!(lab.learn(SEGMENT, mac(1), None), []);
    assert_eq!(lab.learn(OTHER_SEGMENT, mac(2), None), []);
    assert_eq!((lab.location(mac(1)), lab.location(mac(2))), (Where::Port(VIF), Where::Port(SEGMENT)));
    // Nor are addresses.
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.1"))), [claim(mac(50), &[])]);
    assert_eq!(lab.owner("192.168.0.1"), Some(mac(1)));
}

#[test]
fn an_address_moves_between_learned_stations() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    // The board takes an address of one node only: the first gives it up before the second claims it.
    assert_eq!(
        lab.learn(SEGMENT, mac(51), Some(ip("192.168.0.50"))),
        [claim(mac(50), &[]), claim(mac(51), &["192.168.0.50"])]
    );
    assert_eq!(lab.owner("192.168.0.50"), Some(mac(51)));
    assert_eq!(lab.learn(SEGMENT, mac(51), None), []);
    assert_eq!(lab.age(300_000).len(), 2);
    assert_eq!(lab.owner("192.168.0.50"), None);
}

#[test]
fn an_address_of_a_node_elsewhere_stays_with_it_until_the_board_gives_it_away() {
    let mut lab = lab();
    lab.apply(node(mac(9), 2, &["192.168.0.9"], &[]));
    let claim_updates = lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.9")));
    assert_eq!(claim_updates, [claim(mac(50), &["192.168.0.9"])]);
    assert_eq!(lab.owner("192.168.0.9"), Some(mac(9)), "no spoof of ours answers for it");
    assert_eq!(lab.refuse(mac(50)), [withdraw(mac(50))]);
    assert_eq!(lab.owner("192.168.0.9"), Some(mac(9)));

    // The holder's host is down: the board gives the address to us, and says so.
    lab.age(501);
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.9")));
    lab.apply(host(OWN, &["10.0.0.1"], 4789));
    lab.apply(node(mac(9), 2, &[], &["192.168.0.9"]));
    lab.apply(node(mac(50), OWN, &["192.168.0.9"], &[]));
    lab.accept(mac(50));
    assert_eq!(lab.owner("192.168.0.9"), Some(mac(50)));
}

#[test]
fn a_node_elsewhere_is_claimed_and_not_believed_before_the_board_agrees() {
    let mut lab = lab();
    lab.apply(node(mac(9), 2, &["192.168.0.9"], &[]));
    assert_eq!(lab.learn(SEGMENT, mac(9), Some(ip("192.168.0.9"))), [claim(mac(9), &["192.168.0.9"])]);
    assert_eq!(lab.location(mac(9)), Where::Host(2));
    assert_eq!(lab.learn(SEGMENT, mac(9), None), [], "once is enough");
    lab.accept(mac(9));
    assert_eq!((lab.location(mac(9)), lab.owner("192.168.0.9")), (Where::Port(SEGMENT), Some(mac(9))));
    // The board says the same in its own words.
    lab.apply(host(OWN, &["10.0.0.1"], 4789));
    lab.apply(node(mac(9), OWN, &["192.168.0.9"], &[]));
    assert_eq!(lab.location(mac(9)), Where::Port(SEGMENT));
    assert_eq!(lab.age(300_000), [withdraw(mac(9))]);
    assert_eq!(lab.location(mac(9)), Where::Nowhere, "nothing is left of where it was before");
}

#[test]
fn a_refused_move_is_withdrawn_and_tried_again_after_a_while() {
    let mut lab = lab();
    lab.apply(node(mac(9), 2, &[], &[]));
    lab.learn(SEGMENT, mac(9), None);
    assert_eq!(lab.refuse(mac(9)), [withdraw(mac(9))]);
    assert_eq!(lab.location(mac(9)), Where::Host(2));
    // Soon, and then ever more rarely.
    for quiet_ms in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        lab.now_ms += quiet_ms - 1;
        assert_eq!(lab.learn(SEGMENT, mac(9), None), []);
        lab.now_ms += 1;
        assert_eq!(lab.learn(SEGMENT, mac(9), None), [claim(mac(9), &[])]);
        assert_eq!(lab.refuse(mac(9)), [withdraw(mac(9))]);
    }
    // At once, if the board says that nobody has it.
    lab.stations.allow_claim(lab.now_ms, lab.bds[0], mac(9));
    assert_eq!(lab.learn(SEGMENT, mac(9), None), [claim(mac(9), &[])]);
}

#[test]
fn a_station_that_another_host_heard_later_is_there_and_comes_back_only_by_what_it_says_then() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    lab.apply(node(mac(50), 2, &["192.168.0.50"], &[]));
    let gone = lab.stations.node_moved(&mut lab.tables, lab.now_ms, vni(100), mac(50)).unwrap();
    assert_eq!((gone.port, lab.location(mac(50))), (SEGMENT, Where::Host(2)));
    assert_eq!(lab.owner("192.168.0.50"), Some(mac(50)));
    // Frames that were under way when it left.
    lab.now_ms += 99;
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50"))), []);
    // It is really back.
    lab.now_ms += 1;
    assert_eq!(lab.learn(SEGMENT, mac(50), None), [claim(mac(50), &[])]);
    let sent = lab.stations.to_claim(vni(100), mac(50), vec![]);
    assert!(sent.received && sent.facts.is_learned());
    // The board gives it back with the addresses it has.
    let addresses = Accepted { ips: vec![ip("192.168.0.50")], refused: vec![] };
    lab.stations.accepted(&mut lab.tables, lab.now_ms, vni(100), mac(50), Some(addresses));
    assert_eq!((lab.location(mac(50)), lab.owner("192.168.0.50")), (Where::Port(SEGMENT), Some(mac(50))));
    assert_eq!(lab.stations.get(lab.bds[0], mac(50)).unwrap().ips, [ip("192.168.0.50")]);
}

#[test]
fn a_declared_station_is_not_moved_by_hearsay() {
    let mut lab = lab();
    lab.link(VIF, true);
    assert!(lab.stations.node_moved(&mut lab.tables, 0, vni(100), mac(1)).is_none());
    assert_eq!(lab.location(mac(1)), Where::Port(VIF));
}

#[test]
fn the_board_is_told_what_was_just_heard_and_once() {
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
    // Declared ones go before what is learned, and what they were heard to use is not declared.
    lab.learn(SEGMENT, mac(2), Some(ip("192.168.0.200")));
    let ips = vec![ip("192.168.0.2"), ip("192.168.0.200")];
    let claim = lab.stations.to_claim(vni(100), mac(2), ips);
    assert!(claim.received && !claim.facts.is_learned());
    assert_eq!((claim.used, claim.announced), (vec![ip("192.168.0.200")], vec![ip("192.168.0.200")]));
}

#[test]
fn an_address_that_another_node_announced_later_is_given_up_and_the_node_stays() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.100")));
    lab.apply(node(mac(9), 2, &["192.168.0.100"], &[]));
    lab.stations.addresses_moved(&mut lab.tables, lab.now_ms, vni(100), mac(50), &[ip("192.168.0.100")]);
    assert_eq!((lab.location(mac(50)), lab.owner("192.168.0.100")), (Where::Port(SEGMENT), Some(mac(9))));
    assert_eq!(lab.stations.get(lab.bds[0], mac(50)).unwrap().ips, [ip("192.168.0.50")]);
    // What was under way does not bring it back; what it says then does.
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.100"))), []);
    lab.now_ms += 100;
    let claim_update = claim(mac(50), &["192.168.0.50", "192.168.0.100"]);
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.100"))), [claim_update]);
    assert_eq!(lab.owner("192.168.0.100"), Some(mac(9)), "until the board agrees");
    // If it does not, the node is still here.
    let addresses = Accepted { ips: vec![ip("192.168.0.50")], refused: vec!["held".into()] };
    lab.stations.accepted(&mut lab.tables, lab.now_ms, vni(100), mac(50), Some(addresses));
    assert_eq!((lab.location(mac(50)), lab.owner("192.168.0.100")), (Where::Port(SEGMENT), Some(mac(9))));
}

#[test]
fn a_shared_address_is_its_announcers() {
    let vip = ip("192.168.0.100");
    let mut lab = lab();
    let bd = lab.bds[0];
    let share = |n, port| Declared {
        bd,
        mac: mac(n),
        port,
        vlan: 0,
        ips: vec![],
        shared: vec![vip],
        kind: Kind::Vif,
    };
    let vnis = [(bd, vni(100))].into_iter().collect();
    lab.stations =
        Stations::new(vec![share(1, 1), share(3, 3)], vnis, [(SEGMENT, 300_000)].into_iter().collect());
    for port in [1, 3, SEGMENT] {
        lab.link(port, true);
    }
    assert_eq!(lab.owner("192.168.0.100"), None, "nobody has announced it");
    assert_eq!(lab.learn(1, mac(1), Some(vip)), [claim(mac(1), &["192.168.0.100"])]);
    let sent = lab.stations.to_claim(vni(100), mac(1), vec![vip]);
    assert_eq!((sent.shared, sent.announced), (vec![vip], vec![vip]));
    let migrations = [claim(mac(1), &[]), claim(mac(3), &["192.168.0.100"])];
    assert_eq!(lab.learn(3, mac(3), Some(vip)), migrations);
    assert_eq!(lab.owner("192.168.0.100"), Some(mac(3)));
    // Not for who does not share it.
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(vip)), [claim(mac(50), &[])]);
    assert_eq!(lab.owner("192.168.0.100"), Some(mac(3)));
}

#[test]
fn an_address_that_its_station_does_not_answer_for_is_given_up() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    lab.learn(SEGMENT, mac(50), Some(ip("fd00::50")));
    let id = lab.stations.get(lab.bds[0], mac(50)).unwrap().id;
    let mut asked = Vec::new();
    let mut claim_updates = Vec::new();
    // The station lives, and answers for one of its addresses.
    for _ in 0..700 {
        lab.view.touch(id);
        claim_updates.extend(lab.age(500));
        for probe in lab.stations.take_probes() {
            assert_eq!((probe.port, probe.mac), (SEGMENT, mac(50)));
            if probe.ip == ip("fd00::50") {
                assert_eq!(lab.learn(SEGMENT, mac(50), Some(probe.ip)), []);
            }
            asked.push(probe.ip);
        }
    }
    assert_eq!(asked.iter().filter(|asked| **asked == ip("192.168.0.50")).count(), 3);
    assert_eq!(asked.iter().filter(|asked| **asked == ip("fd00::50")).count(), 1);
    assert_eq!(claim_updates, [claim(mac(50), &["fd00::50"])]);
    assert_eq!((lab.owner("192.168.0.50"), lab.owner("fd00::50")), (None, Some(mac(50))));
}

#[test]
fn a_renumbered_stations_old_address_is_given_up_at_once_and_a_second_one_is_not() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.51")));
    lab.learn(SEGMENT, mac(51), Some(ip("192.168.0.60")));
    lab.learn(SEGMENT, mac(51), Some(ip("192.168.0.61")));
    let mut claim_updates = Vec::new();
    for _ in 0..10 {
        claim_updates.extend(lab.age(500));
        for probe in lab.stations.take_probes() {
            if probe.mac == mac(51) {
                lab.learn(SEGMENT, mac(51), Some(probe.ip));
            }
        }
    }
    assert_eq!(claim_updates, [claim(mac(50), &["192.168.0.51"])]);
    assert_eq!((lab.owner("192.168.0.50"), lab.owner("192.168.0.60")), (None, Some(mac(51))));
}

#[test]
fn a_router_is_known_before_and_after_it_is_a_station() {
    let mut lab = lab();
    let bd = lab.bds[0];
    let seen = |router| RouterSeen { bd, mac: mac(50), ip: "fe80::50".parse().unwrap(), router };
    let local = "fe80::50".parse().unwrap();
    assert_eq!(lab.stations.router(&mut lab.tables, &seen(true)), None);
    lab.learn(SEGMENT, mac(50), Some(ip("fe80::50")));
    assert_eq!(lab.stations.to_claim(vni(100), mac(50), vec![]).facts.router, Some(true));
    let claim_update = lab.stations.router(&mut lab.tables, &seen(false));
    assert_eq!(claim_update, Some(claim(mac(50), &["fe80::50"])));
    assert_eq!(lab.tables.router(bd, local), Some(false));
    assert_eq!(lab.stations.router(&mut lab.tables, &seen(false)), None, "known");
    // Of a node elsewhere, and of one of ours that its appliance has not heard yet, the board says so.
    let mut change = |host_id, last: u8, router| {
        let Change::NodePut { mut node, gone_ips } = node(mac(last), host_id, &["fe80::50"], &[]) else {
            panic!()
        };
        node.facts.router = router;
        lab.apply(Change::NodePut { node, gone_ips });
        lab.tables.router(bd, local)
    };
    assert_eq!(change(2, 9, Some(true)), Some(true));
    assert_eq!(change(2, 9, None), Some(true), "as it was known");
    assert_eq!(change(2, 9, Some(false)), Some(false));
}

#[test]
fn a_learned_station_that_the_board_refuses_gives_way_to_the_registered_one() {
    let mut lab = lab();
    // Two appliances heard it at once; the other's claim was first, and its node reaches us before the refusal.
    lab.learn(SEGMENT, mac(9), Some(ip("192.168.0.9")));
    lab.apply(node(mac(9), 2, &["192.168.0.9"], &[]));
    assert_eq!(lab.location(mac(9)), Where::Port(SEGMENT));
    assert_eq!(lab.refuse(mac(9)), [withdraw(mac(9))]);
    assert_eq!((lab.location(mac(9)), lab.owner("192.168.0.9")), (Where::Host(2), Some(mac(9))));
}

#[test]
fn a_declared_station_stays_when_refused_and_the_operator_is_told() {
    let mut lab = lab();
    lab.apply(node(mac(1), 2, &["192.168.0.1"], &[]));
    lab.link(VIF, true);
    assert_eq!(lab.refuse(mac(1)), []);
    assert_eq!(lab.location(mac(1)), Where::Port(VIF));
    let bd = lab.bds[0];
    assert_eq!(lab.stations.get(bd, mac(1)).unwrap().refused.as_deref(), Some("elsewhere"));
    lab.accept(mac(1));
    assert_eq!(lab.stations.get(bd, mac(1)).unwrap().refused, None);
    // If it goes, it is where the board says, and is found there.
    lab.link(VIF, false);
    assert_eq!((lab.location(mac(1)), lab.owner("192.168.0.1")), (Where::Host(2), Some(mac(1))));
}

#[test]
fn a_claim_that_is_never_answered_is_given_up() {
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
fn an_old_doubt_says_nothing_about_a_station_that_is_here() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    assert_eq!(lab.refuse(mac(50)), [withdraw(mac(50))]);
    // It is heard again after the quiet time, at another port, and accepted this time.
    lab.now_ms += 10_000;
    lab.learn(OTHER_SEGMENT, mac(50), Some(ip("192.168.0.51")));
    lab.accept(mac(50));
    assert_eq!(lab.location(mac(50)), Where::Port(OTHER_SEGMENT));
    let station = lab.stations.get(lab.bds[0], mac(50)).unwrap();
    assert_eq!(station.ips, [ip("192.168.0.51")]);
}

#[test]
fn nothing_is_heard_behind_a_port_without_a_link() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), None);
    lab.apply(node(mac(9), 2, &[], &[]));
    lab.learn(SEGMENT, mac(9), None);
    let mut claim_updates = lab.link(SEGMENT, false);
    claim_updates.sort_by_key(|claim_update| format!("{claim_update:?}"));
    assert_eq!(claim_updates, [withdraw(mac(2)), withdraw(mac(9)), withdraw(mac(50))]);
    // What the ring still held, and an answer under way, come too late.
    assert_eq!(lab.learn(SEGMENT, mac(51), None), []);
    lab.accept(mac(9));
    assert_eq!((lab.location(mac(51)), lab.location(mac(9))), (Where::Nowhere, Where::Host(2)));
}

#[test]
fn answers_about_nobody_change_nothing() {
    let mut lab = lab();
    assert_eq!(lab.refuse(mac(77)), []);
    lab.accept(mac(77));
    let tables = &mut lab.tables;
    assert_eq!(lab.stations.refused(tables, 0, vni(999), mac(1), "no such network"), []);
    lab.stations.accepted(tables, 0, vni(999), mac(1), None);
    assert_eq!(lab.tables.nodes().count(), 1);
}

#[test]
fn a_declared_station_replaces_what_was_learned_of_it() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(1), Some(ip("192.168.0.77")));
    assert_eq!(lab.location(mac(1)), Where::Port(SEGMENT));
    assert_eq!(lab.link(VIF, true), [claim(mac(1), &["192.168.0.1", "fd00::1"])]);
    assert_eq!((lab.location(mac(1)), lab.owner("192.168.0.77")), (Where::Port(VIF), None));
}

#[test]
fn a_vif_keeps_what_it_is_declared_with_and_adds_what_it_chose() {
    let mut lab = lab();
    assert_eq!(lab.learn(VIF, mac(1), Some(ip("fe80::99"))), [], "not while its port is down");
    lab.link(VIF, true);
    let chosen = ["192.168.0.1", "fd00::1", "fe80::99"];
    assert_eq!(lab.learn(VIF, mac(1), Some(ip("fe80::99"))), [claim(mac(1), &chosen)]);
    assert_eq!(lab.owner("fe80::99"), Some(mac(1)));
    assert_eq!(lab.learn(VIF, mac(1), Some(ip("fe80::99"))), []);
    // There is one station behind a vif.
    assert_eq!(lab.learn(VIF, mac(9), Some(ip("fe80::9"))), []);
    assert_eq!((lab.location(mac(9)), lab.owner("fe80::9")), (Where::Nowhere, None));
    // Sixteen are the most that the board takes, and what is declared does not give way.
    for n in 0..40 {
        lab.learn(VIF, mac(1), Some(ip(&format!("fe80::1:{n}"))));
    }
    let station = lab.stations.get(lab.bds[0], mac(1)).unwrap();
    assert_eq!((station.ips.len(), &station.ips[..3]), (16, &chosen.map(ip)[..]));
    assert_eq!((lab.owner("192.168.0.1"), lab.owner("fe80::1:39")), (Some(mac(1)), None));
    lab.link(VIF, false);
    assert_eq!((lab.owner("192.168.0.1"), lab.owner("fe80::99")), (None, None));
}

#[test]
fn a_tenant_with_random_macs_fills_its_own_share_only() {
    let mut lab = lab();
    let gates = [SEGMENT, OTHER_SEGMENT].map(|port| (port, std::sync::Arc::<Gate>::default()));
    let limits = |gate: &std::sync::Arc<Gate>| PortLimits {
        max_stations: 100,
        new_per_s: 1000,
        gate: std::sync::Arc::clone(gate),
        networks: vec![(0, lab.bds[0])],
    };
    let ports = gates.iter().map(|(port, gate)| (*port, limits(gate))).collect();
    lab.stations = std::mem::take(&mut lab.stations).limited(Limits { per_network: 150, ports });
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    lab.apply(node(mac(60), 2, &[], &[]));
    let random = |n: u64| Mac::from_u64(0x0200_0000_0000 + n);
    let claims: usize = (0..10_000).map(|n| lab.learn(SEGMENT, random(n), None).len()).sum();
    assert_eq!((claims, lab.stations.learned_at(SEGMENT)), (99, 100));
    assert!(gates[0].1.is_closed(0) && !gates[1].1.is_closed(0));
    assert_eq!(lab.learn(SEGMENT, mac(60), None), [], "nor a claim for what is at another host");
    // Who was there before goes on as ever.
    assert_eq!(
        lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.51"))),
        [claim(mac(50), &["192.168.0.50", "192.168.0.51"])]
    );
    // The other port has its own share, until the network's is spent.
    let claims: usize = (20_000..21_000).map(|n| lab.learn(OTHER_SEGMENT, random(n), None).len()).sum();
    assert_eq!((claims, lab.stations.learned_at(OTHER_SEGMENT)), (50, 50));
    assert!(gates[1].1.is_closed(0));
    // Silence makes room.
    lab.age(299_999);
    lab.age(1);
    assert_eq!((lab.stations.learned_at(SEGMENT), lab.stations.learned_at(OTHER_SEGMENT)), (0, 0));
    assert!(!gates[0].1.is_closed(0) && !gates[1].1.is_closed(0));
    assert_eq!(lab.learn(SEGMENT, random(1), None).len(), 1);
}

#[test]
fn a_known_station_announces_new_addresses_at_a_rate() {
    let mut lab = lab();
    let limits = PortLimits {
        max_stations: 100,
        new_per_s: 50,
        gate: std::sync::Arc::default(),
        networks: vec![(0, lab.bds[0])],
    };
    let ports = [(SEGMENT, limits)].into_iter().collect();
    lab.stations = std::mem::take(&mut lab.stations).limited(Limits { per_network: 0, ports });
    let flood = |lab: &mut Lab, from: u32| -> usize {
        (from..from + 1_000)
            .map(|n| lab.learn(SEGMENT, mac(50), Some(IpAddr::V4((0x0a00_0000 + n).into()))).len())
            .sum()
    };
    lab.learn(SEGMENT, mac(50), None);
    assert_eq!(flood(&mut lab, 1), 100, "as many as in a second at once");
    assert_eq!(lab.stations.refused_addresses(SEGMENT), 900);
    assert_eq!(lab.stations.take_full(lab.now_ms), [station_limits::Full::Addresses(SEGMENT)]);
    // What it is known by costs nothing, and others' ports have their own rate.
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("10.0.0.100"))), []);
    assert_eq!(lab.stations.refused_addresses(SEGMENT), 900);
    assert_eq!(lab.learn(OTHER_SEGMENT, mac(51), Some(ip("10.9.0.1"))).len(), 1);
    lab.now_ms += 500;
    assert_eq!(flood(&mut lab, 2_000), 50);
}

#[test]
fn whether_a_followed_station_goes_is_decided_elsewhere() {
    let mut lab = lab();
    let (bd, station) = (lab.bds[0], mac(50));
    lab.learn(SEGMENT, station, Some(ip("192.168.0.50")));
    lab.stations.follow(bd, station);
    assert_eq!(lab.refuse(station), []);
    assert_eq!(lab.age(300_000), []);
    assert_eq!(lab.link(SEGMENT, false), [withdraw(mac(2))]);
    let gone = [Removal::Refused, Removal::Silent, Removal::PortDown].map(|why| (bd, station, why));
    assert_eq!(lab.stations.take_removals(), gone);
    assert_eq!((lab.location(station), lab.stations.take_removals()), (Where::Port(SEGMENT), vec![]));
    // It was not doubted either: it is claimed as it was.
    lab.stations.unfollow(bd, station);
    assert_eq!(lab.age(300_000), [withdraw(station)]);
    assert_eq!(lab.location(station), Where::Nowhere);
}

#[test]
fn a_refused_station_is_claimed_at_once_when_nobody_has_it() {
    let mut lab = lab();
    lab.apply(node(mac(9), 2, &[], &[]));
    lab.learn(SEGMENT, mac(9), None);
    lab.refuse(mac(9));
    lab.apply(Change::NodeGone { vni: vni(100), mac: mac(9), ips: vec![] });
    assert_eq!(lab.learn(SEGMENT, mac(9), None), [], "it has not been told");
    let bd = lab.bds[0];
    lab.stations.allow_claim(lab.now_ms, bd, mac(9));
    assert_eq!(lab.learn(SEGMENT, mac(9), None), [claim(mac(9), &[])]);
    assert_eq!(lab.location(mac(9)), Where::Port(SEGMENT));
}

#[test]
fn a_blocked_segment_has_no_stations() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    lab.learn(OTHER_SEGMENT, mac(51), None);
    let block = |lab: &mut Lab, on| lab.stations.block(&mut lab.tables, lab.now_ms, SEGMENT, 0, on);
    let mut claim_updates = block(&mut lab, true);
    claim_updates.sort_by_key(|claim_update| format!("{claim_update:?}"));
    assert_eq!(claim_updates, [withdraw(mac(2)), withdraw(mac(50))], "the declared one too");
    assert_eq!((lab.location(mac(50)), lab.location(mac(51))), (Where::Nowhere, Where::Port(OTHER_SEGMENT)));
    assert_eq!(lab.learn(SEGMENT, mac(50), None), []);
    // Its link may go and come: it is blocked all the same.
    lab.link(SEGMENT, false);
    assert_eq!(lab.link(SEGMENT, true), []);
    // Who forwards for the LAN makes them known.
    lab.apply(node(mac(50), 2, &[], &[]));
    assert_eq!(lab.location(mac(50)), Where::Host(2));
    assert_eq!(block(&mut lab, false), [claim(mac(2), &["192.168.0.2"])]);
    assert_eq!(lab.learn(SEGMENT, mac(52), None), [claim(mac(52), &[])]);
}

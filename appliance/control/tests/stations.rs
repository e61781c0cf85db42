//! Stations are learned, move and age; ports lose their links, limits apply.

use super::*;
use crate::control::station_limits::{Limits, PortLimits};
use crate::pipeline::{RouterSeen, ports::Gate};

pub(super) const SEGMENT: u16 = 10;
pub(super) const OTHER_SEGMENT: u16 = 11;
pub(super) const VIF: u16 = 1;

pub(super) fn lab() -> Lab {
    let addresses = ["192.168.0.1", "fd00::1"].map(ip);
    let mut lab = Lab::new(&[
        (0, mac(1), VIF, &addresses, Kind::Vif),
        (0, mac(2), SEGMENT, &[ip("192.168.0.2")], Kind::Static),
    ]);
    // Host 2 is another host; the segments have a link, and the static station behind one is up with it.
    lab.apply(host(2, &["10.0.0.2"], 4789));
    assert_eq!(lab.link(SEGMENT, true), [claim(mac(2), &["192.168.0.2"])]);
    assert_eq!(lab.link(OTHER_SEGMENT, true), []);
    lab
}

#[test]
fn vif_is_local_while_its_port_is_up() {
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
fn segment_stations_are_learned_and_aged() {
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
fn stations_are_due_only_while_one_may_become_silent() {
    let mut lab = lab();
    assert_eq!(lab.stations.next_timeout(), None, "declared stations do not age");
    lab.learn(SEGMENT, mac(50), None);
    let tick = |lab: &mut Lab, now_ms| lab.stations.tick(&mut lab.tables, now_ms);
    assert_eq!(tick(&mut lab, 2_000), []);
    assert_eq!(lab.stations.next_timeout(), Some(2_500));
    assert_eq!(tick(&mut lab, 2_499), []);
    assert_eq!(lab.stations.next_timeout(), Some(2_500), "early ticks change nothing");
    assert_eq!(tick(&mut lab, 301_000), [withdraw(mac(50))]);
    assert_eq!(lab.stations.next_timeout(), None);
    // A claim whose answer is waited for.
    lab.apply(node(mac(9), 2, &[], &[]));
    lab.learn(SEGMENT, mac(9), None);
    assert_eq!(lab.stations.next_timeout(), Some(301_500));
}

#[test]
fn sending_station_does_not_age() {
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
fn first_frame_with_an_address_makes_one_claim() {
    let mut lab = lab();
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50"))), [claim(mac(50), &["192.168.0.50"])]);
    for useless in ["0.0.0.0", "255.255.255.255", "127.0.0.1", "224.0.0.1", "::", "::1", "ff02::1"] {
        assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip(useless))), [], "{useless}");
    }
}

#[test]
fn oldest_of_too_many_addresses_is_replaced() {
    let mut lab = lab();
    for n in 0..16 {
        lab.learn(SEGMENT, mac(50), Some(IpAddr::from([10, 1, 0, n])));
    }
    let effects = lab.learn(SEGMENT, mac(50), Some(ip("10.1.0.16")));
    let [Effect::Claim { ips, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((ips.len(), ips[0], ips[15]), (16, ip("10.1.0.1"), ip("10.1.0.16")));
    assert_eq!((lab.owner("10.1.0.0"), lab.owner("10.1.0.16")), (None, Some(mac(50))));
}

#[test]
fn station_moves_between_ports_with_its_addresses() {
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
fn fifty_moves_in_a_row_are_all_accepted() {
    let mut lab = lab();
    for n in 0..50 {
        let port = [SEGMENT, OTHER_SEGMENT][n % 2];
        lab.learn(port, mac(50), None);
        assert_eq!(lab.location(mac(50)), Where::Port(port));
    }
    assert_eq!(lab.tables.nodes().filter(|(_, m, _)| *m == mac(50)).count(), 1);
}

#[test]
fn declared_stations_and_addresses_do_not_move_by_a_frame() {
    let mut lab = lab();
    lab.link(VIF, true);
    assert_eq!(lab.learn(SEGMENT, mac(1), None), []);
    assert_eq!(lab.learn(OTHER_SEGMENT, mac(2), None), []);
    assert_eq!((lab.location(mac(1)), lab.location(mac(2))), (Where::Port(VIF), Where::Port(SEGMENT)));
    // Addresses do not move either.
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.1"))), [claim(mac(50), &[])]);
    assert_eq!(lab.owner("192.168.0.1"), Some(mac(1)));
}

#[test]
fn address_moves_between_learned_stations() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    // The board accepts an address for one node only: the first station loses it before the second claims it.
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
fn declared_station_does_not_move_to_another_host() {
    let mut lab = lab();
    lab.link(VIF, true);
    let effects = lab.stations.node_moved(&mut lab.tables, 0, vni(100), mac(1));
    assert_eq!(effects, [Effect::WithdrawUnlessLocal { vni: vni(100), mac: mac(1) }]);
    assert_eq!(lab.location(mac(1)), Where::Port(VIF));
}

#[test]
fn shared_address_belongs_to_its_last_announcer() {
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
    assert_eq!(lab.owner("192.168.0.100"), None, "none has announced it");
    assert_eq!(lab.learn(1, mac(1), Some(vip)), [claim(mac(1), &["192.168.0.100"])]);
    let sent = lab.stations.to_claim(vni(100), mac(1), vec![vip]);
    assert_eq!((sent.shared, sent.announced), (vec![vip], vec![vip]));
    let migrations = [claim(mac(1), &[]), claim(mac(3), &["192.168.0.100"])];
    assert_eq!(lab.learn(3, mac(3), Some(vip)), migrations);
    assert_eq!(lab.owner("192.168.0.100"), Some(mac(3)));
    // Not for a station that does not share it.
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(vip)), [claim(mac(50), &[])]);
    assert_eq!(lab.owner("192.168.0.100"), Some(mac(3)));
}

#[test]
fn address_without_answers_is_removed() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    lab.learn(SEGMENT, mac(50), Some(ip("fd00::50")));
    let id = lab.stations.get(lab.bds[0], mac(50)).unwrap().id;
    let mut probed = Vec::new();
    let mut effects = Vec::new();
    // The station is up, and answers for one of its addresses.
    for _ in 0..700 {
        lab.view.touch(id);
        for effect in lab.age(500) {
            let Effect::Probe(probe) = effect else {
                effects.push(effect);
                continue;
            };
            assert_eq!((probe.port, probe.mac), (SEGMENT, mac(50)));
            if probe.ip == ip("fd00::50") {
                assert_eq!(lab.learn(SEGMENT, mac(50), Some(probe.ip)), []);
            }
            probed.push(probe.ip);
        }
    }
    assert_eq!(probed.iter().filter(|ip_probed| **ip_probed == ip("192.168.0.50")).count(), 3);
    assert_eq!(probed.iter().filter(|ip_probed| **ip_probed == ip("fd00::50")).count(), 1);
    assert_eq!(effects, [claim(mac(50), &["fd00::50"])]);
    assert_eq!((lab.owner("192.168.0.50"), lab.owner("fd00::50")), (None, Some(mac(50))));
}

#[test]
fn old_address_of_a_renumbered_station_is_removed_soon() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.51")));
    lab.learn(SEGMENT, mac(51), Some(ip("192.168.0.60")));
    lab.learn(SEGMENT, mac(51), Some(ip("192.168.0.61")));
    let mut effects = Vec::new();
    for _ in 0..10 {
        for effect in lab.age(500) {
            match effect {
                Effect::Probe(probe) if probe.mac == mac(51) => {
                    lab.learn(SEGMENT, mac(51), Some(probe.ip));
                }
                Effect::Probe(_) => {}
                other => effects.push(other),
            }
        }
    }
    assert_eq!(effects, [claim(mac(50), &["192.168.0.51"])]);
    assert_eq!((lab.owner("192.168.0.50"), lab.owner("192.168.0.60")), (None, Some(mac(51))));
}

#[test]
fn router_is_known_before_and_after_it_is_a_station() {
    let mut lab = lab();
    let bd = lab.bds[0];
    let seen = |router| RouterSeen { bd, mac: mac(50), ip: "fe80::50".parse().unwrap(), router };
    let local = "fe80::50".parse().unwrap();
    assert_eq!(lab.stations.router(&mut lab.tables, &seen(true)), None);
    lab.learn(SEGMENT, mac(50), Some(ip("fe80::50")));
    assert_eq!(lab.stations.to_claim(vni(100), mac(50), vec![]).facts.router, Some(true));
    let effect = lab.stations.router(&mut lab.tables, &seen(false));
    assert_eq!(effect, Some(claim(mac(50), &["fe80::50"])));
    assert_eq!(lab.tables.router(bd, local), Some(false));
    assert_eq!(lab.stations.router(&mut lab.tables, &seen(false)), None, "known");
    // For a node elsewhere, and for one of ours that its appliance has not seen yet, the board's record counts.
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
fn nothing_is_learned_behind_a_port_without_a_link() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), None);
    lab.apply(node(mac(9), 2, &[], &[]));
    lab.learn(SEGMENT, mac(9), None);
    let mut effects = lab.link(SEGMENT, false);
    effects.sort_by_key(|effect| format!("{effect:?}"));
    assert_eq!(effects, [withdraw(mac(2)), withdraw(mac(9)), withdraw(mac(50))]);
    // Events in the ring, and a reply under way, arrive too late.
    assert_eq!(lab.learn(SEGMENT, mac(51), None), []);
    lab.accept(mac(9));
    assert_eq!((lab.location(mac(51)), lab.location(mac(9))), (Where::Nowhere, Where::Host(2)));
}

#[test]
fn declared_station_replaces_the_learned_one() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(1), Some(ip("192.168.0.77")));
    assert_eq!(lab.location(mac(1)), Where::Port(SEGMENT));
    assert_eq!(lab.link(VIF, true), [claim(mac(1), &["192.168.0.1", "fd00::1"])]);
    assert_eq!((lab.location(mac(1)), lab.owner("192.168.0.77")), (Where::Port(VIF), None));
}

#[test]
fn vif_keeps_declared_addresses_and_adds_chosen_ones() {
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
    // The board accepts sixteen at most, and declared addresses are not replaced.
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
fn tenant_with_random_macs_fills_only_its_own_share() {
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
    // Known stations are not affected.
    assert_eq!(
        lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.51"))),
        [claim(mac(50), &["192.168.0.50", "192.168.0.51"])]
    );
    // The other port has its own share, until the network's share is used up.
    let claims: usize = (20_000..21_000).map(|n| lab.learn(OTHER_SEGMENT, random(n), None).len()).sum();
    assert_eq!((claims, lab.stations.learned_at(OTHER_SEGMENT)), (50, 50));
    assert!(gates[1].1.is_closed(0));
    // Silent stations make room.
    lab.age(299_999);
    lab.age(1);
    assert_eq!((lab.stations.learned_at(SEGMENT), lab.stations.learned_at(OTHER_SEGMENT)), (0, 0));
    assert!(!gates[0].1.is_closed(0) && !gates[1].1.is_closed(0));
    assert_eq!(lab.learn(SEGMENT, random(1), None).len(), 1);
}

#[test]
fn new_addresses_of_a_station_are_rate_limited() {
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
    assert_eq!(lab.age(0), [Effect::Report(Report::Limit(Limit::Addresses(SEGMENT)))]);
    // Known addresses cost nothing, and other ports have their own rate.
    assert_eq!(lab.learn(SEGMENT, mac(50), Some(ip("10.0.0.100"))), []);
    assert_eq!(lab.stations.refused_addresses(SEGMENT), 900);
    assert_eq!(lab.learn(OTHER_SEGMENT, mac(51), Some(ip("10.9.0.1"))).len(), 1);
    lab.now_ms += 500;
    assert_eq!(flood(&mut lab, 2_000), 50);
}

#[test]
fn blocked_segment_has_no_stations() {
    let mut lab = lab();
    lab.learn(SEGMENT, mac(50), Some(ip("192.168.0.50")));
    lab.learn(OTHER_SEGMENT, mac(51), None);
    let block = |lab: &mut Lab, on| lab.stations.block(&mut lab.tables, lab.now_ms, SEGMENT, 0, on);
    let mut effects = block(&mut lab, true);
    effects.sort_by_key(|effect| format!("{effect:?}"));
    assert_eq!(effects, [withdraw(mac(2)), withdraw(mac(50))], "the declared one too");
    assert_eq!((lab.location(mac(50)), lab.location(mac(51))), (Where::Nowhere, Where::Port(OTHER_SEGMENT)));
    assert_eq!(lab.learn(SEGMENT, mac(50), None), []);
    // It remains blocked when its link changes.
    lab.link(SEGMENT, false);
    assert_eq!(lab.link(SEGMENT, true), []);
    // The host that forwards for the LAN makes them known.
    lab.apply(node(mac(50), 2, &[], &[]));
    assert_eq!(lab.location(mac(50)), Where::Host(2));
    assert_eq!(block(&mut lab, false), [claim(mac(2), &["192.168.0.2"])]);
    assert_eq!(lab.learn(SEGMENT, mac(52), None), [claim(mac(52), &[])]);
}

#[test]
fn declared_stations_of_a_running_segment_are_replaced() {
    let mut lab = lab();
    let bd = lab.bds[0];
    let declared = |n: u8, ips: &[&str]| Declared {
        bd,
        mac: mac(n),
        port: SEGMENT,
        vlan: 0,
        ips: ips.iter().map(|text| ip(text)).collect(),
        shared: Vec::new(),
        kind: Kind::Static,
    };
    let set = |lab: &mut Lab, stations: Vec<Declared>| {
        lab.stations.set_declared(&mut lab.tables, lab.now_ms, SEGMENT, stations)
    };
    // Station 2 gets another address, station 60 is new.
    let to = vec![declared(2, &["192.168.0.22"]), declared(60, &["192.168.0.60"])];
    assert_eq!(
        set(&mut lab, to.clone()),
        [claim(mac(2), &["192.168.0.22"]), claim(mac(60), &["192.168.0.60"])]
    );
    assert_eq!((lab.owner("192.168.0.2"), lab.owner("192.168.0.22")), (None, Some(mac(2))));
    assert_eq!(set(&mut lab, to), [], "nothing new");
    assert_eq!(set(&mut lab, vec![declared(60, &["192.168.0.60"])]), [withdraw(mac(2))]);
    assert_eq!((lab.location(mac(2)), lab.location(mac(60))), (Where::Nowhere, Where::Port(SEGMENT)));
    // While the link is down none is there; then those of the last list are.
    lab.link(SEGMENT, false);
    assert_eq!(set(&mut lab, vec![declared(61, &[])]), []);
    assert_eq!(lab.link(SEGMENT, true), [claim(mac(61), &[])]);
}

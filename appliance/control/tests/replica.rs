//! Single steps of the replica, with their effects on the underlay.

use super::*;

fn lab() -> Lab {
    Lab::new(&[(0, mac(1), 1, &[], Kind::Vif)])
}

fn track(text: &str, port: u16) -> Effect {
    Effect::Track(ip(text), port)
}

fn untrack(text: &str, port: u16) -> Effect {
    Effect::Untrack(ip(text), port)
}

fn member(host_id: u32, segment: bool) -> Change {
    Change::MemberPut { vni: vni(100), host_id, segment }
}

#[test]
fn host_is_tracked_at_its_first_routable_address() {
    let mut lab = lab();
    assert_eq!(lab.apply(host(2, &["fd00::2", "10.0.0.2", "10.0.0.3"], 4789)), [track("10.0.0.2", 4789)]);
    // It may send from any of them.
    assert_eq!(["fd00::2", "10.0.0.2", "10.0.0.3"].map(|t| lab.vtep(t)), [Some(2); 3]);
    assert_eq!(lab.apply(host(3, &["fd00::3"], 4789)), [], "no address that can be routed to");
    assert_eq!(lab.replica.hosts_behind(ip("10.0.0.2")).collect::<Vec<_>>(), [(2, 4789)]);
    assert_eq!(lab.apply(Change::HostGone { id: 2 }), [untrack("10.0.0.2", 4789)]);
    assert_eq!(lab.vtep("10.0.0.2"), None);
    assert!(lab.view.peer(Peer::new(2)).is_none());
    assert_eq!(lab.apply(Change::HostGone { id: 2 }), []);
}

#[test]
fn own_host_is_not_reached_through_a_tunnel() {
    let mut lab = lab();
    assert_eq!(lab.apply(host(OWN, &["10.0.0.1"], 4789)), []);
    assert_eq!(lab.vtep("10.0.0.1"), None, "our own frames are a loop");
    lab.apply(member(OWN, true));
    lab.publish().unwrap();
    assert!(lab.network(0).slots.is_empty());
}

#[test]
fn host_with_a_new_address_is_resolved_again() {
    let mut lab = lab();
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.replica.set_path(&mut lab.tables, 2, (Some(path("10.0.0.2")), None)).unwrap();
    let port_of = |lab: &Lab| lab.view.path_to(Peer::new(2)).map(|w| w.port);
    assert_eq!(port_of(&lab), Some(0));
    // Nothing changed: the path remains, so that no frame is lost to a heartbeat.
    assert_eq!(lab.apply(host(2, &["10.0.0.2"], 4789)), [track("10.0.0.2", 4789)]);
    assert_eq!(port_of(&lab), Some(0));
    // A second address after the first makes no difference either.
    lab.apply(host(2, &["10.0.0.2", "10.0.0.4"], 4789));
    assert_eq!(port_of(&lab), Some(0));
    assert_eq!(lab.apply(host(2, &["10.0.0.9"], 4789)), [track("10.0.0.9", 4789), untrack("10.0.0.2", 4789)]);
    assert_eq!(port_of(&lab), Some(0), "it receives there until the other is resolved");
    assert_eq!(["10.0.0.2", "10.0.0.4", "10.0.0.9"].map(|t| lab.vtep(t)), [None, None, Some(2)]);
    // Another UDP port is another header.
    lab.replica.set_path(&mut lab.tables, 2, (Some(path("10.0.0.9")), None)).unwrap();
    assert_eq!(lab.apply(host(2, &["10.0.0.9"], 8472)), [track("10.0.0.9", 8472), untrack("10.0.0.9", 4789)]);
    assert_eq!(port_of(&lab), Some(0));
    lab.replica.set_path(&mut lab.tables, 2, (None, None)).unwrap();
    assert_eq!(port_of(&lab), None);
    lab.replica.set_path(&mut lab.tables, 77, (Some(path("10.0.0.9")), None)).unwrap();
    assert!(lab.view.peer(Peer::new(77)).is_none());
}

#[test]
fn hosts_on_one_address_are_distinguished_by_port() {
    let mut lab = lab();
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.apply(host(3, &["10.0.0.2"], 8472));
    assert_eq!(lab.apply(Change::HostGone { id: 3 }), [untrack("10.0.0.2", 8472)]);
    assert_eq!(lab.vtep("10.0.0.2"), Some(2), "host 2 still sends from it");
    lab.apply(host(3, &["10.0.0.2"], 8472));
    lab.apply(host(3, &["10.0.0.3"], 8472));
    assert_eq!(lab.vtep("10.0.0.2"), Some(2));
    // An address that moves from one host to another, in either order.
    lab.apply(host(2, &["10.0.0.3"], 4789));
    lab.apply(host(3, &["10.0.0.2"], 8472));
    assert_eq!(["10.0.0.2", "10.0.0.3"].map(|t| lab.vtep(t)), [Some(3), Some(2)]);
}

#[test]
fn member_counts_once_its_host_is_known() {
    let mut lab = lab();
    lab.apply(member(2, true));
    lab.publish().unwrap();
    assert!(lab.network(0).slots.is_empty());
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.publish().unwrap();
    assert_eq!(lab.flooded(0), [vec![2], vec![2]]);
    lab.apply(member(2, false));
    lab.publish().unwrap();
    assert_eq!(lab.flooded(0), [vec![2], vec![]]);
    lab.apply(Change::HostGone { id: 2 });
    lab.publish().unwrap();
    assert!(lab.network(0).slots.is_empty());
}

#[test]
fn host_that_is_down_gets_unicast_and_no_floods() {
    let mut lab = lab();
    let put = |no_flood: bool| match host(2, &["10.0.0.2"], 4789) {
        Change::HostPut(host) => Change::HostPut(Host { no_flood, up: !no_flood, ..host }),
        other => other,
    };
    lab.apply(put(false));
    lab.apply(member(2, true));
    lab.apply(node(mac(9), 2, &[], &[]));
    for away in [false, true, false] {
        lab.apply(put(away));
        lab.publish().unwrap();
        let flooded = if away { vec![] } else { vec![2] };
        assert_eq!(lab.flooded(0), [flooded.clone(), flooded]);
        assert_eq!(lab.location(mac(9)), Where::Host(2));
    }
}

#[test]
fn ports_without_a_link_get_no_floods() {
    let mut lab = lab();
    lab.publish().unwrap();
    assert!(lab.network(0).ports.is_empty());
    lab.link(1, true);
    lab.link(10, true);
    lab.publish().unwrap();
    let ports = |lab: &Lab| lab.network(0).ports.iter().map(|m| (m.port, m.segment)).collect::<Vec<_>>();
    assert_eq!(ports(&lab), [(10, true), (1, false)]);
    lab.link(10, false);
    lab.publish().unwrap();
    assert_eq!(ports(&lab), [(1, false)]);
}

#[test]
fn undeclared_network_has_the_defaults() {
    let mut lab = lab();
    lab.publish().unwrap();
    assert_eq!(lab.network(0).flood, FloodPolicy::default());
    lab.apply(network(100, FloodPolicy::Drop, 1400));
    lab.publish().unwrap();
    assert_eq!(lab.network(0).flood, FloodPolicy::Drop);
    let (_, record) = lab.replica.networks().find(|(v, _)| *v == vni(100)).unwrap();
    assert_eq!((record.name.as_str(), record.mtu), ("net 100", 1400));
    lab.apply(Change::NetworkGone { vni: vni(100) });
    lab.publish().unwrap();
    assert_eq!(lab.network(0).flood, FloodPolicy::default());
    // Networks without local ports are not stored.
    lab.apply(network(999, FloodPolicy::Drop, 1400));
    assert_eq!(lab.replica.networks().count(), 2);
}

#[test]
fn nodes_move_between_hosts_and_lose_addresses() {
    let mut lab = lab();
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.apply(host(3, &["10.0.0.3"], 4789));
    lab.apply(node(mac(9), 2, &["192.168.0.9", "fd00::9"], &[]));
    assert_eq!((lab.location(mac(9)), lab.owner("fd00::9")), (Where::Host(2), Some(mac(9))));
    lab.apply(node(mac(9), 3, &["192.168.0.9"], &["fd00::9"]));
    assert_eq!((lab.location(mac(9)), lab.owner("fd00::9")), (Where::Host(3), None));
    // The address moved to another node before the change that removes it from the first.
    lab.apply(node(mac(8), 2, &["192.168.0.9"], &[]));
    lab.apply(node(mac(9), 3, &[], &["192.168.0.9"]));
    assert_eq!(lab.owner("192.168.0.9"), Some(mac(8)));
    lab.apply(Change::NodeGone { vni: vni(100), mac: mac(9), ips: vec![] });
    assert_eq!(lab.location(mac(9)), Where::Nowhere);
    lab.apply(Change::NodeGone { vni: vni(100), mac: mac(8), ips: vec![ip("192.168.0.9")] });
    assert_eq!((lab.location(mac(8)), lab.owner("192.168.0.9")), (Where::Nowhere, None));
}

#[test]
fn board_records_of_local_stations_change_nothing() {
    let mut lab = Lab::new(&[(0, mac(1), 1, &[ip("192.168.0.1")], Kind::Vif)]);
    lab.link(1, true);
    lab.apply(host(OWN, &["10.0.0.1"], 4789));
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.apply(node(mac(1), OWN, &["192.168.0.1"], &[]));
    lab.apply(node(mac(1), 2, &["192.168.0.1"], &[]));
    assert_eq!(lab.location(mac(1)), Where::Port(1));
    lab.apply(node(mac(1), 2, &[], &["192.168.0.1"]));
    assert_eq!(lab.owner("192.168.0.1"), Some(mac(1)));
    lab.apply(Change::NodeGone { vni: vni(100), mac: mac(1), ips: vec![ip("192.168.0.1")] });
    assert_eq!((lab.location(mac(1)), lab.owner("192.168.0.1")), (Where::Port(1), Some(mac(1))));
    // A claim of ours whose station is gone is at no host.
    lab.apply(node(mac(7), 2, &["192.168.0.7"], &[]));
    lab.apply(node(mac(7), OWN, &["192.168.0.7"], &[]));
    assert_eq!(lab.location(mac(7)), Where::Nowhere);
}

#[test]
fn snapshot_removes_what_it_does_not_name() {
    let mut lab = lab();
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.apply(host(3, &["10.0.0.3"], 4789));
    lab.apply(network(100, FloodPolicy::Drop, 0));
    lab.apply(member(2, true));
    lab.apply(member(3, true));
    lab.apply(node(mac(8), 2, &["192.168.0.8"], &[]));
    lab.apply(node(mac(9), 3, &["192.168.0.9"], &[]));
    assert!(lab.replica.is_whole());
    lab.replica.begin_snapshot(&mut lab.tables, false);
    assert!(!lab.replica.is_whole());
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.apply(member(2, false));
    lab.apply(node(mac(8), 2, &["192.168.0.8"], &[]));
    assert_eq!(lab.location(mac(9)), Where::Host(3), "fail static: everything remains until its end");
    assert_eq!(lab.end_snapshot(), [untrack("10.0.0.3", 4789)]);
    assert!(lab.replica.is_whole());
    lab.publish().unwrap();
    assert_eq!([8, 9].map(|n| lab.location(mac(n))), [Where::Host(2), Where::Nowhere]);
    assert_eq!([lab.owner("192.168.0.8"), lab.owner("192.168.0.9")], [Some(mac(8)), None]);
    assert_eq!(lab.network(0).flood, FloodPolicy::default());
    assert_eq!(lab.flooded(0), [vec![2], vec![]]);
    assert!(lab.view.peer(Peer::new(3)).is_none());
    assert_eq!(lab.end_snapshot(), [], "there is none");
}

#[test]
fn interrupted_snapshot_is_replaced_by_the_next() {
    let mut lab = lab();
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.apply(node(mac(8), 2, &["192.168.0.8"], &[]));
    lab.replica.begin_snapshot(&mut lab.tables, false);
    lab.apply(host(3, &["10.0.0.3"], 4789));
    lab.apply(node(mac(9), 3, &[], &[]));
    lab.replica.begin_snapshot(&mut lab.tables, false);
    assert_eq!(lab.apply(host(2, &["10.0.0.2"], 4789)), [track("10.0.0.2", 4789)]);
    assert_eq!(lab.end_snapshot(), [untrack("10.0.0.3", 4789)]);
    assert_eq!([8, 9].map(|n| lab.location(mac(n))), [Where::Nowhere; 2]);
    assert_eq!(lab.owner("192.168.0.8"), None);
}

/// On another branch of the board's history, running hosts have yet to claim their nodes again.
#[test]
fn snapshot_of_another_branch_removes_nothing_for_a_while() {
    let mut lab = lab();
    for id in [2, 3, 4] {
        lab.apply(host(id, &[&format!("10.0.0.{id}")], 4789));
        lab.apply(member(id, false));
        lab.apply(node(mac(id as u8), id, &[&format!("192.168.0.{id}")], &[]));
    }
    lab.replica.begin_snapshot(&mut lab.tables, true);
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.apply(member(2, false));
    // A number that another host had.
    let renamed = |id: u32, was: u32| {
        let Change::HostPut(host) = host(id, &[&format!("10.0.0.{was}")], 4789) else { unreachable!() };
        Change::HostPut(Host { name: name(was), ..host })
    };
    lab.apply(renamed(3, 4));
    assert_eq!(lab.end_snapshot(), []);
    assert!(lab.replica.is_whole() && lab.replica.has_stale());
    lab.publish().unwrap();
    let host_of = |lab: &Lab, n: u32| match lab.location(mac(n as u8)) {
        Where::Host(id) => lab.replica.host(id).unwrap().host.name.clone(),
        other => panic!("{n}: {other:?}"),
    };
    for id in [2, 3, 4] {
        assert_eq!(host_of(&lab, id), name(id), "what was there before remains, at the host that has it");
        assert_eq!(lab.owner(&format!("192.168.0.{id}")), Some(mac(id as u8)));
    }
    assert_eq!((lab.location(mac(2)), lab.location(mac(4))), (Where::Host(2), Where::Host(3)));
    let floods = |lab: &Lab| {
        let [hosts, _] = lab.flooded(0);
        let mut names: Vec<_> =
            hosts.iter().map(|id| lab.replica.host(*id).unwrap().host.name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(floods(&lab), [2, 3, 4].map(name), "each host once");
    assert_eq!(lab.vtep("10.0.0.4"), Some(3));
    // Host 3 registers, as number 4, and claims again; host 4 has lost its node meanwhile.
    lab.apply(renamed(4, 3));
    assert_eq!(lab.location(mac(3)), Where::Host(4));
    lab.apply(Change::MemberPut { vni: vni(100), host_id: 4, segment: false });
    lab.apply(node(mac(3), 4, &["192.168.0.3"], &[]));
    lab.apply(node(mac(2), 2, &[], &["192.168.0.2"]));
    lab.publish().unwrap();
    assert_eq!(floods(&lab), [2, 3, 4].map(name));
    lab.with(Replica::remove_stale).unwrap();
    lab.publish().unwrap();
    assert!(!lab.replica.has_stale());
    assert_eq!([2, 3, 4].map(|n| lab.location(mac(n))), [Where::Host(2), Where::Host(4), Where::Nowhere]);
    assert_eq!((lab.owner("192.168.0.3"), lab.owner("192.168.0.4")), (Some(mac(3)), None));
    assert_eq!(floods(&lab), [2, 3].map(name));
    let mut known: Vec<_> =
        lab.replica.hosts_from(0).map(|(id, record)| (id, record.host.name.clone())).collect();
    known.sort();
    assert_eq!(known, [(2, name(2)), (3, name(4)), (4, name(3))]);
}

/// The nodes of a batch in network 100.
fn batch(nodes: &[(Mac, u32, &[&str])]) -> NodeBatch {
    let mut batch = NodeBatch::new(vni(100));
    for (mac, host, ips) in nodes {
        batch.push(*mac, *host, 1, NodeFacts::default(), ips.iter().map(|text| ip(text)));
    }
    batch
}

#[test]
fn batch_of_nodes_has_the_same_result_as_single_nodes() {
    let mut lab = Lab::new(&[(0, mac(1), 1, &[ip("192.168.0.1")], Kind::Vif)]);
    lab.link(1, true);
    lab.apply(host(OWN, &["10.0.0.1"], 4789));
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.apply(host(3, &["10.0.0.3"], 4789));
    lab.apply(node(mac(8), 2, &["192.168.0.8"], &[]));
    lab.apply(node(mac(9), 2, &[], &[]));
    lab.replica.begin_snapshot(&mut lab.tables, false);
    let nodes = batch(&[
        (mac(1), OWN, &["192.168.0.1"]),
        (mac(9), 3, &["192.168.0.9"]),
        (mac(5), 2, &["192.168.0.5", "fd00::5"]),
        (mac(6), OWN, &["192.168.0.6"]),
        (mac(7), 2, &[]),
    ]);
    let effects = lab.with(|replica, ctx| replica.put_nodes(ctx, &nodes, |full| panic!("{full}")));
    assert_eq!(effects, [Effect::Moved { vni: vni(100), mac: mac(9), from: 2 }]);
    assert_eq!(lab.location(mac(8)), Where::Host(2), "fail static: everything remains until its end");
    for id in [OWN, 2, 3] {
        lab.apply(host(id, &["10.0.0.9"], 4789 + id as u16));
    }
    lab.end_snapshot();
    let places = [1, 5, 6, 7, 8, 9].map(|n| lab.location(mac(n)));
    let (here, two, three) = (Where::Port(1), Where::Host(2), Where::Host(3));
    assert_eq!(places, [here, two, Where::Nowhere, two, Where::Nowhere, three]);
    let owners = ["192.168.0.1", "192.168.0.5", "fd00::5", "192.168.0.6", "192.168.0.8", "192.168.0.9"];
    let owners = owners.map(|ip| lab.owner(ip));
    assert_eq!(owners, [Some(mac(1)), Some(mac(5)), Some(mac(5)), None, None, Some(mac(9))]);
}

#[test]
fn batch_longer_than_the_prefetch_is_applied_whole() {
    let mut lab = lab();
    lab.apply(host(2, &["10.0.0.2"], 4789));
    let macs: Vec<Mac> = (10..200).map(mac).collect();
    let nodes: Vec<(Mac, u32, &[&str])> = macs.iter().map(|mac| (*mac, 2, &[][..])).collect();
    let effects = lab.with(|replica, ctx| replica.put_nodes(ctx, &batch(&nodes), |full| panic!("{full}")));
    assert_eq!(effects, []);
    assert!(macs.iter().all(|mac| lab.location(*mac) == Where::Host(2)));
    assert_eq!(lab.tables.len(), macs.len());
}

#[test]
fn hosts_that_share_a_vtep_are_found_by_it() {
    let mut lab = lab();
    for (id, port) in [(2, 4789), (3, 4790), (4, 4791)] {
        lab.apply(host(id, &["10.0.0.2", "10.0.0.7"], port));
    }
    let behind = |lab: &Lab| {
        let mut hosts: Vec<_> = lab.replica.hosts_behind(ip("10.0.0.2")).collect();
        hosts.sort_unstable();
        hosts
    };
    assert_eq!(behind(&lab), [(2, 4789), (3, 4790), (4, 4791)]);
    assert_eq!(lab.apply(Change::HostGone { id: 3 }), [untrack("10.0.0.2", 4790)]);
    lab.apply(host(2, &["10.0.0.7"], 4789));
    assert_eq!(behind(&lab), [(4, 4791)]);
    assert_eq!(lab.vtep("10.0.0.2"), Some(4));
    assert!(lab.vtep("10.0.0.7").is_some_and(|host| host == 2 || host == 4));
    assert_eq!(lab.replica.own_id(), None);
    lab.apply(host(OWN, &["10.0.0.1"], 4789));
    assert_eq!(lab.replica.own_id(), Some(OWN));
    lab.apply(Change::HostGone { id: OWN });
    assert_eq!(lab.replica.own_id(), None);
}

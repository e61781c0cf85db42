//! Ports that come and go: what the replica and the stations know of them afterwards.

use super::*;
use crate::tables::InNetwork;

fn local(port: u16) -> Member {
    Member { port, vlan: 0, segment: false }
}

fn flooded_ports(lab: &Lab, bd: Bd) -> Vec<u16> {
    lab.view.network(bd).unwrap().ports.iter().map(|member| member.port).collect()
}

#[test]
fn a_network_is_followed_while_it_has_ports() {
    let mut lab = Lab::new(&[]);
    let bd = lab.tables.bd(vni(300)).unwrap();
    let listed = |lab: &Lab| lab.replica.networks().any(|(of, _)| of == vni(300));
    assert!(!listed(&lab));
    assert!(lab.replica.add_port(vni(300), bd, local(3)), "the first");
    assert!(!lab.replica.add_port(vni(300), bd, local(4)));
    assert_eq!(lab.replica.vni_of(bd), Some(vni(300)));
    lab.replica.port(3, true);
    lab.replica.port(4, true);
    lab.publish().unwrap();
    assert_eq!(flooded_ports(&lab, bd), [3, 4]);

    assert_eq!(lab.replica.remove_port(3), []);
    lab.publish().unwrap();
    assert_eq!(flooded_ports(&lab, bd), [4]);
    assert!(listed(&lab));
    assert_eq!(lab.replica.remove_port(4), [vni(300)]);
    lab.publish().unwrap();
    assert_eq!(flooded_ports(&lab, bd), [] as [u16; 0]);
    assert!(!listed(&lab));
    assert_eq!(lab.replica.remove_port(4), [], "it is not removed twice");

    assert!(lab.replica.add_port(vni(300), bd, local(4)), "it is followed again");
    lab.publish().unwrap();
    assert_eq!(flooded_ports(&lab, bd), [] as [u16; 0], "another port of this number has no link yet");
}

/// What the board sends of a network that is not followed any more still reaches the tables.
#[test]
fn nodes_of_a_network_are_removed_after_its_last_port() {
    let mut lab = Lab::new(&[]);
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.apply(node(mac(1), 2, &["192.168.0.1"], &[]));
    lab.replica.remove_port(10);
    assert_eq!(lab.replica.remove_port(11), [vni(100)]);
    lab.publish().unwrap();
    assert_eq!(lab.location(mac(1)), Where::Host(2));
    lab.apply(Change::NodeGone { vni: vni(100), mac: mac(1), ips: vec![ip("192.168.0.1")] });
    lab.publish().unwrap();
    assert_eq!((lab.location(mac(1)), lab.owner("192.168.0.1")), (Where::Nowhere, None));
}

/// More networks than there can be at once, one after the other.
#[test]
fn the_bridge_domain_of_a_network_that_is_left_is_given_back() {
    let mut lab = Lab::new(&[]);
    let leave = |lab: &mut Lab, of: Vni| {
        let tables = &lab.tables;
        let bd = lab.replica.forget(of, |bd| tables.counts().network(bd) == InNetwork::default());
        if bd.is_some() {
            lab.tables.release_bd(of);
        }
        bd
    };
    let before = lab.tables.networks();
    for number in 1..=70_000 {
        let of = vni(1000 + number);
        let bd = lab.tables.bd(of).expect("a number is free");
        lab.replica.add_port(of, bd, local(3));
        lab.publish().unwrap();
        assert_eq!(leave(&mut lab, of), None, "it has a port");
        lab.replica.remove_port(3);
        lab.publish().unwrap();
        assert_eq!(leave(&mut lab, of), Some(bd));
        assert_eq!((lab.replica.bd_of(of), lab.replica.vni_of(bd)), (None, None));
        lab.publish().unwrap();
        assert!(lab.view.network(bd).is_none());
    }
    assert_eq!(lab.tables.networks(), before);
}

#[test]
fn a_network_is_not_given_back_before_the_board_has_taken_back_its_nodes() {
    let mut lab = Lab::new(&[]);
    lab.apply(host(2, &["10.0.0.2"], 4789));
    lab.apply(node(mac(1), 2, &["192.168.0.1"], &[]));
    lab.apply(Change::MemberPut { vni: vni(100), host_id: 2, segment: false });
    lab.replica.remove_port(10);
    lab.replica.remove_port(11);
    let forget = |lab: &mut Lab| {
        let tables = &lab.tables;
        lab.replica.forget(vni(100), |bd| tables.counts().network(bd) == InNetwork::default())
    };
    assert_eq!(forget(&mut lab), None);
    lab.apply(Change::NodeGone { vni: vni(100), mac: mac(1), ips: vec![ip("192.168.0.1")] });
    assert_eq!(forget(&mut lab), None, "a member is left");
    lab.apply(Change::MemberGone { vni: vni(100), host_id: 2 });
    assert_eq!(forget(&mut lab), Some(lab.bds[0]));
    assert_eq!(forget(&mut lab), None);
}

#[test]
fn segments_are_told_apart_from_vifs() {
    let mut lab = Lab::new(&[]);
    assert!(lab.replica.has_segment(vni(100)) && !lab.replica.has_segment(vni(200)));
    lab.replica.remove_port(10);
    assert!(lab.replica.has_segment(vni(100)));
    lab.replica.remove_port(11);
    lab.replica.add_port(vni(100), lab.bds[0], local(3));
    assert!(!lab.replica.has_segment(vni(100)));
}

#[test]
fn the_stations_of_a_removed_port_are_withdrawn() {
    let address = ip("192.168.0.7");
    let mut lab = Lab::new(&[(0, mac(7), 10, &[address], Kind::Static)]);
    assert_eq!(lab.link(10, true), [claim(mac(7), &["192.168.0.7"])]);
    lab.link(11, true);
    lab.learn(10, mac(1), None);
    lab.learn(11, mac(2), None);
    let mut effects = lab.stations.remove_port(&mut lab.tables, 10);
    effects.sort_by_key(|effect| *effect != withdraw(mac(1)));
    assert_eq!(effects, [withdraw(mac(1)), withdraw(mac(7))]);
    let places = [mac(1), mac(7), mac(2)].map(|mac| lab.location(mac));
    assert_eq!(places, [Where::Nowhere, Where::Nowhere, Where::Port(11)]);
    assert_eq!(lab.learn(10, mac(3), None), [], "a frame that was still under way");
    assert_eq!(lab.link(10, true), [], "its declared stations are gone, too");
    assert_eq!(lab.stations.learned_at(10), 0);
}

#[test]
fn an_added_segment_has_its_stations_and_limits() {
    let mut lab = Lab::new(&[]);
    let declared = Declared {
        bd: lab.bds[0],
        mac: mac(7),
        port: 12,
        vlan: 0,
        ips: vec![],
        shared: vec![],
        kind: Kind::Static,
    };
    let limits = PortLimits { max_stations: 1, new_per_s: 10, gate: Default::default(), networks: vec![] };
    lab.replica.add_port(vni(100), lab.bds[0], Member { port: 12, vlan: 0, segment: true });
    lab.stations.add_port(12, vec![declared], Some(1000), Some(limits));
    assert_eq!(lab.link(12, true), [claim(mac(7), &[])]);
    lab.learn(12, mac(1), None);
    lab.learn(12, mac(2), None);
    let places = [mac(7), mac(1), mac(2)].map(|mac| lab.location(mac));
    assert_eq!(places, [Where::Port(12), Where::Port(12), Where::Nowhere]);
    let full = Effect::Report(Report::Limit(Limit::Port(12)));
    assert_eq!(lab.age(1500), [withdraw(mac(1)), full]);
}

//! The typed layer: what a view sees of what was written, what a snapshot leaves, what a station hides.

use super::entries::{HostEntry, NetworkEntry};
use super::words::{MAX_MARK, Place, PlaceWord, node_key};
use super::*;
use stopover_net::FloodPolicy;

const M1: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
const M2: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 1));
const IP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));

struct Lab {
    tables: Tables,
    view: View,
    net: Net,
    other: Net,
}

fn lab() -> Lab {
    let (mut tables, views) = Tables::new(1).unwrap();
    let net = tables.net(Vni::new(100).unwrap()).unwrap();
    let other = tables.net(Vni::new(200).unwrap()).unwrap();
    Lab { tables, view: views.into_iter().next().unwrap().online(), net, other }
}

fn at(port: u16, station: u32) -> Option<Place> {
    Some(Place::Local { port, vlan: 0, station })
}

fn remote(host: u32) -> Option<Place> {
    Some(Place::Remote { host })
}

impl Lab {
    /// Where a node is, which every way of asking must agree on.
    #[track_caller]
    fn place(&self, net: Net, mac: Mac) -> Option<Place> {
        let place = self.view.place(net, mac);
        self.tables.check_counts();
        assert_eq!(self.tables.place(net, mac), place);
        let (key, mut all, mut own) = ([node_key(net, mac)], [0], [0]);
        self.view.places(&key, &mut all);
        self.view.locals(&key, &mut own);
        assert_eq!(PlaceWord(all[0]).open(), place);
        let is_local = matches!(place, Some(Place::Local { .. }));
        assert_eq!(PlaceWord(own[0]).open(), place.filter(|_| is_local));
        assert_eq!(self.tables.is_remote(net, mac), place.is_some() && !is_local);
        place
    }

    #[track_caller]
    fn owner(&self, net: Net, ip: IpAddr) -> Option<Mac> {
        let owner = self.view.owner(net, ip);
        assert_eq!(self.tables.owner(net, ip), owner);
        owner
    }
}

#[test]
fn nodes_of_two_networks_are_apart() {
    let mut lab = lab();
    assert_eq!(lab.place(lab.net, M1), None);
    lab.tables.set_remote(lab.net, M1, 7).unwrap();
    let id = lab.tables.set_local(lab.other, M1, 3, 0, None).unwrap();
    assert_eq!(lab.place(lab.net, M1), remote(7));
    assert_eq!(lab.place(lab.other, M1), at(3, id));
    lab.tables.remove_remote(lab.other, M1);
    assert_eq!(lab.place(lab.other, M1), at(3, id), "a station of ours is no remote node");
    lab.tables.remove_remote(lab.net, M1);
    assert_eq!(lab.place(lab.net, M1), None);
    assert_eq!(lab.tables.nodes().collect::<Vec<_>>(), [(lab.other, M1, at(3, id).unwrap())]);
}

#[test]
fn addresses_belong_to_one_node_and_only_it_can_give_them_up() {
    let mut lab = lab();
    for ip in [IP, IP6] {
        lab.tables.set_owner(lab.net, ip, M1).unwrap();
        assert_eq!((lab.owner(lab.net, ip), lab.owner(lab.other, ip)), (Some(M1), None));
        lab.tables.clear_owner(lab.net, ip, M2);
        assert_eq!(lab.owner(lab.net, ip), Some(M1));
        lab.tables.set_owner(lab.net, ip, M2).unwrap();
        lab.tables.clear_owner(lab.net, ip, M1);
        assert_eq!(lab.owner(lab.net, ip), Some(M2));
    }
    let mut all: Vec<_> = lab.tables.owners().collect();
    all.sort_by_key(|(_, ip, _)| *ip);
    assert_eq!(all, [(lab.net, IP, M2), (lab.net, IP6, M2)]);
    lab.tables.clear_owner(lab.net, IP, M2);
    lab.tables.clear_owner(lab.net, IP6, M2);
    assert_eq!(lab.tables.owners().count(), 0);
}

#[test]
fn a_snapshot_keeps_what_it_names_and_what_is_ours() {
    let mut lab = lab();
    let ip = |n: u8| IpAddr::from([192, 168, 0, n]);
    let ip6 = |n: u16| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n));
    let (named, stale, ours) = (M1, M2, Mac::new([2, 0, 0, 0, 0, 3]));
    for (n, mac) in [(1, named), (2, stale)] {
        lab.tables.set_remote(lab.net, mac, 7).unwrap();
        lab.tables.set_owner(lab.net, ip(n), mac).unwrap();
        lab.tables.set_owner(lab.net, ip6(u16::from(n)), mac).unwrap();
    }
    let id = lab.tables.set_local(lab.net, ours, 3, 0, None).unwrap();
    lab.tables.set_owner(lab.net, ip(3), ours).unwrap();
    lab.tables.set_owner(lab.net, ip6(3), ours).unwrap();

    lab.tables.flip_mark();
    assert_eq!(lab.place(lab.net, stale), remote(7), "until its end a snapshot takes nothing away");
    lab.tables.set_remote(lab.net, named, 8).unwrap();
    lab.tables.set_owner(lab.net, ip(1), named).unwrap();
    lab.tables.sweep();
    assert_eq!(lab.place(lab.net, named), remote(8));
    assert_eq!(lab.place(lab.net, stale), None);
    assert_eq!(lab.place(lab.net, ours), at(3, id));
    let left: Vec<_> =
        [1, 2, 3].map(|n| (lab.owner(lab.net, ip(n)), lab.owner(lab.net, ip6(n.into())))).into();
    assert_eq!(left, [(Some(named), None), (None, None), (Some(ours), Some(ours))]);
}

#[test]
fn a_snapshot_that_breaks_off_leaves_no_stale_node() {
    for broken in 1..5 {
        let mut lab = lab();
        lab.tables.set_remote(lab.net, M1, 7).unwrap();
        lab.tables.set_owner(lab.net, IP, M1).unwrap();
        for _ in 0..broken {
            lab.tables.flip_mark();
            // Named by the part that came, and gone since.
            lab.tables.set_remote(lab.net, M2, 7).unwrap();
        }
        lab.tables.flip_mark();
        lab.tables.sweep();
        assert_eq!(lab.tables.nodes().count(), 0, "{broken} broken off");
        assert_eq!(lab.tables.owners().count(), 0, "{broken} broken off");
    }
    const { assert!(MAX_MARK >= 1000, "so many may break off in a row") };
}

#[test]
fn a_station_hides_a_node_elsewhere_until_it_goes() {
    let mut lab = lab();
    lab.tables.set_remote(lab.net, M1, 7).unwrap();
    let id = lab.tables.set_local(lab.net, M1, 3, 0, None).unwrap();
    assert_eq!(lab.place(lab.net, M1), at(3, id));
    // What is said of the node meanwhile is not lost.
    lab.tables.set_remote(lab.net, M1, 8).unwrap();
    assert_eq!(lab.place(lab.net, M1), at(3, id));
    lab.tables.remove_local(lab.net, M1, id);
    assert_eq!(lab.place(lab.net, M1), remote(8));

    let id = lab.tables.set_local(lab.net, M1, 3, 0, None).unwrap();
    // Moving behind another port is not going.
    assert_eq!(lab.tables.set_local(lab.net, M1, 4, 0, Some(id)), Ok(id));
    lab.tables.remove_remote(lab.net, M1);
    assert_eq!(lab.place(lab.net, M1), at(4, id));
    lab.tables.remove_local(lab.net, M1, id);
    assert_eq!(lab.place(lab.net, M1), None);
}

#[test]
fn a_snapshot_takes_hidden_nodes_away_too() {
    let mut lab = lab();
    for (mac, named) in [(M1, true), (M2, false)] {
        lab.tables.set_remote(lab.net, mac, 7).unwrap();
        let id = lab.tables.set_local(lab.net, mac, 3, 0, None).unwrap();
        lab.tables.flip_mark();
        if named {
            lab.tables.set_remote(lab.net, mac, 9).unwrap();
        }
        lab.tables.sweep();
        assert_eq!(lab.place(lab.net, mac), at(3, id));
        lab.tables.remove_local(lab.net, mac, id);
        assert_eq!(lab.place(lab.net, mac), remote(9).filter(|_| named));
    }
}

#[test]
fn a_stations_number_rests_until_every_reader_has_passed() {
    let mut lab = lab();
    let first = lab.tables.set_local(lab.net, M1, 3, 0, None).unwrap();
    lab.tables.publish();
    lab.view.quiescent();
    lab.tables.remove_local(lab.net, M1, first);
    lab.tables.publish();
    // The reader may still hold the old place, and touch what is no more.
    let second = lab.tables.set_local(lab.net, M2, 3, 0, None).unwrap();
    assert_ne!(second, first);
    lab.view.quiescent();
    lab.tables.publish();
    let third = lab.tables.set_local(lab.net, M1, 3, 0, None).unwrap();
    assert_eq!(third, first);
}

#[test]
fn touched_stations_are_seen_once() {
    let mut lab = lab();
    let (a, b) = (
        lab.tables.set_local(lab.net, M1, 3, 0, None).unwrap(),
        lab.tables.set_local(lab.net, M2, 3, 0, None).unwrap(),
    );
    lab.view.touch(a);
    lab.view.touch(a);
    assert_eq!([a, b, a].map(|id| lab.tables.take_seen(id)), [true, false, false]);
    lab.view.touch(u32::MAX);
    assert!(!lab.tables.take_seen(u32::MAX));
}

#[test]
fn vteps_belong_to_the_host_that_said_so_last() {
    let mut lab = lab();
    for ip in [IP, IP6] {
        assert_eq!(lab.view.vtep(ip), None);
        lab.tables.put_vtep(ip, 1).unwrap();
        lab.tables.put_vtep(ip, 2).unwrap();
        lab.tables.remove_vtep(ip, 1);
        assert_eq!(lab.view.vtep(ip), Some(2));
        lab.tables.remove_vtep(ip, 2);
        assert_eq!(lab.view.vtep(ip), None);
    }
    lab.tables.put_vtep("0.0.0.0".parse().unwrap(), 0).unwrap();
    assert_eq!(lab.view.vtep("0.0.0.0".parse().unwrap()), Some(0));
}

#[test]
fn hosts_and_networks_are_published_and_withdrawn() {
    let mut lab = lab();
    let vni = Vni::new(100).unwrap();
    assert_eq!((lab.view.net_of(vni), lab.view.net_of(Vni::new(300).unwrap())), (Some(lab.net), None));
    assert_eq!(lab.tables.net(vni), Ok(lab.net));
    assert!(lab.view.host(5).is_none() && lab.view.network(lab.net).is_none());
    lab.tables.put_host(5, HostEntry { way: None, is_appliance: true }).unwrap();
    let entry = |flood| NetworkEntry {
        moving: [].into(),
        moved: [].into(),
        net: lab.net,
        vni,
        flood,
        mtu: 0,
        hosts: [5].into(),
        segment_hosts: [].into(),
        ports: [].into(),
    };
    let (before, after) = (entry(FloodPolicy::Drop), entry(FloodPolicy::Flood));
    lab.tables.put_network(before).unwrap();
    assert!(lab.view.host(5).is_some_and(|host| host.way.is_none()));
    assert_eq!(
        lab.view.network(lab.net).map(|n| (n.flood, n.hosts.to_vec())),
        Some((FloodPolicy::Drop, vec![5]))
    );
    lab.tables.put_network(after).unwrap();
    assert_eq!(lab.view.network(lab.net).map(|n| n.flood), Some(FloodPolicy::Flood));
    lab.tables.remove_host(5);
    assert!(lab.view.host(5).is_none());
}

#[test]
fn numbers_beyond_what_a_word_holds_are_refused() {
    let mut lab = lab();
    let full = lab.tables.set_remote(lab.net, M1, MAX_INDEX + 1).unwrap_err();
    assert_eq!(
        full.to_string(),
        "node 02:00:00:00:00:01 cannot be stored: its host's number 16777216 is beyond 16777215"
    );
    assert_eq!(lab.place(lab.net, M1), None);
    assert!(lab.tables.put_host(MAX_HOSTS, HostEntry { way: None, is_appliance: true }).is_err());
}

#[test]
fn an_epoch_is_passed_when_the_view_was_quiescent_or_parked() {
    let mut lab = lab();
    let epoch = lab.tables.publish();
    assert!(!lab.tables.passed(epoch));
    lab.view.quiescent();
    assert!(lab.tables.passed(epoch));
    let epoch = lab.tables.publish();
    let view = lab.view.park();
    assert!(lab.tables.passed(epoch));
    let epoch = lab.tables.publish();
    assert!(lab.tables.passed(epoch));
    let mut view = view.online();
    let epoch = lab.tables.publish();
    assert!(!lab.tables.passed(epoch));
    let tables = &mut lab.tables;
    assert!(view.parked_while(|| tables.passed(epoch)));
}

//! The typed layer: what a view reads, what a snapshot keeps, what a station shadows.

mod slots;

use super::entries::NetworkEntry;
use super::packed::{FdbEntry, MAX_SYNC_GENERATION, PackedFdbEntry, node_key};
use super::peer::{Accept, NetworkSeal, PackedVtep, PathClass, Peer};
use super::*;
use stopover_net::FloodPolicy;

const M1: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
const M2: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 1));
const IP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));

struct Lab {
    tables: Tables,
    view: View,
    bd: Bd,
    other: Bd,
}

fn lab() -> Lab {
    let (mut tables, views) = Tables::new(1).unwrap();
    let bd = tables.bd(Vni::new(100).unwrap()).unwrap();
    let other = tables.bd(Vni::new(200).unwrap()).unwrap();
    Lab { tables, view: views.into_iter().next().unwrap().online(), bd, other }
}

fn at(port: u16, station: u32) -> Option<FdbEntry> {
    Some(FdbEntry::Local { port, vlan: 0, station })
}

/// Every host has an isolation class of its own here.
fn isolation(host: u32) -> IsolationClass {
    IsolationClass(host as u16 * 1000)
}

impl Lab {
    /// Puts a host, and the entry of a node at it.
    fn set_remote(&mut self, bd: Bd, mac: Mac, host: u32) {
        let slot = self.tables.put_peer(Peer::new(host), true, Accept::Plain).unwrap();
        self.tables.set_remote(bd, mac, slot, isolation(host)).unwrap();
    }

    /// The entry of a node at this host.
    fn remote(&self, host: u32) -> Option<FdbEntry> {
        let slot = self.tables.slot(Peer::new(host), PathClass::Plain)?;
        Some(FdbEntry::Remote { slot, isolation: isolation(host) })
    }

    /// The entry of a node; all lookups must agree.
    #[track_caller]
    fn fdb_entry(&self, bd: Bd, mac: Mac) -> Option<FdbEntry> {
        let place = self.view.fdb_entry(bd, mac);
        self.tables.check_counts();
        assert_eq!(self.tables.fdb_entry(bd, mac), place);
        let (key, mut all, mut own) = ([node_key(bd, mac)], [0], [0]);
        self.view.lookup_nodes(&key, &mut all);
        self.view.lookup_locals(&key, &mut own);
        assert_eq!(PackedFdbEntry(all[0]).unpack(), place);
        let is_local = matches!(place, Some(FdbEntry::Local { .. }));
        assert_eq!(PackedFdbEntry(own[0]).unpack(), place.filter(|_| is_local));
        assert_eq!(self.tables.is_remote(bd, mac), place.is_some() && !is_local);
        place
    }

    #[track_caller]
    fn owner(&self, bd: Bd, ip: IpAddr) -> Option<Mac> {
        let owner = self.view.owner(bd, ip);
        assert_eq!(self.tables.owner(bd, ip), owner);
        owner
    }
}

#[test]
fn nodes_of_two_networks_are_separate() {
    let mut lab = lab();
    assert_eq!(lab.fdb_entry(lab.bd, M1), None);
    lab.set_remote(lab.bd, M1, 7);
    let id = lab.tables.set_local(lab.other, M1, 3, 0, None).unwrap();
    assert_eq!(lab.fdb_entry(lab.bd, M1), lab.remote(7));
    assert_eq!(lab.fdb_entry(lab.other, M1), at(3, id));
    lab.tables.remove_remote(lab.other, M1);
    assert_eq!(lab.fdb_entry(lab.other, M1), at(3, id), "a station of ours is no remote node");
    lab.tables.remove_remote(lab.bd, M1);
    assert_eq!(lab.fdb_entry(lab.bd, M1), None);
    assert_eq!(lab.tables.nodes().collect::<Vec<_>>(), [(lab.other, M1, at(3, id).unwrap())]);
}

#[test]
fn addresses_belong_to_one_node_and_only_it_can_release_them() {
    let mut lab = lab();
    for ip in [IP, IP6] {
        lab.tables.set_owner(lab.bd, ip, M1).unwrap();
        assert_eq!((lab.owner(lab.bd, ip), lab.owner(lab.other, ip)), (Some(M1), None));
        lab.tables.clear_owner(lab.bd, ip, M2);
        assert_eq!(lab.owner(lab.bd, ip), Some(M1));
        lab.tables.set_owner(lab.bd, ip, M2).unwrap();
        lab.tables.clear_owner(lab.bd, ip, M1);
        assert_eq!(lab.owner(lab.bd, ip), Some(M2));
    }
    let mut all: Vec<_> = lab.tables.owners().collect();
    all.sort_by_key(|(_, ip, _)| *ip);
    assert_eq!(all, [(lab.bd, IP, M2), (lab.bd, IP6, M2)]);
    lab.tables.clear_owner(lab.bd, IP, M2);
    lab.tables.clear_owner(lab.bd, IP6, M2);
    assert_eq!(lab.tables.owners().count(), 0);
}

#[test]
fn a_snapshot_keeps_its_own_nodes_and_local_stations() {
    let mut lab = lab();
    let ip = |n: u8| IpAddr::from([192, 168, 0, n]);
    let ip6 = |n: u16| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n));
    let (named, stale, ours) = (M1, M2, Mac::new([2, 0, 0, 0, 0, 3]));
    for (n, mac) in [(1, named), (2, stale)] {
        lab.set_remote(lab.bd, mac, 7);
        lab.tables.set_owner(lab.bd, ip(n), mac).unwrap();
        lab.tables.set_owner(lab.bd, ip6(u16::from(n)), mac).unwrap();
    }
    let id = lab.tables.set_local(lab.bd, ours, 3, 0, None).unwrap();
    lab.tables.set_owner(lab.bd, ip(3), ours).unwrap();
    lab.tables.set_owner(lab.bd, ip6(3), ours).unwrap();

    lab.tables.next_sync_generation();
    assert_eq!(lab.fdb_entry(lab.bd, stale), lab.remote(7), "until its end a snapshot takes nothing away");
    lab.set_remote(lab.bd, named, 8);
    lab.tables.set_owner(lab.bd, ip(1), named).unwrap();
    lab.tables.sweep();
    assert_eq!(lab.fdb_entry(lab.bd, named), lab.remote(8));
    assert_eq!(lab.fdb_entry(lab.bd, stale), None);
    assert_eq!(lab.fdb_entry(lab.bd, ours), at(3, id));
    let left: Vec<_> = [1, 2, 3].map(|n| (lab.owner(lab.bd, ip(n)), lab.owner(lab.bd, ip6(n.into())))).into();
    assert_eq!(left, [(Some(named), None), (None, None), (Some(ours), Some(ours))]);
}

#[test]
fn an_interrupted_snapshot_leaves_no_stale_node() {
    for broken in 1..5 {
        let mut lab = lab();
        lab.set_remote(lab.bd, M1, 7);
        lab.tables.set_owner(lab.bd, IP, M1).unwrap();
        for _ in 0..broken {
            lab.tables.next_sync_generation();
            // A node of the received part of the snapshot, which no longer exists.
            lab.set_remote(lab.bd, M2, 7);
        }
        lab.tables.next_sync_generation();
        lab.tables.sweep();
        assert_eq!(lab.tables.nodes().count(), 0, "{broken} broken off");
        assert_eq!(lab.tables.owners().count(), 0, "{broken} broken off");
    }
    const { assert!(MAX_SYNC_GENERATION >= 1000, "so many may break off in a row") };
}

#[test]
fn a_station_shadows_a_remote_node_until_it_is_removed() {
    let mut lab = lab();
    lab.set_remote(lab.bd, M1, 7);
    let id = lab.tables.set_local(lab.bd, M1, 3, 0, None).unwrap();
    assert_eq!(lab.fdb_entry(lab.bd, M1), at(3, id));
    // Updates of the node meanwhile are kept.
    lab.set_remote(lab.bd, M1, 8);
    assert_eq!(lab.fdb_entry(lab.bd, M1), at(3, id));
    lab.tables.remove_local(lab.bd, M1, id);
    assert_eq!(lab.fdb_entry(lab.bd, M1), lab.remote(8));

    let id = lab.tables.set_local(lab.bd, M1, 3, 0, None).unwrap();
    // A move to another port does not remove the station.
    assert_eq!(lab.tables.set_local(lab.bd, M1, 4, 0, Some(id)), Ok(id));
    lab.tables.remove_remote(lab.bd, M1);
    assert_eq!(lab.fdb_entry(lab.bd, M1), at(4, id));
    lab.tables.remove_local(lab.bd, M1, id);
    assert_eq!(lab.fdb_entry(lab.bd, M1), None);
}

#[test]
fn a_snapshot_removes_shadowed_nodes_too() {
    let mut lab = lab();
    for (mac, named) in [(M1, true), (M2, false)] {
        lab.set_remote(lab.bd, mac, 7);
        let id = lab.tables.set_local(lab.bd, mac, 3, 0, None).unwrap();
        lab.tables.next_sync_generation();
        if named {
            lab.set_remote(lab.bd, mac, 9);
        }
        lab.tables.sweep();
        assert_eq!(lab.fdb_entry(lab.bd, mac), at(3, id));
        lab.tables.remove_local(lab.bd, mac, id);
        assert_eq!(lab.fdb_entry(lab.bd, mac), lab.remote(9).filter(|_| named));
    }
}

#[test]
fn a_station_number_is_reused_after_every_reader_has_passed() {
    let mut lab = lab();
    let first = lab.tables.set_local(lab.bd, M1, 3, 0, None).unwrap();
    lab.tables.publish();
    lab.view.quiescent();
    lab.tables.remove_local(lab.bd, M1, first);
    lab.tables.publish();
    // The reader may still have the old entry, and touch the removed station.
    let second = lab.tables.set_local(lab.bd, M2, 3, 0, None).unwrap();
    assert_ne!(second, first);
    lab.view.quiescent();
    lab.tables.publish();
    let third = lab.tables.set_local(lab.bd, M1, 3, 0, None).unwrap();
    assert_eq!(third, first);
}

#[test]
fn touched_stations_are_seen_once() {
    let mut lab = lab();
    let (a, b) = (
        lab.tables.set_local(lab.bd, M1, 3, 0, None).unwrap(),
        lab.tables.set_local(lab.bd, M2, 3, 0, None).unwrap(),
    );
    lab.view.touch(a);
    lab.view.touch(a);
    assert_eq!([a, b, a].map(|id| lab.tables.take_seen(id)), [true, false, false]);
    lab.view.touch(u32::MAX);
    assert!(!lab.tables.take_seen(u32::MAX));
}

#[test]
fn a_vtep_belongs_to_the_last_host_that_registered_it() {
    let mut lab = lab();
    let (one, two) = (Peer::new(1), Peer::new(2));
    for ip in [IP, IP6] {
        assert_eq!(lab.view.vtep(ip), None);
        lab.tables.put_vtep(ip, one).unwrap();
        lab.tables.put_vtep(ip, two).unwrap();
        lab.tables.remove_vtep(ip, one);
        assert_eq!(lab.view.vtep(ip).map(PackedVtep::peer), Some(two));
        lab.tables.remove_vtep(ip, two);
        assert_eq!(lab.view.vtep(ip), None);
    }
    lab.tables.put_vtep("0.0.0.0".parse().unwrap(), Peer::new(0)).unwrap();
    assert_eq!(lab.view.vtep("0.0.0.0".parse().unwrap()).map(PackedVtep::peer), Some(Peer::new(0)));
}

#[test]
fn hosts_and_networks_are_published_and_withdrawn() {
    let mut lab = lab();
    let vni = Vni::new(100).unwrap();
    assert_eq!((lab.view.bd_of(vni), lab.view.bd_of(Vni::new(300).unwrap())), (Some(lab.bd), None));
    assert_eq!(lab.tables.bd(vni), Ok(lab.bd));
    assert!(lab.view.peer(Peer::new(5)).is_none() && lab.view.network(lab.bd).is_none());
    let slot = lab.tables.put_peer(Peer::new(5), true, Accept::Plain).unwrap();
    let entry = |flood| NetworkEntry {
        migrating: [].into(),
        moved: [].into(),
        bd: lab.bd,
        vni,
        flood,
        mtu: 0,
        seal: NetworkSeal::ByHost,
        slots: [slot].into(),
        segment_slots: [].into(),
        ports: [].into(),
    };
    let (before, after) = (entry(FloodPolicy::Drop), entry(FloodPolicy::Flood));
    lab.tables.put_network(before).unwrap();
    assert!(lab.view.slot(slot).is_some_and(|entry| entry.path.is_none() && entry.peer == Peer::new(5)));
    assert_eq!(
        lab.view.network(lab.bd).map(|n| (n.flood, n.slots.to_vec())),
        Some((FloodPolicy::Drop, vec![slot]))
    );
    lab.tables.put_network(after).unwrap();
    assert_eq!(lab.view.network(lab.bd).map(|n| n.flood), Some(FloodPolicy::Flood));
    lab.tables.remove_peer(Peer::new(5));
    assert!(lab.view.peer(Peer::new(5)).is_none() && lab.view.slot(slot).is_none());
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let mut lab = lab();
    let full = lab.tables.put_peer(Peer::new(LAST_HOST + 1), true, Accept::Plain).unwrap_err();
    assert_eq!(full.to_string(), "host 1048576 cannot be stored: its number is beyond 1048575");
    assert_eq!(lab.tables.slot(Peer::new(LAST_HOST + 1), PathClass::Plain), None);
    assert!(lab.tables.put_peer(Peer::new(LAST_HOST), true, Accept::Plain).is_ok());
    assert_eq!((Slot::new(MAX_INDEX).map(Slot::get), Slot::new(MAX_INDEX + 1)), (Some(MAX_INDEX), None));
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
    assert!(view.park_during(|| tables.passed(epoch)));
}

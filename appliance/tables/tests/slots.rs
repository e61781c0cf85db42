//! Peers and slots: what a change of path writes, when a slot may be used again, what a peer with another number
//! keeps.

use super::*;
use crate::tables::entries::{EncapTemplate, Path, Seal};
use stopover_net::{
    ecn::OuterTos,
    outer::{OuterHeader, OuterSpec},
};

const ONE: Peer = Peer::new(1);
const TWO: Peer = Peer::new(2);

/// A path that leaves by this port.
fn path(peer: Peer, port: u16) -> Path {
    let spec = OuterSpec {
        src_mac: M1,
        dst_mac: M2,
        vlan: None,
        src: IpAddr::from([10, 0, 0, 1]),
        dst: IpAddr::from([10, 0, 0, 2]),
        dst_port: 4789,
        ttl: 64,
    };
    let outer = OuterHeader::new(&spec).unwrap();
    let template = EncapTemplate { tos: OuterTos::COPY, zero_checksum: false, outer };
    Path { port, inner_mtu: 1450, template, seal: Seal::None, peer }
}

impl Lab {
    fn put(&mut self, peer: Peer) -> Slot {
        self.tables.put_peer(peer, true, Accept::Plain).unwrap()
    }

    /// The port by which frames for a node leave.
    fn port_to(&self, mac: Mac) -> Option<u16> {
        match self.view.fdb_entry(self.bd, mac)? {
            FdbEntry::Remote { slot, .. } => Some(self.view.slot(slot)?.path.as_ref()?.port),
            FdbEntry::Local { .. } | FdbEntry::Migrating { .. } => None,
        }
    }

    /// All readers pass what was written so far.
    fn pass(&mut self) {
        self.tables.publish();
        self.view.quiescent();
        self.tables.publish();
    }
}

#[test]
fn a_change_of_path_is_one_write_for_all_nodes_behind_it() {
    let mut lab = lab();
    let slot = lab.put(ONE);
    let node = |n: u32| Mac::from_u64(0x0200_0000_0000 | u64::from(n));
    for n in 0..10_000 {
        lab.tables.set_remote(lab.bd, node(n), slot, IsolationClass::default()).unwrap();
    }
    lab.tables.set_path(ONE, PathClass::Plain, Some(path(ONE, 3))).unwrap();
    lab.pass();
    let (entries_written, records_replaced) = (lab.tables.nodes.writes, lab.tables.writer.pending());
    assert_eq!(entries_written, 10_000);
    lab.tables.set_path(ONE, PathClass::Plain, Some(path(ONE, 4))).unwrap();
    assert_eq!(lab.tables.nodes.writes, entries_written, "no FDB entry is touched");
    assert_eq!(lab.tables.writer.pending(), records_replaced + 1, "one record is replaced");
    assert!((0..10_000).all(|n| lab.port_to(node(n)) == Some(4)));
    assert_eq!(lab.tables.nodes_at(ONE), 10_000);
}

#[test]
fn a_slot_is_used_again_when_nothing_names_it_and_every_reader_has_passed() {
    let mut lab = lab();
    let slot = lab.put(ONE);
    lab.tables.set_remote(lab.bd, M1, slot, IsolationClass::default()).unwrap();
    lab.tables.remove_peer(ONE);
    lab.pass();
    lab.pass();
    assert_ne!(lab.put(TWO), slot, "the entry of a node names it");
    assert_eq!(lab.tables.peer_of(slot), Some(ONE));
    lab.tables.remove_remote(lab.bd, M1);
    lab.tables.publish();
    assert_ne!(lab.put(Peer::new(3)), slot, "the reader may still have the entry");
    lab.view.quiescent();
    lab.tables.publish();
    assert_eq!(lab.put(Peer::new(4)), slot);
    assert_eq!(lab.tables.peer_of(slot), Some(Peer::new(4)));
}

#[test]
fn a_slot_that_a_flood_list_or_a_shadowed_node_names_is_not_used_again() {
    let mut lab = lab();
    let network = |bd: Bd, slots: &[Slot], segment_slots: &[Slot]| NetworkEntry {
        migrating: [].into(),
        moved: [].into(),
        bd,
        vni: Vni::new(100).unwrap(),
        flood: FloodPolicy::Flood,
        mtu: 0,
        seal: NetworkSeal::ByHost,
        slots: slots.into(),
        segment_slots: segment_slots.into(),
        ports: [].into(),
    };
    let slots = [1, 2, 3].map(|host| lab.put(Peer::new(host)));
    lab.tables.put_network(network(lab.bd, &slots[..1], &slots[1..2])).unwrap();
    let station = lab.tables.set_local(lab.bd, M1, 3, 0, None).unwrap();
    lab.tables.set_remote(lab.bd, M1, slots[2], IsolationClass::default()).unwrap();
    for host in [1, 2, 3] {
        lab.tables.remove_peer(Peer::new(host));
    }
    lab.pass();
    lab.pass();
    assert!(!slots.contains(&lab.put(Peer::new(4))));
    lab.tables.put_network(network(lab.bd, &[], &[])).unwrap();
    lab.tables.remove_local(lab.bd, M1, station);
    lab.tables.remove_remote(lab.bd, M1);
    lab.pass();
    lab.pass();
    let again = [5, 6, 7].map(|host| lab.put(Peer::new(host)));
    assert!(slots.iter().all(|slot| again.contains(slot)), "{again:?}");
}

#[test]
fn a_peer_that_is_put_again_has_its_nodes() {
    let mut lab = lab();
    let slot = lab.put(ONE);
    lab.tables.set_remote(lab.bd, M1, slot, IsolationClass::default()).unwrap();
    lab.tables.set_path(ONE, PathClass::Plain, Some(path(ONE, 3))).unwrap();
    assert_eq!(lab.port_to(M1), Some(3));
    lab.tables.remove_peer(ONE);
    lab.tables.set_path(ONE, PathClass::Plain, Some(path(ONE, 3))).unwrap();
    assert_eq!(lab.port_to(M1), None);
    assert_eq!(lab.put(ONE), slot);
    lab.tables.set_path(ONE, PathClass::Plain, Some(path(ONE, 4))).unwrap();
    lab.pass();
    assert_eq!(lab.port_to(M1), Some(4));
    // Its facts change: the path in force remains.
    lab.tables.put_peer(ONE, false, Accept::Both).unwrap();
    assert_eq!((lab.port_to(M1), lab.view.is_appliance(ONE)), (Some(4), false));
}

#[test]
fn a_peer_with_another_number_keeps_nodes_and_path() {
    let mut lab = lab();
    let slot = lab.put(ONE);
    lab.tables.set_remote(lab.bd, M1, slot, IsolationClass::default()).unwrap();
    lab.tables.set_path(ONE, PathClass::Plain, Some(path(ONE, 3))).unwrap();
    let written = lab.tables.nodes.writes;
    lab.tables.renumber_peer(ONE, TWO).unwrap();
    assert_eq!(lab.tables.nodes.writes, written);
    assert_eq!((lab.port_to(M1), lab.tables.recorded_host(lab.bd, M1)), (Some(3), Some(TWO)));
    assert_eq!(lab.view.path_to(TWO).map(|path| path.peer), Some(TWO));
    assert!(lab.view.peer(ONE).is_none());
    assert_eq!((lab.tables.nodes_at(ONE), lab.tables.nodes_at(TWO)), (0, 1));
    assert_ne!(lab.put(ONE), slot, "its former number is another host's now");
}

#[test]
fn what_is_accepted_is_independent_of_how_frames_are_sent() {
    let mut lab = lab();
    lab.put(ONE);
    lab.tables.set_path(ONE, PathClass::Plain, Some(path(ONE, 3))).unwrap();
    let key = vtep4_key(Ipv4Addr::new(10, 0, 0, 2));
    for (accept, plain) in [(Accept::Both, true), (Accept::Sealed, false), (Accept::Plain, true)] {
        lab.tables.put_peer(ONE, true, accept).unwrap();
        for ip in [IpAddr::from([10, 0, 0, 2]), IP6] {
            lab.tables.put_vtep(ip, ONE).unwrap();
            assert_eq!(lab.view.vtep(ip), Some(PackedVtep::new(ONE, accept)));
        }
        lab.view.begin_vteps4();
        assert!(plain || !lab.view.knows_vtep4(key), "the cache forgets it at once");
        assert_eq!(lab.view.vteps4(&[key]), u64::from(plain));
        assert_eq!(lab.view.knows_vtep4(key), plain);
        assert_eq!(lab.view.path_to(ONE).map(|path| path.port), Some(3));
    }
}

//! Every kind is read as it was written, and anything else without a panic. `tests/store` compares with the bytes of
//! earlier versions.

use super::*;
use crate::{
    board::{Hold, Ips, Outcome, Run},
    model::{
        Accepted, DeclaredBy, Event, EventKind, HostDetails, Lock, Migration, MigrationState, Network, Nic,
        NodeFacts, PublicKey, ShortName, Uuid,
    },
    table::{Record, RecordKey},
};
use proptest::{collection::vec, prelude::*};
use std::net::IpAddr;
use stopover_net::{HostName, Mac, Vni};

fn key() -> (Vni, Mac) {
    (Vni::new(5).unwrap(), Mac::new([2, 0, 0, 0, 0, 1]))
}

/// Written and read again.
fn again<R: Record>(key: R::Key, record: &R) -> Option<R> {
    R::decode(key, &record.encode(key))
}

proptest! {
    #[test]
    fn nodes_round_trip(host: u32, generation: u64, operator: bool, ips in vec(any::<IpAddr>(), 0..=16),
                       bits: u8, share: bool) {
        let declared_by = if operator { DeclaredBy::Operator } else { DeclaredBy::Appliance };
        let kinds = [Hold::Shared, Hold::Used, Hold::Own];
        let hold = |ip: IpAddr| if share { kinds[usize::from(ip.is_ipv4())] } else { Hold::Own };
        let ips = ips.into_iter().collect::<Ips>().with_holds(hold);
        let record = NodeRecord { host, generation, declared_by, ips, facts: NodeFacts::of_bits(bits) };
        prop_assert_eq!(again(key(), &record), Some(record));
    }

    #[test]
    fn garbage_is_an_error_without_a_panic(bytes in vec(any::<u8>(), 0..64)) {
        let node = NodeRecord::decode(key(), &bytes);
        prop_assert!(node.is_none() || bytes.len() >= 13);
        prop_assert!(bytes.len() == 24 || Lock::decode(key(), &bytes).is_none() && Run::decode(1, &bytes).is_none());
        prop_assert!(bytes.len() == 1 || MemberRecord::decode((key().0, 1), &bytes).is_none());
        let _ = (HostRecord::decode(1, &bytes), Network::decode(key().0, &bytes), Event::decode(1, &bytes));
        let _ = (Migration::decode(1, &bytes), KeyRecord::decode(1, &bytes));
    }

    #[test]
    fn members_round_trip(joined: Option<bool>, declared: Option<bool>, has_nodes: bool) {
        let record = MemberRecord { joined, declared, has_nodes };
        prop_assert_eq!(again((key().0, 1), &record), Some(record));
    }

    #[test]
    fn runs_round_trip(id: [u8; 16], first: u64) {
        let record = Run { id: Uuid::from_bytes(id), first };
        prop_assert_eq!(again(1, &record), Some(record));
    }

    #[test]
    fn locks_round_trip(migration: u64, generation: u64, source: u32, target in 1..u32::MAX, known: bool) {
        let record = Lock { migration, generation, source, target: known.then_some(target) };
        prop_assert_eq!(again(key(), &record), Some(record));
    }

    #[test]
    fn keys_round_trip(id: [u8; 16], fingerprint: u64, a: u64, b: u32, refused in vec((any::<u32>(), ".*"), 0..4)) {
        let held = Accepted { ips: vec!["10.0.0.1".parse().unwrap()], refused: vec!["held".into()] };
        let partial = vec![(b, held), (1, Accepted::default())];
        let later = vec![(b, a)];
        for outcome in [
            Outcome::Done { revision: a },
            Outcome::Claimed {
                revision: a,
                judged: b,
                refused: refused.clone(),
                deferred: vec![(b, a)],
                partial,
                later,
            },
            Outcome::Migration { id: a, generation: 9, state: MigrationState::Completed, revision: 7 },
            Outcome::Synced { revision: a, nodes_deleted: b.into() },
            Outcome::Registered { host_id: b, session: a, revision: 7 },
        ] {
            let record = KeyRecord { id: Uuid::from_bytes(id), fingerprint, outcome };
            prop_assert_eq!(again(1, &record), Some(record));
        }
    }
}

fn details() -> HostDetails {
    let nic = |name: &str, address: &str, mtu| Nic {
        name: ShortName::new(name).unwrap(),
        address: address.parse().unwrap(),
        mtu,
    };
    HostDetails {
        nics: vec![nic("ul0", "10.0.0.1", 1600), nic("ul1", "fd00::1", 65_535)],
        capabilities: ["vxlan", "end-markers"].map(|name| ShortName::new(name).unwrap()).into(),
        public_key: PublicKey::new([7; 32]),
    }
}

/// Nodes in the store of an earlier version are declared, and whether they are routers is not known.
#[test]
fn a_node_of_an_earlier_version_is_read() {
    let bytes = [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0x81, 4, 10, 0, 0, 1];
    let record = NodeRecord::decode(key(), &bytes).unwrap();
    assert_eq!((record.host, record.generation, record.facts), (7, 9, NodeFacts::default()));
    assert_eq!(record.ips, Ips::from(IpAddr::from([10, 0, 0, 1])));
    assert_eq!(record.encode(key()), bytes, "and written the same");
}

#[test]
fn the_next_host_round_trips_under_its_only_key() {
    let key = NextHostKey.to_bytes();
    assert_eq!(
        (NextHostKey::from_bytes(key.as_bytes()), NextHostKey::from_bytes(b"next")),
        (Some(NextHostKey), None)
    );
    assert_eq!(again(NextHostKey, &NextHost(u32::MAX)), Some(NextHost(u32::MAX)));
    assert_eq!(NextHost::decode(NextHostKey, &(1u64 << 32).to_be_bytes()), None);
}

#[test]
fn hosts_networks_and_events_round_trip() {
    let record = HostRecord {
        name: HostName::new("gw-a").unwrap(),
        vteps: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        udp_port: 4790,
        declared_by: DeclaredBy::Operator,
        up: false,
        no_flood: true,
        down_unix_ms: 7,
        details: details(),
    };
    assert_eq!(again(7, &record), Some(record));
    let net = Network {
        vni: Vni::new(9).unwrap(),
        name: "blue".into(),
        flood: stopover_net::FloodPolicy::ToSegments,
        mtu: 1450,
    };
    assert_eq!(again(net.vni, &net), Some(net));
    let e = Event {
        number: 3,
        unix_ms: 4,
        kind: EventKind::Conflict,
        text: "x".into(),
        revision: 5,
        actor: "operator".into(),
    };
    assert_eq!(again(3, &e), Some(e));
}

//! Records as bytes. Keys are big-endian, so that byte order is key order. Nodes, of which there are millions,
//! are packed by hand; everything else is protobuf, which can grow fields.

use crate::{
    board::{
        Hold, Ips, Outcome, Run,
        record::{HostRecord, KeyRecord, MemberRecord, NodeRecord},
    },
    model::{Accepted, DeclaredBy, Event, Lock, Migration, MigrationState, Network, NodeFacts, Uuid},
    proto::{emit, parse, v1},
};
use prost::Message;
use std::net::IpAddr;
use stopover_net::{Mac, Vni};

/// A record that cannot be read: written by another program or a newer version, or damaged without a checksum error.
#[derive(Debug)]
pub(super) struct Unreadable(pub &'static str);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a {} record is unreadable; is the store of a newer version?", self.0)
    }
}

type Read<T> = Result<T, Unreadable>;

pub(super) fn node_key(vni: Vni, mac: Mac) -> [u8; 9] {
    let mut key = [0; 9];
    key[..3].copy_from_slice(&vni.get().to_be_bytes()[1..]);
    key[3..].copy_from_slice(&mac.octets());
    key
}

pub(super) fn read_node_key(key: &[u8]) -> Read<(Vni, Mac)> {
    let bad = || Unreadable("node");
    let key: &[u8; 9] = key.try_into().map_err(|_| bad())?;
    let [a, b, c, mac @ ..] = *key;
    Ok((Vni::new(u32::from_be_bytes([0, a, b, c])).map_err(|_| bad())?, Mac::new(mac)))
}

const OPERATOR_BIT: u8 = 0x80;

/// Bits in the length of an address: [`Hold::Shared`], [`Hold::Used`].
const SHARED_BIT: u8 = 0x80;
const USED_BIT: u8 = 0x40;

/// host, 4 bytes · generation, 8 · operator bit and number of addresses, 1 · addresses, each 4 or 16 after its length and
/// bits · facts, 1, unless 0: records of earlier versions do not have it
pub(super) fn node(record: &NodeRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(18);
    out.extend(record.host.to_be_bytes());
    out.extend(record.generation.to_be_bytes());
    let operator = if record.declared_by == DeclaredBy::Operator { OPERATOR_BIT } else { 0 };
    out.push(operator | record.ips.iter().count() as u8);
    for ip in record.ips.iter() {
        let bytes = emit::ip(&ip);
        out.push(
            bytes.len() as u8
                | match record.ips.hold(ip) {
                    Hold::Own => 0,
                    Hold::Shared => SHARED_BIT,
                    Hold::Used => USED_BIT,
                },
        );
        out.extend(bytes);
    }
    out.extend(Some(record.facts.bits()).filter(|bits| *bits != 0));
    out
}

pub(super) fn read_node(mut bytes: &[u8]) -> Read<NodeRecord> {
    fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Read<&'a [u8]> {
        let (head, rest) = bytes.split_at_checked(n).ok_or(Unreadable("node"))?;
        *bytes = rest;
        Ok(head)
    }
    fn number(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
    }
    let host = number(take(&mut bytes, 4)?) as u32;
    let generation = number(take(&mut bytes, 8)?);
    let flags = take(&mut bytes, 1)?[0];
    let mut holds = Vec::new();
    let mut ip = || -> Read<IpAddr> {
        let length = take(&mut bytes, 1)?[0];
        let ip = take(&mut bytes, (length & !(SHARED_BIT | USED_BIT)).into())?;
        let ip = match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
            (Ok(v4), _) => Ok(IpAddr::from(v4)),
            (_, Ok(v6)) => Ok(IpAddr::from(v6)),
            _ => Err(Unreadable("node")),
        };
        let hold = match length & (SHARED_BIT | USED_BIT) {
            SHARED_BIT => Hold::Shared,
            USED_BIT => Hold::Used,
            _ => return ip,
        };
        holds.extend(ip.as_ref().ok().map(|ip| (*ip, hold)));
        ip
    };
    let ips = match flags & !OPERATOR_BIT {
        0 => Ips::default(),
        // Most nodes have one address: without an allocation.
        1 => ip()?.into(),
        count => (0..count).map(|_| ip()).collect::<Read<Vec<IpAddr>>>()?.into_iter().collect(),
    };
    let facts = match *bytes {
        [] => NodeFacts::default(),
        [bits] => NodeFacts::of_bits(bits),
        _ => return Err(Unreadable("node")),
    };
    let hold = |ip| holds.iter().find(|(held, _)| *held == ip).map_or(Hold::Own, |(_, hold)| *hold);
    let ips = if holds.is_empty() { ips } else { ips.with_holds(hold) };
    let declared_by = if flags & OPERATOR_BIT != 0 { DeclaredBy::Operator } else { DeclaredBy::Appliance };
    Ok(NodeRecord { host, generation, declared_by, ips, facts })
}

pub(super) fn host(id: u32, record: &HostRecord) -> Vec<u8> {
    v1::Host::from(&record.to_host(id)).encode_to_vec()
}

pub(super) fn read_host(bytes: &[u8]) -> Read<HostRecord> {
    let bad = || Unreadable("host");
    let host: crate::model::Host =
        v1::Host::decode(bytes).map_err(|_| bad())?.try_into().map_err(|_: parse::BadField| bad())?;
    let crate::model::Host { id: _, name, vteps, udp_port, declared_by, up, no_flood, down_unix_ms } = host;
    Ok(HostRecord { name, vteps, udp_port, declared_by, up, no_flood, down_unix_ms })
}

pub(super) fn network(network: &Network) -> Vec<u8> {
    v1::Network::from(network).encode_to_vec()
}

pub(super) fn read_network(bytes: &[u8]) -> Read<Network> {
    let bad = || Unreadable("network");
    v1::Network::decode(bytes).map_err(|_| bad())?.try_into().map_err(|_: parse::BadField| bad())
}

pub(super) fn member_key(vni: Vni, host: u32) -> [u8; 7] {
    let mut key = [0; 7];
    key[..3].copy_from_slice(&vni.get().to_be_bytes()[1..]);
    key[3..].copy_from_slice(&host.to_be_bytes());
    key
}

pub(super) fn read_member_key(key: &[u8]) -> Read<(Vni, u32)> {
    let bad = || Unreadable("member");
    let [a, b, c, h @ ..] = *<&[u8; 7]>::try_from(key).map_err(|_| bad())?;
    Ok((Vni::new(u32::from_be_bytes([0, a, b, c])).map_err(|_| bad())?, u32::from_be_bytes(h)))
}

/// Two bits each for joined and declared (present; with segment), one for nodes.
pub(super) fn member(record: &MemberRecord) -> [u8; 1] {
    let reason = |r: Option<bool>| u8::from(r.is_some()) | u8::from(r == Some(true)) << 1;
    [reason(record.joined) | reason(record.declared) << 2 | u8::from(record.has_nodes) << 4]
}

pub(super) fn read_member(bytes: &[u8]) -> Read<MemberRecord> {
    let [bits] = *<&[u8; 1]>::try_from(bytes).map_err(|_| Unreadable("member"))?;
    let reason = |bits: u8| (bits & 1 != 0).then_some(bits & 2 != 0);
    Ok(MemberRecord { joined: reason(bits), declared: reason(bits >> 2), has_nodes: bits & 16 != 0 })
}

pub(super) fn event(event: &Event) -> Vec<u8> {
    v1::Event::from(event).encode_to_vec()
}

pub(super) fn read_event(bytes: &[u8]) -> Read<Event> {
    let bad = || Unreadable("event");
    v1::Event::decode(bytes).map_err(|_| bad())?.try_into().map_err(|_: parse::BadField| bad())
}

pub(super) fn migration(migration: &Migration) -> Vec<u8> {
    v1::Migration::from(migration).encode_to_vec()
}

pub(super) fn read_migration(bytes: &[u8]) -> Read<Migration> {
    let bad = || Unreadable("migration");
    v1::Migration::decode(bytes).map_err(|_| bad())?.try_into().map_err(|_: parse::BadField| bad())
}

/// migration, 8 bytes · generation, 8 · source, 4 · target, 4, 0 = none
pub(super) fn lock(lock: &Lock) -> [u8; 24] {
    let mut out = [0; 24];
    out[..8].copy_from_slice(&lock.migration.to_be_bytes());
    out[8..16].copy_from_slice(&lock.generation.to_be_bytes());
    out[16..20].copy_from_slice(&lock.source.to_be_bytes());
    out[20..].copy_from_slice(&lock.target.unwrap_or(0).to_be_bytes());
    out
}

pub(super) fn read_lock(bytes: &[u8]) -> Read<Lock> {
    let bytes: &[u8; 24] = bytes.try_into().map_err(|_| Unreadable("lock"))?;
    let number = |from: usize, to: usize| bytes[from..to].iter().fold(0, |n, b| n << 8 | u64::from(*b));
    Ok(Lock {
        migration: number(0, 8),
        generation: number(8, 16),
        source: number(16, 20) as u32,
        target: Some(number(20, 24) as u32).filter(|id| *id != 0),
    })
}

/// An [`Outcome`] with its key.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredKey {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(fixed64, tag = "2")]
    fingerprint: u64,
    /// 1 done, 2 claimed, 3 synced, 4 registered, 5 migration.
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(uint64, tag = "4")]
    revision: u64,
    /// Claims judged, nodes deleted, the session, or the migration.
    #[prost(uint64, tag = "5")]
    number: u64,
    /// Positions refused, the host's id, or the migration's state.
    #[prost(uint32, repeated, tag = "6")]
    positions: Vec<u32>,
    #[prost(string, repeated, tag = "7")]
    reasons: Vec<String>,
    #[prost(uint32, repeated, tag = "8")]
    deferred: Vec<u32>,
    /// The migration that deferred each claim; or the generation of a migration.
    #[prost(uint64, repeated, tag = "9")]
    migrations: Vec<u64>,
    /// Claims that were accepted with other addresses.
    #[prost(message, repeated, tag = "10")]
    partial: Vec<StoredPartial>,
    /// Claims to be repeated, and after how many milliseconds.
    #[prost(uint32, repeated, tag = "11")]
    later: Vec<u32>,
    #[prost(uint64, repeated, tag = "12")]
    retry_ms: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredPartial {
    #[prost(uint32, tag = "1")]
    position: u32,
    #[prost(bytes = "vec", repeated, tag = "2")]
    ips: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "3")]
    refused: Vec<String>,
}

pub(super) fn key(record: &KeyRecord) -> Vec<u8> {
    let KeyRecord { id, fingerprint, outcome } = record;
    let mut stored = StoredKey { id: (*id).into(), fingerprint: *fingerprint, ..StoredKey::default() };
    let (kind, revision, number) =
        match outcome.clone() {
            Outcome::Done { revision } => (1, revision, 0),
            Outcome::Claimed { revision, judged, refused, deferred, partial, later } => {
                (stored.positions, stored.reasons) = refused.into_iter().unzip();
                (stored.deferred, stored.migrations) = deferred.into_iter().unzip();
                (stored.later, stored.retry_ms) = later.into_iter().unzip();
                let partial = partial.into_iter().map(|(position, Accepted { ips, refused })| {
                    StoredPartial { position, ips: emit::ips(&ips), refused }
                });
                stored.partial = partial.collect();
                (2, revision, judged.into())
            }
            Outcome::Synced { revision, nodes_deleted } => (3, revision, nodes_deleted),
            Outcome::Registered { host_id, session, revision } => {
                stored.positions = vec![host_id];
                (4, revision, session)
            }
            Outcome::Migration { id, generation, state, revision } => {
                stored.positions = vec![v1::MigrationState::from(state) as u32];
                stored.migrations = vec![generation];
                (5, revision, id)
            }
        };
    StoredKey { kind, revision, number, ..stored }.encode_to_vec()
}

pub(super) fn read_key(bytes: &[u8]) -> Read<KeyRecord> {
    let bad = || Unreadable("key");
    let k = StoredKey::decode(bytes).map_err(|_| bad())?;
    let revision = k.revision;
    let outcome = match k.kind {
        1 => Outcome::Done { revision },
        2 => Outcome::Claimed {
            revision,
            judged: u32::try_from(k.number).map_err(|_| bad())?,
            refused: k.positions.into_iter().zip(k.reasons).collect(),
            deferred: k.deferred.into_iter().zip(k.migrations).collect(),
            partial: k
                .partial
                .into_iter()
                .map(|p| {
                    let accepted = v1::AcceptedAddresses { ips: p.ips, refused: p.refused }.try_into();
                    accepted.map(|a| (p.position, a)).map_err(|_: parse::BadField| bad())
                })
                .collect::<Read<_>>()?,
            later: k.later.into_iter().zip(k.retry_ms).collect(),
        },
        3 => Outcome::Synced { revision, nodes_deleted: k.number },
        4 => Outcome::Registered {
            host_id: *k.positions.first().ok_or_else(bad)?,
            session: k.number,
            revision,
        },
        5 => Outcome::Migration {
            id: k.number,
            generation: *k.migrations.first().ok_or_else(bad)?,
            state: match k.positions.first() {
                Some(1) => MigrationState::Locked,
                Some(2) => MigrationState::Completed,
                Some(3) => MigrationState::Aborted,
                _ => return Err(bad()),
            },
            revision,
        },
        _ => return Err(bad()),
    };
    let id = Uuid::from_slice(&k.id).map_err(|_| bad())?;
    Ok(KeyRecord { id, fingerprint: k.fingerprint, outcome })
}

/// A run: its id, then the revision at its start.
pub(super) fn run(run: &Run) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(run.id.as_bytes());
    bytes[16..].copy_from_slice(&run.first.to_be_bytes());
    bytes
}

pub(super) fn read_run(bytes: &[u8]) -> Result<Run, Unreadable> {
    let bad = || Unreadable("run");
    let (id, first) = bytes.split_first_chunk::<16>().ok_or_else(bad)?;
    Ok(Run { id: Uuid::from_bytes(*id), first: u64::from_be_bytes(first.try_into().map_err(|_| bad())?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventKind;
    use proptest::{collection::vec, prelude::*};
    use stopover_net::HostName;

    proptest! {
        #[test]
        fn nodes_round_trip(host: u32, generation: u64, operator: bool, ips in vec(any::<IpAddr>(), 0..=16),
                           vni in 1..=Vni::MAX, mac: [u8; 6], bits: u8, share: bool) {
            let declared_by = if operator { DeclaredBy::Operator } else { DeclaredBy::Appliance };
            let kinds = [Hold::Shared, Hold::Used, Hold::Own];
            let hold = |ip: IpAddr| if share { kinds[usize::from(ip.is_ipv4())] } else { Hold::Own };
            let ips = ips.into_iter().collect::<Ips>().with_holds(hold);
            let record = NodeRecord { host, generation, declared_by, ips, facts: NodeFacts::of_bits(bits) };
            prop_assert_eq!(read_node(&node(&record)).unwrap(), record);
            let vni = Vni::new(vni).unwrap();
            prop_assert_eq!(read_node_key(&node_key(vni, Mac::new(mac))).unwrap(), (vni, Mac::new(mac)));
            prop_assert_eq!(read_member_key(&member_key(vni, host)).unwrap(), (vni, host));
        }

        #[test]
        fn garbage_is_an_error_without_a_panic(bytes in vec(any::<u8>(), 0..64)) {
            let _ = (read_node(&bytes), read_node_key(&bytes), read_host(&bytes), read_network(&bytes));
            let _ = (read_lock(&bytes), read_migration(&bytes), read_run(&bytes));
            let _ = (read_member(&bytes), read_member_key(&bytes), read_event(&bytes), read_key(&bytes));
        }

        #[test]
        fn members_round_trip(joined: Option<bool>, declared: Option<bool>, has_nodes: bool) {
            let record = MemberRecord { joined, declared, has_nodes };
            prop_assert_eq!(read_member(&member(&record)).unwrap(), record);
        }

        #[test]
        fn runs_round_trip(id: [u8; 16], first: u64) {
            let record = Run { id: Uuid::from_bytes(id), first };
            prop_assert_eq!(read_run(&run(&record)).unwrap(), record);
        }

        #[test]
        fn locks_round_trip(migration: u64, generation: u64, source: u32, target in 1..u32::MAX, known: bool) {
            let record = Lock { migration, generation, source, target: known.then_some(target) };
            prop_assert_eq!(read_lock(&lock(&record)).unwrap(), record);
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
                prop_assert_eq!(read_key(&key(&record)).unwrap(), record);
            }
        }
    }

    /// Nodes in the store of an earlier version are declared, and whether they are routers is not known.
    #[test]
    fn a_node_of_an_earlier_version_is_read() {
        let bytes = [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0x81, 4, 10, 0, 0, 1];
        let record = read_node(&bytes).unwrap();
        assert_eq!((record.host, record.generation, record.facts), (7, 9, NodeFacts::default()));
        assert_eq!(record.ips, Ips::from(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(node(&record), bytes, "and written the same");
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
        };
        assert_eq!(read_host(&host(7, &record)).unwrap(), record);
        let net = Network {
            vni: Vni::new(9).unwrap(),
            name: "blue".into(),
            flood: stopover_net::FloodPolicy::ToSegments,
            mtu: 1450,
        };
        assert_eq!(read_network(&network(&net)).unwrap(), net);
        let e = Event {
            number: 3,
            unix_ms: 4,
            kind: EventKind::Conflict,
            text: "x".into(),
            revision: 5,
            actor: "operator".into(),
        };
        assert_eq!(read_event(&event(&e)).unwrap(), e);
    }
}

//! The outcome of a request, by its place in the memory of keys.

use super::{
    fields::{ips, ips_bytes},
    migration::{state, state_number},
};
use crate::{
    board::Outcome,
    model::{Accepted, Uuid},
    table::{Record, Table},
};
use prost::Message;

/// The outcome of a request, remembered by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The request's key.
    pub id: Uuid,
    /// Of the request's contents.
    pub fingerprint: u64,
    /// The answer.
    pub outcome: Outcome,
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

impl Record for KeyRecord {
    const TABLE: Table = Table("keys");
    type Key = u64;

    fn encode(&self, _: u64) -> Vec<u8> {
        let Self { id, fingerprint, outcome } = self;
        let mut stored = StoredKey { id: (*id).into(), fingerprint: *fingerprint, ..StoredKey::default() };
        let (kind, revision, number) = match outcome.clone() {
            Outcome::Done { revision } => (1, revision, 0),
            Outcome::Claimed { revision, judged, refused, deferred, partial, later } => {
                (stored.positions, stored.reasons) = refused.into_iter().unzip();
                (stored.deferred, stored.migrations) = deferred.into_iter().unzip();
                (stored.later, stored.retry_ms) = later.into_iter().unzip();
                let partial = partial.into_iter().map(|(position, Accepted { ips, refused })| {
                    StoredPartial { position, ips: ips_bytes(&ips), refused }
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
                stored.positions = vec![state_number(state)];
                stored.migrations = vec![generation];
                (5, revision, id)
            }
        };
        StoredKey { kind, revision, number, ..stored }.encode_to_vec()
    }

    fn decode(_: u64, bytes: &[u8]) -> Option<Self> {
        let k = StoredKey::decode(bytes).ok()?;
        let revision = k.revision;
        let outcome = match k.kind {
            1 => Outcome::Done { revision },
            2 => Outcome::Claimed {
                revision,
                judged: u32::try_from(k.number).ok()?,
                refused: k.positions.into_iter().zip(k.reasons).collect(),
                deferred: k.deferred.into_iter().zip(k.migrations).collect(),
                partial: k
                    .partial
                    .into_iter()
                    .map(|p| Some((p.position, Accepted { ips: ips(&p.ips)?, refused: p.refused })))
                    .collect::<Option<_>>()?,
                later: k.later.into_iter().zip(k.retry_ms).collect(),
            },
            3 => Outcome::Synced { revision, nodes_deleted: k.number },
            4 => Outcome::Registered { host_id: *k.positions.first()?, session: k.number, revision },
            5 => Outcome::Migration {
                id: k.number,
                generation: *k.migrations.first()?,
                state: state(*k.positions.first()?)?,
                revision,
            },
            _ => return None,
        };
        let id = Uuid::from_slice(&k.id).ok()?;
        Some(Self { id, fingerprint: k.fingerprint, outcome })
    }
}

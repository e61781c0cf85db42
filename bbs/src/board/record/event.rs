//! An event, by its number.

use crate::{
    model::{Event, EventKind},
    table::{Record, Table},
};
use prost::Message;

#[derive(Clone, PartialEq, prost::Message)]
struct StoredEvent {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint64, tag = "2")]
    unix_ms: u64,
    /// See [`kind_number`].
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(string, tag = "4")]
    text: String,
    #[prost(uint64, tag = "5")]
    revision: u64,
    #[prost(string, tag = "6")]
    actor: String,
}

fn kind_number(kind: EventKind) -> u32 {
    match kind {
        EventKind::Other => 0,
        EventKind::HostUp => 1,
        EventKind::HostDown => 2,
        EventKind::HostReplaced => 3,
        EventKind::Conflict => 4,
        EventKind::TakenOver => 5,
        EventKind::Operator => 6,
        EventKind::Migration => 7,
        EventKind::Lineage => 8,
    }
}

/// A number that is not known is a kind of another version: the text has the details.
fn kind(n: u32) -> EventKind {
    match n {
        1 => EventKind::HostUp,
        2 => EventKind::HostDown,
        3 => EventKind::HostReplaced,
        4 => EventKind::Conflict,
        5 => EventKind::TakenOver,
        6 => EventKind::Operator,
        7 => EventKind::Migration,
        8 => EventKind::Lineage,
        _ => EventKind::Other,
    }
}

impl Record for Event {
    const TABLE: Table = Table("events");
    type Key = u64;

    fn encode(&self, _: u64) -> Vec<u8> {
        let Self { number, unix_ms, kind, text, revision, actor } = self.clone();
        StoredEvent { number, unix_ms, kind: kind_number(kind), text, revision, actor }.encode_to_vec()
    }

    fn decode(number: u64, bytes: &[u8]) -> Option<Self> {
        let StoredEvent { number: _, unix_ms, kind: n, text, revision, actor } =
            StoredEvent::decode(bytes).ok()?;
        Some(Self { number, unix_ms, kind: kind(n), text, revision, actor })
    }
}

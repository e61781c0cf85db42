//! A run of the store, by its number.

use crate::{
    board::Run,
    model::Uuid,
    table::{Record, Table},
};

/// id, 16 bytes · revision at its start, 8
impl Record for Run {
    const TABLE: Table = Table("runs");
    type Key = u64;

    fn encode(&self, _: u64) -> Vec<u8> {
        let mut out = self.id.as_bytes().to_vec();
        out.extend(self.first.to_be_bytes());
        out
    }

    fn decode(_: u64, bytes: &[u8]) -> Option<Self> {
        let (id, first) = bytes.split_first_chunk::<16>()?;
        Some(Self { id: Uuid::from_bytes(*id), first: u64::from_be_bytes(first.try_into().ok()?) })
    }
}

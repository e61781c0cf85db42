//! The lock on a node, by the node's network and MAC.

use crate::{
    model::Lock,
    table::{Record, Table},
};
use stopover_net::{Mac, Vni};

/// migration, 8 bytes · generation, 8 · source, 4 · target, 4, 0 = none
impl Record for Lock {
    const TABLE: Table = Table("locks");
    type Key = (Vni, Mac);

    fn encode(&self, _: (Vni, Mac)) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        out.extend(self.migration.to_be_bytes());
        out.extend(self.generation.to_be_bytes());
        out.extend(self.source.to_be_bytes());
        out.extend(self.target.unwrap_or(0).to_be_bytes());
        out
    }

    fn decode(_: (Vni, Mac), bytes: &[u8]) -> Option<Self> {
        let (migration, bytes) = bytes.split_first_chunk()?;
        let (generation, bytes) = bytes.split_first_chunk()?;
        let (source, target) = bytes.split_first_chunk()?;
        Some(Self {
            migration: u64::from_be_bytes(*migration),
            generation: u64::from_be_bytes(*generation),
            source: u32::from_be_bytes(*source),
            target: Some(u32::from_be_bytes(target.try_into().ok()?)).filter(|id| *id != 0),
        })
    }
}

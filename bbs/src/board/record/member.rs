//! A membership, by network and host.

use crate::table::{Record, Table};
use stopover_net::Vni;

/// Why a host is member of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberRecord {
    /// Its appliance joined; with `segment`.
    pub joined: Option<bool>,
    /// The operator declared it; with `segment`.
    pub declared: Option<bool>,
    /// It has nodes there.
    pub has_nodes: bool,
}

impl MemberRecord {
    /// What watchers see: `segment` if it is a member at all.
    #[must_use]
    pub fn visible(&self) -> Option<bool> {
        let segment = self.joined == Some(true) || self.declared == Some(true);
        (self.joined.is_some() || self.declared.is_some() || self.has_nodes).then_some(segment)
    }
}

/// Two bits each for joined and declared (present; with segment), one for nodes.
impl Record for MemberRecord {
    const TABLE: Table = Table("members");
    type Key = (Vni, u32);

    fn encode(&self, _: (Vni, u32)) -> Vec<u8> {
        let reason = |r: Option<bool>| u8::from(r.is_some()) | u8::from(r == Some(true)) << 1;
        vec![reason(self.joined) | reason(self.declared) << 2 | u8::from(self.has_nodes) << 4]
    }

    fn decode(_: (Vni, u32), bytes: &[u8]) -> Option<Self> {
        let [bits] = *bytes else { return None };
        let reason = |bits: u8| (bits & 1 != 0).then_some(bits & 2 != 0);
        Some(Self { joined: reason(bits), declared: reason(bits >> 2), has_nodes: bits & 16 != 0 })
    }
}

//! A node, by network and MAC. There are millions of them, so they are packed by hand.

use super::fields;
use crate::{
    board::{Hold, Ips},
    model::{DeclaredBy, Node, NodeFacts},
    table::{Record, Table},
};
use std::net::IpAddr;
use stopover_net::{Mac, Vni};

/// A node, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Where it is.
    pub host: u32,
    /// Revision in which it moved there.
    pub generation: u64,
    /// Who declared it.
    pub declared_by: DeclaredBy,
    /// Its addresses.
    pub ips: Ips,
    /// Its kind, and whether it is a router.
    pub facts: NodeFacts,
}

impl NodeRecord {
    /// As watchers see it.
    #[must_use]
    pub fn to_node(&self, vni: Vni, mac: Mac) -> Node {
        let Self { host: host_id, generation, facts, .. } = *self;
        Node { vni, mac, ips: self.ips.to_vec(), host_id, generation, facts }
    }
}

const OPERATOR_BIT: u8 = 0x80;

/// Bits in the length of an address: [`Hold::Shared`], [`Hold::Used`].
const SHARED_BIT: u8 = 0x80;
const USED_BIT: u8 = 0x40;

/// host, 4 bytes · generation, 8 · operator bit and number of addresses, 1 · addresses, each 4 or 16 after its length and
/// bits · facts, 1, unless 0: records of earlier versions do not have it
impl Record for NodeRecord {
    const TABLE: Table = Table("nodes");
    type Key = (Vni, Mac);

    fn encode(&self, _: (Vni, Mac)) -> Vec<u8> {
        let mut out = Vec::with_capacity(18);
        out.extend(self.host.to_be_bytes());
        out.extend(self.generation.to_be_bytes());
        let operator = if self.declared_by == DeclaredBy::Operator { OPERATOR_BIT } else { 0 };
        out.push(operator | self.ips.iter().count() as u8);
        for ip in self.ips.iter() {
            let hold = match self.ips.hold(ip) {
                Hold::Own => 0,
                Hold::Shared => SHARED_BIT,
                Hold::Used => USED_BIT,
            };
            match ip {
                IpAddr::V4(v4) => {
                    out.push(4 | hold);
                    out.extend(v4.octets());
                }
                IpAddr::V6(v6) => {
                    out.push(16 | hold);
                    out.extend(v6.octets());
                }
            }
        }
        out.extend(Some(self.facts.bits()).filter(|bits| *bits != 0));
        out
    }

    fn decode(_: (Vni, Mac), bytes: &[u8]) -> Option<Self> {
        let (host, bytes) = bytes.split_first_chunk()?;
        let (generation, bytes) = bytes.split_first_chunk()?;
        let (flags, mut bytes) = bytes.split_first()?;
        let mut holds = Vec::new();
        let mut ip = || -> Option<IpAddr> {
            let (length, rest) = bytes.split_first()?;
            let (ip, rest) = rest.split_at_checked((length & !(SHARED_BIT | USED_BIT)).into())?;
            bytes = rest;
            let ip = fields::ip(ip)?;
            match length & (SHARED_BIT | USED_BIT) {
                SHARED_BIT => holds.push((ip, Hold::Shared)),
                USED_BIT => holds.push((ip, Hold::Used)),
                _ => {}
            }
            Some(ip)
        };
        let ips = match flags & !OPERATOR_BIT {
            0 => Ips::default(),
            // Most nodes have one address: without an allocation.
            1 => ip()?.into(),
            count => (0..count).map(|_| ip()).collect::<Option<Vec<IpAddr>>>()?.into_iter().collect(),
        };
        let facts = match *bytes {
            [] => NodeFacts::default(),
            [bits] => NodeFacts::of_bits(bits),
            _ => return None,
        };
        let hold = |ip| holds.iter().find(|(held, _)| *held == ip).map_or(Hold::Own, |(_, hold)| *hold);
        let ips = if holds.is_empty() { ips } else { ips.with_holds(hold) };
        let declared_by =
            if flags & OPERATOR_BIT != 0 { DeclaredBy::Operator } else { DeclaredBy::Appliance };
        let (host, generation) = (u32::from_be_bytes(*host), u64::from_be_bytes(*generation));
        Some(Self { host, generation, declared_by, ips, facts })
    }
}

//! Many nodes of one network in one value, without an allocation for each. Snapshots of millions of nodes use it from the
//! store to an appliance's tables. A list of [`Node`]s has the same content at three times the cost.

use super::{Node, NodeFacts};
use std::net::{IpAddr, Ipv4Addr};
use stopover_net::{Mac, Vni};

/// Most nodes of one batch: some tens of kilobytes on the wire, and little enough for a reader to hold many.
pub const BATCH_NODES: usize = 4096;

/// A node of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedNode {
    /// Unicast address.
    pub mac: Mac,
    /// Its only address, if that is an IPv4 address. `None` = it has no address, or is listed in [`NodeBatch::more`].
    pub ipv4: Option<Ipv4Addr>,
    /// Where it is.
    pub host_id: u32,
    /// Revision in which it moved to this host.
    pub generation: u64,
    /// Its kind, and whether it is a router.
    pub facts: NodeFacts,
}

// A snapshot has millions of these.
const _: () = assert!(size_of::<PackedNode>() <= 32);

/// Nodes of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeBatch {
    /// The network.
    pub vni: Vni,
    /// The nodes, each once.
    pub nodes: Vec<PackedNode>,
    /// Nodes with anything but one IPv4 address: the place in `nodes`, ascending, and all addresses.
    pub more: Vec<(u32, Vec<IpAddr>)>,
}

impl NodeBatch {
    /// An empty batch.
    #[must_use]
    pub const fn new(vni: Vni) -> Self {
        Self { vni, nodes: Vec::new(), more: Vec::new() }
    }

    /// Adds a node.
    pub fn push(
        &mut self,
        mac: Mac,
        host_id: u32,
        generation: u64,
        facts: NodeFacts,
        mut ips: impl Iterator<Item = IpAddr> + Clone,
    ) {
        let all = ips.clone();
        let ipv4 = match (ips.next(), ips.next()) {
            (None, _) => None,
            (Some(IpAddr::V4(only)), None) => Some(only),
            _ => {
                self.more.push((self.nodes.len() as u32, all.collect()));
                None
            }
        };
        self.nodes.push(PackedNode { mac, ipv4, host_id, generation, facts });
    }

    /// The nodes, each with its addresses from `more`.
    pub fn iter(&self) -> impl Iterator<Item = (&PackedNode, &[IpAddr])> {
        let mut more = self.more.iter().peekable();
        self.nodes.iter().zip(0u32..).map(move |(node, at)| {
            let listed = more.next_if(|(place, _)| *place == at);
            (node, listed.map_or(&[][..], |(_, ips)| ips))
        })
    }

    /// The nodes one by one.
    pub fn to_nodes(&self) -> impl Iterator<Item = Node> {
        self.iter().map(|(node, more)| Node {
            vni: self.vni,
            mac: node.mac,
            ips: node.ipv4.map(IpAddr::V4).into_iter().chain(more.iter().copied()).collect(),
            host_id: node.host_id,
            generation: node.generation,
            facts: node.facts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #[test]
        fn returns_the_nodes_that_were_pushed(
            given in vec((any::<[u8; 6]>(), any::<u32>(), any::<(u64, u8)>(), vec(any::<IpAddr>(), 0..4)), 0..50),
        ) {
            let mut batch = NodeBatch::new(Vni::new(7).unwrap());
            let mut nodes = Vec::new();
            for (mac, host_id, (generation, bits), ips) in given {
                let (mac, facts) = (Mac::new(mac), NodeFacts::of_bits(bits));
                batch.push(mac, host_id, generation, facts, ips.iter().copied());
                nodes.push(Node { vni: batch.vni, mac, ips, host_id, generation, facts });
            }
            prop_assert_eq!(batch.to_nodes().collect::<Vec<_>>(), nodes);
        }
    }
}

//! Without a board: the `declared` rows of the configuration become the same changes that a board would send.

use super::Control;
use hashbrown::HashMap;
use stopover_bbs::client::{Change, DeclaredBy, Host, Network, Node, NodeFacts};
use stopover_config::appliance::{Declared, Truth};

/// The changes for an empty replica. Hosts are numbered from 1.
#[must_use]
pub fn changes(declared: &Declared) -> Vec<Change> {
    let mut ids = HashMap::new();
    let mut changes = Vec::new();
    for (row, id) in declared.hosts.iter().zip(1..) {
        ids.insert(&row.name, id);
        changes.push(Change::HostPut(Host {
            id,
            name: row.name.clone(),
            vteps: row.vteps.clone(),
            udp_port: row.udp_port,
            declared_by: DeclaredBy::Operator,
            up: true,
            no_flood: false,
            down_unix_ms: 0,
            details: Default::default(),
        }));
    }
    changes.extend(declared.networks.iter().map(|row| {
        Change::NetworkPut(Network {
            vni: row.vni,
            name: row.name.clone().unwrap_or_default(),
            flood: row.flood,
            mtu: row.mtu,
        })
    }));
    changes.extend(declared.members.iter().filter_map(|row| {
        let host_id = *ids.get(&row.host)?;
        Some(Change::MemberPut { vni: row.vni, host_id, segment: row.segment })
    }));
    let mut members: hashbrown::HashSet<_> =
        declared.members.iter().map(|row| (row.vni, &row.host)).collect();
    for row in &declared.nodes {
        let Some(host_id) = ids.get(&row.host).copied() else { continue };
        // As at the board: a host with nodes in a network is a member of it.
        if members.insert((row.vni, &row.host)) {
            changes.push(Change::MemberPut { vni: row.vni, host_id, segment: false });
        }
        let (vni, mac, ips) = (row.vni, row.mac, row.ips.clone());
        let node = Node { vni, mac, ips, host_id, generation: 1, facts: NodeFacts::default() };
        changes.push(Change::NodePut { node, gone_ips: Vec::new() });
    }
    changes
}

impl Control {
    /// Applies what the configuration declares, if it does.
    pub(crate) fn declare(&mut self) {
        let Truth::Declared(declared) = &self.config.truth else { return };
        for change in changes(declared) {
            self.check_mtu(&change);
            let effects = self.with_replica(|replica, ctx| replica.apply(ctx, change));
            self.execute_or_log(0, effects);
        }
    }
}

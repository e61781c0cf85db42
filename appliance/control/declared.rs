//! Without a board: the `declared` rows of the configuration become the same changes that a board would send.

use super::Control;
use hashbrown::HashMap;
use std::{collections::BTreeMap, sync::Arc};
use stopover_bbs::client::{Change, DeclaredBy, Host, Network, Node, NodeFacts};
use stopover_config::{
    appliance::{Declared, Truth},
    bulk::{HostRow, NetworkRow, NodeRow},
};
use stopover_net::{HostName, Mac, Vni};

/// The numbers of declared hosts. A host keeps its number for as long as it is declared.
#[derive(Debug, Default)]
pub struct HostIds {
    ids: HashMap<HostName, u32>,
    last: u32,
}

impl HostIds {
    fn of(&mut self, name: &HostName) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        self.last += 1;
        self.ids.insert(name.clone(), self.last);
        self.last
    }
}

/// The changes from one declaration to another, as a board would send them. Who names a host is gone before it, and
/// comes after it. Hosts are numbered from 1.
#[must_use]
pub fn changes(was: &Declared, is: &Declared, ids: &mut HostIds) -> Vec<Change> {
    let (old, new) = (Rows::of(was, ids), Rows::of(is, ids));
    let mut changes = old.gone(&new);
    for (name, (id, row)) in &new.hosts {
        if old.hosts.get(name) != Some(&(*id, row)) {
            changes.push(Change::HostPut(host(row, *id)));
        }
    }
    for (vni, row) in &new.networks {
        if old.networks.get(vni) != Some(row) {
            let (name, flood, mtu) = (row.name.clone().unwrap_or_default(), row.flood, row.mtu);
            changes.push(Change::NetworkPut(Network { vni: *vni, name, flood, mtu }));
        }
    }
    for ((vni, host_id), segment) in &new.members {
        if old.members.get(&(*vni, *host_id)) != Some(segment) {
            changes.push(Change::MemberPut { vni: *vni, host_id: *host_id, segment: *segment });
        }
    }
    for ((vni, mac), row) in &new.nodes {
        let before = old.nodes.get(&(*vni, *mac));
        if before == Some(row) {
            continue;
        }
        let had = before.map_or(&[][..], |before| &before.ips);
        let gone_ips = had.iter().filter(|ip| !row.ips.contains(ip)).copied().collect();
        let (host_id, ips) = (ids.of(&row.host), row.ips.clone());
        let node = Node { vni: *vni, mac: *mac, ips, host_id, generation: 1, facts: NodeFacts::default() };
        changes.push(Change::NodePut { node, gone_ips });
    }
    for name in old.hosts.keys().filter(|name| !new.hosts.contains_key(*name)) {
        ids.ids.remove(*name);
    }
    changes
}

/// The rows of a network, without hosts, which are known whatever networks there are.
fn of_network(declared: &Declared, vni: Vni) -> Declared {
    Declared {
        networks: declared.networks.iter().filter(|row| row.vni == vni).cloned().collect(),
        members: declared.members.iter().filter(|row| row.vni == vni).cloned().collect(),
        nodes: declared.nodes.iter().filter(|row| row.vni == vni).cloned().collect(),
        ..Declared::default()
    }
}

fn host(row: &HostRow, id: u32) -> Host {
    Host {
        id,
        name: row.name.clone(),
        vteps: row.vteps.clone(),
        udp_port: row.udp_port,
        declared_by: DeclaredBy::Operator,
        up: true,
        no_flood: false,
        down_unix_ms: 0,
        details: Default::default(),
    }
}

/// A declaration by keys.
struct Rows<'a> {
    hosts: BTreeMap<&'a HostName, (u32, &'a HostRow)>,
    networks: BTreeMap<Vni, &'a NetworkRow>,
    members: BTreeMap<(Vni, u32), bool>,
    nodes: BTreeMap<(Vni, Mac), &'a NodeRow>,
}

impl<'a> Rows<'a> {
    fn of(declared: &'a Declared, ids: &mut HostIds) -> Self {
        let hosts = declared.hosts.iter().map(|row| (&row.name, (ids.of(&row.name), row))).collect();
        let members = declared.members.iter();
        let mut members: BTreeMap<_, _> =
            members.map(|row| ((row.vni, ids.of(&row.host)), row.segment)).collect();
        // As at the board: a host with nodes in a network is a member of it.
        for row in &declared.nodes {
            members.entry((row.vni, ids.of(&row.host))).or_insert(false);
        }
        Self {
            hosts,
            networks: declared.networks.iter().map(|row| (row.vni, row)).collect(),
            members,
            nodes: declared.nodes.iter().map(|row| ((row.vni, row.mac), row)).collect(),
        }
    }

    /// What a new declaration does not have any more.
    fn gone(&self, new: &Self) -> Vec<Change> {
        let nodes = self.nodes.iter().filter(|(key, _)| !new.nodes.contains_key(*key));
        let nodes =
            nodes.map(|((vni, mac), row)| Change::NodeGone { vni: *vni, mac: *mac, ips: row.ips.clone() });
        let members = self.members.keys().filter(|key| !new.members.contains_key(*key));
        let members = members.map(|(vni, host_id)| Change::MemberGone { vni: *vni, host_id: *host_id });
        let networks = self.networks.keys().filter(|vni| !new.networks.contains_key(*vni));
        let networks = networks.map(|vni| Change::NetworkGone { vni: *vni });
        let hosts = self.hosts.iter().filter(|(name, _)| !new.hosts.contains_key(*name));
        let hosts = hosts.map(|(_, (id, _))| Change::HostGone { id: *id });
        nodes.chain(members).chain(networks).chain(hosts).collect()
    }
}

impl Control {
    /// Applies what the configuration declares, if it does.
    pub(crate) fn declare(&mut self) {
        let Truth::Declared(declared) = &self.config.truth else { return };
        let declared = Arc::clone(declared);
        self.redeclare(0, &Declared::default(), &declared);
    }

    /// Applies what is declared of a network that has its first port here.
    pub(crate) fn declare_network(&mut self, now_ms: u64, vni: Vni) {
        let Truth::Declared(declared) = &self.config.truth else { return };
        let of_network = of_network(declared, vni);
        self.redeclare(now_ms, &Declared::default(), &of_network);
    }

    /// Applies the difference of two declarations.
    pub(crate) fn redeclare(&mut self, now_ms: u64, was: &Declared, is: &Declared) {
        for change in changes(was, is, &mut self.host_ids) {
            self.check_mtu(&change);
            let effects = self.with_replica(|replica, ctx| replica.apply(ctx, change));
            self.execute_or_log(now_ms, effects);
        }
    }
}

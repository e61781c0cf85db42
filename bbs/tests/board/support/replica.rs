//! The state as a watcher rebuilds it. Enters: changes in order, or a view of the store. Any change that an orderly stream
//! cannot contain is a panic.

use std::collections::{BTreeMap, BTreeSet};
use stopover_bbs::{
    board::record::{HostRecord, MemberRecord, NodeRecord},
    model::{Change, Host, Lock, Network, Node},
    records::Records,
    store::View,
};
use stopover_net::{Mac, Vni};

/// The state as a watcher rebuilds it, strict: whatever cannot be in an orderly stream is a panic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    pub hosts: BTreeMap<u32, Host>,
    pub networks: BTreeMap<Vni, Network>,
    pub members: BTreeMap<(Vni, u32), bool>,
    pub nodes: BTreeMap<(Vni, Mac), Node>,
    pub locks: BTreeMap<(Vni, Mac), Lock>,
}

impl Replica {
    pub fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::HostPut(host) => {
                self.hosts.insert(host.id, host);
            }
            Change::HostGone { id } => {
                assert!(self.hosts.remove(&id).is_some(), "unknown host {id} removed");
                assert!(self.nodes.values().all(|n| n.host_id != id), "host {id} removed before its nodes");
                assert!(
                    self.members.keys().all(|(_, h)| *h != id),
                    "host {id} removed before its memberships"
                );
            }
            Change::NetworkPut(network) => {
                self.networks.insert(network.vni, network);
            }
            Change::NetworkGone { vni } => {
                assert!(self.networks.remove(&vni).is_some(), "unknown network {vni} removed");
            }
            Change::MemberPut { vni, host_id, segment } => {
                assert!(self.hosts.contains_key(&host_id), "member of unknown host {host_id}");
                self.members.insert((vni, host_id), segment);
            }
            Change::MemberGone { vni, host_id } => {
                assert!(self.members.remove(&(vni, host_id)).is_some(), "unknown member removed");
            }
            Change::NodePut { node, gone_ips } => {
                assert!(self.hosts.contains_key(&node.host_id), "node on unknown host");
                assert!(self.members.contains_key(&(node.vni, node.host_id)), "node before membership");
                let old = self.nodes.insert((node.vni, node.mac), node.clone());
                let had: BTreeSet<_> = old.iter().flat_map(|n| n.ips.iter().copied()).collect();
                let has: BTreeSet<_> = node.ips.iter().copied().collect();
                let removed: BTreeSet<_> = gone_ips.into_iter().collect();
                // In a snapshot `gone_ips` is empty, and so is what was there before.
                assert_eq!(removed, had.difference(&has).copied().collect(), "wrong gone_ips");
            }
            Change::NodeGone { vni, mac, ips } => {
                self.locks.remove(&(vni, mac));
                let old = self.nodes.remove(&(vni, mac)).expect("unknown node removed");
                assert_eq!(old.ips, ips, "removed with other addresses than it had");
            }
            Change::NodeLocked { vni, mac, migration, generation, source, target } => {
                assert!(self.nodes.contains_key(&(vni, mac)), "lock on no node");
                assert!(
                    self.hosts.contains_key(&source) && target.is_none_or(|t| self.hosts.contains_key(&t))
                );
                self.locks.insert((vni, mac), Lock { migration, generation, source, target });
            }
            Change::NodeUnlocked { vni, mac, migration, generation, .. } => {
                let lock = self.locks.remove(&(vni, mac)).expect("unknown lock ended");
                assert_eq!((lock.migration, lock.generation), (migration, generation));
            }
        }
    }

    /// What a watcher of these networks sees of it.
    pub fn scoped(&self, vnis: &BTreeSet<Vni>) -> Self {
        let mut all = self.clone();
        all.networks.retain(|vni, _| vnis.contains(vni));
        all.members.retain(|(vni, _), _| vnis.contains(vni));
        all.nodes.retain(|(vni, _), _| vnis.contains(vni));
        all.locks.retain(|(vni, _), _| vnis.contains(vni));
        all
    }

    /// What the store holds.
    pub fn of(view: &dyn View) -> Self {
        let seen = |r: MemberRecord| r.visible().expect("an empty membership is stored");
        let hosts = view.all::<HostRecord>().unwrap().into_iter();
        let members = view.all::<MemberRecord>().unwrap().into_iter();
        let nodes = view.all::<NodeRecord>().unwrap().into_iter();
        Self {
            hosts: hosts.map(|(id, h)| (id, h.to_host(id))).collect(),
            networks: view.all::<Network>().unwrap().into_iter().collect(),
            members: members.map(|(key, r)| (key, seen(r))).collect(),
            nodes: nodes.map(|((vni, mac), r)| ((vni, mac), r.to_node(vni, mac))).collect(),
            locks: view.all::<Lock>().unwrap().into_iter().collect(),
        }
    }

    /// What must hold of every state.
    pub fn check(&self) {
        let mut held = BTreeMap::new();
        for node in self.nodes.values() {
            assert!(self.members.contains_key(&(node.vni, node.host_id)), "node without membership");
            for ip in &node.ips {
                let other = held.insert((node.vni, *ip), node.mac);
                assert_eq!(other, None, "{ip} of VNI {} is held twice", node.vni);
            }
        }
        for (key, lock) in &self.locks {
            // Where it is until it is unlocked, and so at exactly one host.
            assert_eq!(self.nodes[key].host_id, lock.source, "a locked node has moved");
        }
        let mut vteps = BTreeSet::new();
        for host in self.hosts.values() {
            for vtep in &host.vteps {
                assert!(vteps.insert((*vtep, host.udp_port)), "{vtep} is held twice");
            }
        }
    }
}

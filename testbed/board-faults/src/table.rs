//! A board's tables with a fingerprint of the hosts and of each network. Enters: changes. Leaves: the tables after them,
//! comparable with others in a moment however large they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
};
use stopover_bbs::model::Change;
use stopover_net::{HostName, Mac, Vni};

/// A part of the tables: the hosts (`None`), or a network.
pub type Part = Option<Vni>;

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its host. An id says nothing across branches of a history.
    pub host: HostName,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// The revision in which it came to the host.
    pub generation: u64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Whether each host is up.
    hosts: BTreeMap<HostName, bool>,
    nodes: BTreeMap<(Vni, Mac), Node>,
    members: BTreeSet<(Vni, HostName)>,
    /// How many nodes a host has in a network.
    counts: BTreeMap<(Vni, HostName), usize>,
    prints: BTreeMap<Part, u64>,
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

impl Table {
    /// Adds an entry to a fingerprint, or takes it out.
    fn flip(&mut self, part: Part, entry: impl Hash) {
        *self.prints.entry(part).or_default() ^= hash(entry);
    }

    /// A host is new or has changed.
    pub fn put_host(&mut self, name: &HostName, up: bool) {
        if let Some(old) = self.hosts.insert(name.clone(), up) {
            self.flip(None, ("host", name, old));
        }
        self.flip(None, ("host", name, up));
    }

    /// A host is gone.
    pub fn remove_host(&mut self, name: &HostName) -> bool {
        let Some(old) = self.hosts.remove(name) else { return false };
        self.flip(None, ("host", name, old));
        true
    }

    /// A node is new or has changed. Returns it as it was.
    pub fn put_node(&mut self, vni: Vni, mac: Mac, node: Node) -> Option<Node> {
        let old = self.remove_node(vni, mac);
        self.flip(Some(vni), ("node", mac, &node));
        *self.counts.entry((vni, node.host.clone())).or_default() += 1;
        self.nodes.insert((vni, mac), node);
        old
    }

    /// A node is gone. Returns it as it was.
    pub fn remove_node(&mut self, vni: Vni, mac: Mac) -> Option<Node> {
        let old = self.nodes.remove(&(vni, mac))?;
        self.flip(Some(vni), ("node", mac, &old));
        if let Some(count) = self.counts.get_mut(&(vni, old.host.clone())) {
            *count -= 1;
        }
        Some(old)
    }

    /// A host is a member of a network.
    pub fn put_member(&mut self, vni: Vni, host: &HostName) {
        if self.members.insert((vni, host.clone())) {
            self.flip(Some(vni), ("member", host));
        }
    }

    /// It is none any more.
    pub fn remove_member(&mut self, vni: Vni, host: &HostName) -> bool {
        let removed = self.members.remove(&(vni, host.clone()));
        if removed {
            self.flip(Some(vni), ("member", host));
        }
        removed
    }

    /// A host is a member of a network exactly if it has nodes there.
    pub fn derive_member(&mut self, vni: Vni, host: &HostName) {
        match self.counts.get(&(vni, host.clone())) {
            None | Some(0) => drop(self.remove_member(vni, host)),
            Some(_) => self.put_member(vni, host),
        }
    }

    /// A host, if it is there: whether it is up.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<bool> {
        self.hosts.get(name).copied()
    }

    /// A node.
    #[must_use]
    pub fn node(&self, vni: Vni, mac: Mac) -> Option<&Node> {
        self.nodes.get(&(vni, mac))
    }

    /// The fingerprint of a part.
    #[must_use]
    pub fn print(&self, part: Part) -> u64 {
        self.prints.get(&part).copied().unwrap_or_default()
    }

    /// The fingerprints of all parts that have ever had an entry.
    #[must_use]
    pub fn prints(&self) -> &BTreeMap<Part, u64> {
        &self.prints
    }

    /// Removes what is in a network.
    pub fn drop_network(&mut self, vni: Vni) {
        self.nodes.retain(|(of, _), _| *of != vni);
        self.members.retain(|(of, _)| *of != vni);
        self.counts.retain(|(of, _), _| *of != vni);
        self.prints.remove(&Some(vni));
    }

    /// What this table and another have differently in these parts, in words: the first few.
    #[must_use]
    pub fn differences(&self, other: &Self, in_scope: impl Fn(Part) -> bool) -> String {
        let mut found = Vec::new();
        let hosts: BTreeSet<_> = self.hosts.keys().chain(other.hosts.keys()).collect();
        for host in hosts.into_iter().filter(|_| in_scope(None)) {
            let (a, b) = (self.host(host), other.host(host));
            found.extend((a != b).then(|| format!("host {host} is {a:?}, not {b:?}")));
        }
        let nodes: BTreeSet<_> = self.nodes.keys().chain(other.nodes.keys()).collect();
        for (vni, mac) in nodes.into_iter().filter(|(vni, _)| in_scope(Some(*vni))) {
            let (a, b) = (self.node(*vni, *mac), other.node(*vni, *mac));
            found.extend((a != b).then(|| format!("node {mac} of VNI {vni} is {a:?}, not {b:?}")));
        }
        for (vni, host) in self.members.symmetric_difference(&other.members) {
            found.extend(
                in_scope(Some(*vni)).then(|| format!("member {host} of VNI {vni} in one of the two")),
            );
        }
        let count = found.len();
        found.truncate(3);
        format!("{count} differences: {}", found.join("; "))
    }
}

/// A watcher's tables, in which changes name hosts by id.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    /// The tables.
    pub table: Table,
    names: BTreeMap<u32, HostName>,
}

impl Replica {
    fn name(&self, id: u32) -> Result<HostName, String> {
        self.names
            .get(&id)
            .cloned()
            .ok_or_else(|| format!("it names host {id}, which the watcher does not know"))
    }

    /// Applies a change; the error says why it cannot follow the state so far.
    pub fn apply(&mut self, change: &Change) -> Result<(), String> {
        match change {
            Change::HostPut(host) => {
                self.names.insert(host.id, host.name.clone());
                self.table.put_host(&host.name, host.up);
            }
            Change::HostGone { id } => {
                let name = self.name(*id)?;
                self.names.remove(id);
                self.table.remove_host(&name);
            }
            Change::MemberPut { vni, host_id, .. } => {
                let name = self.name(*host_id)?;
                self.table.put_member(*vni, &name);
            }
            Change::MemberGone { vni, host_id } => {
                let name = self.name(*host_id)?;
                if !self.table.remove_member(*vni, &name) {
                    return Err(format!("member {name} of VNI {vni} is removed, which was none"));
                }
            }
            Change::NodePut { node, .. } => {
                let host = self.name(node.host_id)?;
                let now = Node { host, ips: node.ips.clone(), generation: node.generation };
                self.table.put_node(node.vni, node.mac, now);
            }
            Change::NodeGone { vni, mac, .. } => {
                if self.table.remove_node(*vni, *mac).is_none() {
                    return Err(format!("node {mac} of VNI {vni} is removed, which is not there"));
                }
            }
            Change::NetworkPut(_)
            | Change::NetworkGone { .. }
            | Change::NodeLocked { .. }
            | Change::NodeUnlocked { .. } => {}
        }
        Ok(())
    }
}

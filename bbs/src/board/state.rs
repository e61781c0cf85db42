//! The tables, and the only functions that change them. Each function updates every index and count, records the changes
//! for watchers and for the store, and can be undone: a command that fails half way changes nothing.

use super::{
    Ips,
    barriers::Barriers,
    record::{Commit, HostRecord, MemberRecord, NodeRecord},
};
use crate::{
    model::{Change, DeclaredBy, Migration, Network, NodeFacts, Uuid},
    table::Write,
};
use hashbrown::HashMap;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};
use stopover_net::{HostName, Mac, Vni};

/// Most changes of one revision, which is sent to a watcher in one message.
pub const COMMIT_CHANGES: usize = 1024;

/// Claimant of a node that the operator declared.
pub(super) const OPERATOR: u32 = u32::MAX;
/// Claimant of a node whose session is of an earlier run of the board.
pub(super) const EARLIER: u32 = 0;

pub(super) struct HostState {
    pub record: HostRecord,
    /// Running number of its session in this run; 0 = none.
    pub session: u32,
    pub instance: Uuid,
    /// Watches of this session: how many are open, whether one was ever opened, and the address of the last.
    pub watches: u32,
    pub watched: bool,
    pub peer: String,
    /// On the lease clock.
    pub lease_until: u64,
    /// When it went down, or the board started, on the lease clock.
    pub down_since: u64,
    /// How long it had been down before that, if known.
    pub absent_before_ms: Option<u64>,
    pub nodes: u64,
    /// Nodes that its appliance claimed, and those of them claimed in this session.
    pub appliance_nodes: u64,
    pub session_nodes: u64,
    /// Networks of which it is a member.
    pub networks: BTreeSet<Vni>,
}

#[derive(Default)]
pub(super) struct NetworkState {
    pub declared: Option<Network>,
    pub members: HashMap<u32, MemberState>,
    pub nodes: HashMap<Mac, NodeState>,
    pub addresses: HashMap<IpAddr, Mac>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct MemberState {
    pub joined: Option<bool>,
    /// Session of the join, as [`NodeState::claimant`].
    pub join_session: u32,
    pub declared: Option<bool>,
    pub nodes: u32,
}

impl MemberState {
    fn record(&self) -> MemberRecord {
        MemberRecord { joined: self.joined, declared: self.declared, has_nodes: self.nodes > 0 }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct NodeState {
    pub ips: Ips,
    /// Generation in the upper 56 bits, facts in the lower 8: there may be ten million of these.
    packed: u64,
    pub host: u32,
    /// [`OPERATOR`], [`EARLIER`], or the session that claimed it last.
    pub claimant: u32,
}

const _: () = assert!(size_of::<NodeState>() == 40);

impl NodeState {
    pub fn new(ips: Ips, generation: u64, facts: NodeFacts, (host, claimant): (u32, u32)) -> Self {
        Self { ips, packed: generation << 8 | u64::from(facts.bits()), host, claimant }
    }

    pub fn with_ips(self, ips: Ips) -> Self {
        Self { ips, ..self }
    }

    pub fn generation(&self) -> u64 {
        self.packed >> 8
    }

    pub fn facts(&self) -> NodeFacts {
        NodeFacts::of_bits(self.packed as u8)
    }

    pub fn declared_by(&self) -> DeclaredBy {
        if self.claimant == OPERATOR { DeclaredBy::Operator } else { DeclaredBy::Appliance }
    }

    fn record(&self) -> NodeRecord {
        NodeRecord {
            host: self.host,
            generation: self.generation(),
            declared_by: self.declared_by(),
            ips: self.ips.clone(),
            facts: self.facts(),
        }
    }
}

pub(super) enum Undo {
    Migration(u64, Option<Box<Migration>>),
    NextHost(u32),
    Host(u32, Option<HostRecord>),
    Network(Vni, Option<Network>),
    Member(Vni, u32, MemberState),
    Node(Vni, Mac, Option<NodeState>),
}

/// What the current command has done so far.
#[derive(Default)]
struct Journal {
    /// False while restoring and undoing.
    on: bool,
    open: Vec<Change>,
    closed: VecDeque<Commit>,
    writes: Vec<Write>,
    undo: Vec<Undo>,
}

pub(super) struct State {
    pub hosts: HashMap<u32, HostState>,
    pub by_name: HashMap<HostName, u32>,
    pub by_vtep: HashMap<(IpAddr, u16), u32>,
    pub networks: HashMap<Vni, NetworkState>,
    /// Active migrations and the last ended ones, by id.
    pub migrations: BTreeMap<u64, Migration>,
    /// Ids of the active migrations.
    pub active: BTreeSet<u64>,
    /// Active migrations that have changed since they were last examined.
    pub touched: BTreeSet<u64>,
    /// Completed migrations that are not yet in force everywhere.
    pub barriers: Barriers,
    pub hosts_up: u64,
    /// A host went up or down since migrations were last examined.
    pub host_state_changed: bool,
    /// Hosts that went down or were deleted since then.
    pub hosts_down: BTreeSet<u32>,
    /// Migrations and barriers examined by all commands since the start.
    pub steps: u64,
    /// The migration that locks a node.
    pub locks: HashMap<(Vni, Mac), u64>,
    /// The migration that moved a node last.
    pub last_migration: HashMap<(Vni, Mac), u64>,
    pub next_host: u32,
    pub nodes: u64,
    pub members: u64,
    /// Revision of the last finished command.
    pub revision: u64,
    journal: Journal,
    /// Most changes that [`State::finish`] returns.
    keep_changes: usize,
}

impl State {
    pub fn new(keep_changes: usize) -> Self {
        Self {
            hosts: HashMap::new(),
            by_name: HashMap::new(),
            by_vtep: HashMap::new(),
            networks: HashMap::new(),
            migrations: BTreeMap::new(),
            active: BTreeSet::new(),
            touched: BTreeSet::new(),
            barriers: Barriers::default(),
            hosts_up: 0,
            host_state_changed: false,
            hosts_down: BTreeSet::new(),
            steps: 0,
            locks: HashMap::new(),
            last_migration: HashMap::new(),
            next_host: 1,
            nodes: 0,
            members: 0,
            revision: 0,
            journal: Journal::default(),
            keep_changes,
        }
    }

    pub fn set_journal(&mut self, on: bool) {
        self.journal.on = on;
    }

    /// What the command writes so far.
    pub fn writes(&self) -> &[Write] {
        &self.journal.writes
    }

    /// Revision of the next change.
    pub fn next_revision(&self) -> u64 {
        self.journal.closed.back().map_or(self.revision, |c| c.revision) + 1
    }

    /// Ends the command and returns its commits and writes.
    pub fn finish(&mut self) -> (Vec<Commit>, Vec<Write>) {
        self.close_commit();
        let closed = std::mem::take(&mut self.journal.closed);
        if let Some(last) = closed.back() {
            self.revision = last.revision;
        }
        self.journal.undo.clear();
        (closed.into(), std::mem::take(&mut self.journal.writes))
    }

    /// Undoes the command.
    pub fn undo(&mut self) {
        let was_on = std::mem::replace(&mut self.journal.on, false);
        while let Some(step) = self.journal.undo.pop() {
            match step {
                Undo::NextHost(id) => self.next_host = id,
                Undo::Host(id, old) => self.put_host(id, old),
                Undo::Network(vni, old) => self.put_network(vni, old),
                Undo::Member(vni, host, old) => self.change_member(vni, host, |m| {
                    (m.joined, m.join_session, m.declared) = (old.joined, old.join_session, old.declared);
                }),
                Undo::Node(vni, mac, old) => self.put_node(vni, mac, old),
                Undo::Migration(id, old) => self.put_migration(id, old),
            }
        }
        self.journal = Journal { on: was_on, ..Journal::default() };
    }

    /// The next changes, this many, are in one revision.
    pub fn make_room(&mut self, changes: usize) {
        if self.journal.open.len() + changes > COMMIT_CHANGES {
            self.close_commit();
        }
    }

    fn close_commit(&mut self) {
        if self.journal.open.is_empty() {
            return;
        }
        let revision = self.journal.closed.back().map_or(self.revision, |c| c.revision) + 1;
        let changes = std::mem::take(&mut self.journal.open);
        self.journal.closed.push_back(Commit { revision, changes });
        // All but the last are full.
        let closed = &mut self.journal.closed;
        let last = closed.back().map_or(0, |c| c.changes.len());
        if closed.len() > 1 && (closed.len() - 2) * COMMIT_CHANGES + last >= self.keep_changes {
            closed.pop_front();
        }
    }

    pub(super) fn emit(&mut self, change: impl FnOnce() -> Change) {
        if self.journal.on {
            self.journal.open.push(change());
            if self.journal.open.len() == COMMIT_CHANGES {
                self.close_commit();
            }
        }
    }

    pub(super) fn write(&mut self, write: impl FnOnce() -> Write) {
        if self.journal.on {
            self.journal.writes.push(write());
        }
    }

    pub(super) fn push_undo(&mut self, step: impl FnOnce() -> Undo) {
        if self.journal.on {
            self.journal.undo.push(step());
        }
    }

    /// Sets or removes a host. The caller has checked that its name and VTEPs are free, or, before a removal, that it has
    /// neither nodes nor memberships.
    pub fn put_host(&mut self, id: u32, new: Option<HostRecord>) {
        let old = self.hosts.get(&id).map(|h| h.record.clone());
        if old == new {
            return;
        }
        let up = |record: &Option<HostRecord>| record.as_ref().is_some_and(|r| r.up);
        if up(&old) != up(&new) {
            self.host_state_changed = true;
            if up(&old) {
                self.hosts_up -= 1;
                self.hosts_down.insert(id);
            } else {
                self.hosts_up += 1;
            }
        }
        if let Some(old) = &old {
            self.by_name.remove(&old.name);
            for vtep in &old.vteps {
                self.by_vtep.remove(&(*vtep, old.udp_port));
            }
        }
        match new {
            Some(record) => {
                self.by_name.insert(record.name.clone(), id);
                for vtep in &record.vteps {
                    self.by_vtep.insert((*vtep, record.udp_port), id);
                }
                self.emit(|| Change::HostPut(record.to_host(id)));
                self.write(|| Write::put(id, &record));
                match self.hosts.get_mut(&id) {
                    Some(host) => host.record = record,
                    None => {
                        self.hosts.insert(id, HostState::new(record));
                    }
                }
            }
            None => {
                self.hosts.remove(&id);
                self.emit(|| Change::HostGone { id });
                self.write(|| Write::remove::<HostRecord>(id));
            }
        }
        self.push_undo(|| Undo::Host(id, old));
    }

    /// Sets or removes a network's declaration.
    pub fn put_network(&mut self, vni: Vni, new: Option<Network>) {
        let network = self.networks.entry(vni).or_default();
        if network.declared != new {
            let old = std::mem::replace(&mut network.declared, new.clone());
            self.emit(|| new.clone().map_or(Change::NetworkGone { vni }, Change::NetworkPut));
            self.write(|| Write::set(vni, new.as_ref()));
            self.push_undo(|| Undo::Network(vni, old));
        }
        self.remove_if_empty(vni);
    }

    /// Changes the reasons of a membership (not its count of nodes).
    pub fn set_member(&mut self, vni: Vni, host: u32, change: impl FnOnce(&mut MemberState)) {
        let old = self.member(vni, host).unwrap_or_default();
        self.push_undo(|| Undo::Member(vni, host, old));
        self.change_member(vni, host, change);
    }

    /// The reasons of a membership.
    pub fn member(&self, vni: Vni, host: u32) -> Option<MemberState> {
        self.networks.get(&vni)?.members.get(&host).copied()
    }

    fn change_member(&mut self, vni: Vni, host_id: u32, change: impl FnOnce(&mut MemberState)) {
        let network = self.networks.entry(vni).or_default();
        let member = network.members.entry(host_id).or_default();
        let before = member.record();
        change(member);
        let after = member.record();
        if after.visible().is_none() {
            network.members.remove(&host_id);
        }
        match (before.visible(), after.visible()) {
            (None, Some(_)) => self.members += 1,
            (Some(_), None) => self.members -= 1,
            _ => {}
        }
        if let Some(host) = self.hosts.get_mut(&host_id) {
            match after.visible() {
                Some(_) => host.networks.insert(vni),
                None => host.networks.remove(&vni),
            };
        }
        if before.visible() != after.visible() {
            self.emit(|| match after.visible() {
                Some(segment) => Change::MemberPut { vni, host_id, segment },
                None => Change::MemberGone { vni, host_id },
            });
        }
        if before != after {
            self.write(|| Write::set((vni, host_id), after.visible().map(|_| &after)));
        }
        self.remove_if_empty(vni);
    }

    /// Sets or removes a node. The caller has checked that no other node of the network has its addresses.
    pub fn put_node(&mut self, vni: Vni, mac: Mac, new: Option<NodeState>) {
        let network = self.networks.entry(vni).or_default();
        let old = match new.clone() {
            Some(node) => network.nodes.insert(mac, node),
            None => network.nodes.remove(&mac),
        };
        if old == new {
            self.remove_if_empty(vni);
            return;
        }
        let mut removed_ips = Vec::new();
        for ip in old.iter().flat_map(|n| n.ips.iter()) {
            if !new.as_ref().is_some_and(|n| n.ips.contains(ip)) {
                network.addresses.remove(&ip);
                removed_ips.push(ip);
            }
        }
        for ip in new.iter().flat_map(|n| n.ips.iter()) {
            network.addresses.insert(ip, mac);
        }
        self.update_counts(old.as_ref(), false);
        self.update_counts(new.as_ref(), true);

        // A membership is added before the node, and removed after it.
        let (from, to) = (old.as_ref().map(|n| n.host), new.as_ref().map(|n| n.host));
        if from != to
            && let Some(host) = to
        {
            self.change_member(vni, host, |m| m.nodes += 1);
        }
        let before = old.as_ref().map(NodeState::record);
        let after = new.as_ref().map(NodeState::record);
        let seen = |r: &NodeRecord| r.to_node(vni, mac);
        if before.as_ref().map(seen) != after.as_ref().map(seen) {
            self.emit(|| match &after {
                Some(record) => Change::NodePut { node: record.to_node(vni, mac), gone_ips: removed_ips },
                None => Change::NodeGone { vni, mac, ips: removed_ips },
            });
        }
        if before != after {
            self.write(|| Write::set((vni, mac), after.as_ref()));
        }
        if from != to
            && let Some(host) = from
        {
            self.change_member(vni, host, |m| m.nodes -= 1);
        }
        self.push_undo(|| Undo::Node(vni, mac, old));
        self.remove_if_empty(vni);
    }

    fn update_counts(&mut self, node: Option<&NodeState>, add: bool) {
        let Some(node) = node else { return };
        let step = |n: &mut u64| *n = if add { *n + 1 } else { *n - 1 };
        step(&mut self.nodes);
        if let Some(host) = self.hosts.get_mut(&node.host) {
            step(&mut host.nodes);
            if node.claimant != OPERATOR {
                step(&mut host.appliance_nodes);
                if node.claimant != EARLIER && node.claimant == host.session {
                    step(&mut host.session_nodes);
                }
            }
        }
    }

    fn remove_if_empty(&mut self, vni: Vni) {
        if self
            .networks
            .get(&vni)
            .is_some_and(|n| n.declared.is_none() && n.members.is_empty() && n.nodes.is_empty())
        {
            self.networks.remove(&vni);
        }
    }

    /// Name of a host, for messages.
    pub fn name(&self, id: u32) -> String {
        self.hosts.get(&id).map_or_else(|| format!("#{id}"), |h| h.record.name.to_string())
    }
}

impl HostState {
    /// Begins another session; 0 = none.
    pub fn begin_session(&mut self, session: u32) {
        self.session = session;
        self.session_nodes = 0;
        self.watches = 0;
        self.watched = false;
        self.peer.clear();
    }

    fn new(record: HostRecord) -> Self {
        Self {
            record,
            session: 0,
            instance: Uuid::from_bytes([0; 16]),
            watches: 0,
            watched: false,
            peer: String::new(),
            lease_until: 0,
            down_since: 0,
            absent_before_ms: None,
            nodes: 0,
            appliance_nodes: 0,
            session_nodes: 0,
            networks: BTreeSet::new(),
        }
    }
}

//! Reads a view in pieces. Enters: some networks, or all. Leaves: their state as puts (for a snapshot, or a network that is
//! added to a watcher's scope) or as removals (for a network that is removed from it).

use crate::{
    board::{
        COMMIT_CHANGES,
        record::{HostRecord, MemberRecord, NodeRecord},
    },
    model::{BATCH_NODES, Change, Lock, Network, NodeBatch},
    records::Records,
    store::{StoreError, View},
};
use std::collections::VecDeque;
use stopover_net::{Mac, Vni};

/// Each with the key of the last record that was read.
#[derive(Clone, Copy)]
enum Stage {
    Hosts(Option<u32>),
    Network(Option<Vni>),
    Members(Option<(Vni, u32)>),
    Nodes(Option<(Vni, Mac)>),
    /// Locks follow their nodes. They are removed with them.
    Locks(Option<(Vni, Mac)>),
}

/// A piece of a snapshot.
pub(super) enum Piece {
    /// Hosts, networks, members and locks.
    Changes(Vec<Change>),
    /// Nodes; not empty.
    Nodes(Vec<NodeBatch>),
}

/// How the records of a network are emitted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Emit {
    Puts,
    Removals,
}

pub(super) struct Cursor {
    /// Remaining networks; `None` = all networks together.
    scopes: VecDeque<(Option<Vni>, Emit)>,
    stage: Stage,
    /// Records of one piece. One step adds at most this many.
    limit: usize,
}

impl Cursor {
    /// Hosts, then the networks of interest (`None` = all).
    pub fn snapshot<'a>(interest: Option<impl IntoIterator<Item = &'a Vni>>) -> Self {
        let scopes = match interest {
            None => [(None, Emit::Puts)].into(),
            Some(vnis) => vnis.into_iter().map(|vni| (Some(*vni), Emit::Puts)).collect(),
        };
        Self { scopes, stage: Stage::Hosts(None), limit: COMMIT_CHANGES }
    }

    /// Networks that are added to the scope, and those that are removed.
    pub fn scope(add: &[Vni], remove: &[Vni]) -> Self {
        let removals = remove.iter().map(|vni| (Some(*vni), Emit::Removals));
        let puts = add.iter().map(|vni| (Some(*vni), Emit::Puts));
        Self { scopes: removals.chain(puts).collect(), stage: Stage::Network(None), limit: COMMIT_CHANGES }
    }

    /// Whether everything has been read.
    pub fn done(&self) -> bool {
        self.scopes.is_empty() && !matches!(self.stage, Stage::Hosts(_))
    }

    /// The next piece; about [`COMMIT_CHANGES`] changes, fewer at the end, and less than twice as many.
    pub fn next(&mut self, view: &dyn View) -> Result<Vec<Change>, StoreError> {
        let mut out = Vec::new();
        while out.len() < self.limit && !self.done() {
            self.step(view, &mut out)?;
        }
        Ok(out)
    }

    /// The next piece of a snapshot, with its nodes packed.
    pub fn next_piece(&mut self, view: &dyn View) -> Result<Piece, StoreError> {
        let mut out = Vec::new();
        while out.len() < self.limit && !self.done() {
            let Stage::Nodes(after) = self.stage else {
                self.step(view, &mut out)?;
                continue;
            };
            // The changes so far are a piece of their own, before the nodes.
            if !out.is_empty() {
                break;
            }
            let scope = self.scopes.front().and_then(|(scope, _)| *scope);
            let nodes = view.page_of::<NodeRecord>(scope, after, BATCH_NODES)?;
            self.nodes_emitted(nodes.len() == BATCH_NODES, nodes.last().map(|(key, _)| *key), true);
            if !nodes.is_empty() {
                let mut batches: Vec<NodeBatch> = Vec::new();
                for ((vni, mac), record) in &nodes {
                    if batches.last().is_none_or(|batch| batch.vni != *vni) {
                        batches.push(NodeBatch::new(*vni));
                    }
                    let Some(batch) = batches.last_mut() else { break };
                    batch.push(*mac, record.host, record.generation, record.facts, record.ips.iter());
                }
                return Ok(Piece::Nodes(batches));
            }
        }
        Ok(Piece::Changes(out))
    }

    fn step(&mut self, view: &dyn View, out: &mut Vec<Change>) -> Result<(), StoreError> {
        let stage = match self.stage {
            Stage::Hosts(after) => return self.hosts(view, after, out),
            stage => stage,
        };
        let Some(&(scope, emit)) = self.scopes.front() else { return Ok(()) };
        let puts = emit == Emit::Puts;
        match stage {
            Stage::Hosts(_) => Ok(()),
            Stage::Network(after) => self.networks(view, (scope, after), puts, out),
            Stage::Members(after) => self.members(view, (scope, after), puts, out),
            Stage::Nodes(after) => self.nodes(view, (scope, after), puts, out),
            Stage::Locks(after) => self.locks(view, (scope, after), out),
        }
    }

    fn hosts(
        &mut self,
        view: &dyn View,
        after: Option<u32>,
        out: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let hosts = view.page::<HostRecord>(after, self.limit)?;
        self.stage = if hosts.len() == self.limit {
            Stage::Hosts(hosts.last().map(|(id, _)| *id))
        } else {
            Stage::Network(None)
        };
        out.extend(hosts.into_iter().map(|(id, h)| Change::HostPut(h.to_host(id))));
        Ok(())
    }

    fn networks(
        &mut self,
        view: &dyn View,
        (scope, after): (Option<Vni>, Option<Vni>),
        puts: bool,
        out: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let networks = match scope {
            None => view.page::<Network>(after, self.limit)?,
            Some(vni) => view.record::<Network>(vni)?.map(|network| (vni, network)).into_iter().collect(),
        };
        // Memberships come before nodes, and are removed after them.
        self.stage = match (scope.is_none() && networks.len() == self.limit, puts) {
            (true, _) => Stage::Network(networks.last().map(|(vni, _)| *vni)),
            (false, true) => Stage::Members(None),
            (false, false) => Stage::Nodes(None),
        };
        out.extend(
            networks
                .into_iter()
                .map(|(vni, n)| if puts { Change::NetworkPut(n) } else { Change::NetworkGone { vni } }),
        );
        Ok(())
    }

    fn members(
        &mut self,
        view: &dyn View,
        (scope, after): (Option<Vni>, Option<(Vni, u32)>),
        puts: bool,
        out: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let members = view.page_of::<MemberRecord>(scope, after, self.limit)?;
        match (members.len() == self.limit, puts) {
            (true, _) => self.stage = Stage::Members(members.last().map(|(key, _)| *key)),
            (false, true) => self.stage = Stage::Nodes(None),
            (false, false) => self.next_scope(),
        }
        out.extend(members.into_iter().filter_map(|((vni, host_id), record)| {
            let segment = record.visible()?;
            Some(if puts {
                Change::MemberPut { vni, host_id, segment }
            } else {
                Change::MemberGone { vni, host_id }
            })
        }));
        Ok(())
    }

    fn nodes(
        &mut self,
        view: &dyn View,
        (scope, after): (Option<Vni>, Option<(Vni, Mac)>),
        puts: bool,
        out: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let nodes = view.page_of::<NodeRecord>(scope, after, self.limit)?;
        self.nodes_emitted(nodes.len() == self.limit, nodes.last().map(|(key, _)| *key), puts);
        out.extend(nodes.into_iter().map(|((vni, mac), record)| {
            if puts {
                Change::NodePut { node: record.to_node(vni, mac), gone_ips: Vec::new() }
            } else {
                Change::NodeGone { vni, mac, ips: record.ips.to_vec() }
            }
        }));
        Ok(())
    }

    fn locks(
        &mut self,
        view: &dyn View,
        (scope, after): (Option<Vni>, Option<(Vni, Mac)>),
        out: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let locks = view.page_of::<Lock>(scope, after, self.limit)?;
        if locks.len() == self.limit {
            self.stage = Stage::Locks(locks.last().map(|(key, _)| *key));
        } else {
            self.next_scope();
        }
        out.extend(locks.into_iter().map(|((vni, mac), l)| Change::NodeLocked {
            vni,
            mac,
            migration: l.migration,
            generation: l.generation,
            source: l.source,
            target: l.target,
        }));
        Ok(())
    }

    /// Nodes up to `last` were read; there may be more if the piece was `full`.
    fn nodes_emitted(&mut self, full: bool, last: Option<(Vni, Mac)>, puts: bool) {
        self.stage = match (full, puts) {
            (true, _) => Stage::Nodes(last),
            (false, true) => Stage::Locks(None),
            (false, false) => Stage::Members(None),
        };
    }

    fn next_scope(&mut self) {
        self.scopes.pop_front();
        self.stage = Stage::Network(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::DeclaredBy,
        server::Writer,
        store::{Redb, Store},
        table::Write,
    };
    use std::sync::Arc;
    use stopover_net::{FloodPolicy, HostName};

    const COUNT: u32 = 2_000;

    fn mac(n: u32) -> Mac {
        let [a, b, c, d] = n.to_be_bytes();
        Mac::new([2, 0, a, b, c, d])
    }

    /// Hosts, networks, members, nodes and locks, [`COUNT`] of each.
    fn store() -> Arc<Redb> {
        let store = Arc::new(Redb::in_memory().unwrap());
        let mut writes = Vec::new();
        for n in 1..=COUNT {
            let vni = Vni::new(n).unwrap();
            let host = HostRecord {
                name: HostName::new(format!("gw-{n}")).unwrap(),
                vteps: vec![std::net::IpAddr::from(n.to_be_bytes())],
                udp_port: 4789,
                declared_by: DeclaredBy::Appliance,
                up: true,
                no_flood: false,
                down_unix_ms: 0,
                details: Default::default(),
            };
            writes.push(Write::put(n, &host));
            let network = Network { vni, name: String::new(), flood: FloodPolicy::Flood, mtu: 0 };
            writes.push(Write::put(vni, &network));
            let member = MemberRecord { joined: Some(true), declared: None, has_nodes: true };
            writes.push(Write::put((vni, n), &member));
            let declared_by = DeclaredBy::Appliance;
            let (ips, facts) = Default::default();
            let node = NodeRecord { host: n, generation: 1, declared_by, ips, facts };
            writes.push(Write::put((vni, mac(n)), &node));
            let lock = Lock { migration: n.into(), generation: 1, source: n, target: None };
            writes.push(Write::put((vni, mac(n)), &lock));
        }
        Writer::begin(store.clone()).unwrap().commit(1, writes, &mut |_| {}).unwrap();
        store
    }

    #[test]
    fn every_record_is_read_once_and_in_order() {
        let view = store().view().unwrap();
        for limit in [1, 7, 64, COUNT as usize, 5_000] {
            let mut cursor = Cursor::snapshot(None::<&std::collections::BTreeSet<Vni>>);
            cursor.limit = limit;
            let mut seen = [const { Vec::<u32>::new() }; 4];
            let mut nodes = 0;
            while !cursor.done() {
                match cursor.next_piece(&*view).unwrap() {
                    Piece::Nodes(batches) => {
                        nodes += batches.iter().map(|b| b.to_nodes().count()).sum::<usize>()
                    }
                    Piece::Changes(changes) => {
                        assert!(changes.len() < 2 * limit, "{} changes at once, with {limit}", changes.len());
                        for change in changes {
                            let (kind, n) = match change {
                                Change::HostPut(host) => (0, host.id),
                                Change::NetworkPut(network) => (1, network.vni.get()),
                                Change::MemberPut { host_id, .. } => (2, host_id),
                                Change::NodeLocked { source, .. } => (3, source),
                                other => panic!("{other:?}"),
                            };
                            seen[kind].push(n);
                        }
                    }
                }
            }
            assert_eq!(nodes, COUNT as usize);
            for kind in seen {
                assert!(kind.iter().copied().eq(1..=COUNT), "{limit}: each once, in order");
            }
        }
    }
}

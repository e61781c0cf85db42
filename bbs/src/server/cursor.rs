//! A walk through a view, in pieces: the state of some networks, or all, as puts (a snapshot) or as gones (a
//! network that leaves a watcher's scope).

use crate::{
    board::COMMIT_CHANGES,
    model::{BATCH_NODES, Change, NodeBatch},
    store::{StoreError, View},
};
use std::collections::VecDeque;
use stopover_config::net::{Mac, Vni};

enum Stage {
    Hosts,
    Network,
    Members(Option<(Vni, u32)>),
    Nodes(Option<(Vni, Mac)>),
    /// Locks come after their nodes, and go with them.
    Locks,
}

/// A piece of a snapshot.
pub(super) enum Piece {
    /// Hosts, networks, members and locks.
    Changes(Vec<Change>),
    /// Nodes; not empty.
    Nodes(Vec<NodeBatch>),
}

/// What of a network is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    Puts,
    Gones,
}

pub(super) struct Cursor {
    /// Networks still to do; `None` = all at once.
    scopes: VecDeque<(Option<Vni>, Tell)>,
    stage: Stage,
}

impl Cursor {
    /// Hosts, then the networks of interest (`None` = all).
    pub fn snapshot<'a>(interest: Option<impl IntoIterator<Item = &'a Vni>>) -> Self {
        let scopes = match interest {
            None => [(None, Tell::Puts)].into(),
            Some(vnis) => vnis.into_iter().map(|vni| (Some(*vni), Tell::Puts)).collect(),
        };
        Self { scopes, stage: Stage::Hosts }
    }

    /// Networks that come into scope, and those that go.
    pub fn scope(add: &[Vni], remove: &[Vni]) -> Self {
        let gones = remove.iter().map(|vni| (Some(*vni), Tell::Gones));
        let puts = add.iter().map(|vni| (Some(*vni), Tell::Puts));
        Self { scopes: gones.chain(puts).collect(), stage: Stage::Network }
    }

    /// Nothing is left.
    pub fn done(&self) -> bool {
        self.scopes.is_empty() && !matches!(self.stage, Stage::Hosts)
    }

    /// The next piece; about [`COMMIT_CHANGES`] changes, fewer at the end.
    pub fn next(&mut self, view: &dyn View) -> Result<Vec<Change>, StoreError> {
        let mut out = Vec::new();
        while out.len() < COMMIT_CHANGES && !self.done() {
            self.step(view, &mut out)?;
        }
        Ok(out)
    }

    /// The next piece of a snapshot, with its nodes packed.
    pub fn next_piece(&mut self, view: &dyn View) -> Result<Piece, StoreError> {
        let mut out = Vec::new();
        while out.len() < COMMIT_CHANGES && !self.done() {
            let Stage::Nodes(after) = self.stage else {
                self.step(view, &mut out)?;
                continue;
            };
            // What was told before comes before.
            if !out.is_empty() {
                break;
            }
            let scope = self.scopes.front().and_then(|(scope, _)| *scope);
            let nodes = view.nodes(scope, after, BATCH_NODES)?;
            self.nodes_told(nodes.len() == BATCH_NODES, nodes.last().map(|(vni, mac, _)| (*vni, *mac)), true);
            if !nodes.is_empty() {
                let mut batches: Vec<NodeBatch> = Vec::new();
                for (vni, mac, record) in &nodes {
                    if batches.last().is_none_or(|batch| batch.vni != *vni) {
                        batches.push(NodeBatch::new(*vni));
                    }
                    let Some(batch) = batches.last_mut() else { break };
                    batch.push(*mac, record.host, record.generation, record.ips.iter());
                }
                return Ok(Piece::Nodes(batches));
            }
        }
        Ok(Piece::Changes(out))
    }

    fn step(&mut self, view: &dyn View, out: &mut Vec<Change>) -> Result<(), StoreError> {
        let limit = COMMIT_CHANGES;
        if let Stage::Hosts = self.stage {
            out.extend(view.hosts()?.into_iter().map(|(id, h)| Change::HostPut(h.to_host(id))));
            self.stage = Stage::Network;
            return Ok(());
        }
        let Some(&(scope, tell)) = self.scopes.front() else { return Ok(()) };
        let puts = tell == Tell::Puts;
        match &mut self.stage {
            Stage::Hosts => {}
            Stage::Network => {
                let networks = match scope {
                    None => view.networks()?,
                    Some(vni) => view.network(vni)?.into_iter().collect(),
                };
                out.extend(
                    networks.into_iter().map(|n| {
                        if puts { Change::NetworkPut(n) } else { Change::NetworkGone { vni: n.vni } }
                    }),
                );
                // Memberships come before nodes, and go after them.
                self.stage = if puts { Stage::Members(None) } else { Stage::Nodes(None) };
            }
            Stage::Members(after) => {
                let members = view.members(scope, *after, limit)?;
                let full = members.len() == limit;
                *after = members.last().map(|(vni, host, _)| (*vni, *host));
                out.extend(members.into_iter().filter_map(|(vni, host_id, record)| {
                    let segment = record.visible()?;
                    Some(if puts {
                        Change::MemberPut { vni, host_id, segment }
                    } else {
                        Change::MemberGone { vni, host_id }
                    })
                }));
                match (full, puts) {
                    (true, _) => {}
                    (false, true) => self.stage = Stage::Nodes(None),
                    (false, false) => self.next_scope(),
                }
            }
            &mut Stage::Nodes(after) => {
                let nodes = view.nodes(scope, after, limit)?;
                let (full, last) = (nodes.len() == limit, nodes.last().map(|(vni, mac, _)| (*vni, *mac)));
                out.extend(nodes.into_iter().map(|(vni, mac, record)| {
                    if puts {
                        Change::NodePut { node: record.to_node(vni, mac), gone_ips: Vec::new() }
                    } else {
                        Change::NodeGone { vni, mac, ips: record.ips.to_vec() }
                    }
                }));
                self.nodes_told(full, last, puts);
            }
            Stage::Locks => {
                out.extend(view.locks(scope)?.into_iter().map(|(vni, mac, l)| Change::NodeLocked {
                    vni,
                    mac,
                    migration: l.migration,
                    generation: l.generation,
                    source: l.source,
                    target: l.target,
                }));
                self.next_scope();
            }
        }
        Ok(())
    }

    /// Nodes up to `last` were told; there may be more if the piece was `full`.
    fn nodes_told(&mut self, full: bool, last: Option<(Vni, Mac)>, puts: bool) {
        self.stage = match (full, puts) {
            (true, _) => Stage::Nodes(last),
            (false, true) => Stage::Locks,
            (false, false) => Stage::Members(None),
        };
    }

    fn next_scope(&mut self) {
        self.scopes.pop_front();
        self.stage = Stage::Network;
    }
}

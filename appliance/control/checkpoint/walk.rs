//! A walk through all that is forwarded by, piece by piece, between which it may change. Enters: the replica, the tables,
//! and the VMs of this host. Leaves: pieces of a checkpoint. What is there throughout is in one of them.

use crate::control::{
    replica::Replica,
    stations::{Kind, Stations},
};
use crate::tables::{
    Tables,
    listing::Owned,
    packed::{Bd, FdbEntry},
    peer::{Peer, Slot},
};
use std::{collections::BTreeMap, net::IpAddr};
use stopover_bbs::client::{BATCH_NODES, Change, CheckpointPiece, Network, NodeBatch, NodeFacts, Point};
use stopover_lockfree::map64::Piece;
use stopover_net::{FloodPolicy, Mac, Vni};

/// Rows of one piece: some hundred microseconds at most. Only members of one network and shadowed nodes may be more.
const AT_ONCE: usize = 1024;

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Hosts, from this number on.
    Hosts(u32),
    /// Networks with their members, from this VNI on.
    Networks(u32),
    /// Nodes that local stations shadow, and the VMs of this host.
    Local,
    /// Nodes, from this place in their table on.
    Nodes(u64),
    /// IPv4 addresses.
    Owners4(u64),
    /// IPv6 addresses.
    Owners6(u64),
    /// Nothing.
    End,
}

/// What is walked through.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    pub replica: &'a Replica,
    pub tables: &'a Tables,
    pub stations: &'a Stations,
}

impl State<'_> {
    /// Another number after each change of what the board has said.
    pub fn version(&self) -> u64 {
        self.replica.version()
    }
}

/// A walk under way.
#[derive(Debug)]
pub struct Walk {
    /// The board's state when it began.
    pub point: Point,
    /// As it was then.
    pub version: u64,
    next: Next,
}

impl Walk {
    pub fn new(point: Point, state: State<'_>) -> Self {
        Self { point, version: state.version(), next: Next::Hosts(0) }
    }

    /// The next piece; `None` at the end.
    pub fn piece(&mut self, state: State<'_>) -> Option<CheckpointPiece> {
        let (piece, next) = match self.next {
            Next::Hosts(from) => hosts(state, from),
            Next::Networks(from) => networks(state, from),
            Next::Local => {
                let nodes = state.tables.shadowed().filter_map(|(bd, mac, slot)| row(state, bd, mac, slot));
                (of_nodes(state, nodes.chain(own_vms(state))), Next::Nodes(0))
            }
            Next::Nodes(from) => {
                let Piece { rows, next, .. } = state.tables.nodes_from(from, AT_ONCE, None);
                let nodes = rows.into_iter().filter_map(|(bd, mac, entry)| match entry {
                    FdbEntry::Remote { slot, .. } => row(state, bd, mac, slot),
                    FdbEntry::Local { .. } | FdbEntry::Migrating { .. } => None,
                });
                (of_nodes(state, nodes), next.map_or(Next::Owners4(0), Next::Nodes))
            }
            Next::Owners4(from) => {
                let Piece { rows, next, .. } = state.tables.owners4_from(from, AT_ONCE, None);
                (of_owners(state, rows), next.map_or(Next::Owners6(0), Next::Owners4))
            }
            Next::Owners6(from) => {
                let Piece { rows, next, .. } = state.tables.owners6_from(from, AT_ONCE, None);
                (of_owners(state, rows), next.map_or(Next::End, Next::Owners6))
            }
            Next::End => return None,
        };
        self.next = next;
        Some(piece)
    }
}

fn hosts(state: State<'_>, from: u32) -> (CheckpointPiece, Next) {
    let mut hosts = state.replica.hosts_from(from);
    let changes =
        hosts.by_ref().take(AT_ONCE).map(|(_, record)| Change::HostPut(record.host.clone())).collect();
    let next = hosts.next().map_or(Next::Networks(0), |(id, _)| Next::Hosts(id));
    (CheckpointPiece { changes, nodes: Vec::new() }, next)
}

fn networks(state: State<'_>, from: u32) -> (CheckpointPiece, Next) {
    let mut changes = Vec::new();
    let mut next = Next::Local;
    for (vni, record) in state.replica.networks_from(from) {
        if changes.len() >= AT_ONCE {
            next = Next::Networks(vni.get());
            break;
        }
        let (name, flood, mtu) = (record.name.clone(), record.flood, record.mtu);
        if !name.is_empty() || flood != FloodPolicy::default() || mtu != 0 {
            changes.push(Change::NetworkPut(Network { vni, name, flood, mtu }));
        }
        let members = record.members.iter();
        changes.extend(members.map(|(id, segment)| Change::MemberPut {
            vni,
            host_id: *id,
            segment: *segment,
        }));
    }
    (CheckpointPiece { changes, nodes: Vec::new() }, next)
}

/// A node at another host, with one of its addresses, and whether it is a router at that.
type Row = (Bd, Mac, Peer, Option<(IpAddr, Option<bool>)>);

fn row(state: State<'_>, bd: Bd, mac: Mac, slot: Slot) -> Option<Row> {
    Some((bd, mac, state.tables.peer_of(slot)?, None))
}

/// VMs that are here, without addresses: a migration must know after a restart that the board has them here.
fn own_vms(state: State<'_>) -> impl Iterator<Item = Row> {
    let own = state.replica.own_id().map(Peer::new);
    let here = state.stations.iter().filter(|(_, _, s)| s.kind == Kind::Vif && s.refused.is_none());
    here.filter_map(move |(bd, mac, _)| Some((bd, mac, own?, None)))
}

/// Nodes in batches by network.
fn of_nodes(state: State<'_>, nodes: impl Iterator<Item = Row>) -> CheckpointPiece {
    let (mut batches, mut full) = (BTreeMap::<Vni, NodeBatch>::new(), Vec::new());
    for (bd, mac, peer, address) in nodes {
        let Some(vni) = state.replica.vni_of(bd) else { continue };
        let batch = batches.entry(vni).or_insert_with(|| NodeBatch::new(vni));
        let facts = NodeFacts { router: address.and_then(|(_, router)| router), ..NodeFacts::default() };
        batch.push(mac, peer.get(), 0, facts, address.map(|(ip, _)| ip).into_iter());
        if batch.nodes.len() == BATCH_NODES {
            full.extend(batches.remove(&vni));
        }
    }
    full.extend(batches.into_values());
    CheckpointPiece { changes: Vec::new(), nodes: full }
}

/// Addresses of nodes at other hosts.
fn of_owners(state: State<'_>, owners: Vec<Owned>) -> CheckpointPiece {
    let rows = owners.into_iter().filter_map(|(bd, ip, mac)| {
        let router = match ip {
            IpAddr::V6(ip) => state.tables.router(bd, ip),
            IpAddr::V4(_) => None,
        };
        Some((bd, mac, state.tables.recorded_host(bd, mac)?, Some((ip, router))))
    });
    of_nodes(state, rows)
}

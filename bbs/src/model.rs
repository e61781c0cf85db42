//! The vocabulary that every other room speaks. Values here are valid by construction or by the door they
//! came through ([`crate::proto`]); nothing here does anything.

mod batch;
mod facts;
mod migration;
mod point;

pub use batch::{BATCH_NODES, NodeBatch, PackedNode};
pub use facts::{NodeFacts, StationKind};
pub use migration::{
    Deferred, HostRef, HostReport, LEASE_MS, Lock, MAX_CAUSE, MAX_CAUSES, MAX_DEFERRED, MAX_MIGRATING,
    MAX_REPORTS, MigratingNode, Migration, MigrationState, Report, Unlocked,
};
pub use point::Point;
pub use uuid::Uuid;

use serde::Serialize;
use std::{fmt, net::IpAddr};
use stopover_config::bulk::{HostRow, MemberRow, NetworkRow, NodeRow};
use stopover_net::{FloodPolicy, HostName, Mac, Vni};

/// Most VTEP addresses of one host.
pub const MAX_VTEPS: usize = 4;
/// Most addresses of one node.
pub const MAX_IPS: usize = 16;

/// Who said that something exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeclaredBy {
    /// The host's own appliance.
    Appliance,
    /// The operator.
    Operator,
}

/// A machine with a VTEP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Given by the board, from 1, dense, never given twice.
    pub id: u32,
    /// Its name, unique.
    pub name: HostName,
    /// Underlay addresses, 1 to [`MAX_VTEPS`].
    pub vteps: Vec<IpAddr>,
    /// UDP port of VXLAN there, host byte order.
    pub udp_port: u16,
    /// Who speaks for it.
    pub declared_by: DeclaredBy,
    /// Its lease is alive (always true for the operator's).
    pub up: bool,
    /// It has been down for so long that flooded frames are not to be sent to it. Frames to its nodes are.
    pub no_flood: bool,
    /// When it went down, milliseconds since 1970 by the board's clock; 0 = it is up, or that is not known.
    pub down_unix_ms: u64,
}

/// What an appliance registers its host with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Registration {
    /// The host.
    pub host: HostName,
    /// 1 to [`MAX_VTEPS`].
    pub vteps: Vec<IpAddr>,
    /// VXLAN port, host byte order.
    pub udp_port: u16,
    /// The process.
    pub instance: Uuid,
    /// What it forwards by; `None` = nothing yet.
    pub holds: Option<Point>,
}

/// A declared network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Its number.
    pub vni: Vni,
    /// Free text for people; may be empty.
    pub name: String,
    /// What happens to broadcast, multicast and unknown unicast.
    pub flood: FloodPolicy,
    /// Largest inner IP packet in bytes; 0 = not set.
    pub mtu: u16,
}

/// A station's interface in a network; its key is `(vni, mac)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Network.
    pub vni: Vni,
    /// Unicast address.
    pub mac: Mac,
    /// At most [`MAX_IPS`], each once in a network.
    pub ips: Vec<IpAddr>,
    /// Where it is.
    pub host_id: u32,
    /// Revision in which it came to this host.
    pub generation: u64,
    /// What else is known of it.
    #[serde(flatten)]
    pub facts: NodeFacts,
}

/// A host that wants the flooded frames of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Network.
    pub vni: Vni,
    /// Host.
    pub host_id: u32,
    /// Stations that nobody registered may be behind it.
    pub segment: bool,
}

/// One step from a state of the board to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// A host is new or has changed. Precedes the first change that names its id.
    HostPut(Host),
    /// Follows the last change that names its id.
    HostGone {
        /// The host.
        id: u32,
    },
    /// A network's declaration is new or has changed.
    NetworkPut(Network),
    /// The declaration has gone; nodes and members may still be there, with the default policy.
    NetworkGone {
        /// The network.
        vni: Vni,
    },
    /// A membership is new or has changed.
    MemberPut {
        /// Network.
        vni: Vni,
        /// Host.
        host_id: u32,
        /// Stations that nobody registered may be behind it.
        segment: bool,
    },
    /// A membership has ended.
    MemberGone {
        /// Network.
        vni: Vni,
        /// Host.
        host_id: u32,
    },
    /// A node is new or has changed.
    NodePut {
        /// As it is now.
        node: Node,
        /// Addresses it had before and has no more.
        gone_ips: Vec<IpAddr>,
    },
    /// A node has gone.
    NodeGone {
        /// Network.
        vni: Vni,
        /// Its MAC.
        mac: Mac,
        /// The addresses it had.
        ips: Vec<IpAddr>,
    },
    /// A node is locked for a migration, or what is known of the migration has changed. Follows the node, and
    /// ends with [`Change::NodeUnlocked`] or with the node.
    NodeLocked {
        /// Network.
        vni: Vni,
        /// Its MAC.
        mac: Mac,
        /// Which migration.
        migration: u64,
        /// Its fencing generation.
        generation: u64,
        /// Host it leaves.
        source: u32,
        /// Host it goes to, once known.
        target: Option<u32>,
    },
    /// The lock has ended. Where the node is, the `NodePut` before has said.
    NodeUnlocked {
        /// Network.
        vni: Vni,
        /// Its MAC.
        mac: Mac,
        /// Which migration.
        migration: u64,
        /// Its fencing generation.
        generation: u64,
        /// How.
        outcome: Unlocked,
    },
}

impl Change {
    /// The network it belongs to; `None` for hosts, which everyone follows.
    #[must_use]
    pub fn vni(&self) -> Option<Vni> {
        match self {
            Self::HostPut(_) | Self::HostGone { .. } => None,
            Self::NetworkPut(n) => Some(n.vni),
            Self::NodePut { node, .. } => Some(node.vni),
            Self::NetworkGone { vni }
            | Self::MemberPut { vni, .. }
            | Self::MemberGone { vni, .. }
            | Self::NodeGone { vni, .. }
            | Self::NodeLocked { vni, .. }
            | Self::NodeUnlocked { vni, .. } => Some(*vni),
        }
    }
}

/// What an appliance says of a node on its own host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Claim {
    /// Network.
    pub vni: Vni,
    /// Unicast address.
    pub mac: Mac,
    /// At most [`MAX_IPS`], no two alike.
    pub ips: Vec<IpAddr>,
    /// What else is known of it. A router flag that is not known stays as it was at the board.
    pub facts: NodeFacts,
    /// Of a learned node: it has just been received here, and not only before. Of a declared one: it goes before
    /// learned ones.
    #[serde(rename = "heard")]
    pub received: bool,
    /// Of `ips`: those it has just announced.
    pub announced: Vec<IpAddr>,
    /// Of `ips`: those that other declared nodes may have as well.
    pub shared: Vec<IpAddr>,
    /// Of `ips`: those that a declared node was heard to use and nobody declared.
    pub used: Vec<IpAddr>,
}

impl Claim {
    /// A declared node.
    #[must_use]
    pub fn declared(vni: Vni, mac: Mac, ips: Vec<IpAddr>) -> Self {
        let facts = NodeFacts::default();
        Self { vni, mac, ips, facts, received: false, announced: vec![], shared: vec![], used: vec![] }
    }

    /// A learned node that has just been received, and has just announced these addresses.
    #[must_use]
    pub fn learned(vni: Vni, mac: Mac, ips: Vec<IpAddr>) -> Self {
        let facts = NodeFacts { kind: StationKind::Learned, router: None };
        Self { vni, mac, announced: ips.clone(), ips, facts, received: true, shared: vec![], used: vec![] }
    }

    /// Whether it takes over what others learned because of what was just received.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.received && self.facts.is_learned() || !self.announced.is_empty()
    }

    /// The same claim some time later: it takes over nothing for what was received then.
    #[must_use]
    pub fn stale(mut self) -> Self {
        self.received &= !self.facts.is_learned();
        self.announced.clear();
        self
    }

    /// Whether this address goes to whoever announces it next.
    #[must_use]
    pub fn is_contestable(&self, ip: IpAddr) -> bool {
        self.facts.is_learned() || self.shared.contains(&ip) || self.used.contains(&ip)
    }

    /// Without these addresses.
    pub fn remove_ips(&mut self, gone: impl Fn(IpAddr) -> bool) {
        for list in [&mut self.ips, &mut self.announced, &mut self.shared, &mut self.used] {
            list.retain(|ip| !gone(*ip));
        }
    }
}

/// The addresses with which a claim was accepted, if they are not those claimed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accepted {
    /// All that the node has.
    pub ips: Vec<IpAddr>,
    /// Of each address that was refused, who holds it.
    pub refused: Vec<String>,
}

/// What the operator declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Row {
    /// A host that has no appliance, or none yet.
    Host(HostRow),
    /// A network's name, policy and MTU.
    Network(NetworkRow),
    /// A node.
    Node(NodeRow),
    /// A membership.
    Member(MemberRow),
}

impl From<HostRow> for Row {
    fn from(row: HostRow) -> Self {
        Self::Host(row)
    }
}
impl From<NetworkRow> for Row {
    fn from(row: NetworkRow) -> Self {
        Self::Network(row)
    }
}
impl From<NodeRow> for Row {
    fn from(row: NodeRow) -> Self {
        Self::Node(row)
    }
}
impl From<MemberRow> for Row {
    fn from(row: MemberRow) -> Self {
        Self::Member(row)
    }
}

/// What the operator deletes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A host. Refused while it has nodes or members, unless `cascade`.
    Host {
        /// Its name.
        name: HostName,
        /// Delete its nodes and memberships as well.
        cascade: bool,
    },
    /// A network's declaration.
    Network {
        /// The network.
        vni: Vni,
    },
    /// A node.
    Node {
        /// Network.
        vni: Vni,
        /// Its MAC.
        mac: Mac,
    },
    /// The operator's declaration of a membership.
    Member {
        /// Network.
        vni: Vni,
        /// Host.
        host: HostName,
    },
}

/// Why a row of a load was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowError {
    /// The row's number as its sender gave it, or its place in the stream from 1.
    pub number: u64,
    /// What is wrong; names the holder in a conflict.
    pub why: String,
}

/// Kinds of [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A host has registered, or is back.
    HostUp,
    /// A lease has run out, or the host has deregistered.
    HostDown,
    /// Another process has registered under a name whose session was alive.
    HostReplaced,
    /// A claim or declaration met a holder.
    Conflict,
    /// A node or an address was taken over from a host that is down.
    TakenOver,
    /// The operator changed something.
    Operator,
    /// A migration began or ended.
    Migration,
    /// A host holds the state of another board, or of another branch of this board's history.
    Lineage,
    /// A kind that this version does not know.
    Other,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HostUp => "host-up",
            Self::HostDown => "host-down",
            Self::HostReplaced => "host-replaced",
            Self::Conflict => "conflict",
            Self::TakenOver => "taken-over",
            Self::Operator => "operator",
            Self::Migration => "migration",
            Self::Lineage => "lineage",
            Self::Other => "other",
        })
    }
}

/// Something an operator would want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// From 1, in order.
    pub number: u64,
    /// Milliseconds since 1970, UTC, by the board's clock.
    pub unix_ms: u64,
    /// What kind.
    pub kind: EventKind,
    /// One line.
    pub text: String,
    /// The board's revision after it.
    pub revision: u64,
    /// Who did it: a host with its session, the operator, or the board by itself. Empty = not known.
    pub actor: String,
}

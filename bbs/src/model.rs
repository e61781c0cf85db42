//! The types that all other modules use. Values are valid by construction, or because [`crate::proto`] has checked them.
//! Values only.

mod batch;
mod details;
mod facts;
mod features;
mod migration;
mod point;

pub use batch::{BATCH_NODES, NodeBatch, PackedNode};
pub use details::{HostDetails, MAX_CAPABILITIES, MIN_NIC_MTU, Nic, PublicKey, ShortName};
pub use facts::{NodeFacts, StationKind};
pub use features::{Feature, Features, Share, Without};
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

/// Who declared something.
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
    /// Assigned by the board, from 1, dense, never assigned again.
    pub id: u32,
    /// Its name, unique.
    pub name: HostName,
    /// Underlay addresses, 1 to [`MAX_VTEPS`].
    pub vteps: Vec<IpAddr>,
    /// UDP port of VXLAN there, host byte order.
    pub udp_port: u16,
    /// Who declared it.
    pub declared_by: DeclaredBy,
    /// Its lease has not expired (always true for a host that the operator declared).
    pub up: bool,
    /// It has been down for longer than the grace period: flooded frames are not to be sent to it, but frames to its
    /// nodes are.
    pub no_flood: bool,
    /// When it went down, milliseconds since 1970 by the board's clock; 0 = it is up, or the time is not
    /// known.
    pub down_unix_ms: u64,
    /// Of its machine.
    #[serde(flatten)]
    pub details: HostDetails,
}

/// The data with which an appliance registers its host.
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
    /// The state by which it forwards; `None` = none yet.
    pub holds: Option<Point>,
    /// Of its machine. In a box: commands without it are much smaller.
    pub details: Box<HostDetails>,
}

/// A declared network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Its number.
    pub vni: Vni,
    /// Free text; may be empty.
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
    /// Revision in which it moved to this host.
    pub generation: u64,
    /// Its kind, and whether it is a router.
    #[serde(flatten)]
    pub facts: NodeFacts,
}

/// A host that receives the flooded frames of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Network.
    pub vni: Vni,
    /// Host.
    pub host_id: u32,
    /// Stations that are not registered may be behind it.
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
    /// The declaration was deleted; nodes and members may remain, with the default policy.
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
        /// Stations that are not registered may be behind it.
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
        /// Addresses that it no longer has.
        gone_ips: Vec<IpAddr>,
    },
    /// A node was removed.
    NodeGone {
        /// Network.
        vni: Vni,
        /// Its MAC.
        mac: Mac,
        /// The addresses it had.
        ips: Vec<IpAddr>,
    },
    /// A node is locked for a migration, or the data of the migration have changed. Follows the change of the node, and
    /// is valid until [`Change::NodeUnlocked`] or the removal of the node.
    NodeLocked {
        /// Network.
        vni: Vni,
        /// Its MAC.
        mac: Mac,
        /// Which migration.
        migration: u64,
        /// Its fencing generation.
        generation: u64,
        /// Host from which it migrates.
        source: u32,
        /// Host to which it migrates, if known.
        target: Option<u32>,
    },
    /// The lock has ended. The place of the node is in the `NodePut` before.
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
    /// The network it belongs to; `None` for hosts, which every watcher follows.
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

/// An appliance's claim of a node on its own host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Claim {
    /// Network.
    pub vni: Vni,
    /// Unicast address.
    pub mac: Mac,
    /// At most [`MAX_IPS`], each once.
    pub ips: Vec<IpAddr>,
    /// Its kind, and whether it is a router. If that is not known, the board keeps the value that it has.
    pub facts: NodeFacts,
    /// For a learned node: a frame from it has just been received here. For a declared node: it takes precedence over
    /// learned ones.
    #[serde(rename = "heard")]
    pub received: bool,
    /// Subset of `ips` that it has just announced.
    pub announced: Vec<IpAddr>,
    /// Subset of `ips` that other declared nodes may have as well.
    pub shared: Vec<IpAddr>,
    /// Subset of `ips` that a declared node uses without a declaration.
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

    /// Whether it takes over what others have learned, because of a frame that was just received.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.received && self.facts.is_learned() || !self.announced.is_empty()
    }

    /// The same claim some time later: it no longer takes anything over because of a received frame.
    #[must_use]
    pub fn stale(mut self) -> Self {
        self.received &= !self.facts.is_learned();
        self.announced.clear();
        self
    }

    /// Whether the next node that announces this address gets it.
    #[must_use]
    pub fn is_contestable(&self, ip: IpAddr) -> bool {
        self.facts.is_learned() || self.shared.contains(&ip) || self.used.contains(&ip)
    }

    /// Without these addresses.
    pub fn remove_ips(&mut self, matches: impl Fn(IpAddr) -> bool) {
        for list in [&mut self.ips, &mut self.announced, &mut self.shared, &mut self.used] {
            list.retain(|ip| !matches(*ip));
        }
    }
}

/// The addresses with which a claim was accepted, if they are not those claimed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accepted {
    /// All that the node has.
    pub ips: Vec<IpAddr>,
    /// For each refused address, who holds it.
    pub refused: Vec<String>,
}

/// A declaration of the operator.
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

/// A deletion by the operator.
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
    /// A lease has expired, or the host has deregistered.
    HostDown,
    /// Another process has registered under a name whose session was alive.
    HostReplaced,
    /// A claim or declaration is in conflict with a holder.
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

/// An entry of the event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// From 1, in order.
    pub number: u64,
    /// Milliseconds since 1970, UTC, by the board's clock.
    pub unix_ms: u64,
    /// Kind.
    pub kind: EventKind,
    /// One line.
    pub text: String,
    /// The board's revision after it.
    pub revision: u64,
    /// The originator: a host with its session, the operator, or the board itself. Empty = not known.
    pub actor: String,
}

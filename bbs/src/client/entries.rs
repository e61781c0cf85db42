//! Entries of the lists that a board returns to the operator, and the filter of the list of nodes. Values only.

use crate::model::{DeclaredBy, Host, Member, Network, Node};
use serde::Serialize;
use std::net::IpAddr;
use stopover_net::{HostName, Mac, Vni};

/// The board at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoardInfo {
    /// Hexadecimal; made when the store was created.
    pub board_id: String,
    /// Now.
    pub revision: u64,
    /// Oldest revision from which a watch can resume without a snapshot.
    pub oldest_resumable: u64,
    /// How many.
    pub hosts: u64,
    /// How many, declared or not.
    pub networks: u64,
    /// How many.
    pub nodes: u64,
    /// How many.
    pub members: u64,
    /// Connected now.
    pub watchers: u64,
    /// How long a host may be silent.
    pub lease_ms: u64,
    /// Of the program.
    pub version: String,
}

/// A host with what the board knows around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostEntry {
    /// The host.
    #[serde(flatten)]
    pub host: Host,
    /// Its nodes.
    pub nodes: u64,
    /// Networks of which it is a member.
    pub networks: u64,
    /// Its watch is connected.
    pub watching: bool,
    /// Last revision in force on every lcore there; 0 = none said yet.
    pub acked_revision: u64,
}

/// A network with its counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkEntry {
    /// As declared, or the defaults.
    #[serde(flatten)]
    pub network: Network,
    /// Somebody declared it.
    pub declared: bool,
    /// Its nodes.
    pub nodes: u64,
    /// Its members.
    pub members: u64,
}

/// A membership and its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberEntry {
    /// The membership.
    #[serde(flatten)]
    pub member: Member,
    /// The host's name.
    pub host: String,
    /// By the appliance's join.
    pub joined: bool,
    /// By the operator.
    pub declared: bool,
    /// By having nodes.
    pub has_nodes: bool,
}

/// A node and its host's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeEntry {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// The host's name.
    pub host: String,
    /// Who said so.
    pub declared_by: DeclaredBy,
}

/// Someone who watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatcherEntry {
    /// Unique while the board runs.
    pub id: u64,
    /// Host or tool.
    pub name: String,
    /// Address, or `unix`.
    pub peer: String,
    /// Sent so far.
    pub sent_revision: u64,
    /// Acknowledged so far.
    pub acked_revision: u64,
    /// Networks followed; `None` = all.
    pub networks: Option<u64>,
    /// Snapshots after the first.
    pub resyncs: u64,
    /// The registration it belongs to; 0 = it is no host's, and acknowledges for none.
    pub session: u64,
}

/// Which nodes to list; everything unset is every node.
#[derive(Debug, Clone, Default)]
pub struct NodeFilter {
    /// Of this network.
    pub vni: Option<Vni>,
    /// On this host.
    pub host: Option<HostName>,
    /// With this MAC.
    pub mac: Option<Mac>,
    /// With this address.
    pub ip: Option<IpAddr>,
    /// Stop after so many.
    pub limit: Option<u64>,
}

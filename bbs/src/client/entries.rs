//! Entries of the lists that a board returns to the operator, and the filter of the list of nodes. Values only.

use crate::model::{DeclaredBy, Host, Member, Network, Node};
use serde::Serialize;
use std::net::IpAddr;
use stopover_net::{HostName, Mac, Vni};

/// A summary of the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoardInfo {
    /// Hexadecimal; chosen when the store was created.
    pub board_id: String,
    /// The current revision.
    pub revision: u64,
    /// Oldest revision from which a watch can resume without a snapshot.
    pub oldest_resumable: u64,
    /// Number of hosts.
    pub hosts: u64,
    /// Number of networks, declared or not.
    pub networks: u64,
    /// Number of nodes.
    pub nodes: u64,
    /// Number of memberships.
    pub members: u64,
    /// Number of open watches.
    pub watchers: u64,
    /// Time without a sign of life after which a host is down.
    pub lease_ms: u64,
    /// Version of the program.
    pub version: String,
    /// It listens at plain TCP: whoever reaches the port may do anything.
    pub insecure: bool,
    /// Why the board takes no writes now, if it does not.
    pub read_only: Option<String>,
}

/// A host with its counts and its watch.
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
    /// Last revision that it has acknowledged as in force on every lcore; 0 = none yet.
    pub acked_revision: u64,
}

/// A network with its counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkEntry {
    /// As declared, or the defaults.
    #[serde(flatten)]
    pub network: Network,
    /// Whether it is declared.
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
    /// Who declared it.
    pub declared_by: DeclaredBy,
}

/// A watcher.
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
    /// The registration it belongs to; 0 = it belongs to no host, and acknowledges for none.
    pub session: u64,
}

/// Which nodes to list; without any field, all nodes.
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
    /// Most nodes to list.
    pub limit: Option<u64>,
}

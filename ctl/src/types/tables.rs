//! Tables as the appliance has them, which may be behind the board's, or outlive it.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use stopover_net::{FloodPolicy, Mac, Vni};

/// One node of the replica, as the appliance lists it: its addresses are a list of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Network.
    pub vni: Vni,
    /// The station's MAC.
    pub mac: Mac,
    /// Host it is on.
    pub host: String,
    /// Local port it is behind; absent for nodes of other hosts.
    pub port: Option<String>,
    /// Its origin.
    pub origin: NodeOrigin,
}

/// One address, and the node that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressEntry {
    /// Network.
    pub vni: Vni,
    /// The address.
    pub ip: IpAddr,
    /// The node's MAC.
    pub mac: Mac,
}

/// One node of the replica, with its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Network.
    pub vni: Vni,
    /// The station's MAC.
    pub mac: Mac,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Host it is on.
    pub host: String,
    /// Local port it is behind; absent for nodes of other hosts.
    pub port: Option<String>,
    /// Its origin.
    pub origin: NodeOrigin,
}

/// How the appliance knows a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeOrigin {
    /// The VIF's declaration.
    Vif,
    /// A static station of a segment.
    Station,
    /// Learned from a segment's traffic.
    Learned,
    /// From the board.
    Board,
    /// From the configuration's `declared`.
    Declared,
}

/// One host of the replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRow {
    /// Name at the board.
    pub name: String,
    /// Number the board gave it.
    pub id: u32,
    /// Underlay addresses.
    pub vteps: Vec<IpAddr>,
    /// Destination UDP port, host byte order.
    pub udp_port: u16,
    /// Up, as the board sees it.
    pub up: bool,
    /// It is this appliance.
    pub own: bool,
    /// How it is reached from here; absent for this appliance itself.
    pub path: Option<HostPath>,
    /// Nodes on it, in the networks known here.
    pub nodes: u64,
    /// Its underlay NICs, as far as it has registered them.
    #[serde(default)]
    pub nics: Vec<HostNic>,
    /// What its appliance can do.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Its static public key, hexadecimal.
    #[serde(default)]
    pub public_key: Option<String>,
}

/// An address of a host's underlay NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNic {
    /// Name of the port.
    pub name: String,
    /// One of its VTEP addresses.
    pub address: IpAddr,
    /// Largest outer IP packet in bytes.
    pub mtu: u16,
}

/// How a host is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPath {
    /// VTEP address in use; absent when there is no route to any.
    pub vtep: Option<IpAddr>,
    /// Underlay port.
    pub port: Option<String>,
    /// Own VTEP address used as source.
    pub source: Option<IpAddr>,
    /// Next hop on link: the host itself or a gateway.
    pub next_hop: Option<IpAddr>,
    /// The next hop's MAC.
    pub next_hop_mac: Option<Mac>,
    /// Whether that MAC is known.
    pub state: NextHopState,
}

/// Resolution of a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextHopState {
    /// No route to any VTEP address of the host.
    NoRoute,
    /// Requested, not yet answered.
    Resolving,
    /// Known, confirmed lately.
    Reachable,
    /// Known, not confirmed lately; still used.
    Stale,
    /// Requested several times without an answer.
    Failed,
    /// Configured.
    Static,
}

/// One network of the replica. One with many members may have several rows, each with some of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRow {
    /// Identifier.
    pub vni: Vni,
    /// Free text.
    pub name: Option<String>,
    /// What happens to broadcast, multicast and unknown unicast.
    pub flood: FloodPolicy,
    /// Largest IP packet that its stations use, in bytes, 0 when unset.
    pub mtu: u16,
    /// Largest IP packet in bytes that fits the underlay to every one of `members` whose path is known; absent if none
    /// is.
    #[serde(default)]
    pub fits: Option<u16>,
    /// Local ports in it.
    pub ports: Vec<String>,
    /// Hosts that want its flooded frames.
    pub members: Vec<MemberHost>,
    /// Nodes in it.
    pub nodes: u64,
    /// Addresses in it.
    pub ips: u64,
}

/// A host that wants flooded frames of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberHost {
    /// Its name.
    pub host: String,
    /// Unregistered stations may be behind it.
    pub segment: bool,
}

/// The source of the appliance's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardState {
    /// There is a board; false when the configuration declares everything.
    pub configured: bool,
    /// The watch is running.
    pub connected: bool,
    /// Endpoint in use or tried last.
    pub endpoint: Option<String>,
    /// An endpoint of the board is plain TCP: whoever reaches the board may do anything.
    pub insecure: bool,
    /// Revision received from the board.
    pub revision: u64,
    /// Revision every lcore forwards by; acknowledged to the board.
    pub acknowledged: u64,
    /// Seconds in the present state.
    pub since_s: u64,
    /// Why it is not connected, or was not.
    pub last_error: Option<String>,
    /// Ports run. False while the board's first snapshot is waited for: nothing is forwarded then.
    pub forwarding: bool,
    /// The tables are those of a checkpoint, which the board has not confirmed since the start.
    pub stale: bool,
    /// The latest checkpoint of this run.
    pub checkpoint: Option<CheckpointState>,
    /// Why it is not newer, if it could not be written.
    pub checkpoint_error: Option<String>,
    /// Id of the board that is followed.
    pub board: Option<String>,
    /// Id of another board that answers in its place. It is not followed without the operator's word.
    pub other_board: Option<String>,
    /// Snapshots that were not of the history of what was forwarded by: of a restored backup, or of another board.
    pub other_branches: u64,
    /// For how many milliseconds yet nodes are kept that such a snapshot did not name.
    pub stale_ms: Option<u64>,
    /// Local nodes the board refused, and why.
    pub refused: Vec<RefusedClaim>,
}

/// A checkpoint: what an appliance starts with when no board answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// The board's revision.
    pub revision: u64,
    /// When it was written, milliseconds since 1970.
    pub unix_ms: u64,
}

/// The operator's request to follow another board.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptBoard {
    /// Its id; absent: whichever answers now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
}

/// Which board is followed from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedBoard {
    /// Its id.
    pub board: String,
}

/// A local node the board did not accept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedClaim {
    /// Network.
    pub vni: Vni,
    /// The station's MAC.
    pub mac: Mac,
    /// The board's words.
    pub why: String,
}

//! What the subsystems of the control thread request of each other and of the world. Enters: nothing; a subsystem
//! takes an event and returns these, in the order in which they are to happen. Leaves: data for `execute`, the one
//! place that acts on them. So a subsystem neither calls another nor sends, and its tests compare lists of effects.

use crate::pipeline::Learn;
use crate::tables::packed::Bd;
use crate::underlay;
use std::net::{IpAddr, SocketAddr};
use stopover_bbs::model;
use stopover_net::{HostName, Mac, Vni};
use stopover_tunnel::{Spi, cipher::SaSecret, handshake::Moved};

/// One request of a subsystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Claim a node at the board: it is local, with these addresses.
    Claim {
        /// Its network.
        vni: Vni,
        /// Its MAC.
        mac: Mac,
        /// Its addresses.
        ips: Vec<IpAddr>,
    },
    /// Withdraw the claim of a node: it is not local any more.
    Withdraw {
        /// Its network.
        vni: Vni,
        /// Its MAC.
        mac: Mac,
    },
    /// The same, unless the node is still local once the effects before this one have been executed.
    WithdrawUnlessLocal {
        /// Its network.
        vni: Vni,
        /// Its MAC.
        mac: Mac,
    },
    /// A migration decides whether this station is removed.
    Removal {
        /// Its network.
        bd: Bd,
        /// Its MAC.
        mac: Mac,
        /// Why it would be removed.
        why: Removal,
    },
    /// This station is not ours although frames of it arrive here: do not claim it for a while.
    Unconfirmed(Learn),
    /// Resolve the next hop to this VTEP address and UDP port, and keep it resolved.
    Track(IpAddr, u16),
    /// This VTEP address and UDP port are not needed any more.
    Untrack(IpAddr, u16),
    /// The path to this VTEP address may have changed: publish it.
    Refresh(IpAddr),
    /// What is known of a host, other than its nodes, has changed, or it is gone.
    Peer(u32),
    /// Send a UDP datagram from our port to another host's.
    Datagram(SocketAddr, Vec<u8>),
    /// A node has left from here, and its frames are sent on: hosts that send them here may learn of it.
    SentOn(Moved),
    /// A host reports a node that has left from it.
    PeerMoved(u32, Moved),
    /// The tunnel to a host is up, or down.
    TunnelIs(u32, bool),
    /// Write the keys of an SA to the file of the debug switch.
    ExportKeys(Box<ExportedSa>),
    /// A node's lock has ended.
    Unlocked {
        /// Its network.
        vni: Vni,
        /// The node.
        mac: Mac,
    },
    /// A node has moved between two other hosts: its old host must learn that our frames through it have ended.
    Moved {
        /// Its network.
        vni: Vni,
        /// The node.
        mac: Mac,
        /// The host it has left.
        from: u32,
    },
    /// Block a port for the VLAN's network, or let it forward.
    Block {
        /// The port.
        port: u16,
        /// The VLAN; 0 for untagged frames.
        vlan: u16,
        /// Blocked or not.
        on: bool,
    },
    /// Send a frame from a port.
    Send {
        /// The port.
        port: u16,
        /// A VLAN tag to add; 0 for none.
        vlan: u16,
        /// The frame.
        frame: Vec<u8>,
    },
    /// Ask a station whether it still has an address.
    Probe(Probe),
    /// Request something about a migration of the board.
    Board(BoardRequest),
    /// Tell the operator.
    Report(Report),
}

/// An SA whose keys are to be exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedSa {
    /// The other host's address.
    pub host: IpAddr,
    /// We send by it.
    pub outbound: bool,
    /// Its SPI.
    pub spi: Spi,
    /// Its secret.
    pub secret: SaSecret,
}

/// A request about a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoardRequest {
    /// Lock a node: its VM is about to leave.
    Lock {
        /// Its network.
        vni: Vni,
        /// Its MAC.
        mac: Mac,
    },
    /// The VM runs here.
    Complete {
        /// The migration.
        migration: u64,
        /// Of the lock.
        generation: u64,
    },
    /// The VM remains here.
    Abort {
        /// The migration.
        migration: u64,
        /// Of the lock.
        generation: u64,
    },
    /// Counters and times of this host.
    Report {
        /// The migration.
        migration: u64,
        /// Of the lock.
        generation: u64,
        /// The counters and times.
        report: model::Report,
    },
}

/// Why a station is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It was silent for its segment's ageing time.
    Silent,
    /// Its port has lost its link.
    PortDown,
    /// The board refuses its claim.
    Refused,
}

/// An address to be probed, at one station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The port it is behind.
    pub port: u16,
    /// The VLAN tag it needs; 0 for none.
    pub vlan: u16,
    /// The station.
    pub mac: Mac,
    /// The address.
    pub ip: IpAddr,
}

/// A line of the log, without the names that only the executor knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A limit of stations was reached.
    Limit(Limit),
    /// A port was blocked because of a loop, or forwards again.
    Loop {
        /// The port.
        port: u16,
        /// The VLAN; 0 for untagged frames.
        vlan: u16,
        /// The network.
        vni: Vni,
        /// Why it is blocked; `None`: it forwards again.
        blocked: Option<Reason>,
    },
    /// The same frames arrive at a port again and again.
    Repeats {
        /// The port.
        port: u16,
        /// The VLAN; 0 for untagged frames.
        vlan: u16,
    },
    /// Of the underlay.
    Underlay(underlay::Event),
}

/// Why a port is blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// This host forwards for the LAN, from another port if it is our own.
    Forwards(HostName),
    /// The LAN reflects frames.
    Reflected,
}

/// A limit of stations that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// A port has as many stations as it may have.
    Port(u16),
    /// A network has as many stations as it may have.
    Bd(Bd),
    /// New stations of a port appeared faster than they may.
    Rate(u16),
    /// The stations of a port announced new addresses faster than they may.
    Addresses(u16),
}

/// The effects of what the underlay requests.
pub fn of_underlay(actions: underlay::Actions) -> Vec<Effect> {
    let underlay::Actions { send, resolved, lost, events } = actions;
    let mut effects: Vec<Effect> =
        events.into_iter().map(|event| Effect::Report(Report::Underlay(event))).collect();
    effects.extend(send.into_iter().map(|(port, frame)| Effect::Send { port: port as u16, vlan: 0, frame }));
    effects.extend(resolved.into_iter().map(|(ip, _)| Effect::Refresh(ip)));
    effects.extend(lost.into_iter().map(Effect::Refresh));
    effects
}

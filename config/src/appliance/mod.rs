//! The appliance's configuration: EAL arguments, ports with their roles, lcores, and the source of
//! hosts, networks and nodes (a board, or a declaration).
//!
//! RON text enters. The raw shapes (`raw`) are consumed by the checks (`validate`, `roles`, `across_ports`, `guard`, `prefix`,
//! `lcores`, `migration`, `tunnels`, `declared`) and only the types of this file leave: names are unique, indices exist,
//! ranges hold.

mod across_ports;
mod declared;
mod devargs;
pub mod diff;
mod guard;
mod join;
mod lcores;
mod migration;
mod port_text;
mod prefix;
mod raw;
mod refusals;
mod roles;
mod state;
mod tunnels;
mod underlay;
mod validate;
mod vhost;

pub use join::Refused;
pub use lcores::EalLcores;
pub use migration::Migration;
pub use port_text::PortText;
pub use state::{Aside, Merged, Replaced, State};
pub use tunnels::{TunnelCipher, TunnelEngine, TunnelMode, Tunnels};
pub use vhost::Vhost;

use crate::{
    ConfigError, Endpoint,
    bulk::{HostRow, MemberRow, NetworkRow, NodeRow},
    read,
};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};
use stopover_net::{HostName, Mac, VlanId, Vni};

/// A checked appliance configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appliance {
    /// This host's name at the board.
    pub name: HostName,
    /// EAL arguments verbatim, without program name and without virtual devices that are vhost-user ports.
    pub eal: Vec<String>,
    /// `--vdev` strings verbatim: those of the key `vdevs`, then those that ports have in their `device`. Those of
    /// vhost-user ports are for [`Appliance::vhost`], the others for EAL.
    pub vdevs: Vec<String>,
    /// Most frames per receive burst, 1 to 64.
    pub burst: u16,
    /// Receive descriptors per queue, fits 16 bits.
    pub rxd: u32,
    /// Transmit descriptors per queue, fits 16 bits.
    pub txd: u32,
    /// Mbufs in each lcore's pool cache, 0 to 512.
    pub mbcache: u32,
    /// Mbufs in the pool.
    pub mbufs: u32,
    /// Data room of one mbuf in bytes, headroom included.
    pub mbuf_size: u16,
    /// Behaviour of an idle lcore.
    pub idle: Idle,
    /// The source of hosts, networks and nodes.
    pub truth: Truth,
    /// The folder of this host's credentials, absolute; there is one if the board is at `https://`.
    pub tls: Option<PathBuf>,
    /// The board may be at `http://`.
    pub insecure: bool,
    /// Unix socket of the control API, absolute.
    pub ctl: PathBuf,
    /// Where Prometheus scrapes, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Most learned stations of one network here, over all segment ports.
    pub max_network_stations: u32,
    /// How long nodes are kept that a board does not know whose history is not that of the tables: for so long other
    /// hosts may take to claim again what they have. Milliseconds, 0 to 3600000.
    pub stale_ms: u64,
    /// How often what is forwarded by is written to the checkpoint beside the configuration file, if it has changed.
    /// Seconds, 0 to 86400; 0: never, and no checkpoint is read.
    pub checkpoint_s: u64,
    /// Budgets and waits of live migration.
    pub migration: Migration,
    /// Encrypted tunnels between hosts; only with a board. `None`: none are made, and none are answered.
    pub tunnels: Option<Tunnels>,
    /// The ports in the order of the file; at least one. Then those that were added at run time.
    pub ports: Vec<Port>,
    /// Receive queues of each worker lcore; every queue of every port of the file is in it exactly once. `None`, and
    /// queues of ports that were added at run time: spread, see [`Appliance::queues_by_lcore`].
    pub lcores: Option<BTreeMap<u32, Vec<QueueRef>>>,
}

/// Behaviour of an lcore after empty polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Polls on.
    Poll,
    /// Sleeps, longer each time.
    Adaptive {
        /// The longest sleep, microseconds, 1 to 100000.
        cap_us: u32,
        /// For how long it polls without work before the first sleep, microseconds, 1 to 10000.
        poll_us: u32,
    },
}

/// The source of hosts, networks and nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truth {
    /// A board; several endpoints are tried in turn. At least one, no two alike.
    Board(Vec<Endpoint>),
    /// The file itself: no board.
    Declared(Arc<Declared>),
}

/// Hosts, networks, nodes and members of a configuration without board, rows of the file and of the CSV
/// files it names together. Rows about this appliance itself are left out: its ports define it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// Other hosts, names unique.
    pub hosts: Vec<HostRow>,
    /// Networks, VNIs unique.
    pub networks: Vec<NetworkRow>,
    /// Stations behind other hosts; every host is in `hosts`, no (VNI, MAC) or (VNI, IP) twice or local.
    pub nodes: Vec<NodeRow>,
    /// Hosts that want flooded frames of a network; every host is in `hosts`.
    pub members: Vec<MemberRow>,
}

/// One receive queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueRef {
    /// Index in [`Appliance::ports`].
    pub port: usize,
    /// Receive queue of that port, below its `rxq`.
    pub queue: u16,
}

/// An ethdev and the part it plays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Unique; 1 to 32 of `A-Z a-z 0-9 . _ -`; never `all`.
    pub name: String,
    /// Which ethdev; no two ports have the same.
    pub device: Device,
    /// Receive queues, 1 to 64.
    pub rxq: u16,
    /// Transmit queues, 0 to 64; 0 means one per lcore, if the device has as many.
    pub txq: u16,
    /// MTU to set, bytes of IP packet; `None` leaves the device's.
    pub mtu: Option<u16>,
    /// Accept frames for every MAC. Defaults to true for segments, whose stations have their own.
    pub promiscuous: bool,
    /// Its part.
    pub role: Role,
}

/// How an ethdev is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// Name of a virtual device that a `--vdev` string creates, for example `net_vhost0`.
    Vdev(String),
    /// PCI address with domain, for example `0000:03:00.0`.
    Pci(String),
}

impl Device {
    /// The name by which DPDK finds the device.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Vdev(s) | Self::Pci(s) => s,
        }
    }
}

/// The part a port plays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The wire between hosts.
    Underlay(Underlay),
    /// One VM's NIC.
    Vif(Vif),
    /// An L2 segment with any number of stations.
    Segment(Segment),
}

/// The wire: the appliance owns the VTEP addresses here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// VTEP addresses with prefix length, at least one; at most four over all underlays.
    pub addresses: Vec<IpNet>,
    /// 802.1Q tag of everything sent and expected here.
    pub vlan: Option<VlanId>,
    /// Default gateways, at most one per family, on link.
    pub gateways: Vec<IpAddr>,
    /// Static routes, destinations unique.
    pub routes: Vec<Route>,
    /// Static neighbours, addresses unique.
    pub neighbours: Vec<(IpAddr, Mac)>,
    /// UDP port VXLAN is received on, host byte order; the same on every underlay.
    pub udp_port: u16,
    /// TTL or hop limit of outer headers.
    pub ttl: u8,
    /// DSCP of outer headers.
    pub dscp: Dscp,
    /// Send outer UDP over IPv6 without checksum (RFC 6935).
    pub udp6_zero_checksum: bool,
}

/// A static route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination prefix, host bits zero.
    pub to: IpNet,
    /// Next hop, on link, same family.
    pub via: IpAddr,
}

/// DSCP of outer headers (RFC 2983).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dscp {
    /// The inner packet's (uniform model).
    Copy,
    /// The class selector of the frame's 802.1Q priority, which the receiver puts into its tags again.
    Pcp,
    /// Always this one, 0 to 63 (pipe model).
    Fixed(u8),
}

/// One VM's NIC. Several ports may name the same station, with the same addresses: a VM migrates from one to
/// the other, and has one of them at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vif {
    /// Its network.
    pub vni: Vni,
    /// The VM's MAC; unicast, not zero.
    pub mac: Mac,
    /// The VM's addresses; with the shared ones at most 16.
    pub addresses: Vec<IpAddr>,
    /// Addresses that it shares with others: the last one to announce an address has it.
    pub shared_addresses: Vec<IpAddr>,
    /// It may send only from its own MAC and addresses, and from the allowed pairs.
    pub guard: bool,
    /// Pairs of MAC and addresses it may send from beside its own, at most 64; none without the guard.
    pub allowed: Vec<AllowedPair>,
    /// It may send router advertisements and redirects. Without the guard anybody may.
    pub router: bool,
    /// It may answer as a DHCP server. Without the guard anybody may.
    pub dhcp_server: bool,
}

/// A MAC, and addresses that a vif may send from with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedPair {
    /// The MAC; the vif's own unless another was named.
    pub mac: Mac,
    /// First address and prefix length, host bits zero.
    pub prefix: IpNet,
}

impl Vif {
    /// All addresses that the VM may use.
    pub fn own_and_shared(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().chain(&self.shared_addresses).copied()
    }
}

/// An L2 segment. It has an untagged network, a VLAN map, or both; no VNI twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Network of untagged frames; without it they are dropped.
    pub vni: Option<Vni>,
    /// Networks of tagged frames.
    pub vlans: BTreeMap<VlanId, Vni>,
    /// A learned station is forgotten after this many seconds of silence.
    pub ageing_s: u32,
    /// Most learned stations at a time, over all its networks.
    pub max_stations: u32,
    /// Most new stations in a second.
    pub new_stations_per_s: u32,
    /// Stations that are always there.
    pub stations: Vec<Station>,
}

/// A static station of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// Its network, one of the segment's.
    pub vni: Vni,
    /// Its MAC; unicast, not zero.
    pub mac: Mac,
    /// Its addresses; with the shared ones at most 16.
    pub addresses: Vec<IpAddr>,
    /// Addresses that it shares with others: the last one to announce an address has it.
    pub shared_addresses: Vec<IpAddr>,
}

/// Reads and checks the file at `path`, and the CSV files it names.
pub fn load(path: &Path) -> Result<Appliance, ConfigError> {
    parse(&read::file(path)?, path)
}

/// Checks `text`. `origin` is for messages, and relative paths of CSV files start at its folder.
pub fn parse(text: &str, origin: &Path) -> Result<Appliance, ConfigError> {
    let raw = read::ron::<raw::Appliance>(text, origin)?;
    validate::appliance(raw, origin).map_err(|f| f.locate(text, origin))
}

impl Appliance {
    /// An endpoint of the board that is plain TCP, if there is one.
    #[must_use]
    pub fn plain_board(&self) -> Option<&Endpoint> {
        match &self.truth {
            Truth::Board(endpoints) => endpoints.iter().find(|endpoint| endpoint.is_plain()),
            Truth::Declared(_) => None,
        }
    }

    /// Receive queues by worker lcore: as configured, otherwise spread over `workers`. Each queue that the configuration
    /// does not name goes to the lcore that has the fewest of those that are near to its port, or of all if none is.
    /// `is_near`: whether an lcore is on the socket of the port with this index. Empty when there are no workers.
    #[must_use]
    pub fn queues_by_lcore(
        &self,
        workers: &[u32],
        is_near: impl Fn(usize, u32) -> bool,
    ) -> BTreeMap<u32, Vec<QueueRef>> {
        // Those without a queue serve ports that are added later, and queues that move.
        let all = || workers.iter().map(|lcore| (*lcore, Vec::new())).collect();
        let mut lcores = self.lcores.clone().unwrap_or_else(all);
        let named: BTreeSet<QueueRef> = lcores.values().flatten().copied().collect();
        let queues = self
            .ports
            .iter()
            .enumerate()
            .flat_map(|(port, p)| (0..p.rxq).map(move |queue| QueueRef { port, queue }));
        let mut queues: Vec<QueueRef> = queues.filter(|queue| !named.contains(queue)).collect();
        // Ports that not all lcores are equally near to choose first.
        queues.sort_by_key(|queue| {
            let mut near = lcores.keys().map(|lcore| is_near(queue.port, *lcore));
            near.next().is_none_or(|first| near.all(|other| other == first))
        });
        for queue in queues {
            let fewest =
                lcores.iter_mut().min_by_key(|(lcore, has)| (!is_near(queue.port, **lcore), has.len()));
            if let Some((_, has)) = fewest {
                has.push(queue);
            }
        }
        lcores
    }

    /// The VTEP addresses of all underlays, in the order of the file.
    #[must_use]
    pub fn vteps(&self) -> Vec<IpAddr> {
        self.underlays().flat_map(|u| u.addresses.iter().map(IpNet::addr)).collect()
    }

    /// The UDP port VXLAN is received on, host byte order.
    #[must_use]
    pub fn udp_port(&self) -> u16 {
        self.underlays().next().map_or(crate::text::VXLAN_UDP_PORT, |u| u.udp_port)
    }

    fn underlays(&self) -> impl Iterator<Item = &Underlay> {
        self.ports.iter().filter_map(|p| match &p.role {
            Role::Underlay(u) => Some(u),
            Role::Vif(_) | Role::Segment(_) => None,
        })
    }

    /// The lcores that the EAL arguments choose; `None` when EAL uses its default.
    #[must_use]
    pub fn eal_lcores(&self) -> Option<EalLcores> {
        lcores::parse_eal(&self.eal).ok().flatten()
    }
}

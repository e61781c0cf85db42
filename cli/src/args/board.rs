//! Commands for the board's tables: hosts, networks, nodes, members and migrations. Enters: their words and options.
//! Leaves: valid types.

use super::ScopeArgs;
use clap::{Args, Subcommand};
use std::{net::IpAddr, path::PathBuf};
use stopover_net::{FloodPolicy, HostName, Mac, Vni};

/// A CSV file.
#[derive(Debug, Args)]
pub struct Load {
    /// CSV file with a header line; all of it is taken, or nothing.
    #[arg(value_name = "FILE.csv")]
    pub file: PathBuf,
}

/// `host …`
#[derive(Debug, Subcommand)]
pub enum Host {
    /// Declare a host that has no appliance, or change it.
    Add {
        /// Its name.
        name: HostName,
        /// Underlay address; up to four.
        #[arg(long = "vtep", required = true, value_name = "IP")]
        vteps: Vec<IpAddr>,
        /// UDP port of its VXLAN.
        #[arg(long, default_value_t = 4789, value_parser = clap::value_parser!(u16).range(1..))]
        udp_port: u16,
    },
    /// Delete a host.
    Delete {
        /// Its name.
        name: HostName,
        /// Delete its nodes and memberships too.
        #[arg(long)]
        cascade: bool,
    },
    /// Forget an appliance that is down, with its nodes and memberships, now.
    Forget {
        /// Its name.
        name: HostName,
    },
    /// List hosts.
    List,
    /// Show a host with its underlay NICs, capabilities and public key.
    Show {
        /// Its name.
        name: HostName,
    },
    /// Declare hosts from a file: name,vteps,udp_port.
    Load(Load),
}

/// `network …`
#[derive(Debug, Subcommand)]
pub enum Network {
    /// Declare a network, or change it.
    Add {
        /// Its identifier.
        vni: Vni,
        /// Free text.
        #[arg(long)]
        name: Option<String>,
        /// Broadcast, multicast and unknown unicast: flood, drop or to-segments.
        #[arg(long, default_value_t)]
        flood: FloodPolicy,
        /// Largest IP packet in bytes; 0 for unset.
        #[arg(long, default_value_t = 0, value_name = "BYTES", value_parser = network_mtu)]
        mtu: u16,
    },
    /// Delete a network's declaration; its nodes remain, with the default policy.
    Delete {
        /// Its identifier.
        vni: Vni,
    },
    /// List networks.
    List,
    /// Declare networks from a file: vni,name,flood,mtu.
    Load(Load),
}

/// `node …`
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Declare a node, or change it.
    Add {
        /// Network.
        vni: Vni,
        /// The station's MAC.
        #[arg(value_parser = station_mac)]
        mac: Mac,
        /// Host it is on.
        host: HostName,
        /// Address of the station; up to sixteen.
        #[arg(long = "ip", value_name = "IP")]
        ips: Vec<IpAddr>,
        /// Address that other nodes may have too, such as a virtual router's. This command gives it to this node,
        /// unless a vif that shares it has announced it. Such a vif takes it over when it announces it. At most
        /// sixteen with `--ip`.
        #[arg(long = "shared-ip", value_name = "IP")]
        shared_ips: Vec<IpAddr>,
    },
    /// Delete a node.
    Delete {
        /// Network.
        vni: Vni,
        /// The station's MAC.
        mac: Mac,
    },
    /// List nodes.
    List {
        /// Only this network.
        #[arg(long)]
        vni: Option<Vni>,
        /// Only on this host.
        #[arg(long)]
        host: Option<HostName>,
    },
    /// Declare nodes from a file: vni,mac,host,ips.
    Load(Load),
}

/// `member …`
#[derive(Debug, Subcommand)]
pub enum Member {
    /// Declare a member, or change it.
    Add {
        /// Network.
        vni: Vni,
        /// Host.
        host: HostName,
        /// Unregistered stations may be behind it.
        #[arg(long)]
        segment: bool,
    },
    /// Delete a member's declaration.
    Delete {
        /// Network.
        vni: Vni,
        /// Host.
        host: HostName,
    },
    /// List members.
    List(ScopeArgs),
    /// Declare members from a file: vni,host,segment.
    Load(Load),
}

/// `migration …`
#[derive(Debug, Subcommand)]
pub enum Migration {
    /// Lock the nodes of a VM, all or none; again: renew the lease.
    Begin {
        /// A VIF of the VM; repeat it for each.
        #[arg(long = "node", required = true, value_name = "VNI/MAC", value_parser = node_key)]
        nodes: Vec<(Vni, Mac)>,
        /// Host the VM is on.
        #[arg(long, value_name = "HOST")]
        from: HostName,
        /// Host it migrates to, if known.
        #[arg(long, value_name = "HOST")]
        to: Option<HostName>,
        /// Who begins it; kept with the migration.
        #[arg(long, default_value = "operator")]
        cause: String,
        /// The lock ends by itself after so many seconds.
        #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
        lease: u32,
    },
    /// The VM runs at its target: move its nodes there.
    Complete {
        /// Which one.
        #[command(flatten)]
        which: Which,
        /// Host it runs on, if it was not named when it began.
        #[arg(long, value_name = "HOST")]
        at: Option<HostName>,
        /// Who ends it; kept with the migration.
        #[arg(long, default_value = "operator")]
        cause: String,
    },
    /// The VM remains on its source: unlock its nodes.
    Abort {
        /// Which one.
        #[command(flatten)]
        which: Which,
        /// Who ends it; kept with the migration.
        #[arg(long, default_value = "operator")]
        cause: String,
    },
    /// Phases, times and counters of one.
    Show {
        /// Its number.
        id: u64,
    },
    /// Active migrations and the last that ended.
    List {
        /// Only active ones.
        #[arg(long)]
        active: bool,
    },
}

/// Names a migration.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "nodes"]))]
pub struct Which {
    /// Its number.
    pub id: Option<u64>,
    /// Refuse if its generation is another.
    #[arg(long)]
    pub generation: Option<u64>,
    /// The last migration of this node, instead of a number.
    #[arg(long = "node", value_name = "VNI/MAC", value_parser = node_key)]
    pub nodes: Vec<(Vni, Mac)>,
}

fn node_key(s: &str) -> Result<(Vni, Mac), String> {
    let (vni, mac) = s.split_once('/').ok_or("expected VNI/MAC, such as 100/52:54:00:00:00:01")?;
    Ok((vni.parse::<Vni>().map_err(|e| e.to_string())?, station_mac(mac)?))
}

fn station_mac(s: &str) -> Result<Mac, String> {
    s.parse::<Mac>().and_then(Mac::station).map_err(|e| e.to_string())
}

fn network_mtu(s: &str) -> Result<u16, String> {
    match s.parse::<u16>() {
        Ok(n) if n == 0 || n >= 576 => Ok(n),
        _ => Err("expected 576 to 65535 bytes, or 0 for unset".into()),
    }
}

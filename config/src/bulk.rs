//! CSV tables of nodes, hosts, networks and members, a row at a time, for files of a million rows.
//!
//! The first line that is neither empty nor a `#` comment names the columns, in any order; a column with a
//! default may be left out, an unknown one is refused. Lists inside a field are separated by spaces. Every
//! error names file, line and column, and a row that repeats a key of an earlier one is an error too,
//! with the earlier line. The reader of several files checks that the hosts that rows name exist.

mod record;
mod rows;

pub use rows::{Row, Rows};

use rows::{Fields, Refusal, Seen};
use serde::Serialize;
use std::{collections::HashMap, net::IpAddr};
use stopover_net::{FloodPolicy, HostName, Mac, Vni};

use crate::text;

/// One node: a VM's interface, or a station of a foreign VTEP. Columns `vni,mac,host,ips,shared_ips`; the last two
/// may be empty and hold at most 16 addresses together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRow {
    /// Network.
    pub vni: Vni,
    /// The station's MAC; unicast, not zero.
    pub mac: Mac,
    /// Where it is reached.
    pub host: HostName,
    /// Its own addresses, no two alike.
    pub ips: Vec<IpAddr>,
    /// Addresses that other nodes may have as well, none of them in `ips`. Each is for the node that was declared with
    /// it last, or for a vif that shares and announces it.
    pub shared_ips: Vec<IpAddr>,
}

/// One host: an underlay endpoint. Columns `name,vteps,udp_port`; one to four `vteps`; `udp_port` defaults
/// to 4789.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostRow {
    /// Name, unique.
    pub name: HostName,
    /// Underlay addresses, in order of preference.
    pub vteps: Vec<IpAddr>,
    /// Destination port of its VXLAN datagrams, host byte order.
    pub udp_port: u16,
}

/// One network. Columns `vni,name,flood,mtu`; all but `vni` have defaults (no name, `flood`, unset).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkRow {
    /// Identifier, unique.
    pub vni: Vni,
    /// Free text for people.
    pub name: Option<String>,
    /// Policy for broadcast, multicast and unknown unicast.
    pub flood: FloodPolicy,
    /// Largest IP packet in bytes, 0 when unset.
    pub mtu: u16,
}

/// One member: a host that wants the flooded frames of a network. Columns `vni,host,segment`; `segment`
/// defaults to false.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberRow {
    /// Network.
    pub vni: Vni,
    /// Host.
    pub host: HostName,
    /// Unregistered stations may be behind it.
    pub segment: bool,
}

impl Row for NodeRow {
    const COLUMNS: &'static [(&'static str, bool)] =
        &[("vni", true), ("mac", true), ("host", true), ("ips", false), ("shared_ips", false)];

    fn parse(f: &Fields<'_>) -> Result<Self, Refusal> {
        let vni = f.vni("vni")?;
        let mac = f.with("mac", text::station_mac)?;
        let host = f.with("host", text::host_name)?;
        let ips = f.ips("ips", 0, text::MAX_NODE_IPS)?;
        let shared_ips = f.more_ips("shared_ips", &ips, text::MAX_NODE_IPS)?;
        Ok(Self { vni, mac, host, ips, shared_ips })
    }

    fn remember(&self, seen: &mut Seen, line: u64) -> Result<(), Refusal> {
        let key = (u128::from(self.vni.get()) << 48) | u128::from(self.mac.to_u64());
        if let Some(first) = seen.numbers.insert(key, line) {
            return Err(Refusal::duplicate(
                "mac",
                format!("MAC {} in network {}", self.mac, self.vni),
                first,
            ));
        }
        for ip in &self.ips {
            if let Some(first) = seen.addresses.insert((self.vni.get(), *ip), line) {
                return Err(Refusal::duplicate(
                    "ips",
                    format!("address {ip} in network {}", self.vni),
                    first,
                ));
            }
        }
        Ok(())
    }
}

impl Row for HostRow {
    const COLUMNS: &'static [(&'static str, bool)] = &[("name", true), ("vteps", true), ("udp_port", false)];

    fn parse(f: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            name: f.with("name", text::host_name)?,
            vteps: f.ips("vteps", 1, text::MAX_VTEPS)?,
            udp_port: f.number_or("udp_port", text::VXLAN_UDP_PORT, text::udp_port)?,
        })
    }

    fn remember(&self, seen: &mut Seen, line: u64) -> Result<(), Refusal> {
        if let Some(first) = seen.names.insert((0, self.name.to_string()), line) {
            return Err(Refusal::duplicate("name", format!("host {}", self.name), first));
        }
        for vtep in &self.vteps {
            if let Some(first) = seen.addresses.insert((u32::from(self.udp_port), *vtep), line) {
                let what = format!("VTEP {vtep} with UDP port {}", self.udp_port);
                return Err(Refusal::duplicate("vteps", what, first));
            }
        }
        Ok(())
    }
}

impl Row for NetworkRow {
    const COLUMNS: &'static [(&'static str, bool)] =
        &[("vni", true), ("name", false), ("flood", false), ("mtu", false)];

    fn parse(f: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            vni: f.vni("vni")?,
            name: Some(f.with("name", text::network_name)?).filter(|n| !n.is_empty()).map(str::to_owned),
            flood: f.with("flood", |s| match s {
                "" => Ok(FloodPolicy::default()),
                _ => s.parse().map_err(|_| {
                    text::wrong("flood, drop or to-segments", "choose one of the three policies")
                }),
            })?,
            mtu: f.number_or("mtu", 0, text::network_mtu)?,
        })
    }

    fn remember(&self, seen: &mut Seen, line: u64) -> Result<(), Refusal> {
        match seen.numbers.insert(self.vni.get().into(), line) {
            Some(first) => Err(Refusal::duplicate("vni", format!("network {}", self.vni), first)),
            None => Ok(()),
        }
    }
}

impl Row for MemberRow {
    const COLUMNS: &'static [(&'static str, bool)] = &[("vni", true), ("host", true), ("segment", false)];

    fn parse(f: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            vni: f.vni("vni")?,
            host: f.with("host", text::host_name)?,
            segment: f.with("segment", |s| match s {
                "" | "false" => Ok(false),
                "true" => Ok(true),
                _ => {
                    Err(text::wrong("true or false", "say whether unregistered stations are behind the host"))
                }
            })?,
        })
    }

    fn remember(&self, seen: &mut Seen, line: u64) -> Result<(), Refusal> {
        match seen.names.insert((self.vni.get(), self.host.to_string()), line) {
            Some(first) => {
                Err(Refusal::duplicate("host", format!("host {} in network {}", self.host, self.vni), first))
            }
            None => Ok(()),
        }
    }
}

/// Opens a table of nodes.
pub fn nodes(path: &std::path::Path) -> Result<Rows<std::fs::File, NodeRow>, crate::ConfigError> {
    Rows::open(path)
}

/// Opens a table of hosts.
pub fn hosts(path: &std::path::Path) -> Result<Rows<std::fs::File, HostRow>, crate::ConfigError> {
    Rows::open(path)
}

/// Opens a table of networks.
pub fn networks(path: &std::path::Path) -> Result<Rows<std::fs::File, NetworkRow>, crate::ConfigError> {
    Rows::open(path)
}

/// Opens a table of members.
pub fn members(path: &std::path::Path) -> Result<Rows<std::fs::File, MemberRow>, crate::ConfigError> {
    Rows::open(path)
}

/// Keys of the rows so far, with the line of each.
type FirstLines<K> = HashMap<K, u64>;

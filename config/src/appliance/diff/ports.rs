//! Ports: which are gone, new or changed, and in which keys. Enters: two configurations. Leaves: changes with the port and
//! the vdev string that creates its device.

use super::{Change, Needs, text};
use crate::appliance::{
    AllowedPair, Appliance, Device, Dscp, Port, Role, Route, Segment, Station, Underlay, Vif,
};
use std::{collections::HashMap, fmt};

/// A port with what creates its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSetup {
    /// The port.
    pub port: Port,
    /// The vdev string that creates its device; `None` for a PCI device, and for a virtual device among the EAL
    /// arguments.
    pub vdev: Option<String>,
}

/// A key of a port that has another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// The key.
    pub field: Field,
    /// The value before, in words.
    pub was: String,
    /// The new value, in words.
    pub is: String,
}

/// The keys of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// `device`, or the vdev string that creates it.
    Device,
    /// `rxq`
    Rxq,
    /// `txq`
    Txq,
    /// `mtu`
    Mtu,
    /// `promiscuous`
    Promiscuous,
    /// Which of the three roles; the keys of a role are then all new.
    Role,
    /// `vni` of a vif, or of a segment's untagged frames.
    Vni,
    /// `mac`
    Mac,
    /// `addresses`
    Addresses,
    /// `shared_addresses`
    SharedAddresses,
    /// `guard`
    Guard,
    /// `allowed`
    Allowed,
    /// `router`
    Router,
    /// `dhcp_server`
    DhcpServer,
    /// `vlans`
    Vlans,
    /// `ageing_s`
    AgeingS,
    /// `max_stations`
    MaxStations,
    /// `new_stations_per_s`
    NewStationsPerS,
    /// `stations`
    Stations,
    /// `vlan`
    Vlan,
    /// `gateways`
    Gateways,
    /// `routes`
    Routes,
    /// `neighbours`
    Neighbours,
    /// `udp_port`
    UdpPort,
    /// `ttl`
    Ttl,
    /// `dscp`
    Dscp,
    /// `udp6_zero_checksum`
    Udp6ZeroChecksum,
}

impl Field {
    /// The key in the file.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Rxq => "rxq",
            Self::Txq => "txq",
            Self::Mtu => "mtu",
            Self::Promiscuous => "promiscuous",
            Self::Role => "role",
            Self::Vni => "vni",
            Self::Mac => "mac",
            Self::Addresses => "addresses",
            Self::SharedAddresses => "shared_addresses",
            Self::Guard => "guard",
            Self::Allowed => "allowed",
            Self::Router => "router",
            Self::DhcpServer => "dhcp_server",
            Self::Vlans => "vlans",
            Self::AgeingS => "ageing_s",
            Self::MaxStations => "max_stations",
            Self::NewStationsPerS => "new_stations_per_s",
            Self::Stations => "stations",
            Self::Vlan => "vlan",
            Self::Gateways => "gateways",
            Self::Routes => "routes",
            Self::Neighbours => "neighbours",
            Self::UdpPort => "udp_port",
            Self::Ttl => "ttl",
            Self::Dscp => "dscp",
            Self::Udp6ZeroChecksum => "udp6_zero_checksum",
        }
    }

    /// What it needs to have another value.
    #[must_use]
    pub const fn needs(self) -> Needs {
        match self {
            // The device is configured with them before it starts, or its stations become others.
            Self::Device
            | Self::Rxq
            | Self::Txq
            | Self::Mtu
            | Self::Promiscuous
            | Self::Role
            | Self::Vni
            | Self::Mac
            | Self::Vlans => Needs::Reopen,
            Self::Addresses
            | Self::SharedAddresses
            | Self::Guard
            | Self::Allowed
            | Self::Router
            | Self::DhcpServer
            | Self::AgeingS
            | Self::MaxStations
            | Self::NewStationsPerS
            | Self::Stations
            | Self::Vlan
            | Self::Gateways
            | Self::Routes
            | Self::Neighbours
            | Self::UdpPort
            | Self::Ttl
            | Self::Dscp
            | Self::Udp6ZeroChecksum => Needs::Nothing,
        }
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` changes from {} to {}", self.field.key(), self.was, self.is)
    }
}

impl fmt::Display for PortSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port.role {
            Role::Underlay(role) => write!(f, "underlay with {}", text::list(&role.addresses))?,
            Role::Vif(role) => write!(f, "vif of {} in network {}", role.mac, role.vni)?,
            Role::Segment(role) => {
                let networks: Vec<_> = role.vni.iter().chain(role.vlans.values()).collect();
                write!(f, "segment of network {}", text::list(&networks))?;
            }
        }
        write!(f, " on {}", self.device())
    }
}

impl PortSetup {
    fn device(&self) -> &str {
        self.vdev.as_deref().unwrap_or(self.port.device.as_str())
    }

    /// The keys in which the port differs, in the order of the file.
    fn changes(&self, is: &Self) -> Vec<FieldChange> {
        let mut changes: Vec<FieldChange> = Vec::new();
        if (&self.port.device, &self.vdev) != (&is.port.device, &is.vdev) {
            let (was, is) = (self.device().to_owned(), is.device().to_owned());
            changes.push(FieldChange { field: Field::Device, was, is });
        }
        let one_kind = std::mem::discriminant(&self.port.role) == std::mem::discriminant(&is.port.role);
        let (before, after) = (fields(&self.port, one_kind), fields(&is.port, one_kind));
        changes.extend(
            before
                .into_iter()
                .zip(after)
                .filter(|((_, was), (_, is))| was != is)
                .map(|((field, was), (_, is))| FieldChange { field, was, is }),
        );
        changes
    }
}

/// The values of a port but for its name and device: equal texts mean equal values. With the keys of its role, or only
/// with its kind.
fn fields(port: &Port, with_role: bool) -> Vec<(Field, String)> {
    let Port { name: _, device: _, rxq, txq, mtu, promiscuous, role } = port;
    let mut fields = vec![
        (Field::Rxq, rxq.to_string()),
        (Field::Txq, if *txq == 0 { "one per lcore".to_owned() } else { txq.to_string() }),
        (Field::Mtu, text::or(*mtu, "the device's")),
        (Field::Promiscuous, promiscuous.to_string()),
    ];
    fields.extend(match role {
        _ if !with_role => vec![(Field::Role, kind(role).to_owned())],
        Role::Underlay(role) => underlay(role),
        Role::Vif(role) => vif(role),
        Role::Segment(role) => segment(role),
    });
    fields
}

const fn kind(role: &Role) -> &'static str {
    match role {
        Role::Underlay(_) => "underlay",
        Role::Vif(_) => "vif",
        Role::Segment(_) => "segment",
    }
}

fn vif(role: &Vif) -> Vec<(Field, String)> {
    let Vif { vni, mac, addresses, shared_addresses, guard, allowed, router, dhcp_server } = role;
    let pair = |AllowedPair { mac, prefix }: &AllowedPair| format!("{prefix} with {mac}");
    vec![
        (Field::Vni, vni.to_string()),
        (Field::Mac, mac.to_string()),
        (Field::Addresses, text::list(addresses)),
        (Field::SharedAddresses, text::list(shared_addresses)),
        (Field::Guard, guard.to_string()),
        (Field::Allowed, text::joined(allowed.iter().map(pair))),
        (Field::Router, router.to_string()),
        (Field::DhcpServer, dhcp_server.to_string()),
    ]
}

fn segment(role: &Segment) -> Vec<(Field, String)> {
    let Segment { vni, vlans, ageing_s, max_stations, new_stations_per_s, stations } = role;
    let station = |Station { vni, mac, addresses, shared_addresses }: &Station| {
        let mut text = format!("{mac} in network {vni}");
        for (word, addresses) in [("with", addresses), ("sharing", shared_addresses)] {
            if !addresses.is_empty() {
                text = format!("{text} {word} {}", text::list(addresses).replace(", ", " "));
            }
        }
        text
    };
    vec![
        (Field::Vni, text::or(*vni, "none")),
        (Field::Vlans, text::joined(vlans.iter().map(|(vlan, vni)| format!("{vlan}: {vni}")))),
        (Field::AgeingS, ageing_s.to_string()),
        (Field::MaxStations, max_stations.to_string()),
        (Field::NewStationsPerS, new_stations_per_s.to_string()),
        (Field::Stations, text::joined(stations.iter().map(station))),
    ]
}

fn underlay(role: &Underlay) -> Vec<(Field, String)> {
    let Underlay { addresses, vlan, gateways, routes, neighbours, udp_port, ttl, dscp, udp6_zero_checksum } =
        role;
    let route = |Route { to, via }: &Route| format!("{to} via {via}");
    vec![
        (Field::Addresses, text::list(addresses)),
        (Field::Vlan, text::or(*vlan, "untagged")),
        (Field::Gateways, text::list(gateways)),
        (Field::Routes, text::joined(routes.iter().map(route))),
        (Field::Neighbours, text::joined(neighbours.iter().map(|(ip, mac)| format!("{ip} at {mac}")))),
        (Field::UdpPort, udp_port.to_string()),
        (Field::Ttl, ttl.to_string()),
        (
            Field::Dscp,
            match dscp {
                Dscp::Copy => "copy".to_owned(),
                Dscp::Pcp => "pcp".to_owned(),
                Dscp::Fixed(dscp) => format!("fixed({dscp})"),
            },
        ),
        (Field::Udp6ZeroChecksum, udp6_zero_checksum.to_string()),
    ]
}

/// The device's name in a vdev string.
fn vdev_name(vdev: &str) -> &str {
    vdev.split_once(',').map_or(vdev, |(name, _)| name).trim()
}

impl Appliance {
    /// The ports by name, each with what creates its device.
    #[must_use]
    pub fn port_setups(&self) -> Vec<PortSetup> {
        let vdevs: HashMap<&str, &String> = self.vdevs.iter().map(|vdev| (vdev_name(vdev), vdev)).collect();
        let setup = |port: &Port| {
            let vdev = match &port.device {
                Device::Vdev(name) => vdevs.get(name.as_str()).map(|vdev| (*vdev).clone()),
                Device::Pci(_) => None,
            };
            PortSetup { port: port.clone(), vdev }
        };
        self.ports.iter().map(setup).collect()
    }

    fn spare_vdevs(&self) -> Vec<String> {
        let used: std::collections::HashSet<&str> =
            self.ports.iter().map(|port| port.device.as_str()).collect();
        let mut spare: Vec<_> =
            self.vdevs.iter().filter(|vdev| !used.contains(vdev_name(vdev))).cloned().collect();
        spare.sort();
        spare
    }
}

pub(super) fn spare_vdevs(was: &Appliance, is: &Appliance) -> Option<Change> {
    let (before, after) = (was.spare_vdevs(), is.spare_vdevs());
    (before != after).then_some(Change::SpareVdevs { was: before, is: after })
}

/// Ports that are gone, then changed ones, then new ones.
pub(super) fn changes(was: &Appliance, is: &Appliance) -> Vec<Change> {
    let (before, after) = (was.port_setups(), is.port_setups());
    let names = |setups: &[PortSetup]| -> HashMap<String, usize> {
        setups.iter().enumerate().map(|(at, setup)| (setup.port.name.clone(), at)).collect()
    };
    let (old, new) = (names(&before), names(&after));
    let mut changes: Vec<Change> = before
        .iter()
        .filter(|setup| !new.contains_key(&setup.port.name))
        .map(|setup| Change::PortRemoved(Box::new(setup.clone())))
        .collect();
    let mut added = Vec::new();
    for setup in after {
        match old.get(&setup.port.name).and_then(|at| before.get(*at)) {
            None => added.push(Change::PortAdded(Box::new(setup))),
            Some(was) if *was != setup => {
                let fields = was.changes(&setup);
                let (was, is) = (Box::new(was.clone()), Box::new(setup));
                changes.push(Change::PortChanged { was, is, fields });
            }
            Some(_) => {}
        }
    }
    changes.extend(added);
    changes
}

//! The plan: turns a checked configuration and the devices' facts into what the stages, the stations, the replica and
//! the underlay start from. Pure but for the bridge domains it takes from the tables.

use super::{
    loops,
    station_limits::{Limits, PortLimits},
    stations,
};
use crate::pipeline::ports::{Allowed, Network, Pair, Port, Role, Segment, Underlay, Vif};
use crate::tables::{Full, Tables, entries::Member, packed::Bd};
use crate::underlay::{Route, UnderlayPort};
use hashbrown::HashMap;
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};
use stopover_bbs::model::{HostDetails, MIN_NIC_MTU, Nic, PublicKey, ShortName};
use stopover_config::appliance::{self as config, Appliance};
use stopover_net::{Mac, VlanId, Vni};

/// What an appliance of this version can do with its peers.
const CAPABILITIES: [&str; 2] = ["vxlan", "end-markers"];

/// What a device reports of itself.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// It fills in TCP and UDP checksums on request.
    pub fills_checksums: bool,
    /// It segments TCP on request.
    pub segments_tcp: bool,
    /// It reports exactly which frames it delivered.
    pub exact: bool,
}

/// What peers have to know of this machine: of its ports with their MTUs, and its key.
pub fn host_details<'a>(
    ports: impl Iterator<Item = (&'a config::Port, u16)>,
    public_key: Option<PublicKey>,
) -> HostDetails {
    let mut nics = Vec::new();
    for (port, mtu) in ports {
        let config::Role::Underlay(underlay) = &port.role else { continue };
        let addresses = underlay.addresses.iter().map(IpNet::addr);
        nics.extend(
            addresses
                .filter_map(|address| Some(Nic { name: ShortName::new(port.name.as_str())?, address, mtu })),
        );
    }
    // A device that does not know its MTU is not described.
    nics.retain(|nic| nic.mtu >= MIN_NIC_MTU);
    let capabilities = CAPABILITIES.iter().filter_map(|name| ShortName::new(*name)).collect();
    HostDetails { nics, capabilities, public_key }
}

/// Everything that the start needs.
#[derive(Debug)]
pub struct Plan {
    /// The ports as the stages see them.
    pub ports: Vec<Port>,
    /// Declared stations, local while their port is up.
    pub declared: Vec<stations::Declared>,
    /// Every network of a local port, with the ports that are in it.
    pub networks: BTreeMap<Vni, (Bd, Vec<Member>)>,
    /// By segment port, after how many milliseconds a silent station is removed.
    pub ageing_ms: HashMap<u16, u64>,
    /// How many stations may be learned at segments.
    pub limits: Limits,
    /// Every segment port in each of its networks.
    pub segments: Vec<loops::Segment>,
    /// The underlay ports.
    pub underlays: Vec<UnderlayPort>,
}

impl Plan {
    /// `facts` are in the order of the configuration's ports.
    pub fn new(config: &Appliance, facts: &[Facts], tables: &mut Tables) -> Result<Self, Full> {
        let mut plan = Self::empty(config.max_network_stations);
        for (number, (port, facts)) in (0u16..).zip(config.ports.iter().zip(facts)) {
            plan.add(number, port, facts, tables)?;
        }
        Ok(plan)
    }

    /// Without a port. `per_network`: the most learned stations in one network.
    fn empty(per_network: u32) -> Self {
        Self {
            ports: Vec::new(),
            declared: Vec::new(),
            networks: BTreeMap::new(),
            ageing_ms: HashMap::new(),
            limits: Limits { per_network, ports: HashMap::new() },
            segments: Vec::new(),
            underlays: Vec::new(),
        }
    }

    /// With one port of this number.
    pub fn of_port(
        number: u16,
        port: &config::Port,
        facts: &Facts,
        tables: &mut Tables,
    ) -> Result<Self, Full> {
        let mut plan = Self::empty(0);
        plan.add(number, port, facts, tables)?;
        Ok(plan)
    }

    fn add(
        &mut self,
        number: u16,
        port: &config::Port,
        facts: &Facts,
        tables: &mut Tables,
    ) -> Result<(), Full> {
        let role = match &port.role {
            config::Role::Vif(vif) => self.vif(number, vif, tables)?,
            config::Role::Segment(segment) => self.segment(number, segment, facts.mac, tables)?,
            config::Role::Underlay(underlay) => self.underlay(number, underlay, facts),
        };
        self.ports.push(Port {
            mtu: facts.mtu,
            fills_checksums: facts.fills_checksums,
            segments_tcp: facts.segments_tcp,
            role,
        });
        Ok(())
    }

    /// The networks in which stations may appear that nothing declares.
    #[must_use]
    pub fn segment_vnis(&self) -> BTreeSet<Vni> {
        let has_segment = |ports: &[Member]| ports.iter().any(|member| member.segment);
        self.networks.iter().filter(|(_, (_, ports))| has_segment(ports)).map(|(vni, _)| *vni).collect()
    }

    fn join(&mut self, vni: Vni, member: Member, tables: &mut Tables) -> Result<Network, Full> {
        let bd = tables.bd(vni)?;
        self.networks.entry(vni).or_insert_with(|| (bd, Vec::new())).1.push(member);
        Ok(Network { bd, vni })
    }

    fn vif(&mut self, port: u16, vif: &config::Vif, tables: &mut Tables) -> Result<Role, Full> {
        let network = self.join(vif.vni, Member { port, vlan: 0, segment: false }, tables)?;
        let link_local = vif.mac.link_local();
        let mut ips = vif.addresses.clone();
        // The board accepts 16 addresses of a node. With 16 of its own, the derived one is left to flooding.
        let addresses = vif.own_and_shared().count();
        if !ips.contains(&IpAddr::V6(link_local)) && addresses < stopover_bbs::model::MAX_IPS {
            ips.push(IpAddr::V6(link_local));
        }
        let mut role = Vif {
            network,
            mac: vif.mac,
            ipv4: vif.own_and_shared().filter_map(as_ipv4).collect(),
            ipv6: vif.own_and_shared().filter_map(as_ipv6).collect(),
            addressed: !vif.addresses.is_empty(),
            guard: vif.guard,
            allowed: Allowed {
                pairs: vif.allowed.iter().map(|p| Pair { mac: p.mac, prefix: p.prefix }).collect(),
                router: vif.router,
                dhcp_server: vif.dhcp_server,
            },
            shared: vif.shared_addresses.as_slice().into(),
        };
        if !role.ipv6.contains(&link_local) {
            role.ipv6.push(link_local);
        }
        self.declared.push(stations::Declared {
            bd: network.bd,
            mac: vif.mac,
            port,
            vlan: 0,
            ips,
            shared: vif.shared_addresses.clone(),
            kind: stations::Kind::Vif,
        });
        Ok(Role::Vif(role))
    }

    fn segment(
        &mut self,
        port: u16,
        segment: &config::Segment,
        mac: Mac,
        tables: &mut Tables,
    ) -> Result<Role, Full> {
        let untagged = match segment.vni {
            Some(vni) => Some(self.join(vni, Member { port, vlan: 0, segment: true }, tables)?),
            None => None,
        };
        let mut map: Vec<(VlanId, Network)> = Vec::new();
        for (vlan, vni) in &segment.vlans {
            let member = Member { port, vlan: vlan.get(), segment: true };
            map.push((*vlan, self.join(*vni, member, tables)?));
        }
        for station in &segment.stations {
            let bd = tables.bd(station.vni)?;
            self.declared.push(static_station(port, segment, station, bd));
        }
        self.ageing_ms.insert(port, u64::from(segment.ageing_s) * 1000);
        let untagged_first = untagged.iter().map(|network| (0, *network));
        let networks: Vec<(u16, Network)> =
            untagged_first.chain(map.iter().map(|(vlan, network)| (vlan.get(), *network))).collect();
        let place =
            |(vlan, network): &(u16, Network)| loops::Segment { port, vlan: *vlan, vni: network.vni, mac };
        self.segments.extend(networks.iter().map(place));
        let networks = networks.into_iter().map(|(vlan, network)| (vlan, network.bd)).collect();
        let role = Segment::new(untagged, map);
        let limits = PortLimits {
            max_stations: segment.max_stations,
            new_per_s: segment.new_stations_per_s,
            gate: Arc::clone(&role.gate),
            networks,
        };
        self.limits.ports.insert(port, limits);
        Ok(Role::Segment(role))
    }

    fn underlay(&mut self, port: u16, underlay: &config::Underlay, facts: &Facts) -> Role {
        self.underlays.push(UnderlayPort {
            index: usize::from(port),
            mac: facts.mac,
            mtu: facts.mtu,
            addresses: underlay.addresses.clone(),
            vlan: underlay.vlan,
            gateways: underlay.gateways.clone(),
            routes: routes(underlay),
            neighbours: underlay.neighbours.clone(),
        });
        Role::Underlay(Underlay {
            mac: facts.mac,
            vlan: underlay.vlan,
            udp_port: underlay.udp_port,
            addresses: underlay.addresses.iter().map(IpNet::addr).collect(),
            pcp: underlay.dscp == config::Dscp::Pcp,
            udp6_zero_checksum: underlay.udp6_zero_checksum,
        })
    }
}

/// A station that is always behind a segment. `bd`: its network.
#[must_use]
pub fn static_station(
    port: u16,
    segment: &config::Segment,
    station: &config::Station,
    bd: Bd,
) -> stations::Declared {
    let vlan = segment.vlans.iter().find(|(_, vni)| **vni == station.vni).map_or(0, |(vlan, _)| vlan.get());
    stations::Declared {
        bd,
        mac: station.mac,
        port,
        vlan,
        ips: station.addresses.clone(),
        shared: station.shared_addresses.clone(),
        kind: stations::Kind::Static,
    }
}

/// The static routes of an underlay port.
#[must_use]
pub fn routes(underlay: &config::Underlay) -> Vec<Route> {
    underlay.routes.iter().map(|route| Route { to: route.to, via: route.via }).collect()
}

/// Every network in which this appliance has a port.
#[must_use]
pub fn interest(config: &Appliance) -> BTreeSet<Vni> {
    config.ports.iter().flat_map(networks_of).collect()
}

/// The networks of a port.
#[must_use]
pub fn networks_of(port: &config::Port) -> BTreeSet<Vni> {
    match &port.role {
        config::Role::Vif(vif) => [vif.vni].into(),
        config::Role::Segment(segment) => segment.vni.iter().chain(segment.vlans.values()).copied().collect(),
        config::Role::Underlay(_) => BTreeSet::new(),
    }
}

fn as_ipv4(ip: IpAddr) -> Option<std::net::Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn as_ipv6(ip: IpAddr) -> Option<std::net::Ipv6Addr> {
    match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    }
}

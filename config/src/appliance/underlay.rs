//! Checks of the underlay role. Enters: the raw keys of one underlay port. Leaves: addresses, routes and neighbours
//! that agree with each other, and the settings of the tunnel.

use super::{
    Dscp, Role, Route, Underlay,
    prefix::{interface, next_hop, prefix},
    raw,
    refusals::{of, refusal, vlan},
};
use crate::{
    fault::{Checked, fault},
    read, text,
};
use ipnet::IpNet;
use std::net::IpAddr;
use stopover_net::{IPV6_MIN_MTU, Mac};

pub(super) fn check(at: &str, port: &str, raw: raw::Role) -> Checked<Role> {
    let raw::Role::Underlay {
        addresses,
        vlan: raw_vlan,
        gateways: raw_gateways,
        routes: raw_routes,
        neighbours: raw_neighbours,
        udp_port,
        ttl,
        dscp,
        udp6_zero_checksum,
    } = raw
    else {
        return Err(fault(at, "another role", "underlay", "correct the role"));
    };
    let addresses = interfaces(at, port, &addresses)?;
    let gateways = gateways(at, port, &raw_gateways, &addresses)?;
    let routes = routes(at, port, &raw_routes, &addresses)?;
    let neighbours = neighbours(at, port, &raw_neighbours, &addresses)?;
    Ok(Role::Underlay(Underlay {
        vlan: raw_vlan.map(|n| vlan(&format!("{at}.vlan"), port, n)).transpose()?,
        gateways,
        routes,
        neighbours,
        addresses,
        udp_port: match udp_port {
            None => text::VXLAN_UDP_PORT,
            Some(n) => {
                text::udp_port(n).map_err(refusal(format!("{at}.udp_port"), &of("UDP port", port), n))?
            }
        },
        ttl: read::number(&format!("{at}.ttl"), ttl, 64, 1..=255, "hops")?,
        dscp: match dscp {
            // Tenants do not choose the underlay's class of service unless the operator allows it.
            None => Dscp::Fixed(0),
            Some(raw::Dscp::Copy) => Dscp::Copy,
            Some(raw::Dscp::Pcp) => Dscp::Pcp,
            Some(raw::Dscp::Fixed(n)) => {
                Dscp::Fixed(read::number(&format!("{at}.dscp"), Some(n), 0, 0..=63, "")?)
            }
        },
        udp6_zero_checksum,
    }))
}

fn interfaces(at: &str, port: &str, raw: &[String]) -> Checked<Vec<IpNet>> {
    if raw.is_empty() {
        return Err(fault(
            format!("{at}.addresses"),
            format!("underlay port `{port}` without an address"),
            "at least one VTEP address with prefix length",
            "add for example \"10.0.0.1/24\"",
        ));
    }
    raw.iter().enumerate().map(|(i, s)| interface(&format!("{at}.addresses[{i}]"), port, s)).collect()
}

fn gateways(at: &str, port: &str, raw: &[String], own: &[IpNet]) -> Checked<Vec<IpAddr>> {
    let mut gateways: Vec<IpAddr> = Vec::new();
    for (i, s) in raw.iter().enumerate() {
        let at = format!("{at}.gateways[{i}]");
        let ip = next_hop(&at, port, "gateway", s, own)?;
        if gateways.iter().any(|g| g.is_ipv4() == ip.is_ipv4()) {
            return Err(fault(
                at,
                of(&format!("gateway {ip} besides another of its family"), port),
                "one gateway per family",
                "remove one, or make it a route: routes: [(to: \"…\", via: \"…\")]",
            ));
        }
        gateways.push(ip);
    }
    Ok(gateways)
}

fn routes(at: &str, port: &str, raw: &[raw::Route], own: &[IpNet]) -> Checked<Vec<Route>> {
    let mut routes: Vec<Route> = Vec::new();
    for (i, r) in raw.iter().enumerate() {
        let at = format!("{at}.routes[{i}]");
        let to = prefix(&format!("{at}.to"), port, &r.to)?;
        let via = next_hop(&format!("{at}.via"), port, "next hop", &r.via, own)?;
        if to.addr().is_ipv4() != via.is_ipv4() {
            return Err(fault(
                format!("{at}.via"),
                of(&format!("next hop {via} for {to}"), port),
                "a next hop of the destination's family",
                "correct one of the two",
            ));
        }
        if routes.iter().any(|other| other.to == to) {
            return Err(fault(
                format!("{at}.to"),
                of(&format!("route to {to} again"), port),
                "each destination once",
                "remove one of the two",
            ));
        }
        routes.push(Route { to, via });
    }
    Ok(routes)
}

fn neighbours(at: &str, port: &str, raw: &[raw::Neighbour], own: &[IpNet]) -> Checked<Vec<(IpAddr, Mac)>> {
    let mut neighbours: Vec<(IpAddr, Mac)> = Vec::new();
    for (i, n) in raw.iter().enumerate() {
        let at = format!("{at}.neighbours[{i}]");
        let ip = next_hop(&format!("{at}.ip"), port, "neighbour", &n.ip, own)?;
        let mac = text::station_mac(&n.mac).map_err(refusal(
            format!("{at}.mac"),
            &of("MAC", port),
            n.mac.escape_debug(),
        ))?;
        if neighbours.iter().any(|(other, _)| *other == ip) {
            return Err(fault(
                at,
                of(&format!("neighbour {ip} again"), port),
                "each neighbour once",
                "remove one of the two",
            ));
        }
        neighbours.push((ip, mac));
    }
    Ok(neighbours)
}

/// IPv6 needs that much of the underlay, too.
pub(super) fn mtu_fits(at: &str, port: &str, mtu: Option<u16>, role: &Role) -> Checked<()> {
    let (Some(mtu), Role::Underlay(u)) = (mtu, role) else { return Ok(()) };
    if mtu < IPV6_MIN_MTU && u.addresses.iter().any(|net| net.addr().is_ipv6()) {
        return Err(fault(
            at,
            format!("MTU {mtu} on port `{port}`, which has an IPv6 address"),
            format!("at least {IPV6_MIN_MTU} bytes (RFC 8200)"),
            "raise the MTU, or remove the IPv6 address",
        ));
    }
    Ok(())
}

//! Checks of the three roles, one port at a time.

use super::{
    Role, Segment, Station, Vif, guard, raw,
    refusals::{of, refusal, vlan},
    underlay,
};
use crate::{
    fault::{Checked, fault},
    read, text,
};
use std::{collections::BTreeMap, net::IpAddr};
use stopover_net::Vni;

pub(super) fn role(at: &str, port: &str, raw: raw::Role) -> Checked<Role> {
    match raw {
        raw::Role::Underlay { .. } => underlay::check(at, port, raw),
        raw::Role::Vif { .. } => vif(at, port, raw),
        raw::Role::Segment { .. } => segment(at, port, raw),
    }
}

fn vif(at: &str, port: &str, raw: raw::Role) -> Checked<Role> {
    let raw::Role::Vif { vni, mac, addresses, shared_addresses, guard, allowed, router, dhcp_server } = raw
    else {
        return Err(fault(at, "another role", "vif", "correct the role"));
    };
    let vni = text::vni(vni).map_err(refusal(format!("{at}.vni"), &of("VNI", port), vni))?;
    let mac = text::station_mac(&mac).map_err(refusal(
        format!("{at}.mac"),
        &of("MAC", port),
        mac.escape_debug(),
    ))?;
    let shared_addresses = shared(at, port, &addresses, &shared_addresses)?;
    let addresses = station_addresses(&format!("{at}.addresses"), port, &addresses)?;
    let guard = guard.unwrap_or(true);
    let keys = guard::Keys { allowed, router, dhcp_server };
    Ok(Role::Vif(Vif {
        vni,
        mac,
        addresses,
        shared_addresses,
        guard,
        allowed: guard::check(at, port, mac, guard, keys)?,
        router: router.unwrap_or(false),
        dhcp_server: dhcp_server.unwrap_or(false),
    }))
}

fn station_addresses(at: &str, port: &str, list: &[String]) -> Checked<Vec<IpAddr>> {
    let mut ips = Vec::with_capacity(list.len());
    for (i, s) in list.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let ip = text::unicast_ip(s).map_err(refusal(at.clone(), &of("address", port), s.escape_debug()))?;
        if ips.contains(&ip) {
            return Err(fault(
                at,
                format!("{} {ip} again", of("address", port)),
                "each address once",
                "remove the repetition",
            ));
        }
        ips.push(ip);
    }
    if ips.len() > text::MAX_NODE_IPS {
        return Err(fault(
            at,
            format!("{} addresses in port `{port}`", ips.len()),
            format!("at most {}", text::MAX_NODE_IPS),
            "remove some; a station with more belongs on a port with guard: false and no addresses",
        ));
    }
    Ok(ips)
}

/// Addresses that a station shares: valid as its own are, and none of those again.
fn shared(at: &str, port: &str, own: &[String], shared: &[String]) -> Checked<Vec<IpAddr>> {
    let ips = station_addresses(&format!("{at}.shared_addresses"), port, shared)?;
    if shared.is_empty() {
        return Ok(ips);
    }
    let all = [shared, own].concat();
    station_addresses(&format!("{at}.shared_addresses and addresses"), port, &all)?;
    Ok(ips)
}

/// Most stations that the packet path can number.
pub(super) const ALL_STATIONS: u32 = 1 << 20;
/// Twice Open vSwitch's default for a bridge (`mac-table-size`).
const MAX_STATIONS: u32 = 16_384;
/// Four full ports.
pub(super) const MAX_NETWORK_STATIONS: u32 = 65_536;
/// A full port is learned in 8 s, at little load for the board.
const NEW_STATIONS_PER_S: u32 = 2000;

fn segment(at: &str, port: &str, raw: raw::Role) -> Checked<Role> {
    let raw::Role::Segment { vni, vlans, ageing_s, max_stations, new_stations_per_s, stations } = raw else {
        return Err(fault(at, "another role", "segment", "correct the role"));
    };
    let vlans = vlans.map(|e| e.0).unwrap_or_default();
    let mut owner: BTreeMap<Vni, String> = BTreeMap::new();
    let vni = match vni {
        None => None,
        Some(n) => {
            let vni = text::vni(n).map_err(refusal(format!("{at}.vni"), &of("VNI", port), n))?;
            owner.insert(vni, "untagged frames".to_owned());
            Some(vni)
        }
    };
    let mut map = BTreeMap::new();
    for (i, (tag, n)) in vlans.into_iter().enumerate() {
        let key = format!("{at}.vlans{{{i}}}");
        let vlan = vlan(&key, port, tag)?;
        let at = format!("{at}.vlans[{i}]");
        let vni = text::vni(n).map_err(refusal(at.clone(), &of("VNI", port), n))?;
        if map.insert(vlan, vni).is_some() {
            return Err(fault(
                key,
                of(&format!("VLAN {vlan} twice"), port),
                "each VLAN once",
                "remove one of the two",
            ));
        }
        if let Some(other) = owner.insert(vni, format!("VLAN {vlan}")) {
            return Err(fault(
                at,
                of(&format!("VNI {vni} for VLAN {vlan} and for {other}"), port),
                "each network once on a port",
                "give one of the two another VNI; bridging two VLANs would make a loop",
            ));
        }
    }
    if owner.is_empty() {
        return Err(fault(
            at,
            format!("segment port `{port}` without a network"),
            "a `vni` for untagged frames, `vlans` for tagged ones, or both",
            "add vni: 100 or vlans: {10: 100}",
        ));
    }
    let stations = stations
        .into_iter()
        .enumerate()
        .map(|(i, s)| station(&format!("{at}.stations[{i}]"), port, s, &owner))
        .collect::<Checked<_>>()?;
    // IEEE 802.1D-2004 table 7-5 gives 10 to 1000000 and a default of 300; shorter ones serve tests.
    let ageing_s = read::number(&format!("{at}.ageing_s"), ageing_s, 300, 1..=1_000_000, "seconds")?;
    let (key, most) = (format!("{at}.max_stations"), 1..=ALL_STATIONS);
    let max_stations = read::number(&key, max_stations, MAX_STATIONS, most, "stations")?;
    let (key, most) = (format!("{at}.new_stations_per_s"), 1..=1_000_000);
    let new_stations_per_s = read::number(&key, new_stations_per_s, NEW_STATIONS_PER_S, most, "stations")?;
    Ok(Role::Segment(Segment { vni, vlans: map, ageing_s, max_stations, new_stations_per_s, stations }))
}

fn station(at: &str, port: &str, raw: raw::Station, owner: &BTreeMap<Vni, String>) -> Checked<Station> {
    let vni = match (raw.vni, owner.first_key_value()) {
        (Some(n), _) => text::vni(n).map_err(refusal(format!("{at}.vni"), &of("VNI", port), n))?,
        (None, Some((only, _))) if owner.len() == 1 => *only,
        (None, _) => {
            return Err(fault(
                at,
                of("a station without `vni`", port),
                "its network, because the port has several",
                "add vni: to the station",
            ));
        }
    };
    if !owner.contains_key(&vni) {
        let known = owner.keys().map(Vni::to_string).collect::<Vec<_>>().join(", ");
        return Err(fault(
            format!("{at}.vni"),
            of(&format!("a station in network {vni}"), port),
            format!("one of the port's networks: {known}"),
            "correct the station's vni, or add the network to the port",
        ));
    }
    Ok(Station {
        vni,
        mac: text::station_mac(&raw.mac).map_err(refusal(
            format!("{at}.mac"),
            &of("MAC", port),
            raw.mac.escape_debug(),
        ))?,
        addresses: station_addresses(&format!("{at}.addresses"), port, &raw.addresses)?,
        shared_addresses: shared(at, port, &raw.addresses, &raw.shared_addresses)?,
    })
}

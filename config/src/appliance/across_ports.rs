//! Checks that concern several ports together: addresses and stations that two ports claim.

use super::{Port, Role, Underlay, Vif, refusals::of};
use crate::{
    fault::{Checked, fault},
    text,
};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use stopover_net::{Mac, Vni};

/// The description of each local owner of a key, for the check against declared nodes.
pub(super) type Owners<K> = BTreeMap<K, String>;

/// The stations and addresses of this appliance's ports, each with its description for messages.
#[derive(Debug, Default)]
pub(super) struct Locals {
    /// MACs of VIFs and static stations.
    pub macs: Owners<(Vni, Mac)>,
    /// Their addresses.
    pub ips: Owners<(Vni, IpAddr)>,
    /// VTEP addresses.
    pub vteps: BTreeSet<IpAddr>,
    /// Those of `macs` that are VIFs: the first port that names them, and their addresses.
    vifs: BTreeMap<(Vni, Mac), (String, BTreeSet<IpAddr>)>,
    /// The UDP port of the underlays, and one of them.
    udp: Option<(u16, String)>,
}

/// See the module.
pub(super) fn check(ports: &[Port]) -> Checked<Locals> {
    let mut locals = Locals::default();
    for (i, port) in ports.iter().enumerate() {
        locals.add(&format!("ports[{i}]"), port)?;
    }
    Ok(locals)
}

impl Locals {
    /// Adds a port. After an error these are of no use.
    pub fn add(&mut self, at: &str, port: &Port) -> Checked<()> {
        let at = format!("{at}.role");
        match &port.role {
            Role::Underlay(u) => self.underlay(&at, &port.name, u),
            Role::Vif(v) => self.vif(&at, &port.name, v),
            Role::Segment(s) => {
                let who = format!("a station of port `{}`", port.name);
                s.stations.iter().enumerate().try_for_each(|(j, s)| {
                    self.station(&format!("{at}.stations[{j}]"), &who, s.vni, s.mac, &s.addresses)
                })
            }
        }
    }

    fn underlay(&mut self, at: &str, name: &str, u: &Underlay) -> Checked<()> {
        for (j, ip) in u.addresses.iter().map(IpNet::addr).enumerate() {
            let at = format!("{at}.addresses[{j}]");
            if !self.vteps.insert(ip) {
                return Err(fault(
                    at,
                    of(&format!("VTEP address {ip} again"), name),
                    "each address once",
                    "remove the repetition",
                ));
            }
            if self.vteps.len() > text::MAX_VTEPS {
                return Err(fault(
                    at,
                    format!("{} VTEP addresses over all underlay ports", self.vteps.len()),
                    format!("at most {}", text::MAX_VTEPS),
                    "remove some",
                ));
            }
        }
        match &self.udp {
            Some((other, of)) if *other != u.udp_port => Err(fault(
                format!("{at}.udp_port"),
                format!("UDP port {} on `{name}` but {other} on `{of}`", u.udp_port),
                "the same on every underlay port, because a host has one",
                "correct one of the two",
            )),
            _ => {
                self.udp = Some((u.udp_port, name.to_owned()));
                Ok(())
            }
        }
    }

    /// A VM may be migrated from one port of this host to another, so two VIFs may name one station. Its
    /// addresses are the same at both.
    fn vif(&mut self, at: &str, port: &str, vif: &Vif) -> Checked<()> {
        let (key, ips) = ((vif.vni, vif.mac), vif.addresses.iter().copied().collect::<BTreeSet<_>>());
        match self.vifs.get(&key) {
            Some((_, others)) if *others == ips => Ok(()),
            Some((other, others)) => Err(fault(
                format!("{at}.addresses"),
                format!(
                    "{} of MAC {} on port `{port}`, but {} on port `{other}`",
                    join_ips(&ips),
                    vif.mac,
                    join_ips(others)
                ),
                "the same addresses on every port of a VM",
                "correct one of the two, or give one of the VMs another MAC or vni",
            )),
            None => {
                self.station(at, &format!("port `{port}`"), vif.vni, vif.mac, &vif.addresses)?;
                self.vifs.insert(key, (port.to_owned(), ips));
                Ok(())
            }
        }
    }

    fn station(&mut self, at: &str, who: &str, vni: Vni, mac: Mac, ips: &[IpAddr]) -> Checked<()> {
        if let Some(other) = self.macs.insert((vni, mac), who.to_owned()) {
            return Err(fault(
                format!("{at}.mac"),
                format!("MAC {mac} of {who}, which {other} has already in network {vni}"),
                "each MAC once in a network",
                "give one of them another MAC, or another vni",
            ));
        }
        for (i, ip) in ips.iter().enumerate() {
            if let Some(other) = self.ips.insert((vni, *ip), who.to_owned()) {
                return Err(fault(
                    format!("{at}.addresses[{i}]"),
                    format!("address {ip} of {who}, which {other} has already in network {vni}"),
                    "each address once in a network",
                    "give one of them another address, or another vni",
                ));
            }
        }
        Ok(())
    }
}

fn join_ips(ips: &BTreeSet<IpAddr>) -> String {
    match ips.iter().map(IpAddr::to_string).collect::<Vec<_>>() {
        none if none.is_empty() => "no address".to_owned(),
        some => some.join(", "),
    }
}

//! Paths: turns what the underlay resolved into the prebuilt outer headers that the packet path uses.

use super::{Control, mtu};
use crate::tables::{
    entries::{EncapTemplate, Path, Seal},
    peer::{Peer, TunnelIndex},
};
use crate::underlay::Resolution;
use std::{collections::BTreeSet, net::IpAddr};
use stopover_config::appliance::{self as config, Dscp};
use stopover_net::{
    ecn::OuterTos,
    outer::{OuterHeader, OuterSpec},
};

/// Length of an untagged inner Ethernet header.
const INNER_ETHERNET: u16 = 14;

/// The path to a VTEP: `None` if the two addresses are not of one family.
fn path(
    config: &config::Underlay,
    peer: Peer,
    (to, udp_port): (IpAddr, u16),
    found: &Resolution,
) -> Option<Path> {
    let spec = OuterSpec {
        src_mac: found.src_mac,
        dst_mac: found.dst_mac,
        vlan: found.vlan,
        src: found.src_ip,
        dst: to,
        dst_port: udp_port,
        ttl: config.ttl,
    };
    let outer = OuterHeader::new(&spec).ok()?;
    let outer_layer3 = outer.len() as u16 - if found.vlan.is_some() { 18 } else { 14 };
    Some(Path {
        peer,
        port: found.port as u16,
        inner_mtu: found.mtu.saturating_sub(outer_layer3 + INNER_ETHERNET),
        template: EncapTemplate {
            tos: match config.dscp {
                Dscp::Copy => OuterTos::COPY,
                Dscp::Pcp => OuterTos::PCP,
                Dscp::Fixed(dscp) => OuterTos::fixed(dscp),
            },
            zero_checksum: config.udp6_zero_checksum,
            outer,
        },
        seal: Seal::None,
    })
}

/// The same path, sealed: what a datagram can have is less by what a seal adds.
fn sealed(path: Path, tunnel: TunnelIndex, mtu: u16) -> Path {
    let layer3 = path.template.outer.udp_len() as u16 - if path.template.outer.has_vlan() { 18 } else { 14 };
    let inner_mtu = mtu::sealed_inside(mtu.saturating_sub(layer3));
    Path { inner_mtu, seal: Seal::Tunnel(tunnel), ..path }
}

/// How long a host is sent to at its VTEP of before, at most, until the new one is resolved.
const KEPT_MS: u64 = 3_000;

impl Control {
    /// A VTEP address is new. A host that has a path to another keeps it until this one is resolved.
    pub(crate) fn refresh_new(&mut self, now_ms: u64, vtep: IpAddr) {
        let has_path = self
            .replica
            .hosts_behind(vtep)
            .any(|(id, _)| self.replica.host(id).is_some_and(|record| record.path.is_some()));
        if has_path && self.underlay.resolved(vtep).is_none() {
            self.kept_paths.push_back((now_ms + KEPT_MS, vtep));
        } else {
            self.refresh(vtep);
        }
    }

    /// Ends the paths to VTEPs of before whose time is over.
    pub(super) fn end_kept_paths(&mut self, now_ms: u64) {
        while self.kept_paths.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            if let Some((_, vtep)) = self.kept_paths.pop_front() {
                self.refresh(vtep);
            }
        }
    }

    /// Publishes the current path to every host behind this VTEP address.
    pub(crate) fn refresh(&mut self, vtep: IpAddr) {
        let found = self.underlay.resolved(vtep);
        let hosts: Vec<_> = self.replica.hosts_behind(vtep).collect();
        for (host, udp_port) in hosts {
            let path = found.as_ref().and_then(|found| {
                match self.ports.wanted_at(found.port as u16).map(|port| &port.role) {
                    Some(config::Role::Underlay(config)) => {
                        path(config, Peer::new(host), (vtep, udp_port), found)
                    }
                    _ => None,
                }
            });
            let tunnel = self.tunnels.as_ref().and_then(|tunnels| tunnels.of(host));
            let always = path.clone().zip(found.as_ref()).zip(tunnel);
            let always = always.map(|((path, found), tunnel)| sealed(path, tunnel.index, found.mtu));
            let plain = match tunnel {
                Some(tunnel) if tunnel.is_used => always.clone(),
                _ => path,
            };
            if let Err(full) = self.replica.set_path(&mut self.tables, host, (plain, always)) {
                log::error!("{full}");
            }
        }
    }

    /// Publishes the current paths to all hosts.
    pub(crate) fn refresh_all(&mut self) {
        let vteps: BTreeSet<IpAddr> =
            self.replica.hosts_from(0).filter_map(|(_, record)| record.vtep).collect();
        vteps.into_iter().for_each(|vtep| self.refresh(vtep));
    }
}

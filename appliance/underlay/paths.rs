//! Tracked destinations: route, neighbour and path MTU of each remote VTEP, combined into a [`Resolution`]. Enters:
//! what changed. Leaves: resolutions that differ from those last reported.

use super::Underlay;
use super::actions::{Actions, Event, Resolution};
use super::counters::Outcome;
use super::frames::Quoted;
use super::neighbours::State;
use super::routes::{Confidence, NextHop};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A learned path MTU expires after this (RFC 1191 section 6.3, RFC 8201 section 5.3).
const PATH_MTU_AGE_MS: u64 = 600_000;
/// Least MTU of an IPv4 path for a tunnel (576 of RFC 791; a claim of 68 would be an attack).
const MIN_MTU_IPV4: u16 = 576;
/// Least MTU of an IPv6 path (RFC 8200 section 5).
const MIN_MTU_IPV6: u16 = stopover_net::IPV6_MIN_MTU;

/// A path MTU that a router reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathMtu {
    pub mtu: u16,
    pub until_ms: u64,
}

/// One remote VTEP address.
#[derive(Debug, Default)]
pub(super) struct Destination {
    /// The UDP ports at which VTEPs listen there.
    pub udp_ports: BTreeSet<u16>,
    /// Its present next hop.
    pub hop: Option<NextHop>,
    /// The resolution last reported.
    pub reported: Option<Resolution>,
    pub path_mtu: Option<PathMtu>,
}

impl Underlay {
    /// Looks up the next hop of each destination again, and updates the neighbours if it changed.
    pub(super) fn update_routes(&mut self, now_ms: u64, destinations: &BTreeSet<IpAddr>) {
        for &dst in destinations {
            let current = self.destinations.get(&dst).and_then(|d| d.hop);
            let hop = self.routes.resolve(
                dst,
                |port| self.is_up(port),
                |hop| {
                    let neighbour = self.cache.get(hop.port, hop.next_hop_ip);
                    match neighbour.map(|n| (n.state(), n.mac().is_some())) {
                        Some((State::Reachable | State::Static, _)) => Confidence::Confirmed,
                        // A working path is not replaced by an unconfirmed one.
                        Some((_, true)) if current == Some(*hop) => Confidence::Confirmed,
                        Some((_, true)) => Confidence::Known,
                        Some((State::Failed, _)) => Confidence::Failed,
                        _ => Confidence::Unknown,
                    }
                },
            );
            let Some(destination) = self.destinations.get_mut(&dst) else { continue };
            if destination.hop == hop {
                continue;
            }
            if let Some(old) = destination.hop {
                self.cache.detach(old.port, old.next_hop_ip, dst, now_ms);
            }
            if let Some(new) = hop {
                self.cache.attach(new.port, new.next_hop_ip, dst, now_ms);
            }
            destination.hop = hop;
        }
    }

    /// Reports resolutions that differ from those last reported.
    pub(super) fn report_changes(&mut self, destinations: &BTreeSet<IpAddr>, out: &mut Actions) {
        for &dst in destinations {
            let Some(destination) = self.destinations.get(&dst) else { continue };
            let current = self.resolution(destination);
            if current == destination.reported {
                continue;
            }
            match current {
                Some(resolution) => out.resolved.push((dst, resolution)),
                None => out.lost.push(dst),
            }
            if let Some(destination) = self.destinations.get_mut(&dst) {
                destination.reported = current;
            }
        }
    }

    fn resolution(&self, destination: &Destination) -> Option<Resolution> {
        let hop = destination.hop?;
        let port = &self.ports.iter().find(|p| p.config.index == hop.port)?.config;
        let dst_mac = self.cache.get(hop.port, hop.next_hop_ip)?.mac()?;
        let mtu = destination.path_mtu.map_or(port.mtu, |path| path.mtu.min(port.mtu));
        Some(Resolution {
            port: port.index,
            src_mac: port.mac,
            dst_mac,
            vlan: port.vlan,
            src_ip: hop.src_ip,
            mtu,
        })
    }

    /// Handles a router's message that a packet of ours was too big. It is accepted only if it quotes a VXLAN packet
    /// from the address that the message was sent to, for a tracked destination and port, of a length that we may
    /// have sent and that exceeds the MTU in the message (RFC 5927 section 7.2, RFC 8201 section 4).
    pub(super) fn handle_too_big(
        &mut self,
        now_ms: u64,
        to: IpAddr,
        quoted: Quoted,
        mtu: u32,
        out: &mut Actions,
    ) -> Outcome {
        let Some(destination) = self.destinations.get_mut(&quoted.dst) else {
            return Outcome::PathMtuRefused;
        };
        let Some(reported) = destination.reported else { return Outcome::PathMtuRefused };
        let floor = if quoted.dst.is_ipv4() { MIN_MTU_IPV4 } else { MIN_MTU_IPV6 };
        let claimed = u16::try_from(mtu).unwrap_or(u16::MAX).max(floor);
        let port_mtu =
            self.ports.iter().find(|p| p.config.index == reported.port).map_or(0, |p| p.config.mtu);
        let is_ours = quoted.src == to
            && quoted.src == reported.src_ip
            && destination.udp_ports.contains(&quoted.udp_dst)
            && quoted.len > u32::from(claimed)
            && quoted.len <= u32::from(port_mtu);
        if !is_ours || claimed > reported.mtu {
            return Outcome::PathMtuRefused;
        }
        let until_ms = now_ms.saturating_add(PATH_MTU_AGE_MS);
        destination.path_mtu = Some(PathMtu { mtu: claimed, until_ms });
        self.path_mtu_due_ms = self.path_mtu_due_ms.min(until_ms);
        if claimed < reported.mtu {
            self.push_event(now_ms, Event::PathMtu { dst: quoted.dst, mtu: claimed }, out);
            self.report_changes(&BTreeSet::from([quoted.dst]), out);
        }
        Outcome::PathMtuLowered
    }

    /// Removes expired path MTUs. Returns their destinations.
    pub(super) fn expire_path_mtus(&mut self, now_ms: u64) -> BTreeSet<IpAddr> {
        let mut expired = BTreeSet::new();
        if now_ms < self.path_mtu_due_ms {
            return expired;
        }
        self.path_mtu_due_ms = u64::MAX;
        for (&dst, destination) in &mut self.destinations {
            match destination.path_mtu {
                Some(path) if path.until_ms <= now_ms => {
                    destination.path_mtu = None;
                    expired.insert(dst);
                }
                Some(path) => self.path_mtu_due_ms = self.path_mtu_due_ms.min(path.until_ms),
                None => {}
            }
        }
        expired
    }
}

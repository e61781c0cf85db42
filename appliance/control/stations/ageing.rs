//! Ageing of stations: silent ones are removed, addresses are probed, routers are recorded. Enters: the time, router
//! advertisements. Leaves: claims, probes, limits that were reached.

use super::{Effect, Kind, Probe, QUIET_MS, Removal, Stations};
use crate::control::effects::Report;
use crate::pipeline::RouterSeen;
use crate::tables::Tables;
use std::net::IpAddr;

/// Most probes that are sent at once.
const PROBES_AT_ONCE: usize = 128;
/// Most nodes that are remembered as routers before they are known as stations.
const MAX_ROUTERS: usize = 1024;

impl Stations {
    /// Removes learned stations that have been silent for their segment's ageing time, and addresses that do not
    /// answer probes; probes the addresses that are due; reports limits.
    pub fn age(&mut self, tables: &mut Tables, now_ms: u64) -> Vec<Effect> {
        let mut effects = self.drop_unconfirmed(|entry| now_ms >= entry.quiet_until_ms + QUIET_MS);
        let (mut silent, mut probes) = (Vec::new(), Vec::new());
        for ((bd, mac), station) in &mut self.local {
            if tables.take_seen(station.id) {
                station.seen_ms = now_ms;
            }
            let limit = self.ageing_ms.get(&station.port).copied().unwrap_or(u64::MAX);
            if station.kind != Kind::Learned {
                continue;
            }
            if now_ms.saturating_sub(station.seen_ms) >= limit {
                silent.push((*bd, *mac));
            } else if station.addresses.is_due(now_ms) && probes.len() < PROBES_AT_ONCE {
                let (port, vlan, mut silent_ips) = (station.port, station.vlan, Vec::new());
                let due = station.addresses.probe(now_ms, &mut silent_ips);
                probes.extend(due.into_iter().map(|ip| Effect::Probe(Probe { port, vlan, mac: *mac, ip })));
                if silent_ips.is_empty() {
                    continue;
                }
                station.ips.retain(|ip| !silent_ips.contains(ip));
                for ip in silent_ips {
                    tables.clear_owner(*bd, ip, *mac);
                }
                let vni = self.vnis.get(bd);
                effects.extend(vni.map(|vni| Effect::Claim {
                    vni: *vni,
                    mac: *mac,
                    ips: station.ips.clone(),
                }));
            }
        }
        let (withdrawals, removals) = self.remove_or_defer(tables, silent, Removal::Silent);
        effects.extend(withdrawals.into_iter().chain(removals));
        effects.extend(
            self.census.take_full(now_ms).into_iter().map(|limit| Effect::Report(Report::Limit(limit))),
        );
        effects.extend(probes);
        effects
    }

    /// A node of ours is an IPv6 router, or is not.
    pub fn router(&mut self, tables: &mut Tables, seen: &RouterSeen) -> Option<Effect> {
        let key = (seen.bd, seen.mac);
        let Some(station) = self.local.get_mut(&key) else {
            if self.routers.len() >= MAX_ROUTERS {
                self.routers.clear();
            }
            self.routers.insert(key, seen.router);
            return None;
        };
        let event = station.router.replace(seen.router) != Some(seen.router);
        for ip in station.ips.iter().chain([&IpAddr::V6(seen.ip)]) {
            if let IpAddr::V6(ip) = ip {
                tables.set_router(seen.bd, *ip, seen.mac, seen.router);
            }
        }
        let vni = self.vnis.get(&seen.bd).filter(|_| event)?;
        Some(Effect::Claim { vni: *vni, mac: seen.mac, ips: station.ips.clone() })
    }
}

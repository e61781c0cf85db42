//! Learning of stations from frames: their ports and their addresses. Enters: what the packet path saw of a station.
//! Leaves: local entries in the tables, and claims. A station that the board has elsewhere is claimed first, and
//! added when the board has accepted the claim.

use super::{Declared, Effect, Kind, QUIET_MS, Stations};
use crate::pipeline::Learn;
use crate::tables::{Tables, packed::Bd};
use std::net::IpAddr;
use stopover_net::{Mac, prober};

/// Most addresses of one learned station; the board accepts no more either.
const MAX_IPS: usize = 16;

impl Stations {
    /// Adds a station that migrates here, at the segment port where it was seen.
    pub fn add_learned(&mut self, tables: &mut Tables, now_ms: u64, learn: &Learn) -> Option<Effect> {
        let Learn { port, bd, vlan, mac, ip } = *learn;
        // It keeps its known addresses, without announcing them again.
        let known = self.local.get(&(bd, mac)).map(|s| s.ips.clone());
        let of_tables =
            || tables.owners().filter(|(n, _, m)| (*n, *m) == (bd, mac)).map(|(_, ip, _)| ip).collect();
        let mut ips: Vec<IpAddr> = known.filter(|ips| !ips.is_empty()).unwrap_or_else(of_tables);
        ips.extend(ip.filter(|ip| is_usable(*ip) && !ips.contains(ip)));
        ips.truncate(MAX_IPS);
        self.insert(tables, now_ms, Declared::learned((bd, mac), (port, vlan), ips))
    }

    /// The packet path saw a station. Nothing changes for a MAC that the tables have at another host: only the board
    /// can move it, by accepting the claim.
    pub fn learn(&mut self, tables: &mut Tables, now_ms: u64, learn: &Learn) -> Vec<Effect> {
        let Learn { port, bd, vlan, mac, ip } = *learn;
        let mut effects = Vec::new();
        if !self.has_link(port) || self.blocked.contains(&(port, vlan)) || prober::is_prober_mac(mac) {
            return effects;
        }
        match self.local.get(&(bd, mac)).map(|s| (s.kind, s.port, s.vlan)) {
            // A vif has one station; only that one's addresses can be new.
            known if !self.ageing_ms.contains_key(&port) && known != Some((Kind::Vif, port, vlan)) => {
                return effects;
            }
            // A declared station that appears elsewhere is a spoof or an operator's mistake: the declaration holds.
            Some((Kind::Vif | Kind::Static, at, tag)) if (at, tag) != (port, vlan) => return effects,
            Some((_, at, tag)) if (at, tag) == (port, vlan) => {}
            None if self.is_unconfirmed(now_ms, learn) => return effects,
            at if !self.census.admits(now_ms, port, bd, at.is_none()) => return effects,
            None if tables.is_remote(bd, mac) => {
                self.mark_unconfirmed_for(now_ms, learn.clone(), QUIET_MS);
                let ips = ip.into_iter().filter(|ip| is_usable(*ip)).collect();
                effects.extend(self.vnis.get(&bd).map(|vni| Effect::Claim { vni: *vni, mac, ips }));
                return effects;
            }
            _ => {
                let ips = self.local.get(&(bd, mac)).map(|s| s.ips.clone()).unwrap_or_default();
                let d = Declared::learned((bd, mac), (port, vlan), ips);
                effects.extend(self.insert(tables, now_ms, d));
            }
        }
        let is_known = |ip: &IpAddr| self.local.get(&(bd, mac)).is_some_and(|s| s.ips.contains(ip));
        if let Some(ip) = ip.filter(|ip| is_usable(*ip))
            && (is_known(&ip) || self.census.admits_address(now_ms, port))
        {
            let updates = self.learn_address(tables, now_ms, (bd, mac), ip);
            if !updates.is_empty() {
                effects = updates;
            }
        }
        effects
    }

    /// A station was seen to use an address.
    fn learn_address(
        &mut self,
        tables: &mut Tables,
        now_ms: u64,
        (bd, mac): (Bd, Mac),
        ip: IpAddr,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(vni) = self.vnis.get(&bd).copied() else { return effects };
        let Some(station) = self.local.get_mut(&(bd, mac)) else { return effects };
        let ageing_ms = self.ageing_ms.get(&station.port).copied().unwrap_or(u64::MAX);
        if station.ips.contains(&ip) {
            station.addresses.confirm(now_ms, ip, ageing_ms);
            return effects;
        }
        if station.addresses.is_quiet(now_ms, ip) {
            return effects;
        }
        let shares = station.shared.contains(&ip);
        let owner = tables.owner(bd, ip).filter(|owner| *owner != mac);
        if let Some((other, station)) = owner.and_then(|o| Some((o, self.local.get_mut(&(bd, o))?))) {
            // A declared address does not move because of a frame; between learned stations it may, and between those
            // that share it.
            if station.kind != Kind::Learned && !(shares && station.shared.contains(&ip)) {
                return effects;
            }
            station.ips.retain(|known| *known != ip);
            station.addresses.remove(ip);
            effects.push(Effect::Claim { vni, mac: other, ips: station.ips.clone() });
        }
        let Some(station) = self.local.get_mut(&(bd, mac)) else { return effects };
        if station.ips.len() == MAX_IPS && station.kind != Kind::Learned {
            return effects;
        }
        if station.ips.len() == MAX_IPS {
            let oldest = station.ips.remove(0);
            station.addresses.remove(oldest);
            tables.clear_owner(bd, oldest, mac);
        }
        // An address of a node at another host remains there, unless the board gives it to us.
        if owner.is_none_or(|owner| !tables.is_remote(bd, owner))
            && let Err(full) = tables.set_owner(bd, ip, mac)
        {
            log::error!("{full}");
            return effects;
        }
        if ip.is_ipv4() {
            // It may replace another one (DHCP).
            station.addresses.probe_soon(now_ms, |known| known.is_ipv4());
        }
        station.ips.push(ip);
        station.announced.push(ip);
        station.addresses.confirm(now_ms, ip, ageing_ms);
        effects.push(Effect::Claim { vni, mac, ips: station.ips.clone() });
        effects
    }

    fn is_unconfirmed(&self, now_ms: u64, learn: &Learn) -> bool {
        self.unconfirmed.get(&(learn.bd, learn.mac)).is_some_and(|entry| now_ms < entry.quiet_until_ms)
    }
}

/// Addresses that can identify one station.
pub(super) fn is_usable(ip: IpAddr) -> bool {
    let special = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    !(special || ip.is_unspecified() || ip.is_multicast())
}

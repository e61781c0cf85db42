//! Stations and the board: the claims that are sent, and what follows from the replies. A station or an address that
//! was announced later by another host or node moves there; what is declared remains.

use super::learning::is_usable;
use super::{Effect, Kind, QUIET_MS, Removal, Stations, Unconfirmed};
use crate::control::addresses::QUIET_MS as TAKEN_MS;
use crate::control::stations::Declared;
use crate::pipeline::Learn;
use crate::tables::{Tables, packed::Bd};
use std::net::IpAddr;
use stopover_bbs::client::{Accepted, Claim, NodeFacts, StationKind};
use stopover_net::{Mac, Vni, arp};

/// How long a refused station is not claimed again, in milliseconds; twice as long after each further refusal.
const REFUSED_MS: u64 = 500;

impl Stations {
    /// The board refuses a claim. A learned station is removed, and not claimed again for a while. A declared one
    /// remains, because its port proves that it is here, and the operator sees the refusal.
    pub fn refused(
        &mut self,
        tables: &mut Tables,
        now_ms: u64,
        vni: Vni,
        mac: Mac,
        why: &str,
    ) -> Vec<Effect> {
        let Some(bd) = self.bd_of(vni) else { return Vec::new() };
        if let Some(entry) = self.unconfirmed.get_mut(&(bd, mac)) {
            entry.quiet_until_ms = now_ms + (REFUSED_MS << entry.refusals.min(8)).min(QUIET_MS);
            entry.refusals += 1;
            return vec![Effect::Withdraw { vni, mac }];
        }
        let Some(station) = self.local.get_mut(&(bd, mac)) else { return Vec::new() };
        if station.kind != Kind::Learned {
            station.refused = Some(why.to_owned());
            return Vec::new();
        }
        if self.followed.contains(&(bd, mac)) {
            return vec![Effect::Removal { bd, mac, why: Removal::Refused }];
        }
        let learn = Learn { port: station.port, bd, vlan: station.vlan, mac, ip: None };
        let effect = self.remove(tables, bd, mac);
        self.mark_unconfirmed(now_ms, learn);
        effect.into_iter().collect()
    }

    /// Marks a station as not ours although frames of it arrive here; it is not claimed for a while.
    pub fn mark_unconfirmed(&mut self, now_ms: u64, learn: Learn) {
        self.mark_unconfirmed_for(now_ms, learn, REFUSED_MS);
    }

    pub(super) fn mark_unconfirmed_for(&mut self, now_ms: u64, learn: Learn, quiet_ms: u64) {
        let refusals = self.unconfirmed.get(&(learn.bd, learn.mac)).map_or(0, |entry| entry.refusals);
        let entry = Unconfirmed { learn, quiet_until_ms: now_ms + quiet_ms, refusals };
        self.unconfirmed.insert((entry.learn.bd, entry.learn.mac), entry);
    }

    /// The board has a node elsewhere now, or not at all: it may be claimed with the next frame.
    pub fn allow_claim(&mut self, now_ms: u64, bd: Bd, mac: Mac) {
        if let Some(entry) = self.unconfirmed.get_mut(&(bd, mac)) {
            entry.quiet_until_ms = entry.quiet_until_ms.min(now_ms);
            entry.refusals = 0;
        }
    }

    /// The board has accepted a claim: an unconfirmed station is ours now. `addresses`: the node's addresses, if they
    /// are not those claimed.
    pub fn accepted(
        &mut self,
        tables: &mut Tables,
        now_ms: u64,
        vni: Vni,
        mac: Mac,
        addresses: Option<Accepted>,
    ) {
        let Some(bd) = self.bd_of(vni) else { return };
        if let Some(Unconfirmed { learn: Learn { port, vlan, ip, .. }, .. }) =
            self.unconfirmed.remove(&(bd, mac))
        {
            let ips = ip.into_iter().filter(|ip| is_usable(*ip)).collect();
            self.insert(tables, now_ms, Declared::learned((bd, mac), (port, vlan), ips));
            if let Some(station) = self.local.get_mut(&(bd, mac)) {
                station.fresh = false;
            }
        }
        let Some(station) = self.local.get_mut(&(bd, mac)) else { return };
        station.refused = None;
        let Some(Accepted { ips, refused }) = addresses else { return };
        if station.kind != Kind::Learned && !refused.is_empty() {
            station.refused = Some(refused.join("; "));
        }
        let (learned, shared) = (station.kind == Kind::Learned, station.shared.clone());
        let lost = |ip: &IpAddr| !ips.contains(ip) && (learned || shared.contains(ip));
        let lost: Vec<_> = station.ips.iter().copied().filter(lost).collect();
        self.remove_addresses(tables, now_ms, (bd, mac), &lost);
        let Some(station) = self.local.get_mut(&(bd, mac)).filter(|_| learned) else { return };
        let ageing_ms = self.ageing_ms.get(&station.port).copied().unwrap_or(u64::MAX);
        // It keeps the addresses that it had at its previous host.
        let missing: Vec<_> = ips.into_iter().filter(|ip| !station.ips.contains(ip)).collect();
        for ip in missing {
            if let Err(full) = tables.set_owner(bd, ip, mac) {
                log::error!("{full}");
                continue;
            }
            station.ips.push(ip);
            station.addresses.confirm(now_ms, ip, ageing_ms);
            // Checks soon whether it still uses it.
            station.addresses.probe_soon(now_ms, |known| known == ip);
        }
    }

    /// Another host has received a learned station later: it is there now. Frames still under way here do not bring
    /// it back. Its old segment must send frames for it to us: announces it there.
    pub fn node_moved(&mut self, tables: &mut Tables, now_ms: u64, vni: Vni, mac: Mac) -> Vec<Effect> {
        let withdraw = Effect::WithdrawUnlessLocal { vni, mac };
        let Some(bd) = self.bd_of(vni) else { return vec![withdraw] };
        let learned = self.local.get(&(bd, mac)).filter(|station| station.kind == Kind::Learned);
        let Some((port, vlan)) = learned.map(|station| (station.port, station.vlan)) else {
            return vec![withdraw];
        };
        if self.followed.contains(&(bd, mac)) {
            return vec![Effect::Removal { bd, mac, why: Removal::Refused }, withdraw];
        }
        self.mark_unconfirmed_for(now_ms, Learn { port, bd, vlan, mac, ip: None }, TAKEN_MS);
        self.remove(tables, bd, mac);
        vec![withdraw, Effect::Send { port, vlan, frame: arp::build_rarp(mac).to_vec() }]
    }

    /// Other nodes have announced addresses of a station later: the addresses move to them.
    pub fn addresses_moved(&mut self, tables: &mut Tables, now_ms: u64, vni: Vni, mac: Mac, ips: &[IpAddr]) {
        if let Some(bd) = self.bd_of(vni) {
            self.remove_addresses(tables, now_ms, (bd, mac), ips);
        }
    }

    fn remove_addresses(&mut self, tables: &mut Tables, now_ms: u64, (bd, mac): (Bd, Mac), ips: &[IpAddr]) {
        let Some(station) = self.local.get_mut(&(bd, mac)) else { return };
        station.ips.retain(|ip| !ips.contains(ip));
        station.announced.retain(|ip| !ips.contains(ip));
        for ip in ips {
            station.addresses.mark_moved(now_ms, *ip);
            tables.clear_owner(bd, *ip, mac);
        }
    }

    /// The claim of a node: what is known of it, and what was just seen of it.
    pub fn to_claim(&mut self, vni: Vni, mac: Mac, ips: Vec<IpAddr>) -> Claim {
        let bd = self.bd_of(vni);
        let key = bd.map(|bd| (bd, mac));
        if let Some(station) = key.and_then(|key| self.local.get_mut(&key)) {
            let declared = self.declared.iter().find(|d| (Some(d.bd), d.mac) == (bd, mac));
            let learned = station.kind == Kind::Learned;
            let kind = if learned { StationKind::Learned } else { StationKind::Declared };
            let of = |some: &[IpAddr]| ips.iter().copied().filter(|ip| some.contains(ip)).collect::<Vec<_>>();
            let shared = of(&station.shared);
            // Addresses that a declared station used are not declared.
            let used = match declared.filter(|_| station.kind == Kind::Static) {
                Some(d) => {
                    ips.iter().copied().filter(|ip| !d.ips.contains(ip) && !shared.contains(ip)).collect()
                }
                None => Vec::new(),
            };
            let announced = of(&std::mem::take(&mut station.announced));
            let received = std::mem::take(&mut station.fresh) || !learned;
            let facts = NodeFacts { kind, router: station.router };
            return Claim { vni, mac, ips, facts, received, announced, shared, used };
        }
        let claim = Claim::learned(vni, mac, ips);
        if key.is_some_and(|key| self.unconfirmed.contains_key(&key)) { claim } else { claim.stale() }
    }
}

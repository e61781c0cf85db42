//! The stations of this host: which VMs are here, found out by ourselves. Enters: ports that go up and down, what the
//! packet path saw on segments, the board's replies, the time. Leaves: local entries in the tables, and effects: claims
//! for the board, probes, reasons to remove what a migration follows. `learning` adds stations from frames, `board`
//! processes replies, `ageing` removes silent ones, `change` has other settings of a running segment. Pure but for the tables it writes.

mod ageing;
mod board;
mod change;
mod learning;

use super::{
    addresses::Addresses,
    effects::{Effect, Probe, Removal},
    station_limits::{Census, Limits, PortLimits},
};
use crate::pipeline::Learn;
use crate::tables::{Tables, packed::Bd};
use hashbrown::{HashMap, HashSet};
use std::net::IpAddr;
use stopover_net::{Mac, Vni};

/// How long a reply of the board may take, in milliseconds: what it has not accepted by then is claimed again with
/// the next frame. Also the longest time that a refused station is not claimed again.
const QUIET_MS: u64 = 10_000;
/// How often stations are checked for silence.
const AGE_EVERY_MS: u64 = 500;

/// How a station is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Declared with its vif; local while the port is up.
    Vif,
    /// Declared behind a segment; local while the port is up.
    Static,
    /// Learned at a segment; removed when it is silent.
    Learned,
}

/// A station of this host.
#[derive(Debug, Clone)]
pub struct Station {
    /// Its index in the packet path's tables.
    pub id: u32,
    /// The port it is behind.
    pub port: u16,
    /// The VLAN tag it needs; 0 for none.
    pub vlan: u16,
    /// How it is known.
    pub kind: Kind,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// When it was last seen, in milliseconds of the control thread's clock.
    pub seen_ms: u64,
    /// The board refused it: it is somewhere else, or an address of it is.
    pub refused: Option<String>,
    /// Whether it announced itself as an IPv6 router, or as none.
    pub router: Option<bool>,
    /// Addresses that it shares with others; those in `ips` are the ones it announced last.
    pub shared: Vec<IpAddr>,
    /// It has appeared here, and the board does not know yet.
    fresh: bool,
    /// Addresses that it announced, and that the board does not know of yet.
    announced: Vec<IpAddr>,
    addresses: Addresses,
}

/// A station as declared in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its network.
    pub bd: Bd,
    /// Its MAC.
    pub mac: Mac,
    /// Its port.
    pub port: u16,
    /// The VLAN tag it needs; 0 for none.
    pub vlan: u16,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Addresses that it shares with others.
    pub shared: Vec<IpAddr>,
    /// Vif or static.
    pub kind: Kind,
}

/// All stations of this host.
#[derive(Debug, Default)]
pub struct Stations {
    local: HashMap<(Bd, Mac), Station>,
    declared: Vec<Declared>,
    /// Seen here although the board has, or may have, them elsewhere: not ours until it accepts the claim.
    unconfirmed: HashMap<(Bd, Mac), Unconfirmed>,
    vnis: HashMap<Bd, Vni>,
    ageing_ms: HashMap<u16, u64>,
    /// Ports with a link. What was seen at another port was seen before it went down.
    up: HashSet<u16>,
    /// Segment ports that are blocked, with the VLAN: nothing is behind them.
    blocked: HashSet<(u16, u16)>,
    /// Counts of the learned ones.
    census: Census,
    /// Stations that take part in a migration, which decides whether they are removed.
    followed: HashSet<(Bd, Mac)>,
    /// When silence is looked for next.
    age_due_ms: u64,
    /// Whether nodes are routers that are not stations of ours yet.
    routers: HashMap<(Bd, Mac), bool>,
}

#[derive(Debug)]
struct Unconfirmed {
    learn: Learn,
    quiet_until_ms: u64,
    /// How often the board has refused it.
    refusals: u32,
}

impl Stations {
    /// `vnis`: the VNI of each bridge domain; `ageing_ms`: by segment port, after how long a silent station is
    /// removed.
    #[must_use]
    pub fn new(declared: Vec<Declared>, vnis: HashMap<Bd, Vni>, ageing_ms: HashMap<u16, u64>) -> Self {
        Self { declared, vnis, ageing_ms, ..Self::default() }
    }

    /// The same, with limits for learned stations.
    #[must_use]
    pub fn limited(self, limits: Limits) -> Self {
        Self { census: Census::new(limits), ..self }
    }

    /// Stations of this network may be here from now on.
    pub fn add_network(&mut self, bd: Bd, vni: Vni) {
        self.vnis.insert(bd, vni);
    }

    /// A network is no more: nothing of it is left.
    pub fn remove_network(&mut self, bd: Bd) {
        self.vnis.remove(&bd);
    }

    /// A port with these stations may have a link from now on. `ageing_ms`, `limits`: of a segment.
    pub fn add_port(
        &mut self,
        port: u16,
        declared: Vec<Declared>,
        ageing_ms: Option<u64>,
        limits: Option<PortLimits>,
    ) {
        self.declared.extend(declared);
        self.ageing_ms.extend(ageing_ms.map(|ms| (port, ms)));
        self.census.replace_port(port, limits);
    }

    /// A port is gone: its stations are removed, and nothing that was seen there counts.
    pub fn remove_port(&mut self, tables: &mut Tables, port: u16) -> Vec<Effect> {
        self.up.remove(&port);
        let effects = self.remove_at(tables, |at, _| at == port);
        self.declared.retain(|declared| declared.port != port);
        self.ageing_ms.remove(&port);
        self.blocked.retain(|(at, _)| *at != port);
        self.census.replace_port(port, None);
        effects
    }

    /// Does what is due: ages stations and probes addresses, opens the gates for new stations.
    pub fn tick(&mut self, tables: &mut Tables, now_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        if now_ms >= self.age_due_ms {
            self.age_due_ms = now_ms + AGE_EVERY_MS;
            effects = self.age(tables, now_ms);
        }
        self.census.tick(now_ms);
        effects
    }

    /// When something is due next, if nothing happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        let ages = !self.unconfirmed.is_empty() || self.census.has_stations() || self.census.is_full();
        let age_due_ms = ages.then_some(self.age_due_ms);
        age_due_ms.into_iter().chain(self.census.next_timeout()).min()
    }

    /// Learned stations of a port.
    #[must_use]
    pub fn learned_at(&self, port: u16) -> u32 {
        self.census.count_at(port)
    }

    /// New addresses of a port's stations that were not learned because they arrived too fast.
    #[must_use]
    pub fn refused_addresses(&self, port: u16) -> u64 {
        self.census.refused_addresses(port)
    }

    /// A bridge domain's VNI.
    #[must_use]
    pub fn vni(&self, bd: Bd) -> Option<Vni> {
        self.vnis.get(&bd).copied()
    }

    /// The station with this MAC, if it is here.
    #[must_use]
    pub fn get(&self, bd: Bd, mac: Mac) -> Option<&Station> {
        self.local.get(&(bd, mac))
    }

    /// All stations, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Bd, Mac, &Station)> {
        self.local.iter().map(|((bd, mac), station)| (*bd, *mac, station))
    }

    /// Whether this segment has a link: what was seen at a port without one was seen before its link was lost.
    #[must_use]
    pub fn has_link(&self, port: u16) -> bool {
        self.up.contains(&port)
    }

    /// A migration decides from now on whether this station is removed: reasons to remove it become
    /// [`Effect::Removal`] instead.
    pub fn follow(&mut self, bd: Bd, mac: Mac) {
        self.followed.insert((bd, mac));
    }

    /// The station is like any other again.
    pub fn unfollow(&mut self, bd: Bd, mac: Mac) {
        self.followed.remove(&(bd, mac));
    }

    /// The longest ageing time of a segment, in milliseconds.
    #[must_use]
    pub fn longest_ageing_ms(&self) -> u64 {
        self.ageing_ms.values().copied().max().unwrap_or_default()
    }

    /// A segment has gained or lost its link: its declared stations are added or removed, and the learned ones behind
    /// a lost link are removed. For vifs see [`Stations::add_vif`] and [`Stations::remove`].
    pub fn port(&mut self, tables: &mut Tables, now_ms: u64, port: u16, up: bool) -> Vec<Effect> {
        if up {
            self.up.insert(port);
            return self.add_declared(tables, now_ms, |d| d.port == port);
        }
        self.up.remove(&port);
        self.remove_at(tables, |at, _| at == port)
    }

    /// Blocks a segment port for the network of a VLAN, or unblocks it. The stations there are reached through
    /// another port, which makes them known.
    pub fn block(&mut self, tables: &mut Tables, now_ms: u64, port: u16, vlan: u16, on: bool) -> Vec<Effect> {
        if on {
            self.blocked.insert((port, vlan));
            return self.remove_at(tables, |at, tag| (at, tag) == (port, vlan));
        }
        self.blocked.remove(&(port, vlan));
        self.add_declared(tables, now_ms, |d| (d.port, d.vlan) == (port, vlan))
    }

    /// Adds these declared stations, if their port has a link and is not blocked.
    fn add_declared(
        &mut self,
        tables: &mut Tables,
        now_ms: u64,
        which: impl Fn(&Declared) -> bool,
    ) -> Vec<Effect> {
        let is_reachable =
            |d: &Declared| self.up.contains(&d.port) && !self.blocked.contains(&(d.port, d.vlan));
        let declared: Vec<_> =
            self.declared.iter().filter(|d| which(d) && is_reachable(d)).cloned().collect();
        declared.into_iter().filter_map(|d| self.insert(tables, now_ms, d)).collect()
    }

    /// Removes all stations at these ports and VLANs, also unconfirmed ones.
    fn remove_at(&mut self, tables: &mut Tables, which: impl Fn(u16, u16) -> bool) -> Vec<Effect> {
        let stations = self.local.iter().filter(|(_, s)| which(s.port, s.vlan));
        let keys = stations.map(|(key, _)| *key).collect();
        let (mut effects, removals) = self.remove_or_defer(tables, keys, Removal::PortDown);
        effects.extend(self.drop_unconfirmed(|entry| which(entry.learn.port, entry.learn.vlan)));
        effects.extend(removals);
        effects
    }

    /// Adds the station of a vif at this port.
    pub fn add_vif(
        &mut self,
        tables: &mut Tables,
        now_ms: u64,
        bd: Bd,
        mac: Mac,
        port: u16,
    ) -> Option<Effect> {
        self.up.insert(port);
        let declared = self.declared.iter().find(|d| (d.bd, d.mac, d.port) == (bd, mac, port)).cloned()?;
        self.insert(tables, now_ms, declared)
    }

    /// What was learned of a station that is not ours until the board accepts it.
    #[must_use]
    pub fn unconfirmed(&self, bd: Bd, mac: Mac) -> Option<Learn> {
        self.unconfirmed.get(&(bd, mac)).map(|entry| entry.learn.clone())
    }

    /// The claim for a local station.
    #[must_use]
    pub fn claim(&self, bd: Bd, mac: Mac) -> Option<Effect> {
        let station = self.local.get(&(bd, mac))?;
        Some(Effect::Claim { vni: *self.vnis.get(&bd)?, mac, ips: station.ips.clone() })
    }

    /// Withdraws a station at the board, while frames for it are still processed here.
    #[must_use]
    pub fn withdraw(&self, bd: Bd, mac: Mac) -> Option<Effect> {
        Some(Effect::Withdraw { vni: *self.vnis.get(&bd)?, mac })
    }

    /// Removes these stations but for the followed ones. Returns the withdrawals, and the reasons to remove the rest.
    fn remove_or_defer(
        &mut self,
        tables: &mut Tables,
        keys: Vec<(Bd, Mac)>,
        why: Removal,
    ) -> (Vec<Effect>, Vec<Effect>) {
        let (followed, others): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| self.followed.contains(key));
        let effects = others.into_iter().filter_map(|(bd, mac)| self.remove(tables, bd, mac)).collect();
        (effects, followed.into_iter().map(|(bd, mac)| Effect::Removal { bd, mac, why }).collect())
    }

    /// Removes unconfirmed stations; their claims are withdrawn.
    fn drop_unconfirmed(&mut self, which: impl Fn(&Unconfirmed) -> bool) -> Vec<Effect> {
        let vnis = &self.vnis;
        self.unconfirmed
            .extract_if(|_, entry| which(entry))
            .filter_map(|((bd, mac), _)| Some(Effect::Withdraw { vni: *vnis.get(&bd)?, mac }))
            .collect()
    }

    fn bd_of(&self, vni: Vni) -> Option<Bd> {
        self.vnis.iter().find(|(_, v)| **v == vni).map(|(bd, _)| *bd)
    }

    fn insert(&mut self, tables: &mut Tables, now_ms: u64, d: Declared) -> Option<Effect> {
        let vni = *self.vnis.get(&d.bd)?;
        self.unconfirmed.remove(&(d.bd, d.mac));
        let before = self.local.get(&(d.bd, d.mac)).cloned();
        let known = before.as_ref().map(|s| s.id);
        for ip in before.iter().flat_map(|s| &s.ips).filter(|ip| !d.ips.contains(ip)) {
            tables.clear_owner(d.bd, *ip, d.mac);
        }
        let stored = tables
            .set_local(d.bd, d.mac, d.port, d.vlan, known)
            .and_then(|id| d.ips.iter().try_for_each(|ip| tables.set_owner(d.bd, *ip, d.mac)).map(|()| id));
        let id = match stored {
            Ok(id) => id,
            Err(full) => {
                log::error!("{full}");
                return None;
            }
        };
        let station = Station {
            id,
            port: d.port,
            vlan: d.vlan,
            kind: d.kind,
            ips: d.ips.clone(),
            seen_ms: now_ms,
            refused: None,
            router: self.routers.remove(&(d.bd, d.mac)).or(before.as_ref().and_then(|s| s.router)),
            shared: d.shared,
            fresh: d.kind == Kind::Learned,
            announced: if d.kind == Kind::Learned { d.ips.clone() } else { Vec::new() },
            addresses: Addresses::default(),
        };
        let learned = d.kind == Kind::Learned;
        if learned {
            self.census.add(d.port, d.bd);
        }
        if let Some(before) = before.filter(|before| before.kind == Kind::Learned) {
            self.census.remove(before.port, d.bd);
        }
        let station = self.local.entry((d.bd, d.mac)).insert(station).into_mut();
        if learned {
            let ageing_ms = self.ageing_ms.get(&d.port).copied().unwrap_or(u64::MAX);
            d.ips.iter().for_each(|ip| station.addresses.confirm(now_ms, *ip, ageing_ms));
        }
        Some(Effect::Claim { vni, mac: d.mac, ips: d.ips })
    }

    /// Removes a local station.
    pub fn remove(&mut self, tables: &mut Tables, bd: Bd, mac: Mac) -> Option<Effect> {
        let station = self.local.remove(&(bd, mac))?;
        if station.kind == Kind::Learned {
            self.census.remove(station.port, bd);
        }
        tables.remove_local(bd, mac, station.id);
        // If the board has it at another host, its addresses are still needed.
        if !tables.is_remote(bd, mac) {
            for ip in station.ips {
                tables.clear_owner(bd, ip, mac);
            }
        }
        self.vnis.get(&bd).map(|vni| Effect::Withdraw { vni: *vni, mac })
    }
}

impl Declared {
    /// A learned station.
    fn learned((bd, mac): (Bd, Mac), (port, vlan): (u16, u16), ips: Vec<IpAddr>) -> Self {
        Self { bd, mac, port, vlan, ips, shared: Vec::new(), kind: Kind::Learned }
    }
}

//! How many stations may be learned at segments, so that a sender of random MACs cannot fill the tables. Enters:
//! learned stations that are added and removed, the time. Leaves: whether another one may be added, and the gates by
//! which the packet path drops frames of those that may not. Known stations are not checked. Pure but for the gates.

use super::effects::Limit;
use crate::pipeline::ports::Gate;
use crate::tables::packed::Bd;
use hashbrown::HashMap;
use std::sync::Arc;

/// The limits of one segment port.
#[derive(Debug, Clone)]
pub struct PortLimits {
    /// Learned stations at a time, over all its networks.
    pub max_stations: u32,
    /// New stations per second; as many may appear at once.
    pub new_per_s: u32,
    /// Closed while no more may be added.
    pub gate: Arc<Gate>,
    /// Its networks, by VLAN (0 for untagged).
    pub networks: Vec<(u16, Bd)>,
}

/// The limits of this host.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Learned stations at a time in one network, over all ports; 0 for any number.
    pub per_network: u32,
    /// By port. A port without an entry has no limit.
    pub ports: HashMap<u16, PortLimits>,
}

/// Tokens for new stations or addresses: one thousandth of one each.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: u64,
    at_ms: u64,
}

const PER_STATION: u64 = 1000;
/// New addresses for each new station of a port: IPv4 and IPv6.
const ADDRESSES_PER_STATION: u64 = 2;
/// How often the same limit is reported at most, in milliseconds: a flood reaches a limit a thousand times a second.
const REPORT_INTERVAL_MS: u64 = 10_000;

/// The learned stations, counted.
#[derive(Debug, Default)]
pub struct Census {
    limits: Limits,
    by_port: HashMap<u16, u32>,
    by_bd: HashMap<Bd, u32>,
    buckets: HashMap<u16, Bucket>,
    /// By port, for new addresses of stations.
    addresses: HashMap<u16, Bucket>,
    /// New addresses that arrived too fast, by port.
    refused_addresses: HashMap<u16, u64>,
    /// Ports and networks that have reached a limit, not reported yet.
    full: Vec<Limit>,
    /// What was reported, and when.
    reported: HashMap<Limit, u64>,
}

impl Census {
    /// No stations yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Other limits of a port. Nothing changes for one that has none.
    pub fn set_port(&mut self, port: u16, max_stations: u32, new_per_s: u32) {
        let Some(limits) = self.limits.ports.get_mut(&port) else { return };
        (limits.max_stations, limits.new_per_s) = (max_stations, new_per_s);
        self.refresh_all();
    }

    /// Another limit of a network.
    pub fn set_per_network(&mut self, per_network: u32) {
        self.limits.per_network = per_network;
        self.refresh_all();
    }

    fn refresh_all(&self) {
        for (port, limits) in &self.limits.ports {
            limits.networks.iter().for_each(|(_, bd)| self.refresh(*port, *bd));
        }
    }

    /// A port has these limits from now on, and no history.
    pub fn replace_port(&mut self, port: u16, limits: Option<PortLimits>) {
        self.limits.ports.remove(&port);
        self.limits.ports.extend(limits.map(|limits| (port, limits)));
        self.buckets.remove(&port);
        self.addresses.remove(&port);
        self.refused_addresses.remove(&port);
    }

    /// Learned stations of a port.
    #[must_use]
    pub fn count_at(&self, port: u16) -> u32 {
        self.by_port.get(&port).copied().unwrap_or(0)
    }

    /// What has become full since the last call, each at most once in [`REPORT_INTERVAL_MS`].
    pub fn take_full(&mut self, now_ms: u64) -> Vec<Limit> {
        let mut full = std::mem::take(&mut self.full);
        full.retain(|full| {
            let is_due =
                self.reported.get(full).is_none_or(|reported| reported + REPORT_INTERVAL_MS <= now_ms);
            if is_due {
                self.reported.insert(*full, now_ms);
            }
            is_due
        });
        full
    }

    /// Whether a station that is not at this port yet may be learned there. `new`: it is not in this network either.
    pub fn admits(&mut self, now_ms: u64, port: u16, bd: Bd, new: bool) -> bool {
        let Some(limits) = self.limits.ports.get(&port) else { return true };
        let fits = self.count_at(port) < limits.max_stations && !(new && self.is_bd_full(bd));
        fits && self.take_token(now_ms, port)
    }

    /// Whether a station at this port may be learned to have a new address. Known stations are limited too: each new
    /// address is work for the board and all hosts.
    pub fn admits_address(&mut self, now_ms: u64, port: u16) -> bool {
        let Some(limits) = self.limits.ports.get(&port) else { return true };
        let per_s = u64::from(limits.new_per_s) * ADDRESSES_PER_STATION;
        let bucket = self.addresses.entry(port).or_insert(Bucket::full(per_s, now_ms));
        let granted = bucket.take(per_s, now_ms);
        if !granted {
            *self.refused_addresses.entry(port).or_default() += 1;
            // One report is enough until the next call.
            if self.full.last() != Some(&Limit::Addresses(port)) {
                self.full.push(Limit::Addresses(port));
            }
        }
        granted
    }

    /// How many new addresses of a port's stations were not learned because they arrived too fast.
    #[must_use]
    pub fn refused_addresses(&self, port: u16) -> u64 {
        self.refused_addresses.get(&port).copied().unwrap_or(0)
    }

    /// A station has been learned.
    pub fn add(&mut self, port: u16, bd: Bd) {
        *self.by_port.entry(port).or_default() += 1;
        *self.by_bd.entry(bd).or_default() += 1;
        let max = self.limits.ports.get(&port).map(|limits| limits.max_stations);
        if max == Some(self.count_at(port)) {
            self.full.push(Limit::Port(port));
        }
        if self.limits.per_network != 0 && self.by_bd.get(&bd) == Some(&self.limits.per_network) {
            self.full.push(Limit::Bd(bd));
        }
        self.refresh(port, bd);
    }

    /// A learned station has been removed.
    pub fn remove(&mut self, port: u16, bd: Bd) {
        for count in [self.by_port.get_mut(&port), self.by_bd.get_mut(&bd)].into_iter().flatten() {
            *count = count.saturating_sub(1);
        }
        self.refresh(port, bd);
    }

    /// Whether any station is learned.
    #[must_use]
    pub fn has_stations(&self) -> bool {
        self.by_port.values().any(|count| *count > 0)
    }

    /// Whether a limit was reached that was not reported yet.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// When the next gate may be opened.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        let due = |(port, bucket): (&u16, &Bucket)| {
            let per_s = u64::from(self.limits.ports.get(port)?.new_per_s);
            let missing = PER_STATION.checked_sub(bucket.tokens).filter(|missing| *missing > 0)?;
            Some(bucket.at_ms + missing.checked_next_multiple_of(per_s)?.checked_div(per_s)?)
        };
        self.buckets.iter().filter_map(due).min()
    }

    /// Opens the gates of ports where new stations may appear again.
    pub fn tick(&mut self, now_ms: u64) {
        for (port, bucket) in &mut self.buckets {
            let Some(limits) = self.limits.ports.get(port) else { continue };
            bucket.fill(u64::from(limits.new_per_s), now_ms);
            if bucket.tokens >= PER_STATION {
                limits.gate.set_rate_exceeded(false);
            }
        }
    }

    fn is_bd_full(&self, bd: Bd) -> bool {
        let max = self.limits.per_network;
        max != 0 && self.by_bd.get(&bd).copied().unwrap_or(0) >= max
    }

    fn take_token(&mut self, now_ms: u64, port: u16) -> bool {
        let Some(limits) = self.limits.ports.get(&port) else { return true };
        let per_s = u64::from(limits.new_per_s);
        let bucket = self.buckets.entry(port).or_insert(Bucket::full(per_s, now_ms));
        let granted = bucket.take(per_s, now_ms);
        if bucket.tokens < PER_STATION && !limits.gate.set_rate_exceeded(true) {
            self.full.push(Limit::Rate(port));
        }
        granted
    }

    /// Sets the gates that depend on how many stations a port and a network have.
    fn refresh(&self, port: u16, bd: Bd) {
        if let Some(limits) = self.limits.ports.get(&port) {
            limits.gate.set_port_full(self.count_at(port) >= limits.max_stations);
        }
        let full = self.is_bd_full(bd);
        for limits in self.limits.ports.values() {
            for (vlan, _) in limits.networks.iter().filter(|(_, of)| *of == bd) {
                limits.gate.set_vlan_full(*vlan, full);
            }
        }
    }
}

impl Bucket {
    const fn full(per_s: u64, now_ms: u64) -> Self {
        Self { tokens: per_s * PER_STATION, at_ms: now_ms }
    }

    fn take(&mut self, per_s: u64, now_ms: u64) -> bool {
        self.fill(per_s, now_ms);
        let granted = self.tokens >= PER_STATION;
        self.tokens = self.tokens.saturating_sub(PER_STATION);
        granted
    }

    fn fill(&mut self, per_s: u64, now_ms: u64) {
        // A thousandth of a station per millisecond for each station per second.
        let earned = now_ms.saturating_sub(self.at_ms).saturating_mul(per_s);
        self.tokens = self.tokens.saturating_add(earned).min(per_s * PER_STATION);
        self.at_ms = self.at_ms.max(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bd(n: u16) -> Bd {
        Bd::new(n).unwrap()
    }

    fn census(max_stations: u32, new_per_s: u32, per_network: u32) -> (Census, Arc<Gate>, Arc<Gate>) {
        let gates = [Arc::new(Gate::default()), Arc::new(Gate::default())];
        let limits = |gate: &Arc<Gate>, networks| PortLimits {
            max_stations,
            new_per_s,
            gate: Arc::clone(gate),
            networks,
        };
        let ports = [
            (3, limits(&gates[0], vec![(0, bd(1))])),
            (4, limits(&gates[1], vec![(10, bd(1)), (20, bd(2))])),
        ];
        let census = Census::new(Limits { per_network, ports: ports.into_iter().collect() });
        let [first, second] = gates;
        (census, first, second)
    }

    fn admit_many(census: &mut Census, now_ms: u64, port: u16, of: u16, n: u32) -> u32 {
        let mut admitted = 0;
        for _ in 0..n {
            if census.admits(now_ms, port, bd(of), true) {
                census.add(port, bd(of));
                admitted += 1;
            }
        }
        admitted
    }

    #[test]
    fn port_limit_is_enforced() {
        let (mut census, gate, other) = census(10, 1000, 0);
        assert_eq!(admit_many(&mut census, 0, 3, 1, 100), 10);
        assert!(gate.is_closed(0) && gate.is_closed(7) && !other.is_closed(10));
        assert_eq!(census.take_full(0), [Limit::Port(3)]);
        assert_eq!(admit_many(&mut census, 0, 4, 1, 5), 5, "another port has room");
        census.remove(3, bd(1));
        assert!(!gate.is_closed(0));
        assert_eq!((admit_many(&mut census, 0, 3, 1, 5), census.count_at(3)), (1, 10));
    }

    #[test]
    fn limits_change_while_stations_are_there() {
        let (mut census, gate, other) = census(10, 1000, 0);
        admit_many(&mut census, 0, 3, 1, 100);
        census.set_port(3, 12, 1000);
        assert!(!gate.is_closed(0));
        assert_eq!(admit_many(&mut census, 0, 3, 1, 100), 2);
        census.set_port(3, 5, 1000);
        assert_eq!((gate.is_closed(0), census.count_at(3)), (true, 12), "none of them is removed");
        census.set_port(3, 100, 1000);
        census.set_per_network(12);
        assert!(gate.is_closed(0) && other.is_closed(10) && !other.is_closed(20));
        census.set_per_network(0);
        assert!(!gate.is_closed(0) && !other.is_closed(10));
        // The rate of before is used up; the new one gives more.
        census.set_port(4, 1000, 1);
        assert_eq!(admit_many(&mut census, 1000, 4, 2, 10), 1);
        census.set_port(4, 1000, 50);
        assert_eq!(admit_many(&mut census, 2000, 4, 2, 100), 50);
        census.set_port(9, 1, 1);
    }

    #[test]
    fn network_limit_is_enforced() {
        let (mut census, gate, other) = census(100, 1000, 10);
        assert_eq!((admit_many(&mut census, 0, 3, 1, 6), admit_many(&mut census, 0, 4, 1, 6)), (6, 4));
        assert_eq!(census.take_full(0), [Limit::Bd(bd(1))]);
        // The port's other network has room.
        assert!(gate.is_closed(0) && other.is_closed(10) && !other.is_closed(20));
        assert_eq!(admit_many(&mut census, 0, 4, 2, 6), 6);
        // A station that is in the network already may move to another port.
        assert!(census.admits(0, 4, bd(1), false));
        census.remove(4, bd(1));
        assert!(!gate.is_closed(0) && !other.is_closed(10));
    }

    #[test]
    fn limit_reached_repeatedly_is_reported_once_in_10_s() {
        let (mut census, ..) = census(10, 1000, 0);
        let mut reported = Vec::new();
        for now in 0..25_000 {
            census.tick(now);
            (0..10).for_each(|_| census.add(3, bd(1)));
            (0..10).for_each(|_| census.remove(3, bd(1)));
            let admitted = admit_many(&mut census, now, 4, 1, 50);
            (0..admitted).for_each(|_| census.remove(4, bd(1)));
            reported.extend(census.take_full(now).into_iter().map(|full| (now / 1000, full)));
        }
        let of =
            |kind| reported.iter().filter(|(_, full)| *full == kind).map(|(s, _)| *s).collect::<Vec<_>>();
        assert_eq!(of(Limit::Port(3)), [0, 10, 20]);
        assert_eq!(of(Limit::Rate(4)).len(), 3, "{reported:?}");
    }

    #[test]
    fn new_stations_are_rate_limited() {
        let (mut census, gate, other) = census(u32::MAX, 50, 0);
        assert_eq!(admit_many(&mut census, 1000, 3, 1, 200), 50, "as many as in a second at once");
        assert!(gate.is_closed(0) && !other.is_closed(10));
        assert_eq!(census.take_full(1000), [Limit::Rate(3)]);
        assert_eq!(census.next_timeout(), Some(1020));
        census.tick(1010);
        assert_eq!(census.next_timeout(), Some(1020));
        assert!(gate.is_closed(0));
        census.tick(1020);
        assert!(!gate.is_closed(0));
        assert_eq!(census.next_timeout(), None);
        assert_eq!(
            (admit_many(&mut census, 1020, 3, 1, 9), admit_many(&mut census, 2020, 3, 1, 99)),
            (1, 50)
        );
        census.tick(1_000_000);
        assert_eq!(admit_many(&mut census, 1_000_000, 3, 1, 99), 50);
    }
}

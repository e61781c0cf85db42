//! Other settings of a segment that runs. Enters: limits, ageing times, declared stations. Leaves: local entries in the
//! tables, claims and withdrawals.

use super::{Declared, Effect, Kind, Stations};
use crate::tables::Tables;

impl Stations {
    /// Silent stations of this segment are removed after this time from now on.
    pub fn set_ageing(&mut self, port: u16, ageing_ms: u64) {
        self.ageing_ms.insert(port, ageing_ms);
    }

    /// Other limits of a segment. Stations that are there remain.
    pub fn set_port_limits(&mut self, port: u16, max_stations: u32, new_per_s: u32) {
        self.census.set_port(port, max_stations, new_per_s);
    }

    /// Another limit of learned stations in one network. Stations that are there remain.
    pub fn set_network_limit(&mut self, per_network: u32) {
        self.census.set_per_network(per_network);
    }

    /// Replaces the declared stations of a port. The one of a vif is there only while its VM is; then its addresses change.
    pub fn set_declared(
        &mut self,
        tables: &mut Tables,
        now_ms: u64,
        port: u16,
        stations: Vec<Declared>,
    ) -> Vec<Effect> {
        let is_old = |d: &Declared| d.port == port;
        let (old, others) = std::mem::take(&mut self.declared).into_iter().partition::<Vec<_>, _>(is_old);
        self.declared = others;
        let mut effects = Vec::new();
        for gone in old.iter().filter(|d| stations.iter().all(|new| (new.bd, new.mac) != (d.bd, d.mac))) {
            // It may have been learned behind another port since.
            let is_here = self.get(gone.bd, gone.mac).is_some_and(|s| s.port == port && s.kind == gone.kind);
            if is_here {
                effects.extend(self.remove(tables, gone.bd, gone.mac));
            }
        }
        let is_there =
            |d: &Declared| d.kind != Kind::Vif || self.get(d.bd, d.mac).is_some_and(|s| s.port == port);
        let new: Vec<_> = stations.iter().filter(|d| !old.contains(d) && is_there(d)).cloned().collect();
        self.declared.extend(stations);
        effects.extend(self.add_declared(tables, now_ms, |d| new.contains(d)));
        effects
    }
}

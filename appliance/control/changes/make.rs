//! Makes changes that were checked. Enters: changes in their order. Leaves: the running configuration with them, and the
//! subsystems in step with it.

use super::Control;
use crate::control::plan;
use crate::underlay::NextHops;
use std::sync::Arc;
use stopover_config::appliance::{
    Role, Segment, Station, Truth,
    diff::{Change, Field, FieldChange, PortSetup, Setting},
};
use stopover_ctl::ApiError;

impl Control {
    /// Makes all of these changes, or none.
    ///
    /// # Errors
    /// A port cannot be opened.
    pub(super) fn make(&mut self, now_ms: u64, changes: &[Change]) -> Result<(), ApiError> {
        self.make_ports(now_ms, changes)?;
        let config = self.config.with(changes);
        let was = std::mem::replace(&mut self.config, config);
        for change in changes {
            match change {
                Change::Setting { is, .. } => self.make_setting(is),
                Change::PortChanged { is, fields, .. } => self.make_fields(now_ms, is, fields),
                Change::PortAdded(_) | Change::PortRemoved(_) | Change::Queues { .. } => {}
                Change::SpareVdevs { .. } | Change::RowRemoved(_) | Change::RowPut { .. } => {}
            }
        }
        if let (Truth::Declared(was), Truth::Declared(is)) = (&was.truth, &self.config.truth)
            && !Arc::ptr_eq(was, is)
        {
            let is = Arc::clone(is);
            self.redeclare(now_ms, was, &is);
        }
        Ok(())
    }

    /// Opens, closes and reopens ports, and moves queues. It comes first, because only this can fail; then it leaves
    /// everything as it was.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "no such change is possible yet")]
    fn make_ports(&mut self, _now_ms: u64, _changes: &[Change]) -> Result<(), ApiError> {
        Ok(())
    }

    fn make_setting(&mut self, is: &Setting) {
        match is {
            Setting::MaxNetworkStations(n) => self.stations.set_network_limit(*n),
            Setting::StaleMs(ms) => self.board.set_stale_ms(*ms),
            Setting::WindowMs(ms) => self.migrations.set_window_ms(*ms),
            // The others need a restart.
            _ => {}
        }
    }

    fn make_fields(&mut self, now_ms: u64, is: &PortSetup, fields: &[FieldChange]) {
        let Some(port) = self.port_number(&is.port.name) else { return };
        let has = |of: &[Field]| fields.iter().any(|change| of.contains(&change.field));
        match &is.port.role {
            Role::Underlay(underlay) => {
                if has(&[Field::Gateways, Field::Routes, Field::Neighbours]) {
                    let to = NextHops {
                        gateways: underlay.gateways.clone(),
                        routes: plan::routes(underlay),
                        neighbours: underlay.neighbours.clone(),
                    };
                    let actions = self.underlay.change_next_hops(now_ms, usize::from(port), to);
                    self.execute_underlay(now_ms, actions);
                }
                if has(&[Field::Ttl, Field::Dscp]) {
                    self.refresh_all();
                }
            }
            Role::Segment(segment) => {
                self.stations.set_ageing(port, u64::from(segment.ageing_s) * 1000);
                self.stations.set_port_limits(port, segment.max_stations, segment.new_stations_per_s);
                if has(&[Field::Stations]) {
                    self.make_stations(now_ms, port, segment);
                }
            }
            Role::Vif(_) => {}
        }
    }

    fn make_stations(&mut self, now_ms: u64, port: u16, segment: &Segment) {
        let declared = |station: &Station| {
            let bd = self.replica.bd_of(station.vni)?;
            Some(plan::static_station(port, segment, station, bd))
        };
        let stations = segment.stations.iter().filter_map(declared).collect();
        let effects = self.stations.set_declared(&mut self.tables, now_ms, port, stations);
        self.execute(now_ms, effects);
    }
}

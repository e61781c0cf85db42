//! Makes changes that were checked. Enters: changes in their order. Leaves: the running configuration with them, and the
//! subsystems in step with it.

use super::Control;
use crate::control::{devices::DeviceSource, plan, port_changes::PortChange};
use crate::underlay::NextHops;
use std::sync::Arc;
use stopover_config::appliance::{
    Appliance, Role, Segment, Station, Truth, Vhost,
    diff::{Change, Field, FieldChange, Needs, PortSetup, Setting},
};

/// What these changes are for ports that are added, removed, opened again or seen in another way by the packet path.
/// `after`: the configuration with them.
pub(super) fn port_changes(changes: &[Change], after: &Appliance) -> Vec<PortChange> {
    let add = |setup: &PortSetup| {
        PortChange::Add(Box::new(setup.port.clone()), DeviceSource::of(after, &setup.port.device))
    };
    let of = |change: &Change| match change {
        Change::PortRemoved(setup) => vec![PortChange::Remove(setup.port.name.clone())],
        Change::PortAdded(setup) => vec![add(setup)],
        Change::PortChanged { was, is, fields } => {
            if fields.iter().any(|change| change.field.needs() == Needs::Reopen) {
                vec![PortChange::Remove(was.port.name.clone()), add(is)]
            } else if matches!(is.port.role, Role::Vif(_)) {
                vec![PortChange::Set(Box::new(is.port.clone()))]
            } else {
                Vec::new()
            }
        }
        Change::Setting { .. } => Vec::new(),
        Change::SpareVdevs { was, is } => spare_devices(was, is, after),
        Change::RowRemoved(_) | Change::RowPut { .. } | Change::Queues { is: None, .. } => Vec::new(),
        Change::Queues { is: Some(is), .. } => {
            let of_lcore = |(lcore, queues): (&u32, &Vec<(String, u16)>)| {
                let lcore = *lcore;
                queues.clone().into_iter().map(move |(port, queue)| PortChange::Poll(port, queue, lcore))
            };
            is.iter().flat_map(of_lcore).collect()
        }
    };
    let mut all: Vec<PortChange> = changes.iter().flat_map(of).collect();
    all.extend(named_queues(&all, after));
    // What one port gives up another may have: addresses, sockets, devices.
    // But a host is reached by its underlay ports, so new ones come before others go.
    let underlays = || {
        changes.iter().filter_map(|change| match change {
            Change::PortRemoved(setup) if matches!(setup.port.role, Role::Underlay(_)) => Some(setup),
            _ => None,
        })
    };
    let is_underlay = |name: &str| underlays().any(|setup| setup.port.name == name);
    let had_underlay = |vdev: &String| underlays().any(|setup| setup.vdev.as_ref() == Some(vdev));
    all.sort_by_key(|change| match change {
        PortChange::Remove(name) if is_underlay(name) => 6,
        PortChange::Remove(_) => 0,
        PortChange::RemoveDevice(_) => 1,
        PortChange::AddDevice(vdev) if had_underlay(vdev) => 7,
        PortChange::AddDevice(_) => 2,
        PortChange::Set(_) => 3,
        PortChange::Add(..) => 4,
        PortChange::Poll(..) => 5,
    });
    all
}

/// Devices without a port, such as the members of a bond. A port may have one of them next.
fn spare_devices(was: &[String], is: &[String], after: &Appliance) -> Vec<PortChange> {
    let is_dpdk = |vdev: &&String| Vhost::from_vdev(vdev).is_none();
    let gone = was.iter().filter(|vdev| !after.vdevs.contains(vdev)).filter(is_dpdk);
    let new = is.iter().filter(|vdev| !was.contains(vdev)).filter(is_dpdk);
    let gone = gone.cloned().map(PortChange::RemoveDevice);
    gone.chain(new.cloned().map(PortChange::AddDevice)).collect()
}

/// The queues of added ports that the key `lcores` names.
fn named_queues(changes: &[PortChange], after: &Appliance) -> Vec<PortChange> {
    let is_added =
        |name: &str| changes.iter().any(|c| matches!(c, PortChange::Add(port, _) if port.name == name));
    let lcores = after.queues_by_name().unwrap_or_default().into_iter();
    let queues =
        lcores.flat_map(|(lcore, queues)| queues.into_iter().map(move |(port, queue)| (port, queue, lcore)));
    let named = queues.filter(|(port, ..)| is_added(port));
    named.map(|(port, queue, lcore)| PortChange::Poll(port, queue, lcore)).collect()
}

impl Control {
    /// Makes all of these changes but those of [`port_changes`], which were made before.
    pub(super) fn make(&mut self, now_ms: u64, changes: &[Change]) {
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
    }

    fn make_setting(&mut self, is: &Setting) {
        match is {
            Setting::MaxNetworkStations(n) => self.stations.set_network_limit(*n),
            Setting::StaleMs(ms) => self.board.set_stale_ms(*ms),
            Setting::CheckpointS(every_s) => self.checkpoints.set_every(*every_s),
            Setting::WindowMs(ms) => self.migrations.set_window_ms(*ms),
            // The others need a restart.
            _ => {}
        }
    }

    fn make_fields(&mut self, now_ms: u64, is: &PortSetup, fields: &[FieldChange]) {
        let Some(port) = self.ports.number(&is.port.name) else { return };
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

//! Removes a port. Enters: its name. Leaves: tables without it, then lcores without it, then no device.

use super::{Outcome, PortChange, Step, refused};
use crate::control::{
    Control,
    devices::{self, DeviceSource},
    plan::networks_of,
    ports::{LcoreHandle, PortHandle},
};
use crate::lcore::{changes::Change, tx_port::TxPort};
use crate::pipeline::ports::Role;
use crate::tables::InNetwork;
use stopover_config::appliance as config;

/// How often it is looked whether networks without ports here can be forgotten.
const VACATED_EVERY_MS: u64 = 1_000;

impl Control {
    pub(super) fn begin_removing(&mut self, now_ms: u64, name: &str) -> Outcome {
        let Some(number) = self.ports.number(name) else { return Err(self.no_such_port(name)) };
        let keeps = self.migrations.keeps(number).or_else(|| {
            self.has_migrating_node(number).then_some("is being migrated, or a station of it is")
        });
        // A port that is taken back was never there for anybody.
        if let Some(why) = keeps.filter(|_| !self.port_changes.takes_back()) {
            return Err(refused(
                &format!("port {name}, whose VM {why}"),
                "a port whose VM is not migrating",
                "wait until `stopover show migrations` no longer lists it",
            ));
        }
        if !self.port_changes.takes_back() {
            self.device_events.may_close(number, name)?;
        }
        if matches!(self.ports.role(number), Some(Role::Underlay(_))) {
            return self.begin_removing_underlay(now_ms, number, name);
        }
        self.close_port(now_ms, number);
        Ok(())
    }

    /// Nobody needs the port any more: the tables are without it, and the lcores stop polling it.
    pub(super) fn close_port(&mut self, now_ms: u64, number: u16) {
        self.device_events.remove(number);
        if let Some(port) = self.ports.wanted_at(number).cloned() {
            let source = DeviceSource::of(&self.config, &port.device);
            self.port_changes.begun(PortChange::Add(Box::new(port), source));
        }
        self.migrate(now_ms, |migrations| migrations.remove_vif(now_ms, number));
        let effects = self.stations.remove_port(&mut self.tables, number);
        self.execute(now_ms, effects);
        self.loops.remove_port(number);
        for vni in self.replica.remove_port(number) {
            self.board.unfollow(vni);
            self.port_changes.vacated.insert(vni);
        }
        self.leave_networks(number);
        self.ports.set_down(number);
        self.publish();
        let senders = self.ports.owners(number);
        self.ports.give_each(|lcore| {
            let queues = Vec::with_capacity(usize::from(devices::MAX_QUEUES));
            let mut changes = vec![Change::StopPolling(number, queues)];
            if !senders.contains(&lcore) {
                changes.push(Change::TxPort(number, TxPort::Closed));
            }
            changes
        });
        self.port_changes.step = Some(Step::Closing(number));
    }

    /// A device of no port is gone.
    pub(super) fn remove_device(&mut self, vdev: String) -> Outcome {
        let name = vdev.split_once(',').map_or(vdev.as_str(), |(name, _)| name).trim();
        dpdk::Device::remove(&self.eal, name).map_err(|e| {
            refused(&format!("vdevs: {e}"), "a device that nothing uses", "remove what uses it, too")
        })?;
        self.port_changes.begun(PortChange::AddDevice(vdev));
        Ok(())
    }

    /// Gives back the bridge domains of networks that have no port here any more, once the board has taken back what it said
    /// of them. So there may be any number of networks, one after the other.
    pub(crate) fn give_back_networks(&mut self, now_ms: u64) {
        let changes = &mut self.port_changes;
        // A port that is being added may be of such a network.
        if changes.vacated.is_empty() || !changes.is_idle() || now_ms < changes.vacated_due_ms {
            return;
        }
        changes.vacated_due_ms = now_ms + VACATED_EVERY_MS;
        if !self.replica.is_whole() {
            return;
        }
        for vni in std::mem::take(&mut changes.vacated) {
            let tables = &self.tables;
            let is_empty = |bd| tables.counts().network(bd) == InNetwork::default();
            if let Some(bd) = self.replica.forget(vni, is_empty) {
                self.stations.remove_network(bd);
                self.tables.release_bd(vni);
            } else if !self.replica.is_followed(vni) && self.replica.bd_of(vni).is_some() {
                self.port_changes.vacated.insert(vni);
            }
        }
    }

    /// Networks of a port that have no segment here any more are only followed.
    fn leave_networks(&self, number: u16) {
        let Some(port) = self.ports.wanted_at(number) else { return };
        if matches!(port.role, config::Role::Segment(_)) {
            for vni in networks_of(port).into_iter().filter(|vni| !self.replica.has_segment(*vni)) {
                self.board.leave(vni);
            }
        }
    }

    /// No lcore has the port any more.
    pub(super) fn finish_removing(&mut self, now_ms: u64, number: u16) {
        let Some(PortHandle { name, device, vhost, .. }) = self.ports.remove(now_ms, number) else { return };
        let actions = self.underlay.remove_port(now_ms, usize::from(number));
        self.execute_underlay(now_ms, actions);
        // Another port may have the device next.
        let closed = if vhost.is_some() { device.stop() } else { device.close() };
        if let Err(e) = closed {
            log::error!(port = name; "port {name}: {e}");
        }
        for LcoreHandle { queues, .. } in self.ports.lcores_mut() {
            queues.retain(|queue| queue.port != number);
        }
        self.limit_sleeps(None);
        log::info!(port = name; "port {name} is removed{}", self.changes.by());
    }
}

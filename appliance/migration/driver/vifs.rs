//! Vifs that come and go while the appliance runs. Enters: a new vif's port and node, or the number of a port that is to
//! be removed. Leaves: the node's machine, with what is known of the node; or the node's end here.

use super::{CounterReading, Driver, Key, Migrations, Node, VifPort};
use crate::migration::machine::{Event, State};
use crate::migration::tx_hold::PortMigration;
use crate::pipeline::ports::Vif;
use std::sync::Arc;

impl Migrations {
    /// A vif's port exists from now on; it has no link yet. `exact`: its device reports what it delivered.
    pub fn add_vif(&mut self, port: u16, vif: &Vif, exact: bool) {
        let key = (vif.network.bd, vif.mac);
        let declared = exact.then_some(port);
        let config = self.node_config(exact, declared);
        let node =
            self.nodes.entry(key).or_insert_with(|| Node::new(vif.network.vni, config, Arc::default()));
        if let Some(port) = declared {
            node.machine.declare(port);
        }
        let migration = Arc::new(PortMigration::new(Arc::clone(&node.counters)));
        self.ports.insert(port, VifPort { key, exact, logging: false, migration });
    }

    /// Why a port cannot be removed now: its node takes part in a migration. `None` if it can.
    #[must_use]
    pub fn keeps(&self, port: u16) -> Option<&'static str> {
        let key = self.ports.get(&port)?.key;
        let node = self.nodes.get(&key)?;
        let locked = self.locks.contains_key(&key);
        match node.machine.state() {
            State::Leaving { .. } | State::Paused { .. } => Some("is being migrated away from here"),
            State::Forwarding { .. } => Some("has left, and its last frames are still sent on from here"),
            State::Arriving { .. } | State::Expected { .. } => Some("is being migrated to here"),
            State::Away | State::Here { .. } if locked => Some("is locked for a migration"),
            State::Away | State::Here { .. } if node.is_busy() => Some("has just been migrated"),
            State::Away | State::Here { .. } => None,
        }
    }
}

impl Driver<'_> {
    /// Passes a new vif's machine what is known of its node already.
    pub fn on_vif_added(&mut self, now_ms: u64, key: Key) {
        self.init_machine(now_ms, key);
    }

    /// A vif's port is about to be removed: its node is no longer there. Only if [`Migrations::keeps`] has nothing
    /// against it.
    pub fn remove_vif(&mut self, now_ms: u64, port: u16) {
        let Some(vif) = self.migrations.ports.get(&port) else { return };
        let key = vif.key;
        self.event(now_ms, key, Event::PortDown(port));
        self.migrations.ports.remove(&port);
        let others = self.vif_ports(key);
        let exact = others.iter().copied().find(|port| self.is_exact(*port));
        let Some(node) = self.migrations.nodes.get_mut(&key) else { return };
        node.machine.remove_port(port, exact);
        if !others.is_empty() {
            return;
        }
        // What is left of it is over by itself.
        node.is_station = true;
        self.end_if_finished(key);
    }

    /// A node is about to be a vif's: what was followed of a station of its name ends.
    pub fn forget_station(&mut self, key: Key) {
        if !self.migrations.nodes.get(&key).is_some_and(|node| node.is_station) {
            return;
        }
        let Some(node) = self.migrations.nodes.remove(&key) else { return };
        if node.record_mode.is_some() {
            self.tables.end_migrating(key.0, key.1);
        }
        self.stations.unfollow(key.0, key.1);
        self.migrations.past.add(CounterReading::read(&node.counters));
    }
}

//! Stations of segments while they take part in a migration. They have no port whose link tells where they are: they
//! send, or are silent. So each has a state machine only from its lock, or from the board's record that it is here,
//! until its migration is over here. That machine receives every reason to add or remove the station. Enters: what
//! segments receive, removals of followed stations from `stations`. Leaves: events for their machines.

use super::{Driver, Key, Node};
use crate::control::effects::{Effect, Removal};
use crate::migration::machine::{Event, NodeConfig, Record, State};
use crate::pipeline::Learn;
use stopover_bbs::model::Lock;
use stopover_net::Vni;

impl Driver<'_> {
    /// A station was seen on a segment or, with an address that it chose, behind a vif.
    pub fn on_station(&mut self, now_ms: u64, learn: &Learn) {
        if !self.stations.has_link(learn.port) {
            return;
        }
        let key = (learn.bd, learn.mac);
        if self.migrations.has_vif(learn.port) {
            let effects = self.stations.learn(self.tables, now_ms, learn);
            return self.effects.extend(effects);
        }
        let state = self.migrations.nodes.get(&key).filter(|n| n.is_station).map(|n| *n.machine.state());
        match state {
            _ if self.is_expected(learn) => return self.on_expected_station(now_ms, learn),
            // Its port had lost its link, or its frames were held: it is still here.
            Some(State::Paused { .. } | State::Expected { .. }) => {
                return self.on_expected_station(now_ms, learn);
            }
            // It has left. If it returns, it is seen again when all hosts know that it left.
            Some(State::Forwarding { .. }) => return,
            Some(State::Away | State::Here { .. } | State::Leaving { .. } | State::Arriving { .. })
            | None => {}
        }
        let effects = self.stations.learn(self.tables, now_ms, learn);
        self.effects.extend(effects);
        self.on_local_station(now_ms, key);
    }

    /// Whether a station that was seen on a segment is expected: it is locked for a migration that may bring it here,
    /// and not here yet; or the board has it here, and it was not seen since.
    pub(super) fn is_expected(&self, learn: &Learn) -> bool {
        let key = (learn.bd, learn.mac);
        let may_move = self.migrations.locks.get(&key).is_some_and(|lock| self.may_move_here(lock));
        let node = self.migrations.nodes.get(&key).map(|node| &node.machine);
        let has_left = node.is_some_and(|machine| matches!(machine.state(), State::Forwarding { .. }));
        let is_away = node.is_some_and(|machine| *machine.state() == State::Away);
        let is_ours = node.is_some_and(|machine| machine.record() == Record::Here);
        let elsewhere = || self.tables.recorded_host(learn.bd, learn.mac).is_some();
        (has_left && (may_move || is_ours)) || (is_away && is_ours) || (may_move && elsewhere())
    }

    /// Whether the migration that has this lock may bring its node here.
    pub(super) fn may_move_here(&self, lock: &Lock) -> bool {
        let own = self.replica.own_id();
        own != Some(lock.source) && (lock.target.is_none() || lock.target == own)
    }

    /// A migrating station has been seen here.
    pub(super) fn on_expected_station(&mut self, now_ms: u64, learn: &Learn) {
        let key = (learn.bd, learn.mac);
        let Some(vni) = self.replica.vni_of(learn.bd) else { return };
        self.follow_station(now_ms, key, vni);
        if let Some(node) = self.migrations.nodes.get_mut(&key) {
            node.learn = Some(learn.clone());
        }
        self.event(now_ms, key, Event::PortUp(learn.port));
    }

    /// Gives a station a machine, unless it has one.
    pub(super) fn follow_station(&mut self, now_ms: u64, key: Key, vni: Vni) {
        if self.migrations.nodes.contains_key(&key) {
            return;
        }
        let config = self.migrations.node_config(false, None);
        // As long as it may be silent where it was seen.
        let silent_ms = config.silent_ms.max(self.stations.longest_ageing_ms());
        let config = NodeConfig { silent_ms, ..config };
        let mut node = Node::new(vni, config, Default::default());
        node.is_station = true;
        self.migrations.nodes.insert(key, node);
        self.stations.follow(key.0, key.1);
        self.init_machine(now_ms, key);
    }

    /// Passes a local station's port to its machine, if that does not know it yet.
    pub fn on_local_station(&mut self, now_ms: u64, key: Key) {
        let Some(station) = self.stations.get(key.0, key.1) else { return };
        let Some(node) = self.migrations.nodes.get_mut(&key).filter(|node| node.is_station) else { return };
        let (port, vlan) = (station.port, station.vlan);
        let is_known = node.machine.port() == Some(port);
        if is_known || matches!(node.machine.state(), State::Forwarding { .. }) {
            return;
        }
        node.learn = Some(Learn { port, bd: key.0, vlan, mac: key.1, ip: None });
        self.event(now_ms, key, Event::PortUp(port));
    }

    /// Passes a reason to remove a followed station to its machine.
    pub fn on_station_removal(&mut self, now_ms: u64, key: Key, why: Removal) {
        let Some(node) = self.migrations.nodes.get(&key).filter(|node| node.is_station) else { return };
        match (why, *node.machine.state()) {
            // A migrating one has deadlines of its own.
            (Removal::Silent, State::Here { port })
            | (
                Removal::PortDown,
                State::Here { port } | State::Leaving { port } | State::Arriving { port, .. },
            ) => self.event(now_ms, key, Event::PortDown(port)),
            (Removal::Refused, State::Here { .. } | State::Arriving { .. }) => {
                let learn = node.learn.clone();
                self.event(now_ms, key, Event::Refused);
                self.effects.extend(learn.map(Effect::Unconfirmed));
            }
            _ => {}
        }
    }

    /// Stops following a station that takes no part in a migration any more.
    pub(super) fn end_if_finished(&mut self, key: Key) {
        if !self.migrations.nodes.get(&key).is_some_and(Node::is_finished) {
            return;
        }
        let Some(node) = self.migrations.nodes.remove(&key) else { return };
        if node.record_mode.is_some() {
            self.tables.end_migrating(key.0, key.1);
        }
        self.stations.unfollow(key.0, key.1);
        self.migrations.past.add(super::CounterReading::read(&node.counters));
    }
}

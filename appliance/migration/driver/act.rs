//! Executes the actions of a node's machine: in the tables, at the TX ports, at the board.

use super::{Driver, ENDED_AFTER_MS, Key, Node, STAND_IN_AFTER_MS, announce::Announcing, release::Release};
use crate::control::effects::{BoardRequest, Effect};
use crate::migration::machine::{Action, Actions, State};
use crate::migration::record::{EndMarkerBarrier, MigrationRecord, RecordMode, RedirectTarget};
use crate::migration::tx_hold::HoldMode;
use crate::pipeline::Learn;
use dpdk::cycles;
use std::sync::Arc;
use stopover_tunnel::handshake::Moved;

/// Host index of an appliance that no board has numbered.
const UNNUMBERED: u32 = u32::MAX - 1;

impl Driver<'_> {
    /// Executes a machine's actions in order; but an arrival starts before its node is shown, or frames of a local
    /// sender could overtake those that still arrive through the old host.
    pub(super) fn act_on(&mut self, now_ms: u64, key: Key, actions: Actions) {
        for action in arrival_first(actions) {
            self.act_one(now_ms, key, action);
        }
    }

    fn act_one(&mut self, now_ms: u64, key: Key, action: Action) {
        match action {
            Action::ShowLocal { port } => self.show_local(now_ms, key, port),
            Action::Forget => self.remove_node(key),
            Action::Depart { host: _ } => self.depart(now_ms, key),
            Action::Claim => {
                // A node that only the board has here is claimed in order to be withdrawn.
                let effect = self.stations.claim(key.0, key.1).or_else(|| {
                    let node = self.migrations.nodes.get(&key)?;
                    let is_away = *node.machine.state() == State::Away;
                    is_away.then(|| Effect::Claim { vni: node.vni, mac: key.1, ips: Vec::new() })
                });
                self.effects.extend(effect);
            }
            Action::Withdraw => {
                let effect = self.stations.withdraw(key.0, key.1);
                self.effects.extend(effect);
            }
            Action::Lock => self.lock(key),
            Action::Complete { migration, generation } => {
                self.request(BoardRequest::Complete { migration, generation });
            }
            Action::Abort { migration, generation } => {
                self.request(BoardRequest::Abort { migration, generation });
            }
            Action::Hold { port } => self.hold_frames(now_ms, key, port),
            Action::Release { port } => self.release(now_ms, key, port),
            Action::Discard { port } => self.discard(key, port),
            Action::Forward { port, to } => self.forward(now_ms, key, port, to),
            Action::StartArrival { port, from } => self.start_arrival(now_ms, key, port, from),
            Action::EndArrival => self.end_arrival(key),
            Action::Announce { to, generation } => {
                if let Some(node) = self.migrations.nodes.get_mut(&key) {
                    node.announcing = Some(Announcing::new(to, generation, now_ms));
                }
            }
            Action::StandIn(on) => self.stand_in(now_ms, key, on),
            Action::Report => {
                if let Some(node) = self.migrations.nodes.get_mut(&key) {
                    node.milestones.end();
                }
            }
        }
    }

    fn show_local(&mut self, now_ms: u64, (bd, mac): Key, port: u16) {
        self.replica.port(port, true);
        let learn = self.migrations.nodes.get(&(bd, mac)).and_then(|node| node.learn.clone());
        let effect = match learn {
            Some(learn) => self.stations.add_learned(self.tables, now_ms, &learn),
            None => self.stations.add_vif(self.tables, now_ms, bd, mac, port),
        };
        self.effects.extend(effect);
    }

    fn remove_node(&mut self, (bd, mac): Key) {
        for port in self.vif_ports((bd, mac)) {
            self.replica.port(port, false);
        }
        let effect = self.stations.remove(self.tables, bd, mac);
        self.end_record((bd, mac));
        self.effects.extend(effect);
    }

    /// The node is at another host for good; late frames for it are sent on from here.
    fn depart(&mut self, now_ms: u64, key: Key) {
        // Flagged before it is removed: no late frame may see the one without the other.
        self.tables.set_departed(key.0, key.1);
        self.remove_node(key);
        let vni = self.migrations.nodes.get(&key).map(|node| node.vni);
        let Some((vni, own)) = vni.zip(self.replica.own_id()) else { return };
        for port in self.vif_ports(key) {
            let Some(vif) = self.migrations.ports.get(&port).filter(|vif| vif.migration.is_on()) else {
                continue;
            };
            // Frames that our lcores send there from now on wait there until this marker has arrived, as those of any
            // other host.
            vif.migration.count_relayed(own);
            let sender_queues = self.end_own_path(vni, key, port);
            self.free_port(key, port, Some((sender_queues, now_ms + ENDED_AFTER_MS)));
        }
    }

    pub(super) fn vif_ports(&self, key: Key) -> Vec<u16> {
        self.migrations.ports.iter().filter(|(_, vif)| vif.key == key).map(|(port, _)| *port).collect()
    }

    fn lock(&mut self, (bd, mac): Key) {
        let Some(vni) = self.migrations.nodes.get(&(bd, mac)).map(|node| node.vni) else { return };
        self.request(BoardRequest::Lock { vni, mac });
    }

    pub(super) fn is_exact(&self, port: u16) -> bool {
        self.migrations.ports.get(&port).is_some_and(|vif| vif.exact)
    }

    fn set_hold_mode(&mut self, key: Key, port: u16, mode: HoldMode) {
        if let Some(node) = self.migrations.nodes.get_mut(&key) {
            node.releasing.retain(|release| release.port != port);
        }
        if let Some(vif) = self.migrations.ports.get(&port) {
            vif.migration.set(mode);
        }
    }

    /// Ends the hold of the port's TX ports as soon as it is empty, and so many end markers of ours have been sent
    /// on, or their time is over.
    fn free_port(&mut self, key: Key, port: u16, ends: Option<(u32, u64)>) {
        let Some(node) = self.migrations.nodes.get_mut(&key) else { return };
        let known = node.releasing.iter().any(|release| release.port == port);
        if !known && self.migrations.ports.get(&port).is_some_and(|vif| vif.migration.is_on()) {
            node.releasing.push(Release::new(port, ends));
        }
    }

    fn hold_frames(&mut self, now_ms: u64, key: Key, port: u16) {
        if let Some(node) = self.migrations.nodes.get_mut(&key) {
            node.milestones.begin(now_ms, &node.counters);
        }
        if self.is_exact(port) {
            return self.set_hold_mode(key, port, HoldMode::Hold);
        }
        let cycles = cycles::tsc_hz() / 1000 * self.migrations.window_ms;
        self.set_record(key, port, RecordMode::Window { cycles });
    }

    fn release(&mut self, now_ms: u64, key: Key, port: u16) {
        if self.is_exact(port) {
            // Also the port from which all frames were sent on to this one.
            for port in self.vif_ports(key) {
                self.free_port(key, port, None);
            }
            return;
        }
        // Its stand-in is understood for a while; the record is removed with it.
        if self.migrations.nodes.get(&key).is_some_and(|node| node.stand_in.is_some()) {
            return self.end_stand_in(now_ms, key, STAND_IN_AFTER_MS);
        }
        self.end_record(key);
    }

    fn end_record(&mut self, (bd, mac): Key) {
        if let Some(node) = self.migrations.nodes.get_mut(&(bd, mac)) {
            node.record_mode = None;
        }
        self.tables.end_migrating(bd, mac);
    }

    fn discard(&mut self, key: Key, port: u16) {
        if self.is_exact(port) {
            self.set_hold_mode(key, port, HoldMode::Discard);
            return self.free_port(key, port, None);
        }
        self.end_record(key);
    }

    fn forward(&mut self, now_ms: u64, key: Key, port: u16, to: RedirectTarget) {
        self.track_old_path_ends(key, to);
        if let (RedirectTarget::Host(host), (bd, node)) = (to, key)
            && let Some(vni) = self.replica.vni_of(bd)
        {
            let generation = self.migrations.locks.get(&key).map_or(0, |lock| lock.generation);
            self.effects.push(Effect::SentOn(Moved { generation, vni, node, host }));
        }
        if self.is_exact(port) {
            // Flooded frames are sent on with the others: senders that know of the lock send the node copies of its
            // own, and a sender that does not know it still has the node here.
            return self.set_hold_mode(key, port, HoldMode::Forward(to));
        }
        self.set_record(key, port, RecordMode::Forward(to));
        self.end_stand_in(now_ms, key, STAND_IN_AFTER_MS);
    }

    /// Records from now on which hosts have ended their path through here.
    fn track_old_path_ends(&mut self, key: Key, to: RedirectTarget) {
        let (own, lock) = (self.replica.own_id(), self.migrations.locks.get(&key));
        let generation = lock.map_or(0, |lock| lock.generation);
        let Some(node) = self.migrations.nodes.get_mut(&key) else { return };
        node.old_path_ends = match (to, own) {
            (RedirectTarget::Host(_), Some(own)) => {
                let old_path_ends =
                    EndMarkerBarrier::new(own, generation, None, self.replica.appliances_in(node.vni));
                old_path_ends.open(own);
                Some(old_path_ends)
            }
            _ => None,
        };
    }

    /// Publishes what happens to a node's frames.
    fn set_record(&mut self, (bd, mac): Key, port: u16, mode: RecordMode) {
        let Some(node) = self.migrations.nodes.get_mut(&(bd, mac)) else { return };
        node.record_mode = Some((port, mode.clone()));
        if !matches!(mode, RecordMode::Arriving(_)) {
            (node.arrival, node.closing) = (None, None);
        }
        let record = MigrationRecord {
            bd,
            vni: node.vni,
            mac,
            port,
            vlan: vlan_of(node, self.stations.get(bd, mac).map_or(0, |station| station.vlan)),
            stand_in: node.stand_in.as_ref().map(|stand_in| stand_in.mac),
            mode,
            counters: Arc::clone(&node.counters),
        };
        if let Err(full) = self.tables.set_migrating(record) {
            log::error!("{full}; its frames are delivered as any other's");
        }
    }

    fn start_arrival(&mut self, now_ms: u64, key: Key, port: u16, from: Option<u32>) {
        let own = self.replica.own_id().unwrap_or(UNNUMBERED);
        let lock = self.migrations.locks.get(&key).filter(|lock| lock.source != own);
        let generation = lock.map_or(0, |lock| lock.generation);
        let Some(node) = self.migrations.nodes.get_mut(&key) else { return };
        let senders = self.replica.appliances_in(node.vni).filter(|host| Some(*host) != from);
        let arrival = Arc::new(EndMarkerBarrier::new(own, generation, from, senders));
        node.arrival = Some(Arc::clone(&arrival));
        node.closing = None;
        node.milestones.begin(now_ms, &node.counters);
        node.milestones.set_arrived(node.exact);
        if self.is_exact(port) {
            self.set_hold_mode(key, port, HoldMode::Hold);
        }
        self.set_record(key, port, RecordMode::Arriving(arrival));
    }

    fn end_arrival(&mut self, key: Key) {
        let Some(node) = self.migrations.nodes.get_mut(&key) else { return };
        node.announcing = None;
        let Some(arrival) = &node.arrival else { return };
        node.milestones.record_settled(arrival);
        arrival.open_all();
        node.closing = Some(self.tables.publish());
        let exact_port = match node.machine.state() {
            State::Here { port } => Some(*port),
            _ => None,
        };
        if let Some(port) = exact_port {
            self.free_port(key, port, None);
        }
        self.close_arrival(key);
    }

    /// Diverts the frames of the node's own segment to us, or ends that.
    fn stand_in(&mut self, now_ms: u64, key: Key, on: bool) {
        if !on {
            return self.end_stand_in(now_ms, key, STAND_IN_AFTER_MS);
        }
        self.begin_stand_in(now_ms, key);
        let mode = self.migrations.nodes.get(&key).and_then(|node| node.record_mode.clone());
        if let Some((port, mode)) = mode {
            self.set_record(key, port, mode);
        }
    }
}

/// Moves the start of an arrival before the node is shown; the end of a hold or of forwarding precedes both.
fn arrival_first(mut actions: Actions) -> Actions {
    let at = |is: fn(&Action) -> bool| actions.iter().position(is);
    let shown = at(|action| matches!(action, Action::ShowLocal { .. }));
    let start = at(|action| matches!(action, Action::StartArrival { .. }));
    if let (Some(shown), Some(start)) = (shown, start)
        && shown < start
    {
        let arrival = actions.remove(start);
        actions.insert(shown, arrival);
    }
    actions
}

fn vlan_of(node: &Node, of_station: u16) -> u16 {
    node.learn.as_ref().map_or(of_station, |Learn { vlan, .. }| *vlan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrival_starts_before_its_node_is_shown_and_after_the_hold_ends() {
        let (release, show) = (Action::Release { port: 1 }, Action::ShowLocal { port: 1 });
        let (start, announce) =
            (Action::StartArrival { port: 1, from: Some(2) }, Action::Announce { to: 2, generation: 0 });
        let actions = vec![release, show, Action::Claim, start, announce];
        assert_eq!(arrival_first(actions), [release, start, show, Action::Claim, announce]);
        assert_eq!(arrival_first(vec![show, Action::Claim]), [show, Action::Claim]);
    }
}

//! Migrating nodes: connects the state machine of each node with what happens. Enters: events of vhost ports (rings,
//! dirty logging), stations of segments, updates of the board, in-band messages of other appliances, the time.
//! Leaves: modes of TX ports, records in the tables, requests to the board, end markers. `context` is what the
//! machines work on, `act` executes their actions, `board_events` processes the board's updates, `segment` handles
//! stations without a port of their own, `announce` sends to other appliances and segments, `endings` knows which old
//! paths are still to be ended, `release` ends the hold of a port, `vifs` adds and removes vifs, `report` counts.

mod act;
mod announce;
mod board_events;
mod context;
mod endings;
mod release;
mod report;
mod segment;
mod vifs;

use crate::control::plan::Facts;
use crate::migration::machine::{Event, Machine, NodeConfig, State};
use crate::migration::record::{EndMarkerBarrier, MigrationCounters, RecordMode};
use crate::migration::tx_hold::{HoldMode, PortMigration};
use crate::pipeline::{
    Learn,
    migration_egress::MigrationEvent,
    ports::{Port, Role},
};
use crate::tables::packed::Bd;
use announce::{Announcing, StandIn};
pub use board_events::BoardEvent;
pub use context::Driver;
use dpdk::cycles;
use endings::Endings;
use hashbrown::{HashMap, HashSet};
use release::Release;
use report::{CounterReading, Milestones};
use std::sync::{Arc, atomic::Ordering::Relaxed};
use stopover_bbs::model::Lock;
use stopover_config::appliance::Appliance;
use stopover_lockfree::epoch::Epoch;
use stopover_net::marker::Marker;
use stopover_net::{Mac, Vni};

/// How long an arrived node waits for the last sender's end markers, in milliseconds. Only frames of senders whose
/// markers are late wait, and each no longer than `marker_wait_ms`.
const ARRIVAL_MS: u64 = 2_000;
/// How long a node's frames are sent on from here at least, in milliseconds: end markers must join them in one queue.
const DRAINED_AFTER_MS: u64 = 100;
/// How long the end markers of all other hosts are waited for, in milliseconds. Frames that arrive later are sent on
/// too, but by any lcore that receives them.
const ENDED_AFTER_MS: u64 = 1_500;
/// For how long a node gets copies of its own of group frames after its lock has ended, in milliseconds: longer than
/// its new host waits for end markers, and its old one forwards.
const OWN_COPIES_MS: u64 = 3_000;
/// For how long after that other hosts may still send such copies, in milliseconds: they may learn later that the
/// lock has ended.
const OWN_COPIES_ELSEWHERE_MS: u64 = 10_000;
/// How long a stand-in MAC is still understood after its node has left, in milliseconds: longer than the last
/// announcement of the real one needs.
const STAND_IN_AFTER_MS: u64 = 3_000;

/// How often is read what reports no change.
const POLL_MS: u64 = 1;

/// A node's key.
pub type Key = (Bd, Mac);

/// A vif's port and the one node behind it.
#[derive(Debug)]
struct VifPort {
    key: Key,
    exact: bool,
    logging: bool,
    migration: Arc<PortMigration>,
}

impl VifPort {
    /// Whether the port is read every millisecond: vhost-user reports each change, other drivers do not.
    const fn is_polled(&self) -> bool {
        !self.exact
    }
}

/// When the copies of a node whose lock ended change next: copies from here end `until`, those of others later.
const fn copies_change_ms(now_ms: u64, until: u64) -> u64 {
    if now_ms < until { until } else { until + OWN_COPIES_ELSEWHERE_MS }
}

/// All nodes that are or may be migrating.
#[derive(Debug)]
pub struct Migrations {
    ports: HashMap<u16, VifPort>,
    nodes: HashMap<Key, Node>,
    /// Nodes whose lock has ended, and until when they get group frames as before.
    unlocked: HashMap<(Vni, Mac), u64>,
    /// Old paths that were ended recently.
    endings: Endings,
    /// Locks of the board, of all nodes.
    locks: HashMap<Key, Lock>,
    /// Nodes and locks that the current snapshot has not named yet.
    stale: Option<(HashSet<Key>, HashSet<Key>)>,
    hold_ms: u64,
    window_ms: u64,
    marker_wait_ms: u64,
    /// The counters of nodes that are not followed any more.
    past: CounterReading,
}

/// One node.
#[derive(Debug)]
struct Node {
    vni: Vni,
    machine: Machine,
    exact: bool,
    /// It is behind a segment, and followed only while it takes part in a migration.
    is_station: bool,
    /// Where it was seen, if it is behind a segment.
    learn: Option<Learn>,
    arrival: Option<Arc<EndMarkerBarrier>>,
    /// The arrival is over, and its record is removed when no frame waits any more. The epoch: when every lcore knows
    /// that no frame is to wait.
    closing: Option<Epoch>,
    announcing: Option<Announcing>,
    stand_in: Option<StandIn>,
    /// Hosts whose end markers have been sent on from here to the node's new host.
    old_path_ends: Option<EndMarkerBarrier>,
    /// Ports whose hold is being ended.
    releasing: Vec<Release>,
    forward_since_ms: Option<u64>,
    /// The mode of its record in the tables, and for which port.
    record_mode: Option<(u16, RecordMode)>,
    counters: Arc<MigrationCounters>,
    milestones: Milestones,
}

impl Migrations {
    /// `facts` and `ports` are in the order of the configuration's ports.
    #[must_use]
    pub fn new(config: &Appliance, facts: &[Facts], ports: &[Port]) -> Self {
        let mut migrations = Self {
            ports: HashMap::new(),
            nodes: HashMap::new(),
            unlocked: HashMap::new(),
            endings: Endings::default(),
            locks: HashMap::new(),
            stale: None,
            hold_ms: config.migration.hold_ms,
            window_ms: config.migration.window_ms,
            marker_wait_ms: config.migration.marker_wait_ms,
            past: CounterReading::default(),
        };
        for ((number, port), facts) in (0..).zip(ports).zip(facts) {
            if let Role::Vif(vif) = &port.role {
                migrations.add_vif(number, vif, facts.exact);
            }
        }
        migrations
    }

    fn node_config(&self, exact: bool, declared: Option<u16>) -> NodeConfig {
        NodeConfig { exact, declared, hold_ms: self.hold_ms, arrival_ms: ARRIVAL_MS, silent_ms: self.hold_ms }
    }

    /// A node's lock has ended. It gets group frames as before for a while: other hosts may not know yet, and its new
    /// host may still wait for end markers.
    pub fn unlocked(&mut self, now_ms: u64, vni: Vni, mac: Mac) {
        self.unlocked.insert((vni, mac), now_ms + OWN_COPIES_MS);
    }

    /// When something is due next, if nothing happens before. What a migration waits for can only be read, so while one
    /// is under way that is every millisecond; and so are vifs, see [`VifPort::is_polled`].
    #[must_use]
    pub fn next_timeout(&self, now_ms: u64) -> Option<u64> {
        let busy = || self.nodes.values().any(|node| node.is_busy() || node.is_finished());
        if self.ports.values().any(VifPort::is_polled) || !self.endings.is_empty() || busy() {
            return Some(now_ms + POLL_MS);
        }
        let deadlines = self.nodes.values().filter_map(|node| node.machine.next_deadline());
        let own_copies = self.unlocked.values().map(|until| copies_change_ms(now_ms, *until));
        deadlines.chain(own_copies).min()
    }

    /// The shared part of a vif's port; `None` for other ports.
    #[must_use]
    pub fn port(&self, port: u16) -> Option<Arc<PortMigration>> {
        self.ports.get(&port).map(|vif| Arc::clone(&vif.migration))
    }

    /// A host has ended its path through here: its end marker was sent on to the node's new host.
    fn on_relayed(&self, bd: Bd, marker: &Marker) {
        let node = self.nodes.get(&(bd, marker.node));
        if let Some(old_path_ends) = node.and_then(|node| node.old_path_ends.as_ref()) {
            old_path_ends.record_marker(marker);
        }
    }

    /// Whether the VM of this vif is migrating: it leaves, arrives, or its hold is not empty yet.
    #[must_use]
    pub fn is_migrating(&self, port: u16) -> bool {
        self.ports.get(&port).is_some_and(|vif| self.is_node_migrating(&vif.key))
    }

    /// The same of any node.
    #[must_use]
    pub fn is_node_migrating(&self, key: &Key) -> bool {
        self.locks.contains_key(key) || self.nodes.get(key).is_some_and(Node::is_busy)
    }

    /// Whether any node is migrating.
    #[must_use]
    pub fn is_any_migrating(&self) -> bool {
        self.nodes.values().any(Node::is_busy)
    }

    /// For how long copies are kept for replay, from the next start of a migration on.
    pub const fn set_window_ms(&mut self, window_ms: u64) {
        self.window_ms = window_ms;
    }

    /// Whether a migration's state machine follows this port's link.
    #[must_use]
    pub fn has_vif(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }
}

impl Node {
    fn new(vni: Vni, config: NodeConfig, counters: Arc<MigrationCounters>) -> Self {
        Self {
            vni,
            exact: config.exact,
            machine: Machine::new(config),
            is_station: false,
            learn: None,
            arrival: None,
            closing: None,
            announcing: None,
            stand_in: None,
            old_path_ends: None,
            releasing: Vec::new(),
            forward_since_ms: None,
            record_mode: None,
            counters,
            milestones: Milestones::default(),
        }
    }
}

impl Driver<'_> {
    /// Checks every vif: its link, and whether its VM is being migrated.
    pub fn watch_vifs(&mut self, now_ms: u64) {
        let ports: Vec<u16> = self.ports.handles().map(|(number, _)| number).collect();
        for port in ports {
            let Some(vif) = self.migrations.ports.get_mut(&port) else { continue };
            let key = vif.key;
            let Some(handle) = self.ports.handle(port) else { continue };
            let logs = handle.vhost.as_ref().is_some_and(|vhost| vhost.state().logs_dirty);
            let changed = handle.link_changed();
            let is_up = handle.up.load(Relaxed);
            // A removed device logs nothing; that is no sign that its migration was cancelled.
            let logging = (logs != vif.logging && (is_up || logs)).then_some(logs);
            if let Some(logs) = logging {
                vif.logging = logs;
            }
            if let Some(logs) = logging {
                self.event(now_ms, key, Event::Logging(port, logs));
            }
            if changed == Some(true) {
                self.vif_event(now_ms, key, port, Event::PortUp(port));
            }
            if changed == Some(false) {
                self.vif_event(now_ms, key, port, Event::PortDown(port));
                if let Some(vif) = self.migrations.ports.get_mut(&port) {
                    vif.logging = false;
                }
            }
        }
    }

    fn vif_event(&mut self, now_ms: u64, key: Key, port: u16, event: Event) {
        let up = matches!(event, Event::PortUp(_));
        let name = self.ports.name(port);
        log::info!(port = name, up; "port {name}: link {}", if up { "up" } else { "down" });
        if let Some(node) = self.migrations.nodes.get_mut(&key) {
            node.milestones.port(up, &node.counters);
        }
        self.event(now_ms, key, event);
    }

    /// Processes what an lcore has reported.
    pub fn on_lcore_event(&mut self, now_ms: u64, event: MigrationEvent) {
        match event {
            MigrationEvent::Station(learn) => self.on_station(now_ms, &learn),
            MigrationEvent::Arrived { bd, node, host, generation } => {
                self.event(now_ms, (bd, node), Event::Arrived { from: host, generation });
            }
            MigrationEvent::Relayed { bd, marker } => self.migrations.on_relayed(bd, &marker),
        }
    }

    /// Passes an event to a node's machine, and executes its actions.
    pub fn event(&mut self, now_ms: u64, key: Key, event: Event) {
        let own = self.replica.own_id();
        let Some(node) = self.migrations.nodes.get_mut(&key) else { return };
        if let Some(own) = own {
            node.machine.set_own(own);
        }
        let before = *node.machine.state();
        let actions = node.machine.on(now_ms, event);
        let after = *node.machine.state();
        if before != after {
            node.forward_since_ms = matches!(after, State::Forwarding { .. }).then_some(now_ms);
        }
        self.act_on(now_ms, key, actions);
        if before != after {
            self.flag(key);
            self.log_state(key, before, after);
        }
    }

    /// Marks in the tables whether a node migrates, by the board or by us, so that frames of it are reported where it
    /// is not.
    fn flag(&mut self, key: Key) {
        let migrations = self
            .migrations
            .nodes
            .get(&key)
            .is_some_and(|node| !matches!(node.machine.state(), State::Away | State::Here { .. }));
        self.tables.set_migrating_flag(key.0, key.1, migrations || self.migrations.locks.contains_key(&key));
    }

    /// Whether a node has arrived and its frames have arrived through its old host until just now: then end markers
    /// are still under way behind them, and the arrival is not over, even after its time.
    fn receives_by_old_path(&self, now_ms: u64, node: &Node) -> bool {
        let (State::Arriving { since, .. }, Some(arrival)) = (node.machine.state(), &node.arrival) else {
            return false;
        };
        let wait = cycles::tsc_hz() / 1000 * self.migrations.marker_wait_ms;
        let last = arrival.old_path_tsc.load(Relaxed);
        let lately = last != 0 && cycles::tsc().saturating_sub(last) < wait;
        lately && now_ms < since + self.migrations.hold_ms
    }

    /// Processes what is due: deadlines, drained holds, ended senders, announcements, reports.
    pub fn advance(&mut self, now_ms: u64) {
        self.send_endings(now_ms);
        self.expire_own_copies(now_ms);
        let due = |node: &Node| node.is_due(now_ms) || node.is_finished();
        let keys: Vec<Key> =
            self.migrations.nodes.iter().filter(|(_, node)| due(node)).map(|(key, _)| *key).collect();
        for key in keys {
            self.advance_node(now_ms, key);
        }
    }

    fn advance_node(&mut self, now_ms: u64, key: Key) {
        let Some(node) = self.migrations.nodes.get(&key) else { return };
        if node.machine.next_deadline().is_some_and(|due| due <= now_ms)
            && !self.receives_by_old_path(now_ms, node)
        {
            self.event(now_ms, key, Event::Tick);
        }
        if self.is_drained(now_ms, key) {
            self.event(now_ms, key, Event::Drained);
        }
        let Some(node) = self.migrations.nodes.get(&key) else { return };
        let arriving = matches!(node.machine.state(), State::Arriving { .. });
        if arriving && node.arrival.as_ref().is_some_and(|arrival| arrival.is_settled()) {
            self.event(now_ms, key, Event::Settled);
        }
        self.close_arrival(key);
        self.release_ports(now_ms, key);
        self.repeat_announcements(now_ms, key);
        self.send_report(now_ms, key);
        self.end_if_finished(key);
    }

    /// Ends the copies of group frames for nodes whose lock ended a while ago.
    fn expire_own_copies(&mut self, now_ms: u64) {
        let (replica, locks) = (&mut self.replica, &self.migrations.locks);
        self.migrations.unlocked.retain(|(vni, mac), until| {
            if now_ms < *until {
                return true;
            }
            if replica.bd_of(*vni).is_some_and(|bd| locks.contains_key(&(bd, *mac))) {
                return false;
            }
            replica.set_own_copies(*vni, *mac, false);
            let continues = now_ms < *until + OWN_COPIES_ELSEWHERE_MS;
            if !continues {
                replica.end_own_copies(*vni, *mac);
            }
            continues
        });
    }

    /// Whether all held frames of a node that has left have been sent on.
    fn is_drained(&self, now_ms: u64, key: Key) -> bool {
        let Some(node) = self.migrations.nodes.get(&key) else { return false };
        let Some(since) = node.forward_since_ms else { return false };
        let ended = node.old_path_ends.as_ref().is_none_or(EndMarkerBarrier::is_settled);
        let wait_ms = match (&node.stand_in, ended) {
            (Some(_), _) => STAND_IN_AFTER_MS,
            (None, true) => DRAINED_AFTER_MS,
            (None, false) => ENDED_AFTER_MS,
        };
        let of_ports = |key: Key| self.migrations.ports.values().filter(move |vif| vif.key == key);
        let is_empty = || {
            node.counters.held_now.load(Relaxed) == 0
                && of_ports(key).all(|vif| {
                    !matches!(vif.migration.mode(), HoldMode::Forward(_)) || vif.migration.is_empty()
                })
        };
        // Frames without a path to the new host keep the node here for a limited time only.
        let deadline = since + wait_ms;
        now_ms >= deadline && (is_empty() || now_ms >= deadline + self.migrations.hold_ms)
    }

    /// Removes an arrival's record once no frame waits for it.
    fn close_arrival(&mut self, (bd, mac): Key) {
        let Some(node) = self.migrations.nodes.get_mut(&(bd, mac)) else { return };
        let Some(known) = node.closing else { return };
        // An lcore that had just seen a sender as waited for may still hold a frame.
        if self.tables.passed(known) && node.arrival.as_ref().is_none_or(|arrival| arrival.is_settled()) {
            node.closing = None;
            node.arrival = None;
            node.record_mode = None;
            self.tables.end_migrating(bd, mac);
        }
    }

    /// Ends the hold of TX ports that hold nothing any more, or whose VM accepts nothing.
    fn release_ports(&mut self, now_ms: u64, key: Key) {
        let hold_ms = self.migrations.hold_ms;
        let Some(node) = self.migrations.nodes.get_mut(&key) else { return };
        let ports = &self.migrations.ports;
        let taken = node.counters.taken();
        node.releasing.retain_mut(|release| {
            let Some(vif) = ports.get(&release.port) else { return false };
            let migrations = &vif.migration;
            let is_empty = migrations.is_empty() && !release.awaits_markers(now_ms, migrations.relayed());
            let next = release.next_mode(now_ms, migrations.mode(), is_empty, taken, hold_ms);
            if next == Some(HoldMode::Discard) {
                log::warn!("no frame held for {} was sent for {hold_ms} ms: they are dropped", key.1);
            }
            if let Some(mode) = next {
                migrations.set(mode);
            }
            next != Some(HoldMode::Off)
        });
    }
}

impl Node {
    /// Whether it is a station that takes no part in a migration any more. An idle machine has no deadline.
    fn is_finished(&self) -> bool {
        self.is_station && self.machine.is_idle() && !self.is_busy()
    }

    /// Whether there is something to do now.
    fn is_due(&self, now_ms: u64) -> bool {
        self.is_busy() || self.machine.next_deadline().is_some_and(|due| due <= now_ms)
    }

    /// Whether it has to be checked in every round.
    fn is_busy(&self) -> bool {
        !matches!(self.machine.state(), State::Away | State::Here { .. })
            || self.closing.is_some()
            || self.announcing.is_some()
            || self.stand_in.is_some()
            || !self.releasing.is_empty()
            || self.milestones.is_due()
    }
}

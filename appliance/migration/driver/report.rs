//! Counters and times of a migration, reported to the board and to the operator.

use super::{Driver, Key, Migrations};
use crate::control::{effects::BoardRequest, ports::Ports, replica::Replica};
use crate::migration::hold::HoldPool;
use crate::migration::machine::State;
use crate::migration::record::{EndMarkerBarrier, MigrationCounters, RedirectTarget};
use dpdk::cycles;
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{SystemTime, UNIX_EPOCH},
};
use stopover_bbs::model::{Lock, Report};
use stopover_config::appliance as config;
use stopover_ctl::{self as ctl, LocalMigration, MigrationBudget};

/// How often a migration under way is reported, in milliseconds.
const REPORT_MS: u64 = 500;
/// How long an arrived node's first frame is waited for before its migration is reported for the last time.
const FIRST_FRAME_MS: u64 = 10_000;

/// When what happened, and the counters before it.
#[derive(Debug, Default)]
pub(super) struct Milestones {
    before: CounterReading,
    began: bool,
    report_due_ms: Option<u64>,
    since_ms: u64,
    arrived: bool,
    /// Its ring reports what it accepted.
    exact: bool,
    /// Our own end marker: TSC when it returned, and for how long the old host's ring had accepted nothing when it
    /// passed there, in microseconds. Zero: it has not returned.
    own_marker: (u64, u64),
    source_stopped_unix_us: u64,
    target_up_unix_us: u64,
    hold_drained_unix_us: u64,
    last_dirty_unix_us: u64,
}

/// A reading of a [`MigrationCounters`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CounterReading {
    held: u64,
    replayed: u64,
    redirected: u64,
    dropped: u64,
    uncopied: u64,
    reordered: u64,
    duplicated: u64,
}

impl CounterReading {
    pub fn read(counters: &MigrationCounters) -> Self {
        Self {
            held: counters.held.load(Relaxed),
            replayed: counters.replayed.load(Relaxed),
            redirected: counters.redirected.load(Relaxed),
            dropped: counters.dropped.load(Relaxed),
            uncopied: counters.uncopied.load(Relaxed),
            reordered: counters.reordered.load(Relaxed),
            duplicated: counters.duplicated.load(Relaxed),
        }
    }

    pub fn add(&mut self, more: Self) {
        self.held += more.held;
        self.replayed += more.replayed;
        self.redirected += more.redirected;
        self.dropped += more.dropped;
        self.uncopied += more.uncopied;
        self.reordered += more.reordered;
        self.duplicated += more.duplicated;
    }

    fn since(self, before: Self) -> Self {
        Self {
            held: self.held.wrapping_sub(before.held),
            replayed: self.replayed.wrapping_sub(before.replayed),
            redirected: self.redirected.wrapping_sub(before.redirected),
            dropped: self.dropped.wrapping_sub(before.dropped),
            uncopied: self.uncopied.wrapping_sub(before.uncopied),
            reordered: self.reordered.wrapping_sub(before.reordered),
            duplicated: self.duplicated.wrapping_sub(before.duplicated),
        }
    }
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn us(cycles: u64) -> u64 {
    cycles / (cycles::tsc_hz() / 1_000_000).max(1)
}

impl Milestones {
    /// A migration begins here, unless one is under way already.
    pub fn begin(&mut self, now_ms: u64, counters: &MigrationCounters) {
        if std::mem::replace(&mut self.began, true) {
            return;
        }
        let target_up_unix_us = self.target_up_unix_us;
        *self = Self {
            before: CounterReading::read(counters),
            began: true,
            since_ms: now_ms,
            target_up_unix_us,
            ..Self::default()
        };
        counters.restart();
    }

    /// The node has arrived here; `exact`: whether its port is exact.
    pub fn set_arrived(&mut self, exact: bool) {
        (self.arrived, self.exact) = (true, exact);
    }

    /// The node's port has gone up or down.
    pub fn port(&mut self, up: bool, counters: &MigrationCounters) {
        let now = unix_us();
        if up {
            self.target_up_unix_us = now;
            return;
        }
        self.source_stopped_unix_us = now;
        // Every frame that the ring accepted was written into the guest's memory: the last one was our last dirty
        // page.
        let delivered = counters.delivered_tsc.load(Relaxed);
        if delivered != 0 {
            self.last_dirty_unix_us = now.saturating_sub(us(cycles::tsc().saturating_sub(delivered)));
        }
    }

    /// No frame waits any more where the node has arrived.
    pub fn record_settled(&mut self, arrival: &EndMarkerBarrier) {
        self.own_marker =
            (arrival.own_marker_returned_tsc.load(Relaxed), u64::from(arrival.paused_us.load(Relaxed)));
    }

    /// The time between the last frame that the old host's ring accepted and the first that ours did; 0: not known.
    fn gap_us(&self, counters: &MigrationCounters) -> u64 {
        let ((own_marker, paused), first) = (self.own_marker, counters.first_tsc.load(Relaxed));
        if own_marker == 0 || first == 0 || paused == 0 {
            0
        } else if first > own_marker {
            paused + us(first - own_marker)
        } else {
            paused.saturating_sub(us(own_marker - first))
        }
    }

    /// Whether the node has arrived and its ring, full of older frames, has accepted nothing yet.
    fn waits_for_ring(&self, now_ms: u64, counters: &MigrationCounters) -> bool {
        self.exact
            && self.arrived
            && counters.first_tsc.load(Relaxed) == 0
            && now_ms < self.since_ms + FIRST_FRAME_MS
    }

    /// All held frames have been sent on.
    pub fn set_drained(&mut self) {
        self.hold_drained_unix_us = unix_us();
    }

    /// The migration is over here; it is to be reported.
    pub fn end(&mut self) {
        self.report_due_ms = Some(0);
        self.began = false;
    }

    /// Whether a report will be due.
    pub const fn is_due(&self) -> bool {
        self.report_due_ms.is_some()
    }

    fn report(&self, counters: &MigrationCounters) -> Report {
        let counted = CounterReading::read(counters).since(self.before);
        let arrived = |at: u64| if self.arrived { at } else { 0 };
        let left = |at: u64| if self.arrived { 0 } else { at };
        Report {
            held: counted.held,
            replayed: counted.replayed,
            redirected: counted.redirected,
            dropped: counted.dropped,
            reordered: counted.reordered,
            duplicated: counted.duplicated,
            longest_gap_us: self.gap_us(counters).max(us(counters.longest_gap.load(Relaxed))),
            last_dirty_unix_us: left(self.last_dirty_unix_us),
            source_stopped_unix_us: left(self.source_stopped_unix_us),
            target_up_unix_us: arrived(self.target_up_unix_us),
            hold_drained_unix_us: left(self.hold_drained_unix_us),
        }
    }
}

impl Migrations {
    /// The counters of all migrations since the start: metric, help, count.
    pub fn totals(&self) -> [(&'static str, &'static str, u64); 7] {
        let mut sum = self.past;
        for node in self.nodes.values() {
            sum.add(CounterReading::read(&node.counters));
        }
        [
            ("migration_held", "Frames put into the hold", sum.held),
            ("migration_replayed", "Held frames delivered or sent on", sum.replayed),
            ("migration_redirected", "Frames sent on without being held", sum.redirected),
            ("migration_dropped", "Frames that migrations lost", sum.dropped),
            ("migration_uncopied", "Delivered frames not copied because there was no room", sum.uncopied),
            ("migration_reordered", "Frames released before their end marker", sum.reordered),
            ("migration_duplicated", "Copies replayed from windows", sum.duplicated),
        ]
    }
}

impl Driver<'_> {
    /// Reports a migration to the board: now and then while it is under way, and when it has ended.
    pub(super) fn send_report(&mut self, now_ms: u64, key: Key) {
        let Some(node) = self.migrations.nodes.get_mut(&key) else { return };
        let Some(lock) = node.machine.migration() else { return };
        let active = !matches!(node.machine.state(), State::Here { .. } | State::Away);
        match node.milestones.report_due_ms {
            Some(due) if due <= now_ms => {}
            None if active => {
                node.milestones.report_due_ms = Some(now_ms + REPORT_MS);
                return;
            }
            _ => return,
        }
        let continues = active || node.milestones.waits_for_ring(now_ms, &node.counters);
        node.milestones.report_due_ms = continues.then_some(now_ms + REPORT_MS);
        let report = node.milestones.report(&node.counters);
        let Lock { migration, generation, .. } = lock;
        self.request(BoardRequest::Report { migration, generation, report });
    }

    /// Logs the state of a node in one line for the operator.
    pub(super) fn log_state(&mut self, key: Key, before: State, after: State) {
        let Some(node) = self.migrations.nodes.get_mut(&key) else { return };
        let counted = CounterReading::read(&node.counters).since(node.milestones.before);
        if matches!(before, State::Forwarding { .. }) {
            node.milestones.set_drained();
        }
        let (vni, mac) = (node.vni.get(), key.1);
        let what = format!("node {mac} in VNI {vni}");
        let port = |port: u16| self.ports.name(port);
        let host =
            |host: u32| self.replica.host(host).map_or_else(|| host.to_string(), |r| r.host.name.to_string());
        match after {
            State::Leaving { port: at } => log::info!(vni, mac:%; "{what} is about to leave {}", port(at)),
            State::Paused { .. } => log::info!(vni, mac:%; "{what} has stopped: its frames are held"),
            State::Forwarding { to: RedirectTarget::Host(to), .. } => {
                log::info!(vni, mac:%; "{what} runs at {}: its held frames are sent there", host(to));
            }
            State::Forwarding { to: RedirectTarget::Port(to), .. } => {
                log::info!(vni, mac:%; "{what} runs behind {}", port(to))
            }
            State::Arriving { port: at, from, .. } => {
                let from = from.map_or_else(|| "elsewhere".to_owned(), host);
                log::info!(vni, mac:%; "{what} has arrived at {} from {from}", port(at));
            }
            State::Expected { port: at, .. } => {
                log::info!(vni, mac:%; "{what} is expected behind {}", port(at))
            }
            State::Here { .. } | State::Away => match before {
                State::Here { .. } | State::Away => {}
                _ => log::info!(
                    vni, mac:%; "{what}: migration over here; held {}, sent on {}, dropped {}, possibly reordered {}",
                    counted.held,
                    counted.replayed + counted.redirected,
                    counted.dropped,
                    counted.reordered
                ),
            },
        }
    }
}

impl Migrations {
    /// All migrating nodes, for the operator.
    #[must_use]
    pub fn show(
        &self,
        now_ms: u64,
        config: &config::Migration,
        hold: &HoldPool,
        (replica, ports): (&Replica, &Ports),
    ) -> ctl::Migrations {
        let budget = MigrationBudget {
            hold_bytes: hold.total_bytes() as u64,
            hold_free_bytes: hold.free_bytes() as u64,
            hold_node_bytes: config.hold_node_bytes as u64,
            hold_ms: config.hold_ms,
            window_ms: config.window_ms,
            marker_wait_ms: config.marker_wait_ms,
        };
        let mut nodes: Vec<_> =
            self.nodes.keys().filter_map(|key| self.show_node(now_ms, *key, replica, ports)).collect();
        nodes.sort_by_key(|node| (node.vni, node.mac));
        for node in &mut nodes {
            node.hold_limit_bytes = budget.hold_node_bytes;
        }
        ctl::Migrations { budget, nodes }
    }

    fn show_node(&self, now_ms: u64, key: Key, replica: &Replica, ports: &Ports) -> Option<LocalMigration> {
        let node = self.nodes.get(&key)?;
        let state = *node.machine.state();
        let lock = node.machine.migration();
        let quiet = matches!(state, State::Here { .. } | State::Away);
        if quiet && lock.is_none() && node.milestones.since_ms == 0 {
            return None;
        }
        let report = node.milestones.report(&node.counters);
        let (to, word) = match state {
            State::Away => (None, "away"),
            State::Here { .. } => (None, "here"),
            State::Leaving { .. } => (None, "leaving"),
            State::Paused { .. } => (None, "paused"),
            State::Forwarding { to: RedirectTarget::Host(host), .. } => (replica.host(host), "forwarding"),
            State::Forwarding { .. } => (None, "forwarding"),
            State::Arriving { .. } => (None, "arriving"),
            State::Expected { .. } => (None, "expected"),
        };
        let port = node.machine.port().and_then(|port| ports.handle(port));
        Some(LocalMigration {
            vni: node.vni,
            mac: key.1,
            port: port.map(|port| port.name.clone()).unwrap_or_default(),
            state: word.to_owned(),
            migration: lock.map(|lock| lock.migration),
            generation: lock.map(|lock| lock.generation),
            exact: node.exact,
            to: to.map(|record| record.host.name.to_string()),
            held_now_frames: node.counters.held_now.load(Relaxed),
            held_now_bytes: node.counters.held_now_bytes.load(Relaxed),
            held: report.held,
            replayed: report.replayed,
            redirected: report.redirected,
            dropped: report.dropped,
            reordered: report.reordered,
            duplicated: report.duplicated,
            longest_gap_us: report.longest_gap_us,
            hold_limit_bytes: 0,
            since_ms: now_ms.saturating_sub(node.milestones.since_ms),
        })
    }
}

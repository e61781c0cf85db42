//! The control thread: keeps the tables in step with the board, the ports with their devices, the underlay
//! with its neighbours, and answers the operator. It may wait and allocate; the lcores never wait for it.
//!
//! `start` builds everything and `Control::run` is the thread; `replica` holds the board's truth, `stations`
//! this host's own, and `segment_frames` talks to them; `ports` watches devices; `show`, `rows`, `trace` and `metrics`
//! answer what `server` and `lists` were asked.

mod addresses;
pub mod declared;
pub mod lineage;
pub mod lists;
pub mod loops;
pub mod metrics;
pub mod migration;
pub mod mtu;
pub mod paths;
pub mod plan;
pub mod ports;
pub mod replica;
pub mod rows;
mod segment_frames;
mod segments;
pub mod server;
pub mod show;
pub mod start;
pub mod station_limits;
pub mod stations;
#[cfg(test)]
mod tests;
pub mod trace;
mod vhost_sockets;

use crate::lcore::{capture::Capture, counters::LcoreReading, egress::Order, events::DataplaneEvent};
use crate::migration::hold::HoldPool;
use crate::pipeline::ports::Port;
use crate::tables::{Full, ParkedView, Tables};
use crate::underlay::{Actions, Underlay};
use crossbeam::channel::{Receiver, Select};
use dpdk::{Mbuf, Mempool};
use stopover_lockfree::epoch::Epoch;

use loops::Loops;
use migration::Migrations;
use ports::{LcoreHandle, PortHandle};
use replica::{Effect, Replica, ReplicaCtx};
use server::PendingRequest;
use station_limits::Full as LimitReached;
use stations::{ClaimUpdate, Stations};
use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use stopover_bbs::client::{Change, Claim, MigrationUpdate, NodeBatch, Session, Update};
use stopover_config::appliance::Appliance;

/// How often rings are emptied when nothing else wakes the thread: the delay of a ping of the VTEP.
const TICK: Duration = Duration::from_millis(1);
/// How soon it is looked again whether every lcore has passed what was published, and how often before that is left
/// to the millisecond: a lcore at work passes within a few microseconds, one that the system does not let run may
/// take long.
const EPOCH_POLL: Duration = Duration::from_micros(50);
const MAX_EPOCH_POLLS: u32 = 20;
/// How often devices are asked for their link.
const LINK_EVERY_MS: u64 = 20;
/// How often silent stations are looked for.
const AGE_EVERY_MS: u64 = 500;
/// A start that takes longer is worth a line in the log.
const SLOW_START: Duration = Duration::from_secs(1);
/// Updates of the board that are applied before the next look at everything else.
const UPDATES_PER_ROUND: usize = 64;

/// The way from a connection to tables that are in step with the board.
pub(crate) struct Syncing {
    since: Instant,
    /// The snapshot's revision, once it is complete.
    until: Option<Received>,
}

impl Syncing {
    fn begin() -> Self {
        Self { since: Instant::now(), until: None }
    }
}

/// A revision of the board, and the number of the watch that it was received on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Received {
    stream: u64,
    revision: u64,
}

/// Everything the control thread owns. Built by [`start`].
pub struct Control {
    pub(crate) config: Appliance,
    pub(crate) began: Instant,
    pub(crate) dpdk: String,
    pub(crate) tables: Tables,
    pub(crate) replica: Replica,
    pub(crate) stations: Stations,
    pub(crate) loops: Loops,
    pub(crate) underlay: Underlay,
    pub(crate) stage_ports: Arc<[Port]>,
    pub(crate) ports: Vec<PortHandle>,
    pub(crate) lcores: Vec<LcoreHandle>,
    pub(crate) pool: Mempool,
    pub(crate) session: Option<Session>,
    pub(crate) updates: Receiver<Update>,
    /// What the board answers to what was said of migrations.
    pub(crate) migration_events: Receiver<MigrationUpdate>,
    /// A port has something to tell.
    pub(crate) wakes: Receiver<()>,
    pub(crate) hold: Arc<HoldPool>,
    pub(crate) migrations: Migrations,
    pub(crate) requests: Receiver<PendingRequest>,
    pub(crate) _socket: server::Socket,
    pub(crate) capture: Arc<Capture>,
    pub(crate) trace_view: Option<ParkedView>,
    pub(crate) waiting_trace: Option<trace::Waiting>,
    /// Revisions whose tables are published, oldest first, until every lcore has passed them.
    pub(crate) pending_epochs: VecDeque<(Epoch, Received)>,
    /// A snapshot is wanted or under way.
    pub(crate) syncing: Option<Syncing>,
    /// How often it was looked for whether they have, since the last pause of a whole [`TICK`].
    pub(crate) epoch_polls: u32,
    /// The watch that updates come from.
    pub(crate) stream: u64,
    pub(crate) applied: Received,
    pub(crate) acked: Received,
    /// A whole state of the board has been received: there is something to forward by.
    pub(crate) has_snapshot: bool,
    /// When what a snapshot of another branch did not name is forgotten.
    pub(crate) stale_until_ms: Option<u64>,
    /// Such snapshots so far.
    pub(crate) other_branches: u64,
    /// Each lcore's counters when they were last cleared.
    pub(crate) cleared: Vec<LcoreReading>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) link_due_ms: u64,
    pub(crate) age_due_ms: u64,
}

impl Control {
    /// Works until told to stop. Leaves the lcores running; see [`Control::shut_down`].
    pub fn run(&mut self) {
        while !self.stop.load(Relaxed) {
            self.wait();
            self.round();
        }
    }

    /// Waits for whatever comes first: a question, a port, the board, or a millisecond.
    fn wait(&mut self) {
        let mut select = Select::new();
        select.recv(&self.requests);
        select.recv(&self.wakes);
        select.recv(&self.updates);
        let polling = !self.pending_epochs.is_empty() && self.epoch_polls < MAX_EPOCH_POLLS;
        self.epoch_polls = if polling { self.epoch_polls + 1 } else { 0 };
        // An error means that the time is over.
        let _ = select.ready_timeout(if polling { EPOCH_POLL } else { TICK });
        drop(select);
        let _ = self.wakes.try_recv();
        if let Ok(pending) = self.requests.try_recv() {
            self.answer(pending);
        }
    }

    fn round(&mut self) {
        let now_ms = self.now_ms();
        self.drain_lcore_events(now_ms);
        self.watch_vifs(now_ms);
        if now_ms >= self.link_due_ms {
            self.link_due_ms = now_ms + LINK_EVERY_MS;
            self.watch_links(now_ms);
        }
        if now_ms >= self.age_due_ms {
            self.age_due_ms = now_ms + AGE_EVERY_MS;
            let claim_updates = self.stations.age(&mut self.tables, now_ms);
            self.send_claims(claim_updates);
            self.on_station_removals(now_ms);
            self.report_full(now_ms);
            self.ask_for_addresses();
        }
        self.stations.admit(now_ms);
        self.watch_loops(now_ms);
        if self.underlay.next_tick(now_ms) <= now_ms {
            let actions = self.underlay.tick(now_ms);
            self.run_underlay_actions(actions);
        }
        self.apply_updates(now_ms);
        self.remove_stale(now_ms);
        self.advance_migrations(now_ms);
        self.publish();
        self.finish_trace(now_ms);
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Empties the rings of the lcores.
    fn drain_lcore_events(&mut self, now_ms: u64) {
        for at in 0..self.lcores.len() {
            let rings = self.lcores[at].rings.clone();
            for _ in 0..rings.events.capacity() {
                let Some(event) = rings.events.pop() else { break };
                match event {
                    DataplaneEvent::Station(learn) => self.on_station(now_ms, &learn),
                    DataplaneEvent::Loop { port, vlan } => self.on_loop(now_ms, port, vlan),
                    DataplaneEvent::Router(seen) => self.on_router(&seen),
                    DataplaneEvent::Ended { bd, marker } => self.on_end(bd, &marker),
                    DataplaneEvent::Arrived { bd, node, host, generation } => {
                        self.on_arrived(now_ms, bd, node, host, generation);
                    }
                }
            }
            for _ in 0..rings.to_control.capacity() {
                let Some((port, packet)) = rings.to_control.pop() else { break };
                let bytes: Vec<u8> = packet.segment_slices().flatten().copied().collect();
                let actions = self.underlay.input(now_ms, usize::from(port), &bytes);
                self.run_underlay_actions(actions);
            }
            for _ in 0..rings.probes.capacity() {
                let Some((port, packet)) = rings.probes.pop() else { break };
                let bytes: Vec<u8> = packet.segment_slices().flatten().copied().collect();
                self.on_probe(now_ms, port, &bytes);
            }
        }
    }

    /// Says which ports and networks have all the stations that they may have.
    fn report_full(&mut self, now_ms: u64) {
        for full in self.stations.take_full(now_ms) {
            match full {
                LimitReached::Port(port) => log::warn!(
                    "port {}: it has as many stations as `max_stations` allows; frames of further ones are dropped as station_limit",
                    self.port_name(port)
                ),
                LimitReached::Rate(port) => log::warn!(
                    "port {}: more new stations than `new_stations_per_s` allows; frames of some are dropped as station_limit",
                    self.port_name(port)
                ),
                LimitReached::Addresses(port) => log::warn!(
                    "port {}: its stations announce new addresses faster than twice `new_stations_per_s`; some are not learned until they are announced again (stopover_segment_addresses_refused_total)",
                    self.port_name(port)
                ),
                LimitReached::Bd(bd) => log::warn!(
                    "network {}: it has as many stations here as `max_network_stations` allows; frames of further ones are dropped as station_limit",
                    self.stations.vni(bd).map_or_else(|| "?".to_owned(), |vni| vni.to_string())
                ),
            }
        }
    }

    fn watch_links(&mut self, now_ms: u64) {
        for number in 0..self.ports.len() {
            if self.migrations.has_vif(number as u16) {
                continue;
            }
            let Some(up) = self.ports[number].link_changed() else { continue };
            let port = number as u16;
            let name = &self.ports[number].name;
            log::info!(port = name, up; "port {name}: link {}", if up { "up" } else { "down" });
            self.replica.port(port, up);
            self.segment_link(now_ms, port, up);
            let claim_updates = self.stations.port(&mut self.tables, now_ms, port, up);
            self.send_claims(claim_updates);
            self.on_station_removals(now_ms);
            if self.ports[number].is_underlay {
                let actions = self.underlay.link(now_ms, number, up);
                self.run_underlay_actions(actions);
            }
        }
    }

    /// Whether ports run.
    #[must_use]
    pub fn forwards(&self) -> bool {
        !self.lcores.is_empty()
    }

    /// Waits for the board's first snapshot, for as long as it takes, and answers the operator meanwhile. False: told
    /// to stop.
    pub(crate) fn await_snapshot(&mut self) -> bool {
        let began = Instant::now();
        let mut warned = false;
        while !self.has_snapshot {
            if self.stop.load(Relaxed) {
                return false;
            }
            if !warned && began.elapsed() > SLOW_START {
                log::warn!("the board's first snapshot is not here: nothing is forwarded before it is");
                warned = true;
            }
            self.wait();
            self.apply_updates(self.now_ms());
            self.publish();
        }
        if warned {
            log::info!("the board's first snapshot is here, {} s after the start", began.elapsed().as_secs());
        }
        true
    }

    /// Leaves the board, and takes what comes here as if that had sent it.
    pub fn replace_board(&mut self, updates: Receiver<Update>) {
        if let Some(session) = self.session.take() {
            session.stop();
        }
        self.updates = updates;
    }

    /// Takes what the board has sent.
    fn apply_updates(&mut self, now_ms: u64) {
        for _ in 0..UPDATES_PER_ROUND {
            let Ok(update) = self.updates.try_recv() else { return };
            self.apply_update(now_ms, update);
        }
    }

    pub(crate) fn apply_update(&mut self, now_ms: u64, update: Update) {
        match update {
            Update::Connected { stream } => {
                self.stream = stream;
                self.syncing = Some(Syncing::begin());
            }
            // The session has logged why.
            Update::Disconnected { .. } => log::info!("forwarding goes on as it is without the board"),
            Update::SnapshotBegin { revision, other_branch } => {
                self.syncing.get_or_insert_with(Syncing::begin);
                self.migrations.begin_snapshot();
                self.replica.begin_snapshot(&mut self.tables, other_branch);
                if other_branch {
                    self.on_other_branch(revision);
                }
            }
            Update::SnapshotEnd { revision } => {
                let effects = self.with_replica(Replica::end_snapshot);
                self.apply_effects(now_ms, effects);
                self.end_migrations_snapshot(now_ms);
                self.has_snapshot = true;
                self.applied = Received { stream: self.stream, revision };
                if let Some(syncing) = &mut self.syncing {
                    syncing.until = Some(self.applied);
                }
            }
            Update::Apply { revision, changes } => {
                for change in changes {
                    self.check_mtu(&change);
                    let event = migration::BoardEvent::of(&change);
                    let effects = self.with_replica(|replica, ctx| replica.apply(ctx, change));
                    self.apply_effects(now_ms, effects);
                    if let Some(event) = event {
                        self.on_board_event(now_ms, event);
                    }
                }
                // Part of a snapshot is no revision that could be acknowledged.
                if self.replica.is_whole() {
                    self.applied = Received { stream: self.stream, revision };
                    // No snapshot was needed.
                    self.syncing.take_if(|syncing| syncing.until.is_none());
                }
            }
            Update::Nodes { batches, .. } => batches.iter().for_each(|batch| self.apply_nodes(now_ms, batch)),
            Update::Refused { claim, why } => {
                let Claim { vni, mac, .. } = claim;
                let claim_updates = self.stations.refused(&mut self.tables, now_ms, vni, mac, &why);
                self.send_claims(claim_updates);
                self.on_station_removals(now_ms);
            }
            Update::Accepted { vni, mac, addresses } => {
                self.stations.accepted(&mut self.tables, now_ms, vni, mac, addresses);
                if let Some(bd) = self.replica.bd_of(vni) {
                    self.on_local_station(now_ms, (bd, mac));
                }
            }
            Update::NodeMoved { vni, mac } => self.station_moved(now_ms, vni, mac),
            Update::AddressesMoved { vni, mac, ips } => {
                self.stations.addresses_moved(&mut self.tables, now_ms, vni, mac, &ips);
            }
        }
    }

    /// Warns of a network whose declared MTU does not fit an underlay port, when that is news.
    pub(crate) fn check_mtu(&self, change: &Change) {
        let Change::NetworkPut(network) = change else { return };
        if self.replica.mtu_of(network.vni).is_none_or(|known| known == network.mtu) {
            return;
        }
        for (port, at) in self.config.ports.iter().zip(&*self.stage_ports) {
            let inside = mtu::inside(&port.role, at.mtu);
            if let Some(why) = mtu::does_not_fit(network.vni, network.mtu, &port.name, &inside) {
                log::warn!("{why}");
            }
        }
    }

    /// Applies nodes of a snapshot.
    fn apply_nodes(&mut self, now_ms: u64, batch: &NodeBatch) {
        let on_full = |full: Full| log::error!("{full}; frames for it are treated as for an unknown node");
        let effects = self.with_replica(|replica, ctx| replica.put_nodes(ctx, batch, on_full));
        self.apply_effects(now_ms, Ok(effects));
        let Some(bd) = self.replica.bd_of(batch.vni) else { return };
        for node in
            batch.nodes.iter().filter(|node| self.migrations.concerns((bd, node.mac))).collect::<Vec<_>>()
        {
            self.on_board_event(now_ms, migration::BoardEvent::node_at(batch.vni, node.mac, node.host_id));
        }
    }

    pub(crate) fn with_replica<R>(&mut self, f: impl FnOnce(&mut Replica, &mut ReplicaCtx) -> R) -> R {
        let stage_ports = &self.stage_ports;
        let routable = |ip: IpAddr| paths::has_family(stage_ports, ip);
        let mut ctx = ReplicaCtx { tables: &mut self.tables, stations: &self.stations, routable: &routable };
        f(&mut self.replica, &mut ctx)
    }

    pub(crate) fn apply_effects(&mut self, now_ms: u64, effects: Result<Vec<Effect>, Full>) {
        let effects = match effects {
            Ok(effects) => effects,
            Err(full) => return log::error!("{full}; frames for it are treated as for an unknown node"),
        };
        for effect in effects {
            match effect {
                Effect::Track(ip, udp_port) => {
                    let actions = self.underlay.track(now_ms, ip, udp_port);
                    self.run_underlay_actions(actions);
                    self.refresh(ip);
                }
                Effect::Untrack(ip, udp_port) => self.underlay.untrack(now_ms, ip, udp_port),
                Effect::Unlocked { vni, mac } => self.migrations.unlocked(now_ms, vni, mac),
                Effect::Moved { vni, mac, from } => self.end_old_path(now_ms, vni, mac, from),
            }
        }
    }

    /// Tells the board what this host wishes.
    pub(crate) fn send_claims(&mut self, claim_updates: Vec<ClaimUpdate>) {
        for claim_update in claim_updates {
            match claim_update {
                ClaimUpdate::Claim { vni, mac, ips } => {
                    let claim = self.stations.to_claim(vni, mac, ips);
                    if let Some(session) = &self.session {
                        session.claim(claim);
                    }
                }
                ClaimUpdate::Withdraw { vni, mac } => {
                    if let Some(session) = &self.session {
                        session.withdraw(vni, mac);
                    }
                }
            }
        }
    }

    /// Does what the underlay asks for.
    pub(crate) fn run_underlay_actions(&mut self, actions: Actions) {
        for event in actions.events {
            log::warn!("underlay: {event}");
        }
        for (port, frame) in actions.send {
            self.send(port, &frame);
        }
        for (ip, _) in actions.resolved {
            self.refresh(ip);
        }
        for ip in actions.lost {
            self.refresh(ip);
        }
    }

    /// Gives a frame to the lcore that sends for this port. Lost when its ring or the pool is exhausted, as
    /// a frame may be: the underlay asks again.
    fn send(&self, port: usize, frame: &[u8]) {
        let Some(lcore) = self.ports.get(port).and_then(|p| self.lcores.get(p.sender)) else { return };
        if let Some(packet) = Mbuf::from_slice(&self.pool, frame) {
            let _ = lcore.rings.from_control.push(Order::Frame(port as u16, packet));
        }
    }

    /// Publishes what has changed, and tells the board when every lcore forwards by it.
    pub(crate) fn publish(&mut self) {
        if let Err(full) = self.replica.publish(&mut self.tables) {
            log::error!("{full}");
        }
        let epoch = self.tables.publish();
        if self.pending_epochs.back().map_or(self.acked, |(_, received)| *received) != self.applied {
            self.pending_epochs.push_back((epoch, self.applied));
        }
        while let Some((epoch, received)) = self.pending_epochs.front().copied() {
            if !self.tables.passed(epoch) {
                break;
            }
            self.pending_epochs.pop_front();
            self.acked = received;
            self.log_synchronised();
            if let Some(session) = &self.session {
                session.ack(received.stream, received.revision);
            }
        }
    }

    /// Says when a snapshot has come into force.
    fn log_synchronised(&mut self) {
        let in_force = |syncing: &mut Syncing| syncing.until.is_some_and(|until| self.acked >= until);
        if let Some(syncing) = self.syncing.take_if(in_force) {
            log::info!(
                "in step with the board at revision {}: {} nodes, {} ms after the connection",
                self.acked.revision,
                self.tables.len(),
                syncing.since.elapsed().as_millis()
            );
        }
    }

    /// Stops the lcores and, after them, the ports; says goodbye to the board.
    pub fn shut_down(mut self) {
        log::info!("stopping");
        if let Some(session) = self.session.take() {
            session.stop();
        }
        self.lcores.clear();
        for port in &self.ports {
            if let Err(e) = port.device.stop() {
                log::warn!("port {}: {e}", port.name);
            }
        }
    }
}

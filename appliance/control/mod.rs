//! The control thread: keeps the tables in step with the board, the ports with their devices, and the underlay with
//! its neighbours, and answers the operator. It may wait and allocate; the lcores never wait for it.
//!
//! `start` builds everything and `Control::run` is the thread: a loop over subsystems, which own their state, take
//! events and return `effects`, which `execute` executes. The subsystems: `ports` are the devices and the lcores,
//! `replica` is the board's state, `stations` this host's own, `loops` finds loops through segments, `underlay` is
//! the crate's module of that name, migrating nodes are followed by the crate's `migration::driver`, `board_link` is
//! the session with the board, `api` has the operator's requests, `changes` those that change the configuration,
//! `checkpoint` keeps what is forwarded by in a file, `host_key` is this host's key pair. `device_events` has ports whose
//! devices are reset or removed. `tunnels` has the keys of encrypted tunnels, `tunnel_link` connects it,
//! `cut_overs` has nodes that move while their frames are sealed. `take_over` has a process take the place of another. `board_updates` applies what the board sends; `show`, `rows`, `trace` and `metrics` answer
//! requests for `server` and `lists`; `reports` are log lines.

mod addresses;
mod api;
mod board_link;
mod board_updates;
mod changes;
mod checkpoint;
mod config_requests;
pub mod connect;
pub mod cut_overs;
pub mod declared;
pub mod device_events;
pub mod device_state;
pub mod devices;
pub mod effects;
mod execute;
mod host_key;
pub mod lists;
pub mod loops;
pub mod metrics;
pub mod mtu;
pub mod numa;
mod open_files;
pub mod paths;
pub mod plan;
pub mod port_changes;
pub mod ports;
pub mod queue_moves;
pub mod replica;
mod reports;
pub mod request;
pub mod rows;
pub mod server;
pub mod show;
mod sleeps;
pub mod source;
pub mod spread;
pub mod start;
pub mod station_limits;
pub mod stations;
pub mod take_over;
#[cfg(test)]
mod tests;
pub mod trace;
mod tunnel_link;
pub mod tunnels;
mod vhost_sockets;

use crate::lcore::events::DataplaneEvent;
use crate::migration::{driver::Migrations, hold::HoldPool};
use crate::pipeline::{RouterSeen, ports::Role};
use crate::tables::Tables;
use crate::underlay::Underlay;
use anyhow::Result;
use crossbeam::channel::Select;
use dpdk::Eal;

use api::Api;
use board_link::BoardLink;
use changes::Changes;
use checkpoint::Checkpoints;
use cut_overs::CutOvers;
use declared::HostIds;
use device_events::DeviceEvents;
use loops::Loops;
use port_changes::PortChanges;
use ports::Ports;
use queue_moves::QueueMoves;
use replica::Replica;
use stations::Stations;
use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use stopover_config::appliance::Appliance;
use take_over::Successor;
use tunnels::Tunnels;

/// The longest sleep: `stop` wakes nobody.
const MAX_SLEEP: Duration = Duration::from_millis(100);

/// Datagrams of handshakes of one lcore that are processed in one round: each can take 0.2 ms.
const HANDSHAKES_PER_ROUND: usize = 32;

/// Everything the control thread owns. Built by [`start`].
pub struct Control {
    pub(crate) config: Appliance,
    pub(crate) began: Instant,
    pub(crate) tables: Tables,
    pub(crate) replica: Replica,
    pub(crate) stations: Stations,
    pub(crate) loops: Loops,
    pub(crate) underlay: Underlay,
    pub(crate) ports: Ports,
    pub(crate) board: BoardLink,
    pub(crate) hold: Arc<HoldPool>,
    pub(crate) migrations: Migrations,
    pub(crate) api: Api,
    pub(crate) changes: Changes,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) host_ids: HostIds,
    pub(crate) device_events: DeviceEvents,
    pub(crate) port_changes: PortChanges,
    pub(crate) queue_moves: QueueMoves,
    pub(crate) tunnels: Option<Tunnels>,
    pub(crate) cut_overs: CutOvers,
    /// VTEP addresses that are not resolved yet, of hosts that are sent to at another until a time; in the order of these.
    pub(crate) kept_paths: VecDeque<(u64, IpAddr)>,
    pub(crate) stop: Arc<AtomicBool>,
    /// The process that takes over.
    pub(crate) successor: Option<Successor>,
    /// Rounds of its loop.
    pub(crate) rounds: u64,
    /// The last field: everything made from it is dropped before.
    pub(crate) eal: Eal,
}

impl Control {
    /// Runs until `stop` is set, or another process takes over. The lcores keep running; see [`Control::shut_down`].
    pub fn run(&mut self) {
        while !self.stop.load(Relaxed) && !self.gives_way() {
            self.wait();
            self.round();
            self.rounds += 1;
        }
    }

    /// Sleeps until a request, a port, an lcore or the board has something, or a subsystem's time has come; answers
    /// the request.
    fn wait(&mut self) {
        let now_ms = self.now_ms();
        let until_due = self.next_timeout(now_ms).map_or(MAX_SLEEP, |due_ms| {
            // What a round has left to do waits for a moment.
            Duration::from_millis(due_ms.saturating_sub(now_ms).max(1)).min(MAX_SLEEP)
        });
        let most = [self.board.epoch_poll(), self.ports.begin_sleep(now_ms)];
        let sleep = most.into_iter().flatten().fold(until_due, Duration::min);
        let mut select = Select::new();
        select.recv(self.api.requests());
        select.recv(self.ports.events());
        select.recv(self.board.updates());
        select.recv(self.board.replies());
        select.recv(self.changes.stored());
        select.recv(self.checkpoints.done());
        // An error is a timeout.
        let _ = select.ready_timeout(sleep);
        drop(select);
        self.ports.end_sleep(self.now_ms());
        if let Ok(pending) = self.api.requests().try_recv() {
            self.answer(pending);
        }
        self.continue_change();
    }

    /// When the first subsystem has something to do, if nothing happens before.
    fn next_timeout(&self, now_ms: u64) -> Option<u64> {
        let due_ms = [
            self.ports.next_timeout(),
            self.device_events.next_timeout(),
            self.stations.next_timeout(),
            self.loops.next_timeout(),
            Some(self.underlay.next_tick(now_ms)),
            self.migrations.next_timeout(now_ms),
            self.board.next_timeout(),
            self.api.next_timeout(now_ms),
            self.checkpoints.next_timeout(now_ms),
            self.next_spread(),
            self.kept_paths.front().map(|(due_ms, _)| *due_ms),
            self.tunnel_timeout(now_ms),
            self.cut_overs.next_timeout(),
        ];
        due_ms.into_iter().flatten().min()
    }

    fn round(&mut self) {
        let now_ms = self.now_ms();
        self.drain_lcore_events(now_ms);
        self.drain_device_events(now_ms);
        self.spread_queues_by_load(now_ms);
        self.advance_port_changes(now_ms);
        self.give_back_networks(now_ms);
        self.continue_change();
        self.migrate(now_ms, |migrations| migrations.watch_vifs(now_ms));
        self.watch_links(now_ms);
        let effects = self.stations.tick(&mut self.tables, now_ms);
        self.execute(now_ms, effects);
        let effects = self.loops.tick(now_ms);
        self.execute(now_ms, effects);
        if self.underlay.next_tick(now_ms) <= now_ms {
            let actions = self.underlay.tick(now_ms);
            self.execute_underlay(now_ms, actions);
        }
        self.apply_updates(now_ms);
        self.end_kept_paths(now_ms);
        self.remove_stale(now_ms);
        while let Some(reply) = self.board.next_reply() {
            self.migrate(now_ms, |migrations| migrations.on_board_reply(now_ms, reply));
        }
        self.migrate(now_ms, |migrations| migrations.advance(now_ms));
        self.serve_tunnels(now_ms);
        self.publish();
        self.write_checkpoint(now_ms);
        self.finish_trace(now_ms);
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Processes the events and frames in the lcores' rings.
    fn drain_lcore_events(&mut self, now_ms: u64) {
        for rings in self.ports.rings() {
            for _ in 0..rings.events.capacity() {
                let Some(event) = rings.events.pop() else { break };
                match event {
                    DataplaneEvent::Station(learn) => {
                        self.migrate(now_ms, |migrations| migrations.on_station(now_ms, &learn));
                    }
                    DataplaneEvent::Loop { port, vlan } => {
                        let effect = self.loops.suspect(now_ms, port, vlan);
                        self.execute(now_ms, effect);
                    }
                    DataplaneEvent::Router(seen) => self.on_router(now_ms, &seen),
                    DataplaneEvent::Migration(event) => {
                        self.migrate(now_ms, |migrations| migrations.on_lcore_event(now_ms, event));
                    }
                    DataplaneEvent::Wanted(tunnel) => self.on_wanted_tunnel(now_ms, tunnel),
                    DataplaneEvent::UnknownSpi(from) => self.on_unknown_spi(now_ms, from),
                    DataplaneEvent::CameFrom { bd, mac, peer } => self.on_came_from(now_ms, bd, mac, peer),
                    DataplaneEvent::Refused(peer) => self.on_refused(now_ms, peer),
                }
            }
            for _ in 0..rings.to_control.capacity() {
                let Some((port, packet)) = rings.to_control.pop() else { break };
                let bytes: Vec<u8> = packet.segment_slices().flatten().copied().collect();
                let actions = self.underlay.input(now_ms, usize::from(port), &bytes);
                self.execute_underlay(now_ms, actions);
            }
            for _ in 0..HANDSHAKES_PER_ROUND {
                let Some((port, packet)) = rings.handshakes.pop() else { break };
                let bytes: Vec<u8> = packet.segment_slices().flatten().copied().collect();
                self.on_handshake(now_ms, port, &bytes);
            }
            for _ in 0..rings.probes.capacity() {
                let Some((port, packet)) = rings.probes.pop() else { break };
                let bytes: Vec<u8> = packet.segment_slices().flatten().copied().collect();
                self.on_probe(now_ms, port, &bytes);
            }
        }
    }

    /// A segment port received a frame for the address of loop probes.
    fn on_probe(&mut self, now_ms: u64, port: u16, frame: &[u8]) {
        let replica = &self.replica;
        let knows = |name: &_| replica.hosts_from(0).any(|(_, record)| record.host.name == *name);
        let effects = self.loops.on_probe(now_ms, port, frame, knows);
        self.execute(now_ms, effects);
    }

    /// A node is an IPv6 router, or is not.
    fn on_router(&mut self, now_ms: u64, seen: &RouterSeen) {
        if self.tables.is_remote(seen.bd, seen.mac) {
            return self.tables.set_router(seen.bd, seen.ip, seen.mac, seen.router);
        }
        let effect = self.stations.router(&mut self.tables, seen);
        self.execute(now_ms, effect);
    }

    /// Guests have negotiated other offloads than those of before: what a guest does not do is done before it gets a
    /// frame.
    fn follow_guests(&mut self) {
        for (number, port) in self.ports.changed_offloads() {
            let name = self.ports.name(number);
            let takes = |takes| if takes { "takes" } else { "does not take" };
            let (checksums, segments) = (takes(port.fills_checksums), takes(port.segments_tcp));
            log::debug!(port = name; "port {name}: its guest {checksums} unfinished checksums and {segments} uncut segments");
            self.give_stage(number, port);
        }
    }

    /// Reads the links that are due.
    fn watch_links(&mut self, now_ms: u64) {
        if !self.ports.are_due(now_ms) {
            return;
        }
        self.follow_guests();
        for (port, up) in self.ports.changed_links(|port| self.migrations.has_vif(port)) {
            let name = self.ports.name(port);
            log::info!(port = name, up; "port {name}: link {}", if up { "up" } else { "down" });
            self.replica.port(port, up);
            let effects = self.loops.link(now_ms, port, up);
            self.execute(now_ms, effects);
            let effects = self.stations.port(&mut self.tables, now_ms, port, up);
            self.execute(now_ms, effects);
            if matches!(self.ports.role(port), Some(Role::Underlay(_))) {
                let actions = self.underlay.link(now_ms, usize::from(port), up);
                self.execute_underlay(now_ms, actions);
            }
            if !up {
                self.check_removed(now_ms, port);
            }
        }
    }

    /// Reads all links, before lcores run: what is known of guests and of the underlay is in the tables then. What is to be
    /// sent for that is lost, and repeated.
    pub(crate) fn look_at_ports(&mut self) {
        let now_ms = self.now_ms();
        self.migrate(now_ms, |migrations| migrations.watch_vifs(now_ms));
        self.watch_links(now_ms);
        self.publish();
    }

    /// Whether ports run: the appliance forwards.
    #[must_use]
    pub fn forwards(&self) -> bool {
        self.ports.are_running()
    }

    /// Ends the session with the board, then stops the lcores, then the ports; or gives them to the process that takes over.
    ///
    /// # Errors
    /// That process is not there any more.
    pub fn shut_down(mut self) -> Result<()> {
        if let Some(successor) = self.take_successor() {
            return self.give_way(successor);
        }
        log::info!("stopping");
        self.write_last_checkpoint();
        self.board.close();
        self.ports.shut_down();
        Ok(())
    }
}

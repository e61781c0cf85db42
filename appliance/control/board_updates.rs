//! Updates of the board: applies what the session received, and acknowledges a revision once every lcore forwards by
//! it. Enters: snapshots, changes, answers to claims. Leaves: changed tables, claims, acknowledgements, and what the
//! underlay has to resolve.

use super::{
    Control, mtu,
    replica::{Replica, ReplicaCtx},
};
use crate::migration::driver::BoardEvent;
use crate::tables::Full;
use crossbeam::channel::Receiver;
use std::{
    net::IpAddr,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};
use stopover_bbs::client::{Change, Claim, NodeBatch, Update};

/// A start that takes longer is logged.
const SLOW_START: Duration = Duration::from_secs(1);
/// Most updates of the board that are applied in one round.
const UPDATES_PER_ROUND: usize = 64;

impl Control {
    /// Waits for the board's first snapshot without a limit, and answers the operator meanwhile. Returns false if it
    /// is stopped.
    pub(crate) fn await_snapshot(&mut self) -> bool {
        let began = Instant::now();
        let mut warned = false;
        while !self.board.has_snapshot() {
            if self.stop.load(Relaxed) {
                return false;
            }
            if !warned && began.elapsed() > SLOW_START {
                log::warn!(
                    "the board's first snapshot is not in the tables: nothing is forwarded before it is"
                );
                warned = true;
            }
            self.wait();
            self.apply_updates(self.now_ms());
            self.publish();
        }
        if warned {
            log::info!(
                "the board's first snapshot has arrived, {} s after the start",
                began.elapsed().as_secs()
            );
        }
        true
    }

    /// Ends the session with the board, and takes updates from this channel instead.
    pub fn replace_board(&mut self, updates: Receiver<Update>) {
        self.board.replace(updates);
    }

    /// Applies what the board has sent.
    pub(crate) fn apply_updates(&mut self, now_ms: u64) {
        for _ in 0..UPDATES_PER_ROUND {
            let Some(update) = self.board.next_update() else { return };
            self.apply_update(now_ms, update);
        }
    }

    pub(crate) fn apply_update(&mut self, now_ms: u64, update: Update) {
        match update {
            Update::Connected { stream } => self.board.on_connected(stream),
            // The session has logged why.
            Update::Disconnected { .. } => log::info!("forwarding continues unchanged without the board"),
            Update::SnapshotBegin { revision, other_branch } => {
                self.board.begin_snapshot();
                self.migrations.begin_snapshot();
                self.replica.begin_snapshot(&mut self.tables, other_branch);
                if other_branch {
                    self.on_other_branch(revision);
                }
            }
            Update::SnapshotEnd { revision } => self.end_snapshot(now_ms, revision),
            Update::Apply { revision, changes } => self.apply_changes(now_ms, revision, changes),
            Update::Nodes { batches, .. } => batches.iter().for_each(|batch| self.apply_nodes(now_ms, batch)),
            Update::Refused { claim, why } => {
                let Claim { vni, mac, .. } = claim;
                let effects = self.stations.refused(&mut self.tables, now_ms, vni, mac, &why);
                self.execute(now_ms, effects);
            }
            Update::Accepted { vni, mac, addresses } => {
                self.stations.accepted(&mut self.tables, now_ms, vni, mac, addresses);
                if let Some(bd) = self.replica.bd_of(vni) {
                    self.migrate(now_ms, |migrations| migrations.on_local_station(now_ms, (bd, mac)));
                }
            }
            Update::NodeMoved { vni, mac } => {
                let effects = self.stations.node_moved(&mut self.tables, now_ms, vni, mac);
                self.execute(now_ms, effects);
            }
            Update::AddressesMoved { vni, mac, ips } => {
                self.stations.addresses_moved(&mut self.tables, now_ms, vni, mac, &ips);
            }
        }
    }

    /// A snapshot is complete: the tables hold the state of the board at its revision.
    fn end_snapshot(&mut self, now_ms: u64, revision: u64) {
        self.cut_overs.all_decided();
        let effects = self.with_replica(Replica::end_snapshot);
        self.execute_or_log(now_ms, effects);
        self.migrate(now_ms, |migrations| migrations.end_snapshot(now_ms));
        self.board.end_snapshot(revision);
    }

    pub(crate) fn apply_changes(&mut self, now_ms: u64, revision: u64, changes: Vec<Change>) {
        for change in changes {
            self.check_mtu(&change);
            let event = BoardEvent::of(&change);
            match &change {
                Change::NodePut { node, .. } => self.on_node_decided(node.vni, node.mac),
                Change::NodeGone { vni, mac, .. } => self.on_node_decided(*vni, *mac),
                _ => {}
            }
            let effects = self.with_replica(|replica, ctx| replica.apply(ctx, change));
            self.execute_or_log(now_ms, effects);
            if let Some(event) = event {
                self.migrate(now_ms, |migrations| migrations.on_board_event(now_ms, event));
            }
        }
        // Part of a snapshot is no revision that could be acknowledged.
        if self.replica.is_whole() {
            self.board.on_applied(revision);
        }
    }

    /// Warns of a network whose declared MTU does not fit an underlay port, if the MTU is new.
    pub(crate) fn check_mtu(&self, change: &Change) {
        let Change::NetworkPut(network) = change else { return };
        if self.replica.mtu_of(network.vni).is_none_or(|known| known == network.mtu) {
            return;
        }
        for (number, port) in self.ports.wanted() {
            let Some(at) = self.ports.stage().get(usize::from(number)) else { continue };
            let inside = mtu::inside(&port.role, at.mtu, self.tunnels.is_some());
            if let Some(why) = mtu::does_not_fit(network.vni, network.mtu, &port.name, &inside) {
                log::warn!("{why}");
            }
        }
    }

    /// Applies nodes of a snapshot.
    pub(crate) fn apply_nodes(&mut self, now_ms: u64, batch: &NodeBatch) {
        let on_full = |full: Full| log::error!("{full}; frames for it are treated as for an unknown node");
        let effects = self.with_replica(|replica, ctx| replica.put_nodes(ctx, batch, on_full));
        self.execute(now_ms, effects);
        let Some(bd) = self.replica.bd_of(batch.vni) else { return };
        for node in
            batch.nodes.iter().filter(|node| self.migrations.concerns((bd, node.mac))).collect::<Vec<_>>()
        {
            self.migrate(now_ms, |migrations| {
                migrations.on_board_event(now_ms, BoardEvent::node_at(batch.vni, node.mac, node.host_id))
            });
        }
    }

    pub(crate) fn with_replica<R>(&mut self, f: impl FnOnce(&mut Replica, &mut ReplicaCtx) -> R) -> R {
        let ports = &self.ports;
        let routable = |ip: IpAddr| ports.has_family(ip);
        let mut ctx = ReplicaCtx { tables: &mut self.tables, stations: &self.stations, routable: &routable };
        f(&mut self.replica, &mut ctx)
    }

    /// A snapshot of another branch begins.
    pub(crate) fn on_other_branch(&mut self, revision: u64) {
        self.board.on_other_branch();
        log::warn!(
            "the board's snapshot at revision {revision} is of another history than what is forwarded (last revision \
             {}): its store was restored from a backup, or it is another board. What it does not name is \
             kept for {} ms, for hosts to claim it again",
            self.board.revision(),
            self.config.stale_ms
        );
    }

    /// Removes, after its time, what a snapshot of another branch did not name and no host has claimed since.
    pub(crate) fn remove_stale(&mut self, now_ms: u64) {
        if !self.replica.has_stale() || !self.board.is_stale_over(now_ms) {
            return;
        }
        let before = self.tables.len();
        let effects = self.with_replica(Replica::remove_stale);
        self.execute_or_log(now_ms, effects);
        let removed = before.saturating_sub(self.tables.len());
        log::warn!(
            "{removed} nodes are removed that the board does not know: no host has claimed them again"
        );
    }

    /// Publishes changed tables, and acknowledges to the board what every lcore forwards by.
    pub(crate) fn publish(&mut self) {
        if let Err(full) = self.replica.publish(&mut self.tables) {
            log::error!("{full}");
        }
        self.board.on_published(self.tables.publish());
        let nodes = self.tables.len();
        self.board.acknowledge(|epoch| self.tables.passed(epoch), nodes);
    }
}

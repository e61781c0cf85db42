//! Replay: what an lcore does each round with frames and end markers that wait for migrating nodes. Enters: the holds of
//! its transmit ports, its reorder buffer, its end markers. Leaves: held frames, to a device that accepts frames again,
//! to the host where the node is now, or to the node that has arrived; markers that nothing is in front of any more. A
//! few dozen frames a round, so that the frames of other nodes are not delayed.

use super::{
    hold::HeldKind,
    record::{MigrationRecord, RecordMode, RedirectTarget},
    reorder::QueueAction,
    tx_hold::{HoldMode, TxHold},
};
use crate::lcore::{
    egress::LcoreEgress,
    tx_port::{OwnQueue, TxPort},
};
use crate::pipeline::{
    PacketCtx, Pipeline,
    drop_reason::DropReason,
    packet_counters::add,
    ports::{Network, Origin, Role},
    tracer::NoTrace,
};
use crate::tables::{packed::FdbEntry, peer::Peer};
use dpdk::{Mbuf, cycles};
use std::sync::atomic::Ordering::Relaxed;
use stopover_lockfree::barrier::Ring;
use stopover_net::Mac;
use stopover_net::{
    frame,
    marker::{self, Relay},
};

/// Most frames taken from one hold in one round.
const FRAMES_PER_ROUND: usize = 64;
/// A held frame has no source host any more: it is sent on at most once, and never answered.
const FROM_HOLD: Origin = Origin::Underlay { peer: Peer::new(u32::MAX), hop: true, apart: 0 };

/// The node that the frames are for.
#[derive(Clone, Copy)]
struct Node {
    network: Network,
    mac: Mac,
    /// Where it is here, or was.
    port: u16,
    vlan: u16,
}

/// Where a held frame goes.
#[derive(Clone, Copy)]
enum Onward {
    /// Into the device of its port, out of the hold of that port: not behind the frames that are still held.
    Device,
    /// To its port, as any frame.
    Port,
    /// To where its node is now.
    Target(RedirectTarget),
}

/// The stages of an lcore.
type LcorePipeline<'a> = Pipeline<'a, LcoreEgress, NoTrace>;

/// Sends held frames on: those for the nodes behind `vifs`, whose transmit queue is this lcore's, and those of its
/// reorder buffer. Returns how many frames were moved.
#[inline]
pub fn replay_held(pipeline: &mut LcorePipeline<'_>, vifs: &[u16]) -> usize {
    let mut work = 0;
    for port in vifs {
        if let Some(tx_hold) = pipeline.tx_hold_in_use(*port) {
            let mode = tx_hold.migration.mode();
            work += pipeline.replay_port(*port, mode);
        }
    }
    if pipeline.egress.reorder.is_due(pipeline.egress.now) {
        work += pipeline.replay_reordered();
    }
    work
}

/// Processes the end markers of this round: those that were handed over, the barrier, those that waited for it.
#[cold]
pub fn release_markers(pipeline: &mut LcorePipeline<'_>) -> usize {
    let mut moved = 0;
    while let Some((port, network, packet)) = pipeline.egress.markers.pop_handed() {
        moved += 1;
        pipeline.handle_marker_at_port(packet, network, port);
    }
    let tx_ports = &pipeline.egress.tx_ports;
    let ring = |port| match tx_ports.get(port) {
        Some(TxPort::Own(queue)) => {
            let len = queue.handoff.as_ref().map_or(0, |ring| ring.len());
            Ring { taken: queue.taken, len }
        }
        _ => Ring::default(),
    };
    let waits = |port| match tx_ports.get(port) {
        Some(TxPort::Other(other)) => other.waiting(),
        _ => Ring::default(),
    };
    pipeline.egress.markers.barrier.end_round(ring, waits);
    pipeline.egress.markers.request_ticket();
    while let Some((network, packet)) = pipeline.egress.markers.pop_parked() {
        moved += 1;
        pipeline.counters.release(1);
        pipeline.forward_marker(packet, network);
    }
    moved + pipeline.record_reached()
}

impl LcorePipeline<'_> {
    fn own_queue(&self, port: u16) -> Option<&OwnQueue> {
        self.egress.own_queue(port).map(|(queue, _)| queue)
    }

    /// The hold of a port that this lcore sends from, if it is in use.
    #[inline]
    fn tx_hold_in_use(&self, port: u16) -> Option<&TxHold> {
        self.own_queue(port)?.tx_hold.as_deref().filter(|tx_hold| tx_hold.is_on())
    }

    #[cold]
    fn replay_port(&mut self, port: u16, mode: HoldMode) -> usize {
        let Some(Role::Vif(vif)) = self.ports.get(usize::from(port)).map(|p| &p.role) else { return 0 };
        let node = Node { network: vif.network, mac: vif.mac, port, vlan: 0 };
        match mode {
            HoldMode::Discard => 0,
            HoldMode::Off | HoldMode::Hold => self.replay_to_device(port, node),
            HoldMode::Forward(target) => self.replay_to_target(port, node, target),
        }
    }

    fn replay_to_device(&mut self, port: u16, node: Node) -> usize {
        let Some(TxPort::Own(queue)) = self.egress.tx_ports.get_mut(usize::from(port)) else { return 0 };
        if !queue.may_replay() {
            self.note_old_path(node.network, node.mac);
            return 0;
        }
        let mut moved = 0;
        while moved < FRAMES_PER_ROUND
            && let Some((packet, kind)) = self.take_held(port)
        {
            moved += 1;
            self.replay(packet, kind, node, Onward::Device);
        }
        moved
    }

    fn take_held(&mut self, port: u16) -> Option<(Mbuf, HeldKind)> {
        match self.egress.tx_ports.get_mut(usize::from(port)) {
            Some(TxPort::Own(queue)) => queue.take_held(&self.egress.pool.0, self.counters),
            _ => None,
        }
    }

    fn replay_to_target(&mut self, port: u16, node: Node, target: RedirectTarget) -> usize {
        let (to, mut moved) = (Onward::Target(target), 0);
        while moved < FRAMES_PER_ROUND
            && self.can_send(to)
            && let Some((packet, kind)) = self.take_held(port)
        {
            moved += 1;
            if kind == HeldKind::Marker
                && let Some(tx_hold) = self.own_queue(port).and_then(|queue| queue.tx_hold.as_ref())
                && let Ok(marker) = marker::parse(packet.head())
            {
                tx_hold.migration.marker_relayed(marker.host);
            }
            self.replay(packet, kind, node, to);
        }
        moved
    }

    /// Whether frames can be sent there now. Held frames can wait; sent now, they would be lost.
    fn can_send(&self, to: Onward) -> bool {
        let port = match to {
            Onward::Device | Onward::Port => return true,
            Onward::Target(RedirectTarget::Port(port)) => port,
            Onward::Target(RedirectTarget::Host(host)) => match self.view.path_to(Peer::new(host)) {
                Some(path) => path.port,
                None => return false,
            },
        };
        !self.egress.is_congested(port)
    }

    #[cold]
    fn replay_reordered(&mut self) -> usize {
        let (mut moved, mut expired, mut at, mut all_wait) = (0, 0, 0, true);
        while at < self.egress.reorder.len() {
            let action = self.egress.reorder.next_action(at, self.view, self.egress.now, &mut expired);
            all_wait &= action == QueueAction::Wait;
            moved += self.replay_queue(at, action);
            if !self.egress.reorder.end_if_empty(at) {
                at += 1;
            }
        }
        self.egress.reorder.schedule_check(self.egress.now, all_wait);
        self.counters.release(expired);
        self.counters.drop(DropReason::WindowOver, expired);
        moved
    }

    fn replay_queue(&mut self, at: usize, action: QueueAction) -> usize {
        let to = match action {
            QueueAction::Wait => return 0,
            QueueAction::Deliver => Onward::Port,
            QueueAction::Forward(target) => Onward::Target(target),
        };
        let Some(w) = self.egress.reorder.get(at) else { return 0 };
        let network = Network { bd: w.bd, vni: w.vni };
        let node = Node { network, mac: w.mac, port: w.port, vlan: w.vlan };
        let mut moved = 0;
        while moved < FRAMES_PER_ROUND
            && self.can_send(to)
            && let Some((packet, kind)) = self.egress.reorder.take(at, &self.egress.pool.0)
        {
            self.counters.release(1);
            moved += 1;
            self.replay(packet, kind, node, to);
        }
        moved
    }

    /// Sends a held frame on.
    fn replay(&mut self, packet: Mbuf, kind: HeldKind, node: Node, to: Onward) {
        let Node { network, mac, port, vlan } = node;
        match (kind, to) {
            (HeldKind::Marker, Onward::Target(RedirectTarget::Host(host))) => {
                // A port with a hold in use: its host ends its own path when the node has left.
                let ends = self.tx_hold_in_use(port).is_some();
                let relay = Relay { paused_us: self.paused_us(port), ends };
                return self.relay_marker(packet, network, Peer::new(host), relay);
            }
            (HeldKind::Marker, _) => return self.record_behind_guest(packet, network, port),
            (HeldKind::Frame | HeldKind::Straggler, _) => {}
        }
        let frame = match frame::parse(packet.head(), packet.len()) {
            Ok(frame) => frame,
            Err(bad) => return self.drop(packet, bad.into()),
        };
        let ctx =
            PacketCtx { packet, frame, bd: network.bd, vni: network.vni, origin: FROM_HOLD, priority: 0 };
        match to {
            Onward::Target(target) => self.redirect(ctx, mac, target, vlan),
            Onward::Port => self.deliver(ctx, port, vlan),
            Onward::Device => self.deliver_by(ctx, port, vlan, LcoreEgress::put_replayed),
        }
    }

    /// Records an end marker, as soon as the guest has taken what is in front of it.
    fn record_behind_guest(&mut self, packet: Mbuf, network: Network, port: u16) {
        match self.egress.queue_behind_guest(packet, network, port) {
            Ok(()) => add(&self.counters.held, 1),
            Err(packet) => self.record_marker(packet, network),
        }
    }

    /// Records the end markers that guests have reached. Returns how many.
    fn record_reached(&mut self) -> usize {
        let mut moved = 0;
        for _ in 0..self.egress.markers.behind_guests().min(FRAMES_PER_ROUND) {
            let Some(mut marker) = self.egress.markers.pop_behind_guest() else { break };
            if let Some(ahead) = self.egress.still_ahead(&marker) {
                marker.ahead = ahead;
                if let Ok(of) = marker::parse(marker.packet.head()) {
                    self.note_old_path(marker.network, of.node);
                }
                self.egress.markers.push_behind_guest(marker);
            } else {
                moved += 1;
                self.counters.release(1);
                self.record_marker(marker.packet, marker.network);
            }
        }
        moved
    }

    /// What came by the old host of a node that has arrived is still on its way to the guest: direct frames wait longer.
    fn note_old_path(&self, network: Network, node: Mac) {
        if let Some(FdbEntry::Migrating { index, .. }) = self.view.fdb_entry(network.bd, node)
            && let Some(MigrationRecord { mode: RecordMode::Arriving(arrival), .. }) =
                self.view.migrating(index)
        {
            arrival.note_old_path_frame(self.egress.now);
        }
    }

    /// For how long a vif's ring has accepted nothing.
    fn paused_us(&self, port: u16) -> u32 {
        let tx_hold = self.own_queue(port).and_then(|queue| queue.tx_hold.as_ref());
        let Some(tx_hold) = tx_hold else { return 0 };
        match tx_hold.migration.counters.delivered_tsc.load(Relaxed) {
            0 => 0,
            delivered => {
                let us = cycles::tsc().saturating_sub(delivered) / (cycles::tsc_hz() / 1_000_000).max(1);
                u32::try_from(us).unwrap_or(u32::MAX)
            }
        }
    }
}

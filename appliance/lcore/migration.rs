//! What an lcore does each round for migrating nodes: sends held frames to a device that accepts frames again, to the
//! host where the node is now, or to the node that has arrived. A few dozen frames a round, so that the frames of
//! other nodes are not delayed.

use super::{egress::LcoreEgress, tx_port::TxPort, worker::Worker};
use crate::migration::hold::Class;
use crate::migration::record::RedirectTarget;
use crate::migration::reorder::QueueAction;
use crate::migration::tx_hold::Mode;
use crate::pipeline::{
    PacketCtx, Pipeline,
    drop_reason::DropReason,
    ports::{Origin, Role},
    tracer::NoTrace,
};
use crate::tables::peer::Peer;
use dpdk::{Mbuf, cycles};
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
    network: crate::pipeline::ports::Network,
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

impl Worker {
    /// One round. Returns how many frames were moved.
    #[inline]
    pub(super) fn drain_holds(&mut self) -> usize {
        let mut work = 0;
        for at in 0..self.vifs.len() {
            let port = self.vifs[at];
            if let Some(TxPort::Own(queue)) = self.egress.tx_ports.get(usize::from(port))
                && let Some(tx_hold) = &queue.tx_hold
                && tx_hold.is_on()
            {
                let mode = tx_hold.migration.mode();
                work += self.drain_port(port, mode);
            }
        }
        if self.egress.reorder.is_due(self.egress.now) {
            work += self.drain_reorder();
        }
        work
    }

    #[cold]
    fn drain_port(&mut self, port: u16, mode: Mode) -> usize {
        let Some(Role::Vif(vif)) = self.ports.get(usize::from(port)).map(|p| &p.role) else { return 0 };
        let node = Node { network: vif.network, mac: vif.mac, port, vlan: 0 };
        match mode {
            Mode::Discard => 0,
            Mode::Off | Mode::Hold => self.drain_to_device(port, node),
            Mode::Forward(target) => self.drain_to_target(port, node, target),
        }
    }

    fn drain_to_device(&mut self, port: u16, node: Node) -> usize {
        let Some(TxPort::Own(queue)) = self.egress.tx_ports.get_mut(usize::from(port)) else { return 0 };
        if !queue.may_drain() {
            return 0;
        }
        let mut moved = 0;
        while moved < FRAMES_PER_ROUND
            && let Some((packet, class)) = self.take_held(port)
        {
            moved += 1;
            self.release(packet, class, node, Onward::Device);
        }
        moved
    }

    fn take_held(&mut self, port: u16) -> Option<(Mbuf, Class)> {
        match self.egress.tx_ports.get_mut(usize::from(port)) {
            Some(TxPort::Own(queue)) => queue.take_held(&self.egress.pool.0, &self.counters.packets),
            _ => None,
        }
    }

    fn drain_to_target(&mut self, port: u16, node: Node, target: RedirectTarget) -> usize {
        let (to, mut moved) = (Onward::Target(target), 0);
        while moved < FRAMES_PER_ROUND
            && self.can_send(to)
            && let Some((packet, class)) = self.take_held(port)
        {
            moved += 1;
            let Some(TxPort::Own(queue)) = self.egress.tx_ports.get(usize::from(port)) else { continue };
            if class == Class::Marker
                && let Some(tx_hold) = &queue.tx_hold
                && let Ok(marker) = marker::parse(packet.head())
            {
                tx_hold.migration.marker_passed(marker.host);
            }
            self.release(packet, class, node, to);
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
    fn drain_reorder(&mut self) -> usize {
        let (mut moved, mut expired, mut at, mut all_wait) = (0, 0, 0, true);
        while at < self.egress.reorder.len() {
            let action = self.egress.reorder.next_action(at, &self.view, self.egress.now, &mut expired);
            all_wait &= action == QueueAction::Wait;
            moved += self.drain_queue(at, action);
            if !self.egress.reorder.end_if_empty(at) {
                at += 1;
            }
        }
        self.egress.reorder.schedule_check(self.egress.now, all_wait);
        self.counters.packets.release(expired);
        self.counters.packets.drop(DropReason::WindowOver, expired);
        moved
    }

    fn drain_queue(&mut self, at: usize, action: QueueAction) -> usize {
        let to = match action {
            QueueAction::Wait => return 0,
            QueueAction::Deliver => Onward::Port,
            QueueAction::Forward(target) => Onward::Target(target),
        };
        let Some(w) = self.egress.reorder.get(at) else { return 0 };
        let network = crate::pipeline::ports::Network { bd: w.bd, vni: w.vni };
        let node = Node { network, mac: w.mac, port: w.port, vlan: w.vlan };
        let mut moved = 0;
        while moved < FRAMES_PER_ROUND
            && self.can_send(to)
            && let Some((packet, class)) = self.egress.reorder.take(at, &self.egress.pool.0)
        {
            self.counters.packets.release(1);
            moved += 1;
            self.release(packet, class, node, to);
        }
        moved
    }

    /// Processes the end markers of this round: those that were handed over, the barrier, those that waited for it.
    #[cold]
    pub(super) fn end_markers(&mut self) -> usize {
        let mut moved = 0;
        while let Some((port, network, packet)) = self.egress.markers.pop_handed() {
            moved += 1;
            self.pipeline(&mut NoTrace).handle_marker_at_port(packet, network, port);
        }
        let tx_ports = &self.egress.tx_ports;
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
        self.egress.markers.barrier.end_round(ring, waits);
        self.egress.markers.request_ticket();
        while let Some((network, packet)) = self.egress.markers.pop_parked() {
            moved += 1;
            self.counters.packets.release(1);
            self.pipeline(&mut NoTrace).forward_marker(packet, network);
        }
        moved
    }

    pub(super) fn pipeline<'w>(
        &'w mut self,
        no_trace: &'w mut NoTrace,
    ) -> Pipeline<'w, LcoreEgress, NoTrace> {
        Pipeline {
            view: &self.view,
            ports: &self.ports,
            counters: &self.counters.packets,
            egress: &mut self.egress,
            tracer: no_trace,
        }
    }

    /// Sends a held frame on.
    fn release(&mut self, packet: Mbuf, class: Class, node: Node, to: Onward) {
        let port = node.port;
        let relay = Relay { paused_us: self.paused_us(port), ends: self.has_hold(port) };
        let mut no_trace = NoTrace;
        let mut pipeline = self.pipeline(&mut no_trace);
        let Node { network, mac, vlan, .. } = node;
        match (class, to) {
            (Class::Marker, Onward::Target(RedirectTarget::Host(host))) => {
                return pipeline.relay_marker(packet, network, Peer::new(host), relay);
            }
            (Class::Marker, _) => return pipeline.record_marker(packet, network),
            (Class::Frame | Class::Straggler, _) => {}
        }
        let frame = match frame::parse(packet.head(), packet.len()) {
            Ok(frame) => frame,
            Err(bad) => return pipeline.drop(packet, bad.into()),
        };
        let ctx =
            PacketCtx { packet, frame, bd: network.bd, vni: network.vni, origin: FROM_HOLD, priority: 0 };
        match to {
            Onward::Target(target) => pipeline.redirect(ctx, mac, target, vlan),
            Onward::Port => pipeline.deliver(ctx, port, vlan),
            Onward::Device => pipeline.deliver_by(ctx, port, vlan, LcoreEgress::put_replayed),
        }
    }

    /// Whether a port has a hold in use: then its host ends its own path when the node has left.
    fn has_hold(&self, port: u16) -> bool {
        matches!(self.egress.tx_ports.get(usize::from(port)), Some(TxPort::Own(q)) if q.tx_hold.as_ref().is_some_and(|k| k.is_on()))
    }

    /// For how long a vif's ring has accepted nothing.
    fn paused_us(&self, port: u16) -> u32 {
        let Some(TxPort::Own(queue)) = self.egress.tx_ports.get(usize::from(port)) else { return 0 };
        let Some(tx_hold) = &queue.tx_hold else { return 0 };
        match tx_hold.migration.counters.delivered_tsc.load(std::sync::atomic::Ordering::Relaxed) {
            0 => 0,
            delivered => {
                let us = cycles::tsc().saturating_sub(delivered) / (cycles::tsc_hz() / 1_000_000).max(1);
                u32::try_from(us).unwrap_or(u32::MAX)
            }
        }
    }
}

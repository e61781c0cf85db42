//! What an lcore does each round for migrating nodes: gives what is held to a device that takes frames again, or
//! to the host where the node is now, or lets it go to a node that has arrived. A few dozen frames a round, so that
//! other nodes' frames never wait long.

use super::{Worker, egress::LcoreEgress, reorder::QueueAction, tx_hold::Mode, tx_port::TxPort};
use crate::pipeline::{
    PacketCtx, Pipeline,
    drop_reason::DropReason,
    migration::Class,
    ports::{Origin, Role},
    tracer::NoTrace,
};
use crate::tables::migration_record::RedirectTarget;
use dpdk::{Mbuf, cycles};
use stopover_lockfree::barrier::Ring;
use stopover_net::Mac;
use stopover_net::{
    frame,
    marker::{self, Relay},
};

/// Frames taken from one hold in one round, at most.
const AT_ONCE: usize = 64;
/// What is held is no host's any more: it is sent on at most once, and never answered.
const FROM_HOLD: Origin = Origin::Underlay { host: u32::MAX, hop: true, apart: 0 };

/// Whose frames these are.
#[derive(Clone, Copy)]
struct Node {
    network: crate::pipeline::ports::Network,
    mac: Mac,
    vlan: u16,
}

impl Worker {
    /// One round. Says how many frames were moved.
    #[inline]
    pub(super) fn move_on(&mut self) -> usize {
        let mut work = 0;
        for at in 0..self.vifs.len() {
            let port = self.vifs[at];
            if let Some(TxPort::Own(queue)) = self.egress.tx_ports.get(usize::from(port))
                && let Some(tx_hold) = &queue.tx_hold
                && tx_hold.is_on()
            {
                let mode = tx_hold.moves.mode();
                work += self.drain_port(port, mode);
            }
        }
        if self.egress.held.is_due(self.egress.now) {
            work += self.drain_held();
        }
        work
    }

    #[cold]
    fn drain_port(&mut self, port: u16, mode: Mode) -> usize {
        let Some(Role::Vif(vif)) = self.ports.get(usize::from(port)).map(|p| &p.role) else { return 0 };
        let node = Node { network: vif.network, mac: vif.mac, vlan: 0 };
        match mode {
            Mode::Discard => 0,
            Mode::Off | Mode::Keep => self.drain_to_device(port, node),
            Mode::Forward(heading) => self.drain_elsewhere(port, node, heading),
        }
    }

    fn drain_to_device(&mut self, port: u16, node: Node) -> usize {
        let Some(TxPort::Own(queue)) = self.egress.tx_ports.get_mut(usize::from(port)) else { return 0 };
        if !queue.may_drain() {
            return 0;
        }
        let mut moved = 0;
        while moved < AT_ONCE
            && let Some((packet, class)) = self.take_kept(port)
        {
            moved += 1;
            self.set_draining(port, true);
            self.release(packet, class, node, None, port);
            self.set_draining(port, false);
        }
        moved
    }

    fn set_draining(&mut self, port: u16, on: bool) {
        if let Some(TxPort::Own(queue)) = self.egress.tx_ports.get_mut(usize::from(port))
            && let Some(tx_hold) = &mut queue.tx_hold
        {
            tx_hold.draining = on;
        }
    }

    fn take_kept(&mut self, port: u16) -> Option<(Mbuf, Class)> {
        match self.egress.tx_ports.get_mut(usize::from(port)) {
            Some(TxPort::Own(queue)) => queue.take_kept(&self.egress.pool.0, &self.counters.packets),
            _ => None,
        }
    }

    fn drain_elsewhere(&mut self, port: u16, node: Node, heading: RedirectTarget) -> usize {
        let mut moved = 0;
        while moved < AT_ONCE
            && self.is_clear(heading)
            && let Some((packet, class)) = self.take_kept(port)
        {
            moved += 1;
            let Some(TxPort::Own(queue)) = self.egress.tx_ports.get(usize::from(port)) else { continue };
            if class == Class::Marker
                && let Some(tx_hold) = &queue.tx_hold
                && let Ok(said) = marker::parse(packet.head())
            {
                tx_hold.moves.marker_passed(said.host);
            }
            self.release(packet, class, node, Some(heading), port);
        }
        moved
    }

    /// Whether frames can be sent there now; what is held can wait, and would be lost if not.
    fn is_clear(&self, heading: RedirectTarget) -> bool {
        let port = match heading {
            RedirectTarget::Port(port) => port,
            RedirectTarget::Host(host) => match self.view.host(host).and_then(|entry| entry.path.as_ref()) {
                Some(path) => path.port,
                None => return false,
            },
        };
        !self.egress.is_congested(port)
    }

    #[cold]
    fn drain_held(&mut self) -> usize {
        let (mut moved, mut expired, mut at, mut all_wait) = (0, 0, 0, true);
        while at < self.egress.held.len() {
            let verdict = self.egress.held.verdict(at, &self.view, self.egress.now, &mut expired);
            all_wait &= verdict == QueueAction::Wait;
            moved += self.drain_queue(at, verdict);
            if !self.egress.held.end_if_empty(at) {
                at += 1;
            }
        }
        self.egress.held.looked(self.egress.now, all_wait);
        self.counters.packets.release(expired);
        self.counters.packets.drop(DropReason::WindowOver, expired);
        moved
    }

    fn drain_queue(&mut self, at: usize, verdict: QueueAction) -> usize {
        let heading = match verdict {
            QueueAction::Wait => return 0,
            QueueAction::Deliver => None,
            QueueAction::Forward(heading) => Some(heading),
        };
        let Some(w) = self.egress.held.get(at) else { return 0 };
        let network = crate::pipeline::ports::Network { bd: w.bd, vni: w.vni };
        let (node, port) = (Node { network, mac: w.mac, vlan: w.vlan }, w.port);
        let mut moved = 0;
        while moved < AT_ONCE
            && heading.is_none_or(|heading| self.is_clear(heading))
            && let Some((packet, class)) = self.egress.held.take(at, &self.egress.pool.0)
        {
            self.counters.packets.release(1);
            moved += 1;
            self.release(packet, class, node, heading, port);
        }
        moved
    }

    /// Does what this round brought for end markers: those that were handed over, the barrier, those that waited for it.
    #[cold]
    pub(super) fn end_markers(&mut self) -> usize {
        let mut moved = 0;
        while let Some((port, network, packet)) = self.egress.markers.next_handed() {
            moved += 1;
            self.path(&mut NoTrace).handle_marker_at_port(packet, network, port);
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
        self.egress.markers.ask();
        while let Some((network, packet)) = self.egress.markers.next_parked() {
            moved += 1;
            self.counters.packets.release(1);
            self.path(&mut NoTrace).forward_marker(packet, network);
        }
        moved
    }

    pub(super) fn path<'w>(&'w mut self, nobody: &'w mut NoTrace) -> Pipeline<'w, LcoreEgress, NoTrace> {
        Pipeline {
            view: &self.view,
            ports: &self.ports,
            counters: &self.counters.packets,
            egress: &mut self.egress,
            tracer: nobody,
        }
    }

    /// Sends a frame that was held to its node's new place, or delivers it.
    fn release(&mut self, packet: Mbuf, class: Class, node: Node, to: Option<RedirectTarget>, port: u16) {
        let relay = Relay { paused_us: self.paused_us(port), ends: self.keeps(port) };
        let mut nobody = NoTrace;
        let mut path = self.path(&mut nobody);
        let Node { network, mac, vlan } = node;
        match (class, to) {
            (Class::Marker, Some(RedirectTarget::Host(host))) => {
                return path.relay_marker(packet, network, host, relay);
            }
            (Class::Marker, _) => return path.record_marker(packet, network),
            (Class::Frame | Class::Straggler, _) => {}
        }
        let frame = match frame::parse(packet.head(), packet.len()) {
            Ok(frame) => frame,
            Err(bad) => return path.drop(packet, bad.into()),
        };
        let ctx =
            PacketCtx { packet, frame, bd: network.bd, vni: network.vni, origin: FROM_HOLD, priority: 0 };
        match to {
            Some(heading) => path.redirect(ctx, mac, heading, vlan),
            None => path.deliver(ctx, port, vlan),
        }
    }

    /// Whether a port's frames wait at its outlet: then its host ends its own way when the node has gone.
    fn keeps(&self, port: u16) -> bool {
        matches!(self.egress.tx_ports.get(usize::from(port)), Some(TxPort::Own(q)) if q.tx_hold.as_ref().is_some_and(|k| k.is_on()))
    }

    /// For how long a vif's ring has taken nothing.
    fn paused_us(&self, port: u16) -> u32 {
        let Some(TxPort::Own(queue)) = self.egress.tx_ports.get(usize::from(port)) else { return 0 };
        let Some(tx_hold) = &queue.tx_hold else { return 0 };
        match tx_hold.moves.counters.delivered_tsc.load(std::sync::atomic::Ordering::Relaxed) {
            0 => 0,
            delivered => {
                let us = cycles::tsc().saturating_sub(delivered) / (cycles::tsc_hz() / 1_000_000).max(1);
                u32::try_from(us).unwrap_or(u32::MAX)
            }
        }
    }
}

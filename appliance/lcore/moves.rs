//! What an lcore does each round for nodes on the move: gives what is held to a device that takes frames again, or
//! to the host where the node is now, or lets it go to a node that has arrived. A few dozen frames a round, so that
//! other nodes' frames never wait long.

use super::{Worker, held::Verdict, io::LcoreIo, keeper::Mode, outlet::Outlet};
use crate::pipeline::{
    Pipeline, Slot,
    fate::Drop,
    moving::Class,
    ports::{Origin, Role},
    witness::Nobody,
};
use crate::tables::moving::Heading;
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
            if let Some(Outlet::Own(queue)) = self.io.outlets.get(usize::from(port))
                && let Some(keeper) = &queue.keeper
                && keeper.is_on()
            {
                let mode = keeper.moves.mode();
                work += self.drain_port(port, mode);
            }
        }
        if self.io.held.is_due(self.io.now) {
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
        let Some(Outlet::Own(queue)) = self.io.outlets.get_mut(usize::from(port)) else { return 0 };
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
        if let Some(Outlet::Own(queue)) = self.io.outlets.get_mut(usize::from(port))
            && let Some(keeper) = &mut queue.keeper
        {
            keeper.draining = on;
        }
    }

    fn take_kept(&mut self, port: u16) -> Option<(Mbuf, Class)> {
        match self.io.outlets.get_mut(usize::from(port)) {
            Some(Outlet::Own(queue)) => queue.take_kept(&self.io.pool.0, &self.counters.books),
            _ => None,
        }
    }

    fn drain_elsewhere(&mut self, port: u16, node: Node, heading: Heading) -> usize {
        let mut moved = 0;
        while moved < AT_ONCE
            && self.is_clear(heading)
            && let Some((packet, class)) = self.take_kept(port)
        {
            moved += 1;
            let Some(Outlet::Own(queue)) = self.io.outlets.get(usize::from(port)) else { continue };
            if class == Class::Marker
                && let Some(keeper) = &queue.keeper
                && let Ok(said) = marker::parse(packet.head())
            {
                keeper.moves.marker_passed(said.host);
            }
            self.release(packet, class, node, Some(heading), port);
        }
        moved
    }

    /// Whether frames can be sent there now; what is held can wait, and would be lost if not.
    fn is_clear(&self, heading: Heading) -> bool {
        let port = match heading {
            Heading::Port(port) => port,
            Heading::Host(host) => match self.view.host(host).and_then(|entry| entry.way.as_ref()) {
                Some(way) => way.port,
                None => return false,
            },
        };
        !self.io.is_congested(port)
    }

    #[cold]
    fn drain_held(&mut self) -> usize {
        let (mut moved, mut expired, mut at, mut all_wait) = (0, 0, 0, true);
        while at < self.io.held.len() {
            let verdict = self.io.held.verdict(at, &self.view, self.io.now, &mut expired);
            all_wait &= verdict == Verdict::Wait;
            moved += self.drain_queue(at, verdict);
            if !self.io.held.end_if_empty(at) {
                at += 1;
            }
        }
        self.io.held.looked(self.io.now, all_wait);
        self.counters.books.release(expired);
        self.counters.books.drop(Drop::WindowOver, expired);
        moved
    }

    fn drain_queue(&mut self, at: usize, verdict: Verdict) -> usize {
        let heading = match verdict {
            Verdict::Wait => return 0,
            Verdict::Deliver => None,
            Verdict::Forward(heading) => Some(heading),
        };
        let Some(w) = self.io.held.get(at) else { return 0 };
        let network = crate::pipeline::ports::Network { net: w.net, vni: w.vni };
        let (node, port) = (Node { network, mac: w.mac, vlan: w.vlan }, w.port);
        let mut moved = 0;
        while moved < AT_ONCE
            && heading.is_none_or(|heading| self.is_clear(heading))
            && let Some((packet, class)) = self.io.held.take(at, &self.io.pool.0)
        {
            self.counters.books.release(1);
            moved += 1;
            self.release(packet, class, node, heading, port);
        }
        moved
    }

    /// Does what this round brought for end markers: those that were handed over, the barrier, those that waited for it.
    #[cold]
    pub(super) fn end_markers(&mut self) -> usize {
        let mut moved = 0;
        while let Some((port, network, packet)) = self.io.markers.next_handed() {
            moved += 1;
            self.path(&mut Nobody).marker_at_port(packet, network, port);
        }
        let outlets = &self.io.outlets;
        let ring = |port| match outlets.get(port) {
            Some(Outlet::Own(queue)) => {
                let len = queue.handoff.as_ref().map_or(0, |ring| ring.len());
                Ring { taken: queue.taken, len }
            }
            _ => Ring::default(),
        };
        let waits = |port| match outlets.get(port) {
            Some(Outlet::Other(other)) => other.waiting(),
            _ => Ring::default(),
        };
        self.io.markers.barrier.end_round(ring, waits);
        self.io.markers.ask();
        while let Some((network, packet)) = self.io.markers.next_parked() {
            moved += 1;
            self.counters.books.release(1);
            self.path(&mut Nobody).marker_in_turn(packet, network);
        }
        moved
    }

    pub(super) fn path<'w>(&'w mut self, nobody: &'w mut Nobody) -> Pipeline<'w, LcoreIo, Nobody> {
        Pipeline {
            view: &self.view,
            ports: &self.ports,
            counters: &self.counters.books,
            io: &mut self.io,
            witness: nobody,
        }
    }

    /// Sends a frame that was held to its node's new place, or delivers it.
    fn release(&mut self, packet: Mbuf, class: Class, node: Node, to: Option<Heading>, port: u16) {
        let relay = Relay { paused_us: self.paused_us(port), ends: self.keeps(port) };
        let mut nobody = Nobody;
        let mut path = self.path(&mut nobody);
        let Node { network, mac, vlan } = node;
        match (class, to) {
            (Class::Marker, Some(Heading::Host(host))) => {
                return path.relay(packet, network, host, relay);
            }
            (Class::Marker, _) => return path.marker_has_come(packet, network),
            (Class::Frame | Class::Straggler, _) => {}
        }
        let frame = match frame::parse(packet.head(), packet.len()) {
            Ok(frame) => frame,
            Err(bad) => return path.drop(packet, bad.into()),
        };
        let slot = Slot { packet, frame, net: network.net, vni: network.vni, origin: FROM_HOLD, priority: 0 };
        match to {
            Some(heading) => path.send_on(slot, mac, heading, vlan),
            None => path.deliver(slot, port, vlan),
        }
    }

    /// Whether a port's frames wait at its outlet: then its host ends its own way when the node has gone.
    fn keeps(&self, port: u16) -> bool {
        matches!(self.io.outlets.get(usize::from(port)), Some(Outlet::Own(q)) if q.keeper.as_ref().is_some_and(|k| k.is_on()))
    }

    /// For how long a vif's ring has taken nothing.
    fn paused_us(&self, port: u16) -> u32 {
        let Some(Outlet::Own(queue)) = self.io.outlets.get(usize::from(port)) else { return 0 };
        let Some(keeper) = &queue.keeper else { return 0 };
        match keeper.moves.tally.delivered_tsc.load(std::sync::atomic::Ordering::Relaxed) {
            0 => 0,
            delivered => {
                let us = cycles::tsc().saturating_sub(delivered) / (cycles::tsc_hz() / 1_000_000).max(1);
                u32::try_from(us).unwrap_or(u32::MAX)
            }
        }
    }
}

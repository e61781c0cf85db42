//! The egress of one lcore's stages: TX ports, rings to and from the control thread, and the mempool for new frames.

use super::{
    changes::{Change, ChangeRing},
    counters::LcoreCounters,
    events::{DataplaneEvent, EventRings, Events},
    packet::MbufPool,
    repeats::Repeats,
    tunnels::{LcoreTunnels, TunnelOrder},
    tx_port::{OwnQueue, TxPort},
    wake::Wake,
};
use crate::migration::hold::HeldKind;
use crate::migration::markers::{Ahead, BehindGuest, Markers};
use crate::migration::record::MigrationRecord;
use crate::migration::reorder::ReorderBuffer;
use crate::migration::source_ports::{SourcePorts, UsedPorts};
use crate::pipeline::{
    Egress, Learn, MAX_BURST, RouterSeen,
    drop_reason::DropReason,
    migration_egress::{Behind, MigrationEgress, MigrationEvent, QueuedMarker},
    packet::Pool,
    packet_counters::add,
    ports::Network,
};
use crate::tables::packed::{Bd, node_key};
use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use dpdk::{Mbuf, Mempool, cycles};
use std::sync::{Arc, atomic::Ordering::Relaxed};
use stopover_net::Mac;

/// A frame that an underlay port received for the VTEP itself, or a segment port for the control thread.
pub type ToControl = (u16, Mbuf);

/// What an lcore does for the control thread.
#[derive(Debug)]
pub enum Order {
    /// A frame, through a port.
    Frame(u16, Mbuf),
    /// An end marker, behind all that this lcore has sent to a port.
    MarkerBehind(u16, Network, Mbuf),
    /// End markers like this one to a host, behind all that this lcore has sent there for their node.
    EndPath(u32, Network, Mbuf),
    /// A change of what it works with; comes back by [`Rings::changed`].
    Change(Box<Change>),
    /// A change of its SAs; comes back by [`Rings::tunnel_orders`].
    Tunnel(Box<TunnelOrder>),
}

/// ICMP errors that one lcore may send: a rate, and a burst.
const ERRORS_PER_SECOND: u64 = 1000;
/// See [`ERRORS_PER_SECOND`].
const ERRORS_AT_ONCE: u64 = 50;
/// Datagrams of handshakes that one lcore hands to the control thread: a rate, and a burst. Most are of two pieces.
const HANDSHAKES_PER_SECOND: u64 = 4_000;
/// See [`HANDSHAKES_PER_SECOND`].
const HANDSHAKES_AT_ONCE: u64 = 1_000;

/// A token bucket on the TSC.
#[derive(Debug)]
pub(super) struct Bucket {
    cycles_each: u64,
    at_once: u64,
    /// The time up to which tokens are spent.
    spent_to: u64,
}

impl Bucket {
    fn new(per_second: u64, at_once: u64) -> Self {
        Self { cycles_each: cycles::tsc_hz() / per_second, at_once, spent_to: 0 }
    }

    pub(super) fn take(&mut self, now: u64) -> bool {
        let earliest = now.saturating_sub(self.cycles_each * self.at_once);
        let spent_to = self.spent_to.max(earliest) + self.cycles_each;
        let fits = spent_to <= now;
        if fits {
            self.spent_to = spent_to;
        }
        fits
    }
}

/// The bounded rings between one lcore and the control thread.
#[derive(Debug, Clone)]
pub struct Rings {
    /// Frames for the VTEP.
    pub to_control: Arc<ArrayQueue<ToControl>>,
    /// Loop probes that segment ports received.
    pub probes: Arc<ArrayQueue<ToControl>>,
    /// Events of the packet path.
    pub events: EventRings,
    /// Orders to send.
    pub from_control: Arc<ArrayQueue<Order>>,
    /// Datagrams of handshakes.
    pub handshakes: Arc<ArrayQueue<ToControl>>,
    /// Changes of SAs that were executed.
    pub tunnel_orders: Arc<ArrayQueue<Box<TunnelOrder>>>,
    /// Changes that were executed.
    pub changed: ChangeRing,
    /// Receive queues that other lcores give to this one.
    pub given: ChangeRing,
    /// Wakes the control thread after something was put into a ring of it.
    pub wake: Wake,
}

impl Rings {
    /// Rings of this many places each.
    #[must_use]
    pub fn new(places: usize, wake: Wake) -> Self {
        Self {
            to_control: Arc::new(ArrayQueue::new(places)),
            probes: Arc::new(ArrayQueue::new(places)),
            events: EventRings::new(places),
            from_control: Arc::new(ArrayQueue::new(places)),
            handshakes: Arc::new(ArrayQueue::new(places)),
            // As many as there are orders under way.
            tunnel_orders: Arc::new(ArrayQueue::new(places)),
            changed: Arc::new(ArrayQueue::new(places)),
            given: Arc::new(ArrayQueue::new(places)),
            wake,
        }
    }

    /// Whether nothing waits for the control thread.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.to_control.is_empty()
            && self.probes.is_empty()
            && self.events.is_empty()
            && self.changed.is_empty()
            && self.handshakes.is_empty()
            && self.tunnel_orders.is_empty()
    }
}

/// See the module.
#[derive(Debug)]
pub struct LcoreEgress {
    /// By port number.
    pub tx_ports: Vec<TxPort>,
    /// To and from the control thread.
    pub rings: Rings,
    /// The pool of copies and replies.
    pub pool: MbufPool,
    /// The lcore's counters.
    pub counters: Arc<LcoreCounters>,
    /// Frames held for migrating nodes, beside the TX ports.
    pub reorder: ReorderBuffer,
    /// Source ports used for migrating nodes.
    pub source_ports: SourcePorts,
    /// End markers that wait for their turn.
    pub markers: Markers,
    /// Encrypted tunnels, if there are any.
    pub tunnels: Option<Box<LcoreTunnels>>,
    pub(super) handshakes: Bucket,
    /// TSC at the beginning of this round.
    pub now: u64,
    errors: Bucket,
    events: Events,
    repeats: Repeats,
}

impl LcoreEgress {
    /// Of one lcore, with nothing waiting.
    #[must_use]
    pub fn new(
        tx_ports: Vec<TxPort>,
        rings: Rings,
        pool: Mempool,
        counters: Arc<LcoreCounters>,
        reorder: ReorderBuffer,
        markers: Markers,
    ) -> Self {
        let errors = Bucket::new(ERRORS_PER_SECOND, ERRORS_AT_ONCE);
        let events = Events::new(rings.events.clone(), cycles::tsc_hz());
        let repeats = Repeats::new(cycles::tsc_hz());
        Self {
            tx_ports,
            rings,
            pool: MbufPool(pool),
            counters,
            reorder,
            source_ports: SourcePorts::new(cycles::tsc_hz()),
            markers,
            tunnels: None,
            handshakes: Bucket::new(HANDSHAKES_PER_SECOND, HANDSHAKES_AT_ONCE),
            now: 0,
            errors,
            events,
            repeats,
        }
    }

    pub(super) fn notify(&mut self, event: DataplaneEvent) {
        if self.events.notify(event, self.now, &self.counters.events) {
            self.rings.wake.notify();
        }
    }

    /// Queues a frame for a port; see [`Egress::send`].
    #[inline]
    pub fn put(&mut self, port: u16, packet: Mbuf) {
        let at = usize::from(port);
        let (Some(tx_port), Some(counters)) = (self.tx_ports.get_mut(at), self.counters.ports.get(at)) else {
            drop(packet);
            return self.counters.packets.drop(DropReason::PortDown, 1);
        };
        let reason = match tx_port {
            TxPort::Own(queue) => return queue.put(packet, &self.counters.packets, counters, self.now),
            TxPort::Other(other) => return other.put(packet, &self.counters.packets, counters, self.now),
            TxPort::Closed => {
                drop(packet);
                DropReason::PortDown
            }
        };
        self.counters.packets.drop(reason, 1);
        add(&counters.tx_dropped, 1);
    }

    /// As [`Self::put`], for a frame that was taken from the hold of the port for its device.
    pub fn put_replayed(&mut self, port: u16, packet: Mbuf) {
        let at = usize::from(port);
        match (self.tx_ports.get_mut(at), self.counters.ports.get(at)) {
            (Some(TxPort::Own(queue)), Some(counters)) => {
                queue.put_replayed(packet, &self.counters.packets, counters, self.now);
            }
            _ => self.put(port, packet),
        }
    }

    /// Sends what waits. Returns how many frames arrived from other lcores, or still wait for a device that accepts
    /// some.
    pub fn finish_round(&mut self) -> usize {
        let mut work = 0;
        let markers = &mut self.markers;
        for ((tx_port, counters), port) in self.tx_ports.iter_mut().zip(&self.counters.ports).zip(0..) {
            let queue = match tx_port {
                TxPort::Own(queue) => queue,
                TxPort::Other(other) if other.waits() => {
                    work += other.flush(&self.pool.0, &self.counters.packets, counters);
                    continue;
                }
                TxPort::Other(_) | TxPort::Closed => continue,
            };
            if queue.handoff.is_some() {
                let marker = |network, packet| {
                    if let Err(packet) = markers.push_handed(port, network, packet) {
                        drop(packet);
                        self.counters.packets.drop(DropReason::EndMarker, 1);
                    }
                };
                work += queue.take_handoff(&self.counters.packets, counters, self.now, marker);
            }
            let sent = self.counters.packets.sent.load(Relaxed);
            queue.flush(&self.counters.packets, counters, self.now);
            queue.answer(self.now);
            // A device that accepts nothing is no work: it may be a guest that needs this CPU.
            work += usize::from(queue.waits() && self.counters.packets.sent.load(Relaxed) != sent);
        }
        work
    }

    /// Calls the drivers of these ports without a frame.
    #[cold]
    pub fn keep_alive(&mut self, ports: &[u16]) {
        for port in ports {
            if let Some(TxPort::Own(queue)) = self.tx_ports.get_mut(usize::from(*port)) {
                queue.keep_alive();
            }
        }
    }

    /// Whether frames wait for a port's device. Then held frames are not added.
    #[must_use]
    pub fn is_congested(&self, port: u16) -> bool {
        match self.tx_ports.get(usize::from(port)) {
            Some(TxPort::Own(queue)) => queue.waits(),
            Some(TxPort::Other(other)) => other.is_congested(),
            Some(TxPort::Closed) | None => false,
        }
    }

    /// Whether no frame that this lcore sent waits anywhere before a device, or before an lcore that owns its queue; with
    /// `to_the_end`, whether nothing that another lcore sends to the same port can overtake it.
    #[cold]
    pub fn is_quiet(&mut self, to_the_end: bool) -> bool {
        let now = self.now;
        let is_quiet = |tx_port: &mut TxPort| match tx_port {
            TxPort::Own(queue) => queue.is_quiet(now, to_the_end),
            TxPort::Other(other) => other.is_quiet(to_the_end),
            TxPort::Closed => true,
        };
        // Each is asked, so that the owners of all queues begin to answer.
        let all = self.tx_ports.iter_mut().map(is_quiet).fold(true, |all, one| all & one);
        let waits = self.tunnels.as_ref().is_some_and(|tunnels| tunnels.waiting() > 0);
        all && self.reorder.is_empty() && self.markers.is_empty() && !waits
    }

    /// Queues an end marker until the guest has taken what it was given before, so that no frame in another of its rings
    /// can overtake that; returns it if that is so already.
    pub fn queue_behind_guest(&mut self, packet: Mbuf, network: Network, port: u16) -> Result<(), Mbuf> {
        let own = self.own_queue(port);
        let Some(ahead) = own.and_then(|(queue, sent)| queue.ahead(sent, self.now)) else {
            return Err(packet);
        };
        if !self.markers.has_room_behind_guests() {
            return Err(packet);
        }
        self.markers.push_behind_guest(BehindGuest { port, ahead, network, packet });
        Ok(())
    }

    /// What of that an end marker still waits for.
    #[must_use]
    pub fn still_ahead(&self, marker: &BehindGuest) -> Option<Ahead> {
        let (queue, sent) = self.own_queue(marker.port)?;
        queue.still_ahead(marker.ahead, sent, self.now)
    }

    /// This lcore's queue of a port, and how many frames were sent through it.
    #[inline]
    #[must_use]
    pub fn own_queue(&self, port: u16) -> Option<(&OwnQueue, u64)> {
        let at = usize::from(port);
        match (self.tx_ports.get(at), self.counters.ports.get(at)) {
            (Some(TxPort::Own(queue)), Some(counters)) => Some((queue, counters.sent.load(Relaxed))),
            _ => None,
        }
    }

    /// Whether other lcores hand this one frames for a queue that it owns.
    #[must_use]
    pub fn owns_shared_queue(&self) -> bool {
        self.tx_ports.iter().any(|tx_port| matches!(tx_port, TxPort::Own(queue) if queue.handoff.is_some()))
    }

    /// Drops what waits for a port, also in the ring from other lcores.
    pub fn close(&mut self, port: u16) {
        let (at, reason) = (usize::from(port), DropReason::PortDown);
        let (Some(tx_port), Some(counters)) = (self.tx_ports.get_mut(at), self.counters.ports.get(at)) else {
            return;
        };
        let packets = &self.counters.packets;
        match tx_port {
            TxPort::Own(queue) => queue.close(reason, packets, counters),
            TxPort::Other(other) => other.discard(reason, packets, counters),
            TxPort::Closed => {}
        }
    }

    /// Drops what waits, in every TX port and in the holds.
    pub fn discard(&mut self, reason: DropReason) {
        let waiting = self.tunnels.as_mut().map_or(0, |tunnels| tunnels.discard());
        let frames = self.reorder.discard() + self.markers.discard() + waiting;
        self.counters.packets.release(frames);
        self.counters.packets.drop(reason, frames);
        for (tx_port, counters) in self.tx_ports.iter_mut().zip(&self.counters.ports) {
            match tx_port {
                TxPort::Own(queue) => queue.discard(reason, &self.counters.packets, counters),
                TxPort::Other(other) => other.discard(reason, &self.counters.packets, counters),
                TxPort::Closed => {}
            }
        }
    }
}

impl Egress for LcoreEgress {
    type P = Mbuf;

    #[inline]
    fn send(&mut self, port: u16, packet: Mbuf) {
        self.put(port, packet);
    }

    fn send_all(&mut self, port: u16, packets: &mut ArrayVec<Mbuf, MAX_BURST>) {
        let at = usize::from(port);
        if let (Some(TxPort::Own(queue)), Some(counters)) =
            (self.tx_ports.get_mut(at), self.counters.ports.get(at))
        {
            return queue.put_all(packets, &self.counters.packets, counters, self.now);
        }
        for packet in packets.drain(..) {
            self.put(port, packet);
        }
    }

    fn punt(&mut self, port: u16, packet: Mbuf) -> Result<(), Mbuf> {
        self.rings.to_control.push((port, packet)).map_err(|(_, packet)| packet)?;
        self.rings.wake.notify();
        Ok(())
    }

    fn punt_loop_probe(&mut self, port: u16, packet: Mbuf) -> Result<(), Mbuf> {
        self.rings.probes.push((port, packet)).map_err(|(_, packet)| packet)?;
        self.rings.wake.notify();
        Ok(())
    }

    fn is_repeated(&mut self, port: u16, vlan: u16, bd: Bd, packet: &Mbuf) -> bool {
        let is_repeat = self.repeats.is_repeat(port, bd, packet.head(), packet.len(), self.now);
        if is_repeat {
            self.notify(DataplaneEvent::Loop { port, vlan });
        }
        is_repeat
    }

    fn learn(&mut self, learn: Learn) {
        self.notify(DataplaneEvent::Station(learn));
    }

    fn report_router(&mut self, router: RouterSeen) {
        self.notify(DataplaneEvent::Router(router));
    }

    fn may_send_icmp_error(&mut self) -> bool {
        self.errors.take(self.now)
    }
}

impl MigrationEgress<Mbuf> for LcoreEgress {
    fn has_held(&self, index: u32, sender: u32) -> bool {
        self.reorder.has_held(index, sender)
    }

    fn hold(
        &mut self,
        record: &MigrationRecord,
        index: u32,
        sender: u32,
        kind: HeldKind,
        packet: &Mbuf,
    ) -> bool {
        self.reorder.hold(record, index, sender, kind, packet, self.now)
    }

    fn queue_marker(&mut self, packet: Mbuf, network: Network, behind: Behind) -> QueuedMarker<Mbuf> {
        let packets = &self.counters.packets;
        let port = match behind {
            Behind::Queues => return or_passed(self.markers.park(packet, network)),
            Behind::Port(port) | Behind::Hold(port) | Behind::Device(port) => usize::from(port),
        };
        match (self.tx_ports.get_mut(port), self.counters.ports.get(port), behind) {
            (Some(TxPort::Other(other)), _, Behind::Port(_)) => {
                match other.marker(packet, network, packets, self.now) {
                    Ok(()) => QueuedMarker::Handed,
                    Err(packet) => QueuedMarker::Full(packet),
                }
            }
            (Some(TxPort::Own(queue)), _, Behind::Hold(_)) => {
                or_passed(queue.queue_behind_hold(packet, self.now))
            }
            (Some(TxPort::Own(queue)), Some(counters), Behind::Device(port)) => {
                match queue.queue_behind_device(packet, packets, counters, self.now) {
                    Ok(()) => QueuedMarker::Waits,
                    Err(packet) => or_passed(self.queue_behind_guest(packet, network, port)),
                }
            }
            _ => QueuedMarker::Passed(packet),
        }
    }

    fn source_port(&mut self, bd: Bd, node: Mac, of_flow: u16) -> u16 {
        self.source_ports.port(node_key(bd, node), of_flow, self.now)
    }

    fn source_ports(&self, bd: Bd, node: Mac) -> UsedPorts {
        self.source_ports.used(node_key(bd, node))
    }

    fn report(&mut self, event: MigrationEvent) {
        self.notify(DataplaneEvent::Migration(event));
    }

    fn now(&self) -> Option<u64> {
        Some(self.now)
    }
}

/// A marker that was queued, or had nothing in front of it.
fn or_passed(queued: Result<(), Mbuf>) -> QueuedMarker<Mbuf> {
    queued.map_or_else(QueuedMarker::Passed, |()| QueuedMarker::Waits)
}

impl Pool<Mbuf> for LcoreEgress {
    fn copy(&mut self, packet: &Mbuf) -> Option<Mbuf> {
        self.pool.copy(packet)
    }
    fn copy_range(&mut self, head: &[u8], packet: &Mbuf, from: usize, len: usize) -> Option<Mbuf> {
        self.pool.copy_range(head, packet, from, len)
    }
    fn make(&mut self, bytes: &[u8]) -> Option<Mbuf> {
        self.pool.make(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn icmp_errors_are_limited_to_a_rate_and_a_burst() {
        let mut bucket = Bucket { cycles_each: 1000, at_once: ERRORS_AT_ONCE, spent_to: 0 };
        let start = 1_000_000;
        assert_eq!((0..200).filter(|_| bucket.take(start)).count() as u64, ERRORS_AT_ONCE);
        assert!(!bucket.take(start + 999));
        assert!(bucket.take(start + 1000));
        assert!(!bucket.take(start + 1000));
    }
}

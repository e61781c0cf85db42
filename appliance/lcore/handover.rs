//! Egress through a port whose transmit queue belongs to another lcore: a ring to that lcore. Enters: frames and end
//! markers, in order. Leaves: the same in that order, or a drop. For a migrating node no frame is dropped because the
//! ring is full: the other lcore may not run for a while, and then this one has a backlog. So what does not fit waits
//! here, in memory of the hold.

use super::counters::PortCounters;
use crate::migration::hold::HeldKind;
use crate::migration::tx_hold::TxHold;
use crate::pipeline::{
    drop_reason::DropReason,
    packet_counters::{PacketCounters, add},
    ports::Network,
};
use crate::tables::packed::Bd;
use crossbeam::queue::ArrayQueue;
use dpdk::{BURST_MAX, Mbuf, Mempool};
use std::sync::{
    Arc,
    atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Release},
    },
};
use stopover_lockfree::barrier::Ring;
use stopover_net::Vni;

/// An item that one lcore hands to another that owns a transmit queue.
#[derive(Debug)]
pub enum HandoffItem {
    /// A frame to be sent.
    Frame(Mbuf),
    /// An end marker, behind the frames of this ring. A variant of its own, because a tenant could send the same
    /// bytes.
    Marker {
        /// Its bridge domain.
        bd: Bd,
        /// Its VNI.
        vni: Vni,
        /// Its frame.
        packet: Mbuf,
    },
    /// Another lcore has asked: see [`HandoffRing::ask`].
    Asked,
}

// Ordinary frames use the ring.
const _: () = assert!(size_of::<HandoffItem>() == 16);

/// A ring towards the lcore that owns a transmit queue, which answers whether what it has taken is past the queue.
#[derive(Debug)]
pub struct HandoffRing {
    items: ArrayQueue<HandoffItem>,
    /// Counts questions.
    asked: AtomicU64,
    /// The questions up to here are answered: what was in the ring before them is past the queue.
    past: AtomicU64,
}

/// One shared by lcores.
pub type Handoff = Arc<HandoffRing>;

impl HandoffRing {
    /// An empty ring with so many places.
    #[must_use]
    pub fn new(places: usize) -> Self {
        Self { items: ArrayQueue::new(places), asked: AtomicU64::new(0), past: AtomicU64::new(0) }
    }

    /// Asks the owner of the queue to report when nothing can overtake what is in the ring now. Returns the number of the
    /// question, if the ring has room for it.
    fn ask(&self) -> Option<u64> {
        let number = self.asked.fetch_add(1, AcqRel) + 1;
        self.items.push(HandoffItem::Asked).is_ok().then_some(number)
    }

    fn is_past(&self, number: u64) -> bool {
        self.past.load(Acquire) >= number
    }

    /// The owner's answer to all questions so far; false if something can still be overtaken. `is_past`: nothing that was
    /// taken out can.
    pub fn answer(&self, is_past: impl FnOnce() -> bool) -> bool {
        let asked = self.asked.load(Acquire);
        let all = self.items.is_empty() && is_past();
        if all {
            self.past.store(asked, Release);
        }
        all
    }
}

impl std::ops::Deref for HandoffRing {
    type Target = ArrayQueue<HandoffItem>;

    fn deref(&self) -> &Self::Target {
        &self.items
    }
}

/// Places in the ring that remain for other lcores when a backlog is handed over: none may find it full between a
/// check and a push.
const ROOM: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Handover {
    ring: Handoff,
    /// Of a vif: frames that wait for room in the ring, and the vif's network.
    tx_hold: Option<(Box<TxHold>, Network)>,
    /// How many of these have left since the start.
    flushed: u64,
    /// Other lcores send to the port through other queues: what is in one queue can overtake what is in another.
    is_apart: bool,
    /// The last question to the queue's owner, while no frame has been handed over since.
    question: Option<u64>,
}

impl Handover {
    /// `tx_hold`: of a vif, with its network; `is_apart`: the port has other queues, too.
    #[must_use]
    pub const fn new(ring: Handoff, tx_hold: Option<(Box<TxHold>, Network)>, is_apart: bool) -> Self {
        Self { ring, tx_hold, flushed: 0, is_apart, question: None }
    }

    /// Hands a frame over.
    #[inline]
    pub fn put(&mut self, packet: Mbuf, packets: &PacketCounters, port: &PortCounters, now: u64) {
        if self.waits() {
            return self.hold(packet, packets, port, now);
        }
        self.question = None;
        if let Err(HandoffItem::Frame(packet)) = self.ring.push(HandoffItem::Frame(packet)) {
            self.hold(packet, packets, port, now);
        }
    }

    /// Whether anything waits for room in the ring.
    #[inline]
    #[must_use]
    pub fn waits(&self) -> bool {
        self.tx_hold.as_ref().is_some_and(|(tx_hold, _)| !tx_hold.is_empty())
    }

    /// Whether the other lcore has taken everything; with `to_the_end`, whether nothing in another queue of the port can
    /// overtake it any more.
    #[cold]
    pub fn is_quiet(&mut self, to_the_end: bool) -> bool {
        if !self.ring.is_empty() || self.waits() {
            return false;
        }
        if !to_the_end || !self.is_apart {
            return true;
        }
        if self.question.is_none() {
            self.question = self.ring.ask();
        }
        self.question.is_some_and(|number| self.ring.is_past(number))
    }

    /// The frames that wait for room in the ring, and how many have left.
    #[must_use]
    pub fn waiting(&self) -> Ring {
        let len = self.tx_hold.as_ref().map_or(0, |(tx_hold, _)| tx_hold.len());
        Ring { taken: self.flushed, len }
    }

    #[cold]
    fn hold(&mut self, packet: Mbuf, packets: &PacketCounters, port: &PortCounters, now: u64) {
        let held = match &mut self.tx_hold {
            Some((tx_hold, _)) if tx_hold.is_on() => tx_hold.hold(&packet, HeldKind::Frame, now),
            _ => false,
        };
        drop(packet);
        if held {
            return add(&packets.held, 1);
        }
        packets.drop(DropReason::HandoffFull, 1);
        add(&port.tx_dropped, 1);
    }

    /// Hands an end marker over; returns it if there is no room.
    pub fn marker(
        &mut self,
        packet: Mbuf,
        network: Network,
        packets: &PacketCounters,
        now: u64,
    ) -> Result<(), Mbuf> {
        let Network { bd, vni } = network;
        let packet = if self.waits() {
            packet
        } else {
            match self.ring.push(HandoffItem::Marker { bd, vni, packet }) {
                Ok(()) => return Ok(()),
                Err(HandoffItem::Marker { packet, .. } | HandoffItem::Frame(packet)) => packet,
                Err(HandoffItem::Asked) => return Ok(()),
            }
        };
        let tx_hold = self.tx_hold.as_mut().filter(|(tx_hold, _)| tx_hold.is_on());
        if tx_hold.is_some_and(|(tx_hold, _)| tx_hold.hold(&packet, HeldKind::Marker, now)) {
            add(&packets.held, 1);
            return Ok(());
        }
        Err(packet)
    }

    /// Hands over what waits, as far as the ring has room. Returns how many frames.
    #[cold]
    pub fn flush(&mut self, mempool: &Mempool, packets: &PacketCounters, port: &PortCounters) -> usize {
        let Some((tx_hold, network)) = &mut self.tx_hold else { return 0 };
        let Network { bd, vni } = *network;
        let mut moved = 0;
        while moved < BURST_MAX
            && self.ring.len() + ROOM < self.ring.capacity()
            && let Some((packet, kind)) = tx_hold.take(mempool)
        {
            packets.release(1);
            moved += 1;
            self.flushed += 1;
            self.question = None;
            let handed = match kind {
                HeldKind::Marker => HandoffItem::Marker { bd, vni, packet },
                HeldKind::Frame | HeldKind::Straggler => HandoffItem::Frame(packet),
            };
            // There are not so many lcores that they could have filled it in between.
            if self.ring.push(handed).is_err() {
                packets.drop(DropReason::HandoffFull, 1);
                add(&port.tx_dropped, 1);
            }
        }
        moved
    }

    /// Whether the other lcore falls behind.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.waits() || self.ring.len() > self.ring.capacity() / 2
    }

    /// Drops what waits.
    pub fn discard(&mut self, reason: DropReason, packets: &PacketCounters, port: &PortCounters) {
        if let Some((tx_hold, _)) = &mut self.tx_hold
            && !tx_hold.is_empty()
        {
            let frames = tx_hold.discard();
            self.flushed += frames;
            packets.release(frames);
            packets.drop(reason, frames);
            add(&port.tx_dropped, frames);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_when_what_was_before_it_is_past() {
        let ring = HandoffRing::new(2);
        let first = ring.ask().unwrap();
        assert!(!ring.answer(|| true), "it was not taken out yet");
        assert!(ring.pop().is_some() && !ring.answer(|| false) && !ring.is_past(first));
        assert!(ring.answer(|| true) && ring.is_past(first));
        let second = ring.ask().unwrap();
        assert!(!ring.is_past(second));
        assert!(ring.ask().is_some() && ring.ask().is_none(), "the ring is full");
    }

    /// A queue of a NIC moves from this lcore to another, which sends through another queue of the same port.
    #[test]
    fn the_owner_of_a_queue_is_asked_where_others_could_overtake() {
        let ring = Arc::new(HandoffRing::new(4));
        let mut handover = Handover::new(Arc::clone(&ring), None, true);
        assert!(handover.is_quiet(false) && !handover.is_quiet(true), "it was not asked yet");
        assert!(matches!(ring.pop(), Some(HandoffItem::Asked)));
        assert!(!handover.is_quiet(true) && ring.is_empty(), "it is asked once");
        assert!(ring.answer(|| true) && handover.is_quiet(true));
        let mut alone = Handover::new(ring, None, false);
        assert!(alone.is_quiet(true), "one queue keeps the order");
    }
}

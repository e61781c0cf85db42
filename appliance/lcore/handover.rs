//! The way out of a port whose transmit queue is another lcore's: a ring to that one. Enters: frames and end markers, in
//! order. Leaves: the same in that order, or a drop. For a node on the move nothing is dropped because the ring is full:
//! the other lcore may not run for a while, and this one have much to catch up with; so what does not fit waits here, in
//! memory of the hold.

use super::{
    counters::PortCounters,
    keeper::Keeper,
    outlet::{Handed, Handoff},
};
use crate::pipeline::{
    fate::{Counters, Drop, add},
    moving::Class,
    ports::Network,
};
use dpdk::{BURST_MAX, Mbuf, Mempool};
use stopover_lockfree::barrier::Ring;

/// Places in the ring that are left to other lcores when what waited is handed over: none may find it full between a
/// look and a push.
const ROOM: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Handover {
    ring: Handoff,
    /// Of a vif: what waits for room in the ring, and the vif's network.
    keeper: Option<(Box<Keeper>, Network)>,
    /// How much of that has left since the start.
    flushed: u64,
}

impl Handover {
    /// `keeper`: of a vif, with its network.
    #[must_use]
    pub const fn new(ring: Handoff, keeper: Option<(Box<Keeper>, Network)>) -> Self {
        Self { ring, keeper, flushed: 0 }
    }

    /// Hands a frame over.
    #[inline]
    pub fn put(&mut self, packet: Mbuf, books: &Counters, port: &PortCounters, now: u64) {
        if self.waits() {
            return self.keep(packet, books, port, now);
        }
        if let Err(Handed::Frame(packet) | Handed::Marker { packet, .. }) =
            self.ring.push(Handed::Frame(packet))
        {
            self.keep(packet, books, port, now);
        }
    }

    /// Whether anything waits for room in the ring.
    #[inline]
    #[must_use]
    pub fn waits(&self) -> bool {
        self.keeper.as_ref().is_some_and(|(keeper, _)| !keeper.is_empty())
    }

    /// What waits for room in the ring, and how much of it has left.
    #[must_use]
    pub fn waiting(&self) -> Ring {
        let len = self.keeper.as_ref().map_or(0, |(keeper, _)| keeper.len());
        Ring { taken: self.flushed, len }
    }

    #[cold]
    fn keep(&mut self, packet: Mbuf, books: &Counters, port: &PortCounters, now: u64) {
        let kept = match &mut self.keeper {
            Some((keeper, _)) if keeper.is_on() => keeper.keep(&packet, Class::Frame, now),
            _ => false,
        };
        drop(packet);
        if kept {
            return add(&books.held, 1);
        }
        books.drop(Drop::HandoffFull, 1);
        add(&port.tx_dropped, 1);
    }

    /// Hands an end marker over; gives it back if there is no room.
    pub fn marker(&mut self, packet: Mbuf, network: Network, books: &Counters, now: u64) -> Result<(), Mbuf> {
        let Network { net, vni } = network;
        let packet = if self.waits() {
            packet
        } else {
            match self.ring.push(Handed::Marker { net, vni, packet }) {
                Ok(()) => return Ok(()),
                Err(Handed::Marker { packet, .. } | Handed::Frame(packet)) => packet,
            }
        };
        let keeper = self.keeper.as_mut().filter(|(keeper, _)| keeper.is_on());
        if keeper.is_some_and(|(keeper, _)| keeper.keep(&packet, Class::Marker, now)) {
            add(&books.held, 1);
            return Ok(());
        }
        Err(packet)
    }

    /// Hands over what waits, as far as the ring has room. Says how much that was.
    #[cold]
    pub fn flush(&mut self, mempool: &Mempool, books: &Counters, port: &PortCounters) -> usize {
        let Some((keeper, network)) = &mut self.keeper else { return 0 };
        let Network { net, vni } = *network;
        let mut moved = 0;
        while moved < BURST_MAX
            && self.ring.len() + ROOM < self.ring.capacity()
            && let Some((packet, class)) = keeper.take(mempool)
        {
            books.release(1);
            moved += 1;
            self.flushed += 1;
            let handed = match class {
                Class::Marker => Handed::Marker { net, vni, packet },
                Class::Frame | Class::Straggler => Handed::Frame(packet),
            };
            // So many lcores cannot have come in between.
            if self.ring.push(handed).is_err() {
                books.drop(Drop::HandoffFull, 1);
                add(&port.tx_dropped, 1);
            }
        }
        moved
    }

    /// Whether the other lcore does not keep up.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.waits() || self.ring.len() > self.ring.capacity() / 2
    }

    /// Drops what waits.
    pub fn discard(&mut self, reason: Drop, books: &Counters, port: &PortCounters) {
        if let Some((keeper, _)) = &mut self.keeper
            && !keeper.is_empty()
        {
            let frames = keeper.discard();
            self.flushed += frames;
            books.release(frames);
            books.drop(reason, frames);
            add(&port.tx_dropped, frames);
        }
    }
}

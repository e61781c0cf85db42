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
use std::sync::Arc;
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
}

// Ordinary frames use the ring.
const _: () = assert!(size_of::<HandoffItem>() == 16);

/// A ring towards the lcore that owns a transmit queue.
pub type Handoff = Arc<ArrayQueue<HandoffItem>>;

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
}

impl Handover {
    /// `tx_hold`: of a vif, with its network.
    #[must_use]
    pub const fn new(ring: Handoff, tx_hold: Option<(Box<TxHold>, Network)>) -> Self {
        Self { ring, tx_hold, flushed: 0 }
    }

    /// Hands a frame over.
    #[inline]
    pub fn put(&mut self, packet: Mbuf, packets: &PacketCounters, port: &PortCounters, now: u64) {
        if self.waits() {
            return self.hold(packet, packets, port, now);
        }
        if let Err(HandoffItem::Frame(packet) | HandoffItem::Marker { packet, .. }) =
            self.ring.push(HandoffItem::Frame(packet))
        {
            self.hold(packet, packets, port, now);
        }
    }

    /// Whether anything waits for room in the ring.
    #[inline]
    #[must_use]
    pub fn waits(&self) -> bool {
        self.tx_hold.as_ref().is_some_and(|(tx_hold, _)| !tx_hold.is_empty())
    }

    /// Whether the other lcore has taken everything.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.ring.is_empty() && !self.waits()
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

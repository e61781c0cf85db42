//! One lcore's egress through one port: its own transmit queue, with a short backlog for a device that is full for a
//! moment, or the ring to the lcore that owns the queue. Every frame is counted here as sent, held or dropped;
//! the caller does not wait.

mod device;
mod quiet;

use super::{
    counters::PortCounters,
    handover::{Handoff, HandoffItem, Handover},
};
use crate::migration::hold::HeldKind;
use crate::migration::tx_hold::{HoldMode, TxHold};
use crate::pipeline::{
    drop_reason::DropReason,
    packet_counters::{PacketCounters, add},
    ports::Network,
};
use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use dpdk::{BURST_MAX, Burst, Mbuf, Mempool, TxQueue};
use quiet::Progress;
use std::{
    cell::Cell,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Most frames that wait for a full device. One descriptor ring: enough for a guest that was not scheduled for a
/// moment, too few to add noticeable latency.
const BACKLOG: usize = 1024;

/// A backlog that has not moved for this long is dropped: the receiver has stopped.
const STUCK_MS: u64 = 100;

/// Pops from a ring that is nearly always empty. A pop from an empty ring waits until other threads see all stores of
/// this lcore, which costs more than a few frames; a check costs two loads.
#[inline]
pub fn try_pop<T>(ring: &ArrayQueue<T>) -> Option<T> {
    if ring.is_empty() { None } else { ring.pop() }
}

/// Egress through one port.
#[derive(Debug)]
pub enum TxPort {
    /// This lcore owns a queue.
    Own(Box<OwnQueue>),
    /// Another lcore owns the queue.
    Other(Handover),
    /// The port has no queue at all.
    Closed,
}

impl TxPort {
    /// Whether this lcore owns a transmit queue of a bond.
    #[must_use]
    pub fn is_own_bond(&self) -> bool {
        matches!(self, Self::Own(queue) if queue.is_bond)
    }

    /// The hold of a vif whose transmit queue this lcore owns.
    #[must_use]
    pub fn own_hold(&self) -> Option<&TxHold> {
        match self {
            Self::Own(queue) => queue.tx_hold.as_deref(),
            Self::Other(_) | Self::Closed => None,
        }
    }
}

/// How many frames in a TX port's own buffers the lcore's counters have as held.
#[derive(Debug, Default)]
struct HeldCount(u64);

impl HeldCount {
    /// `now` frames wait: they are neither sent nor dropped, so they are held.
    #[cold]
    fn count(&mut self, now: usize, packets: &PacketCounters) {
        let now = now as u64;
        add(&packets.held, now.wrapping_sub(self.0));
        self.0 = now;
    }
}

/// A transmit queue and the frames that wait for it. Padded: those of two lcores are allocated one after the other.
#[derive(Debug)]
#[repr(align(128))]
pub struct OwnQueue {
    /// `None` while the device is not in service.
    queue: Option<TxQueue>,
    up: Arc<AtomicBool>,
    staged: Burst,
    backlog: VecDeque<Mbuf>,
    moved_at: u64,
    /// TSC when the device last took a frame.
    given_at: u64,
    stuck_cycles: u64,
    held_count: HeldCount,
    /// Frames of other lcores for this queue.
    pub handoff: Option<Handoff>,
    /// How many items were taken from there since the start.
    pub taken: u64,
    /// The hold for the node behind a vif.
    pub tx_hold: Option<Box<TxHold>>,
    /// It is a bond's: see [`Bonds`](super::bonds::Bonds).
    is_bond: bool,
    /// Other lcores send to the port through other queues.
    pub is_apart: bool,
    /// A question of another lcore waits: see [`quiet`].
    asked: bool,
    progress: Cell<Progress>,
}

impl OwnQueue {
    /// `up`: whether the port has a link, kept by the control thread; `hz`: the TSC's frequency.
    #[must_use]
    pub fn new(
        queue: TxQueue,
        up: Arc<AtomicBool>,
        handoff: Option<Handoff>,
        tx_hold: Option<Box<TxHold>>,
        is_bond: bool,
        hz: u64,
    ) -> Self {
        Self {
            queue: Some(queue),
            up,
            staged: Burst::new(),
            backlog: VecDeque::with_capacity(BACKLOG + BURST_MAX),
            moved_at: 0,
            given_at: 0,
            held_count: HeldCount::default(),
            stuck_cycles: hz / 1000 * STUCK_MS,
            handoff,
            taken: 0,
            tx_hold,
            is_bond,
            is_apart: false,
            asked: false,
            progress: Cell::default(),
        }
    }

    /// Queues a frame; sends when a burst is complete.
    #[inline]
    pub fn put(&mut self, packet: Mbuf, packets: &PacketCounters, port: &PortCounters, now: u64) {
        if self.tx_hold.as_ref().is_some_and(|tx_hold| tx_hold.is_on()) {
            return self.put_migrating(packet, packets, port, now);
        }
        if !self.up.load(Relaxed) {
            return refuse(packet, DropReason::PortDown, packets, port);
        }
        if let Err(packet) = self.staged.push(packet) {
            self.flush(packets, port, now);
            if let Err(packet) = self.staged.push(packet) {
                refuse(packet, DropReason::TxFull, packets, port);
            }
        }
    }

    /// As [`Self::put`], for several frames.
    #[inline]
    pub fn put_all(
        &mut self,
        frames: &mut ArrayVec<Mbuf, BURST_MAX>,
        packets: &PacketCounters,
        port: &PortCounters,
        now: u64,
    ) {
        let ordinary = self.up.load(Relaxed) && self.tx_hold.as_ref().is_none_or(|tx_hold| !tx_hold.is_on());
        if ordinary && self.staged.room() < frames.len() {
            self.flush(packets, port, now);
        }
        if ordinary && self.staged.append(frames) {
            return;
        }
        for packet in frames.drain(..) {
            self.put(packet, packets, port, now);
        }
    }

    /// Queues what other lcores have for this queue; `marker` receives the end markers among that.
    pub fn take_handoff(
        &mut self,
        packets: &PacketCounters,
        port: &PortCounters,
        now: u64,
        mut marker: impl FnMut(Network, Mbuf),
    ) -> usize {
        let mut taken = 0;
        while taken < BURST_MAX
            && let Some(handed) = self.handoff.as_ref().and_then(|ring| try_pop(ring))
        {
            match handed {
                HandoffItem::Frame(packet) => self.put(packet, packets, port, now),
                HandoffItem::Marker { bd, vni, packet } => marker(Network { bd, vni }, packet),
                HandoffItem::Asked => self.asked = true,
            }
            taken += 1;
        }
        self.taken += taken as u64;
        taken
    }

    /// Gives the device all that it accepts. The rest waits, within the backlog's limit.
    #[inline]
    pub fn flush(&mut self, packets: &PacketCounters, port: &PortCounters, now: u64) {
        if self.tx_hold.as_ref().is_some_and(|tx_hold| tx_hold.is_on()) {
            return self.flush_migrating(packets, port, now);
        }
        self.flush_ordinary(packets, port, now);
    }

    #[inline]
    fn flush_ordinary(&mut self, packets: &PacketCounters, port: &PortCounters, now: u64) {
        if self.backlog.is_empty() {
            if self.staged.is_empty() {
                return;
            }
            give(&mut self.queue, &mut self.staged, packets, port);
            (self.moved_at, self.given_at) = (now, now);
        } else {
            self.flush_backlog(packets, port, now);
            self.drop_stuck(packets, port, now);
        }
        if self.staged.is_empty() && self.backlog.is_empty() && self.held_count.0 == 0 {
            return;
        }
        for packet in self.staged.drain() {
            if self.backlog.len() < BACKLOG {
                self.backlog.push_back(packet);
            } else {
                refuse(packet, DropReason::TxFull, packets, port);
            }
        }
        self.held_count.count(self.backlog.len(), packets);
    }

    #[cold]
    fn flush_backlog(&mut self, packets: &PacketCounters, port: &PortCounters, now: u64) {
        let mut burst = Burst::new();
        while !self.backlog.is_empty() {
            while let Some(packet) = self.backlog.pop_front() {
                if let Err(packet) = burst.push(packet) {
                    self.backlog.push_front(packet);
                    break;
                }
            }
            if give(&mut self.queue, &mut burst, packets, port) > 0 {
                (self.moved_at, self.given_at) = (now, now);
            }
            if !burst.is_empty() {
                while let Some(packet) = burst.pop() {
                    self.backlog.push_front(packet);
                }
                break;
            }
        }
    }

    /// Drops a backlog that does not move.
    #[cold]
    fn drop_stuck(&mut self, packets: &PacketCounters, port: &PortCounters, now: u64) {
        if self.backlog.is_empty() {
            return;
        }
        let down = !self.up.load(Relaxed);
        if down
            || now.wrapping_sub(self.moved_at) > self.stuck_cycles
                && !self.queue.as_ref().is_some_and(TxQueue::settles)
        {
            let reason = if down { DropReason::PortDown } else { DropReason::TxFull };
            self.discard(reason, packets, port);
        }
    }

    /// Queues a frame for a migrating node. The order is backlog, staged, hold. It is the device's, or, when the node
    /// has left, the order in which frames are sent on.
    #[cold]
    fn put_migrating(&mut self, mut packet: Mbuf, packets: &PacketCounters, port: &PortCounters, now: u64) {
        let Some(tx_hold) = &mut self.tx_hold else {
            return refuse(packet, DropReason::PortDown, packets, port);
        };
        let kind = match tx_hold.migration.mode() {
            HoldMode::Off | HoldMode::Hold => HeldKind::Frame,
            HoldMode::Forward(_) => HeldKind::Straggler,
            HoldMode::Discard => return refuse(packet, DropReason::HoldExpired, packets, port),
        };
        if kind == HeldKind::Frame && tx_hold.is_empty() {
            packet = match self.staged.push(packet) {
                Ok(()) => return,
                Err(packet) => packet,
            };
            self.flush_migrating(packets, port, now);
            packet = match self.staged.push(packet) {
                Ok(()) => return,
                Err(packet) => packet,
            };
        }
        let Some(tx_hold) = &mut self.tx_hold else {
            return refuse(packet, DropReason::PortDown, packets, port);
        };
        if tx_hold.hold(&packet, kind, now) {
            add(&packets.held, 1);
        } else {
            refuse(packet, DropReason::HoldFull, packets, port);
        }
    }

    /// Queues a frame that was taken from the hold for the device: in front of what the hold still has.
    #[cold]
    pub fn put_replayed(&mut self, packet: Mbuf, packets: &PacketCounters, port: &PortCounters, now: u64) {
        if !self.tx_hold.as_ref().is_some_and(|tx_hold| tx_hold.is_on()) {
            // It was the last one, and the hold has ended.
            return self.put(packet, packets, port, now);
        }
        if self.backlog.len() < BACKLOG {
            self.backlog.push_back(packet);
        } else {
            refuse(packet, DropReason::TxFull, packets, port);
        }
    }

    /// Queues an end marker behind the frames that wait here; returns it if none do.
    #[cold]
    pub fn queue_behind_device(
        &mut self,
        packet: Mbuf,
        packets: &PacketCounters,
        port: &PortCounters,
        now: u64,
    ) -> Result<(), Mbuf> {
        self.flush(packets, port, now);
        let waits = !self.may_replay();
        let tx_hold = self
            .tx_hold
            .as_mut()
            .filter(|tx_hold| marker_waits(tx_hold.migration.mode(), waits, tx_hold.is_empty()));
        if tx_hold.is_some_and(|tx_hold| tx_hold.hold(&packet, HeldKind::Marker, now)) {
            Ok(())
        } else {
            Err(packet)
        }
    }

    /// Queues an end marker behind held frames; returns it if there is no hold.
    pub fn queue_behind_hold(&mut self, packet: Mbuf, now: u64) -> Result<(), Mbuf> {
        let tx_hold = self.tx_hold.as_mut().filter(|tx_hold| tx_hold.migration.is_on());
        if tx_hold.is_some_and(|tx_hold| tx_hold.hold(&packet, HeldKind::Marker, now)) {
            Ok(())
        } else {
            Err(packet)
        }
    }

    /// Gives the device the frames that wait before the hold; what it refuses remains.
    #[cold]
    fn flush_migrating(&mut self, packets: &PacketCounters, port: &PortCounters, now: u64) {
        let before = packets.sent.load(Relaxed);
        let mode = self.tx_hold.as_ref().map_or(HoldMode::Off, |tx_hold| tx_hold.migration.mode());
        match mode {
            // The hold has older frames. What is in front of them waits no longer than at any other port.
            HoldMode::Off => self.flush_ordinary(packets, port, now),
            HoldMode::Hold => {
                if !self.backlog.is_empty() {
                    self.flush_backlog(packets, port, now);
                }
                if self.backlog.is_empty() && !self.staged.is_empty() {
                    give(&mut self.queue, &mut self.staged, packets, port);
                }
            }
            HoldMode::Forward(_) => self.backlog.extend(self.staged.drain()),
            HoldMode::Discard => {
                self.discard(DropReason::HoldExpired, packets, port);
            }
        }
        if mode != HoldMode::Off {
            self.moved_at = now;
        }
        let buffered = self.backlog.len() + self.staged.len();
        self.held_count.count(buffered, packets);
        if let Some(tx_hold) = &mut self.tx_hold {
            if packets.sent.load(Relaxed) != before {
                self.given_at = now;
                tx_hold.migration.counters.delivered(now);
            }
            tx_hold.publish(buffered as u64);
        }
    }

    /// Whether the hold may be emptied into the device now.
    #[must_use]
    pub fn may_replay(&self) -> bool {
        self.backlog.is_empty() && self.staged.is_empty()
    }

    /// The next frame that waits for a node that has left. For a device that accepts frames again, from the hold
    /// only.
    pub fn take_held(&mut self, mempool: &Mempool, packets: &PacketCounters) -> Option<(Mbuf, HeldKind)> {
        let tx_hold = self.tx_hold.as_mut()?;
        let forward = matches!(tx_hold.migration.mode(), HoldMode::Forward(_));
        if forward && self.backlog.is_empty() {
            self.backlog.extend(self.staged.drain());
        }
        if forward && let Some(mut packet) = self.backlog.pop_front() {
            // The device will not finish it now.
            if let Some(unfinished) = packet.unfinished() {
                packet.mark_unfinished(unfinished);
            }
            tx_hold.migration.counters.held.fetch_add(1, Relaxed);
            tx_hold.migration.counters.replayed.fetch_add(1, Relaxed);
            self.held_count.count(self.backlog.len(), packets);
            return Some((packet, HeldKind::Frame));
        }
        let taken = tx_hold.take(mempool)?;
        packets.release(1);
        Some(taken)
    }

    /// Drops everything that waits.
    pub fn discard(&mut self, reason: DropReason, packets: &PacketCounters, port: &PortCounters) {
        for packet in self.backlog.drain(..) {
            refuse(packet, reason, packets, port);
        }
        for packet in self.staged.drain() {
            refuse(packet, reason, packets, port);
        }
        self.held_count.count(0, packets);
        if let Some(tx_hold) = &mut self.tx_hold
            && !tx_hold.is_empty()
        {
            let frames = tx_hold.discard();
            packets.release(frames);
            packets.drop(reason, frames);
            add(&port.tx_dropped, frames);
        }
    }

    /// Drops everything that waits, also what other lcores have for this queue. They have none for it afterwards.
    pub fn close(&mut self, reason: DropReason, packets: &PacketCounters, port: &PortCounters) {
        while let Some(handed) = self.handoff.as_ref().and_then(|ring| try_pop(ring)) {
            self.taken += 1;
            match handed {
                HandoffItem::Frame(packet) => refuse(packet, reason, packets, port),
                HandoffItem::Marker { packet, .. } => {
                    drop(packet);
                    packets.drop(DropReason::EndMarker, 1);
                }
                HandoffItem::Asked => self.asked = true,
            }
        }
        self.discard(reason, packets, port);
    }

    /// Whether frames wait for the device.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.backlog.is_empty()
    }
}

/// Whether an end marker for a node that has arrived here has to wait at its TX port: behind the hold, or behind what
/// the device has not accepted yet. At an ordinary port it does not wait: frames that the marker releases are queued
/// at the end of the same backlog, and a marker in the hold would hold all frames behind it.
fn marker_waits(mode: HoldMode, device_waits: bool, hold_is_empty: bool) -> bool {
    !hold_is_empty || device_waits && mode != HoldMode::Off
}

/// Gives a device the frames from the front that it accepts. Returns how many it sends; the rest stays.
#[inline]
fn give(
    queue: &mut Option<TxQueue>,
    burst: &mut Burst,
    packets: &PacketCounters,
    port: &PortCounters,
) -> usize {
    let Some(queue) = queue else { return 0 };
    let before = queue.refused();
    let sent = queue.burst(burst);
    add(&packets.sent, sent as u64);
    add(&port.sent, sent as u64);
    // What the driver freed because it does not support what the frames request.
    let refused = queue.refused() - before;
    if refused > 0 {
        packets.drop(DropReason::TxRefused, refused);
        add(&port.tx_dropped, refused);
    }
    sent
}

#[cold]
fn refuse(packet: Mbuf, reason: DropReason, packets: &PacketCounters, port: &PortCounters) {
    drop(packet);
    packets.drop(reason, 1);
    add(&port.tx_dropped, 1);
}

#[cfg(test)]
mod tests;

//! One lcore's way out of one port: its own transmit queue, with a short backlog for a device that is full
//! for a moment, or the ring to the lcore that owns the queue. Every frame given to an outlet is counted
//! here as sent or dropped; nothing waits.

use super::{
    counters::PortCounters,
    handover::Handover,
    keeper::{Keeper, Mode},
};
use crate::pipeline::{
    fate::{Counters, Drop, add},
    moving::Class,
    ports::Network,
};
use crate::tables::words::Net;
use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use dpdk::{BURST_MAX, Burst, Mbuf, Mempool, TxQueue};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use stopover_net::Vni;

/// Frames that wait for a full device, at most. One descriptor ring's worth: enough for a guest that was not
/// scheduled for a moment, not enough to add latency that anyone would call a queue.
const BACKLOG: usize = 1024;

/// A backlog that has not moved for this long is dropped: the receiver has stopped.
const STUCK_MS: u64 = 100;

/// Takes from a ring that is nearly always empty. To pop from an empty one waits until all that this lcore has stored
/// is seen by others, which costs more than a few frames; to look costs two loads.
#[inline]
pub fn popped<T>(ring: &ArrayQueue<T>) -> Option<T> {
    if ring.is_empty() { None } else { ring.pop() }
}

/// What one lcore hands to another that owns a transmit queue.
#[derive(Debug)]
pub enum Handed {
    /// A frame to be sent.
    Frame(Mbuf),
    /// An end marker, behind the frames that went this way. That it is one is said here, and not by its bytes, which a
    /// tenant could send as well.
    Marker {
        /// Its network, as numbered here.
        net: Net,
        /// Its network, as numbered on the wire.
        vni: Vni,
        /// Its frame.
        packet: Mbuf,
    },
}

// The ring is on the way of ordinary frames.
const _: () = assert!(size_of::<Handed>() == 16);

/// A ring towards the lcore that owns a transmit queue.
pub type Handoff = Arc<ArrayQueue<Handed>>;

/// End markers that may wait in one place of an lcore. A move brings one for each lcore of each host.
pub const MARKERS: usize = 4096;

/// The way out of one port.
#[derive(Debug)]
pub enum Outlet {
    /// This lcore owns a queue.
    Own(Box<OwnQueue>),
    /// Another lcore owns the queue.
    Other(Handover),
    /// The port has no queue at all.
    Closed,
}

/// How many frames in an outlet's own buffers its lcore's counters have as held.
#[derive(Debug, Default)]
struct Waiting(u64);

impl Waiting {
    /// `now` frames wait. They are neither sent nor dropped, so they are held.
    #[cold]
    fn count(&mut self, now: usize, books: &Counters) {
        let now = now as u64;
        add(&books.held, now.wrapping_sub(self.0));
        self.0 = now;
    }
}

/// A transmit queue and what waits for it. Padded: those of two lcores are allocated one after the other.
#[derive(Debug)]
#[repr(align(128))]
pub struct OwnQueue {
    queue: TxQueue,
    up: Arc<AtomicBool>,
    staged: Burst,
    backlog: VecDeque<Mbuf>,
    moved_at: u64,
    stuck_cycles: u64,
    waiting: Waiting,
    /// What other lcores have for this queue.
    pub handoff: Option<Handoff>,
    /// How much was taken from there since the start.
    pub taken: u64,
    /// What is done for the node behind a vif while that is on the move.
    pub keeper: Option<Box<Keeper>>,
}

impl OwnQueue {
    /// `up`: whether the port has a link, kept by the control thread; `hz`: the TSC's frequency.
    #[must_use]
    pub fn new(
        queue: TxQueue,
        up: Arc<AtomicBool>,
        handoff: Option<Handoff>,
        keeper: Option<Box<Keeper>>,
        hz: u64,
    ) -> Self {
        Self {
            queue,
            up,
            staged: Burst::new(),
            backlog: VecDeque::with_capacity(BACKLOG + BURST_MAX),
            moved_at: 0,
            waiting: Waiting::default(),
            stuck_cycles: hz / 1000 * STUCK_MS,
            handoff,
            taken: 0,
            keeper,
        }
    }

    /// Queues a frame; sends when a burst is complete.
    #[inline]
    pub fn put(&mut self, packet: Mbuf, books: &Counters, port: &PortCounters, now: u64) {
        if self.keeper.as_ref().is_some_and(|keeper| keeper.is_on()) {
            return self.put_moving(packet, books, port, now);
        }
        if !self.up.load(Relaxed) {
            return refuse(packet, Drop::PortDown, books, port);
        }
        if let Err(packet) = self.staged.push(packet) {
            self.flush(books, port, now);
            if let Err(packet) = self.staged.push(packet) {
                refuse(packet, Drop::TxFull, books, port);
            }
        }
    }

    /// As [`Self::put`], for several frames.
    #[inline]
    pub fn put_all(
        &mut self,
        packets: &mut ArrayVec<Mbuf, BURST_MAX>,
        books: &Counters,
        port: &PortCounters,
        now: u64,
    ) {
        let ordinary = self.up.load(Relaxed) && self.keeper.as_ref().is_none_or(|keeper| !keeper.is_on());
        if ordinary && self.staged.room() < packets.len() {
            self.flush(books, port, now);
        }
        if ordinary && self.staged.append(packets) {
            return;
        }
        for packet in packets.drain(..) {
            self.put(packet, books, port, now);
        }
    }

    /// Takes over what other lcores have for this queue; `marker` is given the end markers among that.
    pub fn take_handoff(
        &mut self,
        books: &Counters,
        port: &PortCounters,
        now: u64,
        mut marker: impl FnMut(Network, Mbuf),
    ) -> usize {
        let mut taken = 0;
        while taken < BURST_MAX
            && let Some(handed) = self.handoff.as_ref().and_then(|ring| popped(ring))
        {
            match handed {
                Handed::Frame(packet) => self.put(packet, books, port, now),
                Handed::Marker { net, vni, packet } => marker(Network { net, vni }, packet),
            }
            taken += 1;
        }
        self.taken += taken as u64;
        taken
    }

    /// Gives the device all it takes. What it does not take waits, within the backlog's bounds.
    #[inline]
    pub fn flush(&mut self, books: &Counters, port: &PortCounters, now: u64) {
        if self.keeper.as_ref().is_some_and(|keeper| keeper.is_on()) {
            return self.flush_moving(books, port, now);
        }
        self.flush_ordinary(books, port, now);
    }

    #[inline]
    fn flush_ordinary(&mut self, books: &Counters, port: &PortCounters, now: u64) {
        if self.backlog.is_empty() {
            if self.staged.is_empty() {
                return;
            }
            let refused = self.queue.refused();
            let sent = self.queue.burst(&mut self.staged);
            count_sent(sent, books, port);
            count_refused(self.queue.refused() - refused, books, port);
            self.moved_at = now;
        } else {
            self.flush_backlog(books, port, now);
            self.give_up(books, port, now);
        }
        if self.staged.is_empty() && self.backlog.is_empty() && self.waiting.0 == 0 {
            return;
        }
        for packet in self.staged.drain() {
            if self.backlog.len() < BACKLOG {
                self.backlog.push_back(packet);
            } else {
                refuse(packet, Drop::TxFull, books, port);
            }
        }
        self.waiting.count(self.backlog.len(), books);
    }

    #[cold]
    fn flush_backlog(&mut self, books: &Counters, port: &PortCounters, now: u64) {
        let mut burst = Burst::new();
        while !self.backlog.is_empty() {
            while let Some(packet) = self.backlog.pop_front() {
                if let Err(packet) = burst.push(packet) {
                    self.backlog.push_front(packet);
                    break;
                }
            }
            let refused = self.queue.refused();
            let sent = self.queue.burst(&mut burst);
            count_sent(sent, books, port);
            count_refused(self.queue.refused() - refused, books, port);
            if sent > 0 {
                self.moved_at = now;
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
    fn give_up(&mut self, books: &Counters, port: &PortCounters, now: u64) {
        if self.backlog.is_empty() {
            return;
        }
        let down = !self.up.load(Relaxed);
        if down || now.wrapping_sub(self.moved_at) > self.stuck_cycles {
            let reason = if down { Drop::PortDown } else { Drop::TxFull };
            self.discard(reason, books, port);
        }
    }

    /// Queues a frame for a node on the move. The order is backlog, staged, hold; the device's or, when the node has
    /// gone, that in which they are sent on.
    #[cold]
    fn put_moving(&mut self, mut packet: Mbuf, books: &Counters, port: &PortCounters, now: u64) {
        let Some(keeper) = &mut self.keeper else { return refuse(packet, Drop::PortDown, books, port) };
        if keeper.draining {
            if self.backlog.len() < BACKLOG {
                return self.backlog.push_back(packet);
            }
            return refuse(packet, Drop::TxFull, books, port);
        }
        let class = match keeper.moves.mode() {
            Mode::Off | Mode::Keep => Class::Frame,
            Mode::Forward(_) => Class::Straggler,
            Mode::Discard => return refuse(packet, Drop::HoldExpired, books, port),
        };
        if class == Class::Frame && keeper.is_empty() {
            packet = match self.staged.push(packet) {
                Ok(()) => return,
                Err(packet) => packet,
            };
            self.flush_moving(books, port, now);
            packet = match self.staged.push(packet) {
                Ok(()) => return,
                Err(packet) => packet,
            };
        }
        let Some(keeper) = &mut self.keeper else { return refuse(packet, Drop::PortDown, books, port) };
        if keeper.keep(&packet, class, now) {
            add(&books.held, 1);
        } else {
            refuse(packet, Drop::HoldFull, books, port);
        }
    }

    /// Queues an end marker behind what waits here; gives it back if nothing does.
    #[cold]
    pub fn follow(
        &mut self,
        packet: Mbuf,
        books: &Counters,
        port: &PortCounters,
        now: u64,
    ) -> Result<(), Mbuf> {
        self.flush(books, port, now);
        let waits = !self.may_drain();
        let keeper =
            self.keeper.as_mut().filter(|keeper| marker_waits(keeper.moves.mode(), waits, keeper.is_empty()));
        if keeper.is_some_and(|keeper| keeper.keep(&packet, Class::Marker, now)) {
            Ok(())
        } else {
            Err(packet)
        }
    }

    /// Queues an end marker behind what is kept; gives it back if nothing is kept here.
    pub fn relay(&mut self, packet: Mbuf, now: u64) -> Result<(), Mbuf> {
        let keeper = self.keeper.as_mut().filter(|keeper| keeper.moves.is_on());
        if keeper.is_some_and(|keeper| keeper.keep(&packet, Class::Marker, now)) {
            Ok(())
        } else {
            Err(packet)
        }
    }

    /// Gives the device what waits before the hold; what it refuses stays.
    #[cold]
    fn flush_moving(&mut self, books: &Counters, port: &PortCounters, now: u64) {
        let before = books.sent.load(Relaxed);
        let mode = self.keeper.as_ref().map_or(Mode::Off, |keeper| keeper.moves.mode());
        match mode {
            // The hold has something of before. What is in front of it waits no longer than any other port's.
            Mode::Off => self.flush_ordinary(books, port, now),
            Mode::Keep => {
                if !self.backlog.is_empty() {
                    self.flush_backlog(books, port, now);
                }
                if self.backlog.is_empty() && !self.staged.is_empty() {
                    let refused = self.queue.refused();
                    let sent = self.queue.burst(&mut self.staged);
                    count_sent(sent, books, port);
                    count_refused(self.queue.refused() - refused, books, port);
                }
            }
            Mode::Forward(_) => self.backlog.extend(self.staged.drain()),
            Mode::Discard => {
                self.discard(Drop::HoldExpired, books, port);
            }
        }
        if mode != Mode::Off {
            self.moved_at = now;
        }
        let loose = self.backlog.len() + self.staged.len();
        self.waiting.count(loose, books);
        if let Some(keeper) = &mut self.keeper {
            if books.sent.load(Relaxed) != before {
                keeper.moves.tally.delivered(now);
            }
            keeper.publish(loose as u64);
        }
    }

    /// Whether the hold may be emptied into the device now.
    #[must_use]
    pub fn may_drain(&self) -> bool {
        self.backlog.is_empty() && self.staged.is_empty()
    }

    /// The next frame that waits for a node that has gone, or, from the hold only, for a device that takes frames
    /// again.
    pub fn take_kept(&mut self, mempool: &Mempool, books: &Counters) -> Option<(Mbuf, Class)> {
        let keeper = self.keeper.as_mut()?;
        let forward = matches!(keeper.moves.mode(), Mode::Forward(_));
        if forward && self.backlog.is_empty() {
            self.backlog.extend(self.staged.drain());
        }
        if forward && let Some(mut packet) = self.backlog.pop_front() {
            // The device was asked to finish it, and will not.
            if let Some(unfinished) = packet.unfinished() {
                packet.mark_unfinished(unfinished);
            }
            keeper.moves.tally.held.fetch_add(1, Relaxed);
            keeper.moves.tally.replayed.fetch_add(1, Relaxed);
            self.waiting.count(self.backlog.len(), books);
            return Some((packet, Class::Frame));
        }
        let taken = keeper.take(mempool)?;
        books.release(1);
        Some(taken)
    }

    /// Drops everything that waits.
    pub fn discard(&mut self, reason: Drop, books: &Counters, port: &PortCounters) {
        for packet in self.backlog.drain(..) {
            refuse(packet, reason, books, port);
        }
        for packet in self.staged.drain() {
            refuse(packet, reason, books, port);
        }
        self.waiting.count(0, books);
        if let Some(keeper) = &mut self.keeper
            && !keeper.is_empty()
        {
            let frames = keeper.discard();
            books.release(frames);
            books.drop(reason, frames);
            add(&port.tx_dropped, frames);
        }
    }

    /// Whether frames wait for the device.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.backlog.is_empty()
    }
}

/// Whether an end marker for a node that has come here has to wait at its outlet: behind the hold, or behind what the
/// device has not taken yet. At an ordinary port it does not: frames that its sender's marker releases go to the end of
/// the same backlog, and a marker in the hold would have all frames kept behind it.
fn marker_waits(mode: Mode, device_waits: bool, hold_is_empty: bool) -> bool {
    !hold_is_empty || device_waits && mode != Mode::Off
}

#[inline]
fn count_sent(n: usize, books: &Counters, port: &PortCounters) {
    add(&books.sent, n as u64);
    add(&port.sent, n as u64);
}

/// Frames that the driver freed because it cannot do what they ask of it.
#[inline]
fn count_refused(n: u64, books: &Counters, port: &PortCounters) {
    if n > 0 {
        books.drop(Drop::TxRefused, n);
        add(&port.tx_dropped, n);
    }
}

#[cold]
fn refuse(packet: Mbuf, reason: Drop, books: &Counters, port: &PortCounters) {
    drop(packet);
    books.drop(reason, 1);
    add(&port.tx_dropped, 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::moving::Heading;

    #[test]
    fn a_marker_waits_at_a_port_that_keeps_frames_and_never_begins_a_hold_at_another() {
        for mode in [Mode::Keep, Mode::Discard, Mode::Forward(Heading::Port(1))] {
            assert!(marker_waits(mode, true, true) && !marker_waits(mode, false, true));
        }
        assert!(!marker_waits(Mode::Off, true, true), "the hold would keep all that comes, without a limit");
        assert!(marker_waits(Mode::Off, false, false), "in order behind what was kept before");
    }

    #[test]
    fn frames_that_wait_for_a_device_are_held_until_they_are_sent_or_dropped() {
        let (books, mut waiting) = (Counters::default(), Waiting::default());
        add(&books.received, 100);
        for (waits, sent) in [(100, 0), (64, 36), (64, 0), (25, 39)] {
            add(&books.sent, sent);
            waiting.count(waits, &books);
            assert_eq!((books.read().held, books.read().unaccounted()), (waits as u64, 0));
        }
        books.drop(Drop::HoldExpired, 25);
        waiting.count(0, &books);
        assert_eq!((books.read().held, books.read().unaccounted()), (0, 0));
    }
}

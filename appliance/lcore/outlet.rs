//! One lcore's way out of one port: its own transmit queue, with a short backlog for a device that is full
//! for a moment, or the ring to the lcore that owns the queue. Every frame given to an outlet is counted
//! here as sent or dropped; nothing waits.

use super::counters::PortCounters;
use crate::pipeline::fate::{Counters, Drop, add};
use crossbeam::queue::ArrayQueue;
use dpdk_sys::{BURST_MAX, Burst, Mbuf, TxQueue};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Frames that wait for a full device, at most. One descriptor ring's worth: enough for a guest that was not
/// scheduled for a moment, not enough to add latency that anyone would call a queue.
const BACKLOG: usize = 1024;

/// A backlog that has not moved for this long is dropped: the receiver has stopped.
const STUCK_MS: u64 = 100;

/// A ring of frames towards the lcore that owns a transmit queue.
pub type Handoff = Arc<ArrayQueue<Mbuf>>;

/// The way out of one port.
#[derive(Debug)]
pub enum Outlet {
    /// This lcore owns a queue.
    Own(Box<OwnQueue>),
    /// Another lcore owns the queue.
    Other(Handoff),
    /// The port has no queue at all.
    Closed,
}

/// A transmit queue and what waits for it.
#[derive(Debug)]
pub struct OwnQueue {
    queue: TxQueue,
    up: Arc<AtomicBool>,
    staged: Burst,
    backlog: VecDeque<Mbuf>,
    moved_at: u64,
    stuck_cycles: u64,
    /// Frames that other lcores have for this queue.
    pub handoff: Option<Handoff>,
}

impl OwnQueue {
    /// `up`: whether the port has a link, kept by the control thread; `hz`: the TSC's frequency.
    #[must_use]
    pub fn new(queue: TxQueue, up: Arc<AtomicBool>, handoff: Option<Handoff>, hz: u64) -> Self {
        Self {
            queue,
            up,
            staged: Burst::new(),
            backlog: VecDeque::with_capacity(BACKLOG),
            moved_at: 0,
            stuck_cycles: hz / 1000 * STUCK_MS,
            handoff,
        }
    }

    /// Queues a frame; sends when a burst is complete.
    #[inline]
    pub fn put(&mut self, packet: Mbuf, books: &Counters, port: &PortCounters, now: u64) {
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

    /// Takes over what other lcores have for this queue.
    pub fn take_handoff(&mut self, books: &Counters, port: &PortCounters, now: u64) -> usize {
        let mut taken = 0;
        while taken < BURST_MAX
            && let Some(packet) = self.handoff.as_ref().and_then(|ring| ring.pop())
        {
            self.put(packet, books, port, now);
            taken += 1;
        }
        taken
    }

    /// Gives the device all it takes. What it does not take waits, within the backlog's bounds.
    #[inline]
    pub fn flush(&mut self, books: &Counters, port: &PortCounters, now: u64) {
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
        }
        for packet in self.staged.drain() {
            if self.backlog.len() < BACKLOG {
                self.backlog.push_back(packet);
            } else {
                refuse(packet, Drop::TxFull, books, port);
            }
        }
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
        let down = !self.up.load(Relaxed);
        if down || now.wrapping_sub(self.moved_at) > self.stuck_cycles {
            let reason = if down { Drop::PortDown } else { Drop::TxFull };
            self.discard(reason, books, port);
        }
    }

    /// Drops everything that waits.
    pub fn discard(&mut self, reason: Drop, books: &Counters, port: &PortCounters) {
        for packet in self.backlog.drain(..) {
            refuse(packet, reason, books, port);
        }
        for packet in self.staged.drain() {
            refuse(packet, reason, books, port);
        }
    }

    /// Whether frames wait for the device.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.backlog.is_empty()
    }
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

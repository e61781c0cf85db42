//! What one lcore holds for migrating nodes, beside the TX ports: frames of senders whose earlier frames are still
//! under way through the old host, and copies of frames delivered to a port that does not report what it delivered.
//! Everything here is allocated when the lcore starts.

use super::hold::{HeldKind, HoldPool, HoldQueue};
use super::record::{
    EndMarkerBarrier, MigrationCounters, MigrationRecord, RecordMode, RedirectTarget, WINDOW,
};
use super::tx_hold::{hold, take};
use crate::tables::{View, packed::Bd};
use dpdk::{Mbuf, Mempool, cycles};
use std::sync::{
    Arc,
    atomic::Ordering::{AcqRel, Relaxed},
};
use stopover_net::{Mac, Vni};

/// Most queues in use on one lcore: senders of arriving nodes, and windows.
const QUEUES: usize = 256;
/// How often queues are checked while no frame may leave any of them. A check costs some 60 cycles a queue: with a
/// hundred queues, one in every round would cost the frames of all other nodes more than their whole path.
const CHECKS_PER_SECOND: u64 = 10_000;

/// One queue in use.
#[derive(Debug)]
pub struct SenderQueue {
    index: u32,
    sender: u32,
    queue: HoldQueue,
    since: u64,
    arrival: Option<Arc<EndMarkerBarrier>>,
    counters: Arc<MigrationCounters>,
    /// The node's bridge domain.
    pub bd: Bd,
    /// The node's VNI.
    pub vni: Vni,
    /// The node.
    pub mac: Mac,
    /// Its port here.
    pub port: u16,
    /// Its VLAN there.
    pub vlan: u16,
}

/// What is to be done with a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueAction {
    /// Wait.
    Wait,
    /// Deliver to the node's port.
    Deliver,
    /// Send on to where the node is now.
    Forward(RedirectTarget),
}

/// All queues of an lcore.
#[derive(Debug)]
pub struct ReorderBuffer {
    pool: Arc<HoldPool>,
    spare: Vec<HoldQueue>,
    queues: Vec<SenderQueue>,
    node_bytes: u64,
    marker_wait: u64,
    longest_wait: u64,
    check_interval: u64,
    /// TSC of the next check.
    next_check: u64,
}

impl ReorderBuffer {
    /// `node_bytes`: the budget of one node; `marker_wait`: how long a sender's end marker is waited for, in TSC
    /// cycles; `longest_wait`: the same while frames still arrive through the old host.
    #[must_use]
    pub fn new(pool: Arc<HoldPool>, node_bytes: u64, marker_wait: u64, longest_wait: u64) -> Self {
        let blocks = HoldPool::blocks_for(node_bytes as usize);
        let spare = (0..QUEUES).map(|_| HoldQueue::new(blocks)).collect();
        let check_interval = cycles::tsc_hz() / CHECKS_PER_SECOND;
        let queues = Vec::with_capacity(QUEUES);
        Self { pool, spare, queues, node_bytes, marker_wait, longest_wait, check_interval, next_check: 0 }
    }

    /// Whether no queue is in use.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether the queues are to be checked now.
    #[inline]
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        !self.is_empty() && now >= self.next_check
    }

    /// All queues were checked: `all_wait` if no frame may leave any of them.
    pub fn schedule_check(&mut self, now: u64, all_wait: bool) {
        self.next_check = if all_wait { now + self.check_interval } else { now };
    }

    /// How many queues are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    /// A queue in use.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&SenderQueue> {
        self.queues.get(at)
    }

    /// Whether frames of this sender are held.
    #[must_use]
    pub fn has_held(&self, index: u32, sender: u32) -> bool {
        self.queues.iter().any(|w| w.index == index && w.sender == sender)
    }

    /// The queue of a sender. Records are reused for other nodes, maybe before the queue of the last node is empty.
    fn find(&self, record: &MigrationRecord, index: u32, sender: u32) -> Option<usize> {
        let same = |w: &SenderQueue| w.index == index && w.sender == sender;
        self.queues.iter().position(|w| same(w) && w.mac == record.mac && w.bd == record.bd)
    }

    /// Holds a frame. False when there is no room.
    pub fn hold(
        &mut self,
        record: &MigrationRecord,
        index: u32,
        sender: u32,
        kind: HeldKind,
        packet: &Mbuf,
        now: u64,
    ) -> bool {
        let at = match self.find(record, index, sender) {
            Some(at) => at,
            None => {
                let Some(queue) = self.spare.pop() else { return false };
                let arrival = match &record.mode {
                    RecordMode::Arriving(arrival) => Some(Arc::clone(arrival)),
                    RecordMode::Window { .. } | RecordMode::Forward(_) => None,
                };
                if let Some(arrival) = &arrival {
                    arrival.waiting.fetch_add(1, AcqRel);
                }
                self.queues.push(SenderQueue {
                    index,
                    sender,
                    queue,
                    since: now,
                    arrival,
                    counters: Arc::clone(&record.counters),
                    bd: record.bd,
                    vni: record.vni,
                    mac: record.mac,
                    port: record.port,
                    vlan: record.vlan,
                });
                self.queues.len() - 1
            }
        };
        let Some(w) = self.queues.get_mut(at) else { return false };
        let held = hold(&mut w.queue, &self.pool, packet, kind, now, &w.counters, self.node_bytes);
        if !held {
            self.end_if_empty(at);
        }
        held
    }

    /// What is to be done with queue `at` now. Copies that are too old for a window are removed, and added to
    /// `expired`.
    pub fn next_action(&mut self, at: usize, view: &View, now: u64, expired: &mut u64) -> QueueAction {
        let Some(w) = self.queues.get_mut(at) else { return QueueAction::Wait };
        let record = view.migrating(w.index).filter(|record| record.mac == w.mac && record.bd == w.bd);
        match (record.map(|record| &record.mode), w.sender) {
            (Some(RecordMode::Window { cycles }), WINDOW) => {
                let before = w.queue.bytes();
                let removed = w.queue.expire_before(&self.pool, now.saturating_sub(*cycles)) as u64;
                w.counters.hold_removed(removed, (before - w.queue.bytes()) as u64);
                *expired += removed;
                QueueAction::Wait
            }
            (Some(RecordMode::Forward(target)), WINDOW) => QueueAction::Forward(*target),
            // The migration was cancelled: every copy was delivered.
            (_, WINDOW) => {
                let (frames, bytes) = (w.queue.len() as u64, w.queue.bytes() as u64);
                w.queue.clear(&self.pool);
                w.counters.hold_removed(frames, bytes);
                *expired += frames;
                QueueAction::Wait
            }
            (Some(RecordMode::Arriving(arrival)), sender) => {
                // While frames arrive through the old host, the marker is still behind them.
                let last_seen = arrival.old_path_tsc.load(Relaxed).max(w.since);
                let waits = now.saturating_sub(last_seen) < self.marker_wait
                    && now.saturating_sub(w.since) < self.longest_wait;
                if !arrival.is_open(sender) && waits {
                    return QueueAction::Wait;
                }
                if !arrival.is_open(sender) {
                    MigrationCounters::add(&w.counters.reordered, w.queue.len() as u64);
                    arrival.open(sender);
                }
                QueueAction::Deliver
            }
            (Some(RecordMode::Forward(target)), _) => QueueAction::Forward(*target),
            (Some(RecordMode::Window { .. }) | None, _) => QueueAction::Deliver,
        }
    }

    /// Takes the oldest frame of queue `at` into a buffer of `mempool`.
    pub fn take(&mut self, at: usize, mempool: &Mempool) -> Option<(Mbuf, HeldKind)> {
        let w = self.queues.get_mut(at)?;
        let taken = take(&mut w.queue, &self.pool, mempool, &w.counters)?;
        if taken.1 == HeldKind::Frame {
            MigrationCounters::add(&w.counters.replayed, 1);
            if w.sender == WINDOW {
                MigrationCounters::add(&w.counters.duplicated, 1);
            }
        }
        Some(taken)
    }

    /// Removes queue `at` if it is empty. Returns whether it did; then another queue has that index.
    pub fn end_if_empty(&mut self, at: usize) -> bool {
        if self.queues.get(at).is_none_or(|w| !w.queue.is_empty()) {
            return false;
        }
        let w = self.queues.swap_remove(at);
        if let Some(arrival) = &w.arrival {
            arrival.waiting.fetch_sub(1, AcqRel);
        }
        self.spare.push(w.queue);
        true
    }

    /// Empties everything. Returns how many frames were dropped.
    pub fn discard(&mut self) -> u64 {
        let mut frames = 0;
        while let Some(w) = self.queues.first_mut() {
            frames += w.queue.len() as u64;
            w.counters.hold_removed(w.queue.len() as u64, w.queue.bytes() as u64);
            w.counters.dropped.fetch_add(w.queue.len() as u64, Relaxed);
            w.queue.clear(&self.pool);
            self.end_if_empty(0);
        }
        frames
    }
}

//! The hold of a TX port: what it does with frames for a vif whose node is migrating. The ring reports exactly what
//! it accepted. What it refuses was not delivered, and remains here in order until the ring accepts frames again, or
//! the control thread sets where the node is now. The control thread sets the mode; the lcore that owns the transmit
//! queue does everything else.

use super::hold::{HeldKind, HoldPool, HoldQueue, Meta};
use super::record::{MigrationCounters, RedirectTarget};
use dpdk::{Mbuf, Mempool, Unfinished};
use std::sync::{
    Arc,
    atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// What a TX port does with frames that its device refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldMode {
    /// As for any port: a short backlog, then a drop.
    Off,
    /// Hold them.
    Hold,
    /// Send nothing to the device: held and new frames go elsewhere.
    Forward(RedirectTarget),
    /// Drop held and new frames: the hold's time is over.
    Discard,
}

impl HoldMode {
    const fn pack(self) -> u64 {
        match self {
            Self::Off => 0,
            Self::Hold => 1 << 32,
            Self::Forward(RedirectTarget::Host(host)) => 2 << 32 | host as u64,
            Self::Forward(RedirectTarget::Port(port)) => 3 << 32 | port as u64,
            Self::Discard => 4 << 32,
        }
    }

    const fn unpack(word: u64) -> Self {
        match word >> 32 {
            1 => Self::Hold,
            2 => Self::Forward(RedirectTarget::Host(word as u32)),
            3 => Self::Forward(RedirectTarget::Port(word as u16)),
            4 => Self::Discard,
            _ => Self::Off,
        }
    }
}

/// A port's part in a migration, shared by the control thread and the lcores that send from the port.
#[derive(Debug, Default)]
pub struct PortMigration {
    mode: AtomicU64,
    /// Its frames by outcome.
    pub counters: Arc<MigrationCounters>,
    /// Frames that wait outside the hold, in the TX ports' own buffers.
    pub buffered: AtomicU64,
    /// The host whose end markers are counted (upper half), and how many have been sent on.
    relayed: AtomicU64,
}

impl PortMigration {
    /// A port without a migration; several ports of one node share its counters.
    #[must_use]
    pub fn new(counters: Arc<MigrationCounters>) -> Self {
        Self { counters, ..Self::default() }
    }

    /// Sets the mode.
    pub fn set(&self, mode: HoldMode) {
        self.mode.store(mode.pack(), Relaxed);
    }

    /// The mode.
    #[inline]
    #[must_use]
    pub fn mode(&self) -> HoldMode {
        HoldMode::unpack(self.mode.load(Relaxed))
    }

    /// Whether the mode is another than `Off`.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mode.load(Relaxed) != 0
    }

    /// Counts end markers of this host from now on.
    pub fn count_relayed(&self, host: u32) {
        self.relayed.store(u64::from(host) << 32, Relaxed);
    }

    /// Counts an end marker of a host that was sent on, behind all held frames.
    pub fn marker_relayed(&self, host: u32) {
        if (self.relayed.load(Relaxed) >> 32) as u32 == host {
            self.relayed.fetch_add(1, Release);
        }
    }

    /// How many were sent on since [`PortMigration::count_relayed`].
    #[must_use]
    pub fn relayed(&self) -> u32 {
        self.relayed.load(Acquire) as u32
    }

    /// Whether no frame waits, in the hold or before it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.held_now.load(Relaxed) == 0 && self.buffered.load(Relaxed) == 0
    }
}

/// One TX port's share of a port's hold.
#[derive(Debug)]
pub struct TxHold {
    /// Set by the control thread.
    pub migration: Arc<PortMigration>,
    pool: Arc<HoldPool>,
    queue: HoldQueue,
    node_bytes: u64,
    published: u64,
}

impl TxHold {
    /// `queue`: empty, of `pool`; `node_bytes`: the budget of one node.
    #[must_use]
    pub fn new(
        migration: Arc<PortMigration>,
        pool: Arc<HoldPool>,
        queue: HoldQueue,
        node_bytes: u64,
    ) -> Self {
        Self { migration, pool, queue, node_bytes, published: 0 }
    }

    /// Whether the hold is in use. The control thread may have ended it just when a frame was held.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.migration.is_on() || !self.queue.is_empty()
    }

    /// Whether the hold is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Frames and end markers in the hold.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Copies a frame into the hold. Returns false if there is no room.
    pub fn hold(&mut self, packet: &Mbuf, kind: HeldKind, now: u64) -> bool {
        let counters = &self.migration.counters;
        let held = hold(&mut self.queue, &self.pool, packet, kind, now, counters, self.node_bytes);
        match (held, kind) {
            (false, _) => MigrationCounters::add(&counters.dropped, 1),
            (true, HeldKind::Frame) => MigrationCounters::add(&counters.held, 1),
            (true, HeldKind::Straggler) => MigrationCounters::add(&counters.redirected, 1),
            (true, HeldKind::Marker) => {}
        }
        held
    }

    /// Takes the oldest frame out of the hold, into a buffer of `mempool`. `None` if there is none, or no buffer.
    pub fn take(&mut self, mempool: &Mempool) -> Option<(Mbuf, HeldKind)> {
        let taken = take(&mut self.queue, &self.pool, mempool, &self.migration.counters)?;
        if taken.1 == HeldKind::Frame {
            MigrationCounters::add(&self.migration.counters.replayed, 1);
        }
        Some(taken)
    }

    /// Empties the hold. Returns how many frames were dropped.
    pub fn discard(&mut self) -> u64 {
        let (frames, bytes) = (self.queue.len() as u64, self.queue.bytes() as u64);
        self.queue.clear(&self.pool);
        self.migration.counters.hold_removed(frames, bytes);
        MigrationCounters::add(&self.migration.counters.dropped, frames);
        frames
    }

    /// Publishes how many frames wait outside the hold.
    pub fn publish(&mut self, buffered: u64) {
        if buffered != self.published {
            self.migration.buffered.fetch_add(buffered.wrapping_sub(self.published), Relaxed);
            self.published = buffered;
        }
    }
}

/// Copies a frame to the end of a hold. Returns false if there is no room within the node's budget or the pool.
pub fn hold(
    queue: &mut HoldQueue,
    pool: &HoldPool,
    packet: &Mbuf,
    kind: HeldKind,
    now: u64,
    counters: &MigrationCounters,
    node_bytes: u64,
) -> bool {
    if counters.held_now_bytes.load(Relaxed) + packet.len() as u64 > node_bytes {
        return false;
    }
    let unfinished = packet.unfinished();
    let meta = Meta {
        kind: kind as u8,
        unfinished: unfinished.is_some(),
        gso: unfinished.and_then(|u| u.gso),
        at: now,
    };
    let before = queue.bytes();
    let fits = queue.push(pool, meta, packet.segment_slices(), packet.len()).is_ok();
    if fits {
        counters.hold_added((queue.bytes() - before) as u64);
    }
    fits
}

/// Takes the oldest frame of a hold into a buffer of `mempool`.
pub fn take(
    queue: &mut HoldQueue,
    pool: &HoldPool,
    mempool: &Mempool,
    counters: &MigrationCounters,
) -> Option<(Mbuf, HeldKind)> {
    let meta = queue.front()?;
    let mut packet = Mbuf::from_chunks(mempool, queue.front_chunks(), queue.front_len())?;
    if meta.unfinished {
        packet.mark_unfinished(Unfinished { gso: meta.gso });
    }
    let before = queue.bytes();
    queue.pop_front(pool);
    counters.hold_removed(1, (before - queue.bytes()) as u64);
    Some((packet, HeldKind::from_u8(meta.kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_survive_packing() {
        let modes = [
            HoldMode::Off,
            HoldMode::Hold,
            HoldMode::Forward(RedirectTarget::Host(0)),
            HoldMode::Forward(RedirectTarget::Host(u32::MAX)),
            HoldMode::Forward(RedirectTarget::Port(7)),
            HoldMode::Discard,
        ];
        let shared = PortMigration::default();
        assert!(!shared.is_on());
        for mode in modes {
            shared.set(mode);
            assert_eq!(shared.mode(), mode);
            assert_eq!(shared.is_on(), mode != HoldMode::Off);
        }
    }
}

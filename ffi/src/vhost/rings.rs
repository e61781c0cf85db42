//! What lcores and librte_vhost's thread share of a vhost-user port: which device has the rings now, and which of them
//! a guest has enabled. Enters: changes by librte_vhost's thread, bursts of lcores. Leaves: the frames that a ring gave
//! or took.
//!
//! A device may be freed only while no lcore is within it. An lcore marks the ring busy, then reads the device; the
//! thread that detaches takes the device away, then waits for busy rings. Both have a full barrier between the two
//! steps, so one of them sees the other (Dekker).

mod taken;

use std::ffi::c_int;
use std::hint::spin_loop;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};
use std::sync::{Mutex, PoisonError};

use super::{GuestOffloads, VhostState};
use crate::burst::Burst;
use crate::event::{Handler, PortEvent};
use crate::mempool::Mempool;
use crate::port::PortStats;
use crate::sys;

/// There is no device.
const NONE: c_int = -1;
/// No ring of a direction is enabled.
const NO_RING: u16 = u16::MAX;
/// Most frames that librte_vhost moves in one call (`MAX_PKT_BURST`).
const PER_CALL: u16 = 32;

/// From the guest, or to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// We receive from it: odd numbers of the protocol.
    FromGuest,
    /// We send to it: even numbers.
    ToGuest,
}

impl Direction {
    /// The protocol's number of a ring.
    const fn ring(self, queue: u16) -> u16 {
        match self {
            Self::FromGuest => queue * 2 + 1,
            Self::ToGuest => queue * 2,
        }
    }
}

/// One queue of ours, written by its lcore, and which device has enabled the ring with its number, written by
/// librte_vhost's thread. Padded: two lcores use neighbours.
#[derive(Debug)]
#[repr(align(128))]
struct Place {
    /// The queue's lcore is within the device.
    busy: AtomicBool,
    /// The device whose guest has enabled the ring. Two may be connected at once, while one replaces the other.
    enabled_by: AtomicI32,
    frames: AtomicU64,
    bytes: AtomicU64,
    /// Frames that found no buffer of the guest; each attempt counts.
    refused: AtomicU64,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            busy: AtomicBool::new(false),
            enabled_by: AtomicI32::new(NONE),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl Place {
    /// Adds to a counter that only the caller writes.
    #[inline]
    fn count(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
    }
}

/// What an lcore keeps of its queue.
#[derive(Debug)]
pub(crate) struct Own {
    /// Its queue.
    queue: u16,
    /// The changes for which the ring's notifications are off.
    quiet: u32,
    /// Frames freed because the guest cannot take them.
    pub(crate) refused: u64,
}

impl Own {
    pub(crate) const fn new(queue: u16) -> Self {
        // No change has this number before four billion of them.
        Self { queue, quiet: u32::MAX, refused: 0 }
    }
}

/// See the module.
pub(crate) struct Rings {
    device: AtomicI32,
    features: AtomicU64,
    /// By the protocol's number.
    places: Box<[Place]>,
    /// For each queue to the guest, the ring it uses.
    ring_of: Box<[AtomicU16]>,
    /// How many rings these are.
    used_rings: AtomicUsize,
    /// The guest has still to take frames that were in its rings when they came or changed: another ring could overtake
    /// them. Nothing is given to it until this TSC; 0: it has taken them.
    settles_until: AtomicU64,
    /// How far its rings were when it was last asked for.
    settle_progress: AtomicU32,
    /// Counts changes of device or rings.
    changes: AtomicU32,
    handler: Mutex<Option<Handler>>,
    /// Counters when they were last reset.
    reset: Mutex<PortStats>,
}

impl Rings {
    /// For this many pairs, without a device.
    pub(crate) fn new(queues: u16) -> Self {
        Self {
            device: AtomicI32::new(NONE),
            features: AtomicU64::new(0),
            places: (0..queues * 2).map(|_| Place::default()).collect(),
            ring_of: (0..queues).map(|_| AtomicU16::new(NO_RING)).collect(),
            used_rings: AtomicUsize::new(0),
            settles_until: AtomicU64::new(0),
            settle_progress: AtomicU32::new(0),
            changes: AtomicU32::new(0),
            handler: Mutex::new(None),
            reset: Mutex::default(),
        }
    }

    /// A device's rings run. Another device that had them loses them: its front end was replaced.
    pub(super) fn attach(&self, device: c_int, features: u64) {
        if self.device.load(Acquire) != NONE {
            log::warn!("vhost: a second front end has connected; the first no longer has the port");
            self.detach_any();
        }
        self.features.store(features, Relaxed);
        self.spread(device);
        self.device.store(device, Release);
        self.report(PortEvent::Link);
    }

    /// The device loses the rings. Waits until no lcore uses it.
    pub(super) fn detach(&self, device: c_int) {
        if self.device.compare_exchange(device, NONE, SeqCst, Relaxed).is_ok() {
            self.wait_for_lcores();
            self.report(PortEvent::Link);
        }
    }

    /// The same for whichever has them, without a report.
    pub(super) fn detach_any(&self) {
        self.device.store(NONE, SeqCst);
        self.wait_for_lcores();
    }

    fn wait_for_lcores(&self) {
        fence(SeqCst);
        for place in &self.places {
            let mut spins = 0_u32;
            while place.busy.load(Acquire) {
                spins += 1;
                // Its lcore may share this CPU.
                if spins.is_multiple_of(1000) { std::thread::yield_now() } else { spin_loop() }
            }
        }
    }

    /// The guest of a device has enabled or disabled a ring.
    pub(super) fn enable(&self, device: c_int, ring: u16, on: bool) {
        let Some(place) = self.places.get(usize::from(ring)) else { return };
        place.enabled_by.store(if on { device } else { NONE }, Relaxed);
        if self.device.load(Relaxed) == device {
            self.spread(device);
            self.report(PortEvent::Queues);
        }
    }

    /// Spreads the queues to the guest over the rings it has enabled.
    fn spread(&self, device: c_int) {
        let enabled: Vec<u16> = (0..)
            .zip(&self.places)
            .filter(|(number, place)| number % 2 == 0 && place.enabled_by.load(Relaxed) == device)
            .map(|(number, _)| number)
            .collect();
        for (queue, ring) in self.ring_of.iter().enumerate() {
            let at = queue.checked_rem(enabled.len()).and_then(|at| enabled.get(at));
            ring.store(at.copied().unwrap_or(NO_RING), Relaxed);
        }
        self.used_rings.store(enabled.len().min(self.ring_of.len()), Relaxed);
        self.begin_to_settle(device, &enabled);
        self.changes.fetch_add(1, Relaxed);
    }

    /// Rings that run have other features: the other side may only change dirty logging.
    pub(super) fn change_features(&self, features: u64) {
        self.features.store(features, Relaxed);
        self.report(PortEvent::Logging);
    }

    /// The connection of a device has ended.
    pub(super) fn disconnected(&self, device: c_int) {
        self.detach(device);
        for place in &self.places {
            let _ = place.enabled_by.compare_exchange(device, NONE, Relaxed, Relaxed);
        }
    }

    /// Calls the handler.
    fn report(&self, event: PortEvent) {
        if let Some(handler) = &*self.handler.lock().unwrap_or_else(PoisonError::into_inner) {
            handler(event);
        }
    }

    /// False if there is a handler already.
    pub(super) fn set_handler(&self, handler: Handler) -> bool {
        let mut slot = self.handler.lock().unwrap_or_else(PoisonError::into_inner);
        let free = slot.is_none();
        if free {
            *slot = Some(handler);
        }
        free
    }

    pub(super) fn is_attached(&self) -> bool {
        self.device.load(Acquire) != NONE
    }

    pub(super) fn state(&self) -> VhostState {
        let attached = self.is_attached();
        let logs = self.features.load(Relaxed) & sys::SHIM_VHOST_F_LOG_ALL != 0;
        VhostState { attached, logs_dirty: attached && logs }
    }

    /// See [`GuestOffloads`].
    pub(super) fn guest_offloads(&self) -> Option<GuestOffloads> {
        let offloads = GuestOffloads {
            checksums: self.has(1 << sys::VIRTIO_NET_F_GUEST_CSUM),
            tcp_segments: self.has(guest_tso(false) | guest_tso(true)),
        };
        self.is_attached().then_some(offloads)
    }

    /// Whether the guest has these features.
    fn has(&self, features: u64) -> bool {
        self.features.load(Relaxed) & features == features
    }

    /// Runs `act` within the device, for the queue at `place`. The device is not freed meanwhile.
    #[inline]
    fn within<T>(&self, place: &Place, act: impl FnOnce(c_int) -> T) -> Option<T> {
        // Cheap while nothing is there.
        if self.device.load(Relaxed) == NONE {
            return None;
        }
        place.busy.store(true, Relaxed);
        fence(SeqCst);
        let device = self.device.load(Acquire);
        let result = (device != NONE).then(|| act(device));
        place.busy.store(false, Release);
        result
    }

    /// Tells a guest not to notify us of what it puts into a ring: it is polled. Not from a callback, which may hold the
    /// lock that this takes.
    #[cold]
    fn quieten(&self, device: c_int, ring: u16, own: &mut Own, changes: u32) {
        // SAFETY: the caller is within the device.
        if unsafe { sys::rte_vhost_enable_guest_notification(device, ring, 0) } == 0 {
            own.quiet = changes;
        }
    }

    /// Appends up to `limit` frames of the guest to `burst`.
    #[inline]
    pub(crate) fn receive(&self, own: &mut Own, pool: &Mempool, burst: &mut Burst, limit: usize) -> usize {
        let ring = Direction::FromGuest.ring(own.queue);
        let Some(place) = self.places.get(usize::from(ring)) else { return 0 };
        let before = burst.len();
        let received = self.within(place, |device| {
            // librte_vhost logs an error for a ring that the device does not have.
            if place.enabled_by.load(Relaxed) != device {
                return 0;
            }
            let changes = self.changes.load(Relaxed);
            if own.quiet != changes {
                self.quieten(device, ring, own, changes);
            }
            // SAFETY: within the device, so it exists; this lcore is the ring's only consumer (one owner of the queue).
            // librte_vhost stores mbufs of `pool` that are the caller's from then on, at most as many as it is asked for.
            unsafe {
                burst.append_raw(limit, |slots, n| {
                    in_calls(n, |at, n| {
                        sys::rte_vhost_dequeue_burst(device, ring, pool.raw(), slots.add(at.into()), n)
                    })
                })
            }
        });
        let n = received.unwrap_or(0);
        if n > 0 {
            Place::count(&place.frames, n as u64);
            Place::count(&place.bytes, burst.iter().skip(before).map(|m| m.len() as u64).sum());
        }
        n
    }

    /// Gives the guest frames from the front of `burst`. Returns how many it took; the others remain, in order.
    #[inline]
    pub(crate) fn send(&self, own: &mut Own, burst: &mut Burst) -> usize {
        let own_ring = Direction::ToGuest.ring(own.queue);
        let Some(place) = self.places.get(usize::from(own_ring)) else { return 0 };
        let ring = self.ring_of.get(usize::from(own.queue)).map_or(NO_RING, |ring| ring.load(Relaxed));
        if ring == NO_RING {
            return 0;
        }
        if !self.has(TAKES_UNFINISHED) {
            own.refused += self.finish(burst);
        }
        let (mut given, mut bytes) = (0, 0);
        let sent = self.within(place, |device| {
            let changes = self.changes.load(Relaxed);
            if own.quiet != changes {
                if !self.has_settled(device) {
                    return;
                }
                self.quieten(device, ring, own, changes);
            }
            let len = burst.len() as u16;
            let slots: *mut *mut sys::rte_mbuf = burst.as_mut_ptr().cast();
            // SAFETY: within the device, so it exists; librte_vhost locks a ring to which two lcores give. It copies
            // the frames and leaves them ours.
            given = in_calls(len, |at, n| unsafe {
                sys::rte_vhost_enqueue_burst(device, ring, slots.add(at.into()), n)
            });
            bytes = burst.iter().take(given.into()).map(|m| m.len() as u64).sum();
        });
        if sent.is_none() {
            return 0;
        }
        let refused = burst.len() as u64 - u64::from(given);
        if given > 0 {
            burst.free_front(given.into());
            Place::count(&place.frames, given.into());
            Place::count(&place.bytes, bytes);
        }
        if refused > 0 {
            Place::count(&place.refused, refused);
        }
        given.into()
    }

    /// Finishes checksums for a guest that does not; frees frames that it could not take at all, and counts them.
    #[cold]
    fn finish(&self, burst: &mut Burst) -> u64 {
        let takes_checksums = self.has(1 << sys::VIRTIO_NET_F_GUEST_CSUM);
        let before = burst.len();
        burst.retain(|mbuf| mbuf.finish_for_guest(takes_checksums, |v6| self.has(guest_tso(v6))));
        (before - burst.len()) as u64
    }

    /// Counters since they were last reset.
    pub(super) fn stats(&self) -> PortStats {
        let (now, then) = (self.totals(), *self.reset.lock().unwrap_or_else(PoisonError::into_inner));
        PortStats {
            rx_packets: now.rx_packets.wrapping_sub(then.rx_packets),
            rx_bytes: now.rx_bytes.wrapping_sub(then.rx_bytes),
            tx_packets: now.tx_packets.wrapping_sub(then.tx_packets),
            tx_bytes: now.tx_bytes.wrapping_sub(then.tx_bytes),
            ..PortStats::default()
        }
    }

    fn totals(&self) -> PortStats {
        let mut sum = PortStats::default();
        for (number, place) in self.places.iter().enumerate() {
            let (frames, bytes) = (place.frames.load(Relaxed), place.bytes.load(Relaxed));
            if number % 2 == 0 {
                (sum.tx_packets, sum.tx_bytes) = (sum.tx_packets + frames, sum.tx_bytes + bytes);
            } else {
                (sum.rx_packets, sum.rx_bytes) = (sum.rx_packets + frames, sum.rx_bytes + bytes);
            }
        }
        sum
    }

    pub(super) fn reset_stats(&self) {
        *self.reset.lock().unwrap_or_else(PoisonError::into_inner) = self.totals();
    }

    /// Each ring's counters since the start.
    pub(super) fn xstats(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        for (number, place) in self.places.iter().enumerate() {
            let (queue, to_guest) = (number / 2, number % 2 == 0);
            let direction = if to_guest { "tx" } else { "rx" };
            let mut push = |what: &str, value| found.push((format!("{direction}_q{queue}_{what}"), value));
            push("packets", place.frames.load(Relaxed));
            push("bytes", place.bytes.load(Relaxed));
            push("enabled", (place.enabled_by.load(Relaxed) != NONE).into());
            if to_guest {
                push("ring_full", place.refused.load(Relaxed));
            }
        }
        found
    }
}

/// Features of a guest that takes frames with unfinished checksums and uncut segments.
const TAKES_UNFINISHED: u64 =
    1 << sys::VIRTIO_NET_F_GUEST_CSUM | 1 << sys::VIRTIO_NET_F_GUEST_TSO4 | 1 << sys::VIRTIO_NET_F_GUEST_TSO6;

/// The feature of a guest that takes uncut segments.
const fn guest_tso(v6: bool) -> u64 {
    1 << if v6 { sys::VIRTIO_NET_F_GUEST_TSO6 } else { sys::VIRTIO_NET_F_GUEST_TSO4 }
}

/// Moves `n` frames in calls of as many as librte_vhost moves at once, until one moves fewer. `call` gets where to begin
/// and how many.
#[inline]
fn in_calls(n: u16, mut call: impl FnMut(u16, u16) -> u16) -> u16 {
    let mut moved = 0;
    while moved < n {
        let wanted = (n - moved).min(PER_CALL);
        let now = call(moved, wanted).min(wanted);
        moved += now;
        if now < wanted {
            break;
        }
    }
    moved
}

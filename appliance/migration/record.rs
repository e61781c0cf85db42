//! The records of migrating nodes: what the packet path does with a frame for such a node. The control thread
//! publishes and replaces them; lcores read them, record end markers in them and count in them. All lcores share the
//! counters: frames for migrating nodes are few, and only they pay for it.

use crate::tables::packed::Bd;
use crossbeam::utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use stopover_net::marker::{MAX_SENDER_QUEUES, Marker};
use stopover_net::{Mac, Vni};

/// In place of the host index of a sender: copies of delivered frames. No host has this index.
pub const WINDOW: u32 = u32::MAX;

/// Where the frames of a node that has left go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectTarget {
    /// To another host, by its index.
    Host(u32),
    /// To another port of this appliance: both ends of the migration are here.
    Port(u16),
}

/// A migrating node.
#[derive(Debug)]
pub struct MigrationRecord {
    /// Its network, as numbered here.
    pub bd: Bd,
    /// Its network, as numbered on the wire.
    pub vni: Vni,
    /// Its MAC.
    pub mac: Mac,
    /// The local port that it leaves or at which it has arrived.
    pub port: u16,
    /// The VLAN tag to send with there; 0 for none.
    pub vlan: u16,
    /// The stand-in MAC that its own segment uses for it meanwhile.
    pub stand_in: Option<Mac>,
    /// What happens to its frames.
    pub mode: RecordMode,
    /// Counts of its frames.
    pub counters: Arc<MigrationCounters>,
}

/// What happens to the frames of a migrating node.
#[derive(Debug, Clone)]
pub enum RecordMode {
    /// It has arrived here: the frames of a sender wait until those that it sent by the old host have arrived.
    Arriving(Arc<EndMarkerBarrier>),
    /// It is behind a port that does not report what it delivered: deliver, and hold copies for this many TSC cycles.
    Window {
        /// How long a copy is held.
        cycles: u64,
    },
    /// It was behind such a port and has left.
    Forward(RedirectTarget),
}

/// Counts of the frames of a migrating node. Any lcore adds.
#[derive(Debug, Default)]
pub struct MigrationCounters {
    /// Put into a hold.
    pub held: CachePadded<AtomicU64>,
    /// Released from a hold: redirected or delivered.
    pub replayed: AtomicU64,
    /// Redirected to the new host or port of the node without having been held.
    pub redirected: AtomicU64,
    /// Lost: the hold was full, or its time had expired.
    pub dropped: AtomicU64,
    /// Delivered by a port that does not report it, and not copied because the hold was full: lost only if the node
    /// left without them.
    pub uncopied: AtomicU64,
    /// Released before it was known that earlier frames of the same sender had arrived.
    pub reordered: AtomicU64,
    /// Replayed although a port may have delivered them already.
    pub duplicated: AtomicU64,
    /// In a hold now.
    pub held_now: AtomicU64,
    /// Bytes of memory of the frames in a hold.
    pub held_now_bytes: AtomicU64,
    /// TSC when its port last took a frame; 0 = never.
    pub delivered_tsc: AtomicU64,
    /// TSC when it first took one since the migration began; 0 = not yet.
    pub first_tsc: AtomicU64,
    /// The longest time between two deliveries, in TSC cycles.
    pub longest_gap: AtomicU64,
}

impl MigrationCounters {
    /// Adds to one of the counters.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    /// Records that the port of the node accepted frames at this TSC.
    pub fn delivered(&self, now: u64) {
        let before = self.delivered_tsc.swap(now, Relaxed);
        if before == 0 {
            self.first_tsc.store(now, Relaxed);
        } else {
            self.longest_gap.fetch_max(now.saturating_sub(before), Relaxed);
        }
    }

    /// A value that changes whenever its port accepts a frame, or a held frame is redirected.
    #[must_use]
    pub fn taken(&self) -> (u64, u64) {
        (self.delivered_tsc.load(Relaxed), self.replayed.load(Relaxed))
    }

    /// Begins a migration: gaps are measured from now on.
    pub fn restart(&self) {
        for time in [&self.delivered_tsc, &self.first_tsc, &self.longest_gap] {
            time.store(0, Relaxed);
        }
    }

    /// Counts a frame, `bytes` with its header, that entered a hold.
    pub fn hold_added(&self, bytes: u64) {
        self.held_now.fetch_add(1, Relaxed);
        self.held_now_bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts frames that left a hold.
    pub fn hold_removed(&self, frames: u64, bytes: u64) {
        self.held_now.fetch_sub(frames, Release);
        self.held_now_bytes.fetch_sub(bytes, Relaxed);
    }
}

/// Sets bit `at`. Returns whether the lowest `of` bits are set then.
fn all_are_set(bits: &AtomicU64, at: u8, of: u8) -> bool {
    let bit = 1u64.checked_shl(u32::from(at)).unwrap_or(0);
    let seen = bits.fetch_or(bit, AcqRel) | bit;
    let all = u64::MAX.checked_shr(64u32.saturating_sub(u32::from(of))).unwrap_or(u64::MAX);
    seen & all == all
}

/// The senders whose end markers an arrived node still waits for.
#[derive(Debug)]
pub struct EndMarkerBarrier {
    /// The index of this host: its own senders are waited for like those of any other host.
    pub own: u32,
    /// By index, every host that will send end markers.
    senders: Box<[Sender]>,
    /// Sender queues that are not empty, over all lcores.
    pub waiting: AtomicU32,
    /// For how many microseconds the old host's port had not taken a frame when it relayed our own marker.
    pub paused_us: AtomicU32,
    /// TSC when our own marker returned; 0 = not yet.
    pub own_marker_returned_tsc: AtomicU64,
    /// TSC of the last frame by the old host; 0 = never.
    pub old_path_tsc: AtomicU64,
    /// Generation of the lock of this migration; 0 if unknown.
    generation: u64,
    /// The old host. It is waited for only once it has announced that it will send end markers itself.
    source: Option<u32>,
    all_open: AtomicBool,
}

#[derive(Debug)]
struct Sender {
    host: u32,
    /// One bit for each sender queue whose end markers have all arrived.
    sender_queues: AtomicU64,
    /// By sender queue, one bit for each of its source ports whose end marker has arrived.
    ports: Box<[AtomicU64]>,
    open: AtomicBool,
    /// It is the old host, and will send end markers too.
    expected: AtomicBool,
}

impl EndMarkerBarrier {
    /// An arrival at host `own` under the lock of this generation (0: unknown). `hosts` and `own` are waited for.
    /// `source`: the old host.
    #[must_use]
    pub fn new(own: u32, generation: u64, source: Option<u32>, hosts: impl IntoIterator<Item = u32>) -> Self {
        let mut hosts: Vec<u32> = hosts.into_iter().chain([own]).chain(source).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let sender = |host| Sender {
            host,
            sender_queues: AtomicU64::new(0),
            ports: (0..MAX_SENDER_QUEUES).map(|_| AtomicU64::new(0)).collect(),
            open: AtomicBool::new(Some(host) == source),
            expected: AtomicBool::new(false),
        };
        Self {
            own,
            senders: hosts.into_iter().map(sender).collect(),
            waiting: AtomicU32::new(0),
            paused_us: AtomicU32::new(0),
            own_marker_returned_tsc: AtomicU64::new(0),
            old_path_tsc: AtomicU64::new(0),
            generation,
            source,
            all_open: AtomicBool::new(false),
        }
    }

    fn sender(&self, host: u32) -> Option<&Sender> {
        let at = self.senders.binary_search_by_key(&host, |sender| sender.host).ok()?;
        self.senders.get(at)
    }

    /// Whether the frames of a host do not wait, or no longer wait.
    #[must_use]
    pub fn is_open(&self, host: u32) -> bool {
        self.all_open.load(Acquire) || self.sender(host).is_none_or(|sender| sender.open.load(Acquire))
    }

    /// Records an end marker. Returns whether it was the last of its host. A marker of an earlier migration does not
    /// count.
    pub fn record_marker(&self, marker: &Marker) -> bool {
        let Some(sender) = self.sender(marker.host) else { return false };
        if marker.generation != 0 && self.generation != 0 && marker.generation != self.generation {
            return false;
        }
        let Some(ports) = sender.ports.get(usize::from(marker.sender_queue)) else { return false };
        if !all_are_set(ports, marker.port, marker.ports) {
            return false;
        }
        let done = all_are_set(&sender.sender_queues, marker.sender_queue, marker.sender_queues);
        if done {
            sender.open.store(true, Release);
        }
        done
    }

    /// The old host will send end markers itself: its direct frames wait until they have arrived.
    pub fn expect_source(&self) {
        let Some(sender) = self.source.and_then(|host| self.sender(host)) else { return };
        if !sender.expected.swap(true, AcqRel) && sender.sender_queues.load(Acquire) == 0 {
            sender.open.store(self.all_open.load(Acquire), Release);
        }
    }

    /// Records that a frame for the node came by its old host, at TSC `now`.
    pub fn note_old_path_frame(&self, now: u64) {
        self.old_path_tsc.store(now, Relaxed);
    }

    /// Records that our own end marker has returned at TSC `now` from the old host, whose port had not accepted a frame
    /// for `paused_us`.
    pub fn own_marker_returned(&self, now: u64, paused_us: u32) {
        self.paused_us.store(paused_us, Relaxed);
        self.own_marker_returned_tsc.store(now, Relaxed);
    }

    /// Stops waiting for a host.
    pub fn open(&self, host: u32) {
        if let Some(sender) = self.sender(host) {
            sender.open.store(true, Release);
        }
    }

    /// Whether no host is waited for and no frame is held.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let ended =
            self.all_open.load(Acquire) || self.senders.iter().all(|sender| sender.open.load(Acquire));
        ended && self.waiting.load(Acquire) == 0
    }

    /// Stops waiting for all hosts: the held frames will be released.
    pub fn open_all(&self) {
        self.all_open.store(true, Release);
        for sender in &self.senders {
            sender.open.store(true, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopover_net::marker::Kind;

    fn end(host: u32, sender_queue: u8, sender_queues: u8) -> Marker {
        let node = Mac::new([2; 6]);
        Marker {
            kind: Kind::End,
            relayed: true,
            ends: false,
            port: 0,
            ports: 1,
            source_port: 0,
            sender_queue,
            sender_queues,
            host,
            generation: 5,
            node,
            paused_us: 0,
        }
    }

    #[test]
    fn a_sender_is_open_when_every_queue_has_ended() {
        let arrival = EndMarkerBarrier::new(2, 5, None, [7, 9, 7]);
        assert!(arrival.is_open(1), "nobody waits for host 1");
        assert!(!arrival.is_open(2) && !arrival.is_open(7) && !arrival.is_open(9));
        assert!(!arrival.record_marker(&end(7, 0, 2)));
        assert!(!arrival.record_marker(&end(7, 0, 2)), "the same queue again");
        assert!(!arrival.record_marker(&Marker { generation: 4, ..end(7, 1, 2) }), "of the move before");
        assert!(!arrival.is_open(7));
        assert!(arrival.record_marker(&end(7, 1, 2)));
        assert!(arrival.is_open(7));
        assert!(arrival.record_marker(&end(2, 0, 1)));
        assert!(!arrival.is_settled());
        arrival.open(9);
        assert!(arrival.is_settled());
        arrival.waiting.fetch_add(1, Relaxed);
        assert!(!arrival.is_settled());
    }

    #[test]
    fn the_old_host_is_waited_for_once_it_announces_its_markers() {
        let arrival = EndMarkerBarrier::new(2, 5, Some(3), []);
        assert!(arrival.record_marker(&end(2, 0, 1)) && arrival.is_settled(), "an old version does not");
        arrival.expect_source();
        assert!(!arrival.is_open(3) && !arrival.is_settled());
        assert!(arrival.record_marker(&end(3, 0, 1)));
        arrival.expect_source();
        assert!(arrival.is_open(3) && arrival.is_settled());
    }

    #[test]
    fn every_source_port_of_a_queue_must_have_ended() {
        let arrival = EndMarkerBarrier::new(2, 5, None, [7]);
        assert!(arrival.record_marker(&end(2, 0, 1)));
        assert!(!arrival.record_marker(&Marker { port: 1, ports: 2, ..end(7, 0, 2) }));
        assert!(!arrival.record_marker(&end(7, 1, 2)));
        assert!(!arrival.is_open(7), "port 0 of queue 0 is late");
        assert!(arrival.record_marker(&Marker { port: 0, ports: 2, ..end(7, 0, 2) }));
        assert!(arrival.is_open(7));
    }

    #[test]
    fn sixty_four_queues_fit() {
        let arrival = EndMarkerBarrier::new(1, 0, None, []);
        for sender_queue in 0..63 {
            assert!(!arrival.record_marker(&end(1, sender_queue, 64)));
        }
        assert!(arrival.record_marker(&end(1, 63, 64)));
    }

    #[test]
    fn the_longest_gap_is_kept() {
        let counters = MigrationCounters::default();
        for now in [100, 110, 150, 160] {
            counters.delivered(now);
        }
        assert_eq!(counters.longest_gap.load(Relaxed), 40);
    }
}

//! What the control thread knows of the SAs that lcores have: whose they are, since when, and their counters. Enters: SAs
//! that are installed and retired. Leaves: what the handshake must know of the traffic, and rows for the operator.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};
use stopover_tunnel::{
    Millis, Spi,
    handshake::{HandshakeDrop, Traffic},
    sa::{Limits, SaCounters, SaStats},
};

/// One SA.
#[derive(Debug)]
pub struct SaRecord {
    /// The peer.
    pub peer: u32,
    /// The session it is of.
    pub session: u32,
    /// Its SPI.
    pub spi: Spi,
    /// When it was installed.
    pub since: Millis,
    /// Its counters.
    pub counters: Arc<SaCounters>,
    /// Frames at the last look.
    seen: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sas {
    /// By peer and SPI.
    inbound: BTreeMap<(u32, Spi), SaRecord>,
    /// By peer, in the order of the sender queues.
    outbound: BTreeMap<u32, Vec<SaRecord>>,
    /// By peer, what its retired SAs have counted: outbound, inbound.
    before: HashMap<u32, [SaStats; 2]>,
    /// By session: its place in the order in which they began, and its inbound SAs.
    ages: HashMap<u32, (u64, usize)>,
    sessions: u64,
    handshake_drops: BTreeMap<&'static str, u64>,
}

fn add(to: &mut SaStats, more: SaStats) {
    to.frames += more.frames;
    to.bytes += more.bytes;
    to.replayed += more.replayed;
    to.bad_seal += more.bad_seal;
}

impl Sas {
    pub(super) fn add_inbound(&mut self, peer: u32, session: u32, spi: Spi, now: Millis) -> Arc<SaCounters> {
        let counters = Arc::<SaCounters>::default();
        let record = SaRecord { peer, session, spi, since: now, counters: Arc::clone(&counters), seen: 0 };
        self.sessions += 1;
        self.ages.entry(session).or_insert((self.sessions, 0)).1 += 1;
        self.inbound.insert((peer, spi), record);
        counters
    }

    pub(super) fn add_outbound(
        &mut self,
        peer: u32,
        session: u32,
        spi: Spi,
        (counters, since): (Arc<SaCounters>, Millis),
    ) {
        let record = SaRecord { peer, session, spi, since, counters, seen: 0 };
        self.outbound.entry(peer).or_default().push(record);
    }

    /// The outbound SAs of a peer are replaced, or gone.
    pub(super) fn deactivate(&mut self, peer: u32) {
        for record in self.outbound.remove(&peer).into_iter().flatten() {
            add(&mut self.before.entry(peer).or_default()[0], record.counters.read());
        }
    }

    /// Whether frames are sealed for a peer.
    #[must_use]
    pub fn is_active(&self, peer: u32) -> bool {
        self.outbound.contains_key(&peer)
    }

    pub(super) fn retire(&mut self, peer: u32, spis: &[Spi]) {
        for spi in spis {
            let Some(record) = self.inbound.remove(&(peer, *spi)) else { continue };
            add(&mut self.before.entry(peer).or_default()[1], record.counters.read());
            if let Some((_, left)) = self.ages.get_mut(&record.session) {
                *left -= 1;
                if *left == 0 {
                    self.ages.remove(&record.session);
                }
            }
        }
    }

    pub(super) fn count_handshake_drop(&mut self, why: HandshakeDrop) {
        *self.handshake_drops.entry(why.name()).or_default() += 1;
    }

    /// Datagrams of handshakes that were dropped, by reason.
    pub fn handshake_drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.handshake_drops.iter().map(|(name, n)| (*name, *n))
    }

    /// What the SAs of each peer have seen since the last call.
    pub(super) fn traffic(&mut self, limits: &Limits) -> Vec<(u32, Traffic)> {
        let mut all: BTreeMap<u32, Traffic> = BTreeMap::new();
        for (peer, records) in &mut self.outbound {
            for record in records {
                let SaStats { frames, bytes, .. } = record.counters.read();
                let sent = std::mem::replace(&mut record.seen, frames) != frames;
                let wants_rekey = limits.wants_rekey(frames, bytes);
                if sent || wants_rekey {
                    let traffic = all.entry(*peer).or_default();
                    traffic.sent |= sent;
                    traffic.wants_rekey |= wants_rekey;
                }
            }
        }
        for record in self.inbound.values_mut() {
            let frames = record.counters.read().frames;
            if std::mem::replace(&mut record.seen, frames) == frames {
                continue;
            }
            let received = &mut all.entry(record.peer).or_default().received;
            let age = |session: &u32| self.ages.get(session).map_or(0, |(age, _)| *age);
            if received.is_none_or(|newest| age(&newest) < age(&record.session)) {
                *received = Some(record.session);
            }
        }
        all.into_iter().collect()
    }

    /// What a peer's SAs have counted in all: outbound, inbound.
    #[must_use]
    pub fn totals(&self, peer: u32) -> [SaStats; 2] {
        let [mut out, mut inward] = self.before.get(&peer).copied().unwrap_or_default();
        for record in self.outbound.get(&peer).into_iter().flatten() {
            add(&mut out, record.counters.read());
        }
        for (_, record) in self.of_peer(peer) {
            add(&mut inward, record.counters.read());
        }
        [out, inward]
    }

    fn of_peer(&self, peer: u32) -> impl Iterator<Item = (&(u32, Spi), &SaRecord)> {
        let first = Bound::Included((peer, Spi::FIRST));
        self.inbound.range((first, Bound::Unbounded)).take_while(move |((of, _), _)| *of == peer)
    }

    /// The SAs by which frames are sealed for a peer, in the order of the lcores.
    pub(super) fn outbound(&self, peer: u32) -> &[SaRecord] {
        self.outbound.get(&peer).map_or(&[], Vec::as_slice)
    }

    /// The SAs by which its frames are opened.
    pub(super) fn inbound(&self, peer: u32) -> impl Iterator<Item = &SaRecord> {
        self.of_peer(peer).map(|(_, record)| record)
    }
}

//! The readers' half of all tables: one [`View`] for each lcore, which reads and never waits. A reader changes
//! nothing but its own cache.

use super::{
    Shared,
    entries::{NetworkEntry, Path, PeerEntry, SlotEntry},
    packed::{Bd, FdbEntry, PackedFdbEntry, ipv4_key, node_key, owner_mac, owner_router},
    peer::{NetworkSeal, PackedVtep, PathClass, Peer, Slot},
    vni_index, vtep_cache, vtep4_key, wide_key,
};
use crate::migration::record::MigrationRecord;
use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    sync::atomic::Ordering::Relaxed,
};
use stopover_lockfree::{
    epoch::{Parked, Reader},
    filter, map_wide, map64, slots,
};
use stopover_net::{Mac, Vni, underlay::is_martian};

/// The read sides of all tables that readers share; a clone for each reader.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    pub nodes: map64::MapReader,
    pub locals: map64::MapReader,
    pub local_filter: filter::FilterReader,
    pub ipv4: map64::MapReader,
    pub ipv6: map_wide::WideReader,
    pub vteps4: map64::MapReader,
    pub vteps6: map_wide::WideReader,
    pub vnis: vni_index::VniReader,
    pub shared: Arc<Shared>,
}

/// One reader's view. What it returns is valid until its next quiescent point.
#[derive(Debug)]
pub struct View {
    reader: Reader,
    vtep_cache4: vtep_cache::VtepCache<u64>,
    vtep_cache6: vtep_cache::VtepCache<u128>,
    tables: Readers,
}

/// A view that no thread uses yet: give it to the thread that will read.
#[derive(Debug)]
pub struct ParkedView {
    pub(super) parked: Parked,
    pub(super) vtep_cache4: vtep_cache::VtepCache<u64>,
    pub(super) vtep_cache6: vtep_cache::VtepCache<u128>,
    pub(super) tables: Readers,
}

impl ParkedView {
    /// Makes the view usable. From now on the writer waits for its quiescent points.
    #[must_use]
    pub fn online(self) -> View {
        let Self { parked, vtep_cache4, vtep_cache6, tables } = self;
        View { reader: parked.online(), vtep_cache4, vtep_cache6, tables }
    }
}

impl View {
    /// Declares that the reader holds no reference into any table. Once per loop.
    #[inline]
    pub fn quiescent(&mut self) {
        self.reader.quiescent();
    }

    /// Runs `sleep` without holding up the writer.
    pub fn park_during<R>(&mut self, sleep: impl FnOnce() -> R) -> R {
        self.reader.park_during(sleep)
    }

    /// Takes this view out of use.
    #[must_use]
    pub fn park(self) -> ParkedView {
        let Self { reader, vtep_cache4, vtep_cache6, tables } = self;
        ParkedView { parked: reader.park(), vtep_cache4, vtep_cache6, tables }
    }

    /// Looks up the nodes with these keys, as [`PackedFdbEntry`]s; 0 for none.
    #[inline]
    pub fn lookup_nodes(&self, keys: &[u64], words: &mut [u64]) {
        let found = self.tables.nodes.lookup_burst(&self.reader, keys, words);
        clear_missed(found, keys.len(), words);
    }

    /// As [`View::lookup_nodes`], for keys that become known one after another: see [`NodeLookup::keys_of`].
    #[inline]
    #[must_use]
    pub fn begin_lookup(&self) -> NodeLookup<'_> {
        NodeLookup(self.tables.nodes.begin_burst(&self.reader))
    }

    /// As [`View::lookup_nodes`], but for the stations of this host only. Bit i of the result: `keys[i]` is one.
    #[inline]
    pub fn lookup_locals(&self, keys: &[u64], words: &mut [u64]) -> u64 {
        let found = self.tables.locals.lookup_burst(&self.reader, keys, words);
        clear_missed(found, keys.len(), words);
        found
    }

    /// Whether [`View::lookup_locals`] may find this key. If not, it does not.
    #[inline]
    #[must_use]
    pub fn may_be_local(&self, key: u64) -> bool {
        self.tables.local_filter.may_contain(key)
    }

    /// The entry of a node.
    #[must_use]
    pub fn fdb_entry(&self, bd: Bd, mac: Mac) -> Option<FdbEntry> {
        self.tables.nodes.get(&self.reader, node_key(bd, mac)).and_then(|word| PackedFdbEntry(word).unpack())
    }

    /// The owner of an address.
    #[must_use]
    pub fn owner(&self, bd: Bd, ip: IpAddr) -> Option<Mac> {
        let word = match ip {
            IpAddr::V4(ip) => self.tables.ipv4.get(&self.reader, ipv4_key(bd, ip)),
            IpAddr::V6(ip) => self.tables.ipv6.get(&self.reader, &wide_key(bd.get(), ip)),
        };
        word.map(owner_mac)
    }

    /// Whether the owner of an address is an IPv6 router, if that is known.
    #[must_use]
    pub fn router(&self, bd: Bd, ip: Ipv6Addr) -> Option<bool> {
        self.tables.ipv6.get(&self.reader, &wide_key(bd.get(), ip)).and_then(owner_router)
    }

    /// What a slot leads to.
    #[inline]
    #[must_use]
    pub fn slot(&self, slot: Slot) -> Option<&SlotEntry> {
        self.slots().get(slot.get())
    }

    /// All slots, for a burst.
    #[inline]
    #[must_use]
    pub fn slots(&self) -> slots::View<'_, SlotEntry> {
        self.tables.shared.slots.view(&self.reader)
    }

    /// Whose slot it is.
    #[must_use]
    pub fn peer_of(&self, slot: Slot) -> Option<Peer> {
        self.slot(slot).map(|entry| entry.peer)
    }

    /// A peer.
    #[inline]
    #[must_use]
    pub fn peer(&self, peer: Peer) -> Option<&PeerEntry> {
        self.tables.shared.peers.view(&self.reader).get(peer.get())
    }

    /// The slot of a peer and a path class.
    #[must_use]
    pub fn slot_of(&self, peer: Peer, class: PathClass) -> Option<Slot> {
        self.peer(peer).map(|entry| entry.slot(class))
    }

    /// What is demanded of the frames of a network.
    #[inline]
    #[must_use]
    pub fn seal_of(&self, bd: Bd) -> NetworkSeal {
        self.network(bd).map_or(NetworkSeal::ByHost, |network| network.seal)
    }

    /// The number of a network, unless its frames must be sealed.
    #[inline]
    #[must_use]
    pub fn plain_bd_of(&self, vni: Vni) -> Option<Bd> {
        self.bd_of(vni).filter(|bd| self.seal_of(*bd) != NetworkSeal::Required)
    }

    /// The slot for frames of a network to a peer.
    #[must_use]
    pub fn slot_in(&self, peer: Peer, bd: Bd) -> Option<Slot> {
        self.peer(peer).map(|entry| entry.slot(entry.accept.class(self.seal_of(bd))))
    }

    /// The path in force to a peer.
    #[must_use]
    pub fn path_to(&self, peer: Peer) -> Option<&Path> {
        self.slot(self.slot_of(peer, PathClass::Plain)?)?.path.as_ref()
    }

    /// Whether a peer is an appliance, which understands overlay flags and end markers.
    #[inline]
    #[must_use]
    pub fn is_appliance(&self, peer: Peer) -> bool {
        self.peer(peer).is_some_and(|entry| entry.is_appliance)
    }

    /// Begins the lookups of a burst's VTEP addresses, see [`View::knows_vtep4`].
    #[inline(always)]
    pub fn begin_vteps4(&self) {
        self.vtep_cache4.refresh();
    }

    /// Whether the cache has the VTEP address with this key ([`vtep4_key`]). If not, plain VXLAN from it may be
    /// accepted all the same: see [`View::vteps4`]. Only valid after [`View::begin_vteps4`] since the last quiescent
    /// point.
    #[inline(always)]
    #[must_use]
    pub fn knows_vtep4(&self, key: u64) -> bool {
        self.vtep_cache4.has(key)
    }

    /// Whether plain VXLAN is accepted from the VTEP addresses with these keys: bit i of the result is for `keys[i]`.
    /// At most [`map64::BURST`] keys.
    #[must_use]
    pub fn vteps4(&self, keys: &[u64]) -> u64 {
        let mut words = [0; map64::BURST];
        let found = self.tables.vteps4.lookup_burst(&self.reader, keys, &mut words);
        let mut accepted = 0;
        for (i, (key, word)) in keys.iter().zip(words).enumerate() {
            if found >> i & 1 != 0 && PackedVtep(word).accepts_plain() {
                accepted |= 1 << i;
                self.vtep_cache4.remember(*key);
            }
        }
        accepted
    }

    /// Begins the lookups of a burst's VTEP addresses of either version, see [`View::accepts_plain_from`].
    #[inline(always)]
    pub fn begin_vteps(&self) {
        self.vtep_cache4.refresh();
        self.vtep_cache6.refresh();
    }

    /// Whether plain VXLAN is accepted from a VTEP address, which no martian is. Only valid after [`View::begin_vteps`] since the last quiescent
    /// point.
    #[inline(always)]
    #[must_use]
    pub fn accepts_plain_from(&self, ip: IpAddr) -> bool {
        let is_cached = match ip {
            IpAddr::V4(ip) => self.vtep_cache4.has(vtep4_key(ip)),
            IpAddr::V6(ip) => self.vtep_cache6.has(ip.to_bits()),
        };
        is_cached || self.find_vtep(ip)
    }

    #[inline(never)]
    fn find_vtep(&self, ip: IpAddr) -> bool {
        let accepted = !is_martian(ip) && self.vtep(ip).is_some_and(PackedVtep::accepts_plain);
        if accepted {
            match ip {
                IpAddr::V4(ip) => self.vtep_cache4.remember(vtep4_key(ip)),
                IpAddr::V6(ip) => self.vtep_cache6.remember(ip.to_bits()),
            }
        }
        accepted
    }

    /// A network by its index.
    #[inline]
    #[must_use]
    pub fn network(&self, bd: Bd) -> Option<&NetworkEntry> {
        self.tables.shared.networks.view(&self.reader).get(u32::from(bd.get()))
    }

    /// A migrating node by the index of its record.
    #[must_use]
    pub fn migrating(&self, index: u32) -> Option<&MigrationRecord> {
        self.tables.shared.migrating.view(&self.reader).get(index)
    }

    /// The entry of a node, with its flags; 0 for none.
    #[must_use]
    pub fn packed_fdb_entry(&self, bd: Bd, mac: Mac) -> PackedFdbEntry {
        PackedFdbEntry(self.tables.nodes.get(&self.reader, node_key(bd, mac)).unwrap_or(0))
    }

    /// Whether a node is locked for a migration, or this appliance takes part in a migration of it.
    #[must_use]
    pub fn is_migrating(&self, bd: Bd, mac: Mac) -> bool {
        let word = self.packed_fdb_entry(bd, mac);
        let local = || self.tables.locals.get(&self.reader, node_key(bd, mac)).map(PackedFdbEntry);
        matches!(word.unpack(), Some(FdbEntry::Migrating { .. }))
            || word.is_migrating()
            || local().is_some_and(PackedFdbEntry::is_migrating)
    }

    /// The peer that sends from this VTEP address, and whether plain VXLAN is accepted from it.
    #[inline]
    #[must_use]
    pub fn vtep(&self, ip: IpAddr) -> Option<PackedVtep> {
        let word = match ip {
            IpAddr::V4(ip) => self.tables.vteps4.get(&self.reader, vtep4_key(ip)),
            IpAddr::V6(ip) => self.tables.vteps6.get(&self.reader, &wide_key(0, ip)),
        };
        word.map(PackedVtep)
    }

    /// The network with this VNI, if this appliance is in it.
    #[inline]
    #[must_use]
    pub fn bd_of(&self, vni: Vni) -> Option<Bd> {
        self.tables.vnis.get(&self.reader, vni.get()).and_then(|index| Bd::new(index.get()))
    }

    /// Marks that a station has sent.
    #[inline]
    pub fn touch(&self, station: u32) {
        if let Some(seen) = self.tables.shared.seen.get(station as usize)
            && seen.load(Relaxed) == 0
        {
            seen.store(1, Relaxed);
        }
    }
}

/// A lookup of up to [`map64::BURST`] nodes in progress.
#[derive(Debug)]
pub struct NodeLookup<'v>(map64::Burst<'v>);

impl NodeLookup<'_> {
    /// Begins the lookups of the keys that `key_of` makes of the items, as many as [`map64::BURST`] and `keys` have
    /// room for, and stores them in `keys`; 0 is no node. The work of `key_of` for one runs while the memory for
    /// earlier ones is fetched.
    #[inline(always)]
    pub fn keys_of<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        keys: &mut [u64],
        key_of: impl FnMut(T) -> u64,
    ) {
        self.0.keys_of(items, keys, key_of);
    }

    /// The entries, as [`PackedFdbEntry`]s; 0 for none. `keys`: those that [`NodeLookup::keys_of`] stored.
    ///
    /// # Panics
    /// If there are not as many `keys`, or fewer `words`.
    #[inline(always)]
    pub fn finish(&mut self, keys: &[u64], words: &mut [u64]) {
        let found = self.0.finish(keys, words);
        clear_missed(found, keys.len(), words);
    }
}

/// Zeroes the words of keys that were not found, which the map leaves undefined.
#[inline]
fn clear_missed(found: u64, keys: usize, words: &mut [u64]) {
    let mut missed = !found & u64::MAX.checked_shr(64 - keys as u32).unwrap_or(0);
    while missed != 0 {
        if let Some(word) = words.get_mut(missed.trailing_zeros() as usize) {
            *word = 0;
        }
        missed &= missed - 1;
    }
}

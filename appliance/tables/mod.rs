//! The tables of the packet path: where each node is, and the path to it. One writer (the control thread, through
//! [`Tables`]), any number of lcores that read through a [`View`] and never wait.
//!
//! The maps and arrays are those of the crate `stopover-lockfree`. `packed` packs lookup keys and values into 64
//! bits; `entries` has the records that indices refer to.

mod counts;
pub mod entries;
mod fdb;
pub mod listing;
mod migrating;
pub mod packed;
pub mod peer;
mod slot_map;
#[cfg(test)]
mod tests;
mod view;
pub mod vni_index;
mod vtep_cache;

use crate::migration::record::MigrationRecord;
pub use counts::InNetwork;
use entries::{NetworkEntry, PeerEntry, SlotEntry};
use fdb::Fdb;
use hashbrown::HashMap;
use packed::{
    Bd, FdbEntry, MAX_SYNC_GENERATION, PackedFdbEntry, ipv4_key, node_key, owner_mac, owner_router,
    owner_sync_generation, owner_word, with_router,
};
use peer::{IsolationClass, MAX_INDEX, Slot};
pub use slot_map::LAST_HOST;
use slot_map::SlotMap;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};
use stopover_lockfree::{
    epoch::{self, Epoch, Writer},
    filter,
    map_wide::{self, WideKey},
    map64, slots,
};
use stopover_net::{Mac, Vni};
pub use view::{NodeLookup, ParkedView, View};

/// Maximum number of nodes.
pub const MAX_NODES: usize = 32 << 20;
/// Maximum number of hosts.
const MAX_HOSTS: u32 = 1 << 20;
/// Maximum number of migrating nodes that this appliance takes part in at once.
const MAX_MIGRATING: u32 = 1 << 12;
/// Maximum number of stations behind ports of this appliance.
const MAX_STATIONS: usize = 1 << 20;

/// A table is full, or a number exceeds its range. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be stored: {why}")]
pub struct Full {
    what: String,
    why: String,
}

impl Full {
    fn new(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self { what: what.to_string(), why: why.to_string() }
    }
}

/// What readers and writer share.
#[derive(Debug)]
struct Shared {
    /// By the number of a peer.
    peers: slots::Slots<PeerEntry>,
    /// The path in force, by slot.
    slots: slots::Slots<SlotEntry>,
    networks: slots::Slots<NetworkEntry>,
    migrating: slots::Slots<MigrationRecord>,
    /// By station: 1 if it has sent since the control thread last checked.
    seen: Box<[AtomicU8]>,
}

/// The key of an IPv4 VTEP address for [`View::vteps4`]; never 0.
#[inline]
#[must_use]
pub const fn vtep4_key(ip: std::net::Ipv4Addr) -> u64 {
    1 << 32 | ip.to_bits() as u64
}

fn wide_key(bd: u16, ip: Ipv6Addr) -> WideKey {
    let bits = ip.to_bits();
    [u64::from(bd), (bits >> 64) as u64, bits as u64]
}

/// The writer's side of all tables.
#[derive(Debug)]
pub struct Tables {
    writer: Writer,
    nodes: Fdb,
    locals: map64::MapWriter,
    local_filter: filter::FilterWriter,
    ipv4: map64::MapWriter,
    ipv6: map_wide::WideWriter,
    vteps4: map64::MapWriter,
    removed_vteps4: vtep_cache::Removals,
    vteps6: map_wide::WideWriter,
    removed_vteps6: vtep_cache::Removals,
    vnis: vni_index::VniWriter,
    shared: Arc<Shared>,
    slot_map: SlotMap,
    /// Entries, by key, of nodes elsewhere that a local station shadows. They apply again when the station is
    /// removed.
    shadowed: HashMap<u64, PackedFdbEntry>,
    /// Migrating nodes by key, with the indices of their records.
    migrating: HashMap<u64, u32>,
    next_migrating: u32,
    /// Indices of freed records, and the epoch after which they may be used again.
    deferred_migrating: Vec<(Epoch, u32)>,
    /// The generation of entries of the newest snapshot. A number, not a flag: a snapshot that is interrupted and
    /// begins again must not make entries of the one before look new.
    sync_generation: u16,
    free_stations: Vec<u32>,
    next_station: u32,
    /// Freed station numbers, and the epoch after which they may be used again.
    deferred_stations: Vec<(Epoch, u32)>,
}

impl Tables {
    /// Empty tables, and this many views of them.
    pub fn new(views: usize) -> Result<(Self, Vec<ParkedView>), Full> {
        let (writer, parked) = epoch::domain(views);
        let full = |why| Full::new("an empty table", why);
        let (nodes, nodes_reader) = map64::new(&writer, MAX_NODES).map_err(full)?;
        let (locals, locals_reader) = map64::new(&writer, MAX_STATIONS).map_err(full)?;
        let (local_filter, filter_reader) = filter::new();
        let (ipv4, ipv4_reader) = map64::new(&writer, MAX_NODES).map_err(full)?;
        let (ipv6, ipv6_reader) = map_wide::new(&writer, MAX_NODES).map_err(full)?;
        let (vteps4, vteps4_reader) = map64::new(&writer, MAX_HOSTS as usize).map_err(full)?;
        let (removed_vteps4, removed_vteps6) = (vtep_cache::Removals::new(), vtep_cache::Removals::new());
        let (vteps6, vteps6_reader) = map_wide::new(&writer, MAX_HOSTS as usize).map_err(full)?;
        let (vnis, vnis_reader) = vni_index::new(&writer);
        let shared = Arc::new(Shared {
            peers: slots::Slots::new(&writer, MAX_HOSTS),
            slots: slots::Slots::new(&writer, MAX_INDEX + 1),
            networks: slots::Slots::new(&writer, 1 << 16),
            migrating: slots::Slots::new(&writer, MAX_MIGRATING),
            seen: (0..MAX_STATIONS).map(|_| AtomicU8::new(0)).collect(),
        });
        let readers = view::Readers {
            nodes: nodes_reader,
            locals: locals_reader,
            local_filter: filter_reader,
            ipv4: ipv4_reader,
            ipv6: ipv6_reader,
            vteps4: vteps4_reader,
            vteps6: vteps6_reader,
            vnis: vnis_reader,
            shared: Arc::clone(&shared),
        };
        let view = |parked| ParkedView {
            parked,
            vtep_cache4: removed_vteps4.cache(),
            vtep_cache6: removed_vteps6.cache(),
            tables: readers.clone(),
        };
        let views = parked.into_iter().map(view).collect();
        let tables = Self {
            writer,
            nodes: Fdb::new(nodes),
            locals,
            local_filter,
            ipv4,
            ipv6,
            vteps4,
            removed_vteps4,
            vteps6,
            removed_vteps6,
            vnis,
            shared,
            slot_map: SlotMap::default(),
            shadowed: HashMap::new(),
            migrating: HashMap::new(),
            next_migrating: 0,
            deferred_migrating: Vec::new(),
            sync_generation: 0,
            free_stations: Vec::new(),
            next_station: 0,
            deferred_stations: Vec::new(),
        };
        Ok((tables, views))
    }

    /// Makes everything written so far the newest epoch, and frees what no reader can reach any more.
    pub fn publish(&mut self) -> Epoch {
        self.retire_slots();
        let epoch = self.writer.advance();
        self.writer.reclaim();
        self.nodes.maintain(&mut self.writer);
        for map in [&mut self.locals, &mut self.ipv4, &mut self.vteps4] {
            map.maintain(&mut self.writer);
        }
        for map in [&mut self.ipv6, &mut self.vteps6] {
            map.maintain(&mut self.writer);
        }
        let (writer, free) = (&mut self.writer, &mut self.free_stations);
        self.deferred_stations.retain(|(after, station)| {
            let done = writer.passed(*after);
            if done {
                free.push(*station);
            }
            !done
        });
        self.free_slots();
        epoch
    }

    /// Whether every reader uses what was written before `epoch` was published.
    pub fn passed(&mut self, epoch: Epoch) -> bool {
        self.writer.passed(epoch)
    }

    /// The number of a network, assigned at the first call.
    pub fn bd(&mut self, vni: Vni) -> Result<Bd, Full> {
        let index =
            self.vnis.assign(&mut self.writer, vni).map_err(|e| Full::new(format!("network {vni}"), e))?;
        Bd::new(index.get()).ok_or_else(|| Full::new(format!("network {vni}"), "index 0"))
    }

    /// Takes back the number of a network of which no table has an entry. Lcores find the network no more, and another may
    /// have the number when all have passed this.
    pub fn release_bd(&mut self, vni: Vni) {
        if let Some(index) = self.vnis.release(&self.writer, vni) {
            self.shared.networks.clear(&mut self.writer, index.get().into());
        }
    }

    /// Sets a station behind a port of this host. `known`: its number, if it has one already. Returns its number.
    pub fn set_local(
        &mut self,
        bd: Bd,
        mac: Mac,
        port: u16,
        vlan: u16,
        known: Option<u32>,
    ) -> Result<u32, Full> {
        let what = || format!("station {mac}");
        let station = match known.or_else(|| self.free_stations.pop()) {
            Some(station) => station,
            None if (self.next_station as usize) < MAX_STATIONS => {
                self.next_station += 1;
                self.next_station - 1
            }
            None => return Err(Full::new(what(), format!("this host has {MAX_STATIONS} stations already"))),
        };
        let key = node_key(bd, mac);
        let before = self.nodes.get(key).map(PackedFdbEntry);
        let word = FdbEntry::Local { port, vlan, station }.pack();
        let shown = match self.migrating.get(&key) {
            Some(index) => FdbEntry::Migrating { port, vlan, index: *index }.pack(),
            None => word,
        };
        let word = word.set_migrating_flag(self.migrating.contains_key(&key));
        if self.locals.get(key).is_none() {
            self.local_filter.add(key);
        }
        let stored = self
            .locals
            .insert(&mut self.writer, key, word.0)
            .and_then(|_| self.nodes.insert(&mut self.writer, key, shown.0));
        match stored {
            Ok(_) => {
                if let Some(word) =
                    before.filter(|word| matches!(word.unpack(), Some(FdbEntry::Remote { .. })))
                {
                    self.shadowed.insert(key, word);
                }
                Ok(station)
            }
            Err(why) => {
                self.locals.remove(&mut self.writer, key);
                self.local_filter.remove(key);
                self.deferred_free(station);
                Err(Full::new(what(), why))
            }
        }
    }

    /// Removes a station of this host. A node at another host that it shadowed is found again.
    pub fn remove_local(&mut self, bd: Bd, mac: Mac, station: u32) {
        let key = node_key(bd, mac);
        if self.locals.remove(&mut self.writer, key).is_some() {
            self.local_filter.remove(key);
        }
        let shown = self.shadowed.remove(&key).map(|word| self.nodes.insert(&mut self.writer, key, word.0));
        // Replacing a value needs no room. If it fails all the same, no entry is better than a wrong one.
        if !matches!(shown, Some(Ok(_))) {
            self.nodes.remove(&mut self.writer, key);
        }
        self.deferred_free(station);
    }

    /// An lcore may still touch a removed station: its number is reused only after all lcores have passed this epoch.
    fn deferred_free(&mut self, station: u32) {
        let after = self.writer.grace();
        self.deferred_stations.push((after, station));
    }

    /// Whether a station has sent since the last call.
    pub fn take_seen(&self, station: u32) -> bool {
        self.shared.seen.get(station as usize).is_some_and(|seen| seen.swap(0, Relaxed) == 1)
    }

    /// Prefetches the memory that the next change of a node with this address touches. For batches: some nodes ahead.
    #[inline]
    pub fn prefetch(&self, bd: Bd, mac: Mac, ip: Option<Ipv4Addr>) {
        self.nodes.prefetch(node_key(bd, mac));
        if let Some(ip) = ip {
            self.ipv4.prefetch(ipv4_key(bd, ip));
        }
    }

    /// Sets a node at another host, in this isolation class. A local station with the same MAC shadows it. Returns the
    /// slot of the entry before.
    pub fn set_remote(
        &mut self,
        bd: Bd,
        mac: Mac,
        slot: Slot,
        isolation: IsolationClass,
    ) -> Result<Option<Slot>, Full> {
        let key = node_key(bd, mac);
        let with_sync_generation =
            FdbEntry::Remote { slot, isolation }.pack().with_sync_generation(self.sync_generation);
        if self.locals.get(key).is_some() {
            let before = self.remote_entry(key);
            self.shadowed.insert(
                key,
                before.map_or(with_sync_generation, |before| with_sync_generation.with_flags_of(before)),
            );
            return Ok(before.and_then(PackedFdbEntry::slot));
        }
        let remote = |word: u64| Some(PackedFdbEntry(word)).filter(|word| word.slot().is_some());
        let word = |before: Option<u64>| {
            before.and_then(remote).map_or(with_sync_generation, |b| with_sync_generation.with_flags_of(b)).0
        };
        let before = self.nodes.upsert(&mut self.writer, key, word);
        let before = before.map_err(|why| Full::new(format!("node {mac}"), why))?;
        Ok(before.and_then(|word| PackedFdbEntry(word).slot()))
    }

    /// Whether a node is at another host.
    #[must_use]
    pub fn is_remote(&self, bd: Bd, mac: Mac) -> bool {
        matches!(self.fdb_entry(bd, mac), Some(FdbEntry::Remote { .. }))
    }

    /// The entry of a node.
    #[must_use]
    pub fn fdb_entry(&self, bd: Bd, mac: Mac) -> Option<FdbEntry> {
        self.nodes.get(node_key(bd, mac)).and_then(|word| PackedFdbEntry(word).unpack())
    }

    /// Removes a node of another host.
    pub fn remove_remote(&mut self, bd: Bd, mac: Mac) {
        self.shadowed.remove(&node_key(bd, mac));
        if self.is_remote(bd, mac) {
            self.nodes.remove(&mut self.writer, node_key(bd, mac));
        }
    }

    /// Sets the owner of an address.
    pub fn set_owner(&mut self, bd: Bd, ip: IpAddr, mac: Mac) -> Result<(), Full> {
        let word = owner_word(mac, self.sync_generation);
        let stored = match ip {
            IpAddr::V4(ip) => self.ipv4.insert(&mut self.writer, ipv4_key(bd, ip), word),
            IpAddr::V6(ip) => {
                let key = wide_key(bd.get(), ip);
                let known = self.ipv6.get(&self.writer, &key).filter(|known| owner_mac(*known) == mac);
                let router = known.and_then(owner_router);
                self.ipv6.insert(&mut self.writer, &key, with_router(word, router))
            }
        };
        let before = stored.map_err(|why| Full::new(format!("address {ip}"), why))?;
        if before.is_none() {
            self.nodes.counts.address_added(bd.get());
        }
        Ok(())
    }

    /// Sets whether a node is an IPv6 router, at this address if the node owns it.
    pub fn set_router(&mut self, bd: Bd, ip: Ipv6Addr, mac: Mac, router: bool) {
        let key = wide_key(bd.get(), ip);
        if let Some(word) = self.ipv6.get(&self.writer, &key).filter(|word| owner_mac(*word) == mac) {
            self.ipv6.update(&mut self.writer, &key, with_router(word, Some(router)));
        }
    }

    /// Whether the owner of an address is an IPv6 router, if that is known.
    #[must_use]
    pub fn router(&self, bd: Bd, ip: Ipv6Addr) -> Option<bool> {
        self.ipv6.get(&self.writer, &wide_key(bd.get(), ip)).and_then(owner_router)
    }

    /// Removes the owner of an address, unless it is another node by now.
    pub fn clear_owner(&mut self, bd: Bd, ip: IpAddr, mac: Mac) {
        if self.owner(bd, ip) != Some(mac) {
            return;
        }
        let gone = match ip {
            IpAddr::V4(ip) => self.ipv4.remove(&mut self.writer, ipv4_key(bd, ip)),
            IpAddr::V6(ip) => self.ipv6.remove(&mut self.writer, &wide_key(bd.get(), ip)),
        };
        if gone.is_some() {
            self.nodes.counts.address_removed(bd.get());
        }
    }

    /// The owner of an address.
    #[must_use]
    pub fn owner(&self, bd: Bd, ip: IpAddr) -> Option<Mac> {
        let word = match ip {
            IpAddr::V4(ip) => self.ipv4.get(ipv4_key(bd, ip)),
            IpAddr::V6(ip) => self.ipv6.get(&self.writer, &wide_key(bd.get(), ip)),
        };
        word.map(owner_mac)
    }

    /// Publishes the record of a network.
    pub fn put_network(&mut self, entry: NetworkEntry) -> Result<(), Full> {
        let what = format!("network {}", entry.vni);
        let index = u32::from(entry.bd.get());
        let stored = self.shared.networks.set(&mut self.writer, index, entry);
        stored.map(drop).map_err(|why| Full::new(what, why))
    }

    /// Begins a new sync generation: entries that are not written again before [`Tables::sweep`] are stale.
    pub fn next_sync_generation(&mut self) {
        self.sync_generation = (self.sync_generation + 1) & MAX_SYNC_GENERATION;
    }

    /// Removes every remote node, and every address of one, that was not written in this sync generation. Local
    /// stations and their addresses remain.
    pub fn sweep(&mut self) {
        let sync_generation = self.sync_generation;
        self.shadowed.retain(|_, word| word.sync_generation() == sync_generation);
        self.nodes.retain(&mut self.writer, |_, word| {
            let word = PackedFdbEntry(word);
            !matches!(word.unpack(), Some(FdbEntry::Remote { .. }))
                || word.sync_generation() == sync_generation
        });
        let locals = &self.locals;
        let local = |bd: Option<Bd>, mac: Mac| bd.is_some_and(|bd| locals.get(node_key(bd, mac)).is_some());
        let counts = &mut self.nodes.counts;
        let mut kept = |bd: u16, word: u64| {
            let kept = owner_sync_generation(word) == sync_generation || local(Bd::new(bd), owner_mac(word));
            if !kept {
                counts.address_removed(bd);
            }
            kept
        };
        self.ipv4.retain(&mut self.writer, |key, word| kept((key >> 32) as u16, word));
        self.ipv6.retain(&mut self.writer, |key, word| kept(key[0] as u16, word));
    }

    /// How many nodes are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// No node is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Memory of the node and address tables, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.nodes.memory_bytes()
            + self.locals.memory_bytes()
            + self.ipv4.memory_bytes()
            + self.ipv6.memory_bytes()
    }
}

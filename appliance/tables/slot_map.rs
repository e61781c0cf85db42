//! Peers and slots, the writer's side. Enters: peers as the board knows them, and the path in force for each path
//! class. Leaves: their records for the lcores, and the slot that an FDB entry or a flood list names. A slot is
//! numbered when its peer is first put. Its number is used again only when the peer is gone, no entry or flood list
//! names it, and every lcore has passed since.

use super::{
    Full, MAX_HOSTS, Tables,
    entries::{Path, PeerEntry, SlotEntry},
    peer::{Accept, PackedVtep, PathClass, Peer, Slot},
    vtep4_key, wide_key,
};
use hashbrown::{HashMap, HashSet};
use std::net::IpAddr;
use stopover_lockfree::epoch::Epoch;

/// The highest number of a host.
pub const LAST_HOST: u32 = MAX_HOSTS - 1;

/// Which slot is of which peer.
#[derive(Debug, Default)]
pub(super) struct SlotMap {
    of: HashMap<(Peer, PathClass), Slot>,
    /// By slot. Of a free slot: the last.
    peers: Vec<Peer>,
    /// Slots of removed peers, which entries may still name.
    vacated: HashSet<Slot>,
    /// Slots that nothing names any more, and the epoch after which they may be used again.
    deferred: Vec<(Epoch, Slot)>,
    free: Vec<Slot>,
}

impl SlotMap {
    /// The slot of a peer, which is new if the second value is true.
    fn assign(&mut self, peer: Peer, class: PathClass) -> Option<(Slot, bool)> {
        if let Some(slot) = self.of.get(&(peer, class)).copied() {
            return Some((slot, self.vacated.remove(&slot)));
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                self.peers[slot.get() as usize] = peer;
                slot
            }
            None => {
                let slot = Slot::new(u32::try_from(self.peers.len()).ok()?)?;
                self.peers.push(peer);
                slot
            }
        };
        self.of.insert((peer, class), slot);
        Some((slot, true))
    }

    fn peer_of(&self, slot: Slot) -> Option<Peer> {
        self.peers.get(slot.get() as usize).copied()
    }

    fn release(&mut self, slot: Slot) {
        self.vacated.remove(&slot);
        self.of.retain(|_, known| *known != slot);
    }
}

impl Tables {
    /// Publishes a peer: whether it is an appliance, and what is accepted from it. A change of the latter applies to
    /// its VTEP addresses when they are put again. Returns its slot for plain paths. One from which plain frames alone are
    /// accepted has no other: it has that for sealed paths, too, until it is put again.
    pub fn put_peer(&mut self, peer: Peer, is_appliance: bool, accept: Accept) -> Result<Slot, Full> {
        let full = |why: String| Full::new(format!("host {peer}"), why);
        if peer.get() >= MAX_HOSTS {
            return Err(full(format!("its number is beyond {LAST_HOST}")));
        }
        let mut assign = |class| {
            let assigned = self.slot_map.assign(peer, class);
            let (slot, is_new) = assigned.ok_or_else(|| full("all slots are in use".into()))?;
            if is_new {
                self.publish_slot(slot, SlotEntry { path: None, peer })?;
            }
            Ok::<_, Full>(slot)
        };
        let slot = assign(PathClass::Plain)?;
        let sealed = if accept == Accept::Plain { slot } else { assign(PathClass::Sealed)? };
        let entry = PeerEntry { is_appliance, accept, slots: [slot, sealed] };
        let stored = self.shared.peers.set(&mut self.writer, peer.get(), entry);
        stored.map(|_| slot).map_err(|why| full(why.to_string()))
    }

    /// Removes a peer. Frames for nodes at it are dropped, until they are elsewhere or it is put again.
    pub fn remove_peer(&mut self, peer: Peer) {
        let Some(slots) = self.shared.peers.get(&self.writer, peer.get()).map(|entry| entry.slots) else {
            return;
        };
        self.shared.peers.clear(&mut self.writer, peer.get());
        for slot in slots {
            self.shared.slots.clear(&mut self.writer, slot.get());
            self.slot_map.vacated.insert(slot);
        }
    }

    /// Gives a peer another number, which no peer has. Its nodes and its paths stay with it. Only needed if the
    /// history of the board has forked.
    pub fn renumber_peer(&mut self, from: Peer, to: Peer) -> Result<(), Full> {
        let Some(entry) = self.shared.peers.get(&self.writer, from.get()).cloned() else { return Ok(()) };
        for (class, slot) in PathClass::ALL.into_iter().zip(entry.slots) {
            let old = self.shared.slots.get(&self.writer, slot.get()).and_then(|old| old.path.clone());
            let path = old.map(|path| Path { peer: to, ..path });
            self.publish_slot(slot, SlotEntry { path, peer: to })?;
            if self.slot_map.of.remove(&(from, class)).is_some() {
                self.slot_map.of.insert((to, class), slot);
            }
            self.slot_map.peers[slot.get() as usize] = to;
        }
        let stored = self.shared.peers.set(&mut self.writer, to.get(), entry);
        stored.map_err(|why| Full::new(format!("host {to}"), why))?;
        self.shared.peers.clear(&mut self.writer, from.get());
        Ok(())
    }

    /// The slot of a peer that was put.
    #[must_use]
    pub fn slot(&self, peer: Peer, class: PathClass) -> Option<Slot> {
        self.shared.peers.get(&self.writer, peer.get()).map(|entry| entry.slot(class))
    }

    /// The peer of a slot that an entry names.
    #[must_use]
    pub fn peer_of(&self, slot: Slot) -> Option<Peer> {
        self.slot_map.peer_of(slot)
    }

    /// Puts this path in force for a peer and a path class, for all nodes behind the slot at once; `None`: there is
    /// none. Nothing is done for a peer that was not put.
    pub fn set_path(&mut self, peer: Peer, class: PathClass, path: Option<Path>) -> Result<(), Full> {
        match self.slot(peer, class) {
            Some(slot) => self.publish_slot(slot, SlotEntry { path, peer }),
            None => Ok(()),
        }
    }

    /// The only write of a change of path.
    fn publish_slot(&mut self, slot: Slot, entry: SlotEntry) -> Result<(), Full> {
        let what = format!("the path to host {}", entry.peer);
        let stored = self.shared.slots.set(&mut self.writer, slot.get(), entry);
        stored.map(drop).map_err(|why| Full::new(what, why))
    }

    /// Nodes at a peer.
    #[must_use]
    pub fn nodes_at(&self, peer: Peer) -> u32 {
        let Some(entry) = self.shared.peers.get(&self.writer, peer.get()) else { return 0 };
        let [plain, sealed] = entry.slots;
        let more = if sealed == plain { 0 } else { self.counts().at_slot(sealed) };
        self.counts().at_slot(plain) + more
    }

    /// Sets the peer that sends from this address.
    pub fn put_vtep(&mut self, ip: IpAddr, peer: Peer) -> Result<(), Full> {
        let entry = self.shared.peers.get(&self.writer, peer.get());
        let accept = entry.map_or(Accept::Sealed, |entry| entry.accept);
        let (word, plain) = (PackedVtep::new(peer, accept).0, accept.plain());
        let stored = match ip {
            IpAddr::V4(ip) => self.vteps4.insert(&mut self.writer, vtep4_key(ip), word),
            IpAddr::V6(ip) => self.vteps6.insert(&mut self.writer, &wide_key(0, ip), word),
        };
        let before = stored.map_err(|why| Full::new(format!("VTEP {ip}"), why))?;
        if !plain && before.is_some_and(|before| PackedVtep(before).accepts_plain()) {
            self.forget_cached_vteps(ip);
        }
        Ok(())
    }

    /// The readers' caches of the version of this address are cleared.
    fn forget_cached_vteps(&self, ip: IpAddr) {
        match ip {
            IpAddr::V4(_) => self.removed_vteps4.count(),
            IpAddr::V6(_) => self.removed_vteps6.count(),
        }
    }

    /// Removes the peer that sends from this address, unless it is another by now.
    pub fn remove_vtep(&mut self, ip: IpAddr, peer: Peer) {
        let word = match ip {
            IpAddr::V4(ip) => self.vteps4.get(vtep4_key(ip)),
            IpAddr::V6(ip) => self.vteps6.get(&self.writer, &wide_key(0, ip)),
        };
        if word.is_none_or(|word| PackedVtep(word).peer() != peer) {
            return;
        }
        match ip {
            IpAddr::V4(ip) => self.vteps4.remove(&mut self.writer, vtep4_key(ip)),
            IpAddr::V6(ip) => self.vteps6.remove(&mut self.writer, &wide_key(0, ip)),
        };
        self.forget_cached_vteps(ip);
    }

    /// Takes the slots of removed peers that nothing names any more out of use, before the next epoch begins.
    pub(super) fn retire_slots(&mut self) {
        for slot in self.unused_slots() {
            self.slot_map.release(slot);
            self.slot_map.deferred.push((self.writer.grace(), slot));
        }
    }

    /// Frees the numbers of retired slots that every lcore has passed.
    pub(super) fn free_slots(&mut self) {
        let (writer, free) = (&mut self.writer, &mut self.slot_map.free);
        self.slot_map.deferred.retain(|(after, slot)| {
            let done = writer.passed(*after);
            if done {
                free.push(*slot);
            }
            !done
        });
    }

    /// The slots of removed peers that neither an FDB entry nor a flood list names.
    fn unused_slots(&self) -> HashSet<Slot> {
        let vacated = self.slot_map.vacated.iter().copied();
        let mut unused: HashSet<Slot> = vacated.filter(|slot| self.counts().at_slot(*slot) == 0).collect();
        if unused.is_empty() {
            return unused;
        }
        for slot in self.shadowed.values().filter_map(|word| word.slot()) {
            unused.remove(&slot);
        }
        for bd in 1..=u32::from(u16::MAX) {
            let Some(network) = self.shared.networks.get(&self.writer, bd) else { continue };
            network.slots.iter().chain(&network.segment_slots).for_each(|slot| {
                unused.remove(slot);
            });
        }
        unused
    }
}

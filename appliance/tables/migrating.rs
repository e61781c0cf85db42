//! The writer's side of migrating nodes: their records, the entries that point to them, and the flags that accept
//! them where they are not yet, or are no longer.

use super::{
    Full, MAX_MIGRATING, Tables,
    packed::{Bd, FdbEntry, PackedFdbEntry, node_key},
    peer::Peer,
};
use crate::migration::record::MigrationRecord;
use stopover_net::Mac;

impl Tables {
    /// The entry of a node at another host, also if a local station shadows it.
    pub(super) fn remote_entry(&self, key: u64) -> Option<PackedFdbEntry> {
        let shown = || self.nodes.get(key).map(PackedFdbEntry).filter(|word| word.slot().is_some());
        self.shadowed.get(&key).copied().or_else(shown)
    }

    /// The host of a node at another host, also if a local station shadows it.
    #[must_use]
    pub fn recorded_host(&self, bd: Bd, mac: Mac) -> Option<Peer> {
        self.peer_of(self.remote_entry(node_key(bd, mac))?.slot()?)
    }

    /// Sets whether a node is locked for a migration. While it is, its frames may come from where it is not yet, or
    /// is no longer.
    pub fn set_migrating_flag(&mut self, bd: Bd, mac: Mac, on: bool) {
        let key = node_key(bd, mac);
        if let Some(word) = self.shadowed.get_mut(&key) {
            *word = word.set_migrating_flag(on);
        }
        let other = |word: u64| {
            let word = PackedFdbEntry(word);
            let migrating = matches!(word.unpack(), Some(FdbEntry::Migrating { .. }));
            (!migrating && word.is_migrating() != on).then(|| word.set_migrating_flag(on).0)
        };
        // Replacing a value needs no room.
        if let Some(word) = self.locals.get(key).and_then(other) {
            let _ = self.locals.insert(&mut self.writer, key, word);
        }
        if let Some(word) = self.nodes.get(key).and_then(other) {
            let _ = self.nodes.insert(&mut self.writer, key, word);
        }
    }

    /// Marks that a node has left for another host: stragglers for it are redirected.
    pub fn set_departed(&mut self, bd: Bd, mac: Mac) {
        let key = node_key(bd, mac);
        if let Some(word) = self.shadowed.get_mut(&key) {
            *word = word.set_departed();
        }
        let Some(word) = self.nodes.get(key).map(PackedFdbEntry) else { return };
        if matches!(word.unpack(), Some(FdbEntry::Remote { .. })) {
            let _ = self.nodes.insert(&mut self.writer, key, word.set_departed().0);
        }
    }

    /// Sets the record of a migrating node, which replaces an earlier one. A local node becomes migrating at once,
    /// any other when it becomes local.
    pub fn set_migrating(&mut self, record: MigrationRecord) -> Result<(), Full> {
        let what = format!("migration of {}", record.mac);
        let key = node_key(record.bd, record.mac);
        let known = self.migrating.get(&key).copied();
        let index = match known.or_else(|| self.free_migrating()) {
            Some(index) => index,
            None if self.next_migrating < MAX_MIGRATING => {
                self.next_migrating += 1;
                self.next_migrating - 1
            }
            None => return Err(Full::new(what, format!("{MAX_MIGRATING} nodes are migrating already"))),
        };
        let (port, vlan) = (record.port, record.vlan);
        let stand_in = record.stand_in.map(|mac| node_key(record.bd, mac));
        let before = known.and_then(|index| self.shared.migrating.get(&self.writer, index)?.stand_in);
        if let Some(before) = before.map(|mac| node_key(record.bd, mac)).filter(|key| Some(*key) != stand_in)
        {
            self.nodes.remove(&mut self.writer, before);
        }
        let stored = self.shared.migrating.set(&mut self.writer, index, record);
        stored.map_err(|why| Full::new(what, why))?;
        self.migrating.insert(key, index);
        let word = FdbEntry::Migrating { port, vlan, index }.pack().0;
        let local = self.locals.get(key).is_some().then_some(key);
        for key in local.into_iter().chain(stand_in) {
            let stored = self.nodes.insert(&mut self.writer, key, word);
            stored.map_err(|why| Full::new("a migrating node", why))?;
        }
        if let Some(word) = self.locals.get(key).map(PackedFdbEntry) {
            let _ = self.locals.insert(&mut self.writer, key, word.set_migrating_flag(true).0);
        }
        Ok(())
    }

    fn free_migrating(&mut self) -> Option<u32> {
        let writer = &mut self.writer;
        let at = self.deferred_migrating.iter().position(|(after, _)| writer.passed(*after))?;
        Some(self.deferred_migrating.swap_remove(at).1)
    }

    /// Ends the migration of a node. If it is local, its frames are delivered as usual.
    pub fn end_migrating(&mut self, bd: Bd, mac: Mac) {
        let key = node_key(bd, mac);
        let Some(index) = self.migrating.remove(&key) else { return };
        let stand_in = self.shared.migrating.get(&self.writer, index).and_then(|record| record.stand_in);
        if let Some(word) = self.locals.get(key).map(|word| PackedFdbEntry(word).set_migrating_flag(false)) {
            let _ = self.locals.insert(&mut self.writer, key, word.0);
            let _ = self.nodes.insert(&mut self.writer, key, word.0);
        }
        if let Some(stand_in) = stand_in {
            self.nodes.remove(&mut self.writer, node_key(bd, stand_in));
        }
        self.shared.migrating.clear(&mut self.writer, index);
        let after = self.writer.grace();
        self.deferred_migrating.push((after, index));
    }
}

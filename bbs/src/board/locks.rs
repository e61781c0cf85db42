//! The last of the functions that change the tables: the one for a migration's record. Locks, the index of moved nodes
//! and the changes for watchers are derived from the record, and from nothing else.

use super::state::{State, Undo};
use crate::{
    model::{Change, Lock, Migration, MigrationState, Unlocked},
    table::Write,
};
use stopover_net::{Mac, Vni};

impl Migration {
    /// The lock on each of its nodes; `None` after its end.
    pub(super) fn lock(&self) -> Option<Lock> {
        (self.state == MigrationState::Locked).then(|| Lock {
            migration: self.id,
            generation: self.generation,
            source: self.source.id,
            target: self.target.as_ref().map(|t| t.id),
        })
    }

    /// Whether a deferred claim of a host for one of its nodes exists.
    pub(super) fn has_claim(&self, host: u32, vni: Vni, mac: Mac) -> bool {
        self.deferred.iter().any(|d| d.host.id == host && (d.claim.vni, d.claim.mac) == (vni, mac))
    }

    pub(super) fn has_node(&self, vni: Vni, mac: Mac) -> bool {
        self.nodes.iter().any(|n| (n.vni, n.mac) == (vni, mac))
    }
}

impl State {
    /// Sets or removes a migration. While it is locked, no other migration locks its nodes.
    pub fn put_migration(&mut self, id: u64, new: Option<Box<Migration>>) {
        let old = match new.clone() {
            Some(new) => self.migrations.insert(id, *new),
            None => self.migrations.remove(&id),
        };
        if old.as_ref() == new.as_deref() {
            return;
        }
        for node in old.iter().flat_map(|m| &m.nodes) {
            self.unlock((node.vni, node.mac), old.as_ref(), new.as_deref());
        }
        for node in new.iter().flat_map(|m| &m.nodes) {
            self.lock((node.vni, node.mac), old.as_ref(), new.as_deref());
        }
        if new.as_deref().is_some_and(|m| m.lock().is_some()) {
            self.active.insert(id);
            self.touched.insert(id);
        } else {
            self.active.remove(&id);
            self.touched.remove(&id);
        }
        self.barriers.update(id, old.as_ref(), new.as_deref());
        self.write(|| Write::set(id, new.as_deref()));
        self.push_undo(|| Undo::Migration(id, old.map(Box::new)));
    }

    /// Takes the old record's lock off a node that the new record does not lock.
    fn unlock(&mut self, key: (Vni, Mac), old: Option<&Migration>, new: Option<&Migration>) {
        let Some(old) = old else { return };
        let (vni, mac) = key;
        let still_locked = new.is_some_and(|m| m.lock().is_some() && m.has_node(vni, mac));
        if let Some(lock) = old.lock().filter(|_| !still_locked) {
            let outcome = match new.map(|m| m.state) {
                Some(MigrationState::Completed) => Unlocked::Completed,
                _ => Unlocked::Aborted,
            };
            self.locks.remove(&key);
            self.write(|| Write::remove::<Lock>(key));
            self.emit(|| Change::NodeUnlocked {
                vni,
                mac,
                migration: old.id,
                generation: lock.generation,
                outcome,
            });
        }
        if self.last_migration.get(&key) == Some(&old.id) {
            self.last_migration.remove(&key);
        }
    }

    /// Puts the new record's lock on a node, if it is new or has changed; or notes that the migration moved the node.
    fn lock(&mut self, key: (Vni, Mac), old: Option<&Migration>, new: Option<&Migration>) {
        let Some(new) = new else { return };
        let (vni, mac) = key;
        let before = old.filter(|m| m.has_node(vni, mac)).and_then(Migration::lock);
        if let Some(lock) = new.lock().filter(|lock| before != Some(*lock)) {
            self.locks.insert(key, new.id);
            self.write(|| Write::put(key, &lock));
            self.emit(|| Change::NodeLocked {
                vni,
                mac,
                migration: new.id,
                generation: lock.generation,
                source: lock.source,
                target: lock.target,
            });
        }
        if new.state == MigrationState::Completed
            && self.last_migration.get(&key).is_none_or(|other| *other < new.id)
        {
            self.last_migration.insert(key, new.id);
        }
    }

    /// The migration that locks a node.
    pub fn locked_by(&self, vni: Vni, mac: Mac) -> Option<&Migration> {
        self.migrations.get(self.locks.get(&(vni, mac))?)
    }
}

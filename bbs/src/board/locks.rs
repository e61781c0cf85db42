//! The fifth way to change the tables: a migration's record. Locks, the index of moves and what watchers hear of
//! them follow from the record, and only from it.

use super::{
    record::Write,
    state::{State, Undo},
};
use crate::model::{Change, Lock, Migration, MigrationState, Unlocked};
use stopover_net::{Mac, Vni};

impl Migration {
    /// The lock it has on each of its nodes; `None` once it has ended.
    pub(super) fn lock(&self) -> Option<Lock> {
        (self.state == MigrationState::Locked).then(|| Lock {
            migration: self.id,
            generation: self.generation,
            source: self.source.id,
            target: self.target.as_ref().map(|t| t.id),
        })
    }

    /// Whether a host has claimed one of its nodes, and the claim waits.
    pub(super) fn has_claim(&self, host: u32, vni: Vni, mac: Mac) -> bool {
        self.deferred.iter().any(|d| d.host.id == host && (d.claim.vni, d.claim.mac) == (vni, mac))
    }

    pub(super) fn has_node(&self, vni: Vni, mac: Mac) -> bool {
        self.nodes.iter().any(|n| (n.vni, n.mac) == (vni, mac))
    }
}

impl State {
    /// Sets or removes (when it is forgotten) a migration. Its nodes, while it is locked, are locked by no other.
    pub fn put_migration(&mut self, id: u64, new: Option<Box<Migration>>) {
        let old = match new.clone() {
            Some(new) => self.migrations.insert(id, *new),
            None => self.migrations.remove(&id),
        };
        if old.as_ref() == new.as_deref() {
            return;
        }
        let before = old.as_ref().and_then(Migration::lock);
        let after = new.as_deref().and_then(Migration::lock);
        let outcome = match new.as_deref().map(|m| m.state) {
            Some(MigrationState::Completed) => Unlocked::Completed,
            _ => Unlocked::Aborted,
        };
        for node in old.iter().flat_map(|m| &m.nodes) {
            let key = (node.vni, node.mac);
            let still_locked =
                after.is_some() && new.as_deref().is_some_and(|m| m.has_node(node.vni, node.mac));
            if let Some(lock) = before
                && !still_locked
            {
                self.locks.remove(&key);
                self.write(|| Write::Lock(node.vni, node.mac, None));
                self.emit(|| Change::NodeUnlocked {
                    vni: node.vni,
                    mac: node.mac,
                    migration: id,
                    generation: lock.generation,
                    outcome,
                });
            }
            if self.last_migration.get(&key) == Some(&id) {
                self.last_migration.remove(&key);
            }
        }
        for node in new.iter().flat_map(|m| &m.nodes) {
            let key = (node.vni, node.mac);
            let had = before.filter(|_| old.as_ref().is_some_and(|m| m.has_node(node.vni, node.mac)));
            if let Some(lock) = after
                && had != after
            {
                self.locks.insert(key, id);
                self.write(|| Write::Lock(node.vni, node.mac, Some(lock)));
                self.emit(|| Change::NodeLocked {
                    vni: node.vni,
                    mac: node.mac,
                    migration: id,
                    generation: lock.generation,
                    source: lock.source,
                    target: lock.target,
                });
            }
            if new.as_deref().is_some_and(|m| m.state == MigrationState::Completed)
                && self.last_migration.get(&key).is_none_or(|other| *other < id)
            {
                self.last_migration.insert(key, id);
            }
        }
        if after.is_some() {
            self.active.insert(id);
            self.touched.insert(id);
        } else {
            self.active.remove(&id);
            self.touched.remove(&id);
        }
        self.barriers.update(id, old.as_ref(), new.as_deref());
        self.write(|| Write::Migration(id, new));
        self.push_undo(|| Undo::Migration(id, old.map(Box::new)));
    }

    /// The migration that locks a node.
    pub fn locked_by(&self, vni: Vni, mac: Mac) -> Option<&Migration> {
        self.migrations.get(self.locks.get(&(vni, mac))?)
    }
}

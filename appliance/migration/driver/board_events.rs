//! Updates of the board about migrating nodes: where a node is, that it is locked or unlocked, and replies to our
//! requests. A snapshot is compared with what was known: what it does not name is removed.

use super::{Driver, Key, Migrations};
use crate::{
    migration::machine::{Event, Record},
    tables::peer::Peer,
};
use hashbrown::HashSet;
use stopover_bbs::{
    client::MigrationUpdate,
    model::{Change, Lock, Unlocked},
};
use stopover_net::{Mac, Vni};

/// A change that concerns where a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoardEvent {
    vni: Vni,
    mac: Mac,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    At(u32),
    Removed,
    Locked(Lock),
    Unlocked(Unlocked),
}

impl BoardEvent {
    /// A node is at a host.
    #[must_use]
    pub const fn node_at(vni: Vni, mac: Mac, host: u32) -> Self {
        Self { vni, mac, what: What::At(host) }
    }

    /// The part of a change that matters here, if any does.
    #[must_use]
    pub fn of(change: &Change) -> Option<Self> {
        let (vni, mac, what) = match *change {
            Change::NodePut { ref node, .. } => (node.vni, node.mac, What::At(node.host_id)),
            Change::NodeGone { vni, mac, .. } => (vni, mac, What::Removed),
            Change::NodeLocked { vni, mac, migration, generation, source, target } => {
                (vni, mac, What::Locked(Lock { migration, generation, source, target }))
            }
            Change::NodeUnlocked { vni, mac, outcome, .. } => (vni, mac, What::Unlocked(outcome)),
            Change::HostPut(_)
            | Change::HostGone { .. }
            | Change::NetworkPut(_)
            | Change::NetworkGone { .. }
            | Change::MemberPut { .. }
            | Change::MemberGone { .. } => return None,
        };
        Some(Self { vni, mac, what })
    }
}

impl Migrations {
    /// Whether updates of where a node is matter here.
    #[must_use]
    pub fn concerns(&self, key: Key) -> bool {
        self.nodes.contains_key(&key) || self.stale.as_ref().is_some_and(|(nodes, _)| nodes.contains(&key))
    }

    /// A snapshot begins: what it does not name until its end is removed.
    pub fn begin_snapshot(&mut self) {
        let nodes: HashSet<Key> = self.nodes.keys().copied().collect();
        let locks: HashSet<Key> = self.locks.keys().copied().collect();
        self.stale = Some((nodes, locks));
    }
}

impl Driver<'_> {
    /// Processes a change that the tables have already.
    pub fn on_board_event(&mut self, now_ms: u64, event: BoardEvent) {
        let BoardEvent { vni, mac, what } = event;
        let Some(bd) = self.replica.bd_of(vni) else { return };
        let key = (bd, mac);
        if let Some((nodes, locks)) = &mut self.migrations.stale {
            match what {
                What::At(_) => nodes.remove(&key),
                What::Locked(_) => locks.remove(&key),
                What::Removed | What::Unlocked(_) => false,
            };
        }
        let event = match what {
            What::At(host) => {
                if self.replica.own_id() == Some(host) {
                    self.expect_station(now_ms, key, vni);
                }
                Event::Record(self.record_of(host))
            }
            What::Removed => {
                self.stations.allow_claim(now_ms, bd, mac);
                self.end_unfollowed(now_ms, key, vni);
                Event::Record(Record::Nowhere)
            }
            What::Locked(lock) => {
                self.migrations.locks.insert(key, lock);
                self.track_locked_station(now_ms, key, vni);
                Event::Locked(lock)
            }
            What::Unlocked(how) => {
                self.migrations.locks.remove(&key);
                Event::Unlocked(how)
            }
        };
        if self.migrations.nodes.contains_key(&key) {
            self.event(now_ms, key, event);
            self.flag(key);
        }
    }

    /// A node is removed because its network is not followed any more: nobody will say that its lock has ended.
    fn end_unfollowed(&mut self, now_ms: u64, key: Key, vni: Vni) {
        if self.replica.is_followed(vni) || self.migrations.locks.remove(&key).is_none() {
            return;
        }
        self.replica.end_own_copies(vni, key.1);
        self.event(now_ms, key, Event::Unlocked(Unlocked::Aborted));
        self.flag(key);
    }

    fn record_of(&self, host: u32) -> Record {
        if self.replica.own_id() == Some(host) { Record::Here } else { Record::Other(host) }
    }

    /// Gives a machine to a station of a segment that is locked here: from now on its frames matter one by one. At
    /// its target it gets one when it is seen: what was seen before its lock does not tell where it is now.
    fn track_locked_station(&mut self, now_ms: u64, key: Key, vni: Vni) {
        let from_here = |lock: &Lock| self.replica.own_id() == Some(lock.source);
        if self.migrations.nodes.contains_key(&key)
            || self.stations.get(key.0, key.1).is_none()
            || !self.migrations.locks.get(&key).is_some_and(from_here)
        {
            return;
        }
        self.follow_station(now_ms, key, vni);
        self.event(now_ms, key, Event::Record(Record::Here));
        self.on_local_station(now_ms, key);
    }

    /// A migration has moved a node here that has not been seen yet: it is waited for, and given back if it remains
    /// silent.
    fn expect_station(&mut self, now_ms: u64, key: Key, vni: Vni) {
        if self.stations.get(key.0, key.1).is_none()
            && self.migrations.locks.get(&key).is_some_and(|lock| self.may_move_here(lock))
        {
            self.follow_station(now_ms, key, vni);
        }
    }

    /// Passes a new machine what is known already.
    pub(super) fn init_machine(&mut self, now_ms: u64, key: Key) {
        if let Some(host) = self.tables.recorded_host(key.0, key.1).map(Peer::get) {
            self.event(now_ms, key, Event::Record(Record::Other(host)));
        }
        if let Some(lock) = self.migrations.locks.get(&key).copied() {
            self.event(now_ms, key, Event::Locked(lock));
        }
    }

    /// A snapshot is complete.
    pub fn end_snapshot(&mut self, now_ms: u64) {
        let Some((nodes, locks)) = self.migrations.stale.take() else { return };
        for key in nodes {
            self.event(now_ms, key, Event::Record(Record::Nowhere));
        }
        for key in locks {
            let Some(lock) = self.migrations.locks.remove(&key) else { continue };
            let record = self.migrations.nodes.get(&key).map(|node| node.machine.record());
            let source = self.record_of(lock.source);
            let how =
                if record.is_none_or(|now| now == source) { Unlocked::Aborted } else { Unlocked::Completed };
            self.tables.set_migrating_flag(key.0, key.1, false);
            let vni = self.replica.networks().find(|(_, record)| record.bd == key.0).map(|(vni, _)| vni);
            if let Some(vni) = vni {
                self.migrations.unlocked(now_ms, vni, key.1);
            }
            self.event(now_ms, key, Event::Unlocked(how));
        }
    }

    /// Processes a reply of the board about migrations.
    pub fn on_board_reply(&mut self, now_ms: u64, update: MigrationUpdate) {
        match update {
            MigrationUpdate::Begun { nodes, ticket } => {
                let begun = Event::Begun { migration: ticket.migration, generation: ticket.generation };
                for (vni, mac) in nodes {
                    if let Some(bd) = self.replica.bd_of(vni) {
                        self.event(now_ms, (bd, mac), begun);
                    }
                }
            }
            MigrationUpdate::Deferred { vni, mac, .. } => {
                let bd = self.replica.bd_of(vni);
                let learn = bd.and_then(|bd| self.stations.unconfirmed(bd, mac));
                if let Some(learn) = learn.filter(|learn| self.is_expected(learn)) {
                    self.on_expected_station(now_ms, &learn);
                }
            }
            MigrationUpdate::Ended { .. } => {}
            MigrationUpdate::Refused { call, migration, why } => {
                let which = migration.map(|id| format!(" {id}")).unwrap_or_default();
                log::warn!("the board refuses to {call} migration{which}: {why}");
            }
        }
    }
}

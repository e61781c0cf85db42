//! The barrier after a completed migration: it is open until every appliance concerned forwards by the new place.
//! Barriers are indexed by host, so that an acknowledgement, or a host that goes down, costs only the barriers that wait
//! for that host. A host that is up and does not acknowledge within [`BARRIER_MS`] is no longer waited for, and an event
//! names it.

use super::{Board, Now, Session, deadlines::Deadlines, state::State};
use crate::model::{EventKind, HostRef, Migration};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};

/// How long a barrier waits for a host that is up. A working appliance acknowledges within milliseconds, and within
/// seconds while it receives a snapshot.
pub const BARRIER_MS: u64 = 30_000;
/// Most migrations that one event names.
const NAMED: usize = 8;

/// Open barriers.
#[derive(Default)]
pub(super) struct Barriers {
    /// By host: what waits for it, as the revision to be acknowledged and the migration.
    by_host: HashMap<u32, BTreeSet<(u64, u64)>>,
    /// Completed migrations that wait for at least one host.
    pub open: BTreeSet<u64>,
    pub deadlines: Deadlines,
}

impl Barriers {
    /// Updates the index after a change of a migration's record.
    pub fn update(&mut self, id: u64, old: Option<&Migration>, new: Option<&Migration>) {
        for (host, revision) in old.iter().flat_map(|m| m.waiting.iter().map(|h| (h.id, m.revision))) {
            if let Some(waiting) = self.by_host.get_mut(&host) {
                waiting.remove(&(revision, id));
                if waiting.is_empty() {
                    self.by_host.remove(&host);
                }
            }
        }
        for (host, revision) in new.iter().flat_map(|m| m.waiting.iter().map(|h| (h.id, m.revision))) {
            self.by_host.entry(host).or_default().insert((revision, id));
        }
        if new.is_some_and(|m| !m.waiting.is_empty()) {
            self.open.insert(id);
        } else {
            self.open.remove(&id);
            self.deadlines.remove(id);
        }
    }

    /// Migrations that wait for this host's acknowledgement of this revision or an earlier one.
    fn waiting_for(&self, host: u32, revision: u64) -> Vec<u64> {
        let waiting = self.by_host.get(&host);
        waiting.into_iter().flat_map(|w| w.range(..=(revision, u64::MAX))).map(|(_, id)| *id).collect()
    }
}

impl State {
    /// These migrations no longer wait for the host. `missed`: it has not acknowledged.
    fn clear_waiting(&mut self, now: Now, host: u32, migrations: Vec<u64>, missed: bool) {
        for id in migrations {
            self.steps += 1;
            let Some(mut m) = self.migrations.get(&id).cloned() else { continue };
            let (removed, waiting) = m.waiting.into_iter().partition::<Vec<HostRef>, _>(|h| h.id == host);
            m.waiting = waiting;
            if missed {
                m.missed.extend(removed);
            }
            if m.waiting.is_empty() {
                m.switched_unix_ms = now.unix_ms;
            }
            self.put_migration(id, Some(Box::new(m)));
        }
    }
}

impl Board {
    pub(super) fn handle_acks(&mut self, now: Now, acks: &[(Session, u64)]) {
        for (session, revision) in acks {
            let Some(host) = self.current(session) else { continue };
            let passed = self.state.barriers.waiting_for(host, *revision);
            self.state.clear_waiting(now, host, passed, false);
        }
    }

    /// Called after every command. Hosts that went down, or whose time is over, are no longer waited for.
    pub(super) fn expire_barriers(&mut self, now: Now) {
        for host in std::mem::take(&mut self.state.hosts_down) {
            if !self.is_up(host) {
                let missed = self.state.barriers.waiting_for(host, u64::MAX);
                self.state.clear_waiting(now, host, missed, true);
            }
        }
        let mut late: BTreeMap<HostRef, Vec<u64>> = BTreeMap::new();
        for id in self.state.barriers.deadlines.due(now.lease_ms) {
            self.state.barriers.deadlines.remove(id);
            let waiting = self.state.migrations.get(&id).map(|m| m.waiting.clone());
            for host in waiting.into_iter().flatten() {
                late.entry(host).or_default().push(id);
            }
        }
        for (host, migrations) in late {
            let named: Vec<_> = migrations.iter().take(NAMED).map(u64::to_string).collect();
            let more = migrations.len().saturating_sub(NAMED);
            let text = format!(
                "host {} is up and has not acknowledged migration {}{} within {BARRIER_MS} ms: it may still send to the \
                 old place, and the barrier no longer waits for it; look at its watch in `stopover show board`",
                host.name,
                named.join(", "),
                if more > 0 { format!(" and {more} more") } else { String::new() },
            );
            self.push_event(EventKind::Migration, text);
            self.state.clear_waiting(now, host.id, migrations, true);
        }
    }
}

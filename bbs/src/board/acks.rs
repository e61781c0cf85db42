//! For whom barriers no longer wait: hosts that have acknowledged a revision, hosts that went down, and hosts that are up
//! and have not acknowledged within [`BARRIER_MS`], which an event names.

use super::{Board, Now, Session, barriers::BARRIER_MS, state::State};
use crate::model::{EventKind, HostRef};
use std::collections::BTreeMap;

/// Most migrations that one event names.
const NAMED: usize = 8;

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

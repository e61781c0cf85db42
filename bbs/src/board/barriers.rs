//! The barrier after a completed migration: it is open until every appliance concerned forwards by the new place.
//! Barriers are indexed by host, so that an acknowledgement, or a host that goes down, costs only the barriers that wait
//! for that host (`acks`).

use super::deadlines::Deadlines;
use crate::model::Migration;
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// How long a barrier waits for a host that is up. A working appliance acknowledges within milliseconds, and within
/// seconds while it receives a snapshot.
pub const BARRIER_MS: u64 = 30_000;
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
    pub fn waiting_for(&self, host: u32, revision: u64) -> Vec<u64> {
        let waiting = self.by_host.get(&host);
        waiting.into_iter().flat_map(|w| w.range(..=(revision, u64::MAX))).map(|(_, id)| *id).collect()
    }
}

//! Deadlines by migration, in order of time, so that looking for what is due costs nothing while nothing is.

use hashbrown::HashMap;
use std::collections::BTreeSet;

/// On the lease clock.
#[derive(Default)]
pub(super) struct Deadlines {
    by_id: HashMap<u64, u64>,
    in_order: BTreeSet<(u64, u64)>,
}

impl Deadlines {
    pub fn set(&mut self, id: u64, at_ms: u64) {
        self.remove(id);
        self.by_id.insert(id, at_ms);
        self.in_order.insert((at_ms, id));
    }

    pub fn remove(&mut self, id: u64) {
        if let Some(at_ms) = self.by_id.remove(&id) {
            self.in_order.remove(&(at_ms, id));
        }
    }

    pub fn get(&self, id: u64) -> Option<u64> {
        self.by_id.get(&id).copied()
    }

    /// Ids whose deadline has passed, earliest first. They remain until they are removed.
    pub fn due(&self, now_ms: u64) -> Vec<u64> {
        self.in_order.iter().take_while(|(at_ms, _)| *at_ms <= now_ms).map(|(_, id)| *id).collect()
    }
}

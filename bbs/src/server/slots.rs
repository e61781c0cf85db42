//! What is open at once: connections, watches, lists, loads, in all or of one caller. Enters: who wants to open something.
//! Leaves: a [`Slot`], which is free again when it is dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use stopover_config::bbs::{Exceeded, Limit, Limits};

/// Whose a slot in all is.
pub(super) const ALL: &str = "";

#[derive(Debug, Default)]
struct Taken(Mutex<HashMap<Limit, HashMap<String, u64>>>);

impl Taken {
    fn lock(&self) -> MutexGuard<'_, HashMap<Limit, HashMap<String, u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slots of a server.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    limits: Limits,
    taken: Arc<Taken>,
}

/// One slot.
#[derive(Debug)]
pub(super) struct Slot {
    limit: Limit,
    who: String,
    taken: Arc<Taken>,
}

impl Slots {
    pub fn new(limits: Limits) -> Self {
        Self { limits, taken: Arc::default() }
    }

    /// Takes a slot of `who`; [`ALL`] = of all together.
    pub fn take(&self, limit: Limit, who: &str) -> Result<Slot, Exceeded> {
        let mut taken = self.taken.lock();
        let by_who = taken.entry(limit).or_default();
        let count = by_who.get(who).copied().unwrap_or_default() + 1;
        self.limits.check(limit, count)?;
        by_who.insert(who.to_owned(), count);
        Ok(Slot { limit, who: who.to_owned(), taken: self.taken.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        let Some(by_who) = taken.get_mut(&self.limit) else { return };
        match by_who.get_mut(&self.who) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(by_who.remove(&self.who)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        let slots = Slots::new(Limits { lists_per_caller: 2, ..Limits::default() });
        let take = |who| slots.take(Limit::ListsPerCaller, who);
        let first = take("a").unwrap();
        let _second = take("a").unwrap();
        let exceeded = Exceeded { limit: Limit::ListsPerCaller, found: 3, most: 2 };
        assert_eq!(take("a").unwrap_err(), exceeded);
        let other = take("b").unwrap();
        drop(first);
        let _third = take("a").unwrap();
        assert_eq!(take("a").unwrap_err(), exceeded);
        drop(other);
        assert_eq!(
            slots.taken.lock()[&Limit::ListsPerCaller].len(),
            1,
            "nobody is remembered without a slot"
        );
    }
}

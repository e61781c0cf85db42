//! The memory of idempotency keys: bounded, oldest removed first.

use super::{
    command::{Key, Outcome, Refusal},
    record::KeyRecord,
};
use crate::{model::Uuid, table::Write};
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Requests remembered. A client repeats a request within a minute or not at all; a busy board fills this in minutes.
pub const REMEMBERED: usize = 8192;

#[derive(Default)]
pub(super) struct Keys {
    by_id: HashMap<Uuid, (u64, Outcome)>,
    /// In order, each with its place in the store and whether it is stored.
    order: VecDeque<(u64, Uuid, bool)>,
    next: u64,
}

impl Keys {
    /// The answer to this request, if it was answered before.
    pub fn lookup(&self, key: &Key) -> Option<Result<Outcome, Refusal>> {
        let (fingerprint, outcome) = self.by_id.get(&key.id)?;
        Some(if *fingerprint == key.fingerprint { Ok(outcome.clone()) } else { Err(Refusal::KeyReused) })
    }

    /// Remembers an answer. `durable`: the request wrote something, so the key must survive a restart.
    pub fn remember(&mut self, key: Key, outcome: &Outcome, durable: bool, writes: &mut Vec<Write>) {
        let place = self.next;
        self.insert(place, key, outcome.clone(), durable);
        if durable {
            let record = KeyRecord { id: key.id, fingerprint: key.fingerprint, outcome: outcome.clone() };
            writes.push(Write::put(place, &record));
        }
        while self.order.len() > REMEMBERED {
            if let Some((place, id, stored)) = self.order.pop_front() {
                self.by_id.remove(&id);
                if stored {
                    writes.push(Write::remove::<KeyRecord>(place));
                }
            }
        }
    }

    pub fn restore(&mut self, place: u64, record: KeyRecord) {
        self.insert(place, Key { id: record.id, fingerprint: record.fingerprint }, record.outcome, true);
    }

    fn insert(&mut self, place: u64, key: Key, outcome: Outcome, stored: bool) {
        self.next = self.next.max(place + 1);
        self.order.push_back((place, key.id, stored));
        self.by_id.insert(key.id, (key.fingerprint, outcome));
    }
}

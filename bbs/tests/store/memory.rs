//! A store in memory, for tests: the simplest that passes the conformance tests. What it has survives as long as a clone of
//! it, as a file survives a process.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use stopover_bbs::{
    model::Uuid,
    store::{CommitResult, Header, Range, Store, StoreError, Transaction, View},
    table::{Limits, Table},
};

#[derive(Clone, Default)]
struct State {
    header: Header,
    records: BTreeMap<(Table, Vec<u8>), Arc<[u8]>>,
}

#[derive(Clone)]
pub struct Memory {
    board_id: Uuid,
    limits: Limits,
    state: Arc<Mutex<Arc<State>>>,
}

impl Memory {
    pub fn new(limits: Limits) -> Self {
        Self { board_id: Uuid::new_v4(), limits, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, Arc<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn board_id(&self) -> Uuid {
        self.board_id
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn begin_term(&self) -> Result<Header, StoreError> {
        let mut state = self.state();
        let header = &mut Arc::make_mut(&mut state).header;
        header.term += 1;
        Ok(*header)
    }

    fn commit(&self, transaction: &Transaction, progress: &mut dyn FnMut(u64)) -> CommitResult {
        if let Err(excess) = self.limits.check(transaction.writes()) {
            return CommitResult::Failed(StoreError::new("writing a transaction", excess));
        }
        let mut state = self.state();
        if state.header != transaction.expected() {
            return CommitResult::Fenced(state.header);
        }
        let state = Arc::make_mut(&mut state);
        for write in transaction.writes() {
            let key = (write.table, write.key.as_bytes().to_vec());
            match &write.value {
                Some(value) => drop(state.records.insert(key, Arc::from(&**value))),
                None => drop(state.records.remove(&key)),
            }
        }
        state.header = transaction.header();
        progress(transaction.writes().len() as u64);
        CommitResult::Committed
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        Ok(Box::new(MemoryView(self.state().clone())))
    }
}

struct MemoryView(Arc<State>);

impl View for MemoryView {
    fn header(&self) -> Header {
        self.0.header
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.records.get(&(table, key.to_vec())).map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        table: Table,
        Range { prefix, after }: Range<'_>,
        limit: usize,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let all = self.0.records.range((Bound::Included((table, Vec::new())), Bound::Unbounded));
        all.take_while(|((of, _), _)| *of == table)
            .filter(|((_, key), _)| {
                key.starts_with(prefix) && after.is_none_or(|after| key.as_slice() > after)
            })
            .take(limit)
            .for_each(|((_, key), value)| each(key, value));
        Ok(())
    }
}

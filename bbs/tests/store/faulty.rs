//! A store that fails as planned, around one that does not.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use stopover_bbs::{
    model::Uuid,
    store::{CommitResult, Header, Store, StoreError, Transaction, View},
    table::Limits,
};

/// What happens to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not written; the answer is `Failed`.
    Failed,
    /// Not written; the answer is `Unknown`.
    Lost,
    /// Written; the answer is `Unknown`.
    Unanswered,
    /// The answer is `Unknown`. Written when the next one comes, before it.
    Late,
    /// Written; the answer is `Unknown`, and the store cannot be read any more.
    Unreadable,
    /// Another board begins a term before it.
    Fenced,
}

/// See the module.
pub struct Faulty {
    store: Arc<dyn Store>,
    /// By the number of the attempt, from 1.
    faults: BTreeMap<usize, Fault>,
    attempts: Mutex<usize>,
    late: Mutex<Option<Transaction>>,
    unreadable: AtomicBool,
}

impl Faulty {
    pub fn new(store: Arc<dyn Store>, faults: impl IntoIterator<Item = (usize, Fault)>) -> Arc<Self> {
        let (faults, attempts) = (faults.into_iter().collect(), Mutex::new(0));
        Arc::new(Self { store, faults, attempts, late: Mutex::new(None), unreadable: AtomicBool::new(false) })
    }

    fn next_fault(&self) -> Option<Fault> {
        let mut attempts = self.attempts.lock().unwrap();
        *attempts += 1;
        self.faults.get(&attempts).copied()
    }

    fn check_readable(&self) -> Result<(), StoreError> {
        match self.unreadable.load(SeqCst) {
            true => Err(error()),
            false => Ok(()),
        }
    }
}

fn error() -> StoreError {
    StoreError::new("testing", "a planned fault")
}

impl Store for Faulty {
    fn board_id(&self) -> Uuid {
        self.store.board_id()
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }

    fn begin_term(&self) -> Result<Header, StoreError> {
        self.store.begin_term()
    }

    fn commit(&self, transaction: &Transaction, progress: &mut dyn FnMut(u64)) -> CommitResult {
        if let Some(late) = self.late.lock().unwrap().take() {
            self.store.commit(&late, &mut |_| {});
        }
        // Fenced if it was late, and has been written.
        let mut written = || drop(self.store.commit(transaction, progress));
        match self.next_fault() {
            None => return self.store.commit(transaction, progress),
            Some(Fault::Failed) => return CommitResult::Failed(error()),
            Some(Fault::Fenced) => {
                self.store.begin_term().unwrap();
                return self.store.commit(transaction, progress);
            }
            Some(Fault::Lost) => {}
            Some(Fault::Unanswered) => written(),
            Some(Fault::Late) => *self.late.lock().unwrap() = Some(transaction.clone()),
            Some(Fault::Unreadable) => {
                written();
                self.unreadable.store(true, SeqCst);
            }
        }
        CommitResult::Unknown(error())
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        self.check_readable()?;
        self.store.view()
    }
}

//! The board's only way to write its store. Enters: records and the revision after them. Leaves: they are durable, or the
//! board must stop. It decides what an answer of the store means:
//!
//! | Answer | The board |
//! |---|---|
//! | `Committed` | acknowledges and publishes |
//! | `Fenced` | stops: another board writes here. Nothing of the transaction was written |
//! | `Unknown` | reads the header. The transaction is there: as `Committed`. It is not: writes it again, which is safe, since a store writes it at most once. The header cannot be read, or it is still not known: stops |
//! | `Failed` | stops: nothing was written, but its tables in memory have the change |
//!
//! A board that stops has acknowledged and published nothing of the transaction. Started again it continues from what is
//! stored.

use crate::{
    board::{Lineage, RUNS_KEPT, Run},
    model::Uuid,
    records::Records,
    store::{CommitResult, Header, Store, StoreError, Transaction},
    table::{Limits, Write},
};
use std::{fmt, sync::Arc};

/// How often a transaction is written whose outcome is not known.
const ATTEMPTS: usize = 3;

/// Why the board cannot continue.
#[derive(Debug)]
pub enum Failure {
    /// Before anything was written.
    Start(StoreError),
    /// Another board has begun a term, or has written.
    Fenced {
        /// The header that the store has.
        found: Header,
        /// The header that it had after the last transaction of this board.
        expected: Header,
    },
    /// A transaction may have been written, and what the store has cannot be told.
    Unknown(String),
    /// A transaction was not written.
    Failed(StoreError),
    /// A change that the board makes by itself has too many records for the store.
    TooLarge(String),
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        Self::Start(e)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(e) => e.fmt(f),
            Self::Fenced { found, expected } => write!(
                f,
                "another board writes to this store: found {found}; expected {expected}. Nothing that was not \
                 acknowledged is stored; hint: a store has one board; start this one again only after the other \
                 has stopped"
            ),
            Self::Unknown(why) => write!(
                f,
                "{why}; whether the last changes are stored is not known, and none of them was acknowledged; hint: \
                 see to the disk and its free space, then start the board again; it continues from what is stored"
            ),
            Self::Failed(e) => write!(
                f,
                "{e}; the last changes are not stored, and none of them was acknowledged; hint: see to the disk and \
                 its free space, then start the board again"
            ),
            Self::TooLarge(excess) => write!(
                f,
                "a change that the board makes by itself has {excess} in one transaction of this store; hint: raise \
                 the store's limits, then start the board again"
            ),
        }
    }
}

impl std::error::Error for Failure {}

/// The writer of a board, in one term of its store.
pub struct Writer {
    store: Arc<dyn Store>,
    /// The store's, after the last transaction.
    header: Header,
    limits: Limits,
}

impl Writer {
    /// Begins a term, and adds a run with a new id to the store's history.
    pub fn begin(store: Arc<dyn Store>) -> Result<Self, Failure> {
        let limits = store.limits();
        if !limits.include(&Limits::LEAST) {
            let why = format!("found {limits:?}; expected at least {:?}; hint: raise them", Limits::LEAST);
            return Err(StoreError::new("reading its limits", why).into());
        }
        let header = store.begin_term()?;
        let mut writer = Self { store, header, limits };
        let Header { term, revision, .. } = header;
        let mut writes = vec![Write::put(term, &Run { id: Uuid::new_v4(), first: revision })];
        writes.extend(term.checked_sub(RUNS_KEPT as u64).map(Write::remove::<Run>));
        writer.commit(revision, writes, &mut |_| {})?;
        Ok(writer)
    }

    /// Number of this start of the board.
    pub fn run(&self) -> Result<u32, StoreError> {
        self.header.term.try_into().map_err(|e| StoreError::new("counting this start", e))
    }

    /// What fits into a transaction.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The runs so far.
    pub fn lineage(&self) -> Result<Lineage, StoreError> {
        lineage(&*self.store)
    }

    /// Writes everything in one transaction; durable when it returns. After an error the board must stop.
    pub fn commit(
        &mut self,
        revision: u64,
        writes: Vec<Write>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let transaction = Transaction::new(self.header, revision, writes);
        let (expected, after) = (self.header, transaction.header());
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.store.commit(&transaction, progress) {
                CommitResult::Committed => return self.committed(after),
                // An earlier attempt has arrived: no other board writes in this term.
                CommitResult::Fenced(found) if last.is_some() && found == after => {
                    return self.committed(after);
                }
                CommitResult::Fenced(found) => return Err(Failure::Fenced { found, expected }),
                // An earlier attempt may still arrive.
                CommitResult::Failed(e) if last.is_some() => return Err(Failure::Unknown(e.to_string())),
                CommitResult::Failed(e) => return Err(Failure::Failed(e)),
                CommitResult::Unknown(why) => {
                    log::warn!("{why}; whether {after} is stored is not known: reading the header");
                    let found = match self.store.view() {
                        Ok(view) => view.header(),
                        Err(e) => return Err(Failure::Unknown(format!("{why}; then {e}"))),
                    };
                    if found == after {
                        return self.committed(after);
                    }
                    if found != expected {
                        return Err(Failure::Fenced { found, expected });
                    }
                    last = Some(why);
                }
            }
        }
        Err(Failure::Unknown(last.map_or_else(String::new, |why| why.to_string())))
    }

    fn committed(&mut self, header: Header) -> Result<(), Failure> {
        self.header = header;
        Ok(())
    }
}

/// The runs of a store.
pub fn lineage(store: &dyn Store) -> Result<Lineage, StoreError> {
    let runs = store.view()?.all::<Run>()?;
    Ok(Lineage::new(store.board_id(), runs.into_iter().map(|(_, run)| run).collect()))
}

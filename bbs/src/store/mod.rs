//! Bytes on stable storage: tables of keys and values. Enters: transactions, which are written as a whole or not at all.
//! Leaves: what became of each, and consistent views. A store does not know what the bytes mean.
//!
//! [`Store`] is the interface for other stores, such as a replicated one. [`Redb`] is the embedded store. All pass the
//! tests in `tests/store/conformance.rs`.
//!
//! A store has one writer. A board takes a new term when it starts, and each transaction names the header that the board
//! expects: the term, the revision and the number of the last transaction. So a board that does not know that another
//! one has taken over writes nothing.

mod copy;
mod format;
mod meta;
mod redb;

pub use copy::{Copy, Look, sync_folder};
pub use redb::Redb;

use crate::table::{Limits, Table, Write};
use std::fmt;
use uuid::Uuid;

/// An error of a store.
#[derive(Debug)]
pub struct StoreError(String);

impl StoreError {
    /// An error while `doing` something.
    #[must_use]
    pub fn new(doing: &str, why: impl fmt::Display) -> Self {
        Self(format!("{doing}: {why}"))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store failed while {}", self.0)
    }
}

impl std::error::Error for StoreError {}

/// The state that a store is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// How often a board has begun to write.
    pub term: u64,
    /// The board's revision.
    pub revision: u64,
    /// Number of the last transaction. It tells two transactions of the same revision apart.
    pub transaction: u64,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { term, revision, transaction } = self;
        write!(f, "term {term}, revision {revision}, transaction {transaction}")
    }
}

/// What is written in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    expected: Header,
    revision: u64,
    writes: Vec<Write>,
}

impl Transaction {
    /// To be written if the store's header is `expected`. The board's revision is `revision` after it. Of several writes
    /// of one key the last counts.
    #[must_use]
    pub fn new(expected: Header, revision: u64, mut writes: Vec<Write>) -> Self {
        let place = |write: &Write| (write.table, write.key);
        // The sort is stable.
        writes.sort_by(|a, b| a.table.cmp(&b.table).then_with(|| a.key.as_bytes().cmp(b.key.as_bytes())));
        writes.dedup_by(|later, kept| {
            let same = place(later) == place(kept);
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self { expected, revision, writes }
    }

    /// The header that the store must have.
    #[must_use]
    pub fn expected(&self) -> Header {
        self.expected
    }

    /// The header that the store has afterwards.
    #[must_use]
    pub fn header(&self) -> Header {
        let Header { term, transaction, .. } = self.expected;
        Header { term, revision: self.revision, transaction: transaction + 1 }
    }

    /// By table and key, each once.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }
}

/// What became of a transaction.
#[derive(Debug)]
pub enum CommitResult {
    /// It is durable.
    Committed,
    /// The store has another header than expected, this one. Nothing was written.
    Fenced(Header),
    /// It may have been written, or may still be. [`View::header`] of a new view tells.
    Unknown(StoreError),
    /// Nothing was written.
    Failed(StoreError),
}

/// A store of records.
pub trait Store: Send + Sync + 'static {
    /// Chosen when the store was created; does not change.
    fn board_id(&self) -> Uuid;

    /// What it takes in one transaction; does not change.
    fn limits(&self) -> Limits;

    /// Begins the next term; durable before it returns. From then on transactions of earlier terms are fenced. Returns
    /// the header, with the new term.
    fn begin_term(&self) -> Result<Header, StoreError>;

    /// Writes a transaction. `progress` is called from time to time with the number of records written.
    fn commit(&self, transaction: &Transaction, progress: &mut dyn FnMut(u64)) -> CommitResult;

    /// How many bytes its disk has left; `None` = it has no limit that it knows.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// A view of the last committed state, including every transaction that was answered [`CommitResult::Committed`].
    fn view(&self) -> Result<Box<dyn View>, StoreError>;
}

/// Some keys of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range<'a> {
    /// They begin with these bytes.
    pub prefix: &'a [u8],
    /// They are greater than this key.
    pub after: Option<&'a [u8]>,
}

/// One consistent state, which does not change. A table without records is like one that does not exist.
pub trait View: Send {
    /// The header of the state.
    fn header(&self) -> Header;

    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Calls `each` with keys and values in the order of the keys, as bytes, and at most `limit` of them.
    fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        limit: usize,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Key;

    #[test]
    fn a_transaction_is_in_order_and_has_the_last_write_of_each_key() {
        let write = |table, key: u8, value: u8| Write {
            table: Table(table),
            key: Key::new([key]),
            value: Some(Box::from([value])),
        };
        let removed = Write { value: None, ..write("a", 2, 0) };
        let writes =
            [write("b", 1, 1), write("a", 2, 2), write("a", 1, 3), removed.clone(), write("a", 1, 4)];
        let expected = Header { term: 3, revision: 8, transaction: 20 };
        let transaction = Transaction::new(expected, 9, writes.to_vec());
        assert_eq!(transaction.writes(), [write("a", 1, 4), removed, write("b", 1, 1)]);
        assert_eq!(transaction.expected(), expected);
        assert_eq!(transaction.header(), Header { term: 3, revision: 9, transaction: 21 });
    }
}

//! The embedded store: one file, B-trees with copy on write (redb). A commit is one transaction and one fsync;
//! after a crash at any point the last committed transaction is there. Views are read transactions.
//!
//! Beside the board's records the table `meta` has what the store knows of itself: `board`, `format`, `run` (the term),
//! `revision` and `transaction`.

use super::{
    CommitResult, Header, Range, Store, StoreError, Transaction, View, format,
    meta::{Def, META, failed, put_number, read_number, unreadable},
};
use crate::table::{Limits, Table as RecordTable, Write};
use redb::{
    Builder, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableError, WriteTransaction, backends::InMemoryBackend,
};
use std::{
    ops::Bound,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};
use uuid::Uuid;

/// Pages held in memory. The tables of the board itself are in memory anyway.
const CACHE_BYTES: usize = 128 << 20;
/// Records between two reports of progress.
const REPORT_EVERY: u64 = 50_000;

/// The embedded store.
pub struct Redb {
    db: Database,
    /// The folder of its file, if it has one.
    folder: Option<PathBuf>,
    board_id: Uuid,
    /// A transaction ended with an error while it was made durable. What is in the file is not known before it is opened
    /// again; what is in memory may differ from it.
    unknown: AtomicBool,
}

impl Redb {
    /// Opens the file of a board. Fails if there is none, since a board whose file is lost must not begin empty. Fails if
    /// another process has the file open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display();
        let empty = std::fs::metadata(path).map(|file| file.len() == 0);
        let missing = match &empty {
            Ok(empty) => *empty,
            Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        };
        if missing {
            return Err(StoreError(format!(
                "opening {shown}: found {}; expected the store of a board; hint: if this board is new, make its store \
                 once with `stopover-bbs init`; if there was a store, restore it, from a backup if necessary: hosts \
                 keep their state, and follow another board only after `stopover board accept`",
                if empty.is_ok() { "an empty file" } else { "no such file" }
            )));
        }
        let db = Builder::new().set_cache_size(CACHE_BYTES).open(path).map_err(|e| {
            StoreError(format!(
                "opening {shown}: {e}; expected a file of this program's in a directory it may write, and no other board using it"
            ))
        })?;
        Ok(Self { folder: folder_of(path), ..Self::prepare(db, None)? })
    }

    /// Creates the store of a new board. The file must not exist yet; its folder is made if necessary.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let doing = |e: &dyn std::fmt::Display| {
            StoreError(format!(
                "making {}: {e}; expected a path in a directory it may write, with nothing there; hint: a board that \
                 exists needs no `init`; to begin with an empty board, move its file away first",
                path.display()
            ))
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| doing(&e))?;
        }
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|e| doing(&e))?;
        let made = Builder::new().create_file(file).map_err(|e| doing(&e)).and_then(Self::new);
        if made.is_err() {
            // The file is our own, and not a store.
            let _ = std::fs::remove_file(path);
        }
        made.map(|store| Self { folder: folder_of(path), ..store })
    }

    fn new(db: Database) -> Result<Self, StoreError> {
        Self::prepare(db, Some(Uuid::new_v4()))
    }

    /// A store in memory, for tests.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::create_on(InMemoryBackend::new())
    }

    /// Creates the store of a new board on a storage of the caller's, which is empty.
    pub fn create_on(storage: impl StorageBackend) -> Result<Self, StoreError> {
        Self::new(on(storage)?)
    }

    /// Opens the store of a board on a storage of the caller's.
    pub fn open_on(storage: impl StorageBackend) -> Result<Self, StoreError> {
        Self::prepare(on(storage)?, None)
    }

    /// `new`: the id of a new board.
    pub(super) fn prepare(db: Database, new: Option<Uuid>) -> Result<Self, StoreError> {
        let doing = "preparing the tables";
        let tx = db.begin_write().map_err(failed(doing))?;
        format::upgrade(&tx)?;
        let board_id = {
            let mut meta = tx.open_table(META).map_err(failed(doing))?;
            let known = meta.get(b"board".as_slice()).map_err(failed(doing))?.map(|v| v.value().to_vec());
            match known {
                Some(bytes) => {
                    Uuid::from_slice(&bytes).map_err(|_| StoreError::new(doing, unreadable("board")))?
                }
                None => {
                    let id = new.ok_or_else(|| {
                        let why = "found no board in it; expected the store of one; hint: move the file away and \
                                   make a store with `stopover-bbs init`, or restore the right one";
                        StoreError::new(doing, why)
                    })?;
                    meta.insert(b"board".as_slice(), id.as_bytes().as_slice()).map_err(failed(doing))?;
                    id
                }
            }
        };
        tx.commit().map_err(failed(doing))?;
        Ok(Self { db, folder: None, board_id, unknown: AtomicBool::new(false) })
    }
}

/// The folder that a file is in.
pub(super) fn folder_of(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Some(folder.unwrap_or_else(|| Path::new(".")).to_owned())
}

fn on(storage: impl StorageBackend) -> Result<Database, StoreError> {
    let builder = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(storage);
    builder.map_err(failed("opening its storage"))
}

fn read_header(meta: &impl ReadableTable<&'static [u8], &'static [u8]>) -> Result<Header, StoreError> {
    let number = |name| read_number(meta, name).map(Option::unwrap_or_default);
    Ok(Header { term: number("run")?, revision: number("revision")?, transaction: number("transaction")? })
}

/// Writes a transaction, unless the header is not the expected one: then returns the one that was found.
fn write_all(
    tx: &WriteTransaction,
    transaction: &Transaction,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Header>, StoreError> {
    let doing = "writing a transaction";
    let found = read_header(&tx.open_table(META).map_err(failed(doing))?)?;
    if found != transaction.expected() {
        return Ok(Some(found));
    }
    let mut done = 0u64;
    // A B-tree is faster with keys in order, which they are.
    for of_table in transaction.writes().chunk_by(|a, b| a.table == b.table) {
        let Some(Write { table: RecordTable(name), .. }) = of_table.first() else { continue };
        let mut table = tx.open_table(Def::new(name)).map_err(failed(doing))?;
        for Write { key, value, .. } in of_table {
            match value {
                Some(value) => table.insert(key.as_bytes(), &**value).map_err(failed(doing))?,
                None => table.remove(key.as_bytes()).map_err(failed(doing))?,
            };
            done += 1;
            if done.is_multiple_of(REPORT_EVERY) {
                progress(done);
            }
        }
    }
    let mut meta = tx.open_table(META).map_err(failed(doing))?;
    let Header { revision, transaction, .. } = transaction.header();
    put_number(&mut meta, "revision", revision)?;
    put_number(&mut meta, "transaction", transaction)?;
    Ok(None)
}

impl Redb {
    /// Terms begin after this one from now on.
    pub fn raise_term(&self, term: u64) -> Result<(), StoreError> {
        let doing = "counting the starts of another store";
        let tx = self.begin_write(doing)?;
        {
            let mut meta = tx.open_table(META).map_err(failed(doing))?;
            let last = read_header(&meta)?.term;
            put_number(&mut meta, "run", last.max(term))?;
        }
        self.finish(tx, doing)
    }

    fn check_known(&self, doing: &str) -> Result<(), StoreError> {
        if self.unknown.load(SeqCst) {
            return Err(StoreError::new(
                doing,
                "an earlier transaction failed; the file must be opened again",
            ));
        }
        Ok(())
    }

    fn begin_write(&self, doing: &'static str) -> Result<WriteTransaction, StoreError> {
        self.check_known(doing)?;
        self.db.begin_write().map_err(failed(doing))
    }

    /// Makes it durable.
    fn finish(&self, tx: WriteTransaction, doing: &'static str) -> Result<(), StoreError> {
        tx.commit().map_err(|e| {
            self.unknown.store(true, SeqCst);
            failed(doing)(e)
        })
    }
}

impl Store for Redb {
    fn board_id(&self) -> Uuid {
        self.board_id
    }

    fn limits(&self) -> Limits {
        Limits::UNLIMITED
    }

    fn begin_term(&self) -> Result<Header, StoreError> {
        let doing = "counting this start";
        let tx = self.begin_write(doing)?;
        let header = {
            let mut meta = tx.open_table(META).map_err(failed(doing))?;
            let last = read_header(&meta)?;
            put_number(&mut meta, "run", last.term + 1)?;
            Header { term: last.term + 1, ..last }
        };
        self.finish(tx, doing)?;
        Ok(header)
    }

    fn commit(&self, transaction: &Transaction, progress: &mut dyn FnMut(u64)) -> CommitResult {
        let doing = "writing a transaction";
        let tx = match self.begin_write(doing) {
            Ok(tx) => tx,
            Err(e) => return CommitResult::Failed(e),
        };
        // Dropping `tx` aborts it.
        match write_all(&tx, transaction, progress) {
            Ok(None) => {
                self.finish(tx, doing).map_or_else(CommitResult::Unknown, |()| CommitResult::Committed)
            }
            Ok(Some(found)) => CommitResult::Fenced(found),
            Err(e) => CommitResult::Failed(e),
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(self.folder.as_ref()?).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        let doing = "beginning to read";
        self.check_known(doing)?;
        let tx = self.db.begin_read().map_err(failed(doing))?;
        let header = read_header(&tx.open_table(META).map_err(failed(doing))?)?;
        Ok(Box::new(RedbView { tx, header }))
    }
}

type Reader = ReadOnlyTable<&'static [u8], &'static [u8]>;

struct RedbView {
    tx: ReadTransaction,
    header: Header,
}

impl RedbView {
    /// `None`: it has never had a record.
    fn open(&self, RecordTable(name): RecordTable) -> Result<Option<Reader>, StoreError> {
        match self.tx.open_table(Def::new(name)) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(e) => Err(failed("opening a table")(e)),
        }
    }
}

impl View for RedbView {
    fn header(&self) -> Header {
        self.header
    }

    fn get(&self, table: RecordTable, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(table) = self.open(table)? else { return Ok(None) };
        let found = table.get(key).map_err(failed("reading a record"))?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn scan(
        &self,
        table: RecordTable,
        range: Range<'_>,
        limit: usize,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let doing = "reading records";
        let Some(table) = self.open(table)? else { return Ok(()) };
        let Range { prefix, after } = range;
        let low = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        for entry in table.range::<&[u8]>((low, Bound::Unbounded)).map_err(failed(doing))?.take(limit) {
            let (key, value) = entry.map_err(failed(doing))?;
            if !key.value().starts_with(prefix) {
                break;
            }
            each(key.value(), value.value());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Key;
    use std::{io, sync::Arc};

    /// In memory. While it is `broken` nothing becomes durable.
    #[derive(Debug, Clone)]
    struct Disk {
        memory: Arc<InMemoryBackend>,
        broken: Arc<AtomicBool>,
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.memory.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.memory.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.memory.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            match self.broken.load(SeqCst) {
                true => Err(io::Error::other("the disk is broken")),
                false => self.memory.sync_data(),
            }
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.memory.write(offset, data)
        }
    }

    fn values(store: &Redb) -> (Header, Option<Vec<u8>>) {
        let view = store.view().unwrap();
        (view.header(), view.get(RecordTable("a"), b"k").unwrap())
    }

    #[test]
    fn after_an_error_of_the_disk_it_answers_nothing_before_it_is_opened_again() {
        let disk = Disk { memory: Arc::new(InMemoryBackend::new()), broken: Arc::default() };
        let open = || Builder::new().create_with_backend(disk.clone()).unwrap();
        let store = Redb::new(open()).unwrap();
        let transaction = |expected, revision: u8| {
            let value = Some(Box::from([revision]));
            let write = Write { table: RecordTable("a"), key: Key::new(*b"k"), value };
            Transaction::new(expected, revision.into(), vec![write])
        };
        let first = transaction(store.begin_term().unwrap(), 1);
        assert!(matches!(store.commit(&first, &mut |_| {}), CommitResult::Committed));
        assert_eq!(values(&store), (first.header(), Some(vec![1])));
        disk.broken.store(true, SeqCst);
        let second = transaction(first.header(), 2);
        match store.commit(&second, &mut |_| {}) {
            CommitResult::Unknown(why) => assert!(why.to_string().contains("the disk is broken"), "{why}"),
            other => panic!("{other:?}"),
        }
        disk.broken.store(false, SeqCst);
        let why = store.view().err().unwrap().to_string();
        assert!(why.contains("an earlier transaction failed"), "{why}");
        assert!(matches!(store.commit(&second, &mut |_| {}), CommitResult::Failed(_)));
        assert!(store.begin_term().is_err());
        drop(store);
        let found = values(&Redb::prepare(open(), None).unwrap());
        let whole = [(first.header(), Some(vec![1])), (second.header(), Some(vec![2]))];
        assert!(whole.contains(&found), "{found:?}");
    }
}

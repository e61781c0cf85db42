//! Copies of a store: a backup that is written record by record, and a store that is looked at without a change to its file.

use super::{
    Header, Redb, StoreError, format,
    meta::{Def, META, failed, put_number},
    redb::folder_of,
};
use crate::table::Table as RecordTable;
use redb::{Builder, Database, WriteTransaction};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use uuid::Uuid;

/// A copy being written. It has its name only once it is complete and durable.
pub struct Copy {
    /// `None` after [`Copy::finish`].
    open: Option<(WriteTransaction, Database)>,
    path: PathBuf,
    part: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        if self.open.take().is_some() {
            // Half a copy is of no use.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// The name of a file while it is not what it will be.
fn part_of(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(what);
    name.into()
}

fn error(path: &Path, e: impl std::fmt::Display) -> StoreError {
    StoreError::new(&format!("writing {}", path.display()), e)
}

/// What was renamed or created in a folder is there after a power cut.
pub fn sync_folder(of: &Path) -> Result<(), StoreError> {
    let Some(folder) = folder_of(of) else { return Ok(()) };
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(|e| error(of, e))
}

impl Copy {
    /// Begins a copy of the state with this header. There must be no such file.
    pub fn begin(path: &Path, board: Uuid, header: Header) -> Result<Self, StoreError> {
        let doing = "beginning a copy";
        if path.exists() {
            return Err(error(path, "found a file there; expected none; hint: choose another name"));
        }
        let part = part_of(path, ".part");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&part);
        let db =
            Builder::new().create_file(file.map_err(|e| error(&part, e))?).map_err(|e| error(&part, e))?;
        let tx = db.begin_write().map_err(failed(doing))?;
        format::upgrade(&tx)?;
        {
            let mut meta = tx.open_table(META).map_err(failed(doing))?;
            meta.insert(b"board".as_slice(), board.as_bytes().as_slice()).map_err(failed(doing))?;
            put_number(&mut meta, "run", header.term)?;
            put_number(&mut meta, "revision", header.revision)?;
            put_number(&mut meta, "transaction", header.transaction)?;
        }
        Ok(Self { open: Some((tx, db)), path: path.to_owned(), part })
    }

    /// Adds records of a table.
    pub fn put<'a>(
        &mut self,
        RecordTable(name): RecordTable,
        records: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), StoreError> {
        let doing = "writing a copy";
        let Some((tx, _)) = &self.open else { return Ok(()) };
        let mut table = tx.open_table(Def::new(name)).map_err(failed(doing))?;
        for (key, value) in records {
            table.insert(key, value).map_err(failed(doing))?;
        }
        Ok(())
    }

    /// Makes it durable and gives it its name.
    pub fn finish(mut self) -> Result<(), StoreError> {
        if let Some((tx, db)) = self.open.take() {
            tx.commit().map_err(failed("finishing a copy"))?;
            drop(db);
        }
        std::fs::rename(&self.part, &self.path).map_err(|e| error(&self.path, e))?;
        sync_folder(&self.path)
    }
}

/// A store that is open for a look. It is a copy; the file is not changed.
pub struct Look {
    /// The store.
    pub store: Redb,
    /// What is wrong with the file itself.
    pub damage: Vec<String>,
    copy: PathBuf,
}

impl Drop for Look {
    fn drop(&mut self) {
        // Open until the store is dropped, and gone then.
        let _ = std::fs::remove_file(&self.copy);
    }
}

impl Look {
    /// Copies a store and opens the copy, in the folder of the file. Every page is compared with its checksum.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let doing = format!("looking at {shown}");
        let in_use = || {
            let why = "another process uses it; hint: a running board is backed up by `stopover-bbs backup`; look at the \
                       backup";
            StoreError::new(&doing, why)
        };
        let file = File::open(path).map_err(|e| StoreError::new(&doing, e))?;
        match File::options().read(true).write(true).open(path).map(|file| file.try_lock()) {
            Ok(Err(std::fs::TryLockError::WouldBlock)) => return Err(in_use()),
            // A file that cannot be locked is of no running board.
            _ => drop(file),
        }
        let copy = part_of(path, ".look");
        std::fs::copy(path, &copy).map_err(|e| StoreError::new(&doing, e))?;
        let opened = Self::open_copy(&copy);
        if opened.is_err() {
            // The copy is our own.
            let _ = std::fs::remove_file(&copy);
        }
        opened.map_err(|why| StoreError::new(&doing, why)).map(|(store, damage)| Self { store, damage, copy })
    }

    fn open_copy(copy: &Path) -> Result<(Redb, Vec<String>), String> {
        // After a crash the last transaction is used that is whole: that is no damage.
        let crashed = Arc::new(AtomicBool::new(false));
        let noted = crashed.clone();
        let mut builder = Builder::new();
        builder.set_repair_callback(move |_| noted.store(true, SeqCst));
        let mut db = builder.open(copy).map_err(|e| format!("{e}; hint: restore a backup"))?;
        let mut damage = Vec::new();
        if !crashed.load(SeqCst) {
            match db.check_integrity() {
                Ok(true) => {}
                Ok(false) => damage.push(
                    "pages of the file are damaged; an earlier state of the store is whole, and is looked at here"
                        .to_owned(),
                ),
                Err(e) => return Err(format!("pages of the file are damaged: {e}; hint: restore a backup")),
            }
        }
        let store = Redb::prepare(db, None).map_err(|e| e.to_string())?;
        Ok((store, damage))
    }
}

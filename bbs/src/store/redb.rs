//! The embedded store: one file, B-trees with copy on write (redb). A commit is one transaction and one fsync;
//! after a crash at any point the last committed transaction is there. Views are read transactions.

use super::{CommitHeader, Store, StoreError, View, format};
use crate::{
    board::{
        Lineage, RUNS_KEPT, Run,
        record::{HostRecord, KeyRecord, MemberRecord, NodeRecord, Write},
    },
    model::{Event, Lock, Migration, Network, Uuid},
    table::{self, Record, RecordKey, Table as RecordTable, Unreadable},
};
use redb::{
    Builder, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, Table,
    TableDefinition, WriteTransaction, backends::InMemoryBackend,
};
use std::{ops::Bound, path::Path};
use stopover_net::{Mac, Vni};

pub(super) type Def = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub(super) const META: Def = Def::new("meta");
const HOSTS: Def = Def::new("hosts");
const NETWORKS: Def = Def::new("networks");
const MEMBERS: Def = Def::new("members");
const NODES: Def = Def::new("nodes");
const KEYS: Def = Def::new("keys");
const EVENTS: Def = Def::new("events");
const MIGRATIONS: Def = Def::new("migrations");
const LOCKS: Def = Def::new("locks");
/// Runs by number: the id, then the revision at the start.
pub(super) const RUNS: Def = Def::new("runs");

/// Pages held in memory. The tables of the board itself are in memory anyway.
const CACHE_BYTES: usize = 128 << 20;
/// Records between two reports of progress.
const REPORT_EVERY: u64 = 50_000;

/// The embedded store.
pub struct Redb {
    db: Database,
    board_id: Uuid,
}

pub(super) fn failed<E: std::fmt::Display>(doing: &'static str) -> impl Fn(E) -> StoreError {
    move |e| StoreError::new(doing, e)
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
        Self::prepare(db, None)
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
        made
    }

    fn new(db: Database) -> Result<Self, StoreError> {
        Self::prepare(db, Some(Uuid::new_v4()))
    }

    /// A store in memory, for tests.
    pub fn in_memory() -> Result<Self, StoreError> {
        let db = Builder::new()
            .create_with_backend(InMemoryBackend::new())
            .map_err(failed("creating a store in memory"))?;
        Self::new(db)
    }

    /// `new`: the id of a new board.
    fn prepare(db: Database, new: Option<Uuid>) -> Result<Self, StoreError> {
        let doing = "preparing the tables";
        let tx = db.begin_write().map_err(failed(doing))?;
        for table in [HOSTS, NETWORKS, MEMBERS, NODES, KEYS, EVENTS, MIGRATIONS, LOCKS] {
            tx.open_table(table).map_err(failed(doing))?;
        }
        format::upgrade(&tx)?;
        let board_id = {
            let mut meta = tx.open_table(META).map_err(failed(doing))?;
            let known = meta.get(b"board".as_slice()).map_err(failed(doing))?.map(|v| v.value().to_vec());
            match known {
                Some(bytes) => Uuid::from_slice(&bytes)
                    .map_err(|_| StoreError::new(doing, Unreadable(RecordTable("meta"))))?,
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
        Ok(Self { db, board_id })
    }
}

pub(super) fn read_number(
    meta: &impl ReadableTable<&'static [u8], &'static [u8]>,
    name: &str,
) -> Result<Option<u64>, StoreError> {
    let doing = "reading its header";
    let Some(value) = meta.get(name.as_bytes()).map_err(failed(doing))? else { return Ok(None) };
    let bytes =
        value.value().try_into().map_err(|_| StoreError::new(doing, Unreadable(RecordTable("meta"))))?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

pub(super) fn put_number(meta: &mut Table<'_, &[u8], &[u8]>, name: &str, n: u64) -> Result<(), StoreError> {
    meta.insert(name.as_bytes(), n.to_be_bytes().as_slice()).map_err(failed("writing its header"))?;
    Ok(())
}

fn put<R: Record>(
    table: &mut Table<'_, &[u8], &[u8]>,
    key: R::Key,
    record: Option<R>,
) -> Result<(), StoreError> {
    let doing = "writing a record";
    let bytes = key.to_bytes();
    match record {
        Some(record) => {
            table.insert(bytes.as_bytes(), record.encode(key).as_slice()).map_err(failed(doing))?
        }
        None => table.remove(bytes.as_bytes()).map_err(failed(doing))?,
    };
    Ok(())
}

/// Writes everything of a commit in its transaction.
fn write_all(
    tx: &WriteTransaction,
    header: CommitHeader,
    writes: Vec<Write>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), StoreError> {
    let open = |table| tx.open_table(table).map_err(failed("writing a transaction"));
    let mut meta = open(META)?;
    put_number(&mut meta, "revision", header.revision)?;
    put_number(&mut meta, "next_host", header.next_host.into())?;
    let (mut hosts, mut networks, mut members) = (open(HOSTS)?, open(NETWORKS)?, open(MEMBERS)?);
    let (mut keys, mut events) = (open(KEYS)?, open(EVENTS)?);
    let (mut migrations, mut locks) = (open(MIGRATIONS)?, open(LOCKS)?);
    let mut nodes_in_order = Vec::new();
    for write in writes {
        match write {
            Write::Host(id, r) => put(&mut hosts, id, r)?,
            Write::Network(vni, n) => put(&mut networks, vni, n)?,
            Write::Member(vni, host, r) => put(&mut members, (vni, host), r)?,
            Write::Node(vni, mac, r) => nodes_in_order.push((vni, mac, r)),
            Write::Key(place, r) => put(&mut keys, place, r)?,
            Write::Migration(id, m) => put(&mut migrations, id, m.map(|m| *m))?,
            Write::Lock(vni, mac, l) => put(&mut locks, (vni, mac), l)?,
            Write::Event(n, e) => put(&mut events, n, e)?,
        }
    }
    // A B-tree is faster with keys in order. The sort is stable, so the last write of a key still wins.
    nodes_in_order.sort_by_key(|(vni, mac, _)| (*vni, *mac));
    let mut nodes = open(NODES)?;
    for (done, (vni, mac, r)) in nodes_in_order.into_iter().enumerate() {
        put(&mut nodes, (vni, mac), r)?;
        if (done as u64 + 1).is_multiple_of(REPORT_EVERY) {
            progress(done as u64 + 1);
        }
    }
    Ok(())
}

impl Store for Redb {
    fn board_id(&self) -> Uuid {
        self.board_id
    }

    fn begin_run(&self) -> Result<u32, StoreError> {
        let doing = "counting this start";
        let tx = self.db.begin_write().map_err(failed(doing))?;
        let run = {
            let mut meta = tx.open_table(META).map_err(failed(doing))?;
            let run = read_number(&meta, "run")?.unwrap_or(0) + 1;
            put_number(&mut meta, "run", run)?;
            let first = read_number(&meta, "revision")?.unwrap_or(0);
            let mut runs = tx.open_table(RUNS).map_err(failed(doing))?;
            put(&mut runs, run, Some(Run { id: Uuid::new_v4(), first }))?;
            if let Some(old) = run.checked_sub(RUNS_KEPT as u64) {
                put(&mut runs, old, None::<Run>)?;
            }
            run
        };
        tx.commit().map_err(failed(doing))?;
        u32::try_from(run).map_err(failed(doing))
    }

    fn lineage(&self) -> Result<Lineage, StoreError> {
        let tx = self.db.begin_read().map_err(failed("beginning to read"))?;
        let view = RedbView { tx, header: CommitHeader::default() };
        let runs: Vec<(u64, Run)> = view.list(RUNS, ALL, usize::MAX)?;
        Ok(Lineage::new(self.board_id, runs.into_iter().map(|(_, run)| run).collect()))
    }

    fn commit(
        &self,
        header: CommitHeader,
        writes: Vec<Write>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        let doing = "writing a transaction";
        let tx = self.db.begin_write().map_err(failed(doing))?;
        write_all(&tx, header, writes, progress)?;
        tx.commit().map_err(failed(doing))
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        let tx = self.db.begin_read().map_err(failed("beginning to read"))?;
        let meta = open(&tx, META)?;
        let header = CommitHeader {
            revision: read_number(&meta, "revision")?.unwrap_or(0),
            next_host: read_number(&meta, "next_host")?.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        };
        Ok(Box::new(RedbView { tx, header }))
    }
}

fn open(tx: &ReadTransaction, table: Def) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, StoreError> {
    tx.open_table(table).map_err(failed("opening a table"))
}

struct RedbView {
    tx: ReadTransaction,
    header: CommitHeader,
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

const ALL: Bounds<'static> = (Bound::Unbounded, Bound::Unbounded);

impl RedbView {
    fn list<R: Record>(
        &self,
        table: Def,
        bounds: Bounds<'_>,
        limit: usize,
    ) -> Result<Vec<(R::Key, R)>, StoreError> {
        let doing = "reading records";
        open(&self.tx, table)?
            .range::<&[u8]>(bounds)
            .map_err(failed(doing))?
            .take(limit)
            .map(|entry| {
                let (key, value) = entry.map_err(failed(doing))?;
                table::read(key.value(), value.value()).map_err(failed(doing))
            })
            .collect()
    }

    fn get<R: Record>(&self, table: Def, key: R::Key) -> Result<Option<R>, StoreError> {
        let doing = "reading a record";
        let bytes = key.to_bytes();
        let found = open(&self.tx, table)?.get(bytes.as_bytes()).map_err(failed(doing))?;
        let read = |value: &[u8]| R::decode(key, value).ok_or(Unreadable(R::TABLE)).map_err(failed(doing));
        found.map(|value| read(value.value())).transpose()
    }

    fn values<R: Record>(&self, table: Def, bounds: Bounds<'_>, limit: usize) -> Result<Vec<R>, StoreError> {
        Ok(self.list(table, bounds, limit)?.into_iter().map(|(_, record)| record).collect())
    }

    /// Of one network, or all, after a key.
    fn of_network<R: Record>(
        &self,
        table: Def,
        vni: Option<Vni>,
        after: Option<R::Key>,
        limit: usize,
    ) -> Result<Vec<(R::Key, R)>, StoreError> {
        let keys = vni.map(network_keys);
        let after = after.map(RecordKey::to_bytes);
        self.list(table, bounds(&keys, after.as_ref().map(table::Key::as_bytes)), limit)
    }
}

/// First key of a network, in the tables whose keys begin with three bytes of VNI; and of the one after.
fn network_keys(vni: Vni) -> ([u8; 3], [u8; 3]) {
    let key = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        [a, b, c]
    };
    // No VNI follows 0xffffff; 0 marks that.
    (key(vni.get()), key((vni.get() + 1) & Vni::MAX))
}

fn bounds<'a>(keys: &'a Option<([u8; 3], [u8; 3])>, after: Option<&'a [u8]>) -> Bounds<'a> {
    let low = match (after, keys) {
        (Some(after), _) => Bound::Excluded(after),
        (None, Some((low, _))) => Bound::Included(low.as_slice()),
        (None, None) => Bound::Unbounded,
    };
    let high = match keys {
        Some((_, high)) if *high != [0; 3] => Bound::Excluded(high.as_slice()),
        _ => Bound::Unbounded,
    };
    (low, high)
}

impl View for RedbView {
    fn header(&self) -> CommitHeader {
        self.header
    }

    fn hosts_after(&self, after: Option<u32>, limit: usize) -> Result<Vec<(u32, HostRecord)>, StoreError> {
        self.of_network(HOSTS, None, after, limit)
    }

    fn host(&self, id: u32) -> Result<Option<HostRecord>, StoreError> {
        self.get(HOSTS, id)
    }

    fn networks_after(&self, after: Option<Vni>, limit: usize) -> Result<Vec<Network>, StoreError> {
        let networks = self.of_network(NETWORKS, None, after, limit)?;
        Ok(networks.into_iter().map(|(_, network)| network).collect())
    }

    fn network(&self, vni: Vni) -> Result<Option<Network>, StoreError> {
        self.get(NETWORKS, vni)
    }

    fn members(
        &self,
        vni: Option<Vni>,
        after: Option<(Vni, u32)>,
        limit: usize,
    ) -> Result<Vec<(Vni, u32, MemberRecord)>, StoreError> {
        let members = self.of_network(MEMBERS, vni, after, limit)?;
        Ok(members.into_iter().map(|((vni, host), member)| (vni, host, member)).collect())
    }

    fn nodes(
        &self,
        vni: Option<Vni>,
        after: Option<(Vni, Mac)>,
        limit: usize,
    ) -> Result<Vec<(Vni, Mac, NodeRecord)>, StoreError> {
        let nodes = self.of_network(NODES, vni, after, limit)?;
        Ok(nodes.into_iter().map(|((vni, mac), node)| (vni, mac, node)).collect())
    }

    fn node(&self, vni: Vni, mac: Mac) -> Result<Option<NodeRecord>, StoreError> {
        self.get(NODES, (vni, mac))
    }

    fn keys(&self) -> Result<Vec<(u64, KeyRecord)>, StoreError> {
        self.list(KEYS, ALL, usize::MAX)
    }

    fn migrations(&self) -> Result<Vec<Migration>, StoreError> {
        self.values(MIGRATIONS, ALL, usize::MAX)
    }

    fn migration(&self, id: u64) -> Result<Option<Migration>, StoreError> {
        self.get(MIGRATIONS, id)
    }

    fn locks(
        &self,
        vni: Option<Vni>,
        after: Option<(Vni, Mac)>,
        limit: usize,
    ) -> Result<Vec<(Vni, Mac, Lock)>, StoreError> {
        let locks = self.of_network(LOCKS, vni, after, limit)?;
        Ok(locks.into_iter().map(|((vni, mac), lock)| (vni, mac, lock)).collect())
    }

    fn events(&self, after: u64) -> Result<Vec<Event>, StoreError> {
        let after = after.to_be_bytes();
        self.values(EVENTS, (Bound::Excluded(after.as_slice()), Bound::Unbounded), usize::MAX)
    }
}

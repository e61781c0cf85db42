//! What every store must do. Enters: a backend, which opens its store any number of times. Each test is run for each
//! backend; a new backend is a line at the end.

use super::memory::Memory;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use stopover_bbs::{
    store::{CommitResult, Header, Range, Redb, Store, Transaction, View},
    table::{KEY_BYTES, Key, Limits, Table, Write},
};

const A: Table = Table("a");
const B: Table = Table("b");
const NONE: Table = Table("never-written");

/// A kind of store.
pub trait Backend {
    /// A new one, empty.
    fn create() -> Self;
    /// The store as it is durable. What was opened before has been dropped.
    fn open(&self) -> Arc<dyn Store>;
}

struct RedbFile(tempfile::TempDir);

impl Backend for RedbFile {
    fn create() -> Self {
        let dir = tempfile::tempdir().unwrap();
        drop(Redb::create(&dir.path().join("store")).unwrap());
        Self(dir)
    }

    fn open(&self) -> Arc<dyn Store> {
        Arc::new(Redb::open(&self.0.path().join("store")).unwrap())
    }
}

impl Backend for Memory {
    fn create() -> Self {
        Self::new(Limits::LEAST)
    }

    fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Write {
    Write { table, key: make_key(key), value: Some(value.into()) }
}

fn remove(table: Table, key: &[u8]) -> Write {
    Write { table, key: make_key(key), value: None }
}

fn make_key(bytes: &[u8]) -> Key {
    match bytes {
        [a] => Key::new([*a]),
        [a, b] => Key::new([*a, *b]),
        [a, b, c] => Key::new([*a, *b, *c]),
        [a, b, c, d] => Key::new([*a, *b, *c, *d]),
        other => Key::new::<KEY_BYTES>(other.try_into().unwrap()),
    }
}

fn number(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// Commits; the header after it.
#[track_caller]
fn commit(store: &dyn Store, expected: Header, revision: u64, writes: Vec<Write>) -> Header {
    let transaction = Transaction::new(expected, revision, writes);
    match store.commit(&transaction, &mut |_| {}) {
        CommitResult::Committed => transaction.header(),
        other => panic!("{other:?}"),
    }
}

fn fenced(store: &dyn Store, expected: Header) -> Header {
    let writes = vec![put(A, b"k", b"fenced"), remove(A, b"old"), put(NONE, b"k", b"fenced")];
    match store.commit(&Transaction::new(expected, expected.revision + 1, writes), &mut |_| {}) {
        CommitResult::Fenced(found) => found,
        other => panic!("{other:?}"),
    }
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

fn scan(view: &dyn View, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Records {
    let mut found = Vec::new();
    let mut each = |key: &[u8], value: &[u8]| found.push((key.to_vec(), value.to_vec()));
    view.scan(table, Range { prefix, after }, limit, &mut each).unwrap();
    found
}

fn all(view: &dyn View, table: Table) -> Records {
    scan(view, table, &[], None, usize::MAX)
}

fn keys(records: Records) -> Vec<Vec<u8>> {
    records.into_iter().map(|(key, _)| key).collect()
}

fn records<const N: usize>(of: [(&[u8], &[u8]); N]) -> Records {
    of.map(|(key, value)| (key.to_vec(), value.to_vec())).to_vec()
}

fn a_new_store_is_empty<B: Backend>() {
    let backend = B::create();
    let store = backend.open();
    let view = store.view().unwrap();
    assert_eq!(view.header(), Header::default());
    assert_eq!(view.get(A, b"k").unwrap(), None);
    assert_eq!(all(&*view, A), []);
    assert!(store.limits().include(&Limits::LEAST), "{:?}", store.limits());
    assert_ne!(B::create().open().board_id(), store.board_id());
}

fn what_is_committed_is_there_after_it_is_opened_again<B: Backend>() {
    let backend = B::create();
    let store = backend.open();
    let id = store.board_id();
    let first = store.begin_term().unwrap();
    assert_eq!(first, Header { term: 1, revision: 0, transaction: 0 });
    let writes = vec![put(A, b"k", b"1"), put(A, b"old", b"2"), put(B, b"k", b""), put(B, b"x", b"9")];
    let header = commit(&*store, first, 7, writes);
    let writes = vec![put(A, b"k", b"one"), remove(A, b"old"), remove(B, b"x"), remove(B, b"y")];
    let header = commit(&*store, header, 7, writes);
    assert_eq!(header, Header { term: 1, revision: 7, transaction: 2 });
    drop(store);
    let store = backend.open();
    assert_eq!(store.board_id(), id);
    let view = store.view().unwrap();
    assert_eq!(view.header(), header);
    assert_eq!(all(&*view, A), records([(b"k", b"one")]));
    assert_eq!(all(&*view, B), records([(b"k", b"")]));
    assert_eq!(view.get(A, b"k").unwrap().as_deref(), Some(b"one".as_slice()));
    assert_eq!(view.get(B, b"k").unwrap().as_deref(), Some(b"".as_slice()));
    assert_eq!(view.get(A, b"old").unwrap(), None);
    assert_eq!(view.get(A, b"x").unwrap(), None, "tables have their own keys");
}

fn each_term_is_durable_and_fences_those_before<B: Backend>() {
    let backend = B::create();
    let store = backend.open();
    let first = store.begin_term().unwrap();
    let writes = vec![put(A, b"k", b"1"), put(A, b"old", b"2")];
    let header = commit(&*store, first, 3, writes.clone());
    let second = store.begin_term().unwrap();
    assert_eq!(second, Header { term: 2, ..header });
    assert_eq!(store.view().unwrap().header(), second);
    assert_eq!(fenced(&*store, header), second);
    drop(store);
    let store = backend.open();
    assert_eq!(store.view().unwrap().header(), second, "also before it has written");
    let third = store.begin_term().unwrap();
    assert_eq!(third, Header { term: 3, ..header });
    assert_eq!((fenced(&*store, header), fenced(&*store, second)), (third, third));
    let future = Header { term: 4, ..third };
    assert_eq!(fenced(&*store, future), third);
    let view = store.view().unwrap();
    assert_eq!(all(&*view, A), records([(b"k", b"1"), (b"old", b"2")]), "nothing was written");
    assert_eq!(all(&*view, NONE), []);
    assert_eq!(commit(&*store, third, 4, vec![]), Header { term: 3, revision: 4, transaction: 2 });
}

fn a_transaction_is_written_once<B: Backend>() {
    let backend = B::create();
    let store = backend.open();
    let first = store.begin_term().unwrap();
    let header = commit(&*store, first, 5, vec![put(A, b"old", b"1")]);
    // Of the same revision, so that only its number tells.
    let transaction = Transaction::new(header, 5, vec![put(A, b"old", b"2")]);
    assert!(matches!(store.commit(&transaction, &mut |_| {}), CommitResult::Committed));
    let last = commit(&*store, transaction.header(), 5, vec![put(A, b"old", b"3")]);
    match store.commit(&transaction, &mut |_| {}) {
        CommitResult::Fenced(found) => assert_eq!(found, last),
        other => panic!("{other:?}"),
    }
    for expected in [
        Header { revision: 4, ..last },
        Header { revision: 6, ..last },
        Header { transaction: last.transaction + 1, ..last },
        Header { transaction: last.transaction - 1, ..last },
    ] {
        assert_eq!(fenced(&*store, expected), last, "{expected}");
    }
    assert_eq!(all(&*store.view().unwrap(), A), records([(b"old", b"3")]));
}

fn keys_are_in_order_and_read_in_pages<B: Backend>() {
    let backend = B::create();
    let store = backend.open();
    let header = store.begin_term().unwrap();
    // Written in an order that is not theirs.
    let numbers = (0..200u32).map(|n| n * 77 % 200 * 1_000_003);
    let header = commit(&*store, header, 1, numbers.map(|n| put(A, &number(n), &number(!n))).collect());
    let in_order: Records =
        (0..200u32).map(|n| n * 1_000_003).map(|n| (number(n).to_vec(), number(!n).to_vec())).collect();
    commit(&*store, header, 2, vec![put(B, &[0; 4], b"another table")]);
    let view = store.view().unwrap();
    assert_eq!(all(&*view, A), in_order);
    for limit in [1, 7, 200, 201] {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = scan(&*view, A, &[], after.as_deref(), limit);
            assert!(page.len() <= limit);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            read.extend(page);
        }
        assert_eq!(read, in_order, "in pages of {limit}");
    }
    assert_eq!(scan(&*view, A, &[], None, 0), []);
    assert_eq!(scan(&*view, A, &[], Some(&number(5)), 1), in_order[1..2], "after a key that is not there");
    assert_eq!(scan(&*view, A, &[], Some(&[0xff; 5]), 9), []);
}

fn keys_of_a_prefix_are_read<B: Backend>() {
    let backend = B::create();
    let store = backend.open();
    let header = store.begin_term().unwrap();
    let names: [&[u8]; 9] =
        [&[1], &[1, 0], &[1, 0xff], &[1, 0xff, 7], &[2], &[2, 0], &[0xff], &[0xff, 0xff], &[0xff; 3]];
    commit(&*store, header, 1, names.iter().map(|name| put(A, name, b"")).collect());
    let view = store.view().unwrap();
    let read = |prefix, after, limit| keys(scan(&*view, A, prefix, after, limit));
    assert_eq!(read(&[], None, 99), names);
    assert_eq!(read(&[1], None, 99), names[..4]);
    assert_eq!(read(&[1], None, 3), names[..3]);
    assert_eq!(read(&[1, 0xff], None, 99), names[2..4]);
    assert_eq!(read(&[1, 1], None, 99), names[..0]);
    assert_eq!(read(&[1], Some(&[1, 0]), 99), names[2..4]);
    assert_eq!(read(&[1], Some(&[1, 5]), 1), names[2..3]);
    assert_eq!(read(&[1], Some(&[1, 0xff, 7]), 99), names[..0], "does not go on with the next prefix");
    assert_eq!(read(&[2], Some(&[1]), 99), names[4..6], "after a key before the prefix");
    assert_eq!(read(&[2], Some(&[3]), 99), names[..0]);
    assert_eq!(read(&[0xff], None, 99), names[6..]);
    assert_eq!(read(&[0xff, 0xff], Some(&[0xff, 0xff]), 99), names[8..]);
}

fn a_view_does_not_change<B: Backend>() {
    let backend = B::create();
    let store = backend.open();
    let begun = store.begin_term().unwrap();
    let empty = store.view().unwrap();
    let first = commit(&*store, begun, 1, vec![put(A, b"k", b"1"), put(A, b"old", b"1")]);
    let before = store.view().unwrap();
    let second = commit(&*store, first, 2, vec![put(A, b"k", b"2"), remove(A, b"old"), put(B, b"k", b"2")]);
    store.begin_term().unwrap();
    assert_eq!((empty.header(), all(&*empty, A)), (begun, vec![]));
    assert_eq!(before.header(), first);
    assert_eq!(all(&*before, A), records([(b"k", b"1"), (b"old", b"1")]));
    assert_eq!((all(&*before, B), before.get(B, b"k").unwrap()), (vec![], None));
    drop(store);
    assert_eq!(before.get(A, b"k").unwrap().as_deref(), Some(b"1".as_slice()));
    drop((empty, before));
    assert_eq!(backend.open().view().unwrap().header(), Header { term: 2, ..second });
}

/// While one thread writes, every view that another opens has one transaction as a whole, and none is older than the one
/// before.
fn readers_see_whole_transactions<B: Backend>() {
    const TRANSACTIONS: u64 = 60;
    let backend = B::create();
    let store = backend.open();
    let mut header = store.begin_term().unwrap();
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = BTreeMap::new();
            let mut last = 0;
            while !done.load(SeqCst) {
                let view = store.view().unwrap();
                let revision = view.header().revision;
                assert!(revision >= last, "revision {revision} after {last}");
                last = revision;
                let expected = if revision == 0 { vec![] } else { vec![revision.to_be_bytes().to_vec(); 50] };
                for table in [A, B] {
                    let values: Vec<_> = all(&*view, table).into_iter().map(|(_, value)| value).collect();
                    assert_eq!(values, expected);
                }
                *seen.entry(revision).or_insert(0) += 1;
            }
            seen
        });
        for revision in 1..=TRANSACTIONS {
            let value = revision.to_be_bytes();
            let of = |table| (0..50).map(move |n| put(table, &number(n), &value));
            header = commit(&*store, header, revision, of(A).chain(of(B)).collect());
            let view = store.view().unwrap();
            assert_eq!(view.header(), header, "a view has what was committed before it");
        }
        done.store(true, SeqCst);
        reader.join().unwrap()
    });
    assert!(seen.keys().all(|revision| *revision <= TRANSACTIONS));
}

/// As much as it declares, in one transaction; more is refused as a whole.
fn limits_are_what_it_takes<B: Backend>() {
    let backend = B::create();
    let store = backend.open();
    let header = store.begin_term().unwrap();
    let limits = store.limits();
    let count = limits.writes.min(100_000) as u32;
    let mut reports = Vec::new();
    let writes = (0..count).map(|n| put(A, &number(n), b"1")).collect();
    let transaction = Transaction::new(header, 1, writes);
    assert!(matches!(store.commit(&transaction, &mut |n| reports.push(n)), CommitResult::Committed));
    assert!(reports.is_sorted() && reports.last().is_some_and(|last| *last <= count.into()), "{reports:?}");
    let header = transaction.header();
    let long = vec![7; limits.record_bytes.min(1 << 20)];
    let longest_key = [0xee; KEY_BYTES];
    let header = commit(&*store, header, 2, vec![put(B, &longest_key, &long)]);
    drop(store);
    let store = backend.open();
    let view = store.view().unwrap();
    assert_eq!(all(&*view, A).len(), count as usize);
    assert_eq!(view.get(B, &longest_key).unwrap(), Some(long.clone()));

    let mut too_large = Vec::new();
    if limits.writes < usize::MAX {
        too_large.push((0..=count).map(|n| put(B, &number(n), b"2")).collect());
    }
    if limits.record_bytes < usize::MAX {
        too_large.push(vec![put(B, b"k", b"2"), put(B, b"x", &vec![0; limits.record_bytes + 1])]);
    }
    if limits.bytes < usize::MAX {
        let records = limits.bytes / long.len() + 1;
        too_large.push((0..records as u32).map(|n| put(B, &number(n), &long)).collect());
    }
    for writes in too_large {
        let transaction = Transaction::new(header, 3, writes);
        match store.commit(&transaction, &mut |_| {}) {
            CommitResult::Failed(why) => assert!(why.to_string().contains("at most"), "{why}"),
            other => panic!("{other:?}"),
        }
        let view = store.view().unwrap();
        assert_eq!((view.header(), all(&*view, B).len()), (header, 1), "nothing of it was written");
    }
    commit(&*store, header, 3, vec![]);
}

macro_rules! conformance {
    ($($name:ident: $backend:ty;)*) => {
        $(mod $name {
            use super::*;
            conformance!(@tests $backend:
                a_new_store_is_empty
                what_is_committed_is_there_after_it_is_opened_again
                each_term_is_durable_and_fences_those_before
                a_transaction_is_written_once
                keys_are_in_order_and_read_in_pages
                keys_of_a_prefix_are_read
                a_view_does_not_change
                readers_see_whole_transactions
                limits_are_what_it_takes
            );
        })*
    };
    (@tests $backend:ty: $($test:ident)*) => {
        $(#[test]
        fn $test() {
            super::$test::<$backend>();
        })*
    };
}

conformance! {
    redb: RedbFile;
    memory: Memory;
}

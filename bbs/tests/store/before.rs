//! Stores that earlier versions wrote: `format-2.txt` is the content of one.

use super::*;

const FORMAT_2: &str = include_str!("format-2.txt");
const RECORDS: [&str; 8] = ["events", "hosts", "keys", "locks", "members", "migrations", "networks", "nodes"];

fn file_with(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("board.redb");
    dump::restore(text, &path);
    (dir, path)
}

#[test]
fn a_store_of_format_2_is_read() {
    let (_dir, path) = file_with(FORMAT_2);
    let store = Redb::open(&path).unwrap();
    let view = store.view().unwrap();
    assert_eq!(read(&*view), samples::all());
    let header = CommitHeader { revision: samples::REVISION, next_host: samples::NEXT_HOST };
    assert_eq!(view.header(), header);
    assert_eq!(store.board_id(), samples::BOARD);
    assert_eq!(store.lineage().unwrap(), Lineage::new(samples::BOARD, vec![samples::RUN]));
    assert_eq!(store.begin_run().unwrap(), 6, "after the fifth run");
}

/// So that a program of before can be used again.
#[test]
fn records_are_written_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("board.redb");
    let store = Redb::create(&path).unwrap();
    commit(&store, samples::all());
    drop(store);
    assert_eq!(dump::tables(&dump::of(&path), &RECORDS), dump::tables(FORMAT_2, &RECORDS));
}

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
    let header = Header { term: 5, revision: samples::REVISION, transaction: 0 };
    assert_eq!(view.header(), header);
    assert_eq!(store.board_id(), samples::BOARD);
    assert_eq!(lineage(&store).unwrap(), Lineage::new(samples::BOARD, vec![samples::RUN]));
    assert_eq!(store.begin_term().unwrap(), Header { term: 6, ..header }, "after the fifth run");
}

/// So that a program of before can be used again.
#[test]
fn records_are_written_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("board.redb");
    let store = Redb::create(&path).unwrap();
    let header = commit(&store, samples::all());
    assert_eq!(header, Header { term: 1, revision: samples::REVISION, transaction: 1 });
    drop(store);
    let written = dump::of(&path);
    assert_eq!(dump::tables(&written, &RECORDS), dump::tables(FORMAT_2, &RECORDS));
    // `next_host` and `revision`; the other header fields are of this board and this run.
    for line in FORMAT_2
        .lines()
        .filter(|line| line.contains("6e6578745f686f7374") || line.contains("7265766973696f6e"))
    {
        assert!(written.lines().any(|other| other == line), "{line}");
    }
}

/// The content of format 2, as format 1 has it.
fn format_1() -> String {
    let format = |n: u64| format!("meta -666f726d6174 -{n:016x}");
    let text: String =
        FORMAT_2.lines().filter(|line| !line.starts_with("runs ")).flat_map(|line| [line, "\n"]).collect();
    assert!(text.contains(&format(2)));
    text.replace(&format(2), &format(1))
}

#[test]
fn a_store_of_format_1_is_upgraded() {
    let (_dir, path) = file_with(&format_1());
    let store = Redb::open(&path).unwrap();
    assert_eq!(read(&*store.view().unwrap()), samples::all());
    assert_eq!(lineage(&store).unwrap(), Lineage::new(samples::BOARD, vec![]));
    drop(store);
    let upgraded = dump::of(&path);
    let without_runs: Vec<_> = FORMAT_2.lines().filter(|line| !line.starts_with("runs ")).collect();
    assert_eq!(upgraded.lines().collect::<Vec<_>>(), without_runs, "nothing else changes");

    let begin = || Writer::begin(Arc::new(Redb::open(&path).unwrap())).unwrap();
    let writer = begin();
    assert_eq!(writer.run().unwrap(), 6);
    let first = writer.lineage().unwrap().run();
    assert!(first.is_some());
    drop(writer);
    assert_ne!(begin().lineage().unwrap().run(), first, "each start is another run");
}

#[test]
fn a_store_of_a_newer_format_is_refused_and_left_alone() {
    let newer =
        FORMAT_2.replace("meta -666f726d6174 -0000000000000002", "meta -666f726d6174 -0000000000000003");
    assert_ne!(newer, FORMAT_2);
    let (_dir, path) = file_with(&newer);
    let why = Redb::open(&path).err().unwrap().to_string();
    assert!(
        why.contains("found format 3; expected 2 or older; hint: use the program that wrote it"),
        "{why}"
    );
    assert!(why.contains("restore a backup"), "{why}");
    assert_eq!(dump::of(&path), newer);
}

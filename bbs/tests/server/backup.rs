//! Backups: of a running board, checked, and restored by the program.

use super::{
    process::{PROGRAM, Running, run},
    *,
};
use std::process::{Command, Output};
use stopover_bbs::{
    client::{NodeFilter, Row, Target},
    server::{Writer, inspect, lineage},
    store::{CommitResult, Transaction},
    table::{Key, RecordKey, Table, Write},
};
use stopover_config::bulk::{HostRow, NodeRow};

fn host_row() -> Row {
    HostRow { name: name("lx"), vteps: vec![ip("172.16.0.1")], udp_port: 4789 }.into()
}

fn node_row(n: u16) -> Row {
    let [a, b] = n.to_be_bytes();
    let (mac, ips) = (Mac::new([2, 0, 0, 0, a, b]), vec![IpAddr::from([10, 0, a, b])]);
    NodeRow { vni: vni(1), mac, host: name("lx"), ips, shared_ips: vec![] }.into()
}

fn program(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).env("RUST_LOG", "error").output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Paths of a test.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn back_up(&self, to: &str) -> Output {
        let at = socket(self.dir.path()).to_string();
        program(&["backup", "--board", &at, "--to", &self.path(to)])
    }

    fn check(&self, file: &str) -> Output {
        program(&["check", "--store", &self.path(file)])
    }

    fn restore(&self, from: &str, more: &[&str]) -> Output {
        let (from, to) = (self.path(from), self.path("board.redb"));
        program(&[&["restore", "--from", &from, "--store", &to], more].concat())
    }
}

/// A board that runs, with a host and some nodes, and a node that was declared after its backup.
async fn backed_up(nodes: u16) -> (Files, Running, u64) {
    let files = Files { dir: tempfile::tempdir().unwrap() };
    let board = run(files.dir.path());
    let mut op = operator(&socket(files.dir.path())).await;
    op.declare(&host_row()).await.unwrap();
    let rows: Vec<_> = (1..=nodes).map(|n| Ok::<_, String>((0, node_row(n)))).collect();
    let revision = op.load(rows, |_| ()).await.unwrap();
    let made = files.back_up("backup.redb");
    assert!(made.status.success(), "{}", text(&made));
    assert!(text(&made).contains(&format!("revision {revision}, ")), "{}", text(&made));
    assert!(text(&made).contains(&format!("1 hosts, {nodes} nodes")), "{}", text(&made));
    op.declare(&node_row(nodes + 1)).await.unwrap();
    (files, board, revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_board_is_backed_up_and_restored_as_another_branch() {
    let (files, mut board, revision) = backed_up(9000).await;
    // All that it has, and nothing else.
    let store = Redb::open(files.dir.path().join("backup.redb").as_path()).unwrap();
    let found = inspect::inspect(&*store.view().unwrap()).unwrap();
    assert_eq!((found.hosts, found.nodes, found.revision, found.findings.len()), (1, 9000, revision, 0));
    let at_backup = lineage(&store).unwrap();
    drop(store);
    let again = text(&files.back_up("backup.redb"));
    assert!(again.contains("found a file there"), "{again}");

    let in_use = text(&files.restore("backup.redb", &["--replace"]));
    assert!(in_use.contains("already open"), "{in_use}");
    let in_use = text(&files.check("board.redb"));
    assert!(in_use.contains("another process uses it") && in_use.contains("stopover-bbs backup"), "{in_use}");
    board.kill();
    let term = |file: &str| Redb::open(Path::new(&files.path(file))).unwrap().view().unwrap().header().term;
    // The board was started often since.
    for _ in 0..3 {
        drop(Writer::begin(Arc::new(Redb::open(Path::new(&files.path("board.redb"))).unwrap())).unwrap());
    }
    let before = term("board.redb");
    let there = text(&files.restore("backup.redb", &[]));
    assert!(there.contains("--replace"), "{there}");
    let restored = files.restore("backup.redb", &["--replace"]);
    assert!(restored.status.success(), "{}", text(&restored));
    assert!(text(&restored).contains("restored, revision"), "{}", text(&restored));
    assert_eq!(term("board.redb.replaced"), before, "what was there is kept");
    assert!(term("board.redb") > before, "no session number is given again");
    let store = Redb::open(Path::new(&files.path("board.redb"))).unwrap();
    let after = lineage(&store).unwrap();
    assert_eq!(after.board(), at_backup.board());
    assert_ne!(after.run(), at_backup.run(), "a run of its own");
    drop(store);

    let board = run(files.dir.path());
    let mut op = operator(&socket(files.dir.path())).await;
    assert_eq!(op.info().await.unwrap().revision, revision);
    assert_eq!(op.nodes(&NodeFilter::default()).await.unwrap().len(), 9000);
    op.delete(&Target::Node { vni: vni(1), mac: Mac::new([2, 0, 0, 0, 0, 1]) }).await.unwrap();
    drop(board);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_one_state() {
    let (files, board, _) = backed_up(100).await;
    let at = socket(files.dir.path());
    let mut op = operator(&at).await;
    let writer = tokio::spawn(async move {
        // Each declaration is one revision, and there are as many nodes as revisions, with the host's.
        for n in 200..3000 {
            if op.declare(&node_row(n)).await.is_err() {
                return;
            }
        }
    });
    for n in 0..8 {
        let made = files.back_up(&format!("backup-{n}.redb"));
        assert!(made.status.success(), "{}", text(&made));
        let store = Redb::open(Path::new(&files.path(&format!("backup-{n}.redb")))).unwrap();
        let found = inspect::inspect(&*store.view().unwrap()).unwrap();
        // The load of 100 nodes was one revision.
        assert_eq!((found.nodes + 1 - 99, found.findings), (found.revision, vec![]));
    }
    writer.abort();
    drop(board);
}

/// Writes records as they must not be.
fn write(store: &Redb, table: &'static str, key: Key, value: Option<&[u8]>) {
    let expected = store.view().unwrap().header();
    let write = Write { table: Table(table), key, value: value.map(Box::from) };
    let transaction = Transaction::new(expected, expected.revision, vec![write]);
    assert!(matches!(store.commit(&transaction, &mut |_| {}), CommitResult::Committed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_named_and_not_restored() {
    let (files, mut board, _) = backed_up(300).await;
    board.kill();
    let good = files.check("backup.redb");
    assert!(good.status.success() && text(&good).contains("300 nodes, 0 findings"), "{}", text(&good));
    // A board that was killed is in order.
    assert!(files.check("board.redb").status.success());

    let node = |n: u8| (vni(1), Mac::new([2, 0, 0, 0, 0, n])).to_bytes();
    let store = Redb::open(Path::new(&files.path("backup.redb"))).unwrap();
    write(&store, "nodes", node(7), Some(b"no node"));
    write(&store, "members", (vni(1), 1u32).to_bytes(), None);
    write(&store, "members", (vni(5), 9u32).to_bytes(), Some(&[1, 0, 0]));
    drop(store);
    let before = std::fs::read(files.path("backup.redb")).unwrap();
    let bad = files.check("backup.redb");
    let reported = text(&bad);
    assert!(!bad.status.success(), "{reported}");
    for line in [
        "record `VNI 1, 02:00:00:00:00:07` of table `nodes` is unreadable",
        "node `VNI 1, 02:00:00:00:00:08`: its host 1 is no member of the network",
        "more",
        "hint: restore a backup",
    ] {
        assert!(reported.contains(line), "{line} in {reported}");
    }
    assert!(std::fs::read(files.path("backup.redb")).unwrap() == before, "looked at, and not changed");
    let refused = files.restore("backup.redb", &["--replace"]);
    assert!(!refused.status.success());
    assert!(files.check("board.redb").status.success(), "the store is left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_pages_are_found() {
    let (files, mut board, _) = backed_up(3000).await;
    board.kill();
    let path = files.path("backup.redb");
    let bytes = std::fs::read(&path).unwrap();
    // A byte of an address, which can be read as another one.
    let at = (0..bytes.len() - 4).rev().find(|at| bytes[*at..*at + 4] == [10, 0, 1, 77]).unwrap();
    let mut changed = bytes;
    changed[at + 3] = 78;
    std::fs::write(&path, changed).unwrap();
    let bad = files.check("backup.redb");
    assert!(!bad.status.success() && text(&bad).contains("pages of the file are damaged"), "{}", text(&bad));
}

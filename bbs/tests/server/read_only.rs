//! A board that takes no writes: its disk is full, or a record is unreadable. Reads go on, sessions too, and whoever asks is
//! told why. With space on the disk it takes writes again by itself.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use stopover_bbs::{
    client::{Error, NodeFilter, Reason, Row},
    model::Uuid,
    server::{RESERVE, ROOM},
    store::{CommitResult, Header, StoreError, Transaction, View},
    table::{Key, Limits, RecordKey, Table, Write},
};
use stopover_config::bulk::{HostRow, NodeRow};

/// A store whose disk has as much space as the test says.
struct Small {
    store: Redb,
    free: AtomicU64,
}

impl Store for Small {
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
        self.store.commit(transaction, progress)
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(self.free.load(SeqCst))
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        self.store.view()
    }
}

fn host_row() -> Row {
    HostRow { name: name("lx"), vteps: vec![ip("172.16.0.1")], udp_port: 4789 }.into()
}

fn node_row(n: u32, last: u8) -> Row {
    let (vni, mac) = (vni(n), mac(last));
    NodeRow { vni, mac, host: name("lx"), ips: vec![], shared_ips: vec![] }.into()
}

fn refusal(result: Result<u64, Error>) -> String {
    let e = result.expect_err("it takes no writes");
    assert_eq!(e.reason(), Some(Reason::ReadOnly), "{e}");
    e.to_string()
}

async fn macs(op: &mut Operator) -> Vec<Mac> {
    op.nodes(&NodeFilter::default()).await.unwrap().into_iter().map(|entry| entry.node.mac).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_writes_until_there_is_space_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let store = Arc::new(Small { store: Redb::in_memory().unwrap(), free: AtomicU64::new(ROOM) });
    let server = board(&at, store.clone(), Duration::from_millis(400)).await;
    let mut op = operator(&at).await;
    op.declare(&host_row()).await.unwrap();
    op.declare(&node_row(1, 1)).await.unwrap();
    let mut a = Host::start(config(&at, "gw-a", "10.0.0.1"));
    a.session().claim(claim(1, 2, &[]));
    a.wait_for_change("its own", |c| matches!(c, Change::NodePut { node, .. } if node.mac == mac(2))).await;
    assert_eq!(op.info().await.unwrap().read_only, None);

    store.free.store(ROOM - 1, SeqCst);
    let revision = op.info().await.unwrap().revision;
    let why = refusal(op.declare(&node_row(1, 3)).await);
    assert!(why.contains("the disk of its store is full") && why.contains("hint: free some"), "{why}");
    assert_eq!(op.info().await.unwrap().read_only, Some(why));
    assert_eq!((macs(&mut op).await, op.info().await.unwrap().revision), (vec![mac(1), mac(2)], revision));
    a.session().claim(claim(1, 4, &[]));
    // Also without space for what is the board's own no lease expires, and sessions stay.
    store.free.store(RESERVE - 1, SeqCst);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(op.hosts(None).await.unwrap().iter().all(|entry| entry.host.up));
    let state = a.session().state();
    assert!(state.connected && state.stream == 1, "{state:?}");
    assert!(state.last_error.is_some_and(|why| why.contains("is full")));
    assert_eq!(op.info().await.unwrap().revision, revision);

    store.free.store(ROOM, SeqCst);
    // What was refused is tried again.
    a.wait_for_change("the claim", |c| matches!(c, Change::NodePut { node, .. } if node.mac == mac(4))).await;
    op.declare(&node_row(1, 3)).await.unwrap();
    assert_eq!(op.info().await.unwrap().read_only, None);
    assert_eq!(a.session().state().stream, 1);
    drop(a);
    server.stop().await;
}

/// Writes a record that is none.
fn damage(store: &Redb, table: &'static str, key: Key) {
    let expected = store.view().unwrap().header();
    let write = Write { table: Table(table), key, value: Some(Box::from(*b"\xff\xff garbage")) };
    let transaction = Transaction::new(expected, expected.revision, vec![write]);
    assert!(matches!(store.commit(&transaction, &mut |_| {}), CommitResult::Committed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_record_is_named_and_everything_else_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let store = Arc::new(Redb::in_memory().unwrap());
    let server = board(&at, store.clone(), LONG).await;
    let mut op = operator(&at).await;
    op.declare(&host_row()).await.unwrap();
    for (n, last) in [(1, 1), (1, 2), (1, 3), (2, 4)] {
        op.declare(&node_row(n, last)).await.unwrap();
    }
    server.stop().await;
    damage(&store, "nodes", (vni(1), mac(2)).to_bytes());

    let server = board(&at, store.clone(), LONG).await;
    let mut op = operator(&at).await;
    let record = "record `VNI 1, 52:54:00:00:00:02` of table `nodes` is unreadable";
    let why = op.info().await.unwrap().read_only.expect("it takes no writes");
    assert!(why.contains(record) && why.contains("hint: "), "{why}");
    assert_eq!(refusal(op.declare(&node_row(2, 5)).await), why);
    // A list has everything else, and says what it lacks.
    let mut read = std::pin::pin!(op.nodes_stream(&NodeFilter::default()).await.unwrap());
    let first = tokio_stream::StreamExt::next(&mut read).await.unwrap().unwrap();
    assert_eq!(first.iter().map(|e| e.node.mac).collect::<Vec<_>>(), [mac(1), mac(3), mac(4)]);
    let end = tokio_stream::StreamExt::next(&mut read).await.unwrap().unwrap_err().to_string();
    assert!(end.contains(record), "{end}");
    let of_two = NodeFilter { vni: Some(vni(2)), ..NodeFilter::default() };
    assert_eq!(operator(&at).await.nodes(&of_two).await.unwrap().len(), 1);
    // Hosts register. A watch of what is readable goes on; one of the rest is told which record it lacks.
    let mut cfg = config(&at, "gw-a", "10.0.0.1");
    cfg.interest = [vni(2)].into();
    let mut a = Host::start(cfg);
    a.wait_for_change("a node", |c| matches!(c, Change::NodePut { node, .. } if node.mac == mac(4))).await;
    let mut cfg = config(&at, "gw-b", "10.0.0.2");
    cfg.interest = [vni(1)].into();
    let mut b = Host::start(cfg);
    let ended = b.wait_for("the end", |u| matches!(u, Update::Disconnected { .. })).await;
    assert!(format!("{ended:?}").contains(record), "{ended:?}");
    assert!(!b.received.iter().any(|u| matches!(u, Update::SnapshotEnd { .. })), "no snapshot without it");
    drop((a, b));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_all_hosts_no_session_begins() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let store = Arc::new(Redb::in_memory().unwrap());
    let server = board(&at, store.clone(), LONG).await;
    operator(&at).await.declare(&host_row()).await.unwrap();
    server.stop().await;
    damage(&store, "hosts", 1u32.to_bytes());
    let server = board(&at, store.clone(), LONG).await;
    let mut op = operator(&at).await;
    let a = Host::start(config(&at, "gw-a", "172.16.0.1"));
    let began = Instant::now();
    while a.session().state().last_error.is_none() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let why = a.session().state().last_error.unwrap();
    assert!(why.contains("record `1` of table `hosts`"), "{why}");
    assert_eq!(op.info().await.unwrap().revision, 1);
    drop(a);
    server.stop().await;
}

//! The history of a watcher's state: acknowledgements count only on the stream that sent the revision, a restored backup is
//! another branch, and another board is followed only after the operator has accepted it.

use super::{session::replica, *};
use stopover_bbs::{
    client::{Event, EventKind, NodeFilter, Row, Target, connect},
    proto::v1::{self, watch_request::Request, watch_response::Response},
};
use stopover_config::bulk::{HostRow, NodeRow};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tonic::Streaming;

/// A watch of everything, message by message.
struct Watch {
    requests: mpsc::Sender<v1::WatchRequest>,
    responses: Streaming<v1::WatchResponse>,
}

impl Watch {
    async fn open(at: &Endpoint, resume: Option<v1::Point>) -> Self {
        let (requests, outgoing) = mpsc::channel(8);
        let start =
            v1::WatchStart { name: "raw".into(), everything: true, resume, ..v1::WatchStart::default() };
        requests.send(v1::WatchRequest { request: Some(Request::Start(start)) }).await.unwrap();
        let mut client = connect(at).await.unwrap().observer();
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
        Self { requests, responses: client.watch(outgoing).await.unwrap().into_inner() }
    }

    async fn send(&self, request: Request) {
        self.requests.send(v1::WatchRequest { request: Some(request) }).await.unwrap();
    }

    async fn receive(&mut self) -> Response {
        let message = tokio::time::timeout(PATIENCE, self.responses.message()).await.unwrap();
        message.unwrap().expect("the watch has not ended").response.unwrap()
    }

    /// The begin and the end of a snapshot.
    async fn snapshot(&mut self) -> (v1::SnapshotBegin, u64) {
        let Response::SnapshotBegin(begin) = self.receive().await else { panic!("no snapshot") };
        loop {
            if let Response::SnapshotEnd(revision) = self.receive().await {
                return (begin, revision);
            }
        }
    }
}

fn host_row(host: &str, vtep: &str) -> Row {
    Row::Host(HostRow { name: name(host), vteps: vec![ip(vtep)], udp_port: 4789 })
}

fn node_row(last: u8) -> Row {
    Row::Node(NodeRow { vni: vni(1), mac: mac(last), host: name("lx"), ips: vec![], shared_ips: vec![] })
}

async fn events(op: &mut Operator) -> Vec<Event> {
    let chunks = std::pin::pin!(op.events(0, false).await.unwrap());
    chunks.map(Result::unwrap).collect::<Vec<_>>().await.concat()
}

async fn acked(at: &Endpoint) -> u64 {
    operator(at).await.watchers().await.unwrap().remove(0).acked_revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_of_another_stream_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let mut op = operator(&at).await;
    op.declare(&host_row("lx", "172.16.0.1")).await.unwrap();
    let mut watch = Watch::open(&at, None).await;
    // As clients of earlier versions begin every watch.
    watch.send(Request::AckRevision(1_000_000)).await;
    let (begin, revision) = watch.snapshot().await;
    let point = |board_id: &[u8], run_id: &[u8], revision| {
        Request::Ack(v1::Point { board_id: board_id.into(), run_id: run_id.into(), revision })
    };
    watch.send(point(&begin.board_id, &[9; 16], revision)).await;
    watch.send(point(&[9; 16], &begin.run_id, revision)).await;
    watch.send(point(&begin.board_id, &begin.run_id, revision + 1_000_000)).await;
    op.declare(&node_row(1)).await.unwrap();
    let Response::Delta(delta) = watch.receive().await else { panic!("no delta") };
    assert_eq!((delta.revision, acked(&at).await), (revision + 1, 0), "none of these counted");
    for (request, counts) in [
        (point(&begin.board_id, &begin.run_id, revision), revision),
        (Request::AckRevision(revision + 1), revision + 1),
    ] {
        watch.send(request).await;
        let began = Instant::now();
        while acked(&at).await != counts {
            assert!(began.elapsed() < PATIENCE);
        }
    }
    server.stop().await;
}

/// What a session has in force it acknowledges on each of its watches, and nothing that it did not get there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_session_acknowledges_what_it_resumed_from() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let store = memory();
    let server = board(&at, store.clone(), LONG).await;
    let mut a = Host::start(config(&at, "gw-a", "10.0.0.1"));
    a.session().claim(claim(1, 1, &[]));
    a.wait_for_change("its own", |c| matches!(c, Change::NodePut { .. })).await;
    a.wait_caught_up(&at).await;
    let state = a.session().state();
    assert_eq!(state.stream, 1);
    a.session().ack(1, state.revision);
    server.stop().await;
    a.wait_for("Disconnected", |u| matches!(u, Update::Disconnected { .. })).await;
    let server = board(&at, store, LONG).await;
    a.wait_for("Connected again", |u| *u == Update::Connected { stream: 2 }).await;
    let first = a.wait_for("what it resumed from", |u| matches!(u, Update::Apply { .. })).await;
    assert_eq!(first, Update::Apply { revision: state.revision, changes: vec![] });
    // Late, from a consumer that has not seen yet that the watch is another.
    a.session().ack(1, state.revision + 5);
    assert_eq!(acked(&at).await, 0);
    a.session().ack(2, state.revision);
    let began = Instant::now();
    while acked(&at).await != state.revision {
        assert!(began.elapsed() < PATIENCE);
    }
    drop(a);
    server.stop().await;
}

/// A connection holds the store until it is closed, which may be a moment after the board was stopped.
async fn reopen(path: &Path) -> Arc<Redb> {
    let began = Instant::now();
    loop {
        match Redb::open(path) {
            Ok(store) => return Arc::new(store),
            Err(e) => assert!(began.elapsed() < PATIENCE, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The host's replica is the restored board, which has an event about it.
async fn check_restored(op: &mut Operator, host: &mut Host) {
    while host.updates.try_recv().map(|update| host.received.push(update)).is_ok() {}
    let nodes = op.nodes(&NodeFilter::default()).await.unwrap();
    let truth: session::Nodes =
        nodes.into_iter().map(|entry| ((entry.node.vni, entry.node.mac), entry.node.ips)).collect();
    assert_eq!(truth.keys().map(|(_, m)| *m).collect::<Vec<_>>(), [mac(1), mac(2)]);
    assert_eq!(replica(&host.received).1, truth);
    let events = events(op).await;
    let event = events.iter().find(|e| e.kind == EventKind::Lineage).expect("an event");
    assert!(event.text.contains("gw-b") && event.text.contains("restored from a backup"), "{}", event.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_is_another_branch() {
    let dir = tempfile::tempdir().unwrap();
    let (at, path, backup) = (socket(dir.path()), dir.path().join("board.redb"), dir.path().join("backup"));
    let server = board(&at, store_file(&path), LONG).await;
    let mut op = operator(&at).await;
    op.declare(&host_row("lx", "172.16.0.1")).await.unwrap();
    op.declare(&node_row(1)).await.unwrap();
    drop(op);
    server.stop().await;
    drop(reopen(&path).await);
    std::fs::copy(&path, &backup).unwrap();

    // What the backup does not know: another node of the operator's, another host, and where a node is.
    let server = board(&at, reopen(&path).await, LONG).await;
    let mut op = operator(&at).await;
    let mut b = Host::start(config(&at, "gw-b", "10.0.0.2"));
    b.session().claim(claim(1, 2, &["192.168.0.2"]));
    b.wait_for_change("its own", |c| matches!(c, Change::NodePut { node, .. } if node.mac == mac(2))).await;
    op.declare(&node_row(3)).await.unwrap();
    op.delete(&Target::Node { vni: vni(1), mac: mac(1) }).await.unwrap();
    b.wait_for_change("the deletion", |c| matches!(c, Change::NodeGone { mac: m, .. } if *m == mac(1))).await;
    b.wait_caught_up(&at).await;
    let mut watch = Watch::open(&at, None).await;
    let (begin, ahead) = watch.snapshot().await;
    let held =
        |revision| v1::Point { revision, board_id: begin.board_id.clone(), run_id: begin.run_id.clone() };
    server.stop().await;
    drop(watch);

    drop(reopen(&path).await);
    std::fs::copy(&backup, &path).unwrap();
    let server = board(&at, reopen(&path).await, LONG).await;
    let mut op = operator(&at).await;
    // The restored board reaches the same revisions, with other states.
    while op.info().await.unwrap().revision <= ahead + 3 {
        op.declare(&node_row(9)).await.unwrap();
        op.delete(&Target::Node { vni: vni(1), mac: mac(9) }).await.unwrap();
    }
    for revision in [ahead, ahead + 1_000_000] {
        let (begin, _) = Watch::open(&at, Some(held(revision))).await.snapshot().await;
        assert!(begin.other_branch && begin.why.contains("another branch"), "{begin:?}");
    }
    b.wait_for("a snapshot", |u| matches!(u, Update::SnapshotBegin { other_branch: true, .. })).await;
    // The host claims its nodes again. What was declared after the backup is lost, which is an event.
    b.wait_for_change("its own", |c| matches!(c, Change::NodePut { node, .. } if node.mac == mac(2))).await;
    b.wait_caught_up(&at).await;
    check_restored(&mut op, &mut b).await;
    // Within the branch a restart is no reason for a snapshot.
    let count =
        |host: &Host| host.received.iter().filter(|u| matches!(u, Update::SnapshotBegin { .. })).count();
    let before = count(&b);
    server.stop().await;
    let server = board(&at, reopen(&path).await, LONG).await;
    b.wait_for("Connected again", |u| *u == Update::Connected { stream: 3 }).await;
    b.wait_for("what it resumed from", |u| matches!(u, Update::Apply { .. })).await;
    assert_eq!(count(&b), before);
    drop(b);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_board_is_followed_only_after_it_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let mut a = Host::start(config(&at, "gw-a", "10.0.0.1"));
    for m in 1..50 {
        a.session().claim(claim(1, m, &[]));
    }
    a.wait_for_change("the last", |c| matches!(c, Change::NodePut { node, .. } if node.mac == mac(49))).await;
    a.wait_caught_up(&at).await;
    let first = a.session().state().board.unwrap();
    server.stop().await;

    let store = memory();
    let other = store.board_id();
    let server = board(&at, store, LONG).await;
    let mut op = operator(&at).await;
    a.received.clear();
    let began = Instant::now();
    while a.session().state().other_board.is_none() {
        assert!(began.elapsed() < PATIENCE, "{:?}", a.session().state());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let state = a.session().state();
    assert_eq!((state.board, state.other_board, state.connected), (Some(first), Some(other), false));
    let why = state.last_error.unwrap();
    assert!(why.contains(&other.simple().to_string()) && why.contains("stopover board accept"), "{why}");
    let events = events(&mut op).await;
    assert_eq!(events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::Lineage], "{events:?}");
    assert!(op.hosts(None).await.unwrap().is_empty(), "it has not registered there");
    while a.updates.try_recv().map(|update| a.received.push(update)).is_ok() {}
    assert!(!a.received.iter().any(|u| matches!(u, Update::SnapshotBegin { .. })), "{:?}", a.received);

    a.session().accept_board(other);
    a.wait_for("a snapshot", |u| matches!(u, Update::SnapshotBegin { other_branch: true, .. })).await;
    let began = Instant::now();
    while op.nodes(&NodeFilter::default()).await.unwrap().len() != 49 {
        assert!(began.elapsed() < PATIENCE);
    }
    let state = a.session().state();
    assert_eq!((state.board, state.other_board), (Some(other), None));
    drop(a);
    server.stop().await;
}

//! A session that begins with the state of an earlier run: it takes a snapshot of the same history, and follows no other
//! board.

use super::*;
use stopover_bbs::client::Point;

/// A host that has received a node of another; what it holds then, and the board's store.
async fn held(at: &Endpoint, store: &Arc<dyn Store>) -> (Server, Host, Point) {
    let server = board(at, store.clone(), LONG).await;
    let other = Host::start(config(at, "gw-b", "10.0.0.2"));
    other.session().claim(claim(100, 1, &["192.168.0.1"]));
    let mut first = Host::start(interested(at));
    first.wait_for_change("the node", |c| matches!(c, Change::NodePut { .. })).await;
    first.wait_caught_up(at).await;
    let state = first.session().state();
    let point = first.session().point(state.stream, state.revision).expect("it has received from the board");
    assert_eq!(first.session().point(state.stream - 1, state.revision), None, "an earlier watch");
    first.session.take().unwrap().stop();
    (server, other, point)
}

fn interested(at: &Endpoint) -> SessionConfig {
    let mut cfg = config(at, "gw-a", "10.0.0.1");
    cfg.interest = [vni(100)].into();
    cfg
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_sent_a_snapshot_of_the_same_history() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let (server, other, held) = held(&at, &memory()).await;
    other.session().withdraw(vni(100), mac(1));
    other.session().claim(claim(100, 2, &["192.168.0.2"]));
    other.wait_caught_up(&at).await;
    let mut again = Host::start(SessionConfig { held: Some(held), ..interested(&at) });
    assert_eq!(again.session().state().board, Some(held.board), "before it has connected");
    let begin = again.wait_for("a snapshot", |u| matches!(u, Update::SnapshotBegin { .. })).await;
    assert!(matches!(begin, Update::SnapshotBegin { other_branch: false, .. }), "{begin:?}");
    again.wait_for("its end", |u| matches!(u, Update::SnapshotEnd { .. })).await;
    let (_, nodes) = super::session::replica(&again.received);
    assert_eq!(nodes.keys().collect::<Vec<_>>(), [&(vni(100), mac(2))]);
    drop(other);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_ahead_of_a_restored_backup_is_of_another_branch() {
    let dir = tempfile::tempdir().unwrap();
    let (at, file, backup) = (socket(dir.path()), dir.path().join("bbs.redb"), dir.path().join("backup"));
    let store = store_file(&file);
    board(&at, store.clone(), LONG).await.stop().await;
    drop(store);
    std::fs::copy(&file, &backup).unwrap();
    let store: Arc<dyn Store> = Arc::new(Redb::open(&file).unwrap());
    let (server, other, held) = held(&at, &store).await;
    drop(other);
    server.stop().await;
    drop(store);
    std::fs::copy(&backup, &file).unwrap();
    let server = board(&at, Arc::new(Redb::open(&file).unwrap()), LONG).await;
    let mut again = Host::start(SessionConfig { held: Some(held), ..interested(&at) });
    again.wait_for("a snapshot", |u| matches!(u, Update::SnapshotBegin { other_branch: true, .. })).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_board_is_not_followed_unless_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let (server, other, held) = held(&at, &memory()).await;
    drop(other);
    server.stop().await;
    let server = board(&at, memory(), LONG).await;
    let mut again = Host::start(SessionConfig { held: Some(held), ..interested(&at) });
    let began = Instant::now();
    while again.session().state().other_board.is_none() {
        assert!(began.elapsed() < PATIENCE, "{:?}", again.session().state());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(again.session().state().board, Some(held.board));
    assert!(again.updates.try_recv().is_err(), "nothing was received from it");
    let new = again.session().state().other_board.unwrap();
    again.session().accept_board(new);
    again.wait_for("a snapshot", |u| matches!(u, Update::SnapshotBegin { other_branch: true, .. })).await;
    server.stop().await;
}

//! A board on a store with small limits: many calls are written in several transactions, and a call that does not fit into
//! one is refused and changes nothing.

use super::{
    engine::{declare, end, host, mac, node, start, stored},
    memory::Memory,
};
use std::sync::Arc;
use stopover_bbs::{
    board::{Command, Refusal, record::HostRecord},
    model::{Row, Target},
    records::Records,
    server::Started,
    store::Store,
    table::Limits,
};
use stopover_net::{HostName, Vni};

fn small() -> Arc<dyn Store> {
    Arc::new(Memory::new(Limits::LEAST))
}

fn rows(count: u32) -> Vec<(u64, Row)> {
    (1..=count).map(|n| (n.into(), node(n))).collect()
}

/// The message of the refusal. The board is as before.
async fn too_large(board: &Started, store: &dyn Store, command: Command) -> String {
    let state =
        || board.engine.query("test", |board| (board.revision(), board.counts(), board.host_counts()));
    let (before, nodes) = (state().await.unwrap(), stored(store));
    let refusal = match board.engine.apply(None, command).await.unwrap() {
        Err(refusal @ Refusal::TooLarge(_)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!((state().await.unwrap(), stored(store)), (before, nodes), "nothing is changed");
    assert_eq!(refusal.word(), "too-large");
    refusal.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_are_several_transactions() {
    const CALLS: u32 = 3000;
    let store = small();
    let board = Arc::new(start(store.clone()).unwrap());
    declare(&board, 0).await.unwrap().unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for n in 1..=CALLS {
        let board = board.clone();
        calls.spawn(async move { declare(&board, n).await });
    }
    for answer in calls.join_all().await {
        answer.unwrap().unwrap();
    }
    assert_eq!(end(Arc::into_inner(board).unwrap()).await, None);
    assert_eq!(stored(&*store), (1..=CALLS).map(mac).collect());
    let transactions = store.view().unwrap().header().transaction;
    assert!(transactions < u64::from(CALLS), "{transactions}: calls share transactions");
    // A node, its event and its key.
    assert!(transactions >= u64::from(CALLS) * 3 / Limits::LEAST.writes as u64, "{transactions}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_does_not_fit_is_refused_as_a_whole() {
    let store = small();
    let board = start(store.clone()).unwrap();
    board.engine.apply(None, Command::Declare(host())).await.unwrap().unwrap();
    let why = too_large(&board, &*store, Command::Load(rows(512))).await;
    for text in ["this one has 513 records, where at most 512 are possible", "hint: make it in several parts"]
    {
        assert!(why.contains(text), "{why}");
    }
    // With the membership.
    board.engine.apply(None, Command::Load(rows(511))).await.unwrap().unwrap();
    declare(&board, 600).await.unwrap().unwrap();
    let name = HostName::new("lx").unwrap();
    let delete = Command::Delete(Target::Host { name, cascade: true });
    too_large(&board, &*store, delete.clone()).await;
    for n in [600, 511, 510] {
        let target = Target::Node { vni: Vni::new(1).unwrap(), mac: mac(n) };
        board.engine.apply(None, Command::Delete(target)).await.unwrap().unwrap();
    }
    board.engine.apply(None, delete).await.unwrap().unwrap();
    assert_eq!(end(board).await, None);
    let view = store.view().unwrap();
    assert_eq!((stored(&*store).len(), view.all::<HostRecord>().unwrap().len()), (0, 0));
}

#[tokio::test]
async fn a_store_that_takes_too_little_is_refused() {
    let store = Arc::new(Memory::new(Limits { writes: 128, ..Limits::LEAST }));
    let why = start(store.clone()).err().unwrap().to_string();
    assert!(why.contains("found Limits { writes: 128") && why.contains("expected at least"), "{why}");
    assert_eq!(store.view().unwrap().header().term, 0, "it has not begun");
}

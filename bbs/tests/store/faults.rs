//! What the board does when its store fails: what it acknowledges or publishes, a board that is started again knows.

use super::{
    engine::{declare, declare_all, end, mac, published, start, stored},
    faulty::{Fault, Faulty},
    memory::Memory,
};
use proptest::{collection::btree_map, prelude::*};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use stopover_bbs::{
    board::Outcome,
    server::{Failure, Unanswered, Writer},
    store::{CommitResult, Header, Redb, Store, Transaction},
    table::Limits,
};

const CALLS: u32 = 12;

fn memory() -> Arc<dyn Store> {
    Arc::new(Memory::new(Limits::UNLIMITED))
}

fn redb() -> Arc<dyn Store> {
    Arc::new(Redb::in_memory().unwrap())
}

fn macs(nodes: impl IntoIterator<Item = u32>) -> BTreeSet<stopover_net::Mac> {
    nodes.into_iter().filter(|n| *n != 0).map(mac).collect()
}

/// The faults of one test, from an attempt on; what the board stops with, if it does; and whether the call that has no
/// answer is stored.
type Case = (&'static [Fault], Option<&'static str>, bool);

const CASES: [Case; 8] = [
    (&[], None, false),
    (&[Fault::Failed], Some("the last changes are not stored"), false),
    (&[Fault::Lost], None, false),
    (&[Fault::Unanswered], None, false),
    (&[Fault::Late], None, false),
    (&[Fault::Lost, Fault::Lost, Fault::Lost], Some("is not known"), false),
    (&[Fault::Unreadable], Some("is not known"), true),
    (&[Fault::Fenced], Some("another board writes to this store"), false),
];

/// The first transaction is that of the run.
async fn check(store: Arc<dyn Store>, (faults, stops, unanswered_is_stored): Case, at: usize) {
    let what = format!("{faults:?} at {at}");
    let board = start(Faulty::new(store.clone(), (at..).zip(faults.iter().copied()))).unwrap();
    let acknowledged = declare_all(&board, CALLS).await;
    let seen = published(&board);
    let why = end(board).await;
    match (stops, &why) {
        (None, None) => assert_eq!(acknowledged.len(), CALLS as usize, "{what}"),
        (Some(text), Some(why)) => assert!(why.contains(text) && why.contains("hint: "), "{what}: {why}"),
        other => panic!("{what}: {other:?}"),
    }
    if stops.is_some() {
        assert_eq!(acknowledged.len(), at - 2, "{what}: all before the fault, and none after it");
    }
    assert_eq!(acknowledged.values().max().copied().unwrap_or(0), seen, "{what}: acknowledged is published");
    let count = acknowledged.len() as u32;
    let known = count + u32::from(unanswered_is_stored);
    assert_eq!(stored(&*store), macs(0..known), "{what}");

    // A board that is started again answers repeated calls as before, and executes the others.
    let board = start(store.clone()).unwrap();
    assert!(board.history.latest() >= seen, "{what}");
    let again = declare_all(&board, CALLS).await;
    assert_eq!(
        again.range(..count).map(|(n, r)| (*n, *r)).collect::<Vec<_>>(),
        Vec::from_iter(acknowledged),
        "{what}"
    );
    assert_eq!(again.len(), CALLS as usize, "{what}");
    assert_eq!(again.values().collect::<BTreeSet<_>>().len(), CALLS as usize, "{what}: each executed once");
    assert_eq!(end(board).await, None);
    assert_eq!(stored(&*store), macs(0..CALLS), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_known_after_a_restart() {
    for case in CASES {
        for at in [2, 3, 9] {
            check(memory(), case, at).await;
            check(redb(), case, at).await;
        }
    }
}

/// The transaction that adds the run decides whether the board starts.
#[tokio::test]
async fn a_board_whose_run_is_not_stored_does_not_start() {
    for (faults, stops, _) in CASES {
        let store = memory();
        let faulty = Faulty::new(store.clone(), (1..).zip(faults.iter().copied()));
        let run = |writer: &Writer| writer.lineage().unwrap().run();
        match (Writer::begin(faulty), stops) {
            (Ok(writer), None) => assert!(run(&writer).is_some()),
            (Err(why), Some(text)) => assert!(why.to_string().contains(text), "{why}"),
            (other, _) => panic!("{faults:?}: {:?}", other.map(|_| "it has begun")),
        }
        assert!(Writer::begin(store).unwrap().run().unwrap() >= 2, "each start has its own number");
    }
}

/// Calls that arrive while the board stops end, too: many boards, since such a call is rare.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_waits_for_a_board_that_has_stopped() {
    for at in 0..5_000 {
        let board = Arc::new(start(Faulty::new(memory(), [(2 + at % 5, Fault::Failed)])).unwrap());
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..32 {
            let board = board.clone();
            callers.spawn(async move {
                let mut n = caller;
                while declare(&board, n).await.is_ok() {
                    n += 32;
                }
            });
        }
        tokio::time::timeout(Duration::from_secs(20), callers.join_all())
            .await
            .expect("an answer, or an end");
        assert!(end(Arc::into_inner(board).unwrap()).await.is_some());
    }
}

/// Another board has begun a term, and this one does not know: its calls end without an answer, those of the other do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_boards_the_later_one_writes() {
    let store = memory();
    let first = start(store.clone()).unwrap();
    assert_eq!(declare_all(&first, 3).await.len(), 3);
    let second = start(store.clone()).unwrap();
    let term = store.view().unwrap().header().term;
    assert_eq!(term, 2);
    assert_eq!(declare(&first, 3).await, Err(Unanswered::Stopped));
    assert!(matches!(declare(&second, 4).await, Ok(Ok(Outcome::Done { .. }))));
    assert_eq!(declare(&first, 5).await, Err(Unanswered::Stopped));
    let why = end(first).await.unwrap();
    for text in ["found term 2, revision", "expected term 1, revision", "hint: a store has one board"] {
        assert!(why.contains(text), "{why}");
    }
    assert_eq!(end(second).await, None);
    assert_eq!(stored(&*store), macs([1, 2, 4]));
}

/// A writer in whose term another has written, as if a store forgot to count terms.
#[test]
fn a_writer_that_finds_another_revision_stops() {
    let store = memory();
    let mut writer = Writer::begin(store.clone()).unwrap();
    let header = store.view().unwrap().header();
    assert_eq!(header, Header { term: 1, revision: 0, transaction: 1 });
    let foreign = Transaction::new(header, 5, vec![]);
    assert!(matches!(store.commit(&foreign, &mut |_| {}), CommitResult::Committed));
    match writer.commit(1, vec![], &mut |_| {}) {
        Err(Failure::Fenced { found, expected }) => assert_eq!((found, expected), (foreign.header(), header)),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.view().unwrap().header(), foreign.header());
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        1 => Just(Fault::Failed),
        6 => Just(Fault::Lost),
        6 => Just(Fault::Unanswered),
        6 => Just(Fault::Late),
        1 => Just(Fault::Unreadable),
        1 => Just(Fault::Fenced),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Several callers at once, and any faults.
    #[test]
    fn nothing_that_was_acknowledged_is_lost(faults in btree_map(2..40usize, fault(), 0..12)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let store = memory();
            let board = Arc::new(start(Faulty::new(store.clone(), faults)).unwrap());
            let mut callers = tokio::task::JoinSet::new();
            if declare(&board, 0).await.is_ok() {
                for caller in 0..4 {
                    let board = board.clone();
                    callers.spawn(async move {
                        let mut acknowledged = Vec::new();
                        for n in (1 + caller..80).step_by(4) {
                            match declare(&board, n).await {
                                Ok(Ok(Outcome::Done { revision })) => acknowledged.push((n, revision)),
                                Ok(other) => panic!("{other:?}"),
                                Err(_) => break,
                            }
                        }
                        acknowledged
                    });
                }
            }
            let acknowledged = callers.join_all().await.concat();
            let seen = published(&board);
            let stopped = end(Arc::into_inner(board).unwrap()).await;
            let known = stored(&*store);
            assert!(known.is_superset(&macs(acknowledged.iter().map(|(n, _)| *n))));
            assert!(acknowledged.iter().all(|(_, revision)| *revision <= seen));
            assert!(seen <= store.view().unwrap().header().revision);
            assert!(stopped.is_some() || acknowledged.len() == 79, "{stopped:?}");
            let board = start(store.clone()).unwrap();
            for (n, revision) in acknowledged {
                assert_eq!(declare(&board, n).await, Ok(Ok(Outcome::Done { revision })), "the answer of before");
            }
            end(board).await;
        });
    }
}

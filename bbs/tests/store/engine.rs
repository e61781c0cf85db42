//! A board on a store of the test's: calls in, which of them were acknowledged out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};
use stopover_bbs::{
    board::{Absence, Command, Key, Outcome, Refusal, record::NodeRecord},
    model::{Row, Uuid},
    records::Records,
    server::{Failure, Metrics, Since, Started, Unanswered, start_engine},
    store::Store,
};
use stopover_config::bulk::{HostRow, NodeRow};
use stopover_net::{HostName, Mac, Vni};

pub const LEASE: Duration = Duration::from_secs(600);

pub fn mac(n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    Mac::new([2, 0, a, b, c, d])
}

pub fn host() -> Row {
    let vteps = vec![IpAddr::from([10, 0, 0, 1])];
    Row::Host(HostRow { name: HostName::new("lx").unwrap(), vteps, udp_port: 4789 })
}

pub fn node(n: u32) -> Row {
    let (vni, host) = (Vni::new(1).unwrap(), HostName::new("lx").unwrap());
    Row::Node(NodeRow { vni, mac: mac(n), host, ips: vec![], shared_ips: vec![] })
}

pub fn key(n: u32) -> Key {
    Key { id: Uuid::from_u128(n.into()), fingerprint: 1 }
}

pub fn start(store: Arc<dyn Store>) -> Result<Started, Failure> {
    start_engine(
        store,
        LEASE,
        100_000,
        Absence::default(),
        Arc::new(Metrics::default()),
        std::time::SystemTime::now,
        stopover_config::bbs::Limits::default(),
    )
}

/// The answer to the declaration of a node. The host is node 0.
pub async fn declare(board: &Started, n: u32) -> Result<Result<Outcome, Refusal>, Unanswered> {
    let row = if n == 0 { host() } else { node(n) };
    board.engine.apply(Some(key(n)), Command::Declare(row)).await
}

/// Ends the board as a crash does, after it has answered; the reason why it stopped by itself.
pub async fn end(board: Started) -> Option<String> {
    let Started { engine, thread, failed, .. } = board;
    drop(engine);
    tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    failed.borrow().clone()
}

/// Declares the host and nodes, each after the answer to the one before; the revisions of those that were acknowledged.
pub async fn declare_all(board: &Started, count: u32) -> BTreeMap<u32, u64> {
    let mut acknowledged = BTreeMap::new();
    for n in 0..count {
        match declare(board, n).await {
            Ok(Ok(Outcome::Done { revision })) => assert_eq!(acknowledged.insert(n, revision), None),
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
    }
    acknowledged
}

/// The nodes that a store has.
pub fn stored(store: &dyn Store) -> BTreeSet<Mac> {
    let nodes = store.view().unwrap().all::<NodeRecord>().unwrap();
    nodes.into_iter().map(|((_, mac), _)| mac).collect()
}

/// The last revision that watchers may have seen.
pub fn published(board: &Started) -> u64 {
    let mut at = 0;
    while let Since::Commits(commits) = board.history.since(at, u64::MAX)
        && let Some(last) = commits.last()
    {
        at = last.revision;
    }
    assert_eq!(at, board.history.latest());
    at
}

//! The board over real sockets: sessions, the operator's calls, malformed messages, and the program itself under
//! `kill -9`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod access;
mod backup;
mod before;
mod enrol;
mod held;
mod latency;
mod limits;
mod lineage;
mod malformed;
mod migration;
mod operator;
mod process;
mod read_only;
mod session;
mod tls;

use std::{
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use stopover_bbs::{
    client::{Change, Claim, Operator, Session, SessionConfig, Update, start},
    server::{Server, ServerConfig},
    store::{Redb, Store},
};
use stopover_config::Endpoint;
use stopover_net::{HostName, Mac, Vni};

/// Long enough for a machine that does other things too; no test expects it to pass.
const PATIENCE: Duration = Duration::from_secs(30);

fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}
fn mac(last: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, last])
}
fn name(n: &str) -> HostName {
    HostName::new(n).unwrap()
}
fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}
fn claim(n: u32, last: u8, ips: &[&str]) -> Claim {
    Claim::declared(vni(n), mac(last), ips.iter().map(|s| ip(s)).collect())
}

fn socket(dir: &Path) -> Endpoint {
    Endpoint::Unix(dir.join("bbs.sock"))
}

/// A board whose hosts are down after `lease`.
async fn board(endpoint: &Endpoint, store: Arc<dyn Store>, lease: Duration) -> Server {
    let mut config = ServerConfig::new(vec![endpoint.clone()]);
    config.lease = lease;
    config.heartbeat = lease / 5;
    Server::start(config, store).await.unwrap()
}

/// The store of a new board in a file.
fn store_file(path: &Path) -> Arc<dyn Store> {
    Arc::new(Redb::create(path).unwrap())
}

fn memory() -> Arc<dyn Store> {
    Arc::new(Redb::in_memory().unwrap())
}

const LONG: Duration = Duration::from_secs(60);

async fn operator(endpoint: &Endpoint) -> Operator {
    let began = Instant::now();
    loop {
        match Operator::connect(endpoint).await {
            Ok(operator) => return operator,
            Err(e) => assert!(began.elapsed() < PATIENCE, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A session, and all updates received from it.
struct Host {
    session: Option<Session>,
    updates: crossbeam::channel::Receiver<Update>,
    received: Vec<Update>,
}

fn config(endpoint: &Endpoint, host: &str, vtep: &str) -> SessionConfig {
    let mut cfg = SessionConfig::new(vec![endpoint.clone()], name(host), vec![ip(vtep)], 4789);
    cfg.retry_refused = Duration::from_millis(50);
    cfg.settle = Duration::from_millis(100);
    cfg
}

impl Host {
    fn start(cfg: SessionConfig) -> Self {
        let (session, updates) = start(&tokio::runtime::Handle::current(), cfg);
        Self { session: Some(session), updates, received: Vec::new() }
    }

    fn session(&self) -> &Session {
        self.session.as_ref().unwrap()
    }

    /// Receives updates up to the next that matches.
    async fn wait_for(&mut self, what: &str, mut wanted: impl FnMut(&Update) -> bool) -> Update {
        let began = Instant::now();
        loop {
            while let Ok(update) = self.updates.try_recv() {
                self.received.push(update.clone());
                if wanted(&update) {
                    return update;
                }
            }
            assert!(began.elapsed() < PATIENCE, "never received {what}; received {:#?}", self.received);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until it has received all changes of the board.
    async fn wait_caught_up(&self, endpoint: &Endpoint) {
        let mut op = operator(endpoint).await;
        let began = Instant::now();
        loop {
            let (board, state) = (op.info().await.unwrap().revision, self.session().state());
            // It has registered, which is a revision.
            if state.connected && board > 0 && board == state.revision {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "never caught up: {state:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn wait_for_change(&mut self, what: &str, wanted: impl Fn(&Change) -> bool) {
        self.wait_for(what, |u| match u {
            Update::Apply { changes, .. } => changes.iter().any(&wanted),
            Update::Nodes { batches, .. } => {
                let nodes = batches.iter().flat_map(|batch| batch.to_nodes());
                nodes.into_iter().any(|node| wanted(&Change::NodePut { node, gone_ips: Vec::new() }))
            }
            _ => false,
        })
        .await;
    }
}

//! The good hosts. Each has one connection, registers, and then sends a heartbeat and a claim or a withdrawal in turn, ten
//! times a second. An answer that is not the expected one is lost, and so is an acknowledged claim that the board does not
//! list at the end.

use anyhow::{Context, ensure};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use stopover_bbs::{client::connect, proto::v1};
use stopover_board_faults::host::{Host, key};
use stopover_config::Endpoint;
use tokio::task::JoinHandle;

/// Between two rounds of a host.
const EVERY: Duration = Duration::from_millis(100);
/// Nodes of each host.
const NODES: u32 = 50;
/// The network of all good hosts.
const VNI: u32 = 7;

#[derive(Default)]
struct Record {
    times: Vec<Duration>,
    calls: u64,
    lost: u64,
}

type Shared = Arc<Mutex<Record>>;

fn note(shared: &Shared, began: Instant, failure: Option<String>) {
    let mut record = shared.lock().unwrap_or_else(PoisonError::into_inner);
    record.calls += 1;
    record.times.push(began.elapsed());
    if let Some(why) = failure {
        record.lost += 1;
        log::error!("lost: {why}");
        println!("lost: {why}");
    }
}

/// What was measured since the last time.
pub struct Figures {
    pub calls: usize,
    pub p99: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} good calls, p99 {:.1} ms", self.calls, self.p99.as_secs_f64() * 1000.0)
    }
}

/// All good hosts.
pub struct Good {
    shared: Shared,
    stop: Arc<AtomicBool>,
    hosts: Vec<JoinHandle<(String, BTreeSet<[u8; 6]>)>>,
}

struct Member(Host);

impl Member {
    async fn start(board: &Endpoint, number: u32) -> anyhow::Result<Self> {
        let connection = connect(board).await?;
        Ok(Self(Host::register(connection, number, format!("good-{number}"), VNI, key()).await?))
    }

    async fn run(self, shared: Shared, stop: Arc<AtomicBool>) -> (String, BTreeSet<[u8; 6]>) {
        // One is never given back: otherwise no host had anything after each hundredth round.
        let kept = self.0.mac(NODES);
        let began = Instant::now();
        note(&shared, began, self.0.claim(&[(kept, Vec::new())]).await);
        let mut held = BTreeSet::from([kept]);
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for round in 0u32.. {
            rounds.tick().await;
            if stop.load(Relaxed) {
                break;
            }
            let began = Instant::now();
            note(&shared, began, self.0.heartbeat().await);
            let mac = self.0.mac(round % NODES);
            let began = Instant::now();
            if held.remove(&mac) {
                note(&shared, began, self.0.withdraw(mac).await);
            } else {
                note(&shared, began, self.0.claim(&[(mac, Vec::new())]).await);
                held.insert(mac);
            }
        }
        (self.0.name, held)
    }
}

impl Good {
    /// Registers the hosts, and lets them run.
    pub async fn start(board: &Endpoint, hosts: u32) -> anyhow::Result<Self> {
        let (shared, stop) = (Shared::default(), Arc::new(AtomicBool::new(false)));
        let mut running = Vec::new();
        for number in 0..hosts {
            let host = Member::start(board, number).await.with_context(|| format!("good host {number}"))?;
            running.push(tokio::spawn(host.run(shared.clone(), stop.clone())));
        }
        Ok(Self { shared, stop, hosts: running })
    }

    /// Waits, and lets them run.
    pub async fn run_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// What they measured since the last time.
    pub fn take(&self) -> Figures {
        let mut record = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times = std::mem::take(&mut record.times);
        times.sort_unstable();
        let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
        Figures { calls: times.len(), p99 }
    }

    /// Ends them, and compares what they hold with the board's list. Returns how many calls there were, and how many of
    /// them, and of what they hold, are lost.
    pub async fn finish(self, board: &Endpoint) -> anyhow::Result<(u64, u64)> {
        self.stop.store(true, Relaxed);
        let connection = connect(board).await?;
        let mut missing = 0;
        for host in self.hosts {
            let (name, held) = host.await?;
            let request = v1::ListNodesRequest { vni: VNI, host: name.clone(), ..Default::default() };
            let mut answers = connection.observer().list_nodes(request).await?.into_inner();
            let mut listed = BTreeSet::new();
            while let Some(chunk) = answers.message().await? {
                for node in chunk.nodes.into_iter().filter_map(|entry| entry.node) {
                    listed.insert(node.mac);
                }
            }
            ensure!(!held.is_empty(), "{name} has claimed nothing");
            let wrong = held.iter().filter(|mac| !listed.contains(&mac[..])).count();
            missing += (wrong + listed.len().saturating_sub(held.len())) as u64;
        }
        let record = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((record.calls, record.lost + missing))
    }
}

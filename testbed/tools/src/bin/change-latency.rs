//! Measures how soon a change at a board is known; used by `testbed/run bench --only converge`.
//!
//! It declares nodes, one after another, and measures how long each takes to reach every one of many watchers (each
//! with a connection of its own, as appliances have), and how long until the named appliances have it in force on every
//! lcore.
//!
//!     change-latency --board unix:/run/bbs.sock --watchers 1000 --vni 200 --updates 200 --every-ms 50
//!     change-latency --board unix:/run/bbs.sock --vni 100 --updates 200 --appliances gw-a,gw-b,gw-c
//!
//! It prints one line of JSON, with times in milliseconds:
//!
//! - `call`: the time of the declaring call, with its fsync
//! - `watch`: from the commit to a watcher, over all pairs of update and watcher
//! - `in_force`: from the commit until the last of the appliances has acknowledged it
//!
//! An update counts as committed when its call is answered or the first watcher has it, whichever is first. At the end
//! the declared nodes are deleted.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a tool of the testbed, which prints")]

use clap::Parser;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use stopover_bbs::{
    client::{Error, Operator, Row, Target, connect},
    proto::v1::{self, change::Change, watch_request::Request, watch_response::Response},
};
use stopover_config::{
    Endpoint,
    bulk::{HostRow, NodeRow},
};
use stopover_net::{HostName, Mac, Vni};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

#[derive(Parser)]
struct Args {
    /// The board's endpoint.
    #[arg(long)]
    board: Endpoint,
    /// How many watchers there are.
    #[arg(long, default_value_t = 0)]
    watchers: usize,
    /// The network of the declared nodes, which the watchers follow.
    #[arg(long)]
    vni: Vni,
    /// How many nodes are declared.
    #[arg(long, default_value_t = 200)]
    updates: usize,
    /// Time between two declarations.
    #[arg(long, default_value_t = 50)]
    every_ms: u64,
    /// Names of the appliances that must have each update in force.
    #[arg(long, value_delimiter = ',')]
    appliances: Vec<String>,
}

/// The first bytes of the declared MACs; the rest is the number of the update.
const MAC_PREFIX: [u8; 2] = [0x02, 0xbe];
/// How many watchers connect at a time.
const CONNECTING: usize = 32;
const TIMEOUT: Duration = Duration::from_secs(30);

fn mac(update: usize) -> Mac {
    let [a, b, c, d] = (update as u32).to_be_bytes();
    Mac::new([MAC_PREFIX[0], MAC_PREFIX[1], a, b, c, d])
}

fn update_of(mac: &[u8]) -> Option<usize> {
    let [m, n, rest @ ..] = <[u8; 6]>::try_from(mac).ok()?;
    ([m, n] == MAC_PREFIX).then_some(u32::from_be_bytes(rest) as usize)
}

/// When each update reached each watcher, in nanoseconds since `clock`; 0: not yet.
struct Arrivals {
    clock: Instant,
    /// By watcher, then by update.
    at: Vec<AtomicU64>,
    updates: usize,
}

impl Arrivals {
    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn record(&self, watcher: usize, delta: &v1::Delta) {
        let nodes = delta.changes.iter().filter_map(|change| match change.change.as_ref()? {
            Change::NodePut(put) => put.node.as_ref(),
            _ => None,
        });
        for update in nodes.filter_map(|node| update_of(&node.mac)).filter(|n| *n < self.updates) {
            self.at[watcher * self.updates + update].store(self.now(), Relaxed);
        }
    }

    fn of(&self, update: usize) -> impl Iterator<Item = u64> + '_ {
        self.at.iter().skip(update).step_by(self.updates.max(1)).map(|at| at.load(Relaxed))
    }
}

/// Watches until the stream ends; sends to `ready` when the first snapshot is complete.
async fn watch(
    endpoint: Endpoint,
    vni: Vni,
    number: usize,
    arrivals: Arc<Arrivals>,
    ready: mpsc::Sender<()>,
    turn: Arc<Semaphore>,
) -> Result<(), Error> {
    let permit = turn.acquire_owned().await;
    let mut client = connect(&endpoint).await?.observer();
    let (requests, outgoing) = mpsc::channel(4);
    let start = v1::WatchStart {
        name: format!("watcher-{number}"),
        vnis: vec![vni.get()],
        ..v1::WatchStart::default()
    };
    let request = |request| v1::WatchRequest { request: Some(request) };
    // The stream below reads this channel; an error shows there.
    let _ = requests.send(request(Request::Start(start))).await;
    let mut stream = client.watch(ReceiverStream::new(outgoing)).await?.into_inner();
    let mut permit = Some(permit);
    while let Some(message) = stream.message().await? {
        let revision = match message.response {
            Some(Response::SnapshotEnd(revision)) => {
                permit = None;
                let _ = ready.send(()).await;
                revision
            }
            Some(Response::Delta(delta)) => {
                arrivals.record(number, &delta);
                delta.revision
            }
            _ => continue,
        };
        let _ = requests.send(request(Request::AckRevision(revision))).await;
    }
    drop(permit);
    Ok(())
}

/// Waits until all appliances have acknowledged the revision.
async fn in_force(board: &mut Operator, appliances: &[String], revision: u64) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        let watchers = board.watchers().await?;
        let acked = |name: &String| {
            watchers.iter().any(|watcher| watcher.name == *name && watcher.acked_revision >= revision)
        };
        if appliances.iter().all(acked) {
            return Ok(());
        }
        assert!(began.elapsed() < TIMEOUT, "revision {revision} is not in force; {watchers:#?}");
    }
}

/// Median, 99th percentile and maximum, in milliseconds, as JSON.
fn figures(mut nanos: Vec<u64>) -> String {
    nanos.sort_unstable();
    let at = |part: f64| {
        let index = ((nanos.len() as f64 * part) as usize).min(nanos.len().saturating_sub(1));
        nanos.get(index).map_or(0.0, |n| *n as f64 / 1e6)
    };
    format!(r#"{{"count":{},"p50":{:.3},"p99":{:.3},"max":{:.3}}}"#, nanos.len(), at(0.5), at(0.99), at(1.0))
}

/// Starts the watchers and waits until each has its snapshot.
async fn start_watchers(args: &Args, arrivals: &Arc<Arrivals>) {
    let (ready, mut all_ready) = mpsc::channel(1);
    let turn = Arc::new(Semaphore::new(CONNECTING));
    for number in 0..args.watchers {
        let (endpoint, arrivals, ready, turn) =
            (args.board.clone(), Arc::clone(arrivals), ready.clone(), Arc::clone(&turn));
        let watching = watch(endpoint, args.vni, number, arrivals, ready, turn);
        tokio::spawn(async move {
            if let Err(e) = watching.await {
                eprintln!("watcher {number}: {e}");
                std::process::exit(1);
            }
        });
    }
    for _ in 0..args.watchers {
        all_ready.recv().await;
    }
}

/// Times in nanoseconds.
#[derive(Default)]
struct Times {
    calls: Vec<u64>,
    watches: Vec<u64>,
    in_force: Vec<u64>,
}

/// Declares the nodes of `host`, one after another.
async fn measure(
    args: &Args,
    arrivals: &Arrivals,
    board: &mut Operator,
    host: &HostName,
) -> Result<Times, Error> {
    let mut times = Times::default();
    for update in 0..args.updates {
        tokio::time::sleep(Duration::from_millis(args.every_ms)).await;
        let called = arrivals.now();
        let (vni, mac, host) = (args.vni, mac(update), host.clone());
        let row = NodeRow { vni, mac, host, ips: Vec::new(), shared_ips: Vec::new() };
        let revision = board.declare(&Row::Node(row)).await?;
        let answered = arrivals.now();
        let began = Instant::now();
        if !args.appliances.is_empty() {
            in_force(board, &args.appliances, revision).await?;
            times.in_force.push(began.elapsed().as_nanos() as u64);
        }
        while arrivals.of(update).any(|at| at == 0) {
            assert!(began.elapsed() < TIMEOUT, "update {update} has not reached every watcher");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let committed = arrivals.of(update).min().unwrap_or(answered).min(answered);
        times.calls.push(answered - called);
        times.watches.extend(arrivals.of(update).map(|at| at - committed));
    }
    Ok(times)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let args = Args::parse();
    let arrivals = Arc::new(Arrivals {
        clock: Instant::now(),
        at: (0..args.watchers * args.updates).map(|_| AtomicU64::new(0)).collect(),
        updates: args.updates,
    });
    let mut board = Operator::connect(&args.board).await?;
    let host = HostName::new("change-latency").expect("a valid name");
    let vtep = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));
    board.declare(&Row::Host(HostRow { name: host.clone(), vteps: vec![vtep], udp_port: 4789 })).await?;
    let began = Instant::now();
    start_watchers(&args, &arrivals).await;
    let connected_ms = began.elapsed().as_millis();
    let times = measure(&args, &arrivals, &mut board, &host).await?;
    board.delete(&Target::Host { name: host, cascade: true }).await?;
    println!(
        r#"{{"watchers":{},"connected_ms":{connected_ms},"updates":{},"call":{},"watch":{},"in_force":{}}}"#,
        args.watchers,
        args.updates,
        figures(times.calls),
        figures(times.watches),
        figures(times.in_force)
    );
    Ok(())
}

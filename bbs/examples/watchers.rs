//! A measurement, run by `testbed/run bench` and by hand: how soon a change is known. It declares nodes at a board,
//! one after another, and measures how long each takes to reach every one of many watchers (each with a connection
//! of its own, as appliances have), and until the named appliances say that every core forwards by it.
//!
//!     watchers --board unix:/run/bbs.sock --watchers 1000 --vni 200 --updates 200 --every-ms 50
//!     watchers --board unix:/run/bbs.sock --vni 100 --updates 200 --appliances gw-a,gw-b,gw-c
//!
//! Prints one line of JSON. Times are milliseconds: `call` is what the declaring call took (with its fsync);
//! `watch` from the commit to a watcher, over all pairs of update and watcher; `in_force` from the commit until
//! the last of the appliances has acknowledged. An update counts as committed when its call is answered or the
//! first watcher has it, whichever is first. What it declared it deletes again.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a tool that cannot work ends, and it prints")]

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
    /// Where the board is.
    #[arg(long)]
    board: Endpoint,
    /// How many watch.
    #[arg(long, default_value_t = 0)]
    watchers: usize,
    /// The network that changes, and that they follow.
    #[arg(long)]
    vni: Vni,
    /// How many nodes are declared.
    #[arg(long, default_value_t = 200)]
    updates: usize,
    /// Pause between two of them.
    #[arg(long, default_value_t = 50)]
    every_ms: u64,
    /// Names of appliances that must have it in force.
    #[arg(long, value_delimiter = ',')]
    appliances: Vec<String>,
}

/// The first bytes of the MACs that are declared; the rest is the update's number.
const MARK: [u8; 2] = [0x02, 0xbe];
/// Connections being made at a time.
const CONNECTING: usize = 32;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn mac(update: usize) -> Mac {
    let [a, b, c, d] = (update as u32).to_be_bytes();
    Mac::new([MARK[0], MARK[1], a, b, c, d])
}

fn update_of(mac: &[u8]) -> Option<usize> {
    let [m, n, rest @ ..] = <[u8; 6]>::try_from(mac).ok()?;
    ([m, n] == MARK).then_some(u32::from_be_bytes(rest) as usize)
}

/// When each update reached each watcher, in nanoseconds of the common clock; 0 = not yet.
struct Arrivals {
    clock: Instant,
    /// Watchers one after another, updates within.
    at: Vec<AtomicU64>,
    updates: usize,
}

impl Arrivals {
    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn note(&self, watcher: usize, delta: &v1::Delta) {
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

/// Watches for ever; says on `ready` when the first snapshot is complete.
async fn watch(
    endpoint: Endpoint,
    vni: Vni,
    number: usize,
    arrivals: Arc<Arrivals>,
    ready: mpsc::Sender<()>,
    turn: Arc<Semaphore>,
) -> Result<(), Error> {
    let permit = turn.acquire_owned().await;
    let mut client = connect(&endpoint).await?;
    let (requests, outgoing) = mpsc::channel(4);
    let start = v1::WatchStart {
        name: format!("watcher-{number}"),
        vnis: vec![vni.get()],
        ..v1::WatchStart::default()
    };
    let request = |request| v1::WatchRequest { request: Some(request) };
    // The stream below takes it; an error would show there.
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
                arrivals.note(number, &delta);
                delta.revision
            }
            _ => continue,
        };
        let _ = requests.send(request(Request::AckRevision(revision))).await;
    }
    drop(permit);
    Ok(())
}

/// Waits until all of these appliances have acknowledged the revision.
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
        assert!(began.elapsed() < PATIENCE, "revision {revision} is not in force; {watchers:#?}");
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

#[tokio::main]
async fn main() -> Result<(), Error> {
    let args = Args::parse();
    let arrivals = Arc::new(Arrivals {
        clock: Instant::now(),
        at: (0..args.watchers * args.updates).map(|_| AtomicU64::new(0)).collect(),
        updates: args.updates,
    });
    let mut board = Operator::connect(&args.board).await?;
    let host = HostName::new("watchers-bench").expect("a good name");
    let vtep = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));
    board.declare(&Row::Host(HostRow { name: host.clone(), vteps: vec![vtep], udp_port: 4789 })).await?;

    let (ready, mut all_ready) = mpsc::channel(1);
    let turn = Arc::new(Semaphore::new(CONNECTING));
    let began = Instant::now();
    for number in 0..args.watchers {
        let watching = watch(
            args.board.clone(),
            args.vni,
            number,
            Arc::clone(&arrivals),
            ready.clone(),
            Arc::clone(&turn),
        );
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
    let connected_ms = began.elapsed().as_millis();

    let (mut calls, mut watches, mut forces) = (Vec::new(), Vec::new(), Vec::new());
    for update in 0..args.updates {
        tokio::time::sleep(Duration::from_millis(args.every_ms)).await;
        let called = arrivals.now();
        let row = NodeRow {
            vni: args.vni,
            mac: mac(update),
            host: host.clone(),
            ips: Vec::new(),
            shared_ips: vec![],
        };
        let revision = board.declare(&Row::Node(row)).await?;
        let answered = arrivals.now();
        let began = Instant::now();
        if !args.appliances.is_empty() {
            in_force(&mut board, &args.appliances, revision).await?;
            forces.push(began.elapsed().as_nanos() as u64);
        }
        while arrivals.of(update).any(|at| at == 0) {
            assert!(began.elapsed() < PATIENCE, "update {update} has not reached every watcher");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let committed = arrivals.of(update).min().unwrap_or(answered).min(answered);
        calls.push(answered - called);
        watches.extend(arrivals.of(update).map(|at| at - committed));
    }
    board.delete(&Target::Host { name: host, cascade: true }).await?;
    println!(
        r#"{{"watchers":{},"connected_ms":{connected_ms},"updates":{},"call":{},"watch":{},"in_force":{}}}"#,
        args.watchers,
        args.updates,
        figures(calls),
        figures(watches),
        figures(forces)
    );
    Ok(())
}

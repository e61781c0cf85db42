//! A measurement, run by `testbed/run bench --only updates`: the appliance under more changes a second than a board
//! commits. It starts from a configuration as `stopover-appliance` does and synchronises with the board; then it
//! leaves that, and its control thread is told of nodes that move, as if by the board. Lines on standard input say how
//! many are to move each second; at first none do.
//!
//!     mover gw.ron
//!     100000
//!
//! All nodes move in turn, again and again, each to the next host of the list, and keep their addresses. Each delta is
//! a revision, and each node in it counts as one, so that the acknowledged revision (`stopover show board`) tells how
//! many moves are in force. What cannot be applied in time is not made up for.

use anyhow::{Context, Result, bail};
use clap::Parser;
use crossbeam::channel::{self, Sender};
use std::{
    collections::HashMap,
    io::BufRead,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use stopover::control::start;
use stopover_bbs::client::{Change, DeclaredBy, Node, NodeFilter, Operator, Update};
use stopover_config::{Endpoint, appliance::Truth};

#[derive(Parser)]
struct Args {
    /// The appliance's configuration file; it has a board.
    config: PathBuf,
}

/// How often what is due is told.
const EVERY: Duration = Duration::from_millis(1);
/// Most moves of one delta.
const DELTA: usize = 256;
/// Deltas that may wait for the control thread, as many as of a board.
const WAITING: usize = 32;
/// Time that counts at most between two looks at the clock: nothing is due for the time that the process stood still.
const LATE: Duration = Duration::from_millis(50);

/// The nodes of other hosts, and how far they have moved.
struct Mover {
    /// As the board has them.
    nodes: Vec<Node>,
    hosts: Vec<u32>,
    /// Which host of the list each node was at first.
    home: Vec<u32>,
    next: usize,
    round: usize,
    revision: u64,
}

impl Mover {
    /// All that the board knows of hosts without an appliance.
    async fn ask(board: &Endpoint) -> Result<Self> {
        let mut board = Operator::connect(board).await?;
        let revision = board.info().await?.revision;
        let all = board.hosts(None).await?;
        let others = all.iter().filter(|entry| entry.host.declared_by == DeclaredBy::Operator);
        let hosts: Vec<u32> = others.map(|entry| entry.host.id).collect();
        let place: HashMap<u32, u32> = hosts.iter().copied().zip(0..).collect();
        let (mut nodes, mut home) = (Vec::new(), Vec::new());
        for entry in board.nodes(&NodeFilter::default()).await? {
            if let Some(place) = place.get(&entry.node.host_id) {
                home.push(*place);
                nodes.push(entry.node);
            }
        }
        if nodes.is_empty() || hosts.len() < 2 {
            bail!("the board has {} nodes on {} hosts without an appliance", nodes.len(), hosts.len());
        }
        Ok(Self { nodes, hosts, home, next: 0, round: 1, revision })
    }

    fn moves(&mut self, count: usize) -> Update {
        self.revision += count as u64;
        let changes = (0..count).map(|_| self.one()).collect();
        Update::Apply { revision: self.revision, changes }
    }

    fn one(&mut self) -> Change {
        let host = (self.home[self.next] as usize + self.round) % self.hosts.len();
        let node =
            Node { host_id: self.hosts[host], generation: self.revision, ..self.nodes[self.next].clone() };
        self.next += 1;
        if self.next == self.nodes.len() {
            (self.next, self.round) = (0, self.round + 1);
        }
        Change::NodePut { node, gone_ips: Vec::new() }
    }

    /// Tells of so many moves each second, until nobody listens.
    fn run(mut self, per_second: &AtomicU64, told: &Sender<Update>) {
        let (mut looked, mut due) = (Instant::now(), 0.0);
        loop {
            thread::sleep(EVERY);
            let now = Instant::now();
            due += (now - looked).min(LATE).as_secs_f64() * per_second.load(Relaxed) as f64;
            looked = now;
            while due >= 1.0 {
                let count = DELTA.min(due as usize);
                due -= count as f64;
                if told.send(self.moves(count)).is_err() {
                    return;
                }
            }
        }
    }
}

/// Does what standard input says.
fn obey(per_second: &AtomicU64) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.trim().parse() {
            Ok(rate) => per_second.store(rate, Relaxed),
            Err(_) => log::error!("`{line}` is not a number of moves a second"),
        }
    }
}

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_timestamp_millis()
        .init();
    let args = Args::parse();
    let config = stopover_config::appliance::load(&args.config)?;
    let Truth::Board(endpoints) = &config.truth else { bail!("the configuration has no board") };
    let endpoint = endpoints.first().context("the configuration has no board")?.clone();
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut control, _eal) = start::start(config, rt.handle(), Arc::new(AtomicBool::new(false)))?;
    let mover = rt.block_on(Mover::ask(&endpoint))?;
    log::info!("{} nodes on {} hosts will move", mover.nodes.len(), mover.hosts.len());

    let per_second = Arc::new(AtomicU64::new(0));
    let (told, updates) = channel::bounded(WAITING);
    control.follow_instead(updates);
    let said = Arc::clone(&per_second);
    thread::spawn(move || obey(&said));
    thread::spawn(move || mover.run(&per_second, &told));
    control.run();
    control.shut_down();
    Ok(())
}

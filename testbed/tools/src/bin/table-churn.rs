//! An appliance whose tables change more often than a board can commit: a tool of `testbed/run bench --only updates`.
//!
//! It starts from a configuration as `stopover-appliance` does and synchronises with the board. Then it stops following
//! the board, and a thread sends the control thread deltas instead, in which nodes move. Each line on standard input is
//! the number of moves per second; it is 0 at first.
//!
//!     table-churn gw.ron
//!     100000
//!
//! All nodes move in turn, each to the next host of the list, and keep their addresses. A delta raises the revision by
//! the number of its moves, so the acknowledged revision (`stopover show board`) is how many moves are in force.
//! Moves that cannot be applied in time are not made up for.

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
use stopover::control::{source::Source, start};
use stopover_bbs::client::{Change, DeclaredBy, Node, NodeFilter, Operator, Update};
use stopover_config::{Endpoint, appliance::Truth};

#[derive(Parser)]
struct Args {
    /// The appliance's configuration file; it has a board.
    config: PathBuf,
}

/// Time between two rounds of sending.
const INTERVAL: Duration = Duration::from_millis(1);
/// Most moves in one delta.
const DELTA_MAX: usize = 256;
/// Deltas that may wait for the control thread, as many as from a board.
const QUEUE_LEN: usize = 32;
/// The longest time for which moves become due at once: none are due for the time in which the process was stopped.
const ELAPSED_MAX: Duration = Duration::from_millis(50);

/// The nodes of hosts without an appliance, and how far they have moved.
struct Churn {
    /// As the board has them.
    nodes: Vec<Node>,
    hosts: Vec<u32>,
    /// The index in `hosts` of each node's first host.
    home: Vec<u32>,
    next: usize,
    round: usize,
    revision: u64,
}

impl Churn {
    async fn load(board: &Endpoint) -> Result<Self> {
        let mut board = Operator::connect(board).await?;
        let revision = board.info().await?.revision;
        let all = board.hosts(None).await?;
        let others = all.iter().filter(|entry| entry.host.declared_by == DeclaredBy::Operator);
        let hosts: Vec<u32> = others.map(|entry| entry.host.id).collect();
        let index: HashMap<u32, u32> = hosts.iter().copied().zip(0..).collect();
        let (mut nodes, mut home) = (Vec::new(), Vec::new());
        for entry in board.nodes(&NodeFilter::default()).await? {
            if let Some(index) = index.get(&entry.node.host_id) {
                home.push(*index);
                nodes.push(entry.node);
            }
        }
        if nodes.is_empty() || hosts.len() < 2 {
            bail!("the board has {} nodes on {} hosts without an appliance", nodes.len(), hosts.len());
        }
        Ok(Self { nodes, hosts, home, next: 0, round: 1, revision })
    }

    fn delta(&mut self, moves: usize) -> Update {
        self.revision += moves as u64;
        let changes = (0..moves).map(|_| self.next_move()).collect();
        Update::Apply { revision: self.revision, changes }
    }

    fn next_move(&mut self) -> Change {
        let host = (self.home[self.next] as usize + self.round) % self.hosts.len();
        let node =
            Node { host_id: self.hosts[host], generation: self.revision, ..self.nodes[self.next].clone() };
        self.next += 1;
        if self.next == self.nodes.len() {
            (self.next, self.round) = (0, self.round + 1);
        }
        Change::NodePut { node, gone_ips: Vec::new() }
    }

    /// Sends `per_second` moves each second until the receiver is closed.
    fn run(mut self, per_second: &AtomicU64, updates: &Sender<Update>) {
        let (mut last, mut due) = (Instant::now(), 0.0);
        loop {
            thread::sleep(INTERVAL);
            let now = Instant::now();
            due += (now - last).min(ELAPSED_MAX).as_secs_f64() * per_second.load(Relaxed) as f64;
            last = now;
            while due >= 1.0 {
                let count = DELTA_MAX.min(due as usize);
                due -= count as f64;
                if updates.send(self.delta(count)).is_err() {
                    return;
                }
            }
        }
    }
}

fn read_rates(per_second: &AtomicU64) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.trim().parse() {
            Ok(rate) => per_second.store(rate, Relaxed),
            Err(_) => log::error!("`{line}` is not a number of moves per second"),
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
    let mut control =
        start::start(config, Source::without_file(), rt.handle(), Arc::new(AtomicBool::new(false)), None)?;
    let churn = rt.block_on(Churn::load(&endpoint))?;
    log::info!("{} nodes on {} hosts will move", churn.nodes.len(), churn.hosts.len());

    let per_second = Arc::new(AtomicU64::new(0));
    let (sender, updates) = channel::bounded(QUEUE_LEN);
    control.replace_board(updates);
    let rate = Arc::clone(&per_second);
    thread::spawn(move || read_rates(&rate));
    thread::spawn(move || churn.run(&per_second, &sender));
    control.run();
    control.shut_down()?;
    Ok(())
}

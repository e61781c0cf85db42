//! Very many hosts of one board, each with its certificate, a connection, a watch of its network, and nodes. Each sends
//! heartbeats and claims at a constant rate; some connect and register again. Every answer is checked and timed.
//!
//!     many-hosts --board https://127.0.0.1:7480 --ca /etc/stopover/ca --out /tmp/hosts --hosts 1000 --nodes 100000 --seconds 60
//!
//! The last line is JSON: how many calls of each kind there were, the 99th percentile of their times, and `lost`.

#![allow(clippy::print_stdout, reason = "a tool of the testbed, which prints")]

mod member;
mod times;

use anyhow::{Context, ensure};
use clap::Parser;
use member::{Member, Plan};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use stopover_bbs::client::BoardAddress;
use stopover_config::Endpoint;
use stopover_pki::{CaFolder, ClientTls, Fresh, Identity};
use times::Times;
use tokio::task::JoinSet;

/// Hosts that start at once.
const AT_ONCE: usize = 16;
/// Days that the certificates are valid.
const DAYS: u32 = 2;

#[derive(Parser)]
struct Args {
    /// The board's endpoint.
    #[arg(long)]
    board: Endpoint,
    /// The folder of the authority that issues the hosts' certificates.
    #[arg(long)]
    ca: PathBuf,
    /// Where the folders of the hosts are made.
    #[arg(long)]
    out: PathBuf,
    /// How many hosts there are.
    #[arg(long, default_value_t = 1000)]
    hosts: u32,
    /// How many nodes they have in all.
    #[arg(long, default_value_t = 100_000)]
    nodes: u32,
    /// How many hosts have nodes in one network.
    #[arg(long, default_value_t = 10)]
    hosts_per_network: u32,
    /// Claims in a second, of all hosts together. There are as many heartbeats.
    #[arg(long, default_value_t = 1000)]
    claims: u32,
    /// Registrations in a second, of all hosts together.
    #[arg(long, default_value_t = 10)]
    registrations: u32,
    /// For how long the calls are timed.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

fn name(number: u32) -> String {
    format!("many-{number}")
}

/// Makes the folder of each host's credentials.
fn issue(args: &Args) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    std::fs::create_dir_all(&args.out)?;
    let mut ca = CaFolder::open(&args.ca, now).context("the authority")?;
    for number in 0..args.hosts {
        let identity: Identity = format!("stopover://host/{}", name(number)).parse()?;
        ca.issue(&identity, &args.out.join(name(number)), &Fresh::draw(now)?, DAYS)?;
    }
    Ok(())
}

fn address(board: &Endpoint, out: &Path, number: u32) -> anyhow::Result<BoardAddress> {
    let tls = ClientTls::load(&out.join(name(number)))?;
    Ok(BoardAddress { endpoint: board.clone(), tls: Some(tls) })
}

async fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.hosts > 0 && args.hosts_per_network > 0 && args.claims > 0, "no hosts, or no claims");
    issue(args)?;
    println!("{} certificates are issued", args.hosts);
    let plan = Plan {
        nodes: args.nodes / args.hosts,
        every: Duration::from_secs_f64(f64::from(args.hosts) / f64::from(args.claims)),
        registers_of: args.claims / args.registrations.max(1),
    };
    let times = Arc::new(Times::default());
    let (mut starting, mut running) = (JoinSet::new(), JoinSet::new());
    for number in 0..args.hosts {
        let address = address(&args.board, &args.out, number)?;
        let vni = 1 + number / args.hosts_per_network;
        starting.spawn(Member::start(address, number, name(number), vni, plan, Arc::clone(&times)));
        while starting.len() >= AT_ONCE || number + 1 == args.hosts && !starting.is_empty() {
            // It goes on at once: a host without heartbeats is down after a few seconds.
            let member: Member = starting.join_next().await.context("no host starts")???;
            running.spawn(member.run());
        }
    }
    println!("{} hosts with {} nodes run; while they started: {}", running.len(), args.nodes, times.take());

    // Rounds that are not timed: the last hosts have just started.
    tokio::time::sleep(2 * plan.every).await;
    let _ = times.take();
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let figures = times.take();
    println!("{figures}");
    running.shutdown().await;
    println!("{}", figures.to_json(args.hosts, args.nodes, args.seconds));
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    run(&Args::parse()).await
}

//! Good clients of a board beside bad ones. The good ones are hosts that send heartbeats and claims; every answer is checked
//! and timed. The bad ones are processes of their own, of one kind after the other, each as fast as it can.
//!
//!     overload --board http://127.0.0.1:7480 --unix /run/bbs.sock --seconds 3
//!
//! The last line is JSON: `lost_good`, `good_calls`, `good_p99_ms` (of the worst kind), `bad_kinds`, `bad_calls`.

#![allow(clippy::print_stdout, reason = "a tool of the testbed, which prints")]

mod bad;
mod good;

use anyhow::{Context, ensure};
use bad::Kind;
use clap::{Parser, ValueEnum};
use good::Good;
use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};
use stopover_bbs::{client::connect, proto::v1};
use stopover_config::Endpoint;

/// A user that the board does not know.
const STRANGER: u32 = 61_234;

#[derive(Parser)]
struct Args {
    /// The board's endpoint.
    #[arg(long)]
    board: Endpoint,
    /// The board's Unix socket, for a user that it does not know.
    #[arg(long)]
    unix: PathBuf,
    /// How long each kind of bad client runs.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How many good hosts there are.
    #[arg(long, default_value_t = 20)]
    hosts: u32,
    /// Be a bad client of this kind, and print how often it tried.
    #[arg(long)]
    bad: Option<Kind>,
}

/// Runs bad clients of one kind in another process, with less of the CPU than the good ones. Returns how often they tried.
async fn disturb(args: &Args, kind: Kind) -> anyhow::Result<u64> {
    let name = kind.to_possible_value().context("a kind without a name")?.get_name().to_owned();
    let endpoint = if kind == Kind::Denied { Endpoint::Unix(args.unix.clone()) } else { args.board.clone() };
    let mut command = Command::new("nice");
    command.args(["-n", "10"]).arg(std::env::current_exe()?);
    command.args(["--board", &endpoint.to_string(), "--seconds", &args.seconds.to_string(), "--bad", &name]);
    command.arg("--unix").arg(&args.unix).stdout(Stdio::piped());
    if kind == Kind::Denied {
        command.uid(STRANGER);
    }
    let child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let limit = Duration::from_secs(args.seconds + 120);
    let output = tokio::time::timeout(limit, child.wait_with_output()).await.context("it does not end")??;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{name} ended with {}", output.status);
    text.trim().parse().with_context(|| format!("{name}: {text}"))
}

/// Declares so many nodes that a list of them does not fit into the buffers between the board and a client.
async fn preload(board: &Endpoint) -> anyhow::Result<()> {
    const NODES: u32 = 60_000;
    const CHUNK: u32 = 1000;
    let row = |row| v1::Row { row: Some(row), number: 0 };
    let host = v1::HostRow { name: "declared".into(), vteps: vec![vec![10, 3, 0, 1]], udp_port: 4789 };
    let host = v1::LoadRequest {
        key: fastrand::u128(..).to_be_bytes().to_vec(),
        rows: vec![row(v1::row::Row::Host(host))],
        complete: false,
    };
    let chunks = (0..NODES / CHUNK).map(move |chunk| {
        let node = |i: u32| {
            let [a, b, c, d] = (chunk * CHUNK + i).to_be_bytes();
            let (mac, host) = (vec![2, 0xdd, a, b, c, d], "declared".to_owned());
            row(v1::row::Row::Node(v1::NodeRow { vni: 10, mac, host, ..v1::NodeRow::default() }))
        };
        let complete = (chunk + 1) * CHUNK == NODES;
        v1::LoadRequest { key: Vec::new(), rows: (0..CHUNK).map(node).collect(), complete }
    });
    let requests = tokio_stream::iter(std::iter::once(host).chain(chunks));
    let mut steps = connect(board).await?.operator().load(requests).await?.into_inner();
    let mut last = None;
    while let Some(progress) = steps.message().await? {
        last = progress.step;
    }
    ensure!(matches!(last, Some(v1::load_progress::Step::Done(_))), "the first load: {last:?}");
    Ok(())
}

async fn run(args: &Args) -> anyhow::Result<()> {
    preload(&args.board).await?;
    let good = Good::start(&args.board, args.hosts).await?;
    good.run_for(Duration::from_secs(args.seconds)).await;
    let quiet = good.take();
    println!("without bad clients: {quiet}");
    let (mut tried, mut worst) = (Vec::new(), Duration::ZERO);
    for kind in Kind::value_variants() {
        let calls = disturb(args, *kind).await?;
        let figures = good.take();
        println!("{kind:?}: {calls} tries; meanwhile {figures}");
        worst = worst.max(figures.p99);
        tried.push((kind, calls));
    }
    let (calls, lost) = good.finish(&args.board).await?;
    let kinds = tried.iter().filter(|(_, calls)| *calls > 0).count();
    let total: u64 = tried.iter().map(|(_, calls)| calls).sum();
    println!(
        "{{\"lost_good\": {lost}, \"good_calls\": {calls}, \"good_p99_ms\": {:.1}, \"bad_kinds\": {kinds}, \"bad_calls\": {total}}}",
        worst.as_secs_f64() * 1000.0
    );
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.bad {
        Some(kind) => {
            println!("{}", bad::run(kind, &args.board, Duration::from_secs(args.seconds)).await?);
            Ok(())
        }
        None => run(&args).await,
    }
}

//! `stopover-bbs`: the board as a program. It reads its configuration and serves until SIGTERM or SIGINT. On an error it
//! ends with one message and a non-zero status.

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use stopover_bbs::{
    board::Absence,
    server::{Server, ServerConfig},
    store::{Redb, Store},
};
use stopover_config::Endpoint;
use tokio::signal::unix::{SignalKind, signal};

/// The bulletin board: truth about hosts, networks and nodes.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Action>,
    #[command(flatten)]
    serve: Serve,
    #[command(flatten)]
    log: stopover_logging::Options,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a new, empty board: once, before its first start.
    Init(Init),
}

#[derive(Debug, clap::Args)]
struct Init {
    /// Configuration file (RON), whose `store` is made.
    #[arg(value_name = "FILE", required_unless_present = "store")]
    config: Option<PathBuf>,
    /// The store's file, in place of the configuration's.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Configuration file (RON). The other options override it.
    #[arg(value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to serve gRPC: http://ADDRESS:PORT or unix:/PATH. May be repeated.
    #[arg(long, value_name = "ENDPOINT")]
    listen: Vec<Endpoint>,
    /// The store's file, made by `stopover-bbs init`.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Where Prometheus scrapes.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// A host silent for this long is down.
    #[arg(long, alias = "lease-ms", value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(20..=600_000))]
    host_timeout_ms: Option<u64>,
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl Serve {
    fn resolve(self) -> anyhow::Result<(ServerConfig, PathBuf)> {
        let (mut config, mut store) = match &self.config {
            Some(path) => {
                let file = stopover_config::bbs::load(path)?;
                let mut config = ServerConfig::new(file.listen);
                config.metrics = file.metrics;
                config.heartbeat = file.heartbeat;
                config.lease = file.host_timeout;
                config.absence = Absence {
                    flood_grace_ms: millis(file.flood_grace),
                    forget_after_ms: file.forget_after.map_or(0, millis),
                };
                config.history = file.history;
                config.watcher_backlog = file.watcher_backlog;
                (config, Some(file.store))
            }
            None => (ServerConfig::new(Vec::new()), None),
        };
        if !self.listen.is_empty() {
            config.listen = self.listen;
        }
        if let Some(host_timeout_ms) = self.host_timeout_ms {
            config.lease = Duration::from_millis(host_timeout_ms);
            // Several heartbeats must fit into a lease.
            config.heartbeat = config.heartbeat.min(config.lease / 4);
        }
        config.metrics = self.metrics.or(config.metrics);
        store = self.store.or(store);
        if config.listen.is_empty() {
            bail!(
                "nowhere to listen; expected `--listen http://ADDRESS:PORT`, `--listen unix:/PATH` or a configuration FILE"
            );
        }
        let Some(store) = store else {
            bail!("no store; expected `--store FILE` or a configuration FILE");
        };
        Ok((config, store))
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let format = args.log.log_format;
    stopover_logging::init(format);
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            stopover_logging::fatal(format, "stopover-bbs", &e);
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    if let Some(Action::Init(init)) = args.command {
        return init_store(init);
    }
    let (config, store) = args.serve.resolve()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(serve(config, store))
}

fn init_store(init: Init) -> anyhow::Result<()> {
    // The whole file is read, so that a mistake in it is found before the first start.
    let file = init.config.as_deref().map(stopover_config::bbs::load).transpose()?;
    let Some(path) = init.store.or(file.map(|file| file.store)) else {
        bail!("no store; expected a configuration FILE or `--store FILE`");
    };
    let store = Redb::create(&path)?;
    println!("{}: an empty board, {}", path.display(), store.board_id().simple());
    Ok(())
}

async fn serve(config: ServerConfig, store: PathBuf) -> anyhow::Result<()> {
    let store = tokio::task::spawn_blocking(move || Redb::open(&store)).await??;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut server = Server::start(config, Arc::new(store)).await?;
    let failure = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        why = server.failure() => Some(why),
    };
    log::info!("stopping");
    server.stop().await;
    match failure {
        Some(why) => bail!("{why}"),
        None => Ok(()),
    }
}

//! `stopover-bbs`: the board as a program. It reads its configuration and serves until SIGTERM or SIGINT. On an error it
//! ends with one message and a non-zero status.

mod maintain;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use stopover_bbs::{
    board::Absence,
    server::{Server, ServerConfig},
    store::Redb,
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
    Init(maintain::Which),
    /// Copy the store of a running board into a file.
    Backup(maintain::Backup),
    /// Look for damage in a store that no board uses, or in a backup. Changes nothing.
    Check(maintain::Which),
    /// Put a backup in the place of the store. The board must not run.
    Restore(maintain::Restore),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Configuration file (RON). The other options override it.
    #[arg(value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to serve gRPC: https://ADDRESS:PORT, unix:/PATH or http://ADDRESS:PORT. May be repeated.
    #[arg(long, value_name = "ENDPOINT")]
    listen: Vec<Endpoint>,
    /// The folder of the board's credentials, for https.
    #[arg(long, value_name = "FOLDER")]
    tls: Option<PathBuf>,
    /// Permit --listen http://ADDRESS:PORT, where anyone who reaches the port may do anything. [environment:
    /// STOPOVER_INSECURE=1]
    #[arg(long)]
    insecure: bool,
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
        let mut insecure = maintain::is_insecure(self.insecure);
        let (mut config, mut store) = match &self.config {
            Some(path) => {
                let file = stopover_config::bbs::load(path)?;
                let mut config = ServerConfig::new(file.listen);
                config.tls = file.tls;
                config.enrol = file.enrol;
                insecure |= file.insecure;
                config.unix = file.unix;
                config.metrics = file.metrics;
                config.heartbeat = file.heartbeat;
                config.lease = file.host_timeout;
                config.absence = Absence {
                    flood_grace_ms: millis(file.flood_grace),
                    forget_after_ms: file.forget_after.map_or(0, millis),
                };
                config.history = file.history;
                config.watcher_backlog = file.watcher_backlog;
                config.limits = file.limits;
                (config, Some(file.store))
            }
            None => (ServerConfig::new(Vec::new()), None),
        };
        for endpoint in &self.listen {
            endpoint.require_secure("--listen", insecure).map_err(anyhow::Error::msg)?;
        }
        if !self.listen.is_empty() {
            config.listen = self.listen;
        }
        if let Some(host_timeout_ms) = self.host_timeout_ms {
            config.lease = Duration::from_millis(host_timeout_ms);
            // Several heartbeats must fit into a lease.
            config.heartbeat = config.heartbeat.min(config.lease / 4);
        }
        config.tls = self.tls.or(config.tls);
        config.metrics = self.metrics.or(config.metrics);
        store = self.store.or(store);
        if config.listen.is_empty() {
            bail!(
                "nowhere to listen; expected `--listen https://ADDRESS:PORT`, `--listen unix:/PATH` or a configuration FILE"
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
    let _log = stopover_logging::init(format);
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            stopover_logging::fatal(format, "stopover-bbs", &e);
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Some(Action::Init(which)) => return maintain::init(which),
        Some(Action::Backup(backup)) => return maintain::backup(backup),
        Some(Action::Check(which)) => return maintain::check(which),
        Some(Action::Restore(restore)) => return maintain::restore(restore),
        None => {}
    }
    let (config, store) = args.serve.resolve()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(serve(config, store))
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

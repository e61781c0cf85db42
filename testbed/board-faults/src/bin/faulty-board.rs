//! The board on a disk that forgets, with a wall clock that jumps: the board's server and store as `stopover-bbs` has them,
//! and beneath the store a [`Disk`]. Killed, it leaves a file on which some of what was not durable is, and some is not.
//!
//!     faulty-board --listen unix:/run/bbs.sock --store board.redb --seed 7 --wall-clock offset-file
//!
//! `stopover-bbs init` makes the store. The file of the wall clock has the number of seconds by which it is wrong; it is
//! read ten times a second.

use anyhow::Context;
use clap::Parser;
use fastrand::Rng;
use redb::backends::FileBackend;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use stopover_bbs::{
    server::{Server, ServerConfig},
    store::Redb,
};
use stopover_board_faults::disk::Disk;
use stopover_config::Endpoint;
use tokio::signal::unix::{SignalKind, signal};

/// Time between two write-backs, on average.
const WRITE_BACK: Duration = Duration::from_millis(3);

#[derive(Parser)]
struct Args {
    #[arg(long)]
    listen: Vec<Endpoint>,
    #[arg(long)]
    store: PathBuf,
    #[arg(long)]
    metrics: Option<SocketAddr>,
    #[arg(long)]
    history: Option<usize>,
    #[arg(long)]
    watcher_backlog: Option<usize>,
    #[arg(long)]
    host_timeout_ms: Option<u64>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long)]
    wall_clock: Option<PathBuf>,
    #[command(flatten)]
    log: stopover_logging::Options,
}

/// By how many seconds the wall clock is wrong.
static OFFSET_S: AtomicI64 = AtomicI64::new(0);

fn wall_clock() -> SystemTime {
    let offset = OFFSET_S.load(Relaxed);
    let by = Duration::from_secs(offset.unsigned_abs());
    let now = SystemTime::now();
    let jumped = if offset < 0 { now.checked_sub(by) } else { now.checked_add(by) };
    jumped.unwrap_or(now)
}

/// Opens the store on a disk that forgets.
fn open(args: &Args) -> anyhow::Result<Redb> {
    let file = std::fs::File::options().read(true).write(true).open(&args.store);
    let file = file.with_context(|| format!("opening {}", args.store.display()))?;
    let disk = Disk::new(FileBackend::new(file)?)?;
    let (back, random) = (disk.clone(), Rng::with_seed(args.seed));
    std::thread::spawn(move || {
        if let Err(e) = back.write_back(random, WRITE_BACK) {
            log::error!("writing back: {e}");
        }
    });
    Ok(Redb::open_on(disk)?)
}

fn config(args: &Args) -> ServerConfig {
    let mut config = ServerConfig::new(args.listen.clone());
    config.metrics = args.metrics;
    config.history = args.history.unwrap_or(config.history);
    config.watcher_backlog = args.watcher_backlog.unwrap_or(config.watcher_backlog);
    if let Some(lease) = args.host_timeout_ms.map(Duration::from_millis) {
        config.lease = lease;
        config.heartbeat = config.heartbeat.min(lease / 4);
    }
    config.wall_clock = wall_clock;
    config
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let _log = stopover_logging::init(args.log.log_format);
    if let Some(path) = args.wall_clock.clone() {
        std::thread::spawn(move || {
            loop {
                let offset = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                OFFSET_S.store(offset.unwrap_or(0), Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut server = Server::start(config(&args), Arc::new(open(&args)?)).await?;
    let failure = tokio::select! {
        _ = terminate.recv() => None,
        why = server.failure() => Some(why),
    };
    server.stop().await;
    failure.map_or(Ok(()), |why| Err(anyhow::anyhow!(why)))
}

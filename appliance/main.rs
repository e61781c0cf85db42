//! `stopover-appliance`: reads its configuration, starts, runs until SIGTERM or SIGINT, and shuts down. The library
//! does all of this.

use anyhow::{Context, Result};
use clap::Parser;
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use stopover::control::{source::Source, start, take_over::Predecessor};
use stopover_logging::Format;
use tokio::signal::unix::{SignalKind, signal};

/// The Stopover appliance: an L2 overlay gateway for virtual machines, on DPDK.
#[derive(Debug, Parser)]
#[command(version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("STOPOVER_COMMIT"), ")"))]
struct Args {
    /// The configuration file (RON); see docs/configuration.md.
    #[arg(value_name = "FILE")]
    config: PathBuf,
    /// Only check the configuration file, and report what is wrong with it.
    #[arg(long)]
    check: bool,
    /// Take the place of the appliance that runs with this configuration, which then ends. Without one, start as usual.
    #[arg(long, conflicts_with = "check")]
    take_over: bool,
    #[command(flatten)]
    log: stopover_logging::Options,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let format = args.log.log_format;
    let _log = stopover_logging::init(format);
    if format == Format::Json {
        dpdk::log::to_logger();
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            stopover_logging::fatal(format, "stopover-appliance", &e);
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let (mut source, config) = Source::load(&args.config)?;
    if args.check {
        source.overruled().iter().for_each(|line| eprintln!("{line}"));
        start::check(&config, &source).with_context(|| args.config.display().to_string())?;
        start::warnings(&config).iter().for_each(|warning| eprintln!("{warning}"));
        println!("{} is a valid configuration", args.config.display());
        return Ok(());
    }
    source.overruled().iter().for_each(|line| log::warn!("{line}"));
    source.forget_replaced();
    // Before EAL, which pins this thread and all threads that it starts later.
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let stop = Arc::new(AtomicBool::new(false));
    rt.spawn(stop_on_signal(Arc::clone(&stop)));
    let name = config.name.clone();
    let ctl = config.ctl.clone();
    let found = if args.take_over { Predecessor::find(rt.handle(), &config) } else { Ok(None) };
    let started = found.and_then(|found| start::start(config, source, rt.handle(), stop, found));
    let mut control = started.with_context(|| args.config.display().to_string())?;
    if control.forwards() {
        log::info!("{name} is running; ask it with `stopover --ctl {} show port info all`", ctl.display());
    }
    control.run();
    control.shut_down()
}

async fn stop_on_signal(stop: Arc<AtomicBool>) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return log::error!("cannot listen for signals; stop with SIGKILL");
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    stop.store(true, Ordering::Relaxed);
}

//! Disturbs a board and its clients, records what the clients see, and checks that every promise of the board is kept.
//!
//!     watch-check --bbs target/release/stopover-bbs --faulty target/release/faulty-board --minutes 10
//!
//! A part of the test, of some hundred faults, has a board of its own. Writers and watchers run all the time, while the
//! board is killed, its store replaced by a backup, its clocks moved, and connections are cut or not read. After every few
//! faults there is a quiet moment, from which on all watchers must be in step within 5 s. At the end of a part its history
//! is checked. The last line is the result as JSON.

#![allow(clippy::print_stdout, reason = "a tool of the testbed, which prints")]

mod faults;
mod process;
mod recorder;
mod relay;
mod watcher;
mod world;
mod writer;

use anyhow::Context;
use clap::Parser;
use faults::{Mix, Part};
use process::Programs;
use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};
use stopover_board_faults::check::{Kind, check};

/// All must be in step within this time, in milliseconds.
const IN_STEP_MS: u64 = 5_000;

#[derive(Parser)]
struct Args {
    /// The board.
    #[arg(long)]
    bbs: PathBuf,
    /// The board on a disk that forgets.
    #[arg(long)]
    faulty: PathBuf,
    /// Where boards and logs are.
    #[arg(long)]
    dir: PathBuf,
    /// How long to go on.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// End earlier, after so many faults and operations.
    #[arg(long, default_value_t = u64::MAX)]
    faults: u64,
    #[arg(long, default_value_t = 0)]
    operations: u64,
    /// Faults of one part.
    #[arg(long, default_value_t = 150)]
    part: u64,
    /// Faults between two quiet moments.
    #[arg(long, default_value_t = 12)]
    burst: u64,
    /// Which faults.
    #[arg(long, value_enum, default_value_t = Mix::All)]
    mix: Mix,
    /// Nodes that do not change.
    #[arg(long, default_value_t = 300)]
    bulk: u32,
    /// Changes that the board keeps.
    #[arg(long, default_value_t = 200)]
    history: usize,
    #[arg(long)]
    seed: Option<u64>,
}

/// No two nodes ever have the same address.
pub fn next_ip() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0x0b00_0001);
    NEXT.fetch_add(1, Relaxed)
}

/// The sum of all parts.
#[derive(Default)]
struct Figures {
    operations: u64,
    faults: u64,
    kills: u64,
    restores: u64,
    repeats: u64,
    compared: u64,
    unknown: u64,
    violations: u64,
    lost_acks: u64,
    in_step_ms_max: u64,
    parts: u64,
}

impl Figures {
    fn print(&self) {
        let Self { operations, faults, kills, restores, repeats, compared, .. } = self;
        let Self { unknown, violations, lost_acks, in_step_ms_max, parts, .. } = self;
        let in_step_s_max = *in_step_ms_max as f64 / 1000.0;
        println!(
            "{{\"operations\": {operations}, \"faults\": {faults}, \"kills\": {kills}, \"restores\": {restores}, \
             \"repeats\": {repeats}, \"compared\": {compared}, \"not_compared\": {unknown}, \"violations\": {violations}, \
             \"lost_acks\": {lost_acks}, \"in_step_s_max\": {in_step_s_max:.2}, \"parts\": {parts}}}"
        );
    }
}

async fn run(args: Args) -> anyhow::Result<Figures> {
    let (began, limit) = (Instant::now(), Duration::from_secs_f64(args.minutes * 60.0));
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let programs =
        Programs { bbs: args.bbs, faulty: args.faulty, history: args.history, backlog: args.history / 2 };
    let mut figures = Figures::default();
    while began.elapsed() < limit && (figures.faults < args.faults || figures.operations < args.operations) {
        let dir = args.dir.join(format!("part-{}", figures.parts));
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let part = Part {
            dir: dir.clone(),
            faults: args.part.min(args.faults.saturating_sub(figures.faults).max(1)),
            burst: args.burst,
            mix: args.mix,
            bulk: args.bulk,
            seed: seed.wrapping_add(figures.parts),
            until: began + limit,
        };
        let done = part.run(&programs).await?;
        let report = check(&done.history, IN_STEP_MS);
        for violation in report.violations.iter().take(20) {
            println!("part {}: {violation}", figures.parts);
        }
        figures.operations += done.operations;
        figures.faults += done.faults;
        figures.kills += done.kills;
        figures.restores += done.restores;
        figures.repeats += done.repeats;
        figures.compared += report.compared;
        figures.unknown += report.unknown;
        figures.violations += report.violations.len() as u64;
        figures.lost_acks += report.violations.iter().filter(|v| v.kind == Kind::LostWrite).count() as u64;
        figures.in_step_ms_max = figures.in_step_ms_max.max(report.in_step_ms_max);
        figures.parts += 1;
        println!(
            "part {}: {} operations, {} faults, {} states compared, {} not known, {} violations; {:.0} s",
            figures.parts,
            done.operations,
            done.faults,
            report.compared,
            report.unknown,
            report.violations.len(),
            began.elapsed().as_secs_f64()
        );
        if report.violations.is_empty() {
            std::fs::remove_dir_all(&dir)?;
        }
    }
    Ok(figures)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    env_logger::init();
    run(Args::parse()).await?.print();
    Ok(())
}

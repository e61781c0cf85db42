//! A part of the test: a board of its own, its clients, the faults, and the quiet moments between them.

use crate::{
    process::{Board, Programs},
    recorder::HistoryLog,
    relay::{Flow, Relays},
    watcher::{Habit, Watcher},
    world::{World, ask},
    writer::{Writer, prepare},
};
use anyhow::bail;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use stopover_board_faults::history::{History, RunId};
use stopover_net::{HostName, Vni};
use tokio::task::JoinSet;

/// Networks that change.
const NETWORKS: u32 = 4;
/// The network of the nodes that do not.
const BULK: u32 = 100;
/// Writers, and which of them are hosts.
const OPERATORS: u8 = 8;
const HOSTS: u8 = 2;
/// All must be in step within this time, or the part ends: the check says who is late.
const PATIENCE: Duration = Duration::from_secs(15);

/// Which faults there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mix {
    All,
    /// Only the board is killed.
    Kills,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The board is killed and started again.
    Kill,
    /// The same, and while it is started, once more.
    KillStarting,
    /// A backup replaces the store.
    Restore,
    /// Connections are cut.
    Cut,
    /// All are cut, and for a moment none is possible: the history goes on.
    Away,
    /// Clients do not read.
    Slow,
    /// The board stands still: its clocks jump.
    Freeze,
    /// The wall clock jumps.
    WallClock,
}

/// What there is to do.
pub struct Part {
    pub dir: PathBuf,
    pub faults: u64,
    pub burst: u64,
    pub mix: Mix,
    pub bulk: u32,
    pub seed: u64,
    /// No more faults after that.
    pub until: Instant,
}

/// What was done.
pub struct Done {
    pub history: History,
    pub operations: u64,
    pub faults: u64,
    pub kills: u64,
    pub restores: u64,
    pub repeats: u64,
}

struct Running<'a> {
    world: Arc<World>,
    board: Board,
    programs: &'a Programs,
    random: fastrand::Rng,
    mix: Mix,
    /// The run that is served, or was last.
    run: RunId,
    /// When the last fault ended.
    ended_ms: u64,
    kills: u64,
    restores: u64,
}

fn name(text: String) -> anyhow::Result<HostName> {
    Ok(HostName::new(text)?)
}

impl Part {
    pub async fn run(self, programs: &Programs) -> anyhow::Result<Done> {
        let board = Board::new(&self.dir, programs)?;
        let networks = (1..=NETWORKS).map(Vni::new).collect::<Result<_, _>>()?;
        let world = Arc::new(World {
            dir: self.dir.clone(),
            socket: board.socket(),
            recorder: HistoryLog::new(),
            relays: Arc::new(Relays::default()),
            networks,
            stopped: false.into(),
            settling: false.into(),
            held: false.into(),
            repeats: 0.into(),
        });
        let random = fastrand::Rng::with_seed(self.seed);
        let (run, ended_ms, kills, restores) = (0, 0, 0, 0);
        let mix = self.mix;
        let mut running =
            Running { world: world.clone(), board, programs, random, mix, run, ended_ms, kills, restores };
        running.start(None, false).await?;
        let hosts = (0..4).map(|n| name(format!("lx-{n}"))).collect::<Result<Vec<_>, _>>()?;
        prepare(&world, &hosts, (Vni::new(BULK)?, self.bulk)).await?;
        let clients = self.clients(&world, &hosts)?;
        running.quiet().await?;
        let mut faults = 0;
        while faults < self.faults && Instant::now() < self.until {
            for _ in 0..self.burst.min(self.faults - faults) {
                let pause = running.random.u64(20..350);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                running.disturb().await?;
                faults += 1;
            }
            running.quiet().await?;
        }
        running.settle(clients).await?;
        let (kills, restores) = (running.kills, running.restores);
        drop(running);
        let (operations, repeats) = (world.recorder.answered(), world.repeats.load(Relaxed));
        Ok(Done { history: world.recorder.take(), operations, faults, kills, restores, repeats })
    }

    fn clients(&self, world: &Arc<World>, hosts: &[HostName]) -> anyhow::Result<Clients> {
        let (mut writers, mut others) = (JoinSet::new(), JoinSet::new());
        let habits =
            [Habit::Everything, Habit::Everything, Habit::Forgetful, Habit::Some, Habit::Some, Habit::Some];
        for (n, habit) in (0..).zip(habits) {
            others.spawn(Watcher::new(world.clone(), habit, self.seed ^ (n << 8)).observe());
        }
        for n in 0..OPERATORS {
            let host = hosts[usize::from(n) % hosts.len()].clone();
            writers.spawn(Writer::new(world.clone(), n, host, self.seed ^ (u64::from(n) << 16)).operate());
        }
        for n in OPERATORS..OPERATORS + HOSTS {
            let writer =
                Writer::new(world.clone(), n, name(format!("gw-{n}"))?, self.seed ^ (u64::from(n) << 16));
            let watcher = Watcher::new(world.clone(), Habit::Some, self.seed ^ (u64::from(n) << 24));
            others.spawn(writer.serve_host(watcher, [10, 0, 9, n]));
        }
        Ok(Clients { writers, others })
    }
}

struct Clients {
    /// They end when all is settled.
    writers: JoinSet<()>,
    others: JoinSet<()>,
}

impl Running<'_> {
    /// Starts the board, on one of the two kinds of disk, and waits until it serves.
    async fn start(&mut self, before: Option<RunId>, restored: bool) -> anyhow::Result<()> {
        self.ended_ms = self.world.recorder.now_ms();
        let forgetful = self.random.bool();
        self.board.start(self.programs, forgetful, (before, restored), &mut self.random)?;
        let run = self.board.wait_started().await?;
        self.run = run.id;
        self.world.recorder.run(run);
        Ok(())
    }

    async fn disturb(&mut self) -> anyhow::Result<()> {
        let fault = match (self.mix, self.random.u8(0..100)) {
            (Mix::Kills, 0..80) | (Mix::All, 0..16) => Fault::Kill,
            (Mix::Kills, _) | (Mix::All, 16..20) => Fault::KillStarting,
            (Mix::All, 20..25) => Fault::Restore,
            (Mix::All, 25..55) => Fault::Cut,
            (Mix::All, 55..65) => Fault::Away,
            (Mix::All, 65..80) => Fault::Slow,
            (Mix::All, 80..90) => Fault::Freeze,
            (Mix::All, _) => Fault::WallClock,
        };
        let (relays, pause) = (self.world.relays.clone(), Duration::from_millis(self.random.u64(100..700)));
        let chance = self.random.f64() * 0.6;
        match fault {
            Fault::Kill => return self.kill(false).await,
            Fault::KillStarting => return self.kill(true).await,
            Fault::Restore => {
                let restored = self.restore().await;
                // The next one is of a board that runs, while everyone writes.
                self.board.back_up(self.run, self.programs, true).await?;
                self.ended_ms = self.world.recorder.now_ms();
                return restored;
            }
            Fault::Cut => relays.disturb(chance, &mut self.random, Flow::Cut),
            Fault::Away => {
                self.world.held.store(true, Relaxed);
                // Writers go on, so that the history leaves the others behind.
                relays.disturb(chance, &mut self.random, Flow::Cut);
                tokio::time::sleep(pause).await;
                self.world.held.store(false, Relaxed);
            }
            Fault::Slow => {
                relays.disturb(chance, &mut self.random, Flow::Hold);
                tokio::time::sleep(pause).await;
                relays.disturb(1.0, &mut self.random, Flow::Pass);
            }
            Fault::Freeze => {
                self.board.signal("STOP");
                tokio::time::sleep(pause).await;
                self.board.signal("CONT");
            }
            Fault::WallClock => self.board.set_wall_clock(self.random.i64(-100_000..100_000))?,
        }
        self.ended_ms = self.world.recorder.now_ms();
        Ok(())
    }

    async fn kill(&mut self, while_starting: bool) -> anyhow::Result<()> {
        self.kills += 1;
        self.board.kill();
        if self.mix == Mix::All && self.random.u8(0..3) == 0 {
            self.board.back_up(self.run, self.programs, false).await?;
        }
        let before = self.run;
        if while_starting {
            self.kills += 1;
            let forgetful = self.random.bool();
            self.board.start(self.programs, forgetful, (Some(before), false), &mut self.random)?;
            let pause = self.random.u64(1..60);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.board.kill();
            // It may have come as far as to serve.
            if let Some(run) = self.board.known_run() {
                self.run = run.id;
                self.world.recorder.run(run);
            }
        }
        let before = self.run;
        self.start(Some(before), false).await
    }

    async fn restore(&mut self) -> anyhow::Result<()> {
        self.board.kill();
        self.kills += 1;
        match self.board.restore(self.programs, &mut self.random).await? {
            Some(before) => {
                self.restores += 1;
                self.start(Some(before), true).await
            }
            None => {
                let before = self.run;
                self.start(Some(before), false).await
            }
        }
    }

    /// A quiet moment: waits until all are in step with what the board had when it first answered.
    async fn quiet(&mut self) -> anyhow::Result<()> {
        let at_ms = self.ended_ms;
        let began = Instant::now();
        let (run, revision) = loop {
            if let Some(found) = ask(&self.world.socket).await {
                break found;
            }
            if began.elapsed() > PATIENCE {
                bail!("the board does not answer; see {}", self.world.dir.join("board.log").display());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        self.world.recorder.quiet(at_ms, run, revision);
        while !self.world.recorder.all_have(run, revision) && began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Every request gets an answer; then all must be in step with the last revision.
    async fn settle(&mut self, clients: Clients) -> anyhow::Result<()> {
        let Clients { mut writers, mut others } = clients;
        self.world.settling.store(true, Relaxed);
        let settled = async { while writers.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, settled).await.is_err() {
            bail!("requests get no answer; see {}", self.world.dir.join("board.log").display());
        }
        // The hosts settle, too.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.ended_ms = self.world.recorder.now_ms();
        self.quiet().await?;
        self.world.stopped.store(true, Relaxed);
        others.abort_all();
        while others.join_next().await.is_some() {}
        self.board.kill();
        Ok(())
    }
}

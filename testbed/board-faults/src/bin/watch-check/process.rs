//! The board's process: started, killed, stopped for a moment, and its store replaced by a backup.

use anyhow::{Context, bail};
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use stopover_bbs::model::Uuid;
use stopover_board_faults::history::{Run, RunId};

/// A board that does not serve within this time does not start without help.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// The programs and how they are started.
pub struct Programs {
    pub bbs: PathBuf,
    pub faulty: PathBuf,
    pub history: usize,
    pub backlog: usize,
}

/// The board of a test.
pub struct Board {
    dir: PathBuf,
    child: Option<Child>,
    /// Reads its log, to the end.
    log: Option<std::thread::JoinHandle<()>>,
    /// The last run that the log names.
    run: Arc<Mutex<Option<Run>>>,
    /// Copies of the store, with the run that left each.
    backups: Vec<(PathBuf, RunId)>,
    /// How many were made.
    made: usize,
}

/// Backups that are kept.
const BACKUPS: usize = 3;

fn must_succeed(output: std::process::Output) -> anyhow::Result<()> {
    if !output.status.success() {
        bail!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Finds run and revision in `board ID, run N (RUN), at revision R: …`.
fn parse_start(line: &str) -> Option<(RunId, u64)> {
    let (_, rest) = line.split_once(", run ")?;
    let (_, rest) = rest.split_once('(')?;
    let (run, rest) = rest.split_once("), at revision ")?;
    let (revision, _) = rest.split_once(':')?;
    Some((Uuid::parse_str(run).ok()?.as_u128(), revision.parse().ok()?))
}

/// A program that ends with this one, however that ends.
fn ending_with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

impl Board {
    /// Makes the store of a new board.
    pub fn new(dir: &Path, programs: &Programs) -> anyhow::Result<Self> {
        let board = Self {
            dir: dir.to_owned(),
            child: None,
            log: None,
            run: Arc::default(),
            backups: Vec::new(),
            made: 0,
        };
        let made = Command::new(&programs.bbs).args(["init", "--store"]).arg(board.store()).output()?;
        if !made.status.success() {
            bail!("init: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(board)
    }

    fn store(&self) -> PathBuf {
        self.dir.join("board.redb")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("bbs.sock")
    }

    fn last(&self) -> Option<Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The runs whose start the log has told since the last call.
    pub fn known_run(&self) -> Option<Run> {
        self.last()
    }

    /// Starts it, without waiting. `forgetful`: on a disk that forgets.
    pub fn start(
        &mut self,
        programs: &Programs,
        forgetful: bool,
        before: (Option<RunId>, bool),
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<()> {
        let mut command = if forgetful {
            let mut command = ending_with_us(&programs.faulty);
            command.args(["--history", &programs.history.to_string()]);
            command.args(["--watcher-backlog", &programs.backlog.to_string()]);
            command.args([
                "--host-timeout-ms",
                "20000",
                "--seed",
                &random.u64(..).to_string(),
                "--wall-clock",
            ]);
            command.arg(self.dir.join("wall-clock"));
            command.arg("--listen").arg(format!("unix:{}", self.socket().display()));
            command.arg("--store").arg(self.store());
            command
        } else {
            let config = self.dir.join("bbs.ron");
            let (socket, store) = (self.socket(), self.store());
            let text = format!(
                "(listen: [\"unix:{}\"], store: {store:?}, history: {}, watcher_backlog: {}, host_timeout_ms: 20000)\n",
                socket.display(),
                programs.history,
                programs.backlog
            );
            std::fs::write(&config, text)?;
            let mut command = ending_with_us(&programs.bbs);
            command.arg(config);
            command
        };
        let log = "warn,stopover_bbs::server::engine=info,stopover_bbs::server::watch=error";
        let mut child =
            command.env("RUST_LOG", log).stderr(Stdio::piped()).spawn().context("starting a board")?;
        let stderr = child.stderr.take().context("its log")?;
        let (run, path) = (self.run.clone(), self.dir.join("board.log"));
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.log = Some(std::thread::spawn(move || {
            let mut log = std::fs::File::options().create(true).append(true).open(path).ok();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((id, first)) = parse_start(&line) {
                    let started = Run { id, before: before.0, restored: before.1, first };
                    *run.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
                }
                if let Some(log) = &mut log
                    && (!line.contains(" [by ") || line.contains("lineage"))
                {
                    // For whoever looks for a fault; the test goes on without.
                    let _ = std::io::Write::write_all(log, format!("{line}\n").as_bytes());
                }
            }
        }));
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it has begun to serve. Returns the run.
    pub async fn wait_started(&mut self) -> anyhow::Result<Run> {
        let began = Instant::now();
        loop {
            if let Some(run) = self.last() {
                return Ok(run);
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                bail!(
                    "the board did not start without help: {status}; see {}",
                    self.dir.join("board.log").display()
                );
            }
            if began.elapsed() > STARTS_WITHIN {
                bail!("the board has not started within {} s", STARTS_WITHIN.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(log) = self.log.take() {
            // What it has told before it was killed.
            let _ = log.join();
        }
    }

    /// Stops the process, or lets it continue: for it, the clocks jump.
    pub fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            let _ = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
        }
    }

    /// By how many seconds the wall clock of a faulty board is wrong.
    pub fn set_wall_clock(&self, offset_s: i64) -> std::io::Result<()> {
        let (path, new) = (self.dir.join("wall-clock"), self.dir.join("wall-clock.new"));
        std::fs::write(&new, offset_s.to_string())?;
        std::fs::rename(new, path)
    }

    /// Keeps a copy of the store: of the file, which no process has open, or from the board while it runs.
    pub async fn back_up(&mut self, run: RunId, programs: &Programs, online: bool) -> anyhow::Result<()> {
        let path = self.dir.join(format!("backup-{}.redb", self.made));
        self.made += 1;
        if online {
            let mut backup = tokio::process::Command::new(&programs.bbs);
            backup.arg("backup").arg("--board").arg(format!("unix:{}", self.socket().display()));
            must_succeed(backup.arg("--to").arg(&path).output().await?)?;
        } else {
            std::fs::copy(self.store(), &path)?;
        }
        self.backups.push((path, run));
        if self.backups.len() > BACKUPS {
            std::fs::remove_file(self.backups.remove(0).0)?;
        }
        Ok(())
    }

    /// Puts a backup in the place of the store. Returns the run of which it is.
    pub async fn restore(
        &mut self,
        programs: &Programs,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Option<RunId>> {
        let which = random.usize(0..self.backups.len().max(1));
        // Later ones are of a branch that is given up: nobody will ever know which of its last writes were made.
        self.backups.truncate(which + 1);
        let Some((path, run)) = self.backups.get(which) else { return Ok(None) };
        if random.bool() {
            std::fs::copy(path, self.store())?;
        } else {
            let mut restore = tokio::process::Command::new(&programs.bbs);
            restore.args(["restore", "--replace", "--from"]).arg(path).arg("--store").arg(self.store());
            must_succeed(restore.output().await?)?;
        }
        Ok(Some(*run))
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.kill();
    }
}

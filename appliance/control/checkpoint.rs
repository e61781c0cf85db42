//! Checkpoints: what is forwarded by, in a file, so that a start does not need the board. Enters: the replica and the
//! tables, after they have changed; at the start the file. Leaves: the file; at the start the tables, and the state from
//! which the session with the board continues. `walk` reads the tables a piece at a time, `writer` writes.

pub(super) mod walk;
mod writer;

use super::{Control, replica::Replica};
use anyhow::Result;
use crossbeam::channel::Receiver;
use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};
use stopover_bbs::client::{Checkpoint, CheckpointHead, CheckpointPiece, Point, parse_checkpoint};
use stopover_config::appliance::Truth;
use stopover_ctl::CheckpointState;
use stopover_net::HostName;
use walk::{State, Walk};
use writer::{Order, Writer};

/// A checkpoint of an unchanged state is written again after this time, with the revision that it has then.
const REFRESH_MS: u64 = 60_000;
/// The writing takes at most one part in so many of the time.
const PAUSE: u64 = 20;
/// The last one, at the end of the program, is given up after this time.
const LAST: Duration = Duration::from_secs(2);
/// While the disk is slower than the walk.
const SLOW_DISK_MS: u64 = 20;
/// With a checkpoint that is older than this, the start waits for the board, but only so long.
const OLD: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(5));

/// When what was written.
#[derive(Debug, Clone, Copy)]
struct Written {
    point: Point,
    unix_ms: u64,
    version: u64,
    at_ms: u64,
}

/// When a walk began.
#[derive(Debug, Clone, Copy, Default)]
struct Began {
    at_ms: u64,
    unix_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Checkpoints {
    path: Option<PathBuf>,
    every_ms: u64,
    writer: Writer,
    walk: Option<Walk>,
    began: Began,
    /// What the writer has no room for.
    waiting: Option<Order>,
    /// Ended, but the writer has not said how.
    ending: Option<Written>,
    written: Option<Written>,
    next_ms: u64,
    failure: Option<String>,
}

impl Checkpoints {
    /// `path`: where; `None`: nowhere.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(path: Option<PathBuf>, every_s: u64) -> Result<Self> {
        Ok(Self {
            path,
            every_ms: every_s * 1000,
            writer: Writer::start()?,
            walk: None,
            began: Began::default(),
            waiting: None,
            ending: None,
            written: None,
            next_ms: 0,
            failure: None,
        })
    }

    /// The path, unless there are to be no checkpoints.
    fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref().filter(|_| self.every_ms > 0)
    }

    /// How often from now on. With 0 there is no file any more: an old one would be started with one day.
    pub fn set_every(&mut self, every_s: u64) {
        self.every_ms = every_s * 1000;
        self.next_ms = 0;
        if self.every_ms == 0 {
            self.give_up();
            (self.written, self.failure) = (None, None);
            self.remove_file();
        }
    }

    fn remove_file(&self) {
        let Some(path) = &self.path else { return };
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                log::warn!("{}: cannot be removed: {e}", path.display());
            }
            _ => {}
        }
    }

    /// Ends a walk under way without a file.
    fn give_up(&mut self) {
        self.walk = None;
        self.waiting.take_if(|order| !matches!(order, Order::End));
    }

    /// The latest; `None` = none yet.
    #[must_use]
    pub fn latest(&self) -> Option<CheckpointState> {
        let state = |w: Written| CheckpointState { revision: w.point.revision, unix_ms: w.unix_ms };
        self.written.map(state)
    }

    /// Why the last one could not; `None` = it could.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The results of the writer.
    #[must_use]
    pub const fn done(&self) -> &Receiver<io::Result<()>> {
        self.writer.done()
    }

    /// When there is something to do, if nothing happens before.
    #[must_use]
    pub fn next_timeout(&self, now_ms: u64) -> Option<u64> {
        self.path()?;
        let next_ms = match (&self.waiting, &self.walk) {
            (Some(_), _) => now_ms + SLOW_DISK_MS,
            (None, Some(_)) => now_ms,
            (None, None) => self.next_ms.max(now_ms + 1),
        };
        Some(next_ms).filter(|_| self.waiting.is_some() || self.ending.is_none())
    }

    /// Nothing is being written.
    pub(super) const fn is_idle(&self) -> bool {
        self.walk.is_none() && self.waiting.is_none() && self.ending.is_none()
    }

    /// Does a piece of the work. `point`: the state of the board that is walked through; `None`: it is not whole, or not
    /// the board's. A walk is given up when that begins anew.
    pub(super) fn step(&mut self, now_ms: u64, host: &HostName, point: Option<Point>, state: State<'_>) {
        while let Some(result) = self.writer.result() {
            self.on_done(now_ms, result);
        }
        if let Some(order) = self.waiting.take() {
            self.waiting = self.writer.order(order);
        }
        if self.waiting.is_some() || self.ending.is_some() {
            return;
        }
        let order = match self.walk.take() {
            None => self.begin(now_ms, host, point, state),
            Some(walk)
                if point.is_none_or(|now| (now.board, now.run) != (walk.point.board, walk.point.run)) =>
            {
                None
            }
            Some(mut walk) => match walk.piece(state) {
                Some(piece) => {
                    self.walk = Some(walk);
                    Some(Order::Piece(piece))
                }
                None => Some(self.end(now_ms, &walk)),
            },
        };
        self.waiting = order.and_then(|order| self.writer.order(order));
    }

    /// Begins, if there is something new and it is time.
    fn begin(
        &mut self,
        now_ms: u64,
        host: &HostName,
        point: Option<Point>,
        state: State<'_>,
    ) -> Option<Order> {
        let path = self.path().filter(|_| now_ms >= self.next_ms)?.clone();
        self.next_ms = now_ms + self.every_ms;
        let holds = point?;
        let is_new = |written: Written| {
            let is_old = now_ms >= written.at_ms + REFRESH_MS && written.point != holds;
            written.version != state.version() || is_old
        };
        if !self.written.is_none_or(is_new) {
            return None;
        }
        let unix_ms = unix_ms();
        self.began = Began { at_ms: now_ms, unix_ms };
        self.walk = Some(Walk::new(holds, state));
        let networks = state.replica.networks().map(|(vni, _)| vni).collect();
        let head = CheckpointHead { host: host.clone(), holds, networks, written_unix_ms: unix_ms };
        Some(Order::Begin(path, head))
    }

    fn end(&mut self, now_ms: u64, walk: &Walk) -> Order {
        let Began { at_ms, unix_ms } = self.began;
        self.next_ms = now_ms + self.every_ms.max((now_ms - at_ms) * PAUSE);
        self.ending = Some(Written { point: walk.point, unix_ms, version: walk.version, at_ms: now_ms });
        Order::End
    }

    /// Waits until the writer can continue, or is done.
    fn await_writer(&mut self, now_ms: u64, until: Instant) {
        if let Some(order) = self.waiting.take() {
            self.waiting = self.writer.order_by(order, until);
        } else if self.ending.is_some()
            && let Some(result) = self.writer.result_by(until)
        {
            self.on_done(now_ms, result);
        }
    }

    /// The writer has written a file, or could not.
    fn on_done(&mut self, now_ms: u64, result: io::Result<()>) {
        let ending = self.ending.take();
        let path = self.path.as_deref().unwrap_or(Path::new("")).display();
        match result {
            Ok(()) => {
                if self.failure.take().is_some() {
                    log::info!("{path}: checkpoints can be written again");
                }
                self.written = ending;
            }
            Err(e) => {
                let why = e.to_string();
                if self.failure.as_ref() != Some(&why) {
                    log::error!(
                        "{path}: cannot be written: {why}; expected a folder that may be written, with room. A start \
                         without the board would be from an older checkpoint, or wait"
                    );
                }
                self.failure = Some(why);
                self.next_ms = now_ms + self.every_ms;
            }
        }
    }
}

/// What a start has begun with.
#[derive(Debug, Clone, Copy)]
pub struct Restored {
    /// The state, in part perhaps of a later one.
    pub point: Point,
    /// Since it was written.
    age: Duration,
}

impl Restored {
    /// The start is to wait for the board.
    #[must_use]
    pub fn is_old(self) -> bool {
        self.age > OLD.0
    }
}

impl Control {
    /// Writes a piece of a checkpoint, if one is due.
    pub(super) fn write_checkpoint(&mut self, now_ms: u64) {
        let point = self.board.point().filter(|_| self.replica.is_whole());
        let state = State { replica: &self.replica, tables: &self.tables, stations: &self.stations };
        self.checkpoints.step(now_ms, &self.config.name, point, state);
    }

    /// Writes what has changed since the last one, unless it takes too long. Nothing changes any more meanwhile.
    pub(super) fn write_last_checkpoint(&mut self) {
        let until = Instant::now() + LAST;
        self.checkpoints.give_up();
        self.checkpoints.next_ms = 0;
        while Instant::now() < until {
            let now_ms = self.now_ms();
            self.write_checkpoint(now_ms);
            if self.checkpoints.is_idle() {
                break;
            }
            self.checkpoints.await_writer(now_ms, until);
        }
    }

    /// Fills the tables from the checkpoint, if there is one that can be used.
    pub(super) fn restore_checkpoint(&mut self) -> Option<Restored> {
        let Some(path) = self.checkpoints.path() else {
            self.checkpoints.remove_file();
            return None;
        };
        if !matches!(self.config.truth, Truth::Board(_)) {
            return None;
        }
        let checkpoint = match std::fs::read(path) {
            Ok(bytes) => parse_checkpoint(&bytes).map_err(|e| e.to_string()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => Err(e.to_string()),
        };
        let ours = |checkpoint: Checkpoint| match &checkpoint.head.host {
            host if *host == self.config.name => Ok(checkpoint),
            host => Err(format!("it is of host {host}; expected {}", self.config.name)),
        };
        match checkpoint.and_then(ours) {
            Ok(checkpoint) => Some(self.restore(checkpoint)),
            Err(why) => {
                log::warn!("{}: not used: {why}. The start waits for the board", path.display());
                None
            }
        }
    }

    fn restore(&mut self, Checkpoint { head, pieces }: Checkpoint) -> Restored {
        let (now_ms, revision) = (self.now_ms(), head.holds.revision);
        self.replica.begin_snapshot(&mut self.tables, false);
        for CheckpointPiece { changes, nodes } in pieces {
            self.apply_changes(now_ms, revision, changes);
            nodes.iter().for_each(|batch| self.apply_nodes(now_ms, batch));
        }
        let effects = self.with_replica(Replica::end_snapshot);
        self.execute_or_log(now_ms, effects);
        self.board.restore(revision);
        self.publish();
        let age = Duration::from_millis(unix_ms().saturating_sub(head.written_unix_ms));
        log::warn!(
            "starts with the checkpoint of revision {revision}: {} nodes, as they were {} s ago. It is stale until the \
             board has confirmed it",
            self.tables.len(),
            age.as_secs()
        );
        let missing = self.replica.networks().filter(|(vni, _)| !head.networks.contains(vni));
        let missing: Vec<String> = missing.map(|(vni, _)| vni.to_string()).collect();
        if !missing.is_empty() {
            log::warn!(
                "the checkpoint has nothing of VNI {}: there only local ports reach each other until the board answers",
                missing.join(", ")
            );
        }
        Restored { point: head.holds, age }
    }

    /// With an old checkpoint waits for the board, but not for long. Returns false if it is stopped.
    pub(super) fn await_board(&mut self, restored: Option<Restored>) -> bool {
        let (_, longest) = OLD;
        let until = Instant::now() + longest;
        let is_old = restored.is_some_and(Restored::is_old);
        while is_old && self.board.is_stale() && Instant::now() < until {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            self.wait();
            self.apply_updates(self.now_ms());
            self.publish();
        }
        true
    }
}

fn unix_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_millis() as u64)
}

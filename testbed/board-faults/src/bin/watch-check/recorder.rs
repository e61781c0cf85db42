//! The history while it happens. Enters: what writers and watchers report. Leaves: the history, and how far each watcher is.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use stopover_board_faults::history::{Answer, Effect, History, Quiet, Record, Run, RunId, Seen, Write};

/// See the module.
pub struct HistoryLog {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    history: History,
    /// How far each watcher is, on which run.
    positions: Vec<(RunId, u64)>,
    answered: u64,
}

impl HistoryLog {
    pub fn new() -> Self {
        Self { began: Instant::now(), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the history began.
    pub fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    pub fn run(&self, run: Run) {
        self.lock().history.runs.push(run);
    }

    /// A write is about to be sent; its number.
    pub fn write(&self, effect: Effect) -> usize {
        let writes = &mut self.lock().history.writes;
        writes.push(Write { effect, answers: Vec::new() });
        writes.len() - 1
    }

    pub fn answer(&self, write: usize, run: RunId, revision: Option<u64>) {
        let mut inner = self.lock();
        if let Some(write) = inner.history.writes.get_mut(write) {
            write.answers.push(Answer { run, revision });
        }
        inner.answered += u64::from(revision.is_some());
    }

    /// Writes that were made, so far.
    pub fn answered(&self) -> u64 {
        self.lock().answered
    }

    /// There is one more watcher; its number.
    pub fn watcher(&self) -> usize {
        let mut inner = self.lock();
        inner.history.watchers.push(Vec::new());
        inner.positions.push((0, 0));
        inner.positions.len() - 1
    }

    pub fn seen(&self, watcher: usize, seen: Seen) {
        let at_ms = self.now_ms();
        let mut inner = self.lock();
        if let Some(position) = inner.positions.get_mut(watcher) {
            match &seen {
                Seen::Opened { .. } => *position = (0, 0),
                Seen::Begin(run, _) => *position = (*run, 0),
                Seen::Resumed(run, revision) => *position = (*run, *revision),
                Seen::End(revision)
                | Seen::Delta(revision, _)
                | Seen::Progress(revision)
                | Seen::Scope { revision, .. } => position.1 = *revision,
                Seen::Piece(_) | Seen::Nodes(_) => {}
            }
        }
        if let Some(records) = inner.history.watchers.get_mut(watcher) {
            records.push(Record { at_ms, seen });
        }
    }

    /// From `at_ms` on nothing disturbs anyone.
    pub fn quiet(&self, at_ms: u64, run: RunId, revision: u64) {
        self.lock().history.quiets.push(Quiet { at_ms, run, revision });
    }

    /// Whether all watchers have this revision of this run.
    pub fn all_have(&self, run: RunId, revision: u64) -> bool {
        self.lock().positions.iter().all(|(on, at)| *on == run && *at >= revision)
    }

    pub fn take(&self) -> History {
        std::mem::take(&mut self.lock().history)
    }
}

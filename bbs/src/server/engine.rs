//! The only thread that changes the board. It takes all queued calls, applies them, writes them in one transaction, and
//! only then answers and publishes. So a crash cannot undo what a client has seen or what was acknowledged, and a busy
//! board shares each fsync among many calls. If the store limits transactions, the calls are written in several, each of
//! whole calls; one that does not fit alone is refused.

use super::{
    history::History,
    metrics::Metrics,
    read_only::ReadOnly,
    restore::restore,
    turns::{self, Queue},
    writer::{Failure, Writer},
};
use crate::{
    board::{
        Absence, Applied, Board, Command, Key, Lineage, Now, Outcome, Refusal, Settings, UNNAMED,
        record::Commit,
    },
    model::{Event, EventKind},
    store::{Store, StoreError},
    table::{Limits, Write},
};
use log::Level;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};
use stopover_config::bbs::{Exceeded, Limit};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Most calls of one transaction.
const BATCH: usize = 1024;
/// Most calls of one caller in it, so that the others do not wait for a flood to be written.
const EACH: usize = 64;

type Answer = Result<Outcome, Refusal>;
type Query = Box<dyn FnOnce(&Board) + Send>;

enum Job {
    Apply {
        by: String,
        key: Option<Key>,
        command: Box<Command>,
        answer: oneshot::Sender<Answer>,
        progress: Option<mpsc::UnboundedSender<u64>>,
    },
    Query(Query),
    Tick,
}

/// Why a call got no answer of the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The board has stopped: it is shutting down, or its store failed.
    Stopped,
    /// The caller has as many calls waiting as it may.
    Exceeded(Exceeded),
}

/// Closes the queue when the last handle is dropped.
struct Jobs(Arc<Queue<Job>>);

impl Drop for Jobs {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Handle to the thread. The thread ends after the last clone is dropped.
#[derive(Clone)]
pub struct Engine {
    jobs: Arc<Jobs>,
    per_caller: u64,
}

/// What the rest of the server shares with the thread.
pub struct Started {
    /// The handle.
    pub engine: Engine,
    /// The published commits.
    pub history: Arc<History>,
    /// The store's history, including this run.
    pub lineage: Arc<Lineage>,
    /// New events.
    pub events: broadcast::Sender<Event>,
    /// Completed migrations that wait for acknowledgements.
    pub barriers: Arc<AtomicUsize>,
    /// Set after the store has failed or another board writes to it; the board cannot change any more.
    pub failed: watch::Receiver<Option<String>>,
    /// Why the board takes no writes now, if it does not.
    pub read_only: watch::Receiver<Option<String>>,
    /// The thread.
    pub thread: std::thread::JoinHandle<()>,
}

/// Begins a term, reads the store and starts the thread. Must be called within a runtime, which drives its clock.
pub fn start(
    store: Arc<dyn Store>,
    lease: Duration,
    keep_changes: usize,
    absence: Absence,
    metrics: Arc<Metrics>,
    wall_clock: fn() -> SystemTime,
    quotas: stopover_config::bbs::Limits,
) -> Result<Started, Failure> {
    let writer = Writer::begin(store.clone())?;
    let (run, limits) = (writer.run()?, writer.limits());
    let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
    let lineage = Arc::new(writer.lineage()?);
    let settings = Settings { run, lease_ms, keep_changes, absence, limits };
    let (mut board, unreadable) = restore(&*store.view()?, settings)?;
    board.set_lineage(lineage.clone());
    board.set_quotas(quotas);
    let counts = board.counts();
    log::info!(
        "board {}, run {run} ({}), at revision {}: {} hosts, {} networks, {} nodes",
        store.board_id().simple(),
        lineage.run().unwrap_or_default().simple(),
        board.revision(),
        counts.hosts,
        counts.networks,
        counts.nodes
    );
    metrics.set_counts(counts, board.revision());
    let history = Arc::new(History::new(board.revision(), keep_changes));
    let per_caller = quotas.queued_per_caller;
    let queue = Arc::new(Queue::new(usize::try_from(per_caller).unwrap_or(usize::MAX)));
    let engine = Engine { jobs: Arc::new(Jobs(queue.clone())), per_caller };
    let (events, _) = broadcast::channel(1024);
    let (failed_tx, failed) = watch::channel(None);
    let barriers = Arc::new(AtomicUsize::new(board.open_barriers()));
    let guard = ReadOnly::new(&unreadable);
    let read_only = guard.subscribe();
    let worker = Worker {
        store,
        read_only: guard,
        barriers: barriers.clone(),
        board,
        writer,
        history: history.clone(),
        events: events.clone(),
        failed: failed_tx,
        metrics,
        clock: Clock::new(lease, wall_clock),
    };
    let thread = std::thread::Builder::new()
        .name("board".into())
        .spawn(move || worker.run(&queue))
        .map_err(|e| StoreError::new("starting its thread", e))?;
    tokio::spawn(tick(
        Arc::downgrade(&engine.jobs),
        (lease / 8).clamp(Duration::from_millis(10), Duration::from_millis(200)),
    ));
    Ok(Started { engine, history, lineage, events, barriers, failed, read_only, thread })
}

async fn tick(jobs: Weak<Jobs>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let Some(jobs) = jobs.upgrade() else { return };
        if jobs.0.push_first(Job::Tick).is_err() {
            return;
        }
    }
}

impl Engine {
    /// Executes a command of the board itself, or of an operator without a name. Returns when the result is durable.
    pub async fn apply(&self, key: Option<Key>, command: Command) -> Result<Answer, Unanswered> {
        let (answer, result) = oneshot::channel();
        let command = Box::new(command);
        let job = Job::Apply { by: UNNAMED.to_owned(), key, command, answer, progress: None };
        self.jobs.0.push_first(job).map_err(|_| Unanswered::Stopped)?;
        result.await.map_err(|_| Unanswered::Stopped)
    }

    fn push(&self, caller: &str, job: Job) -> Result<(), Unanswered> {
        self.jobs.0.push(caller, job).map_err(|refused| match refused {
            turns::Refused::Closed => Unanswered::Stopped,
            turns::Refused::Full => Unanswered::Exceeded(Exceeded {
                limit: Limit::QueuedPerCaller,
                found: self.per_caller + 1,
                most: self.per_caller,
            }),
        })
    }

    /// Executes a command of `by`, a role and a name, in the turn of `caller`. `progress` receives how many records are
    /// written.
    pub async fn apply_by(
        &self,
        caller: &str,
        by: String,
        key: Option<Key>,
        command: Command,
        progress: Option<mpsc::UnboundedSender<u64>>,
    ) -> Result<Answer, Unanswered> {
        let (answer, result) = oneshot::channel();
        self.push(caller, Job::Apply { by, key, command: Box::new(command), answer, progress })?;
        result.await.map_err(|_| Unanswered::Stopped)
    }

    /// Reads from the board, between transactions: the result is durable.
    pub async fn query<T: Send + 'static>(
        &self,
        caller: &str,
        query: impl FnOnce(&Board) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let (tx, rx) = oneshot::channel();
        let job = Box::new(move |board: &Board| {
            // The caller may have been dropped.
            let _ = tx.send(query(board));
        });
        self.push(caller, Job::Query(job))?;
        rx.await.map_err(|_| Unanswered::Stopped)
    }
}

/// Two clocks: the wall clock for display, and the lease clock, which counts only time in which calls are received. So a
/// heartbeat is not late that waits behind a large load, or while the machine is suspended.
struct Clock {
    last: Instant,
    lease: Duration,
    stall: Duration,
    wall: fn() -> SystemTime,
}

impl Clock {
    fn new(lease: Duration, wall: fn() -> SystemTime) -> Self {
        let stall = (lease / 4).min(Duration::from_millis(500));
        Self { last: Instant::now(), lease: Duration::ZERO, stall, wall }
    }

    /// The time now; on the lease clock, none has passed unless it `passes`.
    fn now(&mut self, passes: bool) -> Now {
        let now = Instant::now();
        if passes {
            self.lease += (now - self.last).min(self.stall);
        }
        self.last = now;
        let unix = (self.wall)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { unix_ms: unix.as_millis() as u64, lease_ms: self.lease.as_millis() as u64 }
    }
}

struct Worker {
    store: Arc<dyn Store>,
    read_only: ReadOnly,
    barriers: Arc<AtomicUsize>,
    board: Board,
    writer: Writer,
    history: Arc<History>,
    events: broadcast::Sender<Event>,
    failed: watch::Sender<Option<String>>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// The content of one transaction.
#[derive(Default)]
struct Batch {
    /// The board's, after it.
    revision: u64,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    commits: Vec<Commit>,
    writes: Vec<Write>,
    bytes: usize,
    events: Vec<Event>,
    progress: Vec<mpsc::UnboundedSender<u64>>,
}

impl Batch {
    fn has_room(&self, limits: &Limits, writes: usize, bytes: usize) -> bool {
        self.writes.len() + writes <= limits.writes && self.bytes.saturating_add(bytes) <= limits.bytes
    }
}

/// Ends calls that are queued without an answer, and takes no more.
fn end_calls(queue: &Queue<Job>) {
    queue.close();
    while !queue.take(BATCH, BATCH).is_empty() {}
}

impl Worker {
    fn run(mut self, queue: &Queue<Job>) {
        loop {
            let jobs = queue.take(BATCH, EACH);
            if jobs.is_empty() {
                return;
            }
            if let Err(e) = self.execute(jobs) {
                log::error!("{e}");
                self.failed.send_replace(Some(e.to_string()));
                return end_calls(queue);
            }
        }
    }

    fn execute(&mut self, jobs: Vec<Job>) -> Result<(), Failure> {
        let mut batch = Batch::default();
        let mut queries: Vec<Query> = Vec::new();
        let free = self.store.free_bytes();
        self.read_only.update(free);
        self.metrics.set_store(free, self.read_only.is_set());
        let now = self.clock.now(self.read_only.time_passes());
        let mut tick = false;
        for job in jobs {
            match job {
                Job::Tick => tick = true,
                Job::Query(query) => queries.push(query),
                Job::Apply { by, key, command, answer, progress } => {
                    let result = self.apply(now, &by, key, *command, &mut batch)?;
                    batch.answers.push((answer, result));
                    batch.progress.extend(progress);
                }
            }
        }
        // After the calls: one of them may be the heartbeat of a host whose lease is about to expire.
        if tick && self.read_only.time_passes() {
            let _ = self.apply(now, UNNAMED, None, Command::Tick, &mut batch)?;
        }
        self.commit(batch)?;
        for query in queries {
            query(&self.board);
        }
        Ok(())
    }

    /// Applies a command. Commits the batch before it if there is no room for both.
    fn apply(
        &mut self,
        now: Now,
        by: &str,
        key: Option<Key>,
        command: Command,
        batch: &mut Batch,
    ) -> Result<Answer, Failure> {
        // What was answered before is answered, and a sign of life counts.
        let answered = key.as_ref().is_some_and(|key| self.board.answered(key).is_some());
        if let Some(refusal) = self.read_only.refuse(&command).filter(|_| !answered) {
            self.metrics.count_command(Some(&refusal));
            return Ok(Err(refusal));
        }
        let Applied { result, commits, writes, events } = self.board.apply_by(now, by, key, command);
        self.metrics.count_command(result.as_ref().err());
        for limit in self.board.take_exceeded() {
            self.metrics.count_limited(limit);
        }
        let limits = self.writer.limits();
        limits.check(&writes).map_err(Failure::TooLarge)?;
        let bytes = writes.iter().map(Write::size).sum();
        if !batch.has_room(&limits, writes.len(), bytes) {
            self.commit(std::mem::take(batch))?;
        }
        batch.revision = self.board.revision();
        batch.commits.extend(commits);
        batch.writes.extend(writes);
        batch.bytes += bytes;
        batch.events.extend(events);
        Ok(result)
    }

    fn commit(&mut self, batch: Batch) -> Result<(), Failure> {
        let Batch { revision, answers, commits, writes, events, progress, .. } = batch;
        if !writes.is_empty() || !commits.is_empty() {
            let began = Instant::now();
            self.writer.commit(revision, writes, &mut |n| {
                for listener in &progress {
                    let _ = listener.send(n);
                }
            })?;
            self.metrics.observe_commit(began.elapsed());
            self.metrics.set_counts(self.board.counts(), revision);
            self.barriers.store(self.board.open_barriers(), Relaxed);
            self.history.publish(commits);
        }
        for event in events {
            let level = match event.kind {
                EventKind::HostUp | EventKind::Operator | EventKind::Migration => Level::Info,
                _ => Level::Warn,
            };
            let Event { number, revision, kind, text, actor, .. } = &event;
            log::log!(level, number, revision, kind:%, actor; "{text} [by {actor}]");
            // An error only means that there is no receiver.
            let _ = self.events.send(event);
        }
        for (answer, result) in answers {
            // The caller may have been dropped; the change is made.
            let _ = answer.send(result);
        }
        Ok(())
    }
}

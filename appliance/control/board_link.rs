//! The link to the board: the session with it, and how far the tables are in step with what it has sent. Enters:
//! updates, revisions that were applied, epochs that were published. Leaves: claims, requests about migrations, and
//! the acknowledgement of a revision once every lcore forwards by it.

use super::effects::BoardRequest;
use crossbeam::channel::{self, Receiver, TryRecvError};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use stopover_bbs::client::{
    BeginMigration, Claim, MigrationUpdate, Point, PublicKey, Session, SessionState, Update,
};
use stopover_config::appliance::Appliance;
use stopover_lockfree::epoch::Epoch;
use stopover_net::{HostName, Mac, Vni};
use uuid::Uuid;

/// How soon it is checked again whether every lcore has passed a published epoch, and how many such checks before a
/// pause. A busy lcore passes within a few microseconds; one that the system does not schedule may take long.
const EPOCH_POLL: Duration = Duration::from_micros(50);
const MAX_EPOCH_POLLS: u32 = 20;
const EPOCH_PAUSE: Duration = Duration::from_millis(1);
/// How long a lock lasts without being renewed; the session renews it every third of that.
const LEASE_MS: u64 = 6_000;

/// From a connection to tables that are in step with the board.
#[derive(Debug)]
struct Syncing {
    since: Instant,
    /// The snapshot's revision, once it is complete.
    until: Option<Received>,
}

impl Syncing {
    fn begin() -> Self {
        Self { since: Instant::now(), until: None }
    }
}

/// A revision of the board, and the number of the watch that it was received on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Received {
    stream: u64,
    revision: u64,
}

/// See the module.
pub struct BoardLink {
    host: HostName,
    public_key: Option<PublicKey>,
    instance: Uuid,
    session: Option<Session>,
    updates: Receiver<Update>,
    /// The board's replies about migrations.
    replies: Receiver<MigrationUpdate>,
    /// How long entries are kept that a snapshot of another branch did not name.
    stale_ms: u64,
    /// Published revisions, oldest first, until every lcore has passed them.
    pending_epochs: VecDeque<(Epoch, Received)>,
    /// How often the pending epochs were checked since the last pause.
    epoch_polls: u32,
    /// A snapshot is requested or under way.
    syncing: Option<Syncing>,
    /// The number of the watch that updates arrive on.
    stream: u64,
    applied: Received,
    acked: Received,
    has_snapshot: bool,
    /// The state is that of a checkpoint.
    is_stale: bool,
    stale_until_ms: Option<u64>,
    other_branches: u64,
}

impl BoardLink {
    /// Without a session, of a host with this key, of a process that has not been there before.
    pub fn new(config: &Appliance, public_key: Option<PublicKey>) -> Self {
        Self {
            host: config.name.clone(),
            public_key,
            instance: Uuid::new_v4(),
            session: None,
            updates: channel::never(),
            replies: channel::never(),
            stale_ms: config.stale_ms,
            pending_epochs: VecDeque::new(),
            epoch_polls: 0,
            syncing: None,
            stream: 0,
            applied: Received::default(),
            acked: Received::default(),
            has_snapshot: false,
            is_stale: false,
            stale_until_ms: None,
            other_branches: 0,
        }
    }

    /// The key by which this host registers.
    pub const fn public_key(&self) -> Option<PublicKey> {
        self.public_key
    }

    /// By which this process registers.
    pub const fn instance(&self) -> Uuid {
        self.instance
    }

    /// Registers in the place of the process that has registered by this.
    pub const fn take_over(&mut self, instance: Uuid) {
        self.instance = instance;
    }

    /// Ends the session, but the board has this host up: another process registers in this one's place.
    pub fn keep_lease(&mut self) {
        self.session = None;
    }

    /// Takes updates from this session.
    pub fn open(&mut self, session: Session, updates: Receiver<Update>) {
        self.replies = session.migrations();
        (self.session, self.updates) = (Some(session), updates);
    }

    /// Ends the session.
    pub fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.stop();
        }
    }

    /// Ends the session, and takes updates from this channel instead.
    pub fn replace(&mut self, updates: Receiver<Update>) {
        self.close();
        self.updates = updates;
    }

    /// The session, for what the operator asks and commands.
    #[must_use]
    pub const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The state of the session; `None` without a board.
    #[must_use]
    pub fn state(&self) -> Option<SessionState> {
        self.session.as_ref().map(Session::state)
    }

    /// What the board has sent.
    #[must_use]
    pub const fn updates(&self) -> &Receiver<Update> {
        &self.updates
    }

    /// What the board has replied about migrations.
    #[must_use]
    pub const fn replies(&self) -> &Receiver<MigrationUpdate> {
        &self.replies
    }

    /// Claims a node.
    pub fn claim(&self, claim: Claim) {
        if let Some(session) = &self.session {
            session.claim(claim);
        }
    }

    /// Withdraws a claim.
    pub fn withdraw(&self, vni: Vni, mac: Mac) {
        if let Some(session) = &self.session {
            session.withdraw(vni, mac);
        }
    }

    /// Follows a network from now on.
    pub fn follow(&self, vni: Vni) {
        if let Some(session) = &self.session {
            session.follow(vni);
        }
    }

    /// Follows it no longer.
    pub fn unfollow(&self, vni: Vni) {
        if let Some(session) = &self.session {
            session.unfollow(vni);
        }
    }

    /// Has a segment in a network from now on.
    pub fn join(&self, vni: Vni) {
        if let Some(session) = &self.session {
            session.join(vni, true);
        }
    }

    /// Has none there any more.
    pub fn leave(&self, vni: Vni) {
        if let Some(session) = &self.session {
            session.leave(vni);
        }
    }

    /// Sends a request about a migration.
    pub fn request(&self, request: BoardRequest) {
        let Some(session) = &self.session else { return };
        match request {
            BoardRequest::Lock { vni, mac } => session.begin_migration(BeginMigration {
                nodes: vec![(vni, mac)],
                source: self.host.clone(),
                target: None,
                cause: "dirty logging at a vhost-user port".to_owned(),
                lease_ms: LEASE_MS,
            }),
            BoardRequest::Complete { migration, generation } => {
                session.complete_migration(migration, generation, Some(self.host.clone()), "runs here");
            }
            BoardRequest::Abort { migration, generation } => {
                session.abort_migration(migration, generation, "runs on at the source");
            }
            BoardRequest::Report { migration, generation, report } => {
                session.report_migration(migration, generation, report);
            }
        }
    }

    /// A watch has been opened.
    pub fn on_connected(&mut self, stream: u64) {
        self.stream = stream;
        self.syncing = Some(Syncing::begin());
    }

    /// A snapshot begins.
    pub fn begin_snapshot(&mut self) {
        self.syncing.get_or_insert_with(Syncing::begin);
    }

    /// A snapshot is complete.
    pub fn end_snapshot(&mut self, revision: u64) {
        self.has_snapshot = true;
        self.is_stale = false;
        self.applied = Received { stream: self.stream, revision };
        if let Some(syncing) = &mut self.syncing {
            syncing.until = Some(self.applied);
        }
    }

    /// The tables hold the state of this revision.
    pub fn on_applied(&mut self, revision: u64) {
        self.applied = Received { stream: self.stream, revision };
        self.is_stale = false;
        // No snapshot was needed.
        self.syncing.take_if(|syncing| syncing.until.is_none());
    }

    /// The tables hold the state of a checkpoint, which the board has not confirmed in this run.
    pub const fn restore(&mut self, revision: u64) {
        (self.has_snapshot, self.is_stale) = (true, true);
        self.applied = Received { stream: 0, revision };
    }

    /// Whether that is still so.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The board's state that the tables hold; `None` if it was not received on the present watch.
    #[must_use]
    pub fn point(&self) -> Option<Point> {
        self.session.as_ref()?.point(self.applied.stream, self.applied.revision)
    }

    /// Whether a complete snapshot has been applied: the tables can be forwarded by.
    #[must_use]
    pub const fn has_snapshot(&self) -> bool {
        self.has_snapshot
    }

    /// The newest revision that was applied.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.applied.revision
    }

    /// The revision that every lcore forwards by.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acked.revision
    }

    /// A snapshot of another branch begins.
    pub fn on_other_branch(&mut self) {
        self.other_branches += 1;
        self.stale_until_ms = None;
    }

    /// Snapshots of other branches so far.
    #[must_use]
    pub const fn other_branches(&self) -> u64 {
        self.other_branches
    }

    /// How long entries are kept that a snapshot of another branch did not name; for those of later snapshots.
    pub const fn set_stale_ms(&mut self, stale_ms: u64) {
        self.stale_ms = stale_ms;
    }

    /// When the entries are removed that a snapshot of another branch did not name.
    #[must_use]
    pub const fn stale_until_ms(&self) -> Option<u64> {
        self.stale_until_ms
    }

    /// There are such entries: whether their time is over.
    pub fn is_stale_over(&mut self, now_ms: u64) -> bool {
        let until = *self.stale_until_ms.get_or_insert(now_ms + self.stale_ms);
        if now_ms >= until {
            self.stale_until_ms = None;
        }
        now_ms >= until
    }

    /// The tables were published as this epoch.
    pub fn on_published(&mut self, epoch: Epoch) {
        if self.pending_epochs.back().map_or(self.acked, |(_, received)| *received) != self.applied {
            self.pending_epochs.push_back((epoch, self.applied));
        }
    }

    /// Acknowledges what every lcore forwards by. `passed`: whether all have passed an epoch; `nodes`: how many nodes
    /// the tables have.
    pub fn acknowledge(&mut self, mut passed: impl FnMut(Epoch) -> bool, nodes: usize) {
        while let Some((_, received)) =
            self.pending_epochs.front().filter(|(epoch, _)| passed(*epoch)).copied()
        {
            self.pending_epochs.pop_front();
            self.acked = received;
            self.log_synchronised(nodes);
            if let Some(session) = &self.session {
                session.ack(received.stream, received.revision);
            }
        }
    }

    /// Logs that every lcore forwards by a snapshot.
    fn log_synchronised(&mut self, nodes: usize) {
        let in_force = |syncing: &mut Syncing| syncing.until.is_some_and(|until| self.acked >= until);
        if let Some(syncing) = self.syncing.take_if(in_force) {
            log::info!(
                "in step with the board at revision {}: {nodes} nodes, {} ms after the connection",
                self.acked.revision,
                syncing.since.elapsed().as_millis()
            );
        }
    }

    /// How soon to check the pending epochs again, if there are any.
    pub fn epoch_poll(&mut self) -> Option<Duration> {
        let polls = !self.pending_epochs.is_empty() && self.epoch_polls < MAX_EPOCH_POLLS;
        self.epoch_polls = if polls { self.epoch_polls + 1 } else { 0 };
        match (self.pending_epochs.is_empty(), polls) {
            (true, _) => None,
            (false, true) => Some(EPOCH_POLL),
            (false, false) => Some(EPOCH_PAUSE),
        }
    }

    /// When something is due next, if nothing happens before; epochs aside.
    #[must_use]
    pub const fn next_timeout(&self) -> Option<u64> {
        self.stale_until_ms
    }

    /// The next update.
    pub fn next_update(&mut self) -> Option<Update> {
        receive(&mut self.updates)
    }

    /// The next reply about a migration.
    pub fn next_reply(&mut self) -> Option<MigrationUpdate> {
        receive(&mut self.replies)
    }
}

/// What a channel has. A closed one would end every sleep at once, so it is forgotten.
fn receive<T>(channel: &mut Receiver<T>) -> Option<T> {
    match channel.try_recv() {
        Ok(message) => Some(message),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Disconnected) => {
            *channel = channel::never();
            None
        }
    }
}

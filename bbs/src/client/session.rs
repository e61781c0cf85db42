//! An appliance's session with the board. Enters: the desired state of the host. Leaves: updates from the board.
//!
//! [`Session`] holds the desired state, and a task reconciles the board with it until the session ends: over lost
//! connections, restarts of the board, refusals and deletions by the operator. Updates are in a bounded channel, in order.
//! A slow reader slows the watch down and loses nothing.

use super::{
    desired::Desired,
    driver,
    migrations::{Call, MigrationUpdate},
    operator::BeginMigration,
    shared::{Description, SessionConfig, SessionState, Shared, Stop, Update, lock},
};
use crate::model::{Claim, Features, HostDetails, Point, Report, Uuid};
use crossbeam::channel::Receiver;
use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};
use stopover_net::{HostName, Mac, Vni};
use tokio::sync::{Notify, watch};

/// The handle. If it is dropped without [`Session::stop`], the board has the host up until its lease ends, or another process
/// registers it: this is for a process that is replaced, or that has crashed.
pub struct Session {
    shared: Arc<Shared>,
    migrations: Receiver<MigrationUpdate>,
    stop: watch::Sender<Stop>,
    done: std::sync::mpsc::Receiver<()>,
}

/// Starts a session on `rt`. It does not block and does not fail: errors are in [`Session::state`] and in
/// [`Update::Disconnected`].
pub fn start(rt: &tokio::runtime::Handle, cfg: SessionConfig) -> (Session, Receiver<Update>) {
    let (update_tx, update_rx) = crossbeam::channel::bounded(cfg.queue.max(1));
    let (ack, _) = watch::channel((0, 0));
    let (migrations_tx, migrations) = crossbeam::channel::unbounded();
    let description = Description { number: 0, vteps: cfg.vteps.clone(), details: cfg.details.clone() };
    let shared = Arc::new(Shared {
        description: Mutex::new(description),
        described: Notify::new(),
        desired: Mutex::new(Desired::new(cfg.interest.iter().copied())),
        work: Notify::new(),
        interest: Notify::new(),
        migration_calls: Mutex::default(),
        migration_work: Notify::new(),
        migrations: migrations_tx,
        ack,
        accepted: Mutex::new(None),
        accept: Notify::new(),
        state: Mutex::new(SessionState {
            connected: false,
            endpoint: None,
            host_id: None,
            revision: 0,
            since: SystemTime::now(),
            last_error: None,
            stream: 0,
            board: cfg.held.map(|held| held.board),
            run: None,
            features: Features::default(),
            described: 0,
            other_board: None,
        }),
        live: Mutex::new(None),
    });
    let (stop, stop_rx) = watch::channel(Stop::No);
    let (done_tx, done) = std::sync::mpsc::channel();
    rt.spawn(driver::run(shared.clone(), cfg, update_tx, stop_rx, done_tx));
    (Session { shared, migrations, stop, done }, update_rx)
}

impl Session {
    /// This host has other VTEP addresses: it registers with them, over a new connection, and keeps what it has claimed.
    /// Returns the number that [`SessionState::described`] has, or exceeds, once the board knows them.
    pub fn describe(&self, vteps: Vec<IpAddr>, details: HostDetails) -> u64 {
        let number = {
            let mut description = lock(&self.shared.description);
            let number = description.number + 1;
            *description = Description { number, vteps, details };
            number
        };
        self.shared.described.notify_one();
        number
    }

    /// Claims a node. Replaces an earlier claim of the same `(vni, mac)`.
    pub fn claim(&self, claim: Claim) {
        let interest = lock(&self.shared.desired).claim(claim, Instant::now());
        self.wake(interest);
    }

    /// Withdraws a claim: the node is no longer here.
    pub fn withdraw(&self, vni: Vni, mac: Mac) {
        let interest = lock(&self.shared.desired).withdraw(vni, mac);
        self.wake(interest);
    }

    /// Follows a network from now on, whether this host has nodes in it or not.
    pub fn follow(&self, vni: Vni) {
        let interest = lock(&self.shared.desired).follow(vni);
        self.wake(interest);
    }

    /// Takes [`Session::follow`] back. What the board has of the network is removed like what it removes itself, unless
    /// there is another reason to follow it.
    pub fn unfollow(&self, vni: Vni) {
        let interest = lock(&self.shared.desired).unfollow(vni);
        self.wake(interest);
    }

    /// Joins a network: this host receives its flooded frames. `segment`: stations that are not registered may be behind
    /// this host.
    pub fn join(&self, vni: Vni, segment: bool) {
        let interest = lock(&self.shared.desired).join(vni, segment);
        self.wake(interest);
    }

    /// Takes [`Session::join`] back.
    pub fn leave(&self, vni: Vni) {
        let interest = lock(&self.shared.desired).leave(vni);
        self.wake(interest);
    }

    /// Locks nodes for a migration and keeps them locked (the session renews the lease) until it ends. Like the next three,
    /// it returns at once, and the session repeats the call until the board has answered, also over lost connections.
    /// The answer is in [`Session::migrations`].
    pub fn begin_migration(&self, begin: BeginMigration) {
        self.push_call(Call::Begin(begin, None));
    }

    /// The VM runs at `at`; `None` = the target, or this host if it claims the nodes.
    pub fn complete_migration(&self, migration: u64, generation: u64, at: Option<HostName>, cause: &str) {
        let last_claim = lock(&self.shared.desired).last_claim();
        self.push_call(Call::Complete { migration, generation, at, cause: cause.to_owned(), last_claim });
    }

    /// The VM remains at the source.
    pub fn abort_migration(&self, migration: u64, generation: u64, cause: &str) {
        self.push_call(Call::Abort { migration, generation, cause: cause.to_owned() });
    }

    /// Reports the counters of this host for a migration.
    pub fn report_migration(&self, migration: u64, generation: u64, report: Report) {
        self.push_call(Call::Report { migration, generation, report });
    }

    /// Answers to these calls, and claims that were deferred. Clones share one queue.
    #[must_use]
    pub fn migrations(&self) -> Receiver<MigrationUpdate> {
        self.migrations.clone()
    }

    fn push_call(&self, call: Call) {
        lock(&self.shared.migration_calls).push(call);
        self.shared.migration_work.notify_one();
    }

    /// Acknowledges that every lcore forwards by `revision`, which was received on the watch of this number. If that is an
    /// earlier watch, the acknowledgement is not sent.
    pub fn ack(&self, stream: u64, revision: u64) {
        self.shared.ack.send_if_modified(|acked| {
            let newer = (stream, revision) > *acked;
            *acked = (*acked).max((stream, revision));
            newer
        });
    }

    /// Follows this board from now on, although the session holds another board's state.
    pub fn accept_board(&self, board: Uuid) {
        *lock(&self.shared.accepted) = Some(board);
        self.shared.accept.notify_one();
    }

    /// What a revision is that was received on the watch of this number; `None` if that is an earlier watch.
    #[must_use]
    pub fn point(&self, stream: u64, revision: u64) -> Option<Point> {
        let state = lock(&self.shared.state);
        let board = state.board.filter(|_| state.stream == stream && state.run.is_some())?;
        Some(Point { board, run: state.run, revision })
    }

    /// The state of the session.
    #[must_use]
    pub fn state(&self) -> SessionState {
        lock(&self.shared.state).clone()
    }

    /// Deregisters: the host is marked down at once, its nodes remain. Blocks for at most three seconds.
    pub fn stop(self) {
        self.finish(Stop::Keep);
    }

    /// Like [`Session::stop`], and deletes the host's nodes and joins.
    pub fn stop_and_withdraw(self) {
        self.finish(Stop::WithdrawAll);
    }

    fn finish(self, how: Stop) {
        self.stop.send_replace(how);
        // An error means that the task has ended already.
        let _ = self.done.recv_timeout(Duration::from_secs(3));
    }

    fn wake(&self, interest_changed: bool) {
        self.shared.work.notify_one();
        if interest_changed {
            self.shared.interest.notify_one();
        }
    }
}

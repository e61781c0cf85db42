//! An appliance's session with the board. Enters: the desired state of the host. Leaves: updates from the board.
//!
//! [`Session`] holds the desired state, and a task reconciles the board with it until the session ends: over lost
//! connections, restarts of the board, refusals and deletions by the operator. Updates are in a bounded channel, in order.
//! A slow reader slows the watch down and loses nothing.

use super::{
    desired::Desired,
    driver::{self, Client},
    migrations::{Call, MigrationUpdate, Migrations},
    operator::BeginMigration,
};
use crate::model::{Accepted, Change, Claim, Features, HostDetails, NodeBatch, Report, Uuid};
use crossbeam::channel::Receiver;
use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use stopover_config::Endpoint;
use stopover_net::{HostName, Mac, Vni};
use tokio::sync::{Notify, watch};

/// Configuration of a session.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Endpoints of the board, tried in turn.
    pub endpoints: Vec<Endpoint>,
    /// The name to register.
    pub host: HostName,
    /// Its VTEP addresses, 1 to 4.
    pub vteps: Vec<IpAddr>,
    /// Its VXLAN port, host byte order.
    pub udp_port: u16,
    /// Of its machine. A board of before does not keep them.
    pub details: HostDetails,
    /// Networks followed from the start. Networks of claims and joins are added.
    pub interest: BTreeSet<Vni>,
    /// Interval of heartbeats; `None` = as the board requests.
    pub heartbeat: Option<Duration>,
    /// Time after which a refused claim is sent again.
    pub retry_refused: Duration,
    /// Time for claims after the start. Then the session calls `SyncClaims`, which deletes what an earlier process of
    /// this host had claimed and this one has not.
    pub settle: Duration,
    /// Capacity of the update channel.
    pub queue: usize,
}

impl SessionConfig {
    /// With the defaults for everything else.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, host: HostName, vteps: Vec<IpAddr>, udp_port: u16) -> Self {
        Self {
            endpoints,
            host,
            vteps,
            udp_port,
            details: HostDetails::default(),
            interest: BTreeSet::new(),
            heartbeat: None,
            retry_refused: Duration::from_secs(3),
            settle: Duration::from_secs(2),
            queue: 1024,
        }
    }
}

/// An update from the board, or about the session itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Registered, and the watch is open.
    Connected {
        /// The number of this watch, from 1. The following updates are received on it and acknowledged to it.
        stream: u64,
    },
    /// The connection is lost; the session connects again. The state remains as it is (fail static).
    Disconnected {
        /// The reason, one sentence.
        why: String,
    },
    /// The following `Apply`s and `Nodes` describe the whole state. What they do not contain up to `SnapshotEnd` no longer
    /// exists.
    SnapshotBegin {
        /// The state's revision.
        revision: u64,
        /// The state is not of the same history as the state before: the board's store was restored from a backup, or
        /// it is another board, which was accepted. Other hosts will claim their nodes again.
        other_branch: bool,
    },
    /// The snapshot is complete.
    SnapshotEnd {
        /// The state's revision.
        revision: u64,
    },
    /// Changes in order, without gaps and duplicates. Empty if nothing in scope has changed up to `revision`.
    Apply {
        /// The board's revision with these changes.
        revision: u64,
        /// The changes.
        changes: Vec<Change>,
    },
    /// Part of a snapshot: nodes, each like a [`Change::NodePut`] without removed addresses.
    Nodes {
        /// The snapshot's revision.
        revision: u64,
        /// The nodes, by network.
        batches: Vec<NodeBatch>,
    },
    /// The board refuses a claim. The session sends it again; another update follows only if the reason changes.
    Refused {
        /// As claimed.
        claim: Claim,
        /// The reason, with the holder.
        why: String,
    },
    /// The board accepted a claim: for the first time, after a refusal, or after a claim with a new frame.
    Accepted {
        /// Network.
        vni: Vni,
        /// Node.
        mac: Mac,
        /// The addresses, if they are others than claimed.
        addresses: Option<Accepted>,
    },
    /// A learned node has moved to another host, which received it later. It is no longer claimed.
    NodeMoved {
        /// Network.
        vni: Vni,
        /// Node.
        mac: Mac,
    },
    /// Addresses of a node have moved to another node, which announced them later. They are no longer claimed.
    AddressesMoved {
        /// Network.
        vni: Vni,
        /// The node that had them.
        mac: Mac,
        /// The addresses.
        ips: Vec<IpAddr>,
    },
}

/// The state of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionState {
    /// Registered and watching.
    pub connected: bool,
    /// The last endpoint that was tried.
    pub endpoint: Option<Endpoint>,
    /// Our id at the board, once registered.
    pub host_id: Option<u32>,
    /// Revision of the last update.
    pub revision: u64,
    /// When `connected` last changed.
    pub since: SystemTime,
    /// Why it is, or last was, not connected.
    pub last_error: Option<String>,
    /// The number of the last opened watch; see [`Update::Connected`].
    pub stream: u64,
    /// The board that we follow; `None` = none yet.
    pub board: Option<Uuid>,
    /// Features in force with the board; none with a board of before.
    pub features: Features,
    /// The board that answers instead, if it is another. It is not followed before [`Session::accept_board`].
    pub other_board: Option<Uuid>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    Keep,
    WithdrawAll,
}

/// State shared by the handle and the task.
pub(super) struct Shared {
    pub desired: Mutex<Desired>,
    /// Something in `desired` is to be sent.
    pub work: Notify,
    /// The set of followed networks has changed.
    pub interest: Notify,
    pub migration_calls: Mutex<Migrations>,
    /// Something in `migration_calls` is to be sent.
    pub migration_work: Notify,
    /// Answers about migrations. Unbounded, since there is at most one for each call and each deferral.
    pub migrations: crossbeam::channel::Sender<MigrationUpdate>,
    /// Number of the watch, and the revision acknowledged to it.
    pub ack: watch::Sender<(u64, u64)>,
    /// The board to follow, whatever was followed before.
    pub accepted: Mutex<Option<Uuid>>,
    /// Notified when `accepted` is set.
    pub accept: Notify,
    pub state: Mutex<SessionState>,
    /// The connection and session number, to deregister.
    pub live: Mutex<Option<(Client, u64)>>,
}

/// Locks. The data remain usable after a panic of another holder.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The handle. If it is dropped without [`Session::stop`], the host appears to the board as crashed.
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
    let shared = Arc::new(Shared {
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
            board: None,
            features: Features::default(),
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

//! An appliance's standing with the board: what it wants to be true goes in, what the board says comes out.
//!
//! [`Session`] holds the desired state and a task reconciles the board with it for ever: over lost connections,
//! restarts of the board, refusals and the operator's deletions. Updates come out of a bounded channel, in
//! order; a reader that does not keep up slows the watch down and loses nothing.

use super::{
    desired::Desired,
    driver,
    migrations::{Call, MigrationUpdate, Migrations},
    operator::BeginMigration,
};
use crate::{
    model::{Accepted, Change, Claim, NodeBatch, Report, Uuid},
    proto::v1::board_client::BoardClient,
};
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
use tonic::transport::Channel;

/// What a session is started with.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Where the board is; tried in turn.
    pub endpoints: Vec<Endpoint>,
    /// The name to register.
    pub host: HostName,
    /// Its VTEP addresses, 1 to 4.
    pub vteps: Vec<IpAddr>,
    /// Its VXLAN port, host byte order.
    pub udp_port: u16,
    /// Networks followed from the start; those of claims and joins are added.
    pub interest: BTreeSet<Vni>,
    /// How often to say "alive"; `None` = as the board asks.
    pub heartbeat: Option<Duration>,
    /// How long after a refusal a claim is tried again.
    pub retry_refused: Duration,
    /// After its start the session waits this long for claims before it tells the board "that is all I have",
    /// which deletes what an earlier process of this host had claimed and this one has not.
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
            interest: BTreeSet::new(),
            heartbeat: None,
            retry_refused: Duration::from_secs(3),
            settle: Duration::from_secs(2),
            queue: 1024,
        }
    }
}

/// What the board, or the session itself, has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Registered, and the watch is open.
    Connected {
        /// The number of this watch, from 1: what follows was received on it, and is acknowledged to it.
        stream: u64,
    },
    /// The connection is gone; it is being retried. The state stays as it is (fail static).
    Disconnected {
        /// One sentence.
        why: String,
    },
    /// The `Apply`s that follow describe the whole state; what they do not mention before `SnapshotEnd` is gone.
    SnapshotBegin {
        /// The state's revision.
        revision: u64,
        /// It is not of the history of what was handed out before: the board's store was restored from a backup, or
        /// it is another board, which we were told to follow. Other hosts are about to claim what they have again.
        other_branch: bool,
    },
    /// The snapshot is complete.
    SnapshotEnd {
        /// The state's revision.
        revision: u64,
    },
    /// Changes in order, no gap and no duplicate. May be empty: nothing in scope changed up to `revision`.
    Apply {
        /// The board's revision with these changes.
        revision: u64,
        /// What changed.
        changes: Vec<Change>,
    },
    /// Part of a snapshot: nodes, each as if by a [`Change::NodePut`] with no addresses gone.
    Nodes {
        /// The snapshot's revision.
        revision: u64,
        /// The nodes, by network.
        batches: Vec<NodeBatch>,
    },
    /// The board refuses a claim. The session goes on trying; said again only when the reason changes.
    Refused {
        /// As claimed.
        claim: Claim,
        /// Names the holder.
        why: String,
    },
    /// The board accepted a claim: for the first time, after a refusal, or one for which something was received.
    Accepted {
        /// Network.
        vni: Vni,
        /// Node.
        mac: Mac,
        /// If it was accepted with other addresses than claimed.
        addresses: Option<Accepted>,
    },
    /// A learned node is another host's now: it was received there later. It is claimed no more.
    NodeMoved {
        /// Network.
        vni: Vni,
        /// Node.
        mac: Mac,
    },
    /// Addresses of a node are another node's now, which announced them later. They are claimed no more.
    AddressesMoved {
        /// Network.
        vni: Vni,
        /// The node that had them.
        mac: Mac,
        /// The addresses.
        ips: Vec<IpAddr>,
    },
}

/// How the session is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionState {
    /// Registered and watching.
    pub connected: bool,
    /// The endpoint last tried.
    pub endpoint: Option<Endpoint>,
    /// Our id at the board, once registered.
    pub host_id: Option<u32>,
    /// Last revision handed out.
    pub revision: u64,
    /// When `connected` last changed.
    pub since: SystemTime,
    /// Why it is, or last was, not connected.
    pub last_error: Option<String>,
    /// The number of the watch that is or was open last; see [`Update::Connected`].
    pub stream: u64,
    /// The board that we follow; `None` = none yet.
    pub board: Option<Uuid>,
    /// Another board answers in its place. It is not followed before [`Session::accept_board`].
    pub other_board: Option<Uuid>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    Keep,
    WithdrawAll,
}

/// What the handle and the task share.
pub(super) struct Shared {
    pub desired: Mutex<Desired>,
    /// Something in `desired` is to be told.
    pub work: Notify,
    /// The set of followed networks has changed.
    pub interest: Notify,
    pub migration_calls: Mutex<Migrations>,
    /// Something in `migration_calls` is to be told.
    pub migration_work: Notify,
    /// What the board says of migrations; unbounded, since at most one for each call and each deferral.
    pub migrations: crossbeam::channel::Sender<MigrationUpdate>,
    /// Number of the watch, and the revision acknowledged to it.
    pub ack: watch::Sender<(u64, u64)>,
    /// The board to follow, whatever was followed before.
    pub accepted: Mutex<Option<Uuid>>,
    /// It was set.
    pub accept: Notify,
    pub state: Mutex<SessionState>,
    /// Where to say goodbye: the connection and session number.
    pub live: Mutex<Option<(BoardClient<Channel>, u64)>>,
}

/// Locks; a panic elsewhere does not make these plain data unusable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The handle. Dropping it without [`Session::stop`] is what a crash would look like to the board.
pub struct Session {
    shared: Arc<Shared>,
    migrations: Receiver<MigrationUpdate>,
    stop: watch::Sender<Stop>,
    done: std::sync::mpsc::Receiver<()>,
}

/// Starts a session on `rt`. Never blocks and never fails: what goes wrong is in [`Session::state`] and in
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
    /// The node is here, with these addresses. Replaces what was claimed for `(vni, mac)` before.
    pub fn claim(&self, claim: Claim) {
        let interest = lock(&self.shared.desired).claim(claim, Instant::now());
        self.wake(interest);
    }

    /// The node is no longer here.
    pub fn withdraw(&self, vni: Vni, mac: Mac) {
        let interest = lock(&self.shared.desired).withdraw(vni, mac);
        self.wake(interest);
    }

    /// We want the network's flooded frames; `segment`: stations nobody registers may be behind us.
    pub fn join(&self, vni: Vni, segment: bool) {
        let interest = lock(&self.shared.desired).join(vni, segment);
        self.wake(interest);
    }

    /// Takes [`Session::join`] back.
    pub fn leave(&self, vni: Vni) {
        let interest = lock(&self.shared.desired).leave(vni);
        self.wake(interest);
    }

    /// Locks nodes for a migration and keeps them locked (the session renews the lease) until it ends. As the
    /// next three, returns at once and is told until the board has answered, over lost connections too; the
    /// answer comes by [`Session::migrations`].
    pub fn begin_migration(&self, begin: BeginMigration) {
        self.push_call(Call::Begin(begin, None));
    }

    /// The VM runs at `at`; `None` = the target, or this host if it claims the nodes.
    pub fn complete_migration(&self, migration: u64, generation: u64, at: Option<HostName>, cause: &str) {
        let last_claim = lock(&self.shared.desired).last_claim();
        self.push_call(Call::Complete { migration, generation, at, cause: cause.to_owned(), last_claim });
    }

    /// The VM stays at the source.
    pub fn abort_migration(&self, migration: u64, generation: u64, cause: &str) {
        self.push_call(Call::Abort { migration, generation, cause: cause.to_owned() });
    }

    /// What this host has counted of a migration so far.
    pub fn report_migration(&self, migration: u64, generation: u64, report: Report) {
        self.push_call(Call::Report { migration, generation, report });
    }

    /// Answers to these, and claims that were deferred. One queue: clones share it.
    #[must_use]
    pub fn migrations(&self) -> Receiver<MigrationUpdate> {
        self.migrations.clone()
    }

    fn push_call(&self, call: Call) {
        lock(&self.shared.migration_calls).push(call);
        self.shared.migration_work.notify_one();
    }

    /// Every lcore forwards now by `revision`, received on the watch of this number. One of an earlier watch is told
    /// to nobody: it says nothing of this one.
    pub fn ack(&self, stream: u64, revision: u64) {
        self.shared.ack.send_if_modified(|acked| {
            let newer = (stream, revision) > *acked;
            *acked = (*acked).max((stream, revision));
            newer
        });
    }

    /// Follows this board from now on, though we hold another one's state.
    pub fn accept_board(&self, board: Uuid) {
        *lock(&self.shared.accepted) = Some(board);
        self.shared.accept.notify_one();
    }

    /// How it is doing.
    #[must_use]
    pub fn state(&self) -> SessionState {
        lock(&self.shared.state).clone()
    }

    /// Says goodbye: the host is marked down at once, its nodes stay. Blocks for at most three seconds.
    pub fn stop(self) {
        self.finish(Stop::Keep);
    }

    /// As [`Session::stop`], and deletes the host's nodes and joins.
    pub fn stop_and_withdraw(self) {
        self.finish(Stop::WithdrawAll);
    }

    fn finish(self, how: Stop) {
        self.stop.send_replace(how);
        // An error means the task is gone already.
        let _ = self.done.recv_timeout(Duration::from_secs(3));
    }

    fn wake(&self, interest_changed: bool) {
        self.shared.work.notify_one();
        if interest_changed {
            self.shared.interest.notify_one();
        }
    }
}

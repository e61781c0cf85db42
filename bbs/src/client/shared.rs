//! What the handle of a session and its task share: the configuration, the state, the updates, the connection. Values and
//! locks; only [`deliver_events`] waits.

use super::{
    connect::Calls,
    desired::{ClaimEvent, Desired},
    error::Error,
    migrations::{MigrationUpdate, Migrations},
};
use crate::{
    model::{Accepted, Change, Claim, Features, HostDetails, NodeBatch, Point, Uuid},
    proto::v1::host_service_client::HostServiceClient,
};
use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use stopover_config::Endpoint;
use stopover_net::{HostName, Mac, Vni};
use stopover_pki::ClientTls;
use tokio::sync::{Notify, mpsc, watch};

/// Configuration of a session.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Endpoints of the board, tried in turn.
    pub endpoints: Vec<Endpoint>,
    /// Credentials, for endpoints at `https://`.
    pub tls: Option<ClientTls>,
    /// The name to register.
    pub host: HostName,
    /// The process that registers: a number of its own, or that of the process whose place it takes while the board still has
    /// its lease.
    pub instance: Uuid,
    /// Its VTEP addresses, 1 to 4.
    pub vteps: Vec<IpAddr>,
    /// Its VXLAN port, host byte order.
    pub udp_port: u16,
    /// Of its machine. A board of before does not keep them.
    pub details: HostDetails,
    /// Networks followed from the start. Networks of claims and joins are added.
    pub interest: BTreeSet<Vni>,
    /// The state of an earlier run, by which the consumer forwards already, perhaps in part by a later one; `None` = none. Then
    /// the first update is a snapshot all the same, and no other board is followed.
    pub held: Option<Point>,
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
            tls: None,
            host,
            instance: Uuid::new_v4(),
            vteps,
            udp_port,
            details: HostDetails::default(),
            interest: BTreeSet::new(),
            held: None,
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
    /// Its run, which sends what that watch brings; `None` = not known.
    pub run: Option<Uuid>,
    /// Features in force with the board; none with a board of before.
    pub features: Features,
    /// The number of the description that the board has; see [`Session::describe`](super::Session::describe).
    pub described: u64,
    /// The board that answers instead, if it is another. It is not followed before [`Session::accept_board`].
    pub other_board: Option<Uuid>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    Keep,
    WithdrawAll,
}

/// What this host is registered with beside its name.
#[derive(Debug, Clone)]
pub(super) struct Description {
    /// Counts up with each change.
    pub number: u64,
    pub vteps: Vec<IpAddr>,
    pub details: HostDetails,
}

/// State shared by the handle and the task.
pub(super) struct Shared {
    pub description: Mutex<Description>,
    /// Notified when `description` is another.
    pub described: Notify,
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

pub(super) type Client = HostServiceClient<Calls>;

/// Sends updates in order; waits while the consumer is behind.
pub(super) type Out = mpsc::Sender<Update>;

/// Everything a connected session needs.
pub(super) struct Live {
    pub client: Client,
    pub host_id: u32,
    pub board: Uuid,
    pub session: u64,
    pub heartbeat: Duration,
    /// In force with this board.
    pub features: Features,
}

/// Sends the events about claims to the consumer. May be dropped at any time: an event is taken from the queue only when
/// it can be sent.
pub(super) async fn deliver_events(shared: &Shared, out: &Out) -> Result<(), Error> {
    while !lock(&shared.desired).events.is_empty() {
        let room = out.reserve().await;
        let room = room.map_err(|_| Error::Unreachable("the receiver of updates was dropped".into()))?;
        let Some(event) = lock(&shared.desired).events.pop_front() else { break };
        let update = match event {
            ClaimEvent::Accepted { vni, mac, addresses } => {
                for why in addresses.iter().flat_map(|accepted| &accepted.refused) {
                    log::warn!("board refuses an address of {mac} in VNI {vni}: {why}");
                }
                Update::Accepted { vni, mac, addresses }
            }
            ClaimEvent::Refused { claim, why } => {
                log::warn!("board refuses {} in VNI {}: {why}", claim.mac, claim.vni);
                Update::Refused { claim, why }
            }
            ClaimEvent::NodeMoved { vni, mac } => Update::NodeMoved { vni, mac },
            ClaimEvent::AddressesMoved { vni, mac, ips } => Update::AddressesMoved { vni, mac, ips },
            ClaimEvent::Deferred { vni, mac, migration } => {
                // An error only means that there is no receiver.
                let _ = shared.migrations.send(MigrationUpdate::Deferred { vni, mac, migration });
                continue;
            }
        };
        room.send(update);
    }
    Ok(())
}

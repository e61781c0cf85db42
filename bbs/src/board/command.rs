//! The board's commands, outcomes and refusals. Values only.

use super::record::Commit;
use crate::{
    model::{Accepted, Claim, Event, MigrationState, Registration, Report, Row, RowError, Target, Uuid},
    table::Write,
};
use std::fmt;
use stopover_config::bbs::Exceeded;
use stopover_net::{HostName, Mac, Vni};

/// The time. It is an argument, since the board has no clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds since 1970, for display.
    pub unix_ms: u64,
    /// Milliseconds since an arbitrary start, for leases. Only time in which the board receives calls is counted, so
    /// that no host is down because of a pause of the board.
    pub lease_ms: u64,
}

/// The idempotency key of a request and a fingerprint of its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Made by the caller.
    pub id: Uuid,
    /// Of the contents of the request.
    pub fingerprint: u64,
}

/// A registration of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The host.
    pub host: HostName,
    /// The number that the board gave to the registration.
    pub number: u64,
}

/// The caller of a command that both a host's appliance and the operator may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A host.
    Host(Session),
    /// The operator, or an orchestrator.
    Operator,
}

/// A migration and the generation that the caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Which.
    pub migration: u64,
    /// From the answer to the call that began it.
    pub generation: u64,
}

/// A command that changes the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A host registers and begins a session.
    Register(Registration),
    /// The host is alive.
    Heartbeat(Session),
    /// The watch of a session is open. While it is, no other process takes the host over.
    WatchOpened {
        /// The session.
        session: Session,
        /// Address of the peer, for messages.
        peer: String,
    },
    /// The watch of a session has closed: its connection has ended.
    WatchClosed(Session),
    /// The host deregisters.
    Deregister {
        /// Who.
        session: Session,
        /// Whether the appliance's nodes and joins are deleted.
        withdraw_all: bool,
    },
    /// The host claims nodes. The board decides about each node separately.
    Claim {
        /// Who.
        session: Session,
        /// Each node at most once.
        claims: Vec<Claim>,
    },
    /// The host no longer has these nodes.
    Withdraw {
        /// Who.
        session: Session,
        /// Keys.
        nodes: Vec<(Vni, Mac)>,
    },
    /// The host is to receive flooded frames of these networks.
    Join {
        /// Who.
        session: Session,
        /// With `segment`.
        networks: Vec<(Vni, bool)>,
    },
    /// Takes [`Command::Join`] back.
    Leave {
        /// Who.
        session: Session,
        /// Where.
        networks: Vec<Vni>,
    },
    /// What the host did not claim or join in this session is deleted.
    SyncClaims(Session),
    /// The operator declares one row.
    Declare(Row),
    /// The operator deletes one target.
    Delete(Target),
    /// The operator declares many rows, all or none. Each has its number.
    Load(Vec<(u64, Row)>),
    /// Locks nodes for a migration, all or none. A repetition for the same nodes renews the lease.
    BeginMigration {
        /// Who.
        by: Principal,
        /// 1 to [`crate::model::MAX_MIGRATING`], each once.
        nodes: Vec<(Vni, Mac)>,
        /// Where they are.
        source: HostName,
        /// Where they migrate to, if known.
        target: Option<HostName>,
        /// Why.
        cause: String,
        /// Time after which the lock expires unless it is renewed.
        lease_ms: u64,
        /// Renew only this migration; refused if it has ended.
        renew: Option<u64>,
    },
    /// The VM runs at the target.
    CompleteMigration {
        /// Who.
        by: Principal,
        /// Which.
        ticket: Ticket,
        /// Where it runs; `None` = the target, or the only host that claims it.
        at: Option<HostName>,
        /// Why.
        cause: String,
    },
    /// The VM remains at the source.
    AbortMigration {
        /// Who.
        by: Principal,
        /// Which.
        ticket: Ticket,
        /// Why.
        cause: String,
    },
    /// An appliance's counters of a migration.
    ReportMigration {
        /// Who.
        session: Session,
        /// Which.
        ticket: Ticket,
        /// What.
        report: Report,
    },
    /// Revisions that are in force on every lcore of a host, each with the session that acknowledged it.
    Acked(Vec<(Session, u64)>),
    /// Checks leases and deadlines.
    Tick,
}

/// The originator of a change without a session whose name is not known.
pub const UNNAMED: &str = "operator";

/// The originator of a change, for events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Actor {
    /// The board itself, because of a deadline or as the consequence of another change.
    Board,
    /// An operator, or an orchestrator: its role and name.
    Named(String),
    /// A host.
    Host(Session),
    /// A process that registers a host.
    Process(HostName, Uuid),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Board => f.write_str("board"),
            Self::Named(by) => f.write_str(by),
            Self::Host(Session { host, number }) => write!(f, "host {host} (session {number:#x})"),
            Self::Process(host, instance) => write!(f, "host {host} (instance {})", instance.simple()),
        }
    }
}

impl Command {
    pub(super) fn actor(&self, caller: &str) -> Actor {
        match self {
            Self::Register(r) => Actor::Process(r.host.clone(), r.instance),
            Self::Heartbeat(session)
            | Self::WatchOpened { session, .. }
            | Self::WatchClosed(session)
            | Self::Deregister { session, .. }
            | Self::Claim { session, .. }
            | Self::Withdraw { session, .. }
            | Self::Join { session, .. }
            | Self::Leave { session, .. }
            | Self::SyncClaims(session)
            | Self::ReportMigration { session, .. } => Actor::Host(session.clone()),
            Self::BeginMigration { by, .. }
            | Self::CompleteMigration { by, .. }
            | Self::AbortMigration { by, .. } => match by {
                Principal::Host(session) => Actor::Host(session.clone()),
                Principal::Operator => Actor::Named(caller.to_owned()),
            },
            Self::Declare(_) | Self::Delete(_) | Self::Load(_) => Actor::Named(caller.to_owned()),
            Self::Acked(_) | Self::Tick => Actor::Board,
        }
    }
}

/// The result of a command that was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The change is made.
    Done {
        /// The board's revision after it.
        revision: u64,
    },
    /// A session has begun.
    Registered {
        /// The host's id.
        host_id: u32,
        /// The session's number.
        session: u64,
        /// The board's revision after it.
        revision: u64,
    },
    /// The results of claims.
    Claimed {
        /// The board's revision after it.
        revision: u64,
        /// How many claims.
        judged: u32,
        /// Refused claims, by position, with the reason.
        refused: Vec<(u32, String)>,
        /// Claims that wait for the end of a migration, by position, with the migration.
        deferred: Vec<(u32, u64)>,
        /// Claims accepted with other addresses than claimed, by position.
        partial: Vec<(u32, Accepted)>,
        /// Claims to repeat, by position, with the delay in milliseconds.
        later: Vec<(u32, u64)>,
    },
    /// The state of a migration.
    Migration {
        /// Which.
        id: u64,
        /// Its generation.
        generation: u64,
        /// Its state.
        state: MigrationState,
        /// The board's revision after it; of an ended migration, the revision that ended it.
        revision: u64,
    },
    /// Stale nodes were deleted.
    Synced {
        /// The board's revision after it.
        revision: u64,
        /// How many nodes.
        nodes_deleted: u64,
    },
}

/// Why a command was refused. The sentence names the holder and has a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Another host or node holds the MAC, IP or VTEP.
    Conflict(String),
    /// It does not exist.
    NotFound(String),
    /// No such session since the board started.
    Unregistered(String),
    /// A later registration has replaced this session.
    Fenced(String),
    /// Others depend on it.
    InUse(String),
    /// The generation is not the migration's, or the migration has ended with the other outcome.
    Stale(String),
    /// The host forwards by the state of another board.
    OtherBoard(String),
    /// The key belongs to another request.
    KeyReused,
    /// It changes more than the store takes at once.
    TooLarge(String),
    /// It would exceed a limit.
    Quota(Exceeded),
    /// The board takes no writes now: its disk is full, or a record is unreadable.
    ReadOnly(String),
    /// Rows of a load are wrong.
    Rows {
        /// The first few.
        errors: Vec<RowError>,
        /// How many there are in total.
        total: u64,
    },
}

impl Refusal {
    /// The reason word of the `.proto`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Conflict(_) | Self::Rows { .. } => "conflict",
            Self::NotFound(_) => "not-found",
            Self::Unregistered(_) => "unregistered",
            Self::Fenced(_) => "fenced",
            Self::InUse(_) => "in-use",
            Self::Stale(_) => "stale",
            Self::OtherBoard(_) => "other-board",
            Self::KeyReused => "key-reused",
            Self::TooLarge(_) => "too-large",
            Self::Quota(_) => "quota",
            Self::ReadOnly(_) => "read-only",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(why)
            | Self::NotFound(why)
            | Self::Unregistered(why)
            | Self::Fenced(why)
            | Self::InUse(why)
            | Self::Stale(why)
            | Self::TooLarge(why)
            | Self::ReadOnly(why)
            | Self::OtherBoard(why) => f.write_str(why),
            Self::Quota(exceeded) => exceeded.fmt(f),
            Self::KeyReused => f.write_str(
                "the idempotency key belongs to a different request: take a new key for each request, and the \
                 same only to repeat one",
            ),
            Self::Rows { errors, total } => {
                write!(f, "{total} rows are wrong")?;
                errors.iter().try_for_each(|e| write!(f, "; row {}: {}", e.number, e.why))
            }
        }
    }
}

/// The effects of a command.
#[derive(Debug)]
pub struct Applied {
    /// The answer.
    pub result: Result<Outcome, Refusal>,
    /// For watchers, in order. After a very large load only the last commits, as many as a history may keep.
    pub commits: Vec<Commit>,
    /// For the store. They must be durable before `result` is sent or `commits` are published.
    pub writes: Vec<Write>,
    /// For the operator. `writes` contains them too.
    pub events: Vec<Event>,
}

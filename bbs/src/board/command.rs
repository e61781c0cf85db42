//! What can be asked of the board, and what it can answer.

use super::record::{Commit, Write};
use crate::model::{
    Accepted, Claim, Event, MigrationState, Registration, Report, Row, RowError, Target, Uuid,
};
use std::fmt;
use stopover_net::{HostName, Mac, Vni};

/// The time, as an argument: the board has no clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds since 1970, for people.
    pub unix_ms: u64,
    /// Milliseconds of listening since some beginning, for leases. Stands still while the board does not listen,
    /// so that no host is declared down for the board's own pauses.
    pub lease_ms: u64,
}

/// The idempotency key of a request and a fingerprint of its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// From the caller.
    pub id: Uuid,
    /// Of the contents.
    pub fingerprint: u64,
}

/// Which registration speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The host.
    pub host: HostName,
    /// The number it was given.
    pub number: u64,
}

/// Who asks for something that a host's appliance and the operator may both ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A host.
    Host(Session),
    /// The operator, or an orchestrator in her place.
    Operator,
}

/// A migration and the generation its caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Which.
    pub migration: u64,
    /// As told when it began.
    pub generation: u64,
}

/// Everything that changes the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A host announces itself and begins a session.
    Register(Registration),
    /// It is alive.
    Heartbeat(Session),
    /// Its watch is open. While it is, no other process takes the host over.
    WatchOpened {
        /// Whose.
        session: Session,
        /// Where it comes from, for messages.
        peer: String,
    },
    /// Its watch has closed: its connection is gone.
    WatchClosed(Session),
    /// It says goodbye.
    Deregister {
        /// Who.
        session: Session,
        /// Delete its own nodes and joins.
        withdraw_all: bool,
    },
    /// It has these nodes; each is judged by itself.
    Claim {
        /// Who.
        session: Session,
        /// No node twice.
        claims: Vec<Claim>,
    },
    /// It has these no more.
    Withdraw {
        /// Who.
        session: Session,
        /// Keys.
        nodes: Vec<(Vni, Mac)>,
    },
    /// It wants flooded frames.
    Join {
        /// Who.
        session: Session,
        /// With `segment`.
        networks: Vec<(Vni, bool)>,
    },
    /// It wants them no more.
    Leave {
        /// Who.
        session: Session,
        /// Where.
        networks: Vec<Vni>,
    },
    /// It has nothing but what it claimed and joined in this session.
    SyncClaims(Session),
    /// The operator declares one thing.
    Declare(Row),
    /// The operator deletes one thing.
    Delete(Target),
    /// The operator declares many things, all or nothing; with the rows' numbers.
    Load(Vec<(u64, Row)>),
    /// Nodes are to be locked for a migration, all or none. Again for the same: renews the lease.
    BeginMigration {
        /// Who.
        by: Principal,
        /// 1 to [`crate::model::MAX_MIGRATING`], none twice.
        nodes: Vec<(Vni, Mac)>,
        /// Where they are.
        source: HostName,
        /// Where they go, if known.
        target: Option<HostName>,
        /// Why.
        cause: String,
        /// How long the lock shall live without being renewed.
        lease_ms: u64,
        /// Only renew this one; refused if it has ended.
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
    /// The VM stays at the source.
    AbortMigration {
        /// Who.
        by: Principal,
        /// Which.
        ticket: Ticket,
        /// Why.
        cause: String,
    },
    /// What an appliance counted.
    ReportMigration {
        /// Who.
        session: Session,
        /// Which.
        ticket: Ticket,
        /// What.
        report: Report,
    },
    /// Revisions that hosts have on every lcore, each acknowledged in this session.
    Acked(Vec<(Session, u64)>),
    /// Time has passed.
    Tick,
}

/// Who changes the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Actor {
    /// The board by itself: time has passed, or a rule follows from what has changed.
    Board,
    /// The operator, or an orchestrator in her place.
    Operator,
    /// A host.
    Host(Session),
    /// A process that wants to speak for a host.
    Process(HostName, Uuid),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Board => f.write_str("board"),
            Self::Operator => f.write_str("operator"),
            Self::Host(Session { host, number }) => write!(f, "host {host} (session {number:#x})"),
            Self::Process(host, instance) => write!(f, "host {host} (instance {})", instance.simple()),
        }
    }
}

impl Command {
    pub(super) fn actor(&self) -> Actor {
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
                Principal::Operator => Actor::Operator,
            },
            Self::Declare(_) | Self::Delete(_) | Self::Load(_) => Actor::Operator,
            Self::Acked(_) | Self::Tick => Actor::Board,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is so, at this revision.
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
    /// Claims were judged.
    Claimed {
        /// The board's revision after it.
        revision: u64,
        /// How many.
        judged: u32,
        /// Which of them were refused, by position, and why.
        refused: Vec<(u32, String)>,
        /// Which of them wait for the end of a migration, by position, and of which.
        deferred: Vec<(u32, u64)>,
        /// Which of them were accepted with other addresses than claimed, by position.
        partial: Vec<(u32, Accepted)>,
        /// Which of them are to be repeated, by position, and after how many milliseconds.
        later: Vec<(u32, u64)>,
    },
    /// A migration stands so.
    Migration {
        /// Which.
        id: u64,
        /// Its generation.
        generation: u64,
        /// Where it stands.
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

/// Why nothing was done. Each carries a sentence that names holders and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody else holds the MAC, IP or VTEP.
    Conflict(String),
    /// No such thing.
    NotFound(String),
    /// No such session since the board started.
    Unregistered(String),
    /// A later registration has replaced this session.
    Fenced(String),
    /// Others depend on it.
    InUse(String),
    /// It names a generation that is not the migration's, or a migration that has ended the other way.
    Stale(String),
    /// The host forwards by the state of another board.
    OtherBoard(String),
    /// The key belongs to another request.
    KeyReused,
    /// Rows of a load are wrong.
    Rows {
        /// The first few.
        errors: Vec<RowError>,
        /// How many were found.
        total: u64,
    },
}

impl Refusal {
    /// The one word of the `.proto`.
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
            | Self::OtherBoard(why) => f.write_str(why),
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

/// What came of a command.
#[derive(Debug)]
pub struct Applied {
    /// The answer.
    pub result: Result<Outcome, Refusal>,
    /// For watchers, in order. Of a very large load only as many of the last as a history may keep.
    pub commits: Vec<Commit>,
    /// For the store. Must be durable before `result` is told or `commits` are shown to anyone.
    pub writes: Vec<Write>,
    /// For the operator; they are among `writes` too.
    pub events: Vec<Event>,
}

//! Why a call to the board failed.

use crate::{model::RowError, proto};
use std::fmt;
use tonic::Status;

/// The board's one-word reasons, as listed in the `.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Another host or node holds the MAC, IP or VTEP.
    Conflict,
    /// It does not exist.
    NotFound,
    /// The board has no registration with this session since it started.
    Unregistered,
    /// A later registration of this host has replaced ours.
    Fenced,
    /// The migration has another generation, or has ended with the other outcome.
    Stale,
    /// Other records depend on the target of the deletion.
    InUse,
    /// The caller may not act for this host.
    Forbidden,
    /// We hold the state of another board.
    OtherBoard,
    /// We lack a feature without which we must not act.
    Upgrade,
    /// The board takes no writes now: its disk is full, or a record is unreadable.
    ReadOnly,
    /// The request was malformed, or its key belongs to another request.
    Invalid,
    /// Anything else, such as a timeout.
    Other,
}

/// Why a call failed.
#[derive(Debug, Clone)]
pub enum Error {
    /// No connection, or it broke.
    Unreachable(String),
    /// This host has other addresses than it registered with.
    HostChanged,
    /// The board refused the call.
    Refused {
        /// The reason word of the board.
        reason: Reason,
        /// One sentence that names the holder and has a hint.
        why: String,
    },
    /// A load was refused; nothing was changed.
    Rows {
        /// The first few.
        errors: Vec<RowError>,
        /// Number of wrong rows.
        total: u64,
    },
    /// This version does not understand the answer of the board.
    Protocol(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the board cannot be reached: {why}"),
            Self::HostChanged => f.write_str("this host has other VTEP addresses, and registers with them"),
            Self::Refused { why, .. } => f.write_str(why),
            Self::Rows { errors, total } => {
                write!(f, "{total} rows refused, nothing was changed")?;
                errors.iter().try_for_each(|e| write!(f, "\nrow {}: {}", e.number, e.why))
            }
            Self::Protocol(why) => write!(
                f,
                "the board's answer is not understood: {why}; hint: the board has another version, upgrade the older program"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// The one-word reason, if the board gave one.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            _ => None,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let word = status.metadata().get(proto::REASON).and_then(|v| v.to_str().ok());
        let reason = match (word, status.code()) {
            (Some("conflict"), _) => Reason::Conflict,
            (Some("not-found"), _) => Reason::NotFound,
            (Some("unregistered"), _) => Reason::Unregistered,
            (Some("fenced"), _) => Reason::Fenced,
            (Some("stale"), _) => Reason::Stale,
            (Some("in-use"), _) => Reason::InUse,
            (Some("forbidden"), _) => Reason::Forbidden,
            (Some("other-board"), _) => Reason::OtherBoard,
            (Some("upgrade"), _) => Reason::Upgrade,
            (Some("read-only"), _) => Reason::ReadOnly,
            (_, tonic::Code::InvalidArgument) => Reason::Invalid,
            // tonic's own codes when the connection breaks during a call.
            (None, tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown) => {
                return Self::Unreachable(status.message().to_owned());
            }
            _ => Reason::Other,
        };
        Self::Refused { reason, why: status.message().to_owned() }
    }
}

impl From<proto::parse::BadField> for Error {
    fn from(bad: proto::parse::BadField) -> Self {
        Self::Protocol(bad.to_string())
    }
}

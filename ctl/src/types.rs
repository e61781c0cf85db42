//! Requests and answers. Counters count from the appliance's start or the last clear; names of statistics
//! are testpmd's where it has them; times carry their unit; ports are named as in the configuration.

mod changes;
mod migrations;
mod stats;
mod tables;
mod trace;
mod tunnels;

pub use changes::*;
pub use migrations::*;
pub use stats::*;
pub use tables::*;
pub use trace::*;
pub use tunnels::*;

use serde::{Deserialize, Serialize};
use std::{net::IpAddr, path::PathBuf};
use stopover_net::Mac;

/// Body of every answer whose status is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed.
    pub error: ApiError,
}

/// A refusal, in the three parts every message of Stopover has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}; expected {expected}; hint: {hint}")]
pub struct ApiError {
    /// What was found.
    pub what: String,
    /// What would have been right.
    pub expected: String,
    /// How to correct it.
    pub hint: String,
}

impl ApiError {
    /// From the three parts.
    pub fn new(what: impl Into<String>, expected: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), expected: expected.into(), hint: hint.into() }
    }
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The appliance's name, its host name at the board.
    pub name: String,
    /// Version of Stopover, with commit where known.
    pub version: String,
    /// Version of DPDK it runs with.
    pub dpdk: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
}

/// The process that takes the place of the running one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeOver {
    /// Its process id.
    pub pid: u32,
    /// Where it listens (`SOCK_SEQPACKET`) for the rest: the running process connects there.
    pub line: PathBuf,
}

/// A checkpoint is written, and the running process goes on until the other one tells by the line that it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOver {
    /// By which the host is registered at the board: the other process continues with it. 32 hexadecimal digits.
    pub instance: String,
    /// What the other process need not ask for on the underlay.
    pub neighbours: Vec<KnownNeighbour>,
}

/// A station on the link of an underlay port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownNeighbour {
    /// Port name.
    pub port: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC.
    pub mac: Mac,
}

/// What to set to zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what", deny_unknown_fields)]
pub enum ClearRequest {
    /// Device counters ([`PortStats`]) of one port or of all.
    PortStats {
        /// Port name; absent for all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<String>,
    },
    /// [`FwdStats`], and with them lcore and drop counters, which are parts of the same packet accounting.
    FwdStats,
}

/// Most rows of one [`Page`], and the number if a request does not state one.
pub const MOST_ROWS: usize = 10_000;

/// Query of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Only of this network. Only for nodes, addresses and networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<stopover_net::Vni>,
    /// The [`Page::next`] of the page before; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many rows, 1 to [`MOST_ROWS`]. (Rows of equal hash are in one page, so one more is possible.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A part of a list, in no particular order. A row that exists throughout is in exactly one of the pages. A row that is
/// added or removed meanwhile is in one of them or in none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows; there may be none though more pages follow.
    pub rows: Vec<T>,
    /// Cursor of the next page; absent in the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

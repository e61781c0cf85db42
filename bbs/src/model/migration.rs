//! The types of migrations: the lock on nodes, its owner, its outcome, and the reports of appliances. Values only.

use super::Claim;
use serde::Serialize;
use stopover_net::{HostName, Mac, Vni};

/// Most nodes of one migration: the VIFs of one VM.
pub const MAX_MIGRATING: usize = 64;
/// Bounds of a lock's lease, in milliseconds.
pub const LEASE_MS: (u64, u64) = (100, 3_600_000);
/// Longest cause, in bytes.
pub const MAX_CAUSE: usize = 64;
/// Most causes kept of one migration.
pub const MAX_CAUSES: usize = 8;
/// Most deferred claims, and most reports, kept of one migration.
pub const MAX_DEFERRED: usize = 256;
/// Most hosts that report on one migration.
pub const MAX_REPORTS: usize = 64;

/// A host as it was when the migration referred to it; it may have been deleted since.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct HostRef {
    /// Assigned by the board.
    pub id: u32,
    /// Its name.
    pub name: HostName,
}

/// A migrating node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigratingNode {
    /// Network.
    pub vni: Vni,
    /// Its MAC.
    pub mac: Mac,
    /// The source has withdrawn it while it was locked.
    #[serde(rename = "let_go")]
    pub released: bool,
}

/// A claim that waits for the end of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deferred {
    /// The host that claims.
    pub host: HostRef,
    /// The claim.
    #[serde(flatten)]
    pub claim: Claim,
}

/// The state of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationState {
    /// Its nodes are locked.
    Locked,
    /// Its nodes are at the target.
    Completed,
    /// Its nodes are at the source, or deleted if the source has released them.
    Aborted,
}

/// Counters and times of a migration at one appliance. Cumulative: a later report replaces the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Frames held.
    pub held: u64,
    /// Held frames that were sent.
    pub replayed: u64,
    /// Late frames that were redirected to the target.
    pub redirected: u64,
    /// Frames lost, for any reason.
    pub dropped: u64,
    /// Frames out of their order.
    pub reordered: u64,
    /// Frames delivered twice.
    pub duplicated: u64,
    /// Longest gap between two delivered frames, in microseconds.
    pub longest_gap_us: u64,
    /// When the last dirty page was logged. Microseconds since 1970 by that host's clock, as the next three;
    /// 0 = not observed.
    pub last_dirty_unix_us: u64,
    /// The source's rings stopped.
    pub source_stopped_unix_us: u64,
    /// The target's rings started.
    pub target_up_unix_us: u64,
    /// The last held frame was sent.
    pub hold_drained_unix_us: u64,
}

/// A report and its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// The host.
    pub host: HostName,
    /// Its report.
    #[serde(flatten)]
    pub report: Report,
}

/// A migration, as kept at the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// From 1, in order, never assigned again.
    pub id: u64,
    /// Fencing generation: the revision in which the lock was taken. Newer locks have greater ones.
    pub generation: u64,
    /// By network and MAC.
    pub nodes: Vec<MigratingNode>,
    /// Where they were.
    pub source: HostRef,
    /// Where they migrate to, once known.
    pub target: Option<HostRef>,
    /// The host whose lease the lock is; `None` = the operator.
    pub owner: Option<HostRef>,
    /// The causes that its callers gave, in the order of the calls.
    pub causes: Vec<String>,
    /// Time after which the lock expires unless it is renewed.
    pub lease_ms: u64,
    /// Its state.
    pub state: MigrationState,
    /// Why it ended.
    pub reason: String,
    /// Claims that wait, or that waited when it ended.
    pub deferred: Vec<Deferred>,
    /// When the lock was taken. Milliseconds since 1970 by the board's clock, as the next three; 0 = not yet.
    pub locked_unix_ms: u64,
    /// When the first claim was deferred.
    pub deferred_unix_ms: u64,
    /// When it ended.
    pub ended_unix_ms: u64,
    /// The barrier: when every appliance with members in its networks had the end's revision on every lcore.
    pub switched_unix_ms: u64,
    /// The revision that ended it; 0 = none yet.
    pub revision: u64,
    /// Hosts for which the barrier still waits.
    pub waiting: Vec<HostRef>,
    /// Hosts that did not acknowledge before they went down or the barrier expired.
    pub missed: Vec<HostRef>,
    /// Reports of appliances, by host.
    pub reports: Vec<HostReport>,
}

/// A lock, as stored and as sent to watchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// The migration.
    pub migration: u64,
    /// Its generation.
    pub generation: u64,
    /// Where the node is.
    pub source: u32,
    /// Where it migrates to, if known.
    pub target: Option<u32>,
}

/// How a lock ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unlocked {
    /// The node is at the target.
    Completed,
    /// The node is at the source, or is deleted next because the source has released it.
    Aborted,
}

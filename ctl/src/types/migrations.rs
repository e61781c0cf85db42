//! Migrating nodes, as this appliance sees them. The board reports its own view of a migration.

use serde::{Deserialize, Serialize};
use stopover_net::{Mac, Vni};

/// Answer to [`path::MIGRATIONS`](crate::path::MIGRATIONS).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrations {
    /// What may be held, and how much of it is free.
    pub budget: MigrationBudget,
    /// Nodes of local ports that are in a migration, or were in one since the start and are still known here;
    /// by VNI and MAC.
    pub nodes: Vec<LocalMigration>,
}

/// Budgets and waits in force, from the configuration's `migration`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationBudget {
    /// Memory for held frames of all nodes together, bytes.
    pub hold_bytes: u64,
    /// Free of it at this moment, bytes.
    pub hold_free_bytes: u64,
    /// How much of it one node may take, bytes.
    pub hold_node_bytes: u64,
    /// How long frames are kept for a node that runs nowhere, milliseconds.
    pub hold_ms: u64,
    /// How much of the past is kept for replay from windowed ports, milliseconds.
    pub window_ms: u64,
    /// How long the target waits for a sender's end marker, milliseconds.
    pub marker_wait_ms: u64,
}

/// One node, with the counters of its migration that is active or was last. Counters are of this appliance
/// alone: the other end reports its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalMigration {
    /// Network.
    pub vni: Vni,
    /// The station's MAC.
    pub mac: Mac,
    /// Local port it is, was, or will be behind.
    pub port: String,
    /// `here`, `leaving`, `paused`, `forwarding`, `arriving`, `expected` or `away`.
    pub state: String,
    /// The board's number of the migration; absent when the board has not announced one.
    pub migration: Option<u64>,
    /// Its generation.
    pub generation: Option<u64>,
    /// The port reports which frames it took, so that held and delivered frames are never the same. Otherwise a
    /// window of the past is held.
    pub exact: bool,
    /// Host its frames go to; this appliance's own name when both ends are here; absent while it is not known.
    pub to: Option<String>,
    /// Frames held at this moment.
    pub held_now_frames: u64,
    /// Memory they take, bytes.
    pub held_now_bytes: u64,
    /// Frames that were held.
    pub held: u64,
    /// Held frames sent on.
    pub replayed: u64,
    /// Frames sent on to the new host without having been held.
    pub redirected: u64,
    /// Frames lost: no room in the hold, or held for too long.
    pub dropped: u64,
    /// Frames delivered before others that were sent earlier, because a marker did not arrive in time.
    pub reordered: u64,
    /// Frames that may have been delivered twice: the replayed window's.
    pub duplicated: u64,
    /// Longest time without a frame delivered while frames were waiting, microseconds.
    pub longest_gap_us: u64,
    /// How much this node may hold, bytes.
    pub hold_limit_bytes: u64,
    /// How long it has been in `state`, milliseconds.
    pub since_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_as_documented() {
        let text = r#"{"budget":{"hold_bytes":67108864,"hold_free_bytes":67092480,"hold_node_bytes":33554432,"hold_ms":10000,"window_ms":1000,"marker_wait_ms":80},"nodes":[{"vni":100,"mac":"52:54:00:00:00:01","port":"vm1","state":"paused","migration":7,"generation":4711,"exact":true,"to":null,"held_now_frames":3,"held_now_bytes":4572,"held":3,"replayed":0,"redirected":0,"dropped":0,"reordered":0,"duplicated":0,"longest_gap_us":0,"hold_limit_bytes":33554432,"since_ms":12}]}"#;
        let read: Migrations = serde_json::from_str(text).unwrap();
        let node = &read.nodes[0];
        assert_eq!((node.vni.get(), node.state.as_str(), node.migration), (100, "paused", Some(7)));
        assert_eq!((node.held_now_bytes, node.hold_limit_bytes), (4572, read.budget.hold_node_bytes));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}

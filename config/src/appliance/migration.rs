//! The `migration` key: how much an appliance may hold for nodes that are being migrated, and how long it
//! waits. Raw numbers in mebibytes and milliseconds enter; budgets in bytes leave.

use super::raw;
use crate::{fault::Checked, read};
use std::ops::RangeInclusive;

/// Budgets and waits of live migration on this appliance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Memory for held frames of all nodes together, bytes; whole mebibytes, at least one. Allocated at the
    /// start.
    pub hold_bytes: usize,
    /// How much of it one node may take, bytes; whole mebibytes, at least one, at most `hold_bytes`.
    pub hold_node_bytes: usize,
    /// How long frames are kept for a node that no host took over, 100 to 600000.
    pub hold_ms: u64,
    /// How much of the past is replayed for a port that does not report what was delivered, 10 to 60000.
    pub window_ms: u64,
    /// How long the target waits for a sender's end marker, 1 to 10000.
    pub marker_wait_ms: u64,
}

/// Ten thousand 1,000-byte frames a second for 6 s, or 750,000 of the smallest.
const HOLD_MIB: u32 = 64;
/// So that one node cannot take what another needs.
const HOLD_NODE_MIB: u32 = 32;
/// Thirty times QEMU's default limit of the downtime (0.3 s).
const HOLD_MS: u64 = 10_000;
/// Three times the same: it has to cover the pause.
const WINDOW_MS: u64 = 1000;
/// A marker takes the path of frames, which needs microseconds; it may wait for an lcore that sleeps or is
/// preempted on some host: up to 300 ms were seen where lcores shared two CPUs with four emulated guests. Markers are
/// repeated, so this ends a wait only when a host is stopped or cut off: its peers then miss the node for that long.
const MARKER_WAIT_MS: u64 = 500;
const HOLD_MS_RANGE: RangeInclusive<u64> = 100..=600_000;

pub(super) fn check(raw: raw::Migration) -> Checked<Migration> {
    let hold_mib: u32 = read::number("migration.hold_mib", raw.hold_mib, HOLD_MIB, 1..=65_536, "MiB")?;
    let hold_node_mib: u32 = read::number(
        "migration.hold_node_mib",
        raw.hold_node_mib,
        HOLD_NODE_MIB.min(hold_mib),
        1..=hold_mib,
        "MiB, the most `hold_mib` allows",
    )?;
    Ok(Migration {
        hold_bytes: bytes(hold_mib),
        hold_node_bytes: bytes(hold_node_mib),
        hold_ms: read::number("migration.hold_ms", raw.hold_ms, HOLD_MS, HOLD_MS_RANGE, "milliseconds")?,
        window_ms: read::number(
            "migration.window_ms",
            raw.window_ms,
            WINDOW_MS,
            10..=60_000,
            "milliseconds",
        )?,
        marker_wait_ms: read::number(
            "migration.marker_wait_ms",
            raw.marker_wait_ms,
            MARKER_WAIT_MS,
            1..=10_000,
            "milliseconds",
        )?,
    })
}

/// At most 64 GiB, which fits the `usize` of every machine DPDK runs forwarding on.
fn bytes(mib: u32) -> usize {
    (mib as usize).saturating_mul(1 << 20)
}

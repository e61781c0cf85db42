//! Migrating nodes as one appliance sees them: the budget of the hold, the state of each node, and its counters.

use crate::table::{Table, opt};
use std::fmt::Write as _;
use stopover_ctl::Migrations;

/// Bytes in mebibytes, to a tenth.
fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

const NODE_HEADERS: [&str; 12] = [
    ">VNI",
    "MAC",
    "PORT",
    "KIND",
    "STATE",
    ">FOR-MS",
    "TO",
    ">MIGRATION",
    ">GENERATION",
    ">HOLDS",
    ">MIB",
    ">OF",
];
const COUNT_HEADERS: [&str; 9] =
    [">VNI", "MAC", ">HELD", ">REPLAYED", ">REDIRECTED", ">DROPPED", ">REORDERED", ">DUPLICATED", ">GAP-MS"];

/// `show migrations`
pub fn local_migrations(m: &Migrations) -> String {
    let b = &m.budget;
    // Writing to a String cannot fail.
    let mut s = format!(
        "hold: {} of {} MiB free, at most {} MiB a node for {} ms\n",
        mib(b.hold_free_bytes),
        mib(b.hold_bytes),
        mib(b.hold_node_bytes),
        b.hold_ms
    );
    let _ = writeln!(s, "window {} ms, end markers within {} ms\n", b.window_ms, b.marker_wait_ms);
    let mut nodes = Table::new(&NODE_HEADERS, "no node is migrating");
    let mut counts = Table::new(&COUNT_HEADERS, "");
    for n in &m.nodes {
        nodes.row([
            n.vni.to_string(),
            n.mac.to_string(),
            n.port.clone(),
            if n.exact { "exact" } else { "windowed" }.to_owned(),
            n.state.clone(),
            n.since_ms.to_string(),
            n.to.clone().unwrap_or_default(),
            opt(n.migration),
            opt(n.generation),
            n.held_now_frames.to_string(),
            mib(n.held_now_bytes),
            mib(n.hold_limit_bytes),
        ]);
        counts.row([
            n.vni.to_string(),
            n.mac.to_string(),
            n.held.to_string(),
            n.replayed.to_string(),
            n.redirected.to_string(),
            n.dropped.to_string(),
            n.reordered.to_string(),
            n.duplicated.to_string(),
            format!("{:.1}", n.longest_gap_us as f64 / 1000.0),
        ]);
    }
    let _ = write!(s, "{nodes}");
    if !m.nodes.is_empty() {
        let _ = write!(s, "\n{counts}");
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopover_ctl::{LocalMigration, MigrationBudget};
    use stopover_net::{Mac, Vni};

    fn paused() -> LocalMigration {
        LocalMigration {
            vni: Vni::new(100).unwrap(),
            mac: Mac::new([0x52, 0x54, 0, 0, 0, 1]),
            port: "vm1".into(),
            state: "paused".into(),
            migration: Some(7),
            generation: Some(4711),
            exact: true,
            to: None,
            held_now_frames: 2048,
            held_now_bytes: 3 << 20,
            held: 2048,
            replayed: 0,
            redirected: 0,
            dropped: 0,
            reordered: 0,
            duplicated: 0,
            longest_gap_us: 0,
            hold_limit_bytes: 32 << 20,
            since_ms: 120,
        }
    }

    fn forwarding() -> LocalMigration {
        LocalMigration {
            vni: Vni::new(7).unwrap(),
            mac: Mac::new([2, 0, 0, 0, 0, 9]),
            port: "br0".into(),
            state: "forwarding".into(),
            migration: None,
            generation: None,
            exact: false,
            to: Some("hv-b".into()),
            held_now_frames: 0,
            held_now_bytes: 0,
            held: 900,
            replayed: 850,
            redirected: 3,
            dropped: 50,
            reordered: 1,
            duplicated: 850,
            longest_gap_us: 12_340,
            since_ms: 5,
            ..paused()
        }
    }

    #[test]
    fn budget_states_and_counters() {
        let budget = MigrationBudget {
            hold_bytes: 64 << 20,
            hold_free_bytes: 61 << 20,
            hold_node_bytes: 32 << 20,
            hold_ms: 10_000,
            window_ms: 1000,
            marker_wait_ms: 80,
        };
        let nodes = vec![paused(), forwarding()];
        assert_eq!(
            local_migrations(&Migrations { budget, nodes }),
            "\
hold: 61.0 of 64.0 MiB free, at most 32.0 MiB a node for 10000 ms
window 1000 ms, end markers within 80 ms

VNI  MAC                PORT  KIND      STATE       FOR-MS  TO    MIGRATION  GENERATION  HOLDS  MIB    OF
100  52:54:00:00:00:01  vm1   exact     paused         120  -             7        4711   2048  3.0  32.0
  7  02:00:00:00:00:09  br0   windowed  forwarding       5  hv-b          -           -      0  0.0  32.0

VNI  MAC                HELD  REPLAYED  REDIRECTED  DROPPED  REORDERED  DUPLICATED  GAP-MS
100  52:54:00:00:00:01  2048         0           0        0          0           0     0.0
  7  02:00:00:00:00:09   900       850           3       50          1         850    12.3
"
        );
        let quiet = local_migrations(&Migrations { budget, nodes: vec![] });
        assert!(quiet.ends_with("80 ms\n\nno node is migrating\n"), "{quiet}");
    }
}

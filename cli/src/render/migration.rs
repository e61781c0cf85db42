//! Migrations as text: their phases in order, each with the time since the lock.

use super::board::utc;
use crate::table::{Table, join};
use stopover_bbs::client::{Migration, MigrationState, MigrationTicket};

fn state(state: MigrationState) -> &'static str {
    match state {
        MigrationState::Locked => "locked",
        MigrationState::Completed => "completed",
        MigrationState::Aborted => "aborted",
    }
}

/// The answer to `migration begin|complete|abort`
pub fn migration_ticket(t: &MigrationTicket) -> String {
    format!(
        "migration {} generation {} is {}, revision {}\n",
        t.migration,
        t.generation,
        state(t.state),
        t.revision
    )
}

fn target(m: &Migration) -> String {
    m.target.as_ref().map(|t| t.name.to_string()).unwrap_or_default()
}

/// `migration list`
pub fn migrations(all: &[Migration]) -> String {
    let headers = [">ID", "STATE", "SOURCE", "TARGET", ">NODES", "BEGUN", ">MS", "WHY"];
    let mut t = Table::new(&headers, "no migrations");
    for m in all {
        let took = m.ended_unix_ms.checked_sub(m.locked_unix_ms);
        t.row([
            m.id.to_string(),
            state(m.state).to_owned(),
            m.source.name.to_string(),
            target(m),
            m.nodes.len().to_string(),
            utc(m.locked_unix_ms),
            took.map(|ms| ms.to_string()).unwrap_or_default(),
            if m.reason.is_empty() { join(&m.causes) } else { m.reason.clone() },
        ]);
    }
    t.to_string()
}

/// `migration show`
pub fn migration(m: &Migration) -> String {
    let owner = m.owner.as_ref().map_or_else(|| "operator".to_owned(), |o| format!("host {}", o.name));
    let mut out = format!(
        "migration {} generation {}: {} to {}, {}\nbegun by {owner} ({}), lease {} ms\n",
        m.id,
        m.generation,
        m.source.name,
        if m.target.is_some() { target(m) } else { "a host not known yet".into() },
        state(m.state),
        m.causes.join(", "),
        m.lease_ms
    );
    if m.state != MigrationState::Locked {
        out.push_str(&format!("ended at revision {}: {}\n", m.revision, m.reason));
    }
    for n in &m.nodes {
        let released = if n.released { " (withdrawn by the source)" } else { "" };
        out.push_str(&format!("node {} in VNI {}{released}\n", n.mac, n.vni));
    }

    out.push_str(&format!("\n{}", phases(m)));
    for (what, hosts) in [("waiting for", &m.waiting), ("went down before switching", &m.missed)] {
        if !hosts.is_empty() {
            out.push_str(&format!("{what}: {}\n", join(hosts.iter().map(|h| h.name.to_string()))));
        }
    }
    out.push_str(&format!("\n{}", reports(m)));
    out
}

/// The phases that were reached, in their order, with the clock that each time is of.
fn phases(m: &Migration) -> Table {
    let mut phases = vec![
        (m.locked_unix_ms * 1000, "locked", "board".to_owned()),
        (m.deferred_unix_ms * 1000, "claim deferred", "board".to_owned()),
        (m.ended_unix_ms * 1000, state(m.state), "board".to_owned()),
        (m.switched_unix_ms * 1000, "all cores switched", "board".to_owned()),
    ];
    for r in &m.reports {
        let by = r.host.to_string();
        phases.push((r.report.last_dirty_unix_us, "last dirty page", by.clone()));
        phases.push((r.report.source_stopped_unix_us, "source stopped", by.clone()));
        phases.push((r.report.target_up_unix_us, "target up", by.clone()));
        phases.push((r.report.hold_drained_unix_us, "hold drained", by));
    }
    phases.retain(|(at, ..)| *at > 0);
    phases.sort();
    let mut t = Table::new(&["PHASE", "AT", ">MS", "CLOCK-OF"], "no phases");
    for (at, phase, by) in phases {
        let since = (i128::from(at) - i128::from(m.locked_unix_ms) * 1000) as f64 / 1000.0;
        t.row([phase.to_owned(), utc(at / 1000), format!("{since:.1}"), by]);
    }
    t
}

/// The counters of each appliance.
fn reports(m: &Migration) -> Table {
    let headers =
        ["HOST", ">HELD", ">REPLAYED", ">REDIRECTED", ">DROPPED", ">REORDERED", ">DUPLICATED", ">GAP-MS"];
    let mut t = Table::new(&headers, "no appliance has reported");
    for r in &m.reports {
        let c = &r.report;
        t.row([
            r.host.to_string(),
            c.held.to_string(),
            c.replayed.to_string(),
            c.redirected.to_string(),
            c.dropped.to_string(),
            c.reordered.to_string(),
            c.duplicated.to_string(),
            format!("{:.1}", c.longest_gap_us as f64 / 1000.0),
        ]);
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopover_bbs::model::{HostRef, HostReport, MigratingNode, Report};
    use stopover_net::{HostName, Mac, Vni};

    #[test]
    fn phases_are_in_order_with_the_time_since_the_lock() {
        let host = |id, name| HostRef { id, name: HostName::new(name).unwrap() };
        let report = Report {
            held: 12,
            replayed: 12,
            longest_gap_us: 2500,
            source_stopped_unix_us: 1_500,
            ..Report::default()
        };
        let m = Migration {
            id: 3,
            generation: 41,
            nodes: vec![MigratingNode {
                vni: Vni::new(100).unwrap(),
                mac: Mac::new([2, 0, 0, 0, 0, 1]),
                released: false,
            }],
            source: host(1, "a"),
            target: Some(host(2, "b")),
            owner: None,
            causes: vec!["libvirt".into()],
            lease_ms: 60_000,
            state: MigrationState::Completed,
            reason: "rings stopped".into(),
            deferred: vec![],
            locked_unix_ms: 1,
            deferred_unix_ms: 0,
            ended_unix_ms: 3,
            switched_unix_ms: 0,
            revision: 43,
            waiting: vec![host(2, "b")],
            missed: vec![],
            reports: vec![HostReport { host: HostName::new("a").unwrap(), report }],
        };
        assert_eq!(
            migration(&m),
            "\
migration 3 generation 41: a to b, completed
begun by operator (libvirt), lease 60000 ms
ended at revision 43: rings stopped
node 02:00:00:00:00:01 in VNI 100

PHASE           AT                         MS  CLOCK-OF
locked          1970-01-01T00:00:00.001Z  0.0  board
source stopped  1970-01-01T00:00:00.001Z  0.5  a
completed       1970-01-01T00:00:00.003Z  2.0  board
waiting for: b

HOST  HELD  REPLAYED  REDIRECTED  DROPPED  REORDERED  DUPLICATED  GAP-MS
a       12        12           0        0          0           0     2.5
"
        );
        assert!(migrations(&[m]).contains("3  completed  a       b           1  1970"));
    }
}

//! Migrations: model to wire and wire to model.

use super::{
    emit,
    parse::{BadField, Checked, bounded, host_name, node_keys, required},
    v1,
};
use crate::model::{
    Claim, Deferred, HostRef, HostReport, LEASE_MS, MAX_CAUSE, MAX_MIGRATING, MigratingNode, Migration,
    MigrationState, Report,
};
use stopover_net::{HostName, Mac, Vni};

impl From<MigrationState> for v1::MigrationState {
    fn from(state: MigrationState) -> Self {
        match state {
            MigrationState::Locked => Self::Locked,
            MigrationState::Completed => Self::Completed,
            MigrationState::Aborted => Self::Aborted,
        }
    }
}

/// A state's number.
pub fn state(n: i32) -> Checked<MigrationState> {
    match v1::MigrationState::try_from(n) {
        Ok(v1::MigrationState::Locked) => Ok(MigrationState::Locked),
        Ok(v1::MigrationState::Completed) => Ok(MigrationState::Completed),
        Ok(v1::MigrationState::Aborted) => Ok(MigrationState::Aborted),
        _ => Err(BadField::new("state", n, "LOCKED, COMPLETED or ABORTED")),
    }
}

/// The nodes of a lock: at least one, at most [`MAX_MIGRATING`], each once.
pub fn node_list(list: Vec<v1::NodeKey>) -> Checked<Vec<(Vni, Mac)>> {
    let mut nodes = node_keys(list)?;
    nodes.sort_unstable();
    let count = nodes.len();
    nodes.dedup();
    if nodes.is_empty() || count > MAX_MIGRATING || nodes.len() != count {
        let found = format!("{count} nodes, {} different", nodes.len());
        return Err(BadField::new("nodes", found, format_args!("1 to {MAX_MIGRATING}, each once")));
    }
    Ok(nodes)
}

/// A few words without control characters.
pub fn cause(text: String) -> Checked<String> {
    if text.is_empty() || text.len() > MAX_CAUSE || text.chars().any(char::is_control) {
        let expected = format!("1 to {MAX_CAUSE} bytes without control characters: who saw it");
        return Err(BadField::new("cause", format_args!("{} bytes", text.len()), expected));
    }
    Ok(text)
}

/// A lease within [`LEASE_MS`].
pub fn lease_ms(n: u64) -> Checked<u64> {
    if (LEASE_MS.0..=LEASE_MS.1).contains(&n) {
        return Ok(n);
    }
    Err(BadField::new("lease_ms", n, format_args!("{} to {} milliseconds", LEASE_MS.0, LEASE_MS.1)))
}

/// A host name that may be absent.
pub fn optional_host(field: &str, name: String) -> Checked<Option<HostName>> {
    if name.is_empty() { Ok(None) } else { host_name(field, name).map(Some) }
}

fn host_ref(h: &HostRef) -> v1::HostRef {
    v1::HostRef { id: h.id, name: h.name.as_str().to_owned() }
}

fn read_ref(field: &str, m: v1::HostRef) -> Checked<HostRef> {
    Ok(HostRef { id: m.id, name: host_name("name", m.name).map_err(|e| e.within(field))? })
}

impl From<&Report> for v1::MigrationReport {
    fn from(r: &Report) -> Self {
        Self {
            held: r.held,
            replayed: r.replayed,
            redirected: r.redirected,
            dropped: r.dropped,
            reordered: r.reordered,
            duplicated: r.duplicated,
            longest_gap_us: r.longest_gap_us,
            last_dirty_unix_us: r.last_dirty_unix_us,
            source_stopped_unix_us: r.source_stopped_unix_us,
            target_up_unix_us: r.target_up_unix_us,
            hold_drained_unix_us: r.hold_drained_unix_us,
        }
    }
}

impl From<v1::MigrationReport> for Report {
    fn from(m: v1::MigrationReport) -> Self {
        Self {
            held: m.held,
            replayed: m.replayed,
            redirected: m.redirected,
            dropped: m.dropped,
            reordered: m.reordered,
            duplicated: m.duplicated,
            longest_gap_us: m.longest_gap_us,
            last_dirty_unix_us: m.last_dirty_unix_us,
            source_stopped_unix_us: m.source_stopped_unix_us,
            target_up_unix_us: m.target_up_unix_us,
            hold_drained_unix_us: m.hold_drained_unix_us,
        }
    }
}

impl From<&Migration> for v1::Migration {
    fn from(m: &Migration) -> Self {
        let refs = |list: &[HostRef]| list.iter().map(host_ref).collect();
        Self {
            id: m.id,
            generation: m.generation,
            nodes: m
                .nodes
                .iter()
                .map(|n| v1::MigratingNode { node: Some(emit::node_key(n.vni, n.mac)), let_go: n.released })
                .collect(),
            source: Some(host_ref(&m.source)),
            target: m.target.as_ref().map(host_ref),
            owner: m.owner.as_ref().map(host_ref),
            causes: m.causes.clone(),
            lease_ms: m.lease_ms,
            state: v1::MigrationState::from(m.state).into(),
            reason: m.reason.clone(),
            deferred: m
                .deferred
                .iter()
                .map(|d| v1::DeferredClaim { host: Some(host_ref(&d.host)), claim: Some((&d.claim).into()) })
                .collect(),
            locked_unix_ms: m.locked_unix_ms,
            deferred_unix_ms: m.deferred_unix_ms,
            ended_unix_ms: m.ended_unix_ms,
            switched_unix_ms: m.switched_unix_ms,
            revision: m.revision,
            waiting: refs(&m.waiting),
            missed: refs(&m.missed),
            reports: m
                .reports
                .iter()
                .map(|r| v1::HostReport {
                    host: r.host.as_str().to_owned(),
                    report: Some((&r.report).into()),
                })
                .collect(),
        }
    }
}

impl TryFrom<v1::Migration> for Migration {
    type Error = BadField;
    fn try_from(m: v1::Migration) -> Checked<Self> {
        let refs = |field: &str, list: Vec<v1::HostRef>| -> Checked<Vec<HostRef>> {
            list.into_iter().map(|h| read_ref(field, h)).collect()
        };
        let nodes = bounded("nodes", m.nodes)?.into_iter().map(|n| {
            let (vni, mac) = super::parse::node_key(&required("node", n.node)?)?;
            Ok(MigratingNode { vni, mac, released: n.let_go })
        });
        let deferred = m.deferred.into_iter().map(|d| {
            Ok(Deferred {
                host: read_ref("host", required("host", d.host)?)?,
                claim: Claim::try_from(&required("claim", d.claim)?)?,
            })
        });
        let reports = m.reports.into_iter().map(|r| {
            let report = required("report", r.report)?.into();
            Ok(HostReport { host: host_name("host", r.host)?, report })
        });
        Ok(Self {
            id: m.id,
            generation: m.generation,
            nodes: nodes.collect::<Checked<_>>()?,
            source: read_ref("source", required("source", m.source)?)?,
            target: m.target.map(|h| read_ref("target", h)).transpose()?,
            owner: m.owner.map(|h| read_ref("owner", h)).transpose()?,
            causes: m.causes,
            lease_ms: m.lease_ms,
            state: state(m.state)?,
            reason: m.reason,
            deferred: deferred.collect::<Checked<_>>()?,
            locked_unix_ms: m.locked_unix_ms,
            deferred_unix_ms: m.deferred_unix_ms,
            ended_unix_ms: m.ended_unix_ms,
            switched_unix_ms: m.switched_unix_ms,
            revision: m.revision,
            waiting: refs("waiting", m.waiting)?,
            missed: refs("missed", m.missed)?,
            reports: reports.collect::<Checked<_>>()?,
        })
    }
}

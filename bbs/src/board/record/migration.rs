//! A migration, by its id.

use super::fields::{facts, facts_numbers, host_name, ips, ips_bytes};
use crate::{
    model::{Claim, Deferred, HostRef, HostReport, MigratingNode, Migration, MigrationState, Report},
    table::{Record, Table},
};
use prost::Message;
use stopover_net::{Mac, Vni};

#[derive(Clone, PartialEq, prost::Message)]
struct StoredMigration {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    generation: u64,
    #[prost(message, repeated, tag = "3")]
    nodes: Vec<StoredMigratingNode>,
    #[prost(message, optional, tag = "4")]
    source: Option<StoredHostRef>,
    #[prost(message, optional, tag = "5")]
    target: Option<StoredHostRef>,
    #[prost(message, optional, tag = "6")]
    owner: Option<StoredHostRef>,
    #[prost(string, repeated, tag = "7")]
    causes: Vec<String>,
    #[prost(uint64, tag = "8")]
    lease_ms: u64,
    /// 1 locked, 2 completed, 3 aborted.
    #[prost(uint32, tag = "9")]
    state: u32,
    #[prost(string, tag = "10")]
    reason: String,
    #[prost(message, repeated, tag = "11")]
    deferred: Vec<StoredDeferred>,
    #[prost(uint64, tag = "12")]
    locked_unix_ms: u64,
    #[prost(uint64, tag = "13")]
    deferred_unix_ms: u64,
    #[prost(uint64, tag = "14")]
    ended_unix_ms: u64,
    #[prost(uint64, tag = "15")]
    switched_unix_ms: u64,
    #[prost(uint64, tag = "16")]
    revision: u64,
    #[prost(message, repeated, tag = "17")]
    waiting: Vec<StoredHostRef>,
    #[prost(message, repeated, tag = "18")]
    missed: Vec<StoredHostRef>,
    #[prost(message, repeated, tag = "19")]
    reports: Vec<StoredHostReport>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredHostRef {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredMigratingNode {
    #[prost(message, optional, tag = "1")]
    node: Option<StoredNodeKey>,
    #[prost(bool, tag = "2")]
    released: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredNodeKey {
    #[prost(uint32, tag = "1")]
    vni: u32,
    #[prost(bytes = "vec", tag = "2")]
    mac: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredDeferred {
    #[prost(message, optional, tag = "1")]
    host: Option<StoredHostRef>,
    #[prost(message, optional, tag = "2")]
    claim: Option<StoredClaim>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredClaim {
    #[prost(uint32, tag = "1")]
    vni: u32,
    #[prost(bytes = "vec", tag = "2")]
    mac: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    ips: Vec<Vec<u8>>,
    /// 1 declared, 2 learned.
    #[prost(uint32, tag = "4")]
    kind: u32,
    /// 1 it is a router, 2 it is none.
    #[prost(uint32, tag = "5")]
    router: u32,
    #[prost(bool, tag = "6")]
    received: bool,
    #[prost(bytes = "vec", repeated, tag = "7")]
    announced: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    shared: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    used: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredHostReport {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(message, optional, tag = "2")]
    report: Option<StoredReport>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredReport {
    #[prost(uint64, tag = "1")]
    held: u64,
    #[prost(uint64, tag = "2")]
    replayed: u64,
    #[prost(uint64, tag = "3")]
    redirected: u64,
    #[prost(uint64, tag = "4")]
    dropped: u64,
    #[prost(uint64, tag = "5")]
    reordered: u64,
    #[prost(uint64, tag = "6")]
    duplicated: u64,
    #[prost(uint64, tag = "7")]
    longest_gap_us: u64,
    #[prost(uint64, tag = "8")]
    last_dirty_unix_us: u64,
    #[prost(uint64, tag = "9")]
    source_stopped_unix_us: u64,
    #[prost(uint64, tag = "10")]
    target_up_unix_us: u64,
    #[prost(uint64, tag = "11")]
    hold_drained_unix_us: u64,
}

pub(super) fn state_number(state: MigrationState) -> u32 {
    match state {
        MigrationState::Locked => 1,
        MigrationState::Completed => 2,
        MigrationState::Aborted => 3,
    }
}

pub(super) fn state(n: u32) -> Option<MigrationState> {
    match n {
        1 => Some(MigrationState::Locked),
        2 => Some(MigrationState::Completed),
        3 => Some(MigrationState::Aborted),
        _ => None,
    }
}

fn store_ref(host: &HostRef) -> StoredHostRef {
    StoredHostRef { id: host.id, name: host.name.as_str().to_owned() }
}

fn read_ref(m: StoredHostRef) -> Option<HostRef> {
    Some(HostRef { id: m.id, name: host_name(m.name)? })
}

fn store_refs(list: &[HostRef]) -> Vec<StoredHostRef> {
    list.iter().map(store_ref).collect()
}

fn read_refs(list: Vec<StoredHostRef>) -> Option<Vec<HostRef>> {
    list.into_iter().map(read_ref).collect()
}

/// A field that may be absent, but not wrong.
fn read_optional_ref(m: Option<StoredHostRef>) -> Option<Option<HostRef>> {
    m.map_or(Some(None), |host| read_ref(host).map(Some))
}

fn store_node(node: &MigratingNode) -> StoredMigratingNode {
    let key = StoredNodeKey { vni: node.vni.get(), mac: node.mac.octets().to_vec() };
    StoredMigratingNode { node: Some(key), released: node.released }
}

fn read_node_key(vni: u32, mac: &[u8]) -> Option<(Vni, Mac)> {
    Some((Vni::new(vni).ok()?, Mac::new(mac.try_into().ok()?)))
}

fn read_node(m: StoredMigratingNode) -> Option<MigratingNode> {
    let key = m.node?;
    let (vni, mac) = read_node_key(key.vni, &key.mac)?;
    Some(MigratingNode { vni, mac, released: m.released })
}

fn store_deferred(deferred: &Deferred) -> StoredDeferred {
    let Claim { vni, mac, ips, facts, received, announced, shared, used } = &deferred.claim;
    let (kind, router) = facts_numbers(*facts);
    let claim = StoredClaim {
        vni: vni.get(),
        mac: mac.octets().to_vec(),
        ips: ips_bytes(ips),
        kind,
        router,
        received: *received,
        announced: ips_bytes(announced),
        shared: ips_bytes(shared),
        used: ips_bytes(used),
    };
    StoredDeferred { host: Some(store_ref(&deferred.host)), claim: Some(claim) }
}

fn read_deferred(m: StoredDeferred) -> Option<Deferred> {
    let c = m.claim?;
    let (vni, mac) = read_node_key(c.vni, &c.mac)?;
    let claim = Claim {
        vni,
        mac,
        ips: ips(&c.ips)?,
        facts: facts(c.kind, c.router),
        received: c.received,
        announced: ips(&c.announced)?,
        shared: ips(&c.shared)?,
        used: ips(&c.used)?,
    };
    Some(Deferred { host: read_ref(m.host?)?, claim })
}

/// The same fields in both types.
macro_rules! report {
    ($to:ident, $from:expr) => {{
        let r = $from;
        $to {
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
    }};
}

fn store_report(report: &HostReport) -> StoredHostReport {
    let host = report.host.as_str().to_owned();
    StoredHostReport { host, report: Some(report!(StoredReport, &report.report)) }
}

fn read_report(m: StoredHostReport) -> Option<HostReport> {
    Some(HostReport { host: host_name(m.host)?, report: report!(Report, m.report?) })
}

impl Record for Migration {
    const TABLE: Table = Table("migrations");
    type Key = u64;

    fn encode(&self, _: u64) -> Vec<u8> {
        let stored = StoredMigration {
            id: self.id,
            generation: self.generation,
            nodes: self.nodes.iter().map(store_node).collect(),
            source: Some(store_ref(&self.source)),
            target: self.target.as_ref().map(store_ref),
            owner: self.owner.as_ref().map(store_ref),
            causes: self.causes.clone(),
            lease_ms: self.lease_ms,
            state: state_number(self.state),
            reason: self.reason.clone(),
            deferred: self.deferred.iter().map(store_deferred).collect(),
            locked_unix_ms: self.locked_unix_ms,
            deferred_unix_ms: self.deferred_unix_ms,
            ended_unix_ms: self.ended_unix_ms,
            switched_unix_ms: self.switched_unix_ms,
            revision: self.revision,
            waiting: store_refs(&self.waiting),
            missed: store_refs(&self.missed),
            reports: self.reports.iter().map(store_report).collect(),
        };
        stored.encode_to_vec()
    }

    fn decode(id: u64, bytes: &[u8]) -> Option<Self> {
        let m = StoredMigration::decode(bytes).ok()?;
        Some(Self {
            id,
            generation: m.generation,
            nodes: m.nodes.into_iter().map(read_node).collect::<Option<_>>()?,
            source: read_ref(m.source?)?,
            target: read_optional_ref(m.target)?,
            owner: read_optional_ref(m.owner)?,
            causes: m.causes,
            lease_ms: m.lease_ms,
            state: state(m.state)?,
            reason: m.reason,
            deferred: m.deferred.into_iter().map(read_deferred).collect::<Option<_>>()?,
            locked_unix_ms: m.locked_unix_ms,
            deferred_unix_ms: m.deferred_unix_ms,
            ended_unix_ms: m.ended_unix_ms,
            switched_unix_ms: m.switched_unix_ms,
            revision: m.revision,
            waiting: read_refs(m.waiting)?,
            missed: read_refs(m.missed)?,
            reports: m.reports.into_iter().map(read_report).collect::<Option<_>>()?,
        })
    }
}

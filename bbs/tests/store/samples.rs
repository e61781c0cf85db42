//! One record of each kind and shape, with every field set somewhere. `format-2.txt` has the bytes that they had first.

use std::net::IpAddr;
use stopover_bbs::{
    board::{
        Hold, Ips, Outcome, Run,
        record::{HostRecord, KeyRecord, MemberRecord, NextHost, NextHostKey, NodeRecord},
    },
    model::{
        Accepted, Claim, DeclaredBy, Deferred, Event, EventKind, HostRef, HostReport, Lock, MigratingNode,
        Migration, MigrationState, Network, NodeFacts, Report, StationKind, Uuid,
    },
    records::Page,
};
use stopover_net::{FloodPolicy, HostName, Mac, Vni};

/// All records, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    pub hosts: Page<HostRecord>,
    pub networks: Page<Network>,
    pub members: Page<MemberRecord>,
    pub nodes: Page<NodeRecord>,
    pub keys: Page<KeyRecord>,
    pub events: Page<Event>,
    pub migrations: Page<Migration>,
    pub locks: Page<Lock>,
    pub next_host: Page<NextHost>,
}

pub const REVISION: u64 = 0x0102_0304;
pub const BOARD: Uuid = Uuid::from_bytes([0xb0; 16]);
pub const RUN: Run = Run { id: Uuid::from_bytes([0x51; 16]), first: 7 };

fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}

fn mac(n: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, n])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(text: &str) -> HostName {
    HostName::new(text).unwrap()
}

pub fn all() -> Records {
    Records {
        hosts: hosts(),
        networks: networks(),
        members: members(),
        nodes: nodes(),
        keys: keys(),
        events: events(),
        migrations: migrations(),
        locks: vec![
            ((vni(1), mac(1)), Lock { migration: 2, generation: 0x0907, source: 3, target: Some(4) }),
            ((vni(1), mac(2)), Lock { migration: 2, generation: 0x0907, source: 3, target: None }),
        ],
        next_host: vec![(NextHostKey, NextHost(9))],
    }
}

fn hosts() -> Page<HostRecord> {
    let up = HostRecord {
        name: name("gw-a"),
        vteps: vec![ip("172.16.0.1"), ip("fd00::1")],
        udp_port: 4789,
        declared_by: DeclaredBy::Appliance,
        up: true,
        no_flood: false,
        down_unix_ms: 0,
        details: Default::default(),
    };
    let down = HostRecord {
        name: name("gw-b"),
        vteps: vec![ip("172.16.0.2")],
        udp_port: 8472,
        declared_by: DeclaredBy::Operator,
        up: false,
        no_flood: true,
        down_unix_ms: 1_700_000_000_123,
        details: Default::default(),
    };
    vec![(3, up), (4, down)]
}

fn networks() -> Page<Network> {
    let network =
        |n, text: &str, flood, mtu| (vni(n), Network { vni: vni(n), name: text.into(), flood, mtu });
    vec![
        network(1, "", FloodPolicy::Flood, 0),
        network(0x1234, "blue", FloodPolicy::Drop, 1450),
        network(Vni::MAX, "green", FloodPolicy::ToSegments, 9000),
    ]
}

fn members() -> Page<MemberRecord> {
    let record = |joined, declared, has_nodes| MemberRecord { joined, declared, has_nodes };
    vec![
        ((vni(1), 3), record(Some(true), None, false)),
        ((vni(1), 4), record(None, Some(false), true)),
        ((vni(Vni::MAX), 4), record(Some(false), Some(true), true)),
    ]
}

fn nodes() -> Page<NodeRecord> {
    let learned = NodeFacts { kind: StationKind::Learned, router: Some(true) };
    let node = |host, generation, declared_by, ips: Ips, facts| NodeRecord {
        host,
        generation,
        declared_by,
        ips,
        facts,
    };
    let mixed: Ips = ["10.0.0.2", "10.0.0.3", "fd00::2"].into_iter().map(ip).collect();
    let mixed = mixed.with_holds(|at| match at {
        IpAddr::V6(_) => Hold::Own,
        _ if at == ip("10.0.0.2") => Hold::Shared,
        IpAddr::V4(_) => Hold::Used,
    });
    vec![
        ((vni(1), mac(1)), node(3, 5, DeclaredBy::Appliance, ip("10.0.0.1").into(), NodeFacts::default())),
        ((vni(1), mac(2)), node(3, 0x0506_0708, DeclaredBy::Operator, Ips::default(), NodeFacts::default())),
        ((vni(0x1234), mac(3)), node(4, 6, DeclaredBy::Appliance, mixed, learned)),
    ]
}

fn keys() -> Page<KeyRecord> {
    let outcomes = [
        Outcome::Done { revision: 11 },
        Outcome::Claimed {
            revision: 12,
            judged: 9,
            refused: vec![(1, "held by gw-b".into()), (2, "held by gw-a".into())],
            deferred: vec![(3, 2)],
            partial: vec![(4, Accepted { ips: vec![ip("10.0.0.9")], refused: vec!["10.0.0.8".into()] })],
            later: vec![(5, 600)],
        },
        Outcome::Synced { revision: 13, nodes_deleted: 14 },
        Outcome::Registered { host_id: 3, session: 0x0001_0002_0003, revision: 15 },
        Outcome::Migration { id: 2, generation: 0x0907, state: MigrationState::Locked, revision: 16 },
        Outcome::Migration { id: 2, generation: 0x0907, state: MigrationState::Completed, revision: 17 },
        Outcome::Migration { id: 2, generation: 0x0907, state: MigrationState::Aborted, revision: 18 },
    ];
    outcomes
        .into_iter()
        .zip(1u8..)
        .map(|(outcome, n)| {
            let id = Uuid::from_bytes([n; 16]);
            (n.into(), KeyRecord { id, fingerprint: 0x1122_3344_5566_7788, outcome })
        })
        .collect()
}

fn events() -> Page<Event> {
    use EventKind as K;
    [
        K::HostUp,
        K::HostDown,
        K::HostReplaced,
        K::Conflict,
        K::TakenOver,
        K::Operator,
        K::Migration,
        K::Lineage,
        K::Other,
    ]
    .into_iter()
    .zip(1..)
    .map(|(kind, number)| {
        let event = Event {
            number,
            unix_ms: 1_700_000_000_000 + number,
            kind,
            text: format!("event {number}"),
            revision: number + 20,
            actor: "operator".into(),
        };
        (number, event)
    })
    .collect()
}

fn claim() -> Claim {
    Claim {
        facts: NodeFacts { kind: StationKind::Learned, router: Some(false) },
        received: true,
        announced: vec![ip("10.0.0.1")],
        shared: vec![ip("10.0.0.4")],
        used: vec![ip("fd00::4")],
        ..Claim::declared(vni(1), mac(1), vec![ip("10.0.0.1"), ip("10.0.0.4"), ip("fd00::4")])
    }
}

fn report() -> Report {
    Report {
        held: 1,
        replayed: 2,
        redirected: 3,
        dropped: 4,
        reordered: 5,
        duplicated: 6,
        longest_gap_us: 7,
        last_dirty_unix_us: 8,
        source_stopped_unix_us: 9,
        target_up_unix_us: 10,
        hold_drained_unix_us: 11,
    }
}

fn migrations() -> Page<Migration> {
    let host = |id, text| HostRef { id, name: name(text) };
    let plain = Migration {
        id: 1,
        generation: 4,
        nodes: vec![MigratingNode { vni: vni(1), mac: mac(9), released: false }],
        source: host(3, "gw-a"),
        target: None,
        owner: None,
        causes: vec![],
        lease_ms: 5_000,
        state: MigrationState::Aborted,
        reason: "the operator aborted it".into(),
        deferred: vec![],
        locked_unix_ms: 12,
        deferred_unix_ms: 0,
        ended_unix_ms: 13,
        switched_unix_ms: 0,
        revision: 14,
        waiting: vec![],
        missed: vec![],
        reports: vec![],
    };
    let locked = Migration {
        id: 2,
        generation: 0x0907,
        nodes: vec![
            MigratingNode { vni: vni(1), mac: mac(1), released: true },
            MigratingNode { vni: vni(1), mac: mac(2), released: false },
        ],
        target: Some(host(4, "gw-b")),
        owner: Some(host(3, "gw-a")),
        causes: vec!["vhost".into(), "rarp".into()],
        state: MigrationState::Locked,
        reason: String::new(),
        deferred: vec![Deferred { host: host(4, "gw-b"), claim: claim() }],
        deferred_unix_ms: 15,
        ..plain.clone()
    };
    let completed = Migration {
        id: 3,
        state: MigrationState::Completed,
        switched_unix_ms: 16,
        waiting: vec![host(3, "gw-a")],
        missed: vec![host(4, "gw-b")],
        reports: vec![HostReport { host: name("gw-b"), report: report() }],
        ..plain.clone()
    };
    vec![(1, plain), (2, locked), (3, completed)]
}

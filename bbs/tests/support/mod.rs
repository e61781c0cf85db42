//! What the tests share: a replica built from changes, a generator of commands, and a board wired to a store by
//! hand, so that a test can stop it anywhere.
#![allow(dead_code, reason = "each test crate uses its own part")]

use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};
use stopover_bbs::{
    board::{
        Absence, Applied, Board, Command, Key, Lineage, Now, Outcome, Principal, Refusal, Session, Settings,
        Ticket,
    },
    model::{
        Change, Claim, DeclaredBy, Host, Lock, MigrationState, Network, Node, Registration, Report, Row,
        Target, Uuid,
    },
    server::{History, restore},
    store::{CommitHeader, Redb, Store, View},
};
use stopover_config::bulk::{HostRow, MemberRow, NetworkRow, NodeRow};
use stopover_net::{FloodPolicy, HostName, Mac, Vni};

pub fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}
pub fn mac(last: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, last])
}
pub fn name(n: &str) -> HostName {
    HostName::new(n).unwrap()
}
pub fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}
pub fn claim(n: u32, last: u8, ips: &[&str]) -> Claim {
    Claim::declared(vni(n), mac(last), ips.iter().map(|s| ip(s)).collect())
}

/// The state as a watcher rebuilds it, strict: whatever cannot be in an orderly stream is a panic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    pub hosts: BTreeMap<u32, Host>,
    pub networks: BTreeMap<Vni, Network>,
    pub members: BTreeMap<(Vni, u32), bool>,
    pub nodes: BTreeMap<(Vni, Mac), Node>,
    pub locks: BTreeMap<(Vni, Mac), Lock>,
}

impl Replica {
    pub fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::HostPut(host) => {
                self.hosts.insert(host.id, host);
            }
            Change::HostGone { id } => {
                assert!(self.hosts.remove(&id).is_some(), "unknown host {id} gone");
                assert!(self.nodes.values().all(|n| n.host_id != id), "host {id} gone before its nodes");
                assert!(self.members.keys().all(|(_, h)| *h != id), "host {id} gone before its memberships");
            }
            Change::NetworkPut(network) => {
                self.networks.insert(network.vni, network);
            }
            Change::NetworkGone { vni } => {
                assert!(self.networks.remove(&vni).is_some(), "unknown network {vni} gone");
            }
            Change::MemberPut { vni, host_id, segment } => {
                assert!(self.hosts.contains_key(&host_id), "member of unknown host {host_id}");
                self.members.insert((vni, host_id), segment);
            }
            Change::MemberGone { vni, host_id } => {
                assert!(self.members.remove(&(vni, host_id)).is_some(), "unknown member gone");
            }
            Change::NodePut { node, gone_ips } => {
                assert!(self.hosts.contains_key(&node.host_id), "node on unknown host");
                assert!(self.members.contains_key(&(node.vni, node.host_id)), "node before membership");
                let old = self.nodes.insert((node.vni, node.mac), node.clone());
                let had: BTreeSet<_> = old.iter().flat_map(|n| n.ips.iter().copied()).collect();
                let has: BTreeSet<_> = node.ips.iter().copied().collect();
                let gone: BTreeSet<_> = gone_ips.into_iter().collect();
                // In a snapshot `gone_ips` is empty, and so is what was there before.
                assert_eq!(gone, had.difference(&has).copied().collect(), "wrong gone_ips");
            }
            Change::NodeGone { vni, mac, ips } => {
                self.locks.remove(&(vni, mac));
                let old = self.nodes.remove(&(vni, mac)).expect("unknown node gone");
                assert_eq!(old.ips, ips, "gone with other addresses than it had");
            }
            Change::NodeLocked { vni, mac, migration, generation, source, target } => {
                assert!(self.nodes.contains_key(&(vni, mac)), "lock on no node");
                assert!(
                    self.hosts.contains_key(&source) && target.is_none_or(|t| self.hosts.contains_key(&t))
                );
                self.locks.insert((vni, mac), Lock { migration, generation, source, target });
            }
            Change::NodeUnlocked { vni, mac, migration, generation, .. } => {
                let lock = self.locks.remove(&(vni, mac)).expect("unknown lock ended");
                assert_eq!((lock.migration, lock.generation), (migration, generation));
            }
        }
    }

    /// What a watcher of these networks sees of it.
    pub fn scoped(&self, vnis: &BTreeSet<Vni>) -> Self {
        let mut all = self.clone();
        all.networks.retain(|vni, _| vnis.contains(vni));
        all.members.retain(|(vni, _), _| vnis.contains(vni));
        all.nodes.retain(|(vni, _), _| vnis.contains(vni));
        all.locks.retain(|(vni, _), _| vnis.contains(vni));
        all
    }

    /// What the store holds.
    pub fn of(view: &dyn View) -> Self {
        Self {
            hosts: view.hosts().unwrap().into_iter().map(|(id, h)| (id, h.to_host(id))).collect(),
            networks: view.networks().unwrap().into_iter().map(|n| (n.vni, n)).collect(),
            members: view
                .members(None, None, usize::MAX)
                .unwrap()
                .into_iter()
                .map(|(vni, h, r)| ((vni, h), r.visible().expect("an empty membership is stored")))
                .collect(),
            nodes: view
                .nodes(None, None, usize::MAX)
                .unwrap()
                .into_iter()
                .map(|(vni, mac, r)| ((vni, mac), r.to_node(vni, mac)))
                .collect(),
            locks: view
                .locks(None, None, usize::MAX)
                .unwrap()
                .into_iter()
                .map(|(v, m, l)| ((v, m), l))
                .collect(),
        }
    }

    /// What must hold of every state.
    pub fn check(&self) {
        let mut held = BTreeMap::new();
        for node in self.nodes.values() {
            assert!(self.members.contains_key(&(node.vni, node.host_id)), "node without membership");
            for ip in &node.ips {
                let other = held.insert((node.vni, *ip), node.mac);
                assert_eq!(other, None, "{ip} of VNI {} is held twice", node.vni);
            }
        }
        for (key, lock) in &self.locks {
            // Where it is until it is unlocked, and so at exactly one host.
            assert_eq!(self.nodes[key].host_id, lock.source, "a locked node has moved");
        }
        let mut vteps = BTreeSet::new();
        for host in self.hosts.values() {
            for vtep in &host.vteps {
                assert!(vteps.insert((*vtep, host.udp_port)), "{vtep} is held twice");
            }
        }
    }
}

/// A board, its store and its history, without threads.
pub struct Rig {
    pub board: Board,
    pub store: Arc<Redb>,
    pub history: Arc<History>,
    pub lineage: Arc<Lineage>,
    pub now: Now,
    pub sessions: BTreeMap<u8, u64>,
    /// Whose watch was opened in its present session and has not closed; true: of the second process of that name.
    pub watching: BTreeMap<u8, bool>,
    /// Hosts whose present session is the second process's.
    pub rivals: BTreeSet<u8>,
    /// The state at every revision, by its changes.
    pub states: Vec<Replica>,
    keep: usize,
    pub run: u32,
}

pub const LEASE: u64 = 1000;
/// Long enough to be met now and then.
pub const ABSENCE: Absence = Absence { flood_grace_ms: 2000, forget_after_ms: 9000 };

impl Rig {
    pub fn new(keep: usize) -> Self {
        let store = Arc::new(Redb::in_memory().unwrap());
        let mut rig = Self {
            board: Board::new(Settings { run: 0, lease_ms: LEASE, keep_changes: keep, absence: ABSENCE }),
            lineage: Arc::new(store.lineage().unwrap()),
            store,
            history: Arc::new(History::new(0, keep)),
            now: Now::default(),
            sessions: BTreeMap::new(),
            watching: BTreeMap::new(),
            rivals: BTreeSet::new(),
            states: vec![Replica::default()],
            keep,
            run: 0,
        };
        rig.restart();
        rig
    }

    /// As after a crash: only the store is left.
    pub fn restart(&mut self) {
        self.run = self.store.begin_run().unwrap();
        let settings = Settings { run: self.run, lease_ms: LEASE, keep_changes: self.keep, absence: ABSENCE };
        self.board = restore(&*self.store.view().unwrap(), settings).unwrap();
        self.lineage = Arc::new(self.store.lineage().unwrap());
        self.board.set_lineage(self.lineage.clone());
        self.history = Arc::new(History::new(self.board.revision(), self.keep));
        self.now = Now::default();
        self.sessions.clear();
        self.watching.clear();
        self.rivals.clear();
    }

    /// Applies, commits and publishes; checks what holds of every command.
    pub fn apply(&mut self, key: Option<Key>, command: Command) -> Applied {
        let before = self.board.revision();
        let applied = self.board.apply(self.now, key, command);
        let mut state = self.states.last().unwrap().clone();
        let mut expected = before;
        for commit in &applied.commits {
            expected += 1;
            assert_eq!(commit.revision, expected, "revisions are consecutive");
            assert!(!commit.changes.is_empty());
            for change in &commit.changes {
                state.apply(change);
            }
            self.states.push(state.clone());
        }
        assert_eq!(self.board.revision(), expected);
        if applied.result.is_err() {
            assert_eq!(applied.commits, [], "a refused command changes nothing");
        }
        state.check();
        let mark = CommitHeader { revision: expected, next_host: self.board.next_host() };
        self.store.commit(mark, applied.writes.clone(), &mut |_| {}).unwrap();
        self.history.publish(applied.commits.clone());
        assert_eq!(Replica::of(&*self.store.view().unwrap()), state, "the store and the changes agree");
        let counts = self.board.counts();
        assert_eq!(counts.nodes, state.nodes.len() as u64);
        assert_eq!(counts.members, state.members.len() as u64);
        assert_eq!(counts.hosts, state.hosts.len() as u64);
        self.check_migrations(&state);
        applied
    }

    /// Every lock has a living migration and lease, and the other way round; what ended stays as it ended.
    fn check_migrations(&self, state: &Replica) {
        let mut locks = BTreeMap::new();
        let mut last = 0;
        for m in self.store.view().unwrap().migrations().unwrap() {
            assert!(m.generation > last, "generations grow with migrations");
            last = m.generation;
            let up = |id: u32| state.hosts.get(&id).is_some_and(|h| h.up);
            if m.state == MigrationState::Locked {
                let until = self.board.lock_until(m.id).expect("a lock without a lease");
                assert!(until > self.now.lease_ms, "a lock outlives its lease");
                assert!(m.owner.as_ref().is_none_or(|o| up(o.id)), "a lock outlives its owner");
                let lock = Lock {
                    migration: m.id,
                    generation: m.generation,
                    source: m.source.id,
                    target: m.target.as_ref().map(|t| t.id),
                };
                locks.extend(m.nodes.iter().map(|n| ((n.vni, n.mac), lock)));
                let stuck = !up(m.source.id) && m.deferred.iter().any(|d| up(d.host.id));
                assert!(!stuck, "the source is down, the target claims, and nothing is done: {m:?}");
            }
        }
        assert_eq!(state.locks, locks, "locks and migrations agree");
    }

    pub fn state(&self) -> &Replica {
        self.states.last().unwrap()
    }

    /// A migration or arrival that meets something: of nodes that are there, from where they are.
    pub fn resolve(&self, step: &Step) -> Step {
        let number = |id: u32| (0..4).find(|h| self.state().hosts[&id].name == host_name(*h));
        let short = |(v, m): &(Vni, Mac)| (v.get(), m.octets()[5]);
        match step {
            Step::Depart(by, i, group, target, lease) => {
                let nodes = &self.state().nodes;
                let Some(first) = nodes.values().nth(usize::from(*i) % nodes.len().max(1)) else {
                    return step.clone();
                };
                let Some(source) = number(first.host_id) else { return step.clone() };
                let others = nodes.iter().filter(|(_, n)| *group && n.host_id == first.host_id).take(2);
                let mut moving: Vec<_> = others.map(|(key, _)| short(key)).collect();
                moving.push(short(&(first.vni, first.mac)));
                Step::Begin(by.then_some(source), moving, source, *target, *lease)
            }
            Step::Arrive(h, i, ips) => {
                let locks = &self.state().locks;
                match locks.keys().nth(usize::from(*i) % locks.len().max(1)).map(short) {
                    Some((v, m)) => Step::Claim(*h, vec![(v, m, ips.clone())]),
                    None => step.clone(),
                }
            }
            other => other.clone(),
        }
    }

    /// Makes a step into a command, with the session numbers of this moment.
    pub fn step(&mut self, step: &Step) -> Option<Applied> {
        let ticket = |m: u8| {
            let all = self.store.view().unwrap().migrations().unwrap();
            let known = all.iter().rev().nth(usize::from(m) / 2);
            // Every other one is late by a generation.
            known.map_or(Ticket { migration: 1, generation: 1 }, |k| Ticket {
                migration: k.id,
                generation: k.generation - u64::from(m % 2),
            })
        };
        let session =
            |h: u8| Session { host: host_name(h), number: self.sessions.get(&h).copied().unwrap_or(7) };
        let step = &self.resolve(step);
        let command = match step.clone() {
            // Nothing there to meet.
            Step::Depart(..) | Step::Arrive(..) => Command::Tick,
            Step::Restart => {
                self.restart();
                return None;
            }
            Step::Pass(ms) => {
                self.now.lease_ms += ms;
                Command::Tick
            }
            Step::Register(h, other_vtep) => Command::Register(Registration {
                host: host_name(h),
                vteps: vec![IpAddr::from([10, 0, 0, if other_vtep { 99 } else { h + 1 }])],
                udp_port: 4789,
                instance: Uuid::from_bytes([h; 16]),
                holds: None,
            }),
            Step::Heartbeat(h) => Command::Heartbeat(session(h)),
            Step::Deregister(h, withdraw_all) => Command::Deregister { session: session(h), withdraw_all },
            Step::Claim(h, claims) => {
                let claims: BTreeMap<_, _> =
                    claims.into_iter().map(|(v, m, i)| ((v, m), make_claim(v, m, &i))).collect();
                Command::Claim { session: session(h), claims: claims.into_values().collect() }
            }
            Step::Withdraw(h, v, m) => {
                Command::Withdraw { session: session(h), nodes: vec![(vni(v), mac(m))] }
            }
            Step::Join(h, v, segment) => {
                Command::Join { session: session(h), networks: vec![(vni(v), segment)] }
            }
            Step::Leave(h, v) => Command::Leave { session: session(h), networks: vec![vni(v)] },
            Step::Sync(h) => Command::SyncClaims(session(h)),
            Step::Begin(by, nodes, source, target, lease_ms) => {
                let nodes: BTreeSet<_> = nodes.iter().map(|(v, m)| (vni(*v), mac(*m))).collect();
                Command::BeginMigration {
                    by: by.map_or(Principal::Operator, |h| Principal::Host(session(h))),
                    nodes: nodes.into_iter().collect(),
                    source: host_name(source),
                    target: target.map(host_name),
                    cause: "test".into(),
                    lease_ms,
                    renew: None,
                }
            }
            Step::Complete(by, m, at) => Command::CompleteMigration {
                by: by.map_or(Principal::Operator, |h| Principal::Host(session(h))),
                ticket: ticket(m),
                at: at.map(host_name),
                cause: "test".into(),
            },
            Step::Abort(by, m) => Command::AbortMigration {
                by: by.map_or(Principal::Operator, |h| Principal::Host(session(h))),
                ticket: ticket(m),
                cause: "test".into(),
            },
            Step::Report(h, m) => Command::ReportMigration {
                session: session(h),
                ticket: ticket(m),
                report: Report { held: 7, ..Report::default() },
            },
            Step::Acked(h) => Command::Acked(vec![(session(h), self.board.revision())]),
            Step::WatchOpened(h) => {
                Command::WatchOpened { session: session(h), peer: format!("10.0.0.{h}:7") }
            }
            Step::WatchClosed(h) => Command::WatchClosed(session(h)),
            Step::Rival(h, other_vtep) => Command::Register(rival(h, other_vtep)),
            Step::Declare(row) => Command::Declare(make_row(&row)),
            Step::Load(rows) => {
                Command::Load(rows.iter().enumerate().map(|(i, r)| (i as u64 + 1, make_row(r))).collect())
            }
            Step::DeleteHost(h, cascade) => Command::Delete(Target::Host { name: host_name(h), cascade }),
            Step::DeleteNetwork(v) => Command::Delete(Target::Network { vni: vni(v) }),
            Step::DeleteNode(v, m) => Command::Delete(Target::Node { vni: vni(v), mac: mac(m) }),
            Step::DeleteMember(v, h) => Command::Delete(Target::Member { vni: vni(v), host: host_name(h) }),
        };
        // One that the operator declared has no appliance that could be taken over from.
        let living = |h: u8| {
            let is_living = |host: &Host| host.up && host.declared_by == DeclaredBy::Appliance;
            self.state().hosts.values().any(|host| host.name == host_name(h) && is_living(host))
        };
        let held = match step {
            Step::Register(h, _) => self.watching.get(h) == Some(&true) && living(*h),
            Step::Rival(h, _) => self.watching.get(h) == Some(&false) && living(*h),
            _ => false,
        };
        let applied = self.apply(None, command);
        if held {
            let word = applied.result.as_ref().err().map(Refusal::word);
            assert_eq!(word, Some("conflict"), "a living host was taken over by {step:?}");
        }
        match (step, &applied.result) {
            (Step::WatchOpened(h), Ok(_)) => drop(self.watching.insert(*h, self.rivals.contains(h))),
            (Step::WatchClosed(h) | Step::Deregister(h, _), Ok(_)) => drop(self.watching.remove(h)),
            (Step::Register(h, _), Ok(_)) => {
                self.watching.remove(h);
                self.rivals.remove(h);
            }
            (Step::Rival(h, _), Ok(_)) => {
                self.watching.remove(h);
                self.rivals.insert(*h);
            }
            _ => {}
        }
        if let (Step::Register(h, _) | Step::Rival(h, _), Ok(Outcome::Registered { session, .. })) =
            (step, &applied.result)
        {
            self.sessions.insert(*h, *session);
        }
        if let (Step::Deregister(h, _), Ok(_)) = (step, &applied.result) {
            self.sessions.remove(h);
        }
        Some(applied)
    }
}

/// The registration of a second process under the name of host `h`.
pub fn rival(h: u8, other_vtep: bool) -> Registration {
    Registration {
        host: host_name(h),
        vteps: vec![IpAddr::from([10, 0, 0, if other_vtep { 77 + h } else { h + 1 }])],
        udp_port: 4789,
        instance: Uuid::from_bytes([h + 100; 16]),
        holds: None,
    }
}

pub fn host_name(h: u8) -> HostName {
    name(&format!("gw-{h}"))
}

fn make_ips(ips: &[u8]) -> Vec<IpAddr> {
    let set: BTreeSet<IpAddr> = ips
        .iter()
        .map(|i| match i % 2 {
            0 => IpAddr::from([192, 168, 0, *i + 1]),
            _ => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(*i) + 1]),
        })
        .collect();
    set.into_iter().collect()
}

pub fn make_claim(v: u32, m: u8, ips: &[u8]) -> Claim {
    Claim::declared(vni(v), mac(m), make_ips(ips))
}

fn make_row(row: &RowStep) -> Row {
    match row {
        RowStep::Host(h, other) => Row::Host(HostRow {
            name: host_name(*h),
            vteps: vec![IpAddr::from([10, 0, 0, if *other { 99 } else { *h + 1 }])],
            udp_port: 4789,
        }),
        RowStep::Network(v, mtu) => {
            Row::Network(NetworkRow { vni: vni(*v), name: None, flood: FloodPolicy::Drop, mtu: *mtu })
        }
        RowStep::Node(v, m, h, ips) => Row::Node(NodeRow {
            vni: vni(*v),
            mac: mac(*m),
            host: host_name(*h),
            ips: make_ips(ips),
            shared_ips: vec![],
        }),
        RowStep::Member(v, h, segment) => {
            Row::Member(MemberRow { vni: vni(*v), host: host_name(*h), segment: *segment })
        }
    }
}

/// A command in small numbers, so that steps meet often.
#[derive(Debug, Clone)]
pub enum Step {
    Restart,
    Pass(u64),
    Register(u8, bool),
    Heartbeat(u8),
    Deregister(u8, bool),
    Claim(u8, Vec<(u32, u8, Vec<u8>)>),
    Withdraw(u8, u32, u8),
    Join(u8, u32, bool),
    Leave(u8, u32),
    Sync(u8),
    Declare(RowStep),
    Load(Vec<RowStep>),
    DeleteHost(u8, bool),
    DeleteNetwork(u32),
    DeleteNode(u32, u8),
    DeleteMember(u32, u8),
    /// By the source itself or the operator, a node by its place, with others of its host, to, lease.
    Depart(bool, u8, bool, Option<u8>, u64),
    /// A host claims a locked node by its place.
    Arrive(u8, u8, Vec<u8>),
    Begin(Option<u8>, Vec<(u32, u8)>, u8, Option<u8>, u64),
    /// The migration, counted from the last; odd ones name an older generation.
    Complete(Option<u8>, u8, Option<u8>),
    Abort(Option<u8>, u8),
    Report(u8, u8),
    Acked(u8),
    WatchOpened(u8),
    WatchClosed(u8),
    /// Another process of this name registers, perhaps with another VTEP.
    Rival(u8, bool),
}

#[derive(Debug, Clone)]
pub enum RowStep {
    Host(u8, bool),
    Network(u32, u16),
    Node(u32, u8, u8, Vec<u8>),
    Member(u32, u8, bool),
}

fn row_step() -> impl Strategy<Value = RowStep> {
    let (h, v, m) = (0..4u8, 1..4u32, 0..5u8);
    prop_oneof![
        2 => (h.clone(), prop::bool::weighted(0.1)).prop_map(|(h, o)| RowStep::Host(h, o)),
        1 => (v.clone(), 576..580u16).prop_map(|(v, mtu)| RowStep::Network(v, mtu)),
        4 => (v.clone(), m, h.clone(), ips()).prop_map(|(v, m, h, i)| RowStep::Node(v, m, h, i)),
        1 => (v, h, any::<bool>()).prop_map(|(v, h, s)| RowStep::Member(v, h, s)),
    ]
}

fn ips() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..6u8, 0..3)
}

pub fn step() -> impl Strategy<Value = Step> {
    let (h, v, m) = (0..4u8, 1..4u32, 0..5u8);
    prop_oneof![
        1 => Just(Step::Restart),
        2 => (1..700u64).prop_map(Step::Pass),
        9 => (h.clone(), prop::bool::weighted(0.1)).prop_map(|(h, o)| Step::Register(h, o)),
        2 => h.clone().prop_map(Step::Heartbeat),
        1 => (h.clone(), any::<bool>()).prop_map(|(h, w)| Step::Deregister(h, w)),
        12 => (h.clone(), prop::collection::vec((v.clone(), m.clone(), ips()), 1..4))
            .prop_map(|(h, c)| Step::Claim(h, c)),
        4 => (h.clone(), v.clone(), m.clone()).prop_map(|(h, v, m)| Step::Withdraw(h, v, m)),
        3 => (h.clone(), v.clone(), any::<bool>()).prop_map(|(h, v, s)| Step::Join(h, v, s)),
        2 => (h.clone(), v.clone()).prop_map(|(h, v)| Step::Leave(h, v)),
        2 => h.clone().prop_map(Step::Sync),
        5 => row_step().prop_map(Step::Declare),
        2 => prop::collection::vec(row_step(), 1..6).prop_map(Step::Load),
        1 => (h.clone(), any::<bool>()).prop_map(|(h, c)| Step::DeleteHost(h, c)),
        1 => v.clone().prop_map(Step::DeleteNetwork),
        2 => (v.clone(), m).prop_map(|(v, m)| Step::DeleteNode(v, m)),
        1 => (v.clone(), h.clone()).prop_map(|(v, h)| Step::DeleteMember(v, h)),
        10 => (any::<bool>(), 0..15u8, any::<bool>(), prop::option::of(h.clone()), prop_oneof![
            100..700u64,
            Just(5000)
        ])
            .prop_map(|(by, i, group, target, lease)| Step::Depart(by, i, group, target, lease)),
        8 => (h.clone(), 0..8u8, ips()).prop_map(|(h, i, ips)| Step::Arrive(h, i, ips)),
        3 => (
            prop::option::of(h.clone()),
            prop::collection::vec((v, 0..5u8), 1..3),
            h.clone(),
            prop::option::of(h.clone()),
            prop_oneof![100..700u64, Just(5000)],
        )
            .prop_map(|(by, nodes, source, target, lease)| Step::Begin(by, nodes, source, target, lease)),
        4 => (prop::option::of(h.clone()), 0..6u8, prop::option::of(h.clone()))
            .prop_map(|(by, m, at)| Step::Complete(by, m, at)),
        2 => (prop::option::of(h.clone()), 0..6u8).prop_map(|(by, m)| Step::Abort(by, m)),
        1 => (h.clone(), 0..6u8).prop_map(|(h, m)| Step::Report(h, m)),
        1 => h.clone().prop_map(Step::Acked),
        4 => h.clone().prop_map(Step::WatchOpened),
        1 => h.clone().prop_map(Step::WatchClosed),
        3 => (h, prop::bool::weighted(0.3)).prop_map(|(h, o)| Step::Rival(h, o)),
    ]
}

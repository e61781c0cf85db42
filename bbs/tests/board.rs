//! The state machine against a simple model of its rules, and the sentences it refuses with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use stopover_bbs::{
    board::{Command, Key, Outcome, Refusal, Session},
    model::{Claim, DeclaredBy, EventKind, Id, Row, Target},
    proto::parse::Registration,
};
use stopover_config::{
    bulk::{HostRow, NodeRow},
    net::{Mac, Vni},
};
use support::*;

/// The rules of claims in their plainest form: lists, looked through from end to end.
#[derive(Default)]
struct Model {
    nodes: BTreeMap<(Vni, Mac), Held>,
}

/// Host, addresses, and who vouches: `None` the operator, otherwise a session.
type Held = (u32, BTreeSet<std::net::IpAddr>, Option<u64>);

impl Model {
    fn claim(&mut self, rig: &Rig, host: u32, session: u64, claim: &Claim) -> bool {
        let key = (claim.vni, claim.mac);
        if self.nodes.get(&key).is_some_and(|(h, _, by)| *h == host && by.is_none()) {
            return true;
        }
        let gives_way = |h: u32, by: Option<u64>| match by {
            None => false,
            Some(by) if h == host => by != session,
            Some(_) => !rig.state().hosts[&h].up,
        };
        let in_the_way: Vec<_> = self
            .nodes
            .iter()
            .filter(|((v, m), (h, ips, _))| {
                *v == claim.vni
                    && ((*m == claim.mac && *h != host)
                        || (*m != claim.mac && claim.ips.iter().any(|ip| ips.contains(ip))))
            })
            .map(|(k, (h, _, by))| (*k, *h, *by))
            .collect();
        if in_the_way.iter().any(|(_, h, by)| !gives_way(*h, *by)) {
            return false;
        }
        for (k, ..) in in_the_way {
            if let Some((_, ips, _)) = self.nodes.get_mut(&k) {
                ips.retain(|ip| !claim.ips.contains(ip));
            }
        }
        self.nodes.insert(key, (host, claim.ips.iter().copied().collect(), Some(session)));
        true
    }

    fn agrees(&self, rig: &Rig) {
        let model: BTreeMap<_, _> =
            self.nodes.iter().map(|(k, (h, ips, _))| (*k, (*h, ips.clone()))).collect();
        let board: BTreeMap<_, _> = rig
            .state()
            .nodes
            .iter()
            .map(|(k, n)| (*k, (n.host_id, n.ips.iter().copied().collect::<BTreeSet<_>>())))
            .collect();
        assert_eq!(board, model);
    }
}

fn host_id(rig: &Rig, h: u8) -> Option<u32> {
    rig.state().hosts.values().find(|host| host.name == host_name(h)).map(|host| host.id)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any commands: the board's nodes are those of the model, and everything [`Rig::apply`] checks holds.
    #[test]
    fn random_commands_agree_with_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let mut rig = Rig::new(10_000);
        let mut model = Model::default();
        for step in &steps {
            // Who would speak, before the command changes it.
            let session = |rig: &Rig, h: &u8| rig.sessions.get(h).copied().unwrap_or(7);
            let Some(applied) = rig.step(step) else {
                // A restart: sessions are over, and nothing is vouched for by one.
                for (_, _, by) in model.nodes.values_mut() {
                    *by = by.map(|_| 0);
                }
                continue;
            };
            let Ok(outcome) = &applied.result else { model.agrees(&rig); continue };
            match step {
                Step::Claim(h, claims) => {
                    let Outcome::Claimed { refused, .. } = outcome else { panic!("{outcome:?}") };
                    let unique: BTreeMap<_, _> = claims.iter().map(|(v, m, i)| ((*v, *m), make_claim(*v, *m, i))).collect();
                    let host = host_id(&rig, *h).unwrap();
                    let expected: Vec<u32> = unique
                        .values()
                        .enumerate()
                        .filter(|(_, c)| !model.claim(&rig, host, session(&rig, h), c))
                        .map(|(i, _)| i as u32)
                        .collect();
                    let found: Vec<u32> = refused.iter().map(|(i, _)| *i).collect();
                    prop_assert_eq!(found, expected);
                }
                Step::Withdraw(h, v, m) => {
                    let host = host_id(&rig, *h).unwrap();
                    model.nodes.retain(|k, (at, _, by)| *k != (vni(*v), mac(*m)) || *at != host || by.is_none());
                }
                Step::Sync(h) => {
                    let (host, s) = (host_id(&rig, *h).unwrap(), session(&rig, h));
                    let before = model.nodes.len();
                    model.nodes.retain(|_, (at, _, by)| *at != host || by.is_none() || *by == Some(s));
                    let nodes_deleted = (before - model.nodes.len()) as u64;
                    let Outcome::Synced { nodes_deleted: found, .. } = outcome else { panic!("{outcome:?}") };
                    prop_assert_eq!(*found, nodes_deleted);
                }
                Step::Deregister(h, true) => {
                    let host = host_id(&rig, *h).unwrap();
                    model.nodes.retain(|_, (at, _, by)| *at != host || by.is_none());
                }
                Step::DeleteNode(v, m) => { model.nodes.remove(&(vni(*v), mac(*m))); }
                Step::DeleteHost(..) => {
                    let left: BTreeSet<u32> = rig.state().hosts.keys().copied().collect();
                    model.nodes.retain(|_, (at, _, _)| left.contains(at));
                }
                Step::Declare(_) | Step::Load(_) => {
                    // What the operator declares is in the changes; that it conflicts with nothing, `check` sees.
                    let declared: Vec<&RowStep> = match step {
                        Step::Declare(row) => vec![row],
                        Step::Load(rows) => rows.iter().collect(),
                        _ => vec![],
                    };
                    for row in declared {
                        if let RowStep::Node(v, m, h, i) = row {
                            let ips = make_claim(*v, *m, i).ips.into_iter().collect();
                            model.nodes.insert((vni(*v), mac(*m)), (host_id(&rig, *h).unwrap(), ips, None));
                        }
                    }
                }
                _ => {}
            }
            model.agrees(&rig);
        }
        // Nothing but the store is needed to go on.
        let state = rig.state().clone();
        rig.restart();
        prop_assert_eq!(rig.board.counts().nodes, state.nodes.len() as u64);
        prop_assert_eq!(rig.board.revision() as usize, rig.states.len() - 1);
    }

    /// The same request again, at once or after a restart, is answered the same and changes nothing.
    #[test]
    fn a_key_makes_a_request_happen_once(steps in prop::collection::vec(step(), 1..30), restart: bool) {
        let mut rig = Rig::new(10_000);
        for s in &steps {
            rig.step(s);
        }
        rig.step(&Step::Register(0, false));
        let key = Key { id: Id([9; 16]), fingerprint: 77 };
        let host = host_name(0);
        let number = rig.sessions[&0];
        let claims = vec![make_claim(1, 1, &[1]), make_claim(2, 1, &[1])];
        let command = Command::Claim { session: Session { host, number }, claims };
        let first = rig.apply(Some(key), command.clone());
        let wrote = first.writes.iter().any(|w| !matches!(w, stopover_bbs::board::record::Write::Event(..)));
        rig.step(&Step::Withdraw(0, 1, 1));
        if restart && wrote {
            rig.restart();
        }
        let state = rig.state().clone();
        if !restart || wrote {
            let second = rig.apply(Some(key), command);
            prop_assert_eq!(&second.result, &first.result);
            prop_assert_eq!(&state, rig.state());
            let other = rig.apply(Some(Key { fingerprint: 78, ..key }), Command::Tick);
            prop_assert_eq!(other.result, Err(Refusal::KeyReused));
        }
    }
}

fn register(rig: &mut Rig, h: u8) -> Session {
    rig.step(&Step::Register(h, false)).unwrap().result.unwrap();
    Session { host: host_name(h), number: rig.sessions[&h] }
}

fn refusals(outcome: Result<Outcome, Refusal>) -> Vec<String> {
    match outcome.unwrap() {
        Outcome::Claimed { refused, .. } => refused.into_iter().map(|(_, why)| why).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn conflicts_name_the_holder_and_are_one_event() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    let b = register(&mut rig, 1);
    rig.apply(None, Command::Claim { session: a, claims: vec![claim(100, 1, &["192.168.0.1"])] });
    let same_mac = Command::Claim { session: b.clone(), claims: vec![claim(100, 1, &[])] };
    let first = rig.apply(None, same_mac.clone());
    assert_eq!(first.events.len(), 1);
    assert_eq!(first.events[0].kind, EventKind::Conflict);
    assert!(first.events[0].text.contains("claim of host gw-1 refused"), "{}", first.events[0].text);
    let why = refusals(first.result).remove(0);
    assert!(why.contains("MAC 52:54:00:00:00:01 in VNI 100 is held by host gw-0"), "{why}");
    let again = rig.apply(None, same_mac);
    assert!(again.events.is_empty(), "a standing conflict is one event");

    let same_ip = Command::Claim { session: b.clone(), claims: vec![claim(100, 2, &["192.168.0.1"])] };
    let why = refusals(rig.apply(None, same_ip).result).remove(0);
    assert!(
        why.contains("IP 192.168.0.1 in VNI 100 is held by node 52:54:00:00:00:01 on host gw-0"),
        "{why}"
    );
    let elsewhere = Command::Claim { session: b, claims: vec![claim(101, 1, &["192.168.0.1"])] };
    assert!(refusals(rig.apply(None, elsewhere).result).is_empty(), "another network is another world");
}

#[test]
fn a_silent_host_goes_down_keeps_its_nodes_and_can_be_taken_over_from() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    rig.apply(None, Command::Claim { session: a.clone(), claims: vec![claim(1, 1, &["192.168.0.1"])] });
    let generation = rig.state().nodes[&(vni(1), mac(1))].generation;
    rig.step(&Step::Pass(LEASE / 2));
    let b = register(&mut rig, 1);
    let events = rig.step(&Step::Pass(LEASE / 2)).unwrap().events;
    assert_eq!(events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::HostDown]);
    assert!(events[0].text.contains("gw-0 has been silent for 1000 ms"), "{}", events[0].text);
    assert!(!rig.state().hosts[&1].up && rig.state().hosts[&2].up);
    assert_eq!(rig.state().nodes.len(), 1, "fail static");

    let taken = rig.apply(None, Command::Claim { session: b, claims: vec![claim(1, 1, &["192.168.0.1"])] });
    assert_eq!(taken.events[0].kind, EventKind::TakenOver);
    let node = &rig.state().nodes[&(vni(1), mac(1))];
    assert_eq!(node.host_id, 2);
    assert!(node.generation > generation, "a move fences what was before");

    // The first one comes back, and is told.
    let back = rig.apply(None, Command::Claim { session: a, claims: vec![claim(1, 1, &["192.168.0.1"])] });
    assert!(rig.state().hosts[&1].up);
    assert!(refusals(back.result)[0].contains("held by host gw-1"));
}

#[test]
fn sessions_are_fenced() {
    let mut rig = Rig::new(1000);
    let old = register(&mut rig, 0);
    let new = register(&mut rig, 0);
    let refused = |rig: &mut Rig, s: &Session| {
        let applied = rig.apply(None, Command::Claim { session: s.clone(), claims: vec![claim(1, 1, &[])] });
        applied.result.err().map(|r| r.word())
    };
    assert_eq!(refused(&mut rig, &old), Some("fenced"));
    assert_eq!(refused(&mut rig, &new), None);
    let future = Session { number: new.number + 1, ..new.clone() };
    assert_eq!(refused(&mut rig, &future), Some("unregistered"));
    rig.restart();
    assert_eq!(refused(&mut rig, &new), Some("unregistered"), "a session ends with the board");
    let stranger = Session { host: name("nobody"), number: new.number };
    assert_eq!(refused(&mut rig, &stranger), Some("unregistered"));
}

#[test]
fn another_process_under_the_same_name_is_an_event() {
    let mut rig = Rig::new(1000);
    register(&mut rig, 0);
    let again = Registration {
        host: host_name(0),
        vteps: vec![ip("10.0.0.1")],
        udp_port: 4789,
        instance: Id([0; 16]),
    };
    assert!(
        rig.apply(None, Command::Register(again.clone())).events.is_empty(),
        "the same process reconnects"
    );
    let other = Registration { instance: Id([1; 16]), ..again };
    assert_eq!(rig.apply(None, Command::Register(other)).events[0].kind, EventKind::HostReplaced);
}

#[test]
fn vteps_belong_to_one_host() {
    let mut rig = Rig::new(1000);
    register(&mut rig, 0);
    let thief = Registration {
        host: name("thief"),
        vteps: vec![ip("10.0.0.7"), ip("10.0.0.1")],
        udp_port: 4789,
        instance: Id([7; 16]),
    };
    let refused = rig.apply(None, Command::Register(thief.clone()));
    let why = refused.result.unwrap_err();
    assert_eq!(why.word(), "conflict");
    assert!(why.to_string().contains("VTEP 10.0.0.1 port 4789 is held by host gw-0 (up)"), "{why}");
    assert!(rig.apply(None, Command::Register(Registration { udp_port: 4790, ..thief })).result.is_ok());
    assert_eq!(
        rig.state().hosts.keys().copied().collect::<Vec<_>>(),
        [1, 2],
        "no id was lost to the refusal"
    );
}

fn host_row(n: &str, vtep: &str) -> Row {
    Row::Host(HostRow { name: name(n), vteps: vec![ip(vtep)], udp_port: 4789 })
}
fn node_row(n: u32, last: u8, host: &str, ips: &[&str]) -> Row {
    Row::Node(NodeRow {
        vni: vni(n),
        mac: mac(last),
        host: name(host),
        ips: ips.iter().map(|s| ip(s)).collect(),
    })
}

#[test]
fn a_load_is_all_or_nothing_and_names_rows() {
    let mut rig = Rig::new(1000);
    let rows = vec![
        (2, node_row(5, 1, "lx", &["10.1.0.1"])),
        (3, host_row("lx", "172.16.0.1")),
        (4, node_row(5, 2, "lx", &["10.1.0.1"])),
        (5, node_row(5, 3, "missing", &[])),
    ];
    let refused = rig.apply(None, Command::Load(rows.clone()));
    let Err(Refusal::Rows { errors, total }) = refused.result else { panic!("{:?}", refused.result) };
    assert_eq!(total, 2);
    assert_eq!(errors.iter().map(|e| e.number).collect::<Vec<_>>(), [4, 5]);
    assert!(errors[0].why.contains("IP 10.1.0.1 in VNI 5 is held by node 52:54:00:00:00:01 on host lx"));
    assert!(errors[1].why.contains("there is no host missing"), "{}", errors[1].why);
    assert_eq!(*rig.state(), Replica::default());
    assert_eq!(rig.board.counts().hosts, 0);

    let good: Vec<_> = rows.into_iter().take(2).collect();
    assert!(rig.apply(None, Command::Load(good)).result.is_ok(), "hosts come first whatever the order");
    assert_eq!(rig.state().hosts[&1].declared_by, DeclaredBy::Operator);
    assert_eq!(rig.state().nodes.len(), 1);
}

#[test]
fn a_load_larger_than_the_history_keeps_only_its_end() {
    let mut rig = Rig::new(2000);
    let mut rows = vec![(1, host_row("lx", "172.16.0.1"))];
    for i in 0..9000u32 {
        let [_, _, x, y] = i.to_be_bytes();
        let row = NodeRow { vni: vni(5), mac: Mac::new([2, 0, 0, 0, x, y]), host: name("lx"), ips: vec![] };
        rows.push((0, Row::Node(row)));
    }
    let now = rig.now;
    let applied = rig.board.apply(now, None, Command::Load(rows));
    let kept: usize = applied.commits.iter().map(|c| c.changes.len()).sum();
    assert!((2000..5000).contains(&kept), "{kept}");
    assert_eq!(applied.commits.last().unwrap().revision, rig.board.revision());
    assert_eq!(rig.board.counts().nodes, 9000);
    assert_eq!(applied.writes.len(), 9000 + 3, "nodes, host, membership, event");
}

#[test]
fn deleting_a_host_asks_first() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    rig.apply(None, Command::Claim { session: a.clone(), claims: vec![claim(1, 1, &[])] });
    let delete = |rig: &mut Rig, cascade| {
        let target = Target::Host { name: host_name(0), cascade };
        rig.apply(None, Command::Delete(target)).result.map_err(|r| r.to_string())
    };
    assert!(delete(&mut rig, true).unwrap_err().contains("is alive: stop its appliance first"));
    rig.apply(None, Command::Deregister { session: a, withdraw_all: false });
    assert!(delete(&mut rig, false).unwrap_err().contains("has 1 nodes"));
    assert!(delete(&mut rig, true).is_ok());
    assert_eq!(*rig.state(), Replica::default());
    register(&mut rig, 0);
    assert_eq!(rig.state().hosts.keys().copied().collect::<Vec<_>>(), [2], "an id is never given twice");
}

#[test]
fn the_operators_word_stands() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    rig.apply(None, Command::Declare(node_row(1, 1, "gw-0", &["192.168.0.9"]))).result.unwrap();
    let claims = vec![claim(1, 1, &["192.168.0.1"])];
    assert!(refusals(rig.apply(None, Command::Claim { session: a.clone(), claims }).result).is_empty());
    assert_eq!(rig.state().nodes[&(vni(1), mac(1))].ips, [ip("192.168.0.9")]);
    rig.apply(None, Command::Withdraw { session: a.clone(), nodes: vec![(vni(1), mac(1))] });
    rig.apply(None, Command::Deregister { session: a, withdraw_all: true });
    assert_eq!(rig.state().nodes.len(), 1);
    let b = register(&mut rig, 1);
    let taken = Command::Claim { session: b, claims: vec![claim(1, 1, &[])] };
    assert_eq!(refusals(rig.apply(None, taken).result).len(), 1, "not even from a host that is down");
}

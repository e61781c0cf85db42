//! Contests for a node or an address: declared claims win over learned ones, and among learned ones the newest wins.

use super::support::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use stopover_bbs::{
    board::{Applied, Command, Outcome, Principal, Refusal, Session},
    model::{Accepted, Claim, EventKind, NodeFacts, Row, StationKind},
};
use stopover_config::bulk::NodeRow;

fn register(rig: &mut Rig, h: u8) -> Session {
    rig.step(&Step::Register(h, false)).unwrap().result.unwrap();
    Session { host: host_name(h), number: rig.sessions[&h] }
}

fn hosts(rig: &mut Rig) -> [Session; 2] {
    [0, 1].map(|h| register(rig, h))
}

fn learned(last: u8, ips: &[&str]) -> Claim {
    Claim::learned(vni(1), mac(last), ips.iter().map(|s| ip(s)).collect())
}

fn declared(last: u8, ips: &[&str]) -> Claim {
    Claim { received: true, ..claim(1, last, ips) }
}

/// Where a node is, and its addresses.
fn node(rig: &Rig, last: u8) -> (u32, Vec<std::net::IpAddr>) {
    let node = &rig.state().nodes[&(vni(1), mac(last))];
    (node.host_id, node.ips.clone())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    refused: bool,
    accepted: Option<Accepted>,
    retry_ms: u64,
}

fn apply(rig: &mut Rig, session: &Session, claim: Claim) -> (Answer, Applied) {
    let applied = rig.apply(None, Command::Claim { session: session.clone(), claims: vec![claim] });
    let Ok(Outcome::Claimed { refused, partial, later, .. }) = &applied.result else { panic!("{applied:?}") };
    let answer = Answer {
        refused: !refused.is_empty(),
        accepted: partial.first().map(|(_, accepted)| accepted.clone()),
        retry_ms: later.first().map_or(0, |(_, ms)| *ms),
    };
    (answer, applied)
}

fn submit(rig: &mut Rig, session: &Session, claim: Claim) -> Answer {
    apply(rig, session, claim).0
}

#[test]
fn a_learned_station_moves_to_the_host_that_received_it_last() {
    let mut rig = Rig::new(1000);
    let [a, b] = hosts(&mut rig);
    assert_eq!(submit(&mut rig, &a, learned(1, &["192.168.0.1", "fd00::1"])), Answer::default());
    let generation = rig.state().nodes[&(vni(1), mac(1))].generation;
    // Its addresses move with it: it need not announce them again.
    let ips = vec![ip("192.168.0.1"), ip("fd00::1")];
    let accepted = Some(Accepted { ips: ips.clone(), refused: vec![] });
    assert_eq!(submit(&mut rig, &b, learned(1, &[])), Answer { accepted, ..Answer::default() });
    assert_eq!(node(&rig, 1), (2, ips));
    assert!(rig.state().nodes[&(vni(1), mac(1))].generation > generation);
    // What the first host still has of it from before takes nothing back.
    assert!(submit(&mut rig, &a, learned(1, &["192.168.0.1"]).stale()).refused);
    assert_eq!(node(&rig, 1).0, 2);
}

#[test]
fn declared_stations_win_over_learned_ones() {
    let mut rig = Rig::new(1000);
    let [a, b] = hosts(&mut rig);
    submit(&mut rig, &a, declared(1, &["192.168.0.1"]));
    assert!(submit(&mut rig, &b, learned(1, &[])).refused);
    let two = submit(&mut rig, &b, learned(2, &["192.168.0.1", "192.168.0.2"]));
    let accepted = two.accepted.unwrap();
    assert_eq!((accepted.ips, accepted.refused.len()), (vec![ip("192.168.0.2")], 1));
    assert!(submit(&mut rig, &b, declared(1, &[])).refused, "the first of two declared ones wins");
    // And the other way round.
    assert_eq!(submit(&mut rig, &a, declared(3, &["192.168.0.2"])), Answer::default());
    assert_eq!((node(&rig, 2), node(&rig, 3)), ((2, vec![]), (1, vec![ip("192.168.0.2")])));
    assert_eq!(submit(&mut rig, &a, declared(2, &[])), Answer::default());
    assert_eq!(node(&rig, 2).0, 1);
    // A node that the operator declared keeps its place and addresses even while its host is down.
    rig.apply(None, by_operator(9, &["192.168.0.9"], &[])).result.unwrap();
    assert!(submit(&mut rig, &b, learned(9, &[])).refused);
    assert!(submit(&mut rig, &b, declared(9, &[])).refused);
    assert_eq!(submit(&mut rig, &b, declared(4, &["192.168.0.9"])).accepted.unwrap().refused.len(), 1);
}

/// A host that is cut off from the board, and not from the underlay, still has its VMs.
#[test]
fn what_is_declared_on_a_silent_host_is_not_lost_to_what_is_learned() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    submit(&mut rig, &a, declared(1, &["192.168.0.1"]));
    submit(&mut rig, &a, learned(2, &["192.168.0.2"]));
    rig.step(&Step::Pass(LEASE / 2));
    let b = register(&mut rig, 1);
    rig.step(&Step::Pass(LEASE / 2));
    assert!(!rig.state().hosts[&1].up && rig.state().hosts[&2].up);
    let announced = |claim: Claim| Claim { announced: claim.ips.clone(), ..claim };
    let (answer, applied) = apply(&mut rig, &b, announced(learned(1, &["192.168.0.1"])));
    assert!(answer.refused);
    let text = &applied.events[0].text;
    assert!(
        text.contains("host gw-0, which is down") && text.contains("stopover host forget gw-0"),
        "{text}"
    );
    let address = submit(&mut rig, &b, announced(learned(3, &["192.168.0.1"])));
    assert_eq!(address.accepted.unwrap().refused.len(), 1);
    assert_eq!(node(&rig, 1), (1, vec![ip("192.168.0.1")]));
    // What was learned there moves to whoever receives it, and a VM that another host has declared runs there.
    assert_eq!(submit(&mut rig, &b, announced(learned(2, &["192.168.0.2"]))), Answer::default());
    assert_eq!(submit(&mut rig, &b, declared(1, &["192.168.0.1"])), Answer::default());
    assert_eq!((node(&rig, 1).0, node(&rig, 2).0), (2, 2));
}

/// A lock that the source took because dirty logging began names no target.
#[test]
fn a_locked_node_of_a_silent_host_is_not_lost_to_what_is_learned() {
    for (target, kind, moves) in [
        (None, StationKind::Learned, false),
        (None, StationKind::Declared, true),
        (Some(1), StationKind::Learned, true),
    ] {
        let mut rig = Rig::new(1000);
        let [a, b] = hosts(&mut rig);
        submit(&mut rig, &a, declared(1, &["192.168.0.1"]));
        let begin = Command::BeginMigration {
            by: Principal::Host(a.clone()),
            nodes: vec![(vni(1), mac(1))],
            source: host_name(0),
            target: target.map(host_name),
            cause: "dirty logging".to_owned(),
            lease_ms: 5 * LEASE,
            renew: None,
        };
        rig.apply(None, begin).result.unwrap();
        let claim = declared(1, &["192.168.0.1"]);
        submit(&mut rig, &b, Claim { facts: NodeFacts { kind, ..NodeFacts::default() }, ..claim });
        rig.step(&Step::Pass(LEASE / 2));
        rig.apply(None, Command::Heartbeat(b.clone())).result.unwrap();
        rig.step(&Step::Pass(LEASE / 2));
        assert!(!rig.state().hosts[&1].up && rig.state().hosts[&2].up);
        assert_eq!(node(&rig, 1).0, if moves { 2 } else { 1 }, "{target:?} {kind:?}");
        rig.apply(None, Command::Heartbeat(a)).result.unwrap();
        assert_eq!(node(&rig, 1).0, if moves { 2 } else { 1 }, "and the source is back");
    }
}

/// The same for a host that has deregistered, to start again.
#[test]
fn a_host_that_restarts_does_not_lose_what_is_declared() {
    let mut rig = Rig::new(1000);
    let [a, b] = hosts(&mut rig);
    submit(&mut rig, &a, declared(1, &["192.168.0.1"]));
    let bye = Command::Deregister { session: a, withdraw_all: false };
    rig.apply(None, bye).result.unwrap();
    assert!(submit(&mut rig, &b, learned(1, &[])).refused);
    let a = register(&mut rig, 0);
    assert_eq!(submit(&mut rig, &a, declared(1, &["192.168.0.1"])), Answer::default());
    assert_eq!(node(&rig, 1), (1, vec![ip("192.168.0.1")]));
}

fn by_operator(last: u8, ips: &[&str], shared: &[&str]) -> Command {
    let list = |ips: &[&str]| ips.iter().map(|s| ip(s)).collect();
    Command::Declare(Row::Node(NodeRow {
        vni: vni(1),
        mac: mac(last),
        host: host_name(0),
        ips: list(ips),
        shared_ips: list(shared),
    }))
}

#[test]
fn an_operator_declares_an_address_that_nodes_share() {
    for shared in ["192.168.0.100", "fd00::100"] {
        let mut rig = Rig::new(1000);
        let [a, _] = hosts(&mut rig);
        let vip = [ip(shared)];
        rig.apply(None, by_operator(1, &["192.168.0.1"], &[shared])).result.unwrap();
        assert!(node(&rig, 1).1.contains(&vip[0]));
        // The last declaration has it, and both nodes exist.
        rig.apply(None, by_operator(2, &["192.168.0.2"], &[shared])).result.unwrap();
        assert_eq!(node(&rig, 1).1, [ip("192.168.0.1")]);
        assert!(node(&rig, 2).1.contains(&vip[0]));
        // A node that shares and announces it takes it over; a claim without announcement does not.
        let silent = Claim { shared: vip.to_vec(), ..declared(3, &[shared]) };
        assert_eq!(submit(&mut rig, &a, silent.clone()).accepted.unwrap().refused.len(), 1);
        let announced = Claim { announced: vip.to_vec(), ..silent };
        assert_eq!(submit(&mut rig, &a, announced), Answer::default());
        assert_eq!((node(&rig, 2).1, node(&rig, 3).1), (vec![ip("192.168.0.2")], vip.to_vec()));
        // The same declaration again does not take it from a node that announced it.
        rig.apply(None, by_operator(2, &["192.168.0.2"], &[shared])).result.unwrap();
        assert_eq!((node(&rig, 2).1, node(&rig, 3).1), (vec![ip("192.168.0.2")], vip.to_vec()));
        // A learned station gives it up, as all that is learned.
        submit(&mut rig, &a, Claim { shared: vec![], ..declared(3, &[]) });
        submit(&mut rig, &a, learned(4, &[shared]));
        rig.apply(None, by_operator(1, &["192.168.0.1"], &[shared])).result.unwrap();
        assert_eq!((node(&rig, 1).1.len(), node(&rig, 4).1.len()), (2, 0));
        // The answer to a claim of the operator's node has the addresses of the declaration.
        let accepted = submit(&mut rig, &a, declared(2, &[shared])).accepted.unwrap();
        assert_eq!(accepted, Accepted { ips: vec![ip("192.168.0.2")], refused: vec![] });
        // An address of one node cannot be shared by another, and the other way round.
        let other = rig.apply(None, by_operator(5, &[], &["192.168.0.2"])).result;
        assert!(matches!(&other, Err(Refusal::Conflict(why)) if why.contains("192.168.0.2")), "{other:?}");
        let own = rig.apply(None, by_operator(5, &[shared], &[])).result;
        assert!(matches!(own, Err(Refusal::Conflict(_))), "{own:?}");
        assert_eq!(node(&rig, 1).1.len(), 2, "a refused declaration changes nothing");
    }
}

/// With a client of a version without kinds the first holder keeps the node, as before.
#[test]
fn claims_of_old_clients_take_nothing_over() {
    let mut rig = Rig::new(1000);
    let [a, b] = hosts(&mut rig);
    submit(&mut rig, &a, learned(1, &["192.168.0.1"]));
    assert!(submit(&mut rig, &b, claim(1, 1, &[])).refused);
    assert_eq!(submit(&mut rig, &b, claim(1, 2, &["192.168.0.1"])).accepted.unwrap().refused.len(), 1);
    assert!(submit(&mut rig, &a, learned(2, &[])).refused);
}

#[test]
fn an_address_moves_to_its_newest_announcer_without_the_node() {
    let mut rig = Rig::new(1000);
    let [a, b] = hosts(&mut rig);
    submit(&mut rig, &a, learned(1, &["192.168.0.1", "192.168.0.100"]));
    assert_eq!(submit(&mut rig, &b, learned(2, &["192.168.0.2", "192.168.0.100"])), Answer::default());
    assert_eq!(node(&rig, 1), (1, vec![ip("192.168.0.1")]));
    assert_eq!(node(&rig, 2), (2, vec![ip("192.168.0.2"), ip("192.168.0.100")]));
    // Only what was announced just now: the old master's other claims do not bring it back.
    let mut again = learned(1, &["192.168.0.1", "192.168.0.100"]);
    again.announced = vec![ip("192.168.0.1")];
    let refused = submit(&mut rig, &a, again).accepted.unwrap();
    assert_eq!((refused.ips, refused.refused.len()), (vec![ip("192.168.0.1")], 1));
    // So between stations of one host.
    assert_eq!(submit(&mut rig, &b, learned(3, &["192.168.0.100"])), Answer::default());
    assert_eq!((node(&rig, 2).1, node(&rig, 3).1), (vec![ip("192.168.0.2")], vec![ip("192.168.0.100")]));
}

#[test]
fn a_shared_address_moves_by_announcements_among_its_sharers() {
    let mut rig = Rig::new(1000);
    let [a, b] = hosts(&mut rig);
    let vip = ip("192.168.0.100");
    let share = |last, own: &str| Claim {
        shared: vec![vip],
        announced: vec![vip],
        ..declared(last, &[own, "192.168.0.100"])
    };
    assert_eq!(submit(&mut rig, &a, share(1, "192.168.0.1")), Answer::default());
    assert_eq!(submit(&mut rig, &b, share(2, "192.168.0.2")), Answer::default());
    assert_eq!((node(&rig, 1).1, node(&rig, 2).1.contains(&vip)), (vec![ip("192.168.0.1")], true));
    // Not without an announcement, and not for who does not share it.
    assert_eq!(submit(&mut rig, &a, share(1, "192.168.0.1").stale()).accepted.unwrap().refused.len(), 1);
    assert_eq!(submit(&mut rig, &a, learned(3, &["192.168.0.100"])).accepted.unwrap().refused.len(), 1);
    // It remains shared after a restart of the board.
    rig.restart();
    let [a, _] = hosts(&mut rig);
    assert_eq!(submit(&mut rig, &a, share(1, "192.168.0.1")), Answer::default());
    assert!(node(&rig, 1).1.contains(&vip));
}

#[test]
fn the_router_flag_is_kept() {
    let mut rig = Rig::new(1000);
    let [a, b] = hosts(&mut rig);
    let facts = |rig: &Rig| rig.state().nodes[&(vni(1), mac(1))].facts;
    let with = |router| {
        let claim = learned(1, &["fe80::1"]);
        Claim { facts: NodeFacts { kind: StationKind::Learned, router }, ..claim }
    };
    submit(&mut rig, &a, with(Some(true)));
    assert_eq!(facts(&rig).router, Some(true));
    // Its appliance restarts and has not received it yet; it moves; the board restarts.
    submit(&mut rig, &a, with(None));
    submit(&mut rig, &b, with(None));
    rig.restart();
    let [a, b] = hosts(&mut rig);
    submit(&mut rig, &b, with(None));
    assert_eq!(facts(&rig), NodeFacts { kind: StationKind::Learned, router: Some(true) });
    submit(&mut rig, &b, with(Some(false)));
    assert_eq!(facts(&rig).router, Some(false));
    // A migration takes it along too.
    submit(&mut rig, &b, with(Some(true)));
    let begin = Command::BeginMigration {
        by: Principal::Operator,
        nodes: vec![(vni(1), mac(1))],
        source: host_name(1),
        target: Some(host_name(0)),
        cause: "test".into(),
        lease_ms: 5000,
        renew: None,
    };
    let Ok(Outcome::Migration { id, generation, .. }) = rig.apply(None, begin).result else { panic!() };
    submit(&mut rig, &a, with(None));
    let ticket = stopover_bbs::board::Ticket { migration: id, generation };
    let complete =
        Command::CompleteMigration { by: Principal::Operator, ticket, at: None, cause: "test".into() };
    rig.apply(None, complete).result.unwrap();
    assert_eq!((node(&rig, 1).0, facts(&rig).router), (1, Some(true)));
}

#[test]
fn frequent_moves_are_delayed_and_reported() {
    let mut rig = Rig::new(1000);
    let sessions = hosts(&mut rig);
    submit(&mut rig, &sessions[0], learned(1, &["192.168.0.1"]));
    let mut events = Vec::new();
    for n in 1..=50 {
        rig.now.lease_ms += 600;
        let (answer, applied) = apply(&mut rig, &sessions[n % 2], learned(1, &["192.168.0.1"]));
        assert_eq!(answer, Answer::default(), "move {n}, at a moderate pace");
        assert_eq!(node(&rig, 1).0, n as u32 % 2 + 1);
        events.extend(applied.events);
        // A faster move is delayed.
        if n >= 5 {
            let back = submit(&mut rig, &sessions[(n + 1) % 2], learned(1, &[]));
            assert_eq!(back, Answer { retry_ms: 500, ..Answer::default() });
        }
        assert_eq!(node(&rig, 1).0, n as u32 % 2 + 1);
    }
    let conflicts: Vec<_> = events.iter().filter(|e| e.kind == EventKind::Conflict).collect();
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert!(conflicts[0].text.contains("has moved 5 times in 2400 ms"), "{}", conflicts[0].text);
}

#[derive(Debug, Clone)]
enum Event {
    /// A station is received at a host, and announces an address, perhaps.
    Receive(usize, u8, Option<u8>),
    Pass(u64),
}

proptest! {
    /// Whatever order learned stations are received in, each is at the host, and each address at the station, that was
    /// last; and no node is lost.
    #[test]
    fn the_newest_claim_wins(steps in prop::collection::vec(
        prop_oneof![
            4 => (0..2usize, 1..5u8, prop::option::of(1..4u8)).prop_map(|(h, m, i)| Event::Receive(h, m, i)),
            1 => (1..2000u64).prop_map(Event::Pass),
        ], 1..60)) {
        let mut rig = Rig::new(1000);
        let sessions = hosts(&mut rig);
        let (mut places, mut owners) = (BTreeMap::new(), BTreeMap::new());
        for step in steps {
            match step {
                Event::Pass(ms) => rig.now.lease_ms += ms.min(LEASE / 2),
                Event::Receive(h, m, i) => {
                    let address = i.map(|i| std::net::IpAddr::from([10, 0, 0, i]));
                    let before = rig.state().nodes.get(&(vni(1), mac(m))).map(|n| n.ips.clone()).unwrap_or_default();
                    let mut claim = Claim::learned(vni(1), mac(m), address.into_iter().collect());
                    claim.ips.extend(before.into_iter().filter(|ip| Some(*ip) != address));
                    let mut answer = submit(&mut rig, &sessions[h], claim.clone());
                    while answer.retry_ms > 0 {
                        // Both are alive.
                        rig.now.lease_ms += answer.retry_ms;
                        for session in &sessions {
                            rig.apply(None, Command::Heartbeat(session.clone()));
                        }
                        answer = submit(&mut rig, &sessions[h], claim.clone());
                    }
                    prop_assert!(!answer.refused);
                    places.insert(m, h as u32 + 1);
                    if let Some(address) = address {
                        owners.insert(address, m);
                    }
                }
            }
            for session in &sessions {
                rig.apply(None, Command::Heartbeat(session.clone()));
            }
        }
        let nodes = &rig.state().nodes;
        let found: BTreeMap<_, _> = nodes.iter().map(|((_, m), n)| (m.octets()[5], n.host_id)).collect();
        prop_assert_eq!(found, places);
        let found: BTreeMap<_, _> =
            nodes.iter().flat_map(|((_, m), n)| n.ips.iter().map(|ip| (*ip, m.octets()[5]))).collect();
        prop_assert_eq!(found, owners);
    }
}

/// An address that a declared station uses without a declaration is learned: it moves like learned addresses.
#[test]
fn an_undeclared_address_of_a_declared_station_moves() {
    let mut rig = Rig::new(1000);
    let [a, b] = hosts(&mut rig);
    let vip = ip("192.168.0.100");
    let uses =
        Claim { used: vec![vip], announced: vec![vip], ..declared(1, &["192.168.0.1", "192.168.0.100"]) };
    assert_eq!(submit(&mut rig, &a, uses.clone()), Answer::default());
    assert_eq!(submit(&mut rig, &b, learned(2, &["192.168.0.100"])), Answer::default());
    assert_eq!(node(&rig, 1).1, [ip("192.168.0.1")]);
    assert_eq!(submit(&mut rig, &a, uses), Answer::default());
    assert!(node(&rig, 2).1.is_empty());
    assert_eq!(submit(&mut rig, &b, learned(2, &["192.168.0.1"])).accepted.unwrap().refused.len(), 1);
}

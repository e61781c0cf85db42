//! What the board may hold: each limit is met, refused with its numbers, and holds no more.

use super::*;
use stopover_config::{
    bbs::{Exceeded, Limit, Limits},
    bulk::NetworkRow,
};
use stopover_net::FloodPolicy;

/// A board with one registered host, and these limits.
fn limited(limits: Limits) -> (Rig, Session) {
    let mut rig = Rig::new(1000);
    rig.board.set_quotas(limits);
    let session = register(&mut rig, 0);
    (rig, session)
}

fn quota(result: Result<Outcome, Refusal>) -> (Limit, u64, u64) {
    match result {
        Err(Refusal::Quota(Exceeded { limit, found, most })) => (limit, found, most),
        other => panic!("{other:?}"),
    }
}

fn claims(rig: &mut Rig, session: &Session, claims: Vec<Claim>) -> Vec<String> {
    refusals(rig.apply(None, Command::Claim { session: session.clone(), claims }).result)
}

#[test]
fn a_claim_too_many_is_refused_alone_and_one_event_names_the_host() {
    let (mut rig, session) = limited(Limits { nodes_per_host: 2, ..Limits::default() });
    let refused = claims(&mut rig, &session, (1..=3).map(|m| claim(1, m, &[])).collect());
    assert_eq!(refused.len(), 1);
    assert!(refused[0].starts_with("nodes_per_host: found 3; expected at most 2; hint: "), "{refused:?}");
    assert_eq!((rig.board.counts().nodes, rig.board.take_exceeded()), (2, vec![Limit::NodesPerHost]));
    // Those that are there can be claimed again, and leave room when they go.
    assert_eq!(claims(&mut rig, &session, vec![claim(1, 1, &["10.0.0.1"])]), [""; 0]);
    let events = (4..100).flat_map(|m| {
        let claims = vec![claim(1, m, &[])];
        rig.apply(None, Command::Claim { session: session.clone(), claims }).events
    });
    assert_eq!(events.count(), 0, "the first refusal was an event");
    let nodes = vec![(vni(1), mac(1))];
    rig.apply(None, Command::Withdraw { session: session.clone(), nodes }).result.unwrap();
    assert_eq!(claims(&mut rig, &session, vec![claim(1, 9, &[])]), [""; 0]);
}

#[test]
fn every_limit_of_the_board_is_met() {
    let one = |limits: fn(&mut Limits)| {
        let mut all = Limits::default();
        limits(&mut all);
        limited(all)
    };
    let network = |n| {
        let row = NetworkRow { vni: vni(n), name: None, flood: FloodPolicy::default(), mtu: 0 };
        Command::Declare(Row::Network(row))
    };

    let (mut rig, _) = one(|l| l.hosts = 1);
    let second = rig.step(&Step::Register(1, false)).unwrap().result;
    assert_eq!(quota(second), (Limit::Hosts, 2, 1));
    register(&mut rig, 0);

    let (mut rig, session) = one(|l| l.networks = 1);
    rig.apply(None, network(1)).result.unwrap();
    assert_eq!(quota(rig.apply(None, network(2)).result), (Limit::Networks, 2, 1));
    let join =
        |session: &Session, n| Command::Join { session: session.clone(), networks: vec![(vni(n), false)] };
    assert_eq!(quota(rig.apply(None, join(&session, 2)).result), (Limit::Networks, 2, 1));
    assert!(claims(&mut rig, &session, vec![claim(2, 1, &[])])[0].starts_with("networks: found 2;"));

    let (mut rig, session) = one(|l| l.networks_per_host = 1);
    rig.apply(None, join(&session, 1)).result.unwrap();
    rig.apply(None, join(&session, 1)).result.unwrap();
    assert_eq!(quota(rig.apply(None, join(&session, 2)).result), (Limit::NetworksPerHost, 2, 1));

    type Change = fn(&mut Limits);
    let cases: [(Change, &str); 2] =
        [(|l| l.nodes = 1, "nodes: found 2;"), (|l| l.nodes_per_network = 1, "nodes_per_network: found 2;")];
    for (limits, name) in cases {
        let (mut rig, session) = one(limits);
        let refused = claims(&mut rig, &session, vec![claim(1, 1, &[]), claim(1, 2, &[])]);
        assert!(refused.len() == 1 && refused[0].starts_with(name), "{refused:?}");
    }

    let (mut rig, session) = one(|l| l.migrations = 1);
    assert_eq!(claims(&mut rig, &session, vec![claim(1, 1, &[]), claim(1, 2, &[])]), [""; 0]);
    rig.step(&Step::Begin(None, vec![(1, 1)], 0, None, 5000)).unwrap().result.unwrap();
    let second = rig.step(&Step::Begin(None, vec![(1, 2)], 0, None, 5000)).unwrap().result;
    assert_eq!(quota(second), (Limit::Migrations, 2, 1));
}

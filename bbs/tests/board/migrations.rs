//! Migrations: who completes or aborts them, where the nodes are afterwards, and how locks end by themselves.

use super::*;

#[test]
fn a_claim_at_the_target_waits_and_both_sides_agree() {
    let mut rig = Rig::new(1000);
    let (a, b) = (register(&mut rig, 0), register(&mut rig, 1));
    claims(&mut rig, &a, claim(1, 1, &["192.168.0.1"]));
    let ticket = begin(&mut rig, "gw-0", None, &[1]).unwrap();
    let Outcome::Claimed { deferred, refused, .. } = claims(&mut rig, &b, claim(1, 1, &["192.168.0.9"]))
    else {
        panic!()
    };
    assert_eq!((deferred, refused), (vec![(0, ticket.migration)], vec![]));
    // The holder's own updates still apply.
    claims(&mut rig, &a, claim(1, 1, &["192.168.0.2"]));
    assert_eq!((at(&rig, 1), rig.state().nodes[&(vni(1), mac(1))].ips.clone()), (1, vec![ip("192.168.0.2")]));
    let before = rig.board.revision();
    let done = complete(&mut rig, Principal::Host(a.clone()), ticket, None).unwrap();
    assert_eq!(rig.board.revision(), before + 1, "one revision");
    assert_eq!((at(&rig, 1), rig.state().nodes[&(vni(1), mac(1))].ips.clone()), (2, vec![ip("192.168.0.9")]));
    for by in [Principal::Host(b), Principal::Operator] {
        assert_eq!(complete(&mut rig, by, ticket, Some("gw-1")).unwrap(), done, "the second agrees");
    }
    assert_eq!(rig.board.revision(), before + 1);
    let late = abort(&mut rig, ticket).unwrap_err();
    assert_eq!(late.word(), "stale");
    assert!(late.to_string().contains("was completed to host gw-1 at revision"), "{late}");

    // Resumed at the source by mistake: it may not take the node back without a lock.
    let back = Command::Claim { session: a, claims: vec![claim(1, 1, &[])] };
    let why = refusals(rig.apply(None, back).result).remove(0);
    assert!(why.contains("is held by host gw-1") && why.contains("migration 1 moved it from gw-0"), "{why}");
    assert!(
        begin(&mut rig, "gw-0", None, &[1]).unwrap_err().to_string().contains("is on host gw-1, not on gw-0")
    );

    // The barrier: every up member has the revision on every lcore.
    rig.step(&Step::Acked(0));
    let waiting: Vec<_> = migration(&rig, ticket).waiting.iter().map(|h| h.id).collect();
    assert_eq!(waiting, [2], "host 1 is no member any more");
    rig.now.unix_ms = 77;
    rig.step(&Step::Acked(1));
    assert_eq!(migration(&rig, ticket).switched_unix_ms, 77);
}

#[test]
fn an_appliance_completes_only_to_a_claimant_and_the_operator_to_any_host() {
    let mut rig = Rig::new(1000);
    let (a, b, c) = (register(&mut rig, 0), register(&mut rig, 1), register(&mut rig, 2));
    claims(&mut rig, &a, claim(1, 1, &["192.168.0.1"]));
    let nameless = begin(&mut rig, "gw-0", None, &[1]).unwrap();
    for at in [None, Some("gw-0"), Some("gw-1"), Some("gw-2")] {
        let e = complete(&mut rig, Principal::Host(b.clone()), nameless, at).unwrap_err();
        assert!(e.to_string().contains("neither source nor target"), "{at:?}: {e}");
    }
    let e = complete(&mut rig, Principal::Host(a.clone()), nameless, Some("gw-1")).unwrap_err();
    assert!(e.to_string().contains("gw-1 claims no node of migration 1"), "not by the source either: {e}");
    claims(&mut rig, &b, claim(1, 1, &["192.168.0.2"]));
    complete(&mut rig, Principal::Host(b.clone()), nameless, Some("gw-1")).unwrap();
    assert_eq!(at(&rig, 1), host_id(&rig, 1).unwrap());
    assert_eq!(rig.state().nodes[&(vni(1), mac(1))].ips, [ip("192.168.0.2")]);

    let named = begin(&mut rig, "gw-1", Some("gw-0"), &[1]).unwrap();
    assert!(
        complete(&mut rig, Principal::Host(c), named, Some("gw-2")).is_err(),
        "the target is another host"
    );
    let e = complete(&mut rig, Principal::Host(a.clone()), named, Some("gw-0")).unwrap_err();
    assert!(e.to_string().contains("claims no node"), "an earlier place is no claim: {e}");
    assert_eq!(at(&rig, 1), host_id(&rig, 1).unwrap());
    claims(&mut rig, &a, claim(1, 1, &["192.168.0.1"]));
    complete(&mut rig, Principal::Host(a), named, Some("gw-0")).unwrap();
    assert_eq!(at(&rig, 1), host_id(&rig, 0).unwrap());

    let by_operator = begin(&mut rig, "gw-0", Some("gw-1"), &[1]).unwrap();
    complete(&mut rig, Principal::Operator, by_operator, None).unwrap();
    assert_eq!(at(&rig, 1), host_id(&rig, 1).unwrap());
    assert_eq!(
        rig.state().nodes[&(vni(1), mac(1))].ips,
        [ip("192.168.0.1")],
        "as it was, until it is claimed"
    );
}

#[test]
fn a_claimant_completes_only_to_itself_and_only_if_it_claims_all_nodes() {
    let mut rig = Rig::new(1000);
    let (a, b, c) = (register(&mut rig, 0), register(&mut rig, 1), register(&mut rig, 2));
    for m in [1, 2] {
        claims(&mut rig, &a, claim(1, m, &[]));
    }
    let ticket = begin(&mut rig, "gw-0", None, &[1, 2]).unwrap();
    claims(&mut rig, &b, claim(1, 1, &[]));
    claims(&mut rig, &c, claim(1, 1, &[]));
    let abort = |rig: &mut Rig, by: &Session| {
        let command =
            Command::AbortMigration { by: Principal::Host(by.clone()), ticket, cause: "test".into() };
        rig.apply(None, command).result
    };
    for to in [None, Some("gw-1"), Some("gw-0"), Some("gw-2")] {
        let why = complete(&mut rig, Principal::Host(b.clone()), ticket, to).unwrap_err().to_string();
        assert!(
            why.contains("host gw-1 is neither source nor target of migration 1, and claims 1 of its 2"),
            "{why}"
        );
    }
    assert_eq!(abort(&mut rig, &b).unwrap_err().word(), "conflict");
    claims(&mut rig, &b, claim(1, 2, &[]));
    for to in ["gw-0", "gw-2"] {
        let why = complete(&mut rig, Principal::Host(b.clone()), ticket, Some(to)).unwrap_err().to_string();
        assert!(why.contains("only to itself"), "{why}");
    }
    complete(&mut rig, Principal::Host(b), ticket, None).unwrap();
    assert_eq!((at(&rig, 1), at(&rig, 2)), (2, 2));
    assert!(complete(&mut rig, Principal::Host(c), ticket, Some("gw-2")).is_err());
}

#[test]
fn nodes_move_in_both_directions_at_once_and_on_one_host() {
    let mut rig = Rig::new(1000);
    let (a, b) = (register(&mut rig, 0), register(&mut rig, 1));
    claims(&mut rig, &a, claim(1, 1, &[]));
    claims(&mut rig, &b, claim(1, 2, &[]));
    let mut last = 0;
    for round in 0..50 {
        let (from, to) = if round % 2 == 0 { ("gw-0", "gw-1") } else { ("gw-1", "gw-0") };
        let (here, there) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let one = begin(&mut rig, from, Some(to), &[1]).unwrap();
        let two = begin(&mut rig, to, Some(from), &[2]).unwrap();
        assert!(one.generation > last && two.generation > one.generation);
        claims(&mut rig, there, claim(1, 1, &[]));
        claims(&mut rig, here, claim(1, 2, &[]));
        assert_ne!(at(&rig, 1), at(&rig, 2));
        complete(&mut rig, Principal::Operator, two, None).unwrap();
        complete(&mut rig, Principal::Host(here.clone()), one, None).unwrap();
        let stale = Ticket { generation: last, ..one };
        assert_eq!(complete(&mut rig, Principal::Operator, stale, None).unwrap_err().word(), "stale");
        last = rig.state().nodes[&(vni(1), mac(1))].generation;
    }
    assert_eq!((at(&rig, 1), at(&rig, 2)), (1, 2));
    let ticket = begin(&mut rig, "gw-0", Some("gw-0"), &[1]).unwrap();
    complete(&mut rig, Principal::Operator, ticket, None).unwrap();
    assert_eq!(at(&rig, 1), 1);
    assert!(rig.state().nodes[&(vni(1), mac(1))].generation > last);
}

#[test]
fn a_host_or_lease_that_expires_ends_a_migration() {
    let mut rig = Rig::new(1000);
    let (a, b) = (register(&mut rig, 0), register(&mut rig, 1));
    claims(&mut rig, &a, claim(1, 1, &[]));
    claims(&mut rig, &a, claim(1, 2, &[]));
    let ticket = begin(&mut rig, "gw-0", Some("gw-1"), &[1, 2]).unwrap();
    let again = begin(&mut rig, "gw-0", None, &[2]).unwrap();
    assert_eq!(again, ticket, "another sees part of the same");
    claims(&mut rig, &b, claim(1, 1, &[]));
    let third = register(&mut rig, 2);
    let Outcome::Claimed { refused, .. } = claims(&mut rig, &third, claim(1, 2, &[])) else { panic!() };
    assert!(refused[0].1.contains("moves it to gw-1"), "{refused:?}");
    rig.apply(None, Command::Deregister { session: a.clone(), withdraw_all: false });
    assert_eq!((at(&rig, 1), at(&rig, 2)), (2, 2), "one VM, one place");
    assert_eq!(migration(&rig, ticket).state, MigrationState::Completed);

    let ticket = begin(&mut rig, "gw-1", None, &[1]).unwrap();
    for _ in 0..10 {
        rig.step(&Step::Pass(LEASE / 2));
        rig.step(&Step::Heartbeat(1));
    }
    let m = migration(&rig, ticket);
    assert_eq!(
        (m.state, m.reason.as_str(), at(&rig, 1)),
        (MigrationState::Aborted, "its lease has run out", 2)
    );
    assert_eq!(abort(&mut rig, ticket).unwrap(), abort(&mut rig, ticket).unwrap());
    assert_eq!(complete(&mut rig, Principal::Operator, ticket, Some("gw-2")).unwrap_err().word(), "stale");

    // The source releases it while it is locked: it is deleted only if no host has it.
    let ticket = begin(&mut rig, "gw-1", Some("gw-2"), &[1]).unwrap();
    rig.apply(None, Command::Withdraw { session: b.clone(), nodes: vec![(vni(1), mac(1))] });
    assert_eq!(at(&rig, 1), 2);
    claims(&mut rig, &third, claim(1, 1, &[]));
    assert_eq!(at(&rig, 1), 3, "released there, claimed here");
    assert_eq!(migration(&rig, ticket).state, MigrationState::Completed);
    let ticket = begin(&mut rig, "gw-1", None, &[2]).unwrap();
    rig.apply(None, Command::Withdraw { session: b, nodes: vec![(vni(1), mac(2))] });
    abort(&mut rig, ticket).unwrap();
    assert!(!rig.state().nodes.contains_key(&(vni(1), mac(2))));
}

#[test]
fn a_lock_survives_a_restart_and_then_expires() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    claims(&mut rig, &a, claim(1, 1, &[]));
    let ticket = begin(&mut rig, "gw-0", None, &[1]).unwrap();
    rig.restart();
    assert_eq!(rig.board.active_migrations(), 1);
    rig.step(&Step::Pass(4999));
    assert_eq!(rig.board.active_migrations(), 1);
    rig.step(&Step::Pass(1));
    assert_eq!((rig.board.active_migrations(), migration(&rig, ticket).state), (0, MigrationState::Aborted));
}

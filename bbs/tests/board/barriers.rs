//! Barriers: acknowledgements of completed migrations, and what they cost.

use super::*;
use stopover_bbs::board::BARRIER_MS;

#[test]
fn an_acknowledgement_counts_only_in_the_current_session() {
    let mut rig = Rig::new(1000);
    let (a, b) = (register(&mut rig, 0), register(&mut rig, 1));
    claims(&mut rig, &a, claim(1, 1, &[]));
    rig.apply(None, Command::Join { session: b.clone(), networks: vec![(vni(1), false)] });
    let ticket = begin(&mut rig, "gw-0", Some("gw-1"), &[1]).unwrap();
    complete(&mut rig, Principal::Operator, ticket, None).unwrap();
    let revision = rig.board.revision();
    let waiting = |rig: &Rig| migration(rig, ticket).waiting.len();
    assert_eq!(waiting(&rig), 1);
    let new = register(&mut rig, 1);
    for session in
        [b, Session { number: new.number + 1, ..new.clone() }, Session { host: name("x"), ..new.clone() }]
    {
        rig.apply(None, Command::Acked(vec![(session, revision)]));
        assert_eq!(waiting(&rig), 1, "not that session's host");
    }
    rig.apply(None, Command::Acked(vec![(new, revision)]));
    assert_eq!(waiting(&rig), 0);
}

/// Hosts 0, 1 and 2 in network 1, and `count` nodes that have moved from 0 to 1.
fn completed_migrations(rig: &mut Rig, count: u8) -> Vec<Ticket> {
    let a = register(rig, 0);
    for h in [1, 2] {
        let session = register(rig, h);
        rig.apply(None, Command::Join { session, networks: vec![(vni(1), false)] });
    }
    (0..count)
        .map(|m| {
            claims(rig, &a, claim(1, m, &[]));
            let ticket = begin(rig, "gw-0", Some("gw-1"), &[m]).unwrap();
            complete(rig, Principal::Operator, ticket, None).unwrap();
            ticket
        })
        .collect()
}

#[test]
fn the_work_of_a_command_is_independent_of_barriers_and_locks() {
    let spent = |barriers: u8| {
        let mut rig = Rig::new(1000);
        let tickets = completed_migrations(&mut rig, barriers);
        for h in [0, 1] {
            rig.step(&Step::Acked(h));
        }
        assert_eq!(rig.board.open_barriers(), usize::from(barriers), "gw-2 never acknowledges");
        assert!(tickets.iter().all(|t| migration(&rig, *t).waiting.len() == 1));
        let a = Session { host: host_name(0), number: rig.sessions[&0] };
        for m in 100..100 + barriers {
            claims(&mut rig, &a, claim(1, m, &[]));
            begin(&mut rig, "gw-0", Some("gw-1"), &[m]).unwrap();
        }
        assert_eq!(rig.board.active_migrations(), usize::from(barriers));
        let before = rig.board.steps();
        for _ in 0..10 {
            for h in [0, 1, 2] {
                rig.step(&Step::Heartbeat(h));
                rig.step(&Step::Withdraw(h, 2, 9));
            }
            rig.step(&Step::Acked(0));
            rig.step(&Step::Pass(10));
        }
        rig.board.steps() - before
    };
    assert_eq!(spent(40), spent(1));
    assert_eq!(spent(1), 0);
}

#[test]
fn a_barrier_waits_at_most_until_its_deadline() {
    let mut rig = Rig::new(1000);
    let tickets = completed_migrations(&mut rig, 12);
    for h in [0, 1] {
        rig.step(&Step::Acked(h));
    }
    let began = rig.now.lease_ms;
    let mut events = Vec::new();
    while rig.board.open_barriers() > 0 {
        assert!(rig.now.lease_ms < began + 2 * BARRIER_MS);
        (0..3).for_each(|h| drop(rig.step(&Step::Heartbeat(h))));
        rig.now.unix_ms = 55;
        events.extend(rig.step(&Step::Pass(LEASE / 2)).unwrap().events);
    }
    assert_eq!(rig.now.lease_ms, began + BARRIER_MS);
    assert_eq!(events.len(), 1, "one host, one event: {events:?}");
    let text = &events[0].text;
    assert!(text.contains("host gw-2 is up and has not acknowledged migration 1, 2,"), "{text}");
    assert!(text.contains("8 and 4 more within 30000 ms"), "{text}");
    for ticket in tickets {
        let m = migration(&rig, ticket);
        assert_eq!(m.missed.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(), ["gw-2"]);
        assert_eq!((m.waiting.len(), m.switched_unix_ms), (0, 55));
    }
    // A host that goes down is no longer waited for at once.
    let mut rig = Rig::new(1000);
    let tickets = completed_migrations(&mut rig, 2);
    rig.step(&Step::Deregister(2, false));
    for h in [0, 1] {
        rig.step(&Step::Acked(h));
    }
    assert_eq!(rig.board.open_barriers(), 0);
    assert_eq!(migration(&rig, tickets[0]).missed.len(), 1);
    // A barrier and its deadline outlive the board.
    let mut rig = Rig::new(1000);
    completed_migrations(&mut rig, 1);
    rig.restart();
    assert_eq!(rig.board.open_barriers(), 1);
    register(&mut rig, 2);
    while rig.now.lease_ms < BARRIER_MS {
        rig.step(&Step::Heartbeat(2));
        rig.step(&Step::Pass(LEASE / 2));
    }
    assert_eq!(rig.board.open_barriers(), 0);
}

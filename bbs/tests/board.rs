//! The state machine against a simple model of its rules, and the sentences it refuses with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use stopover_bbs::{
    board::{Absence, Applied, BARRIER_MS, Command, Key, Outcome, Principal, Refusal, Session, Ticket},
    model::{
        Accepted, Change, Claim, DeclaredBy, EventKind, Lock, Migration, MigrationState, Registration, Row,
        Target, Unlocked, Uuid,
    },
    store::Store,
};
use stopover_config::bulk::{HostRow, NodeRow};
use stopover_net::{Mac, Vni};
use support::*;

/// The rules of claims in their plainest form: lists, looked through from end to end.
#[derive(Default)]
struct Model {
    nodes: BTreeMap<(Vni, Mac), Held>,
}

type Locks = BTreeMap<(Vni, Mac), Lock>;

/// Host, addresses, and who vouches: `None` the operator, otherwise a session.
type Held = (u32, BTreeSet<std::net::IpAddr>, Option<u64>);

impl Model {
    /// False: refused.
    fn claim(&mut self, rig: &Rig, locks: &Locks, host: u32, session: u64, claim: &Claim) -> bool {
        let key = (claim.vni, claim.mac);
        if self.nodes.get(&key).is_some_and(|(h, _, by)| *h == host && by.is_none()) {
            return true;
        }
        if let Some(lock) = locks.get(&key).filter(|lock| lock.source != host) {
            // Deferred, if it goes there.
            return lock.target.is_none_or(|target| target == host);
        }
        let yields = |h: u32, by: Option<u64>| match by {
            None => false,
            Some(by) if h == host => by != session,
            Some(_) => !rig.state().hosts[&h].up,
        };
        let holders: Vec<_> = self
            .nodes
            .iter()
            .filter(|((v, m), (h, ips, _))| {
                *v == claim.vni
                    && ((*m == claim.mac && *h != host)
                        || (*m != claim.mac && claim.ips.iter().any(|ip| ips.contains(ip))))
            })
            .map(|(k, (h, _, by))| (*k, *h, *by))
            .collect();
        if holders.iter().any(|(k, h, by)| *k == key && !yields(*h, *by)) {
            return false;
        }
        let mut mine: BTreeSet<_> = claim.ips.iter().copied().collect();
        for (k, h, by) in holders.into_iter().filter(|(k, ..)| *k != key) {
            if let Some((_, ips, _)) = self.nodes.get_mut(&k) {
                // Address by address: one that stays does not cost the claimant its node.
                if yields(h, by) {
                    ips.retain(|ip| !claim.ips.contains(ip));
                } else {
                    mine.retain(|ip| !ips.contains(ip));
                }
            }
        }
        self.nodes.insert(key, (host, mine, Some(session)));
        true
    }

    /// What the end of migrations did: a node is at the target, with what was deferred, or where it was.
    fn unlock(&mut self, rig: &Rig, applied: &Applied) {
        let migrations = rig.store.view().unwrap().migrations().unwrap();
        for change in applied.commits.iter().flat_map(|c| &c.changes) {
            let Change::NodeUnlocked { vni, mac, migration, generation, outcome } = change else { continue };
            let key = (*vni, *mac);
            let m = migrations.iter().find(|m| m.id == *migration).unwrap();
            let released = m.nodes.iter().any(|n| (n.vni, n.mac) == key && n.released);
            let now = rig.state().nodes.get(&key);
            let Some((host, ips, by)) = self.nodes.get_mut(&key) else { continue };
            match (outcome, now) {
                (_, None) => {
                    assert!(released, "a node nobody let go of is gone");
                    self.nodes.remove(&key);
                }
                (Unlocked::Aborted, Some(now)) => assert_eq!(now.host_id, m.source.id),
                (Unlocked::Completed, Some(now)) => {
                    let to = m.target.as_ref().unwrap();
                    assert_eq!(now.host_id, to.id);
                    assert!(now.generation > *generation, "a move fences its lock");
                    let deferred = m
                        .deferred
                        .iter()
                        .find(|d| d.host == *to && (d.claim.vni, d.claim.mac) == key && by.is_some());
                    let had: BTreeSet<_> = now.ips.iter().copied().collect();
                    match deferred {
                        Some(d) => assert!(had.iter().all(|ip| d.claim.ips.contains(ip))),
                        None => assert_eq!(had, *ips),
                    }
                    if by.is_some() && (deferred.is_some() || *host != to.id) {
                        let h = (0..4).find(|h| host_name(*h) == to.name).unwrap();
                        *by = Some(rig.sessions.get(&h).copied().unwrap_or(0));
                    }
                    (*host, *ips) = (to.id, had);
                }
            }
        }
    }

    fn check(&self, rig: &Rig) {
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
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Any commands: the board's nodes are those of the model, and everything [`Rig::apply`] checks holds.
    #[test]
    fn random_commands_agree_with_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let mut rig = Rig::new(10_000);
        let mut model = Model::default();
        for h in 0..3 {
            rig.step(&Step::Register(h, false));
        }
        for step in &steps {
            // Who would speak, before the command changes it.
            let step = &rig.resolve(step);
            let locks = rig.state().locks.clone();
            let session = |rig: &Rig, h: &u8| rig.sessions.get(h).copied().unwrap_or(7);
            let Some(applied) = rig.step(step) else {
                // A restart: sessions are over, and nothing is vouched for by one.
                for (_, _, by) in model.nodes.values_mut() {
                    *by = by.map(|_| 0);
                }
                continue;
            };
            let Ok(outcome) = &applied.result else { model.unlock(&rig, &applied); model.check(&rig); continue };
            match step {
                Step::Claim(h, claims) => {
                    let Outcome::Claimed { refused, deferred, .. } = outcome else { panic!("{outcome:?}") };
                    let unique: BTreeMap<_, _> = claims.iter().map(|(v, m, i)| ((*v, *m), make_claim(*v, *m, i))).collect();
                    let host = host_id(&rig, *h).unwrap();
                    let expected: Vec<u32> = unique
                        .values()
                        .enumerate()
                        .filter(|(_, c)| !model.claim(&rig, &locks, host, session(&rig, h), c))
                        .map(|(i, _)| i as u32)
                        .collect();
                    let found: Vec<u32> = refused.iter().map(|(i, _)| *i).collect();
                    prop_assert_eq!(found, expected);
                    for (i, migration) in deferred {
                        let c = unique.values().nth(*i as usize).unwrap();
                        prop_assert_eq!(locks[&(c.vni, c.mac)].migration, *migration);
                    }
                }
                Step::Withdraw(h, v, m) => {
                    let host = host_id(&rig, *h).unwrap();
                    model.nodes.retain(|k, (at, _, by)| *k != (vni(*v), mac(*m)) || *at != host || by.is_none() || locks.contains_key(k));
                }
                Step::Sync(h) => {
                    let (host, s) = (host_id(&rig, *h).unwrap(), session(&rig, h));
                    let stays = |at: &u32, by: &Option<u64>| *at != host || by.is_none() || *by == Some(s);
                    let nodes_deleted = model.nodes.values().filter(|(at, _, by)| !stays(at, by)).count() as u64;
                    // A locked one is let go of, and stays until the migration ends.
                    model.nodes.retain(|k, (at, _, by)| stays(at, by) || locks.contains_key(k));
                    let Outcome::Synced { nodes_deleted: found, .. } = outcome else { panic!("{outcome:?}") };
                    prop_assert_eq!(*found, nodes_deleted);
                }
                Step::Deregister(h, true) => {
                    let host = host_id(&rig, *h).unwrap();
                    model.nodes.retain(|k, (at, _, by)| *at != host || by.is_none() || locks.contains_key(k));
                }
                Step::DeleteNode(v, m) => { model.nodes.remove(&(vni(*v), mac(*m))); }
                Step::DeleteHost(..) | Step::Pass(_) => {
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
            model.unlock(&rig, &applied);
            model.check(&rig);
        }
        // Whatever is locked now is not locked for ever.
        rig.step(&Step::Pass(10_000));
        prop_assert_eq!(rig.board.active_migrations(), 0);
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
        let step = if rig.rivals.contains(&0) { Step::Rival(0, false) } else { Step::Register(0, false) };
        rig.step(&Step::Pass(LEASE));
        if rig.step(&step).unwrap().result.is_err() {
            // The operator has declared it, with other VTEPs.
            return Ok(());
        }
        let key = Key { id: Uuid::from_bytes([9; 16]), fingerprint: 77 };
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

    // An address that another holds does not cost a node its place, nor its other addresses.
    let same_ip = || vec![claim(100, 2, &["192.168.0.1", "192.168.0.2"])];
    let first = rig.apply(None, Command::Claim { session: b.clone(), claims: same_ip() });
    assert_eq!(first.events.len(), 1, "said as a conflict");
    let Ok(Outcome::Claimed { refused, partial, .. }) = first.result else { panic!() };
    assert_eq!((refused.len(), partial.len()), (0, 1));
    let (0, Accepted { ips, refused }) = &partial[0] else { panic!("{partial:?}") };
    assert_eq!((&ips[..], refused.len()), (&[ip("192.168.0.2")][..], 1));
    let why = &refused[0];
    assert!(
        why.contains("IP 192.168.0.1 in VNI 100 is held by node 52:54:00:00:00:01 on host gw-0"),
        "{why}"
    );
    assert_eq!(rig.state().nodes[&(vni(100), mac(2))].ips, [ip("192.168.0.2")]);
    let again = rig.apply(None, Command::Claim { session: b.clone(), claims: same_ip() });
    assert!(again.events.is_empty(), "once");
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
fn a_second_machine_of_a_living_hosts_name_is_refused_and_changes_nothing() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    rig.step(&Step::WatchOpened(0));
    rig.apply(None, Command::Claim { session: a.clone(), claims: vec![claim(1, 1, &["192.168.0.1"])] });
    let before = rig.state().clone();
    for other_vtep in [true, false] {
        let refused = rig.apply(None, Command::Register(rival(0, other_vtep)));
        let why = refused.result.unwrap_err();
        assert_eq!(why.word(), "conflict");
        for part in
            ["host gw-0 is held", "alive", &Uuid::nil().simple().to_string(), "10.0.0.1", "from 10.0.0.0:7"]
        {
            assert!(why.to_string().contains(part), "{why}");
        }
        assert_eq!(refused.events.len(), usize::from(other_vtep), "it tries for ever, and that is one event");
        // The first one's session goes on; whatever the second says counts for nothing.
        assert!(rig.step(&Step::Heartbeat(0)).unwrap().result.is_ok());
        assert_eq!(*rig.state(), before);
    }
    // The second one's time comes when the first has been silent for a lease.
    rig.step(&Step::Pass(LEASE));
    assert!(rig.apply(None, Command::Register(rival(0, true))).result.is_ok());
    let late = rig.apply(None, Command::Claim { session: a, claims: vec![claim(1, 2, &[])] });
    assert_eq!(late.result.unwrap_err().word(), "fenced");
}

#[test]
fn a_restarted_process_is_let_in_as_soon_as_the_connection_before_is_gone() {
    let mut rig = Rig::new(1000);
    register(&mut rig, 0);
    let again = |rig: &mut Rig, other_vtep| rig.apply(None, Command::Register(rival(0, other_vtep)));
    assert!(again(&mut rig, false).result.is_err(), "it may be about to open its watch");
    rig.step(&Step::WatchOpened(0));
    assert!(register(&mut rig, 0).number > 1, "the same process, over another connection");
    rig.step(&Step::WatchOpened(0));
    rig.step(&Step::WatchOpened(0));
    rig.step(&Step::WatchClosed(0));
    assert!(again(&mut rig, false).result.is_err(), "one of two is open");
    rig.step(&Step::WatchClosed(0));
    assert!(again(&mut rig, true).result.is_err(), "killed, perhaps, but that is another machine");
    let replaced = again(&mut rig, false);
    assert!(replaced.result.is_ok());
    assert_eq!(replaced.events[0].kind, EventKind::HostReplaced);

    // After a restart of the board: the machine that was there is let in at once, another not before the lease is over.
    rig.restart();
    assert!(again(&mut rig, true).result.is_err());
    rig.step(&Step::Pass(LEASE / 2));
    assert!(again(&mut rig, false).result.is_ok());
    // An orderly goodbye is a word, too.
    rig.sessions.insert(0, u64::from(rig.run) << 32 | 1);
    rig.step(&Step::Deregister(0, false)).unwrap().result.unwrap();
    assert!(again(&mut rig, true).result.is_ok());
}

#[test]
fn a_declared_host_is_taken_over_with_its_own_vteps_only_and_that_is_an_event() {
    let mut rig = Rig::new(1000);
    rig.apply(None, Command::Declare(host_row("gw-0", "10.0.0.1"))).result.unwrap();
    let refused = rig.apply(None, Command::Register(rival(0, true)));
    let why = refused.result.unwrap_err().to_string();
    assert!(
        why.contains("declared by the operator with VTEP 10.0.0.1") && why.contains("10.0.0.77"),
        "{why}"
    );
    assert_eq!(refused.events[0].kind, EventKind::Conflict);
    assert_eq!(rig.state().hosts[&1].declared_by, DeclaredBy::Operator);
    let taken = rig.apply(None, Command::Register(rival(0, false)));
    assert!(taken.result.is_ok());
    assert_eq!(taken.events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::TakenOver]);
    assert_eq!(rig.state().hosts[&1].declared_by, DeclaredBy::Appliance);
}

#[test]
fn an_acknowledgement_counts_in_its_hosts_present_session_only() {
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

#[test]
fn vteps_belong_to_one_host() {
    let mut rig = Rig::new(1000);
    register(&mut rig, 0);
    let thief = Registration {
        host: name("thief"),
        vteps: vec![ip("10.0.0.7"), ip("10.0.0.1")],
        udp_port: 4789,
        instance: Uuid::from_bytes([7; 16]),
        holds: None,
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
fn the_work_of_a_command_does_not_grow_with_barriers_and_locks() {
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
fn a_host_that_never_acknowledges_is_waited_for_no_longer_than_the_deadline() {
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
    // Nor is one that goes down, at once.
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

/// Time passes while these hosts live. The events of it.
fn pass(rig: &mut Rig, ms: u64, living: &[u8]) -> Vec<String> {
    let until = rig.now.lease_ms + ms;
    let mut events = Vec::new();
    while rig.now.lease_ms < until {
        living.iter().for_each(|h| drop(rig.step(&Step::Heartbeat(*h)).unwrap().result.unwrap()));
        let step = (until - rig.now.lease_ms).min(LEASE / 2);
        rig.now.unix_ms += step;
        let applied = rig.step(&Step::Pass(step)).unwrap();
        assert!(applied.events.iter().all(|e| e.actor == "board"), "{:?}", applied.events);
        events.extend(applied.events.into_iter().map(|e| e.text));
    }
    events
}

#[test]
fn a_host_that_stays_away_is_flooded_no_longer_and_then_forgotten() {
    let Absence { flood_grace_ms, forget_after_ms } = ABSENCE;
    let mut rig = Rig::new(1000);
    rig.now.unix_ms = 1_000_000;
    let a = register(&mut rig, 0);
    register(&mut rig, 1);
    rig.step(&Step::Pass(0));
    claims(&mut rig, &a, claim(1, 1, &["192.168.0.1"]));
    rig.apply(None, Command::Deregister { session: a, withdraw_all: false });
    let host = |rig: &Rig| rig.state().hosts.get(&1).cloned();
    assert_eq!(host(&rig).map(|h| (h.up, h.no_flood, h.down_unix_ms)), Some((false, false, 1_000_000)));
    assert!(pass(&mut rig, flood_grace_ms - 100, &[1]).is_empty());
    let events = pass(&mut rig, 100, &[1]);
    assert_eq!(
        events,
        ["host gw-0 has been down for 2 s: flooded frames are sent to it no longer; its 1 nodes stay"]
    );
    assert!(host(&rig).unwrap().no_flood);
    assert_eq!(rig.state().nodes.len(), 1, "fail static");

    // Back, and everything is as before.
    let a = register(&mut rig, 0);
    assert_eq!(host(&rig).map(|h| (h.up, h.no_flood, h.down_unix_ms)), Some((true, false, 0)));
    rig.apply(None, Command::Deregister { session: a, withdraw_all: false });
    pass(&mut rig, forget_after_ms - 100, &[1]);
    assert_eq!(rig.state().nodes.len(), 1);
    let events = pass(&mut rig, 100, &[1]);
    assert_eq!(events, ["host gw-0 has been down for 9 s and is forgotten with its 1 nodes"]);
    assert!(host(&rig).is_none() && rig.state().nodes.is_empty());

    // What the operator has declared there is hers.
    let a = register(&mut rig, 0);
    rig.apply(None, Command::Declare(node_row(1, 2, "gw-0", &[]))).result.unwrap();
    rig.apply(None, Command::Deregister { session: a, withdraw_all: false });
    pass(&mut rig, 2 * forget_after_ms, &[1]);
    assert_eq!(rig.state().nodes.len(), 1);
    let target = Target::Host { name: host_name(0), cascade: true };
    rig.apply(None, Command::Delete(target)).result.unwrap();
    assert_eq!(rig.state().hosts.len(), 1);
}

#[test]
fn a_board_that_hears_nobody_or_was_away_blames_itself() {
    let Absence { flood_grace_ms, forget_after_ms } = ABSENCE;
    let mut rig = Rig::new(1000);
    rig.now.unix_ms = 1_000_000;
    for h in [0, 1] {
        register(&mut rig, h);
    }
    pass(&mut rig, 10 * flood_grace_ms, &[]);
    assert!(rig.state().hosts.values().all(|h| !h.up && !h.no_flood), "nobody is left who could be away");
    register(&mut rig, 1);
    assert!(
        pass(&mut rig, flood_grace_ms - LEASE / 2, &[1]).is_empty(),
        "the first one back begins the grace anew"
    );
    assert_eq!(pass(&mut rig, LEASE, &[1]).len(), 1);

    // Down for long when the board itself was stopped for a month: it listens first.
    rig.restart();
    rig.now.unix_ms = 1_000_000 + 30 * 86_400_000;
    register(&mut rig, 1);
    pass(&mut rig, forget_after_ms - LEASE, &[1]);
    assert_eq!(rig.state().hosts.len(), 2);
    pass(&mut rig, 2 * LEASE, &[1]);
    assert_eq!(rig.state().hosts.len(), 1);
}

#[test]
fn an_event_names_who_did_it() {
    let mut rig = Rig::new(1000);
    let actors = |applied: &Applied| applied.events.iter().map(|e| e.actor.clone()).collect::<Vec<_>>();
    let up = rig.apply(None, Command::Register(rival(0, false)));
    assert_eq!(actors(&up), [format!("host gw-0 (instance {})", Uuid::from_bytes([100; 16]).simple())]);
    let a = register(&mut rig, 1);
    claims(&mut rig, &a, claim(1, 1, &[]));
    let declared = rig.apply(None, Command::Declare(host_row("lx", "172.16.0.1")));
    assert_eq!(actors(&declared), ["operator"]);
    let begun = rig.apply(
        None,
        Command::BeginMigration {
            by: Principal::Host(a.clone()),
            nodes: vec![(vni(1), mac(1))],
            source: name("gw-1"),
            target: None,
            cause: "test".into(),
            lease_ms: 5000,
            renew: None,
        },
    );
    assert_eq!(actors(&begun), [format!("host gw-1 (session {:#x})", a.number)]);
    // Its goodbye is its own; what follows from it is the board's.
    let bye = rig.apply(None, Command::Deregister { session: a.clone(), withdraw_all: false });
    assert_eq!(actors(&bye), [format!("host gw-1 (session {:#x})", a.number), "board".into()]);
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
        shared_ips: vec![],
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
        let row = NodeRow {
            vni: vni(5),
            mac: Mac::new([2, 0, 0, 0, x, y]),
            host: name("lx"),
            ips: vec![],
            shared_ips: vec![],
        };
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

fn begin(rig: &mut Rig, from: &str, to: Option<&str>, macs: &[u8]) -> Result<Ticket, Refusal> {
    let nodes = macs.iter().map(|m| (vni(1), mac(*m))).collect();
    let command = Command::BeginMigration {
        by: Principal::Operator,
        nodes,
        source: name(from),
        target: to.map(name),
        cause: "test".into(),
        lease_ms: 5000,
        renew: None,
    };
    match rig.apply(None, command).result? {
        Outcome::Migration { id, generation, .. } => Ok(Ticket { migration: id, generation }),
        other => panic!("{other:?}"),
    }
}

fn complete(rig: &mut Rig, by: Principal, ticket: Ticket, at: Option<&str>) -> Result<Outcome, Refusal> {
    let command = Command::CompleteMigration { by, ticket, at: at.map(name), cause: "test".into() };
    rig.apply(None, command).result
}

fn abort(rig: &mut Rig, ticket: Ticket) -> Result<Outcome, Refusal> {
    let command = Command::AbortMigration { by: Principal::Operator, ticket, cause: "test".into() };
    rig.apply(None, command).result
}

fn claims(rig: &mut Rig, by: &Session, claim: Claim) -> Outcome {
    rig.apply(None, Command::Claim { session: by.clone(), claims: vec![claim] }).result.unwrap()
}

fn migration(rig: &Rig, ticket: Ticket) -> Migration {
    rig.store.view().unwrap().migration(ticket.migration).unwrap().unwrap()
}

fn at(rig: &Rig, last: u8) -> u32 {
    rig.state().nodes[&(vni(1), mac(last))].host_id
}

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
fn an_appliance_completes_only_to_a_host_that_claims_and_the_operator_to_any() {
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
    assert!(complete(&mut rig, Principal::Host(c), named, Some("gw-2")).is_err(), "it goes elsewhere");
    let e = complete(&mut rig, Principal::Host(a.clone()), named, Some("gw-0")).unwrap_err();
    assert!(e.to_string().contains("claims no node"), "that it was there once is no claim: {e}");
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
fn a_claimant_completes_only_what_it_claims_whole_and_only_to_itself() {
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
fn there_and_back_crossing_and_both_ends_on_one_host() {
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
fn a_dead_source_gives_way_and_a_dead_lease_aborts() {
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
    assert!(refused[0].1.contains("takes it to gw-1"), "{refused:?}");
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

    // The source lets go of it while it is locked: it is deleted only when nobody has it.
    let ticket = begin(&mut rig, "gw-1", Some("gw-2"), &[1]).unwrap();
    rig.apply(None, Command::Withdraw { session: b.clone(), nodes: vec![(vni(1), mac(1))] });
    assert_eq!(at(&rig, 1), 2);
    claims(&mut rig, &third, claim(1, 1, &[]));
    assert_eq!(at(&rig, 1), 3, "let go there, claimed here");
    assert_eq!(migration(&rig, ticket).state, MigrationState::Completed);
    let ticket = begin(&mut rig, "gw-1", None, &[2]).unwrap();
    rig.apply(None, Command::Withdraw { session: b, nodes: vec![(vni(1), mac(2))] });
    abort(&mut rig, ticket).unwrap();
    assert!(!rig.state().nodes.contains_key(&(vni(1), mac(2))));
}

#[test]
fn a_lock_outlives_the_board_and_then_expires() {
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

//! Random commands against a model of the rules of claims, and repeated requests. Enters: random steps. Each test compares
//! the board's nodes with the model's after every step.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use stopover_bbs::{
    board::Key,
    model::{Change, Event, Lock, Unlocked},
    table::Record,
};
use stopover_net::{Mac, Vni};

/// The rules of claims in their simplest form: lists that are searched completely.
#[derive(Default)]
struct Model {
    nodes: BTreeMap<(Vni, Mac), Held>,
}

type Locks = BTreeMap<(Vni, Mac), Lock>;

/// Host, addresses, and the claimant: `None` = the operator, otherwise a session.
type Held = (u32, BTreeSet<std::net::IpAddr>, Option<u64>);

impl Model {
    /// False: refused.
    fn claim(&mut self, rig: &Rig, locks: &Locks, host: u32, session: u64, claim: &Claim) -> bool {
        let key = (claim.vni, claim.mac);
        if self.nodes.get(&key).is_some_and(|(h, _, by)| *h == host && by.is_none()) {
            return true;
        }
        if let Some(lock) = locks.get(&key).filter(|lock| lock.source != host) {
            // Deferred, if it migrates there.
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
                // Address by address: if another node keeps one, the claim of the node is still accepted.
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

    /// A step that the board has done. `locks` are those before it.
    fn follow(&mut self, rig: &Rig, locks: &Locks, step: &Step, outcome: &Outcome) {
        let session = |h: &u8| rig.sessions.get(h).copied().unwrap_or(7);
        match step {
            Step::Claim(h, claims) => self.follow_claims(rig, locks, (*h, session(h)), claims, outcome),
            Step::Withdraw(h, v, m) => {
                let host = host_id(rig, *h).unwrap();
                self.nodes.retain(|k, (at, _, by)| {
                    *k != (vni(*v), mac(*m)) || *at != host || by.is_none() || locks.contains_key(k)
                });
            }
            Step::Sync(h) => {
                let (host, s) = (host_id(rig, *h).unwrap(), session(h));
                let is_kept = |at: &u32, by: &Option<u64>| *at != host || by.is_none() || *by == Some(s);
                let deleted = self.nodes.values().filter(|(at, _, by)| !is_kept(at, by)).count() as u64;
                // A locked node is released, and remains until the migration ends.
                self.nodes.retain(|k, (at, _, by)| is_kept(at, by) || locks.contains_key(k));
                let Outcome::Synced { nodes_deleted, .. } = outcome else { panic!("{outcome:?}") };
                assert_eq!(*nodes_deleted, deleted);
            }
            Step::Deregister(h, true) => {
                let host = host_id(rig, *h).unwrap();
                self.nodes.retain(|k, (at, _, by)| *at != host || by.is_none() || locks.contains_key(k));
            }
            Step::DeleteNode(v, m) => drop(self.nodes.remove(&(vni(*v), mac(*m)))),
            Step::DeleteHost(..) | Step::Pass(_) => {
                let left: BTreeSet<u32> = rig.state().hosts.keys().copied().collect();
                self.nodes.retain(|_, (at, _, _)| left.contains(at));
            }
            Step::Declare(row) => self.declare(rig, row),
            Step::Load(rows) => rows.iter().for_each(|row| self.declare(rig, row)),
            _ => {}
        }
    }

    fn follow_claims(
        &mut self,
        rig: &Rig,
        locks: &Locks,
        (h, session): (u8, u64),
        claims: &[(u32, u8, Vec<u8>)],
        outcome: &Outcome,
    ) {
        let Outcome::Claimed { refused, deferred, .. } = outcome else { panic!("{outcome:?}") };
        let unique: BTreeMap<_, _> =
            claims.iter().map(|(v, m, i)| ((*v, *m), make_claim(*v, *m, i))).collect();
        let host = host_id(rig, h).unwrap();
        let expected: Vec<u32> = unique
            .values()
            .enumerate()
            .filter(|(_, c)| !self.claim(rig, locks, host, session, c))
            .map(|(i, _)| i as u32)
            .collect();
        let found: Vec<u32> = refused.iter().map(|(i, _)| *i).collect();
        assert_eq!(found, expected);
        for (i, migration) in deferred {
            let c = unique.values().nth(*i as usize).unwrap();
            assert_eq!(locks[&(c.vni, c.mac)].migration, *migration);
        }
    }

    /// A declaration that the board accepted conflicts with nothing: [`Replica::check`] has seen that.
    fn declare(&mut self, rig: &Rig, row: &RowStep) {
        if let RowStep::Node(v, m, h, i) = row {
            let ips = make_claim(*v, *m, i).ips.into_iter().collect();
            self.nodes.insert((vni(*v), mac(*m)), (host_id(rig, *h).unwrap(), ips, None));
        }
    }

    /// The effect of the end of migrations: a node is at the target, with its deferred claim, or where it was.
    fn unlock(&mut self, rig: &Rig, applied: &Applied) {
        let view = rig.store.view().unwrap();
        for change in applied.commits.iter().flat_map(|c| &c.changes) {
            let Change::NodeUnlocked { vni, mac, migration, generation, outcome } = change else { continue };
            let key = (*vni, *mac);
            let m = view.record::<Migration>(*migration).unwrap().unwrap();
            let released = m.nodes.iter().any(|n| (n.vni, n.mac) == key && n.released);
            let now = rig.state().nodes.get(&key);
            let Some((host, ips, by)) = self.nodes.get_mut(&key) else { continue };
            match (outcome, now) {
                (_, None) => {
                    assert!(released, "a node was removed that was not released");
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
            let step = &rig.resolve(step);
            let locks = rig.state().locks.clone();
            let Some(applied) = rig.step(step) else {
                // After a restart no session vouches for a node.
                for (_, _, by) in model.nodes.values_mut() {
                    *by = by.map(|_| 0);
                }
                continue;
            };
            if let Ok(outcome) = &applied.result {
                model.follow(&rig, &locks, step, outcome);
            }
            model.unlock(&rig, &applied);
            model.check(&rig);
        }
        // Every lock expires.
        rig.step(&Step::Pass(10_000));
        prop_assert_eq!(rig.board.active_migrations(), 0);
        // The store is enough to continue.
        let state = rig.state().clone();
        rig.restart();
        prop_assert_eq!(rig.board.counts().nodes, state.nodes.len() as u64);
        prop_assert_eq!(rig.board.revision() as usize, rig.states.len() - 1);
    }

    /// The same request again, at once or after a restart, is answered the same and changes nothing.
    #[test]
    fn a_key_makes_a_request_idempotent(steps in prop::collection::vec(step(), 1..30), restart: bool) {
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
        let wrote = first.writes.iter().any(|w| w.table != <Event as Record>::TABLE);
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

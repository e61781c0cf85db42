//! From a [`Step`] to a command with the names, addresses and session numbers of this moment, and what a step changes in
//! who is registered and watching.

use super::{Rig, RowStep, Step, host_name, mac, make_claim, make_ips, vni};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use stopover_bbs::{
    board::{Applied, Command, Outcome, Principal, Refusal, Session, Ticket},
    model::{DeclaredBy, Host, Migration, Registration, Report, Row, Target, Uuid},
    records::Records,
    store::Store,
};
use stopover_config::bulk::{HostRow, MemberRow, NetworkRow, NodeRow};
use stopover_net::{FloodPolicy, Mac, Vni};

impl Rig {
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

    /// Applies a step, with the session numbers of this moment. `None`: the board was restarted.
    pub fn step(&mut self, step: &Step) -> Option<Applied> {
        let step = &self.resolve(step);
        match step {
            Step::Restart => {
                self.restart();
                return None;
            }
            Step::Pass(ms) => self.now.lease_ms += ms,
            _ => {}
        }
        let held = match step {
            Step::Register(h, _) => self.watching.get(h) == Some(&true) && self.is_living(*h),
            Step::Rival(h, _) => self.watching.get(h) == Some(&false) && self.is_living(*h),
            _ => false,
        };
        let applied = self.apply(None, self.command(step));
        if held {
            let word = applied.result.as_ref().err().map(Refusal::word);
            assert_eq!(word, Some("conflict"), "a living host was taken over by {step:?}");
        }
        if let Ok(outcome) = &applied.result {
            self.update_sessions(step, outcome);
        }
        Some(applied)
    }

    /// Whether the host's appliance is up. A host that the operator declared has none that could be taken over from.
    fn is_living(&self, h: u8) -> bool {
        let is_living = |host: &Host| host.up && host.declared_by == DeclaredBy::Appliance;
        self.state().hosts.values().any(|host| host.name == host_name(h) && is_living(host))
    }

    /// After a step that was not refused.
    fn update_sessions(&mut self, step: &Step, outcome: &Outcome) {
        match step {
            Step::WatchOpened(h) => drop(self.watching.insert(*h, self.rivals.contains(h))),
            Step::WatchClosed(h) | Step::Deregister(h, _) | Step::Register(h, _) | Step::Rival(h, _) => {
                self.watching.remove(h);
            }
            _ => {}
        }
        match step {
            Step::Register(h, _) => drop(self.rivals.remove(h)),
            Step::Rival(h, _) => drop(self.rivals.insert(*h)),
            Step::Deregister(h, _) => drop(self.sessions.remove(h)),
            _ => {}
        }
        if let (Step::Register(h, _) | Step::Rival(h, _), Outcome::Registered { session, .. }) =
            (step, outcome)
        {
            self.sessions.insert(*h, *session);
        }
    }

    fn session(&self, h: u8) -> Session {
        Session { host: host_name(h), number: self.sessions.get(&h).copied().unwrap_or(7) }
    }

    fn principal(&self, by: Option<u8>) -> Principal {
        by.map_or(Principal::Operator, |h| Principal::Host(self.session(h)))
    }

    /// Every other ticket is late by a generation.
    fn ticket(&self, m: u8) -> Ticket {
        let all = self.store.view().unwrap().all::<Migration>().unwrap();
        let known = all.iter().map(|(_, migration)| migration).rev().nth(usize::from(m) / 2);
        known.map_or(Ticket { migration: 1, generation: 1 }, |k| Ticket {
            migration: k.id,
            generation: k.generation - u64::from(m % 2),
        })
    }

    fn command(&self, step: &Step) -> Command {
        match step.clone() {
            Step::Register(h, other_vtep) => Command::Register(Registration {
                host: host_name(h),
                vteps: vec![IpAddr::from([10, 0, 0, if other_vtep { 99 } else { h + 1 }])],
                udp_port: 4789,
                instance: Uuid::from_bytes([h; 16]),
                holds: None,
                details: Default::default(),
            }),
            Step::Rival(h, other_vtep) => Command::Register(rival(h, other_vtep)),
            Step::Heartbeat(h) => Command::Heartbeat(self.session(h)),
            Step::Deregister(h, withdraw_all) => {
                Command::Deregister { session: self.session(h), withdraw_all }
            }
            Step::WatchOpened(h) => {
                Command::WatchOpened { session: self.session(h), peer: format!("10.0.0.{h}:7") }
            }
            Step::WatchClosed(h) => Command::WatchClosed(self.session(h)),
            Step::Claim(h, claims) => {
                let claims: BTreeMap<_, _> =
                    claims.into_iter().map(|(v, m, i)| ((v, m), make_claim(v, m, &i))).collect();
                Command::Claim { session: self.session(h), claims: claims.into_values().collect() }
            }
            Step::Withdraw(h, v, m) => {
                Command::Withdraw { session: self.session(h), nodes: vec![(vni(v), mac(m))] }
            }
            Step::Join(h, v, segment) => {
                Command::Join { session: self.session(h), networks: vec![(vni(v), segment)] }
            }
            Step::Leave(h, v) => Command::Leave { session: self.session(h), networks: vec![vni(v)] },
            Step::Sync(h) => Command::SyncClaims(self.session(h)),
            Step::Acked(h) => Command::Acked(vec![(self.session(h), self.board.revision())]),
            Step::Begin(..) | Step::Complete(..) | Step::Abort(..) | Step::Report(..) => {
                self.migration_command(step)
            }
            // `resolve` found no node or lock.
            Step::Depart(..) | Step::Arrive(..) | Step::Restart | Step::Pass(_) => Command::Tick,
            _ => operator_command(step),
        }
    }

    fn migration_command(&self, step: &Step) -> Command {
        let cause = "test".into();
        match step.clone() {
            Step::Begin(by, nodes, source, target, lease_ms) => {
                let nodes: BTreeSet<_> = nodes.iter().map(|(v, m)| (vni(*v), mac(*m))).collect();
                Command::BeginMigration {
                    by: self.principal(by),
                    nodes: nodes.into_iter().collect(),
                    source: host_name(source),
                    target: target.map(host_name),
                    cause,
                    lease_ms,
                    renew: None,
                }
            }
            Step::Complete(by, m, at) => Command::CompleteMigration {
                by: self.principal(by),
                ticket: self.ticket(m),
                at: at.map(host_name),
                cause,
            },
            Step::Abort(by, m) => {
                Command::AbortMigration { by: self.principal(by), ticket: self.ticket(m), cause }
            }
            Step::Report(h, m) => Command::ReportMigration {
                session: self.session(h),
                ticket: self.ticket(m),
                report: Report { held: 7, ..Report::default() },
            },
            other => panic!("{other:?} is not about a migration"),
        }
    }
}

fn operator_command(step: &Step) -> Command {
    match step.clone() {
        Step::Declare(row) => Command::Declare(make_row(&row)),
        Step::Load(rows) => {
            Command::Load(rows.iter().enumerate().map(|(i, r)| (i as u64 + 1, make_row(r))).collect())
        }
        Step::DeleteHost(h, cascade) => Command::Delete(Target::Host { name: host_name(h), cascade }),
        Step::DeleteNetwork(v) => Command::Delete(Target::Network { vni: vni(v) }),
        Step::DeleteNode(v, m) => Command::Delete(Target::Node { vni: vni(v), mac: mac(m) }),
        Step::DeleteMember(v, h) => Command::Delete(Target::Member { vni: vni(v), host: host_name(h) }),
        other => panic!("{other:?} is not the operator's"),
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
        details: Default::default(),
    }
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

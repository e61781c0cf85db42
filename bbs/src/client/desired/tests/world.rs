//! Several hosts and a board: stations are received at random hosts and announce random addresses, while answers and
//! changes are delayed at random. At rest every host has exactly the stations and addresses that it has
//! at the board, and no station is lost.

use super::super::*;
use crate::{
    board::{Absence, Board, Command, Now, Outcome, Session, Settings},
    model::{Change, Registration, Uuid},
    table::Limits,
};
use proptest::{collection::vec, prelude::*};
use std::net::IpAddr;
use stopover_net::HostName;

const HOSTS: usize = 3;

/// An appliance: its stations, and those for which it waits for the answer of the board.
#[derive(Default)]
struct Host {
    desired: Desired,
    session: u64,
    here: BTreeMap<Mac, BTreeSet<IpAddr>>,
    doubtful: BTreeMap<Mac, BTreeSet<IpAddr>>,
    /// The place of the nodes at the board, as far as it is known here.
    replica: BTreeMap<Mac, u32>,
    /// The outstanding answer.
    answer: Option<(Vec<(Claim, u64)>, Outcome)>,
    /// Changes that have not been received yet.
    changes: VecDeque<(u64, Vec<Change>)>,
}

struct World {
    board: Board,
    /// Its nodes.
    nodes: BTreeMap<Mac, (u32, BTreeSet<IpAddr>)>,
    hosts: Vec<Host>,
    now: Now,
    clock: Instant,
}

#[derive(Debug, Clone)]
enum Step {
    Receive(usize, u8, Option<u8>),
    Answer(usize),
    Changes(usize),
    Pass(u64),
}

fn net() -> Vni {
    Vni::new(1).unwrap()
}

fn id(host: usize) -> u32 {
    host as u32 + 1
}

fn name(host: usize) -> HostName {
    HostName::new(format!("gw-{host}")).unwrap()
}

impl World {
    fn new() -> Self {
        let absence = Absence::default();
        let mut board = Board::new(Settings {
            run: 1,
            lease_ms: 1_000_000,
            keep_changes: 1000,
            absence,
            limits: Limits::UNLIMITED,
        });
        board.finish_restore(0, 1, 0, Now::default());
        let mut hosts: Vec<Host> = (0..HOSTS).map(|_| Host::default()).collect();
        for (n, host) in hosts.iter_mut().enumerate() {
            let vteps = vec![IpAddr::from([10, 0, 0, n as u8 + 1])];
            let registration = Registration {
                host: name(n),
                vteps,
                udp_port: 4789,
                instance: Uuid::from_bytes([n as u8; 16]),
                holds: None,
                details: Default::default(),
            };
            let applied = board.apply(Now::default(), None, Command::Register(registration));
            let Ok(Outcome::Registered { session, .. }) = applied.result else { panic!() };
            host.session = session;
            host.desired = Desired::new([net()].into_iter());
        }
        Self { board, nodes: BTreeMap::new(), hosts, now: Now::default(), clock: Instant::now() }
    }

    fn claim(&mut self, n: usize, mac: Mac, received: bool, announced: Option<IpAddr>) {
        let clock = self.clock;
        let host = &mut self.hosts[n];
        let ips = host.here.get(&mac).or(host.doubtful.get(&mac)).cloned().unwrap_or_default();
        let mut claim = Claim::learned(net(), mac, ips.into_iter().collect());
        claim.received = received;
        claim.announced = announced.into_iter().collect();
        host.desired.claim(claim, clock);
    }

    fn receive(&mut self, n: usize, mac: Mac, ip: Option<IpAddr>) {
        let host = &mut self.hosts[n];
        if host.doubtful.contains_key(&mac) {
            return;
        }
        let known = host.here.contains_key(&mac);
        if known && ip.is_none_or(|ip| host.here[&mac].contains(&ip)) {
            return;
        }
        let elsewhere = host.replica.get(&mac).is_some_and(|at| *at != id(n));
        if !known && elsewhere {
            host.doubtful.insert(mac, ip.into_iter().collect());
        } else {
            host.here.entry(mac).or_default().extend(ip);
            let others = host.here.iter_mut().filter(|(other, _)| **other != mac);
            let lost: Vec<_> =
                others.filter_map(|(other, ips)| ip.filter(|ip| ips.remove(ip)).map(|_| *other)).collect();
            for other in lost {
                self.claim(n, other, false, None);
            }
        }
        self.claim(n, mac, !known, ip);
        self.work(n);
    }

    /// Makes the next call, if none is outstanding. The board executes it at once; its answer is delayed.
    fn work(&mut self, n: usize) {
        while self.hosts[n].answer.is_none() {
            let Some(work) = self.hosts[n].desired.next_work(self.clock, false) else { return };
            let session = Session { host: name(n), number: self.hosts[n].session };
            let command = match &work {
                Work::Claim(batch) => {
                    Command::Claim { session, claims: batch.iter().map(|(claim, _)| claim.clone()).collect() }
                }
                Work::Withdraw(nodes) => Command::Withdraw { session, nodes: nodes.clone() },
                other => panic!("{other:?}"),
            };
            let applied = self.board.apply(self.now, None, command);
            for commit in applied.commits {
                for change in &commit.changes {
                    match change {
                        Change::NodePut { node, .. } => {
                            self.nodes.insert(node.mac, (node.host_id, node.ips.iter().copied().collect()));
                        }
                        Change::NodeGone { mac, .. } => drop(self.nodes.remove(mac)),
                        _ => {}
                    }
                }
                for host in &mut self.hosts {
                    host.changes.push_back((commit.revision, commit.changes.clone()));
                }
            }
            match work {
                Work::Claim(batch) => self.hosts[n].answer = Some((batch, applied.result.unwrap())),
                other => self.hosts[n].desired.mark_sent(&other),
            }
        }
    }

    fn answer(&mut self, n: usize) {
        let Some((batch, outcome)) = self.hosts[n].answer.take() else { return };
        let Outcome::Claimed { revision, refused, deferred, partial, later, .. } = outcome else { panic!() };
        assert!(deferred.is_empty());
        let (clock, host) = (self.clock, &mut self.hosts[n]);
        host.desired.mark_answered();
        for ((claim, version), i) in batch.iter().zip(0..) {
            let claim_result = if let Some((_, why)) = refused.iter().find(|(at, _)| *at == i) {
                ClaimResult::Refused(why.clone())
            } else if let Some((_, ms)) = later.iter().find(|(at, _)| *at == i) {
                ClaimResult::Later(clock + Duration::from_millis(*ms))
            } else {
                let addresses = partial.iter().find(|(at, _)| *at == i).map(|(_, a)| a.clone());
                ClaimResult::Accepted(revision, addresses)
            };
            let event =
                host.desired.handle_result(claim, *version, claim_result, clock + Duration::from_secs(3));
            host.desired.events.extend(event);
            host.desired.apply_taken(claim.vni, claim.mac);
        }
        self.take_events(n);
        self.work(n);
    }

    fn changes(&mut self, n: usize) {
        let Some((revision, changes)) = self.hosts[n].changes.pop_front() else { return };
        let (clock, host) = (self.clock, &mut self.hosts[n]);
        for change in changes {
            match change {
                Change::NodePut { node, gone_ips } => {
                    host.replica.insert(node.mac, node.host_id);
                    if node.host_id == id(n) {
                        host.desired.handle_lost(net(), node.mac, &gone_ips, revision);
                    } else {
                        host.desired.handle_elsewhere(net(), node.mac, revision, clock);
                    }
                }
                Change::NodeGone { mac, .. } => {
                    host.replica.remove(&mac);
                    host.desired.handle_removed(net(), mac);
                }
                _ => {}
            }
        }
        self.take_events(n);
        self.work(n);
    }

    fn take_events(&mut self, n: usize) {
        while let Some(event) = self.hosts[n].desired.events.pop_front() {
            let host = &mut self.hosts[n];
            match event {
                ClaimEvent::Accepted { mac, addresses, .. } => {
                    if let Some(ips) = host.doubtful.remove(&mac) {
                        host.here.insert(mac, ips);
                    }
                    if let (Some(here), Some(accepted)) = (host.here.get_mut(&mac), addresses) {
                        *here = accepted.ips.into_iter().collect();
                    }
                }
                ClaimEvent::Refused { claim, .. } => {
                    host.doubtful.remove(&claim.mac);
                    host.here.remove(&claim.mac);
                    host.desired.withdraw(net(), claim.mac);
                }
                ClaimEvent::NodeMoved { mac, .. } => {
                    host.here.remove(&mac);
                    if !host.doubtful.contains_key(&mac) {
                        host.desired.withdraw(net(), mac);
                    }
                }
                ClaimEvent::AddressesMoved { mac, ips, .. } => {
                    if let Some(here) = host.here.get_mut(&mac) {
                        here.retain(|ip| !ips.contains(ip));
                    }
                }
                ClaimEvent::Deferred { .. } => panic!("nothing migrates"),
            }
        }
    }

    /// Runs until nothing is outstanding.
    fn run_to_rest(&mut self) {
        for _ in 0..1000 {
            for n in 0..HOSTS {
                self.work(n);
                self.answer(n);
                while !self.hosts[n].changes.is_empty() {
                    self.changes(n);
                }
            }
            self.clock += Duration::from_millis(100);
            self.now.lease_ms += 100;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn at_rest_all_agree_and_no_station_is_lost(steps in vec(prop_oneof![
        4 => (0..HOSTS, 1..4u8, prop::option::of(1..4u8)).prop_map(|(h, m, i)| Step::Receive(h, m, i)),
        2 => (0..HOSTS).prop_map(Step::Answer),
        2 => (0..HOSTS).prop_map(Step::Changes),
        1 => (1..1500u64).prop_map(Step::Pass),
    ], 1..60)) {
        let mut world = World::new();
        let mut received = BTreeSet::new();
        let mac = |m: u8| Mac::new([2, 0, 0, 0, 0, m]);
        for step in steps {
            match step {
                Step::Receive(h, m, i) => {
                    received.insert(mac(m));
                    world.receive(h, mac(m), i.map(|i| IpAddr::from([192, 168, 0, i])));
                }
                Step::Answer(h) => world.answer(h),
                Step::Changes(h) => world.changes(h),
                Step::Pass(ms) => {
                    world.clock += Duration::from_millis(ms);
                    world.now.lease_ms += ms;
                }
            }
        }
        world.run_to_rest();
        let nodes = &world.nodes;
        prop_assert_eq!(nodes.keys().copied().collect::<BTreeSet<_>>(), received);
        for (n, host) in world.hosts.iter().enumerate() {
            let ours = nodes.iter().filter(|(_, (at, _))| *at == id(n));
            let ours: BTreeMap<_, _> = ours.map(|(mac, (_, ips))| (*mac, ips.clone())).collect();
            prop_assert_eq!(&host.here, &ours, "host {}", n);
            prop_assert!(host.doubtful.is_empty());
        }
    }
}

//! Watchers that join, resume, change scope and fall behind while random commands run and the board restarts. Each rebuilds
//! exactly the board's state, and at every revision that it receives, the state of that revision.

use super::support::*;
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::Arc};
use stopover_bbs::{
    model::{Change, NodeBatch, Point, Uuid},
    server::{Follower, Frame, Held, Interest},
    store::Store,
};
use stopover_net::Vni;

/// What can happen between two commands.
#[derive(Debug, Clone)]
enum Act {
    Command(Step),
    /// Watcher takes so many frames.
    Read(usize, u8),
    /// Its connection breaks. It connects again, and resumes if it can.
    Reconnect(usize),
    /// It connects again without any state.
    Forget(usize),
    InterestChange(usize, u32, bool),
}

const WATCHERS: usize = 3;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => step().prop_map(Act::Command),
        8 => (0..WATCHERS, 1..6u8).prop_map(|(w, n)| Act::Read(w, n)),
        2 => (0..WATCHERS).prop_map(Act::Reconnect),
        1 => (0..WATCHERS).prop_map(Act::Forget),
        3 => (0..WATCHERS, 1..4u32, any::<bool>()).prop_map(|(w, v, add)| Act::InterestChange(w, v, add)),
    ]
}

/// A watcher that checks every frame.
struct Reader {
    follower: Follower,
    replica: Replica,
    /// The received part of a snapshot.
    building: Option<Replica>,
    /// The revision of the state; `None` between two states.
    at: Option<u64>,
    /// The run that sent it.
    run: Option<Uuid>,
    stream_run: Option<Uuid>,
    /// The last revision seen in any frame.
    seen: u64,
    held: Option<BTreeSet<Vni>>,
    wanted: Option<BTreeSet<Vni>>,
    board: Uuid,
}

impl Reader {
    fn follower(rig: &Rig, backlog: u64, held: Option<&BTreeSet<Vni>>, resume: Option<Point>) -> Follower {
        let interest = held.map_or(Interest::Everything, |v| Interest::Networks(v.clone()));
        let held = resume.map(|point| Held { point, partial: false });
        let store = rig.store.clone();
        Follower::new(rig.history.clone(), store, &rig.lineage, backlog, interest, held).unwrap()
    }

    fn new(rig: &Rig, backlog: u64, held: Option<BTreeSet<Vni>>) -> Self {
        Self {
            follower: Self::follower(rig, backlog, held.as_ref(), None),
            replica: Replica::default(),
            building: None,
            at: None,
            run: None,
            stream_run: rig.lineage.run(),
            seen: 0,
            wanted: held.clone(),
            held,
            board: rig.store.board_id(),
        }
    }

    fn reconnect(&mut self, rig: &Rig, backlog: u64, forget: bool) {
        if forget || self.at.is_none() {
            *self = Self { seen: self.seen, ..Self::new(rig, backlog, self.wanted.clone()) };
            return;
        }
        let resume = self.at.map(|revision| Point { board: self.board, run: self.run, revision });
        self.stream_run = rig.lineage.run();
        self.follower = Self::follower(rig, backlog, self.held.as_ref(), resume);
        self.building = None;
        if let (Some(held), Some(wanted)) = (&self.held, &self.wanted) {
            let add = wanted.difference(held).copied().collect();
            let remove = held.difference(wanted).copied().collect();
            self.follower.interest(add, remove);
        }
    }

    fn interest(&mut self, vni: Vni, add: bool) {
        let Some(wanted) = &mut self.wanted else { return };
        let (mut plus, mut minus) = (vec![], vec![]);
        if add {
            wanted.insert(vni);
            plus.push(vni);
        } else {
            wanted.remove(&vni);
            minus.push(vni);
        }
        self.follower.interest(plus, minus);
    }

    /// Takes a frame; false = there is none.
    fn read(&mut self, rig: &Rig) -> bool {
        let Some(frame) = self.follower.next(true).unwrap() else { return false };
        match frame {
            Frame::Resumed(revision) => assert_eq!(Some(revision), self.at),
            Frame::SnapshotBegin { revision, other_branch, .. } => {
                assert!(!other_branch, "restarts make no branch");
                assert!(revision >= self.seen, "a snapshot from the past");
                self.building = Some(Replica::default());
                self.at = None;
            }
            Frame::SnapshotChunk(changes) => {
                let building = self.building.as_mut().unwrap();
                changes.iter().for_each(|c| building.apply(c));
            }
            Frame::SnapshotNodes(batches) => {
                let building = self.building.as_mut().unwrap();
                for node in batches.iter().flat_map(NodeBatch::to_nodes) {
                    building.apply(&Change::NodePut { node, gone_ips: Vec::new() });
                }
            }
            Frame::SnapshotEnd(revision) => {
                self.replica = self.building.take().unwrap();
                self.reached(rig, revision);
            }
            Frame::Delta { revision, changes } => {
                assert!(revision > self.seen, "revision {revision} after {}", self.seen);
                assert!(!changes.is_empty());
                changes.iter().for_each(|c| self.replica.apply(c));
                self.reached(rig, revision);
            }
            Frame::Scope { revision, changes, added, removed } => {
                assert!(revision >= self.seen);
                self.at = None;
                self.seen = revision;
                changes.iter().for_each(|c| self.replica.apply(c));
                if !(added.is_empty() && removed.is_empty()) {
                    let held = self.held.as_mut().unwrap();
                    held.extend(added);
                    held.retain(|v| !removed.contains(v));
                    self.reached(rig, revision);
                }
            }
            Frame::Progress(revision) => {
                assert!(revision > self.seen);
                self.reached(rig, revision);
            }
        }
        true
    }

    /// The watcher now has exactly the state of the revision that it has received.
    fn reached(&mut self, rig: &Rig, revision: u64) {
        assert!(revision >= self.seen);
        self.seen = revision;
        self.at = Some(revision);
        self.run = self.stream_run;
        let truth = rig.states.get(revision as usize).expect("a revision from the future");
        let truth = self.held.as_ref().map_or_else(|| truth.clone(), |held| truth.scoped(held));
        assert_eq!(self.replica, truth, "at revision {revision}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_rebuilds_the_board(
        acts in prop::collection::vec(act(), 1..150),
        keep in prop_oneof![1..20usize, Just(10_000)],
        backlog in prop_oneof![1..20u64, Just(10_000)],
    ) {
        let mut rig = Rig::new(keep);
        let all = |n: &[u32]| Some(n.iter().map(|n| vni(*n)).collect::<BTreeSet<_>>());
        let mut readers = [None, all(&[1, 2]), all(&[])].map(|held| Reader::new(&rig, backlog, held));
        for act in acts {
            match act {
                Act::Command(Step::Restart) => {
                    rig.restart();
                    for r in &mut readers {
                        r.reconnect(&rig, backlog, false);
                    }
                }
                Act::Command(step) => {
                    rig.step(&step);
                }
                Act::Read(w, n) => {
                    for _ in 0..n {
                        readers[w].read(&rig);
                    }
                }
                Act::Reconnect(w) => readers[w].reconnect(&rig, backlog, false),
                Act::Forget(w) => readers[w].reconnect(&rig, backlog, true),
                Act::InterestChange(w, v, add) => readers[w].interest(vni(v), add),
            }
        }
        for r in &mut readers {
            while r.read(&rig) {}
            prop_assert_eq!(r.at, Some(rig.board.revision()), "it has the last revision");
            prop_assert_eq!(&r.held, &r.wanted);
        }
    }
}

#[test]
fn a_revision_of_another_board_or_from_the_future_means_a_snapshot() {
    let mut rig = Rig::new(100);
    rig.step(&Step::Register(0, false));
    let first = |board, run, revision, partial| {
        let interest = Interest::Everything;
        let store: Arc<dyn Store> = rig.store.clone();
        let held = Held { point: Point { board, run, revision }, partial };
        let follower = Follower::new(rig.history.clone(), store, &rig.lineage, 100, interest, Some(held));
        follower.unwrap().next(false).unwrap()
    };
    let id = rig.store.board_id();
    let run = rig.lineage.run();
    let snapshot = |frame, branch| matches!(frame, Some(Frame::SnapshotBegin { revision: 1, other_branch, .. }) if other_branch == branch);
    assert_eq!(first(id, run, 1, false), Some(Frame::Resumed(1)));
    assert!(snapshot(first(id, run, 1, true), false), "pieces of a snapshot are nothing to go on from");
    assert!(snapshot(first(id, None, 1, false), false), "sent by an older program");
    assert!(snapshot(first(Uuid::from_bytes([1; 16]), run, 1, false), true));
    assert!(
        snapshot(first(id, Some(Uuid::from_bytes([1; 16])), 1, false), true),
        "a run that this store has not seen"
    );
    assert!(snapshot(first(id, run, 2, false), true));
    assert!(snapshot(first(id, None, 2, false), true));
}

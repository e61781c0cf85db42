//! Lcores with queues and rings, stepped in any order: when a moment is over, nothing that was there then is left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use proptest::prelude::*;
use std::{collections::VecDeque, sync::Arc};
use stopover_lockfree::barrier::{Barrier, Member, Ring, Ticket};

const BURST: usize = 2;
const DEPTH: usize = 8;
const RING: usize = 3;

/// A frame, and the number of lcores that it has still to be handed to.
type Frame = (u64, u8);

struct Lcore {
    member: Member,
    queues: Vec<VecDeque<Frame>>,
    ring: VecDeque<Frame>,
    taken: u64,
    /// What waits for room in the next lcore's ring.
    waits: VecDeque<Frame>,
    flushed: u64,
}

struct World {
    lcores: Vec<Lcore>,
    sent: u64,
    gone: Vec<u64>,
}

impl World {
    fn new(lcores: usize, queues: usize) -> Self {
        let barrier = Barrier::new(lcores);
        let lcore = |number| Lcore {
            member: Member::new(Arc::clone(&barrier), number, vec![DEPTH; queues], 1),
            queues: vec![VecDeque::new(); queues],
            ring: VecDeque::new(),
            taken: 0,
            waits: VecDeque::new(),
            flushed: 0,
        };
        Self { lcores: (0..lcores).map(lcore).collect(), sent: 0, gone: Vec::new() }
    }

    fn arrive(&mut self, lcore: usize, queue: usize, hand_over: bool) {
        let lcores = self.lcores.len();
        let queues = &mut self.lcores[lcore % lcores].queues;
        let queue = queue % queues.len();
        if queues[queue].len() < DEPTH {
            queues[queue].push_back((self.sent, u8::from(hand_over)));
            self.sent += 1;
        }
    }

    fn round(&mut self, at: usize) {
        let lcores = self.lcores.len();
        let at = at % lcores;
        let serves = self.lcores[at].member.begin_round();
        for queue in 0..self.lcores[at].queues.len() {
            let n = self.lcores[at].queues[queue].len().min(BURST);
            for _ in 0..n {
                let Some((frame, hops)) = self.lcores[at].queues[queue].pop_front() else { break };
                match hops {
                    0 => self.gone.push(frame),
                    _ => self.lcores[at].waits.push_back((frame, 0)),
                }
            }
            if serves {
                self.lcores[at].member.polled(queue, n);
            }
            // Frames that fit enter the ring at once.
            self.hand_over(at, 0);
        }
        self.hand_over(at, 1);
        let lcore = &mut self.lcores[at];
        for _ in 0..BURST {
            if let Some((frame, _)) = lcore.ring.pop_front() {
                lcore.taken += 1;
                self.gone.push(frame);
            }
        }
        if serves {
            let state = Ring { taken: lcore.taken, len: lcore.ring.len() };
            let waits = Ring { taken: lcore.flushed, len: lcore.waits.len() };
            lcore.member.end_round(|_| state, |_| waits);
        }
    }

    /// Waiting frames enter the next lcore's ring, as long as `spare` places are left there.
    fn hand_over(&mut self, at: usize, spare: usize) {
        let next = (at + 1) % self.lcores.len();
        while self.lcores[next].ring.len() + spare < RING
            && let Some(frame) = self.lcores[at].waits.pop_front()
        {
            self.lcores[at].flushed += 1;
            self.lcores[next].ring.push_back(frame);
        }
    }

    fn inside(&self) -> Vec<u64> {
        let all = self.lcores.iter().flat_map(|l| l.queues.iter().flatten().chain(&l.ring).chain(&l.waits));
        all.map(|(frame, _)| *frame).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Arrive { lcore: usize, queue: usize, hand_over: bool },
    Round(usize),
    Ask(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..4, 0usize..3, any::<bool>())
            .prop_map(|(lcore, queue, hand_over)| Step::Arrive { lcore, queue, hand_over }),
        6 => (0usize..4).prop_map(Step::Round),
        1 => (0usize..4).prop_map(Step::Ask),
    ]
}

proptest! {
    #[test]
    fn no_earlier_frame_is_left_when_a_request_is_complete(
        lcores in 1usize..4, queues in 1usize..3, steps in prop::collection::vec(step(), 0..300),
    ) {
        let mut world = World::new(lcores, queues);
        let mut asked: Vec<(Ticket, Vec<u64>)> = Vec::new();
        for step in steps {
            match step {
                Step::Arrive { lcore, queue, hand_over } => world.arrive(lcore, queue, hand_over),
                Step::Round(lcore) => world.round(lcore),
                Step::Ask(lcore) => {
                    let ticket = world.lcores[lcore % lcores].member.request();
                    asked.push((ticket, world.inside()));
                }
            }
            let inside = world.inside();
            for (ticket, then) in &asked {
                if world.lcores[0].member.is_complete(*ticket) {
                    prop_assert!(then.iter().all(|frame| !inside.contains(frame)));
                }
            }
        }
        // Under load that never ends, too, every moment is over some time.
        for _ in 0..8 * DEPTH {
            for lcore in 0..lcores {
                (0..BURST).for_each(|_| world.arrive(lcore, 0, true));
                world.round(lcore);
            }
        }
        prop_assert!(asked.iter().all(|(ticket, _)| world.lcores[0].member.is_complete(*ticket)));
    }
}

#[test]
fn frames_that_wait_for_room_in_a_ring_are_awaited() {
    let mut world = World::new(2, 1);
    (0..DEPTH).for_each(|_| world.arrive(0, 0, true));
    let ticket = world.lcores[0].member.request();
    (0..DEPTH).for_each(|_| world.round(0));
    assert_eq!((world.lcores[1].ring.len(), world.lcores[0].waits.len()), (RING, DEPTH - RING));
    let mut rounds = 0;
    while !world.lcores[0].member.is_complete(ticket) {
        world.round(1);
        world.round(0);
        rounds += 1;
        assert!(rounds < 100);
    }
    assert_eq!(world.inside(), Vec::<u64>::new());
}

#[test]
fn a_stopped_lcore_delays_the_barrier() {
    let mut world = World::new(2, 1);
    let ticket = world.lcores[0].member.request();
    (0..10).for_each(|_| world.round(0));
    assert!(!world.lcores[0].member.is_complete(ticket));
    (0..2).for_each(|_| world.round(1));
    world.round(0);
    assert!(world.lcores[0].member.is_complete(ticket));
}

#[test]
fn without_a_request_a_round_does_nothing() {
    let mut world = World::new(2, 1);
    assert!(!world.lcores[0].member.begin_round());
    world.lcores[1].member.request();
    assert!(world.lcores[0].member.begin_round());
}

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
    /// Queues on their way from one lcore to another, with their frames.
    moving: VecDeque<(usize, usize, VecDeque<Frame>)>,
    /// Givers and takers of queues that may not have been polled yet.
    taken: Vec<(usize, usize)>,
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
        let lcores = (0..lcores).map(lcore).collect();
        Self { lcores, moving: VecDeque::new(), taken: Vec::new(), sent: 0, gone: Vec::new() }
    }

    fn arrive(&mut self, lcore: usize, queue: usize, hand_over: bool) {
        let lcores = self.lcores.len();
        let queues = &mut self.lcores[lcore % lcores].queues;
        let Some(queue) = queue.checked_rem(queues.len()) else { return };
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

    /// An lcore gives one of its queues away, if it may now.
    fn give(&mut self, from: usize, to: usize, queue: usize) {
        let (from, to) = (from % self.lcores.len(), to % self.lcores.len());
        let lcore = &mut self.lcores[from];
        let Some(at) = queue.checked_rem(lcore.queues.len()) else { return };
        if from != to && lcore.member.give(at) == Some(DEPTH) {
            self.moving.push_back((from, to, lcore.queues.swap_remove(at)));
        }
    }

    /// A queue that was given away reaches its new lcore.
    fn take(&mut self) {
        let Some((from, to, queue)) = self.moving.pop_front() else { return };
        self.lcores[to].queues.push(queue);
        self.lcores[to].member.take(DEPTH);
        self.taken.push((from, to));
    }

    /// Those whose queues are polled now hear of it.
    fn arrive_taken(&mut self) {
        for (from, to) in std::mem::take(&mut self.taken) {
            if self.lcores[to].member.has_polled_taken() {
                self.lcores[from].member.arrived();
            } else {
                self.taken.push((from, to));
            }
        }
    }

    /// A frame arrives at a queue that nobody polls.
    fn arrive_moving(&mut self) {
        if let Some((.., queue)) = self.moving.front_mut().filter(|(.., queue)| queue.len() < DEPTH) {
            queue.push_back((self.sent, 1));
            self.sent += 1;
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
        all.chain(self.moving.iter().flat_map(|(.., queue)| queue)).map(|(frame, _)| *frame).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Arrive { lcore: usize, queue: usize, hand_over: bool },
    Round(usize),
    Ask(usize),
    Give { from: usize, to: usize, queue: usize },
    Take,
    ArriveMoving,
    ArriveTaken,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..4, 0usize..3, any::<bool>())
            .prop_map(|(lcore, queue, hand_over)| Step::Arrive { lcore, queue, hand_over }),
        6 => (0usize..4).prop_map(Step::Round),
        1 => (0usize..4).prop_map(Step::Ask),
        1 => (0usize..4, 0usize..4, 0usize..3).prop_map(|(from, to, queue)| Step::Give { from, to, queue }),
        1 => Just(Step::Take),
        1 => Just(Step::ArriveMoving),
        1 => Just(Step::ArriveTaken),
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
                Step::Give { from, to, queue } => world.give(from, to, queue),
                Step::Take => world.take(),
                Step::ArriveMoving => world.arrive_moving(),
                Step::ArriveTaken => world.arrive_taken(),
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
        for _ in 0..16 * DEPTH {
            world.take();
            world.arrive_taken();
            for lcore in 0..lcores {
                (0..BURST).for_each(|_| world.arrive(lcore, 0, true));
                world.round(lcore);
            }
        }
        prop_assert!(asked.iter().all(|(ticket, _)| world.lcores[0].member.is_complete(*ticket)));
    }
}

/// What makes [`no_earlier_frame_is_left_when_a_request_is_complete`] hold while queues move, in single steps.
#[test]
fn the_frames_of_a_queue_on_its_way_are_awaited() {
    let mut world = World::new(2, 1);
    world.arrive(0, 0, true);
    world.give(0, 1, 0);
    let ticket = world.lcores[1].member.request();
    let rounds = |world: &mut World| (0..3 * DEPTH).for_each(|n| world.round(n % 2));
    rounds(&mut world);
    assert!(!world.lcores[1].member.is_complete(ticket));
    world.take();
    rounds(&mut world);
    assert!(!world.lcores[1].member.is_complete(ticket), "its giver does not know yet");
    assert!(world.lcores[1].member.has_polled_taken());
    world.arrive_taken();
    rounds(&mut world);
    assert!(world.lcores[1].member.is_complete(ticket));
    assert_eq!(world.inside(), Vec::<u64>::new());
    assert_eq!(world.lcores[0].member.give(0), None, "it has none");
}

#[test]
fn no_queue_is_given_away_while_a_request_is_served() {
    let mut world = World::new(2, 1);
    let ticket = world.lcores[1].member.request();
    assert_eq!(world.lcores[0].member.give(0), None);
    (0..4).for_each(|n| world.round(n % 2));
    assert!(world.lcores[0].member.is_complete(ticket));
    assert_eq!(world.lcores[0].member.give(0), Some(DEPTH));
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

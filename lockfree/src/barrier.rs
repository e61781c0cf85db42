//! The barrier: it is complete when every lcore has taken what its underlay queues and hand-over rings held at the time
//! of a request. End markers wait for it, so that a marker does not overtake a frame that arrived before it on another
//! queue of the NIC. Enters: how many frames a queue returned, and how far a ring, or the frames that wait before one,
//! was emptied. Leaves: whether a request is complete. It costs a load per round while there is no request, and does
//! not depend on DPDK, frames or migrations.
//!
//! A lcore serves in four steps: it polls each queue until that was empty once or returned as many frames as it can
//! hold; it hands over what waits then for room in the rings of others; it waits until all others have done so, since
//! any of them may have put frames into its rings; then it empties its rings of what they hold then.

use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};
use crossbeam::utils::CachePadded;
use std::sync::Arc;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What the lcores share.
#[derive(Debug)]
pub struct Barrier {
    requested: CachePadded<AtomicU64>,
    lcores: Box<[CachePadded<Progress>]>,
}

/// The latest tickets that one lcore has served.
#[derive(Debug)]
struct Progress {
    polled: AtomicU64,
    drained: AtomicU64,
}

impl Barrier {
    /// For this many lcores, each of which must make itself a [`Member`].
    #[must_use]
    pub fn new(lcores: usize) -> Arc<Self> {
        let progress =
            || CachePadded::new(Progress { polled: AtomicU64::new(0), drained: AtomicU64::new(0) });
        Arc::new(Self {
            requested: CachePadded::new(AtomicU64::new(0)),
            lcores: (0..lcores).map(|_| progress()).collect(),
        })
    }

    /// Requests all lcores to take what their queues and rings hold now.
    pub fn request(&self) -> Ticket {
        Ticket(self.requested.fetch_add(1, AcqRel) + 1)
    }

    /// Whether all have done so.
    #[must_use]
    pub fn is_complete(&self, ticket: Ticket) -> bool {
        self.lcores.iter().all(|lcore| lcore.drained.load(Acquire) >= ticket.0)
    }

    fn all_polled(&self, goal: u64) -> bool {
        self.lcores.iter().all(|lcore| lcore.polled.load(Acquire) >= goal)
    }
}

/// How far a ring has been emptied, or what waits for room in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ring {
    /// Items taken from it since the start.
    pub taken: u64,
    /// Items in it now.
    pub len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Rest,
    Poll,
    HandOver,
    Gather,
    Drain,
}

/// One lcore's part.
#[derive(Debug)]
pub struct Member {
    barrier: Arc<Barrier>,
    number: usize,
    step: Step,
    /// The ticket that is being served, or was last.
    goal: u64,
    /// By queue: the most frames it can hold; 0 if it does not count.
    depths: Vec<usize>,
    /// By queue: frames that may still have to be taken.
    left: Vec<usize>,
    /// By ring, of this lcore in [`Step::Drain`], of others in [`Step::HandOver`]: how many items must have been taken.
    targets: Vec<u64>,
}

impl Member {
    /// Lcore `number`, with queues that hold so many frames at most (0: not of the underlay), and so many rings.
    #[must_use]
    pub fn new(barrier: Arc<Barrier>, number: usize, depths: Vec<usize>, rings: usize) -> Self {
        let left = vec![0; depths.len()];
        Self { barrier, number, step: Step::Rest, goal: 0, depths, left, targets: vec![0; rings] }
    }

    /// See [`Barrier::request`].
    pub fn request(&self) -> Ticket {
        self.barrier.request()
    }

    /// See [`Barrier::is_complete`].
    #[must_use]
    pub fn is_complete(&self, ticket: Ticket) -> bool {
        self.barrier.is_complete(ticket)
    }

    /// A round begins. Returns whether the other calls are needed in it.
    #[inline]
    pub fn begin_round(&mut self) -> bool {
        if self.step == Step::Rest {
            let requested = self.barrier.requested.load(Acquire);
            if requested == self.goal {
                return false;
            }
            self.begin(requested);
        }
        true
    }

    #[cold]
    fn begin(&mut self, requested: u64) {
        self.goal = requested;
        self.step = Step::Poll;
        self.left.copy_from_slice(&self.depths);
    }

    /// Queue `at` has returned `n` frames.
    pub fn polled(&mut self, at: usize, n: usize) {
        if let Some(left) = self.left.get_mut(at) {
            *left = if n == 0 { 0 } else { left.saturating_sub(n) };
        }
    }

    /// A round ends: the frames of its queues are in rings, wait for room there, or were sent. `ring` is the state of
    /// each ring that this lcore empties, `waits` that of the frames which wait for room in each ring of other lcores.
    #[cold]
    pub fn end_round(&mut self, ring: impl Fn(usize) -> Ring, waits: impl Fn(usize) -> Ring) {
        let barrier = Arc::clone(&self.barrier);
        let Some(own) = barrier.lcores.get(self.number) else { return };
        if self.step == Step::Poll && self.left.iter().all(|left| *left == 0) {
            self.set_targets(&waits);
            self.step = Step::HandOver;
        }
        if self.step == Step::HandOver && self.targets_reached(&waits) {
            own.polled.store(self.goal, Release);
            self.step = Step::Gather;
        }
        if self.step == Step::Gather && self.barrier.all_polled(self.goal) {
            self.set_targets(&ring);
            self.step = Step::Drain;
        }
        if self.step == Step::Drain && self.targets_reached(&ring) {
            own.drained.store(self.goal, Release);
            self.step = Step::Rest;
        }
    }

    /// All present items must be taken.
    fn set_targets(&mut self, ring: impl Fn(usize) -> Ring) {
        for (at, target) in self.targets.iter_mut().enumerate() {
            let Ring { taken, len } = ring(at);
            *target = taken + len as u64;
        }
    }

    fn targets_reached(&self, ring: impl Fn(usize) -> Ring) -> bool {
        self.targets.iter().enumerate().all(|(at, target)| {
            let Ring { taken, len } = ring(at);
            taken >= *target || len == 0
        })
    }
}

//! The barrier: it is complete when every lcore has taken what its underlay queues and hand-over rings held at the time
//! of a request. End markers wait for it, so that a marker does not overtake a frame that arrived before it on another
//! queue of the NIC. Enters: how many frames a queue returned, and how far a ring, or the frames that wait before one,
//! was emptied. Leaves: whether a request is complete. It costs a load per round while there is no request, and does
//! not depend on DPDK, frames or migrations.
//!
//! A lcore serves in four steps: it polls each queue until that was empty once or returned as many frames as it can
//! hold; it hands over what waits then for room in the rings of others; it waits until all others have done so, since
//! any of them may have put frames into its rings; then it empties its rings of what they hold then.
//!
//! A queue may move from one lcore to another. Nobody polls it on the way, so the giver serves no request until the
//! taker has polled it as for a request and handed over what waited then: see [`Member::give`] and [`Member::take`].

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

/// Queues that were taken from other lcores, until the first of their frames are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// None.
    No,
    /// The polling that is under way did not begin with them.
    Waits,
    /// They are among what is polled now.
    Polled,
}

/// One lcore's part.
#[derive(Debug)]
pub struct Member {
    barrier: Arc<Barrier>,
    number: usize,
    step: Step,
    taken: Taken,
    /// The step to go back to after queues that were taken have been polled; `None`: a request is served.
    back_to: Option<Step>,
    /// Queues that were given away and are not polled by their takers yet.
    given: usize,
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
        Self {
            barrier,
            number,
            step: Step::Rest,
            taken: Taken::No,
            back_to: None,
            given: 0,
            goal: 0,
            depths,
            left,
            targets: vec![0; rings],
        }
    }

    /// Reserves room, so that queues and rings can be added without allocation.
    pub fn reserve(&mut self, queues: usize, rings: usize) {
        self.depths.reserve(queues);
        self.left.reserve(queues);
        self.targets.reserve(rings);
    }

    /// There are so many rings now.
    pub fn set_rings(&mut self, rings: usize) {
        self.targets.resize(rings, 0);
    }

    /// A queue that nobody has polled yet is this lcore's from now on, the last one.
    pub fn add(&mut self, depth: usize) {
        self.depths.push(depth);
        self.left.push(if self.step == Step::Poll { depth } else { 0 });
    }

    /// Queue `at` is gone for ever; the last one is in its place.
    pub fn remove(&mut self, at: usize) {
        if at < self.depths.len() {
            self.depths.swap_remove(at);
            self.left.swap_remove(at);
        }
    }

    /// Gives queue `at` away; the last one is in its place. Returns its depth, or `None` while a request is served: try
    /// again in another round. Serves no request until [`Self::arrived`] is called for it.
    pub fn give(&mut self, at: usize) -> Option<usize> {
        let rests = self.step == Step::Rest && self.taken == Taken::No;
        if !rests || self.barrier.requested.load(Acquire) != self.goal {
            return None;
        }
        let depth = *self.depths.get(at)?;
        self.remove(at);
        self.given += 1;
        Some(depth)
    }

    /// Takes a queue that another lcore gave away; it is the last one from now on.
    pub fn take(&mut self, depth: usize) {
        self.add(depth);
        let polls = self.step == Step::Poll;
        self.taken = if polls && self.taken != Taken::Waits { Taken::Polled } else { Taken::Waits };
    }

    /// Whether all queues that were taken have been polled as for a request.
    #[must_use]
    pub fn has_polled_taken(&self) -> bool {
        self.taken == Taken::No
    }

    /// A queue that was given away has been polled by its taker: see [`Self::has_polled_taken`].
    pub fn arrived(&mut self) {
        self.given = self.given.saturating_sub(1);
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
        if self.taken == Taken::Waits && matches!(self.step, Step::Rest | Step::Gather) {
            self.begin_taken();
        } else if self.step == Step::Rest {
            let requested = self.barrier.requested.load(Acquire);
            if requested == self.goal || self.given > 0 {
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

    /// Polls what was taken, without a request. While others are waited for that is needed too: the giver is one of
    /// them.
    #[cold]
    fn begin_taken(&mut self) {
        self.back_to = Some(self.step);
        self.taken = Taken::Polled;
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
            if self.taken == Taken::Polled {
                self.taken = Taken::No;
            }
            self.step = self.back_to.take().unwrap_or_else(|| {
                own.polled.store(self.goal, Release);
                Step::Gather
            });
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

//! Moves receive queues between lcores while they run, as `spread` decides. Enters: the counters of the lcores, once a
//! second. Leaves: queues with other lcores.
//!
//! A move has two steps: the lcore gives the queue to another when nothing waits on it that the other could overtake,
//! which it may not manage in time; then it hears that the queue is polled again. With an `lcores` key the operator has
//! chosen, and nothing moves by itself.

use super::{
    Control,
    ports::Ports,
    spread::{self, LcoreLoad, Move, QueueAt},
};
use crate::lcore::{changes::Change, counters::LcoreReading};

/// How often the load is looked at, in milliseconds.
const SPREAD_MS: u64 = 1000;

/// After so many moves that did not succeed, guests are not waited for any more: one that always has frames in its rings
/// would keep all queues where they are.
const MOST_WITH_GUESTS: u32 = 3;

/// After a move that did not succeed the load is looked at half as often, up to so many times: each minute.
const MOST_FAILED: u32 = 6;

/// See the module.
#[derive(Debug, Default)]
pub struct QueueMoves {
    step: Option<Step>,
    due_ms: u64,
    /// Moves by load that did not succeed, one after another.
    failed: u32,
    /// The counters when the load was looked at last, by lcore.
    before: Vec<LcoreReading>,
}

#[derive(Debug)]
enum Step {
    Giving(Move),
    Arriving,
}

impl QueueMoves {
    /// Whether no move is under way.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.step.is_none()
    }

    /// Moves a queue; for `to_the_end` see [`Change::Release`].
    pub(super) fn begin(&mut self, ports: &mut Ports, which: Move, to_the_end: bool) {
        ports.give_release(which, to_the_end);
        self.step = Some(Step::Giving(which));
    }

    /// Takes the steps that the lcores are ready for.
    fn advance(&mut self, ports: &mut Ports) {
        while self.step.is_some() && ports.has_changed() {
            self.step = match self.step.take() {
                Some(Step::Giving(which)) if ports.is_released() => {
                    self.failed = 0;
                    ports.move_queue(which);
                    ports.give(which.from, Change::Arrived);
                    Some(Step::Arriving)
                }
                Some(Step::Giving(_)) => {
                    self.failed = (self.failed + 1).min(MOST_FAILED);
                    None
                }
                Some(Step::Arriving) | None => None,
            };
        }
    }
}

impl Control {
    /// Goes on with a move, or begins one if the load is uneven. Not while the operator changes ports.
    pub(super) fn spread_queues_by_load(&mut self, now_ms: u64) {
        self.queue_moves.advance(&mut self.ports);
        if !self.may_spread() || now_ms < self.queue_moves.due_ms {
            return;
        }
        self.queue_moves.due_ms = now_ms + (SPREAD_MS << self.queue_moves.failed);
        let now: Vec<LcoreReading> = self.ports.lcores().iter().map(|lcore| lcore.counters.read()).collect();
        let before = std::mem::replace(&mut self.queue_moves.before, now.clone());
        let is_idle = self.queue_moves.is_idle() && self.port_changes.is_idle();
        if !is_idle || before.len() != now.len() {
            return;
        }
        let since = now.iter().zip(&before).map(|(now, then)| now.since(then));
        let loads: Vec<LcoreLoad> =
            since.zip(self.ports.lcores()).map(|(since, lcore)| load(&since, &lcore.queues)).collect();
        if let Some(which) = spread::next_move(&loads, |at, lcore| self.ports.is_near(at.port, lcore)) {
            let to_the_end = self.queue_moves.failed < MOST_WITH_GUESTS;
            self.queue_moves.begin(&mut self.ports, which, to_the_end);
        }
    }

    /// When the load is looked at next.
    pub(super) fn next_spread(&self) -> Option<u64> {
        self.may_spread().then_some(self.queue_moves.due_ms)
    }

    fn may_spread(&self) -> bool {
        self.ports.lcores().len() > 1 && self.config.lcores.is_none()
    }
}

/// What an lcore with these queues did. Counters are by port: its queues of one port have the same share.
fn load(since: &LcoreReading, queues: &[QueueAt]) -> LcoreLoad {
    let frames = |at: &QueueAt| {
        let of_port = queues.iter().filter(|other| other.port == at.port).count() as u64;
        let received = since.ports.get(usize::from(at.port)).map_or(0, |port| port.received);
        (*at, received / of_port.max(1))
    };
    let (busy, idle) = (since.time.busy_cycles as f64, since.time.idle_cycles as f64);
    LcoreLoad { busy: busy / (busy + idle).max(1.0), queues: queues.iter().map(frames).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lcore::counters::{PortReading, TimeReading};

    #[test]
    fn the_load_of_an_lcore_is_that_of_its_queues() {
        let at = |port, queue| QueueAt { port, queue };
        let received = |received| PortReading { received, ..PortReading::default() };
        let since = LcoreReading {
            time: TimeReading { busy_cycles: 30, idle_cycles: 10, ..TimeReading::default() },
            ports: vec![received(7), received(100)],
            ..LcoreReading::default()
        };
        let queues = [at(1, 0), at(1, 1), at(0, 0), at(5, 0)];
        let of_queues = vec![(at(1, 0), 50), (at(1, 1), 50), (at(0, 0), 7), (at(5, 0), 0)];
        assert_eq!(load(&since, &queues), LcoreLoad { busy: 0.75, queues: of_queues });
        assert_eq!(load(&LcoreReading::default(), &[]), LcoreLoad::default());
    }
}

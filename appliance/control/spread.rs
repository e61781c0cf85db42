//! Spreads receive queues over lcores by load. Enters: what each lcore did since the last time: the share of it that was
//! busy, and the frames of each of its queues. Leaves: at most one move of a queue to another lcore. Pure.
//!
//! A move costs the frames of the queue a pause, so only a clear gain is worth one: the busiest lcore has little time
//! left, and the lcore that takes the queue is clearly less busy afterwards than the busiest was before.

/// One receive queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueAt {
    /// Its port.
    pub port: u16,
    /// Its number there.
    pub queue: u16,
}

/// What an lcore did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LcoreLoad {
    /// The share of its time in which it had work, 0 to 1.
    pub busy: f64,
    /// The frames of its queues.
    pub queues: Vec<(QueueAt, u64)>,
}

/// A queue that moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub queue: QueueAt,
    /// The lcore that gives it away, by its number among all.
    pub from: usize,
    /// The lcore that takes it.
    pub to: usize,
}

/// An lcore that is busy for less than this share of its time gives nothing away.
const MUCH: f64 = 0.7;
/// By how much less the busier of the two lcores must be busy after a move.
const GAIN: f64 = 0.1;

/// The move that makes the busier of the two lcores least busy, if that is worth it. One to an lcore that is near to the
/// port comes before any other. `is_near`: whether an lcore, by its number among all, is on the socket of a queue's port.
#[must_use]
pub fn next_move(lcores: &[LcoreLoad], is_near: impl Fn(QueueAt, usize) -> bool) -> Option<Move> {
    let by_load = |a: &(usize, &LcoreLoad), b: &(usize, &LcoreLoad)| a.1.busy.total_cmp(&b.1.busy);
    let (from, busiest) = lcores.iter().enumerate().max_by(by_load)?;
    let frames: u64 = busiest.queues.iter().map(|(_, frames)| frames).sum();
    if busiest.busy < MUCH || frames == 0 {
        return None;
    }
    let to_idlest = |queue: QueueAt, of_queue: u64, near: bool| {
        let others = lcores.iter().enumerate().filter(|(to, _)| *to != from && is_near(queue, *to) == near);
        let (to, idlest) = others.min_by(by_load)?;
        let load = busiest.busy * of_queue as f64 / frames as f64;
        Some(((busiest.busy - load).max(idlest.busy + load), Move { queue, from, to }))
    };
    let best = |near: bool| {
        let moves = busiest.queues.iter().filter_map(|(queue, of_queue)| to_idlest(*queue, *of_queue, near));
        let (after, best) = moves.min_by(|a, b| a.0.total_cmp(&b.0))?;
        (after <= busiest.busy - GAIN).then_some(best)
    };
    best(true).or_else(|| best(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lcore(busy: f64, frames: &[u64]) -> LcoreLoad {
        let queues = (0..).zip(frames).map(|(port, frames)| (QueueAt { port, queue: 0 }, *frames));
        LcoreLoad { busy, queues: queues.collect() }
    }

    #[test]
    fn the_queue_that_balances_best_moves() {
        let lcores = [lcore(0.1, &[10]), lcore(0.9, &[600, 250, 50]), lcore(0.3, &[1])];
        let queue = QueueAt { port: 1, queue: 0 };
        assert_eq!(next_move(&lcores, |_, _| true), Some(Move { queue, from: 1, to: 0 }));
    }

    #[test]
    fn nothing_moves_without_need_or_gain() {
        assert_eq!(next_move(&[], |_, _| true), None);
        assert_eq!(next_move(&[lcore(1.0, &[9, 9])], |_, _| true), None);
        assert_eq!(next_move(&[lcore(0.69, &[9, 9]), lcore(0.0, &[])], |_, _| true), None, "it is not much");
        assert_eq!(
            next_move(&[lcore(1.0, &[9]), lcore(0.0, &[])], |_, _| true),
            None,
            "the other would be as busy"
        );
        assert_eq!(
            next_move(&[lcore(1.0, &[9, 9]), lcore(0.45, &[])], |_, _| true),
            None,
            "the gain is small"
        );
        assert_eq!(
            next_move(&[lcore(1.0, &[0, 0]), lcore(0.0, &[])], |_, _| true),
            None,
            "not with its queues"
        );
        assert!(next_move(&[lcore(1.0, &[9, 9]), lcore(0.3, &[])], |_, _| true).is_some());
    }

    #[test]
    fn an_lcore_near_to_the_port_comes_first() {
        // The lcores 0 and 1 are on one socket, 2 and 3 on another, as the ports 0 and 2.
        let is_near = |at: QueueAt, lcore: usize| at.port.is_multiple_of(2) == (lcore > 1);
        let to = |lcores: &[LcoreLoad]| next_move(lcores, is_near).map(|found| (found.queue.port, found.to));
        let idle = || lcore(0.0, &[]);
        let busy = |share| lcore(share, &[1]);
        assert_eq!(to(&[idle(), idle(), busy(0.2), lcore(0.9, &[1, 0, 1])]), Some((0, 2)), "near, if busier");
        assert_eq!(
            to(&[busy(0.1), idle(), busy(0.6), lcore(0.9, &[1, 0, 1])]),
            Some((0, 1)),
            "no near one gains"
        );
        // A queue that is far from home goes home.
        assert_eq!(to(&[busy(0.2), idle(), busy(0.3), lcore(0.9, &[5, 4])]), Some((1, 1)));
    }

    proptest! {
        /// Under constant load, moves end, and each makes the busiest of its two lcores less busy.
        #[test]
        fn moves_end(queues in prop::collection::vec((0_usize..4, 1_u64..1000), 1..20)) {
            let total: u64 = queues.iter().map(|(_, frames)| frames).sum();
            let mut lcores = vec![LcoreLoad::default(); 4];
            for (port, (lcore, frames)) in (0..).zip(&queues) {
                lcores[*lcore].queues.push((QueueAt { port, queue: 0 }, *frames));
            }
            let load = |lcore: &mut LcoreLoad| {
                let frames: u64 = lcore.queues.iter().map(|(_, frames)| frames).sum();
                lcore.busy = (frames as f64 * 2.5 / total as f64).min(1.0);
            };
            lcores.iter_mut().for_each(load);
            let mut moves = 0;
            while let Some(Move { queue, from, to }) = next_move(&lcores, |_, _| true) {
                let at = lcores[from].queues.iter().position(|(at, _)| *at == queue).unwrap();
                let moved = lcores[from].queues.swap_remove(at);
                lcores[to].queues.push(moved);
                lcores.iter_mut().for_each(load);
                moves += 1;
                prop_assert!(moves <= 3 * queues.len(), "{lcores:?}");
            }
        }
    }
}

//! The runs of a store. Each start of the board is a run with a random id. The list distinguishes a store from a copy of
//! it: both have the runs up to the copy, and different runs after it, although nothing in a file marks it as the copy.
//! Pure.

use crate::model::{Point, Uuid};

/// Most runs that a store remembers. A watcher that was disconnected for longer counts as one of
/// another branch.
pub const RUNS_KEPT: usize = 4096;

/// One start of the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Made at the start.
    pub id: Uuid,
    /// The store's revision at the start.
    pub first: u64,
}

/// The relation of a point to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// On its history: the same changes follow the point there and here.
    Same,
    /// The point names no run.
    Unknown,
    /// Of this board, but not on this store's history: the store was restored from a backup that is older than the
    /// point.
    OtherBranch,
    /// Of another board.
    OtherBoard,
}

/// The history of a store, as runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    board: Uuid,
    /// Oldest first; revisions do not decrease.
    runs: Vec<Run>,
}

impl Lineage {
    /// Of a board with these runs, oldest first; the last is the current one.
    #[must_use]
    pub fn new(board: Uuid, runs: Vec<Run>) -> Self {
        Self { board, runs }
    }

    /// The board.
    #[must_use]
    pub fn board(&self) -> Uuid {
        self.board
    }

    /// The current run.
    #[must_use]
    pub fn run(&self) -> Option<Uuid> {
        self.runs.last().map(|run| run.id)
    }

    /// The relation of `point` to this store, which is at revision `now`.
    #[must_use]
    pub fn relation(&self, point: &Point, now: u64) -> Relation {
        if point.board != self.board {
            return Relation::OtherBoard;
        }
        if point.revision > now {
            return Relation::OtherBranch;
        }
        let Some(run) = point.run else { return Relation::Unknown };
        let Some(at) = self.runs.iter().rposition(|known| known.id == run) else {
            return Relation::OtherBranch;
        };
        // Before its first revision a run has the history of the runs before it.
        let last = self.runs.get(at + 1).map_or(now, |next| next.first);
        if point.revision <= last { Relation::Same } else { Relation::OtherBranch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOARD: Uuid = Uuid::from_bytes([1; 16]);

    fn run(n: u8, first: u64) -> Run {
        Run { id: Uuid::from_bytes([n; 16]), first }
    }

    fn at(n: u8, revision: u64) -> Point {
        Point { board: BOARD, run: Some(Uuid::from_bytes([n; 16])), revision }
    }

    #[test]
    fn a_restored_backup_is_another_branch() {
        // Copied at revision 100. The original continued to 150, was started again, and continued to 200.
        let restored = Lineage::new(BOARD, vec![run(10, 0), run(12, 100)]);
        for (point, relation) in [
            (at(10, 90), Relation::Same),
            (at(10, 100), Relation::Same),
            (at(10, 101), Relation::OtherBranch),
            (at(11, 180), Relation::OtherBranch),
            // From a run that the copy does not know, with a revision before the copy.
            (at(11, 90), Relation::OtherBranch),
            (at(12, 100), Relation::Same),
            (at(12, 110), Relation::Same),
            (at(12, 121), Relation::OtherBranch),
            (Point { run: None, ..at(10, 90) }, Relation::Unknown),
            (Point { run: None, ..at(10, 121) }, Relation::OtherBranch),
            (Point { board: Uuid::from_bytes([2; 16]), ..at(10, 90) }, Relation::OtherBoard),
        ] {
            assert_eq!(restored.relation(&point, 120), relation, "{point:?}");
        }
    }

    /// A store that grows, is copied and continues from copies, in any order: a tree. `relation` is `Same` for exactly the
    /// points whose state this store had.
    #[derive(Debug, Clone)]
    enum Act {
        Commit(u8),
        Start,
        Restore(usize),
    }

    proptest! {
        #[test]
        fn same_means_that_this_store_had_that_state(
            acts in prop::collection::vec(prop_oneof![
                4 => (1..5u8).prop_map(Act::Commit),
                2 => Just(Act::Start),
                2 => any::<usize>().prop_map(Act::Restore),
            ], 1..40),
        ) {
            // The state of a revision is named by its commit; a store is its commits and its runs.
            let (mut states, mut runs) = (vec![0u32], vec![run(0, 0)]);
            let (mut next_state, mut next_run) = (1u32, 1u8);
            let mut copies = Vec::new();
            let mut points: Vec<(Point, Vec<u32>)> = Vec::new();
            for act in acts {
                match act {
                    Act::Commit(n) => for _ in 0..n {
                        states.push(next_state);
                        next_state += 1;
                    },
                    Act::Start => {
                        copies.push((states.clone(), runs.clone()));
                    }
                    Act::Restore(which) if !copies.is_empty() => {
                        (states, runs) = copies[which % copies.len()].clone();
                    }
                    Act::Restore(_) => continue,
                }
                if !matches!(act, Act::Commit(_)) {
                    runs.push(run(next_run, states.len() as u64 - 1));
                    next_run += 1;
                }
                let lineage = Lineage::new(BOARD, runs.clone());
                let now = states.len() as u64 - 1;
                for (point, history) in &points {
                    let had = states.get(..history.len()) == Some(history.as_slice());
                    let relation = lineage.relation(point, now);
                    // A run that this store does not know may have had the same state: then a snapshot is sent without need.
                    prop_assert!(relation != Relation::Same || had, "{point:?}");
                    let known = runs.iter().any(|run| Some(run.id) == point.run);
                    prop_assert!(!(had && known) || relation == Relation::Same, "{point:?}");
                }
                points.push((Point { board: BOARD, run: lineage.run(), revision: now }, states.clone()));
            }
        }
    }
}

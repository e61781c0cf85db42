//! A place in the history of a board.

use super::Uuid;

/// A place in the history of a board. A revision alone names nothing: a store that is restored from a backup tells
/// the same revisions again, of other states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Point {
    /// The board.
    pub board: Uuid,
    /// The run (start of the board) that told the revision; `None` = by a program that knows nothing of runs.
    pub run: Option<Uuid>,
    /// The revision.
    pub revision: u64,
}

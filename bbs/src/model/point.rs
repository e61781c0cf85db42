//! A place in the history of a board.

use super::Uuid;

/// A place in the history of a board. A revision alone does not identify a state: a store that is restored from a backup
/// has the same revision numbers again, with other states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Point {
    /// The board.
    pub board: Uuid,
    /// The run (start of the board) that sent the revision; `None` = sent by a program without runs.
    pub run: Option<Uuid>,
    /// The revision.
    pub revision: u64,
}

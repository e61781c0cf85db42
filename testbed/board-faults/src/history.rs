//! What the clients of a board did and saw, while it was killed, restored and disturbed in other ways. Values only.

use std::collections::BTreeSet;
use stopover_bbs::model::{Change, NodeBatch};
use stopover_net::{HostName, Mac, Vni};

/// The id of a run: a start of the board.
pub type RunId = u128;

/// A start of the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// From the board's log.
    pub id: RunId,
    /// The run from which its store is; `None` = the store was new.
    pub before: Option<RunId>,
    /// Its store is a backup of the run before, and not the store that this run left.
    pub restored: bool,
    /// The revision at its start.
    pub first: u64,
}

/// A node that was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Put {
    /// Network.
    pub vni: Vni,
    /// MAC.
    pub mac: Mac,
    /// Host.
    pub host: HostName,
    /// Its only address. No two writes have the same.
    pub ip: u32,
}

/// What a write does, if it is not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A host is there and up.
    Host(HostName),
    /// Nodes are there, all in one revision.
    Put(Vec<Put>),
    /// Nodes are gone, if they were there.
    Gone(Vec<(Vni, Mac)>),
}

/// An answer to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The run that answered.
    pub run: RunId,
    /// The revision; `None` = refused.
    pub revision: Option<u64>,
}

/// A request with a key of its own, sent once or several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// What it does.
    pub effect: Effect,
    /// All answers; empty = the outcome is not known.
    pub answers: Vec<Answer>,
}

/// What a watcher has seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// It opens a watch of these networks (`None` = all), from a state that it holds.
    Opened {
        /// The scope.
        scope: Option<BTreeSet<Vni>>,
        /// The state from which to resume.
        resume: Option<(RunId, u64)>,
    },
    /// The watch resumes.
    Resumed(RunId, u64),
    /// A snapshot begins.
    Begin(RunId, u64),
    /// A piece of a snapshot.
    Piece(Vec<Change>),
    /// A piece of a snapshot that consists of nodes.
    Nodes(Vec<NodeBatch>),
    /// The snapshot is complete.
    End(u64),
    /// The changes of a revision.
    Delta(u64, Vec<Change>),
    /// A piece of a change of scope, with the networks that are complete with it.
    Scope {
        /// Revision of the state.
        revision: u64,
        /// The piece.
        changes: Vec<Change>,
        /// Networks added.
        added: Vec<Vni>,
        /// Networks removed.
        removed: Vec<Vni>,
    },
    /// Nothing in scope has changed up to this revision.
    Progress(u64),
}

/// When it was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Milliseconds since the history began.
    pub at_ms: u64,
    /// What.
    pub seen: Seen,
}

/// A time from which on nothing disturbs the board or a client, such as the last start of the board: all must be in step
/// soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiet {
    /// Milliseconds since the history began.
    pub at_ms: u64,
    /// The run that serves.
    pub run: RunId,
    /// The board's revision when it answered first after that time.
    pub revision: u64,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// In order of time.
    pub runs: Vec<Run>,
    /// In the order in which they were sent first.
    pub writes: Vec<Write>,
    /// By watcher, in order of time.
    pub watchers: Vec<Vec<Record>>,
    /// In order of time.
    pub quiets: Vec<Quiet>,
}

//! The position of one watcher in the sequence of commits, without the connection: pure over [`History`] and [`Store`], so
//! that tests can stop it anywhere. The caller takes one [`Frame`] at a time, when the watcher is ready for it.
//!
//! Why no change is lost or sent twice: `position` is the revision whose state the watcher has after all frames so far. A
//! snapshot sets it to the revision of the view that it is read from. Every later commit is taken from the history in
//! order, or, if the history no longer has it, is part of a new snapshot.

use super::{
    cursor::{Cursor, Piece},
    history::{History, Since},
};
use crate::{
    board::{Lineage, Relation, record::Commit},
    model::{Change, NodeBatch, Point},
    store::{Store, StoreError, View},
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};
use stopover_net::Vni;

/// The networks that a watcher follows. It always follows the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// All networks.
    Everything,
    /// These.
    Networks(BTreeSet<Vni>),
}

/// The state that a watcher holds, from its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The state of this point.
    pub point: Point,
    /// It also holds parts of a newer state, and so cannot resume.
    pub partial: bool,
}

/// A message to the watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The watch resumes from the revision of the request.
    Resumed(u64),
    /// A snapshot begins.
    SnapshotBegin {
        /// Its revision.
        revision: u64,
        /// Why it is needed.
        why: String,
        /// The state that the watcher holds is not of this store's history.
        other_branch: bool,
    },
    /// A piece of a snapshot.
    SnapshotChunk(Vec<Change>),
    /// A piece of a snapshot that consists of nodes.
    SnapshotNodes(Vec<NodeBatch>),
    /// The snapshot is complete.
    SnapshotEnd(u64),
    /// A commit, or the part of it that is in scope.
    Delta {
        /// Its revision.
        revision: u64,
        /// Not empty.
        changes: Vec<Change>,
    },
    /// A piece of a change of scope.
    Scope {
        /// Revision of the state.
        revision: u64,
        /// Puts of added networks, removals of removed ones.
        changes: Vec<Change>,
        /// Added networks that are complete with this frame.
        added: Vec<Vni>,
        /// Removed networks that are complete with this frame.
        removed: Vec<Vni>,
    },
    /// Nothing in scope has changed up to this revision.
    Progress(u64),
}

enum Phase {
    Resume,
    Begin { why: String, other_branch: bool },
    Snapshot { view: Box<dyn View>, cursor: Cursor },
    Scope { view: Box<dyn View>, cursor: Cursor, add: Vec<Vni>, remove: Vec<Vni> },
    Follow,
}

/// See the module.
pub struct Follower {
    history: Arc<History>,
    store: Arc<dyn Store>,
    /// If the watcher is behind by more changes, it is sent a snapshot.
    backlog: u64,
    interest: Interest,
    /// Requested changes of scope, in order.
    scope_changes: VecDeque<InterestChange>,
    phase: Phase,
    position: u64,
    /// Last revision that was sent.
    reported: u64,
    fetched: VecDeque<Arc<Commit>>,
    /// Snapshots after the first.
    pub resyncs: u64,
}

/// Networks to add and to remove.
type InterestChange = (Vec<Vni>, Vec<Vni>);

impl Follower {
    /// Resumes from the state that the watcher holds if possible; otherwise begins with a snapshot.
    pub fn new(
        history: Arc<History>,
        store: Arc<dyn Store>,
        lineage: &Lineage,
        backlog: u64,
        interest: Interest,
        held: Option<Held>,
    ) -> Result<Self, StoreError> {
        let mut position = 0;
        let phase = match held {
            None => Phase::Begin { why: "a new watch".into(), other_branch: false },
            Some(Held { point, partial }) => {
                let (revision, now) = (point.revision, store.view()?.header().revision);
                let (why, other_branch) = match lineage.relation(&point, now) {
                    Relation::OtherBoard => ("the watcher holds the state of another board".into(), true),
                    Relation::OtherBranch => {
                        let why = format!(
                            "the watcher holds revision {revision} of another branch of this board's history, \
                             which is at revision {now} here: the store was restored from a backup"
                        );
                        (why, true)
                    }
                    Relation::Unknown => {
                        ("the watcher does not name the run of the state that it holds".into(), false)
                    }
                    Relation::Same if partial => ("the watcher holds pieces of a snapshot".into(), false),
                    Relation::Same if revision < history.oldest() => {
                        (format!("what followed revision {revision} has been compacted"), false)
                    }
                    Relation::Same => {
                        position = revision;
                        (String::new(), false)
                    }
                };
                if why.is_empty() { Phase::Resume } else { Phase::Begin { why, other_branch } }
            }
        };
        let reported = position;
        let (scope_changes, fetched) = (VecDeque::new(), VecDeque::new());
        Ok(Self {
            history,
            store,
            backlog,
            interest,
            scope_changes,
            phase,
            position,
            reported,
            fetched,
            resyncs: 0,
        })
    }

    /// Requests a change of scope. It is sent in order with all other frames.
    pub fn interest(&mut self, add: Vec<Vni>, remove: Vec<Vni>) {
        self.scope_changes.push_back((add, remove));
    }

    /// Networks followed; `None` = all.
    #[must_use]
    pub fn networks(&self) -> Option<usize> {
        match &self.interest {
            Interest::Everything => None,
            Interest::Networks(vnis) => Some(vnis.len()),
        }
    }

    /// Whether the revision has increased without a change in scope, and the watcher has not been sent it.
    #[must_use]
    pub fn progress_pending(&self) -> bool {
        self.position > self.reported
    }

    /// Whether the next frame needs the store, which may block.
    #[must_use]
    pub fn needs_store(&self) -> bool {
        !matches!(self.phase, Phase::Resume | Phase::Follow) || !self.scope_changes.is_empty()
    }

    /// The next frame; `None` = nothing to send before the next commit or change of scope. With `progress`, revisions
    /// without changes in scope are sent, too.
    pub fn next(&mut self, progress: bool) -> Result<Option<Frame>, StoreError> {
        loop {
            match std::mem::replace(&mut self.phase, Phase::Follow) {
                Phase::Resume => return Ok(Some(Frame::Resumed(self.position))),
                Phase::Begin { why, other_branch } => return self.begin(why, other_branch).map(Some),
                Phase::Snapshot { view, mut cursor } => {
                    if cursor.done() {
                        self.reported = self.position;
                        return Ok(Some(Frame::SnapshotEnd(self.position)));
                    }
                    let piece = cursor.next_piece(&*view)?;
                    self.phase = Phase::Snapshot { view, cursor };
                    match piece {
                        Piece::Changes(changes) if changes.is_empty() => {}
                        Piece::Changes(changes) => return Ok(Some(Frame::SnapshotChunk(changes))),
                        Piece::Nodes(batches) => return Ok(Some(Frame::SnapshotNodes(batches))),
                    }
                }
                Phase::Scope { view, cursor, add, remove } => {
                    if let Some(sent) = self.next_of_scope(view, cursor, add, remove)? {
                        return Ok(sent);
                    }
                }
                Phase::Follow => {
                    if self.change_scope()? {
                        continue;
                    }
                    if let Some(frame) = self.delta(u64::MAX) {
                        return Ok(Some(frame));
                    }
                    if matches!(self.phase, Phase::Begin { .. }) {
                        continue;
                    }
                    let report = progress && self.position > self.reported;
                    self.reported = if report { self.position } else { self.reported };
                    return Ok(report.then_some(Frame::Progress(self.position)));
                }
            }
        }
    }

    /// The next step of a change of scope: `Some(None)` = nothing to send yet, `None` = continue with the new phase.
    fn next_of_scope(
        &mut self,
        view: Box<dyn View>,
        mut cursor: Cursor,
        add: Vec<Vni>,
        remove: Vec<Vni>,
    ) -> Result<Option<Option<Frame>>, StoreError> {
        let revision = view.header().revision;
        if self.position < revision {
            // First the changes up to the view's revision, in the old scope.
            let frame = self.delta(revision);
            if matches!(self.phase, Phase::Begin { .. }) {
                // The snapshot has the old scope; the change follows it.
                self.scope_changes.push_front((add, remove));
                return Ok(None);
            }
            self.phase = Phase::Scope { view, cursor, add, remove };
            // No frame, and not at that revision: it is committed, but not published yet.
            return Ok((frame.is_some() || self.position < revision).then_some(frame));
        }
        let changes = cursor.next(&*view)?;
        self.reported = revision;
        if !cursor.done() {
            self.phase = Phase::Scope { view, cursor, add, remove };
            return Ok(Some(Some(Frame::Scope { revision, changes, added: vec![], removed: vec![] })));
        }
        if let Interest::Networks(vnis) = &mut self.interest {
            vnis.extend(&add);
            vnis.retain(|vni| !remove.contains(vni));
        }
        Ok(Some(Some(Frame::Scope { revision, changes, added: add, removed: remove })))
    }

    fn begin(&mut self, why: String, other_branch: bool) -> Result<Frame, StoreError> {
        let view = self.store.view()?;
        let revision = view.header().revision;
        self.position = revision;
        self.fetched.clear();
        let cursor = match &self.interest {
            Interest::Everything => Cursor::snapshot(None::<&BTreeSet<Vni>>),
            Interest::Networks(vnis) => Cursor::snapshot(Some(vnis)),
        };
        self.phase = Phase::Snapshot { view, cursor };
        Ok(Frame::SnapshotBegin { revision, why, other_branch })
    }

    /// Begins the requested change of scope, if there is one.
    fn change_scope(&mut self) -> Result<bool, StoreError> {
        let scope_changes = std::mem::take(&mut self.scope_changes);
        let Interest::Networks(now) = &self.interest else { return Ok(false) };
        if scope_changes.is_empty() {
            return Ok(false);
        }
        let mut wanted = now.clone();
        for (add, remove) in scope_changes {
            wanted.extend(add);
            for vni in remove {
                wanted.remove(&vni);
            }
        }
        let add: Vec<_> = wanted.difference(now).copied().collect();
        let remove: Vec<_> = now.difference(&wanted).copied().collect();
        if add.is_empty() && remove.is_empty() {
            return Ok(false);
        }
        let view = self.store.view()?;
        self.phase = Phase::Scope { view, cursor: Cursor::scope(&add, &remove), add, remove };
        Ok(true)
    }

    /// The next commit with changes in scope, up to `until`. May set the phase to a new snapshot.
    fn delta(&mut self, until: u64) -> Option<Frame> {
        while self.position < until {
            let Some(commit) = self.fetched.pop_front() else {
                match self.history.since(self.position, self.backlog) {
                    Since::Commits(commits) if commits.is_empty() => return None,
                    Since::Commits(commits) => self.fetched = commits.into(),
                    Since::Compacted => {
                        self.resync("what follows has been compacted: the watcher was too slow".into());
                        return None;
                    }
                    Since::TooFar(changes) => {
                        self.resync(format!("the watcher is {changes} changes behind"));
                        return None;
                    }
                }
                continue;
            };
            self.position = commit.revision;
            let changes: Vec<_> = commit.changes.iter().filter(|c| self.in_scope(c)).cloned().collect();
            if !changes.is_empty() {
                self.reported = commit.revision;
                return Some(Frame::Delta { revision: commit.revision, changes });
            }
        }
        None
    }

    fn resync(&mut self, why: String) {
        self.resyncs += 1;
        self.phase = Phase::Begin { why, other_branch: false };
    }

    fn in_scope(&self, change: &Change) -> bool {
        match (&self.interest, change.vni()) {
            (Interest::Everything, _) | (_, None) => true,
            (Interest::Networks(vnis), Some(vni)) => vnis.contains(&vni),
        }
    }
}

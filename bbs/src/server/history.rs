//! The last commits, in memory, for all followers. Bounded: older commits are compacted, and a follower that needs them
//! gets a snapshot. One writer; readers hold the lock only to copy a few pointers.

use crate::board::record::Commit;
use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};
use tokio::sync::watch;

/// Most commits returned at once.
const FETCH: usize = 64;

struct Kept {
    commit: Arc<Commit>,
    /// Number of changes published before this commit.
    before: u64,
}

struct Inner {
    commits: VecDeque<Kept>,
    /// Everything after this revision is in `commits`.
    oldest: u64,
    latest: u64,
    /// Number of changes published.
    published: u64,
}

/// The commits after a revision.
pub enum Since {
    /// The next commits, possibly not all; empty = there are none yet.
    Commits(Vec<Arc<Commit>>),
    /// Some of them are compacted.
    Compacted,
    /// They have more changes than the reader's backlog allows: this many.
    TooFar(u64),
}

/// The history.
pub struct History {
    inner: RwLock<Inner>,
    latest: watch::Sender<u64>,
    keep_changes: u64,
}

impl History {
    /// Begins at `revision`, with at most `keep_changes` changes to be kept.
    #[must_use]
    pub fn new(revision: u64, keep_changes: usize) -> Self {
        let inner = Inner { commits: VecDeque::new(), oldest: revision, latest: revision, published: 0 };
        Self {
            inner: RwLock::new(inner),
            latest: watch::Sender::new(revision),
            keep_changes: keep_changes as u64,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes durable commits. A gap before the first one (the part of a large load that is not kept) compacts all
    /// earlier commits.
    pub fn publish(&self, commits: Vec<Commit>) {
        let Some(last) = commits.last().map(|c| c.revision) else { return };
        {
            let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            for commit in commits {
                if commit.revision != inner.latest + 1 {
                    inner.commits.clear();
                    inner.oldest = commit.revision - 1;
                }
                inner.latest = commit.revision;
                let before = inner.published;
                inner.published += commit.changes.len() as u64;
                inner.commits.push_back(Kept { commit: Arc::new(commit), before });
            }
            while let Some(first) = inner.commits.front()
                && inner.published - first.before > self.keep_changes
            {
                inner.oldest = first.commit.revision;
                inner.commits.pop_front();
            }
        }
        self.latest.send_replace(last);
    }

    /// The commits after `revision`, unless there are more than `backlog` changes in them.
    #[must_use]
    pub fn since(&self, revision: u64, backlog: u64) -> Since {
        let inner = self.read();
        if revision < inner.oldest {
            return Since::Compacted;
        }
        // Revisions are consecutive, so the place can be computed.
        let skip = usize::try_from(revision - inner.oldest).unwrap_or(usize::MAX);
        let Some(first) = inner.commits.get(skip) else { return Since::Commits(Vec::new()) };
        let behind = inner.published - first.before;
        if behind > backlog {
            return Since::TooFar(behind);
        }
        Since::Commits(inner.commits.range(skip..).take(FETCH).map(|k| k.commit.clone()).collect())
    }

    /// Oldest revision from which a watch can resume without a snapshot.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.read().oldest
    }

    /// The last published revision.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.read().latest
    }

    /// Wakes when something is published.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Change;

    fn commit(revision: u64, changes: usize) -> Commit {
        Commit { revision, changes: (0..changes).map(|id| Change::HostGone { id: id as u32 }).collect() }
    }
    fn revisions(since: Since) -> Vec<u64> {
        match since {
            Since::Commits(c) => c.iter().map(|c| c.revision).collect(),
            Since::Compacted => panic!("compacted"),
            Since::TooFar(n) => panic!("{n} behind"),
        }
    }

    #[test]
    fn keeps_the_last_changes_and_reports_compaction() {
        let h = History::new(10, 5);
        h.publish(vec![commit(11, 2), commit(12, 2)]);
        assert_eq!(revisions(h.since(10, 100)), [11, 12]);
        assert_eq!(revisions(h.since(11, 100)), [12]);
        assert!(revisions(h.since(12, 100)).is_empty());
        assert!(matches!(h.since(9, 100), Since::Compacted));
        assert!(matches!(h.since(10, 3), Since::TooFar(4)));
        h.publish(vec![commit(13, 2)]);
        assert_eq!(h.oldest(), 11, "six changes are one too many");
        assert!(matches!(h.since(10, 100), Since::Compacted));
        assert_eq!(revisions(h.since(11, 100)), [12, 13]);
        h.publish(vec![commit(20, 1)]);
        assert!(matches!(h.since(13, 100), Since::Compacted), "14 to 19 were never there");
        assert_eq!(revisions(h.since(19, 100)), [20]);
        assert_eq!(h.latest(), 20);
    }
}

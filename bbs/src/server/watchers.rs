//! The open watches: the last revision sent to each, and the last one that each has acknowledged.

use crate::board::Session;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use stopover_net::HostName;
use tokio::sync::Notify;

/// One open watch. Its own task writes it, lists read it.
#[derive(Debug)]
pub struct Watcher {
    /// Unique while the board runs.
    pub id: u64,
    /// Host or tool.
    pub name: String,
    /// Its address, or `unix`.
    pub peer: String,
    /// The session of the host whose watch it is. Only such a watch acknowledges for a host.
    pub session: Option<Session>,
    /// The board's revision when it was opened.
    pub opened: u64,
    /// Follows every network.
    pub everything: bool,
    /// Last revision sent.
    pub sent: AtomicU64,
    /// Last revision acknowledged.
    pub acked: AtomicU64,
    /// Networks followed.
    pub networks: AtomicU64,
    /// Snapshots after the first.
    pub resyncs: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: BTreeMap<u64, Arc<Watcher>>,
    /// Last acknowledgement of each host, over reconnections.
    acked: HashMap<HostName, u64>,
    /// Acknowledgements that have not been forwarded to the board yet.
    fresh: HashMap<HostName, (u64, u64)>,
}

/// Most hosts remembered after their watch has closed.
const NAMES: usize = 65_536;

/// All watches.
#[derive(Debug, Default)]
pub struct Watchers {
    inner: Mutex<Inner>,
    acks: Notify,
}

/// Removes the watch from the list when it is dropped.
pub struct Entry {
    /// The watch.
    pub watcher: Arc<Watcher>,
    list: Arc<Watchers>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.list.lock().open.remove(&self.watcher.id);
    }
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a watch. With `session`, it is the watch of that host.
    pub fn open(
        self: &Arc<Self>,
        name: String,
        peer: String,
        everything: bool,
        session: Option<Session>,
        revision: u64,
    ) -> Entry {
        let mut inner = self.lock();
        inner.next += 1;
        let watcher = Arc::new(Watcher {
            id: inner.next,
            name,
            peer,
            session,
            opened: revision,
            everything,
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            networks: AtomicU64::new(0),
            resyncs: AtomicU64::new(0),
        });
        inner.open.insert(watcher.id, watcher.clone());
        drop(inner);
        Entry { watcher, list: self.clone() }
    }

    /// The watcher acknowledges that everything up to `revision` is in force.
    pub fn ack(&self, watcher: &Watcher, revision: u64) {
        watcher.acked.fetch_max(revision, Relaxed);
        let Some(Session { host, number }) = watcher.session.clone() else { return };
        let mut inner = self.lock();
        if inner.acked.len() >= NAMES && !inner.acked.contains_key(&host) {
            inner.acked.clear();
        }
        // Not the maximum: after a restart an appliance begins with older revisions again.
        inner.acked.insert(host.clone(), revision);
        inner.fresh.insert(host, (number, revision));
        drop(inner);
        self.acks.notify_one();
    }

    /// Resolves after an acknowledgement since the last call. For one caller.
    pub async fn acknowledged(&self) {
        self.acks.notified().await;
    }

    /// Acknowledgements of hosts since the last call, each with its session.
    #[must_use]
    pub fn take_acks(&self) -> Vec<(Session, u64)> {
        let fresh = std::mem::take(&mut self.lock().fresh);
        fresh.into_iter().map(|(host, (number, revision))| (Session { host, number }, revision)).collect()
    }

    /// Open watches with ids greater than `after`.
    #[must_use]
    pub fn list_after(&self, after: u64, limit: usize) -> Vec<Arc<Watcher>> {
        self.lock().open.range(after.saturating_add(1)..).take(limit).map(|(_, w)| w.clone()).collect()
    }

    /// By host: whether its watch is open, and the last revision that it acknowledged.
    #[must_use]
    pub fn by_host(&self) -> HashMap<HostName, (bool, u64)> {
        let inner = self.lock();
        let mut all: HashMap<_, _> = inner.acked.iter().map(|(n, r)| (n.clone(), (false, *r))).collect();
        for session in inner.open.values().filter_map(|watcher| watcher.session.as_ref()) {
            all.entry(session.host.clone()).or_default().0 = true;
        }
        all
    }

    /// The figures for the metrics, at this revision.
    #[must_use]
    pub fn summary(&self, revision: u64) -> Summary {
        let inner = self.lock();
        let mut summary = Summary { open: inner.open.len() as u64, ..Summary::default() };
        for watcher in inner.open.values() {
            let acked = watcher.acked.load(Relaxed);
            if acked == 0 && watcher.session.is_none() {
                // A tool, which forwards nothing.
                continue;
            }
            summary.silent += u64::from(acked == 0);
            let from = if acked == 0 { watcher.opened } else { acked };
            summary.lag = summary.lag.max(revision.saturating_sub(from));
        }
        summary
    }
}

/// A summary of the watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Open watches.
    pub open: u64,
    /// Watches of hosts that have acknowledged nothing yet.
    pub silent: u64,
    /// Revisions by which the slowest watch is behind. One that has acknowledged nothing counts from its opening.
    pub lag: u64,
}

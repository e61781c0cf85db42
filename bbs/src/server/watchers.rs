//! Who watches, how far each has been sent, and what each has acknowledged.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

/// One open watch. Its own task writes, lists read.
#[derive(Debug)]
pub struct Watcher {
    /// Unique while the board runs.
    pub id: u64,
    /// Host or tool.
    pub name: String,
    /// Where it is.
    pub peer: String,
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
    /// Last acknowledgement by name, over reconnections.
    acked: HashMap<String, u64>,
}

/// Names remembered after their watch has closed.
const NAMES: usize = 65_536;

/// All watches.
#[derive(Debug, Default)]
pub struct Watchers {
    inner: Mutex<Inner>,
    acks: Notify,
}

/// Takes the watch off the list when it ends.
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

    /// A new watch.
    pub fn open(self: &Arc<Self>, name: String, peer: String, everything: bool) -> Entry {
        let mut inner = self.lock();
        inner.next += 1;
        let watcher = Arc::new(Watcher {
            id: inner.next,
            name,
            peer,
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

    /// Everything up to `revision` is in force at the watcher.
    pub fn ack(&self, watcher: &Watcher, revision: u64) {
        watcher.acked.fetch_max(revision, Relaxed);
        let mut inner = self.lock();
        if inner.acked.len() >= NAMES && !inner.acked.contains_key(&watcher.name) {
            inner.acked.clear();
        }
        // Not the maximum: after a restart an appliance begins again.
        inner.acked.insert(watcher.name.clone(), revision);
        drop(inner);
        self.acks.notify_one();
    }

    /// Resolves when something has been acknowledged since the last time; for one listener.
    pub async fn acknowledged(&self) {
        self.acks.notified().await;
    }

    /// All open watches.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Watcher>> {
        self.lock().open.values().cloned().collect()
    }

    /// By name: is a watch open, and what was acknowledged last.
    #[must_use]
    pub fn by_name(&self) -> HashMap<String, (bool, u64)> {
        let inner = self.lock();
        let mut all: HashMap<_, _> = inner.acked.iter().map(|(n, r)| (n.clone(), (false, *r))).collect();
        for watcher in inner.open.values() {
            all.entry(watcher.name.clone()).or_default().0 = true;
        }
        all
    }

    /// How many, and the lowest revision acknowledged among those that acknowledge at all.
    #[must_use]
    pub fn summary(&self) -> (u64, Option<u64>) {
        let inner = self.lock();
        let acked = inner.open.values().map(|w| w.acked.load(Relaxed)).filter(|r| *r > 0).min();
        (inner.open.len() as u64, acked)
    }
}

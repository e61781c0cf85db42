//! Figures for Prometheus, served as text on `/metrics`.

use super::watchers::{Summary, Watchers};
use crate::board::{Counts, Refusal};
use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Counters and gauges. Each is a statistic by itself; nothing is decided by them.
#[derive(Debug, Default)]
pub struct Metrics {
    revision: AtomicU64,
    hosts: AtomicU64,
    hosts_up: AtomicU64,
    networks: AtomicU64,
    nodes: AtomicU64,
    members: AtomicU64,
    commands: AtomicU64,
    refused_conflict: AtomicU64,
    refused_fenced: AtomicU64,
    refused_other: AtomicU64,
    /// Messages refused before they reached the board.
    pub malformed: AtomicU64,
    transactions: AtomicU64,
    transaction_us: AtomicU64,
    /// Snapshots sent because a watcher was too slow.
    pub resyncs: AtomicU64,
    /// Snapshots sent for any reason.
    pub snapshots: AtomicU64,
    /// Acknowledgements of what was not sent on their stream.
    pub stray_acks: AtomicU64,
    /// Snapshots sent to watchers that held another board's state or another branch's.
    pub other_branch: AtomicU64,
}

impl Metrics {
    pub(super) fn counted(&self, c: Counts, revision: u64) {
        self.revision.store(revision, Relaxed);
        self.hosts.store(c.hosts, Relaxed);
        self.hosts_up.store(c.hosts_up, Relaxed);
        self.networks.store(c.networks, Relaxed);
        self.nodes.store(c.nodes, Relaxed);
        self.members.store(c.members, Relaxed);
    }

    pub(super) fn applied(&self, refused: Option<&Refusal>) {
        self.commands.fetch_add(1, Relaxed);
        match refused {
            None => return,
            Some(Refusal::Conflict(_) | Refusal::Rows { .. }) => &self.refused_conflict,
            Some(Refusal::Fenced(_) | Refusal::Unregistered(_)) => &self.refused_fenced,
            Some(_) => &self.refused_other,
        }
        .fetch_add(1, Relaxed);
    }

    pub(super) fn committed(&self, took: Duration) {
        self.transactions.fetch_add(1, Relaxed);
        self.transaction_us.fetch_add(took.as_micros() as u64, Relaxed);
    }

    /// The text format of Prometheus.
    #[must_use]
    pub fn text(&self, watchers: &Watchers) -> String {
        let get = |n: &AtomicU64| n.load(Relaxed);
        let revision = get(&self.revision);
        let Summary { open, silent, lag } = watchers.summary(revision);
        let mut out = String::new();
        let mut put = |name: &str, kind: &str, help: &str, values: &[(&str, f64)]| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP stopover_bbs_{name} {help}\n# TYPE stopover_bbs_{name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(out, "stopover_bbs_{name}{labels} {value}");
            }
        };
        let one = |n: u64| [("", n as f64)];
        put("revision", "counter", "Last committed revision.", &one(revision));
        let up = get(&self.hosts_up);
        let down = get(&self.hosts).saturating_sub(up);
        put(
            "hosts",
            "gauge",
            "Hosts by state.",
            &[("{state=\"up\"}", up as f64), ("{state=\"down\"}", down as f64)],
        );
        put("networks", "gauge", "Networks, declared or not.", &one(get(&self.networks)));
        put("nodes", "gauge", "Nodes.", &one(get(&self.nodes)));
        put("members", "gauge", "Memberships.", &one(get(&self.members)));
        put("commands_total", "counter", "Commands applied or refused.", &one(get(&self.commands)));
        put(
            "refused_total",
            "counter",
            "Calls refused, by reason.",
            &[
                ("{reason=\"conflict\"}", get(&self.refused_conflict) as f64),
                ("{reason=\"session\"}", get(&self.refused_fenced) as f64),
                ("{reason=\"malformed\"}", get(&self.malformed) as f64),
                ("{reason=\"other\"}", get(&self.refused_other) as f64),
            ],
        );
        put("transactions_total", "counter", "Store transactions.", &one(get(&self.transactions)));
        let seconds = get(&self.transaction_us) as f64 / 1e6;
        put("transaction_seconds_total", "counter", "Time spent in store transactions.", &[("", seconds)]);
        put("watchers", "gauge", "Open watches.", &one(open));
        put("watchers_silent", "gauge", "Watches of hosts that have acknowledged nothing yet.", &one(silent));
        put(
            "watch_lag_revisions",
            "gauge",
            "How far the slowest acknowledgement is behind; of a silent watch, since it was opened.",
            &one(lag),
        );
        put("snapshots_total", "counter", "Snapshots sent to watchers.", &one(get(&self.snapshots)));
        put(
            "resyncs_total",
            "counter",
            "Snapshots sent because a watcher was too slow.",
            &one(get(&self.resyncs)),
        );
        put(
            "other_branch_total",
            "counter",
            "Snapshots sent to watchers that held the state of another board or branch of its history.",
            &one(get(&self.other_branch)),
        );
        put(
            "stray_acks_total",
            "counter",
            "Acknowledgements of revisions not sent on their stream; not counted.",
            &one(get(&self.stray_acks)),
        );
        out
    }
}

/// Serves `/metrics` until `stop` resolves.
pub(super) async fn serve(
    listener: tokio::net::TcpListener,
    metrics: Arc<Metrics>,
    watchers: Arc<Watchers>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let page = move || {
        let text = metrics.text(&watchers);
        async move { ([("content-type", "text/plain; version=0.0.4")], text) }
    };
    let app = axum::Router::new().route("/metrics", axum::routing::get(page));
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

//! Figures for Prometheus, served as text on `/metrics`.

use super::watchers::{Summary, Watchers};
use crate::{
    access::Role,
    board::{Counts, Refusal},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, prometheus_text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use stopover_pki::Refusal as RefusedPeer;

use stopover_config::bbs::Limit;

/// A gauge of a count.
type Number = Gauge<u64, AtomicU64>;
/// One label.
type LabelSet = [(&'static str, &'static str); 1];

/// The counters and gauges of the board. For statistics only: the board does not read them.
#[derive(Debug)]
pub struct Metrics {
    revision: Number,
    hosts: Family<LabelSet, Number>,
    networks: Number,
    nodes: Number,
    members: Number,
    commands: Counter,
    refused: Family<LabelSet, Counter>,
    denied: Family<LabelSet, Counter>,
    limited: Family<LabelSet, Counter>,
    transaction_seconds: Histogram,
    refused_peers: Family<LabelSet, Counter>,
    cut_peers: Family<LabelSet, Counter>,
    reloads: Family<LabelSet, Counter>,
    newcomers: Family<LabelSet, Counter>,
    /// Open connections with TLS.
    pub(super) tls_connections: Number,
    /// 1 while it listens at plain TCP.
    pub(super) insecure: Number,
    read_only: Number,
    free_bytes: Number,
    /// Snapshots sent because a watcher was too slow.
    pub resyncs: Counter,
    /// Snapshots sent for any reason.
    pub snapshots: Counter,
    /// Acknowledgements of what was not sent on their stream.
    pub stray_acks: Counter,
    /// Snapshots sent to watchers that held another board's state or another branch's.
    pub other_branch: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let refused = Family::<LabelSet, Counter>::default();
        for reason in ["conflict", "session", "malformed", "read_only", "quota", "other"] {
            let _from_zero = refused.get_or_create(&[("reason", reason)]);
        }
        let denied = Family::<LabelSet, Counter>::default();
        for role in Role::ALL.iter().map(|role| role.name()).chain(["nobody"]) {
            let _from_zero = denied.get_or_create(&[("role", role)]);
        }
        let (refused_peers, cut_peers) =
            (Family::<LabelSet, Counter>::default(), Family::<LabelSet, Counter>::default());
        for reason in RefusedPeer::NAMES {
            let _from_zero = refused_peers.get_or_create(&[("reason", reason)]);
        }
        for reason in ["authority", "expired", "revoked"] {
            let _from_zero = cut_peers.get_or_create(&[("reason", reason)]);
        }
        let reloads = Family::<LabelSet, Counter>::default();
        for result in ["used", "refused"] {
            let _from_zero = reloads.get_or_create(&[("result", result)]);
        }
        let limited = Family::<LabelSet, Counter>::default();
        for limit in Limit::ALL {
            let _from_zero = limited.get_or_create(&[("limit", limit.name())]);
        }
        let newcomers = Family::<LabelSet, Counter>::default();
        for result in ["enrolled", "token", "request", "too_often", "ca", "handshake", "connections"] {
            let _from_zero = newcomers.get_or_create(&[("result", result)]);
        }
        Self {
            revision: Number::default(),
            hosts: Family::default(),
            networks: Number::default(),
            nodes: Number::default(),
            members: Number::default(),
            commands: Counter::default(),
            refused,
            denied,
            refused_peers,
            cut_peers,
            reloads,
            newcomers,
            tls_connections: Number::default(),
            limited,
            // 100 µs to 6.6 s.
            transaction_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 17)),
            insecure: Number::default(),
            read_only: Number::default(),
            free_bytes: Number::default(),
            resyncs: Counter::default(),
            snapshots: Counter::default(),
            stray_acks: Counter::default(),
            other_branch: Counter::default(),
        }
    }
}

impl Metrics {
    pub(super) fn set_counts(&self, c: Counts, revision: u64) {
        self.revision.set(revision);
        self.hosts.get_or_create(&[("state", "up")]).set(c.hosts_up);
        self.hosts.get_or_create(&[("state", "down")]).set(c.hosts.saturating_sub(c.hosts_up));
        self.networks.set(c.networks);
        self.nodes.set(c.nodes);
        self.members.set(c.members);
    }

    /// The free bytes of the store's disk, if it has a limit, and whether the board takes no writes.
    pub(super) fn set_store(&self, free: Option<u64>, read_only: bool) {
        self.free_bytes.set(free.unwrap_or(u64::MAX));
        self.read_only.set(u64::from(read_only));
    }

    pub(super) fn count_command(&self, refused: Option<&Refusal>) {
        self.commands.inc();
        match refused {
            None => {}
            Some(Refusal::Conflict(_) | Refusal::Rows { .. }) => self.count_refused("conflict"),
            Some(Refusal::Fenced(_) | Refusal::Unregistered(_)) => self.count_refused("session"),
            Some(Refusal::ReadOnly(_)) => self.count_refused("read_only"),
            Some(Refusal::Quota(_)) => self.count_refused("quota"),
            Some(_) => self.count_refused("other"),
        }
    }

    /// A message refused before it reached the board.
    pub(super) fn count_malformed(&self) {
        self.count_refused("malformed");
    }

    /// A call of a caller that may not make it. The role is "nobody" of one that is not known.
    pub(super) fn count_denied(&self, role: &'static str) {
        self.denied.get_or_create(&[("role", role)]).inc();
    }

    /// A handshake that came to nothing.
    pub(super) fn count_refused_peer(&self, reason: &'static str) {
        self.refused_peers.get_or_create(&[("reason", reason)]).inc();
    }

    /// A connection that was closed because its certificate would not be admitted any more.
    pub(super) fn count_cut_peer(&self, reason: &'static str) {
        self.cut_peers.get_or_create(&[("reason", reason)]).inc();
    }

    /// Other credentials in the folder, which are used or not.
    pub(super) fn count_reload(&self, result: &'static str) {
        self.reloads.get_or_create(&[("result", result)]).inc();
    }

    /// A call or a connection that would exceed a limit.
    pub(super) fn count_limited(&self, limit: Limit) {
        self.limited.get_or_create(&[("limit", limit.name())]).inc();
    }

    /// Somebody who wants a certificate, and what became of it.
    pub(super) fn count_newcomer(&self, result: &'static str) {
        self.newcomers.get_or_create(&[("result", result)]).inc();
    }

    fn count_refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    pub(super) fn observe_commit(&self, took: Duration) {
        self.transaction_seconds.observe(took.as_secs_f64());
    }

    /// All metrics: these, and those of the watches.
    fn registry(&self, watchers: Arc<Watchers>) -> Registry {
        let mut registry = Registry::with_prefix("stopover");
        registry.register_collector(Box::new(LostLines));
        let r = registry.sub_registry_with_prefix("bbs");
        r.register("revision", "Last committed revision", self.revision.clone());
        r.register("hosts", "Hosts by state", self.hosts.clone());
        r.register("networks", "Networks, declared or not", self.networks.clone());
        r.register("nodes", "Nodes", self.nodes.clone());
        r.register("members", "Memberships", self.members.clone());
        r.register("commands", "Commands applied or refused", self.commands.clone());
        r.register("refused", "Calls refused, by reason", self.refused.clone());
        r.register("denied", "Calls of callers that may not make them, by role", self.denied.clone());
        let help = "TLS handshakes that came to nothing, by reason";
        r.register("tls_refused", help, self.refused_peers.clone());
        let help = "TLS connections closed because their certificates are not admitted any more, by reason";
        r.register("tls_closed", help, self.cut_peers.clone());
        let help = "Changes of the credentials' folder, by whether they are used";
        r.register("tls_reloads", help, self.reloads.clone());
        let help = "Attempts to get a certificate by a token, by what became of them";
        r.register("enrolments", help, self.newcomers.clone());
        r.register("tls_connections", "Open connections with TLS", self.tls_connections.clone());
        r.register("limited", "Calls and connections beyond a limit, by limit", self.limited.clone());
        let help =
            "1 while the board listens at plain TCP, where anyone who reaches the port may do anything";
        r.register("insecure", help, self.insecure.clone());
        let transactions = self.transaction_seconds.clone();
        r.register_with_unit("transaction", "Duration of store transactions", Unit::Seconds, transactions);
        let help = "1 while the board takes no writes: its disk is full, or a record is unreadable";
        r.register("read_only", help, self.read_only.clone());
        let help = "Free space of the disk of the store";
        r.register_with_unit("store_disk_free", help, Unit::Bytes, self.free_bytes.clone());
        r.register("snapshots", "Snapshots sent to watchers", self.snapshots.clone());
        r.register("resyncs", "Snapshots sent because a watcher was too slow", self.resyncs.clone());
        r.register(
            "other_branch",
            "Snapshots sent to watchers that held the state of another board or branch of its history",
            self.other_branch.clone(),
        );
        r.register(
            "stray_acks",
            "Acknowledgements of revisions not sent on their stream; not counted",
            self.stray_acks.clone(),
        );
        r.register_collector(Box::new(Watches { watchers, revision: self.revision.clone() }));
        registry
    }
}

/// Reads the log when the page is requested.
#[derive(Debug)]
struct LostLines;

impl Collector for LostLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let counter = ConstCounter::new(stopover_logging::dropped());
        let help = "Lines of the log that stderr did not take";
        counter.encode(encoder.encode_descriptor("log_lines_dropped", help, None, counter.metric_type())?)
    }
}

/// Reads the open watches when the page is requested.
#[derive(Debug)]
struct Watches {
    watchers: Arc<Watchers>,
    revision: Number,
}

impl Collector for Watches {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let Summary { open, silent, lag } = self.watchers.summary(self.revision.get());
        for (name, help, value) in [
            ("watchers", "Open watches", open),
            ("watchers_silent", "Watches of hosts that have acknowledged nothing yet", silent),
            (
                "watch_lag_revisions",
                "How far the slowest acknowledgement is behind; of a silent watch, since it was opened",
                lag,
            ),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// Serves `/metrics` until `stop` resolves.
pub(super) async fn serve(
    listener: tokio::net::TcpListener,
    metrics: Arc<Metrics>,
    watchers: Arc<Watchers>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let registry = Arc::new(metrics.registry(watchers));
    let page = move || {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_text::encode(&mut text, &registry);
        async move { ([("content-type", prometheus_text::CONTENT_TYPE)], text) }
    };
    let app = axum::Router::new().route("/metrics", axum::routing::get(page));
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

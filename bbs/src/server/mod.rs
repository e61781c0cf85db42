//! The server of the board: sockets, gRPC, the only thread that writes, watches, metrics.
//!
//! | File | Contents |
//! |---|---|
//! | `listen` | sockets |
//! | `tls`, `refused_peers` | connections with certificates; which refused peers are logged |
//! | `enrol`, `attempts` | the endpoint of newcomers, who have no certificate; how often they may try |
//! | `caller` | whom a connection is of |
//! | `door` | the only way of a call to the board's thread and store |
//! | `denials` | which denied calls are logged |
//! | `gate` | how many connections there are |
//! | `slots`, `rates`, `turns` | what is open at once, how often one calls, whose call is next |
//! | `paced` | long answers, at the speed of their reader, if it has one |
//! | `services`, `rpc` | the services: messages are checked and passed to the engine |
//! | `load`, `lists`, `watch` | their streaming calls |
//! | `migrations` | calls about migrations, and acknowledgements for their barriers |
//! | `engine` | the only thread that changes the board; group commit |
//! | `writer` | its store: terms, and what each answer to a transaction means |
//! | `read_only` | when the board takes no writes: a full disk, an unreadable record |
//! | `backup` | all records of a running board, for a file |
//! | `inspect` | what is wrong with the content of a store |
//! | `restore` | the board from its records |
//! | `history`, `cursor`, `follower` | which frames a watcher is sent, and in which order |
//! | `watchers`, `metrics` | the open watches and figures for the operator |

mod attempts;
mod backup;
mod caller;
mod cursor;
mod denials;
mod door;
mod engine;
mod enrol;
mod follower;
mod gate;
mod history;
pub mod inspect;
mod listen;
mod lists;
mod load;
mod metrics;
mod migrations;
mod paced;
mod rates;
mod read_only;
mod refuse;
mod refused_peers;
mod restore;
mod rpc;
mod services;
mod slots;
mod tls;
mod turns;
mod watch;
mod watchers;
mod writer;

pub use caller::Proof;
pub use engine::{Engine, Started, Unanswered, start as start_engine};
pub use follower::{Follower, Frame, Held, Interest};
pub use history::{History, Since};
pub use metrics::Metrics;
pub use read_only::{RESERVE, ROOM};
pub use restore::restore;
pub use watchers::Watchers;
pub use writer::{Failure, Writer, lineage};

use crate::{
    board::Absence,
    proto::{
        MAX_MESSAGE_BYTES,
        v1::{
            board_server::BoardServer, host_service_server::HostServiceServer,
            observer_service_server::ObserverServiceServer, operator_service_server::OperatorServiceServer,
        },
    },
    store::Store,
};
use anyhow::Context;
use caller::Transport;
use listen::Listener;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use stopover_config::{
    Endpoint,
    bbs::{Enrol, Limits, UnixUsers, defaults},
};
use stopover_pki::ServerTls;
use tls::Tls;
use tokio::{sync::watch as signal, task::JoinSet};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};

/// Time after which remaining connections are closed.
const GRACE: Duration = Duration::from_millis(1500);
/// A connection ends if its peer does not answer an HTTP/2 ping for this long.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Calls of one connection at once. A client has fewer, or waits.
const STREAMS: u32 = 4096;
/// Most bytes of the headers of a call.
const HEADER_BYTES: u32 = 16 << 10;
/// Calls of one connection that were reset before they began; one more ends it (CVE-2023-44487).
const RESETS: usize = 64;

/// Configuration of the server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where gRPC is served.
    pub listen: Vec<Endpoint>,
    /// The folder of the board's credentials, if it listens with TLS.
    pub tls: Option<PathBuf>,
    /// Where newcomers get their certificates, if anywhere.
    pub enrol: Option<Enrol>,
    /// What the users of this machine are.
    pub unix: UnixUsers,
    /// Where Prometheus scrapes.
    pub metrics: Option<SocketAddr>,
    /// Interval at which hosts are to send heartbeats.
    pub heartbeat: Duration,
    /// Time without a sign of life after which a host is down.
    pub lease: Duration,
    /// How hosts that remain down are handled.
    pub absence: Absence,
    /// Changes kept for watchers to resume.
    pub history: usize,
    /// A watcher that is behind by more changes is sent a snapshot.
    pub watcher_backlog: usize,
    /// The wall clock. It is for display alone, and may jump.
    pub wall_clock: fn() -> SystemTime,
    /// What may grow, and how far.
    pub limits: Limits,
}

impl ServerConfig {
    /// With the defaults of the configuration file for everything else.
    #[must_use]
    pub fn new(listen: Vec<Endpoint>) -> Self {
        Self {
            listen,
            tls: None,
            enrol: None,
            unix: UnixUsers::default(),
            metrics: None,
            heartbeat: Duration::from_millis(defaults::HEARTBEAT_MS),
            lease: Duration::from_millis(defaults::HOST_TIMEOUT_MS),
            absence: Absence::default(),
            history: defaults::HISTORY,
            watcher_backlog: defaults::WATCHER_BACKLOG,
            wall_clock: SystemTime::now,
            limits: Limits::default(),
        }
    }
}

/// A running board.
pub struct Server {
    endpoints: Vec<Endpoint>,
    enrol: Option<Endpoint>,
    metrics: Option<SocketAddr>,
    stop: signal::Sender<bool>,
    failed: signal::Receiver<Option<String>>,
    tasks: JoinSet<anyhow::Result<()>>,
    sockets: Vec<PathBuf>,
    thread: std::thread::JoinHandle<()>,
}

impl Server {
    /// Opens every socket, reads the store, and serves. Nothing is half started: an error leaves nothing running.
    pub async fn start(config: ServerConfig, store: Arc<dyn Store>) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let tls = tls(&config, &metrics)?;
        let mut listeners = Vec::new();
        let mut endpoints = Vec::new();
        for endpoint in &config.listen {
            let (listener, endpoint) = listen::listen(endpoint).await?;
            listeners.push(listener);
            endpoints.push(endpoint);
        }
        let newcomers = enrol::listen(config.enrol).await?;
        let metrics_listener = listen_for_scrapes(config.metrics).await?;
        let insecure = endpoints.iter().any(Endpoint::is_plain);
        metrics.insecure.set(u64::from(insecure));
        let watchers = Arc::new(Watchers::default());
        let started = engine::start(
            store.clone(),
            config.lease,
            config.history,
            config.absence,
            metrics.clone(),
            config.wall_clock,
            config.limits,
        )?;
        let Started { engine, history, lineage, events, barriers, failed, read_only, thread } = started;
        let (stop, stopping) = signal::channel(false);
        tokio::spawn(migrations::forward_acks(engine.clone(), watchers.clone(), barriers, stopping.clone()));
        let users = caller::Users::new(config.unix);
        let slots = slots::Slots::new(config.limits);
        let gate = gate::Gate::new(slots.clone(), metrics.clone());
        let service = rpc::Rpc {
            door: door::Door::new(engine, store, users, metrics.clone(), (config.limits, slots)),
            history,
            lineage,
            events,
            watchers: watchers.clone(),
            read_only,
            metrics: metrics.clone(),
            lease: config.lease,
            heartbeat: config.heartbeat,
            backlog: config.watcher_backlog as u64,
            insecure,
            stopping: stopping.clone(),
        };
        let mut tasks = JoinSet::new();
        let sockets = listeners.iter().filter_map(Listener::path).collect();
        for listener in listeners {
            serve(&mut tasks, (listener, tls.as_ref(), gate.clone()), service.clone(), stopping.clone());
        }
        let enrol = enrol::start(&mut tasks, newcomers, tls.as_ref(), &metrics, &stopping);
        tls.map(|tls| tokio::spawn(tls::follow(tls, stopping.clone())));
        let metrics_address = metrics_listener.as_ref().and_then(|l| l.local_addr().ok());
        if let Some(listener) = metrics_listener {
            let stopped = wait_for_stop(stopping);
            tasks.spawn(async move { Ok(metrics::serve(listener, metrics, watchers, stopped).await?) });
        }
        log_listening(&endpoints);
        Ok(Self { endpoints, enrol, metrics: metrics_address, stop, failed, tasks, sockets, thread })
    }

    /// Where it listens, with the real ports.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Where newcomers get their certificates, with the real port.
    #[must_use]
    pub fn enrol(&self) -> Option<&Endpoint> {
        self.enrol.as_ref()
    }

    /// Where metrics are served, with the real port.
    #[must_use]
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Resolves when the board cannot continue, with the reason.
    pub async fn failure(&mut self) -> String {
        let store_failed = async {
            match self.failed.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_) => "the board's thread ended".to_owned(),
            }
        };
        tokio::select! {
            why = store_failed => why,
            Some(ended) = self.tasks.join_next() => match ended {
                Ok(Ok(())) => "a listener ended".to_owned(),
                Ok(Err(e)) => format!("a listener ended: {e:#}"),
                Err(e) => format!("a listener ended: {e}"),
            },
        }
    }

    /// Accepts no more calls, ends the watches, and finishes what has begun. What was acknowledged is on the disk
    /// already.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let ended =
            tokio::time::timeout(GRACE, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            self.tasks.shutdown().await;
        }
        for socket in &self.sockets {
            // It may have been removed already.
            let _ = std::fs::remove_file(socket);
        }
        let thread = self.thread;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

fn log_listening(endpoints: &[Endpoint]) {
    for endpoint in endpoints {
        log::info!("listening on {endpoint}");
    }
    if let Some(plain) = endpoints.iter().find(|endpoint| endpoint.is_plain()) {
        log::warn!("insecure: whoever reaches {plain} may do anything; expected https:// or unix:");
    }
}

/// The socket of the metrics, if they are served.
async fn listen_for_scrapes(address: Option<SocketAddr>) -> anyhow::Result<Option<tokio::net::TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let listener = tokio::net::TcpListener::bind(address).await.with_context(|| {
        format!("cannot serve metrics on {address}; expected a free port of an address of this machine")
    })?;
    Ok(Some(listener))
}

/// The credentials of the listeners with TLS, if there are any.
fn tls(config: &ServerConfig, metrics: &Arc<Metrics>) -> anyhow::Result<Option<Arc<Tls>>> {
    let newcomers = config.enrol.as_ref().map(|enrol| &enrol.listen);
    if !config.listen.iter().chain(newcomers).any(|endpoint| matches!(endpoint, Endpoint::Tls { .. })) {
        return Ok(None);
    }
    let folder = config.tls.as_deref().context(
        "an https endpoint without credentials; expected their folder; hint: give `tls` in the file, or `--tls FOLDER`",
    )?;
    let credentials = ServerTls::load(folder)?;
    log::info!("TLS: credentials of {}", credentials.identity());
    Ok(Some(Tls::new(credentials, metrics.clone())))
}

/// Serves gRPC on one socket, as one of `tasks`.
fn serve(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    (listener, tls, gate): (Listener, Option<&Arc<Tls>>, gate::Gate),
    service: rpc::Rpc,
    stopping: signal::Receiver<bool>,
) {
    macro_rules! limited {
        ($server:ident) => {
            $server::new(service.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES)
        };
    }
    let transport = match listener {
        Listener::Tcp(_) => Transport::Tcp,
        Listener::Tls(_) => Transport::Tls,
        Listener::Unix(..) => Transport::Unix,
    };
    let router = tonic::transport::Server::builder()
        .layer(caller::layer(transport))
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(RESETS))
        .add_service(limited!(HostServiceServer))
        .add_service(limited!(OperatorServiceServer))
        .add_service(limited!(ObserverServiceServer))
        .add_service(limited!(BoardServer));
    let stopped = wait_for_stop(stopping.clone());
    match listener {
        Listener::Tcp(l) => tasks.spawn(async move {
            let incoming = tokio_stream::StreamExt::map(TcpListenerStream::new(l), |stream| {
                stream.inspect(|s| {
                    // Latency, not correctness.
                    let _ = s.set_nodelay(true);
                })
            });
            Ok(router.serve_with_incoming_shutdown(gate.admit_all(incoming), stopped).await?)
        }),
        Listener::Tls(l) => {
            // Without credentials no listener was opened.
            let Some(tls) = tls.cloned() else { return };
            tasks.spawn(async move {
                let incoming = gate.admit_all(tls::accept(tls, l, stopping));
                Ok(router.serve_with_incoming_shutdown(incoming, stopped).await?)
            })
        }
        Listener::Unix(l, _) => tasks.spawn(async move {
            let incoming = gate.admit_all(UnixListenerStream::new(l));
            Ok(router.serve_with_incoming_shutdown(incoming, stopped).await?)
        }),
    };
}

/// Resolves when the server is to stop.
async fn wait_for_stop(mut stopping: signal::Receiver<bool>) {
    // An error means that the server was dropped.
    let _ = stopping.wait_for(|stop| *stop).await;
}

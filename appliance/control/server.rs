//! The control API's server: HTTP and JSON on a Unix socket, Prometheus on TCP if configured. It only passes requests
//! to the control thread and replies back; types and paths are in the crate `stopover-ctl`.

use super::{
    config_requests, lists,
    request::{Actor, List, PendingRequest, Reply, Request, Requests, TunnelCommand, refuse, respond},
};
use anyhow::{Context, Result, bail};
use axum::{
    Router,
    body::Bytes,
    extract,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use crossbeam::channel::Sender;
use prometheus_client::encoding::prometheus_text;
use serde::de::DeserializeOwned;
use std::{
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use stopover_config::appliance::Appliance;
use stopover_ctl::{ApiError, path};
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};

/// The sockets. When this is dropped, others can listen in their place; requests that were received are still answered.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listeners: Vec<JoinHandle<()>>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = std::fs::remove_file(&self.path);
        self.listeners.iter().for_each(JoinHandle::abort);
        let until = Instant::now() + CLOSING;
        while !self.listeners.iter().all(JoinHandle::is_finished) && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// A listener is closed by a thread of the runtime, which may be busy; longer than this it is not waited for.
const CLOSING: Duration = Duration::from_millis(500);

/// Opens the sockets and serves them for as long as the runtime lives. `file`: what is read again for a reload.
pub fn serve(
    rt: &tokio::runtime::Handle,
    config: &Appliance,
    file: Option<&Path>,
    requests: Sender<PendingRequest>,
) -> Result<Socket> {
    let _in_runtime = rt.enter();
    let metrics_listener = match config.metrics {
        Some(address) => Some(
            std::net::TcpListener::bind(address)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .and_then(TcpListener::from_std)
                .with_context(|| {
                    format!("metrics: cannot listen at {address}; expected a free address; hint: choose another for `metrics`")
                })?,
        ),
        None => None,
    };
    let (listener, mut socket) = listen(&config.ctl)?;
    let file = file.map(|file| Arc::new(file.to_owned()));
    let app = api(requests.clone(), file.clone());
    socket.listeners.push(rt.spawn(async move {
        let app = app.into_make_service_with_connect_info::<Actor>();
        drop(axum::serve(listener, app).await);
    }));
    if let Some(file) = file {
        let requests = Requests { by: Actor::Hangup, to: requests.clone() };
        rt.spawn(config_requests::reload_on_hangup(requests, file));
    }
    if let Some(listener) = metrics_listener {
        let app = Router::new().route("/metrics", get(metrics)).with_state(requests);
        socket.listeners.push(rt.spawn(async move { drop(axum::serve(listener, app).await) }));
    }
    Ok(socket)
}

/// Prepares the path of the control socket: makes its folder, and checks that no other appliance listens there.
/// Removes a dead socket; a file that is no socket is an error. Called before any device is opened, since a second
/// process on one configuration would receive frames of the first: a tap gives its frames to all who opened it.
///
/// # Errors
/// The path is in use, or cannot be written.
pub fn prepare_socket_path(path: &Path) -> Result<()> {
    let shown = path.display();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("ctl: cannot make the folder of {shown}"))?;
    }
    let Ok(there) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !there.file_type().is_socket() {
        bail!(
            "ctl: found a file at {shown} that is no socket; expected nothing or an old socket; hint: give `ctl` another path"
        );
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!(
            "ctl: another appliance listens at {shown}; expected a socket of our own; hint: stop it, or give `ctl` another path"
        );
    }
    std::fs::remove_file(path).with_context(|| format!("ctl: cannot replace the old socket {shown}"))
}

/// Binds the control socket, for root and its group only.
fn listen(path: &Path) -> Result<(UnixListener, Socket)> {
    prepare_socket_path(path)?;
    let shown = path.display();
    let listener = UnixListener::bind(path).with_context(|| {
        format!("ctl: cannot make the socket {shown}; expected a path that we may write; hint: give `ctl` another path")
    })?;
    let socket = Socket { path: path.to_owned(), listeners: Vec::new() };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok((listener, socket))
}

fn api(requests: Sender<PendingRequest>, file: Option<Arc<PathBuf>>) -> Router {
    let plain = |request: Request| {
        get(move |requests: Requests| async move { respond(requests.send(request).await) })
    };
    Router::new()
        .route(path::VERSION, plain(Request::Version))
        .route(path::PORTS, plain(Request::Ports))
        .route(path::PORT_STATS, plain(Request::PortStats))
        .route(path::FWD, plain(Request::Fwd))
        .route(path::LCORES, plain(Request::Lcores))
        .route(path::DROPS, plain(Request::Drops))
        .route(path::BOARD, plain(Request::Board))
        .route(path::MIGRATIONS, plain(Request::Migrations))
        .route(path::NODES, get(|requests, query| lists::page(List::Nodes, requests, query)))
        .route(path::ADDRESSES, get(|requests, query| lists::page(List::Addresses, requests, query)))
        .route(path::HOSTS, get(|requests, query| lists::page(List::Hosts, requests, query)))
        .route(path::NETWORKS, get(|requests, query| lists::page(List::Networks, requests, query)))
        .route(path::TUNNELS, get(|requests, query| lists::page(List::Tunnels, requests, query)))
        .route(path::SAS, get(|requests, query| lists::page(List::Sas, requests, query)))
        .route(path::TUNNEL_REKEY, tunnel(TunnelCommand::Rekey))
        .route(path::TUNNEL_CLOSE, tunnel(TunnelCommand::Close))
        .route(path::ACCEPT_BOARD, command(Request::AcceptBoard))
        .route(path::CLEAR, command(Request::Clear))
        .route(path::TAKE_OVER, command(Request::TakeOver))
        .route(path::TRACE, command(Request::Trace))
        .merge(config_requests::routes(file))
        .fallback(|| async {
            let error =
                ApiError::new("no such path", "a path under /v1", "see docs/operating.md for the list");
            refuse(StatusCode::NOT_FOUND, error)
        })
        .with_state(requests)
}

/// A command: its arguments are the JSON of the body.
fn command<T: DeserializeOwned + 'static>(request: fn(T) -> Request) -> MethodRouter<Sender<PendingRequest>> {
    post(move |requests: Requests, body: Bytes| async move {
        match serde_json::from_slice(&body).map(request) {
            Ok(request) => respond(requests.send(request).await),
            Err(e) => unreadable(&e),
        }
    })
}

/// A command about the tunnel to the host that the path names.
fn tunnel(command: TunnelCommand) -> MethodRouter<Sender<PendingRequest>> {
    post(move |requests: Requests, host: extract::Path<String>| async move {
        respond(requests.send(Request::Tunnel(host.0, command)).await)
    })
}

async fn metrics(requests: Requests) -> Response {
    match requests.send(Request::Metrics).await {
        Ok(Reply::Json(serde_json::Value::String(text))) => {
            ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response()
        }
        other => respond(other),
    }
}

fn unreadable(e: &serde_json::Error) -> Response {
    refuse(
        StatusCode::BAD_REQUEST,
        ApiError::new(e.to_string(), "the JSON that docs/operating.md describes", "correct the request"),
    )
}

//! The client: one connection and one request at a time over the appliance's Unix socket, each within a
//! time limit, every failure with a hint.

use crate::{
    AcceptBoard, AcceptedBoard, ApiError, BoardState, ChangeQuery, ChangeReport, ClearRequest, ConfigState,
    Drop, ErrorBody, FwdStats, HostRow, LcoreStats, Migrations, NetworkRow, NodeRow, Page, PortInfo,
    PortJson, PortStats, SaInfo, TakeOver, TakenOver, TraceReport, TraceRequest, TraceSource, TunnelInfo,
    Version, lists, path,
};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use stopover_net::{HostName, Vni};
use tokio::net::UnixStream;

/// How many times as long as another request one may take that changes the configuration.
const CHANGE_FACTOR: u32 = 6;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there.
    #[error("no appliance listens at {}; start it, or give --ctl", .path.display())]
    NoAppliance {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is there, but not for this user.
    #[error("no permission to use the socket {}; run as root or as a member of its group", .path.display())]
    Forbidden {
        /// The socket.
        path: PathBuf,
    },
    /// Time is up.
    #[error("the appliance at {} did not answer within {after_ms} ms; see whether it is stopped or overloaded", .path.display())]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// The limit.
        after_ms: u128,
    },
    /// The appliance refused.
    #[error("{0}")]
    Refused(ApiError),
    /// The answer is not of this API.
    #[error("unexpected answer from {}: {what}; use a `stopover` of the appliance's version", .path.display())]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What was wrong with it.
        what: String,
    },
}

/// A client of one appliance. It holds no connection between calls.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

impl Client {
    /// For the socket at this path; every call may take five seconds.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), timeout: Duration::from_secs(5) }
    }

    /// With another time limit for each call.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who answers.
    pub async fn version(&self) -> Result<Version, ClientError> {
        self.get(path::VERSION).await
    }

    /// All ports.
    pub async fn ports(&self) -> Result<Vec<PortInfo>, ClientError> {
        self.get(path::PORTS).await
    }

    /// Device counters of all ports.
    pub async fn port_stats(&self) -> Result<Vec<PortStats>, ClientError> {
        self.get(path::PORT_STATS).await
    }

    /// Forwarding counters and the packet accounting.
    pub async fn fwd(&self) -> Result<FwdStats, ClientError> {
        self.get(path::FWD).await
    }

    /// Counters of all lcores.
    pub async fn lcores(&self) -> Result<Vec<LcoreStats>, ClientError> {
        self.get(path::LCORES).await
    }

    /// All drop reasons.
    pub async fn drops(&self) -> Result<Vec<Drop>, ClientError> {
        self.get(path::DROPS).await
    }

    /// Nodes of one network or of all, with their addresses, in the order of VNI and MAC.
    pub async fn nodes(&self, vni: Option<Vni>) -> Result<Vec<NodeRow>, ClientError> {
        let addresses = self.all(path::ADDRESSES, vni).await?;
        Ok(lists::nodes(self.all(path::NODES, vni).await?, addresses))
    }

    /// All hosts, by name.
    pub async fn hosts(&self) -> Result<Vec<HostRow>, ClientError> {
        Ok(lists::hosts(self.all(path::HOSTS, None).await?))
    }

    /// One network or all, by VNI.
    pub async fn networks(&self, vni: Option<Vni>) -> Result<Vec<NetworkRow>, ClientError> {
        Ok(lists::networks(self.all(path::NETWORKS, vni).await?))
    }

    /// State of the watch.
    pub async fn board(&self) -> Result<BoardState, ClientError> {
        self.get(path::BOARD).await
    }

    /// Has another board followed.
    pub async fn accept_board(&self, request: &AcceptBoard) -> Result<AcceptedBoard, ClientError> {
        self.call(Method::POST, path::ACCEPT_BOARD, Some(encode(request)), self.timeout).await
    }

    /// Budgets and nodes of live migration.
    pub async fn migrations(&self) -> Result<Migrations, ClientError> {
        self.get(path::MIGRATIONS).await
    }

    /// Tunnels to all hosts that have or had one, by host.
    pub async fn tunnels(&self) -> Result<Vec<TunnelInfo>, ClientError> {
        Ok(lists::tunnels(self.all(path::TUNNELS, None).await?))
    }

    /// SAs of all tunnels, by host.
    pub async fn sas(&self) -> Result<Vec<SaInfo>, ClientError> {
        Ok(lists::sas(self.all(path::SAS, None).await?))
    }

    /// Has a tunnel's keys replaced. Returns before the other host has answered.
    pub async fn rekey_tunnel(&self, host: &HostName) -> Result<TunnelInfo, ClientError> {
        self.call(Method::POST, &tunnel_path(path::TUNNEL_REKEY, host), None, self.timeout).await
    }

    /// Closes a tunnel. It is made anew when a frame needs it.
    pub async fn close_tunnel(&self, host: &HostName) -> Result<TunnelInfo, ClientError> {
        self.call(Method::POST, &tunnel_path(path::TUNNEL_CLOSE, host), None, self.timeout).await
    }

    /// Sets counters to zero.
    pub async fn clear(&self, request: &ClearRequest) -> Result<(), ClientError> {
        self.call::<serde_json::Value>(Method::POST, path::CLEAR, Some(encode(request)), self.timeout)
            .await
            .map(|_| ())
    }

    /// Where the configuration is from, and the ports that were added at run time.
    pub async fn config(&self) -> Result<ConfigState, ClientError> {
        self.get(path::CONFIG).await
    }

    /// Adds a port.
    pub async fn add_port(&self, port: &PortJson, query: ChangeQuery) -> Result<ChangeReport, ClientError> {
        self.change(Method::POST, path::PORTS, Some(encode(port)), query).await
    }

    /// Changes a port that was added at run time: `patch` has the keys with new values, `null` for the default.
    pub async fn set_port(
        &self,
        name: &str,
        patch: &PortJson,
        query: ChangeQuery,
    ) -> Result<ChangeReport, ClientError> {
        self.change(Method::PATCH, &port_path(name), Some(encode(patch)), query).await
    }

    /// Removes a port that was added at run time.
    pub async fn delete_port(&self, name: &str, query: ChangeQuery) -> Result<ChangeReport, ClientError> {
        self.change(Method::DELETE, &port_path(name), None, query).await
    }

    /// Has the configuration file read again.
    pub async fn reload(&self, query: ChangeQuery) -> Result<ChangeReport, ClientError> {
        self.change(Method::POST, path::RELOAD, None, query).await
    }

    /// Devices are opened and closed, and files of a million rows may be read, so this may take longer.
    async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        query: ChangeQuery,
    ) -> Result<ChangeReport, ClientError> {
        let path = format!("{path}?dry_run={}&reopen={}", query.dry_run, query.reopen);
        self.call(method, &path, body, CHANGE_FACTOR * self.timeout).await
    }

    /// Has the appliance give its place to another process, when that is ready. Its last checkpoint may take as long as a
    /// change.
    pub async fn take_over(&self, request: &TakeOver) -> Result<TakenOver, ClientError> {
        let limit = CHANGE_FACTOR * self.timeout;
        self.call(Method::POST, path::TAKE_OVER, Some(encode(request)), limit).await
    }

    /// Follows a frame. Waiting for a captured one does not count against the client's time limit.
    pub async fn trace(&self, request: &TraceRequest) -> Result<TraceReport, ClientError> {
        let wait = match request.source {
            TraceSource::Capture(_) => Duration::from_millis(request.timeout_ms),
            TraceSource::FrameHex(_) => Duration::ZERO,
        };
        self.call(Method::POST, path::TRACE, Some(encode(request)), self.timeout + wait).await
    }

    /// All pages of a list. Each may take the time limit.
    async fn all<T: DeserializeOwned>(&self, path: &str, vni: Option<Vni>) -> Result<Vec<T>, ClientError> {
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page: Page<T> = self.get(&listed(path, vni, after.as_deref())).await?;
            rows.extend(page.rows);
            match page.next {
                None => return Ok(rows),
                next if next == after => return Err(self.protocol(format!("{path} does not get on"))),
                next => after = next,
            }
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None, self.timeout).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<T, ClientError> {
        tokio::time::timeout(limit, self.exchange(method, path, body)).await.unwrap_or_else(|_| {
            Err(ClientError::Timeout { path: self.socket.clone(), after_ms: limit.as_millis() })
        })
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.connect_error(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.protocol(e))?;
        // Ends by itself when the sender is dropped.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "appliance")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|e| self.protocol(e))?;
        let response = sender.send_request(request).await.map_err(|e| self.protocol(e))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|e| self.protocol(e))?.to_bytes();
        self.answer(status, &body)
    }

    fn answer<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
        if status.is_success() {
            return serde_json::from_slice(body).map_err(|e| self.protocol(e));
        }
        Err(match serde_json::from_slice::<ErrorBody>(body) {
            Ok(refused) => ClientError::Refused(refused.error),
            Err(_) => self.protocol(format!("status {status}")),
        })
    }

    fn connect_error(&self, e: &io::Error) -> ClientError {
        let path = self.socket.clone();
        match e.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { path },
            // No socket, or the file of a process that has ended.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoAppliance { path },
            _ => ClientError::Protocol { path, what: e.to_string() },
        }
    }

    fn protocol(&self, what: impl ToString) -> ClientError {
        ClientError::Protocol { path: self.socket.clone(), what: what.to_string() }
    }
}

/// A list's path with its query. A cursor has hexadecimal digits and points, so nothing of it needs escaping; of one
/// that had more the appliance would say so.
fn listed(path: &str, vni: Option<Vni>, after: Option<&str>) -> String {
    let words = [vni.map(|vni| format!("vni={vni}")), after.map(|after| format!("after={after}"))];
    let query: Vec<_> = words.into_iter().flatten().collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

/// The path of a port. What is no letter, digit, `.`, `_` or `-` is escaped (RFC 3986 section 2.1): no port has such a
/// name, and the appliance says so.
fn port_path(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let escaped = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path::PORT.replace("{name}", &name.bytes().map(escaped).collect::<String>())
}

/// The path of a tunnel's command. A host's name needs no escaping.
fn tunnel_path(path: &str, host: &HostName) -> String {
    path.replace("{host}", host.as_str())
}

/// JSON of a request type; these have no shape that could fail.
fn encode(request: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(request).unwrap_or_default()
}

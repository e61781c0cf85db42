//! What passes between the control API's server and the control thread: a request, and the reply or an error. The
//! server waits for the reply; the control thread does not wait for the server.

use super::rows::{Part, Turn};
use axum::{
    Json,
    extract::{
        FromRequestParts,
        connect_info::{ConnectInfo, Connected},
    },
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use crossbeam::channel::Sender;
use std::{convert::Infallible, fmt};
use stopover_config::appliance::Appliance;
use stopover_ctl::{
    AcceptBoard, AddressEntry, ApiError, ChangeQuery, ClearRequest, ErrorBody, HostRow, NetworkRow,
    NodeEntry, PortJson, SaInfo, TakeOver, TraceRequest, TunnelInfo,
};
use tokio::{net::UnixListener, sync::oneshot};

/// A request to the control thread.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// `GET /v1/version`.
    Version,
    /// `GET /v1/ports`.
    Ports,
    /// `GET /v1/ports/stats`.
    PortStats,
    /// `GET /v1/fwd`.
    Fwd,
    /// `GET /v1/lcores`.
    Lcores,
    /// `GET /v1/drops`.
    Drops,
    /// A part of one of the long lists.
    List(List, Part),
    /// `GET /v1/board`.
    Board,
    /// `GET /v1/migrations`.
    Migrations,
    /// `POST /v1/board/accept`.
    AcceptBoard(AcceptBoard),
    /// `GET /v1/config`.
    Config,
    /// A change of the configuration.
    Change(ConfigChange, ChangeQuery),
    /// `POST /v1/clear`.
    Clear(ClearRequest),
    /// `POST /v1/take-over`.
    TakeOver(TakeOver),
    /// `POST /v1/trace`.
    Trace(TraceRequest),
    /// `GET /metrics`.
    Metrics,
    /// `POST /v1/tunnels/HOST/rekey` or `close`.
    Tunnel(String, TunnelCommand),
}

/// What is done with a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelCommand {
    /// It gets new keys.
    Rekey,
    /// It ends.
    Close,
}

/// What of the configuration is to change.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigChange {
    /// `POST /v1/ports`: this port more.
    AddPort(PortJson),
    /// `PATCH /v1/ports/NAME`: this is merged into a port.
    SetPort(String, PortJson),
    /// `DELETE /v1/ports/NAME`.
    DeletePort(String),
    /// `POST /v1/reload`, and SIGHUP: the configuration file as it is now.
    Reload(Box<Appliance>),
}

/// A list that may be long, and so is made in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `GET /v1/nodes`.
    Nodes,
    /// `GET /v1/addresses`.
    Addresses,
    /// `GET /v1/hosts`.
    Hosts,
    /// `GET /v1/networks`.
    Networks,
    /// `GET /v1/tunnels`.
    Tunnels,
    /// `GET /v1/sas`.
    Sas,
}

/// A reply of the control thread.
#[derive(Debug)]
pub enum Reply {
    /// The whole reply; for metrics the text itself as a JSON string.
    Json(serde_json::Value),
    /// A part of a list, not yet encoded as JSON, because encoding takes longer than making it.
    Nodes(Turn<NodeEntry>),
    /// The same.
    Addresses(Turn<AddressEntry>),
    /// The same.
    Hosts(Turn<HostRow>),
    /// The same.
    Networks(Turn<NetworkRow>),
    /// The same.
    Tunnels(Turn<TunnelInfo>),
    /// The same.
    Sas(Turn<SaInfo>),
}

/// A reply, or why there is none.
pub type Answer = Result<Reply, ApiError>;

/// Who asks. Lines of the log about a change name it as the board's events do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A user of this machine, by the control socket.
    User(u32),
    /// One whose user the socket does not report, or who only reads metrics.
    Unknown,
    /// SIGHUP.
    Hangup,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(0) => f.write_str("operator root"),
            Self::User(uid) => write!(f, "operator uid {uid}"),
            Self::Unknown => f.write_str("operator"),
            Self::Hangup => f.write_str("SIGHUP"),
        }
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Actor {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        stream.io().peer_cred().map_or(Self::Unknown, |cred| Self::User(cred.uid()))
    }
}

/// A request for the control thread.
#[derive(Debug)]
pub struct PendingRequest {
    /// The request.
    pub request: Request,
    /// Where the reply is sent.
    pub reply: ReplyTo,
}

/// Where a reply is sent, and who waits for it.
#[derive(Debug)]
pub struct ReplyTo {
    /// Who.
    pub by: Actor,
    to: oneshot::Sender<Answer>,
}

impl ReplyTo {
    /// Sends it, unless nothing waits for it any more.
    pub fn send(self, answer: Answer) -> Result<(), Answer> {
        self.to.send(answer)
    }

    /// Nothing waits for it any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.to.is_closed()
    }
}

/// Passes requests of someone to the control thread.
#[derive(Debug, Clone)]
pub struct Requests {
    /// Who.
    pub by: Actor,
    /// To the control thread.
    pub to: Sender<PendingRequest>,
}

impl Requests {
    /// Passes a request on, and waits for the reply.
    pub async fn send(&self, request: Request) -> Answer {
        let (to, answer) = oneshot::channel();
        let busy = || {
            ApiError::new(
                "the control thread does not accept requests",
                "a running appliance",
                "see its log; try again in a moment",
            )
        };
        let reply = ReplyTo { by: self.by, to };
        self.to.try_send(PendingRequest { request, reply }).map_err(|_| busy())?;
        answer.await.map_err(|_| busy())?
    }
}

impl FromRequestParts<Sender<PendingRequest>> for Requests {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, to: &Sender<PendingRequest>) -> Result<Self, Infallible> {
        let by = parts.extensions.get::<ConnectInfo<Actor>>().map_or(Actor::Unknown, |ConnectInfo(by)| *by);
        Ok(Self { by, to: to.clone() })
    }
}

/// An error as a response.
pub(super) fn refuse(status: StatusCode, error: ApiError) -> Response {
    (status, Json(ErrorBody { error })).into_response()
}

/// A whole answer as a response.
pub(super) fn respond(answer: Answer) -> Response {
    match answer {
        Ok(Reply::Json(value)) => Json(value).into_response(),
        Ok(_) => {
            let error = ApiError::new("a part of a list", "a whole answer", "tell the developers");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, error)
        }
        Err(error) => refuse(StatusCode::UNPROCESSABLE_ENTITY, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::get};
    use crossbeam::channel;
    use std::os::unix::fs::MetadataExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    #[test]
    fn an_actor_is_named_as_in_events_of_the_board() {
        assert_eq!(Actor::User(0).to_string(), "operator root");
        assert_eq!(Actor::User(1000).to_string(), "operator uid 1000");
        assert_eq!(Actor::Unknown.to_string(), "operator");
        assert_eq!(Actor::Hangup.to_string(), "SIGHUP");
    }

    #[tokio::test]
    async fn the_control_socket_proves_the_user_who_asks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctl.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (to, _requests) = channel::bounded::<PendingRequest>(1);
        let app = Router::new()
            .route("/", get(|requests: Requests| async move { requests.by.to_string() }))
            .with_state(to)
            .into_make_service_with_connect_info::<Actor>();
        let serving = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serving.abort();
        // The file was made by the user of this process.
        let uid = std::fs::metadata(&path).unwrap().uid();
        assert!(answer.ends_with(&Actor::User(uid).to_string()), "{answer}");
    }
}

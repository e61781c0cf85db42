//! What passes between the control API's server and the control thread: a request, and the reply or an error. The
//! server waits for the reply; the control thread does not wait for the server.

use super::rows::{Part, Turn};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use crossbeam::channel::Sender;
use stopover_config::appliance::Appliance;
use stopover_ctl::{
    AcceptBoard, AddressEntry, ApiError, ChangeQuery, ClearRequest, ErrorBody, HostRow, NetworkRow,
    NodeEntry, PortJson, TakeOver, TraceRequest,
};
use tokio::sync::oneshot;

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
}

/// A reply, or why there is none.
pub type Answer = Result<Reply, ApiError>;

/// A request for the control thread.
#[derive(Debug)]
pub struct PendingRequest {
    /// The request.
    pub request: Request,
    /// Where the reply is sent. May be closed: then nothing waits for it any more.
    pub reply: oneshot::Sender<Answer>,
}

/// Passes a request on, and waits for the reply.
pub(super) async fn send_request(requests: &Sender<PendingRequest>, request: Request) -> Answer {
    let (reply, answer) = oneshot::channel();
    let busy = || {
        ApiError::new(
            "the control thread does not accept requests",
            "a running appliance",
            "see its log; try again in a moment",
        )
    };
    requests.try_send(PendingRequest { request, reply }).map_err(|_| busy())?;
    answer.await.map_err(|_| busy())?
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

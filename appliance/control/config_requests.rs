//! The control API's requests that change the configuration, and SIGHUP, which is a request to reload. Enters: ports as
//! JSON, names, the signal. Leaves: a request to the control thread, with the configuration file read and checked already:
//! a file of a million rows must not occupy that thread.

use super::{
    request::{Answer, ConfigChange, PendingRequest, Reply, Request, Requests, refuse, respond},
    source::refusal,
};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
    routing::{delete, get, patch, post},
};
use crossbeam::channel::Sender;
use std::{path::PathBuf, sync::Arc};
use stopover_config::appliance;
use stopover_ctl::{ApiError, ChangeQuery, ChangeReport, path};
use tokio::signal::unix::{SignalKind, signal};

type Queried = Result<Query<ChangeQuery>, QueryRejection>;

/// The routes. `file`: the configuration file, if there is one.
pub(super) fn routes(file: Option<Arc<PathBuf>>) -> Router<Sender<PendingRequest>> {
    // A port may have this name, which has a path of its own.
    let (_, stats) = path::PORT_STATS.rsplit_once('/').unwrap_or_default();
    let set_stats = |requests: Requests, query: Queried, body: Bytes| {
        set_port(requests, Path(stats.to_owned()), query, body)
    };
    let delete_stats =
        |requests: Requests, query: Queried| delete_port(requests, Path(stats.to_owned()), query);
    Router::new()
        .route(path::PORTS, post(add_port))
        .route(path::PORT, patch(set_port).delete(delete_port))
        .route(path::PORT_STATS, patch(set_stats).merge(delete(delete_stats)))
        .route(
            path::CONFIG,
            get(|requests: Requests| async move { respond(requests.send(Request::Config).await) }),
        )
        .route(
            path::RELOAD,
            post(|requests: Requests, query: Queried| async move {
                match checked(query) {
                    Ok(query) => respond(reload(&requests, file.as_deref(), query).await),
                    Err(error) => refuse(StatusCode::BAD_REQUEST, error),
                }
            }),
        )
}

async fn add_port(requests: Requests, query: Queried, body: Bytes) -> Response {
    change(&requests, query, json(&body).map(ConfigChange::AddPort)).await
}

async fn set_port(requests: Requests, Path(name): Path<String>, query: Queried, body: Bytes) -> Response {
    change(&requests, query, json(&body).map(|patch| ConfigChange::SetPort(name, patch))).await
}

async fn delete_port(requests: Requests, Path(name): Path<String>, query: Queried) -> Response {
    change(&requests, query, Ok(ConfigChange::DeletePort(name))).await
}

async fn change(requests: &Requests, query: Queried, change: Result<ConfigChange, ApiError>) -> Response {
    match checked(query).and_then(|query| Ok((query, change?))) {
        Ok((query, change)) => respond(requests.send(Request::Change(change, query)).await),
        Err(error) => refuse(StatusCode::BAD_REQUEST, error),
    }
}

fn checked(query: Queried) -> Result<ChangeQuery, ApiError> {
    query.map(|Query(query)| query).map_err(|e| {
        ApiError::new(e.body_text(), "dry_run=true, reopen=true or nothing", "correct the query")
    })
}

fn json(body: &Bytes) -> Result<serde_json::Value, ApiError> {
    serde_json::from_slice(body).map_err(|e| {
        ApiError::new(e.to_string(), "the JSON that docs/operating.md describes", "correct the request")
    })
}

/// Reads the configuration file and has the control thread change to it.
async fn reload(requests: &Requests, file: Option<&PathBuf>, query: ChangeQuery) -> Answer {
    let Some(file) = file.cloned() else {
        return Err(ApiError::new(
            "an appliance without a configuration file",
            "one that was started with a file",
            "start it with a file",
        ));
    };
    let loaded = tokio::task::spawn_blocking(move || appliance::load(&file)).await;
    let loaded = loaded.map_err(|e| {
        ApiError::new(
            e.to_string(),
            "a file that can be read",
            "see the appliance's log, and tell the developers",
        )
    })?;
    let config = loaded.map_err(|e| refusal(&e))?;
    requests.send(Request::Change(ConfigChange::Reload(Box::new(config)), query)).await
}

/// Reloads whenever SIGHUP arrives. Ports are not reopened for it: nobody reads the answer before.
pub(super) async fn reload_on_hangup(requests: Requests, file: Arc<PathBuf>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        return log::error!("cannot listen for SIGHUP; reload with `stopover reload`");
    };
    while hangups.recv().await.is_some() {
        match reload(&requests, Some(&file), ChangeQuery::default()).await {
            Ok(Reply::Json(report)) => {
                let changes = serde_json::from_value::<ChangeReport>(report).map_or(0, |r| r.changes.len());
                log::info!("{} is reloaded: {changes} changes", file.display());
            }
            Ok(_) => {}
            Err(error) => log::error!("{} is not reloaded: {error}", file.display()),
        }
    }
}

//! The watch of a session: from the board's stream to [`Update`]s, with the position from which to resume.

use super::{
    driver::{CALL_TIMEOUT, Live, Out, call, hand_out},
    error::Error,
    session::{SessionConfig, Shared, Update, lock},
};
use crate::{
    model::Change,
    proto::{batch, parse, v1},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use stopover_config::net::Vni;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use v1::{watch_request::Request, watch_response::Response};

/// What the consumer holds: the exact state of these networks at this revision of this board. `None` while it
/// holds something that has no such name, such as half a snapshot.
#[derive(Debug, Default)]
pub(super) struct Position {
    resume: Option<(Vec<u8>, u64)>,
    /// Networks in scope, as the board sees it.
    held: BTreeSet<Vni>,
}

/// An open watch.
pub(super) struct Stream {
    requests: mpsc::Sender<v1::WatchRequest>,
    responses: Streaming<v1::WatchResponse>,
    /// The scope as last asked for.
    asked: BTreeSet<Vni>,
    board_id: Vec<u8>,
    /// Snapshots completed on this stream.
    snapshots: u32,
    /// Revision of the snapshot being received.
    snapshot_revision: u64,
    /// How long after a refusal, or after a migration took a node away, it is claimed again.
    retry_refused: Duration,
}

fn numbers<'a>(vnis: impl IntoIterator<Item = &'a Vni>) -> Vec<u32> {
    vnis.into_iter().map(|vni| vni.get()).collect()
}

/// Asks for the watch; resumes if there is something to resume from.
pub(super) async fn open(
    live: &Live,
    cfg: &SessionConfig,
    shared: &Shared,
    position: &mut Position,
) -> Result<Stream, Error> {
    if position.resume.is_none() {
        position.held = lock(&shared.desired).interest();
    }
    let resume = position.resume.clone().map(|(board_id, revision)| v1::WatchResume { board_id, revision });
    let start = v1::WatchStart {
        name: cfg.host.as_str().to_owned(),
        vnis: numbers(&position.held),
        everything: false,
        resume,
        session: live.session,
    };
    let (requests, outgoing) = mpsc::channel(16);
    let first = v1::WatchRequest { request: Some(Request::Start(start)) };
    requests.send(first).await.map_err(|_| Error::Unreachable("the watch closed".into()))?;
    let mut client = live.client.clone();
    let responses = call(client.watch(ReceiverStream::new(outgoing)), CALL_TIMEOUT).await?;
    Ok(Stream {
        requests,
        responses,
        asked: position.held.clone(),
        board_id: Vec::new(),
        snapshots: 0,
        snapshot_revision: 0,
        retry_refused: cfg.retry_refused,
    })
}

/// Runs the watch until it breaks.
pub(super) async fn follow(
    mut stream: Stream,
    live: &Live,
    shared: &Shared,
    position: &mut Position,
    out: &Out,
) -> Error {
    let mut acks = shared.ack.subscribe();
    // What was acknowledged on an earlier connection is said again on this one.
    acks.mark_changed();
    loop {
        if let Err(e) = ask(&mut stream, shared).await {
            return e;
        }
        let response = tokio::select! {
            () = shared.interest.notified() => continue,
            changed = acks.changed() => {
                if changed.is_err() {
                    return Error::Unreachable("the session is gone".into());
                }
                let revision = *acks.borrow_and_update();
                let ack = v1::WatchRequest { request: Some(Request::AckRevision(revision)) };
                if revision > 0 && stream.requests.send(ack).await.is_err() {
                    return Error::Unreachable("the watch closed".into());
                }
                continue;
            }
            response = stream.responses.message() => response,
        };
        let update = match response {
            Ok(Some(v1::WatchResponse { response: Some(response) })) => {
                match take(response, &mut stream, live, shared, position) {
                    Ok(update) => update,
                    Err(e) => return e,
                }
            }
            // Of a newer board, and nothing that this version has asked for.
            Ok(Some(_)) => continue,
            Ok(None) => return Error::Unreachable("the board closed the watch".into()),
            Err(status) => return status.into(),
        };
        if let Some(update) = update {
            if let Update::Apply { revision, .. } | Update::SnapshotEnd { revision } = &update {
                lock(&shared.state).revision = *revision;
            }
            // This future may be dropped while it waits here, and then the consumer has not got the update:
            // until it has, there is no position to resume from.
            let reached = position.resume.take();
            if out.send(update).await.is_err() {
                return Error::Unreachable("nobody reads the updates".into());
            }
            position.resume = reached;
            if let Err(e) = hand_out(shared, out).await {
                return e;
            }
        }
    }
}

/// Tells the board what has changed in the wanted scope.
async fn ask(stream: &mut Stream, shared: &Shared) -> Result<(), Error> {
    let wanted = lock(&shared.desired).interest();
    if wanted == stream.asked {
        return Ok(());
    }
    let interest = v1::WatchInterest {
        add: numbers(wanted.difference(&stream.asked)),
        remove: numbers(stream.asked.difference(&wanted)),
    };
    stream.asked = wanted;
    let request = v1::WatchRequest { request: Some(Request::Interest(interest)) };
    stream.requests.send(request).await.map_err(|_| Error::Unreachable("the watch closed".into()))
}

/// Turns one response into an update, and moves the position.
fn take(
    response: Response,
    stream: &mut Stream,
    live: &Live,
    shared: &Shared,
    position: &mut Position,
) -> Result<Option<Update>, Error> {
    Ok(Some(match response {
        Response::SnapshotBegin(begin) => {
            position.resume = None;
            lock(&shared.desired).forget_locks();
            stream.board_id = begin.board_id;
            stream.snapshot_revision = begin.revision;
            Update::SnapshotBegin { revision: begin.revision }
        }
        Response::SnapshotChunk(list) => {
            let changes = parse::changes(list.changes)?;
            note_locks(&changes, live, shared);
            Update::Apply { revision: stream.snapshot_revision, changes }
        }
        Response::SnapshotNodes(list) => {
            Update::Nodes { revision: stream.snapshot_revision, batches: batch::parse_list(list)? }
        }
        Response::SnapshotEnd(revision) => {
            position.resume = Some((stream.board_id.clone(), revision));
            stream.snapshots += 1;
            // A snapshot in mid-watch does not name what vanished; claiming again is harmless and finds out.
            if stream.snapshots > 1 {
                lock(&shared.desired).requeue();
                shared.work.notify_one();
            }
            Update::SnapshotEnd { revision }
        }
        Response::Resumed(resumed) => {
            stream.board_id = resumed.board_id;
            return Ok(None);
        }
        Response::Delta(delta) => {
            position.resume = Some((stream.board_id.clone(), delta.revision));
            let changes = parse::changes(delta.changes)?;
            note_locks(&changes, live, shared);
            reclaim(&changes, delta.revision, live, shared, Instant::now() + stream.retry_refused);
            Update::Apply { revision: delta.revision, changes }
        }
        Response::Scope(scope) => {
            for vni in parse::vnis_unbounded("added", scope.added.clone())? {
                position.held.insert(vni);
            }
            for vni in parse::vnis_unbounded("removed", scope.removed.clone())? {
                position.held.remove(&vni);
            }
            let complete = !(scope.added.is_empty() && scope.removed.is_empty());
            position.resume = complete.then(|| (stream.board_id.clone(), scope.revision));
            let changes = parse::changes(scope.changes)?;
            note_locks(&changes, live, shared);
            Update::Apply { revision: scope.revision, changes }
        }
        Response::Progress(revision) => {
            if let Some((_, at)) = &mut position.resume {
                *at = revision;
            }
            Update::Apply { revision, changes: Vec::new() }
        }
    }))
}

/// Which of our nodes migrations have locked.
fn note_locks(changes: &[Change], live: &Live, shared: &Shared) {
    for change in changes {
        if let Change::NodeLocked { vni, mac, source, .. } = change
            && *source == live.host_id
        {
            lock(&shared.desired).locked(*vni, *mac);
        }
    }
}

/// Nodes that we claim and that the board has lost, or put elsewhere, are claimed again: the operator may have
/// deleted one, or another host taken it over while we were silent. Not at once, if it was a migration: then it is
/// for our consumer to withdraw the claim.
/// A learned node that another host has received later is that host's; so are addresses that others announced later.
fn reclaim(changes: &[Change], revision: u64, live: &Live, shared: &Shared, retry_at: Instant) {
    let mut desired = lock(&shared.desired);
    let mut again = false;
    for change in changes {
        again |= match change {
            Change::NodeGone { vni, mac, .. } => desired.gone(*vni, *mac),
            Change::NodeUnlocked { vni, mac, .. } => desired.unlocked(*vni, *mac),
            Change::NodePut { node, .. } if node.host_id != live.host_id => {
                desired.elsewhere(node.vni, node.mac, revision, retry_at)
            }
            Change::NodePut { node, gone_ips } => desired.lost(node.vni, node.mac, gone_ips, revision),
            _ => false,
        };
    }
    if again {
        shared.work.notify_one();
    }
}

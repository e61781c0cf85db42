//! The watch of a session: from the board's stream to [`Update`]s, with the position from which to resume.

use super::{
    connect::{CALL_TIMEOUT, call},
    error::Error,
    shared::{Live, Out, SessionConfig, Shared, Update, deliver_events, lock},
};
use crate::{
    model::{Change, Features, Point, Uuid},
    proto::{batch, board, parse, v1},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use stopover_net::Vni;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use v1::{watch_request::Request, watch_response::Response};

/// The state that the consumer holds.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The last state that it received completely; `None` = none yet.
    point: Option<Point>,
    /// It holds exactly that state, of the networks in `held`, and not for example half of a snapshot.
    exact: bool,
    /// Networks in the watch's scope at the board.
    held: BTreeSet<Vni>,
}

impl Position {
    /// That of a consumer that holds this state in part.
    pub fn in_part(point: Option<Point>) -> Self {
        Self { point, ..Self::default() }
    }

    pub fn point(&self) -> Option<Point> {
        self.point
    }

    fn reached(&mut self, point: Point) {
        (self.point, self.exact) = (Some(point), true);
    }
}

/// An open watch.
pub(super) struct Stream {
    requests: mpsc::Sender<v1::WatchRequest>,
    responses: Streaming<v1::WatchResponse>,
    /// The scope that was requested last.
    requested: BTreeSet<Vni>,
    /// The number of this watch in the session.
    number: u64,
    /// The run that sends the updates; `None` = the board is of a version without runs.
    run: Option<Uuid>,
    /// The board that we are registered at.
    board: Uuid,
    /// The last revision that was received completely.
    received: u64,
    /// Snapshots completed on this stream.
    snapshots: u32,
    /// Revision of the snapshot being received.
    snapshot_revision: u64,
    /// Time after which a node is claimed again that was refused, or that a migration has moved.
    retry_refused: Duration,
}

impl Stream {
    fn point(&self, revision: u64) -> Point {
        Point { board: self.board, run: self.run, revision }
    }

    /// Checks that the updates are from the board at which we are registered, and notes its run.
    fn check_sender(&mut self, board_id: &[u8], run_id: &[u8]) -> Result<(), Error> {
        let board = parse::id("board_id", board_id)?;
        if board != self.board {
            let (board, ours) = (board.simple(), self.board.simple());
            return Err(Error::Unreachable(format!("board {board} answers in place of {ours}")));
        }
        self.run = if run_id.is_empty() { None } else { Some(parse::id("run_id", run_id)?) };
        Ok(())
    }

    /// The acknowledgement of a revision; `None` if it was not received on this stream.
    fn ack(&self, (stream, revision): (u64, u64)) -> Option<v1::WatchRequest> {
        let ours = stream == self.number && revision > 0 && revision <= self.received;
        let request = match self.run {
            Some(_) => Request::Ack(self.point(revision).into()),
            None => Request::AckRevision(revision),
        };
        ours.then_some(v1::WatchRequest { request: Some(request) })
    }
}

fn vni_numbers<'a>(vnis: impl IntoIterator<Item = &'a Vni>) -> Vec<u32> {
    vnis.into_iter().map(|vni| vni.get()).collect()
}

/// Opens the watch; resumes from `position` if possible.
pub(super) async fn open(
    live: &Live,
    cfg: &SessionConfig,
    shared: &Shared,
    position: &mut Position,
    number: u64,
) -> Result<Stream, Error> {
    if !position.exact {
        position.held = lock(&shared.desired).interest();
    }
    let start = v1::WatchStart {
        name: cfg.host.as_str().to_owned(),
        vnis: vni_numbers(&position.held),
        everything: false,
        resume: position.point.map(Into::into),
        partial: !position.exact,
        session: live.session,
        features: Some(Features::all().into()),
    };
    let (requests, outgoing) = mpsc::channel(16);
    let first = v1::WatchRequest { request: Some(Request::Start(start)) };
    requests.send(first).await.map_err(|_| Error::Unreachable("the watch closed".into()))?;
    let mut client = live.client.clone();
    let responses = call(client.watch(ReceiverStream::new(outgoing)), CALL_TIMEOUT).await?;
    Ok(Stream {
        requests,
        responses,
        requested: position.held.clone(),
        number,
        run: None,
        board: live.board,
        received: 0,
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
    loop {
        if let Err(e) = send_interest(&mut stream, shared).await {
            return e;
        }
        let response = tokio::select! {
            () = shared.interest.notified() => continue,
            changed = acks.changed() => {
                if changed.is_err() {
                    return Error::Unreachable("the session has ended".into());
                }
                let ack = stream.ack(*acks.borrow_and_update());
                if let Some(ack) = ack && stream.requests.send(ack).await.is_err() {
                    return Error::Unreachable("the watch closed".into());
                }
                continue;
            }
            response = stream.responses.message() => response,
        };
        let before = position.point;
        let update = match response {
            Ok(Some(v1::WatchResponse { response: Some(response) })) => {
                match handle_response(response, &mut stream, live, shared, position) {
                    Ok(update) => update,
                    Err(e) => return e,
                }
            }
            // A kind of response of a newer board, which this version has not requested.
            Ok(Some(_)) => continue,
            Ok(None) => return Error::Unreachable("the board closed the watch".into()),
            Err(status) => return status.into(),
        };
        if let Some(update) = update {
            if let Update::Apply { revision, .. } | Update::SnapshotEnd { revision } = &update {
                lock(&shared.state).revision = *revision;
            }
            // This future may be dropped while it waits here. Then the consumer does not have the update. So until it has,
            // there is no position from which to resume.
            let reached = (position.point, position.exact);
            (position.point, position.exact) = (before, false);
            if out.send(update).await.is_err() {
                return Error::Unreachable("the receiver of updates was dropped".into());
            }
            (position.point, position.exact) = reached;
            if let Err(e) = deliver_events(shared, out).await {
                return e;
            }
        }
    }
}

/// Sends changes of the scope to the board.
async fn send_interest(stream: &mut Stream, shared: &Shared) -> Result<(), Error> {
    let wanted = lock(&shared.desired).interest();
    if wanted == stream.requested {
        return Ok(());
    }
    let interest = v1::WatchInterest {
        add: vni_numbers(wanted.difference(&stream.requested)),
        remove: vni_numbers(stream.requested.difference(&wanted)),
    };
    stream.requested = wanted;
    let request = v1::WatchRequest { request: Some(Request::Interest(interest)) };
    stream.requests.send(request).await.map_err(|_| Error::Unreachable("the watch closed".into()))
}

/// Converts one response into an update, and updates the position.
fn handle_response(
    response: Response,
    stream: &mut Stream,
    live: &Live,
    shared: &Shared,
    position: &mut Position,
) -> Result<Option<Update>, Error> {
    Ok(Some(match response {
        Response::SnapshotBegin(begin) => {
            stream.check_sender(&begin.board_id, &begin.run_id)?;
            lock(&shared.state).run = stream.run;
            position.exact = false;
            lock(&shared.desired).clear_locks();
            stream.snapshot_revision = begin.revision;
            Update::SnapshotBegin { revision: begin.revision, other_branch: begin.other_branch }
        }
        Response::SnapshotChunk(list) => {
            let changes = board::changes(list.changes)?;
            record_locks(&changes, live, shared);
            Update::Apply { revision: stream.snapshot_revision, changes }
        }
        Response::SnapshotNodes(list) => {
            Update::Nodes { revision: stream.snapshot_revision, batches: batch::parse_list(list)? }
        }
        Response::SnapshotEnd(revision) => {
            position.reached(stream.point(revision));
            stream.received = revision;
            stream.snapshots += 1;
            // A later snapshot does not name removed nodes. To claim again is harmless, and finds them.
            if stream.snapshots > 1 {
                lock(&shared.desired).requeue_claims();
                shared.work.notify_one();
            }
            Update::SnapshotEnd { revision }
        }
        Response::Resumed(resumed) => {
            stream.check_sender(&resumed.board_id, &resumed.run_id)?;
            lock(&shared.state).run = stream.run;
            // An update for the consumer, so that it acknowledges on this stream what it has in force.
            position.reached(stream.point(resumed.revision));
            stream.received = resumed.revision;
            Update::Apply { revision: resumed.revision, changes: Vec::new() }
        }
        Response::Delta(delta) => {
            position.reached(stream.point(delta.revision));
            stream.received = delta.revision;
            let changes = board::changes(delta.changes)?;
            record_locks(&changes, live, shared);
            reclaim(&changes, delta.revision, live, shared, Instant::now() + stream.retry_refused);
            Update::Apply { revision: delta.revision, changes }
        }
        Response::Scope(scope) => handle_scope(scope, stream, live, shared, position)?,
        Response::Progress(revision) => {
            if position.exact {
                position.reached(stream.point(revision));
            }
            stream.received = revision;
            Update::Apply { revision, changes: Vec::new() }
        }
    }))
}

/// A piece of a change of scope. Only with the last piece the consumer holds a state that can be resumed from.
fn handle_scope(
    scope: v1::Scope,
    stream: &mut Stream,
    live: &Live,
    shared: &Shared,
    position: &mut Position,
) -> Result<Update, Error> {
    for vni in parse::vnis_unbounded("added", scope.added.clone())? {
        position.held.insert(vni);
    }
    for vni in parse::vnis_unbounded("removed", scope.removed.clone())? {
        position.held.remove(&vni);
    }
    let complete = !(scope.added.is_empty() && scope.removed.is_empty());
    position.exact = false;
    if complete {
        position.reached(stream.point(scope.revision));
    }
    stream.received = scope.revision;
    let changes = board::changes(scope.changes)?;
    record_locks(&changes, live, shared);
    Ok(Update::Apply { revision: scope.revision, changes })
}

/// Records which of our nodes are locked for migrations.
fn record_locks(changes: &[Change], live: &Live, shared: &Shared) {
    for change in changes {
        if let Change::NodeLocked { vni, mac, source, .. } = change
            && *source == live.host_id
        {
            lock(&shared.desired).handle_locked(*vni, *mac);
        }
    }
}

/// Claims nodes again that the board has removed or moved: the operator may have deleted one, or another host may have
/// taken it over while we were disconnected. After a migration not at once: the consumer withdraws the claim first. A
/// learned node that another host has received later is not claimed again, nor are addresses that other nodes have
/// announced later.
fn reclaim(changes: &[Change], revision: u64, live: &Live, shared: &Shared, retry_at: Instant) {
    let mut desired = lock(&shared.desired);
    let mut again = false;
    for change in changes {
        again |= match change {
            Change::NodeGone { vni, mac, .. } => desired.handle_removed(*vni, *mac),
            Change::NodeUnlocked { vni, mac, .. } => desired.handle_unlocked(*vni, *mac),
            Change::NodePut { node, .. } if node.host_id != live.host_id => {
                desired.handle_elsewhere(node.vni, node.mac, revision, retry_at)
            }
            Change::NodePut { node, gone_ips } => desired.handle_lost(node.vni, node.mac, gone_ips, revision),
            _ => false,
        };
    }
    if again {
        shared.work.notify_one();
    }
}

//! The watch call. One future receives the watcher's requests, another sends the frames of its [`Follower`]. Only the task
//! of this watcher waits for it.

use super::{
    door::Grant,
    follower::{Follower, Frame, Held, Interest},
    paced::Answers,
    refuse,
    rpc::Rpc,
    slots::Slot,
    wait_for_stop,
    watchers::Entry,
};
use crate::{
    access::{Action, HostCall, ObserverCall},
    board::{Command, Session},
    model::{Change, Feature, Features},
    proto::{
        features,
        parse::{self, BadField, Checked},
        v1,
    },
};
use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};
use stopover_config::bbs::Limit;
use stopover_net::{HostName, Vni};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Status, Streaming};
use v1::{watch_request::Request, watch_response::Response};

/// Frames queued for a watcher, in addition to those in HTTP/2.
const FRAMES_IN_FLIGHT: usize = 8;
/// Interval at which a watcher is sent revisions without changes in its scope.
const PROGRESS: Duration = Duration::from_millis(50);
/// A watch ends if its watcher takes no frame for this long. The watcher can resume.
const STUCK_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest name of a watcher.
const MAX_NAME: usize = 64;

/// To whom a watch belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The session that it names.
    Host,
    /// No host.
    Observer,
    /// The session that it names, or the host of its name: a program of before.
    Name,
}

/// The first message, checked.
struct Start {
    name: String,
    interest: Interest,
    held: Option<Held>,
    /// 0 = not named.
    session: u64,
    /// Those in force; `None` = the watcher is of before.
    features: Option<Features>,
}

impl Start {
    fn parse(by: By, m: v1::WatchStart) -> Checked<Self> {
        if m.name.is_empty() || m.name.len() > MAX_NAME || m.name.chars().any(char::is_control) {
            let expected = format!("1 to {MAX_NAME} bytes without control characters: the host's name");
            return Err(BadField::new("start.name", format_args!("{} bytes", m.name.len()), expected));
        }
        match (by, m.session) {
            (By::Host, 0) => {
                let expected = "the number of a session; hint: who has none watches by ObserverService";
                return Err(BadField::new("start.session", 0, expected));
            }
            (By::Observer, n) if n != 0 => {
                return Err(BadField::new("start.session", n, "0; hint: a host watches by HostService"));
            }
            _ => {}
        }
        let held = match m.resume {
            Some(r) => Some(Held { point: parse::point("start.resume", &r)?, partial: m.partial }),
            None => None,
        };
        let interest = if m.everything {
            Interest::Everything
        } else {
            Interest::Networks(parse::vnis_unbounded("start.vnis", m.vnis)?.into_iter().collect())
        };
        let features = features::parse("start.features", m.features)?;
        Ok(Self { name: m.name, interest, held, session: m.session, features })
    }
}

type ScopeChanges = Mutex<Vec<(Vec<Vni>, Vec<Vni>)>>;
type Out = mpsc::Sender<Result<v1::WatchResponse, Status>>;

/// State shared by the two futures.
struct Inbox {
    scope_changes: ScopeChanges,
    arrived: Notify,
}

/// A watch that was decided. `host` = for which it may be; `None` = for no host.
struct Admitted {
    grant: Grant,
    host: Option<HostName>,
}

/// Passes the door, as a host or as an observer.
fn admit(rpc: &Rpc, by: By, extensions: &Extensions, start: &Start) -> Result<Admitted, Status> {
    let as_observer = || {
        let grant = rpc.door.admit(extensions, Action::Observer(ObserverCall::Watch))?;
        Ok(Admitted { grant, host: None })
    };
    let host = match HostName::new(start.name.as_str()) {
        _ if by == By::Observer => return as_observer(),
        Ok(host) => host,
        Err(_) if start.session == 0 => return as_observer(),
        Err(e) => return Err(Status::invalid_argument(format!("start.name: {e}"))),
    };
    match rpc.door.admit(extensions, Action::Host(HostCall::Watch, &host)) {
        Ok(grant) => Ok(Admitted { grant, host: Some(host) }),
        Err(_) if start.session == 0 => as_observer(),
        Err(denied) => Err(denied),
    }
}

/// The session of the watch, which the board is notified of. A watch of version 0.1 names no session: then it belongs to
/// the host of its name, if the host's session has no watch.
async fn session(
    rpc: &Rpc,
    Admitted { grant, host }: &Admitted,
    number: u64,
    peer: &str,
) -> Result<Option<Session>, Status> {
    let Some(host) = host.clone() else { return Ok(None) };
    let number = if number == 0 {
        let asked = host.clone();
        let found = rpc.door.query(grant, move |board| board.unwatched_session(&asked)).await?;
        let Some(number) = found else { return Ok(None) };
        log::info!("the watch {host} from {peer} names no session; its name makes it that of host {host}");
        number
    } else {
        number
    };
    let session = Session { host, number };
    let opened = Command::WatchOpened { session: session.clone(), peer: peer.to_owned() };
    rpc.door.apply(grant, None, opened).await?;
    Ok(Some(session))
}

/// Answers a watch.
pub(super) async fn open(
    rpc: &Rpc,
    by: By,
    request: tonic::Request<Streaming<v1::WatchRequest>>,
) -> Result<tonic::Response<Answers<v1::WatchResponse>>, Status> {
    let peer = match request.remote_addr() {
        Some(address) => address.to_string(),
        None => "unix".to_owned(),
    };
    let (_, extensions, mut requests) = request.into_parts();
    let first = requests.message().await?.and_then(|m| m.request);
    let Some(Request::Start(start)) = first else {
        return rpc.checked(Err(BadField::new("request", "something else", "`start` in the first message")));
    };
    let start = rpc.checked(Start::parse(by, start))?;
    let admitted = admit(rpc, by, &extensions, &start)?;
    let slot = rpc.door.slot(&admitted.grant, Limit::WatchesPerCaller)?;
    if let Interest::Networks(networks) = &start.interest {
        check_networks(rpc, networks.len())?;
    }
    Ok(tonic::Response::new(watch(rpc.clone(), (admitted, slot), start, peer, requests)?))
}

/// Whether a watch may follow so many networks by number.
fn check_networks(rpc: &Rpc, count: usize) -> Result<(), Status> {
    let checked = rpc.door.limits().check(Limit::WatchedNetworks, count as u64);
    checked.map_err(|exceeded| rpc.door.exceeded(exceeded))
}

fn watch(
    rpc: Rpc,
    (admitted, slot): (Admitted, Slot),
    start: Start,
    peer: String,
    requests: Streaming<v1::WatchRequest>,
) -> Result<Answers<v1::WatchResponse>, Status> {
    let everything = start.interest == Interest::Everything;
    let Start { name, interest, held, session: number, features } = start;
    let (history, store) = (rpc.history.clone(), rpc.door.store(&admitted.grant));
    let follower = Follower::new(history, store, &rpc.lineage, rpc.backlog, interest, held)?;
    let (out, answers) = mpsc::channel(FRAMES_IN_FLIGHT);
    let inbox = Arc::new(Inbox { scope_changes: Mutex::default(), arrived: Notify::new() });
    tokio::spawn(async move {
        let _open = slot;
        // In this task, since it also runs to its end if the call is dropped: what is opened is closed.
        let session = match session(&rpc, &admitted, number, &peer).await {
            Ok(session) => session,
            Err(status) => {
                // The watcher may have disconnected.
                let _ = out.send(Err(status)).await;
                return;
            }
        };
        let latest = rpc.history.latest();
        let entry = rpc.watchers.open(name, peer, everything, session.clone(), latest);
        let receiving = receive(&rpc, &entry, requests, &inbox);
        let sending = send(&rpc, &entry, follower, features, &inbox, &out);
        let end = tokio::select! {
            end = receiving => end,
            end = sending => end,
            () = wait_for_stop(rpc.stopping.clone()) => Err(Status::unavailable("the board is stopping")),
        };
        drop(entry);
        if let Err(status) = end {
            // The watcher may have disconnected. The task must not wait for one that is stuck.
            let _ = out.try_send(Err(status));
        }
        if let Some(session) = session {
            rpc.door.close_watch(&admitted.grant, session).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(answers)))
}

/// Receives the watcher's requests until it disconnects or sends a malformed one.
async fn receive(
    rpc: &Rpc,
    entry: &Entry,
    mut requests: Streaming<v1::WatchRequest>,
    inbox: &Inbox,
) -> Result<(), Status> {
    let mut strays = 0;
    while let Some(message) = requests.message().await? {
        match message.request {
            Some(Request::AckRevision(revision)) => ack(rpc, entry, revision, true, &mut strays),
            Some(Request::Ack(point)) => {
                let point = rpc.checked(parse::point("ack", &point))?;
                let ours = point.board == rpc.lineage.board() && point.run == rpc.lineage.run();
                ack(rpc, entry, point.revision, ours, &mut strays);
            }
            Some(Request::Interest(interest)) => {
                let add = rpc.checked(parse::vnis_unbounded("interest.add", interest.add))?;
                let remove = rpc.checked(parse::vnis_unbounded("interest.remove", interest.remove))?;
                let waiting = {
                    let mut changes = inbox.scope_changes.lock().unwrap_or_else(PoisonError::into_inner);
                    changes.push((add, remove));
                    changes.iter().map(|(add, remove)| add.len() + remove.len()).sum()
                };
                // A watcher that changes its mind, and reads nothing.
                check_networks(rpc, waiting)?;
                inbox.arrived.notify_one();
            }
            Some(Request::Start(_)) => {
                let bad = BadField::new("request", "`start` again", "it only in the first message");
                return rpc.checked(Err(bad));
            }
            None => {
                let bad = BadField::new("request", "nothing", "`interest` or `ack`");
                return rpc.checked(Err(bad));
            }
        }
    }
    // Half closed: the watcher sends nothing more, but still receives.
    std::future::pending().await
}

/// Counts an acknowledgement of a revision that this stream has sent. Any other is of an earlier stream, perhaps of another
/// branch. It is ignored and does not end the watch: older clients begin each watch with one.
fn ack(rpc: &Rpc, entry: &Entry, revision: u64, ours: bool, strays: &mut u64) {
    let watcher = &entry.watcher;
    let sent = watcher.sent.load(Relaxed);
    if ours && revision <= sent {
        return rpc.watchers.ack(watcher, revision);
    }
    rpc.metrics.stray_acks.inc();
    if *strays == 0 {
        log::info!(
            "watcher {} at {} acknowledges revision {revision}{}; this watch has sent {sent}: not counted",
            watcher.name,
            watcher.peer,
            if ours { "" } else { " of another run" },
        );
    }
    *strays += 1;
}

/// Sends frames as fast as the watcher takes them.
async fn send(
    rpc: &Rpc,
    entry: &Entry,
    mut follower: Follower,
    features: Option<Features>,
    inbox: &Inbox,
    out: &Out,
) -> Result<(), Status> {
    let mut latest = rpc.history.subscribe();
    let mut progress = tokio::time::interval(PROGRESS);
    progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut report_progress = false;
    loop {
        for (add, remove) in inbox.scope_changes.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            follower.interest(add, remove);
        }
        check_networks(rpc, follower.networks().unwrap_or(0))?;
        // A commit that is published from here on wakes this task.
        latest.borrow_and_update();
        let frame;
        (follower, frame) = step(follower, report_progress).await?;
        report_progress = false;
        if let Some(frame) = frame {
            record_frame(rpc, entry, &follower, &frame);
            let response = response(rpc, frame, features).map_err(|missing| {
                refuse::lacks_feature(&format!("watcher {}", entry.watcher.name), missing)
            })?;
            match tokio::time::timeout(STUCK_TIMEOUT, out.send(Ok(response))).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => return Ok(()),
                Err(_) => {
                    log::warn!(
                        "watcher {} has taken no frame for {} s: its watch ends",
                        entry.watcher.name,
                        STUCK_TIMEOUT.as_secs()
                    );
                    return Err(Status::deadline_exceeded("the watcher took no frame for too long"));
                }
            }
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return Ok(()) },
            () = inbox.arrived.notified() => {}
            // Only if needed: a thousand idle watchers must not wake twenty times a second each.
            _ = progress.tick(), if follower.progress_pending() => report_progress = true,
            () = out.closed() => return Ok(()),
        }
    }
}

/// The next frame. Reads of the store run on a blocking thread.
async fn step(mut follower: Follower, progress: bool) -> Result<(Follower, Option<Frame>), Status> {
    if !follower.needs_store() {
        let frame = follower.next(progress)?;
        return Ok((follower, frame));
    }
    tokio::task::spawn_blocking(move || {
        let frame = follower.next(progress)?;
        Ok((follower, frame))
    })
    .await
    .map_err(|e| Status::internal(e.to_string()))?
}

/// Updates the list of watchers, the metrics and the log.
fn record_frame(rpc: &Rpc, entry: &Entry, follower: &Follower, frame: &Frame) {
    let watcher = &entry.watcher;
    match frame {
        Frame::SnapshotBegin { why, revision, other_branch } => {
            rpc.metrics.snapshots.inc();
            if *other_branch {
                rpc.metrics.other_branch.inc();
                log::warn!(
                    "watcher {} at {} is sent a snapshot at revision {revision}: {why}",
                    watcher.name,
                    watcher.peer
                );
            }
            if follower.resyncs > watcher.resyncs.swap(follower.resyncs, Relaxed) {
                rpc.metrics.resyncs.inc();
                log::warn!("watcher {} is sent a new snapshot at revision {revision}: {why}", watcher.name);
            }
        }
        Frame::Resumed(revision)
        | Frame::SnapshotEnd(revision)
        | Frame::Progress(revision)
        | Frame::Delta { revision, .. }
        | Frame::Scope { revision, .. } => watcher.sent.store(*revision, Relaxed),
        Frame::SnapshotChunk(_) | Frame::SnapshotNodes(_) => {}
    }
    watcher.networks.store(follower.networks().unwrap_or(0) as u64, Relaxed);
}

/// A frame for a watcher with these features. The error is one that it lacks.
fn response(rpc: &Rpc, frame: Frame, known: Option<Features>) -> Result<v1::WatchResponse, Feature> {
    let list = |changes: &[Change]| -> Result<Vec<v1::Change>, Feature> {
        let known = known.unwrap_or_default();
        changes.iter().filter_map(|change| features::change(change, known).transpose()).collect()
    };
    let features = known.map(Into::into);
    let board_id = || rpc.lineage.board().into();
    let run_id = || rpc.lineage.run().map_or_else(Vec::new, |run| run.into());
    let numbers = |vnis: Vec<Vni>| vnis.into_iter().map(Vni::get).collect();
    let response = match frame {
        Frame::Resumed(revision) => {
            Response::Resumed(v1::Resumed { board_id: board_id(), revision, run_id: run_id(), features })
        }
        Frame::SnapshotBegin { revision, why, other_branch } => Response::SnapshotBegin(v1::SnapshotBegin {
            board_id: board_id(),
            revision,
            why,
            run_id: run_id(),
            other_branch,
            features,
        }),
        Frame::SnapshotChunk(changes) => Response::SnapshotChunk(v1::ChangeList { changes: list(&changes)? }),
        Frame::SnapshotNodes(batches) => {
            Response::SnapshotNodes(v1::NodeList { batches: batches.iter().map(Into::into).collect() })
        }
        Frame::SnapshotEnd(revision) => Response::SnapshotEnd(revision),
        Frame::Delta { revision, changes } => {
            Response::Delta(v1::Delta { revision, changes: list(&changes)? })
        }
        Frame::Scope { revision, changes, added, removed } => Response::Scope(v1::Scope {
            revision,
            changes: list(&changes)?,
            added: numbers(added),
            removed: numbers(removed),
        }),
        Frame::Progress(revision) => Response::Progress(revision),
    };
    Ok(v1::WatchResponse { response: Some(response) })
}

//! The session's task: connect, register, keep the lease, reconcile; after any error again from the start. Every attempt
//! begins with a new registration, which fences outstanding calls of the old one.

use super::{
    connect::{BoardAddress, CALL_TIMEOUT, Connection, call, connect},
    desired::{ClaimResult, Work},
    error::{Error, Reason},
    follow::{self, Position},
    migrations::Call,
    operator::MigrationTicket,
    shared::{Client, Description, Live, Out, SessionConfig, Shared, Stop, Update, deliver_events, lock},
};
use crate::{
    model::{Accepted, Features, Point, Uuid},
    proto::{emit, features, parse, v1},
};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use stopover_config::Endpoint;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

/// First pause between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause before a board is tried that could not be reached: so soon a host is back after it.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause before a board is asked again that has refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(3);
const REGISTER_TIMEOUT: Duration = Duration::from_secs(20);
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time for which a board may postpone a claim, in milliseconds.
const MAX_RETRY_MS: u64 = 10_000;

pub(super) async fn run(
    shared: Arc<Shared>,
    cfg: SessionConfig,
    updates: crossbeam::channel::Sender<Update>,
    mut stop: watch::Receiver<Stop>,
    done: std::sync::mpsc::Sender<()>,
) {
    // The bounded channel blocks its sender, which a task must not do. So a thread forwards.
    let (out, mut inbox) = mpsc::channel::<Update>(1);
    let forward = std::thread::Builder::new().name("bbs-updates".into()).spawn(move || {
        while let Some(update) = inbox.blocking_recv() {
            if updates.send(update).is_err() {
                return;
            }
        }
    });
    if let Err(e) = forward {
        lock(&shared.state).last_error = Some(format!("no thread for updates: {e}"));
        return;
    }
    let how = tokio::select! {
        how = stop.wait_for(|stop| *stop != Stop::No) => how.map_or(Stop::No, |how| *how),
        () = run_attempts(&shared, &cfg, &out) => Stop::No,
    };
    let live = lock(&shared.live).take();
    if let (Some((client, session)), Stop::Keep | Stop::WithdrawAll) = (live, how) {
        deregister(client, &cfg, session, how == Stop::WithdrawAll).await;
    }
    let _ = done.send(());
}

/// Connects again and again. Returns only after the consumer has dropped the receiver of updates.
async fn run_attempts(shared: &Shared, cfg: &SessionConfig, out: &Out) {
    let instance = cfg.instance;
    let started_at = Instant::now();
    let mut position = Position::in_part(cfg.held);
    let mut pause = FIRST_PAUSE;
    loop {
        let mut longest = UNREACHABLE_PAUSE;
        for endpoint in &cfg.endpoints {
            lock(&shared.state).endpoint = Some(endpoint.clone());
            loop {
                let started = Instant::now();
                let (was_connected, error) =
                    match attempt(shared, cfg, endpoint, instance, started_at, &mut position, out).await {
                        Ok(never) => match never {},
                        Err((was_connected, error)) => (was_connected, error),
                    };
                *lock(&shared.live) = None;
                if out.is_closed() {
                    return;
                }
                disconnected(shared, was_connected, &error, out).await;
                if !matches!(error, Error::Unreachable(_)) {
                    longest = REFUSED_PAUSE;
                }
                if was_connected && started.elapsed() > REFUSED_PAUSE {
                    pause = FIRST_PAUSE;
                }
                if !matches!(error, Error::HostChanged) {
                    break;
                }
            }
        }
        pause = pause.min(longest);
        tokio::select! {
            () = sleep(jittered(pause)) => pause *= 2,
            () = shared.accept.notified() => pause = FIRST_PAUSE,
        }
    }
}

/// Half to all of a pause, so that a thousand hosts do not come at once.
fn jittered(pause: Duration) -> Duration {
    let (random, _) = Uuid::new_v4().as_u64_pair();
    pause / 2 + (pause / 2).mul_f64((random >> 32) as f64 / f64::from(u32::MAX))
}

async fn disconnected(shared: &Shared, was_connected: bool, error: &Error, out: &Out) {
    let why = error.to_string();
    {
        let mut state = lock(&shared.state);
        if matches!(error, Error::HostChanged) {
            log::info!("board: {why}");
        } else if state.last_error.as_ref() != Some(&why) || was_connected {
            log::warn!("board: {why}");
        }
        if state.connected {
            state.since = SystemTime::now();
        }
        state.connected = false;
        state.last_error = Some(why.clone());
    }
    if was_connected {
        let _ = out.send(Update::Disconnected { why }).await;
    }
}

/// One connection, from begin to end. The flag: whether `Connected` was sent.
async fn attempt(
    shared: &Shared,
    cfg: &SessionConfig,
    endpoint: &Endpoint,
    instance: Uuid,
    started_at: Instant,
    position: &mut Position,
    out: &Out,
) -> Result<std::convert::Infallible, (bool, Error)> {
    let address = BoardAddress { endpoint: endpoint.clone(), tls: cfg.tls.clone() };
    let board = connect(address).await.map_err(|e| (false, e))?;
    let holds = held_point(shared, position);
    let description = lock(&shared.description).clone();
    let described = description.number;
    let live = match register(board.host(), cfg, &description, instance, holds).await {
        Ok(live) => live,
        Err(e) if e.reason() == Some(Reason::OtherBoard) => {
            lock(&shared.state).other_board = query_board_id(&board).await;
            return Err((false, e));
        }
        Err(e) => return Err((false, e)),
    };
    lock(&shared.desired).handle_registered();
    *lock(&shared.live) = Some((live.client.clone(), live.session));
    let number = lock(&shared.state).stream + 1;
    let stream = follow::open(&live, cfg, shared, position, number).await.map_err(|e| (false, e))?;
    {
        let mut state = lock(&shared.state);
        state.connected = true;
        state.since = SystemTime::now();
        state.host_id = Some(live.host_id);
        (state.stream, state.run) = (number, None);
        state.board = Some(live.board);
        state.other_board = None;
        state.features = live.features;
        state.described = described;
    }
    log::info!("board: registered at {endpoint} as {} (host {})", cfg.host, live.host_id);
    let closed = || (true, Error::Unreachable("the receiver of updates was dropped".into()));
    out.send(Update::Connected { stream: number }).await.map_err(|_| closed())?;
    // Each of them ends only with an error, which also ends the others.
    let error = tokio::select! {
        e = keep_lease(&live, cfg) => e,
        e = reconcile(&live, cfg, shared, started_at, out) => e,
        e = send_migration_calls(&live, cfg, shared) => e,
        e = follow::follow(stream, &live, shared, position, out) => e,
        e = other_description(shared, described) => e,
    };
    Err((true, error))
}

/// Ends when the host has another description than that of this number.
async fn other_description(shared: &Shared, number: u64) -> Error {
    while lock(&shared.description).number == number {
        shared.described.notified().await;
    }
    Error::HostChanged
}

/// The state that we hold, for the registration: that of the board we follow, or, after [`Session::accept_board`], only
/// the id of the accepted board.
///
/// [`Session::accept_board`]: super::Session::accept_board
fn held_point(shared: &Shared, position: &Position) -> Option<Point> {
    let mut accepted = lock(&shared.accepted);
    let point = position.point();
    // Done: the accepted board is now the one that we follow.
    accepted.take_if(|board| point.is_some_and(|point| point.board == *board));
    accepted.map(|board| Point { board, run: None, revision: 0 }).or(point)
}

/// The id of the board that answers.
async fn query_board_id(board: &Connection) -> Option<Uuid> {
    let info = call(board.observer().info(v1::InfoRequest {}), CALL_TIMEOUT).await.ok()?;
    parse::id("board_id", &info.board_id).ok()
}

async fn register(
    mut client: Client,
    cfg: &SessionConfig,
    description: &Description,
    instance: Uuid,
    holds: Option<Point>,
) -> Result<Live, Error> {
    let request = v1::RegisterRequest {
        host: cfg.host.as_str().to_owned(),
        vteps: description.vteps.iter().map(emit::ip).collect(),
        udp_port: cfg.udp_port.into(),
        key: Uuid::new_v4().into(),
        instance: instance.into(),
        holds: holds.map(Into::into),
        details: Some((&description.details).into()),
        features: Some(Features::all().into()),
    };
    let answer = call(client.register(request), REGISTER_TIMEOUT).await?;
    let asked = Duration::from_millis(answer.heartbeat_ms.clamp(10, 60_000));
    let heartbeat = cfg.heartbeat.map_or(asked, |node| node.min(asked));
    let board = parse::id("board_id", &answer.board_id)?;
    let features = features::parse("features", answer.features)?.unwrap_or_default();
    if let Some(held) = holds.filter(|held| held.board != board) {
        // A board of an older version does not compare by itself.
        let (held, board) = (held.board.simple(), board.simple());
        let why = format!("we forward by board {held}, and this is board {board}");
        return Err(Error::Refused { reason: Reason::OtherBoard, why });
    }
    Ok(Live { client, host_id: answer.host_id, board, session: answer.session, heartbeat, features })
}

fn session_ref(live: &Live, cfg: &SessionConfig) -> Option<v1::SessionRef> {
    let host = cfg.host.as_str().to_owned();
    Some(v1::SessionRef { host, session: live.session, key: Uuid::new_v4().into() })
}

async fn keep_lease(live: &Live, cfg: &SessionConfig) -> Error {
    let mut client = live.client.clone();
    loop {
        sleep(live.heartbeat).await;
        let beat = v1::HeartbeatRequest { session_ref: session_ref(live, cfg) };
        if let Err(e) = call(client.heartbeat(beat), CALL_TIMEOUT).await {
            return e;
        }
    }
}

async fn reconcile(
    live: &Live,
    cfg: &SessionConfig,
    shared: &Shared,
    started_at: Instant,
    out: &Out,
) -> Error {
    let mut was_idle = false;
    loop {
        let may_sync = started_at.elapsed() >= cfg.settle;
        let (work, idle) = {
            let mut desired = lock(&shared.desired);
            (
                desired.next_work(Instant::now(), may_sync),
                desired.retry_delay(Instant::now(), cfg.retry_refused / 4),
            )
        };
        let Some(work) = work else {
            // A completion may wait for a claim that was withdrawn: then no answer wakes it.
            if !std::mem::replace(&mut was_idle, true) {
                shared.migration_work.notify_one();
            }
            let until_sync =
                if may_sync { Duration::MAX } else { cfg.settle.saturating_sub(started_at.elapsed()) };
            let pause = idle.unwrap_or(Duration::MAX).min(until_sync).max(Duration::from_millis(1));
            tokio::select! {
                () = shared.work.notified() => {}
                () = sleep(pause) => {}
            }
            continue;
        };
        was_idle = false;
        while let Err(e) = send_work(live, cfg, shared, &work).await {
            if e.reason() != Some(Reason::ReadOnly) {
                return e;
            }
            // The session and its watch go on.
            note_read_only(shared, e.to_string());
            sleep(cfg.retry_refused).await;
        }
        if let Err(e) = deliver_events(shared, out).await {
            return e;
        }
    }
}

/// The board takes no writes now: said once.
fn note_read_only(shared: &Shared, why: String) {
    let mut state = lock(&shared.state);
    if state.last_error.as_ref() != Some(&why) {
        log::warn!("board: {why}");
        state.last_error = Some(why);
    }
}

/// Makes one call and records its result.
async fn send_work(live: &Live, cfg: &SessionConfig, shared: &Shared, work: &Work) -> Result<(), Error> {
    let mut client = live.client.clone();
    let session_ref = session_ref(live, cfg);
    match work {
        Work::Withdraw(keys) => {
            let nodes = keys.iter().map(|(vni, mac)| emit::node_key(*vni, *mac)).collect();
            call(client.withdraw(v1::WithdrawRequest { session_ref, nodes }), CALL_TIMEOUT).await?;
        }
        Work::Leave(vnis) => {
            let vnis = vnis.iter().map(|vni| vni.get()).collect();
            call(client.leave(v1::LeaveRequest { session_ref, vnis }), CALL_TIMEOUT).await?;
        }
        Work::Join(joins) => {
            let joins = joins.iter().map(|(vni, segment)| v1::Join { vni: vni.get(), segment: *segment });
            let request = v1::JoinRequest { session_ref, joins: joins.collect() };
            call(client.join(request), CALL_TIMEOUT).await?;
        }
        Work::Sync => {
            let answer =
                call(client.sync_claims(v1::SyncClaimsRequest { session_ref }), CALL_TIMEOUT).await?;
            if answer.nodes_deleted > 0 {
                log::info!("board: {} nodes of an earlier run withdrawn", answer.nodes_deleted);
            }
        }
        Work::Claim(batch) => {
            let claims = batch.iter().map(|(claim, _)| claim.into()).collect();
            let answer = call(client.claim(v1::ClaimRequest { session_ref, claims }), CALL_TIMEOUT).await?;
            if answer.results.len() != batch.len() {
                return Err(Error::Protocol(format!(
                    "{} results for {} claims",
                    answer.results.len(),
                    batch.len()
                )));
            }
            let now = Instant::now();
            let mut results = Vec::with_capacity(batch.len());
            for result in answer.results {
                results.push(claim_result(now, answer.revision, result)?);
            }
            let mut desired = lock(&shared.desired);
            desired.mark_answered();
            // A completion may wait for this.
            shared.migration_work.notify_one();
            for ((claim, version), claim_result) in batch.iter().zip(results) {
                let event = desired.handle_result(claim, *version, claim_result, now + cfg.retry_refused);
                desired.events.extend(event);
                desired.apply_taken(claim.vni, claim.mac);
            }
        }
    }
    lock(&shared.desired).mark_sent(work);
    Ok(())
}

fn claim_result(now: Instant, revision: u64, result: v1::ClaimResult) -> Result<ClaimResult, Error> {
    let v1::ClaimResult { refused, deferred, addresses, retry_ms } = result;
    Ok(match (deferred, retry_ms) {
        _ if !refused.is_empty() => ClaimResult::Refused(refused),
        (0, 0) => ClaimResult::Accepted(revision, addresses.map(Accepted::try_from).transpose()?),
        (0, ms) => ClaimResult::Later(now + Duration::from_millis(ms.min(MAX_RETRY_MS))),
        (migration, _) => ClaimResult::Deferred(migration),
    })
}

/// Makes the calls about migrations. A refusal is an answer; only an error of the session ends the loop.
async fn send_migration_calls(live: &Live, cfg: &SessionConfig, shared: &Shared) -> Error {
    // All claims are sent again in this session, and a completion waits for those as well.
    let all_claims = lock(&shared.desired).last_claim();
    loop {
        let through = lock(&shared.desired).answered_claim();
        let answered = |claim: u64| through >= claim.max(all_claims);
        let (next, due) = {
            let mut migrations = lock(&shared.migration_calls);
            (migrations.next_call(Instant::now(), answered), migrations.due())
        };
        let Some((key, what)) = next else {
            let pause = due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = shared.migration_work.notified() => {}
                () = sleep(pause) => {}
            }
            continue;
        };
        let answer = match call_migration(live, cfg, key, what).await {
            Ok(ticket) => Ok(ticket),
            // An answer that is not understood is no success: nothing counts as locked or moved.
            Err(e @ Error::Unreachable(_)) => return e,
            Err(e) if matches!(e.reason(), Some(Reason::Fenced | Reason::Unregistered)) => return e,
            Err(e) => Err(e.to_string()),
        };
        if let Some(update) = lock(&shared.migration_calls).handle_answer(key, Instant::now(), answer) {
            // As above.
            let _ = shared.migrations.send(update);
        }
    }
}

async fn call_migration(
    live: &Live,
    cfg: &SessionConfig,
    key: Uuid,
    what: Call,
) -> Result<MigrationTicket, Error> {
    let mut client = live.client.clone();
    let host = cfg.host.as_str().to_owned();
    let session_ref = Some(v1::SessionRef { host, session: live.session, key: key.into() });
    let answer = match what {
        Call::Begin(begin, renew) => {
            call(client.begin_migration(begin.message(session_ref, key, renew)), CALL_TIMEOUT).await
        }
        Call::Complete { migration, generation, at, cause, .. } => {
            let at = at.map_or_else(String::new, |at| at.as_str().to_owned());
            let key = Vec::new();
            let request = v1::CompleteMigrationRequest { session_ref, key, migration, generation, at, cause };
            call(client.complete_migration(request), CALL_TIMEOUT).await
        }
        Call::Abort { migration, generation, cause } => {
            let key = Vec::new();
            let request = v1::AbortMigrationRequest { session_ref, key, migration, generation, cause };
            call(client.abort_migration(request), CALL_TIMEOUT).await
        }
        Call::Report { migration, generation, report } => {
            let report = Some((&report).into());
            let request = v1::ReportMigrationRequest { session_ref, migration, generation, report };
            call(client.report_migration(request), CALL_TIMEOUT).await
        }
    };
    answer?.try_into()
}

async fn deregister(mut client: Client, cfg: &SessionConfig, session: u64, withdraw_all: bool) {
    let session_ref =
        v1::SessionRef { host: cfg.host.as_str().to_owned(), session, key: Uuid::new_v4().into() };
    let request = v1::DeregisterRequest { session_ref: Some(session_ref), withdraw_all };
    if let Err(e) = call(client.deregister(request), DEREGISTER_TIMEOUT).await {
        log::warn!("board: could not deregister: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_over_half_of_their_length() {
        let pauses: Vec<_> = (0..500).map(|_| jittered(Duration::from_millis(400)).as_millis()).collect();
        assert!(pauses.iter().all(|ms| (200..=400).contains(ms)), "{pauses:?}");
        let (short, long) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*short < 240 && *long > 360, "{short} to {long}");
    }
}

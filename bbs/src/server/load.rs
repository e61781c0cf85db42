//! The bulk load. Enters: a stream of rows, each checked for its form. Leaves: one command with all of them. An incomplete
//! stream, or a single bad row, changes nothing.

use super::{
    door::Grant,
    paced::Answers,
    rpc::{Fingerprint, Rpc},
    slots::Slot,
};
use crate::{
    board::{Command, Key, Outcome, Refusal},
    model::{Row, RowError},
    proto::{parse, v1},
};
use prost::Message;
use std::time::Duration;
use stopover_config::bbs::Limit;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use v1::load_progress::Step;

/// Rows between two reports of progress.
const REPORT_EVERY: u64 = 50_000;
/// How long the next rows of a load may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most errors that are returned; the rest are counted.
const ERRORS_NAMED: usize = 20;

type Out = mpsc::Sender<Result<v1::LoadProgress, Status>>;

pub(super) fn load(
    rpc: Rpc,
    (grant, slot): (Grant, Slot),
    requests: Streaming<v1::LoadRequest>,
) -> Answers<v1::LoadProgress> {
    let (out, answers) = mpsc::channel(16);
    tokio::spawn(async move {
        let _open = slot;
        if let Err(status) = run(&rpc, &grant, requests, &out).await {
            // The caller may have disconnected.
            let _ = out.send(Err(status)).await;
        }
    });
    Box::pin(ReceiverStream::new(answers))
}

async fn send_step(out: &Out, step: Step) {
    // The load continues even if the caller does not read the progress.
    let _ = out.send(Ok(v1::LoadProgress { step: Some(step) })).await;
}

struct Received {
    key: Key,
    rows: Vec<(u64, Row)>,
    errors: Vec<RowError>,
    wrong: u64,
}

async fn run(
    rpc: &Rpc,
    grant: &Grant,
    requests: Streaming<v1::LoadRequest>,
    out: &Out,
) -> Result<(), Status> {
    let Received { key, rows, errors, wrong } = receive(rpc, requests, out).await?;
    if wrong > 0 {
        send_step(out, refused(errors, wrong)).await;
        return Ok(());
    }
    let count = rows.len() as u64;
    send_step(out, Step::Checking(count)).await;
    let (progress, mut written) = mpsc::unbounded_channel();
    let apply = rpc.door.apply_with_progress(grant, key, Command::Load(rows), progress);
    let mut apply = std::pin::pin!(apply);
    let result = loop {
        tokio::select! {
            Some(n) = written.recv() => send_step(out, Step::Written(n)).await,
            result = &mut apply => break result?,
        }
    };
    match result {
        Ok(Outcome::Done { revision }) => {
            send_step(out, Step::Done(v1::LoadDone { revision, rows: count })).await
        }
        Ok(other) => return Err(Status::internal(format!("unexpected outcome {other:?}"))),
        Err(Refusal::Rows { errors, total }) => send_step(out, refused(errors, total)).await,
        Err(refusal) => return Err(refusal.into()),
    }
    Ok(())
}

fn refused(errors: Vec<RowError>, total: u64) -> Step {
    let errors = errors.into_iter().map(|e| v1::RowError { number: e.number, why: e.why }).collect();
    Step::Refused(v1::LoadRefused { errors, total })
}

async fn receive(rpc: &Rpc, mut requests: Streaming<v1::LoadRequest>, out: &Out) -> Result<Received, Status> {
    let mut id = None;
    let mut fingerprint = Fingerprint::START;
    let (mut rows, mut errors, mut wrong, mut place) = (Vec::new(), Vec::new(), 0, 0);
    loop {
        let Ok(message) = timeout(PATIENCE, requests.message()).await else {
            let why = format!("no rows for {} s; nothing was changed", PATIENCE.as_secs());
            return Err(Status::deadline_exceeded(why));
        };
        let Some(mut message) = message? else {
            return Err(Status::cancelled("the stream ended before `complete`; nothing was changed"));
        };
        let id = match id {
            Some(id) => id,
            None => *id.insert(rpc.checked(parse::id("key", &message.key))?),
        };
        message.key.clear();
        fingerprint = fingerprint.add(&message.encode_to_vec());
        for row in message.rows {
            place += 1;
            let number = if row.number == 0 { place } else { row.number };
            match Row::try_from(row) {
                Ok(row) if wrong == 0 => rows.push((number, row)),
                Ok(_) => {}
                Err(bad) => {
                    wrong += 1;
                    rows = Vec::new();
                    if errors.len() < ERRORS_NAMED {
                        errors.push(RowError { number, why: bad.to_string() });
                    }
                }
            }
            if place % REPORT_EVERY == 0 {
                send_step(out, Step::Received(place)).await;
            }
            rpc.door.limits().check(Limit::LoadRows, place).map_err(|e| rpc.door.exceeded(e))?;
        }
        if message.complete {
            send_step(out, Step::Received(place)).await;
            let key = Key { id, fingerprint: fingerprint.0 };
            return Ok(Received { key, rows, errors, wrong });
        }
    }
}

//! The old process: it agrees, goes on until the new one is ready, then stops and gives it all. Enters: the request, what
//! comes by the line. Leaves: the process ends, or goes on.

use super::{Occupied, PATIENCE, Word, can_be_shared};
use crate::control::{
    Control,
    request::{Reply, ReplyTo},
};
use anyhow::{Context, Result};
use crossbeam::channel::{self, Receiver, TryRecvError};
use std::time::Instant;
use stopover_ctl::{ApiError, KnownNeighbour, TakeOver, TakenOver};
use stopover_vmm::Line;

/// To whom this process gives its place.
#[derive(Debug)]
pub struct Successor {
    pid: u32,
    line: Line,
    /// Whether the other process is ready; false: it has ended.
    ready: Receiver<bool>,
    /// It is, and nothing speaks against it.
    has_place: bool,
}

impl Control {
    /// Another process asks for this one's place. If nothing speaks against it, the checkpoint is written for it, and this
    /// process goes on until the other is ready.
    pub(crate) fn take_over(&mut self, request: TakeOver, reply: ReplyTo) {
        let answer = self.agree(&request).and_then(|successor| {
            self.successor = Some(successor);
            let instance = self.board.instance().simple().to_string();
            serde_json::to_value(TakenOver { instance, neighbours: self.known_neighbours() })
                .map(Reply::Json)
                .map_err(|e| refused(&e.into()))
        });
        if let Err(error) = &answer {
            log::warn!("process {} cannot take over: {error}", request.pid);
        }
        // If nobody waits for it, the line ends, too.
        let _ = reply.send(answer);
    }

    fn agree(&mut self, request: &TakeOver) -> Result<Successor, ApiError> {
        if let Some(error) = self.occupied().refusal() {
            return Err(error);
        }
        log::info!("process {} takes over", request.pid);
        self.write_last_checkpoint();
        let line = Line::connect(&request.line).map_err(|e| refused(&e.into()))?;
        let (reported, ready) = channel::bounded(1);
        let (other_end, wake) = (line.another().map_err(|e| refused(&e.into()))?, self.ports.waker());
        let wait = move || {
            let word = Word::receive(&other_end, Instant::now() + PATIENCE);
            let _ = reported.send(matches!(word, Ok(Word::Ready)));
            wake();
        };
        let waits = std::thread::Builder::new().name("successor".to_owned()).spawn(wait);
        waits.map_err(|e| refused(&e.into()))?;
        Ok(Successor { pid: request.pid, line, ready, has_place: false })
    }

    fn known_neighbours(&self) -> Vec<KnownNeighbour> {
        let named =
            |(port, ip, mac)| KnownNeighbour { port: self.ports.name(port as u16).to_owned(), ip, mac };
        self.underlay.known().map(named).collect()
    }

    fn occupied(&self) -> Occupied {
        Occupied {
            starts: !self.forwards(),
            changes: self.changes.is_changing(),
            migrates: self.migrations.is_any_migrating(),
            yields: self.successor.is_some(),
        }
    }

    /// Whether another process is ready, and nothing speaks against it.
    pub(crate) fn gives_way(&mut self) -> bool {
        let Some(mut successor) = self.successor.take() else { return false };
        let pid = successor.pid;
        match successor.ready.try_recv() {
            Err(TryRecvError::Empty) => self.successor = Some(successor),
            Ok(false) | Err(TryRecvError::Disconnected) => {
                log::warn!("process {pid} has ended before it took over; this one goes on");
            }
            Ok(true) => match self.occupied().refusal() {
                None => {
                    successor.has_place = true;
                    self.successor = Some(successor);
                    return true;
                }
                Some(error) => {
                    log::warn!("process {pid} cannot take over: {error}");
                    if let Err(e) = Word::Refused(error).send(&successor.line) {
                        log::debug!("process {pid}: {e:#}");
                    }
                }
            },
        }
        false
    }

    /// Takes the process to which this one gives its place.
    pub(crate) fn take_successor(&mut self) -> Option<Successor> {
        self.successor.take().filter(|successor| successor.has_place)
    }

    /// Ends this process's part. The other one forwards when it has the sockets of VMMs, so what is not in its way comes
    /// before that, or last: to close a device can take tens of milliseconds.
    pub(crate) fn give_way(mut self, Successor { pid, line, .. }: Successor) -> Result<()> {
        // The lcores forward meanwhile.
        self.board.keep_lease();
        self.api.close();
        let began = Instant::now();
        self.ports.stop_lcores();
        let stopped_ms = began.elapsed().as_millis();
        let given = Word::Stopped.send(&line).and_then(|()| Ok(dpdk::vhost::relay()?.pass(&line)?));
        let given_ms = began.elapsed().as_millis();
        self.ports.close(|driver| !can_be_shared(driver));
        given.and_then(|()| Word::Closed.send(&line)).with_context(|| {
            format!("process {pid} has ended before it took over; hint: start the appliance again")
        })?;
        log::info!(
            "process {pid} has the place: {stopped_ms} ms for the last frames, {} ms for the sockets of VMMs, {} ms for other devices",
            given_ms - stopped_ms,
            began.elapsed().as_millis() - given_ms
        );
        self.ports.close(|_| true);
        Ok(())
    }
}

/// The line cannot be used.
fn refused(e: &anyhow::Error) -> ApiError {
    ApiError::new(
        format!("{e:#}"),
        "a line to the other process",
        "see that both are of the same user and reach the folder of the control socket",
    )
}

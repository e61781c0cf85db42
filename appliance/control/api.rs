//! The operator's side of the control thread: requests of the control API, counters as they were when last cleared,
//! and the one capture that may be waited for. Enters: requests, the time. Leaves: what to answer, and a captured frame
//! with the request that waited for it. `server` has the sockets, `show`, `rows`, `trace` and `metrics` make answers.

use super::{
    request::{PendingRequest, ReplyTo},
    server::Socket,
};
use crate::lcore::{capture::Capture, counters::LcoreReading};
use crate::tables::{ParkedView, View};
use crossbeam::channel::Receiver;
use dpdk::Mbuf;
use std::sync::Arc;
use stopover_ctl::{ApiError, CaptureFilter};

/// How often it is checked whether a frame was captured.
const CAPTURE_POLL_MS: u64 = 1;

/// A capture that waits for its frame.
#[derive(Debug)]
pub struct Waiting {
    /// The port.
    pub port: u16,
    until_ms: u64,
    /// Where the reply is sent.
    pub reply: ReplyTo,
}

/// See the module.
#[derive(Debug)]
pub struct Api {
    requests: Receiver<PendingRequest>,
    socket: Option<Socket>,
    /// Each lcore's counters when they were last cleared.
    cleared: Vec<LcoreReading>,
    capture: Arc<Capture>,
    waiting: Option<Waiting>,
    /// A view of the tables for traces.
    view: Option<ParkedView>,
}

impl Api {
    /// For this many lcores. Nobody can ask yet.
    pub fn new(requests: Receiver<PendingRequest>, lcores: usize, view: Option<ParkedView>) -> Self {
        let cleared = (0..lcores).map(|_| LcoreReading::default()).collect();
        Self { requests, socket: None, cleared, capture: Arc::default(), waiting: None, view }
    }

    /// Requests that wait.
    #[must_use]
    pub const fn requests(&self) -> &Receiver<PendingRequest> {
        &self.requests
    }

    /// Requests come by this.
    pub fn open(&mut self, socket: Socket) {
        self.socket = Some(socket);
    }

    /// Closes the sockets, so that another process can listen.
    pub fn close(&mut self) {
        self.socket = None;
    }

    /// Each lcore's counters when they were last cleared.
    #[must_use]
    pub fn cleared(&self) -> &[LcoreReading] {
        &self.cleared
    }

    /// Clears the lcores' counters: later ones are shown since this reading.
    pub fn clear(&mut self, now: Vec<LcoreReading>) {
        self.cleared = now;
    }

    /// The capture that the lcores look at.
    #[must_use]
    pub fn capture(&self) -> Arc<Capture> {
        Arc::clone(&self.capture)
    }

    /// Begins to wait for a frame of this port.
    pub fn begin_capture(&mut self, port: u16, filter: &CaptureFilter, until_ms: u64, reply: ReplyTo) {
        if self.waiting.is_some() {
            let _ = reply.send(Err(ApiError::new(
                "another capture is waiting for its frame",
                "one capture at a time",
                "try again when it has ended",
            )));
            return;
        }
        self.capture.arm(port, filter.src_mac, filter.dst_mac);
        self.waiting = Some(Waiting { port, until_ms, reply });
    }

    /// The captured frame, if it has arrived. Ends a capture whose time is over.
    pub fn captured(&mut self, now_ms: u64) -> Option<(Waiting, Mbuf)> {
        let waiting = self.waiting.take()?;
        if let Some(frame) = self.capture.take() {
            return Some((waiting, frame));
        }
        if now_ms < waiting.until_ms && !waiting.reply.is_closed() {
            self.waiting = Some(waiting);
            return None;
        }
        self.capture.disarm();
        let _ = waiting.reply.send(Err(ApiError::new(
            "no matching frame arrived",
            "a frame within the timeout",
            "see that the port receives (`stopover show port stats`), widen the filter, or wait longer",
        )));
        None
    }

    /// When a capture is checked again, if one waits.
    #[must_use]
    pub fn next_timeout(&self, now_ms: u64) -> Option<u64> {
        self.waiting.as_ref().map(|_| now_ms + CAPTURE_POLL_MS)
    }

    /// Takes the view for a trace.
    pub fn take_view(&mut self) -> Result<View, ApiError> {
        let view = self.view.take();
        let none = || ApiError::new("no view of the tables is free", "an idle tracer", "try again");
        Ok(view.ok_or_else(none)?.online())
    }

    /// Returns it.
    pub fn return_view(&mut self, view: View) {
        self.view = Some(view.park());
    }
}

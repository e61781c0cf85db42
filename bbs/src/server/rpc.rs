//! What all services of the board have in common: the board behind them, and the check of a host's calls.

use super::{
    door::{Door, Grant},
    history::History,
    metrics::Metrics,
    watchers::Watchers,
};
use crate::{
    access::{Action, HostCall},
    board::{Command, Key, Lineage, Outcome, Session},
    model::Event,
    proto::{
        parse::{self, SessionRef},
        v1,
    },
};
use prost::Message;
use std::{sync::Arc, time::Duration};
use tokio::sync::{broadcast, watch as signal};
use tonic::{Response, Status};

/// The services. Cloned for each of them and for each listener.
#[derive(Clone)]
pub(super) struct Rpc {
    pub door: Door,
    pub history: Arc<History>,
    pub lineage: Arc<Lineage>,
    pub events: broadcast::Sender<Event>,
    pub watchers: Arc<Watchers>,
    /// Why the board takes no writes, if it does not.
    pub read_only: signal::Receiver<Option<String>>,
    pub metrics: Arc<Metrics>,
    pub lease: Duration,
    pub heartbeat: Duration,
    /// Changes by which a watcher may be behind.
    pub backlog: u64,
    /// It listens at plain TCP.
    pub insecure: bool,
    pub stopping: signal::Receiver<bool>,
}

/// FNV-1a, 64 bits: distinguishes requests, protects nothing, and is the same in every version.
#[derive(Clone, Copy)]
pub(super) struct Fingerprint(pub u64);

impl Fingerprint {
    pub const START: Self = Self(0xcbf2_9ce4_8422_2325);

    pub fn add(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)))
    }

    pub fn of(message: &impl Message) -> u64 {
        Self::START.add(&message.encode_to_vec()).0
    }
}

pub(super) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn unexpected(outcome: &Outcome) -> Status {
    Status::internal(format!("unexpected outcome {outcome:?}"))
}

impl Rpc {
    pub(super) async fn commit(
        &self,
        grant: &Grant,
        key: Key,
        command: Command,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        match self.door.apply(grant, Some(key), command).await? {
            Outcome::Done { revision } => Ok(Response::new(v1::CommitResponse { revision })),
            other => Err(unexpected(&other)),
        }
    }

    /// Counts malformed messages.
    pub(super) fn checked<T>(&self, result: Result<T, parse::BadField>) -> Result<T, Status> {
        result.map_err(|bad| {
            self.metrics.count_malformed();
            bad.into()
        })
    }

    /// The check of every call of a host.
    pub(super) fn session_ref(
        &self,
        extensions: &tonic::Extensions,
        call: HostCall,
        session_ref: Option<v1::SessionRef>,
    ) -> Result<(Grant, SessionRef, Session), Status> {
        let session_ref = self.checked(SessionRef::parse(session_ref))?;
        let grant = self.door.admit(extensions, Action::Host(call, &session_ref.host))?;
        let session = Session { host: session_ref.host.clone(), number: session_ref.session };
        Ok((grant, session_ref, session))
    }

    pub(super) fn session_with_key<M: Message>(
        &self,
        extensions: &tonic::Extensions,
        call: HostCall,
        session_ref: Option<v1::SessionRef>,
        whole: &M,
    ) -> Result<(Grant, Session, Key), Status> {
        let (grant, session_ref, session) = self.session_ref(extensions, call, session_ref)?;
        let id = self.checked(session_ref.key())?;
        Ok((grant, session, Key { id, fingerprint: Fingerprint::of(whole) }))
    }
}

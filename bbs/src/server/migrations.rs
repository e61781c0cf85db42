//! The calls about migrations, and the task that forwards acknowledgements of watchers to the board while a completed
//! migration waits for them.

use super::{
    door::Grant,
    engine::Engine,
    paced::Answers,
    rpc::{Fingerprint, Rpc},
    wait_for_stop,
    watchers::Watchers,
};
use crate::{
    access::{Action, HostCall, OperatorCall},
    board::{Command, Key, Outcome, Principal, Ticket},
    model::{Migration, MigrationState},
    proto::{migration, parse, v1},
    records::Records,
    store::StoreError,
};
use prost::Message;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::watch as signal;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Shortest interval at which acknowledgements are forwarded. It is also the precision of the barrier's time.
const BARRIER_EVERY: Duration = Duration::from_millis(2);
/// Migrations of one message. One may have 256 deferred claims of 16 addresses: some 100 KiB.
const CHUNK: usize = 32;

/// Whose service a call is of, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    Host(HostCall),
    Operator(OperatorCall),
}

type Answer = Result<Response<v1::MigrationResponse>, Status>;

impl Rpc {
    /// The caller and its key. A host names its session; the operator has none.
    fn principal_with_key<M: Message>(
        &self,
        caller: Caller,
        extensions: &tonic::Extensions,
        session_ref: Option<v1::SessionRef>,
        key: &[u8],
        whole: &M,
    ) -> Result<(Grant, Principal, Key), Status> {
        // `whole` is without its session: the same request repeated in a later session is the same.
        let call = match caller {
            Caller::Host(call) => {
                let (grant, session, key) = self.session_with_key(extensions, call, session_ref, whole)?;
                return Ok((grant, Principal::Host(session), key));
            }
            Caller::Operator(call) => call,
        };
        let grant = self.door.admit(extensions, Action::Operator(call))?;
        if session_ref.is_some() {
            return self.checked(Err(parse::BadField::new(
                "session_ref",
                "a host's session",
                "nothing; hint: a host makes this call of HostService",
            )));
        }
        let id = self.checked(parse::id("key", key))?;
        Ok((grant, Principal::Operator, Key { id, fingerprint: Fingerprint::of(whole) }))
    }

    async fn apply_migration(&self, grant: &Grant, key: Key, command: Command) -> Answer {
        match self.door.apply(grant, Some(key), command).await? {
            Outcome::Migration { id, generation, state, revision } => {
                Ok(Response::new(v1::MigrationResponse {
                    migration: id,
                    generation,
                    state: v1::MigrationState::from(state).into(),
                    revision,
                }))
            }
            other => Err(super::rpc::unexpected(&other)),
        }
    }

    pub(super) async fn begin(&self, caller: Caller, request: Request<v1::BeginMigrationRequest>) -> Answer {
        let (_, extensions, mut m) = request.into_parts();
        let session_ref = m.session_ref.take();
        let (grant, by, key) = self.principal_with_key(caller, &extensions, session_ref, &m.key, &m)?;
        let command = Command::BeginMigration {
            by,
            nodes: self.checked(migration::node_list(m.nodes))?,
            source: self.checked(parse::host_name("source", m.source))?,
            target: self.checked(migration::optional_host("target", m.target))?,
            cause: self.checked(migration::cause(m.cause))?,
            lease_ms: self.checked(migration::lease_ms(m.lease_ms))?,
            renew: Some(m.renew).filter(|id| *id != 0),
        };
        self.apply_migration(&grant, key, command).await
    }

    pub(super) async fn complete(
        &self,
        caller: Caller,
        request: Request<v1::CompleteMigrationRequest>,
    ) -> Answer {
        let (_, extensions, mut m) = request.into_parts();
        let session_ref = m.session_ref.take();
        let (grant, by, key) = self.principal_with_key(caller, &extensions, session_ref, &m.key, &m)?;
        let ticket = Ticket { migration: m.migration, generation: m.generation };
        let at = self.checked(migration::optional_host("at", m.at))?;
        let cause = self.checked(migration::cause(m.cause))?;
        self.apply_migration(&grant, key, Command::CompleteMigration { by, ticket, at, cause }).await
    }

    pub(super) async fn abort(&self, caller: Caller, request: Request<v1::AbortMigrationRequest>) -> Answer {
        let (_, extensions, mut m) = request.into_parts();
        let session_ref = m.session_ref.take();
        let (grant, by, key) = self.principal_with_key(caller, &extensions, session_ref, &m.key, &m)?;
        let ticket = Ticket { migration: m.migration, generation: m.generation };
        let cause = self.checked(migration::cause(m.cause))?;
        self.apply_migration(&grant, key, Command::AbortMigration { by, ticket, cause }).await
    }

    pub(super) async fn report(&self, request: Request<v1::ReportMigrationRequest>) -> Answer {
        let (_, extensions, mut m) = request.into_parts();
        let session_ref = m.session_ref.take();
        let call = HostCall::ReportMigration;
        let (grant, session, key) = self.session_with_key(&extensions, call, session_ref, &m)?;
        let ticket = Ticket { migration: m.migration, generation: m.generation };
        let report = self.checked(parse::required("report", m.report))?.into();
        self.apply_migration(&grant, key, Command::ReportMigration { session, ticket, report }).await
    }

    pub(super) async fn list_all(
        &self,
        grant: &Grant,
        m: v1::ListMigrationsRequest,
    ) -> Result<Answers<v1::ListMigrationsResponse>, Status> {
        let store = self.door.store(grant);
        let all = tokio::task::spawn_blocking(move || {
            let view = store.view()?;
            match m.migration {
                0 => Ok(view.all::<Migration>()?.into_iter().map(|(_, migration)| migration).collect()),
                id => Ok(view.record::<Migration>(id)?.into_iter().collect()),
            }
        });
        let all: Result<Vec<_>, StoreError> = all.await.map_err(|e| Status::internal(e.to_string()))?;
        let mut all = all?;
        all.retain(|one| !m.active || one.state == MigrationState::Locked);
        let chunks: Vec<_> = all
            .chunks(CHUNK)
            .map(|c| Ok(v1::ListMigrationsResponse { migrations: c.iter().map(Into::into).collect() }))
            .collect();
        let (out, answers) = tokio::sync::mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            // The channel has room for all of them.
            let _ = out.try_send(chunk);
        }
        Ok(Box::pin(ReceiverStream::new(answers)))
    }
}

/// Forwards acknowledgements to the board while `pending`, the number of open barriers, is not 0.
pub(super) async fn forward_acks(
    engine: Engine,
    watchers: Arc<Watchers>,
    pending: Arc<AtomicUsize>,
    stopping: signal::Receiver<bool>,
) {
    let stop = wait_for_stop(stopping);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = watchers.acknowledged() => {}
        }
        // A barrier is counted before its revision is published, and so before its first acknowledgement.
        let acks = watchers.take_acks();
        if pending.load(Relaxed) == 0 || acks.is_empty() {
            continue;
        }
        if engine.apply(None, Command::Acked(acks)).await.is_err() {
            return;
        }
        tokio::time::sleep(BARRIER_EVERY).await;
    }
}

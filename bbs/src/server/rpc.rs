//! The gRPC service. Every message is checked by [`crate::proto::parse`] first, so that a malformed one changes nothing.
//! Every call that changes something is passed to the engine.

use super::{
    engine::Engine, history::History, identity, lists, load, metrics::Metrics, watch, watchers::Watchers,
};
use crate::{
    board::{Command, Key, Lineage, Outcome, Session},
    model::{Event, Registration, Row, Target},
    proto::{
        parse::{self, SessionRef},
        v1,
    },
    store::Store,
};
use prost::Message;
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{broadcast, watch as signal};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// The return value of a streaming call.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service. Cloned for each listener.
#[derive(Clone)]
pub(super) struct Rpc {
    pub engine: Engine,
    pub history: Arc<History>,
    pub lineage: Arc<Lineage>,
    pub store: Arc<dyn Store>,
    pub events: broadcast::Sender<Event>,
    pub watchers: Arc<Watchers>,
    pub metrics: Arc<Metrics>,
    pub lease: Duration,
    pub heartbeat: Duration,
    /// Changes by which a watcher may be behind.
    pub backlog: u64,
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

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn unexpected(outcome: &Outcome) -> Status {
    Status::internal(format!("unexpected outcome {outcome:?}"))
}

impl Rpc {
    pub(super) async fn apply(&self, key: Option<Key>, command: Command) -> Result<Outcome, Status> {
        Ok(self.engine.apply(key, command).await??)
    }

    async fn commit(&self, key: Key, command: Command) -> Result<Response<v1::CommitResponse>, Status> {
        match self.apply(Some(key), command).await? {
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
    fn session_ref(
        &self,
        extensions: &tonic::Extensions,
        session_ref: Option<v1::SessionRef>,
    ) -> Result<(SessionRef, Session), Status> {
        let session_ref = self.checked(SessionRef::parse(session_ref))?;
        identity::authorize_host(extensions, &session_ref.host)?;
        let session = Session { host: session_ref.host.clone(), number: session_ref.session };
        Ok((session_ref, session))
    }

    pub(super) fn session_with_key<M: Message>(
        &self,
        extensions: &tonic::Extensions,
        session_ref: Option<v1::SessionRef>,
        whole: &M,
    ) -> Result<(Session, Key), Status> {
        let (session_ref, session) = self.session_ref(extensions, session_ref)?;
        let id = self.checked(session_ref.key())?;
        Ok((session, Key { id, fingerprint: Fingerprint::of(whole) }))
    }
}

#[tonic::async_trait]
impl v1::board_server::Board for Rpc {
    type LoadStream = Answers<v1::LoadProgress>;
    type ListHostsStream = Answers<v1::ListHostsResponse>;
    type ListNetworksStream = Answers<v1::ListNetworksResponse>;
    type ListMembersStream = Answers<v1::ListMembersResponse>;
    type ListNodesStream = Answers<v1::ListNodesResponse>;
    type ListMigrationsStream = Answers<v1::ListMigrationsResponse>;
    type EventsStream = Answers<v1::EventsResponse>;
    type WatchStream = Answers<v1::WatchResponse>;

    async fn info(&self, _: Request<v1::InfoRequest>) -> Result<Response<v1::InfoResponse>, Status> {
        let (counts, revision) = self.engine.query(|board| (board.counts(), board.revision())).await?;
        Ok(Response::new(v1::InfoResponse {
            board_id: self.store.board_id().into(),
            revision,
            oldest_resumable: self.history.oldest(),
            hosts: counts.hosts,
            networks: counts.networks,
            nodes: counts.nodes,
            members: counts.members,
            watchers: self.watchers.summary(revision).open,
            lease_ms: millis(self.lease),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            run_id: self.lineage.run().map_or_else(Vec::new, |run| run.into()),
        }))
    }

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let registration = self.checked(Registration::try_from(&m))?;
        identity::authorize_host(&extensions, &registration.host)?;
        let id = self.checked(parse::id("key", &m.key))?;
        let key = Key { id, fingerprint: Fingerprint::of(&m) };
        match self.apply(Some(key), Command::Register(registration)).await? {
            Outcome::Registered { host_id, session, revision } => Ok(Response::new(v1::RegisterResponse {
                host_id,
                session,
                lease_ms: millis(self.lease),
                revision,
                board_id: self.store.board_id().into(),
                heartbeat_ms: millis(self.heartbeat),
            })),
            other => Err(unexpected(&other)),
        }
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let (_, session) = self.session_ref(&extensions, m.session_ref)?;
        self.apply(None, Command::Heartbeat(session)).await?;
        Ok(Response::new(v1::HeartbeatResponse { lease_ms: millis(self.lease) }))
    }

    async fn deregister(
        &self,
        request: Request<v1::DeregisterRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let (session, key) = self.session_with_key(&extensions, m.session_ref.clone(), &m)?;
        self.commit(key, Command::Deregister { session, withdraw_all: m.withdraw_all }).await
    }

    async fn claim(&self, request: Request<v1::ClaimRequest>) -> Result<Response<v1::ClaimResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let (session, key) = self.session_with_key(&extensions, m.session_ref.clone(), &m)?;
        let claims = self.checked(parse::claims(m.claims))?;
        match self.apply(Some(key), Command::Claim { session, claims }).await? {
            Outcome::Claimed { revision, judged, refused, deferred, partial, later } => {
                let mut results = vec![v1::ClaimResult::default(); judged as usize];
                for (i, why) in refused {
                    if let Some(result) = results.get_mut(i as usize) {
                        result.refused = why;
                    }
                }
                for (i, migration) in deferred {
                    if let Some(result) = results.get_mut(i as usize) {
                        result.deferred = migration;
                    }
                }
                for (i, accepted) in partial {
                    if let Some(result) = results.get_mut(i as usize) {
                        result.addresses = Some((&accepted).into());
                    }
                }
                for (i, retry_ms) in later {
                    if let Some(result) = results.get_mut(i as usize) {
                        result.retry_ms = retry_ms;
                    }
                }
                Ok(Response::new(v1::ClaimResponse { revision, results }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn withdraw(
        &self,
        request: Request<v1::WithdrawRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let (session, key) = self.session_with_key(&extensions, m.session_ref.clone(), &m)?;
        let nodes = self.checked(parse::node_keys(m.nodes))?;
        self.commit(key, Command::Withdraw { session, nodes }).await
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::CommitResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let (session, key) = self.session_with_key(&extensions, m.session_ref.clone(), &m)?;
        let networks = self.checked(parse::joins(m.joins))?;
        self.commit(key, Command::Join { session, networks }).await
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let (session, key) = self.session_with_key(&extensions, m.session_ref.clone(), &m)?;
        let networks = self.checked(parse::vnis("vnis", m.vnis))?;
        self.commit(key, Command::Leave { session, networks }).await
    }

    async fn sync_claims(
        &self,
        request: Request<v1::SyncClaimsRequest>,
    ) -> Result<Response<v1::SyncClaimsResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let (session, key) = self.session_with_key(&extensions, m.session_ref.clone(), &m)?;
        match self.apply(Some(key), Command::SyncClaims(session)).await? {
            Outcome::Synced { revision, nodes_deleted } => {
                Ok(Response::new(v1::SyncClaimsResponse { revision, nodes_deleted }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn declare(
        &self,
        request: Request<v1::DeclareRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let m = request.into_inner();
        let id = self.checked(parse::id("key", &m.key))?;
        let key = Key { id, fingerprint: Fingerprint::of(&m) };
        let row = m.row.ok_or_else(|| parse::BadField::new("row", "nothing", "a row to declare"));
        let row = self.checked(row.and_then(|row| Row::try_from(row).map_err(|e| e.within("row"))))?;
        self.commit(key, Command::Declare(row)).await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let m = request.into_inner();
        let id = self.checked(parse::id("key", &m.key))?;
        let key = Key { id, fingerprint: Fingerprint::of(&m) };
        let target = self.checked(Target::try_from(m))?;
        self.commit(key, Command::Delete(target)).await
    }

    async fn load(
        &self,
        request: Request<Streaming<v1::LoadRequest>>,
    ) -> Result<Response<Self::LoadStream>, Status> {
        Ok(Response::new(load::load(self.clone(), request.into_inner())))
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<Self::ListHostsStream>, Status> {
        let name = request.into_inner().name;
        let name = if name.is_empty() { None } else { Some(self.checked(parse::host_name("name", name))?) };
        let counts = self.engine.query(|board| board.host_counts()).await?;
        Ok(Response::new(lists::hosts(self.store.clone(), name, counts, self.watchers.by_host())))
    }

    async fn list_networks(
        &self,
        _: Request<v1::ListNetworksRequest>,
    ) -> Result<Response<Self::ListNetworksStream>, Status> {
        let counts = self.engine.query(|board| board.network_counts()).await?;
        Ok(Response::new(lists::networks(self.store.clone(), counts)))
    }

    async fn list_members(
        &self,
        request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<Self::ListMembersStream>, Status> {
        let vni = self.checked(lists::optional_vni(request.into_inner().vni))?;
        Ok(Response::new(lists::members(self.store.clone(), vni)))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<Self::ListNodesStream>, Status> {
        let filter = self.checked(lists::NodeFilter::try_from(request.into_inner()))?;
        Ok(Response::new(lists::nodes(self.store.clone(), filter)))
    }

    async fn begin_migration(
        &self,
        request: Request<v1::BeginMigrationRequest>,
    ) -> Result<Response<v1::MigrationResponse>, Status> {
        self.begin(request).await
    }

    async fn complete_migration(
        &self,
        request: Request<v1::CompleteMigrationRequest>,
    ) -> Result<Response<v1::MigrationResponse>, Status> {
        self.complete(request).await
    }

    async fn abort_migration(
        &self,
        request: Request<v1::AbortMigrationRequest>,
    ) -> Result<Response<v1::MigrationResponse>, Status> {
        self.abort(request).await
    }

    async fn report_migration(
        &self,
        request: Request<v1::ReportMigrationRequest>,
    ) -> Result<Response<v1::MigrationResponse>, Status> {
        self.report(request).await
    }

    async fn list_migrations(
        &self,
        request: Request<v1::ListMigrationsRequest>,
    ) -> Result<Response<Self::ListMigrationsStream>, Status> {
        Ok(Response::new(self.list_all(request.into_inner()).await?))
    }

    async fn list_watchers(
        &self,
        request: Request<v1::ListWatchersRequest>,
    ) -> Result<Response<v1::ListWatchersResponse>, Status> {
        Ok(Response::new(lists::watchers(&self.watchers, request.into_inner().after, lists::WATCHERS)))
    }

    async fn events(
        &self,
        request: Request<v1::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        Ok(Response::new(lists::events(self.clone(), &request.into_inner())))
    }

    async fn watch(
        &self,
        request: Request<Streaming<v1::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = match request.remote_addr() {
            Some(address) => address.to_string(),
            None => "unix".to_owned(),
        };
        let (_, extensions, mut requests) = request.into_parts();
        let first = requests.message().await?.and_then(|m| m.request);
        let Some(v1::watch_request::Request::Start(start)) = first else {
            let bad = parse::BadField::new("request", "something else", "`start` in the first message");
            return self.checked(Err(bad));
        };
        let start = self.checked(watch::Start::try_from(start))?;
        Ok(Response::new(watch::watch(self.clone(), start, extensions, peer, requests)?))
    }
}

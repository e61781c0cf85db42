//! The calls of a host's appliance.

use crate::{
    access::{Action, HostCall},
    board::{Command, Key, Outcome},
    model::Registration,
    proto::{features, parse, v1},
    server::{
        migrations::Caller,
        paced::Answers,
        rpc::{Fingerprint, Rpc, millis, unexpected},
        watch,
    },
};
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl v1::host_service_server::HostService for Rpc {
    type WatchStream = Answers<v1::WatchResponse>;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let registration = self.checked(Registration::try_from(&m))?;
        let features = self.checked(features::parse("features", m.features.clone()))?;
        let action = Action::Host(HostCall::Register, &registration.host);
        let grant = self.door.admit(&extensions, action)?;
        let id = self.checked(parse::id("key", &m.key))?;
        let key = Key { id, fingerprint: Fingerprint::of(&m) };
        match self.door.apply(&grant, Some(key), Command::Register(registration)).await? {
            Outcome::Registered { host_id, session, revision } => Ok(Response::new(v1::RegisterResponse {
                host_id,
                session,
                lease_ms: millis(self.lease),
                revision,
                board_id: self.lineage.board().into(),
                heartbeat_ms: millis(self.heartbeat),
                features: features.map(Into::into),
            })),
            other => Err(unexpected(&other)),
        }
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let (grant, _, session) = self.session_ref(&extensions, HostCall::Heartbeat, m.session_ref)?;
        self.door.apply(&grant, None, Command::Heartbeat(session)).await?;
        Ok(Response::new(v1::HeartbeatResponse { lease_ms: millis(self.lease) }))
    }

    async fn deregister(
        &self,
        request: Request<v1::DeregisterRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let call = HostCall::Deregister;
        let (grant, session, key) = self.session_with_key(&extensions, call, m.session_ref.clone(), &m)?;
        self.commit(&grant, key, Command::Deregister { session, withdraw_all: m.withdraw_all }).await
    }

    async fn claim(&self, request: Request<v1::ClaimRequest>) -> Result<Response<v1::ClaimResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let call = HostCall::Claim;
        let (grant, session, key) = self.session_with_key(&extensions, call, m.session_ref.clone(), &m)?;
        let claims = self.checked(parse::claims(m.claims))?;
        match self.door.apply(&grant, Some(key), Command::Claim { session, claims }).await? {
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
        let call = HostCall::Withdraw;
        let (grant, session, key) = self.session_with_key(&extensions, call, m.session_ref.clone(), &m)?;
        let nodes = self.checked(parse::node_keys(m.nodes))?;
        self.commit(&grant, key, Command::Withdraw { session, nodes }).await
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::CommitResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let call = HostCall::Join;
        let (grant, session, key) = self.session_with_key(&extensions, call, m.session_ref.clone(), &m)?;
        let networks = self.checked(parse::joins(m.joins))?;
        self.commit(&grant, key, Command::Join { session, networks }).await
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let call = HostCall::Leave;
        let (grant, session, key) = self.session_with_key(&extensions, call, m.session_ref.clone(), &m)?;
        let networks = self.checked(parse::vnis("vnis", m.vnis))?;
        self.commit(&grant, key, Command::Leave { session, networks }).await
    }

    async fn sync_claims(
        &self,
        request: Request<v1::SyncClaimsRequest>,
    ) -> Result<Response<v1::SyncClaimsResponse>, Status> {
        let (_, extensions, m) = request.into_parts();
        let call = HostCall::SyncClaims;
        let (grant, session, key) = self.session_with_key(&extensions, call, m.session_ref.clone(), &m)?;
        match self.door.apply(&grant, Some(key), Command::SyncClaims(session)).await? {
            Outcome::Synced { revision, nodes_deleted } => {
                Ok(Response::new(v1::SyncClaimsResponse { revision, nodes_deleted }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn begin_migration(
        &self,
        request: Request<v1::BeginMigrationRequest>,
    ) -> Result<Response<v1::MigrationResponse>, Status> {
        self.begin(Caller::Host(HostCall::BeginMigration), request).await
    }

    async fn complete_migration(
        &self,
        request: Request<v1::CompleteMigrationRequest>,
    ) -> Result<Response<v1::MigrationResponse>, Status> {
        self.complete(Caller::Host(HostCall::CompleteMigration), request).await
    }

    async fn abort_migration(
        &self,
        request: Request<v1::AbortMigrationRequest>,
    ) -> Result<Response<v1::MigrationResponse>, Status> {
        self.abort(Caller::Host(HostCall::AbortMigration), request).await
    }

    async fn report_migration(
        &self,
        request: Request<v1::ReportMigrationRequest>,
    ) -> Result<Response<v1::MigrationResponse>, Status> {
        self.report(request).await
    }

    async fn watch(
        &self,
        request: Request<Streaming<v1::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        watch::open(self, watch::By::Host, request).await
    }
}

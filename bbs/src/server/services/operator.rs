//! The calls of people and tools that change what the board holds.

use crate::{
    access::{Action, OperatorCall},
    board::{Command, Key},
    model::{Row, Target},
    proto::{parse, v1},
    server::{
        backup, load,
        migrations::Caller,
        paced::Answers,
        rpc::{Fingerprint, Rpc},
    },
};
use stopover_config::bbs::Limit;
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl v1::operator_service_server::OperatorService for Rpc {
    type LoadStream = Answers<v1::LoadProgress>;
    type BackupStream = Answers<v1::BackupChunk>;

    async fn declare(
        &self,
        request: Request<v1::DeclareRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let grant = self.door.admit(request.extensions(), Action::Operator(OperatorCall::Declare))?;
        let m = request.into_inner();
        let id = self.checked(parse::id("key", &m.key))?;
        let key = Key { id, fingerprint: Fingerprint::of(&m) };
        let row = m.row.ok_or_else(|| parse::BadField::new("row", "nothing", "a row to declare"));
        let row = self.checked(row.and_then(|row| Row::try_from(row).map_err(|e| e.within("row"))))?;
        self.commit(&grant, key, Command::Declare(row)).await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let grant = self.door.admit(request.extensions(), Action::Operator(OperatorCall::Delete))?;
        let m = request.into_inner();
        let id = self.checked(parse::id("key", &m.key))?;
        let key = Key { id, fingerprint: Fingerprint::of(&m) };
        let target = self.checked(Target::try_from(m))?;
        self.commit(&grant, key, Command::Delete(target)).await
    }

    async fn load(
        &self,
        request: Request<Streaming<v1::LoadRequest>>,
    ) -> Result<Response<Self::LoadStream>, Status> {
        let grant = self.door.admit(request.extensions(), Action::Operator(OperatorCall::Load))?;
        let slot = self.door.slot_of_all(Limit::Loads)?;
        Ok(Response::new(load::load(self.clone(), (grant, slot), request.into_inner())))
    }

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let grant = self.door.admit(request.extensions(), Action::Operator(OperatorCall::Backup))?;
        Ok(Response::new(backup::backup(self.door.read(&grant)?)))
    }

    async fn begin_migration(
        &self,
        request: Request<v1::BeginMigrationRequest>,
    ) -> Result<Response<v1::MigrationResponse>, Status> {
        self.begin(Caller::Operator(OperatorCall::BeginMigration), request).await
    }

    async fn complete_migration(
        &self,
        request: Request<v1::CompleteMigrationRequest>,
    ) -> Result<Response<v1::MigrationResponse>, Status> {
        self.complete(Caller::Operator(OperatorCall::CompleteMigration), request).await
    }

    async fn abort_migration(
        &self,
        request: Request<v1::AbortMigrationRequest>,
    ) -> Result<Response<v1::MigrationResponse>, Status> {
        self.abort(Caller::Operator(OperatorCall::AbortMigration), request).await
    }
}

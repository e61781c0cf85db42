//! The service of before: every call is passed to one of the services that have replaced it.

use crate::{
    proto::v1::{
        self, board_server::Board, host_service_server::HostService,
        observer_service_server::ObserverService, operator_service_server::OperatorService,
    },
    server::{rpc::Rpc, watch},
};
use tonic::{Request, Response, Status, Streaming};

/// `Calls`: an answer for a request. `by_session`: the host's if the request names a session, otherwise the operator's.
macro_rules! board {
    (
        streams: { $($stream:ident by $by:ident;)* }
        calls: { $($call:ident($request:ty) -> $answer:ty, $service:ident;)* }
        by_session: { $($either:ident($either_request:ty);)* }
    ) => {
        #[tonic::async_trait]
        impl Board for Rpc {
            $(type $stream = <Self as $by>::$stream;)*
            type WatchStream = <Self as HostService>::WatchStream;

            $(async fn $call(&self, request: Request<$request>) -> Result<Response<$answer>, Status> {
                $service::$call(self, request).await
            })*

            $(async fn $either(
                &self,
                request: Request<$either_request>,
            ) -> Result<Response<v1::MigrationResponse>, Status> {
                match request.get_ref().session_ref {
                    Some(_) => HostService::$either(self, request).await,
                    None => OperatorService::$either(self, request).await,
                }
            })*

            async fn watch(
                &self,
                request: Request<Streaming<v1::WatchRequest>>,
            ) -> Result<Response<Self::WatchStream>, Status> {
                watch::open(self, watch::By::Name, request).await
            }
        }
    };
}

board! {
    streams: {
        LoadStream by OperatorService;
        ListHostsStream by ObserverService;
        ListNetworksStream by ObserverService;
        ListMembersStream by ObserverService;
        ListNodesStream by ObserverService;
        EventsStream by ObserverService;
        ListMigrationsStream by ObserverService;
    }
    calls: {
        info(v1::InfoRequest) -> v1::InfoResponse, ObserverService;
        register(v1::RegisterRequest) -> v1::RegisterResponse, HostService;
        heartbeat(v1::HeartbeatRequest) -> v1::HeartbeatResponse, HostService;
        deregister(v1::DeregisterRequest) -> v1::CommitResponse, HostService;
        claim(v1::ClaimRequest) -> v1::ClaimResponse, HostService;
        withdraw(v1::WithdrawRequest) -> v1::CommitResponse, HostService;
        join(v1::JoinRequest) -> v1::CommitResponse, HostService;
        leave(v1::LeaveRequest) -> v1::CommitResponse, HostService;
        sync_claims(v1::SyncClaimsRequest) -> v1::SyncClaimsResponse, HostService;
        declare(v1::DeclareRequest) -> v1::CommitResponse, OperatorService;
        delete(v1::DeleteRequest) -> v1::CommitResponse, OperatorService;
        load(Streaming<v1::LoadRequest>) -> <Self as OperatorService>::LoadStream, OperatorService;
        list_hosts(v1::ListHostsRequest) -> <Self as ObserverService>::ListHostsStream, ObserverService;
        list_networks(v1::ListNetworksRequest) -> <Self as ObserverService>::ListNetworksStream, ObserverService;
        list_members(v1::ListMembersRequest) -> <Self as ObserverService>::ListMembersStream, ObserverService;
        list_nodes(v1::ListNodesRequest) -> <Self as ObserverService>::ListNodesStream, ObserverService;
        list_watchers(v1::ListWatchersRequest) -> v1::ListWatchersResponse, ObserverService;
        events(v1::EventsRequest) -> <Self as ObserverService>::EventsStream, ObserverService;
        report_migration(v1::ReportMigrationRequest) -> v1::MigrationResponse, HostService;
        list_migrations(v1::ListMigrationsRequest) -> <Self as ObserverService>::ListMigrationsStream, ObserverService;
    }
    by_session: {
        begin_migration(v1::BeginMigrationRequest);
        complete_migration(v1::CompleteMigrationRequest);
        abort_migration(v1::AbortMigrationRequest);
    }
}

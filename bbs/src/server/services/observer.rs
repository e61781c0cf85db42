//! The calls that read. Nothing here changes the board.

use crate::{
    access::{Action, ObserverCall},
    proto::{parse, v1},
    server::{
        lists,
        paced::Answers,
        rpc::{Rpc, millis},
        watch,
    },
};
use stopover_config::bbs::Limit;
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl v1::observer_service_server::ObserverService for Rpc {
    type ListHostsStream = Answers<v1::ListHostsResponse>;
    type ListNetworksStream = Answers<v1::ListNetworksResponse>;
    type ListMembersStream = Answers<v1::ListMembersResponse>;
    type ListNodesStream = Answers<v1::ListNodesResponse>;
    type ListMigrationsStream = Answers<v1::ListMigrationsResponse>;
    type EventsStream = Answers<v1::EventsResponse>;
    type WatchStream = Answers<v1::WatchResponse>;

    async fn info(&self, request: Request<v1::InfoRequest>) -> Result<Response<v1::InfoResponse>, Status> {
        let grant = self.door.admit(request.extensions(), Action::Observer(ObserverCall::Info))?;
        let (counts, revision) = self.door.query(&grant, |board| (board.counts(), board.revision())).await?;
        Ok(Response::new(v1::InfoResponse {
            board_id: self.lineage.board().into(),
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
            insecure: self.insecure,
            read_only: self.read_only.borrow().clone().unwrap_or_default(),
        }))
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<Self::ListHostsStream>, Status> {
        let grant = self.door.admit(request.extensions(), Action::Observer(ObserverCall::ListHosts))?;
        let name = request.into_inner().name;
        let name = if name.is_empty() { None } else { Some(self.checked(parse::host_name("name", name))?) };
        let counts = self.door.query(&grant, |board| board.host_counts()).await?;
        Ok(Response::new(lists::hosts(self.door.read(&grant)?, name, counts, self.watchers.by_host())))
    }

    async fn list_networks(
        &self,
        request: Request<v1::ListNetworksRequest>,
    ) -> Result<Response<Self::ListNetworksStream>, Status> {
        let grant = self.door.admit(request.extensions(), Action::Observer(ObserverCall::ListNetworks))?;
        let counts = self.door.query(&grant, |board| board.network_counts()).await?;
        Ok(Response::new(lists::networks(self.door.read(&grant)?, counts)))
    }

    async fn list_members(
        &self,
        request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<Self::ListMembersStream>, Status> {
        let grant = self.door.admit(request.extensions(), Action::Observer(ObserverCall::ListMembers))?;
        let vni = self.checked(lists::optional_vni(request.into_inner().vni))?;
        Ok(Response::new(lists::members(self.door.read(&grant)?, vni)))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<Self::ListNodesStream>, Status> {
        let grant = self.door.admit(request.extensions(), Action::Observer(ObserverCall::ListNodes))?;
        let filter = self.checked(lists::NodeFilter::try_from(request.into_inner()))?;
        Ok(Response::new(lists::nodes(self.door.read(&grant)?, filter)))
    }

    async fn list_migrations(
        &self,
        request: Request<v1::ListMigrationsRequest>,
    ) -> Result<Response<Self::ListMigrationsStream>, Status> {
        let grant = self.door.admit(request.extensions(), Action::Observer(ObserverCall::ListMigrations))?;
        Ok(Response::new(self.list_all(&grant, request.into_inner()).await?))
    }

    async fn list_watchers(
        &self,
        request: Request<v1::ListWatchersRequest>,
    ) -> Result<Response<v1::ListWatchersResponse>, Status> {
        self.door.admit(request.extensions(), Action::Observer(ObserverCall::ListWatchers))?;
        Ok(Response::new(lists::watchers(&self.watchers, request.into_inner().after, lists::WATCHERS)))
    }

    async fn events(
        &self,
        request: Request<v1::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let grant = self.door.admit(request.extensions(), Action::Observer(ObserverCall::Events))?;
        let slot = self.door.slot(&grant, Limit::WatchesPerCaller)?;
        Ok(Response::new(lists::events(self.clone(), (grant, slot), &request.into_inner())))
    }

    async fn watch(
        &self,
        request: Request<Streaming<v1::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        watch::open(self, watch::By::Observer, request).await
    }
}

//! A host with nodes and migrations, for which calls are made, and the messages of these calls. Each message is well formed
//! and would succeed if its caller might make it: what refuses it is the door, and nothing else.

use super::{
    table::Rpc,
    wire::{Outcome, call},
};
use anyhow::{Context, anyhow};
use prost::Message;
use stopover_bbs::proto::v1;
use tonic::transport::Channel;

/// The network of all nodes here.
const VNI: u32 = 7;
/// What `Delete` deletes.
const DOOMED: u32 = 78;
/// Nothing here ends by itself.
const LEASE_MS: u64 = 3_600_000;

pub fn key() -> Vec<u8> {
    fastrand::u128(..).to_be_bytes().to_vec()
}

/// A host.
pub struct Ground {
    host: String,
    number: u8,
    instance: Vec<u8>,
    session: u64,
    /// Of migrations.
    ticket: (u64, u64),
    nodes: u32,
    /// By which the host itself calls.
    owner: Channel,
    /// By which an operator calls.
    operator: Channel,
    /// The session may have ended.
    is_stale: bool,
}

fn rpc(service: &str, method: &str) -> Rpc {
    Rpc { service: service.to_owned(), method: method.to_owned() }
}

fn one(message: &impl Message) -> Vec<Vec<u8>> {
    vec![message.encode_to_vec()]
}

/// A call that prepares another.
fn made(what: &str, done: Result<Vec<Vec<u8>>, Outcome>) -> anyhow::Result<Vec<u8>> {
    let answers = done.map_err(|outcome| anyhow!("{what}: {outcome}"))?;
    answers.into_iter().next().with_context(|| format!("{what}: no answer"))
}

fn network(vni: u32) -> v1::Row {
    let network = v1::Network { vni, name: format!("n{:08x}", fastrand::u32(..)), ..v1::Network::default() };
    v1::Row { row: Some(v1::row::Row::Network(network)), number: 0 }
}

impl Ground {
    /// Registers the host.
    pub async fn new(host: &str, number: u8, owner: Channel, operator: Channel) -> anyhow::Result<Self> {
        let mut ground = Self {
            host: host.to_owned(),
            number,
            instance: key(),
            session: 0,
            ticket: (0, 0),
            nodes: 0,
            owner,
            operator,
            is_stale: true,
        };
        ground.prepare("Register").await?;
        Ok(ground)
    }

    /// Another process of the same name.
    pub fn second(&self, number: u8) -> Self {
        let (owner, operator) = (self.owner.clone(), self.operator.clone());
        Self {
            host: self.host.clone(),
            number,
            instance: key(),
            session: 0,
            ticket: (0, 0),
            nodes: 0,
            owner,
            operator,
            is_stale: true,
        }
    }

    /// Of the host.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Makes that a call with this name can succeed.
    pub async fn prepare(&mut self, method: &str) -> anyhow::Result<()> {
        if std::mem::take(&mut self.is_stale) {
            let answer = call(&self.owner, &rpc("HostService", "Register"), self.register()).await;
            let answer = made(&format!("the registration of {}", self.host), answer)?;
            self.session = v1::RegisterResponse::decode(&answer[..])?.session;
        }
        match method {
            "BeginMigration" => self.claim().await,
            "CompleteMigration" | "AbortMigration" | "ReportMigration" => {
                self.claim().await?;
                let begin = self.begin(true);
                let answer = call(&self.owner, &rpc("HostService", "BeginMigration"), begin).await;
                let answer = v1::MigrationResponse::decode(&made("the begin of a migration", answer)?[..])?;
                self.ticket = (answer.migration, answer.generation);
                Ok(())
            }
            "Delete" => {
                let message = v1::DeclareRequest { key: key(), row: Some(network(DOOMED)) };
                let answer = call(&self.operator, &rpc("OperatorService", "Declare"), one(&message)).await;
                made("the declaration of a network", answer).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// To be called when a call of this name has been executed.
    pub fn passed(&mut self, method: &str) {
        self.is_stale |= matches!(method, "Register" | "Deregister");
    }

    /// The board's revision.
    pub async fn revision(&self) -> anyhow::Result<u64> {
        let answer = call(&self.operator, &rpc("ObserverService", "Info"), one(&v1::InfoRequest {})).await;
        Ok(v1::InfoResponse::decode(&made("the revision", answer)?[..])?.revision)
    }

    async fn claim(&mut self) -> anyhow::Result<()> {
        self.nodes += 1;
        let answer = call(&self.owner, &rpc("HostService", "Claim"), self.claims()).await;
        made("a claim", answer).map(drop)
    }

    fn mac(&self) -> Vec<u8> {
        let [.., a, b] = self.nodes.to_be_bytes();
        vec![0x02, 0xac, self.number, 0, a, b]
    }

    fn session_ref(&self) -> Option<v1::SessionRef> {
        Some(v1::SessionRef { host: self.host.clone(), session: self.session, key: key() })
    }

    pub fn register(&self) -> Vec<Vec<u8>> {
        one(&v1::RegisterRequest {
            host: self.host.clone(),
            vteps: vec![vec![10, 8, 0, self.number]],
            udp_port: 4789,
            key: key(),
            instance: self.instance.clone(),
            ..v1::RegisterRequest::default()
        })
    }

    fn claims(&self) -> Vec<Vec<u8>> {
        let claims = vec![v1::NodeClaim { vni: VNI, mac: self.mac(), ..v1::NodeClaim::default() }];
        one(&v1::ClaimRequest { session_ref: self.session_ref(), claims })
    }

    fn begin(&self, as_host: bool) -> Vec<Vec<u8>> {
        one(&v1::BeginMigrationRequest {
            session_ref: self.session_ref().filter(|_| as_host),
            key: key(),
            nodes: vec![v1::NodeKey { vni: VNI, mac: self.mac() }],
            source: self.host.clone(),
            // The host completes it where its nodes are: no other one has to claim them.
            target: String::new(),
            cause: "access".to_owned(),
            lease_ms: LEASE_MS,
            renew: 0,
        })
    }

    /// The messages of a call, if it is known here. `as_host`: of a call that hosts and operators share.
    pub fn messages(&self, rpc: &Rpc, as_host: bool) -> Option<Vec<Vec<u8>>> {
        let as_host = match rpc.service.as_str() {
            "HostService" => true,
            "OperatorService" | "ObserverService" => false,
            _ => as_host,
        };
        let method = rpc.method.as_str();
        self.of_host(method)
            .or_else(|| self.of_migration(method, as_host))
            .or_else(|| self.of_operator(method))
            .or_else(|| self.of_observer(method, as_host))
    }

    fn of_host(&self, method: &str) -> Option<Vec<Vec<u8>>> {
        let session_ref = self.session_ref();
        Some(match method {
            "Register" => self.register(),
            "Heartbeat" => one(&v1::HeartbeatRequest { session_ref }),
            "Deregister" => one(&v1::DeregisterRequest { session_ref, withdraw_all: false }),
            "Claim" => self.claims(),
            "Withdraw" => {
                let mac = vec![0x02, 0xac, self.number, 0xff, 0, 1];
                one(&v1::WithdrawRequest { session_ref, nodes: vec![v1::NodeKey { vni: VNI, mac }] })
            }
            "Join" => {
                let joins = vec![v1::Join { vni: 1000 + fastrand::u32(..1000), segment: false }];
                one(&v1::JoinRequest { session_ref, joins })
            }
            "Leave" => one(&v1::LeaveRequest { session_ref, vnis: vec![VNI] }),
            "SyncClaims" => one(&v1::SyncClaimsRequest { session_ref }),
            _ => return None,
        })
    }

    fn of_migration(&self, method: &str, as_host: bool) -> Option<Vec<Vec<u8>>> {
        let session_ref = self.session_ref().filter(|_| as_host);
        let (migration, generation) = self.ticket;
        let cause = "access".to_owned();
        Some(match method {
            "BeginMigration" => self.begin(as_host),
            "CompleteMigration" => {
                let at = self.host.clone();
                one(&v1::CompleteMigrationRequest {
                    session_ref,
                    key: key(),
                    migration,
                    generation,
                    at,
                    cause,
                })
            }
            "AbortMigration" => {
                one(&v1::AbortMigrationRequest { session_ref, key: key(), migration, generation, cause })
            }
            "ReportMigration" => {
                let (session_ref, report) = (self.session_ref(), Some(v1::MigrationReport::default()));
                one(&v1::ReportMigrationRequest { session_ref, migration, generation, report })
            }
            _ => return None,
        })
    }

    fn of_operator(&self, method: &str) -> Option<Vec<Vec<u8>>> {
        Some(match method {
            "Declare" => one(&v1::DeclareRequest { key: key(), row: Some(network(77)) }),
            "Delete" => {
                let target = Some(v1::delete_request::Target::Network(DOOMED));
                one(&v1::DeleteRequest { key: key(), target, cascade: false })
            }
            "Load" => one(&v1::LoadRequest { key: key(), rows: vec![network(79)], complete: true }),
            "Backup" => one(&v1::BackupRequest {}),
            _ => return None,
        })
    }

    fn of_observer(&self, method: &str, as_host: bool) -> Option<Vec<Vec<u8>>> {
        Some(match method {
            "Info" => one(&v1::InfoRequest {}),
            "ListHosts" => one(&v1::ListHostsRequest::default()),
            "ListNetworks" => one(&v1::ListNetworksRequest {}),
            "ListMembers" => one(&v1::ListMembersRequest::default()),
            "ListNodes" => one(&v1::ListNodesRequest::default()),
            "ListMigrations" => one(&v1::ListMigrationsRequest::default()),
            "ListWatchers" => one(&v1::ListWatchersRequest::default()),
            "Events" => one(&v1::EventsRequest::default()),
            "Watch" => {
                let (name, session) =
                    if as_host { (self.host.clone(), self.session) } else { ("console".to_owned(), 0) };
                let start = v1::WatchStart { name, vnis: vec![VNI], session, ..v1::WatchStart::default() };
                one(&v1::WatchRequest { request: Some(v1::watch_request::Request::Start(start)) })
            }
            "Enrol" => one(&v1::EnrolRequest {
                name: self.host.clone(),
                secret: vec![7; 32],
                certificate_request: Vec::new(),
            }),
            _ => return None,
        })
    }
}

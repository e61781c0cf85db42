//! The calls of people and tools, which read and declare; one method each.

use super::{
    connect::{BoardAddress, CALL_TIMEOUT, Connection, call, connect},
    entries::{BoardInfo, HostEntry, MemberEntry, NetworkEntry, NodeEntry, NodeFilter, WatcherEntry},
    error::Error,
};
use crate::{
    model::{Event, Member, Migration, MigrationState, Row, RowError, Target, Uuid},
    proto::{board, emit, migration, parse, v1},
};
use serde::Serialize;
use stopover_net::{HostName, Mac, Vni};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};

/// Rows of one message of a load.
const LOAD_CHUNK: usize = 2000;

/// A connection for the operator.
#[derive(Debug, Clone)]
pub struct Operator {
    board: Connection,
}

/// What to lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginMigration {
    /// 1 to [`crate::model::MAX_MIGRATING`], none twice: all VIFs of the VM.
    pub nodes: Vec<(Vni, Mac)>,
    /// Where they are.
    pub source: HostName,
    /// Where they migrate to, if known.
    pub target: Option<HostName>,
    /// Who saw it, 1 to [`crate::model::MAX_CAUSE`] bytes.
    pub cause: String,
    /// Time after which the lock expires unless it is renewed; within [`crate::model::LEASE_MS`].
    pub lease_ms: u64,
}

/// A migration in an answer of the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MigrationTicket {
    /// Which.
    pub migration: u64,
    /// Its fencing generation.
    pub generation: u64,
    /// Its state.
    pub state: MigrationState,
    /// The revision that ended it, if it has ended.
    pub revision: u64,
}

impl TryFrom<v1::MigrationResponse> for MigrationTicket {
    type Error = Error;
    fn try_from(m: v1::MigrationResponse) -> Result<Self, Error> {
        let state = migration::state(m.state)?;
        Ok(Self { migration: m.migration, generation: m.generation, state, revision: m.revision })
    }
}

impl BeginMigration {
    pub(super) fn message(
        &self,
        session_ref: Option<v1::SessionRef>,
        key: Uuid,
        renew: Option<u64>,
    ) -> v1::BeginMigrationRequest {
        v1::BeginMigrationRequest {
            session_ref,
            key: key.into(),
            nodes: self.nodes.iter().map(|(vni, mac)| emit::node_key(*vni, *mac)).collect(),
            source: self.source.as_str().to_owned(),
            target: self.target.as_ref().map_or_else(String::new, |t| t.as_str().to_owned()),
            cause: self.cause.clone(),
            lease_ms: self.lease_ms,
            renew: renew.unwrap_or(0),
        }
    }
}

/// The progress of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadStep {
    /// Number of well-formed rows at the board.
    Received(u64),
    /// All rows, this many, are received and being checked against the board and each other.
    Checking(u64),
    /// Number of records written.
    Written(u64),
}

fn required<T>(field: &str, value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| Error::Protocol(format!("{field} is missing")))
}

impl Operator {
    /// Connects.
    pub async fn connect(address: impl Into<BoardAddress>) -> Result<Self, Error> {
        Ok(Self { board: connect(address).await? })
    }

    /// A summary of the board.
    pub async fn info(&mut self) -> Result<BoardInfo, Error> {
        let m = call(self.board.observer().info(v1::InfoRequest {}), CALL_TIMEOUT).await?;
        Ok(BoardInfo {
            board_id: parse::id("board_id", &m.board_id)?.simple().to_string(),
            revision: m.revision,
            oldest_resumable: m.oldest_resumable,
            hosts: m.hosts,
            networks: m.networks,
            nodes: m.nodes,
            members: m.members,
            watchers: m.watchers,
            lease_ms: m.lease_ms,
            version: m.version,
            insecure: m.insecure,
            read_only: Some(m.read_only).filter(|why| !why.is_empty()),
        })
    }

    /// All hosts, or the one of this name.
    pub async fn hosts(&mut self, name: Option<&HostName>) -> Result<Vec<HostEntry>, Error> {
        let request = v1::ListHostsRequest { name: name.map_or_else(String::new, |n| n.as_str().to_owned()) };
        let mut stream = call(self.board.observer().list_hosts(request), CALL_TIMEOUT).await?;
        let mut all = Vec::new();
        while let Some(chunk) = stream.message().await? {
            for m in chunk.hosts {
                all.push(HostEntry {
                    host: required("host", m.host)?.try_into()?,
                    nodes: m.nodes,
                    networks: m.networks,
                    watching: m.watching,
                    acked_revision: m.acked_revision,
                });
            }
        }
        Ok(all)
    }

    /// All networks, declared or with nodes or members.
    pub async fn networks(&mut self) -> Result<Vec<NetworkEntry>, Error> {
        let mut stream =
            call(self.board.observer().list_networks(v1::ListNetworksRequest {}), CALL_TIMEOUT).await?;
        let mut all = Vec::new();
        while let Some(chunk) = stream.message().await? {
            for m in chunk.networks {
                all.push(NetworkEntry {
                    network: required("network", m.network)?.try_into()?,
                    declared: m.declared,
                    nodes: m.nodes,
                    members: m.members,
                });
            }
        }
        Ok(all)
    }

    /// All memberships, or those of one network.
    pub async fn members(&mut self, vni: Option<Vni>) -> Result<Vec<MemberEntry>, Error> {
        let request = v1::ListMembersRequest { vni: vni.map_or(0, Vni::get) };
        let mut stream = call(self.board.observer().list_members(request), CALL_TIMEOUT).await?;
        let mut all = Vec::new();
        while let Some(chunk) = stream.message().await? {
            for m in chunk.members {
                let member = required("member", m.member)?;
                all.push(MemberEntry {
                    member: Member {
                        vni: parse::vni("vni", member.vni)?,
                        host_id: member.host_id,
                        segment: member.segment,
                    },
                    host: m.host,
                    joined: m.joined,
                    declared: m.declared,
                    has_nodes: m.has_nodes,
                });
            }
        }
        Ok(all)
    }

    /// Nodes in chunks, ordered by network and MAC: a million need not be held at once.
    pub async fn nodes_stream(
        &mut self,
        filter: &NodeFilter,
    ) -> Result<impl Stream<Item = Result<Vec<NodeEntry>, Error>> + use<>, Error> {
        let request = v1::ListNodesRequest {
            vni: filter.vni.map_or(0, Vni::get),
            host: filter.host.as_ref().map_or_else(String::new, |h| h.as_str().to_owned()),
            mac: filter.mac.map(emit::mac).unwrap_or_default(),
            ip: filter.ip.as_ref().map(emit::ip).unwrap_or_default(),
            limit: filter.limit.unwrap_or(0),
        };
        let stream = call(self.board.observer().list_nodes(request), CALL_TIMEOUT).await?;
        Ok(stream.map(|chunk| {
            chunk?
                .nodes
                .into_iter()
                .map(|m| {
                    Ok(NodeEntry {
                        node: required("node", m.node)?.try_into()?,
                        host: m.host,
                        declared_by: board::entry_declared_by(m.declared_by)?,
                    })
                })
                .collect()
        }))
    }

    /// Nodes, all at once.
    pub async fn nodes(&mut self, filter: &NodeFilter) -> Result<Vec<NodeEntry>, Error> {
        let mut stream = std::pin::pin!(self.nodes_stream(filter).await?);
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            all.append(&mut chunk?);
        }
        Ok(all)
    }

    /// The open watches.
    pub async fn watchers(&mut self) -> Result<Vec<WatcherEntry>, Error> {
        let (mut all, mut after, mut more) = (Vec::new(), 0, true);
        while more {
            let page =
                call(self.board.observer().list_watchers(v1::ListWatchersRequest { after }), CALL_TIMEOUT)
                    .await?;
            more = page.more;
            all.extend(page.watchers.into_iter().map(|m| WatcherEntry {
                id: m.id,
                name: m.name,
                peer: m.peer,
                sent_revision: m.sent_revision,
                acked_revision: m.acked_revision,
                networks: (!m.everything).then_some(m.networks),
                resyncs: m.resyncs,
                session: m.session,
            }));
            after = all.last().map_or(after, |w| w.id);
        }
        Ok(all)
    }

    /// The event log after event number `after`, oldest first. With `follow` the stream does not end.
    pub async fn events(
        &mut self,
        after: u64,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<Vec<Event>, Error>> + use<>, Error> {
        let stream =
            call(self.board.observer().events(v1::EventsRequest { after, follow }), CALL_TIMEOUT).await?;
        Ok(stream.map(|chunk| {
            chunk?.events.into_iter().map(|m| Event::try_from(m).map_err(Error::from)).collect()
        }))
    }

    /// Locks nodes for a migration. A repetition for the same nodes renews the lease of the same migration.
    pub async fn begin_migration(&mut self, begin: &BeginMigration) -> Result<MigrationTicket, Error> {
        let request = begin.message(None, Uuid::new_v4(), None);
        call(self.board.operator().begin_migration(request), CALL_TIMEOUT).await?.try_into()
    }

    /// The VM runs at `at` (or the target, or the only host that claims it).
    pub async fn complete_migration(
        &mut self,
        migration: u64,
        generation: u64,
        at: Option<&HostName>,
        cause: &str,
    ) -> Result<MigrationTicket, Error> {
        let request = v1::CompleteMigrationRequest {
            session_ref: None,
            key: Uuid::new_v4().into(),
            migration,
            generation,
            at: at.map_or_else(String::new, |at| at.as_str().to_owned()),
            cause: cause.to_owned(),
        };
        call(self.board.operator().complete_migration(request), CALL_TIMEOUT).await?.try_into()
    }

    /// The VM remains at the source.
    pub async fn abort_migration(
        &mut self,
        migration: u64,
        generation: u64,
        cause: &str,
    ) -> Result<MigrationTicket, Error> {
        let key = Uuid::new_v4().into();
        let cause = cause.to_owned();
        let request = v1::AbortMigrationRequest { session_ref: None, key, migration, generation, cause };
        call(self.board.operator().abort_migration(request), CALL_TIMEOUT).await?.try_into()
    }

    /// Migrations, oldest first: all that are remembered, or one, or the active ones.
    pub async fn migrations(&mut self, one: Option<u64>, active: bool) -> Result<Vec<Migration>, Error> {
        let request = v1::ListMigrationsRequest { migration: one.unwrap_or(0), active };
        let mut stream = call(self.board.observer().list_migrations(request), CALL_TIMEOUT).await?;
        let mut all = Vec::new();
        while let Some(chunk) = stream.message().await? {
            for m in chunk.migrations {
                all.push(m.try_into()?);
            }
        }
        Ok(all)
    }

    /// Declares one row. Returns the revision with it.
    pub async fn declare(&mut self, row: &Row) -> Result<u64, Error> {
        let request = v1::DeclareRequest { key: Uuid::new_v4().into(), row: Some(emit::row(row, 0)) };
        Ok(call(self.board.operator().declare(request), CALL_TIMEOUT).await?.revision)
    }

    /// Deletes one target. Returns the revision without it.
    pub async fn delete(&mut self, target: &Target) -> Result<u64, Error> {
        let (target, cascade) = emit::target(target);
        let request = v1::DeleteRequest { key: Uuid::new_v4().into(), target: Some(target), cascade };
        Ok(call(self.board.operator().delete(request), CALL_TIMEOUT).await?.revision)
    }

    /// Declares many rows, all or none. Each row has the number by which errors name it (0 = its place from 1). An `Err`
    /// row ends the load before anything is changed, and is returned as [`Error::Protocol`]. Returns the revision with
    /// all rows.
    pub async fn load<I, E>(&mut self, rows: I, mut progress: impl FnMut(LoadStep)) -> Result<u64, Error>
    where
        I: IntoIterator<Item = Result<(u64, Row), E>>,
        I::IntoIter: Send + 'static,
        E: std::fmt::Display,
    {
        let (tx, outgoing) = mpsc::channel(4);
        let rows = rows.into_iter();
        let producer = tokio::task::spawn_blocking(move || send_rows(rows, &tx));
        let answer = call(self.board.operator().load(ReceiverStream::new(outgoing)), CALL_TIMEOUT).await;
        let result = match answer {
            Ok(steps) => watch_load(steps, &mut progress).await,
            Err(e) => Err(e),
        };
        match producer.await {
            Ok(Some(bad_row)) => Err(Error::Protocol(bad_row)),
            Ok(None) => result,
            Err(e) => Err(Error::Protocol(format!("reading the rows failed: {e}"))),
        }
    }
}

/// Sends the rows; stops early if the board has closed the stream. A bad row ends the stream without the final empty
/// message, by which the board recognizes that it has all rows.
fn send_rows<E: std::fmt::Display>(
    mut rows: impl Iterator<Item = Result<(u64, Row), E>>,
    tx: &mpsc::Sender<v1::LoadRequest>,
) -> Option<String> {
    let mut key = Uuid::new_v4().into_bytes().to_vec();
    loop {
        let mut chunk = Vec::with_capacity(LOAD_CHUNK);
        for next in rows.by_ref().take(LOAD_CHUNK) {
            match next {
                Ok((number, row)) => chunk.push(emit::row(&row, number)),
                Err(e) => return Some(e.to_string()),
            }
        }
        let last = chunk.is_empty();
        let message = v1::LoadRequest { key: std::mem::take(&mut key), rows: chunk, complete: last };
        if tx.blocking_send(message).is_err() || last {
            return None;
        }
    }
}

async fn watch_load(
    mut steps: tonic::Streaming<v1::LoadProgress>,
    progress: &mut impl FnMut(LoadStep),
) -> Result<u64, Error> {
    use v1::load_progress::Step;
    while let Some(message) = steps.message().await? {
        // A step that only a newer board has.
        let Some(step) = message.step else { continue };
        match step {
            Step::Received(n) => progress(LoadStep::Received(n)),
            Step::Checking(n) => progress(LoadStep::Checking(n)),
            Step::Written(n) => progress(LoadStep::Written(n)),
            Step::Done(done) => return Ok(done.revision),
            Step::Refused(refused) => {
                let errors =
                    refused.errors.into_iter().map(|e| RowError { number: e.number, why: e.why }).collect();
                return Err(Error::Rows { errors, total: refused.total });
            }
        }
    }
    Err(Error::Unreachable("the board ended the load without a result".into()))
}

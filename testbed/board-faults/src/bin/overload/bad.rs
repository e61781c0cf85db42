//! The bad clients. Each kind does one thing that a client must not do, as often as it can, until its time is over.

use clap::ValueEnum;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use stopover_bbs::{
    client::{Connection, connect},
    proto::v1,
};
use stopover_config::Endpoint;
use tokio::{io::AsyncWriteExt, net::TcpSocket};
use tokio_stream::StreamExt;

/// What a bad client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A registered host that sends nothing but heartbeats.
    Requests,
    /// Connections that are opened and kept.
    Connections,
    /// Connections that begin HTTP/2 and do not go on.
    HalfOpen,
    /// Calls that are reset at once.
    Resets,
    /// Watches of everything that are not read.
    StuckWatches,
    /// Watches without number.
    ManyWatches,
    /// Lists that are not read.
    SlowLists,
    /// Loads that never end, and loads of too many rows.
    Loads,
    /// Declarations, each with a new key, an event and a line of the log.
    Keys,
    /// A host that claims more nodes than it may.
    Claims,
    /// Hosts without number.
    Hosts,
    /// Calls of a user that the board does not know.
    Denied,
    /// Messages larger than the board takes.
    Giants,
    /// Messages without what they must have.
    Malformed,
}

/// Calls at once, of one kind.
const AT_ONCE: usize = 64;
/// Sockets that one process keeps.
const SOCKETS: usize = 900;

type Tries = Arc<AtomicU64>;

fn key() -> Vec<u8> {
    fastrand::u128(..).to_be_bytes().to_vec()
}

/// Runs a kind for `time`. Returns how often it tried.
pub async fn run(kind: Kind, board: &Endpoint, time: Duration) -> anyhow::Result<u64> {
    let tries = Tries::default();
    let work = async {
        match kind {
            Kind::Connections => sockets(board, &tries, b"").await,
            Kind::HalfOpen => sockets(board, &tries, b"PRI * HTTP").await,
            _ => {
                let connection = loop {
                    tries.fetch_add(1, Relaxed);
                    match connect(board).await {
                        Ok(connection) => break connection,
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    }
                };
                let (host, session) = match kind {
                    Kind::Requests | Kind::Claims | Kind::Resets => register(&connection, kind).await?,
                    _ => (String::new(), 0),
                };
                let tasks = (0..AT_ONCE).map(|_| {
                    let caller = Caller {
                        connection: connection.clone(),
                        host: host.clone(),
                        session,
                        tries: tries.clone(),
                    };
                    tokio::spawn(caller.run(kind))
                });
                for task in tasks.collect::<Vec<_>>() {
                    task.await?;
                }
                Ok(())
            }
        }
    };
    if let Ok(ended) = tokio::time::timeout(time, work).await {
        ended?;
    }
    Ok(tries.load(Relaxed))
}

/// Opens sockets from an address of their own, and keeps the last ones.
async fn sockets(board: &Endpoint, tries: &Tries, first: &[u8]) -> anyhow::Result<()> {
    let Endpoint::Tcp { host, port } = board else { anyhow::bail!("{board} is no TCP endpoint") };
    let to: SocketAddr = format!("{host}:{port}").parse()?;
    let mut kept = std::collections::VecDeque::new();
    loop {
        tries.fetch_add(1, Relaxed);
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.2:0".parse()?)?;
        let connecting = tokio::time::timeout(Duration::from_secs(1), socket.connect(to)).await;
        if let Ok(Ok(mut stream)) = connecting {
            // The board may have closed it.
            let _ = stream.write_all(first).await;
            kept.push_back(stream);
            if kept.len() > SOCKETS {
                kept.pop_front();
            }
        }
    }
}

async fn register(connection: &Connection, kind: Kind) -> anyhow::Result<(String, u64)> {
    let host = format!("bad-{}", kind as u32);
    let register = v1::RegisterRequest {
        host: host.clone(),
        vteps: vec![vec![10, 2, 0, kind as u8]],
        udp_port: 4789,
        key: key(),
        instance: key(),
        ..v1::RegisterRequest::default()
    };
    let session = connection.host().register(register).await?.into_inner().session;
    Ok((host, session))
}

/// One of many that do the same.
struct Caller {
    connection: Connection,
    host: String,
    session: u64,
    tries: Tries,
}

impl Caller {
    /// Repeats until the process ends. What the board answers does not matter to it.
    async fn run(self, kind: Kind) {
        let mut kept = Vec::new();
        loop {
            self.tries.fetch_add(1, Relaxed);
            // When the process ends, calls fail without a wait.
            tokio::task::yield_now().await;
            match kind {
                Kind::Requests | Kind::Connections | Kind::HalfOpen => self.heartbeat().await,
                Kind::Resets => {
                    let _ = tokio::time::timeout(Duration::from_micros(50), self.heartbeat()).await;
                }
                Kind::StuckWatches | Kind::ManyWatches => kept.extend(self.watch().await),
                Kind::SlowLists => self.list().await,
                Kind::Loads => self.load().await,
                Kind::Keys => self.declare().await,
                Kind::Claims => self.claim().await,
                Kind::Hosts => self.hosts().await,
                Kind::Denied => {
                    let delete = v1::DeleteRequest { key: key(), ..v1::DeleteRequest::default() };
                    let _ = self.connection.operator().delete(delete).await;
                }
                Kind::Giants => self.giant().await,
                Kind::Malformed => {
                    let request = v1::ClaimRequest { session_ref: None, claims: Vec::new() };
                    let _ = self.connection.host().claim(request).await;
                }
            }
        }
    }

    fn session_ref(&self) -> Option<v1::SessionRef> {
        Some(v1::SessionRef { host: self.host.clone(), session: self.session, key: key() })
    }

    async fn heartbeat(&self) {
        let request = v1::HeartbeatRequest { session_ref: self.session_ref() };
        let _ = self.connection.host().heartbeat(request).await;
    }

    async fn watch(&self) -> Option<tonic::Streaming<v1::WatchResponse>> {
        let start = v1::WatchStart { name: "bad".into(), everything: true, ..v1::WatchStart::default() };
        let start = v1::WatchRequest { request: Some(v1::watch_request::Request::Start(start)) };
        let requests = tokio_stream::once(start).chain(tokio_stream::pending());
        Some(self.connection.observer().watch(requests).await.ok()?.into_inner())
    }

    async fn list(&self) {
        let request = v1::ListNodesRequest::default();
        if let Ok(answer) = self.connection.observer().list_nodes(request).await {
            // Not read for longer than anybody waits.
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(answer);
        }
    }

    async fn load(&self) {
        let key = key();
        let rows = tokio_stream::iter(0u32..).map(move |n| {
            let row = |i: u32| {
                let vni = 1000 + (n * 1000 + i) % 1_000_000;
                let network = v1::Network { vni, ..v1::Network::default() };
                v1::Row { row: Some(v1::row::Row::Network(network)), number: 0 }
            };
            let key = if n == 0 { key.clone() } else { Vec::new() };
            v1::LoadRequest { key, rows: (0..1000).map(row).collect(), complete: false }
        });
        if let Ok(answer) = self.connection.operator().load(rows).await {
            let mut steps = answer.into_inner();
            while let Ok(Some(_)) = steps.message().await {}
        }
    }

    async fn declare(&self) {
        let network =
            v1::Network { vni: 9, name: format!("n{}", fastrand::u32(..)), ..v1::Network::default() };
        let row = v1::Row { row: Some(v1::row::Row::Network(network)), number: 0 };
        let _ = self.connection.operator().declare(v1::DeclareRequest { key: key(), row: Some(row) }).await;
    }

    async fn claim(&self) {
        let claim = |_| {
            let [a, b, c, d, ..] = fastrand::u64(..).to_be_bytes();
            v1::NodeClaim { vni: 8, mac: vec![2, 0xee, a, b, c, d], ..v1::NodeClaim::default() }
        };
        let claims = (0..100).map(claim).collect();
        let request = v1::ClaimRequest { session_ref: self.session_ref(), claims };
        let _ = self.connection.host().claim(request).await;
    }

    async fn hosts(&self) {
        let number = fastrand::u32(..);
        let [a, b, c, _] = number.to_be_bytes();
        let register = v1::RegisterRequest {
            host: format!("many-{number}"),
            vteps: vec![vec![11, a, b, c]],
            udp_port: 4789,
            key: key(),
            instance: key(),
            ..v1::RegisterRequest::default()
        };
        let _ = self.connection.host().register(register).await;
    }

    async fn giant(&self) {
        let name = "x".repeat(20 << 20);
        let network = v1::Network { vni: 9, name, ..v1::Network::default() };
        let row = v1::Row { row: Some(v1::row::Row::Network(network)), number: 0 };
        let mut operator = self.connection.operator().max_encoding_message_size(usize::MAX);
        let _ = operator.declare(v1::DeclareRequest { key: key(), row: Some(row) }).await;
    }
}

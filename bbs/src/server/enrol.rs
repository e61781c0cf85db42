//! The endpoint of newcomers: TLS with the board's certificate, and none of theirs. Enters: a token, and a request for a
//! certificate. Leaves: what [`CaFolder::enrol`] gives for it. Nothing else of the board can be reached here.
//!
//! What strangers can make the board do is bounded: connections, their time, attempts, and one look into the CA at a time.

use super::{
    attempts::Attempts,
    listen::{self, Listener},
    metrics::Metrics,
    refused_peers::{Note, RefusedPeers},
    tls::{ACCEPT_PAUSE, HANDSHAKE, Tls},
    wait_for_stop,
};
use crate::proto::v1::{
    EnrolRequest, EnrolResponse,
    enrol_service_server::{EnrolService, EnrolServiceServer},
};
use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};
use stopover_config::{ConfigError, Endpoint, bbs::Enrol};
use stopover_net::HostName;
use stopover_pki::{CaFolder, Enrolled, NotEnrolled, Secret, ServerTls};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, transport::server::Connected};

/// Connections at once. Each serves one newcomer for a moment.
const CONNECTIONS: usize = 128;
/// A connection lasts no longer, and a call either.
const CONNECTION_AGE: Duration = Duration::from_secs(20);
const CALL: Duration = Duration::from_secs(15);
/// So long an operator's command may keep the CA to itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request is some hundred bytes.
const MAX_REQUEST_BYTES: usize = 16 << 10;

struct Service {
    ca: PathBuf,
    days: u32,
    /// One at a time; the others wait.
    turn: tokio::sync::Mutex<()>,
    attempts: Mutex<(Attempts, RefusedPeers)>,
    metrics: Arc<Metrics>,
}

/// Of whom a connection is.
#[derive(Debug, Clone, Copy)]
struct Origin(SocketAddr);

impl Service {
    fn admit(&self, from: SocketAddr) -> bool {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.0.admit(Instant::now(), from.ip())
    }

    /// Counts and logs one that gets no certificate.
    fn refuse(&self, from: SocketAddr, result: &'static str, why: &str) {
        self.metrics.count_newcomer(result);
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        match attempts.1.note(Instant::now(), from.ip(), result) {
            Note::Silent => {}
            Note::Log { more: 0 } => log::warn!("no certificate for a newcomer at {from}: {why}"),
            Note::Log { more } => {
                log::warn!("no certificate for a newcomer at {from}: {why}; {more} more since the last line");
            }
        }
    }

    async fn enrol(&self, request: EnrolRequest) -> Result<Enrolled, NotEnrolled> {
        let EnrolRequest { name, secret, certificate_request } = request;
        let name = HostName::new(&name).map_err(|_| NotEnrolled::Token)?;
        let secret = Secret::of_wire(&secret).ok_or(NotEnrolled::Token)?;
        let _turn = self.turn.lock().await;
        let (folder, days) = (self.ca.clone(), self.days);
        let work = move || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let mut ca = CaFolder::open_within(&folder, now, PATIENCE)?;
            ca.enrol(&name, &secret, &certificate_request, now, days)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(e) => {
                let (found, hint) = (format!("the CA's thread ended: {e}"), "try again");
                let e = ConfigError::new(&self.ca, found, "a certificate", hint);
                Err(e.into())
            }
        }
    }
}

#[tonic::async_trait]
impl EnrolService for Service {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let Some(Origin(from)) = request.extensions().get::<Origin>().copied() else {
            return Err(Status::internal("a connection without an address"));
        };
        if !self.admit(from) {
            let why = "found too many attempts; expected fewer; hint: come again in a minute";
            self.refuse(from, "too_often", why);
            return Err(Status::resource_exhausted(why));
        }
        match self.enrol(request.into_inner()).await {
            Ok(Enrolled { issued, certificate, ca, crl }) => {
                self.metrics.count_newcomer("enrolled");
                log::info!("{} at {from} has got certificate {} by a token", issued.identity, issued.serial);
                Ok(Response::new(EnrolResponse { certificate, ca, crl }))
            }
            Err(e) => {
                let why = e.to_string();
                let (result, status) = match e {
                    NotEnrolled::Token => ("token", Status::unauthenticated(&why)),
                    NotEnrolled::Request(_) => ("request", Status::invalid_argument(&why)),
                    // Its paths are none of a stranger's business.
                    NotEnrolled::Ca(_) | NotEnrolled::Random(_) => (
                        "ca",
                        Status::unavailable("the board's CA cannot be used now; hint: see the board's log"),
                    ),
                };
                self.refuse(from, result, &why);
                Err(status)
            }
        }
    }
}

/// An open socket, and what it is for. Its endpoint has the real port.
pub(super) struct Socket {
    listener: Listener,
    enrol: Enrol,
}

/// Opens the socket, if there is to be one.
pub(super) async fn listen(enrol: Option<Enrol>) -> anyhow::Result<Option<Socket>> {
    let Some(enrol) = enrol else { return Ok(None) };
    let (listener, listen) = listen::listen(&enrol.listen).await?;
    Ok(Some(Socket { listener, enrol: Enrol { listen, ..enrol } }))
}

/// Serves newcomers, as one of `tasks`. Returns where.
pub(super) fn start(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    socket: Option<Socket>,
    tls: Option<&Arc<Tls>>,
    metrics: &Arc<Metrics>,
    stopping: &watch::Receiver<bool>,
) -> Option<Endpoint> {
    // Without TLS no such socket is opened.
    let (Socket { listener: Listener::Tls(listener), enrol }, tls) = (socket?, tls?) else { return None };
    let listen = enrol.listen.clone();
    tasks.spawn(serve(listener, enrol, tls.credentials(), metrics.clone(), stopping.clone()));
    log::info!("newcomers get their certificates on {listen}");
    Some(listen)
}

/// Serves newcomers until the server stops.
async fn serve(
    listener: TcpListener,
    Enrol { ca, days, .. }: Enrol,
    credentials: ServerTls,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let service = Service {
        ca,
        days,
        turn: tokio::sync::Mutex::default(),
        attempts: Mutex::default(),
        metrics: metrics.clone(),
    };
    let service = EnrolServiceServer::new(service).max_decoding_message_size(MAX_REQUEST_BYTES);
    let incoming = accept(listener, credentials, metrics, stopping.clone());
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .timeout(CALL)
        .max_connection_age(CONNECTION_AGE)
        .max_connection_age_grace(Duration::from_secs(1))
        .max_concurrent_streams(4)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, wait_for_stop(stopping))
        .await?;
    Ok(())
}

fn accept(
    listener: TcpListener,
    credentials: ServerTls,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
) -> impl tokio_stream::Stream<Item = io::Result<Newcomer>> {
    let (out, incoming) = mpsc::channel(16);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::spawn(async move {
        let mut stopped = std::pin::pin!(wait_for_stop(stopping));
        loop {
            let accepted = tokio::select! {
                () = &mut stopped => return,
                accepted = listener.accept() => accepted,
            };
            match (accepted, places.clone().try_acquire_owned()) {
                (Err(e), _) => {
                    log::warn!("cannot accept newcomers: {e}");
                    sleep(ACCEPT_PAUSE).await;
                }
                // Closed at once.
                (Ok(_), Err(_)) => metrics.count_newcomer("connections"),
                (Ok((stream, from)), Ok(place)) => {
                    let tls = TlsAcceptor::from(credentials.for_newcomers());
                    let (out, metrics) = (out.clone(), metrics.clone());
                    tokio::spawn(async move {
                        match timeout(HANDSHAKE, tls.accept(stream)).await {
                            // An error means that the server stops.
                            Ok(Ok(stream)) => {
                                drop(out.send(Ok(Newcomer { stream, from, _place: place })).await)
                            }
                            _ => metrics.count_newcomer("handshake"),
                        }
                    });
                }
            }
        }
    });
    ReceiverStream::new(incoming)
}

/// A connection of somebody without a certificate.
struct Newcomer {
    stream: TlsStream<TcpStream>,
    from: SocketAddr,
    _place: OwnedSemaphorePermit,
}

impl Connected for Newcomer {
    type ConnectInfo = Origin;
    fn connect_info(&self) -> Origin {
        Origin(self.from)
    }
}

impl AsyncRead for Newcomer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, to)
    }
}

impl AsyncWrite for Newcomer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

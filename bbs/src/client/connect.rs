//! From a [`BoardAddress`] to the services of a board. The only place for TLS on the side of clients.

use super::error::Error;
use crate::proto::{
    MAX_MESSAGE_BYTES,
    v1::{
        ListWatchersRequest, host_service_client::HostServiceClient,
        observer_service_client::ObserverServiceClient, operator_service_client::OperatorServiceClient,
    },
};
use hyper_util::rt::TokioIo;
use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use stopover_config::Endpoint;
use stopover_pki::ClientTls;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};
use tonic::{
    Code,
    body::Body,
    codegen::{Service, http},
    transport::{Channel, Endpoint as Transport, Uri},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// HTTP/2 flow-control window of a stream and of the connection, in bytes. With the default of 64 KiB a snapshot of some
/// hundred megabytes would wait for a round trip after every 64 KiB.
const WINDOW: u32 = 4 << 20;
/// A connection ends if its peer does not answer an HTTP/2 ping for this long.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// A board that does not answer the first call within this time is not used.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// A call that the board does not answer within this time has failed. Longer than the largest load takes.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a board is, and with whose credentials it is called.
#[derive(Debug, Clone)]
pub struct BoardAddress {
    /// Where.
    pub endpoint: Endpoint,
    /// Needed at `https://`.
    pub tls: Option<ClientTls>,
}

impl From<Endpoint> for BoardAddress {
    fn from(endpoint: Endpoint) -> Self {
        Self { endpoint, tls: None }
    }
}

impl From<&Endpoint> for BoardAddress {
    fn from(endpoint: &Endpoint) -> Self {
        endpoint.clone().into()
    }
}

impl From<&Self> for BoardAddress {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

/// A connection to a board. A clone uses the same one.
#[derive(Debug, Clone)]
pub struct Connection {
    calls: Calls,
}

/// The limits of every client of a service.
macro_rules! service {
    ($client:ident, $connection:expr) => {
        $client::new($connection.calls.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    };
}

impl Connection {
    /// The calls of a host's appliance.
    #[must_use]
    pub fn host(&self) -> HostServiceClient<Calls> {
        service!(HostServiceClient, self)
    }

    /// The calls that change what the operator declares.
    #[must_use]
    pub fn operator(&self) -> OperatorServiceClient<Calls> {
        service!(OperatorServiceClient, self)
    }

    /// The calls that read.
    #[must_use]
    pub fn observer(&self) -> ObserverServiceClient<Calls> {
        service!(ObserverServiceClient, self)
    }
}

/// A channel to a board. A board of before has all calls as one service, with the same names and messages: then only
/// the path of a call differs, so that no other code depends on the version of the board.
#[derive(Debug, Clone)]
pub struct Calls {
    channel: Channel,
    board_of_before: bool,
}

impl Service<http::Request<Body>> for Calls {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if self.board_of_before
            && let Some(uri) = uri_of_before(request.uri())
        {
            *request.uri_mut() = uri;
        }
        self.channel.call(request)
    }
}

/// The same call of the service that a board of before has.
fn uri_of_before(uri: &Uri) -> Option<Uri> {
    let (_, method) = uri.path().rsplit_once('/')?;
    Uri::builder().path_and_query(format!("/stopover.v1.Board/{method}")).build().ok()
}

/// Connects; fails if the endpoint does not answer.
pub async fn connect(address: impl Into<BoardAddress>) -> Result<Connection, Error> {
    let BoardAddress { endpoint, tls } = address.into();
    let channel = open(&endpoint, tls.map(|tls| move || tls.config())).await?;
    let mut connection = Connection { calls: Calls { channel, board_of_before: false } };
    // The board answers this from memory, also while it is busy; there is no watcher of such a number.
    let request = ListWatchersRequest { after: u64::MAX };
    let mut observer = connection.observer();
    let answer = timeout(FIRST_CALL_TIMEOUT, observer.list_watchers(request)).await.map_err(|_| {
        Error::Unreachable(format!("{endpoint}: no answer within {} s", FIRST_CALL_TIMEOUT.as_secs()))
    })?;
    match answer {
        Ok(_) => {}
        Err(status) if std::error::Error::source(&status).is_some() => {
            return Err(Error::Unreachable(format!("{endpoint}: {}", cause(&status))));
        }
        // Any other refusal is that of a board with services, and meets the next call too.
        Err(status) => connection.calls.board_of_before = status.code() == Code::Unimplemented,
    }
    Ok(connection)
}

/// `tls` is asked at each connection, at `https://`.
pub(super) async fn open(
    endpoint: &Endpoint,
    tls: Option<impl Fn() -> Arc<ClientConfig> + Send + Sync + 'static>,
) -> Result<Channel, Error> {
    let transport = |uri: String| -> Result<Transport, Error> {
        Ok(Transport::from_shared(uri)
            .map_err(|e| Error::Unreachable(format!("{endpoint}: {e}")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true))
    };
    let connected = match endpoint {
        Endpoint::Tcp { .. } => transport(endpoint.to_string())?.connect().await,
        Endpoint::Tls { host, port } => {
            let Some(tls) = tls else {
                let why = "without credentials; expected their folder; hint: give `tls` or STOPOVER_TLS";
                return Err(Error::Unreachable(format!("{endpoint}: {why}")));
            };
            let address = (host.clone(), *port);
            // No connection of this channel is opened by itself later, so each one has the newest credentials.
            transport(format!("http://{}", stopover_pki::BOARD_NAME))?
                .connect_with_connector(tower::service_fn(move |_: Uri| {
                    let (address, connector) = (address.clone(), TlsConnector::from(tls()));
                    async move {
                        let stream = TcpStream::connect(address).await?;
                        stream.set_nodelay(true)?;
                        let stream = connector.connect(stopover_pki::board_name(), stream).await?;
                        admitted(stream).await.map(TokioIo::new)
                    }
                }))
                .await
        }
        Endpoint::Unix(path) => {
            let path = path.clone();
            // The URI is only the value of HTTP/2's :authority here.
            transport("http://stopover-bbs.invalid".into())?
                .connect_with_connector(tower::service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                }))
                .await
        }
    };
    connected.map_err(|e| Error::Unreachable(format!("{endpoint}: {}", cause(&e))))
}

/// Waits until the board has admitted the certificate. A client's handshake is done before the board looks at it (RFC 8446
/// section 2), so the alert of a refusal is only found by reading; a board that admits sends its HTTP/2 settings unasked.
async fn admitted<S: AsyncRead + Unpin>(stream: S) -> io::Result<BufReader<S>> {
    let mut stream = BufReader::new(stream);
    if stream.fill_buf().await?.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the board after the handshake"));
    }
    Ok(stream)
}

/// The last of a chain of errors. tonic's own text is only "transport error".
fn cause(e: &dyn std::error::Error) -> String {
    let mut cause = e;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Waits for an answer, at most for `limit`.
pub(super) async fn call<T>(
    answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    limit: Duration,
) -> Result<T, Error> {
    match timeout(limit, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(Error::Unreachable(format!("no answer within {} s", limit.as_secs()))),
    }
}

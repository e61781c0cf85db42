//! Calls without the product's client: whatever bytes, over whatever connection. Enters: where and with which certificate.
//! Leaves: what came of the call.

use super::table::Rpc;
use hyper_util::rt::TokioIo;
use prost::bytes::{Buf, BufMut};
use std::{
    error::Error as _,
    fmt,
    io::{self, Read, Write},
    net::SocketAddr,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    pin::Pin,
    process::Command,
    sync::Arc,
    time::Duration,
};
use stopover_bbs::proto::REASON;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};
use tokio_stream::{Stream, StreamExt};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint, Uri},
};

/// A call that is not answered within this time has failed.
const LIMIT: Duration = Duration::from_secs(30);
/// The largest answer: a piece of a backup.
const LARGEST: usize = 32 << 20;

/// A way to the board.
#[derive(Debug, Clone)]
pub enum Route {
    Tls(SocketAddr, Arc<ClientConfig>),
    Plain(SocketAddr),
    Unix(PathBuf),
    /// As another user of this machine.
    UnixAs(PathBuf, u32),
}

/// A connection of any kind.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Route {
    async fn open(self) -> io::Result<Box<dyn Io>> {
        Ok(match self {
            Self::Tls(at, config) => {
                let stream = TcpStream::connect(at).await?;
                stream.set_nodelay(true)?;
                let tls = TlsConnector::from(config).connect(stopover_pki::board_name(), stream).await?;
                // A board that admits sends its settings unasked; one that does not, an alert after the handshake.
                let mut tls = BufReader::new(tls);
                if tls.fill_buf().await?.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Box::new(tls)
            }
            Self::Plain(at) => Box::new(TcpStream::connect(at).await?),
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::UnixAs(path, uid) => Box::new(relayed(&path, uid)?),
        })
    }

    /// Connects.
    pub async fn connect(&self) -> Result<Channel, Outcome> {
        let route = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let route = route.clone();
            async move { route.open().await.map(TokioIo::new) }
        });
        // The URI is only the value of :authority here.
        let endpoint = Endpoint::from_static("http://board.invalid");
        match timeout(LIMIT, endpoint.connect_with_connector(connector)).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(e)) => Err(Outcome::NoConnection(cause(&e))),
            Err(_) => Err(Outcome::NoConnection("no answer".to_owned())),
        }
    }
}

/// A connection that a process of another user makes: the socket proves the user that connected.
fn relayed(path: &Path, uid: u32) -> io::Result<UnixStream> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let (input, output) = (OwnedFd::from(theirs.try_clone()?), OwnedFd::from(theirs));
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--relay").arg(path).uid(uid).gid(uid).stdin(input).stdout(output).spawn()?;
    ours.set_nonblocking(true)?;
    UnixStream::from_std(ours)
}

/// What such a process does: it passes bytes on until one end is closed.
pub fn relay(path: &Path) -> io::Result<()> {
    let mut to = std::os::unix::net::UnixStream::connect(path)?;
    let mut from = to.try_clone()?;
    std::thread::spawn(move || {
        let ended = copy_at_once(&mut from, &mut io::stdout());
        std::process::exit(i32::from(ended.is_err()));
    });
    copy_at_once(&mut io::stdin(), &mut to)
}

/// The standard output keeps back what does not end a line.
fn copy_at_once(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut bytes)?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(bytes.get(..length).unwrap_or_default())?;
        to.flush()?;
    }
}

/// The last of a chain of errors.
pub fn cause(e: &dyn std::error::Error) -> String {
    let mut cause = e;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was executed.
    Passed,
    /// The door refused.
    Forbidden,
    /// There is no such call.
    NotServed,
    /// The connection was refused, or broke.
    NoConnection(String),
    /// The token was refused.
    NoToken,
    /// Another process holds the name.
    Held(String),
    /// It was refused before the door, or elsewhere: nothing is known about the door.
    Unclear(String),
    /// It passed the door, and was refused behind it.
    Behind(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection(why) | Self::Held(why) | Self::Unclear(why) | Self::Behind(why) => {
                f.write_str(why)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

impl From<&Status> for Outcome {
    fn from(status: &Status) -> Self {
        let reason = status.metadata().get(REASON).and_then(|word| word.to_str().ok()).unwrap_or_default();
        let text = format!("{:?} {reason}: {}", status.code(), status.message());
        match (status.code(), reason) {
            _ if status.source().is_some() => Self::NoConnection(cause(status)),
            (Code::PermissionDenied, "forbidden") => Self::Forbidden,
            (Code::Unimplemented, _) => Self::NotServed,
            (Code::Unauthenticated, _) => Self::NoToken,
            (Code::AlreadyExists, "conflict") => Self::Held(text),
            (_, "") => Self::Unclear(text),
            _ => Self::Behind(text),
        }
    }
}

/// Sends messages and reads the answer: the first message of a watch, all of other calls.
pub async fn call(channel: &Channel, rpc: &Rpc, messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Outcome> {
    let is_watch = rpc.method == "Watch";
    let sent = tokio_stream::iter(messages);
    let sent: Pin<Box<dyn Stream<Item = Vec<u8>> + Send>> =
        if is_watch { Box::pin(sent.chain(tokio_stream::pending())) } else { Box::pin(sent) };
    let path = PathAndQuery::try_from(rpc.path()).map_err(|e| Outcome::Unclear(e.to_string()))?;
    let answered = async {
        let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(LARGEST);
        grpc.ready().await.map_err(|e| Outcome::NoConnection(cause(&e)))?;
        let answer = grpc.streaming(Request::new(sent), path, Raw).await;
        let mut answers = answer.map_err(|status| Outcome::from(&status))?.into_inner();
        let mut all = Vec::new();
        while let Some(message) = answers.message().await.map_err(|status| Outcome::from(&status))? {
            all.push(message);
            if is_watch {
                break;
            }
        }
        Ok::<_, Outcome>(all)
    };
    timeout(LIMIT, answered).await.unwrap_or_else(|_| Err(Outcome::Unclear("no answer".to_owned())))
}

/// Messages as bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, message: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

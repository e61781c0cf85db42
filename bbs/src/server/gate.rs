//! The gate of connections: how many there are, in all and of one peer, and how soon a new one has to begin HTTP/2. Enters:
//! accepted sockets. Leaves: [`Gated`] sockets, each with its slots; a socket too many is closed at once, and counted.

use super::{
    metrics::Metrics,
    slots::{ALL, Slot, Slots},
};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use stopover_config::bbs::{Exceeded, Limit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::{Sleep, sleep},
};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

/// How long a new connection may take to send the first bytes of HTTP/2. They come with the first packet.
const GREETING: Duration = Duration::from_secs(10);
/// What HTTP/2 begins with: RFC 9113, section 3.4.
const PREFACE_BYTES: usize = 24;

/// Admits connections.
#[derive(Clone)]
pub(super) struct Gate {
    slots: Slots,
    metrics: Arc<Metrics>,
    greeting: Duration,
}

/// A socket whose peer is known.
pub(super) trait Peer {
    /// Its address or its user; `None` = unknown.
    fn peer(&self) -> Option<String>;
}

impl Peer for TcpStream {
    fn peer(&self) -> Option<String> {
        self.peer_addr().ok().map(|address: SocketAddr| address.ip().to_string())
    }
}

impl Peer for UnixStream {
    fn peer(&self) -> Option<String> {
        self.peer_cred().ok().map(|user| format!("uid {}", user.uid()))
    }
}

impl Gate {
    pub fn new(slots: Slots, metrics: Arc<Metrics>) -> Self {
        Self { slots, metrics, greeting: GREETING }
    }

    /// Lets those in that there is room for.
    pub fn admit_all<S: Peer>(
        self,
        incoming: impl Stream<Item = io::Result<S>>,
    ) -> impl Stream<Item = io::Result<Gated<S>>> {
        incoming.filter_map(move |stream| stream.map(|stream| self.admit(stream)).transpose())
    }

    /// Lets a connection in, or closes it.
    pub fn admit<S: Peer>(&self, stream: S) -> Option<Gated<S>> {
        let peer = stream.peer()?;
        let slots = self.slots.take(Limit::Connections, ALL).and_then(|of_all| {
            let of_peer = self.slots.take(Limit::ConnectionsPerPeer, &peer)?;
            Ok([of_all, of_peer])
        });
        match slots {
            Ok(slots) => {
                let greeting = Some((Box::pin(sleep(self.greeting)), PREFACE_BYTES));
                Some(Gated { stream, greeting, _slots: slots })
            }
            Err(Exceeded { limit, .. }) => {
                self.metrics.count_limited(limit);
                None
            }
        }
    }
}

/// A connection that was let in.
pub(super) struct Gated<S> {
    stream: S,
    /// Until when how many bytes more have to come.
    greeting: Option<(Pin<Box<Sleep>>, usize)>,
    _slots: [Slot; 2],
}

impl<S: Connected> Connected for Gated<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some((deadline, missing)) = &mut self.greeting {
            *missing = missing.saturating_sub(buf.filled().len() - before);
            if *missing == 0 {
                self.greeting = None;
            } else if polled.is_pending() && deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use stopover_config::bbs::Limits;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const SOON: Duration = Duration::from_millis(50);

    fn gate(limits: Limits) -> Gate {
        Gate { greeting: SOON, ..Gate::new(Slots::new(limits), Arc::default()) }
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed() {
        let gate = super::tests::gate(Limits { connections_per_peer: 1, ..Limits::default() });
        let (near, _far) = UnixStream::pair().unwrap();
        let first = gate.admit(near).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        assert!(gate.admit(near).is_none());
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "closed");
        drop(first);
        assert!(gate.admit(UnixStream::pair().unwrap().0).is_some());
    }

    #[tokio::test]
    async fn a_connection_that_sends_nothing_ends_and_one_that_greets_stays() {
        for (sent, ends) in [(0, true), (PREFACE_BYTES - 1, true), (PREFACE_BYTES, false)] {
            let (near, mut far) = UnixStream::pair().unwrap();
            let mut gated = gate(Limits::default()).admit(near).unwrap();
            far.write_all(&vec![0; sent]).await.unwrap();
            let mut received = 0;
            let wait = if ends { 1000 * SOON } else { 4 * SOON };
            let read = tokio::time::timeout(wait, async {
                loop {
                    match gated.read(&mut [0; 64]).await {
                        Ok(n) => received += n,
                        Err(e) => return e.kind(),
                    }
                }
            });
            assert_eq!(read.await.ok(), ends.then_some(io::ErrorKind::TimedOut), "{sent} bytes");
            assert_eq!(received, sent);
        }
    }
}

//! Connections with TLS. Enters: a listening socket, and the board's [`ServerTls`]. Leaves: connections whose peers have
//! proven who they are, as [`Proof::Certificate`]. Handshakes have a deadline, and no slow one delays another.
//!
//! A connection lasts no longer than its certificate would be admitted: each is checked again when the board's credentials
//! or revocation lists change, and when it expires.

use super::{
    caller::Proof,
    gate,
    metrics::Metrics,
    refused_peers::{Note, RefusedPeers},
    wait_for_stop,
};
use crate::access::Principal;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use stopover_pki::{Peer, Refusal, Reload, ServerTls};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, pki_types::UnixTime},
    server::TlsStream,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// A handshake that takes longer is refused. It is one round trip and some signatures.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way at once: a thousand hosts after a restart of the board.
const HANDSHAKES: usize = 1024;
/// How often the credentials' folder is read, and dates are compared with the clock.
const LOOK: Duration = Duration::from_secs(1);
/// For so long a refused peer may read why, before its connection is closed.
const FAREWELL: Duration = Duration::from_millis(500);
/// Pause when the socket cannot accept, for want of open files.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all listeners with TLS share.
pub(super) struct Tls {
    credentials: ServerTls,
    live: Mutex<HashMap<u64, Live>>,
    next: AtomicU64,
    handshakes: Arc<Semaphore>,
    refused: Mutex<RefusedPeers>,
    metrics: Arc<Metrics>,
}

/// A connection that is open.
struct Live {
    peer: Arc<Peer>,
    from: SocketAddr,
    /// Ends it.
    cut: oneshot::Sender<()>,
}

impl Tls {
    pub fn new(credentials: ServerTls, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            credentials,
            live: Mutex::default(),
            next: AtomicU64::new(0),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            refused: Mutex::default(),
            metrics,
        })
    }

    /// The board's, as they are now and will be.
    pub fn credentials(&self) -> ServerTls {
        self.credentials.clone()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<u64, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and logs a peer that was not admitted.
    fn refuse(&self, from: SocketAddr, why: Refusal) {
        self.metrics.count_refused_peer(why.name());
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match refused.note(Instant::now(), from.ip(), why.name()) {
            Note::Silent => {}
            Note::Log { more: 0 } => log::warn!("TLS: refused {from}: {why}"),
            Note::Log { more } => log::warn!("TLS: refused {from}: {why}; {more} more since the last line"),
        }
    }

    /// Registers a peer whose handshake is done.
    fn admit(self: &Arc<Self>, stream: TlsStream<TcpStream>, from: SocketAddr) -> Result<Secured, Refusal> {
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = Arc::new(Peer::of_chain(chain).map_err(|_| Refusal::Identity)?);
        let principal = Principal::of_certificate(peer.identity.clone()).ok_or(Refusal::Identity)?;
        let (cut, is_cut) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.live().insert(id, Live { peer: peer.clone(), from, cut });
        let entry = Entry { tls: self.clone(), id };
        self.metrics.tls_connections.inc();
        // The credentials may have changed during the handshake, before it was registered.
        self.credentials.check(&peer, UnixTime::now()).map_err(|e| Refusal::from(&e))?;
        Ok(Secured { stream, is_cut, proof: Proof::Certificate(principal), _entry: entry })
    }

    /// Ends the connections whose certificates would not be admitted now. After a change all are checked; else only dates.
    fn check(&self, is_changed: bool) {
        let now = UnixTime::now();
        let expired = |peer: &Peer| peer.until_s < now.as_secs();
        let due: Vec<(u64, Arc<Peer>)> = {
            let live = self.live();
            let due = live.iter().filter(|(_, live)| is_changed || expired(&live.peer));
            due.map(|(id, live)| (*id, live.peer.clone())).collect()
        };
        for (id, peer) in due {
            let Err(e) = self.credentials.check(&peer, now) else { continue };
            let Some(Live { from, cut, .. }) = self.live().remove(&id) else { continue };
            let why = Refusal::from(&e);
            self.metrics.count_cut_peer(why.name());
            log::warn!("TLS: closed the connection of {} from {from}: {why}", peer.identity);
            // It may have ended by itself.
            let _ = cut.send(());
        }
    }
}

/// A place in the list of connections; dropped with the connection.
struct Entry {
    tls: Arc<Tls>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tls.metrics.tls_connections.dec();
        self.tls.live().remove(&self.id);
    }
}

/// A connection of a peer that has proven who it is.
pub(super) struct Secured {
    stream: TlsStream<TcpStream>,
    is_cut: oneshot::Receiver<()>,
    proof: Proof,
    _entry: Entry,
}

impl gate::Peer for Secured {
    fn peer(&self) -> Option<String> {
        gate::Peer::peer(self.stream.get_ref().0)
    }
}

impl Connected for Secured {
    type ConnectInfo = Proof;
    fn connect_info(&self) -> Proof {
        self.proof.clone()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 always waits for the next frame, so this is polled as long as the connection lasts.
        if self.is_cut.is_terminated() || Pin::new(&mut self.is_cut).poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, to)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Accepts on a socket until the server stops.
pub(super) fn accept(
    tls: Arc<Tls>,
    listener: TcpListener,
    stopping: watch::Receiver<bool>,
) -> impl tokio_stream::Stream<Item = io::Result<Secured>> {
    let (out, incoming) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut stopped = std::pin::pin!(wait_for_stop(stopping));
        loop {
            let accepted = tokio::select! {
                () = &mut stopped => return,
                accepted = listener.accept() => accepted,
            };
            match (accepted, tls.handshakes.clone().try_acquire_owned()) {
                (Err(e), _) => {
                    log::warn!("TLS: cannot accept: {e}");
                    sleep(ACCEPT_PAUSE).await;
                }
                (Ok((_, from)), Err(_)) => tls.refuse(from, Refusal::Busy),
                (Ok((stream, from)), Ok(permit)) => {
                    tokio::spawn(greet(tls.clone(), stream, from, permit, out.clone()));
                }
            }
        }
    });
    ReceiverStream::new(incoming)
}

/// One handshake.
async fn greet(
    tls: Arc<Tls>,
    stream: TcpStream,
    from: SocketAddr,
    permit: OwnedSemaphorePermit,
    out: mpsc::Sender<io::Result<Secured>>,
) {
    // Latency, not correctness.
    let _ = stream.set_nodelay(true);
    let handshake = TlsAcceptor::from(tls.credentials.config()).accept(stream).into_fallible();
    let admitted = match timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => tls.admit(stream, from),
        Ok(Err((e, stream))) => {
            let cause = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
            tls.refuse(from, cause.map_or(Refusal::Other, Refusal::from));
            say_farewell(stream).await;
            return;
        }
        Err(_) => Err(Refusal::Timeout),
    };
    drop(permit);
    match admitted {
        // An error means that the server stops.
        Ok(secured) => drop(out.send(Ok(secured)).await),
        Err(why) => tls.refuse(from, why),
    }
}

/// Reads what the peer has sent behind its handshake: if bytes were left unread, the alert that tells it why would be lost.
async fn say_farewell(mut stream: TcpStream) {
    let _ = timeout(FAREWELL, async {
        let _ = stream.shutdown().await;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {}
    })
    .await;
}

/// Follows the credentials' folder and the clock until the server stops.
pub(super) async fn follow(tls: Arc<Tls>, stopping: watch::Receiver<bool>) {
    let mut stopped = std::pin::pin!(wait_for_stop(stopping));
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = ticks.tick() => {}
        }
        let tls = tls.clone();
        // It reads files, and checks signatures of every connection after a change.
        let look = tokio::task::spawn_blocking(move || {
            let found = tls.credentials.reload();
            match &found {
                Reload::Unchanged => {}
                Reload::Changed => {
                    tls.metrics.count_reload("used");
                    log::info!("TLS: new credentials of {}", tls.credentials.identity());
                }
                Reload::Refused(e) => {
                    tls.metrics.count_reload("refused");
                    log::error!("TLS: the credentials of before stay in use: {e}");
                }
            }
            tls.check(found == Reload::Changed);
        });
        if let Err(e) = look.await {
            log::error!("TLS: the look at the credentials ended: {e}");
        }
    }
}

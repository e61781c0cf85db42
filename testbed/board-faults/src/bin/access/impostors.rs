//! Servers that are not the board, and the product's client, which must not send them anything. Each server has what somebody
//! could have who is not the board; one has the board's own credentials, to see that the others fail for the right reason.

use super::{
    credentials::{Ca, Forged, Pair, identity, now_s, self_signed, server},
    place::{Place, VICTIM},
    score::Score,
    table::Expected,
    wire::Outcome,
};
use anyhow::{Context, ensure};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use stopover_bbs::client::{BoardAddress, connect, enrol};
use stopover_config::Endpoint;
use stopover_pki::{ClientTls, Newcomer, Role, Secret};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// A client that has sent nothing for so long sends nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Empty settings of HTTP/2, which a server sends first (RFC 9113 section 3.4).
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Greets as a board does. Returns whether the client has begun to speak HTTP/2.
async fn greets(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> bool {
    let mut first = [0; 3];
    let spoken = async {
        stream.write_all(&SETTINGS).await?;
        stream.flush().await?;
        stream.read_exact(&mut first).await
    };
    matches!(timeout(PATIENCE, spoken).await, Ok(Ok(_))) && first == *b"PRI"
}

/// Serves one connection. Returns whether the client took the server for a board.
async fn serve(listener: TcpListener, config: Option<Arc<ServerConfig>>) -> bool {
    let Ok(Ok((stream, _))) = timeout(PATIENCE, listener.accept()).await else { return false };
    match config {
        None => greets(stream).await,
        Some(config) => match timeout(PATIENCE, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(stream)) => greets(stream).await,
            _ => false,
        },
    }
}

/// One server and one client.
async fn meet<T>(
    config: Option<Arc<ServerConfig>>,
    client: impl AsyncFnOnce(SocketAddr) -> T,
) -> anyhow::Result<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let serving = tokio::spawn(serve(listener, config));
    // It fails at each of them: none answers a call.
    let _ = timeout(PATIENCE, client(at)).await;
    let is_fooled = serving.await?;
    Ok(if is_fooled { Outcome::Passed } else { Outcome::NoConnection("nothing was sent".to_owned()) })
}

/// Certificates of servers, and whether the client may take them for the board's.
fn servers(place: &Place) -> anyhow::Result<Vec<(&'static str, Expected, Option<Pair>)>> {
    let (ca, folder) = (place.ca(), |name: &str| place.folder(name));
    let foreign = Ca { folder: place.dir.join("foreign-ca") };
    foreign.issue(Role::Board, "bbs", &folder("foreign-board"))?;
    ca.issue_expired(Role::Board, "old-board", &folder("old-board"))?;
    ca.issue_young(Role::Board, "young-board", &folder("young-board"))?;
    ca.issue(Role::Board, "gone-board", &folder("gone-board"))?;
    ca.revoke(Role::Board, "gone-board")?;
    let of = |name: &str| Pair::load(&folder(name)).map(Some);
    let board = Forged { uris: &["stopover://board/bbs"], for_board: true };
    let host = Forged { uris: &["stopover://host/hv-b"], for_board: true };
    let nameless = Forged { uris: &["stopover://board/bbs"], for_board: false };
    let refused = Expected::NoConnection;
    Ok(vec![
        ("the board's own certificate", Expected::Pass, Some(Pair::load(&place.board())?)),
        ("a host's certificate", refused, of("hv-b")?),
        ("an operator's certificate", refused, of("alice")?),
        ("a host's certificate with the board's DNS name", refused, Some(ca.forge(&host)?)),
        ("a board's certificate without the DNS name", refused, Some(ca.forge(&nameless)?)),
        ("a board's certificate of another CA", refused, of("foreign-board")?),
        ("a board's certificate that signed itself", refused, Some(self_signed(&board)?)),
        ("an expired certificate of a board", refused, of("old-board")?),
        ("a board's certificate of tomorrow", refused, of("young-board")?),
        ("a revoked certificate of a board", refused, of("gone-board")?),
        ("no TLS", refused, None),
    ])
}

/// The session's and the operator's client, with a host's credentials.
pub async fn boards(place: &Place, score: &mut Score) -> anyhow::Result<()> {
    let servers = servers(place)?;
    let folder = place.folder(VICTIM.0);
    place.ca().publish(&folder)?;
    let tls = ClientTls::load(&folder)?;
    for (what, expected, pair) in servers {
        let tls = tls.clone();
        let client = async move |at: SocketAddr| {
            let endpoint = Endpoint::Tls { host: at.ip().to_string(), port: at.port() };
            connect(BoardAddress { endpoint, tls: Some(tls) }).await
        };
        let outcome = meet(pair.map(server).transpose()?, client).await?;
        score.judge(&format!("a client takes for the board a server with {what}"), expected, &outcome);
    }
    Ok(())
}

/// The newcomer's client, which knows only the pin of its token.
pub async fn boards_for_newcomers(place: &Place, score: &mut Score) -> anyhow::Result<()> {
    let ca = place.ca();
    let foreign = Ca { folder: place.dir.join("foreign-ca") };
    let with = |folder: &std::path::Path, ca: &Ca| -> anyhow::Result<Pair> {
        Pair::load(folder)?.followed_by(&ca.folder)
    };
    for (what, expected, pair) in [
        ("the board's own certificate", Expected::Pass, with(&place.board(), &ca)?),
        ("a host's certificate", Expected::NoConnection, with(&place.folder("hv-b"), &ca)?),
        ("the chain of another CA", Expected::NoConnection, with(&place.folder("foreign-board"), &foreign)?),
        (
            "the authority of another chain",
            Expected::NoConnection,
            with(&place.folder("foreign-board"), &ca)?,
        ),
    ] {
        let (now, identity) = (now_s(), identity(Role::Host, "new-5")?);
        let token = ca.open()?.issue_token(&identity, Secret::draw()?, now, now + 600)?;
        let newcomer = Newcomer::new(token)?;
        let client = async move |at: SocketAddr| {
            let endpoint = Endpoint::Tls { host: at.ip().to_string(), port: at.port() };
            enrol(&endpoint, &newcomer).await
        };
        let outcome = meet(Some(server(pair)?), client).await?;
        score.judge(&format!("a newcomer takes for the board a server with {what}"), expected, &outcome);
    }
    let open = ca.open()?.tokens().iter().any(|given| given.identity.name.as_str() == "new-5");
    ensure!(open, "no token was made");
    Ok(())
}

/// The right board serves the product's client.
pub async fn the_board(place: &Place) -> anyhow::Result<()> {
    let tls = ClientTls::load(&place.folder(VICTIM.0))?;
    connect(BoardAddress { endpoint: place.endpoint(), tls: Some(tls) }).await.context("the board itself")?;
    Ok(())
}

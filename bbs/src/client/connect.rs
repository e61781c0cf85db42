//! From an [`Endpoint`] to a gRPC channel. The only place for TLS on the side of clients.

use super::error::Error;
use crate::proto::{MAX_MESSAGE_BYTES, v1::board_client::BoardClient};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use stopover_config::Endpoint;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint as Transport, Uri};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// HTTP/2 flow-control window of a stream and of the connection, in bytes. With the default of 64 KiB a snapshot of some
/// hundred megabytes would wait for a round trip after every 64 KiB.
const WINDOW: u32 = 4 << 20;
/// A connection ends if its peer does not answer an HTTP/2 ping for this long.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Connects; fails if the endpoint does not answer.
pub async fn connect(endpoint: &Endpoint) -> Result<BoardClient<Channel>, Error> {
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
    let channel = connected.map_err(|e| {
        // tonic's own text is only "transport error"; the cause is at the end of the chain.
        let mut cause: &dyn std::error::Error = &e;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Error::Unreachable(format!("{endpoint}: {cause}"))
    })?;
    Ok(BoardClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

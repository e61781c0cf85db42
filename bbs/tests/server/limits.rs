//! Limits over real sockets: what is too much is answered at once, counted, and does not disturb others.

use super::*;
use stopover_bbs::client::{Connection, connect};
use stopover_bbs::proto::v1;
use stopover_config::bbs::{Limit, Limits};
use tonic::Code;

async fn limited(dir: &Path, limits: Limits) -> (Server, Endpoint) {
    let endpoint = socket(dir);
    let mut config = ServerConfig::new(vec![endpoint.clone()]);
    config.metrics = Some("127.0.0.1:0".parse().unwrap());
    config.limits = limits;
    (Server::start(config, memory()).await.unwrap(), endpoint)
}

async fn registered(connection: &Connection, host: &str, last: u8) -> Option<v1::SessionRef> {
    let register = v1::RegisterRequest {
        host: host.into(),
        vteps: vec![vec![10, 0, 0, last]],
        udp_port: 4789,
        key: vec![last; 16],
        instance: vec![last; 16],
        ..v1::RegisterRequest::default()
    };
    let session = connection.host().register(register).await.unwrap().into_inner().session;
    Some(v1::SessionRef { host: host.into(), session, key: vec![] })
}

async fn count(server: &Server, limit: Limit) -> u64 {
    let page = super::operator::metrics(server.metrics().unwrap()).await;
    let name = format!("stopover_bbs_limited_total{{limit=\"{}\"}} ", limit.name());
    let line = page.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name}in {page}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_calls_too_often_is_refused_and_another_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = limited(dir.path(), Limits { requests_per_s: 5, ..Limits::default() }).await;
    let connection = connect(&at).await.unwrap();
    let bad = registered(&connection, "bad", 1).await;
    let good = registered(&connection, "good", 2).await;
    let beat = |session_ref| {
        let mut host = connection.host();
        async move { host.heartbeat(v1::HeartbeatRequest { session_ref }).await }
    };
    let mut refused = 0;
    for _ in 0..200 {
        if let Err(status) = beat(bad.clone()).await {
            assert_eq!(status.code(), Code::ResourceExhausted);
            let expected = "requests_per_s: found 6; expected at most 5; hint: call again later, or raise \
                            `limits.requests_per_s` in the board's file";
            assert_eq!(status.message(), expected);
            refused += 1;
        }
    }
    assert!(refused > 0);
    beat(good).await.unwrap();
    assert_eq!(count(&server, Limit::RequestsPerSecond).await, refused);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_limit_has_a_counter_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = limited(dir.path(), Limits::default()).await;
    for limit in Limit::ALL {
        assert_eq!(count(&server, *limit).await, 0);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_and_a_connection_too_many_are_refused_until_others_end() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { watches_per_caller: 1, connections_per_peer: 1, ..Limits::default() };
    let (server, at) = limited(dir.path(), limits).await;
    let connection = connect(&at).await.unwrap();
    if let Ok(second) = connect(&at).await {
        let request = v1::ListWatchersRequest { after: u64::MAX };
        assert!(second.observer().list_watchers(request).await.is_err());
    }
    assert!(count(&server, Limit::ConnectionsPerPeer).await > 0);
    let watch = || {
        let start = v1::WatchStart { name: "tool".into(), everything: true, ..v1::WatchStart::default() };
        let start = v1::WatchRequest { request: Some(v1::watch_request::Request::Start(start)) };
        // A client's call goes on as long as it may send.
        let (open, requests) = tokio::sync::mpsc::channel(1);
        open.try_send(start).unwrap();
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let mut observer = connection.observer();
        async move { observer.watch(requests).await.map(|answers| (open, answers)) }
    };
    let first = watch().await.unwrap();
    let status = watch().await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("watches_per_caller: found 2; expected at most 1; "), "{status}");
    drop(first);
    let began = Instant::now();
    while watch().await.is_err() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop().await;
}

//! The client against a small server on a real socket: answers, refusals, and everything that can be wrong
//! with the other end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use axum::{
    Json, Router,
    extract::{Path, Query},
    http::StatusCode,
    routing::{get, post},
};
use std::{path::PathBuf, time::Duration};
use stopover_ctl::{
    AddressEntry, ApiError, BoardState, CaptureFilter, ClearRequest, Client, ClientError, ErrorBody,
    HostTunnelMode, ListQuery, MigrationBudget, Migrations, NodeEntry, NodeOrigin, Page, PortStats,
    SaDirection, SaInfo, TraceReport, TraceRequest, TraceSource, TunnelInfo, TunnelState, path,
};
use stopover_net::{HostName, Vni};
use tokio::net::UnixListener;

async fn nodes(Query(scope): Query<ListQuery>) -> (StatusCode, Json<ErrorBody>) {
    let what = format!("scope {:?}", scope.vni.map(Vni::get));
    (StatusCode::NOT_FOUND, Json(ErrorBody { error: ApiError::new(what, "another", "ask for it") }))
}

async fn trace(Json(request): Json<TraceRequest>) -> Json<TraceReport> {
    if let TraceSource::Capture(_) = request.source {
        tokio::time::sleep(Duration::from_millis(request.timeout_ms)).await;
    }
    Json(TraceReport {
        port: request.port,
        captured: true,
        summary: String::new(),
        frame_hex: String::new(),
        steps: vec![],
        outcome: "delivered".into(),
    })
}

fn serve() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ctl.sock");
    let stats = vec![PortStats { name: "vm1".into(), rx_packets: 7, ..PortStats::default() }];
    let app = Router::new()
        .route(path::PORT_STATS, get(|| async { Json(stats) }))
        .route(
            path::MIGRATIONS,
            get(|| async {
                let budget = MigrationBudget { hold_bytes: 1 << 26, ..MigrationBudget::default() };
                Json(Migrations { budget, nodes: vec![] })
            }),
        )
        .route(path::NODES, get(nodes))
        .route(path::ADDRESSES, get(nodes))
        .route(path::BOARD, get(|| async { "not json" }))
        .route(path::HOSTS, get(std::future::pending::<String>))
        .route(
            path::CLEAR,
            post(|Json(r): Json<ClearRequest>| async move {
                assert_eq!(r, ClearRequest::PortStats { port: Some("vm1".into()) });
                Json(serde_json::json!({}))
            }),
        )
        .route(path::TRACE, post(trace));
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (dir, socket)
}

#[tokio::test]
async fn answers_and_refusals() {
    let (_dir, socket) = serve();
    let client = Client::new(&socket);
    assert_eq!(client.port_stats().await.unwrap()[0].rx_packets, 7);
    assert_eq!(client.migrations().await.unwrap().budget.hold_bytes, 1 << 26);
    client.clear(&ClearRequest::PortStats { port: Some("vm1".into()) }).await.unwrap();
    let e = client.nodes(Some(Vni::new(5).unwrap())).await.unwrap_err();
    assert_eq!(e.to_string(), "scope Some(5); expected another; hint: ask for it");
    assert!(client.nodes(None).await.unwrap_err().to_string().starts_with("scope None"));
}

#[tokio::test]
async fn another_program_behind_the_socket() {
    let (_dir, socket) = serve();
    let client = Client::new(&socket);
    let e: Result<BoardState, _> = client.board().await;
    assert!(matches!(e, Err(ClientError::Protocol { .. })));
    let e = client.version().await.unwrap_err().to_string();
    assert!(e.contains("status 404") && e.contains("use a `stopover` of the appliance's version"), "{e}");
}

#[tokio::test]
async fn silence_ends_with_the_time_limit() {
    let (_dir, socket) = serve();
    let e = Client::new(&socket).timeout(Duration::from_millis(50)).hosts().await.unwrap_err();
    assert!(e.to_string().contains("did not answer within 50 ms"), "{e}");
}

#[tokio::test]
async fn waiting_for_a_frame_does_not_time_out() {
    let (_dir, socket) = serve();
    let request = TraceRequest {
        port: "vm1".into(),
        source: TraceSource::Capture(CaptureFilter::default()),
        timeout_ms: 1_100,
    };
    let report = Client::new(&socket).timeout(Duration::from_secs(1)).trace(&request).await.unwrap();
    assert_eq!((report.port.as_str(), report.outcome.as_str()), ("vm1", "delivered"));
}

#[tokio::test]
async fn no_socket_or_no_server_at_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ctl.sock");
    let message = format!("no appliance listens at {}; start it, or give --ctl", socket.display());
    assert_eq!(Client::new(&socket).version().await.unwrap_err().to_string(), message);
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "the file of a process that has ended");
    assert_eq!(Client::new(&socket).version().await.unwrap_err().to_string(), message);
}

/// Two rows of a list in each page, by a cursor that is a number.
fn page_of<T: Clone>(rows: &[T], query: &ListQuery) -> Json<Page<T>> {
    let at = query.after.as_deref().map_or(0, |after| after.parse().unwrap());
    let next = Some(at + 2).filter(|next| *next < rows.len()).map(|next: usize| next.to_string());
    Json(Page { rows: rows[at..].iter().take(2).cloned().collect(), next })
}

#[tokio::test]
async fn lists_are_put_together_from_their_pages() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ctl.sock");
    let (vni, mac) = (Vni::new(5).unwrap(), |n| format!("52:54:00:00:00:0{n}").parse().unwrap());
    let ip = |n| format!("192.168.0.{n}").parse().unwrap();
    // Node n has two addresses. Neither list is in order.
    let entry = |n| NodeEntry { vni, mac: mac(n), host: "gw".into(), port: None, origin: NodeOrigin::Board };
    let nodes: Vec<_> = [3, 1, 2].map(entry).into();
    let addresses: Vec<_> =
        [30, 20, 11, 10, 21, 31].map(|n| AddressEntry { vni, ip: ip(n), mac: mac(n / 10) }).into();
    let app = Router::new()
        .route(path::NODES, get(|Query(q): Query<ListQuery>| async move { page_of(&nodes, &q) }))
        .route(path::ADDRESSES, get(|Query(q): Query<ListQuery>| async move { page_of(&addresses, &q) }))
        .route(
            path::HOSTS,
            get(|| async { Json(serde_json::json!({"rows": [], "next": "the same again"})) }),
        );
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = Client::new(&socket);
    let rows = client.nodes(None).await.unwrap();
    let seen: Vec<_> = rows.into_iter().map(|row| (row.mac, row.ips)).collect();
    assert_eq!(seen, [1, 2, 3].map(|n| (mac(n), vec![ip(10 * n), ip(10 * n + 1)])));
    let e = client.hosts().await.unwrap_err().to_string();
    assert!(e.contains("unexpected answer"), "a list without an end: {e}");
}

fn tunnel(host: &str, state: TunnelState) -> TunnelInfo {
    TunnelInfo {
        host: host.into(),
        number: 2,
        mode: HostTunnelMode::Required,
        state,
        why: None,
        address: None,
        age_s: None,
        sessions: 0,
        sent_packets: 0,
        sent_bytes: 0,
        received_packets: 0,
        received_bytes: 0,
        replayed: 0,
        bad_seal: 0,
    }
}

fn sa(host: &str, direction: SaDirection, age_s: u64, lcore: u32) -> SaInfo {
    SaInfo {
        host: host.into(),
        direction,
        spi: format!("0xc000000{lcore}"),
        lcore: Some(lcore),
        session: 1,
        packets: 0,
        bytes: 0,
        replayed: 0,
        bad_seal: 0,
        age_s,
    }
}

#[tokio::test]
async fn tunnels_are_listed_in_order_and_commanded_by_host() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ctl.sock");
    let tunnels = ["hv-c", "hv-a", "hv-b"].map(|host| tunnel(host, TunnelState::Up));
    let (old, new) = (100, 5);
    use SaDirection::{In, Out};
    let sas = [
        sa("hv-b", In, new, 1),
        sa("hv-a", Out, new, 2),
        sa("hv-a", Out, new, 1),
        sa("hv-a", Out, old, 1),
        sa("hv-a", In, new, 2),
    ];
    let rekey = |Path(host): Path<String>| async move { Json(tunnel(&host, TunnelState::Connecting)) };
    let close = |Path(host): Path<String>| async move { Json(tunnel(&host, TunnelState::Idle)) };
    let app = Router::new()
        .route(path::TUNNELS, get(|Query(q): Query<ListQuery>| async move { page_of(&tunnels, &q) }))
        .route(path::SAS, get(|Query(q): Query<ListQuery>| async move { page_of(&sas, &q) }))
        .route(path::TUNNEL_REKEY, post(rekey))
        .route(path::TUNNEL_CLOSE, post(close));
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = Client::new(&socket);
    let hosts: Vec<_> = client.tunnels().await.unwrap().into_iter().map(|t| t.host).collect();
    assert_eq!(hosts, ["hv-a", "hv-b", "hv-c"]);
    let order: Vec<_> = client.sas().await.unwrap();
    let order: Vec<_> = order.iter().map(|s| (s.host.as_str(), s.direction, s.age_s, s.lcore)).collect();
    assert_eq!(
        order,
        [
            ("hv-a", In, new, Some(2)),
            ("hv-a", Out, old, Some(1)),
            ("hv-a", Out, new, Some(1)),
            ("hv-a", Out, new, Some(2)),
            ("hv-b", In, new, Some(1)),
        ]
    );
    let host = HostName::new("hv-b.example_1").unwrap();
    let rekeyed = client.rekey_tunnel(&host).await.unwrap();
    assert_eq!((rekeyed.host.as_str(), rekeyed.state), (host.as_str(), TunnelState::Connecting));
    let closed = client.close_tunnel(&host).await.unwrap();
    assert_eq!((closed.host.as_str(), closed.state), (host.as_str(), TunnelState::Idle));
}

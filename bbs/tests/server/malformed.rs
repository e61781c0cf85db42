//! Malformed messages: every field broken in turn, random messages, and bytes that are no message at all. Each is
//! refused with the field's path, and nothing changes.

use super::*;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use prost::bytes::{Buf, BufMut};
use stopover_bbs::{
    client::{Connection, connect},
    proto::v1,
};
use tonic::{Code, Request, Response, Status, codec};

fn session_ref() -> Option<v1::SessionRef> {
    Some(v1::SessionRef { host: "gw-a".into(), session: 1, key: vec![1; 16] })
}
fn node_claim() -> v1::NodeClaim {
    v1::NodeClaim {
        vni: 1,
        mac: vec![2, 0, 0, 0, 0, 1],
        ips: vec![vec![10, 0, 0, 1]],
        ..v1::NodeClaim::default()
    }
}
fn register() -> v1::RegisterRequest {
    v1::RegisterRequest {
        host: "gw-a".into(),
        vteps: vec![vec![10, 0, 0, 1]],
        udp_port: 4789,
        key: vec![1; 16],
        instance: vec![2; 16],
        holds: None,
        features: None,
        details: None,
    }
}

/// A board, and the calls that it has to refuse. Nothing may change by them.
struct Refusals {
    _dir: tempfile::TempDir,
    server: Server,
    client: Connection,
}

impl Refusals {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = socket(dir.path());
        let server = board(&at, memory(), LONG).await;
        Self { _dir: dir, server, client: connect(&at).await.unwrap() }
    }

    async fn end(self) {
        assert_eq!(self.client.observer().info(v1::InfoRequest {}).await.unwrap().into_inner().revision, 0);
        self.server.stop().await;
    }
}

/// The answer names the field, and contains `text`.
fn assert_refused<T>(answer: Result<Response<T>, Status>, path: &str, text: &str) {
    let status = answer.err().unwrap_or_else(|| panic!("{path} accepted"));
    assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
    assert!(status.message().starts_with(&format!("{path}: ")), "{}", status.message());
    assert!(status.message().contains(text), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_broken_field_of_a_registration_is_named() {
    type Break = fn(&mut v1::RegisterRequest);
    let cases: [(&str, &str, Break); 11] = [
        ("host", "expected 1 to 63", |m| m.host = "-".into()),
        ("vteps", "1 to 4", |m| m.vteps.clear()),
        ("details.public_key", "found 3 bytes", |m| {
            m.details = Some(v1::HostDetails { public_key: vec![1; 3], ..v1::HostDetails::default() });
        }),
        ("features.names[0]", "no short name", |m| {
            m.features = Some(v1::Features { names: vec![String::new()] })
        }),
        ("vteps", "at most 4", |m| m.vteps = (0..5).map(|i| vec![10, 0, 0, i]).collect()),
        ("vteps[0]", "found 3 bytes", |m| m.vteps = vec![vec![1; 3]]),
        ("vteps[0]", "unicast", |m| m.vteps = vec![vec![224, 0, 0, 1]]),
        ("vteps[1]", "each address once", |m| m.vteps = vec![vec![10, 0, 0, 1]; 2]),
        ("udp_port", "1 to 65535", |m| m.udp_port = 65536),
        ("key", "16 bytes", |m| m.key.clear()),
        ("instance", "16 bytes", |m| m.instance = vec![1; 17]),
    ];
    let board = Refusals::start().await;
    for (path, text, change) in cases {
        let mut m = register();
        change(&mut m);
        assert_refused(board.client.host().register(m).await, path, text);
    }
    board.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_broken_field_of_a_claim_is_named() {
    type Break = fn(&mut v1::NodeClaim);
    let cases: [(&str, &str, Break); 7] = [
        ("claims[1].vni", "expected 1 to 16777215", |c| c.vni = 0),
        ("claims[1].vni", "expected 1 to 16777215", |c| c.vni = 1 << 24),
        ("claims[1].mac", "found 5 bytes", |c| c.mac.truncate(5)),
        ("claims[1].mac", "cannot belong to a station", |c| c.mac = vec![0xff; 6]),
        ("claims[1].mac", "a second time", |c| c.mac[5] = 1),
        ("claims[1].ips", "at most 16", |c| c.ips = (0..17).map(|i| vec![10, 0, 1, i]).collect()),
        ("claims[1].ips[0]", "found 0 bytes", |c| c.ips = vec![vec![]]),
    ];
    let board = Refusals::start().await;
    for (path, text, change) in cases {
        let mut broken = node_claim();
        broken.mac[5] = 2;
        change(&mut broken);
        let m = v1::ClaimRequest { session_ref: session_ref(), claims: vec![node_claim(), broken] };
        assert_refused(board.client.host().claim(m).await, path, text);
    }
    let many = v1::ClaimRequest { session_ref: session_ref(), claims: vec![node_claim(); 4097] };
    assert_refused(board.client.host().claim(many).await, "claims", "at most 4096");
    let no_session = v1::ClaimRequest { session_ref: None, claims: vec![node_claim()] };
    assert_refused(board.client.host().claim(no_session).await, "session_ref", "expected this message");
    // Not malformed, but no host has registered.
    let unregistered = v1::ClaimRequest { session_ref: session_ref(), claims: vec![node_claim()] };
    let status = board.client.host().claim(unregistered).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    board.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_broken_field_of_a_sessions_calls_is_named() {
    let board = Refusals::start().await;
    let mut client = board.client.host();
    let mut keyless = session_ref();
    keyless.as_mut().unwrap().key.clear();
    let sync = v1::SyncClaimsRequest { session_ref: keyless };
    assert_refused(client.sync_claims(sync).await, "session_ref.key", "16 bytes");
    let leave = v1::LeaveRequest { session_ref: session_ref(), vnis: vec![1, 0] };
    assert_refused(client.leave(leave).await, "vnis[1]", "out of range");
    let joins = vec![v1::Join { vni: 1 << 25, segment: true }];
    let join = v1::JoinRequest { session_ref: session_ref(), joins };
    assert_refused(client.join(join).await, "joins[0].vni", "out of range");
    let nodes = vec![v1::NodeKey { vni: 1, mac: vec![1, 2] }];
    let withdraw = v1::WithdrawRequest { session_ref: session_ref(), nodes };
    assert_refused(client.withdraw(withdraw).await, "nodes[0].mac", "found 2 bytes");
    // The operator's, who has a service of its own.
    let abort = v1::AbortMigrationRequest { key: vec![3; 16], ..v1::AbortMigrationRequest::default() };
    assert_refused(client.abort_migration(abort).await, "session_ref", "expected this message");
    board.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_broken_field_of_the_operators_calls_is_named() {
    use v1::row::Row;
    let board = Refusals::start().await;
    let mut client = board.client.operator();
    let row = |row| v1::DeclareRequest { key: vec![3; 16], row: Some(v1::Row { row, number: 0 }) };
    let network =
        |mtu, flood| row(Some(Row::Network(v1::Network { vni: 1, name: String::new(), flood, mtu })));
    assert_refused(client.declare(row(None)).await, "row.row", "expected");
    let no_row = v1::DeclareRequest { key: vec![3; 16], row: None };
    assert_refused(client.declare(no_row).await, "row", "expected");
    assert_refused(client.declare(network(575, 1)).await, "row.network.mtu", "576");
    assert_refused(client.declare(network(65_536, 1)).await, "row.network.mtu", "65535");
    assert_refused(client.declare(network(0, 9)).await, "row.network.flood", "TO_SEGMENTS");
    let delete = v1::DeleteRequest { key: vec![3; 16], target: None, cascade: false };
    assert_refused(client.delete(delete.clone()).await, "target", "expected");
    let target = Some(v1::delete_request::Target::Network(1));
    let cascade = v1::DeleteRequest { target, cascade: true, ..delete };
    assert_refused(client.delete(cascade).await, "cascade", "false");
    let begin =
        v1::BeginMigrationRequest { session_ref: session_ref(), ..v1::BeginMigrationRequest::default() };
    assert_refused(
        client.begin_migration(begin).await,
        "session_ref",
        "hint: a host makes this call of HostService",
    );
    board.end().await;
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl codec::Codec for Raw {
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

impl codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, out: &mut codec::EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl codec::Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, bytes: &mut codec::DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining()).to_vec()))
    }
}

const CALLS: [&str; 18] = [
    "HostService/Register",
    "HostService/Heartbeat",
    "HostService/Deregister",
    "HostService/Claim",
    "HostService/Withdraw",
    "HostService/Join",
    "HostService/Leave",
    "HostService/SyncClaims",
    "HostService/BeginMigration",
    "HostService/ReportMigration",
    "OperatorService/Declare",
    "OperatorService/Delete",
    "OperatorService/CompleteMigration",
    "OperatorService/AbortMigration",
    "Board/Register",
    "Board/Claim",
    "Board/Declare",
    "Board/BeginMigration",
];

/// Random bytes, and good messages with some bytes changed, to every call. What is understood may be done (a
/// changed byte can leave a good message); what is refused must have changed nothing, and the board lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_change_nothing() {
    use prost::Message;
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let mut client = connect(&at).await.unwrap().observer();
    let Endpoint::Unix(path) = &at else { unreachable!() };
    let path = path.clone();
    let channel = tonic::transport::Endpoint::from_static("http://board.invalid")
        .connect_with_connector(tower::service_fn(move |_: tonic::transport::Uri| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
        }))
        .await
        .unwrap();
    let mut raw = tonic::client::Grpc::new(channel);

    let mut host = Host::start(config(&at, "gw-a", "10.0.0.1"));
    host.session().claim(claim(1, 1, &["10.0.0.1"]));
    host.wait_for("Accepted", |u| matches!(u, Update::Accepted { .. })).await;
    let whole =
        v1::ClaimRequest { session_ref: session_ref(), claims: vec![node_claim(); 3] }.encode_to_vec();
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        (prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), 0..80usize).prop_map(
            move |(changes, cut)| {
                let mut message = whole.clone();
                for (at, byte) in changes {
                    let at = at.index(message.len());
                    message[at] = byte;
                }
                message.truncate(whole.len().saturating_sub(cut % 3));
                message
            }
        ),
    ];
    let cases = (0..CALLS.len(), bytes);
    let mut runner = TestRunner::new(Config { cases: 1, ..Config::default() });
    let mut refused = 0;
    let mut before = client.info(v1::InfoRequest {}).await.unwrap().into_inner().revision;
    for _ in 0..1000 {
        let (call, message) = cases.new_tree(&mut runner).unwrap().current();
        raw.ready().await.unwrap();
        let path = format!("/stopover.v1.{}", CALLS[call]).parse().unwrap();
        let answer = raw.unary(Request::new(message.clone()), path, Raw).await;
        let now = client.info(v1::InfoRequest {}).await.unwrap().into_inner().revision;
        if answer.is_err() {
            refused += 1;
            assert_eq!(now, before, "{} {message:x?} was refused, and changed something", CALLS[call]);
        }
        before = now;
    }
    assert!(refused > 900, "{refused}");
    assert!(host.session().state().connected);
    drop(host);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_watch_ends_with_its_reason() {
    use v1::watch_request::Request as R;
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let board = connect(&at).await.unwrap();
    let start =
        |name: &str, vnis| R::Start(v1::WatchStart { name: name.into(), vnis, ..v1::WatchStart::default() });
    let of_session = R::Start(v1::WatchStart { name: "x".into(), session: 1, ..v1::WatchStart::default() });
    let cases: [(Vec<R>, &str); 7] = [
        (vec![of_session], "start.session: found 1; expected 0; hint: a host watches by HostService"),
        (vec![start("of a host", vec![])], "start.session: found 0; expected the number of a session"),
        (vec![R::AckRevision(1)], "request: "),
        (vec![start("", vec![])], "start.name: "),
        (vec![start("x", vec![0])], "start.vnis[0]: "),
        (vec![start("x", vec![]), R::Ack(v1::Point::default())], "ack.board_id: "),
        (vec![start("x", vec![]), start("x", vec![])], "request: "),
    ];
    for (requests, text) in cases {
        let (tx, rx) = tokio::sync::mpsc::channel(8);
        for request in requests {
            tx.send(v1::WatchRequest { request: Some(request) }).await.unwrap();
        }
        let requests = tokio_stream::wrappers::ReceiverStream::new(rx);
        let answer = match text.contains("found 0") {
            true => board.host().watch(requests).await,
            false => board.observer().watch(requests).await,
        };
        let status = match answer {
            Err(status) => status,
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => panic!("ended without a reason: {text}"),
                        Err(status) => break status,
                    }
                }
            }
        };
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(text), "{}", status.message());
    }
    assert!(operator(&at).await.watchers().await.unwrap().is_empty());
    server.stop().await;
}

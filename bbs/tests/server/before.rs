//! Programs of before and of after work together. `tests/before` has the protocol of before, as it was when there was one
//! service and no feature; it never changes. Its types drop what they do not know, as those programs do.

use super::{
    migration::{begin, wait_for_answer},
    *,
};
use stopover_bbs::{
    client::{
        EventKind, HostDetails, LoadStep, MigrationState, MigrationUpdate, Nic, NodeFilter, PublicKey,
        Report, Row, ShortName, Target, Unlocked, connect,
    },
    model::Features,
    proto::v1 as after,
};
use stopover_config::bulk::{HostRow, NodeRow};
use tokio::{net::UnixStream, sync::mpsc};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Channel};
use v1::{
    board_client::BoardClient,
    board_server::{Board, BoardServer},
};

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod v1 {
    include!(concat!(env!("OUT_DIR"), "/before/stopover.v1.rs"));
}

/// A client of before.
async fn client(at: &Endpoint) -> BoardClient<Channel> {
    let Endpoint::Unix(path) = at.clone() else { unreachable!() };
    let connect = tower::service_fn(move |_: tonic::transport::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let transport = tonic::transport::Endpoint::from_static("http://board.invalid");
    BoardClient::new(transport.connect_with_connector(connect).await.unwrap())
}

/// A board of before: it has the one service, and passes every call to a board of after as a client of before. So a
/// client of after meets a board of before at its socket, and the board of after meets a client of before.
struct BoardOfBefore(BoardClient<Channel>);

macro_rules! pass_on {
    (
        streams: { $($stream:ident of $item:ident;)* }
        calls: { $($call:ident($request:ty) -> $answer:ty;)* }
        requests: { $($both:ident($item_in:ident) -> $out:ident;)* }
    ) => {
        #[tonic::async_trait]
        impl Board for BoardOfBefore {
            $(type $stream = Streaming<v1::$item>;)*

            $(async fn $call(&self, request: Request<$request>) -> Result<Response<$answer>, Status> {
                self.0.clone().$call(request.into_inner()).await
            })*

            $(async fn $both(
                &self,
                request: Request<Streaming<v1::$item_in>>,
            ) -> Result<Response<Streaming<v1::$out>>, Status> {
                self.0.clone().$both(request.into_inner().map_while(Result::ok)).await
            })*
        }
    };
}

pass_on! {
    streams: {
        LoadStream of LoadProgress;
        ListHostsStream of ListHostsResponse;
        ListNetworksStream of ListNetworksResponse;
        ListMembersStream of ListMembersResponse;
        ListNodesStream of ListNodesResponse;
        ListMigrationsStream of ListMigrationsResponse;
        EventsStream of EventsResponse;
        WatchStream of WatchResponse;
    }
    calls: {
        info(v1::InfoRequest) -> v1::InfoResponse;
        register(v1::RegisterRequest) -> v1::RegisterResponse;
        heartbeat(v1::HeartbeatRequest) -> v1::HeartbeatResponse;
        deregister(v1::DeregisterRequest) -> v1::CommitResponse;
        claim(v1::ClaimRequest) -> v1::ClaimResponse;
        withdraw(v1::WithdrawRequest) -> v1::CommitResponse;
        join(v1::JoinRequest) -> v1::CommitResponse;
        leave(v1::LeaveRequest) -> v1::CommitResponse;
        sync_claims(v1::SyncClaimsRequest) -> v1::SyncClaimsResponse;
        declare(v1::DeclareRequest) -> v1::CommitResponse;
        delete(v1::DeleteRequest) -> v1::CommitResponse;
        list_hosts(v1::ListHostsRequest) -> Streaming<v1::ListHostsResponse>;
        list_networks(v1::ListNetworksRequest) -> Streaming<v1::ListNetworksResponse>;
        list_members(v1::ListMembersRequest) -> Streaming<v1::ListMembersResponse>;
        list_nodes(v1::ListNodesRequest) -> Streaming<v1::ListNodesResponse>;
        list_watchers(v1::ListWatchersRequest) -> v1::ListWatchersResponse;
        events(v1::EventsRequest) -> Streaming<v1::EventsResponse>;
        begin_migration(v1::BeginMigrationRequest) -> v1::MigrationResponse;
        complete_migration(v1::CompleteMigrationRequest) -> v1::MigrationResponse;
        abort_migration(v1::AbortMigrationRequest) -> v1::MigrationResponse;
        report_migration(v1::ReportMigrationRequest) -> v1::MigrationResponse;
        list_migrations(v1::ListMigrationsRequest) -> Streaming<v1::ListMigrationsResponse>;
    }
    requests: {
        load(LoadRequest) -> LoadProgress;
        watch(WatchRequest) -> WatchResponse;
    }
}

/// A board of before, at a socket of its own in front of the board at `at`.
async fn board_of_before(dir: &Path, at: &Endpoint) -> Endpoint {
    let path = dir.join("before.sock");
    let incoming = UnixListenerStream::new(tokio::net::UnixListener::bind(&path).unwrap());
    let service = BoardServer::new(BoardOfBefore(client(at).await));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(incoming));
    Endpoint::Unix(path)
}

/// Two hosts, one at each of two boards (which are the same at the end), and a node that migrates from the first to the
/// second; the operator's calls at the second.
async fn whole_session(first: &Endpoint, second: &Endpoint) {
    let mut a = Host::start(config(first, "gw-a", "10.0.0.1"));
    let mut b = Host::start(config(second, "gw-b", "10.0.0.2"));
    a.session().claim(claim(1, 1, &["192.168.0.1"]));
    a.session().claim(claim(1, 2, &[]));
    a.wait_for("Accepted", |u| matches!(u, Update::Accepted { .. })).await;
    a.session().withdraw(vni(1), mac(2));
    b.session().join(vni(1), true);
    b.wait_for_change("the node", |c| matches!(c, Change::NodePut { node, .. } if node.mac == mac(1))).await;
    b.session().claim(claim(1, 1, &["192.168.0.1"]));
    b.wait_for("Refused", |u| matches!(u, Update::Refused { why, .. } if why.contains("gw-a"))).await;
    b.session().withdraw(vni(1), mac(1));

    a.session().begin_migration(begin("gw-a", Some("gw-b"), 6000));
    let begun = wait_for_answer(&a, |u| matches!(u, MigrationUpdate::Begun { .. })).await;
    let MigrationUpdate::Begun { ticket, .. } = begun else { unreachable!() };
    let (migration, generation) = (ticket.migration, ticket.generation);
    b.wait_for_change("the lock", |c| matches!(c, Change::NodeLocked { .. })).await;
    b.session().claim(claim(1, 1, &["192.168.0.1"]));
    wait_for_answer(&b, |u| matches!(u, MigrationUpdate::Deferred { .. })).await;
    a.session().complete_migration(migration, generation, Some(name("gw-b")), "runs there");
    wait_for_answer(&a, |u| matches!(u, MigrationUpdate::Ended { .. })).await;
    b.wait_for_change("the end", |c| matches!(c, Change::NodeUnlocked { outcome: Unlocked::Completed, .. }))
        .await;
    let report = Report { held: 3, replayed: 3, ..Report::default() };
    a.session().report_migration(migration, generation, report);

    let mut op = operator(second).await;
    let began = Instant::now();
    while op.migrations(Some(migration), false).await.unwrap()[0].reports.is_empty() {
        assert!(began.elapsed() < PATIENCE, "no report");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    check_operator(&mut op, migration).await;
    b.wait_caught_up(second).await;
    let (stream, revision) = (b.session().state().stream, b.session().state().revision);
    b.session().ack(stream, revision);
    let began = Instant::now();
    while op.hosts(Some(&name("gw-b"))).await.unwrap()[0].acked_revision != revision {
        assert!(began.elapsed() < PATIENCE, "not acknowledged");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    a.session.take().unwrap().stop_and_withdraw();
    assert!(!op.hosts(Some(&name("gw-a"))).await.unwrap()[0].host.up);
    for host in [&a, &b] {
        assert!(!host.received.iter().any(|u| matches!(u, Update::Disconnected { .. })));
    }
    b.session.take().unwrap().stop();
}

/// Every call of the operator.
async fn check_operator(op: &mut Operator, migration: u64) {
    let far = HostRow { name: name("far"), vteps: vec![ip("10.0.0.9")], udp_port: 4789 };
    op.declare(&Row::Host(far)).await.unwrap();
    let node =
        |last| NodeRow { vni: vni(2), mac: mac(last), host: name("far"), ips: vec![], shared_ips: vec![] };
    let rows = (1..=3).map(move |last| Ok::<_, String>((0, Row::Node(node(last)))));
    let mut received = 0;
    let count = |step| {
        if let LoadStep::Received(n) = step {
            received = n;
        }
    };
    op.load(rows, count).await.unwrap();
    assert_eq!(received, 3);
    op.delete(&Target::Node { vni: vni(2), mac: mac(3) }).await.unwrap();
    let info = op.info().await.unwrap();
    assert_eq!((info.hosts, info.networks, info.nodes, info.watchers), (3, 2, 3, 2));
    let node = op.nodes(&NodeFilter { vni: Some(vni(1)), ..NodeFilter::default() }).await.unwrap().remove(0);
    assert_eq!((node.host.as_str(), node.node.mac), ("gw-b", mac(1)));
    assert_eq!(op.networks().await.unwrap().len(), 2);
    assert_eq!(op.members(Some(vni(1))).await.unwrap().len(), 1);
    assert_eq!(op.watchers().await.unwrap().iter().filter(|w| w.session != 0).count(), 2);

    let mut begin = begin("far", Some("gw-b"), 600_000);
    begin.nodes = vec![(vni(2), mac(1))];
    let begun = op.begin_migration(&begin).await.unwrap();
    assert_eq!((begun.migration, begun.state), (migration + 1, MigrationState::Locked));
    let aborted = op.abort_migration(begun.migration, begun.generation, "test").await.unwrap();
    assert_eq!(aborted.state, MigrationState::Aborted);
    let begun = op.begin_migration(&begin).await.unwrap();
    let done =
        op.complete_migration(begun.migration, begun.generation, Some(&name("gw-b")), "test").await.unwrap();
    assert_eq!(done.state, MigrationState::Completed);
    op.delete(&Target::Host { name: name("far"), cascade: true }).await.unwrap();
    let mut events = std::pin::pin!(op.events(0, true).await.unwrap());
    let first = events.next().await.unwrap().unwrap().remove(0);
    assert_eq!((first.number, first.kind), (1, EventKind::HostUp));
}

fn details(mtu: u16) -> HostDetails {
    HostDetails {
        nics: vec![Nic { name: ShortName::new("ul0").unwrap(), address: ip("10.0.0.1"), mtu }],
        capabilities: vec![ShortName::new("vxlan").unwrap()],
        public_key: PublicKey::new([7; 32]),
    }
}

/// The details of gw-a in the next change that has it.
async fn next_details(host: &mut Host) -> HostDetails {
    let found = host.wait_for("gw-a", |u| match u {
        Update::Apply { changes, .. } => gw_a(changes).is_some(),
        _ => false,
    });
    let Update::Apply { changes, .. } = found.await else { unreachable!() };
    gw_a(&changes).unwrap().clone()
}

fn gw_a(changes: &[Change]) -> Option<&HostDetails> {
    changes.iter().find_map(|change| match change {
        Change::HostPut(host) if host.name.as_str() == "gw-a" => Some(&host.details),
        _ => None,
    })
}

/// Features are in force where both know them: then watchers and lists have what needs them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn details_of_hosts_reach_those_who_know_them() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let before = board_of_before(dir.path(), &at).await;
    let mut a = config(&at, "gw-a", "10.0.0.1");
    a.details = details(1600);
    let a = Host::start(a);
    a.wait_caught_up(&at).await;
    let mut knows = Host::start(config(&at, "gw-b", "10.0.0.2"));
    let mut does_not = Host::start(config(&before, "gw-c", "10.0.0.3"));
    assert_eq!(next_details(&mut knows).await, details(1600));
    assert_eq!(next_details(&mut does_not).await, HostDetails::default());
    for host in [&knows, &does_not] {
        host.wait_caught_up(&at).await;
    }
    assert_eq!(knows.session().state().features, Features::all());
    assert_eq!(does_not.session().state().features, Features::default());
    let host = operator(&at).await.hosts(Some(&name("gw-a"))).await.unwrap().remove(0).host;
    assert_eq!(host.details, details(1600));
    let host = operator(&before).await.hosts(Some(&name("gw-a"))).await.unwrap().remove(0).host;
    assert_eq!(host.details, HostDetails::default());
    drop((a, knows, does_not));
    server.stop().await;
}

/// The watch of a tool, which may know the details of hosts or not.
struct WatchOfTool {
    _requests: mpsc::Sender<after::WatchRequest>,
    stream: Streaming<after::WatchResponse>,
    known: bool,
}

impl WatchOfTool {
    async fn next(&mut self) -> after::watch_response::Response {
        let message = tokio::time::timeout(PATIENCE, self.stream.message()).await.expect("an answer");
        message.unwrap().unwrap().response.unwrap()
    }

    /// The MTU of the host's only NIC as last sent, up to the `last` answer. None: the host came without details.
    async fn mtu_until(&mut self, last: impl Fn(&after::watch_response::Response) -> bool) -> Option<u32> {
        use after::watch_response::Response as A;
        let mut mtu = None;
        loop {
            let answer = self.next().await;
            let ends = last(&answer);
            let changes = match answer {
                A::SnapshotChunk(list) => list.changes,
                A::Delta(delta) => delta.changes,
                _ => Vec::new(),
            };
            for message in changes {
                if let Some(after::change::Change::HostPut(host)) = message.change {
                    mtu = Some(host.details.map(|details| details.nics[0].mtu));
                }
            }
            if ends {
                return mtu.expect("the host");
            }
        }
    }
}

/// The board of after itself leaves out what a watcher does not know, in snapshots and in changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_sent_what_it_knows() {
    use after::{watch_request::Request as R, watch_response::Response as A};
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let mut with = config(&at, "gw-a", "10.0.0.1");
    with.details = details(1500);
    let a = Host::start(with.clone());
    a.wait_caught_up(&at).await;
    let named = |names: &[&str]| after::Features { names: names.iter().map(|n| (*n).into()).collect() };
    let cases = [
        (None, None),
        (Some(named(&[])), Some(named(&[]))),
        (Some(named(&["of-tomorrow", "host-details"])), Some(named(&["host-details"]))),
    ];
    let mut watches = Vec::new();
    for (features, in_force) in cases {
        let start =
            after::WatchStart { name: "tool".into(), everything: true, features, ..Default::default() };
        let (requests, outgoing) = mpsc::channel(1);
        requests.send(after::WatchRequest { request: Some(R::Start(start)) }).await.unwrap();
        let mut observer = connect(&at).await.unwrap().observer();
        let stream = observer.watch(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        let known = in_force.as_ref().is_some_and(|f| !f.names.is_empty());
        let mut watch = WatchOfTool { _requests: requests, stream, known };
        let A::SnapshotBegin(begin) = watch.next().await else { unreachable!() };
        assert_eq!(begin.features, in_force);
        assert_eq!(
            watch.mtu_until(|answer| matches!(answer, A::SnapshotEnd(_))).await,
            known.then_some(1500)
        );
        watches.push(watch);
    }
    // A change of the host, after the snapshots.
    a.session.unwrap().stop();
    with.details = details(1600);
    let again = Host::start(with);
    again.wait_caught_up(&at).await;
    let revision = again.session().state().revision;
    for watch in &mut watches {
        // The host goes down and comes back: two changes, or one where the watcher is slow.
        let last = |answer: &A| matches!(answer, A::Delta(delta) if delta.revision == revision);
        assert_eq!(watch.mtu_until(last).await, watch.known.then_some(1600));
    }
    drop(again);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_after_use_a_board_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let before = board_of_before(dir.path(), &at).await;
    whole_session(&before, &before).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_before_and_of_after_share_a_board_of_after() {
    for turn in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let at = socket(dir.path());
        let server = board(&at, memory(), LONG).await;
        let before = board_of_before(dir.path(), &at).await;
        let (first, second) = if turn { (&before, &at) } else { (&at, &before) };
        whole_session(first, second).await;
        server.stop().await;
    }
}

/// A program of version 0.1 cannot name its session: its watch belongs to the host of its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_without_a_session_belongs_to_the_host_of_its_name() {
    use v1::{watch_request::Request as R, watch_response::Response as A};
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let mut old = client(&at).await;
    let request = v1::RegisterRequest {
        host: "gw-old".into(),
        vteps: vec![vec![10, 0, 0, 9]],
        udp_port: 4789,
        key: vec![9; 16],
        instance: vec![9; 16],
        holds: None,
    };
    let registered = old.register(request).await.unwrap().into_inner();
    let session_ref = v1::SessionRef { host: "gw-old".into(), session: registered.session, key: Vec::new() };
    old.heartbeat(v1::HeartbeatRequest { session_ref: Some(session_ref) }).await.unwrap();
    let (requests, outgoing) = mpsc::channel(4);
    let send = async |request| requests.send(v1::WatchRequest { request: Some(request) }).await.unwrap();
    send(R::Start(v1::WatchStart { name: "gw-old".into(), everything: true, ..v1::WatchStart::default() }))
        .await;
    let mut stream = old.watch(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    loop {
        let message =
            tokio::time::timeout(PATIENCE, stream.message()).await.expect("the end of the snapshot");
        if let Some(A::SnapshotEnd(revision)) = message.unwrap().unwrap().response {
            send(R::AckRevision(revision)).await;
            break;
        }
    }
    let mut op = operator(&at).await;
    let began = Instant::now();
    while op.hosts(Some(&name("gw-old"))).await.unwrap()[0].acked_revision == 0 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop((stream, requests));
    server.stop().await;
}

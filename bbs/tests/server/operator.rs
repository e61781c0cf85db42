//! The operator's calls: declare, delete, load, list, events.

use super::*;
use stopover_bbs::client::{Error, EventKind, LoadStep, NodeFilter, Reason, Row, Target};
use stopover_config::bulk::{HostRow, MemberRow, NetworkRow, NodeRow};
use stopover_net::FloodPolicy;
use tokio_stream::StreamExt;

fn host(n: &str, vtep: &str) -> Row {
    HostRow { name: name(n), vteps: vec![ip(vtep)], udp_port: 4789 }.into()
}
fn node(n: u32, last: u8, at: &str, ips: &[&str]) -> Row {
    let ips = ips.iter().map(|s| ip(s)).collect();
    NodeRow { vni: vni(n), mac: mac(last), host: name(at), ips, shared_ips: vec![] }.into()
}
fn numbered(rows: Vec<Row>) -> Vec<Result<(u64, Row), String>> {
    rows.into_iter().enumerate().map(|(i, row)| Ok((i as u64 + 2, row))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declare_list_and_delete_over_tcp() {
    let mut config = ServerConfig::new(vec![Endpoint::Tcp { host: "127.0.0.1".into(), port: 0 }]);
    config.metrics = Some("127.0.0.1:0".parse().unwrap());
    let server = Server::start(config, memory()).await.unwrap();
    let mut op = operator(&server.endpoints()[0]).await;
    let mut events = std::pin::pin!(op.events(0, true).await.unwrap());

    op.declare(&host("lx", "172.16.0.1")).await.unwrap();
    op.declare(
        &NetworkRow { vni: vni(7), name: Some("blue".into()), flood: FloodPolicy::ToSegments, mtu: 1450 }
            .into(),
    )
    .await
    .unwrap();
    op.declare(&node(7, 1, "lx", &["10.1.0.1", "fd00::1"])).await.unwrap();
    op.declare(&node(8, 1, "lx", &["10.1.0.1"])).await.unwrap();
    let revision =
        op.declare(&MemberRow { vni: vni(9), host: name("lx"), segment: true }.into()).await.unwrap();

    check_lists(&mut op, revision).await;

    let refused = op.declare(&node(7, 2, "lx", &["10.1.0.1"])).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::Conflict));
    assert!(refused.to_string().contains("held by node 52:54:00:00:00:01 on host lx"), "{refused}");
    let missing = op.declare(&node(7, 2, "ly", &[])).await.unwrap_err();
    assert_eq!(missing.reason(), Some(Reason::NotFound));
    let in_use = op.delete(&Target::Host { name: name("lx"), cascade: false }).await.unwrap_err();
    assert_eq!(in_use.reason(), Some(Reason::InUse));
    op.delete(&Target::Host { name: name("lx"), cascade: true }).await.unwrap();
    op.delete(&Target::Network { vni: vni(7) }).await.unwrap();
    let info = op.info().await.unwrap();
    assert_eq!((info.hosts, info.networks, info.nodes, info.members), (0, 0, 0, 0));

    let mut kinds = Vec::new();
    while kinds.len() < 8 {
        kinds.extend(events.next().await.unwrap().unwrap().into_iter().map(|e| (e.number, e.kind)));
    }
    let expected = (1..=8).map(|n| (n, if n == 6 { EventKind::Conflict } else { EventKind::Operator }));
    assert_eq!(kinds, expected.collect::<Vec<_>>());

    check_metrics(server.metrics().unwrap(), info.revision).await;
    server.stop().await;
}

/// After the declarations of the test above, of which `revision` is the last.
async fn check_lists(op: &mut Operator, revision: u64) {
    let info = op.info().await.unwrap();
    assert_eq!((info.hosts, info.networks, info.nodes, info.members), (1, 3, 2, 3));
    assert_eq!(info.revision, revision);
    let networks = op.networks().await.unwrap();
    let seen: Vec<_> = networks
        .iter()
        .map(|n| (n.network.vni.get(), n.declared, n.nodes, n.members, n.network.mtu))
        .collect();
    assert_eq!(seen, [(7, true, 1, 1, 1450), (8, false, 1, 1, 0), (9, false, 0, 1, 0)]);
    assert_eq!(networks[0].network.name, "blue");
    let members = op.members(Some(vni(9))).await.unwrap();
    assert!(members[0].declared && !members[0].has_nodes && members[0].member.segment);
    assert_eq!(members[0].host, "lx");
    let find = async |op: &mut Operator, filter: NodeFilter| op.nodes(&filter).await.unwrap().len();
    assert_eq!(find(op, NodeFilter { mac: Some(mac(1)), ..NodeFilter::default() }).await, 2);
    assert_eq!(
        find(op, NodeFilter { vni: Some(vni(7)), mac: Some(mac(1)), ..NodeFilter::default() }).await,
        1
    );
    assert_eq!(find(op, NodeFilter { ip: Some(ip("fd00::1")), ..NodeFilter::default() }).await, 1);
    assert_eq!(find(op, NodeFilter { limit: Some(1), ..NodeFilter::default() }).await, 1);
    assert_eq!(find(op, NodeFilter { host: Some(name("other")), ..NodeFilter::default() }).await, 0);
}

async fn check_metrics(address: std::net::SocketAddr, revision: u64) {
    let page = metrics(address).await;
    assert!(page.contains(&format!("stopover_bbs_revision {revision}")), "{page}");
    for line in [
        "stopover_bbs_refused_total{reason=\"conflict\"} 1",
        "stopover_bbs_refused_total{reason=\"malformed\"} 0",
        "stopover_bbs_hosts{state=\"up\"} 0",
        "stopover_bbs_watchers 0",
        "# TYPE stopover_bbs_transaction_seconds histogram",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} in {page}");
    }
}

pub(super) async fn metrics(address: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_reports_progress_and_is_atomic() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let mut op = operator(&at).await;
    let mut rows = vec![host("lx", "172.16.0.1")];
    for i in 0..60_000u32 {
        let [_, a, b, c] = i.to_be_bytes();
        let ips = vec![IpAddr::from([10, a, b, c])];
        rows.push(
            NodeRow {
                vni: vni(1 + i % 3),
                mac: Mac::new([2, 0, 0, a, b, c]),
                host: name("lx"),
                ips,
                shared_ips: vec![],
            }
            .into(),
        );
    }
    // The last row repeats an address of the network.
    let mut wrong = rows.clone();
    wrong.push(node(1, 1, "lx", &["10.0.0.3"]));
    let refused = op.load(numbered(wrong), |_| {}).await.unwrap_err();
    let Error::Rows { errors, total } = refused else { panic!("{refused}") };
    assert_eq!((errors.len(), total, errors[0].number), (1, 1, 60_003));
    assert!(
        errors[0].why.contains("IP 10.0.0.3 in VNI 1 is held by node 02:00:00:00:00:03"),
        "{}",
        errors[0].why
    );

    // A file that ends with a bad line.
    let mut broken = numbered(rows.clone());
    broken.push(Err("nodes.csv:60003: not a MAC".into()));
    let e = op.load(broken, |_| {}).await.unwrap_err();
    assert!(e.to_string().contains("nodes.csv:60003"), "{e}");
    assert_eq!(op.info().await.unwrap().revision, 0, "nothing was changed");

    let mut steps = Vec::new();
    let revision = op.load(numbered(rows), |step| steps.push(step)).await.unwrap();
    assert_eq!(steps.first(), Some(&LoadStep::Received(50_000)));
    assert!(steps.contains(&LoadStep::Checking(60_001)), "{steps:?}");
    let info = op.info().await.unwrap();
    assert_eq!((info.revision, info.nodes), (revision, 60_000));
    let mut stream = std::pin::pin!(op.nodes_stream(&NodeFilter::default()).await.unwrap());
    let mut last = None;
    let mut count = 0;
    while let Some(chunk) = stream.next().await {
        for entry in chunk.unwrap() {
            let key = Some((entry.node.vni, entry.node.mac));
            assert!(key > last, "in order");
            last = key;
            count += 1;
        }
    }
    assert_eq!(count, 60_000);
    server.stop().await;
}

/// How long a million nodes take; prints, and asserts only that they are there. Run by hand:
/// `cargo test --release -p stopover-bbs --test server million -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; figures for people"]
async fn a_million_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let path = dir.path().join("board.redb");
    drop(store_file(&path));
    let open = || Arc::new(Redb::open(&path).unwrap());
    let server = board(&at, open(), LONG).await;
    let mut op = operator(&at).await;
    let hosts = (0..1000u32).map(|i| {
        let [_, _, a, b] = i.to_be_bytes();
        host(&format!("gw-{i}"), &format!("172.16.{a}.{b}"))
    });
    let nodes = (0..1_000_000u32).map(|i| {
        let [_, a, b, c] = i.to_be_bytes();
        let ips = vec![IpAddr::from([10, a, b, c])];
        let row = NodeRow {
            vni: vni(1 + i % 100),
            mac: Mac::new([2, 0, 0, a, b, c]),
            host: name(&format!("gw-{}", i % 1000)),
            ips,
            shared_ips: vec![],
        };
        Row::from(row)
    });
    let began = Instant::now();
    let rows: Vec<_> = hosts.chain(nodes).map(|row| Ok::<_, String>((0, row))).collect();
    op.load(rows, |step| println!("{:6.2} s {step:?}", began.elapsed().as_secs_f64())).await.unwrap();
    println!("{:6.2} s loaded", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let mut cfg = config(&at, "gw-all", "10.0.0.1");
    cfg.interest = (1..=100).map(vni).collect();
    let mut all = Host::start(cfg);
    all.wait_for("the snapshot", |u| matches!(u, Update::SnapshotEnd { .. })).await;
    println!("{:6.2} s snapshot of everything at a session", began.elapsed().as_secs_f64());
    drop(all);
    server.stop().await;
    let began = Instant::now();
    let server = board(&at, open(), LONG).await;
    println!("{:6.2} s restart", began.elapsed().as_secs_f64());
    assert_eq!(operator(&at).await.info().await.unwrap().nodes, 1_000_000);
    server.stop().await;
}

//! An appliance's session: the board reaches and keeps the desired state, over conflicts, restarts and deletions.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use stopover_bbs::{
    client::{Accepted, Host as BoardHost, NodeBatch, NodeFilter, Row, Target, connect},
    proto::v1::{self, watch_request::Request, watch_response::Response},
};
use stopover_config::bulk::{HostRow, NodeRow};

pub(super) type Nodes = BTreeMap<(Vni, Mac), Vec<IpAddr>>;

/// What a consumer of all these updates holds. Panics on anything out of order.
pub(super) fn replica(received: &[Update]) -> (BTreeMap<u32, BoardHost>, Nodes) {
    let (mut hosts, mut nodes) = (BTreeMap::new(), Nodes::new());
    let mut before: Option<(BTreeMap<u32, BoardHost>, Nodes)> = None;
    let mut last = 0;
    for update in received {
        match update {
            Update::SnapshotBegin { revision, other_branch } => {
                assert!(*revision >= last || *other_branch);
                last = *revision;
                // An incomplete snapshot, if there was one, is dropped.
                before.get_or_insert_with(|| (std::mem::take(&mut hosts), std::mem::take(&mut nodes)));
                hosts.clear();
                nodes.clear();
            }
            Update::Nodes { batches, .. } => {
                assert!(before.is_some(), "packed nodes outside a snapshot");
                for node in batches.iter().flat_map(NodeBatch::to_nodes) {
                    assert!(hosts.contains_key(&node.host_id), "a node before its host");
                    nodes.insert((node.vni, node.mac), node.ips);
                }
            }
            Update::SnapshotEnd { revision } => {
                assert!(*revision >= last);
                last = *revision;
                before = None;
            }
            Update::Apply { revision, changes } => {
                assert!(*revision >= last);
                last = if before.is_none() { *revision } else { last };
                for change in changes {
                    match change.clone() {
                        Change::HostPut(host) => drop(hosts.insert(host.id, host)),
                        Change::HostGone { id } => drop(hosts.remove(&id)),
                        Change::NodePut { node, .. } => {
                            assert!(hosts.contains_key(&node.host_id), "a node before its host");
                            nodes.insert((node.vni, node.mac), node.ips);
                        }
                        Change::NodeGone { vni, mac, .. } => drop(nodes.remove(&(vni, mac))),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (hosts, nodes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_receive_changes_of_the_networks_they_share() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let mut a = Host::start(config(&at, "gw-a", "10.0.0.1"));
    let mut b = Host::start(config(&at, "gw-b", "10.0.0.2"));
    a.session().claim(claim(100, 1, &["192.168.0.1", "fd00::1"]));
    b.session().claim(claim(100, 2, &["192.168.0.2"]));
    b.session().claim(claim(200, 2, &["192.168.0.1"]));
    a.session().join(vni(100), true);
    let put = |m: Mac| move |c: &Change| matches!(c, Change::NodePut { node, .. } if node.mac == m);
    a.wait_for_change("b's node", put(mac(2))).await;
    b.wait_for_change("a's node", put(mac(1))).await;
    // The join was sent before the claim.
    let segment =
        Change::MemberPut { vni: vni(100), host_id: a.session().state().host_id.unwrap(), segment: true };
    assert!(
        b.received.iter().any(|u| matches!(u, Update::Apply { changes, .. } if changes.contains(&segment)))
    );
    assert!(!replica(&a.received).1.contains_key(&(vni(200), mac(2))), "a does not follow network 200");

    // The interest grows and shrinks with what the appliance has.
    a.session().join(vni(200), false);
    a.wait_for_change("network 200", |c| c.vni() == Some(vni(200)) && matches!(c, Change::NodePut { .. }))
        .await;
    a.session().leave(vni(200));
    a.wait_for_change("its end", |c| matches!(c, Change::NodeGone { vni: v, .. } if *v == vni(200))).await;
    b.session().claim(claim(200, 3, &[]));
    a.session().withdraw(vni(100), mac(1));
    b.wait_for_change("the withdrawal", |c| {
        matches!(c, Change::NodeGone { vni: v, mac: m, ips } if *v == vni(100) && *m == mac(1) && ips.len() == 2)
    })
    .await;

    let mut op = operator(&at).await;
    check_acknowledgement(&b, &mut op).await;
    let state = b.session().state();
    assert!(state.connected && state.last_error.is_none() && state.host_id.is_some(), "{state:?}");

    // A deregistration marks the host down at once; its nodes remain.
    b.session.take().unwrap().stop();
    a.wait_for_change(
        "the deregistration",
        |c| matches!(c, Change::HostPut(h) if h.name.as_str() == "gw-b" && !h.up),
    )
    .await;
    assert_eq!(
        op.nodes(&NodeFilter { host: Some(name("gw-b")), ..NodeFilter::default() }).await.unwrap().len(),
        3
    );
    a.session.take().unwrap().stop_and_withdraw();
    assert_eq!(
        op.nodes(&NodeFilter { host: Some(name("gw-a")), ..NodeFilter::default() }).await.unwrap().len(),
        0
    );
    server.stop().await;
}

/// The list of hosts shows what host gw-b acknowledges.
async fn check_acknowledgement(host: &Host, op: &mut Operator) {
    let (stream, revision) = (host.session().state().stream, host.session().state().revision);
    host.session().ack(stream, revision);
    let gw_b = name("gw-b");
    let began = Instant::now();
    loop {
        let entry = op.hosts(Some(&gw_b)).await.unwrap().remove(0);
        assert!(entry.host.up && entry.watching);
        if entry.acked_revision == revision {
            assert_eq!((entry.nodes, entry.networks), (3, 2));
            break;
        }
        assert!(began.elapsed() < PATIENCE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_claim_is_accepted_after_the_holder_withdraws() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let mut a = Host::start(config(&at, "gw-a", "10.0.0.1"));
    let mut b = Host::start(config(&at, "gw-b", "10.0.0.2"));
    a.session().claim(claim(1, 1, &["192.168.0.1"]));
    a.wait_for("Accepted", |u| *u == Update::Accepted { vni: vni(1), mac: mac(1), addresses: None }).await;
    b.session().claim(claim(1, 1, &["192.168.0.7"]));
    b.session().claim(claim(1, 2, &["192.168.0.1"]));
    let refused =
        b.wait_for("Refused", |u| matches!(u, Update::Refused { claim, .. } if claim.mac == mac(1))).await;
    let Update::Refused { why, .. } = refused else { unreachable!() };
    assert!(why.contains("held by") && why.contains("gw-a"), "{why}");
    // An address that another holds does not cost the node.
    let accepted =
        b.wait_for("Accepted", |u| matches!(u, Update::Accepted { mac: m, .. } if *m == mac(2))).await;
    let Update::Accepted { addresses: Some(Accepted { ips, refused }), .. } = accepted else {
        panic!("all of it")
    };
    assert!(
        ips.is_empty() && refused[0].contains("IP 192.168.0.1") && refused[0].contains("gw-a"),
        "{refused:?}"
    );
    a.session().withdraw(vni(1), mac(1));
    let mut left: BTreeSet<_> = [mac(1), mac(2)].into();
    b.wait_for("both accepted", |u| {
        if let Update::Accepted { mac, addresses: None, .. } = u {
            left.remove(mac);
        }
        left.is_empty()
    })
    .await;
    let refusals = b.received.iter().filter(|u| matches!(u, Update::Refused { .. })).count();
    assert_eq!(refusals, 1, "each refusal is reported once");
    drop((a, b));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_resumes_and_claims_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let store = memory();
    let server = board(&at, store.clone(), LONG).await;
    let a = Host::start(config(&at, "gw-a", "10.0.0.1"));
    let mut b = Host::start(config(&at, "gw-b", "10.0.0.2"));
    b.session().join(vni(1), false);
    a.session().claim(claim(1, 1, &["192.168.0.1"]));
    b.wait_for_change("the claim", |c| matches!(c, Change::NodePut { .. })).await;
    // It may have received only a part of a snapshot, from which it cannot resume.
    b.wait_caught_up(&at).await;
    server.stop().await;
    b.wait_for("Disconnected", |u| matches!(u, Update::Disconnected { .. })).await;
    assert!(!b.session().state().connected);

    // Claims and withdrawals without a connection are sent later.
    a.session().claim(claim(1, 2, &["192.168.0.2"]));
    a.session().withdraw(vni(1), mac(1));
    let server = board(&at, store, LONG).await;
    let (mut added, mut removed) = (false, false);
    b.wait_for("the new claim and the withdrawal", |u| {
        if let Update::Apply { changes, .. } = u {
            added |= changes.iter().any(|c| matches!(c, Change::NodePut { node, .. } if node.mac == mac(2)));
            removed |= changes.iter().any(|c| matches!(c, Change::NodeGone { mac: m, .. } if *m == mac(1)));
        }
        added && removed
    })
    .await;
    let snapshots = b.received.iter().filter(|u| matches!(u, Update::SnapshotBegin { .. })).count();
    assert_eq!(snapshots, 1, "it resumed");
    assert_eq!(replica(&b.received).1, [((vni(1), mac(2)), vec![ip("192.168.0.2")])].into());
    drop((a, b));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_host_goes_down_and_a_new_process_removes_stale_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), Duration::from_millis(400)).await;
    let mut watcher = Host::start(config(&at, "gw-w", "10.0.0.9"));
    watcher.session().join(vni(1), false);
    let a = Host::start(config(&at, "gw-a", "10.0.0.1"));
    a.session().claim(claim(1, 1, &[]));
    a.session().claim(claim(1, 2, &[]));
    watcher
        .wait_for_change("both", |c| matches!(c, Change::NodePut { node, .. } if node.mac == mac(2)))
        .await;
    drop(a);
    watcher
        .wait_for_change("down", |c| matches!(c, Change::HostPut(h) if h.name.as_str() == "gw-a" && !h.up))
        .await;
    assert_eq!(replica(&watcher.received).1.len(), 2, "fail static");

    let again = Host::start(config(&at, "gw-a", "10.0.0.1"));
    again.session().claim(claim(1, 1, &[]));
    watcher.wait_for_change("swept", |c| matches!(c, Change::NodeGone { mac: m, .. } if *m == mac(2))).await;
    assert_eq!(replica(&watcher.received).1.len(), 1);
    assert!(
        !watcher.received.iter().any(|u| matches!(u, Update::Apply { changes, .. }
            if changes.iter().any(|c| matches!(c, Change::NodeGone { mac: m, .. } if *m == mac(1))))),
        "what was claimed again never went away"
    );
    drop((again, watcher));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_node_of_a_live_host_is_claimed_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let mut a = Host::start(config(&at, "gw-a", "10.0.0.1"));
    a.session().claim(claim(1, 1, &["192.168.0.1"]));
    a.wait_for_change("it", |c| matches!(c, Change::NodePut { .. })).await;
    let mut op = operator(&at).await;
    op.delete(&Target::Node { vni: vni(1), mac: mac(1) }).await.unwrap();
    a.wait_for_change("the deletion", |c| matches!(c, Change::NodeGone { .. })).await;
    a.wait_for_change("the new claim", |c| matches!(c, Change::NodePut { .. })).await;
    drop(a);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_of_the_same_name_waits() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), Duration::from_millis(600)).await;
    let mut first = Host::start(config(&at, "gw-a", "10.0.0.1"));
    first.session().claim(claim(1, 1, &[]));
    first.wait_for("Accepted", |u| matches!(u, Update::Accepted { .. })).await;
    let seconds = ["10.0.0.1", "10.0.0.2"].map(|vtep| Host::start(config(&at, "gw-a", vtep)));
    for second in &seconds {
        second.session().claim(claim(1, 2, &[]));
    }
    let began = Instant::now();
    // Longer than the lease, and than the time after which a session sends its claims.
    while began.elapsed() < Duration::from_millis(1500) {
        assert!(seconds.iter().all(|s| !s.session().state().connected));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for second in &seconds {
        let why = second.session().state().last_error.unwrap();
        assert!(why.contains("host gw-a is held by another appliance, which is alive (instance "), "{why}");
        assert!(why.contains("VTEP 10.0.0.1 port 4789"), "{why}");
    }
    assert!(!first.received.iter().any(|u| matches!(u, Update::Disconnected { .. })));
    let mut op = operator(&at).await;
    let macs =
        |nodes: Vec<stopover_bbs::client::NodeEntry>| nodes.iter().map(|n| n.node.mac).collect::<Vec<_>>();
    assert_eq!(macs(op.nodes(&NodeFilter::default()).await.unwrap()), [mac(1)]);

    // Each registers after the one before has ended: by a crash, or by a deregistration.
    let [mut same, mut other] = seconds;
    drop(other.session.take());
    drop(first);
    same.wait_for("Connected", |u| matches!(u, Update::Connected { .. })).await;
    same.session.take().unwrap().stop();
    other = Host::start(config(&at, "gw-a", "10.0.0.2"));
    other.wait_for("Connected", |u| matches!(u, Update::Connected { .. })).await;
    drop(other);
    server.stop().await;
}

type RawWatch = (tokio::sync::mpsc::Sender<v1::WatchRequest>, tonic::Streaming<v1::WatchResponse>);

/// Opens a watch of everything, and acknowledges its snapshot.
async fn watch(at: &Endpoint, name: &str, session: u64) -> Result<RawWatch, tonic::Status> {
    let start = v1::WatchStart { name: name.into(), everything: true, session, ..v1::WatchStart::default() };
    let (requests, outgoing) = tokio::sync::mpsc::channel(4);
    requests.send(v1::WatchRequest { request: Some(Request::Start(start)) }).await.unwrap();
    let board = connect(at).await.unwrap();
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let answer = match session {
        0 => board.observer().watch(outgoing).await,
        _ => board.host().watch(outgoing).await,
    };
    let mut stream = answer?.into_inner();
    loop {
        if let Some(Response::SnapshotEnd(revision)) = stream.message().await?.unwrap().response {
            let ack = v1::WatchRequest { request: Some(Request::AckRevision(revision)) };
            requests.send(ack).await.unwrap();
            return Ok((requests, stream));
        }
    }
}

/// Only the watch of a host's own session acknowledges for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_belongs_to_the_host_of_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let a = Host::start(config(&at, "gw-a", "10.0.0.1"));
    a.wait_caught_up(&at).await;
    let mut op = operator(&at).await;
    let _pretender = watch(&at, "gw-a", 0).await.unwrap();
    let _tool = watch(&at, "some tool", 0).await.unwrap();
    let began = Instant::now();
    loop {
        let watchers = op.watchers().await.unwrap();
        if watchers.iter().filter(|w| w.acked_revision > 0).count() == 2 {
            assert_eq!(watchers.iter().filter(|w| w.session != 0).count(), 1);
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{watchers:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let entry = op.hosts(Some(&name("gw-a"))).await.unwrap().remove(0);
    assert!(
        entry.watching && entry.acked_revision == 0,
        "another's acknowledgement is not its own: {entry:?}"
    );
    let status = watch(&at, "gw-a", 77).await.err().unwrap();
    assert!(status.message().contains("no session 0x4d"), "{status}");

    drop(a);
    server.stop().await;
}

/// A consumer that reads nothing during thousands of changes loses none of them and blocks nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_consumer_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let mut cfg = ServerConfig::new(vec![at.clone()]);
    cfg.history = 200;
    cfg.watcher_backlog = 100;
    let server = Server::start(cfg, memory()).await.unwrap();
    let mut slow_cfg = config(&at, "gw-s", "10.0.0.3");
    slow_cfg.queue = 1;
    slow_cfg.interest = [vni(1)].into();
    let mut slow = Host::start(slow_cfg);
    let mut op = operator(&at).await;
    op.declare(&Row::Host(HostRow { name: name("lx"), vteps: vec![ip("172.16.0.1")], udp_port: 4789 }))
        .await
        .unwrap();
    let node = |i: u32, ips| {
        let [_, _, x, y] = i.to_be_bytes();
        Row::Node(NodeRow {
            vni: vni(1),
            mac: Mac::new([2, 0, 0, 0, x, y]),
            host: name("lx"),
            ips,
            shared_ips: vec![],
        })
    };
    for round in 0..2 {
        let rows: Vec<_> = (0..3000).map(|i| Ok::<_, String>((0, node(i + round * 100, vec![])))).collect();
        op.load(rows, |_| {}).await.unwrap();
        for i in 0..100 {
            op.delete(&Target::Node { vni: vni(1), mac: Mac::new([2, 0, 0, 0, 9, i]) }).await.unwrap();
        }
    }
    let revision = op.declare(&node(9999, vec![ip("10.9.9.9")])).await.unwrap();
    // A piece of a snapshot of that revision is not the end.
    let mut whole = true;
    slow.wait_for("the end", |u| {
        whole = match u {
            Update::SnapshotBegin { .. } => false,
            Update::SnapshotEnd { .. } => true,
            _ => whole,
        };
        let reached =
            matches!(u, Update::Apply { revision: r, .. } | Update::SnapshotEnd { revision: r } if *r >= revision);
        whole && reached
    })
    .await;
    let truth: Nodes = op
        .nodes(&NodeFilter { vni: Some(vni(1)), ..NodeFilter::default() })
        .await
        .unwrap()
        .into_iter()
        .map(|e| ((e.node.vni, e.node.mac), e.node.ips))
        .collect();
    assert_eq!(replica(&slow.received).1, truth);
    assert_eq!(truth.len(), 3001);
    drop(slow);
    server.stop().await;
}

/// It registers again, with its claims, and others receive its new addresses.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_has_other_addresses_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = socket(dir.path());
    let _board = board(&endpoint, memory(), LONG).await;
    let host = Host::start(config(&endpoint, "hv-a", "10.0.0.1"));
    host.session().claim(claim(7, 1, &["192.168.0.1"]));
    let mut other = Host::start(config(&endpoint, "hv-b", "10.0.0.2"));
    other.session().follow(vni(7));
    other.wait_for_change("the node", |change| matches!(change, Change::NodePut { .. })).await;
    let registered = async |number: u64| {
        let began = Instant::now();
        while !matches!(host.session().state(), state if state.connected && state.described == number) {
            assert!(began.elapsed() < PATIENCE, "{:?}", host.session().state());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    registered(0).await;
    for (number, vteps) in [(1, vec!["10.0.0.1", "10.1.0.1"]), (2, vec!["10.1.0.1"])] {
        let vteps: Vec<IpAddr> = vteps.into_iter().map(ip).collect();
        assert_eq!(host.session().describe(vteps.clone(), Default::default()), number);
        registered(number).await;
        other
            .wait_for_change(
                "its addresses",
                |change| matches!(change, Change::HostPut(host) if host.vteps == vteps),
            )
            .await;
    }
    // Another host's address: it has no session until it gives that up.
    host.session().describe(vec![ip("10.0.0.2")], Default::default());
    let began = Instant::now();
    while !host.session().state().last_error.is_some_and(|why| why.contains("held by host hv-b")) {
        assert!(began.elapsed() < PATIENCE, "{:?}", host.session().state());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(host.session().describe(vec![ip("10.1.0.1")], Default::default()), 4);
    registered(4).await;
    let gone = |change: &Update| match change {
        Update::Apply { changes, .. } => {
            changes.iter().any(|change| matches!(change, Change::NodeGone { .. }))
        }
        _ => false,
    };
    assert!(!other.received.iter().any(gone), "its node was there all the time");
}

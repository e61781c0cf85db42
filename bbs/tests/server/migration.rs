//! A migration over sockets: two appliances' sessions and the operator, to the barrier; and a lock under kill -9.

use super::*;
use stopover_bbs::client::{
    BeginMigration, EventKind, MigrationState, MigrationUpdate, NodeFilter, Reason, Report, Unlocked,
};
use tokio_stream::StreamExt;

pub(super) fn begin(from: &str, to: Option<&str>, lease_ms: u64) -> BeginMigration {
    BeginMigration {
        nodes: vec![(vni(1), mac(1))],
        source: name(from),
        target: to.map(name),
        cause: "test".into(),
        lease_ms,
    }
}

pub(super) async fn wait_for_answer(
    host: &Host,
    wanted: impl Fn(&MigrationUpdate) -> bool,
) -> MigrationUpdate {
    let began = Instant::now();
    loop {
        while let Ok(update) = host.session().migrations().try_recv() {
            if wanted(&update) {
                return update;
            }
        }
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_waits_for_every_watcher() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let server = board(&at, memory(), LONG).await;
    let mut a = Host::start(config(&at, "gw-a", "10.0.0.1"));
    let mut b = Host::start(config(&at, "gw-b", "10.0.0.2"));
    a.session().claim(claim(1, 1, &["192.168.0.1"]));
    a.wait_for("Accepted", |u| matches!(u, Update::Accepted { .. })).await;
    b.session().join(vni(1), false);
    b.wait_for_change("the node", |c| matches!(c, Change::NodePut { .. })).await;
    a.session().begin_migration(begin("gw-a", None, 300));
    let begun = wait_for_answer(&a, |u| matches!(u, MigrationUpdate::Begun { .. })).await;
    let MigrationUpdate::Begun { ticket, .. } = begun else { unreachable!() };
    b.wait_for_change("the lock", |c| matches!(c, Change::NodeLocked { .. })).await;
    b.session().claim(claim(1, 1, &["192.168.0.1"]));
    wait_for_answer(&b, |u| matches!(u, MigrationUpdate::Deferred { .. })).await;
    // Longer than the lease: the session renews it.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut op = operator(&at).await;
    assert_eq!(op.migrations(None, true).await.unwrap().len(), 1);
    let stale =
        op.complete_migration(ticket.migration, ticket.generation - 1, None, "test").await.unwrap_err();
    assert_eq!(stale.reason(), Some(Reason::Stale));

    a.session().complete_migration(ticket.migration, ticket.generation, None, "rings stopped");
    wait_for_answer(&a, |u| matches!(u, MigrationUpdate::Ended { .. })).await;
    let done = op
        .complete_migration(ticket.migration, ticket.generation, Some(&name("gw-b")), "hook")
        .await
        .unwrap();
    assert_eq!(done.state, MigrationState::Completed);
    b.wait_for_change("the end", |c| matches!(c, Change::NodeUnlocked { outcome: Unlocked::Completed, .. }))
        .await;
    b.wait_for("Accepted", |u| matches!(u, Update::Accepted { .. })).await;
    let node = op.nodes(&NodeFilter::default()).await.unwrap().remove(0);
    assert_eq!(node.host, "gw-b");
    assert!(!b.received.iter().any(|u| matches!(u, Update::Refused { .. })), "deferred is not refused");

    let report = Report { held: 5, replayed: 5, longest_gap_us: 1234, ..Report::default() };
    a.session().report_migration(ticket.migration, ticket.generation, report);
    let began = Instant::now();
    loop {
        let m = op.migrations(Some(ticket.migration), false).await.unwrap().remove(0);
        if m.reports.len() == 1 && m.switched_unix_ms == 0 {
            assert_eq!(m.reports[0].report, report);
            let stream = b.session().state().stream;
            b.session().ack(stream, done.revision);
        }
        if m.switched_unix_ms > 0 && !m.reports.is_empty() {
            assert!(m.waiting.is_empty() && m.missed.is_empty());
            assert!(m.locked_unix_ms <= m.deferred_unix_ms && m.deferred_unix_ms <= m.ended_unix_ms);
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{m:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop((a, b));
    server.stop().await;
}

/// Two hosts between which a VM moves, and the operator. Refused claims are not repeated within the test, so what works,
/// works at the first try.
async fn pair(dir: &Path) -> (stopover_bbs::server::Server, [Host; 2], stopover_bbs::client::Operator) {
    let at = socket(dir);
    let server = board(&at, memory(), LONG).await;
    let mut hosts = [("gw-a", "10.0.0.1"), ("gw-b", "10.0.0.2")].map(|(name, vtep)| {
        let mut cfg = config(&at, name, vtep);
        cfg.retry_refused = LONG;
        Host::start(cfg)
    });
    for host in &mut hosts {
        host.session().join(vni(1), false);
        host.wait_for("Connected", |u| matches!(u, Update::Connected { .. })).await;
    }
    (server, hosts, operator(&at).await)
}

async fn at(op: &mut stopover_bbs::client::Operator) -> String {
    op.nodes(&NodeFilter::default()).await.unwrap().remove(0).host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_migrations_cause_no_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let (server, mut hosts, mut op) = pair(dir.path()).await;
    let names = ["gw-a", "gw-b"];
    let ids = [0, 1].map(|i: usize| hosts[i].session().state().host_id.unwrap());
    hosts[0].session().claim(claim(1, 1, &["192.168.0.1"]));
    hosts[0].wait_for("Accepted", |u| matches!(u, Update::Accepted { .. })).await;
    for round in 0..12 {
        let (from, to) = (round % 2, (round + 1) % 2);
        hosts[from].session().begin_migration(begin(names[from], None, 60_000));
        let begun = wait_for_answer(&hosts[from], |u| matches!(u, MigrationUpdate::Begun { .. })).await;
        let MigrationUpdate::Begun { ticket, .. } = begun else { unreachable!() };
        let complete = |host: &Host| {
            let at = Some(name(names[to]));
            host.session().complete_migration(ticket.migration, ticket.generation, at, "up");
        };
        match round % 3 {
            // All at once: the target's claim and its completion in any order.
            0 => {
                hosts[from].session().withdraw(vni(1), mac(1));
                hosts[to].session().claim(claim(1, 1, &["192.168.0.1"]));
                complete(&hosts[to]);
            }
            1 => {
                hosts[to].session().claim(claim(1, 1, &["192.168.0.1"]));
                wait_for_answer(&hosts[to], |u| matches!(u, MigrationUpdate::Deferred { .. })).await;
                hosts[from].session().withdraw(vni(1), mac(1));
            }
            // It ends while the source still claims, as with a port that does not detect the end of its VM.
            _ => {
                hosts[to].session().claim(claim(1, 1, &["192.168.0.1"]));
                wait_for_answer(&hosts[to], |u| matches!(u, MigrationUpdate::Deferred { .. })).await;
                complete(&hosts[to]);
                hosts[from]
                    .wait_for_change(
                        "the move",
                        |c| matches!(c, Change::NodePut { node, .. } if node.host_id == ids[to]),
                    )
                    .await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                hosts[from].session().withdraw(vni(1), mac(1));
            }
        }
        hosts[to].wait_for("Accepted", |u| matches!(u, Update::Accepted { .. })).await;
        assert_eq!(at(&mut op).await, names[to], "round {round}");
    }
    assert_no_refusals(&hosts, &mut op).await;
    assert_eq!(op.migrations(None, false).await.unwrap().len(), 12);
    drop(hosts);
    server.stop().await;
}

async fn assert_no_refusals(hosts: &[Host], op: &mut Operator) {
    for host in hosts {
        let refused = host.received.iter().find(|u| matches!(u, Update::Refused { .. }));
        assert_eq!(refused, None);
        let refused =
            host.session().migrations().try_iter().find(|u| matches!(u, MigrationUpdate::Refused { .. }));
        assert_eq!(refused, None);
    }
    let mut events = std::pin::pin!(op.events(0, false).await.unwrap());
    while let Some(chunk) = events.next().await {
        assert_eq!(chunk.unwrap().into_iter().find(|e| e.kind == EventKind::Conflict), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_lock_a_claim_is_accepted_after_the_withdrawal() {
    let dir = tempfile::tempdir().unwrap();
    let (server, mut hosts, mut op) = pair(dir.path()).await;
    hosts[1].session().claim(claim(1, 1, &["192.168.0.1"]));
    hosts[1].wait_for("Accepted", |u| matches!(u, Update::Accepted { .. })).await;
    // No lock: the VM is started here before it is stopped there.
    hosts[0].session().claim(claim(1, 1, &["192.168.0.1"]));
    hosts[0].wait_for("Refused", |u| matches!(u, Update::Refused { .. })).await;
    hosts[1].session().withdraw(vni(1), mac(1));
    hosts[0].wait_for("Accepted", |u| matches!(u, Update::Accepted { .. })).await;
    assert_eq!(at(&mut op).await, "gw-a");
    drop(hosts);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_survives_kill_9_and_then_expires() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let mut program = super::process::run(dir.path());
    let mut op = operator(&at).await;
    let host =
        stopover_config::bulk::HostRow { name: name("lx"), vteps: vec![ip("10.0.0.9")], udp_port: 4789 };
    op.declare(&host.into()).await.unwrap();
    let (vni, mac, host) = (vni(1), mac(1), name("lx"));
    op.declare(&stopover_config::bulk::NodeRow { vni, mac, ips: vec![], host, shared_ips: vec![] }.into())
        .await
        .unwrap();
    let ticket = op.begin_migration(&begin("lx", None, 3000)).await.unwrap();
    program.kill();
    let _program = super::process::run(dir.path());
    let mut op = operator(&at).await;
    let mut seen = op.migrations(None, true).await.unwrap();
    assert_eq!(seen.remove(0).generation, ticket.generation, "the lock is there");
    let began = Instant::now();
    while !op.migrations(None, true).await.unwrap().is_empty() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = op.migrations(Some(ticket.migration), false).await.unwrap().remove(0);
    assert_eq!((ended.state, ended.reason.as_str()), (MigrationState::Aborted, "its lease has run out"));
}

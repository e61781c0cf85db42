//! Declarations, deletions and loads by the operator, and the actor of an event.

use super::*;
use stopover_net::Mac;

#[test]
fn an_event_names_its_actor() {
    let mut rig = Rig::new(1000);
    let actors = |applied: &Applied| applied.events.iter().map(|e| e.actor.clone()).collect::<Vec<_>>();
    let up = rig.apply(None, Command::Register(rival(0, false)));
    assert_eq!(actors(&up), [format!("host gw-0 (instance {})", Uuid::from_bytes([100; 16]).simple())]);
    let a = register(&mut rig, 1);
    claims(&mut rig, &a, claim(1, 1, &[]));
    let declared = rig.apply(None, Command::Declare(host_row("lx", "172.16.0.1")));
    assert_eq!(actors(&declared), ["operator"]);
    let begun = rig.apply(
        None,
        Command::BeginMigration {
            by: Principal::Host(a.clone()),
            nodes: vec![(vni(1), mac(1))],
            source: name("gw-1"),
            target: None,
            cause: "test".into(),
            lease_ms: 5000,
            renew: None,
        },
    );
    assert_eq!(actors(&begun), [format!("host gw-1 (session {:#x})", a.number)]);
    // The host deregisters; the board aborts the migration because of that.
    let bye = rig.apply(None, Command::Deregister { session: a.clone(), withdraw_all: false });
    assert_eq!(actors(&bye), [format!("host gw-1 (session {:#x})", a.number), "board".into()]);
}

#[test]
fn a_load_is_atomic_and_names_bad_rows() {
    let mut rig = Rig::new(1000);
    let rows = vec![
        (2, node_row(5, 1, "lx", &["10.1.0.1"])),
        (3, host_row("lx", "172.16.0.1")),
        (4, node_row(5, 2, "lx", &["10.1.0.1"])),
        (5, node_row(5, 3, "missing", &[])),
    ];
    let refused = rig.apply(None, Command::Load(rows.clone()));
    let Err(Refusal::Rows { errors, total }) = refused.result else { panic!("{:?}", refused.result) };
    assert_eq!(total, 2);
    assert_eq!(errors.iter().map(|e| e.number).collect::<Vec<_>>(), [4, 5]);
    assert!(errors[0].why.contains("IP 10.1.0.1 in VNI 5 is held by node 52:54:00:00:00:01 on host lx"));
    assert!(errors[1].why.contains("there is no host missing"), "{}", errors[1].why);
    assert_eq!(*rig.state(), Replica::default());
    assert_eq!(rig.board.counts().hosts, 0);

    let good: Vec<_> = rows.into_iter().take(2).collect();
    assert!(rig.apply(None, Command::Load(good)).result.is_ok(), "hosts are declared first");
    assert_eq!(rig.state().hosts[&1].declared_by, DeclaredBy::Operator);
    assert_eq!(rig.state().nodes.len(), 1);
}

#[test]
fn of_a_large_load_only_the_end_is_kept() {
    let mut rig = Rig::new(2000);
    let mut rows = vec![(1, host_row("lx", "172.16.0.1"))];
    for i in 0..9000u32 {
        let [_, _, x, y] = i.to_be_bytes();
        let row = NodeRow {
            vni: vni(5),
            mac: Mac::new([2, 0, 0, 0, x, y]),
            host: name("lx"),
            ips: vec![],
            shared_ips: vec![],
        };
        rows.push((0, Row::Node(row)));
    }
    let now = rig.now;
    let applied = rig.board.apply(now, None, Command::Load(rows));
    let kept: usize = applied.commits.iter().map(|c| c.changes.len()).sum();
    assert!((2000..5000).contains(&kept), "{kept}");
    assert_eq!(applied.commits.last().unwrap().revision, rig.board.revision());
    assert_eq!(rig.board.counts().nodes, 9000);
    assert_eq!(applied.writes.len(), 9000 + 4, "nodes, host, next id, membership, event");
}

#[test]
fn a_host_in_use_is_deleted_only_with_cascade() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    rig.apply(None, Command::Claim { session: a.clone(), claims: vec![claim(1, 1, &[])] });
    let delete = |rig: &mut Rig, cascade| {
        let target = Target::Host { name: host_name(0), cascade };
        rig.apply(None, Command::Delete(target)).result.map_err(|r| r.to_string())
    };
    assert!(delete(&mut rig, true).unwrap_err().contains("is alive: stop its appliance first"));
    rig.apply(None, Command::Deregister { session: a, withdraw_all: false });
    assert!(delete(&mut rig, false).unwrap_err().contains("has 1 nodes"));
    assert!(delete(&mut rig, true).is_ok());
    assert_eq!(*rig.state(), Replica::default());
    register(&mut rig, 0);
    assert_eq!(rig.state().hosts.keys().copied().collect::<Vec<_>>(), [2], "an id is never given twice");
}

#[test]
fn a_declared_node_is_not_taken_over() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    rig.apply(None, Command::Declare(node_row(1, 1, "gw-0", &["192.168.0.9"]))).result.unwrap();
    let claims = vec![claim(1, 1, &["192.168.0.1"])];
    assert!(refusals(rig.apply(None, Command::Claim { session: a.clone(), claims }).result).is_empty());
    assert_eq!(rig.state().nodes[&(vni(1), mac(1))].ips, [ip("192.168.0.9")]);
    rig.apply(None, Command::Withdraw { session: a.clone(), nodes: vec![(vni(1), mac(1))] });
    rig.apply(None, Command::Deregister { session: a, withdraw_all: true });
    assert_eq!(rig.state().nodes.len(), 1);
    let b = register(&mut rig, 1);
    let taken = Command::Claim { session: b, claims: vec![claim(1, 1, &[])] };
    assert_eq!(refusals(rig.apply(None, taken).result).len(), 1, "not even from a host that is down");
}

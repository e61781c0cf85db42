//! Checkpoints: what a walk finds is what the tables hold, and the file is written when it has to be.

use super::*;
use crate::control::checkpoint::{
    Checkpoints,
    walk::{State, Walk},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use stopover_bbs::{
    client::{Checkpoint, CheckpointHead, CheckpointWriter, Point, parse_checkpoint},
    model::Uuid,
};

fn point(revision: u64) -> Point {
    Point { board: Uuid::from_u128(1), run: Some(Uuid::from_u128(2)), revision }
}

fn state(lab: &Lab) -> State<'_> {
    State { replica: &lab.replica, tables: &lab.tables, stations: &lab.stations }
}

/// Walks through the tables; returns what a file of it holds.
pub(super) fn walk(lab: &Lab) -> Checkpoint {
    let mut walk = Walk::new(point(7), state(lab));
    let head =
        CheckpointHead { host: name(OWN), holds: point(7), networks: BTreeSet::new(), written_unix_ms: 0 };
    let mut writer = CheckpointWriter::new(Vec::new(), &head).unwrap();
    while let Some(piece) = walk.piece(state(lab)) {
        writer.piece(&piece).unwrap();
    }
    parse_checkpoint(&writer.finish().unwrap()).unwrap()
}

/// Applies a checkpoint as the start does.
pub(super) fn restore(lab: &mut Lab, checkpoint: Checkpoint) {
    lab.replica.begin_snapshot(&mut lab.tables, false);
    for piece in checkpoint.pieces {
        for change in piece.changes {
            lab.apply(change);
        }
        for batch in &piece.nodes {
            lab.with(|replica, ctx| replica.put_nodes(ctx, batch, |full| panic!("{full}")));
        }
    }
    lab.end_snapshot();
    lab.publish().unwrap();
}

fn many(n: u32) -> Mac {
    Mac::from_u64(0x0200_0000_0000 | u64::from(n))
}

/// Host 2 with so many nodes in network 100, each with an address. The first has the MAC of a vif of ours, which is down.
fn lab_with(nodes: u32) -> Lab {
    let mut lab = Lab::new(&[(0, many(0), 1, &[], Kind::Vif)]);
    lab.apply(host(2, &["10.0.0.2"], 4789));
    for n in 0..nodes {
        let address = format!("172.16.{}.{}", n >> 8, n & 0xff);
        lab.apply(node(many(n), 2, &[&address], &[]));
    }
    lab
}

#[test]
fn what_is_there_throughout_is_in_a_walk_during_which_the_tables_grow() {
    const STEADY: u32 = 5000;
    let mut lab = lab_with(STEADY);
    let mut walk = Walk::new(point(7), state(&lab));
    let (mut found, mut addresses, mut added) = (BTreeSet::new(), BTreeSet::new(), STEADY);
    while let Some(piece) = walk.piece(state(&lab)) {
        for (node, more) in piece.nodes.iter().flat_map(NodeBatch::iter) {
            found.insert(node.mac);
            addresses.extend(node.ipv4.map(IpAddr::V4).into_iter().chain(more.iter().copied()));
        }
        for _ in 0..2000 {
            lab.apply(node(many(added), 2, &[], &[]));
            added += 1;
        }
    }
    assert!(added > 3 * STEADY, "the table grew during the walk, to {added} nodes");
    assert_eq!((0..STEADY).filter(|n| !found.contains(&many(*n))).count(), 0);
    assert_eq!(addresses.len(), STEADY as usize);
}

#[test]
fn routers_and_nodes_without_an_address_are_kept() {
    let mut lab = lab_with(0);
    for (n, router) in [(1, Some(true)), (2, Some(false)), (3, None)] {
        let ips = vec![ip(&format!("fd00::{n}")), ip(&format!("172.16.0.{n}"))];
        let facts = NodeFacts { router, ..NodeFacts::default() };
        let node = Node { vni: vni(100), mac: mac(n), ips, host_id: 2, generation: 1, facts };
        lab.apply(Change::NodePut { node, gone_ips: Vec::new() });
    }
    lab.apply(node(mac(4), 2, &[], &[]));
    let mut fresh = Lab::new(&[]);
    restore(&mut fresh, walk(&lab));
    assert_eq!([1, 2, 3, 4].map(|n| fresh.location(mac(n))), [Where::Host(2); 4]);
    let router = |text: &str| {
        let std::net::IpAddr::V6(ip) = ip(text) else { panic!("{text}") };
        fresh.tables.router(fresh.bds[0], ip)
    };
    assert_eq!(["fd00::1", "fd00::2", "fd00::3"].map(router), [Some(true), Some(false), None]);
    assert_eq!(["fd00::3", "172.16.0.3"].map(|text| fresh.owner(text)), [Some(mac(3)); 2]);
}

/// A restart while the board is away, and then a migration: it must know that the board had the VM here.
#[test]
fn a_vm_of_this_host_is_in_a_walk_with_the_own_number() {
    let mut lab = lab_with(0);
    lab.apply(host(OWN, &["10.0.0.1"], 4789));
    let found = |lab: &Lab| -> Vec<_> {
        let pieces = walk(lab).pieces;
        let nodes = pieces.iter().flat_map(|piece| &piece.nodes).flat_map(|batch| &batch.nodes);
        nodes.map(|node| (node.mac, node.host_id, node.ipv4)).collect()
    };
    assert_eq!(found(&lab), []);
    lab.link(1, true);
    assert_eq!(found(&lab), [(many(0), OWN, None)]);
    // It has no place in the tables of the next run before it is there.
    let mut fresh = Lab::new(&[(0, many(0), 1, &[], Kind::Vif)]);
    restore(&mut fresh, walk(&lab));
    assert_eq!(fresh.location(many(0)), Where::Nowhere);
    lab.refuse(many(0));
    assert_eq!(found(&lab), [], "the board has it elsewhere");
}

#[test]
fn a_walk_is_given_up_when_the_state_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gw.checkpoint");
    let lab = lab_with(3000);
    let other =
        |board, run| Point { board: Uuid::from_u128(board), run: Some(Uuid::from_u128(run)), revision: 8 };
    for now in [None, Some(other(1, 3)), Some(other(3, 2))] {
        let mut checkpoints = Checkpoints::new(Some(path.clone()), 10).unwrap();
        for _ in 0..3 {
            checkpoints.step(10_000, &name(OWN), Some(point(7)), state(&lab));
        }
        assert!(!checkpoints.is_idle());
        checkpoints.step(10_001, &name(OWN), now, state(&lab));
        assert!(checkpoints.is_idle() && checkpoints.latest().is_none(), "{now:?}");
        drop(checkpoints);
        let until = Instant::now() + Duration::from_secs(10);
        while std::fs::read_dir(dir.path()).unwrap().count() > 0 {
            assert!(Instant::now() < until, "the unfinished file stays");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Steps until nothing is being written.
fn run(checkpoints: &mut Checkpoints, now_ms: u64, revision: u64, lab: &Lab) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        checkpoints.step(now_ms, &name(OWN), Some(point(revision)), state(lab));
        if checkpoints.is_idle() {
            return;
        }
        assert!(Instant::now() < until, "the writer does not answer");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_file_is_written_when_there_is_something_new_and_it_is_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gw.checkpoint");
    let mut lab = lab_with(3);
    let mut checkpoints = Checkpoints::new(Some(path.clone()), 10).unwrap();
    let holds = |path: &std::path::Path| parse_checkpoint(&std::fs::read(path).unwrap()).unwrap().head.holds;
    checkpoints.step(0, &name(OWN), None, state(&lab));
    assert!(checkpoints.is_idle() && !path.exists(), "no state of the board yet");
    run(&mut checkpoints, 10_000, 7, &lab);
    assert_eq!((holds(&path), checkpoints.latest().unwrap().revision), (point(7), 7));
    // Nothing is new: only the revision moves on, and the file follows once a minute.
    run(&mut checkpoints, 40_000, 8, &lab);
    assert_eq!(holds(&path), point(7));
    run(&mut checkpoints, 70_000, 9, &lab);
    assert_eq!(holds(&path), point(9));
    lab.apply(node(mac(3), 2, &[], &[]));
    run(&mut checkpoints, 79_999, 10, &lab);
    assert_eq!(holds(&path), point(9), "it is not time");
    run(&mut checkpoints, 80_000, 10, &lab);
    assert_eq!(holds(&path), point(10));
    // None any more, and then more often.
    lab.apply(node(mac(4), 2, &[], &[]));
    checkpoints.set_every(0);
    run(&mut checkpoints, 200_000, 11, &lab);
    assert!(!path.exists() && checkpoints.latest().is_none() && checkpoints.next_timeout(200_000).is_none());
    checkpoints.set_every(1);
    run(&mut checkpoints, 200_001, 12, &lab);
    assert_eq!(holds(&path), point(12));
}

#[test]
fn a_file_that_cannot_be_written_is_reported_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("later");
    let path = folder.join("gw.checkpoint");
    let lab = lab_with(3);
    let mut checkpoints = Checkpoints::new(Some(path.clone()), 10).unwrap();
    run(&mut checkpoints, 10_000, 7, &lab);
    assert!(checkpoints.failure().unwrap().contains("No such file"), "{:?}", checkpoints.failure());
    assert!(checkpoints.latest().is_none() && checkpoints.next_timeout(10_000) == Some(20_000));
    std::fs::create_dir(&folder).unwrap();
    run(&mut checkpoints, 20_000, 7, &lab);
    assert_eq!((checkpoints.failure(), checkpoints.latest().unwrap().revision), (None, 7));
    std::fs::remove_dir_all(&folder).unwrap();
    run(&mut checkpoints, 90_000, 8, &lab);
    assert!(checkpoints.failure().is_some());
    checkpoints.set_every(0);
    assert_eq!(checkpoints.failure(), None, "nothing is to be written");
    std::fs::create_dir(&folder).unwrap();
    checkpoints.set_every(10);
    run(&mut checkpoints, 100_000, 8, &lab);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no unfinished file is left");
}

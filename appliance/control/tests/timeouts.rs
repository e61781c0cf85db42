//! When subsystems of the control thread have something to do next.

use super::{plan::appliance, *};
use crate::control::board_link::BoardLink;
use crate::control::plan::{Facts, Plan};
use crate::migration::driver::Migrations;
use crossbeam::channel::{self, Select};
use std::time::Duration;
use stopover_bbs::client::Update;

/// Of a host with one vif, on vhost-user if `exact`.
fn migrations(exact: bool) -> Migrations {
    let (mut tables, _views) = Tables::new(1).unwrap();
    let facts = [1, 2, 3].map(|n| Facts {
        mac: mac(n),
        mtu: 1500,
        fills_checksums: false,
        segments_tcp: false,
        exact: exact && n == 2,
    });
    let plan = Plan::new(&appliance(), &facts, &mut tables).unwrap();
    Migrations::new(&appliance(), &facts, &plan.ports)
}

#[test]
fn only_vhost_ports_without_a_vm_are_not_polled() {
    assert_eq!(migrations(true).next_timeout(50), None);
    assert_eq!(migrations(false).next_timeout(50), Some(51));
}

#[test]
fn copies_of_an_unlocked_node_end_in_two_steps() {
    let mut migrations = migrations(true);
    migrations.unlocked(1_000, vni(100), mac(1));
    assert_eq!(migrations.next_timeout(1_000), Some(4_000));
    assert_eq!(migrations.next_timeout(3_999), Some(4_000));
    assert_eq!(migrations.next_timeout(4_000), Some(14_000));
}

#[test]
fn published_revision_is_acknowledged_once_every_lcore_has_passed_it() {
    let (mut tables, _views) = Tables::new(1).unwrap();
    let mut board = BoardLink::new(&appliance(), None);
    assert_eq!(board.epoch_poll(), None);
    board.on_applied(7);
    board.on_published(tables.publish());
    board.on_published(tables.publish());
    let polls: Vec<_> = (0..22).map(|_| board.epoch_poll()).collect();
    let (poll, pause) = (Some(Duration::from_micros(50)), Some(Duration::from_millis(1)));
    assert_eq!(polls, [vec![poll; 20], vec![pause], vec![poll]].concat());
    board.acknowledge(|_| false, 0);
    assert_eq!((board.revision(), board.acknowledged()), (7, 0));
    board.acknowledge(|_| true, 0);
    assert_eq!((board.acknowledged(), board.epoch_poll()), (7, None));
}

#[test]
fn stale_entries_are_due_after_their_time() {
    let mut board = BoardLink::new(&appliance(), None);
    let stale_ms = appliance().stale_ms;
    board.on_other_branch();
    assert_eq!(board.next_timeout(), None, "its snapshot is not complete");
    assert!(!board.is_stale_over(1_000));
    assert_eq!(board.next_timeout(), Some(1_000 + stale_ms));
    assert!(!board.is_stale_over(999 + stale_ms) && board.is_stale_over(1_000 + stale_ms));
    assert_eq!((board.next_timeout(), board.other_branches()), (None, 1));
}

#[test]
fn closed_channel_does_not_end_every_sleep() {
    let mut board = BoardLink::new(&appliance(), None);
    let (sender, updates) = channel::unbounded();
    board.replace(updates);
    sender.send(Update::Connected { stream: 3 }).unwrap();
    drop(sender);
    assert!(matches!(board.next_update(), Some(Update::Connected { stream: 3 })));
    assert!(board.next_update().is_none());
    let mut select = Select::new();
    select.recv(board.updates());
    assert!(select.try_ready().is_err());
}

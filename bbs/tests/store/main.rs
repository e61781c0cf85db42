//! The store: what it keeps, and what earlier versions kept in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail")]

mod before;
mod dump;
mod samples;

use samples::Records;
use std::path::PathBuf;
use stopover_bbs::{
    board::{Lineage, record::Write},
    store::{CommitHeader, Redb, Store, View},
};

const ALL: usize = usize::MAX;

/// Everything in a store.
fn read(view: &dyn View) -> Records {
    Records {
        hosts: view.hosts().unwrap(),
        networks: view.networks().unwrap(),
        members: view.members(None, None, ALL).unwrap(),
        nodes: view.nodes(None, None, ALL).unwrap(),
        keys: view.keys().unwrap(),
        events: view.events(0).unwrap(),
        migrations: view.migrations().unwrap(),
        locks: view.locks(None, None, ALL).unwrap(),
    }
}

fn commit(store: &dyn Store, records: Records) {
    let Records { hosts, networks, members, nodes, keys, events, migrations, locks } = records;
    let mut writes = Vec::new();
    writes.extend(hosts.into_iter().map(|(id, r)| Write::Host(id, Some(r))));
    writes.extend(networks.into_iter().map(|r| Write::Network(r.vni, Some(r))));
    writes.extend(members.into_iter().map(|(vni, host, r)| Write::Member(vni, host, Some(r))));
    writes.extend(nodes.into_iter().map(|(vni, mac, r)| Write::Node(vni, mac, Some(r))));
    writes.extend(keys.into_iter().map(|(place, r)| Write::Key(place, Some(r))));
    writes.extend(events.into_iter().map(|r| Write::Event(r.number, Some(r))));
    writes.extend(migrations.into_iter().map(|r| Write::Migration(r.id, Some(Box::new(r)))));
    writes.extend(locks.into_iter().map(|(vni, mac, r)| Write::Lock(vni, mac, Some(r))));
    let header = CommitHeader { revision: samples::REVISION, next_host: samples::NEXT_HOST };
    store.commit(header, writes, &mut |_| {}).unwrap();
}

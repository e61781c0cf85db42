//! Stores: what each must do, what earlier versions kept in the embedded one, and what the board does when one fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail")]

mod before;
mod conformance;
mod dump;
mod engine;
mod faults;
mod faulty;
mod limits;
mod memory;
mod samples;

use samples::Records as Samples;
use std::{path::PathBuf, sync::Arc};
use stopover_bbs::{
    board::{Lineage, record::NextHostKey},
    records::{Page, Records},
    server::{Writer, lineage},
    store::{CommitResult, Header, Redb, Store, Transaction, View},
    table::{Record, Write},
};

/// Everything in a store.
fn read(view: &dyn View) -> Samples {
    Samples {
        hosts: view.all().unwrap(),
        networks: view.all().unwrap(),
        members: view.all().unwrap(),
        nodes: view.all().unwrap(),
        keys: view.all().unwrap(),
        events: view.all().unwrap(),
        migrations: view.all().unwrap(),
        locks: view.all().unwrap(),
        next_host: only(view),
    }
}

/// The record of a kind of which there is one.
fn only<R: Record<Key = NextHostKey>>(view: &dyn View) -> Page<R> {
    view.record(NextHostKey).unwrap().map(|record| (NextHostKey, record)).into_iter().collect()
}

/// Writes them in a new term; the header after it.
fn commit(store: &dyn Store, records: Samples) -> Header {
    fn puts<R: Record>(page: Page<R>) -> Vec<Write> {
        page.into_iter().map(|(key, record)| Write::put(key, &record)).collect()
    }
    let Samples { hosts, networks, members, nodes, keys, events, migrations, locks, next_host } = records;
    let writes = [
        puts(hosts),
        puts(networks),
        puts(members),
        puts(nodes),
        puts(keys),
        puts(events),
        puts(migrations),
        puts(locks),
        puts(next_host),
    ];
    let transaction = Transaction::new(store.begin_term().unwrap(), samples::REVISION, writes.concat());
    assert!(matches!(store.commit(&transaction, &mut |_| {}), CommitResult::Committed));
    transaction.header()
}

//! The backup of a running board. Leaves: its header and all records of one view, as the store has them. Nothing stops
//! meanwhile; changes that are made later are not in it.

use super::paced::{self, Answers, Reading};
use crate::{
    board::record::{NextHost, NextHostKey, TABLES},
    proto::v1,
    store::{Range, Store, StoreError, View},
    table::{self, Record, RecordKey, Table},
};
use std::cell::Cell;

/// Records of one message, at most.
const CHUNK: usize = 4096;

type Out = paced::Out<v1::BackupChunk>;

pub(super) fn backup(reading: Reading) -> Answers<v1::BackupChunk> {
    paced::produce(move |out| {
        let Reading { store, slots: _open } = reading;
        let result = store.view().and_then(|view| read(&*store, &*view, &out));
        if let Err(e) = result {
            out.fail(e.into());
        }
    })
}

fn read(store: &dyn Store, view: &dyn View, out: &Out) -> Result<(), StoreError> {
    let header = view.header();
    let begin = v1::BackupChunk {
        board_id: store.board_id().into(),
        term: header.term,
        revision: header.revision,
        transaction: header.transaction,
        ..v1::BackupChunk::default()
    };
    let count = Cell::new(0);
    let send = |chunk: v1::BackupChunk| {
        count.set(count.get() + chunk.records.len() as u64);
        out.send(chunk)
    };
    if !send(begin) {
        return Ok(());
    }
    // One record of this table is the board's; the rest is what the store knows of itself.
    let next_host = NextHostKey.to_bytes();
    if let Some(value) = view.get(NextHost::TABLE, next_host.as_bytes())? {
        let records = vec![v1::StoredRecord { key: next_host.as_bytes().to_vec(), value }];
        if !send(chunk(NextHost::TABLE, records)) {
            return Ok(());
        }
    }
    for of in TABLES {
        let mut after: Option<table::Key> = None;
        loop {
            let (mut records, mut last) = (Vec::new(), None);
            let range = Range { prefix: &[], after: after.as_ref().map(table::Key::as_bytes) };
            view.scan(of, range, CHUNK, &mut |key, value| {
                last = table::Key::from_slice(key);
                records.push(v1::StoredRecord { key: key.to_vec(), value: value.to_vec() });
            })?;
            if last.is_none() {
                break;
            }
            after = last;
            if !send(chunk(of, records)) {
                return Ok(());
            }
        }
    }
    send(v1::BackupChunk { complete: true, total: count.get(), ..v1::BackupChunk::default() });
    Ok(())
}

fn chunk(Table(name): Table, records: Vec<v1::StoredRecord>) -> v1::BackupChunk {
    v1::BackupChunk { table: name.to_owned(), records, ..v1::BackupChunk::default() }
}

//! The board from the records of its store. Enters: a view, and the settings of this run. Leaves: the board as it was after
//! the last command that is stored.

use crate::{
    board::{
        Board, Now, Settings,
        record::{HostRecord, KeyRecord, MemberRecord, NextHost, NextHostKey, NodeRecord},
    },
    model::{Event, Migration, Network},
    records::{Page, Records},
    store::{StoreError, View},
    table::Record,
};

/// Records read at once.
const PAGE: usize = 8192;

/// Reads everything.
pub fn restore(view: &dyn View, settings: Settings) -> Result<Board, StoreError> {
    let mut board = Board::new(settings);
    for (id, record) in view.all::<HostRecord>()? {
        board.restore_host(id, record);
    }
    for (_, network) in view.all::<Network>()? {
        board.restore_network(network);
    }
    in_pages::<MemberRecord>(view, |page| {
        for ((vni, host), record) in page {
            board.restore_member(vni, host, &record);
        }
    })?;
    in_pages::<NodeRecord>(view, |page| {
        for ((vni, mac), record) in page {
            board.restore_node(vni, mac, record);
        }
    })?;
    for (_, migration) in view.all::<Migration>()? {
        board.restore_migration(migration);
    }
    for (place, record) in view.all::<KeyRecord>()? {
        board.restore_key(place, record);
    }
    let last_event = view.all::<Event>()?.last().map_or(0, |(number, _)| *number);
    let next_host = view.record::<NextHost>(NextHostKey)?.map_or(1, |NextHost(id)| id);
    board.finish_restore(view.header().revision, next_host, last_event, Now::default());
    Ok(board)
}

fn in_pages<R: Record>(view: &dyn View, mut each: impl FnMut(Page<R>)) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = view.page::<R>(after, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(*last);
        each(page);
    }
}

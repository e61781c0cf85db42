//! The board from the records of its store. Enters: a view, and the settings of this run. Leaves: the board as it was after
//! the last command that is stored, and the records that cannot be read. With such records the board is for reading alone.

use crate::{
    board::{
        Board, Now, Settings,
        record::{HostRecord, KeyRecord, MemberRecord, NextHost, NextHostKey, NodeRecord},
    },
    model::{Event, Migration, Network},
    records::Records,
    store::{StoreError, View},
    table::{RecordKey, Unreadable},
};

/// Reads everything.
pub fn restore(view: &dyn View, settings: Settings) -> Result<(Board, Vec<Unreadable>), StoreError> {
    let mut board = Board::new(settings);
    let mut unreadable = Vec::new();
    let damaged = &mut unreadable;
    view.each_readable::<HostRecord>(damaged, |id, record| board.restore_host(id, record))?;
    view.each_readable::<Network>(damaged, |_, network| board.restore_network(network))?;
    view.each_readable::<MemberRecord>(damaged, |(vni, host), record| {
        board.restore_member(vni, host, &record);
    })?;
    view.each_readable::<NodeRecord>(damaged, |(vni, mac), record| board.restore_node(vni, mac, record))?;
    view.each_readable::<Migration>(damaged, |_, migration| board.restore_migration(migration))?;
    view.each_readable::<KeyRecord>(damaged, |place, record| board.restore_key(place, record))?;
    let mut last_event = 0;
    view.each_readable::<Event>(damaged, |number, _| last_event = number)?;
    let next_host = match view.record::<NextHost>(NextHostKey) {
        Ok(next) => next.map_or(1, |NextHost(id)| id),
        Err(_) => {
            damaged.push(Unreadable::of::<NextHost>(NextHostKey.to_bytes().as_bytes()));
            1
        }
    };
    board.finish_restore(view.header().revision, next_host, last_event, Now::default());
    Ok((board, unreadable))
}

//! What the embedded store and its formats share: how its tables are named, and numbers in the table `meta`.

use super::StoreError;
use crate::table::{Table as RecordTable, Unreadable};
use redb::{ReadableTable, Table, TableDefinition};

pub(super) type Def<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

pub(super) const META: Def<'static> = Def::new("meta");

pub(super) fn failed<E: std::fmt::Display>(doing: &'static str) -> impl Fn(E) -> StoreError {
    move |e| StoreError::new(doing, e)
}

/// What the store knows of itself is damaged.
pub(super) fn unreadable(name: &str) -> Unreadable {
    Unreadable { table: RecordTable("meta"), key: name.to_owned() }
}

pub(super) fn read_number(
    meta: &impl ReadableTable<&'static [u8], &'static [u8]>,
    name: &str,
) -> Result<Option<u64>, StoreError> {
    let doing = "reading its header";
    let Some(value) = meta.get(name.as_bytes()).map_err(failed(doing))? else { return Ok(None) };
    let bytes = value.value().try_into().map_err(|_| StoreError::new(doing, unreadable(name)))?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

pub(super) fn put_number(meta: &mut Table<'_, &[u8], &[u8]>, name: &str, n: u64) -> Result<(), StoreError> {
    meta.insert(name.as_bytes(), n.to_be_bytes().as_slice()).map_err(failed("writing its header"))?;
    Ok(())
}

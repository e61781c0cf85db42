//! Records by kind, from a view of a store, which has them as bytes. Enters: a key, or the last key that was read. Leaves:
//! one record, or a page of them in the order of their keys.

use crate::{
    store::{Range, StoreError, View},
    table::{self, NetworkKey, Record, RecordKey, Unreadable, network_prefix},
};
use stopover_net::Vni;

/// Records of a kind with their keys.
pub type Page<R> = Vec<(<R as Record>::Key, R)>;

/// Reads records by kind.
pub trait Records {
    /// One record.
    fn record<R: Record>(&self, key: R::Key) -> Result<Option<R>, StoreError>;

    /// At most `limit` records with keys greater than `after`.
    fn page<R: Record>(&self, after: Option<R::Key>, limit: usize) -> Result<Page<R>, StoreError>;

    /// The same of one network; without one, of all.
    fn page_of<R: Record<Key: NetworkKey>>(
        &self,
        network: Option<Vni>,
        after: Option<R::Key>,
        limit: usize,
    ) -> Result<Page<R>, StoreError>;

    /// All records.
    fn all<R: Record>(&self) -> Result<Page<R>, StoreError> {
        self.page(None, usize::MAX)
    }
}

impl<V: View + ?Sized> Records for V {
    fn record<R: Record>(&self, key: R::Key) -> Result<Option<R>, StoreError> {
        let unreadable = || StoreError::new("reading a record", Unreadable(R::TABLE));
        let found = self.get(R::TABLE, key.to_bytes().as_bytes())?;
        found.map(|bytes| R::decode(key, &bytes).ok_or_else(unreadable)).transpose()
    }

    fn page<R: Record>(&self, after: Option<R::Key>, limit: usize) -> Result<Page<R>, StoreError> {
        read(self, &[], after, limit)
    }

    fn page_of<R: Record<Key: NetworkKey>>(
        &self,
        network: Option<Vni>,
        after: Option<R::Key>,
        limit: usize,
    ) -> Result<Page<R>, StoreError> {
        let prefix = network.map(network_prefix);
        read(self, prefix.as_ref().map_or(&[], |prefix| prefix.as_slice()), after, limit)
    }
}

fn read<R: Record>(
    view: &(impl View + ?Sized),
    prefix: &[u8],
    after: Option<R::Key>,
    limit: usize,
) -> Result<Page<R>, StoreError> {
    let after = after.map(RecordKey::to_bytes);
    let range = Range { prefix, after: after.as_ref().map(table::Key::as_bytes) };
    let mut page = Ok(Vec::new());
    view.scan(R::TABLE, range, limit, &mut |key, value| {
        if let Ok(records) = &mut page {
            match table::read(key, value) {
                Ok(record) => records.push(record),
                Err(why) => page = Err(StoreError::new("reading records", why)),
            }
        }
    })?;
    page
}

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

    /// Calls `each` with all records that can be read, in order. The others are added to `unreadable`.
    fn each_readable<R: Record>(
        &self,
        unreadable: &mut Vec<Unreadable>,
        each: impl FnMut(R::Key, R),
    ) -> Result<(), StoreError>;

    /// At most `limit` records that can be read, from the one after `after` on, of a network or of all. The others are
    /// added to `unreadable`. Returns also the last key, readable or not, from which to go on.
    fn readable_of<R: Record<Key: NetworkKey>>(
        &self,
        network: Option<Vni>,
        after: Option<table::Key>,
        limit: usize,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<(Page<R>, Option<table::Key>), StoreError>;

    /// All records that can be read.
    fn all_readable<R: Record>(&self, unreadable: &mut Vec<Unreadable>) -> Result<Page<R>, StoreError> {
        let mut all = Vec::new();
        self.each_readable::<R>(unreadable, |key, record| all.push((key, record)))?;
        Ok(all)
    }

    /// All records.
    fn all<R: Record>(&self) -> Result<Page<R>, StoreError> {
        self.page(None, usize::MAX)
    }
}

impl<V: View + ?Sized> Records for V {
    fn record<R: Record>(&self, key: R::Key) -> Result<Option<R>, StoreError> {
        let key_bytes = key.to_bytes();
        let unreadable = || StoreError::new("reading a record", Unreadable::of::<R>(key_bytes.as_bytes()));
        let found = self.get(R::TABLE, key_bytes.as_bytes())?;
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

    fn each_readable<R: Record>(
        &self,
        unreadable: &mut Vec<Unreadable>,
        mut each: impl FnMut(R::Key, R),
    ) -> Result<(), StoreError> {
        self.scan(R::TABLE, Range::default(), usize::MAX, &mut |key, value| match table::read(key, value) {
            Ok((key, record)) => each(key, record),
            Err(why) => unreadable.push(why),
        })
    }

    fn readable_of<R: Record<Key: NetworkKey>>(
        &self,
        network: Option<Vni>,
        after: Option<table::Key>,
        limit: usize,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<(Page<R>, Option<table::Key>), StoreError> {
        let prefix = network.map(network_prefix);
        let prefix = prefix.as_ref().map_or(&[][..], |prefix| prefix.as_slice());
        let range = Range { prefix, after: after.as_ref().map(table::Key::as_bytes) };
        let (mut page, mut last) = (Vec::new(), None);
        self.scan(R::TABLE, range, limit, &mut |key, value| {
            last = table::Key::from_slice(key);
            match table::read(key, value) {
                Ok(record) => page.push(record),
                Err(why) => unreadable.push(why),
            }
        })?;
        Ok((page, last))
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

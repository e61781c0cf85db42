//! The FDB: which node is where, by network and MAC. Enters: every change of a node's entry. Leaves: the map that
//! lcores search through a `View`, and counts that are always in step with it.

use super::counts::Counts;
use std::ops::Deref;
use stopover_lockfree::{
    epoch::Writer,
    map64::{MapError, MapWriter},
};

/// The node table with its counts. Reads use the map directly; changes update the counts.
#[derive(Debug)]
pub(super) struct Fdb {
    map: MapWriter,
    pub(super) counts: Counts,
    /// How often an entry was written or removed.
    #[cfg(test)]
    pub(super) writes: u64,
}

impl Deref for Fdb {
    type Target = MapWriter;

    fn deref(&self) -> &MapWriter {
        &self.map
    }
}

impl Fdb {
    pub(super) fn new(map: MapWriter) -> Self {
        Self {
            map,
            counts: Counts::default(),
            #[cfg(test)]
            writes: 0,
        }
    }

    /// See [`MapWriter::insert`].
    pub(super) fn insert(
        &mut self,
        writer: &mut Writer,
        key: u64,
        word: u64,
    ) -> Result<Option<u64>, MapError> {
        self.upsert(writer, key, |_| word)
    }

    /// See [`MapWriter::upsert`].
    pub(super) fn upsert(
        &mut self,
        writer: &mut Writer,
        key: u64,
        word: impl FnOnce(Option<u64>) -> u64,
    ) -> Result<Option<u64>, MapError> {
        #[cfg(test)]
        {
            self.writes += 1;
        }
        let mut after = 0;
        let before = self.map.upsert(writer, key, |before| {
            after = word(before);
            after
        })?;
        self.counts.node_changed(key, before, Some(after));
        Ok(before)
    }

    /// See [`MapWriter::remove`].
    pub(super) fn remove(&mut self, writer: &mut Writer, key: u64) -> Option<u64> {
        #[cfg(test)]
        {
            self.writes += 1;
        }
        let before = self.map.remove(writer, key)?;
        self.counts.node_changed(key, Some(before), None);
        Some(before)
    }

    /// See [`MapWriter::retain`].
    pub(super) fn retain(&mut self, writer: &mut Writer, mut keep: impl FnMut(u64, u64) -> bool) -> usize {
        let counts = &mut self.counts;
        self.map.retain(writer, |key, word| {
            let kept = keep(key, word);
            if !kept {
                counts.node_changed(key, Some(word), None);
            }
            kept
        })
    }

    /// See [`MapWriter::maintain`].
    pub(super) fn maintain(&mut self, writer: &mut Writer) {
        self.map.maintain(writer);
    }
}

//! hashbrown in two copies, by the crate left-right: readers have one, the writer changes the other, and then they
//! swap. Every change is made twice, and a reader says for each burst that it reads.

use left_right::{Absorb, ReadHandle, WriteHandle};

type Map = hashbrown::HashMap<u64, u64>;

/// One of the two copies.
#[derive(Debug, Clone, Default)]
struct Half(Map);

/// A key is given its word.
#[derive(Debug)]
struct Insert {
    key: u64,
    word: u64,
}

impl Absorb<Insert> for Half {
    fn absorb_first(&mut self, change: &mut Insert, _: &Self) {
        self.0.insert(change.key, change.word);
    }
    fn sync_with(&mut self, first: &Self) {
        self.0.clone_from(&first.0);
    }
}

/// A table of these keys and words.
#[must_use]
pub fn new(entries: impl Iterator<Item = (u64, u64)>) -> (Writer, Reader) {
    let mut map = Map::new();
    map.extend(entries);
    let (mut writer, reader) = left_right::new_from_empty::<Half, Insert>(Half(map));
    // left-right copies the whole table when it publishes for the second time, and never again.
    writer.publish();
    writer.publish();
    (Writer { writer }, Reader { reader })
}

/// Who changes the table.
#[derive(Debug)]
pub struct Writer {
    writer: WriteHandle<Half, Insert>,
}

impl Writer {
    /// Gives a key its word, as readers will see after [`Writer::publish`].
    pub fn insert(&mut self, key: u64, word: u64) {
        self.writer.append(Insert { key, word });
    }

    /// Shows readers what was inserted. Waits until none reads the copy that they had before.
    pub fn publish(&mut self) {
        self.writer.publish();
    }

    /// Memory of both copies, in bytes; what waits to be made again in the second is not counted.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        2 * self.writer.enter().map_or(0, |half| half.0.allocation_size())
    }
}

/// Who looks keys up.
#[derive(Debug)]
pub struct Reader {
    reader: ReadHandle<Half>,
}

impl Reader {
    /// The words of these keys, one after another; 0 for a key that is not there.
    #[inline]
    pub fn burst(&self, keys: &[u64], words: &mut [u64]) {
        let Some(half) = self.reader.enter() else { return words.fill(0) };
        for (key, word) in keys.iter().zip(words) {
            *word = half.0.get(key).copied().unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_was_published() {
        let (mut writer, reader) = new([(1, 10), (2, 20)].into_iter());
        let read = || {
            let mut words = [9; 3];
            reader.burst(&[1, 2, 3], &mut words);
            words
        };
        assert_eq!(read(), [10, 20, 0]);
        writer.insert(2, 21);
        writer.insert(3, 30);
        assert_eq!(read(), [10, 20, 0]);
        writer.publish();
        assert_eq!(read(), [10, 21, 30]);
        // The other copy has it too.
        writer.publish();
        writer.publish();
        assert_eq!(read(), [10, 21, 30]);
        drop(writer);
        assert_eq!(read(), [0; 3]);
    }
}

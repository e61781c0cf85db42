//! A host gets another number: the one it had means another host now. Only where the board's history has forked.

use super::{
    MAX_HOSTS, Tables,
    packed::{FdbEntry, PackedFdbEntry},
};

/// The highest number a host may have.
pub const LAST_HOST: u32 = MAX_HOSTS - 1;

impl Tables {
    /// All nodes at host `from` are at `to`. They stay as old as they were: a sweep takes them all the same.
    pub fn rehome(&mut self, from: u32, to: u32) {
        let moved = |word: PackedFdbEntry| {
            let there = word.host() == Some(from);
            there.then(|| {
                FdbEntry::Remote { host: to }
                    .pack()
                    .with_flags_of(word)
                    .with_sync_generation(word.sync_generation())
            })
        };
        for word in self.shadowed.values_mut() {
            *word = moved(*word).unwrap_or(*word);
        }
        let words: Vec<_> =
            self.nodes.iter().filter_map(|(key, word)| Some((key, moved(PackedFdbEntry(word))?))).collect();
        for (key, word) in words {
            // Replacing a value needs no room.
            let _ = self.nodes.insert(&mut self.writer, key, word.0);
        }
    }
}

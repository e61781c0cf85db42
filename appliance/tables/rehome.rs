//! Renumbers a host whose number means another host now. Only needed if the history of the board has forked.

use super::{
    MAX_HOSTS, Tables,
    packed::{FdbEntry, PackedFdbEntry},
};

/// The highest number of a host.
pub const LAST_HOST: u32 = MAX_HOSTS - 1;

impl Tables {
    /// Moves all nodes of host `from` to `to`. They keep their sync generation: a sweep removes them as before.
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

//! The writer's side of nodes on the move: their records, the words that lead to them, and the flags that let them
//! be heard where they are not yet, or are no more.

use super::{
    Full, MAX_MOVING, Tables,
    moving::Moving,
    words::{Net, Place, PlaceWord, node_key},
};
use stopover_net::Mac;

impl Tables {
    /// What is said of a node at another host, whether or not a station of this host hides it.
    pub(super) fn remote_word(&self, key: u64) -> Option<PlaceWord> {
        let shown = || self.nodes.get(key).map(PlaceWord).filter(|word| word.host().is_some());
        self.hidden.get(&key).copied().or_else(shown)
    }

    /// The host that a node is said to be at, even if a station of this host hides it.
    #[must_use]
    pub fn recorded_host(&self, net: Net, mac: Mac) -> Option<u32> {
        self.remote_word(node_key(net, mac))?.host()
    }

    /// A node is locked for a migration, or no longer: while it is, it may be heard where it is not yet, or is no
    /// more.
    pub fn set_on_the_move(&mut self, net: Net, mac: Mac, on: bool) {
        let key = node_key(net, mac);
        if let Some(word) = self.hidden.get_mut(&key) {
            *word = word.set_on_the_move(on);
        }
        let other = |word: u64| {
            let word = PlaceWord(word);
            let moving = matches!(word.open(), Some(Place::Moving { .. }));
            (!moving && word.on_the_move() != on).then(|| word.set_on_the_move(on).0)
        };
        // Replacing a value needs no room.
        if let Some(word) = self.locals.get(key).and_then(other) {
            let _ = self.locals.insert(&mut self.writer, key, word);
        }
        if let Some(word) = self.nodes.get(key).and_then(other) {
            let _ = self.nodes.insert(&mut self.writer, key, word);
        }
    }

    /// Stragglers for a node that has left for another host are sent on from here.
    pub fn set_departed(&mut self, net: Net, mac: Mac) {
        let key = node_key(net, mac);
        if let Some(word) = self.hidden.get_mut(&key) {
            *word = word.set_departed();
        }
        let Some(word) = self.nodes.get(key).map(PlaceWord) else { return };
        if matches!(word.open(), Some(Place::Remote { .. })) {
            let _ = self.nodes.insert(&mut self.writer, key, word.set_departed().0);
        }
    }

    /// A node is on the move, and its frames are treated as `record` says; replaces what was said before. If the
    /// node is local it is shown so at once, otherwise when it becomes so.
    pub fn set_moving(&mut self, record: Moving) -> Result<(), Full> {
        let what = format!("migration of {}", record.mac);
        let key = node_key(record.net, record.mac);
        let known = self.moving.get(&key).copied();
        let index = match known.or_else(|| self.free_moving()) {
            Some(index) => index,
            None if self.next_moving < MAX_MOVING => {
                self.next_moving += 1;
                self.next_moving - 1
            }
            None => return Err(Full::new(what, format!("{MAX_MOVING} nodes are on the move already"))),
        };
        let (port, vlan) = (record.port, record.vlan);
        let stand_in = record.stand_in.map(|mac| node_key(record.net, mac));
        let before = known.and_then(|index| self.shared.moving.get(&self.writer, index)?.stand_in);
        if let Some(before) = before.map(|mac| node_key(record.net, mac)).filter(|key| Some(*key) != stand_in)
        {
            self.nodes.remove(&mut self.writer, before);
        }
        let stored = self.shared.moving.set(&mut self.writer, index, record);
        stored.map_err(|why| Full::new(what, why))?;
        self.moving.insert(key, index);
        let word = Place::Moving { port, vlan, index }.pack().0;
        let local = self.locals.get(key).is_some().then_some(key);
        for key in local.into_iter().chain(stand_in) {
            let stored = self.nodes.insert(&mut self.writer, key, word);
            stored.map_err(|why| Full::new("a node on the move", why))?;
        }
        if let Some(word) = self.locals.get(key).map(PlaceWord) {
            let _ = self.locals.insert(&mut self.writer, key, word.set_on_the_move(true).0);
        }
        Ok(())
    }

    fn free_moving(&mut self) -> Option<u32> {
        let writer = &mut self.writer;
        let at = self.resting_moving.iter().position(|(after, _)| writer.passed(*after))?;
        Some(self.resting_moving.swap_remove(at).1)
    }

    /// A node is on the move no longer. If it is local its frames are delivered as any other's.
    pub fn end_moving(&mut self, net: Net, mac: Mac) {
        let key = node_key(net, mac);
        let Some(index) = self.moving.remove(&key) else { return };
        let stand_in = self.shared.moving.get(&self.writer, index).and_then(|record| record.stand_in);
        if let Some(word) = self.locals.get(key).map(|word| PlaceWord(word).set_on_the_move(false)) {
            let _ = self.locals.insert(&mut self.writer, key, word.0);
            let _ = self.nodes.insert(&mut self.writer, key, word.0);
        }
        if let Some(stand_in) = stand_in {
            self.nodes.remove(&mut self.writer, node_key(net, stand_in));
        }
        self.shared.moving.clear(&mut self.writer, index);
        let after = self.writer.grace();
        self.resting_moving.push((after, index));
    }
}

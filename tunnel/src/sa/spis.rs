//! Which SPIs a host has given out. The control thread has it; the lcores have the SAs.

use crate::{SaIndex, Spi};
use std::collections::VecDeque;

/// The SPIs of a host.
#[derive(Debug)]
pub struct Spis {
    /// The generation of each index, and whether it is given out.
    entries: Vec<Entry>,
    /// Free indexes; the one that is free for longest comes first.
    free: VecDeque<SaIndex>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    generation: u16,
    taken: bool,
}

impl Spis {
    /// So many SPIs at a time, at most [`SaIndex::COUNT`]. The first generation should be random: then frames under
    /// SPIs from before a restart are unknown, and not mistaken for those of new SAs.
    #[must_use]
    pub fn new(indexes: u32, generation: u16) -> Self {
        let free: VecDeque<SaIndex> = (0..indexes.min(SaIndex::COUNT)).filter_map(SaIndex::new).collect();
        let entry = Entry { generation: generation % Spi::GENERATIONS, taken: false };
        Self { entries: vec![entry; free.len()], free }
    }

    /// How many are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes an SPI that no SA has; `None` if all are taken.
    pub fn take(&mut self) -> Option<Spi> {
        let index = self.free.pop_front()?;
        let entry = self.entries.get_mut(index.position())?;
        entry.taken = true;
        Some(Spi::new(index, entry.generation))
    }

    /// Gives back an SPI whose SA is gone from every lcore. Its index comes again in the next generation, behind all
    /// that are free now. An SPI that is not taken is ignored.
    pub fn give_back(&mut self, spi: Spi) {
        let Some(entry) = self.entries.get_mut(spi.index().position()) else { return };
        if entry.taken && entry.generation == spi.generation() {
            *entry = Entry { generation: (entry.generation + 1) % Spi::GENERATIONS, taken: false };
            self.free.push_back(spi.index());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_index_comes_again_in_the_next_generation() {
        let mut spis = Spis::new(2, 511);
        let (a, b) = (spis.take().unwrap(), spis.take().unwrap());
        assert_eq!((a.generation(), spis.take(), spis.free()), (511, None, 0));
        spis.give_back(a);
        spis.give_back(a);
        assert_eq!(spis.free(), 1);
        let again = spis.take().unwrap();
        assert_eq!((again.index(), again.generation()), (a.index(), 0));
        spis.give_back(a);
        assert_eq!((spis.free(), spis.take()), (0, None), "an old SPI frees nothing");
        spis.give_back(b);
        assert_eq!(spis.take().map(Spi::index), Some(b.index()));
    }

    proptest! {
        #[test]
        fn no_spi_is_given_out_twice_at_a_time(
            first: u16, steps in prop::collection::vec(any::<(bool, usize)>(), 1..400),
        ) {
            let mut spis = Spis::new(20, first);
            let mut taken = BTreeSet::new();
            for (take, at) in steps {
                if take {
                    match spis.take() {
                        Some(spi) => prop_assert!(taken.insert(spi)),
                        None => prop_assert_eq!(taken.len(), 20),
                    }
                } else if let Some(spi) = taken.iter().nth(at % 20).copied() {
                    taken.remove(&spi);
                    spis.give_back(spi);
                }
                prop_assert_eq!(spis.free() + taken.len(), 20);
                let indexes: BTreeSet<_> = taken.iter().map(|spi| spi.index()).collect();
                prop_assert_eq!(indexes.len(), taken.len());
            }
        }
    }
}

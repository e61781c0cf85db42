//! Tables filled with stations: number `n` is at host `n % 100`. And random keys, as frames have them.

use super::address;
use std::hint::black_box;
use stopover::tables::{
    Tables, View,
    packed::{Bd, FdbEntry, node_key},
    peer::{IsolationClass, Slot},
};
use stopover_net::{Mac, Vni};

use super::BURST;

/// Station number `n`: consecutive numbers, as usually assigned.
pub fn station(n: u32) -> Mac {
    Mac::from_u64(0x5254_0000_0000 | u64::from(n))
}

/// Numbers from 0 to `nodes` in random order, all equally likely (xorshift64*, Vigna 2016).
#[derive(Debug)]
pub struct Random {
    state: u64,
    nodes: u32,
}

impl Random {
    pub fn new(nodes: u32) -> Self {
        Self { state: 88_172_645_463_325_252, nodes }
    }

    /// Other numbers, for another thread.
    pub fn other(nodes: u32) -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, nodes }
    }

    pub fn next(&mut self) -> u32 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let upper = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((upper * u64::from(self.nodes)) >> 32) as u32
    }
}

/// Keys of a burst, and the words that were found.
#[derive(Debug)]
pub struct Keys {
    pub random: Random,
    pub bd: Bd,
    pub keys: [u64; BURST],
    pub words: [u64; BURST],
}

impl Keys {
    pub fn new(bd: Bd, nodes: u32) -> Self {
        Self { random: Random::new(nodes), bd, keys: [0; BURST], words: [0; BURST] }
    }

    /// Draws new keys.
    #[inline]
    pub fn draw(&mut self) {
        for key in &mut self.keys {
            *key = node_key(self.bd, station(self.random.next()));
        }
    }

    /// Draws keys and looks them up as the packet path does, with a quiescent point after the burst.
    #[inline]
    pub fn run(&mut self, view: &mut View) {
        self.draw();
        view.lookup_nodes(&self.keys, &mut self.words);
        view.quiescent();
        black_box(&self.words);
    }

    /// Panics unless the table has the slot of every node that is drawn.
    pub fn check(&mut self, view: &mut View) {
        for _ in 0..100 {
            self.run(view);
            for (key, word) in self.keys.iter().zip(self.words) {
                let n = *key as u32;
                assert_eq!(word, slot_word(n % 100), "station {n}");
            }
        }
    }
}

/// A slot by its number, which no peer has.
pub fn slot(number: u32) -> Slot {
    Slot::new(number).unwrap()
}

fn slot_word(number: u32) -> u64 {
    FdbEntry::Remote { slot: slot(number), isolation: IsolationClass::default() }.pack().0
}

/// Tables, and the network of their keys.
pub struct Filled {
    pub tables: Tables,
    pub bd: Bd,
}

pub fn filled(nodes: u32) -> (Filled, View) {
    let (mut tables, views) = Tables::new(1).unwrap();
    let bd = tables.bd(Vni::new(100).unwrap()).unwrap();
    for n in 0..nodes {
        tables.set_remote(bd, station(n), slot(n % 100), IsolationClass::default()).unwrap();
    }
    tables.publish();
    (Filled { tables, bd }, views.into_iter().next().unwrap().online())
}

impl Filled {
    /// Gives every node an address.
    pub fn with_addresses(mut self, nodes: u32) -> Self {
        for n in 0..nodes {
            self.tables.set_owner(self.bd, address(n), station(n)).unwrap();
        }
        self.tables.publish();
        self
    }
}

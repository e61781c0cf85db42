//! The candidates for the fast table behind one face, filled alike: station number `n` is at host `n % 100`. Changes
//! move stations between hosts.

use super::address;
use std::hint::black_box;
use stopover::tables::{
    Tables, View,
    words::{Net, Place, node_key},
};
use stopover_candidates::{
    mirrored,
    rte_hash::{self, Dpdk},
};
use stopover_net::{Mac, Vni};

use super::BURST;

/// Station number `n`: consecutive numbers, as they are given out.
pub fn station(n: u32) -> Mac {
    Mac::from_u64(0x5254_0000_0000 | u64::from(n))
}

/// Numbers from 0 to `nodes` in no guessable order, each as likely at any time (xorshift64*, Vigna 2016).
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

/// Keys of a burst, and the words they lead to.
#[derive(Debug)]
pub struct Keys {
    pub random: Random,
    pub net: Net,
    pub keys: [u64; BURST],
    pub words: [u64; BURST],
}

impl Keys {
    pub fn new(net: Net, nodes: u32) -> Self {
        Self { random: Random::new(nodes), net, keys: [0; BURST], words: [0; BURST] }
    }

    /// Draws new keys.
    #[inline]
    pub fn draw(&mut self) {
        for key in &mut self.keys {
            *key = node_key(self.net, station(self.random.next()));
        }
    }

    /// Draws keys and looks them up.
    #[inline]
    pub fn run(&mut self, reader: &mut impl Reader) {
        self.draw();
        reader.lookup(&self.keys, &mut self.words);
        black_box(&self.words);
    }

    /// Panics unless the reader knows the host of every node that is drawn.
    pub fn check(&mut self, reader: &mut impl Reader) {
        for _ in 0..100 {
            self.run(reader);
            for (key, word) in self.keys.iter().zip(self.words) {
                let n = *key as u32;
                assert_eq!(word, host_word(n % 100), "station {n}");
            }
        }
    }
}

/// What leads to a host, as our tables keep it.
fn host_word(host: u32) -> u64 {
    Place::Remote { host }.pack().0
}

/// A table's reading side.
pub trait Reader {
    /// Looks up a burst as the packet path would, a quiescent point or the like included.
    fn lookup(&mut self, keys: &[u64; BURST], words: &mut [u64; BURST]);
}

/// A table's changing side.
pub trait Writer: Send + 'static {
    /// Moves station `n` to a host.
    fn set(&mut self, n: u32, host: u32);
    /// Shows readers what was changed, where that is a step of its own.
    fn publish(&mut self);
}

/// Ours, with the network that its keys belong to.
pub struct Ours {
    pub tables: Tables,
    pub net: Net,
}

pub fn ours(nodes: u32) -> (Ours, View) {
    let (mut tables, views) = Tables::new(1).unwrap();
    let net = tables.net(Vni::new(100).unwrap()).unwrap();
    for n in 0..nodes {
        tables.set_remote(net, station(n), n % 100).unwrap();
    }
    tables.publish();
    (Ours { tables, net }, views.into_iter().next().unwrap().online())
}

impl Ours {
    /// Gives every node an address.
    pub fn with_addresses(mut self, nodes: u32) -> Self {
        for n in 0..nodes {
            self.tables.set_owner(self.net, address(n), station(n)).unwrap();
        }
        self.tables.publish();
        self
    }
}

impl Writer for Ours {
    fn set(&mut self, n: u32, host: u32) {
        self.tables.set_remote(self.net, station(n), host).unwrap();
    }
    fn publish(&mut self) {
        self.tables.publish();
    }
}

impl Reader for View {
    #[inline]
    fn lookup(&mut self, keys: &[u64; BURST], words: &mut [u64; BURST]) {
        self.places(keys, words);
        self.quiescent();
    }
}

fn entries(net: Net, nodes: u32) -> impl Iterator<Item = (u64, u64)> {
    (0..nodes).map(move |n| (node_key(net, station(n)), host_word(n % 100)))
}

pub struct Mirrored(pub mirrored::Writer, Net);

pub fn mirrored(net: Net, nodes: u32) -> (Mirrored, mirrored::Reader) {
    let (writer, reader) = mirrored::new(entries(net, nodes));
    (Mirrored(writer, net), reader)
}

impl Writer for Mirrored {
    fn set(&mut self, n: u32, host: u32) {
        self.0.insert(node_key(self.1, station(n)), host_word(host));
    }
    fn publish(&mut self) {
        self.0.publish();
    }
}

impl Reader for mirrored::Reader {
    #[inline]
    fn lookup(&mut self, keys: &[u64; BURST], words: &mut [u64; BURST]) {
        self.burst(keys, words);
    }
}

/// hashbrown that nobody can change meanwhile: no candidate, but what the others can be compared with.
pub struct Unchanging(pub hashbrown::HashMap<u64, u64>);

pub fn unchanging(net: Net, nodes: u32) -> Unchanging {
    Unchanging(entries(net, nodes).collect())
}

impl Reader for Unchanging {
    #[inline]
    fn lookup(&mut self, keys: &[u64; BURST], words: &mut [u64; BURST]) {
        for (key, word) in keys.iter().zip(words) {
            *word = self.0.get(key).copied().unwrap_or(0);
        }
    }
}

pub struct RteHash(rte_hash::Writer, Net);

/// With a quarter more room than there are keys: `rte_hash` rounds up to a power of two, and 1e6 keys would fill 95 %
/// of the next one, where not every arrangement is found.
pub fn rte_hash(dpdk: Dpdk, net: Net, nodes: u32) -> (RteHash, rte_hash::Reader) {
    let (mut writer, reader) = rte_hash::new(dpdk, nodes / 4 * 5).unwrap();
    for (key, word) in entries(net, nodes) {
        writer.insert(key, word).unwrap();
    }
    (RteHash(writer, net), reader)
}

impl Writer for RteHash {
    fn set(&mut self, n: u32, host: u32) {
        self.0.insert(node_key(self.1, station(n)), host_word(host)).unwrap();
    }
    fn publish(&mut self) {}
}

impl Reader for rte_hash::Reader {
    #[inline]
    fn lookup(&mut self, keys: &[u64; BURST], words: &mut [u64; BURST]) {
        self.bulk(keys, words);
    }
}

/// `rte_hash` with the keys hashed by the caller.
pub struct Hashed(pub rte_hash::Reader);

impl Reader for Hashed {
    #[inline]
    fn lookup(&mut self, keys: &[u64; BURST], words: &mut [u64; BURST]) {
        self.0.bulk_hashed(keys, words);
    }
}

/// DPDK for [`rte_hash`]; without it, as where no huge pages are, that is left out.
pub fn dpdk() -> Option<Dpdk> {
    Dpdk::start().map_err(|why| println!("rte_hash is left out: {why}")).ok()
}

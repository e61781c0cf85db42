//! One host of the model: its endpoint, and the tables of SAs as lcores would have them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use stopover_tunnel::Spi;
use stopover_tunnel::handshake::{Config, Endpoint, NewSa, Now, Random, StaticKey};

/// Random bytes from a seed (splitmix64).
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_be_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// An SA as the model has it: its key and the session it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sa {
    pub session: u32,
    pub key: Vec<u8>,
}

/// What lcores do later.
#[derive(Debug)]
pub enum Later {
    Installed(u32),
    Retired(Vec<Spi>),
}

pub struct Host {
    pub endpoint: Endpoint,
    pub inbound: BTreeMap<Spi, Sa>,
    pub outbound: Vec<(Spi, Sa)>,
    pub later: VecDeque<(u64, Later)>,
    /// The newest session under which frames came since the last report.
    pub received: Option<u32>,
    pub up: bool,
    /// How far the wall clock is behind.
    pub wall_behind_ns: u64,
}

/// The number by which each host knows the other.
pub const PEER: u32 = 7;

pub fn key(host: usize) -> StaticKey {
    StaticKey::new([host as u8 + 1; 32])
}

pub fn address(host: usize) -> SocketAddr {
    ([192, 0, 2, host as u8 + 1], 4789).into()
}

pub fn key_of(sa: &NewSa) -> Vec<u8> {
    [sa.secret.key(), &sa.secret.salt()].concat()
}

impl Host {
    pub fn new(host: usize, config: Config, now: Now, rng: &mut Seeded) -> Self {
        let mut endpoint = Endpoint::new(key(host), config, now, rng);
        endpoint.add_peer(PEER, key(1 - host).public(), address(1 - host), now, &mut Vec::new());
        Self {
            endpoint,
            inbound: BTreeMap::new(),
            outbound: Vec::new(),
            later: VecDeque::new(),
            received: None,
            up: false,
            wall_behind_ns: 0,
        }
    }
}

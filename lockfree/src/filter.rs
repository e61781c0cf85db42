//! A filter in front of a table with few keys and many lookups, such as the lookup of the source of each frame from
//! the underlay among local nodes, which hardly ever finds one. The filter answers by one load. "Yes" may be wrong, and
//! the table confirms it. "No" is right: the writer adds a key before it enters the table, and removes it only after it
//! has left, so a reader that misses it could as well have looked a moment earlier or later.

use crate::sync::{AtomicU64, Ordering};
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// 2^16 bits are 8 KiB: they remain in the nearer caches, and a thousand keys cause one false "yes" in sixty.
const BITS: u32 = 16;
const WORDS: usize = 1 << (BITS - 6);

#[derive(Debug)]
struct Shared {
    words: Box<[AtomicU64; WORDS]>,
    /// Odd and secret, so that a tenant cannot choose many keys with one bit. Two, because one leaves the pattern of
    /// consecutive MAC addresses in the bits.
    multipliers: [u64; 2],
}

impl Shared {
    /// The number of a key's bit, below 2^[`BITS`].
    #[inline]
    const fn bit(&self, key: u64) -> usize {
        let [first, second] = self.multipliers;
        let mixed = key.wrapping_mul(first);
        ((mixed ^ mixed >> 32).wrapping_mul(second) >> (u64::BITS - BITS)) as usize
    }
}

/// The lcores' half.
#[derive(Debug, Clone)]
pub struct FilterReader(Arc<Shared>);

impl FilterReader {
    /// Whether the table may have this key. `false` is certain.
    #[inline]
    #[must_use]
    pub fn may_contain(&self, key: u64) -> bool {
        let bit = self.0.bit(key);
        self.0.words[bit / 64 % WORDS].load(Ordering::Relaxed) >> (bit % 64) & 1 != 0
    }
}

/// The control thread's half.
#[derive(Debug)]
pub struct FilterWriter {
    shared: Arc<Shared>,
    /// How many keys share each bit.
    keys: Box<[u32]>,
}

/// A filter of no keys.
#[must_use]
pub fn new() -> (FilterWriter, FilterReader) {
    let words: Box<[AtomicU64; WORDS]> = Box::new(std::array::from_fn(|_| AtomicU64::new(0)));
    let random = RandomState::new();
    let shared = Arc::new(Shared { words, multipliers: [1, 2].map(|n| random.hash_one(n) | 1) });
    let reader = FilterReader(Arc::clone(&shared));
    (FilterWriter { shared, keys: vec![0; 1 << BITS].into() }, reader)
}

impl FilterWriter {
    /// A key is about to enter the table, where it is not yet.
    pub fn add(&mut self, key: u64) {
        let bit = self.shared.bit(key);
        self.keys[bit] += 1;
        self.shared.words[bit / 64].fetch_or(1 << (bit % 64), Ordering::Release);
    }

    /// A key has left the table.
    pub fn remove(&mut self, key: u64) {
        let bit = self.shared.bit(key);
        self.keys[bit] -= 1;
        if self.keys[bit] == 0 {
            self.shared.words[bit / 64].fetch_and(!(1 << (bit % 64)), Ordering::Release);
        }
    }
}

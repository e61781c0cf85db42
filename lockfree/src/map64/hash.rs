//! The keyed hash of a map. Keyed, because tenants choose MAC addresses: without the key they cannot choose
//! such as crowd one bucket.

use std::hash::{BuildHasher, RandomState};

/// Two folded 64×64→128 bit multiplications by secrets (the mixing step of wyhash and foldhash). One is not
/// enough: MAC addresses are often consecutive, and their products with one number form a lattice that leaves
/// some buckets empty and crowds others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hasher {
    whiten: u64,
    multiply: [u64; 2],
}

impl Hasher {
    /// With a random key from the operating system.
    pub(super) fn random() -> Self {
        let random = RandomState::new();
        Self::keyed(random.hash_one(1), [random.hash_one(2), random.hash_one(3)])
    }

    pub(super) const fn keyed(whiten: u64, multiply: [u64; 2]) -> Self {
        // Odd, with bits set all over the word, whatever the key: a multiplier such as 1 would mix nothing.
        const SPREAD: u64 = 0x8000_0001_0000_8001;
        Self { whiten, multiply: [multiply[0] | SPREAD, multiply[1] | SPREAD] }
    }

    #[inline]
    pub(super) const fn hash(self, key: u64) -> Hash {
        Hash(fold(fold(key ^ self.whiten, self.multiply[0]), self.multiply[1]))
    }
}

/// Upper and lower half of the product, combined.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The hash of one key. Its upper bits choose the segment, its lower half the first bucket, a mix of all the
/// second bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash(pub(super) u64);

impl Hash {
    /// The upper 64 − `shift` bits. `shift` is below 64.
    #[inline]
    pub(super) const fn upper(self, shift: u32) -> usize {
        (self.0 >> shift) as usize
    }

    /// The first-choice bucket out of `buckets`.
    #[inline]
    pub(super) const fn first(self, buckets: usize) -> usize {
        scale(self.0 as u32, buckets)
    }

    /// The second-choice bucket out of `buckets` (at least 2), never the first.
    #[inline]
    pub(super) const fn second(self, buckets: usize) -> usize {
        // An odd multiplier close to 2^64/φ spreads every input bit into the upper half.
        let mixed = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let second = scale(mixed as u32, buckets);
        if second != self.first(buckets) {
            second
        } else if second + 1 < buckets {
            second + 1
        } else {
            0
        }
    }
}

/// Maps 0..2^32 evenly to 0..`buckets` without a division.
#[inline]
const fn scale(fraction: u32, buckets: usize) -> usize {
    ((fraction as u64 * buckets as u64) >> 32) as usize
}

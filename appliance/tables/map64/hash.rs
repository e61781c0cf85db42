//! The keyed hash of a map. Keyed, because tenants choose MAC addresses: without the key nobody can choose
//! such as crowd one bucket.

use std::hash::{BuildHasher, RandomState};

/// One folded 64×64→128 bit multiplication by a secret (the mixing step of wyhash and foldhash).
#[derive(Debug, Clone, Copy)]
pub(super) struct Hasher {
    whiten: u64,
    multiply: u64,
}

impl Hasher {
    /// With a key of its own from the operating system.
    pub(super) fn random() -> Self {
        let random = RandomState::new();
        Self::keyed(random.hash_one(1), random.hash_one(2))
    }

    pub(super) const fn keyed(whiten: u64, multiply: u64) -> Self {
        // Odd, with bits set all over the word, whatever the key: a multiplier such as 1 would mix nothing.
        Self { whiten, multiply: multiply & 0xfffe_ffff_fffe_ffff | 0x8000_0001_0000_8001 }
    }

    #[inline]
    pub(super) const fn hash(self, key: u64) -> Hash {
        let product = (key ^ self.whiten) as u128 * self.multiply as u128;
        Hash(product as u64 ^ (product >> 64) as u64)
    }
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

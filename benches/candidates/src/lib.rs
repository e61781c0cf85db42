//! Tables that could have been the fast table, for benches that compare them with ours: [`rte_hash`], DPDK's own,
//! and [`mirrored`], hashbrown in two copies. Enters: keys and words of 64 bits. Leaves: the same words, to any
//! number of readers, while one writer changes them. No program of Stopover contains any of this.

pub mod mirrored;
pub mod rte_hash;

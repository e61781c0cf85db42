//! Structures that one thread writes and any number of others read without waiting. They do not depend
//! on networking, DPDK or the appliance.
//!
//! `epoch` finds out when no reader uses an old version; the tables depend on it: `map64` (word to word),
//! `map_wide` (three words to word), `slots` (an array of replaceable values), `cell` (one such value).
//! `filter` and `barrier` need no epochs.
//!
//! The unit tests of this crate are models: they run under loom, so this crate's atomics are loom's there
//! (`sync`), and the checked code is the code that runs. Tests with the processor's atomics are in `tests/`.
//!
//! The callers are other crates: functions that run once per frame are generic or `#[inline]`.

pub mod barrier;
pub mod cell;
pub mod epoch;
pub mod filter;
pub mod map64;
pub mod map_wide;
#[cfg(test)]
mod models;
mod prefetch;
pub mod slots;
mod sync;

pub use prefetch::prefetch;

//! The atomics that the tables are built on. One file, because the model checker compiles the very same
//! table sources against loom's atomics instead (`proofs/model/`): no table may name `core::sync::atomic`
//! itself.

pub use core::sync::atomic::{AtomicPtr, AtomicU16, AtomicU64, Ordering, fence};

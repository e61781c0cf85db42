//! Loom's atomics in place of the processor's: see the file of the same name in the tables.

pub use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

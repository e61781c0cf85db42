//! The atomics that this crate is built on. One file, because the unit tests build the very same sources on
//! loom's atomics instead (`models`): no other file may name `core::sync::atomic`.

#[cfg(not(test))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
#[cfg(test)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

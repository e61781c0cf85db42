//! One value that the control thread replaces as a whole and the lcores read without waiting: configuration,
//! flood lists, anything small. Old values are freed when every lcore has passed.
#![allow(unsafe_code)] // an atomic pointer whose pointee is kept alive by the epoch

use crate::{
    epoch::{Domain, Reader, Writer},
    sync::{AtomicPtr, Ordering},
};
use std::fmt;

/// A replaceable value. Share it by reference or `Arc`; the holder of the domain's [`Writer`] may publish.
pub struct Cell<T> {
    /// From `Box::into_raw`, never null.
    current: AtomicPtr<T>,
    domain: Domain,
}

impl<T: Send + Sync + 'static> Cell<T> {
    /// A cell of `writer`'s domain that holds `value`.
    #[must_use]
    pub fn new(writer: &Writer, value: T) -> Self {
        Self { current: AtomicPtr::new(Box::into_raw(Box::new(value))), domain: writer.domain() }
    }

    /// The value. It stays valid, and the same, until the reader's next quiescent point.
    ///
    /// # Panics
    /// If `reader` is of another domain.
    #[inline]
    #[must_use]
    pub fn read<'a>(&'a self, reader: &'a Reader) -> &'a T {
        self.domain.check_reader(reader);
        // SAFETY: the pointer is that of a live box: `publish` retires it into the epoch domain of `reader`,
        // which frees nothing that was reachable since this reader's last quiescent point, and the result
        // borrows both the reader (no quiescent point) and the cell (no drop). Acquire shows its contents.
        unsafe { &*self.current.load(Ordering::Acquire) }
    }

    /// The value as the writer sees it.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    #[must_use]
    pub fn get<'a>(&'a self, writer: &'a Writer) -> &'a T {
        self.domain.check_writer(writer);
        // SAFETY: only `publish` replaces the box and only `reclaim` frees it; both need the writer mutably,
        // and the result borrows it, and the cell.
        unsafe { &*self.current.load(Ordering::Acquire) }
    }

    /// Replaces the value: readers that look from now on see `value`.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn publish(&self, writer: &mut Writer, value: T) {
        self.domain.check_writer(writer);
        let old = self.current.swap(Box::into_raw(Box::new(value)), Ordering::AcqRel);
        // SAFETY: `old` came from `Box::into_raw` and the swap has just made it unreachable.
        unsafe { writer.retire_raw(old) }
    }
}

impl<T> Drop for Cell<T> {
    fn drop(&mut self) {
        // SAFETY: what `read` and `get` return borrows the cell, so that no reader holds the value now.
        drop(unsafe { Box::from_raw(self.current.load(Ordering::Acquire)) });
    }
}

impl<T> fmt::Debug for Cell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").finish_non_exhaustive()
    }
}

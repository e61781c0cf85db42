//! A burst: the unit in which frames travel. A fixed array of owned mbufs, filled by a receive queue or a stage
//! and emptied by a transmit queue; what remains in it when it is dropped returns to its pools at once.

use std::fmt;
use std::ops::{Deref, DerefMut};

use arrayvec::ArrayVec;

use crate::mbuf::Mbuf;
use crate::sys;

/// Frames a burst can hold. Measured on our ports 16 to 64 is flat, and 128 costs several times more.
pub const BURST_MAX: usize = 64;

/// Up to [`BURST_MAX`] owned mbufs in order.
#[derive(Default)]
pub struct Burst(ArrayVec<Mbuf, BURST_MAX>);

impl Burst {
    /// An empty burst.
    #[inline]
    pub const fn new() -> Self {
        Self(ArrayVec::new_const())
    }

    /// How many mbufs still fit.
    #[inline]
    pub fn room(&self) -> usize {
        self.0.remaining_capacity()
    }

    /// Whether none fits any more.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Appends one; a full burst gives it back.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        self.0.try_push(mbuf).map_err(|full| full.element())
    }

    /// Moves all of `more` to the end, if it fits; otherwise nothing.
    #[inline]
    pub fn append(&mut self, more: &mut ArrayVec<Mbuf, BURST_MAX>) -> bool {
        let (len, n) = (self.0.len(), more.len());
        if n > self.room() {
            return false;
        }
        // SAFETY: the first `n` elements of `more` are initialised, and behind `len` there is room for as many. The two
        // are apart, being borrowed mutably. `more` is empty before its elements have their new owner.
        unsafe {
            more.set_len(0);
            std::ptr::copy_nonoverlapping(more.as_ptr(), self.0.as_mut_ptr().add(len), n);
            self.0.set_len(len + n);
        }
        true
    }

    /// Takes the last.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.0.pop()
    }

    /// Takes all, in order. What the iterator has not given out when it is dropped is freed.
    #[inline]
    pub fn drain(&mut self) -> impl ExactSizeIterator<Item = Mbuf> + '_ {
        self.0.drain(..)
    }

    /// The frames themselves, in order, for removal in any way.
    #[inline]
    pub fn frames(&mut self) -> &mut ArrayVec<Mbuf, BURST_MAX> {
        &mut self.0
    }

    /// Keeps those for which `keep` is true, in order; frees the others.
    #[inline]
    pub fn retain(&mut self, keep: impl FnMut(&mut Mbuf) -> bool) {
        self.0.retain(keep);
    }

    /// Frees all.
    #[inline]
    pub fn clear(&mut self) {
        self.free_front(self.0.len());
    }

    /// Frees the first `n` in one call and moves the rest to the front.
    pub(crate) fn free_front(&mut self, n: usize) {
        let n = n.min(self.0.len());
        if n == 0 {
            return;
        }
        // SAFETY: the first n pointers are owned mbufs. They are freed here and forgotten right after, by moving
        // the rest over them; nothing between can panic.
        unsafe {
            self.hand_off_front(n, |mbufs| sys::rte_pktmbuf_free_bulk(mbufs, n as u32));
        }
    }

    /// Shows the pointers to `give`, which takes ownership of the first `n`; the rest moves to the front.
    ///
    /// # Safety
    /// `n <= len`; when `give` returns the first `n` mbufs have another owner (or are freed), and the others are
    /// untouched.
    #[inline]
    unsafe fn hand_off_front(&mut self, n: usize, give: impl FnOnce(*mut *mut sys::rte_mbuf)) {
        let rest = self.0.len() - n;
        let slots = self.0.as_mut_ptr();
        // Empty first: should `give` unwind after all, mbufs leak, which is safe; a double free is not.
        // SAFETY: shortening. The elements from `n` on are restored below.
        unsafe { self.0.set_len(0) };
        give(slots.cast());
        // SAFETY: both ranges lie within the array, and the `rest` elements are still owned, each once.
        unsafe {
            std::ptr::copy(slots.add(n), slots, rest);
            self.0.set_len(rest);
        }
    }

    /// Lends the pointers to `send`, which returns how many of them, from the front, it took over.
    ///
    /// # Safety
    /// `send` gets a pointer to as many mbufs as the burst holds, and must return how many now have
    /// another owner; it must not touch the others.
    #[inline]
    pub(crate) unsafe fn give_front(
        &mut self,
        send: impl FnOnce(*mut *mut sys::rte_mbuf, u16) -> u16,
    ) -> usize {
        let len = self.0.len();
        let given = usize::from(send(self.0.as_mut_ptr().cast(), len as u16)).min(len);
        // SAFETY: the first `given` were taken over by `send` already.
        unsafe { self.hand_off_front(given, |_| ()) };
        given
    }

    /// Has `fill` store up to `limit` mbufs after the present ones.
    ///
    /// # Safety
    /// `fill` gets uninitialised slots and how many they are; it must return how many it stored from the first
    /// on, and each must be an mbuf without another owner.
    #[inline]
    pub(crate) unsafe fn append_raw(
        &mut self,
        limit: usize,
        fill: impl FnOnce(*mut *mut sys::rte_mbuf, u16) -> u16,
    ) -> usize {
        let len = self.0.len();
        let limit = limit.min(self.room());
        // SAFETY: len + limit <= capacity. An Mbuf is a pointer (repr(transparent)), so the slots fit.
        unsafe {
            let stored = usize::from(fill(self.0.as_mut_ptr().add(len).cast(), limit as u16)).min(limit);
            self.0.set_len(len + stored);
            stored
        }
    }
}

impl Drop for Burst {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

impl Deref for Burst {
    type Target = [Mbuf];

    #[inline]
    fn deref(&self) -> &[Mbuf] {
        &self.0
    }
}

impl DerefMut for Burst {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        &mut self.0
    }
}

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

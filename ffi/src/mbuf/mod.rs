//! One frame: a chain of DPDK buffers with one owner. Enters and leaves: bytes, and offloads of the NIC
//! about their checksums. Knows offsets and lengths, not what the bytes mean. Nothing here panics: what the wire
//! may make wrong is answered by `false` or `None`, and leaves the frame as it was.

mod offload;

use std::fmt;

use crate::layout::Segment;
use crate::mempool::{HEADROOM, Mempool};
use crate::sys;

pub use offload::{Csum, IpHeader, L4Offload, RxFlags, TxOffload, Unfinished};

/// An owned frame of one or more segments. Dropping it returns every segment to its pool.
#[repr(transparent)]
pub struct Mbuf(Segment);

// SAFETY: the chain is reached through this owner only, and mempools take buffers back from any thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes over the chain that begins with `head`, of which the caller must be the owner.
    #[inline(always)]
    pub(crate) fn from_segment(head: Segment) -> Self {
        Self(head)
    }

    /// A single-segment frame with these bytes. `None` if the pool is empty or its buffers are too small.
    #[inline]
    pub fn from_slice(pool: &Mempool, bytes: &[u8]) -> Option<Self> {
        let mut mbuf = pool.alloc()?;
        mbuf.extend(bytes.len())?.copy_from_slice(bytes);
        Some(mbuf)
    }

    /// A frame of `len` bytes, which are those of `chunks`, of as many segments as `pool`'s buffers make necessary;
    /// the first has the usual headroom. `None` if the pool has not enough, or the chunks are not `len` bytes; then
    /// nothing is taken from the pool.
    pub fn from_chunks<'a>(
        pool: &Mempool,
        chunks: impl Iterator<Item = &'a [u8]>,
        len: usize,
    ) -> Option<Self> {
        let frame = pool.alloc()?;
        let head = frame.0;
        let mut last = head;
        let mut left = len;
        for mut chunk in chunks {
            left = left.checked_sub(chunk.len())?;
            while !chunk.is_empty() {
                if last.tailroom() == 0 {
                    head.set_nb_segs(head.nb_segs().checked_add(1)?);
                    // From here on the chain owns it.
                    let next = std::mem::ManuallyDrop::new(pool.alloc()?).0;
                    last.set_next_raw(next.raw());
                    last = next;
                }
                let (now, later) = chunk.split_at(chunk.len().min(last.tailroom()));
                let before = last.data_len();
                // SAFETY: `now` fits the tailroom behind the segment's data; the buffer is a fresh one of ours, so it
                // is apart from what the caller lends.
                unsafe {
                    let end = last.data().add(usize::from(before));
                    std::ptr::copy_nonoverlapping(now.as_ptr(), end, now.len());
                }
                last.set_data_len(before + now.len() as u16);
                chunk = later;
            }
        }
        head.set_pkt_len(u32::try_from(len).ok()?);
        (left == 0).then_some(frame)
    }

    /// Bytes of the frame, over all segments.
    #[inline(always)]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.pkt_len() as usize
    }

    /// Number of segments, at least 1.
    #[inline(always)]
    pub fn segments(&self) -> usize {
        usize::from(self.0.nb_segs())
    }

    /// DPDK's number of its ingress port; 65535 for one that was made here.
    #[inline(always)]
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Bytes of the first segment.
    #[inline(always)]
    pub fn head(&self) -> &[u8] {
        slice(self.0)
    }

    /// Bytes of the first segment.
    #[inline(always)]
    pub fn head_mut(&mut self) -> &mut [u8] {
        // SAFETY: data_off + data_len <= buf_len: the range is inside the buffer, whose memory is mapped and
        // initialised. `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.0.data(), usize::from(self.0.data_len())) }
    }

    /// Prefetches the bytes at offset `at` of the frame into the cache; they may be outside
    /// the frame.
    #[inline(always)]
    pub fn prefetch_head(&self, at: isize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch never faults, whatever the address, and changes nothing that a program can see.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                self.0.data().cast_const().wrapping_offset(at).cast(),
            );
        }
    }

    /// The bytes of each segment in order.
    #[inline]
    pub fn segment_slices(&self) -> impl Iterator<Item = &[u8]> + Clone {
        std::iter::successors(Some(self.0), |segment| segment.next()).map(slice)
    }

    /// Free bytes before the frame.
    #[inline(always)]
    pub fn headroom(&self) -> usize {
        usize::from(self.0.data_off())
    }

    /// Free bytes behind the frame, in its last segment.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.0.last().tailroom()
    }

    /// Lengthens the frame by `n` bytes at the front and gives those, with whatever was there. `None` without
    /// enough headroom.
    #[inline]
    pub fn push(&mut self, n: usize) -> Option<&mut [u8]> {
        let off = self.0.data_off();
        let n16 = u16::try_from(n).ok().filter(|n| *n <= off)?;
        self.0.set_data_off(off - n16);
        self.0.set_data_len(self.0.data_len() + n16);
        self.0.set_pkt_len(self.0.pkt_len() + u32::from(n16));
        // SAFETY: the first n bytes of the frame are what was headroom: inside the buffer, mapped and initialised;
        // `&mut self` is the only way to them.
        Some(unsafe { std::slice::from_raw_parts_mut(self.0.data(), n) })
    }

    /// Removes `n` bytes from the front; `false` if the first segment has fewer. If it has just as many and there
    /// are more segments, it remains, empty: [`gather`](Self::gather) fills it.
    #[inline]
    pub fn pull(&mut self, n: usize) -> bool {
        let len = self.0.data_len();
        let Some(n) = u16::try_from(n).ok().filter(|n| *n <= len) else { return false };
        self.0.set_data_off(self.0.data_off() + n);
        self.0.set_data_len(len - n);
        self.0.set_pkt_len(self.0.pkt_len() - u32::from(n));
        true
    }

    /// Makes the frame `len` bytes long by cutting its end; segments behind that are freed. `false` if it is
    /// shorter than that.
    #[inline]
    pub fn truncate(&mut self, len: usize) -> bool {
        if len > self.len() {
            return false;
        }
        let mut left = len;
        let mut segment = self.0;
        let mut segments = 1;
        while left > usize::from(segment.data_len()) {
            left -= usize::from(segment.data_len());
            let Some(next) = segment.next() else { break };
            segment = next;
            segments += 1;
        }
        segment.set_data_len(left as u16);
        let rest = segment.cut();
        self.0.set_nb_segs(segments);
        self.0.set_pkt_len(len as u32);
        drop(rest.map(Self));
        true
    }

    /// Leaves `len` bytes from byte `from` on: [`pull`](Self::pull) and [`truncate`](Self::truncate) in one, for the
    /// price of one where the frame has a single segment. `false` if they are not there, or do not begin in the first
    /// segment.
    #[inline(always)]
    pub fn cut(&mut self, from: usize, len: usize) -> bool {
        let head = self.0;
        let have = usize::from(head.data_len());
        if head.nb_segs() != 1 || from > have || len > have - from {
            return self.cut_chain(from, len);
        }
        head.set_data_off(head.data_off() + from as u16);
        head.set_data_len(len as u16);
        head.set_pkt_len(len as u32);
        true
    }

    #[cold]
    fn cut_chain(&mut self, from: usize, len: usize) -> bool {
        self.pull(from) && self.truncate(len)
    }

    /// Lengthens the frame by `n` bytes at the end and gives those, with whatever was there. `None` if the last
    /// segment has not enough tailroom.
    #[inline]
    pub fn extend(&mut self, n: usize) -> Option<&mut [u8]> {
        let last = self.0.last();
        let n16 = u16::try_from(n).ok().filter(|_| n <= last.tailroom())?;
        let before = last.data_len();
        last.set_data_len(before + n16);
        self.0.set_pkt_len(self.0.pkt_len() + u32::from(n16));
        // SAFETY: the n bytes behind the old end lie within the buffer, by its tailroom; `&mut self` is the only
        // way to them.
        Some(unsafe { std::slice::from_raw_parts_mut(last.data().add(usize::from(before)), n) })
    }

    /// Moves bytes from later segments into the first until it holds `n`, so that headers can be read in one
    /// piece. The headroom remains, unless it takes more than the buffer has without. `false` if the frame is shorter
    /// than that or the first segment's whole buffer is too small.
    #[inline]
    pub fn gather(&mut self, n: usize) -> bool {
        if n <= usize::from(self.0.data_len()) {
            return true;
        }
        if n > self.len() || n > usize::from(self.0.buf_len()) {
            return false;
        }
        self.gather_slow(n)
    }

    #[cold]
    fn gather_slow(&mut self, n: usize) -> bool {
        let head = self.0;
        if n - usize::from(head.data_len()) > head.tailroom() {
            let off = (HEADROOM as u16).min(head.buf_len() - n as u16);
            // SAFETY: data_len < n and off + n <= buf_len: both ranges lie within the head's buffer; they may overlap.
            unsafe {
                std::ptr::copy(
                    head.data(),
                    head.buf_addr().as_ptr().add(usize::from(off)),
                    usize::from(head.data_len()),
                )
            };
            head.set_data_off(off);
        }
        while usize::from(self.0.data_len()) < n {
            let Some(from) = self.0.next() else { return false };
            let have = self.0.data_len();
            let take = from.data_len().min((n - usize::from(have)) as u16);
            // SAFETY: `take` bytes are in `from`, and fit the first segment's tailroom, which was
            // made enough for all of them. Two mbufs have two buffers, so the ranges are apart.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    from.data(),
                    self.0.data().add(usize::from(have)),
                    usize::from(take),
                )
            };
            self.0.set_data_len(have + take);
            from.set_data_off(from.data_off() + take);
            from.set_data_len(from.data_len() - take);
            if from.data_len() == 0 {
                self.0.set_next_raw(from.next_raw());
                self.0.set_nb_segs(self.0.nb_segs().saturating_sub(1));
                from.cut();
                drop(Self(from));
            }
        }
        true
    }

    /// Becomes a single-segment frame of these bytes, with the usual headroom and without offload flags: an
    /// answer in the question's own buffer. `false`, and nothing changed, if they do not fit.
    #[inline]
    pub fn replace(&mut self, bytes: &[u8]) -> bool {
        let head = self.0;
        let off = (HEADROOM as u16).min(head.buf_len());
        if bytes.len() > usize::from(head.buf_len() - off) {
            return false;
        }
        let rest = head.cut();
        head.set_nb_segs(1);
        head.set_data_off(off);
        head.set_data_len(bytes.len() as u16);
        head.set_pkt_len(bytes.len() as u32);
        self.clear_offload();
        self.head_mut().copy_from_slice(bytes);
        drop(rest.map(Self));
        true
    }

    /// A deep copy, of as many segments as `pool`'s buffers make necessary, with the same flags. `None` if the
    /// pool has not enough, or the frame is empty.
    #[inline]
    pub fn copy(&self, pool: &Mempool) -> Option<Self> {
        self.copy_range(pool, 0, self.len())
    }

    /// A deep copy of `len` bytes from `offset` on, with the same flags. `None` if the pool has not enough, the
    /// range is empty, or it is not inside the frame.
    #[inline]
    pub fn copy_range(&self, pool: &Mempool, offset: usize, len: usize) -> Option<Self> {
        if len == 0 || offset.checked_add(len)? > self.len() {
            return None;
        }
        // SAFETY: the chain is live and only read; the range is inside it (so it fits u32); what is returned is a
        // fresh chain without another owner.
        unsafe {
            let raw = sys::rte_pktmbuf_copy(self.0.raw(), pool.raw(), offset as u32, len as u32);
            std::ptr::NonNull::new(raw).map(|raw| Self(Segment::new(raw)))
        }
    }
}

/// The bytes of one segment, for as long as its owner is borrowed.
#[inline(always)]
fn slice<'a>(segment: Segment) -> &'a [u8] {
    // SAFETY: data_off + data_len <= buf_len: the range is inside the segment's buffer, which is mapped and
    // initialised. Callers tie 'a to a borrow of the owning Mbuf, so nothing writes to it meanwhile.
    unsafe { std::slice::from_raw_parts(segment.data(), usize::from(segment.data_len())) }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: self owns the chain, and ends here.
        unsafe { sys::shim_pktmbuf_free(self.0.raw()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mbuf({} bytes in {} segments from port {})", self.len(), self.segments(), self.port())
    }
}

//! Where the fields of DPDK's mbuf lie. Rust does not mirror `struct rte_mbuf` (its shape changes between
//! releases): each field is read and written at the offset the C compiler gave for the installed headers, and a
//! test has C and Rust write and read the same mbuf.

use std::ptr::NonNull;

use crate::sys;

/// A pointer to one live mbuf. Making one is unsafe, using it is not: its maker guarantees that the mbuf stays
/// allocated, has a buffer, and is reached through its owner only, for as long as the value or a copy of it is used.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Segment(NonNull<sys::rte_mbuf>);

macro_rules! fields {
    ($($get:ident $set:ident: $type:ty = $offset:ident;)*) => {$(
        const _: () = assert!(sys::$offset % align_of::<$type>() == 0);
        const _: () = assert!(sys::$offset + size_of::<$type>() <= sys::SHIM_MBUF_SIZE);

        impl Segment {
            #[inline(always)]
            #[allow(dead_code)]
            pub(crate) fn $get(self) -> $type {
                // SAFETY: the mbuf is live (see the type), and the field is inside it, aligned (asserted above).
                unsafe { self.0.as_ptr().byte_add(sys::$offset).cast::<$type>().read() }
            }

            #[inline(always)]
            #[allow(dead_code)]
            pub(crate) fn $set(self, value: $type) {
                // SAFETY: as for reading; the owner alone reaches the mbuf.
                unsafe { self.0.as_ptr().byte_add(sys::$offset).cast::<$type>().write(value) }
            }
        }
    )*};
}

fields! {
    buf_addr set_buf_addr: NonNull<u8> = SHIM_MBUF_BUF_ADDR;
    data_off set_data_off: u16 = SHIM_MBUF_DATA_OFF;
    refcnt set_refcnt: u16 = SHIM_MBUF_REFCNT;
    nb_segs set_nb_segs: u16 = SHIM_MBUF_NB_SEGS;
    port set_port: u16 = SHIM_MBUF_PORT;
    ol_flags set_ol_flags: u64 = SHIM_MBUF_OL_FLAGS;
    pkt_len set_pkt_len: u32 = SHIM_MBUF_PKT_LEN;
    data_len set_data_len: u16 = SHIM_MBUF_DATA_LEN;
    vlan_tci set_vlan_tci: u16 = SHIM_MBUF_VLAN_TCI;
    rss set_rss: u32 = SHIM_MBUF_RSS;
    buf_len set_buf_len: u16 = SHIM_MBUF_BUF_LEN;
    pool set_pool: *mut sys::rte_mempool = SHIM_MBUF_POOL;
    next_raw set_next_raw: *mut sys::rte_mbuf = SHIM_MBUF_NEXT;
    tx_offload set_tx_offload: u64 = SHIM_MBUF_TX_OFFLOAD;
}

const _: () = assert!(size_of::<sys::rte_mbuf>() == sys::SHIM_MBUF_SIZE);

impl Segment {
    /// # Safety
    /// See the type: `raw` is live, and reached through its owner only, while the value is used.
    #[inline(always)]
    pub(crate) unsafe fn new(raw: NonNull<sys::rte_mbuf>) -> Self {
        Self(raw)
    }

    #[inline(always)]
    pub(crate) fn raw(self) -> *mut sys::rte_mbuf {
        self.0.as_ptr()
    }

    /// The next segment of the chain. Lives as long as the chain, so what holds for self holds for it.
    #[inline(always)]
    pub(crate) fn next(self) -> Option<Self> {
        NonNull::new(self.next_raw()).map(Self)
    }

    /// Cuts the chain behind this segment and gives what was behind. The caller corrects the counts.
    #[inline]
    pub(crate) fn cut(self) -> Option<Self> {
        let rest = self.next();
        self.set_next_raw(std::ptr::null_mut());
        rest
    }

    #[inline(always)]
    pub(crate) fn data(self) -> *mut u8 {
        // SAFETY: data_off <= buf_len, so this points into the segment's buffer or to its end.
        unsafe { self.buf_addr().as_ptr().add(usize::from(self.data_off())) }
    }

    #[inline(always)]
    pub(crate) fn tailroom(self) -> usize {
        usize::from(self.buf_len())
            .saturating_sub(usize::from(self.data_off()))
            .saturating_sub(usize::from(self.data_len()))
    }

    #[inline]
    pub(crate) fn last(self) -> Self {
        let mut at = self;
        while let Some(next) = at.next() {
            at = next;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As aligned as a real one, on the stack; no pool behind it.
    #[repr(C, align(64))]
    struct Space([u8; sys::SHIM_MBUF_SIZE]);

    fn view() -> sys::shim_mbuf_view {
        sys::shim_mbuf_view {
            buf_addr: 0x1111_2222_3333_4440 as *mut _,
            data_off: 0x0102,
            refcnt: 0x0304,
            nb_segs: 0x0506,
            port: 0x0708,
            ol_flags: 0x1112_1314_1516_1718,
            pkt_len: 0x2122_2324,
            data_len: 0x3132,
            vlan_tci: 0x3334,
            buf_len: 0x3536,
            rss: 0x4142_4344,
            pool: 0x5151_5252_5353_5440 as *mut _,
            next: 0x6161_6262_6363_6480 as *mut _,
            l2_len: 0x55,
            l3_len: 0x1aa,
            l4_len: 0xc3,
            tso_segsz: 0xbeef,
        }
    }

    fn tx_offload(v: &sys::shim_mbuf_view) -> u64 {
        u64::from(v.l2_len) << sys::SHIM_L2_LEN_SHIFT
            | u64::from(v.l3_len) << sys::SHIM_L3_LEN_SHIFT
            | u64::from(v.l4_len) << sys::SHIM_L4_LEN_SHIFT
            | u64::from(v.tso_segsz) << sys::SHIM_TSO_SEGSZ_SHIFT
    }

    #[test]
    fn rust_reads_what_c_wrote() {
        let mut space = Space([0; sys::SHIM_MBUF_SIZE]);
        let raw = NonNull::from(&mut space).cast::<sys::rte_mbuf>();
        let v = view();
        // SAFETY: `space` has an mbuf's size and alignment, and nothing follows its made-up pointers.
        let m = unsafe {
            sys::shim_mbuf_write(raw.as_ptr(), &v);
            Segment::new(raw)
        };
        assert_eq!(m.buf_addr().as_ptr(), v.buf_addr.cast());
        assert_eq!(
            (m.data_off(), m.refcnt(), m.nb_segs(), m.port()),
            (v.data_off, v.refcnt, v.nb_segs, v.port)
        );
        assert_eq!((m.ol_flags(), m.pkt_len(), m.data_len()), (v.ol_flags, v.pkt_len, v.data_len));
        assert_eq!((m.vlan_tci(), m.buf_len(), m.rss()), (v.vlan_tci, v.buf_len, v.rss));
        assert_eq!((m.pool(), m.next_raw()), (v.pool, v.next));
        assert_eq!(m.tx_offload(), tx_offload(&v));
    }

    #[test]
    fn c_reads_what_rust_wrote() {
        let mut space = Space([0; sys::SHIM_MBUF_SIZE]);
        let raw = NonNull::from(&mut space).cast::<sys::rte_mbuf>();
        let v = view();
        // SAFETY: as above.
        let m = unsafe { Segment::new(raw) };
        m.set_buf_addr(NonNull::new(v.buf_addr.cast()).unwrap());
        m.set_data_off(v.data_off);
        m.set_refcnt(v.refcnt);
        m.set_nb_segs(v.nb_segs);
        m.set_port(v.port);
        m.set_ol_flags(v.ol_flags);
        m.set_pkt_len(v.pkt_len);
        m.set_data_len(v.data_len);
        m.set_vlan_tci(v.vlan_tci);
        m.set_buf_len(v.buf_len);
        m.set_rss(v.rss);
        m.set_pool(v.pool);
        m.set_next_raw(v.next);
        m.set_tx_offload(tx_offload(&v));
        let mut seen = std::mem::MaybeUninit::<sys::shim_mbuf_view>::zeroed();
        // SAFETY: as above; every field of the view is an integer or a raw pointer, for which zero is a value.
        let seen = unsafe {
            sys::shim_mbuf_read(raw.as_ptr(), seen.as_mut_ptr());
            seen.assume_init()
        };
        assert_eq!(
            (seen.buf_addr, seen.data_off, seen.refcnt, seen.nb_segs, seen.port),
            (v.buf_addr, v.data_off, v.refcnt, v.nb_segs, v.port)
        );
        assert_eq!((seen.ol_flags, seen.pkt_len, seen.data_len), (v.ol_flags, v.pkt_len, v.data_len));
        assert_eq!((seen.vlan_tci, seen.buf_len, seen.rss), (v.vlan_tci, v.buf_len, v.rss));
        assert_eq!((seen.pool, seen.next), (v.pool, v.next));
        assert_eq!(
            (seen.l2_len, seen.l3_len, seen.l4_len, seen.tso_segsz),
            (v.l2_len, v.l3_len, v.l4_len, v.tso_segsz)
        );
    }
}

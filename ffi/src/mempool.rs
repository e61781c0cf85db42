//! Pools of mbufs. Enters: sizes. Leaves: mbufs, until the pool is empty; that is normal under load and is
//! `None`, never an error or a panic.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::burst::Burst;
use crate::eal::{Eal, Runtime};
use crate::error::{Error, ErrorKind, c_name};
use crate::layout::Segment;
use crate::mbuf::Mbuf;
use crate::sys;

/// A handle on a pool of mbufs; clones name the same pool. The pool lives until EAL ends.
#[derive(Clone)]
pub struct Mempool {
    raw: NonNull<sys::rte_mempool>,
    _runtime: Arc<Runtime>,
}

// SAFETY: rte_mempool is made for concurrent use: lcores have a cache of their own, other threads go to the
// pool's multi-producer multi-consumer ring.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Creates a pool of `n` mbufs with `data_room` bytes each (headroom of 128 included; testpmd has 2176), of
    /// which every lcore keeps up to `cache` for itself. `socket` is the NUMA node, `None` for any.
    pub fn create(
        eal: &Eal,
        name: &str,
        n: u32,
        cache: u32,
        data_room: u16,
        socket: Option<u32>,
    ) -> Result<Self, Error> {
        let c_name = c_name(name)?;
        let what =
            format!("pool {name} of {n} mbufs with {data_room} bytes each (cache {cache}) was not created");
        let headroom = sys::RTE_PKTMBUF_HEADROOM;
        if u32::from(data_room) <= headroom {
            return Err(Error::new(ErrorKind::Invalid, what)
                .hint(format!("a buffer needs more than {headroom} bytes of headroom")));
        }
        let socket = socket.and_then(|s| i32::try_from(s).ok()).unwrap_or(sys::SHIM_SOCKET_ANY);
        // SAFETY: EAL is up (`eal`), the name is NUL-terminated and copied.
        let raw = unsafe { sys::rte_pktmbuf_pool_create(c_name.as_ptr(), n, cache, 0, data_room, socket) };
        let Some(raw) = NonNull::new(raw) else {
            let error = Error::from_errno(ErrorKind::Refused, what);
            let hint = match error.errno() {
                Some(ENOMEM) => {
                    "fewer mbufs, or more memory for EAL (-m, --socket-mem, /proc/sys/vm/nr_hugepages)"
                }
                Some(EEXIST) => "another pool has this name",
                Some(ENAMETOOLONG) => "a shorter name (up to 25 characters)",
                _ => "the cache must not exceed 512, nor two thirds of the mbufs",
            };
            return Err(error.hint(hint));
        };
        let runtime = eal.runtime();
        runtime.keep(raw);
        Ok(Self { raw, _runtime: runtime })
    }

    /// Mbufs that can be had, those in lcores' caches included. Slow: for reports.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives as long as the runtime that self holds.
        unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Mbufs that are out: owned by the program or lent to a device's rings. Slow: for reports.
    pub fn in_use(&self) -> u32 {
        // SAFETY: as above.
        unsafe { sys::rte_mempool_in_use_count(self.raw.as_ptr()) }
    }

    /// An empty mbuf with the usual headroom; `None` when the pool has none.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives; it returns a fresh mbuf without another owner.
        unsafe {
            NonNull::new(sys::shim_pktmbuf_alloc(self.raw.as_ptr()))
                .map(|raw| Mbuf::from_segment(Segment::new(raw)))
        }
    }

    /// Appends `n` empty mbufs to `burst`, or none if the pool or the burst has no room for all of them.
    #[inline]
    pub fn alloc_bulk(&self, burst: &mut Burst, n: usize) -> bool {
        if n > burst.room() {
            return false;
        }
        // SAFETY: the pool lives; on success `n` fresh mbufs were stored, on failure none.
        let got = unsafe {
            burst.append_raw(n, |slots, n| {
                match sys::shim_pktmbuf_alloc_bulk(self.raw.as_ptr(), slots, u32::from(n)) {
                    0 => n,
                    _ => 0,
                }
            })
        };
        got == n
    }

    pub(crate) fn raw(&self) -> *mut sys::rte_mempool {
        self.raw.as_ptr()
    }

    /// Bytes a frame may have to fit one buffer of this pool, headroom left free.
    pub fn frame_room(&self) -> usize {
        // SAFETY: the pool lives, and was created with a packet pool's private area.
        usize::from(unsafe { sys::shim_pool_data_room(self.raw.as_ptr()) }).saturating_sub(HEADROOM)
    }
}

/// Free bytes before the data of a fresh mbuf.
pub const HEADROOM: usize = sys::RTE_PKTMBUF_HEADROOM as usize;

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mempool({} in use, {} available)", self.in_use(), self.available())
    }
}

const ENOMEM: i32 = 12;
const EEXIST: i32 = 17;
const ENAMETOOLONG: i32 = 36;

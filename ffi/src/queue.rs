//! Queues: where bursts enter and leave. A queue has one owner, who polls it through `&mut self`; it can be sent to
//! the lcore that will own it, but neither cloned nor shared. The kinds of ports have the same queues.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::burst::Burst;
use crate::ethdev::Ethdev;
use crate::mempool::Mempool;
use crate::sys;
use crate::vhost::{Own, Vhost};

/// A receive queue of a started port.
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<dpdk::RxQueue>(); // two lcores would poll it
/// ```
/// ```compile_fail
/// fn cloned<T: Clone>() {}
/// cloned::<dpdk::RxQueue>();
/// ```
/// ```
/// fn sent<T: Send>() {}
/// sent::<dpdk::RxQueue>();
/// sent::<dpdk::TxQueue>();
/// ```
pub struct RxQueue {
    queue: u16,
    of: RxOf,
    _not_sync: PhantomData<std::cell::Cell<()>>,
}

enum RxOf {
    Ethdev { port: u16, device: Arc<Ethdev> },
    Vhost { own: Own, pool: Mempool, device: Arc<Vhost> },
}

impl RxQueue {
    pub(crate) fn of_ethdev(queue: u16, device: Arc<Ethdev>) -> Self {
        Self { queue, of: RxOf::Ethdev { port: device.id(), device }, _not_sync: PhantomData }
    }

    pub(crate) fn of_vhost(queue: u16, pool: Mempool, device: Arc<Vhost>) -> Self {
        Self { queue, of: RxOf::Vhost { own: Own::new(queue), pool, device }, _not_sync: PhantomData }
    }

    /// Its number within the port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// Whether it is a ring that a guest fills.
    pub const fn is_vhost(&self) -> bool {
        matches!(self.of, RxOf::Vhost { .. })
    }

    /// The name of its port's device.
    pub fn device(&self) -> &str {
        match &self.of {
            RxOf::Ethdev { device, .. } => device.name(),
            RxOf::Vhost { device, .. } => device.name(),
        }
    }

    /// Has frames of a guest copied into buffers of `pool` from now on: the one of the lcore that polls the ring. Other
    /// devices receive into the pool that they were configured with.
    pub fn receive_into(&mut self, pool: &Mempool) {
        if let RxOf::Vhost { pool: of_ring, .. } = &mut self.of {
            of_ring.clone_from(pool);
        }
    }

    /// Appends up to `limit` received frames to `burst`, as it has room. Returns how many.
    #[inline]
    pub fn burst(&mut self, burst: &mut Burst, limit: usize) -> usize {
        match &mut self.of {
            // SAFETY: the port remains started while self holds it (see Port::stop); `&mut self` of the only
            // RxQueue for this queue makes this the only poller. DPDK stores mbufs that are the caller's from then on.
            RxOf::Ethdev { port, .. } => unsafe {
                burst.append_raw(limit, |slots, n| sys::shim_rx_burst(*port, self.queue, slots, n))
            },
            RxOf::Vhost { own, pool, device } => device.rings().receive(own, pool, burst, limit),
        }
    }
}

/// A transmit queue of a started port.
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<dpdk::TxQueue>();
/// ```
/// ```compile_fail
/// fn cloned<T: Clone>() {}
/// cloned::<dpdk::TxQueue>();
/// ```
pub struct TxQueue {
    queue: u16,
    of: TxOf,
    _not_sync: PhantomData<std::cell::Cell<()>>,
}

enum TxOf {
    Ethdev(EthdevTx),
    Vhost { own: Own, device: Arc<Vhost> },
}

struct EthdevTx {
    port: u16,
    queue: u16,
    prepare: bool,
    refused: u64,
    device: Arc<Ethdev>,
}

impl TxQueue {
    pub(crate) fn of_ethdev(queue: u16, prepare: bool, device: Arc<Ethdev>) -> Self {
        let of = TxOf::Ethdev(EthdevTx { port: device.id(), queue, prepare, refused: 0, device });
        Self { queue, of, _not_sync: PhantomData }
    }

    pub(crate) fn of_vhost(queue: u16, device: Arc<Vhost>) -> Self {
        Self { queue, of: TxOf::Vhost { own: Own::new(queue), device }, _not_sync: PhantomData }
    }

    /// Its number within the port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// The name of its port's device.
    pub fn device(&self) -> &str {
        match &self.of {
            TxOf::Ethdev(tx) => tx.device.name(),
            TxOf::Vhost { device, .. } => device.name(),
        }
    }

    /// Sends from the front of `burst`. Returns how many frames the device took; the others remain in
    /// `burst`, in order.
    ///
    /// A frame that remains may have changed: drivers write the value that the device needs into the layer 4 checksum
    /// field of a frame with that offload, each time from the headers, so it may be sent again, here or elsewhere.
    /// [`Mbuf::unfinished`](crate::Mbuf::unfinished) describes its bytes until then.
    ///
    /// A frame with an offload that the driver refuses can never be sent: it is freed, and counted by
    /// [`refused`](Self::refused). So frames before = sent + refused meanwhile + frames left.
    #[inline]
    pub fn burst(&mut self, burst: &mut Burst) -> usize {
        match &mut self.of {
            TxOf::Ethdev(tx) => tx.burst(burst),
            TxOf::Vhost { own, device } => device.rings().send(own, burst),
        }
    }

    /// Calls the driver without a frame. A bond's driver sends its own frames (LACP) from such calls, and wants one every
    /// 100 ms, as it wants a call of [`RxQueue::burst`].
    pub fn keep_alive(&mut self) {
        if let TxOf::Ethdev(tx) = &mut self.of {
            // SAFETY: as in `EthdevTx::burst`. No pointer is read for no frame.
            unsafe { sys::shim_tx_burst(tx.port, tx.queue, std::ptr::NonNull::dangling().as_ptr(), 0) };
        }
    }

    /// Whether a frame that another queue of the port is given cannot overtake what this queue took, or took before it
    /// was at `place`. `None` if that is not known. What a NIC has taken counts as sent.
    pub fn has_delivered(&self, place: Option<u16>) -> Option<bool> {
        match &self.of {
            TxOf::Ethdev(_) => Some(true),
            TxOf::Vhost { own, device } => device.rings().has_taken(own, place),
        }
    }

    /// Whether the device takes nothing for a while, since a frame could overtake others within it.
    pub fn settles(&self) -> bool {
        match &self.of {
            TxOf::Ethdev(_) => false,
            TxOf::Vhost { device, .. } => device.rings().settles(),
        }
    }

    /// The place of this queue now, for [`Self::has_delivered`].
    pub fn given(&self) -> u16 {
        match &self.of {
            TxOf::Ethdev(_) => 0,
            TxOf::Vhost { own, device } => device.rings().given(own),
        }
    }

    /// Another number whenever the guest has visibly taken something of what this queue gave it.
    pub fn progress(&self) -> u32 {
        match &self.of {
            TxOf::Ethdev(_) => 0,
            TxOf::Vhost { own, device } => device.rings().progress(own),
        }
    }

    /// Frames freed so far because the driver or the guest cannot take their offload.
    pub fn refused(&self) -> u64 {
        match &self.of {
            TxOf::Ethdev(tx) => tx.refused,
            TxOf::Vhost { own, .. } => own.refused,
        }
    }
}

impl EthdevTx {
    #[inline]
    fn burst(&mut self, burst: &mut Burst) -> usize {
        if !self.prepare {
            // SAFETY: the port remains started while self holds it (see Port::stop); `&mut self` of the
            // only TxQueue for this queue makes this the only sender. DPDK owns the frames it reports as sent.
            return unsafe {
                burst.give_front(|slots, n| sys::shim_tx_burst(self.port, self.queue, slots, n))
            };
        }
        self.prepare_and_send(burst)
    }

    fn prepare_and_send(&mut self, burst: &mut Burst) -> usize {
        let mut sent = 0;
        while !burst.is_empty() {
            let mut good = 0;
            // SAFETY: as in `burst`. Preparing (the pseudo-header sum in the checksum field, and checks) reads and
            // writes the frames and leaves them ours; doing it again for the unsent is harmless.
            let taken = unsafe {
                burst.give_front(|slots, n| {
                    good = sys::shim_tx_prepare(self.port, self.queue, slots, n);
                    sys::shim_tx_burst(self.port, self.queue, slots, good)
                })
            };
            sent += taken;
            if taken < usize::from(good) || burst.is_empty() {
                break;
            }
            burst.free_front(1);
            self.refused += 1;
        }
        sent
    }
}

impl std::fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RxQueue({}:{})", self.device(), self.queue)
    }
}

impl std::fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TxQueue({}:{})", self.device(), self.queue)
    }
}

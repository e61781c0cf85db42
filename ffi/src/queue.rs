//! Queues: where bursts enter and leave. A queue has one owner, who polls it through `&mut self`; it can be sent to
//! the lcore that will own it, but neither cloned nor shared.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::burst::Burst;
use crate::port::PortInner;
use crate::sys;

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
    port: u16,
    queue: u16,
    inner: Arc<PortInner>,
    _not_sync: PhantomData<std::cell::Cell<()>>,
}

impl RxQueue {
    pub(crate) fn new(queue: u16, inner: Arc<PortInner>) -> Self {
        Self { port: inner.id(), queue, inner, _not_sync: PhantomData }
    }

    /// Its number within the port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// DPDK's number of its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of its port's device.
    pub fn device(&self) -> &str {
        self.inner.name()
    }

    /// Appends up to `limit` received frames to `burst`, as it has room. Returns how many.
    #[inline]
    pub fn burst(&mut self, burst: &mut Burst, limit: usize) -> usize {
        // SAFETY: the port remains started while self holds it (see Port::stop); `&mut self` of the only
        // RxQueue for this queue makes this the only poller. DPDK stores mbufs that are the caller's from then on.
        unsafe { burst.append_raw(limit, |slots, n| sys::shim_rx_burst(self.port, self.queue, slots, n)) }
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
    port: u16,
    queue: u16,
    prepare: bool,
    refused: u64,
    inner: Arc<PortInner>,
    _not_sync: PhantomData<std::cell::Cell<()>>,
}

impl TxQueue {
    pub(crate) fn new(queue: u16, prepare: bool, inner: Arc<PortInner>) -> Self {
        Self { port: inner.id(), queue, prepare, refused: 0, inner, _not_sync: PhantomData }
    }

    /// Its number within the port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// DPDK's number of its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of its port's device.
    pub fn device(&self) -> &str {
        self.inner.name()
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

    /// Frames freed so far because the driver refused their offload.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

impl std::fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RxQueue({}:{})", self.inner.name(), self.queue)
    }
}

impl std::fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TxQueue({}:{})", self.inner.name(), self.queue)
    }
}

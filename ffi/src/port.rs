//! Ports: configured devices. Enters: the operator's settings of a device. Leaves: what was granted, its queues,
//! its link, its counters. The port is stopped and closed when it and all its queues are dropped.

mod configure;

use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::device::{DeviceInfo, KernelMtu, Offloads};
use crate::eal::Runtime;
use crate::error::{Error, ErrorKind, clear_log, text};
use crate::event::{EventHandler, PortEvent};
use crate::mempool::Mempool;
use crate::queue::{RxQueue, TxQueue};
use crate::sys;
use crate::vhost::{VhostPort, Watch};

/// The requested settings of a port. The device may give less: see [`Granted`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive queues, at least 1.
    pub rxq: u16,
    /// Transmit queues, at least 1.
    pub txq: u16,
    /// Descriptors per receive queue.
    pub rxd: u16,
    /// Descriptors per transmit queue.
    pub txd: u16,
    /// Bytes of payload per frame; `None`: the driver's default.
    pub mtu: Option<u16>,
    /// Receive frames for any unicast address.
    pub promiscuous: bool,
    /// Receive frames for any multicast address (IPv6 neighbour discovery needs it where not promiscuous).
    pub all_multicast: bool,
    /// Offloads to use if the device has them. `rss` is used with more than one receive queue only, and
    /// `scatter` where a frame may exceed a buffer.
    pub offloads: Offloads,
}

impl Default for PortConfig {
    /// testpmd's sizes: one queue each way, 512 descriptors; every offload that the device has.
    fn default() -> Self {
        let offloads = Offloads {
            rx_ip_csum: true,
            rx_l4_csum: true,
            tx_ip_csum: true,
            tx_l4_csum: true,
            tso: true,
            multi_segs: true,
            scatter: true,
            rss: true,
        };
        Self {
            rxq: 1,
            txq: 1,
            rxd: 512,
            txd: 512,
            mtu: None,
            promiscuous: false,
            all_multicast: true,
            offloads,
        }
    }
}

/// The part of a [`PortConfig`] that a device granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Receive queues.
    pub rxq: u16,
    /// Transmit queues.
    pub txq: u16,
    /// Descriptors per receive queue.
    pub rxd: u16,
    /// Descriptors per transmit queue.
    pub txd: u16,
    /// MTU in bytes; never more than was wanted.
    pub mtu: u16,
    /// Offloads in use.
    pub offloads: Offloads,
}

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkState {
    /// Whether it is up; for vhost-user: whether the other side is connected and ready.
    pub up: bool,
    /// Speed in Mbit/s, where known.
    pub speed_mbps: Option<u32>,
    /// Full duplex.
    pub full_duplex: bool,
}

/// The device's own counters since its start or [`Port::reset_stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct PortStats {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    /// Dropped by the device because they were not read in time.
    pub rx_missed: u64,
    pub rx_errors: u64,
    /// Not received for lack of mbufs.
    pub rx_nombuf: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
}

/// The queues of a started port, each for one lcore.
#[derive(Default)]
pub struct Queues {
    /// Receive queues by number.
    pub rx: Vec<RxQueue>,
    /// Transmit queues by number.
    pub tx: Vec<TxQueue>,
}

/// A configured device. Its methods may be called from any thread; they are not for the data path.
pub struct Port {
    inner: Arc<PortInner>,
    granted: Granted,
    wants: PortConfig,
    info: DeviceInfo,
}

impl Port {
    /// Starts the port and returns its queues. Frames wait in the device until they are polled.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while it is started.
    pub fn start(&self) -> Result<Queues, Error> {
        let mut started = self.inner.lock();
        if *started {
            return Err(Error::new(ErrorKind::Busy, format!("port {} is started already", self.name())));
        }
        clear_log();
        let id = self.inner.id;
        // SAFETY: configured, with all queues set up. No queue handle exists: `stop` and this see to it.
        self.inner.check("start", unsafe { sys::rte_eth_dev_start(id) })?;
        *started = true;
        let tolerate = |what: &str, rc: c_int| match rc {
            // A device that filters nothing has nothing to switch off.
            ENOTSUP => Ok(()),
            rc => self.inner.check(what, rc),
        };
        if self.wants.promiscuous {
            // SAFETY: a started device.
            tolerate("promiscuous mode", unsafe { sys::rte_eth_promiscuous_enable(id) })?;
        }
        if self.wants.all_multicast {
            // SAFETY: a started device.
            tolerate("all-multicast mode", unsafe { sys::rte_eth_allmulticast_enable(id) })?;
        }
        let prepare =
            self.granted.offloads.tx_l4_csum || self.granted.offloads.tx_ip_csum || self.granted.offloads.tso;
        Ok(Queues {
            rx: (0..self.granted.rxq).map(|q| RxQueue::new(q, self.inner.clone())).collect(),
            tx: (0..self.granted.txq).map(|q| TxQueue::new(q, prepare, self.inner.clone())).collect(),
        })
    }

    /// Stops the port; [`start`](Self::start) gives out new queues.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while a queue of it exists: its lcore may be polling.
    pub fn stop(&self) -> Result<(), Error> {
        let mut started = self.inner.lock();
        if Arc::strong_count(&self.inner) > 1 {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("port {}: its queues are still in use", self.name()),
            ));
        }
        if *started {
            // SAFETY: no queue handle exists (only Port and the queues hold `inner`, and new queues come from
            // `start`, which waits for this lock), so no thread polls.
            self.inner.check("stop", unsafe { sys::rte_eth_dev_stop(self.inner.id) })?;
            *started = false;
        }
        Ok(())
    }

    /// DPDK's number for it.
    pub fn id(&self) -> u16 {
        self.inner.id
    }

    /// The name of its device.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What the device granted.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// The driver's description of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The link now, without waiting for it.
    pub fn link(&self) -> LinkState {
        let _control = self.inner.lock();
        let mut link = sys::shim_link { up: 0, full_duplex: 0, speed_mbps: 0 };
        // SAFETY: an open device; `link` is ours.
        if unsafe { sys::shim_link(self.inner.id, &mut link) } != 0 {
            return LinkState::default();
        }
        LinkState {
            up: link.up != 0,
            speed_mbps: (link.speed_mbps != 0).then_some(link.speed_mbps),
            full_duplex: link.full_duplex != 0,
        }
    }

    /// Its MAC address.
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        let mut mac = [0; 6];
        // SAFETY: an open device; six bytes are written.
        self.inner.check("MAC address", unsafe { sys::shim_mac(self.inner.id, mac.as_mut_ptr()) })?;
        Ok(mac)
    }

    /// The MTU in force, in bytes.
    pub fn mtu(&self) -> Result<u16, Error> {
        self.inner.mtu()
    }

    /// Changes the MTU; many drivers allow it while the port is stopped only.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let _control = self.inner.lock();
        let rc = match self.inner.kernel_mtu {
            Some(kernel) => kernel.set(mtu),
            // SAFETY: an open device.
            None => unsafe { sys::rte_eth_dev_set_mtu(self.inner.id, mtu) },
        };
        self.inner.check(&format!("MTU {mtu}"), rc)
    }

    /// The device's counters.
    pub fn stats(&self) -> Result<PortStats, Error> {
        let _control = self.inner.lock();
        let mut raw = std::mem::MaybeUninit::<sys::shim_stats>::zeroed();
        // SAFETY: an open device; `raw` is ours, and all zeroes is a value of it.
        let (rc, raw) = unsafe { (sys::shim_stats(self.inner.id, raw.as_mut_ptr()), raw.assume_init()) };
        self.inner.check("counters", rc)?;
        Ok(PortStats {
            rx_packets: raw.rx_packets,
            rx_bytes: raw.rx_bytes,
            rx_missed: raw.rx_missed,
            rx_errors: raw.rx_errors,
            rx_nombuf: raw.rx_nombuf,
            tx_packets: raw.tx_packets,
            tx_bytes: raw.tx_bytes,
            tx_errors: raw.tx_errors,
        })
    }

    /// Every counter the driver has, by its own name.
    pub fn xstats(&self) -> Result<Vec<(String, u64)>, Error> {
        let _control = self.inner.lock();
        let id = self.inner.id;
        // SAFETY: an open device; a null array asks for the size.
        let count = unsafe { sys::rte_eth_xstats_get_names(id, std::ptr::null_mut(), 0) };
        let Ok(size) = usize::try_from(count) else {
            return self.inner.check("extended counters", count).map(|()| Vec::new());
        };
        let mut names = vec![sys::rte_eth_xstat_name { name: [0; 64] }; size];
        let mut values = vec![sys::rte_eth_xstat { id: 0, value: 0 }; size];
        // SAFETY: both arrays have `size` elements, as they say.
        let (named, valued) = unsafe {
            (
                sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), size as u32),
                sys::rte_eth_xstats_get(id, values.as_mut_ptr(), size as u32),
            )
        };
        self.inner.check("names of extended counters", named.min(0))?;
        self.inner.check("extended counters", valued.min(0))?;
        let filled = usize::try_from(valued).unwrap_or(0).min(size);
        let name_of = |x: &sys::rte_eth_xstat| names.get(usize::try_from(x.id).ok()?).map(|n| text(&n.name));
        Ok(values[..filled].iter().filter_map(|x| Some((name_of(x)?, x.value))).collect())
    }

    /// Sets the device's counters to zero, where the driver can.
    pub fn reset_stats(&self) -> Result<(), Error> {
        let _control = self.inner.lock();
        // SAFETY: an open device.
        unsafe {
            // Resets the basic counters too; a driver without xstats returns an error.
            sys::rte_eth_xstats_reset(self.inner.id);
            self.inner.check("reset of counters", sys::rte_eth_stats_reset(self.inner.id))
        }
    }

    /// The state of a vhost-user port; `None` for any other, and if DPDK does not allow to read it.
    pub fn vhost(&self) -> Option<VhostPort> {
        if self.info.driver == "net_vhost" { VhostPort::new(&self.inner) } else { None }
    }

    /// Has `handler` called on link changes and, for vhost-user, queue changes. It runs on a thread of DPDK: it should
    /// only wake a thread, and must not call this port. Once per port.
    ///
    /// For vhost-user that is the one thread (`vhost-events`) that serves every vhost-user connection of the process:
    /// it calls while it handles the other side's message, with [`link`](Self::link) already changed, and all of them
    /// wait until the handler returns.
    ///
    /// - *Up*, once, when the last ring has been set up and enabled; a guest's driver does that, so a VM that still
    ///   boots is not up.
    /// - *Down*, once, when the first ring is stopped (`GET_VRING_BASE`: a migration's source, a guest's reset, a VM
    ///   that is paused), or the connection breaks. The driver waits for bursts under way first: when the handler is
    ///   called no ring takes or gives any more, and what it took before is in the guest's memory.
    /// - Rings that start again (a migration that failed) are an *up*.
    ///
    /// Between message and call there is nothing but that thread's wake-up (some 100 us; a connection that breaks: some
    /// milliseconds, measured with DPDK 22.11), and the other side's message is answered after the call: the far end
    /// of a migration does not start before the near end is notified.
    pub fn on_event(&self, handler: impl Fn(PortEvent) + Send + Sync + 'static) -> Result<(), Error> {
        let mut slot = self.inner.handler.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("port {} has an event handler already", self.name()),
            ));
        }
        let handler = slot.insert(EventHandler::new(self.inner.id, Box::new(handler)));
        self.inner.check("event handler", handler.register())
    }
}

/// What a port and its queues share; the last of them stops and closes the device.
pub(crate) struct PortInner {
    id: u16,
    name: String,
    /// Whether it is started. Held during every call that ethdev does not allow two threads to make at once.
    started: Mutex<bool>,
    handler: Mutex<Option<EventHandler>>,
    vhost: OnceLock<Option<Watch>>,
    kernel_mtu: Option<KernelMtu>,
    _pool: Mempool,
    _runtime: Arc<Runtime>,
}

impl PortInner {
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn vhost(&self) -> &OnceLock<Option<Watch>> {
        &self.vhost
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, bool> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, what: &str, rc: c_int) -> Result<(), Error> {
        if rc < 0 {
            Err(Error::from_rc(format!("port {}: {what}", self.name), rc).with_log())
        } else {
            Ok(())
        }
    }

    fn mtu(&self) -> Result<u16, Error> {
        if let Some(mtu) = self.kernel_mtu.and_then(KernelMtu::get) {
            return Ok(mtu);
        }
        let mut mtu = 0;
        // SAFETY: an open device; `mtu` is ours.
        self.check("MTU", unsafe { sys::rte_eth_dev_get_mtu(self.id, &mut mtu) })?;
        Ok(mtu)
    }
}

impl Drop for PortInner {
    fn drop(&mut self) {
        let started = *self.started.get_mut().unwrap_or_else(PoisonError::into_inner);
        if started {
            // SAFETY: neither port nor queue is left: no thread polls or calls.
            unsafe { sys::rte_eth_dev_stop(self.id) };
        }
        drop(self.handler.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.vhost.take());
        // SAFETY: stopped, and without owner. Its receive buffers return to the pool, which self still holds.
        unsafe { sys::rte_eth_dev_close(self.id) };
    }
}

const ENOMEM: c_int = 12;
const EINVAL: c_int = 22;
/// As DPDK returns it: negated.
const ENOTSUP: c_int = -95;

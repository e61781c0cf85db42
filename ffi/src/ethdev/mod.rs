//! Ethdev ports: any device that a DPDK driver serves. Enters: a device and its requested settings (`configure`).
//! Leaves: its queues, its link, its counters. It is stopped and closed when it and all its queues are dropped.

mod configure;

use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::KernelMtu;
use crate::eal::Runtime;
use crate::error::{Error, ErrorKind, clear_log, text};
use crate::event::{EventHandler, Handler};
use crate::mempool::Mempool;
use crate::port::{Driver, Granted, LinkState, PortStats, Queues};
use crate::queue::{RxQueue, TxQueue};
use crate::sys;

/// What a port and its queues share; the last of them stops and closes the device.
pub(crate) struct Ethdev {
    id: u16,
    name: String,
    /// Whether it is started. Held during every call that ethdev does not allow two threads to make at once.
    started: Mutex<bool>,
    handler: Mutex<Option<EventHandler>>,
    kernel_mtu: Option<KernelMtu>,
    promiscuous: bool,
    all_multicast: bool,
    _pool: Mempool,
    _runtime: Arc<Runtime>,
}

impl Ethdev {
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, what: &str, rc: c_int) -> Result<(), Error> {
        if rc < 0 {
            Err(Error::from_rc(format!("port {}: {what}", self.name), rc).with_log())
        } else {
            Ok(())
        }
    }

    fn granted_mtu(&self) -> Result<u16, Error> {
        if let Some(mtu) = self.kernel_mtu.and_then(KernelMtu::get) {
            return Ok(mtu);
        }
        let mut mtu = 0;
        // SAFETY: an open device; `mtu` is ours.
        self.check("MTU", unsafe { sys::rte_eth_dev_get_mtu(self.id, &mut mtu) })?;
        Ok(mtu)
    }

    /// Switches on what was wanted beside the port's own address.
    fn receive_wanted(&self) -> Result<(), Error> {
        let tolerate = |what: &str, rc: c_int| match rc {
            // A device that filters nothing has nothing to switch off.
            ENOTSUP => Ok(()),
            rc => self.check(what, rc),
        };
        if self.promiscuous {
            // SAFETY: a started device.
            tolerate("promiscuous mode", unsafe { sys::rte_eth_promiscuous_enable(self.id) })?;
        }
        if self.all_multicast {
            // SAFETY: a started device.
            tolerate("all-multicast mode", unsafe { sys::rte_eth_allmulticast_enable(self.id) })?;
        }
        Ok(())
    }
}

impl Driver for Ethdev {
    fn start(self: Arc<Self>, granted: &Granted) -> Result<Queues, Error> {
        let mut started = self.lock();
        if *started {
            return Err(Error::new(ErrorKind::Busy, format!("port {} is started already", self.name)));
        }
        clear_log();
        // SAFETY: configured, with all queues set up. No queue handle exists: `stop` and this see to it.
        self.check("start", unsafe { sys::rte_eth_dev_start(self.id) })?;
        *started = true;
        self.receive_wanted()?;
        let offloads = granted.offloads;
        let prepare = offloads.tx_l4_csum || offloads.tx_ip_csum || offloads.tso;
        Ok(Queues {
            rx: (0..granted.rxq).map(|q| RxQueue::of_ethdev(q, self.clone())).collect(),
            tx: (0..granted.txq).map(|q| TxQueue::of_ethdev(q, prepare, self.clone())).collect(),
        })
    }

    fn stop(&self, has_queues: &dyn Fn() -> bool) -> Result<(), Error> {
        let mut started = self.lock();
        if has_queues() {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("port {}: its queues are still in use", self.name),
            ));
        }
        if *started {
            // SAFETY: no queue handle exists (only Port and the queues hold `self`, and new queues come from
            // `start`, which waits for this lock), so no thread polls.
            self.check("stop", unsafe { sys::rte_eth_dev_stop(self.id) })?;
            *started = false;
        }
        Ok(())
    }

    fn id(&self) -> u16 {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn link(&self) -> LinkState {
        let _control = self.lock();
        let mut link = sys::shim_link { up: 0, full_duplex: 0, speed_mbps: 0 };
        // SAFETY: an open device; `link` is ours.
        if unsafe { sys::shim_link(self.id, &mut link) } != 0 {
            return LinkState::default();
        }
        LinkState {
            up: link.up != 0,
            speed_mbps: (link.speed_mbps != 0).then_some(link.speed_mbps),
            full_duplex: link.full_duplex != 0,
        }
    }

    fn mac(&self) -> Result<[u8; 6], Error> {
        let mut mac = [0; 6];
        // SAFETY: an open device; six bytes are written.
        self.check("MAC address", unsafe { sys::shim_mac(self.id, mac.as_mut_ptr()) })?;
        Ok(mac)
    }

    fn mtu(&self) -> Result<u16, Error> {
        self.granted_mtu()
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let _control = self.lock();
        let rc = match self.kernel_mtu {
            Some(kernel) => kernel.set(mtu),
            // SAFETY: an open device.
            None => unsafe { sys::rte_eth_dev_set_mtu(self.id, mtu) },
        };
        self.check(&format!("MTU {mtu}"), rc)
    }

    fn stats(&self) -> Result<PortStats, Error> {
        let _control = self.lock();
        let mut raw = std::mem::MaybeUninit::<sys::shim_stats>::zeroed();
        // SAFETY: an open device; `raw` is ours, and all zeroes is a value of it.
        let (rc, raw) = unsafe { (sys::shim_stats(self.id, raw.as_mut_ptr()), raw.assume_init()) };
        self.check("counters", rc)?;
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

    fn xstats(&self) -> Result<Vec<(String, u64)>, Error> {
        let _control = self.lock();
        let id = self.id;
        // SAFETY: an open device; a null array asks for the size.
        let count = unsafe { sys::rte_eth_xstats_get_names(id, std::ptr::null_mut(), 0) };
        let Ok(size) = usize::try_from(count) else {
            return self.check("extended counters", count).map(|()| Vec::new());
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
        self.check("names of extended counters", named.min(0))?;
        self.check("extended counters", valued.min(0))?;
        let filled = usize::try_from(valued).unwrap_or(0).min(size);
        let name_of = |x: &sys::rte_eth_xstat| names.get(usize::try_from(x.id).ok()?).map(|n| text(&n.name));
        Ok(values[..filled].iter().filter_map(|x| Some((name_of(x)?, x.value))).collect())
    }

    fn reset_stats(&self) -> Result<(), Error> {
        let _control = self.lock();
        // SAFETY: an open device.
        unsafe {
            // Resets the basic counters too; a driver without xstats returns an error.
            sys::rte_eth_xstats_reset(self.id);
            self.check("reset of counters", sys::rte_eth_stats_reset(self.id))
        }
    }

    fn on_event(&self, handler: Handler) -> Result<(), Error> {
        let mut slot = self.handler.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("port {} has an event handler already", self.name),
            ));
        }
        let handler = slot.insert(EventHandler::new(self.id, handler));
        self.check("event handler", handler.register())
    }
}

impl Drop for Ethdev {
    fn drop(&mut self) {
        let started = *self.started.get_mut().unwrap_or_else(PoisonError::into_inner);
        if started {
            // SAFETY: neither port nor queue is left: no thread polls or calls.
            unsafe { sys::rte_eth_dev_stop(self.id) };
        }
        drop(self.handler.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        // SAFETY: stopped, and without owner. Its receive buffers return to the pool, which self still holds.
        unsafe { sys::rte_eth_dev_close(self.id) };
    }
}

const ENOMEM: c_int = 12;
const EINVAL: c_int = 22;
/// As DPDK returns it: negated.
const ENOTSUP: c_int = -95;

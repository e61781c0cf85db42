//! Ethdev ports: any device that a DPDK driver serves. Enters: a device and its requested settings (`configure`).
//! Leaves: its queues, its link, its counters. It is stopped and closed when it and all its queues are dropped, or before
//! (`lifecycle`); it is reset there, too.

mod configure;
mod lifecycle;

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::{Claim, KernelMtu};
use crate::eal::Runtime;
use crate::error::{Error, ErrorKind, clear_log, text};
use crate::event::{EventHandler, Handler, PortEvent};
use crate::mempool::Mempool;
use crate::port::{Driver, Granted, LinkState, PortStats, Queues};
use crate::queue::{RxQueue, TxQueue};
use crate::sys;
use configure::Settings;

/// What a port and its queues share; the last of them stops and closes the device.
pub(crate) struct Ethdev {
    id: u16,
    name: String,
    /// Held during every call that ethdev does not allow two threads to make at once.
    life: Mutex<Life>,
    /// The driver repairs the device: DPDK allows no control function.
    recovering: Arc<AtomicBool>,
    handler: Mutex<Option<EventHandler>>,
    settings: Settings,
    /// Its address, which it keeps over a reset.
    mac: Mutex<[u8; 6]>,
    /// What it counted when it was last asked. Stays when it can no longer be asked.
    counted: Mutex<PortStats>,
    kernel_mtu: Option<KernelMtu>,
    promiscuous: bool,
    all_multicast: bool,
    pool: Mempool,
    _runtime: Arc<Runtime>,
}

/// What a device is just now.
struct Life {
    is_started: bool,
    /// Not after a reset that has failed: drivers may have nothing left then of what functions ask for.
    is_configured: bool,
    /// `None`: it is closed.
    claim: Option<Claim>,
}

impl Ethdev {
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the device may be asked now.
    fn answers(&self, life: &Life) -> bool {
        life.claim.is_some() && life.is_configured && !self.recovering.load(Ordering::Acquire)
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
        let mut life = self.lock();
        self.usable(&life)?;
        if life.is_started {
            return Err(Error::new(ErrorKind::Busy, format!("port {} is started already", self.name)));
        }
        clear_log();
        // SAFETY: configured, with all queues set up. No queue handle exists: `stop` and this see to it.
        self.check("start", unsafe { sys::rte_eth_dev_start(self.id) })?;
        life.is_started = true;
        self.receive_wanted()?;
        let offloads = granted.offloads;
        let prepare = offloads.tx_l4_csum || offloads.tx_ip_csum || offloads.tso;
        Ok(Queues {
            rx: (0..granted.rxq).map(|q| RxQueue::of_ethdev(q, self.clone())).collect(),
            tx: (0..granted.txq).map(|q| TxQueue::of_ethdev(q, prepare, self.clone())).collect(),
        })
    }

    fn stop(&self, has_queues: &dyn Fn() -> bool) -> Result<(), Error> {
        let mut life = self.lock();
        self.without_queues(&life, has_queues)?;
        self.stop_device(&mut life)
    }

    fn reset(&self, has_queues: &dyn Fn() -> bool) -> Result<(), Error> {
        self.reset_device(has_queues)
    }

    fn close(&self, has_queues: &dyn Fn() -> bool) -> Result<(), Error> {
        self.close_device(has_queues)
    }

    fn is_removed(&self) -> bool {
        let life = self.lock();
        // SAFETY: an open device.
        self.answers(&life) && unsafe { sys::rte_eth_dev_is_removed(self.id) } != 0
    }

    fn id(&self) -> u16 {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn link(&self) -> LinkState {
        let life = self.lock();
        if !self.answers(&life) {
            return LinkState::default();
        }
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
        let life = self.lock();
        if self.answers(&life) {
            return self.read_mac();
        }
        Ok(*self.mac.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_mac(&self, mac: [u8; 6]) -> Result<(), Error> {
        let life = self.lock();
        self.usable(&life)?;
        self.write_mac(mac)?;
        *self.mac.lock().unwrap_or_else(PoisonError::into_inner) = mac;
        Ok(())
    }

    fn mtu(&self) -> Result<u16, Error> {
        self.usable(&self.lock())?;
        self.granted_mtu()
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let life = self.lock();
        self.usable(&life)?;
        let rc = match self.kernel_mtu {
            Some(kernel) => kernel.set(mtu),
            // SAFETY: an open device.
            None => unsafe { sys::rte_eth_dev_set_mtu(self.id, mtu) },
        };
        self.check(&format!("MTU {mtu}"), rc)
    }

    fn stats(&self) -> Result<PortStats, Error> {
        let life = self.lock();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.answers(&life) {
            return Ok(*counted);
        }
        let mut raw = std::mem::MaybeUninit::<sys::shim_stats>::zeroed();
        // SAFETY: an open device; `raw` is ours, and all zeroes is a value of it.
        let (rc, raw) = unsafe { (sys::shim_stats(self.id, raw.as_mut_ptr()), raw.assume_init()) };
        self.check("counters", rc)?;
        *counted = PortStats {
            rx_packets: raw.rx_packets,
            rx_bytes: raw.rx_bytes,
            rx_missed: raw.rx_missed,
            rx_errors: raw.rx_errors,
            rx_nombuf: raw.rx_nombuf,
            tx_packets: raw.tx_packets,
            tx_bytes: raw.tx_bytes,
            tx_errors: raw.tx_errors,
        };
        Ok(*counted)
    }

    fn xstats(&self) -> Result<Vec<(String, u64)>, Error> {
        let life = self.lock();
        if !self.answers(&life) {
            return Ok(Vec::new());
        }
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
        let life = self.lock();
        self.usable(&life)?;
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
        let recovering = Arc::clone(&self.recovering);
        let handler: Handler = Box::new(move |event| {
            match event {
                PortEvent::Recovering => recovering.store(true, Ordering::Release),
                PortEvent::Recovered | PortEvent::RecoveryFailed => {
                    recovering.store(false, Ordering::Release)
                }
                _ => {}
            }
            handler(event);
        });
        let handler = slot.insert(EventHandler::new(self.id, handler));
        self.check("event handler", handler.register())
    }
}

impl Drop for Ethdev {
    fn drop(&mut self) {
        let life = self.life.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(_claim) = life.claim.take() else { return };
        if life.is_started {
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

//! Ports: configured devices. Enters: the operator's settings of a device. Leaves: what was granted, its queues,
//! its link, its counters. The port is stopped and closed when it and all its queues are dropped.
//!
//! A port is an ethdev (`ethdev`: any DPDK driver) or a vhost-user socket (`vhost`); this file is what both have.

use std::sync::Arc;

use crate::device::{DeviceInfo, Offloads};
use crate::error::{Error, ErrorKind};
use crate::event::{Handler, PortEvent};
use crate::queue::{RxQueue, TxQueue};
use crate::vhost::VhostPort;

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

/// What the kinds of ports do, each in its way. For the control thread; may be called from any.
pub(crate) trait Driver: Send + Sync {
    fn start(self: Arc<Self>, granted: &Granted) -> Result<Queues, Error>;
    /// `has_queues` is asked while no queue can be made: whether there are owners beside the port itself.
    fn stop(&self, has_queues: &dyn Fn() -> bool) -> Result<(), Error>;
    /// As [`Port::reset`].
    fn reset(&self, _has_queues: &dyn Fn() -> bool) -> Result<(), Error> {
        Err(self.no_device())
    }
    /// As [`Port::close`].
    fn close(&self, _has_queues: &dyn Fn() -> bool) -> Result<(), Error> {
        Err(self.no_device())
    }
    /// As [`Port::is_removed`].
    fn is_removed(&self) -> bool {
        false
    }
    fn id(&self) -> u16;
    fn name(&self) -> &str;
    fn link(&self) -> LinkState;
    fn mac(&self) -> Result<[u8; 6], Error>;
    fn set_mac(&self, _mac: [u8; 6]) -> Result<(), Error> {
        Err(self.no_device())
    }
    fn mtu(&self) -> Result<u16, Error>;
    fn set_mtu(&self, mtu: u16) -> Result<(), Error>;
    fn stats(&self) -> Result<PortStats, Error>;
    fn xstats(&self) -> Result<Vec<(String, u64)>, Error>;
    fn reset_stats(&self) -> Result<(), Error>;
    fn on_event(&self, handler: Handler) -> Result<(), Error>;
    fn vhost(&self) -> Option<VhostPort> {
        None
    }
    /// The error of what only a device can do.
    fn no_device(&self) -> Error {
        Error::new(ErrorKind::Invalid, format!("port {}: it has no device of a driver", self.name()))
    }
}

/// A configured device. Its methods may be called from any thread; they are not for the data path.
pub struct Port {
    driver: Arc<dyn Driver>,
    granted: Granted,
    info: DeviceInfo,
}

impl Port {
    pub(crate) fn new(driver: Arc<dyn Driver>, granted: Granted, info: DeviceInfo) -> Self {
        Self { driver, granted, info }
    }

    /// Starts the port and returns its queues. Frames wait in the device until they are polled.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) while it is started.
    pub fn start(&self) -> Result<Queues, Error> {
        Arc::clone(&self.driver).start(&self.granted)
    }

    /// Stops the port; [`start`](Self::start) gives out new queues.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) while a queue of it exists: its lcore may be polling.
    pub fn stop(&self) -> Result<(), Error> {
        self.driver.stop(&|| Arc::strong_count(&self.driver) > 1)
    }

    /// Resets the device and configures it as before; [`start`](Self::start) then gives out new queues. It keeps its MAC
    /// address. A driver that cannot reset has the device stopped and configured again.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) while a queue of it exists, what the driver reports otherwise: some
    /// want another try; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a vhost-user port.
    pub fn reset(&self) -> Result<(), Error> {
        self.driver.reset(&|| Arc::strong_count(&self.driver) > 1)
    }

    /// Closes the device: this port has none from now on, and keeps its last counters. DPDK forgets the device, so that it
    /// can be [probed](crate::Device::probe) again.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) while a queue of it exists; what the driver reports if it does not stop;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a vhost-user port.
    pub fn close(&self) -> Result<(), Error> {
        self.driver.close(&|| Arc::strong_count(&self.driver) > 1)
    }

    /// Whether the driver knows that the device is no longer there.
    pub fn is_removed(&self) -> bool {
        self.driver.is_removed()
    }

    /// DPDK's number for it; for a vhost-user port one of its own, from 32768.
    pub fn id(&self) -> u16 {
        self.driver.id()
    }

    /// The name of its device.
    pub fn name(&self) -> &str {
        self.driver.name()
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
        self.driver.link()
    }

    /// Its MAC address.
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        self.driver.mac()
    }

    /// Gives it another MAC address, which it keeps.
    pub fn set_mac(&self, mac: [u8; 6]) -> Result<(), Error> {
        self.driver.set_mac(mac)
    }

    /// The MTU in force, in bytes.
    pub fn mtu(&self) -> Result<u16, Error> {
        self.driver.mtu()
    }

    /// Changes the MTU; many drivers allow it while the port is stopped only.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        self.driver.set_mtu(mtu)
    }

    /// The device's counters.
    pub fn stats(&self) -> Result<PortStats, Error> {
        self.driver.stats()
    }

    /// Every counter the driver has, by its own name.
    pub fn xstats(&self) -> Result<Vec<(String, u64)>, Error> {
        self.driver.xstats()
    }

    /// Sets the device's counters to zero, where the driver can.
    pub fn reset_stats(&self) -> Result<(), Error> {
        self.driver.reset_stats()
    }

    /// The state of a vhost-user port; `None` for any other.
    pub fn vhost(&self) -> Option<VhostPort> {
        self.driver.vhost()
    }

    /// Has `handler` called on link changes and, for vhost-user, queue changes. It runs on a thread of DPDK: it should
    /// only wake a thread, and must not call this port. Once per port.
    ///
    /// For vhost-user that is the one thread (`vhost-events`) that serves every vhost-user connection of the process:
    /// it calls while it handles the other side's message, with [`link`](Self::link) already changed, and all of them
    /// wait until the handler returns.
    ///
    /// - *Up*, once, when the first pair of rings has been set up and enabled; a guest's driver does that, so a VM that
    ///   still boots is not up.
    /// - *Down*, once, when the first ring is stopped (`GET_VRING_BASE`: a migration's source, a guest's reset, a VM
    ///   that is paused), or the connection breaks. Bursts under way end first: when the handler is called no ring takes
    ///   or gives any more, and what it took before is in the guest's memory.
    /// - Rings that start again (a migration that failed) are an *up*.
    ///
    /// Between message and call there is nothing but that thread's wake-up (some 100 us; a connection that breaks: some
    /// milliseconds, measured with DPDK 22.11), and the other side's message is answered after the call: the far end
    /// of a migration does not start before the near end is notified.
    pub fn on_event(&self, handler: impl Fn(PortEvent) + Send + Sync + 'static) -> Result<(), Error> {
        self.driver.on_event(Box::new(handler))
    }
}

//! Configuration of a port. Enters: a device and its requested settings. Leaves: a port with its queues set up and
//! what was granted, or DPDK's reason.

use std::ffi::c_int;
use std::sync::{Arc, Mutex, PoisonError};

use super::{EINVAL, ENOMEM, Ethdev, Life};
use crate::device::{Device, Offloads};
use crate::error::{Error, ErrorKind, clear_log};
use crate::mempool::Mempool;
use crate::port::{Granted, Port, PortConfig, PortStats};
use crate::sys;

/// What a device is configured with, at first and after a reset.
pub(super) struct Settings {
    conf: sys::shim_dev_conf,
    /// Descriptors per queue, receive and transmit, as they were wanted.
    descriptors: (u16, u16),
    /// NUMA node of the descriptors.
    socket: Option<u32>,
    /// MTU that the operator wants.
    wanted_mtu: Option<u16>,
    /// MTU to set.
    mtu: u16,
}

const DEFAULT_MTU: u16 = 1500;
/// Ethernet header, two VLAN tags, frame check sequence.
const FRAME_OVERHEAD_TAGGED: usize = 14 + 8 + 4;

impl Device {
    /// Configures the device with its queues. Frames are received into buffers of `pool`.
    pub fn configure(self, wants: &PortConfig, pool: &Mempool) -> Result<Port, Error> {
        let info = self.info()?;
        if wants.rxq == 0 || wants.txq == 0 {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("port {}: it needs a queue each way", self.name()),
            ));
        }
        let (rxq, txq) = (wants.rxq.min(info.max_rxq), wants.txq.min(info.max_txq));
        let mtu = wants.mtu.unwrap_or(DEFAULT_MTU).clamp(info.min_mtu.min(info.max_mtu), info.max_mtu);
        let exceeds_buffer = usize::from(mtu) + FRAME_OVERHEAD_TAGGED > pool.frame_room();
        let offloads = common(wants.offloads, info.offloads, rxq, exceeds_buffer);
        let (mut rx_offloads, tx_offloads) = offloads.to_bits();
        if offloads.rss && info.rss_hash_in_mbuf {
            rx_offloads |= sys::SHIM_RXO_RSS_HASH;
        }
        let conf = sys::shim_dev_conf {
            rxq,
            txq,
            mtu: u32::from(mtu),
            rx_offloads,
            tx_offloads,
            rss: if offloads.rss { info.rss_hash_functions } else { 0 },
            link_interrupt: c_int::from(info.link_interrupt),
        };
        let settings = Settings {
            conf,
            descriptors: (wants.rxd, wants.txd),
            socket: info.socket,
            wanted_mtu: wants.mtu,
            mtu,
        };
        clear_log();
        let id = self.id();
        let (claim, name, runtime) = self.into_parts();
        let inner = Arc::new(Ethdev {
            id,
            name,
            life: Mutex::new(Life { is_started: false, is_configured: true, claim: Some(claim) }),
            recovering: Arc::default(),
            handler: Mutex::new(None),
            settings,
            mac: Mutex::default(),
            counted: Mutex::new(PortStats::default()),
            kernel_mtu: info.kernel_mtu,
            promiscuous: wants.promiscuous,
            all_multicast: wants.all_multicast,
            pool: pool.clone(),
            _runtime: runtime,
        });
        let (rxd, txd) = inner.set_up()?;
        *inner.mac.lock().unwrap_or_else(PoisonError::into_inner) = inner.read_mac()?;
        let mtu = inner.granted_mtu()?.min(wants.mtu.unwrap_or(DEFAULT_MTU));
        let granted = Granted { rxq, txq, rxd, txd, mtu, offloads };
        Ok(Port::new(inner, granted, info))
    }
}

/// The offloads that are wanted and that the device has. `exceeds_buffer`: a frame may be longer than one buffer.
fn common(wants: Offloads, has: Offloads, rxq: u16, exceeds_buffer: bool) -> Offloads {
    Offloads {
        rx_ip_csum: wants.rx_ip_csum && has.rx_ip_csum,
        rx_l4_csum: wants.rx_l4_csum && has.rx_l4_csum,
        tx_ip_csum: wants.tx_ip_csum && has.tx_ip_csum,
        tx_l4_csum: wants.tx_l4_csum && has.tx_l4_csum,
        tso: wants.tso && has.tso && has.tx_l4_csum && wants.tx_l4_csum,
        multi_segs: wants.multi_segs && has.multi_segs,
        scatter: wants.scatter && has.scatter && exceeds_buffer,
        rss: wants.rss && has.rss && rxq > 1,
    }
}

impl Ethdev {
    /// Configures the device with its settings and sets up its queues. Returns how many descriptors each queue has,
    /// (receive, transmit).
    pub(super) fn set_up(&self) -> Result<(u16, u16), Error> {
        let Settings { conf, descriptors, socket, wanted_mtu, mtu } = &self.settings;
        // SAFETY: the id is a device that only `self` has; `conf` is read during the call.
        self.check("configure", unsafe { sys::shim_dev_configure(self.id, conf) })?;
        let descriptors = self.set_up_queues(conf, *descriptors, *socket)?;
        self.set_wanted_mtu(*wanted_mtu, *mtu);
        Ok(descriptors)
    }

    /// Sets up the queues of a configured device. Returns how many descriptors each has, (receive, transmit).
    fn set_up_queues(
        &self,
        conf: &sys::shim_dev_conf,
        (mut rxd, mut txd): (u16, u16),
        socket: Option<u32>,
    ) -> Result<(u16, u16), Error> {
        let pool = &self.pool;
        let id = self.id;
        // SAFETY: the id is a device that only `self` has; both counts are ours.
        self.check("descriptors", unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rxd, &mut txd) })?;
        let socket = socket.and_then(|s| c_int::try_from(s).ok()).unwrap_or(sys::SHIM_SOCKET_ANY);
        for queue in 0..conf.rxq {
            // SAFETY: as above; `self` keeps the pool until the device is closed.
            let rc =
                unsafe { sys::shim_rx_queue_setup(id, queue, rxd, socket, conf.rx_offloads, pool.raw()) };
            let what = format!("receive queue {queue} of {}, {rxd} descriptors", conf.rxq);
            self.check(&what, rc).map_err(|e| {
                match e.errno() {
                    // Drivers return these both for a frame that exceeds an mbuf and for a lack of memory.
                    Some(ENOMEM | EINVAL) => e.hint(format!(
                        "one mbuf of this pool holds {} bytes, which must fit its frames \
                     (mbuf_size)",
                        pool.frame_room()
                    )),
                    _ => e,
                }
            })?;
        }
        for queue in 0..conf.txq {
            // SAFETY: as above.
            let rc = unsafe { sys::shim_tx_queue_setup(id, queue, txd, socket, conf.tx_offloads) };
            self.check(&format!("transmit queue {queue} of {}, {txd} descriptors", conf.txq), rc)?;
        }
        Ok((rxd, txd))
    }

    /// Sets the MTU by the calls that some drivers need after the queues; those that cannot set it keep what they have.
    fn set_wanted_mtu(&self, wanted: Option<u16>, mtu: u16) {
        match (wanted, self.kernel_mtu) {
            // SAFETY: the id is a configured device that only `self` has.
            (Some(_), None) => _ = unsafe { sys::rte_eth_dev_set_mtu(self.id, mtu) },
            (Some(wanted), Some(kernel)) => _ = kernel.set(wanted),
            (None, _) => {}
        }
    }
}

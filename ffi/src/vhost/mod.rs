//! vhost-user ports: a socket at which a VMM or another virtio driver gives us its rings. On librte_vhost itself, not
//! through DPDK's ethdev driver: so there can be as many as there are sockets, and the state of each ring is known.
//! Enters: a path and what guests are offered. Leaves: queues, the state of the other side, counters.
//!
//! `rings` is what lcores and librte_vhost's thread share of a port, `callbacks` what that thread calls; `wake` ends its
//! wait when there is a new socket. VMMs connect to the [`relay`], and that to the `private_socket`, where librte_vhost listens.

mod callbacks;
mod private_socket;
mod rings;
mod wake;

use std::ffi::{CString, c_int};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use stopover_vmm::{Relay, SocketKey};

use crate::device::{DeviceInfo, Offloads};
use crate::eal::{Eal, Runtime};
use crate::error::{Error, ErrorKind, clear_log};
use crate::event::Handler;
use crate::mempool::Mempool;
use crate::port::{Driver, Granted, LinkState, Port, PortStats, Queues};
use crate::queue::{RxQueue, TxQueue};
use crate::sys;

use private_socket::{Known, PrivateSocket};
pub(crate) use rings::{Own, Rings};

/// Most pairs of rings that librte_vhost gives a device (`VHOST_MAX_QUEUE_PAIRS`).
pub const MAX_QUEUES: u16 = 128;

/// What a vhost-user port is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostConfig {
    /// The socket.
    pub path: PathBuf,
    /// Connect to the socket, which the VMM makes, and connect again whenever it is there again. Otherwise listen.
    pub client: bool,
    /// Pairs of rings that a guest may use, 1 to [`MAX_QUEUES`].
    pub queues: u16,
    /// Our transmit queues, at most as many as `queues`; the receive queues are as many.
    pub txq: u16,
    /// A guest may leave checksums to us ([`Csum::None`](crate::Csum::None)).
    pub csum: bool,
    /// With `csum`: a guest may send TCP segments for the device to cut.
    pub tso: bool,
    /// The guest may have an IOMMU (`VIRTIO_F_ACCESS_PLATFORM`).
    pub iommu: bool,
    /// The VMM may migrate with post-copy.
    pub postcopy: bool,
    /// Bytes of payload per frame.
    pub mtu: Option<u16>,
}

/// Features that are never offered. A frame of UDP fragmentation offload cannot be cut again for the wire (virtio 1.2
/// section 5.1.3.1), nor can a segmented frame carry its congestion mark everywhere.
const NEVER_OFFERED: u64 = 1 << sys::VIRTIO_NET_F_HOST_UFO
    | 1 << sys::VIRTIO_NET_F_GUEST_UFO
    | 1 << sys::VIRTIO_NET_F_HOST_ECN
    | 1 << sys::VIRTIO_NET_F_GUEST_ECN;

/// What a guest may leave to the device with `csum`.
const CSUM: u64 = 1 << sys::VIRTIO_NET_F_CSUM;
/// The same with `tso`.
const TSO: u64 = 1 << sys::VIRTIO_NET_F_HOST_TSO4 | 1 << sys::VIRTIO_NET_F_HOST_TSO6;

/// Numbers of vhost-user ports begin here: above all of ethdev.
const FIRST_ID: u16 = 1 << 15;
static NEXT_ID: AtomicU16 = AtomicU16::new(FIRST_ID);

/// MTU of a port that names none, as for any device.
const DEFAULT_MTU: u16 = 1500;
/// Smallest MTU of IPv4 (RFC 791).
const MIN_MTU: u16 = 68;

/// A vhost-user port, shared by its [`Port`] and its queues; the last of them closes the socket.
pub(crate) struct Vhost {
    id: u16,
    name: String,
    config: VhostConfig,
    rings: Arc<Rings>,
    /// What is open. Held while the socket is opened or closed.
    opened: Mutex<Option<Opened>>,
    mtu: AtomicU16,
    pool: Mempool,
    _runtime: Arc<Runtime>,
}

/// An open socket.
struct Opened {
    known: Known,
    key: SocketKey,
}

/// What serves the sockets of all vhost-user ports. Its thread starts with the first use, on the CPUs of the caller.
///
/// # Errors
/// It cannot start.
pub fn relay() -> Result<&'static Relay, Error> {
    static RELAY: OnceLock<Result<Relay, String>> = OnceLock::new();
    let relay = RELAY.get_or_init(|| Relay::start().map_err(|e| e.to_string()));
    relay.as_ref().map_err(|e| {
        Error::new(ErrorKind::Refused, format!("the thread that serves the sockets of VMMs: {e}"))
    })
}

impl Port {
    /// A vhost-user port; its socket opens when the port starts. Frames are received into buffers of `pool`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: the path or the number of queues cannot be used.
    pub fn open_vhost(eal: &Eal, name: &str, config: VhostConfig, pool: &Mempool) -> Result<Self, Error> {
        let invalid = |what: String| Error::new(ErrorKind::Invalid, format!("port {name}: {what}"));
        // struct sockaddr_un (unix(7)): 108 bytes, the last a NUL.
        let path = config.path.as_os_str().as_bytes();
        if !(1..108).contains(&path.len()) || path.contains(&0) {
            return Err(invalid(format!("{} is no path of a socket", config.path.display()))
                .hint("1 to 107 bytes, without a NUL"));
        }
        for (what, queues, most) in
            [("queues", config.queues, MAX_QUEUES), ("transmit queues", config.txq, config.queues)]
        {
            if !(1..=most).contains(&queues) {
                return Err(invalid(format!("{queues} {what}")).hint(format!("1 to {most}")));
            }
        }
        let offloads = Offloads {
            rx_l4_csum: config.csum,
            tx_l4_csum: true,
            tso: config.tso,
            multi_segs: true,
            ..Offloads::default()
        };
        let info = DeviceInfo::of_vhost(config.queues, offloads);
        let mtu = config.mtu.unwrap_or(DEFAULT_MTU).max(MIN_MTU);
        let granted = Granted { rxq: config.queues, txq: config.txq, rxd: 0, txd: 0, mtu, offloads };
        let device = Vhost {
            id: NEXT_ID.fetch_add(1, Relaxed),
            name: name.to_owned(),
            rings: Arc::new(Rings::new(config.queues)),
            config,
            opened: Mutex::new(None),
            mtu: AtomicU16::new(mtu),
            pool: pool.clone(),
            _runtime: eal.runtime(),
        };
        Ok(Self::new(Arc::new(device), granted, info))
    }
}

impl Vhost {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, what: &str, rc: c_int) -> Result<(), Error> {
        if rc == 0 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Refused, format!("port {}: {what}", self.name)).with_log())
    }

    fn refused(&self, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Refused, format!("port {}: {what}", self.name))
    }

    /// Opens the socket. Whatever fails, nothing of it is left.
    fn open(&self) -> Result<Opened, Error> {
        let VhostConfig { path, client, .. } = &self.config;
        let inner = |e| self.refused(format!("socket of librte_vhost: {e}"));
        let (private, socket) = match client {
            true => PrivateSocket::connects().map(|(private, socket)| (private, Some(socket))),
            false => PrivateSocket::listens(&self.name).map(|private| (private, None)),
        }
        .map_err(inner)?;
        self.register(private.path())?;
        let known_as = private.path().clone();
        let served = private.split(socket).map_err(inner).and_then(|(known, back)| {
            let key = relay()?.open(path.clone(), *client, back).map_err(|e| self.refused(e))?;
            Ok(Opened { known, key })
        });
        let opened = served.inspect_err(|_| self.forget(&known_as))?;
        wake::wake();
        Ok(opened)
    }

    /// Has librte_vhost listen at a path, or connect to it.
    fn register(&self, path: &CString) -> Result<(), Error> {
        clear_log();
        let chosen = [
            (self.config.client, sys::RTE_VHOST_USER_CLIENT),
            (self.config.iommu, sys::RTE_VHOST_USER_IOMMU_SUPPORT),
            (self.config.postcopy, sys::RTE_VHOST_USER_POSTCOPY_SUPPORT),
        ];
        let chosen = chosen.into_iter().filter(|(on, _)| *on).map(|(_, flag)| u64::from(flag));
        let flags = chosen.fold(sys::SHIM_VHOST_COMPLIANT_OFFLOADS, |flags, flag| flags | flag);
        let raw = path.as_ptr();
        // SAFETY: the path is NUL-terminated and copied.
        self.check("socket of librte_vhost", unsafe { sys::rte_vhost_driver_register(raw, flags) })?;
        let masked = match self.config {
            VhostConfig { csum: false, .. } => NEVER_OFFERED | CSUM | TSO,
            VhostConfig { tso: false, .. } => NEVER_OFFERED | TSO,
            _ => NEVER_OFFERED,
        };
        callbacks::register(path, &self.rings);
        // SAFETY: the path is registered; the callbacks are functions of this program, in a static.
        let opened = unsafe {
            let masked = self.check("features", sys::rte_vhost_driver_disable_features(raw, masked));
            let called = |()| self.check("callbacks", callbacks::set(raw));
            let started = |()| self.check("socket of librte_vhost", sys::rte_vhost_driver_start(raw));
            masked.and_then(called).and_then(started)
        };
        opened.inspect_err(|_| self.forget(path))
    }

    /// Closes the socket and every connection. No callback of it runs afterwards.
    fn close(&self, Opened { known, key }: &Opened) {
        if let Ok(relay) = relay() {
            relay.close(*key);
        }
        self.forget(&known.path);
    }

    /// Has librte_vhost forget a path.
    fn forget(&self, path: &CString) {
        // Not while the registry is locked: the callbacks of connections that end run on this thread.
        // SAFETY: the path is registered; an unknown one would be refused.
        unsafe { sys::rte_vhost_driver_unregister(path.as_ptr()) };
        callbacks::forget(&self.rings);
        self.rings.detach_any();
    }
}

impl Driver for Vhost {
    fn start(self: Arc<Self>, granted: &Granted) -> Result<Queues, Error> {
        let mut opened = self.lock();
        if opened.is_some() {
            return Err(Error::new(ErrorKind::Busy, format!("port {} is started already", self.name)));
        }
        *opened = Some(self.open()?);
        Ok(Queues {
            rx: (0..granted.rxq).map(|q| RxQueue::of_vhost(q, self.pool.clone(), self.clone())).collect(),
            tx: (0..granted.txq).map(|q| TxQueue::of_vhost(q, self.clone())).collect(),
        })
    }

    fn stop(&self, has_queues: &dyn Fn() -> bool) -> Result<(), Error> {
        let mut opened = self.lock();
        if has_queues() {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("port {}: its queues are still in use", self.name),
            ));
        }
        if let Some(opened) = opened.take() {
            self.close(&opened);
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
        LinkState { up: self.rings.is_attached(), speed_mbps: None, full_duplex: true }
    }

    /// A local address that is its own in this process, as DPDK's driver has it.
    fn mac(&self) -> Result<[u8; 6], Error> {
        let [high, low] = (self.id - FIRST_ID).to_be_bytes();
        Ok([b'V', b'H', b'O', b'S', b'T'.wrapping_add(high), low])
    }

    fn mtu(&self) -> Result<u16, Error> {
        Ok(self.mtu.load(Relaxed))
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        self.mtu.store(mtu, Relaxed);
        Ok(())
    }

    fn stats(&self) -> Result<PortStats, Error> {
        Ok(self.rings.stats())
    }

    fn xstats(&self) -> Result<Vec<(String, u64)>, Error> {
        Ok(self.rings.xstats())
    }

    fn reset_stats(&self) -> Result<(), Error> {
        self.rings.reset_stats();
        Ok(())
    }

    fn on_event(&self, handler: Handler) -> Result<(), Error> {
        if self.rings.set_handler(handler) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Busy, format!("port {} has an event handler already", self.name)))
    }

    fn vhost(&self) -> Option<VhostPort> {
        Some(VhostPort { rings: Arc::downgrade(&self.rings), name: self.name.clone() })
    }
}

impl Vhost {
    /// What its lcores share with librte_vhost's thread.
    pub(crate) fn rings(&self) -> &Rings {
        &self.rings
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        if let Some(opened) = self.lock().take() {
            self.close(&opened);
        }
    }
}

/// A handle on the state of a vhost-user port. It does not keep the port open: for a closed port it reports the state
/// of one without a VM. May be used from any thread.
#[derive(Clone)]
pub struct VhostPort {
    rings: Weak<Rings>,
    name: String,
}

/// The setup by the other side of a vhost-user port. The default is that of a port without a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VhostState {
    /// A VM is connected and its rings run: the same as the link's being up.
    pub attached: bool,
    /// Writes to the VM's memory are logged (`VHOST_F_LOG_ALL` of the vhost-user protocol): its live migration has
    /// begun, and has neither failed nor ended. Never without `attached`.
    pub logs_dirty: bool,
}

/// Work that a guest does on the frames it receives, so that it gets them with that work unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestOffloads {
    /// It takes frames whose checksum is not filled in.
    pub checksums: bool,
    /// It takes TCP segments of any length, over IPv4 and IPv6.
    pub tcp_segments: bool,
}

impl GuestOffloads {
    /// It gets every frame finished.
    pub const NONE: Self = Self { checksums: false, tcp_segments: false };
}

impl VhostPort {
    /// What the guest has negotiated; `None` while there is none. Never waits.
    #[must_use]
    pub fn guest_offloads(&self) -> Option<GuestOffloads> {
        self.rings.upgrade()?.guest_offloads()
    }

    /// The state now: two loads, never waits.
    #[must_use]
    pub fn state(&self) -> VhostState {
        self.rings.upgrade().map(|rings| rings.state()).unwrap_or_default()
    }
}

impl fmt::Debug for VhostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VhostPort({})", self.name)
    }
}

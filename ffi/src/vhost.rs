//! The state of a vhost-user port: whether a VM's rings run, and whether its memory is being logged, which is how
//! a live migration begins. Enters: a port. Leaves: its state at this moment; nothing here waits or remembers.

use std::ffi::c_int;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::event::EventHandler;
use crate::port::PortInner;
use crate::sys;

/// A handle on a port whose driver is `net_vhost`. It does not keep the port open: for a closed port it reports the
/// state of one without a VM. May be used from any thread, but not by the port's event handler.
#[derive(Clone)]
pub struct VhostPort {
    inner: Weak<PortInner>,
    name: String,
}

/// The setup by the other side of a vhost-user port. The default is that of a port without a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VhostState {
    /// A VM is connected and its rings run: the same as the link's being up, while the port is started.
    pub attached: bool,
    /// Writes to the VM's memory are logged (`VHOST_F_LOG_ALL` of the vhost-user protocol): its live migration has
    /// begun, and has neither failed nor ended. Never without `attached`.
    pub logs_dirty: bool,
}

/// What a port keeps for reading its state.
pub(crate) struct Watch {
    vid_of_port: unsafe extern "C" fn(u16) -> c_int,
    /// Held while a device is looked at, and taken once by DPDK's thread before it frees one.
    gate: Arc<Mutex<()>>,
    _barrier: EventHandler,
}

impl Watch {
    fn new(port: u16) -> Option<Self> {
        // SAFETY: EAL has loaded its plugins; the port's driver is among them.
        let vid_of_port = unsafe { sys::shim_find_vid_of_port() }?;
        let gate = Arc::new(Mutex::new(()));
        let barrier = {
            let gate = gate.clone();
            EventHandler::new(port, Box::new(move |_| drop(gate.lock())))
        };
        (barrier.register() >= 0).then_some(Self { vid_of_port, gate, _barrier: barrier })
    }
}

impl VhostPort {
    pub(crate) fn new(inner: &Arc<PortInner>) -> Option<Self> {
        inner.vhost().get_or_init(|| Watch::new(inner.id())).as_ref()?;
        Some(Self { inner: Arc::downgrade(inner), name: inner.name().to_owned() })
    }

    /// The state now. For the control thread, also every millisecond: some tens of nanoseconds, without
    /// allocation. It waits only for calls of other threads to this port.
    ///
    /// While it runs [`Port::stop`](crate::Port::stop) may find the port busy: do both on one thread.
    pub fn state(&self) -> VhostState {
        self.read_state().unwrap_or_default()
    }

    fn read_state(&self) -> Option<VhostState> {
        let inner = self.inner.upgrade()?;
        let watch = inner.vhost().get()?.as_ref()?;
        // Before its start the driver's queues name device 0, which may be another port's.
        let started = inner.lock();
        if !*started {
            return None;
        }
        let _gate = watch.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let mut link = sys::shim_link { up: 0, full_duplex: 0, speed_mbps: 0 };
        let mut features = 0;
        // SAFETY: the port is open (`inner`) and started, `link` and `features` are ours, and the plugin stays loaded.
        //
        // The device may be freed at any time. DPDK's thread then (`destroy_device` of rte_eth_vhost.c, DPDK 22.11)
        // sets the link down and the queues' device number to -1, calls the port's link handlers, our barrier among
        // them, and only after that frees the device. The barrier waits for the gate: while we hold it, a device that
        // the number named when we read it is not freed; and once the barrier has been through, the link is down and
        // the number is -1, which taking the gate after it makes visible here. A number that is left over from before a
        // restart has a link that is down. Nor is a device moved in memory (`numa_realloc`) while its link is
        // up. The feature word itself is written by that thread while we read it (a message that switches logging): it
        // is one aligned 64-bit word, read and written by C in one instruction, and either value is the truth of a
        // moment ago.
        unsafe {
            if sys::shim_link(inner.id(), &mut link) != 0 || link.up == 0 {
                return None;
            }
            let vid = (watch.vid_of_port)(inner.id());
            if vid < 0 || sys::rte_vhost_get_negotiated_features(vid, &mut features) != 0 {
                return None;
            }
        }
        Some(VhostState { attached: true, logs_dirty: features & sys::SHIM_VHOST_F_LOG_ALL != 0 })
    }
}

impl fmt::Debug for VhostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VhostPort({})", self.name)
    }
}

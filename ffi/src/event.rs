//! Port events: DPDK calls back on a thread of its own when a link changes or a vhost-user peer turns queues on or off.
//! Enters: a handler. Leaves: calls to it, until it is dropped; a panic of it never crosses into C.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::sys;

/// Something happened to a port. The first three have no state: read the state again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortEvent {
    /// The link may have changed: [`Port::link`](crate::Port::link).
    Link,
    /// Queues of a vhost-user port were enabled or disabled by the other side.
    Queues,
    /// The other side of a vhost-user port has turned dirty logging on or off: [`VhostPort::state`](crate::VhostPort::state).
    Logging,
    /// The driver needs a reset of the device, as a VF does when its PF was reset: [`Port::reset`](crate::Port::reset).
    Reset,
    /// The device was removed: [`Port::close`](crate::Port::close).
    Removed,
    /// The driver has begun to repair the device after an error. Until it reports the end, no frame passes, and DPDK
    /// allows no control function for the port; the port's methods obey.
    Recovering,
    /// The driver has repaired the device, with its settings.
    Recovered,
    /// The driver could not repair the device: [`Port::close`](crate::Port::close).
    RecoveryFailed,
}

pub(crate) type Handler = Box<dyn Fn(PortEvent) + Send + Sync>;

const EVENTS: [(sys::rte_eth_event_type, PortEvent); 7] = [
    (sys::rte_eth_event_type_RTE_ETH_EVENT_INTR_LSC, PortEvent::Link),
    (sys::rte_eth_event_type_RTE_ETH_EVENT_QUEUE_STATE, PortEvent::Queues),
    (sys::rte_eth_event_type_RTE_ETH_EVENT_INTR_RESET, PortEvent::Reset),
    (sys::rte_eth_event_type_RTE_ETH_EVENT_INTR_RMV, PortEvent::Removed),
    (sys::rte_eth_event_type_RTE_ETH_EVENT_ERR_RECOVERING, PortEvent::Recovering),
    (sys::rte_eth_event_type_RTE_ETH_EVENT_RECOVERY_SUCCESS, PortEvent::Recovered),
    (sys::rte_eth_event_type_RTE_ETH_EVENT_RECOVERY_FAILED, PortEvent::RecoveryFailed),
];

/// A handler at an address that DPDK may keep. Dropping it waits until DPDK has released it, so it must be dropped
/// before its port is closed, and not by the handler itself.
pub(crate) struct EventHandler {
    port: u16,
    handler: Box<Handler>,
}

impl EventHandler {
    pub(crate) fn new(port: u16, handler: Handler) -> Self {
        Self { port, handler: Box::new(handler) }
    }

    fn arg(&self) -> *mut c_void {
        std::ptr::from_ref::<Handler>(&self.handler).cast_mut().cast()
    }

    /// Has DPDK call it; gives DPDK's return code.
    pub(crate) fn register(&self) -> c_int {
        for (event, _) in EVENTS {
            // SAFETY: `arg` points to a box of self, whose drop unregisters it before the box is freed.
            let rc =
                unsafe { sys::rte_eth_dev_callback_register(self.port, event, Some(on_event), self.arg()) };
            if rc < 0 {
                return rc;
            }
        }
        0
    }
}

impl Drop for EventHandler {
    fn drop(&mut self) {
        for (event, _) in EVENTS {
            // SAFETY: the port is still open (see the type). Busy means the handler is running just now.
            while unsafe {
                sys::rte_eth_dev_callback_unregister(self.port, event, Some(on_event), self.arg())
            } == EAGAIN
            {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

unsafe extern "C" fn on_event(
    _: u16,
    event: sys::rte_eth_event_type,
    arg: *mut c_void,
    _: *mut c_void,
) -> c_int {
    let known = EVENTS.iter().find(|(of_dpdk, _)| *of_dpdk == event);
    let event = known.map_or(PortEvent::Link, |(_, event)| *event);
    // SAFETY: `arg` is a handler that EventHandler registered, and keeps until DPDK has released it.
    let handler = unsafe { &*arg.cast::<Handler>() };
    // A panic cannot be reported from here; the panic hook has printed it.
    drop(catch_unwind(AssertUnwindSafe(|| handler(event))));
    0
}

/// As DPDK returns it: negated.
const EAGAIN: c_int = -11;

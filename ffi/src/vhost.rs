//! What only a vhost-user port can tell: whether a VM is attached, and whether it is being migrated. Enters: a port.
//! Leaves: its state at this moment; nothing here waits or remembers.

use std::fmt;
use std::sync::Arc;

use crate::port::PortInner;
use crate::sys;

/// A port whose driver is `net_vhost`. Holds the device open.
#[derive(Clone)]
pub struct VhostPort(Arc<PortInner>);

/// What the peer of a vhost-user port has negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VhostState {
    /// A VM is connected.
    pub attached: bool,
    /// What is written to its memory is logged (`VHOST_F_LOG_ALL`): its live migration has begun.
    pub logs_dirty: bool,
}

impl VhostPort {
    pub(crate) fn new(inner: Arc<PortInner>) -> Self {
        Self(inner)
    }

    /// The state now. Cheap enough to be asked every millisecond; from one thread of the process at a time.
    #[must_use]
    pub fn state(&self) -> VhostState {
        // SAFETY: the port is open for as long as its `PortInner` lives. The driver looks its device up by number and
        // answers "none" for one that is gone; should the vhost thread free the device between that look and the read
        // of its feature word, the word is read from DPDK's own heap, which stays mapped: a stale value, put right by
        // the next call. `&self` may be shared, but the two function pointers that the shim caches are each written
        // with one value only.
        let bits = unsafe { sys::shim_vhost_state(self.0.id()) } as u32;
        VhostState {
            attached: bits & sys::SHIM_VHOST_ATTACHED != 0,
            logs_dirty: bits & sys::SHIM_VHOST_LOGS_DIRTY != 0,
        }
    }
}

impl fmt::Debug for VhostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VhostPort({})", self.0.name())
    }
}

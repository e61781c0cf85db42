//! Packet capture by DPDK's own tools (`dpdk-pdump`, `dpdk-dumpcap`), which attach as secondary processes.

use std::sync::Arc;

use crate::eal::{Eal, Runtime};
use crate::error::Error;
use crate::sys;

/// While it lives, captures may attach.
pub struct Pdump {
    _runtime: Arc<Runtime>,
}

impl Pdump {
    /// Allows captures to attach; a failure is logged and does not end the program. Where EAL has no shared
    /// configuration (`--in-memory`, `--no-shconf`) it starts, but no capture can find the process.
    pub fn start(eal: &Eal) -> Result<Self, Error> {
        // SAFETY: EAL is up; this registers a message handler that lives until rte_pdump_uninit.
        match unsafe { sys::rte_pdump_init() } {
            0 => Ok(Self { _runtime: eal.runtime() }),
            rc => Err(Error::from_rc("packet capture is not available", rc)),
        }
    }
}

impl Drop for Pdump {
    fn drop(&mut self) {
        // SAFETY: undoes the rte_pdump_init of `start`; EAL is still up, held by the runtime.
        unsafe { sys::rte_pdump_uninit() };
    }
}

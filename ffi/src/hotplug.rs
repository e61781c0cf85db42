//! Devices that come and go while the program runs. Enters: what the kernel reports of devices, and VFIO of those that
//! are to be given up. Leaves: calls to a handler, on a thread of DPDK.

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::eal::{Eal, Runtime};
use crate::error::Error;
use crate::sys;

/// What happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HotplugEvent {
    /// It is there. Its driver may not be bound yet.
    Added,
    /// It is gone, or goes when this process has released it.
    Removed,
}

type Handler = Box<dyn Fn(&str, HotplugEvent) + Send + Sync>;

/// Calls the handler until it is dropped.
#[must_use]
pub struct Hotplug {
    handler: Box<Handler>,
    _runtime: Arc<Runtime>,
}

impl Hotplug {
    /// Has `handler` called with the name of each device that comes or goes, as the kernel has it (a PCI address). It runs on
    /// a thread of DPDK: it should only wake a thread. One at a time.
    ///
    /// # Errors
    /// What the kernel refuses: a container may not receive its events.
    pub fn watch(
        eal: &Eal,
        handler: impl Fn(&str, HotplugEvent) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let hotplug = Self { handler: Box::new(Box::new(handler)), _runtime: eal.runtime() };
        // SAFETY: EAL is up; `arg` points to a box of self, whose drop unregisters it before the box is freed.
        let (registered, started) = unsafe {
            (
                sys::rte_dev_event_callback_register(std::ptr::null(), Some(on_event), hotplug.arg()),
                sys::rte_dev_event_monitor_start(),
            )
        };
        match registered.min(started) {
            0.. => Ok(hotplug),
            rc => Err(Error::from_rc("events of devices that come and go", rc).with_log()),
        }
    }

    fn arg(&self) -> *mut c_void {
        std::ptr::from_ref::<Handler>(&self.handler).cast_mut().cast()
    }
}

impl Drop for Hotplug {
    fn drop(&mut self) {
        // SAFETY: EAL is up, because `_runtime` is held.
        unsafe { sys::rte_dev_event_monitor_stop() };
        // SAFETY: as above. Again means that the handler is running just now.
        while unsafe { sys::rte_dev_event_callback_unregister(std::ptr::null(), Some(on_event), self.arg()) }
            == EAGAIN
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

unsafe extern "C" fn on_event(name: *const c_char, event: sys::rte_dev_event_type, arg: *mut c_void) {
    let event = match event {
        sys::rte_dev_event_type_RTE_DEV_EVENT_ADD => HotplugEvent::Added,
        sys::rte_dev_event_type_RTE_DEV_EVENT_REMOVE => HotplugEvent::Removed,
        _ => return,
    };
    if name.is_null() {
        return;
    }
    // SAFETY: NUL-terminated, for the time of this call.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    // SAFETY: `arg` is a handler that Hotplug registered, and keeps until DPDK has released it.
    let handler = unsafe { &*arg.cast::<Handler>() };
    // A panic cannot be reported from here; the panic hook has printed it.
    drop(catch_unwind(AssertUnwindSafe(|| handler(&name, event))));
}

/// As DPDK returns it: negated.
const EAGAIN: i32 = -11;

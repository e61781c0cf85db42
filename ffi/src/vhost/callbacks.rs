//! What librte_vhost calls on its thread (`vhost-events`) when the other side of a socket does something. Enters: a
//! device number. Leaves: changes of the [`Rings`] of the port at that socket. A panic never crosses into C.
//!
//! Calls for one device come one after another. librte_vhost keeps the device until `destroy_device` has returned, and
//! that returns only when no lcore is within it any more.

use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::rings::Rings;
use crate::sys;

/// Every open socket and the rings of its port.
static SOCKETS: Mutex<Vec<(CString, Weak<Rings>)>> = Mutex::new(Vec::new());

/// What librte_vhost reads.
struct Operations(sys::rte_vhost_device_ops);

// SAFETY: functions and null pointers, never written.
unsafe impl Sync for Operations {}

static OPERATIONS: Operations = Operations(sys::rte_vhost_device_ops {
    new_device: Some(new_device),
    destroy_device: Some(destroy_device),
    vring_state_changed: Some(vring_state_changed),
    features_changed: Some(features_changed),
    new_connection: None,
    destroy_connection: Some(destroy_connection),
    guest_notified: None,
    reserved: [std::ptr::null_mut(); 1],
});

fn sockets() -> MutexGuard<'static, Vec<(CString, Weak<Rings>)>> {
    SOCKETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, what happens at this socket concerns these rings.
pub(super) fn register(path: &CStr, rings: &Arc<Rings>) {
    sockets().push((path.to_owned(), Arc::downgrade(rings)));
}

/// Nothing happens at their socket any more.
pub(super) fn forget(rings: &Arc<Rings>) {
    sockets().retain(|(_, other)| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(rings)));
}

/// Has librte_vhost call this module for a socket; gives its return code.
///
/// # Safety
/// `path` is NUL-terminated and registered with librte_vhost.
pub(super) unsafe fn set(path: *const c_char) -> c_int {
    // SAFETY: the operations are static, and never change.
    unsafe { sys::rte_vhost_driver_callback_register(path, &OPERATIONS.0) }
}

/// Runs `act` with the rings of a device's port.
fn with(vid: c_int, act: impl FnOnce(&Rings)) -> c_int {
    let acted = catch_unwind(AssertUnwindSafe(|| {
        let mut path = [0; sys::PATH_MAX as usize];
        // SAFETY: at most as many bytes are written as the array has, with a NUL.
        let path = unsafe {
            if sys::rte_vhost_get_ifname(vid, path.as_mut_ptr(), path.len()) != 0 {
                return false;
            }
            CStr::from_ptr(path.as_ptr())
        };
        let found =
            sockets().iter().find(|(at, _)| at.as_c_str() == path).and_then(|(_, rings)| rings.upgrade());
        let Some(rings) = found else { return false };
        act(&rings);
        true
    }));
    // A panic cannot be reported from here; the panic hook has printed it.
    if acted.unwrap_or(false) { 0 } else { -1 }
}

/// The other side has set up the rings: they run.
unsafe extern "C" fn new_device(vid: c_int) -> c_int {
    let mut features = 0;
    // SAFETY: librte_vhost calls for a device that exists; `features` is ours.
    if unsafe { sys::rte_vhost_get_negotiated_features(vid, &mut features) } != 0 {
        return -1;
    }
    with(vid, |rings| rings.attach(vid, features))
}

/// The rings stop, or the connection has ended. The device is gone when this returns.
unsafe extern "C" fn destroy_device(vid: c_int) {
    with(vid, |rings| rings.detach(vid));
}

unsafe extern "C" fn vring_state_changed(vid: c_int, ring: u16, enable: c_int) -> c_int {
    with(vid, |rings| rings.enable(vid, ring, enable != 0))
}

unsafe extern "C" fn features_changed(vid: c_int, features: u64) -> c_int {
    with(vid, |rings| rings.change_features(features))
}

unsafe extern "C" fn destroy_connection(vid: c_int) {
    with(vid, |rings| rings.disconnected(vid));
}

//! Lcores: DPDK's pinned threads. Enters: a closure for a waiting lcore. Leaves: its result, or its panic as an
//! error; a panic never crosses into C.

use std::any::Any;
use std::ffi::{CString, c_int, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind};
use crate::sys;

/// The number of an lcore, as in the EAL argument `-l`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LcoreId(u32);

impl LcoreId {
    /// An lcore by its number; whether it exists is found out when it is used.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The lcore this thread is, if it is one.
    pub fn current() -> Option<Self> {
        // SAFETY: reads a thread-local integer; valid before and after EAL.
        let id = unsafe { sys::shim_lcore_id() };
        (id != sys::SHIM_LCORE_NONE).then_some(Self(id))
    }

    /// The NUMA node of its CPU.
    pub fn socket(self) -> u32 {
        // SAFETY: indexes EAL's static lcore table, for which the number is checked.
        if self.0 < sys::RTE_MAX_LCORE { unsafe { sys::rte_lcore_to_socket_id(self.0) } } else { 0 }
    }
}

impl fmt::Display for LcoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

type Outcome<T> = Arc<Mutex<Option<Result<T, String>>>>;

/// A closure that runs on an lcore. Dropping it does not stop the closure; the EAL's end waits for it anyway.
#[must_use = "join it, or the panic of the lcore goes unseen"]
pub struct LcoreJob<T> {
    lcore: LcoreId,
    outcome: Outcome<T>,
    // Waiting for an lcore is the main lcore's business.
    _of_the_main_thread: PhantomData<*mut ()>,
}

impl<T> LcoreJob<T> {
    /// Where it runs.
    pub fn lcore(&self) -> LcoreId {
        self.lcore
    }

    /// Whether it has finished, so that [`join`](Self::join) would not wait.
    pub fn is_finished(&self) -> bool {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits for the closure's end.
    ///
    /// # Errors
    /// [`ErrorKind::Panicked`] with the panic's message.
    pub fn join(self) -> Result<T, Error> {
        // SAFETY: the lcore was launched by this EAL; self cannot leave the main lcore's thread.
        unsafe { sys::rte_eal_wait_lcore(self.lcore.0) };
        let panicked =
            |why: &str| Error::new(ErrorKind::Panicked, format!("lcore {} panicked: {why}", self.lcore));
        match self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(Ok(value)) => Ok(value),
            Some(Err(why)) => Err(panicked(&why)),
            None => Err(panicked("it ended without a result")),
        }
    }
}

type Entry = Box<dyn FnOnce() + Send>;

/// Launches on an lcore known to be a worker.
pub(crate) fn launch<T, F>(lcore: LcoreId, f: F) -> Result<LcoreJob<T>, Error>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let outcome: Outcome<T> = Arc::new(Mutex::new(None));
    let to = outcome.clone();
    let entry: Entry = Box::new(move || {
        let result = catch_unwind(AssertUnwindSafe(f)).map_err(message);
        *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    });
    let arg: *mut Entry = Box::into_raw(Box::new(entry));
    // SAFETY: `enter` matches lcore_function_t, and `arg` stays valid until `enter` takes it back.
    let rc = unsafe { sys::rte_eal_remote_launch(Some(enter), arg.cast(), lcore.0) };
    if rc != 0 {
        // SAFETY: the launch was refused, so `enter` will not run and the box is still ours.
        drop(unsafe { Box::from_raw(arg) });
        return Err(Error::new(ErrorKind::Busy, format!("lcore {lcore} is still running something else")));
    }
    Ok(LcoreJob { lcore, outcome, _of_the_main_thread: PhantomData })
}

unsafe extern "C" fn enter(arg: *mut c_void) -> c_int {
    // SAFETY: `arg` is the box that `launch` gave up, and an lcore runs what it was given once.
    let entry = unsafe { Box::from_raw(arg.cast::<Entry>()) };
    entry();
    0
}

fn message(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => {
            other.downcast::<&str>().map_or_else(|_| "unknown".to_owned(), |text| (*text).to_owned())
        }
    }
}

/// Names the calling thread, as `top -H` and `perf` show it. Longer names are cut to 15 bytes.
pub fn set_thread_name(name: &str) {
    let bytes: Vec<u8> = name.bytes().filter(|b| *b != 0).take(15).collect();
    if let Ok(name) = CString::new(bytes) {
        // SAFETY: a NUL-terminated string of at most 16 bytes, which the kernel copies.
        unsafe { sys::shim_set_thread_name(name.as_ptr()) };
    }
}

/// Lets sleeps of the calling thread end when they should: the kernel may otherwise lengthen each by 50 µs
/// (`PR_SET_TIMERSLACK`), more than an idle lcore's whole sleep.
pub fn tighten_timer_slack() {
    // SAFETY: sets a property of the calling thread.
    unsafe { sys::shim_set_timer_slack(1) };
}

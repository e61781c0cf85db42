//! Wakes librte_vhost's thread. It waits for events of the sockets that there were when it began to wait, for up to a
//! second (`fdset_event_dispatch` of DPDK 22.11), so a guest that connects to a new socket could wait as long. A signal
//! ends its wait. Enters: nothing. Leaves: how many threads were woken.

use std::ffi::c_int;
use std::sync::Once;

/// Part of its name in all versions of DPDK: `vhost-events`, later `dpdk-vhost-evt`.
const NAME: &str = "vhost-ev";
/// A signal that the kernel sends for urgent data of sockets only, if a process asks for it; this one does not.
const SIGNAL: c_int = libc::SIGURG;

extern "C" fn nothing(_: c_int) {}

/// Ends the wait of librte_vhost's thread.
pub(super) fn wake() -> usize {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        let handler: extern "C" fn(c_int) = nothing;
        // SAFETY: zeros are a sigaction without flags that blocks no signal; the handler does nothing, so it may run at
        // any time. Without a handler the signal would be ignored and end no wait.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            libc::sigaction(SIGNAL, &action, std::ptr::null_mut());
        }
    });
    // SAFETY: neither call has requirements; a thread that has ended meanwhile is an error, which changes nothing.
    let signal =
        |thread: libc::pid_t| unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGNAL) == 0 };
    threads().into_iter().filter(|thread| signal(*thread)).count()
}

/// Threads of this process that have the name.
fn threads() -> Vec<libc::pid_t> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let named = |task: std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        if name.contains(NAME) { task.file_name().to_str()?.parse().ok() } else { None }
    };
    tasks.flatten().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn a_thread_of_that_name_waits_no_longer() {
        let (ended, end) = channel();
        let wait = move || {
            // SAFETY: there are no descriptors to read.
            let found = unsafe { libc::poll(std::ptr::null_mut(), 0, 60_000) };
            let _ = ended.send((found, Error::last_os_error().kind()));
        };
        std::thread::Builder::new().name("vhost-events".into()).spawn(wait).unwrap();
        // It may not wait yet when it is woken.
        let woken = (0..10_000).find_map(|_| {
            wake();
            end.recv_timeout(Duration::from_millis(1)).ok()
        });
        assert_eq!(woken, Some((-1, ErrorKind::Interrupted)));
    }
}

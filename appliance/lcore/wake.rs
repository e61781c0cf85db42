//! How lcores wake the control thread. It announces that it sleeps; the first lcore that then puts something into a
//! ring of it wakes it. Enters: something was put into a ring. Leaves: one call of `wake`, on a thread of its own,
//! because a channel has a lock that an lcore must not wait for. An lcore makes one system call for each announced
//! sleep, and otherwise looks at one flag.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread::{self, JoinHandle, Thread},
};

/// The lcores' side.
#[derive(Debug, Clone)]
pub struct Wake {
    shared: Arc<Shared>,
    relay: Thread,
}

/// The control thread's side. Dropping it ends the relay.
#[derive(Debug)]
pub struct Sleeper {
    wake: Wake,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The control thread sleeps, and no lcore has woken it yet.
    announced: AtomicBool,
    stop: AtomicBool,
}

impl Wake {
    /// Something was put into a ring of the control thread. Does not wait.
    #[inline]
    pub fn notify(&self) {
        // Pairs with the fence in `Sleeper::announce`: either this sees the announcement, or the control thread sees
        // what was put into the ring.
        fence(Ordering::SeqCst);
        if self.shared.announced.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if self.shared.announced.swap(false, Ordering::Relaxed) {
            self.relay.unpark();
        }
    }
}

impl Sleeper {
    /// Starts the relay, which calls `wake` for each announced sleep that an lcore ends.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_relay = Arc::clone(&shared);
        let thread = thread::Builder::new().name("stopover-wake".to_owned()).spawn(move || {
            while !of_relay.stop.load(Ordering::Relaxed) {
                // It may return for no reason; then the control thread finds nothing to do.
                thread::park();
                wake();
            }
        })?;
        let relay = thread.thread().clone();
        Ok(Self { wake: Wake { shared, relay }, thread: Some(thread) })
    }

    /// For an lcore.
    #[must_use]
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Announces that the control thread sleeps, unless its rings hold something already. Returns whether it may
    /// sleep.
    pub fn announce(&self, is_empty: impl FnOnce() -> bool) -> bool {
        self.wake.shared.announced.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let may_sleep = is_empty();
        if !may_sleep {
            self.wake.shared.announced.store(false, Ordering::Relaxed);
        }
        may_sleep
    }

    /// The control thread has slept. Returns whether an lcore has woken it.
    pub fn end(&self) -> bool {
        !self.wake.shared.announced.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.wake.shared.stop.store(true, Ordering::Relaxed);
        self.wake.relay.unpark();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            log::error!("the thread that wakes the control thread has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::{channel, queue::ArrayQueue};
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn first_frame_during_an_announced_sleep_wakes_once() {
        let (woken, wakes) = channel::unbounded();
        let sleeper = Sleeper::start(move || woken.send(()).unwrap()).unwrap();
        let wake = sleeper.wake();
        wake.notify();
        assert!(!sleeper.announce(|| false), "there is something already");
        wake.notify();
        assert!(sleeper.announce(|| true));
        wake.notify();
        wake.notify();
        assert_eq!(wakes.recv_timeout(LONG), Ok(()));
        assert!(sleeper.end());
        assert!(sleeper.announce(|| true) && !sleeper.end(), "a timeout ended it");
        assert_eq!(wakes.try_recv(), Err(channel::TryRecvError::Empty), "once for two frames");
    }

    #[test]
    fn no_frame_is_missed() {
        const FRAMES: u32 = 20_000;
        let ring = Arc::new(ArrayQueue::new(4));
        let (woken, wakes) = channel::bounded(1);
        let sleeper = Sleeper::start(move || {
            let _ = woken.try_send(());
        })
        .unwrap();
        let (wake, of_lcore) = (sleeper.wake(), Arc::clone(&ring));
        let lcore = thread::spawn(move || {
            for n in 0..FRAMES {
                while of_lcore.push(n).is_err() {
                    thread::yield_now();
                }
                wake.notify();
            }
        });
        let mut next = 0;
        while next < FRAMES {
            if sleeper.announce(|| ring.is_empty()) {
                assert_eq!(wakes.recv_timeout(LONG), Ok(()), "slept although frame {next} waits");
                sleeper.end();
            }
            while let Some(n) = ring.pop() {
                assert_eq!(n, next);
                next += 1;
            }
        }
        lcore.join().unwrap();
    }
}

//! The relay's thread, and the handle on it. Enters: sockets of vhost-user ports, each with its way to librte_vhost.
//! Leaves: nothing but what the other modules pass on. Callers wait until the thread has done what they ask.

use crate::{
    connection::BackEnd,
    line::{Line, LineError},
    passing::Passed,
    sockets::{RelayError, Sockets, Taken},
};
use rustix::{
    event::{
        EventfdFlags, Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
        eventfd,
    },
    io::{Errno, read, write},
};
use std::{
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

/// The key of what wakes the thread.
const WAKE: u64 = u64::MAX;
/// Most descriptors that are looked at between two waits.
const EVENTS: usize = 64;
/// Without an event it looks after so long whether something is due.
const IDLE: Duration = Duration::from_secs(60);

/// An open socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketKey(u64);

type Command = Box<dyn FnOnce(&mut Sockets) + Send>;

/// See the crate. The thread lives as long as the process: it has one.
#[derive(Debug)]
pub struct Relay {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
}

impl Relay {
    /// Starts the thread.
    ///
    /// # Errors
    /// There are too many files or threads.
    pub fn start() -> io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let (commands, received) = channel();
        let woken = Arc::clone(&wake);
        let serve = move || serve(Sockets::new(epoll), &received, &woken);
        std::thread::Builder::new().name("vmm-relay".to_owned()).spawn(serve)?;
        Ok(Self { commands, wake })
    }

    /// Has the thread do something.
    fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Sockets) -> T + Send + 'static,
    ) -> Result<T, RelayError> {
        let (done, result) = channel();
        let command = move |sockets: &mut Sockets| drop(done.send(act(sockets)));
        self.commands.send(Box::new(command)).map_err(|_| RelayError::Ended)?;
        // It is full only if the thread is being woken anyway.
        let _ = write(&*self.wake, &1_u64.to_ne_bytes());
        result.recv().map_err(|_| RelayError::Ended)
    }

    /// Serves a socket. `client`: the VMM listens there.
    ///
    /// # Errors
    /// The path cannot be used.
    pub fn open(&self, path: PathBuf, client: bool, back: BackEnd) -> Result<SocketKey, RelayError> {
        self.ask(move |sockets| sockets.open(path, client, back))?.map(SocketKey)
    }

    /// Closes a socket and its connections.
    pub fn close(&self, SocketKey(number): SocketKey) {
        // Without the thread nothing is open.
        let _ = self.ask(move |sockets| sockets.close(number));
    }

    /// Sockets that are opened from now on wait for [`Self::take`]: another process serves them.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn await_passed(&self) -> Result<(), RelayError> {
        self.ask(Sockets::await_passed)
    }

    /// Takes the sockets and connections of a predecessor. When this returns, the rings of their guests run. What no open
    /// socket is for is closed; sockets that were not passed on are opened.
    ///
    /// # Errors
    /// The path of a socket cannot be used.
    pub fn take(&self, passed: Passed) -> Result<Taken, RelayError> {
        self.ask(|sockets| sockets.take(passed))?
    }

    /// Gives all sockets and connections to a successor. No lcore may use the guests' rings. A connection that cannot be
    /// passed on is closed.
    ///
    /// # Errors
    /// The successor is not there any more.
    pub fn pass(&self, line: &Line) -> Result<(), LineError> {
        let line = line.another().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::MFILE))?;
        self.ask(move |sockets| sockets.pass(&line)).unwrap_or(Err(LineError::End))
    }
}

/// The thread, until the handle is dropped.
fn serve(mut sockets: Sockets, commands: &Receiver<Command>, wake: &OwnedFd) {
    let mut events = [MaybeUninit::<Event>::uninit(); EVENTS];
    loop {
        let due = sockets.next_try().map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
        let timeout = Timespec::try_from(due.min(IDLE)).ok();
        let ready: Vec<u64> = match epoll::wait(sockets.epoll(), &mut events, timeout.as_ref()) {
            Ok((ready, _)) => ready.iter().map(|event| event.data.u64()).collect(),
            Err(Errno::INTR) => continue,
            Err(e) => return log::error!("the sockets of VMMs are not served any more: {e}"),
        };
        for key in ready {
            if key != WAKE {
                sockets.on_ready(key);
                continue;
            }
            let _ = read(wake, &mut [0; 8]);
            loop {
                match commands.try_recv() {
                    Ok(command) => command(&mut sockets),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                }
            }
        }
        sockets.try_due(Instant::now());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The thread wakes, and finds that nobody asks any more.
        let (commands, _) = channel();
        drop(std::mem::replace(&mut self.commands, commands));
        let _ = write(&*self.wake, &1_u64.to_ne_bytes());
    }
}

//! All sockets of vhost-user ports, and their connections: what the relay's thread has. Enters: what is ready, sockets that
//! are opened and closed, what a predecessor has passed on. Leaves: connections, served; what a successor gets.

use crate::{
    connection::{BackEnd, Connection},
    line::{Line, LineError},
    passing::{Passed, PassedSocket, Piece},
    wire::Broken,
};
use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect, socket_with},
};
use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often a client tries to reach a VMM.
const RETRY: Duration = Duration::from_secs(1);
/// librte_vhost connects again within so long.
const BACK_END: Duration = Duration::from_millis(100);
/// Most VMMs at one socket before others get their turn.
const TURN: usize = 16;

/// Why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// It cannot be listened at.
    #[error("socket {}: cannot listen: {why}; expected a path that is free and may be written; hint: give `iface` another path", .path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the kernel reports.
        why: io::Error,
    },
    /// The thread has ended.
    #[error(
        "the thread that serves the sockets of VMMs has ended; hint: see the log for why, and start again"
    )]
    Ended,
}

/// What came from a predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Connections whose VMMs have not noticed.
    pub connections: u32,
    /// Connections that were closed.
    pub closed: u32,
}

/// Parts of a key for the kernel: the number of a socket or a connection, and which of its descriptors.
const SIDES: u64 = 4;
const LISTENER: u64 = 0;
const FRONT: u64 = 1;
const BACK: u64 = 2;

/// How VMMs come.
#[derive(Debug)]
enum Door {
    /// Another process still has the path.
    Closed,
    /// They connect.
    Listens(OwnedFd),
    /// We connect: not before this time, and only while there is no connection.
    Connects { from: Instant, is_connected: bool },
}

#[derive(Debug)]
struct Socket {
    path: PathBuf,
    client: bool,
    back: BackEnd,
    door: Door,
}

impl Socket {
    /// From when on a VMM is tried to be reached.
    fn tries_from(&self) -> Option<Instant> {
        match self.door {
            Door::Connects { from, is_connected: false } => Some(from),
            Door::Connects { .. } | Door::Closed | Door::Listens(_) => None,
        }
    }

    /// A connection has begun, or ended.
    const fn set_connected(&mut self, connected: bool) {
        if let Door::Connects { is_connected, .. } = &mut self.door {
            *is_connected = connected;
        }
    }
}

#[derive(Debug)]
struct Served {
    socket: u64,
    connection: Connection,
    interest: [EventFlags; 2],
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sockets {
    epoll: OwnedFd,
    sockets: BTreeMap<u64, Socket>,
    connections: BTreeMap<u64, Served>,
    next: u64,
    /// Sockets are opened when a predecessor has passed on its own.
    awaits: bool,
}

impl Sockets {
    /// `epoll`: what the thread waits for.
    pub(crate) const fn new(epoll: OwnedFd) -> Self {
        Self { epoll, sockets: BTreeMap::new(), connections: BTreeMap::new(), next: 0, awaits: false }
    }

    pub(crate) const fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    pub(crate) const fn await_passed(&mut self) {
        self.awaits = true;
    }

    const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Opens a socket; returns its number.
    pub(crate) fn open(&mut self, path: PathBuf, client: bool, back: BackEnd) -> Result<u64, RelayError> {
        let number = self.number();
        self.sockets.insert(number, Socket { path, client, back, door: Door::Closed });
        if !self.awaits {
            self.open_door(number).inspect_err(|_| drop(self.sockets.remove(&number)))?;
        }
        Ok(number)
    }

    fn open_door(&mut self, number: u64) -> Result<(), RelayError> {
        let Some(socket) = self.sockets.get(&number) else { return Ok(()) };
        if socket.client {
            self.connect(number);
            return Ok(());
        }
        let path = socket.path.clone();
        let failed = |e| RelayError::Listen { path: path.clone(), why: e };
        let listener = UnixListener::bind(&path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        self.listen(number, listener.into()).map_err(|e| failed(e.into()))
    }

    fn listen(&mut self, number: u64, listener: OwnedFd) -> Result<(), Errno> {
        self.watch(&listener, number, LISTENER, EventFlags::IN)?;
        if let Some(socket) = self.sockets.get_mut(&number) {
            socket.door = Door::Listens(listener);
        }
        Ok(())
    }

    fn watch(&self, fd: impl AsFd, number: u64, side: u64, flags: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(number * SIDES + side), flags)
    }

    /// Closes a socket and its connections.
    pub(crate) fn close(&mut self, number: u64) {
        self.connections.retain(|_, served| served.socket != number);
        let Some(socket) = self.sockets.remove(&number) else { return };
        if let Door::Listens(_) = socket.door {
            // It may have been removed already.
            let _ = std::fs::remove_file(socket.path);
        }
    }

    /// When a VMM is to be tried again.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.sockets.values().filter_map(Socket::tries_from).min()
    }

    /// Tries to reach the VMMs whose time has come.
    pub(crate) fn try_due(&mut self, now: Instant) {
        let is_due = |socket: &Socket| socket.tries_from().is_some_and(|from| from <= now);
        let due: Vec<u64> =
            self.sockets.iter().filter(|(_, socket)| is_due(socket)).map(|(number, _)| *number).collect();
        due.into_iter().for_each(|number| self.connect(number));
    }

    fn connect(&mut self, number: u64) {
        let Some(socket) = self.sockets.get_mut(&number) else { return };
        socket.door = Door::Connects { from: Instant::now() + RETRY, is_connected: false };
        // Nobody is there yet: it is tried again.
        if let Ok(front) = connect_to(&socket.path) {
            self.begin(number, front);
        }
    }

    /// Serves a VMM that has connected.
    fn begin(&mut self, number: u64, front: OwnedFd) {
        let Some(socket) = self.sockets.get(&number) else { return };
        let begun =
            Connection::new(front, &socket.back, Instant::now() + BACK_END).map_err(|e| e.to_string());
        let served = begun.and_then(|connection| self.serve(number, connection).map_err(|e| e.to_string()));
        if let Err(why) = served {
            log::warn!("socket {}: a VMM cannot be served: {why}", self.path(number).display());
        }
    }

    fn path(&self, number: u64) -> &Path {
        self.sockets.get(&number).map_or(Path::new("?"), |socket| &socket.path)
    }

    fn serve(&mut self, socket: u64, connection: Connection) -> Result<(), Errno> {
        let (number, interest) = (self.number(), connection.interest());
        let [front, back] = interest;
        self.watch(&connection.front, number, FRONT, front)?;
        self.watch(&connection.back, number, BACK, back)?;
        self.connections.insert(number, Served { socket, connection, interest });
        if let Some(socket) = self.sockets.get_mut(&socket) {
            socket.set_connected(true);
        }
        Ok(())
    }

    /// One of the descriptors is ready.
    pub(crate) fn on_ready(&mut self, key: u64) {
        let (number, side) = (key / SIDES, key % SIDES);
        if side == LISTENER { self.accept(number) } else { self.advance(number) }
    }

    fn accept(&mut self, number: u64) {
        for _ in 0..TURN {
            let Some(Socket { door: Door::Listens(listener), path, .. }) = self.sockets.get(&number) else {
                return;
            };
            match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(front) => self.begin(number, front),
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
                Err(e) => {
                    log::warn!("socket {}: a VMM cannot connect: {e}", path.display());
                    // Too many files: not at once again.
                    return std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    fn advance(&mut self, number: u64) {
        let Some(served) = self.connections.get_mut(&number) else { return };
        let advanced = served.connection.advance().and_then(|()| {
            let interest = served.connection.interest();
            let sides = [(&served.connection.front, FRONT), (&served.connection.back, BACK)];
            for ((fd, side), (new, old)) in sides.into_iter().zip(interest.into_iter().zip(served.interest)) {
                if new != old {
                    let key = EventData::new_u64(number * SIDES + side);
                    epoll::modify(&self.epoll, fd, key, new)?;
                }
            }
            served.interest = interest;
            Ok(())
        });
        if let Err(why) = advanced {
            self.end(number, why);
        }
    }

    /// A connection has ended. A client tries to reach the VMM again.
    fn end(&mut self, number: u64, why: Broken) {
        let Some(Served { socket, .. }) = self.connections.remove(&number) else { return };
        if why != Broken::End {
            log::warn!("socket {}: the connection of its VMM is closed: {why}", self.path(socket).display());
        }
        if let Some(socket) = self.sockets.get_mut(&socket) {
            socket.set_connected(false);
        }
    }

    /// Gives sockets and connections to a successor. They are no longer served.
    pub(crate) fn pass(&mut self, line: &Line) -> Result<(), LineError> {
        let mut connections: Vec<Served> = std::mem::take(&mut self.connections).into_values().collect();
        for (number, socket) in std::mem::take(&mut self.sockets) {
            let listener = match &socket.door {
                Door::Listens(listener) => Some(listener),
                Door::Closed | Door::Connects { .. } => None,
            };
            if let Some(listener) = listener {
                self.forget(listener);
            }
            if socket.client || listener.is_some() {
                let path = socket.path.clone();
                Piece::Socket { path, client: socket.client, listener }.send(line)?;
            }
            for mut served in connections.extract_if(.., |served| served.socket == number) {
                self.forget(&served.connection.front);
                self.forget(&served.connection.back);
                match served.connection.stop_all() {
                    Ok(()) => served.connection.pieces().try_for_each(|piece| piece.send(line))?,
                    Err(why) => log::warn!(
                        "socket {}: its VMM has to reconnect: the connection is not passed on: {why}",
                        socket.path.display()
                    ),
                }
            }
        }
        Piece::<OwnedFd>::End.send(line)
    }

    /// Waits for it no longer. The kernel would do so as long as the successor has it open.
    fn forget(&self, fd: impl AsFd) {
        if let Err(e) = epoll::delete(&self.epoll, fd) {
            log::debug!("the sockets of VMMs: {e}");
        }
    }

    /// Takes what a predecessor has passed on, and opens the other sockets.
    pub(crate) fn take(&mut self, mut passed: Passed) -> Result<Taken, RelayError> {
        self.awaits = false;
        let mut taken = Taken::default();
        let closed: Vec<u64> = self.sockets.keys().copied().collect();
        for number in closed {
            let Some(socket) = self.sockets.get(&number) else { continue };
            match passed.take(&socket.path, socket.client) {
                Some(passed) => self.resume(number, passed, &mut taken)?,
                None => self.open_door(number)?,
            }
        }
        for socket in passed.rest().into_iter().filter(|socket| socket.listener.is_some()) {
            // Of no port of this process.
            let _ = std::fs::remove_file(socket.path);
        }
        Ok(taken)
    }

    fn resume(&mut self, number: u64, passed: PassedSocket, taken: &mut Taken) -> Result<(), RelayError> {
        let PassedSocket { path, listener, connections, .. } = passed;
        match listener {
            Some(listener) => {
                let failed = |e: Errno| RelayError::Listen { path: path.clone(), why: e.into() };
                self.listen(number, listener).map_err(failed)?;
            }
            None => {
                if let Some(socket) = self.sockets.get_mut(&number) {
                    socket.door = Door::Connects { from: Instant::now(), is_connected: false };
                }
            }
        }
        for connection in connections {
            let Some(socket) = self.sockets.get(&number) else { break };
            let resumed = Connection::resume(connection, &socket.back).map_err(|e| e.to_string());
            let served =
                resumed.and_then(|connection| self.serve(number, connection).map_err(|e| e.to_string()));
            match served {
                Ok(()) => taken.connections += 1,
                Err(why) => {
                    taken.closed += 1;
                    let path = path.display();
                    log::warn!("socket {path}: its VMM has to reconnect: its device is not set up: {why}");
                }
            }
        }
        Ok(())
    }
}

fn connect_to(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let front = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&front, &SocketAddrUnix::new(path)?)?;
    Ok(front)
}

//! The line between a process and its successor: a socket that keeps the borders of packets, with file descriptors beside
//! them. Enters: packets. Leaves: the same at the other end. Whoever listens is asked for its user before anything is sent.

use crate::{
    folder::Folder,
    message::{HEADER, MAX_FDS, MAX_PAYLOAD},
    wire::{receive, send, wait},
};
use rustix::{
    event::PollFlags,
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
        socket_with, sockopt::socket_peercred,
    },
    process::geteuid,
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Most bytes of a packet: a message, and what is said of it.
const MAX_PACKET: usize = HEADER + MAX_PAYLOAD + 64;
/// In the folder.
const NAME: &str = "line";
/// The other end has so long to make room.
const ROOM: Duration = Duration::from_secs(2);

/// Why nothing can be sent or received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The other process is not there any more.
    #[error("the other process has ended")]
    End,
    /// The kernel refuses.
    #[error("the line between the processes has failed: {0}")]
    Socket(#[from] Errno),
    /// The other end is of another user.
    #[error(
        "the line ends at a process of user {0}; expected one of user {1}; hint: start both as the same user"
    )]
    User(u32, u32),
    /// It is longer than a packet can be.
    #[error(
        "found a packet that is longer than {MAX_PACKET} bytes or has more than {MAX_FDS} descriptors; hint: both processes must be of this version"
    )]
    Packet,
    /// Nothing came in time.
    #[error("nothing came from the other process in time")]
    Late,
}

/// What is sent at once.
#[derive(Debug)]
pub struct Packet {
    /// At least one byte.
    pub bytes: Vec<u8>,
    /// Beside them.
    pub fds: Vec<OwnedFd>,
}

/// One end.
#[derive(Debug)]
pub struct Line(OwnedFd);

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Where the other end is to connect: a path that only this user reaches.
#[derive(Debug)]
pub struct LineListener {
    socket: OwnedFd,
    folder: Folder,
}

impl LineListener {
    /// A new one, in a folder of its own within this folder.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn within(folder: &Path) -> io::Result<Self> {
        let (folder, socket) = (Folder::within(folder)?, new_socket()?);
        bind(&socket, &SocketAddrUnix::new(folder.path().join(NAME))?)?;
        listen(&socket, 1)?;
        Ok(Self { socket, folder })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }

    /// The line to whoever has connected.
    ///
    /// # Errors
    /// Nobody has in time, or another user.
    pub fn accept(&self, until: Instant) -> Result<Line, LineError> {
        if !wait(&self.socket, PollFlags::IN, until)? {
            return Err(LineError::Late);
        }
        Line(accept_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?).of_same_user()
    }
}

impl Line {
    /// The line to the process that listens at a path.
    ///
    /// # Errors
    /// None does, or one of another user.
    pub fn connect(path: &Path) -> Result<Self, LineError> {
        let socket = new_socket()?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Self(socket).of_same_user()
    }

    /// A guest's memory is not for everyone.
    fn of_same_user(self) -> Result<Self, LineError> {
        let (other, own) = (socket_peercred(&self.0)?.uid, geteuid());
        if other == own { Ok(self) } else { Err(LineError::User(other.as_raw(), own.as_raw())) }
    }

    /// The same line, for another thread.
    ///
    /// # Errors
    /// The process has too many files open.
    pub fn another(&self) -> std::io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// The other end is not there, or makes no room.
    pub fn send<F: AsFd>(&self, bytes: &[u8], fds: &[F]) -> Result<(), LineError> {
        if bytes.is_empty() || bytes.len() > MAX_PACKET || fds.len() > MAX_FDS {
            return Err(LineError::Packet);
        }
        let (fds, until): (Vec<_>, _) = (fds.iter().map(AsFd::as_fd).collect(), Instant::now() + ROOM);
        loop {
            match send(&self.0, bytes, &fds) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) if wait(&self.0, PollFlags::OUT, until)? => {}
                Ok(None) => return Err(LineError::Late),
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(LineError::End),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Receives a packet.
    ///
    /// # Errors
    /// The other end is not there, or sends nothing in time.
    pub fn receive(&self, until: Instant) -> Result<Packet, LineError> {
        let (mut bytes, mut fds) = (vec![0; MAX_PACKET], Vec::new());
        loop {
            match receive(&self.0, &mut bytes, &mut fds) {
                Ok(Some(received)) if received.is_cut => return Err(LineError::Packet),
                Ok(Some(received)) if received.bytes == 0 => return Err(LineError::End),
                Ok(Some(received)) => {
                    bytes.truncate(received.bytes);
                    return Ok(Packet { bytes, fds });
                }
                Ok(None) if wait(&self.0, PollFlags::IN, until)? => {}
                Ok(None) => return Err(LineError::Late),
                Err(Errno::CONNRESET) => return Err(LineError::End),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

//! Messages on a stream socket. Enters: a socket that does not wait. Leaves: whole messages, sent or received; or that
//! there is nothing to be done now. [`wait`] is for those who must not go on without.

use crate::message::{HEADER, Header, MAX_FDS, Message, MessageError};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// The other side has closed it.
    #[error("the connection has ended")]
    End,
    #[error("the connection has failed: {0}")]
    Socket(#[from] Errno),
    #[error("{0}")]
    Message(#[from] MessageError),
    /// Nothing came, or could be sent, for too long.
    #[error("no answer in time")]
    Late,
}

/// What was received.
pub(crate) struct Received {
    pub bytes: usize,
    pub is_cut: bool,
}

/// Receives bytes and descriptors once. `None`: nothing is there.
pub(crate) fn receive(
    from: impl AsFd,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<Option<Received>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = match recvmsg(from, &mut [IoSliceMut::new(buffer)], &mut beside, flags) {
        Ok(received) => received,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        Err(e) => return Err(e),
    };
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let is_cut = received.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC);
    Ok(Some(Received { bytes: received.bytes, is_cut }))
}

/// Sends bytes and descriptors once; returns how many bytes. `None`: there is no room.
pub(crate) fn send(to: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Option<usize>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    match sendmsg(to, &[IoSlice::new(bytes)], &mut beside, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) => Ok(Some(sent)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Waits until a descriptor is ready; false if it is not in time.
pub(crate) fn wait(fd: impl AsFd, flags: PollFlags, until: Instant) -> Result<bool, Errno> {
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now()));
        let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), flags)];
        match poll(&mut fds, Some(&left.map_err(|_| Errno::INVAL)?)) {
            Ok(found) => return Ok(found > 0),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// A message that is being received.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Incoming {
    /// Nothing of a message is there.
    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next message, if all of it is there.
    pub(crate) fn next(&mut self, from: impl AsFd) -> Result<Option<Message<OwnedFd>>, Broken> {
        loop {
            let wanted = match self.bytes.first_chunk::<HEADER>() {
                None => HEADER,
                Some(head) => Header::parse(*head)?.total(),
            };
            if self.bytes.len() >= wanted && self.bytes.len() >= HEADER {
                let (bytes, fds) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.fds));
                return Ok(Some(Message::parse(&bytes, fds)?));
            }
            let mut buffer = vec![0; wanted - self.bytes.len()];
            let Some(received) = receive(from.as_fd(), &mut buffer, &mut self.fds)? else { return Ok(None) };
            if received.is_cut || self.fds.len() > MAX_FDS {
                return Err(MessageError::Descriptors.into());
            }
            if received.bytes == 0 {
                return Err(Broken::End);
            }
            self.bytes.extend(buffer.iter().take(received.bytes));
        }
    }

    /// The same, but waits for it.
    pub(crate) fn next_by(&mut self, from: impl AsFd, until: Instant) -> Result<Message<OwnedFd>, Broken> {
        loop {
            if let Some(message) = self.next(from.as_fd())? {
                return Ok(message);
            }
            if !wait(from.as_fd(), PollFlags::IN, until)? {
                return Err(Broken::Late);
            }
        }
    }
}

/// A message that is being sent.
#[derive(Debug)]
pub(crate) struct Outgoing<F> {
    message: Message<F>,
    bytes: Vec<u8>,
    sent: usize,
}

impl<F: AsFd> Outgoing<F> {
    pub(crate) fn new(message: Message<F>) -> Self {
        Self { bytes: message.bytes(), message, sent: 0 }
    }

    /// Whether all of it is sent now. Descriptors go with the first byte.
    pub(crate) fn send(&mut self, to: impl AsFd) -> Result<bool, Broken> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let fds: Vec<BorrowedFd<'_>> = match self.sent {
                0 => self.message.fds().iter().map(AsFd::as_fd).collect(),
                _ => Vec::new(),
            };
            match send(to.as_fd(), rest, &fds)? {
                Some(sent) => self.sent += sent,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The same, but waits for it.
    pub(crate) fn send_by(&mut self, to: impl AsFd, until: Instant) -> Result<(), Broken> {
        while !self.send(to.as_fd())? {
            if !wait(to.as_fd(), PollFlags::OUT, until)? {
                return Err(Broken::Late);
            }
        }
        Ok(())
    }

    /// What was sent.
    pub(crate) fn into_message(self) -> Message<F> {
        self.message
    }
}

//! What a process tells its successor of sockets and connections, in pieces of a packet each. Enters: connections that
//! wait, packets. Leaves: packets, or what all of them mean. The messages of a set-up are the VMM's own, so the format has
//! little of its own: the first byte is the kind, the second the version of the format.

use crate::{
    line::{Line, LineError, Packet},
    message::{Message, MessageError},
    record::{Answer, Step},
};
use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    time::Instant,
};

/// Of the format.
const VERSION: u8 = 1;
/// Most sockets, and most steps of a connection: 256 rings of seven steps, and what is before them.
const MAX_SOCKETS: usize = 4096;
const MAX_STEPS: usize = 2048;

const SOCKET: u8 = b'P';
const CONNECTION: u8 = b'C';
const STEP: u8 = b'S';
const COMPLETE: u8 = b'D';
const END: u8 = b'E';

/// Why packets mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// Of another format.
    #[error(
        "found a piece {0:?}; expected one of version {VERSION}; hint: both processes must be of this version"
    )]
    Kind(Option<[u8; 2]>),
    /// It has too few bytes, or a wrong number of descriptors.
    #[error(
        "found a piece {0:?} with {1} bytes and {2} descriptors; expected others; hint: both processes must be of this version"
    )]
    Shape(char, usize, usize),
    /// Its message is none.
    #[error("{0}")]
    Message(#[from] MessageError),
    /// They come in an order that means nothing, or are too many.
    #[error("found a piece where none of its kind can be; hint: both processes must be of this version")]
    Order,
    /// There are no further ones.
    #[error("{0}")]
    Line(#[from] LineError),
}

/// A part of what is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<F> {
    /// A socket, and who listens.
    Socket {
        /// Its path.
        path: PathBuf,
        /// The VMM listens there. Otherwise this process does, by the descriptor.
        client: bool,
        /// See `client`.
        listener: Option<F>,
    },
    /// A connection at this socket.
    Connection(F),
    /// A step of its set-up.
    Step(Step<F>),
    /// That was the last step.
    Complete,
    /// There is no further socket.
    End,
}

impl<F> Piece<F> {
    /// Its bytes, and the descriptors beside them.
    pub fn to_parts(&self) -> (Vec<u8>, Vec<&F>) {
        let head = |kind| vec![kind, VERSION];
        match self {
            Self::Socket { path, client, listener } => {
                let mut bytes = head(SOCKET);
                bytes.push(u8::from(*client));
                bytes.extend_from_slice(path.as_os_str().as_bytes());
                (bytes, listener.iter().collect())
            }
            Self::Connection(front) => (head(CONNECTION), vec![front]),
            Self::Step(Step { message, answer }) => {
                let (kind, number) = match answer {
                    Answer::None => (0, 0),
                    Answer::Exactly(number) => (1, *number),
                    Answer::Any => (2, 0),
                };
                let mut bytes = head(STEP);
                bytes.push(kind);
                bytes.extend_from_slice(&number.to_ne_bytes());
                bytes.extend_from_slice(&message.bytes());
                (bytes, message.fds().iter().collect())
            }
            Self::Complete => (head(COMPLETE), Vec::new()),
            Self::End => (head(END), Vec::new()),
        }
    }

    /// What a packet means.
    ///
    /// # Errors
    /// Nothing.
    pub fn parse(bytes: &[u8], mut fds: Vec<F>) -> Result<Self, PieceError> {
        let Some(([kind, VERSION], rest)) = bytes.split_first_chunk::<2>() else {
            return Err(PieceError::Kind(bytes.first_chunk().copied()));
        };
        let shape = PieceError::Shape(char::from(*kind), bytes.len(), fds.len());
        match (*kind, fds.len()) {
            (SOCKET, count) => match rest.split_first() {
                Some((client @ (0 | 1), path)) if !path.is_empty() && count == usize::from(*client == 0) => {
                    let path = PathBuf::from(OsStr::from_bytes(path));
                    Ok(Self::Socket { path, client: *client == 1, listener: fds.pop() })
                }
                _ => Err(shape),
            },
            (CONNECTION, 1) if rest.is_empty() => fds.pop().map(Self::Connection).ok_or(shape),
            (STEP, _) => {
                let (kind, rest) = rest.split_first().ok_or(shape.clone())?;
                let (number, message) = rest.split_first_chunk::<8>().ok_or(shape.clone())?;
                let answer = match (kind, u64::from_ne_bytes(*number)) {
                    (0, 0) => Answer::None,
                    (1, number) => Answer::Exactly(number),
                    (2, 0) => Answer::Any,
                    _ => return Err(shape),
                };
                Ok(Self::Step(Step { message: Message::parse(message, fds)?, answer }))
            }
            (COMPLETE, 0) if rest.is_empty() => Ok(Self::Complete),
            (END, 0) if rest.is_empty() => Ok(Self::End),
            (CONNECTION | COMPLETE | END, _) => Err(shape),
            (kind, _) => Err(PieceError::Kind(Some([kind, VERSION]))),
        }
    }
}

impl<F: AsFd> Piece<F> {
    /// Sends it.
    pub(crate) fn send(&self, line: &Line) -> Result<(), LineError> {
        let (bytes, fds) = self.to_parts();
        line.send(&bytes, &fds)
    }
}

/// A connection with the messages that set it up.
#[derive(Debug)]
pub struct PassedConnection<F = OwnedFd> {
    /// To the VMM.
    pub front: F,
    /// In their order.
    pub steps: Vec<Step<F>>,
}

/// A socket with its connections.
#[derive(Debug)]
pub struct PassedSocket<F = OwnedFd> {
    /// Where it is.
    pub path: PathBuf,
    /// The VMM listens. Otherwise there is a `listener`.
    pub client: bool,
    /// See `client`.
    pub listener: Option<F>,
    /// Those that can be passed on.
    pub connections: Vec<PassedConnection<F>>,
}

/// All that a process has passed on.
#[derive(Debug)]
pub struct Passed<F = OwnedFd> {
    sockets: Vec<PassedSocket<F>>,
    /// Of a connection of the last socket that is not complete.
    open: Option<PassedConnection<F>>,
}

impl<F> Default for Passed<F> {
    fn default() -> Self {
        Self { sockets: Vec::new(), open: None }
    }
}

impl<F> Passed<F> {
    /// Adds the next piece. Returns whether it was the last.
    ///
    /// # Errors
    /// It cannot be there.
    pub fn add(&mut self, piece: Piece<F>) -> Result<bool, PieceError> {
        match (piece, &mut self.open) {
            (Piece::Socket { path, client, listener }, None) if self.sockets.len() < MAX_SOCKETS => {
                self.sockets.push(PassedSocket { path, client, listener, connections: Vec::new() });
            }
            (Piece::Connection(front), open @ None) if !self.sockets.is_empty() => {
                *open = Some(PassedConnection { front, steps: Vec::new() });
            }
            (Piece::Step(step), Some(open)) if open.steps.len() < MAX_STEPS => open.steps.push(step),
            (Piece::Complete, Some(_)) => {
                let last = self.sockets.last_mut().ok_or(PieceError::Order)?;
                last.connections.extend(self.open.take());
            }
            (Piece::End, None) => return Ok(true),
            _ => return Err(PieceError::Order),
        }
        Ok(false)
    }

    /// Whether there is a listener for a path.
    #[must_use]
    pub fn has_listener(&self, path: &Path) -> bool {
        self.sockets.iter().any(|socket| socket.path == path && socket.listener.is_some())
    }

    /// Takes a socket out.
    pub(crate) fn take(&mut self, path: &Path, client: bool) -> Option<PassedSocket<F>> {
        let at = self.sockets.iter().position(|socket| socket.path == path && socket.client == client)?;
        Some(self.sockets.swap_remove(at))
    }

    /// The rest of them.
    pub(crate) fn rest(self) -> Vec<PassedSocket<F>> {
        self.sockets
    }
}

impl Passed {
    /// All that the process at the other end passes on.
    ///
    /// # Errors
    /// It ends before, or is of another format.
    pub fn receive(line: &Line, until: Instant) -> Result<Self, PieceError> {
        let mut passed = Self::default();
        loop {
            let Packet { bytes, fds } = line.receive(until)?;
            if passed.add(Piece::parse(&bytes, fds)?)? {
                return Ok(passed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(number: u64) -> Piece<u8> {
        let message = Message::parse(&[5_u32, 1, 0].map(u32::to_ne_bytes).concat(), vec![7, 8]).unwrap();
        Piece::Step(Step { message, answer: Answer::Exactly(number) })
    }

    #[test]
    fn pieces_are_their_bytes() {
        for piece in [
            Piece::Socket { path: "/run/a".into(), client: false, listener: Some(1_u8) },
            Piece::Socket { path: "/run/a".into(), client: true, listener: None },
            Piece::Connection(2),
            step(u64::MAX),
            Piece::Complete,
            Piece::End,
        ] {
            let (bytes, fds) = piece.to_parts();
            assert_eq!(Piece::parse(&bytes, fds.into_iter().copied().collect()), Ok(piece));
        }
    }

    #[test]
    fn only_a_whole_connection_is_taken() {
        let socket = || Piece::Socket { path: "/a".into(), client: true, listener: None };
        let mut passed = Passed::default();
        assert_eq!(passed.add(Piece::Connection(1)), Err(PieceError::Order), "of no socket");
        for piece in [socket(), Piece::Connection(1_u8), step(3)] {
            assert_eq!(passed.add(piece), Ok(false));
        }
        assert_eq!(passed.add(Piece::End), Err(PieceError::Order), "not complete");
        assert_eq!(passed.add(socket()), Err(PieceError::Order));
        assert_eq!(passed.add(Piece::Complete), Ok(false));
        assert_eq!(passed.add(step(3)), Err(PieceError::Order), "of no connection");
        assert_eq!(passed.add(Piece::End), Ok(true));
        assert!(passed.take(Path::new("/a"), false).is_none() && !passed.has_listener(Path::new("/a")));
        let taken = passed.take(Path::new("/a"), true).unwrap();
        assert_eq!((taken.connections.len(), taken.connections[0].steps.len()), (1, 1));
    }

    proptest! {
        /// Whatever another process sends is a piece or an error with a hint.
        #[test]
        fn bytes_are_a_piece_or_an_error(
            head in prop::sample::select(&b"PCSDEX"[..]),
            version in 0..3_u8,
            rest in prop::collection::vec(0..4_u8, 0..30),
            fds in 0..3_usize,
        ) {
            let bytes = [&[head, version][..], &rest].concat();
            match Piece::parse(&bytes, vec![0_u8; fds]) {
                Ok(piece) => prop_assert_eq!(piece.to_parts().0, bytes),
                Err(e) => prop_assert!(e.to_string().contains("hint: "), "{}", e),
            }
        }
    }
}

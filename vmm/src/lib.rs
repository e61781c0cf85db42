//! Connections of VMMs at vhost-user sockets. This room is between a VMM and librte_vhost: it has the socket and the
//! connection, passes the messages of both on, and keeps what the VMM has set up ([`Record`]). So a process can give a
//! connection to its successor, which sets up the same at its own librte_vhost, and the VMM does not notice ([`Relay`]).
//!
//! Enters: sockets, messages with file descriptors. Leaves: the same to the other side, and over a [`Line`] to a successor.
//! No frame may enter: rings are shared memory between the guest and librte_vhost.
#![forbid(unsafe_code)]

mod connection;
#[cfg(any(test, feature = "exercise"))]
pub mod exercise;
#[cfg(test)]
mod exercise_tests;
mod folder;
mod line;
mod message;
mod passing;
mod record;
mod relay;
mod sockets;
mod wire;

pub use connection::BackEnd;
pub use folder::Folder;
pub use line::{Line, LineError, LineListener, Packet};
pub use message::{Change, Header, MAX_FDS, MAX_PAYLOAD, Message, MessageError, RingChange};
pub use passing::{Passed, PassedConnection, PassedSocket, Piece, PieceError};
pub use record::{Answer, Hindrance, Record, Step};
pub use relay::{Relay, SocketKey};
pub use sockets::{RelayError, Taken};

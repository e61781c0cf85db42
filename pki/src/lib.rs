//! Who is who on a network, and the proof of it: the names in certificates, and TLS with them.
//!
//! This room turns bytes that a peer presents into an [`Identity`], and a folder of [`Credentials`] into TLS for the board
//! ([`ServerTls`]) and for those who call it ([`ClientTls`]). What an identity may do is decided after, by the board. Files
//! enter; no sockets may, and no clock but that of the TLS library.
#![forbid(unsafe_code)]

mod credentials;
#[cfg(any(test, feature = "exercise"))]
pub mod exercise;
mod identity;
mod refusal;
mod tls;

pub use credentials::{CA, CERTIFICATE, CRL, Credentials, Files, KEY};
pub use identity::{BadCertificate, BadIdentity, Identity, Role};
pub use refusal::Refusal;
pub use tls::{BOARD_NAME, ClientTls, Peer, Reload, ServerTls, board_name};

//! Who is who on a network, and the proof of it: the names in certificates, TLS with them, and the CA that gives them out.
//!
//! This room turns bytes that a peer presents into an [`Identity`], and a folder of [`Credentials`] into TLS for the board
//! ([`ServerTls`]) and for those who call it ([`ClientTls`]). [`CaFolder`] keeps a private CA and writes such folders; with
//! a [`Token`] of it a [`Newcomer`] gets its own. What an identity may do is decided after, by the board. Files enter; no
//! sockets may, and no clock but that of the TLS library.
#![forbid(unsafe_code)]

mod authority;
mod ca;
mod credentials;
mod enrol;
#[cfg(any(test, feature = "exercise"))]
pub mod exercise;
mod files;
mod identity;
mod issued;
mod refusal;
mod request;
mod tls;
mod token;
mod tokens;

pub use authority::{Authority, Fresh, SignError, Signed};
pub use ca::{CaFolder, Enrolled, NotEnrolled, Rotation};
pub use credentials::{CA, CERTIFICATE, CRL, Credentials, Files, KEY};
pub use enrol::{Answer, Newcomer};
use identity::shown;
pub use identity::{BadCertificate, BadIdentity, Identity, Role};
pub use issued::{CertificateState, Issued, List, Serial};
pub use refusal::Refusal;
pub use request::{BadRequest, Request};
pub use tls::{BOARD_NAME, ClientTls, Peer, Reload, ServerTls, board_name};
pub use token::{BadToken, Pin, Secret, SecretHash, Token};
pub use tokens::{Given, TokenState, Tokens};

//! Who is who on a network: the names in certificates.
//!
//! This room turns bytes that a peer presents into an [`Identity`], and nothing more. Whether the
//! certificate is of a trusted authority is decided before, by TLS; what the identity may do is
//! decided after, by the board. No files, no sockets and no clock may enter.
#![forbid(unsafe_code)]

mod identity;

pub use identity::{BadCertificate, BadIdentity, Identity, Role};

//! Encrypted tunnels between hosts: ESP in UDP around the VXLAN datagram, the keys of its security associations (SAs),
//! the handshake that agrees on them, and the life of both. Enters: bytes of UDP datagrams, the time, random bytes,
//! the events of the data path. Leaves: sealed and opened bytes in place, datagrams to send, SAs to install and to
//! retire, drop reasons. Not here: sockets, threads, clocks, DPDK, policy. Nothing here panics on any input.
//!
//! The ciphers, Noise, ML-KEM and HKDF are those of libraries; the product's own are the ESP layer, the replay window,
//! the tables and the state machine. The wire formats are in
//! `docs/wire-formats.md`.

pub mod cipher;
pub mod cutover;
pub mod esp;
#[cfg(any(test, feature = "exercise"))]
pub mod exercise;
pub mod handshake;
mod redacted;
pub mod sa;
mod spi;
mod time;
pub mod window;
pub mod wire;

use redacted::redacted;

pub use spi::{SaIndex, Spi};
pub use time::Millis;

#[cfg(test)]
mod tests;

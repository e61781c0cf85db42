//! Cipher engines for the tunnels of the data path. Enters: secrets of SAs, texts of the tunnel's bursts. Leaves: the
//! same texts, sealed or opened. Here are the engines that need a library of C, and the choice between them and the
//! portable one; the trait and the portable engine are in `stopover_tunnel::cipher`.
//!
//! [`IpsecMb`] is `dpdk::Gcm` behind the trait. [`AnyEngine`] is it, or the portable one where it cannot be used.

mod any;
mod ipsec_mb;

pub use any::{AnyEngine, AnyKey};
pub use ipsec_mb::IpsecMb;

pub use dpdk::{KeyMemory, KeyMemoryStats};

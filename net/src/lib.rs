//! Addresses and wire formats: bytes to facts, facts to bytes. Every protocol header that Stopover reads or
//! writes has one file here, and nothing else interprets bytes of a frame.
//!
//! What enters: byte slices (the first segment of an mbuf, its total length, or all its segments). What
//! leaves: small `Copy` facts ([`frame::Frame`], [`underlay::Underlay`], ...), finished headers in caller-owned
//! buffers or in fixed-size arrays. Not here: I/O, DPDK, tables, clocks, counters. Nothing here
//! panics on any input: a view is validated once (`new_checked`) and its accessors then read constant
//! positions of fixed-size arrays, whose bounds are proved by the compiler.
//!
//! All numbers in arguments and results are in host byte order unless a name states another.
//!
//! The callers are other crates: functions that run once per frame are `#[inline]`.

mod address;
pub mod arp;
mod bytes;
pub mod checksum;
pub mod ecn;
pub mod ethernet;
#[cfg(any(test, feature = "exercise"))]
pub mod exercise;
pub mod fast_parse;
pub mod flow;
pub mod frame;
pub mod gso;
pub mod icmp;
mod icmp_header;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod l4_checksum;
pub mod loop_probe;
pub mod marker;
pub mod nd;
pub mod outer;
pub mod prober;
mod reason;
pub mod tcp;
pub mod udp;
pub mod underlay;
mod view;
pub mod vxlan;

pub use address::{FloodPolicy, HostName, IPV6_MIN_MTU, Invalid, Mac, VlanId, Vni};
pub use reason::Truncated;

#[cfg(test)]
mod tests;

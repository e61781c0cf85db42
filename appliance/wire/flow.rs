//! The flow hash of an inner frame and the VXLAN source port made of it.
//!
//! "It is recommended that the UDP source port number be calculated using a hash of fields from the inner
//! packet ... to enable a level of entropy for the ECMP/load-balancing" in the range 49152-65535 (RFC 7348
//! section 5). All frames of one flow, and all fragments of one datagram, get one port: nothing reorders them.

use super::frame::{Fragment, Frame, Kind, L4};

/// First port of the dynamic range (RFC 6335 section 6); 2^14 ports from here to the top.
pub const FIRST_PORT: u16 = 49152;

// Fractional parts of the square roots of 2, 3 and 5: nothing-up-my-sleeve odd mixing constants.
const K0: u64 = 0x6a09_e667_f3bc_c909;
const K1: u64 = 0xbb67_ae85_84ca_a73b;
const K2: u64 = 0x3c6e_f372_fe94_f82b;

/// Multiplies to 128 bits and folds: two instructions that let every input bit reach every output bit.
#[inline(always)]
const fn mix(a: u64, b: u64) -> u64 {
    let wide = a as u128 * b as u128;
    wide as u64 ^ (wide >> 64) as u64
}

/// Hash of a frame's flow: addresses, protocol and ports if IP (no ports in fragments, which do not all carry
/// them); MAC addresses and EtherType otherwise. Not symmetric, not secret, stable within one release.
#[inline]
#[must_use]
pub fn hash(frame: &Frame) -> u32 {
    let (ports, proto, a, b) = match &frame.kind {
        Kind::Ipv4(ip) => {
            let addresses = u64::from(ip.src.to_bits()) << 32 | u64::from(ip.dst.to_bits());
            (ports(frame, ip.fragment), ip.proto, addresses, 0)
        }
        Kind::Ipv6(ip) => {
            let (src, dst) = (ip.src.to_bits(), ip.dst.to_bits());
            let a = mix(src as u64 ^ K2, (src >> 64) as u64 ^ K0);
            let b = mix(dst as u64 ^ K1, (dst >> 64) as u64 ^ K2);
            (ports(frame, ip.fragment), ip.proto, a, b)
        }
        Kind::Other | Kind::Arp | Kind::Rarp => {
            (u32::from(frame.ethertype), 0, frame.src.to_u64(), frame.dst.to_u64())
        }
    };
    let tail = u64::from(ports) << 8 | u64::from(proto);
    let h = mix(mix(a ^ K0, b.rotate_left(32) ^ K1) ^ tail, K2);
    (h >> 32) as u32
}

#[inline(always)]
fn ports(frame: &Frame, fragment: Fragment) -> u32 {
    match frame.l4 {
        L4::Tcp { src_port, dst_port, .. } | L4::Udp { src_port, dst_port, .. }
            if fragment == Fragment::Whole =>
        {
            u32::from(src_port) << 16 | u32::from(dst_port)
        }
        _ => 0,
    }
}

/// The source port for a flow hash: its top 14 bits in the dynamic range.
#[inline]
#[must_use]
pub const fn source_port(hash: u32) -> u16 {
    FIRST_PORT | (hash >> 18) as u16
}

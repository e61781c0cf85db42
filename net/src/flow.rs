//! The flow hash of an inner frame, and the VXLAN source port derived from it.
//!
//! "It is recommended that the UDP source port number be calculated using a hash of fields from the inner
//! packet ... to enable a level of entropy for the ECMP/load-balancing" in the range 49152-65535 (RFC 7348
//! section 5). All frames of one flow, and all fragments of one datagram, get one port and stay in order.

use crate::frame::{Fragment, Frame, Kind, L4};
use std::net::Ipv6Addr;

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
        Kind::Ipv6(ip) => return of_ipv6(ip.src, ip.dst, ip.proto, ports(frame, ip.fragment)),
        Kind::Other | Kind::Arp | Kind::Rarp => {
            (u32::from(frame.ethertype), 0, frame.src.to_u64(), frame.dst.to_u64())
        }
    };
    finish(a, b, proto, ports)
}

/// The [`hash`] of a frame that carries all of a TCP or UDP segment over IPv4. `addresses`: source, then
/// destination; `ports`: likewise.
#[inline(always)]
#[must_use]
pub const fn of_ipv4(addresses: u64, proto: u8, ports: u32) -> u32 {
    finish(addresses, 0, proto, ports)
}

/// The [`hash`] of a frame over IPv6. `ports`: source, then destination; 0 for a fragment, and without ports.
#[inline(always)]
#[must_use]
pub const fn of_ipv6(src: Ipv6Addr, dst: Ipv6Addr, proto: u8, ports: u32) -> u32 {
    let (src, dst) = (src.to_bits(), dst.to_bits());
    let a = mix(src as u64 ^ K2, (src >> 64) as u64 ^ K0);
    let b = mix(dst as u64 ^ K1, (dst >> 64) as u64 ^ K2);
    finish(a, b, proto, ports)
}

#[inline(always)]
const fn finish(a: u64, b: u64, proto: u8, ports: u32) -> u32 {
    let tail = (ports as u64) << 8 | proto as u64;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mac;
    use crate::frame::{self, Ipv4};
    use std::net::Ipv4Addr;

    fn frame(src: u32, src_port: u16, fragment: Fragment) -> Frame {
        Frame {
            dst: Mac::new([2; 6]),
            src: Mac::new([4; 6]),
            vlan: None,
            double_tagged: false,
            ethertype: 0x0800,
            l3_off: 14,
            l4_off: Some(34),
            len: 60,
            kind: Kind::Ipv4(Ipv4 {
                hdr_len: 20,
                tos: 0,
                total_len: 46,
                proto: 17,
                ttl: 64,
                df: false,
                fragment,
                src: Ipv4Addr::from_bits(src),
                dst: Ipv4Addr::new(10, 0, 0, 2),
            }),
            l4: if fragment == Fragment::Later {
                L4::None
            } else {
                L4::Udp { src_port, dst_port: 53, len: 26 }
            },
        }
    }

    #[test]
    fn ports_cover_exactly_the_dynamic_range() {
        assert_eq!(source_port(0), 49152);
        assert_eq!(source_port(u32::MAX), 65535);
    }

    #[test]
    fn all_fragments_of_a_datagram_share_a_port() {
        let first = hash(&frame(7, 1000, Fragment::First));
        assert_eq!(first, hash(&frame(7, 0, Fragment::Later)));
        assert_ne!(first, hash(&frame(7, 1000, Fragment::Whole)));
    }

    #[test]
    fn neighbouring_flows_spread_evenly() {
        // 64 Ki flows over 64 Ki / 1 Ki = 64 bins of 1024 on average: a fair hash stays within 20 %.
        let mut bins = [0u32; 64];
        for src in 0..64 {
            for port in 0..1024 {
                let port = source_port(hash(&frame(0x0a00_0000 + src, 40000 + port, Fragment::Whole)));
                bins[usize::from(port - FIRST_PORT) >> 8] += 1;
            }
        }
        assert!(bins.iter().all(|n| (820..=1228).contains(n)), "{bins:?}");
    }

    #[test]
    fn frames_that_are_not_ip_spread_by_mac() {
        let mut ports = std::collections::BTreeSet::new();
        for i in 0..100 {
            let mut bytes = [0u8; 14];
            bytes[11] = i;
            ports.insert(source_port(hash(&frame::parse(&bytes, 14).unwrap())));
        }
        assert!(ports.len() > 90, "{}", ports.len());
    }
}

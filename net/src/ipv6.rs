//! IPv6 header (RFC 8200) as a view over bytes, its writer, and the address forms ND needs (RFC 4291).

use crate::Mac;
use crate::bytes::{array, at, be16, be32, byte, put};
use crate::reason::Truncated;
use crate::view::view;
use std::net::Ipv6Addr;

/// Length of the fixed header in bytes.
pub const HEADER_LEN: usize = 40;
/// Every link carries packets of this size (RFC 8200 section 5).
pub const MIN_MTU: usize = 1280;

/// Next-header values of the extension headers (RFC 8200 section 4, IANA).
pub mod extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// No next header.
    pub const NONE: u8 = 59;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
    /// Mobility (RFC 6275).
    pub const MOBILITY: u8 = 135;
    /// Host Identity Protocol (RFC 7401).
    pub const HIP: u8 = 139;
    /// Shim6 (RFC 5533).
    pub const SHIM6: u8 = 140;
}

mod field {
    pub const VERSION_CLASS_FLOW: usize = 0;
    pub const PAYLOAD_LEN: usize = 4;
    pub const NEXT_HEADER: usize = 6;
    pub const HOP_LIMIT: usize = 7;
    pub const SRC: usize = 8;
    pub const DST: usize = 24;
}

view! {
    /// View of the fixed 40 bytes of a header.
    pub struct Header[HEADER_LEN];
}

impl<'a> Header<'a> {
    /// The header at the start of `packet`: version 6, payload length within `packet`.
    #[inline]
    pub fn new_checked(packet: &'a [u8]) -> Result<Self, Truncated> {
        let h = Self(at(packet, 0).ok_or(Truncated)?);
        if h.version() == 6 && HEADER_LEN + usize::from(h.payload_len()) <= packet.len() {
            Ok(h)
        } else {
            Err(Truncated)
        }
    }

    /// Version field; 6 if this is IPv6 at all.
    #[inline]
    #[must_use]
    pub const fn version(self) -> u8 {
        byte::<{ field::VERSION_CLASS_FLOW }, _>(self.0) >> 4
    }

    /// Traffic class: DSCP (upper six bits) and ECN (lower two).
    #[inline]
    #[must_use]
    pub const fn traffic_class(self) -> u8 {
        (be16::<{ field::VERSION_CLASS_FLOW }, _>(self.0) >> 4) as u8
    }

    /// Flow label, 20 bits.
    #[inline]
    #[must_use]
    pub fn flow_label(self) -> u32 {
        be32::<{ field::VERSION_CLASS_FLOW }, _>(self.0) & 0x000f_ffff
    }

    /// Length of everything after the fixed header, in bytes.
    #[inline]
    #[must_use]
    pub const fn payload_len(self) -> u16 {
        be16::<{ field::PAYLOAD_LEN }, _>(self.0)
    }

    /// Type of the header that follows.
    #[inline]
    #[must_use]
    pub const fn next_header(self) -> u8 {
        byte::<{ field::NEXT_HEADER }, _>(self.0)
    }

    /// Hop limit.
    #[inline]
    #[must_use]
    pub const fn hop_limit(self) -> u8 {
        byte::<{ field::HOP_LIMIT }, _>(self.0)
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn src(self) -> Ipv6Addr {
        Ipv6Addr::from(array::<{ field::SRC }, 16, _>(self.0))
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn dst(self) -> Ipv6Addr {
        Ipv6Addr::from(array::<{ field::DST }, 16, _>(self.0))
    }
}

/// The fields of a header that we write.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// Length of everything after the fixed header, in bytes.
    pub payload_len: u16,
    /// Type of the header that follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
}

/// Writes a 40-byte header with flow label 0.
pub fn emit(out: &mut [u8; HEADER_LEN], spec: &Spec) {
    put::<{ field::VERSION_CLASS_FLOW }, 4, _>(out, first_word(spec.traffic_class, 0).to_be_bytes());
    put::<{ field::PAYLOAD_LEN }, 2, _>(out, spec.payload_len.to_be_bytes());
    put::<{ field::NEXT_HEADER }, 2, _>(out, [spec.next_header, spec.hop_limit]);
    put::<{ field::SRC }, 16, _>(out, spec.src.octets());
    put::<{ field::DST }, 16, _>(out, spec.dst.octets());
}

/// The first 32 bits of a header: version 6, traffic class, flow label (20 bits used).
#[inline]
#[must_use]
pub const fn first_word(traffic_class: u8, flow_label: u32) -> u32 {
    6 << 28 | (traffic_class as u32) << 20 | flow_label & 0x000f_ffff
}

/// All nodes of the link, `ff02::1` (RFC 4291 section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The solicited-node multicast address of `ip` (RFC 4291 section 2.7.1).
#[must_use]
pub const fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let o = ip.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | o[13] as u16, (o[14] as u16) << 8 | o[15] as u16)
}

/// The Ethernet group address of an IPv6 multicast address (RFC 2464 section 7).
#[must_use]
pub const fn multicast_mac(group: Ipv6Addr) -> Mac {
    let o = group.octets();
    Mac::new([0x33, 0x33, o[12], o[13], o[14], o[15]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emit_and_view_agree() {
        let mut b = [0xee; 48];
        let spec = Spec {
            traffic_class: 0xb9,
            payload_len: 8,
            next_header: 17,
            hop_limit: 63,
            src: "fd00::1".parse().unwrap(),
            dst: "2001:db8::2".parse().unwrap(),
        };
        emit(b.first_chunk_mut().unwrap(), &spec);
        let h = Header::new_checked(&b).unwrap();
        assert_eq!((h.version(), h.traffic_class(), h.flow_label()), (6, 0xb9, 0));
        assert_eq!((h.payload_len(), h.next_header(), h.hop_limit()), (8, 17, 63));
        assert_eq!((h.src(), h.dst()), (spec.src, spec.dst));
        assert!(Header::new_checked(&b[..47]).is_err());
        b[0] = 0x4b;
        assert!(Header::new_checked(&b).is_err());
    }

    #[test]
    fn solicited_node_example_of_rfc4291() {
        let ip: Ipv6Addr = "4037::01:800:200e:8c6c".parse().unwrap();
        let group = solicited_node(ip);
        assert_eq!(group.to_string(), "ff02::1:ff0e:8c6c");
        assert_eq!(multicast_mac(group).to_string(), "33:33:ff:0e:8c:6c");
    }
}

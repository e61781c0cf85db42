//! IPv4 header (RFC 791) as a view over bytes, and its writer.

use crate::bytes::{array, at, be16, byte, put};
use crate::checksum;
use crate::reason::Truncated;
use crate::view::view;
use std::net::Ipv4Addr;

/// Length of a header without options, in bytes.
pub const HEADER_LEN: usize = 20;
/// "Don't fragment" in the flags and offset word.
pub const FLAG_DF: u16 = 0x4000;
/// "More fragments" in the flags and offset word.
pub const FLAG_MF: u16 = 0x2000;
/// Byte position of the header checksum.
pub const CHECKSUM_AT: usize = field::CHECKSUM;
/// Byte position of the time to live.
pub const TTL_AT: usize = field::TTL;

/// IP protocol numbers (IANA) that Stopover distinguishes.
pub mod protocol {
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
}

mod field {
    pub const VERSION_IHL: usize = 0;
    pub const TOS: usize = 1;
    pub const TOTAL_LEN: usize = 2;
    pub const ID: usize = 4;
    pub const FRAGMENT: usize = 6;
    pub const TTL: usize = 8;
    pub const PROTOCOL: usize = 9;
    pub const CHECKSUM: usize = 10;
    pub const SRC: usize = 12;
    pub const DST: usize = 16;
}

view! {
    /// View of the fixed 20 bytes of a header.
    pub struct Header[HEADER_LEN];
}

impl<'a> Header<'a> {
    /// The header at the start of `packet`: version 4, header length in bounds, total length within `packet`.
    #[inline]
    pub fn new_checked(packet: &'a [u8]) -> Result<Self, Truncated> {
        let h = Self(at(packet, 0).ok_or(Truncated)?);
        let (header_len, total_len) = (h.header_len(), usize::from(h.total_len()));
        if h.version() == 4
            && header_len >= HEADER_LEN
            && total_len >= header_len
            && total_len <= packet.len()
        {
            Ok(h)
        } else {
            Err(Truncated)
        }
    }

    /// Version field; 4 if this is IPv4 at all.
    #[inline]
    #[must_use]
    pub const fn version(self) -> u8 {
        byte::<{ field::VERSION_IHL }, _>(self.0) >> 4
    }

    /// Header length with options, in bytes: 0 to 60, valid from 20.
    #[inline]
    #[must_use]
    pub const fn header_len(self) -> usize {
        (byte::<{ field::VERSION_IHL }, _>(self.0) & 0x0f) as usize * 4
    }

    /// DSCP (upper six bits, RFC 2474) and ECN (lower two, RFC 3168).
    #[inline]
    #[must_use]
    pub const fn tos(self) -> u8 {
        byte::<{ field::TOS }, _>(self.0)
    }

    /// Length of header and payload, in bytes.
    #[inline]
    #[must_use]
    pub const fn total_len(self) -> u16 {
        be16::<{ field::TOTAL_LEN }, _>(self.0)
    }

    /// Identification.
    #[inline]
    #[must_use]
    pub const fn id(self) -> u16 {
        be16::<{ field::ID }, _>(self.0)
    }

    /// Flags and fragment offset as one word; see [`FLAG_DF`], [`FLAG_MF`]; the low 13 bits count 8-byte units.
    #[inline]
    #[must_use]
    pub const fn flags_and_offset(self) -> u16 {
        be16::<{ field::FRAGMENT }, _>(self.0)
    }

    /// Time to live.
    #[inline]
    #[must_use]
    pub const fn ttl(self) -> u8 {
        byte::<{ field::TTL }, _>(self.0)
    }

    /// Protocol of the payload.
    #[inline]
    #[must_use]
    pub const fn protocol(self) -> u8 {
        byte::<{ field::PROTOCOL }, _>(self.0)
    }

    /// Header checksum, as received.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        be16::<{ field::CHECKSUM }, _>(self.0)
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn src(self) -> Ipv4Addr {
        Ipv4Addr::from(array::<{ field::SRC }, 4, _>(self.0))
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn dst(self) -> Ipv4Addr {
        Ipv4Addr::from(array::<{ field::DST }, 4, _>(self.0))
    }
}

/// The fields of a header that we write; the rest is fixed: no options, no fragments.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of header and payload, in bytes.
    pub total_len: u16,
    /// Whether DF is set.
    pub df: bool,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

/// Writes a 20-byte header with identification 0 (allowed by RFC 6864 section 4.1 for what is never
/// fragmented) and a valid checksum.
pub fn emit(out: &mut [u8; HEADER_LEN], spec: &Spec) {
    put::<{ field::VERSION_IHL }, 2, _>(out, [0x45, spec.tos]);
    put::<{ field::TOTAL_LEN }, 2, _>(out, spec.total_len.to_be_bytes());
    put::<{ field::ID }, 2, _>(out, [0, 0]);
    put::<{ field::FRAGMENT }, 2, _>(out, (if spec.df { FLAG_DF } else { 0 }).to_be_bytes());
    put::<{ field::TTL }, 2, _>(out, [spec.ttl, spec.protocol]);
    put::<{ field::CHECKSUM }, 2, _>(out, [0, 0]);
    put::<{ field::SRC }, 4, _>(out, spec.src.octets());
    put::<{ field::DST }, 4, _>(out, spec.dst.octets());
    let sum = checksum::of(out);
    put::<{ field::CHECKSUM }, 2, _>(out, sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of RFC 1071 style texts: checksum b861.
    const EXAMPLE: [u8; 20] =
        [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];

    #[test]
    fn emit_reproduces_a_known_header() {
        let mut b = [0xee; 20];
        let spec = Spec {
            tos: 0,
            total_len: 115,
            df: true,
            ttl: 64,
            protocol: protocol::UDP,
            src: Ipv4Addr::new(192, 168, 0, 1),
            dst: Ipv4Addr::new(192, 168, 0, 199),
        };
        emit(&mut b, &spec);
        assert_eq!(b, EXAMPLE);
    }

    #[test]
    fn new_checked_refuses_contradictions() {
        let mut packet = [0u8; 115];
        packet[..20].copy_from_slice(&EXAMPLE);
        let h = Header::new_checked(&packet).unwrap();
        assert_eq!((h.version(), h.header_len(), h.total_len(), h.ttl()), (4, 20, 115, 64));
        assert_eq!((h.protocol(), h.checksum(), h.flags_and_offset()), (17, 0xb861, FLAG_DF));
        assert!(Header::new_checked(&packet[..114]).is_err(), "total length beyond the packet");
        packet[0] = 0x44;
        assert!(Header::new_checked(&packet).is_err(), "header length 16");
        packet[0] = 0x65;
        assert!(Header::new_checked(&packet).is_err(), "version 6");
        packet[0] = 0x4f;
        packet[3] = 59;
        assert!(Header::new_checked(&packet).is_err(), "total length below header length");
    }
}

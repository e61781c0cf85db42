//! ECN and DSCP across the tunnel, by RFC 6040 (normal mode) and RFC 2983 (uniform or pipe model).
//!
//! The two low bits of the TOS or traffic class byte are ECN: 00 Not-ECT, 01 ECT(1), 10 ECT(0), 11 CE.

use crate::bytes::at_mut;
use crate::checksum::update16;
use crate::frame::{Frame, Kind};
use crate::{ipv4, ipv6};

/// Not ECN-capable.
pub const NOT_ECT: u8 = 0b00;
/// ECN-capable transport, codepoint 1.
pub const ECT1: u8 = 0b01;
/// ECN-capable transport, codepoint 0.
pub const ECT0: u8 = 0b10;
/// Congestion experienced.
pub const CE: u8 = 0b11;

const MASK: u8 = 0b11;

/// How a tunnel's ingress derives the outer TOS byte or traffic class: the ECN field is copied (RFC 6040 section
/// 4.1), and the DSCP is copied too (RFC 2983, uniform model), set (pipe model), or made of the frame's priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterTos {
    keep: u8,
    set: u8,
    /// Bits that the priority code point fills.
    pcp: u8,
}

impl OuterTos {
    /// ECN and DSCP as in the inner packet.
    pub const COPY: Self = Self { keep: 0xff, set: 0, pcp: 0 };

    /// ECN as in the inner packet, and this DSCP, 0 to 63.
    #[must_use]
    pub const fn fixed(dscp: u8) -> Self {
        Self { keep: MASK, set: dscp << 2, pcp: 0 }
    }

    /// ECN as in the inner packet, and the class selector (RFC 2474 section 4.2.2.1) of the frame's priority code
    /// point.
    pub const PCP: Self = Self { keep: MASK, set: 0, pcp: PCP_MASK };

    /// The outer byte for an inner one, which is 0 if the inner frame is not IP, and the frame's priority (PCP and
    /// DEI).
    #[inline(always)]
    #[must_use]
    pub const fn of(self, inner: u8, priority: u8) -> u8 {
        inner & self.keep | self.set | priority << 4 & self.pcp
    }
}

/// The upper three bits of the byte: a class selector has the other DSCP bits 0.
const PCP_MASK: u8 = 0xe0;

/// The priority code point that [`OuterTos::PCP`] made this byte of.
#[inline]
#[must_use]
pub const fn pcp_of(outer_tos: u8) -> u8 {
    outer_tos >> 5
}

/// The inner frame's ECN field at the tunnel's egress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decap {
    /// It is not changed.
    Keep,
    /// It is set to this (0 to 3).
    Set(u8),
    /// The frame is dropped: congestion was experienced and its sender does not support ECN.
    Drop,
}

/// RFC 6040 figure 4. Both arguments: TOS or traffic class bytes, of which only ECN is looked at.
#[inline]
#[must_use]
pub const fn decap(outer_tos: u8, inner_tos: u8) -> Decap {
    match (inner_tos & MASK, outer_tos & MASK) {
        (NOT_ECT, CE) => Decap::Drop,
        (ECT0 | ECT1, CE) => Decap::Set(CE),
        (ECT0, ECT1) => Decap::Set(ECT1),
        _ => Decap::Keep,
    }
}

/// Writes `ecn` into the IP header of the frame whose first bytes are `head`, keeping the IPv4 header
/// checksum right. False, and nothing changed, if the frame is not IP.
#[inline]
pub fn set(frame: &Frame, head: &mut [u8], ecn: u8) -> bool {
    let l3 = usize::from(frame.l3_off);
    match frame.kind {
        Kind::Ipv4(_) => {
            let Some(header) = at_mut::<{ ipv4::HEADER_LEN }>(head, l3) else { return false };
            let tos = header[1] & !MASK | ecn & MASK;
            let old = u16::from_be_bytes([header[0], header[1]]);
            let sum = u16::from_be_bytes([header[ipv4::CHECKSUM_AT], header[ipv4::CHECKSUM_AT + 1]]);
            let sum = update16(sum, old, u16::from_be_bytes([header[0], tos])).to_be_bytes();
            header[1] = tos;
            [header[ipv4::CHECKSUM_AT], header[ipv4::CHECKSUM_AT + 1]] = sum;
            true
        }
        Kind::Ipv6(_) => {
            let Some(header) = at_mut::<{ ipv6::HEADER_LEN }>(head, l3) else { return false };
            // The class straddles two bytes; its ECN bits are 4 and 5 of the second.
            header[1] = header[1] & !(MASK << 4) | (ecn & MASK) << 4;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checksum, frame};

    /// RFC 6040 figure 4: rows are the arriving inner header (Not-ECT, ECT(0), ECT(1), CE), columns the
    /// arriving outer header in the same order; entries are the outgoing field, `None` a drop.
    const FIGURE_4: [[Option<u8>; 4]; 4] = [
        [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
        [Some(ECT0), Some(ECT0), Some(ECT1), Some(CE)],
        [Some(ECT1), Some(ECT1), Some(ECT1), Some(CE)],
        [Some(CE), Some(CE), Some(CE), Some(CE)],
    ];
    const ORDER: [u8; 4] = [NOT_ECT, ECT0, ECT1, CE];

    #[test]
    fn all_sixteen_cases_of_figure_4() {
        for (row, inner) in FIGURE_4.iter().zip(ORDER) {
            for (expected, outer) in row.iter().zip(ORDER) {
                let out = match decap(0xb8 | outer, 0x28 | inner) {
                    Decap::Keep => Some(inner),
                    Decap::Set(ecn) => Some(ecn),
                    Decap::Drop => None,
                };
                assert_eq!(out, *expected, "inner {inner:02b}, outer {outer:02b}");
            }
        }
    }

    #[test]
    fn encap_copies_ecn_and_copies_or_fixes_dscp() {
        for tos in 0..=255 {
            assert_eq!(OuterTos::COPY.of(tos, 0xf), tos);
            assert_eq!(OuterTos::fixed(46).of(tos, 0xf), 46 << 2 | tos & 3);
            // CS0 to CS7 are 0, 8, ... 56; the DEI is not carried.
            for pcp in 0..8 {
                let outer = OuterTos::PCP.of(tos, pcp << 1 | 1);
                assert_eq!((outer, pcp_of(outer)), ((pcp * 8) << 2 | tos & 3, pcp));
            }
        }
    }

    #[test]
    fn setting_changes_two_bits_and_keeps_the_header_checksum() {
        let mut v4 = [0u8; 34];
        v4[12] = 8;
        v4[14..34].copy_from_slice(&[0x45, 0xb9, 0, 20, 0, 0, 0, 0, 64, 99, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = checksum::of(&v4[14..]);
        v4[24..26].copy_from_slice(&sum.to_be_bytes());
        let mut v6 = [0u8; 54];
        v6[12..14].copy_from_slice(&[0x86, 0xdd]);
        v6[14..18].copy_from_slice(&[0x6b, 0x91, 0x23, 0x45]);
        v6[20] = 59;
        for ecn in ORDER {
            let facts = frame::parse(&v4, v4.len()).unwrap();
            assert!(set(&facts, &mut v4, ecn));
            assert_eq!(frame::parse(&v4, v4.len()).unwrap().tos(), Some(0xb8 | ecn));
            assert!(checksum::is_valid(&v4[14..]));
            let facts = frame::parse(&v6, v6.len()).unwrap();
            assert!(set(&facts, &mut v6, ecn));
            assert_eq!(frame::parse(&v6, v6.len()).unwrap().tos(), Some(0xb8 | ecn));
            assert_eq!(v6[15..18], [0x81 | ecn << 4, 0x23, 0x45], "flow label untouched");
        }
        let arp = [0xff; 14];
        assert!(!set(&frame::parse(&arp, 14).unwrap(), &mut arp.clone(), CE));
    }
}

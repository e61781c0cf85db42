//! ECN and DSCP across the tunnel, as RFC 6040 (normal mode) and RFC 2983 (uniform or pipe model) say.
//!
//! The two low bits of the TOS or traffic class byte are ECN: 00 Not-ECT, 01 ECT(1), 10 ECT(0), 11 CE.

use super::bytes::at_mut;
use super::checksum::update16;
use super::frame::{Frame, Kind};
use super::{ipv4, ipv6};

/// Not ECN-capable.
pub const NOT_ECT: u8 = 0b00;
/// ECN-capable transport, codepoint 1.
pub const ECT1: u8 = 0b01;
/// ECN-capable transport, codepoint 0.
pub const ECT0: u8 = 0b10;
/// Congestion experienced.
pub const CE: u8 = 0b11;

const MASK: u8 = 0b11;

/// The outer TOS byte for an inner one (0 if the inner frame is not IP): ECN copied (RFC 6040 section 4.1),
/// DSCP copied too, or `fixed_dscp` (0 to 63) instead.
#[inline]
#[must_use]
pub const fn encap(inner_tos: u8, fixed_dscp: Option<u8>) -> u8 {
    match fixed_dscp {
        None => inner_tos,
        Some(dscp) => dscp << 2 | inner_tos & MASK,
    }
}

/// What becomes of the inner frame's ECN field at the tunnel's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decap {
    /// It stays as it is.
    Keep,
    /// It becomes this (0 to 3).
    Set(u8),
    /// The frame is dropped: congestion was experienced and its sender would not understand a mark.
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

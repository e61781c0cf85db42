//! ICMPv6 header (RFC 4443 section 2.1) as a view over bytes, with the type numbers of ND (RFC 4861).

use crate::bytes::{at, be16, be32, byte};
use crate::reason::Truncated;

/// Length of the header with the four bytes that every message of interest has after it.
pub const HEADER_LEN: usize = 8;
/// Byte position of the checksum.
pub const CHECKSUM_AT: usize = field::CHECKSUM;

/// Message types.
pub mod kind {
    /// Packet too big (RFC 4443 section 3.2).
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Router solicitation (RFC 4861 section 4.1).
    pub const ROUTER_SOLICIT: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOUR_SOLICIT: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
}

mod field {
    pub const KIND: usize = 0;
    pub const CODE: usize = 1;
    pub const CHECKSUM: usize = 2;
    pub const WORD: usize = 4;
}

/// Whether no error may be sent about a message of this type (RFC 4443 section 2.4 e.1 and e.2): all
/// error messages (types below 128) and redirects.
#[inline]
#[must_use]
pub const fn forbids_error(kind: u8) -> bool {
    kind < 128 || kind == kind::REDIRECT
}

/// Whether the type belongs to neighbour discovery (RFC 4861 section 4).
#[inline]
#[must_use]
pub const fn is_nd(kind: u8) -> bool {
    matches!(kind, kind::ROUTER_SOLICIT..=kind::REDIRECT)
}

/// View of the first 8 bytes of a message.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// Looks at bytes already known to be 8.
    #[inline]
    #[must_use]
    pub const fn of(bytes: &'a [u8; HEADER_LEN]) -> Self {
        Self(bytes)
    }

    /// The header at the start of `message`.
    #[inline]
    pub fn new_checked(message: &'a [u8]) -> Result<Self, Truncated> {
        at(message, 0).map(Self).ok_or(Truncated)
    }

    /// Message type.
    #[inline]
    #[must_use]
    pub const fn kind(self) -> u8 {
        byte::<{ field::KIND }, _>(self.0)
    }

    /// Message code.
    #[inline]
    #[must_use]
    pub const fn code(self) -> u8 {
        byte::<{ field::CODE }, _>(self.0)
    }

    /// Checksum as it stands in the header.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        be16::<{ field::CHECKSUM }, _>(self.0)
    }

    /// The 32 bits after the checksum: MTU of "packet too big", flags of an advertisement.
    #[inline]
    #[must_use]
    pub fn word(self) -> u32 {
        be32::<{ field::WORD }, _>(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let h = Header::new_checked(&[2, 1, 0xab, 0xcd, 0, 0, 0x05, 0x78]).unwrap();
        assert_eq!((h.kind(), h.code(), h.checksum(), h.word()), (2, 1, 0xabcd, 1400));
        assert!(Header::new_checked(&[0; 7]).is_err());
        assert!(forbids_error(1) && forbids_error(127) && forbids_error(137) && !forbids_error(128));
        let nd: Vec<u8> = (0..=255).filter(|&k| is_nd(k)).collect();
        assert_eq!(nd, [133, 134, 135, 136, 137]);
    }
}

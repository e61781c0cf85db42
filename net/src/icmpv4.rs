//! ICMP header (RFC 792) as a view over bytes.

use crate::bytes::{at, be16, byte};
use crate::reason::Truncated;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;
/// Byte position of the checksum.
pub const CHECKSUM_AT: usize = field::CHECKSUM;

/// Message types.
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable; code 4 is "fragmentation needed and DF set".
    pub const UNREACHABLE: u8 = 3;
    /// Source quench (deprecated by RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Router advertisement (RFC 1256).
    pub const ROUTER_ADVERT: u8 = 9;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

mod field {
    pub const KIND: usize = 0;
    pub const CODE: usize = 1;
    pub const CHECKSUM: usize = 2;
    pub const MTU: usize = 6;
}

/// Whether a message type reports an error; no error may be sent about one (RFC 1122 section 3.2.2).
#[inline]
#[must_use]
pub const fn is_error(kind: u8) -> bool {
    matches!(
        kind,
        kind::UNREACHABLE
            | kind::SOURCE_QUENCH
            | kind::REDIRECT
            | kind::TIME_EXCEEDED
            | kind::PARAMETER_PROBLEM
    )
}

/// View of the 8 bytes of a header.
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

    /// Next-hop MTU of "fragmentation needed" (RFC 1191 section 4).
    #[inline]
    #[must_use]
    pub const fn next_hop_mtu(self) -> u16 {
        be16::<{ field::MTU }, _>(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let h = Header::new_checked(&[3, 4, 0xab, 0xcd, 0, 0, 0x05, 0x78]).unwrap();
        assert_eq!((h.kind(), h.code(), h.checksum(), h.next_hop_mtu()), (3, 4, 0xabcd, 1400));
        assert!(Header::new_checked(&[0; 7]).is_err());
        let errors: Vec<u8> = (0..=255).filter(|&k| is_error(k)).collect();
        assert_eq!(errors, [3, 4, 5, 11, 12]);
    }
}

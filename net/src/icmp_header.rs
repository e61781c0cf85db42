//! The header that ICMP (RFC 792) and ICMPv6 (RFC 4443 section 2.1) have in common, as a view over bytes: type, code,
//! checksum and one word. [`crate::icmpv4`] and [`crate::icmpv6`] have the types.

use crate::bytes::{at, be16, be32, byte};
use crate::reason::Truncated;
use crate::view::view;

/// Length of the header with the four bytes that every message of interest has after it.
pub const HEADER_LEN: usize = 8;
/// Byte position of the checksum.
pub const CHECKSUM_AT: usize = field::CHECKSUM;

mod field {
    pub const KIND: usize = 0;
    pub const CODE: usize = 1;
    pub const CHECKSUM: usize = 2;
    pub const WORD: usize = 4;
    pub const MTU: usize = 6;
}

view! {
    /// View of the first 8 bytes of a message.
    pub struct Header[HEADER_LEN];
}

impl<'a> Header<'a> {
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

    /// Checksum, as received.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        be16::<{ field::CHECKSUM }, _>(self.0)
    }

    /// The 32 bits after the checksum. ICMPv6: MTU of "packet too big", flags of an advertisement.
    #[inline]
    #[must_use]
    pub fn word(self) -> u32 {
        be32::<{ field::WORD }, _>(self.0)
    }

    /// ICMP: next-hop MTU of "fragmentation needed" (RFC 1191 section 4).
    #[inline]
    #[must_use]
    pub const fn next_hop_mtu(self) -> u16 {
        be16::<{ field::MTU }, _>(self.0)
    }
}

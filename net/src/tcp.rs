//! TCP header (RFC 9293): the fields that forwarding, checksums and segmentation need, as a view over bytes.

use crate::bytes::{at, be16, be32, byte};
use crate::reason::Truncated;
use crate::view::view;

/// Length of a header without options, in bytes.
pub const HEADER_LEN: usize = 20;
/// Byte position of the sequence number.
pub const SEQ_AT: usize = field::SEQ;
/// Byte position of the flags.
pub const FLAGS_AT: usize = field::FLAGS;
/// Byte position of the checksum.
pub const CHECKSUM_AT: usize = field::CHECKSUM;

/// Control bits.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// Acknowledgement field significant.
    pub const ACK: u8 = 0x10;
    /// ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// Byte position of the data offset, in its upper four bits.
pub const DATA_OFFSET_AT: usize = field::DATA_OFFSET;

mod field {
    pub const SRC_PORT: usize = 0;
    pub const DST_PORT: usize = 2;
    pub const SEQ: usize = 4;
    pub const DATA_OFFSET: usize = 12;
    pub const FLAGS: usize = 13;
    pub const CHECKSUM: usize = 16;
}

view! {
    /// View of the fixed 20 bytes of a header.
    pub struct Header[HEADER_LEN];
}

impl<'a> Header<'a> {
    /// The header at the start of `segment`; its options lie within `segment`.
    #[inline]
    pub fn new_checked(segment: &'a [u8]) -> Result<Self, Truncated> {
        let h = Self(at(segment, 0).ok_or(Truncated)?);
        if (HEADER_LEN..=segment.len()).contains(&h.header_len()) { Ok(h) } else { Err(Truncated) }
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub const fn src_port(self) -> u16 {
        be16::<{ field::SRC_PORT }, _>(self.0)
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub const fn dst_port(self) -> u16 {
        be16::<{ field::DST_PORT }, _>(self.0)
    }

    /// Sequence number of the first byte of data.
    #[inline]
    #[must_use]
    pub fn seq(self) -> u32 {
        be32::<{ field::SEQ }, _>(self.0)
    }

    /// Header length with options, in bytes: 0 to 60, valid from 20.
    #[inline]
    #[must_use]
    pub const fn header_len(self) -> usize {
        (byte::<{ field::DATA_OFFSET }, _>(self.0) >> 4) as usize * 4
    }

    /// Control bits; see [`flag`].
    #[inline]
    #[must_use]
    pub const fn flags(self) -> u8 {
        byte::<{ field::FLAGS }, _>(self.0)
    }

    /// Checksum, as received.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        be16::<{ field::CHECKSUM }, _>(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_header_length() {
        let mut b = [0u8; 24];
        b[..4].copy_from_slice(&[0, 80, 0x1f, 0x90]);
        b[4..8].copy_from_slice(&0xdead_beef_u32.to_be_bytes());
        b[12] = 0x60;
        b[13] = flag::ACK | flag::PSH;
        b[16..18].copy_from_slice(&[0x12, 0x34]);
        let h = Header::new_checked(&b).unwrap();
        assert_eq!((h.src_port(), h.dst_port(), h.seq()), (80, 8080, 0xdead_beef));
        assert_eq!((h.header_len(), h.flags(), h.checksum()), (24, 0x18, 0x1234));
        assert!(Header::new_checked(&b[..23]).is_err(), "options beyond the segment");
        b[12] = 0x40;
        assert!(Header::new_checked(&b).is_err(), "header length 16");
    }
}

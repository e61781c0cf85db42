//! UDP header (RFC 768) as a view over bytes.

use crate::bytes::{at, be16};
use crate::reason::Truncated;
use crate::view::view;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;
/// Byte position of the checksum.
pub const CHECKSUM_AT: usize = field::CHECKSUM;

mod field {
    pub const SRC_PORT: usize = 0;
    pub const DST_PORT: usize = 2;
    pub const LEN: usize = 4;
    pub const CHECKSUM: usize = 6;
}

view! {
    /// View of the 8 bytes of a header.
    pub struct Header[HEADER_LEN];
}

impl<'a> Header<'a> {
    /// The header at the start of `datagram`; its length field lies within `datagram`.
    #[inline]
    pub fn new_checked(datagram: &'a [u8]) -> Result<Self, Truncated> {
        let h = Self(at(datagram, 0).ok_or(Truncated)?);
        if (HEADER_LEN..=datagram.len()).contains(&usize::from(h.len())) { Ok(h) } else { Err(Truncated) }
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

    /// Length of header and data, in bytes.
    #[inline]
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // a wire field, not a collection
    pub const fn len(self) -> u16 {
        be16::<{ field::LEN }, _>(self.0)
    }

    /// Checksum, as received; 0 means "none" (IPv4) or is exceptional (IPv6, RFC 6936).
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
    fn fields_and_length() {
        let b = [0xc0, 1, 0x12, 0xb5, 0, 10, 0xab, 0xcd, 1, 2];
        let h = Header::new_checked(&b).unwrap();
        assert_eq!((h.src_port(), h.dst_port(), h.len(), h.checksum()), (0xc001, 4789, 10, 0xabcd));
        assert!(Header::new_checked(&b[..9]).is_err(), "length beyond the datagram");
        assert!(Header::new_checked(&[0, 0, 0, 0, 0, 7, 0, 0]).is_err(), "length below the header");
    }
}

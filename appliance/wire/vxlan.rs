//! VXLAN header (RFC 7348 section 5) as a view over bytes, and its writer.

use super::bytes::{at, be32, byte};
use super::reason::Truncated;
use stopover_config::net::Vni;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;
/// The port IANA assigned (RFC 7348 section 8).
pub const UDP_PORT: u16 = 4789;
/// "The I flag MUST be set to 1 for a valid VXLAN Network ID (VNI)" (RFC 7348 section 5).
pub const FLAG_I: u8 = 0x08;

mod field {
    pub const FLAGS: usize = 0;
    pub const VNI_RESERVED: usize = 4;
}

/// View of the 8 bytes of a header. Reserved bits are not looked at: "MUST be set to zero on transmission
/// and ignored on receipt" (RFC 7348 section 5).
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// Looks at bytes already known to be 8, without any check of their content.
    #[inline]
    #[must_use]
    pub const fn of(bytes: &'a [u8; HEADER_LEN]) -> Self {
        Self(bytes)
    }

    /// The header at the start of `bytes`; the I flag is set.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Truncated> {
        let h = Self(at(bytes, 0).ok_or(Truncated)?);
        if h.has_vni() { Ok(h) } else { Err(Truncated) }
    }

    /// Whether the I flag is set.
    #[inline]
    #[must_use]
    pub const fn has_vni(self) -> bool {
        byte::<{ field::FLAGS }, _>(self.0) & FLAG_I != 0
    }

    /// The 24 bits of the network identifier. 0 is possible on the wire although [`Vni`] excludes it.
    #[inline]
    #[must_use]
    pub const fn vni(self) -> u32 {
        be32::<{ field::VNI_RESERVED }, _>(self.0) >> 8
    }
}

/// The 8 bytes of a header for `vni`.
#[inline]
#[must_use]
pub const fn bytes(vni: Vni) -> [u8; HEADER_LEN] {
    ((FLAG_I as u64) << 56 | (vni.get() as u64) << 8).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_reads() {
        let b = bytes(Vni::new(0x12_3456).unwrap());
        assert_eq!(b, [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        assert_eq!(Header::new_checked(&b).unwrap().vni(), 0x12_3456);
    }

    #[test]
    fn reserved_bits_are_ignored_and_the_i_flag_is_not() {
        let h = Header::new_checked(&[0xff, 0xff, 0xff, 0xff, 0, 0, 7, 0xff]).unwrap();
        assert_eq!(h.vni(), 7);
        assert!(Header::new_checked(&[0xf7, 0, 0, 0, 0, 0, 7, 0]).is_err());
        assert!(Header::new_checked(&[0x08, 0, 0, 0, 0, 0, 7]).is_err());
    }
}

//! Message types of ICMPv6 (RFC 4443, ND in RFC 4861), and the header.

pub use crate::icmp_header::{CHECKSUM_AT, HEADER_LEN, Header};

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

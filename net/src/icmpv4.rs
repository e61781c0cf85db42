//! Message types of ICMP (RFC 792), and the header.

pub use crate::icmp_header::{CHECKSUM_AT, HEADER_LEN, Header};

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

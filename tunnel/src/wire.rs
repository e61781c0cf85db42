//! One UDP port, many kinds of datagrams: the first bytes and the length tell them apart. Enters: the first bytes of a
//! UDP payload and its length. Leaves: its kind. Only the kind: whether the rest is valid its own parser decides.
//!
//! Docs: wire-formats.md, "One port". A kind that is new must fit in there first.

use crate::{Spi, esp};
use stopover_net::{reasons, vxlan};

/// Bytes that decide about the kind of a datagram.
pub const HEAD_LEN: usize = 8;
/// The first four bytes of a datagram that is no ESP (RFC 3948 section 2.2). Handshakes have it.
pub const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// Bytes of a STUN header (RFC 8489 section 5).
const STUN_HEADER_LEN: usize = 20;
const STUN_MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// The first byte of relayed datagrams: TURN channels 0x4000 to 0x47ff, of 0x4000 to 0x4fff (RFC 8656 section 12). The
/// upper half has the bit of VXLAN.
const RELAYED_FIRST: std::ops::RangeInclusive<u8> = 0x40..=0x47;
const RELAYED_HEADER_LEN: usize = 4;

/// What a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// Plain VXLAN (RFC 7348).
    Vxlan,
    /// ESP (RFC 4303) under this SPI.
    Esp(Spi),
    /// Of a handshake, or a control message of a tunnel.
    Handshake,
    /// STUN (RFC 8489).
    Stun,
    /// Relayed, with a channel or label before it.
    Relayed,
    /// It keeps a NAT's mapping (RFC 3948 section 2.3), and is to be ignored.
    Keepalive,
}

reasons! {
    /// Why a datagram is of no kind.
    pub enum NoKind {
        /// Shorter than its kind can be, or its first bytes are not together.
        Short = "datagram_short",
        /// The first bytes are of no kind.
        Unknown = "datagram_unknown",
    }
}

/// The kind of a UDP payload of `len` bytes that begins with `head`: its first [`HEAD_LEN`] bytes or more, or all.
///
/// # Errors
/// It is of no kind.
#[inline]
pub fn classify(head: &[u8], len: usize) -> Result<Datagram, NoKind> {
    if len == 1 {
        return Ok(Datagram::Keepalive);
    }
    let (kind, least) = match *head {
        [flags, ..] if flags & vxlan::FLAG_I != 0 => (Datagram::Vxlan, vxlan::HEADER_LEN),
        [0, 0, 0, 0, ..] => (Datagram::Handshake, HEAD_LEN),
        [0x00..=0x3f, _, _, _, a, b, c, d, ..] => {
            if [a, b, c, d] != STUN_MAGIC_COOKIE {
                return Err(NoKind::Unknown);
            }
            (Datagram::Stun, STUN_HEADER_LEN)
        }
        [first, _, _, _, ..] if RELAYED_FIRST.contains(&first) => (Datagram::Relayed, RELAYED_HEADER_LEN),
        [a, b, c, d, ..] => {
            let spi = Spi::from_bits(u32::from_be_bytes([a, b, c, d]));
            (Datagram::Esp(spi.ok_or(NoKind::Unknown)?), esp::SHORTEST)
        }
        _ => return Err(NoKind::Short),
    };
    if len < least || head.len() < len.min(HEAD_LEN) { Err(NoKind::Short) } else { Ok(kind) }
}

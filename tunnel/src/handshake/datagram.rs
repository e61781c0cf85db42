//! Datagrams of a handshake: headers, pieces, and where the two MACs are. Enters: a UDP payload, or a message to send.
//! Leaves: its parts, or datagrams that fit every path. Nothing is authenticated here.
//!
//! ```text
//! 0 4 | kind 1 | version 1 | piece 1 | pieces 1 | sender 4 | receiver 4 | body | MAC1 16 | MAC2 16
//! ```
//!
//! A control message and a cookie reply have one piece and no MACs. Docs: wire-formats.md, "Handshake".

use crate::esp::TAG_LEN;
use crate::wire::NON_ESP_MARKER;
use stopover_net::reasons;

/// Bytes of a UDP payload at most: with IPv6 and UDP headers, 1,200 on the wire.
pub const MOST_LEN: usize = 1200 - 48;
/// Bytes of the header.
pub const HEADER_LEN: usize = 16;
/// Bytes of a MAC.
pub const MAC_LEN: usize = 16;
/// Pieces of a message at most.
pub const MOST_PIECES: u8 = 4;
/// Bytes of a message in one piece.
const BODY_LEN: usize = MOST_LEN - HEADER_LEN - 2 * MAC_LEN;
/// Bytes of a message at most.
pub const MOST_MESSAGE: usize = BODY_LEN * MOST_PIECES as usize;
/// Bytes of the counter before a sealed control message.
const COUNTER_LEN: usize = 8;
/// Bytes of the nonce before a sealed cookie.
const NONCE_LEN: usize = 12;
/// Bytes of a sealed cookie with its tag.
pub const SEALED_COOKIE_LEN: usize = 32;
const VERSION: u8 = 1;

mod kind {
    pub const INITIATION: u8 = 1;
    pub const RESPONSE: u8 = 2;
    pub const CONTROL: u8 = 3;
    pub const COOKIE: u8 = 4;
}

/// Which message a piece is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Message {
    /// The first message of Noise.
    Initiation = kind::INITIATION,
    /// The second.
    Response = kind::RESPONSE,
}

/// A piece of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Which message.
    pub message: Message,
    /// Its place, below `pieces`.
    pub number: u8,
    /// How many there are, 1 to [`MOST_PIECES`].
    pub pieces: u8,
    /// The sender's session.
    pub sender: u32,
    /// The receiver's session; 0 in an initiation.
    pub receiver: u32,
    /// Its part of the message.
    pub body: &'a [u8],
}

/// A datagram of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A piece of a message, with both MACs.
    Piece(Piece<'a>),
    /// A sealed control message of a session.
    Control {
        /// The receiver's session.
        receiver: u32,
        /// The number of the message in its direction.
        counter: u64,
        /// The sealed text with its tag.
        sealed: &'a [u8],
    },
    /// The answer to a datagram without a valid second MAC.
    Cookie {
        /// The session that the datagram named as its sender.
        receiver: u32,
        /// The nonce.
        nonce: [u8; NONCE_LEN],
        /// The sealed cookie with its tag.
        sealed: &'a [u8; SEALED_COOKIE_LEN],
    },
}

reasons! {
    /// Why a datagram of a handshake is not understood.
    pub enum BadDatagram {
        /// Shorter than its kind.
        Short = "handshake_short",
        /// Longer than [`MOST_LEN`].
        Long = "handshake_long",
        /// Without the non-ESP marker.
        Marker = "handshake_marker",
        /// Another version.
        Version = "handshake_version",
        /// A kind that does not exist.
        Kind = "handshake_kind",
        /// A piece that is not among its pieces, or too many of them.
        Piece = "handshake_piece",
    }
}

/// Reads a datagram.
///
/// # Errors
/// It is no datagram of a handshake.
pub fn parse(datagram: &[u8]) -> Result<Parsed<'_>, BadDatagram> {
    let (header, rest) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(BadDatagram::Short)?;
    let [m0, m1, m2, m3, kind, version, number, pieces, s0, s1, s2, s3, r0, r1, r2, r3] = *header;
    if datagram.len() > MOST_LEN {
        return Err(BadDatagram::Long);
    }
    if [m0, m1, m2, m3] != NON_ESP_MARKER {
        return Err(BadDatagram::Marker);
    }
    if version != VERSION {
        return Err(BadDatagram::Version);
    }
    if pieces == 0 || pieces > MOST_PIECES || number >= pieces {
        return Err(BadDatagram::Piece);
    }
    let (sender, receiver) = (u32::from_be_bytes([s0, s1, s2, s3]), u32::from_be_bytes([r0, r1, r2, r3]));
    let message = match kind {
        kind::INITIATION => Message::Initiation,
        kind::RESPONSE => Message::Response,
        kind::CONTROL | kind::COOKIE if pieces != 1 => return Err(BadDatagram::Piece),
        kind::CONTROL => {
            let (counter, sealed) = rest.split_first_chunk::<COUNTER_LEN>().ok_or(BadDatagram::Short)?;
            if sealed.len() <= TAG_LEN {
                return Err(BadDatagram::Short);
            }
            return Ok(Parsed::Control { receiver, counter: u64::from_be_bytes(*counter), sealed });
        }
        kind::COOKIE => {
            let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(BadDatagram::Short)?;
            let exact =
                |_| if sealed.len() > SEALED_COOKIE_LEN { BadDatagram::Long } else { BadDatagram::Short };
            return Ok(Parsed::Cookie { receiver, nonce: *nonce, sealed: sealed.try_into().map_err(exact)? });
        }
        _ => return Err(BadDatagram::Kind),
    };
    let body = rest.len().checked_sub(2 * MAC_LEN).filter(|len| *len > 0).ok_or(BadDatagram::Short)?;
    let body = rest.get(..body).ok_or(BadDatagram::Short)?;
    Ok(Parsed::Piece(Piece { message, number, pieces, sender, receiver, body }))
}

fn header(kind: u8, (number, pieces): (u8, u8), sender: u32, receiver: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(MOST_LEN);
    out.extend(NON_ESP_MARKER);
    out.extend([kind, VERSION, number, pieces]);
    out.extend(sender.to_be_bytes());
    out.extend(receiver.to_be_bytes());
    out
}

/// The datagrams of a message of at most [`MOST_MESSAGE`] bytes. Both MACs are zero.
#[must_use]
pub fn build_pieces(message: Message, sender: u32, receiver: u32, body: &[u8]) -> Vec<Vec<u8>> {
    let parts = body.chunks(BODY_LEN).take(usize::from(MOST_PIECES));
    let pieces = parts.len() as u8;
    parts
        .zip(0..)
        .map(|(part, number)| {
            let mut out = header(message as u8, (number, pieces), sender, receiver);
            out.extend(part);
            out.extend([0; 2 * MAC_LEN]);
            out
        })
        .collect()
}

/// The header of a control message, which is authenticated with it.
#[must_use]
pub(super) fn control_header(sender: u32, receiver: u32, counter: u64) -> Vec<u8> {
    let mut out = header(kind::CONTROL, (0, 1), sender, receiver);
    out.extend(counter.to_be_bytes());
    out
}

/// Bytes of [`control_header`].
pub(super) const CONTROL_HEADER_LEN: usize = HEADER_LEN + COUNTER_LEN;

/// A cookie reply for the session that a datagram named as its sender.
#[must_use]
pub(super) fn build_cookie(
    receiver: u32,
    nonce: [u8; NONCE_LEN],
    sealed: &[u8; SEALED_COOKIE_LEN],
) -> Vec<u8> {
    let mut out = header(kind::COOKIE, (0, 1), 0, receiver);
    out.extend(nonce);
    out.extend(sealed);
    out
}

/// A datagram with MACs: what the first covers, the first, and the second, which covers both.
pub(super) fn split_macs(datagram: &mut [u8]) -> Option<(&mut [u8], &mut [u8; MAC_LEN], &mut [u8; MAC_LEN])> {
    let (rest, second) = datagram.split_last_chunk_mut::<MAC_LEN>()?;
    let (covered, first) = rest.split_last_chunk_mut::<MAC_LEN>()?;
    Some((covered, first, second))
}

/// The same, of a datagram that was received.
pub(super) fn macs(datagram: &[u8]) -> Option<(&[u8], &[u8; MAC_LEN], &[u8; MAC_LEN])> {
    let (rest, second) = datagram.split_last_chunk::<MAC_LEN>()?;
    let (covered, first) = rest.split_last_chunk::<MAC_LEN>()?;
    Some((covered, first, second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_come_back(body in prop::collection::vec(any::<u8>(), 1..=MOST_MESSAGE), sender: u32, receiver: u32) {
            let datagrams = build_pieces(Message::Response, sender, receiver, &body);
            let mut found = Vec::<u8>::new();
            for (number, datagram) in datagrams.iter().enumerate() {
                prop_assert!(datagram.len() <= MOST_LEN);
                let Ok(Parsed::Piece(piece)) = parse(datagram) else { panic!("no piece") };
                prop_assert_eq!(usize::from(piece.number), number);
                prop_assert_eq!(usize::from(piece.pieces), datagrams.len());
                prop_assert_eq!((piece.message, piece.sender, piece.receiver), (Message::Response, sender, receiver));
                found.extend(piece.body);
            }
            prop_assert_eq!(found, body);
        }
    }

    #[test]
    fn bad_datagrams_have_reasons() {
        let piece = build_pieces(Message::Initiation, 1, 0, &[5; 100]).remove(0);
        let with = |at: usize, value: u8| {
            let mut datagram = piece.clone();
            datagram[at] = value;
            parse(&datagram).err()
        };
        assert_eq!(with(20, 0), None);
        assert_eq!(with(0, 1), Some(BadDatagram::Marker));
        assert_eq!(with(4, 5), Some(BadDatagram::Kind));
        assert_eq!(with(5, 2), Some(BadDatagram::Version));
        assert_eq!(with(6, 1), Some(BadDatagram::Piece));
        assert_eq!(with(7, 0), Some(BadDatagram::Piece));
        assert_eq!(with(7, 5), Some(BadDatagram::Piece));
        assert_eq!(with(4, 4), Some(BadDatagram::Long));
        assert_eq!(parse(&piece[..HEADER_LEN + 32]), Err(BadDatagram::Short));
        assert_eq!(parse(&piece[..15]), Err(BadDatagram::Short));
        assert_eq!(parse(&[0; MOST_LEN + 1]), Err(BadDatagram::Long));
        let control = [control_header(1, 2, 3), vec![9; 17]].concat();
        assert_eq!(parse(&control), Ok(Parsed::Control { receiver: 2, counter: 3, sealed: &[9; 17] }));
        assert_eq!(parse(&control[..40]), Err(BadDatagram::Short));
        let cookie = build_cookie(7, [1; 12], &[2; 32]);
        assert_eq!(parse(&cookie), Ok(Parsed::Cookie { receiver: 7, nonce: [1; 12], sealed: &[2; 32] }));
        assert_eq!(parse(&cookie[..59]), Err(BadDatagram::Short));
    }
}

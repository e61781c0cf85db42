//! ESP in UDP (RFC 4303, RFC 3948) with AES-GCM (RFC 4106), as views over bytes and as writers: header, explicit IV,
//! trailer, tag. Enters: a UDP payload, or the plain text with room around it. Leaves: positions and fields. No
//! cipher, no SA: those are `cipher` and `sa`.
//!
//! ```text
//! SPI 4 | sequence 4 | IV 8 | text | padding 0 to 3 | padding length 1 | next header 1 | tag 16
//! ```
//!
//! What lies between IV and tag is sealed. Transport mode: the text is the inner UDP datagram, and next header 17.

use crate::Spi;
use std::ops::Range;

/// Bytes of SPI and sequence number.
pub const HEADER_LEN: usize = 8;
/// Bytes of the explicit IV (RFC 4106 section 3.1).
pub const IV_LEN: usize = 8;
/// Bytes before the text: the headroom that sealing needs.
pub const HEAD_LEN: usize = HEADER_LEN + IV_LEN;
/// Bytes of the salt of an SA (RFC 4106 section 4).
pub const SALT_LEN: usize = 4;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = SALT_LEN + IV_LEN;
/// Bytes of padding length and next header.
const TRAILER_LEN: usize = 2;
/// "The Pad Length and Next Header fields must be right aligned within a 4-byte word" (RFC 4303 section 2.4).
const ALIGNMENT: usize = 4;
/// Bytes of the tag, of full length (RFC 4106 section 6).
pub const TAG_LEN: usize = 16;
/// Bytes behind the text at most: the tailroom that sealing needs.
pub const TAIL_LEN: usize = ALIGNMENT - 1 + TRAILER_LEN + TAG_LEN;
/// Bytes of the shortest datagram: no text.
pub const SHORTEST: usize = HEAD_LEN + ALIGNMENT + TAG_LEN;

/// The next header of a UDP datagram.
pub const NEXT_UDP: u8 = 17;
/// The next header of a dummy frame, "which MUST be discarded without prejudice" (RFC 4303 section 2.6).
pub const NEXT_NONE: u8 = 59;

/// Bytes of padding behind a text of this length.
#[inline]
#[must_use]
pub const fn padding(text_len: usize) -> usize {
    (ALIGNMENT - (text_len + TRAILER_LEN) % ALIGNMENT) % ALIGNMENT
}

/// Bytes of the datagram of a text of this length.
#[inline]
#[must_use]
pub const fn sealed_len(text_len: usize) -> usize {
    HEAD_LEN + text_len + padding(text_len) + TRAILER_LEN + TAG_LEN
}

/// Bytes of the longest text whose datagram has at most `datagram_len` bytes; 0 if none fits.
#[inline]
#[must_use]
pub const fn most_text(datagram_len: usize) -> usize {
    let sealed = datagram_len.saturating_sub(HEAD_LEN + TAG_LEN);
    (sealed - sealed % ALIGNMENT).saturating_sub(TRAILER_LEN)
}

/// The datagram is shorter than [`SHORTEST`], not aligned, or its SPI has not our form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotEsp;

/// The fields before the sealed part of a datagram, none of which is authenticated yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Under which SA.
    pub spi: Spi,
    /// The lower half of the sequence number.
    pub sequence_low: u32,
    /// The explicit IV; of our senders the whole sequence number.
    pub iv: [u8; IV_LEN],
}

impl Header {
    /// The header of a whole datagram, whose sealed part is then everything from [`HEAD_LEN`].
    ///
    /// # Errors
    /// It is no ESP of ours.
    #[inline]
    pub fn new_checked(datagram: &[u8]) -> Result<Self, NotEsp> {
        if datagram.len() < SHORTEST || !datagram.len().is_multiple_of(ALIGNMENT) {
            return Err(NotEsp);
        }
        let (spi, rest) = datagram.split_first_chunk().ok_or(NotEsp)?;
        let (sequence, rest) = rest.split_first_chunk().ok_or(NotEsp)?;
        let iv = rest.first_chunk().ok_or(NotEsp)?;
        let spi = Spi::from_bits(u32::from_be_bytes(*spi)).ok_or(NotEsp)?;
        Ok(Self { spi, sequence_low: u32::from_be_bytes(*sequence), iv: *iv })
    }

    /// The header of a frame of ours: the IV is the sequence number.
    #[inline]
    #[must_use]
    pub const fn of(spi: Spi, sequence: u64) -> Self {
        Self { spi, sequence_low: sequence as u32, iv: sequence.to_be_bytes() }
    }

    /// Whether the IV can be the whole sequence number, as our senders have it.
    #[inline]
    #[must_use]
    pub const fn iv_is_sequence(self) -> bool {
        u64::from_be_bytes(self.iv) as u32 == self.sequence_low
    }

    /// Its bytes.
    #[inline]
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEAD_LEN] {
        let word = u64::from(self.spi.bits()) << 32 | u64::from(self.sequence_low);
        (u128::from(word) << 64 | u128::from(u64::from_be_bytes(self.iv))).to_be_bytes()
    }

    /// The nonce: "salt" and IV (RFC 4106 section 4).
    #[inline]
    #[must_use]
    pub fn nonce(self, salt: [u8; SALT_LEN]) -> [u8; NONCE_LEN] {
        nonce(salt, self.iv)
    }
}

/// The nonce of a salt and a counter or IV (RFC 4106 section 4).
#[inline]
pub(crate) fn nonce(salt: [u8; SALT_LEN], iv: [u8; IV_LEN]) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[..SALT_LEN].copy_from_slice(&salt);
    nonce[SALT_LEN..].copy_from_slice(&iv);
    nonce
}

/// How many bits of the sequence number both sides count. All are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceBits {
    /// 64: extended sequence numbers (RFC 4303 section 2.2.1). All tunnels of a handshake have it.
    Extended,
    /// 32, for foreign peers with manual keys.
    Short,
}

/// The additional authenticated data of a frame (RFC 4106 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aad {
    bytes: [u8; 12],
    len: u8,
}

impl Aad {
    /// Of SPI and sequence number.
    #[inline]
    #[must_use]
    pub fn new(spi: Spi, sequence: u64, bits: SequenceBits) -> Self {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&spi.bits().to_be_bytes());
        match bits {
            SequenceBits::Extended => {
                bytes[4..].copy_from_slice(&sequence.to_be_bytes());
                Self { bytes, len: 12 }
            }
            SequenceBits::Short => {
                bytes[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
                Self { bytes, len: 8 }
            }
        }
    }

    /// 8 or 12 bytes.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

/// Why there is no room to seal a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// Less than [`HEAD_LEN`] before it.
    Head,
    /// Less than padding, trailer and tag behind it.
    Tail,
}

/// Writes header and trailer around the text at `text` of `buffer`, and returns the range of the datagram. Its part
/// from [`HEAD_LEN`] is then to be sealed, with the tag at its end.
///
/// # Errors
/// There is no room. The buffer is as before.
#[inline]
pub fn frame_text(
    buffer: &mut [u8],
    text: Range<usize>,
    header: Header,
    next_header: u8,
) -> Result<Range<usize>, NoRoom> {
    let len = text.end.checked_sub(text.start).ok_or(NoRoom::Tail)?;
    let start = text.start.checked_sub(HEAD_LEN).ok_or(NoRoom::Head)?;
    let padding = padding(len);
    let datagram =
        buffer.get_mut(start..).and_then(|rest| rest.get_mut(..sealed_len(len))).ok_or(NoRoom::Tail)?;
    let (head, rest) = datagram.split_first_chunk_mut().ok_or(NoRoom::Tail)?;
    *head = header.to_bytes();
    // "The padding bytes are initialized with a series of (unsigned, 1-byte) integer values" (RFC 4303 section 2.4).
    let trailer = [1, 2, 3].into_iter().take(padding).chain([padding as u8, next_header]);
    for (byte, value) in rest.iter_mut().skip(len).zip(trailer) {
        *byte = value;
    }
    Ok(start..start + sealed_len(len))
}

/// Why an authenticated frame is dropped none the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadTrailer {
    /// The padding is longer than the frame, or has other bytes than 1, 2, 3 and so on.
    Padding,
    /// The next header is neither UDP nor none.
    NextHeader,
}

/// What an opened frame has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// A UDP datagram of this many bytes.
    Udp(usize),
    /// Nothing: a dummy frame.
    Dummy,
}

/// Reads the trailer of an opened text: all that was sealed, without the tag.
///
/// # Errors
/// Padding or next header are wrong.
#[inline]
pub fn open_trailer(opened: &[u8]) -> Result<Text, BadTrailer> {
    let [rest @ .., padding, next] = opened else { return Err(BadTrailer::Padding) };
    let padding = usize::from(*padding);
    let len = rest.len().checked_sub(padding).ok_or(BadTrailer::Padding)?;
    let in_order = rest.iter().skip(len).zip(1..=u8::MAX).all(|(byte, expected)| *byte == expected);
    match *next {
        _ if !in_order => Err(BadTrailer::Padding),
        NEXT_UDP => Ok(Text::Udp(len)),
        NEXT_NONE => Ok(Text::Dummy),
        _ => Err(BadTrailer::NextHeader),
    }
}

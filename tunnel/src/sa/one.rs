//! Sealing and opening one frame, as an lcore does it. The steps are those of a burst: SA and sequence number, the
//! engine, then what only an authenticated frame may do.

use super::{InboundSas, Opened, OutboundSas, SaDrop};
use crate::cipher::Engine;
use crate::esp::{self, Aad, Header};
use crate::{Millis, Spi};
use std::ops::Range;

/// Seals the text at `text` of `buffer` in place, with the SA of a peer. Returns where the datagram is, and its SPI.
///
/// # Errors
/// There is no SA or no room, or the SA is exhausted. The frame must not be sent.
#[inline]
pub fn seal<E: Engine>(
    engine: &mut E,
    sas: &mut OutboundSas<E::Key>,
    peer: u32,
    (buffer, text): (&mut [u8], Range<usize>),
    now: Millis,
) -> Result<(Range<usize>, Spi), SaDrop> {
    let sa = sas.get_mut(peer).ok_or(SaDrop::NoTunnel)?;
    let len = text.len();
    let start = text.start.checked_sub(esp::HEAD_LEN).ok_or(SaDrop::NoHeadroom)?;
    if buffer.len().checked_sub(start).is_none_or(|room| room < esp::sealed_len(len)) {
        return Err(SaDrop::NoTailroom);
    }
    let sequence = sa.next(len, now).ok_or(SaDrop::SealExhausted)?;
    let header = Header::of(sa.spi(), sequence);
    let datagram = esp::frame_text(buffer, text, header, esp::NEXT_UDP)?;
    let sealed = buffer.get_mut(datagram.start + esp::HEAD_LEN..datagram.end).unwrap_or_default();
    let aad = Aad::new(sa.spi(), sequence, sa.bits());
    let done = engine.seal(sa.key(), &header.nonce(sa.salt()), aad.as_slice(), sealed);
    done.map_err(|_| SaDrop::SealFailed)?;
    Ok((datagram, sa.spi()))
}

/// How a datagram was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenedBy {
    /// Here.
    Here(Opened),
    /// Not at all: this lcore has the window.
    Other(u32),
}

/// Opens a UDP payload in place, on an lcore. The first valid frame of an SA makes the window that lcore's; a frame that
/// comes to another is that one's to open, and is as it was.
///
/// # Errors
/// It is dropped for this reason.
#[inline]
pub fn open<E: Engine>(
    engine: &mut E,
    sas: &mut InboundSas<E::Key>,
    lcore: u32,
    datagram: &mut [u8],
) -> Result<OpenedBy, SaDrop> {
    let header = Header::new_checked(datagram).map_err(|_| SaDrop::NotEsp)?;
    let sa = sas.get_mut(header.spi).ok_or(SaDrop::UnknownSpi)?;
    if let Some(other) = sa.counters().owner().filter(|owner| *owner != lcore) {
        return Ok(OpenedBy::Other(other));
    }
    let Ok(sequence) = sa.sequence(header) else {
        sa.counters().count_replayed();
        return Err(SaDrop::Replayed);
    };
    let aad = Aad::new(header.spi, sequence, sa.bits());
    let sealed = datagram.get_mut(esp::HEAD_LEN..).unwrap_or_default();
    if engine.open(sa.key(), &header.nonce(sa.salt()), aad.as_slice(), sealed).is_err() {
        sa.counters().count_bad_seal();
        return Err(SaDrop::BadSeal);
    }
    // Two lcores that open the first frames at once: one of them loses its frame, which could be a replay.
    if sa.counters().claim(lcore) != lcore {
        return Err(SaDrop::Replayed);
    }
    sa.opened(datagram, header.spi, sequence).map(OpenedBy::Here)
}

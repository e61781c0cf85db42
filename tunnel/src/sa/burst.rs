//! Sealing and opening in bursts. For each frame: its SA and sequence number, then the engine over all, then what only
//! an authenticated frame may do. SAs and keys are brought near before; frames are the caller's matter.

use super::{InboundSas, OutboundSas, SaDrop};
use crate::cipher::{Engine, Job};
use crate::esp::{self, Aad, Header};
use crate::{Millis, Spi};
use arrayvec::ArrayVec;
use std::ops::Range;

/// Frames that the engine gets at once at most. A longer burst is done in parts.
pub const BURST: usize = 32;

/// A frame to seal.
#[derive(Debug)]
pub struct SealFrame<'a> {
    /// For which peer, as this host numbers it.
    pub peer: u32,
    /// The memory around the text.
    pub buffer: &'a mut [u8],
    /// Where the text is: the inner UDP datagram, or nothing in a dummy frame. Before it need to be [`esp::HEAD_LEN`]
    /// bytes, behind it up to [`esp::TAIL_LEN`].
    pub text: Range<usize>,
    /// [`esp::NEXT_UDP`], or [`esp::NEXT_NONE`] for a dummy frame.
    pub next_header: u8,
    /// Afterwards: where the datagram is, or why there is none.
    pub result: Result<Range<usize>, SaDrop>,
}

impl<'a> SealFrame<'a> {
    /// A frame for a peer, whose text is an inner UDP datagram.
    #[inline]
    #[must_use]
    pub const fn new(peer: u32, buffer: &'a mut [u8], text: Range<usize>) -> Self {
        Self { peer, buffer, text, next_header: esp::NEXT_UDP, result: Err(SaDrop::NoTunnel) }
    }
}

/// Seals frames in place, each with the SA of its peer. A frame whose result is an error must not be sent.
#[inline]
pub fn seal_burst<E: Engine>(
    engine: &mut E,
    sas: &mut OutboundSas<E::Key>,
    frames: &mut [SealFrame<'_>],
    now: Millis,
) {
    for frames in frames.chunks_mut(BURST) {
        frames.iter().for_each(|frame| sas.prefetch(frame.peer));
        frames.iter().for_each(|frame| sas.prefetch_rest(frame.peer));
        let mut headers = ArrayVec::<_, BURST>::new();
        for frame in frames.iter_mut() {
            let header = seal_header(sas, frame, now);
            frame.result = match &header {
                Ok((header, _)) => {
                    esp::frame_text(frame.buffer, frame.text.clone(), *header, frame.next_header)
                        .map_err(SaDrop::from)
                }
                Err(drop) => Err(*drop),
            };
            headers.push(header.ok());
        }
        let mut jobs = ArrayVec::<Job<'_, E::Key>, BURST>::new();
        for (frame, header) in frames.iter_mut().zip(headers) {
            let SealFrame { buffer, result, peer, .. } = frame;
            let (Ok(range), Some((header, aad)), Some(sa)) = (result, header, sas.get(*peer)) else {
                continue;
            };
            let datagram = buffer.get_mut(range.clone()).unwrap_or_default();
            let text_and_tag = datagram.get_mut(esp::HEAD_LEN..).unwrap_or_default();
            jobs.push(Job { key: sa.key(), nonce: header.nonce(sa.salt()), aad, text_and_tag });
        }
        let mut done = [false; BURST];
        engine.seal_burst(&mut jobs, &mut done);
        drop(jobs);
        let with_job = frames.iter_mut().filter(|frame| frame.result.is_ok());
        for (frame, _) in with_job.zip(done).filter(|(_, done)| !done) {
            frame.result = Err(SaDrop::SealFailed);
        }
    }
}

/// Header and additional data for a frame: takes a sequence number, once it is clear that there is room.
#[inline]
fn seal_header<K>(
    sas: &mut OutboundSas<K>,
    frame: &SealFrame<'_>,
    now: Millis,
) -> Result<(Header, Aad), SaDrop> {
    let sa = sas.get_mut(frame.peer).ok_or(SaDrop::NoTunnel)?;
    let len = frame.text.len();
    let start = frame.text.start.checked_sub(esp::HEAD_LEN).ok_or(SaDrop::NoHeadroom)?;
    if frame.buffer.len().checked_sub(start).is_none_or(|room| room < esp::sealed_len(len)) {
        return Err(SaDrop::NoTailroom);
    }
    let sequence = sa.next(len, now).ok_or(SaDrop::SealExhausted)?;
    Ok((Header::of(sa.spi(), sequence), Aad::new(sa.spi(), sequence, sa.bits())))
}

/// What an opened datagram has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Under which SA.
    pub spi: Spi,
    /// Its peer.
    pub peer: u32,
    /// The whole sequence number.
    pub sequence: u64,
    /// Where in the datagram the text is: the inner UDP datagram. Empty in a dummy frame.
    pub text: Range<usize>,
    /// The frame has no text, and is to be discarded.
    pub dummy: bool,
}

/// A datagram to open.
#[derive(Debug)]
pub struct OpenFrame<'a> {
    /// The UDP payload.
    pub datagram: &'a mut [u8],
    /// Afterwards: what it has, or why it is dropped.
    pub result: Result<Opened, SaDrop>,
}

impl<'a> OpenFrame<'a> {
    /// A UDP payload.
    #[inline]
    #[must_use]
    pub const fn new(datagram: &'a mut [u8]) -> Self {
        Self { datagram, result: Err(SaDrop::NotEsp) }
    }
}

/// Opens datagrams in place. Nothing of one whose result is an error may be used.
#[inline]
pub fn open_burst<E: Engine>(engine: &mut E, sas: &mut InboundSas<E::Key>, frames: &mut [OpenFrame<'_>]) {
    for frames in frames.chunks_mut(BURST) {
        let read = |frame: &OpenFrame<'_>| Header::new_checked(frame.datagram).ok();
        let headers: ArrayVec<_, BURST> = frames.iter().map(read).collect();
        headers.iter().flatten().for_each(|header| sas.prefetch(*header));
        headers.iter().flatten().for_each(|header| sas.prefetch_rest(*header));
        let mut known = ArrayVec::<_, BURST>::new();
        for (frame, header) in frames.iter_mut().zip(headers) {
            let header = header.ok_or(SaDrop::NotEsp).and_then(|header| with_sequence(sas, header));
            if let Err(drop) = header {
                frame.result = Err(drop);
            }
            known.push(header.ok());
        }
        let mut jobs = ArrayVec::<Job<'_, E::Key>, BURST>::new();
        for (frame, header) in frames.iter_mut().zip(&known) {
            let Some((header, sequence)) = *header else { continue };
            let Some(sa) = sas.get(header.spi) else { continue };
            let text_and_tag = frame.datagram.get_mut(esp::HEAD_LEN..).unwrap_or_default();
            let aad = Aad::new(header.spi, sequence, sa.bits());
            jobs.push(Job { key: sa.key(), nonce: header.nonce(sa.salt()), aad, text_and_tag });
        }
        let mut done = [false; BURST];
        engine.open_burst(&mut jobs, &mut done);
        drop(jobs);
        let with_job = frames.iter_mut().zip(known).filter_map(|(frame, header)| Some((frame, header?)));
        for ((frame, (header, sequence)), done) in with_job.zip(done) {
            frame.result = match sas.get_mut(header.spi) {
                Some(sa) if done => sa.opened(frame.datagram, header.spi, sequence),
                Some(sa) => {
                    sa.counters().count_bad_seal();
                    Err(SaDrop::BadSeal)
                }
                None => Err(SaDrop::UnknownSpi),
            };
        }
    }
}

/// A header whose SA is there, and its sequence number, which is new.
#[inline]
fn with_sequence<K>(sas: &mut InboundSas<K>, header: Header) -> Result<(Header, u64), SaDrop> {
    let sa = sas.get_mut(header.spi).ok_or(SaDrop::UnknownSpi)?;
    match sa.sequence(header) {
        Ok(sequence) => Ok((header, sequence)),
        Err(_) => {
            sa.counters().count_replayed();
            Err(SaDrop::Replayed)
        }
    }
}

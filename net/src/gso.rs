//! Segmentation in software: one large TCP frame, as a guest with segmentation offload sends it, becomes
//! frames of at most `mss` bytes of data each. IPv4 and IPv6; tags, IP options, extension headers and TCP
//! options are repeated in every segment.
//!
//! The caller owns the payload: [`Segmenter`] reports which bytes of the original frame belong to each segment
//! and writes the header to put before them. The L4 checksum is left zero, for
//! [`crate::l4_checksum::finish_l4`] with the segment's own facts.

use crate::bytes::{at_mut, put};
use crate::checksum;
use crate::frame::{Fragment, Frame, Kind, L4};
use crate::reason::reasons;
use crate::{ipv4, tcp};
use arrayvec::ArrayVec;
use std::ops::Range;

reasons! {
    /// Why a frame cannot be segmented.
    pub enum NotSegmentable {
        /// Not TCP over IP, or malformed.
        NotTcp = "gso_not_tcp",
        /// Already a fragment.
        Fragment = "gso_fragment",
        /// Data per segment of zero.
        ZeroMss = "gso_zero_mss",
        /// The headers are not all in the first segment, or too long to be copied.
        Headers = "gso_headers",
    }
}

/// Longest header that is repeated: Ethernet with tag 18, IPv4 with options 60, TCP with options 60, and room
/// for some IPv6 extension headers.
pub const MAX_HEADER: usize = 192;

const IPV4_ID_AT: usize = 4;
const IP_LEN_AT: usize = 2;
const IPV6_LEN_AT: usize = 4;

/// One segment to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Position among the segments, from 0.
    pub index: u32,
    /// It is the last one.
    pub last: bool,
    /// Its data, in bytes from the start of the original frame.
    pub payload: Range<usize>,
    /// Facts of the frame it becomes: header and data, without padding.
    pub frame: Frame,
}

/// Iterates over the segments of one frame.
#[derive(Debug, Clone)]
pub struct Segmenter {
    frame: Frame,
    header: ArrayVec<u8, MAX_HEADER>,
    l4_off: usize,
    mss: usize,
    next: usize,
    end: usize,
    index: u32,
    done: bool,
}

impl Segmenter {
    /// Prepares to segment the frame of which `head` is the first segment into pieces of at most `mss` bytes
    /// of TCP data. A frame without data gives one segment.
    #[inline]
    pub fn new(frame: &Frame, head: &[u8], mss: u16) -> Result<Self, NotSegmentable> {
        let (L4::Tcp { hdr_len, .. }, Some(l4_off)) = (frame.l4, frame.l4_off) else {
            return Err(NotSegmentable::NotTcp);
        };
        match &frame.kind {
            Kind::Ipv4(ip) if ip.fragment == Fragment::Whole => {}
            Kind::Ipv6(ip) if ip.fragment == Fragment::Whole => {}
            _ => return Err(NotSegmentable::Fragment),
        }
        if mss == 0 {
            return Err(NotSegmentable::ZeroMss);
        }
        let l4_off = usize::from(l4_off);
        let data = l4_off + usize::from(hdr_len);
        if data > frame.l3_end() {
            return Err(NotSegmentable::Headers);
        }
        let header =
            head.get(..data).and_then(|h| ArrayVec::try_from(h).ok()).ok_or(NotSegmentable::Headers)?;
        Ok(Self {
            frame: *frame,
            header,
            l4_off,
            mss: usize::from(mss),
            next: data,
            end: frame.l3_end(),
            index: 0,
            done: false,
        })
    }

    /// Length of the header before each segment's data, in bytes.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header.len()
    }

    /// The number of segments.
    #[inline]
    #[must_use]
    pub fn count(&self) -> usize {
        self.end.saturating_sub(self.header.len()).div_ceil(self.mss).max(1)
    }

    /// Writes the header of `segment` into the first [`Segmenter::header_len`] bytes of `out`: IP length,
    /// IPv4 identification counted up, IPv4 header checksum, TCP sequence number; FIN and PSH only in the last
    /// segment, CWR only in the first (RFC 3168 section 6.1.2: one CWR per reduction). TCP checksum zero.
    /// `None`, with nothing useful written, if `out` is too short.
    #[inline]
    #[must_use]
    pub fn write_header(&self, segment: &Segment, out: &mut [u8]) -> Option<()> {
        let out = out.get_mut(..self.header.len())?;
        out.copy_from_slice(&self.header);
        let l3 = usize::from(self.frame.l3_off);
        match &segment.frame.kind {
            Kind::Ipv4(ip) => {
                let header: &mut [u8; ipv4::HEADER_LEN] = at_mut(out, l3)?;
                let id = ipv4::Header::of(header).id().wrapping_add(segment.index as u16);
                put::<IP_LEN_AT, 2, _>(header, ip.total_len.to_be_bytes());
                put::<IPV4_ID_AT, 2, _>(header, id.to_be_bytes());
                put::<{ ipv4::CHECKSUM_AT }, 2, _>(header, [0, 0]);
                let header = out.get_mut(l3..l3 + usize::from(ip.hdr_len))?;
                let sum = checksum::of(header);
                put::<{ ipv4::CHECKSUM_AT }, 2, { ipv4::HEADER_LEN }>(at_mut(header, 0)?, sum.to_be_bytes());
            }
            Kind::Ipv6(ip) => {
                put::<IPV6_LEN_AT, 2, 6>(at_mut(out, l3)?, ip.payload_len.to_be_bytes());
            }
            _ => return None,
        }
        let header: &mut [u8; tcp::HEADER_LEN] = at_mut(out, self.l4_off)?;
        let sent = segment.payload.start.saturating_sub(self.header.len()) as u32;
        let seq = tcp::Header::of(header).seq().wrapping_add(sent);
        put::<{ tcp::SEQ_AT }, 4, _>(header, seq.to_be_bytes());
        let flags = flags_of(tcp::Header::of(header).flags(), segment.index, segment.last);
        put::<{ tcp::FLAGS_AT }, 1, _>(header, [flags]);
        put::<{ tcp::CHECKSUM_AT }, 2, _>(header, [0, 0]);
        Some(())
    }
}

/// The control bits of one segment, from those of the large frame.
#[inline]
const fn flags_of(all: u8, index: u32, last: bool) -> u8 {
    let mut flags = all;
    if !last {
        flags &= !(tcp::flag::FIN | tcp::flag::PSH);
    }
    if index > 0 {
        flags &= !tcp::flag::CWR;
    }
    flags
}

impl Iterator for Segmenter {
    type Item = Segment;

    #[inline]
    fn next(&mut self) -> Option<Segment> {
        if self.done {
            return None;
        }
        let payload = self.next..(self.next + self.mss).min(self.end);
        let last = payload.end >= self.end;
        let cut = self.end - payload.end + (payload.start - self.header.len());
        let mut frame = self.frame;
        match &mut frame.kind {
            Kind::Ipv4(ip) => ip.total_len -= cut as u16,
            Kind::Ipv6(ip) => ip.payload_len -= cut as u16,
            _ => return None,
        }
        if let L4::Tcp { flags, .. } = &mut frame.l4 {
            *flags = flags_of(*flags, self.index, last);
        }
        frame.len = (self.header.len() + payload.len()) as u32;
        let segment = Segment { index: self.index, last, payload, frame };
        self.next = segment.payload.end;
        self.index += 1;
        self.done = last;
        Some(segment)
    }
}

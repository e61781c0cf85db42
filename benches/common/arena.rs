//! Frames in more memory than the caches hold, visited in an order that no prefetcher guesses, as mbufs come from a
//! mempool.

use super::{BURST, Burst};
use std::{cell::RefCell, mem};
use stopover::pipeline::packet::{Packet, TxOffload};
use stopover_net::VlanId;

/// All buffers together: twice the largest third-level cache in use.
const TOTAL: usize = 64 << 20;
/// Bytes of a buffer, unless its frame needs more.
const SIZE: usize = 512;
const HEADROOM: usize = 128;
/// Odd, and far from a power of two: visits every buffer once before any again, since their number is a power of two.
const STRIDE: usize = 40_503;

/// A frame in a buffer of the arena.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    ctx: usize,
    pub unfilled: bool,
    pub gso: Option<u16>,
}

thread_local! {
    /// Buffers that a stage dropped, as mbufs return to their pool.
    static DROPPED: RefCell<Vec<(usize, Box<[u8]>)>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            let dropped = (self.ctx, mem::take(&mut self.bytes));
            DROPPED.with_borrow_mut(|all| all.push(dropped));
        }
    }
}

impl Buffer {
    /// A copy of these parts of a frame, in `bytes` if they fit.
    pub(super) fn copy(bytes: Option<Box<[u8]>>, parts: &[&[u8]]) -> Option<Self> {
        let room = HEADROOM + parts.iter().map(|part| part.len()).sum::<usize>();
        let fits = bytes.filter(|bytes| room <= bytes.len());
        let mut bytes = fits.unwrap_or_else(|| vec![0; room.max(SIZE)].into());
        let mut end = HEADROOM;
        for part in parts {
            bytes.get_mut(end..end + part.len())?.copy_from_slice(part);
            end += part.len();
        }
        Some(Self { bytes, start: HEADROOM, end, ctx: COPY, unfilled: false, gso: None })
    }

    /// The memory of a copy, for another one; none of the arena.
    pub(super) fn spare(mut self) -> Option<Box<[u8]>> {
        (self.ctx == COPY).then(|| mem::take(&mut self.bytes))
    }

    pub(super) fn is_copy(&self) -> bool {
        self.ctx == COPY
    }
}

/// Marks a buffer that is a copy.
const COPY: usize = usize::MAX;

impl Packet for Buffer {
    fn len(&self) -> usize {
        self.end - self.start
    }
    fn head(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
    fn head_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }
    fn segments(&self) -> impl Iterator<Item = &[u8]> + Clone {
        std::iter::once(self.head())
    }
    fn push(&mut self, n: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(n)?;
        self.bytes.get_mut(self.start..self.start + n)
    }
    fn pull(&mut self, n: usize) -> bool {
        let fits = n <= self.len();
        self.start += if fits { n } else { 0 };
        fits
    }
    fn truncate(&mut self, len: usize) -> bool {
        let fits = len <= self.len();
        self.end = if fits { self.start + len } else { self.end };
        fits
    }
    fn replace(&mut self, bytes: &[u8]) -> bool {
        self.start = HEADROOM;
        self.end = HEADROOM + bytes.len();
        self.clear_offload();
        let Some(room) = self.bytes.get_mut(self.start..self.end) else { return false };
        room.copy_from_slice(bytes);
        true
    }
    fn checksum_unfilled(&self) -> bool {
        self.unfilled
    }
    fn checksum_bad(&self) -> bool {
        false
    }
    fn gso_size(&self) -> Option<u16> {
        self.gso
    }
    fn stripped_vlan(&self) -> Option<VlanId> {
        None
    }
    fn request_offload(&mut self, _: TxOffload) -> bool {
        true
    }
    fn clear_offload(&mut self) {
        self.unfilled = false;
        self.gso = None;
    }
}

/// More buffers than the caches can hold, each with its frame.
#[derive(Debug)]
pub struct Arena {
    /// `None` while the frame is in use.
    buffers: Vec<Option<Box<[u8]>>>,
    lens: Vec<usize>,
    next: usize,
}

impl Arena {
    /// `frame(i)` is the frame in buffer `i`.
    pub fn new(frame: impl Fn(u32) -> Vec<u8>) -> Self {
        Self::of(TOTAL, frame)
    }

    /// As [`Arena::new`], but of this size, where caches do not matter.
    pub fn of(bytes: usize, frame: impl Fn(u32) -> Vec<u8>) -> Self {
        let mut arena = Self { buffers: Vec::new(), lens: Vec::new(), next: 0 };
        let size = (HEADROOM + frame(0).len()).next_power_of_two().max(SIZE);
        for i in 0..bytes / size {
            let frame = frame(i as u32);
            let mut bytes: Box<[u8]> = vec![0; size].into();
            bytes[HEADROOM..HEADROOM + frame.len()].copy_from_slice(&frame);
            arena.buffers.push(Some(bytes));
            arena.lens.push(frame.len());
        }
        arena
    }

    /// The next frame. Stages write only into headroom and headers, so a returned frame is valid again.
    #[inline]
    pub fn take(&mut self) -> Buffer {
        self.next = (self.next + STRIDE) % self.buffers.len();
        if self.buffers[self.next].is_none() {
            self.recover();
        }
        let bytes = self.buffers[self.next].take().unwrap();
        let (ctx, end) = (self.next, HEADROOM + self.lens[self.next]);
        Buffer { bytes, start: HEADROOM, end, ctx, unfilled: false, gso: None }
    }

    /// The next frames, each changed.
    #[inline]
    pub fn burst(&mut self, change: impl Fn(&mut Buffer)) -> Burst {
        let next = |_| {
            let mut buffer = self.take();
            change(&mut buffer);
            buffer
        };
        (0..BURST).map(next).collect()
    }

    /// Takes back the buffers that stages dropped.
    #[cold]
    fn recover(&mut self) {
        for (ctx, bytes) in DROPPED.take() {
            if let Some(place) = self.buffers.get_mut(ctx) {
                *place = Some(bytes);
            }
        }
    }

    /// Takes a frame back.
    #[inline]
    pub fn put_back(&mut self, mut buffer: Buffer) {
        self.buffers[buffer.ctx] = Some(mem::take(&mut buffer.bytes));
    }

    /// The bytes of the next frame, in place.
    #[inline]
    pub fn peek(&mut self) -> &[u8] {
        self.next = (self.next + STRIDE) % self.buffers.len();
        let bytes = self.buffers[self.next].as_deref().unwrap();
        &bytes[HEADROOM..HEADROOM + self.lens[self.next]]
    }
}

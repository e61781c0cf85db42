//! The hold: what a node's ring refused while the node moves, kept in order and in memory of its own, so that a
//! migration of any length takes no mbuf away from those who forward. Enters: frames as runs of bytes, with what
//! must be known of them later. Leaves: the same frames, first in first out. Knows no port, no node, no protocol;
//! nothing here allocates once it is made, locks or waits.
//!
//! A [`HoldPool`] is the appliance's budget, shared by its lcores: blocks of 16 KiB. A [`HoldQueue`] is one node's
//! share of it on one lcore: a stream of records that run on from block to block, so that a short frame costs its
//! length and a long one needs no block of its own size. Blocks go back to the pool as they empty.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

/// Bytes of a block: small enough that a node which holds one frame takes little, large enough that 64 KiB of a
/// segmentation offload's frame come in five pieces.
pub const BLOCK_BYTES: usize = 16 * 1024;

/// Bytes that a record needs beside its frame.
pub const RECORD_BYTES: usize = 16;

/// Longest frame: what a guest may hand over unsegmented is half of that, headers included.
pub const FRAME_BYTES_MAX: usize = 0x1_ffff;

type Block = [u8; BLOCK_BYTES];

/// The memory of every hold of the appliance.
#[derive(Debug)]
pub struct HoldPool {
    free: ArrayQueue<Box<Block>>,
    blocks: usize,
}

impl HoldPool {
    /// A pool of as many whole blocks as `bytes` are. All of them are written once, so that the machine gives the
    /// memory now, or refuses it now.
    pub fn new(bytes: usize) -> Arc<Self> {
        let blocks = bytes / BLOCK_BYTES;
        // The queue cannot have no places, but it can have no blocks.
        let pool = Self { free: ArrayQueue::new(blocks.max(1)), blocks };
        for _ in 0..blocks {
            // Not zeroes: those an allocator may promise without having them.
            pool.give(Box::new([0xa5; BLOCK_BYTES]));
        }
        Arc::new(pool)
    }

    /// Blocks that a queue must be allowed to hold at least `bytes`, wherever in its first block they begin.
    #[must_use]
    pub const fn blocks_for(bytes: usize) -> usize {
        bytes.div_ceil(BLOCK_BYTES) + 1
    }

    /// Bytes of the blocks that no queue has: what can still be held, records' headers included.
    pub fn free_bytes(&self) -> usize {
        self.free.len() * BLOCK_BYTES
    }

    /// Bytes of all blocks.
    pub fn total_bytes(&self) -> usize {
        self.blocks * BLOCK_BYTES
    }

    fn take(&self) -> Option<Box<Block>> {
        self.free.pop()
    }

    fn give(&self, block: Box<Block>) {
        // There is a place for each block, so none is turned away.
        drop(self.free.push(block));
    }
}

/// What is kept of a frame beside its bytes. The hold does not read it, but for `at` where it is asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What sort of record it is: its user's to define.
    pub kind: u8,
    /// The sender left the layer 4 checksum to hardware.
    pub unfinished: bool,
    /// The sender left segmentation to hardware: payload bytes per segment.
    pub gso: Option<u16>,
    /// When it was put in, by a clock that does not go back; all 64 bits are kept.
    pub at: u64,
}

/// The queue's own limit or the pool does not allow one more frame of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Frames in order. Belongs to one lcore. Its blocks are the pool's: [`clear`](Self::clear) it before it is
/// dropped, or the pool is smaller from then on. Every method that names a pool wants the same one.
#[derive(Debug)]
pub struct HoldQueue {
    /// The record stream: begins `start` bytes into the first block, and is `bytes` long. None is behind its end.
    blocks: VecDeque<Box<Block>>,
    max_blocks: usize,
    start: usize,
    bytes: usize,
    frames: usize,
}

impl HoldQueue {
    /// An empty queue of up to `max_blocks` blocks; it takes none before it is used.
    pub fn new(max_blocks: usize) -> Self {
        Self { blocks: VecDeque::with_capacity(max_blocks), max_blocks, start: 0, bytes: 0, frames: 0 }
    }

    /// Appends a frame of `len` bytes, which are those of `segments`. Should they have more, the rest is left out;
    /// should they have less, the frame is as short as they are.
    ///
    /// # Errors
    /// [`Full`]; then nothing has changed, here or in the pool.
    pub fn push<'a>(
        &mut self,
        pool: &HoldPool,
        meta: Meta,
        segments: impl Iterator<Item = &'a [u8]>,
        len: usize,
    ) -> Result<(), Full> {
        let header = self.start + self.bytes;
        let end = header + RECORD_BYTES + len;
        let had = self.blocks.len();
        let need = end.div_ceil(BLOCK_BYTES);
        if need > self.max_blocks || len > FRAME_BYTES_MAX {
            return Err(Full);
        }
        while self.blocks.len() < need {
            let Some(block) = pool.take() else {
                self.shrink(pool, had);
                return Err(Full);
            };
            self.blocks.push_back(block);
        }
        let mut at = header + RECORD_BYTES;
        for segment in segments {
            let take = segment.len().min(end - at);
            self.write(at, &segment[..take]);
            at += take;
        }
        let record = at - header;
        self.write(header, &encode(meta, record - RECORD_BYTES));
        self.shrink(pool, at.div_ceil(BLOCK_BYTES));
        self.bytes += record;
        self.frames += 1;
        Ok(())
    }

    /// What is known of the first frame.
    #[inline]
    pub fn front(&self) -> Option<Meta> {
        self.header().map(|(meta, _)| meta)
    }

    /// Bytes of the first frame; 0 if there is none.
    #[inline]
    pub fn front_len(&self) -> usize {
        self.header().map_or(0, |(_, len)| len)
    }

    /// The bytes of the first frame, in as many pieces as it has blocks.
    pub fn front_chunks(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.chunks(self.start + RECORD_BYTES, self.front_len())
    }

    /// Forgets the first frame; `false` if there is none.
    pub fn pop_front(&mut self, pool: &HoldPool) -> bool {
        let Some((_, len)) = self.header() else { return false };
        self.start += RECORD_BYTES + len;
        self.bytes -= RECORD_BYTES + len;
        self.frames -= 1;
        while self.start >= BLOCK_BYTES {
            self.start -= BLOCK_BYTES;
            self.blocks.pop_front().into_iter().for_each(|block| pool.give(block));
        }
        if self.frames == 0 {
            self.start = 0;
            self.shrink(pool, 0);
        }
        true
    }

    /// Forgets, from the front on, frames that were put in before `at`, until one was not. Returns how many.
    pub fn expire_before(&mut self, pool: &HoldPool, at: u64) -> usize {
        let before = self.frames;
        while self.front().is_some_and(|meta| meta.at < at) {
            self.pop_front(pool);
        }
        before - self.frames
    }

    /// Forgets all frames, and returns how many they were.
    pub fn clear(&mut self, pool: &HoldPool) -> usize {
        self.shrink(pool, 0);
        (self.start, self.bytes) = (0, 0);
        std::mem::take(&mut self.frames)
    }

    /// How many frames there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.frames
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Bytes of the frames, each with its record's header.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn shrink(&mut self, pool: &HoldPool, blocks: usize) {
        while self.blocks.len() > blocks {
            self.blocks.pop_back().into_iter().for_each(|block| pool.give(block));
        }
    }

    /// Writes at a place of the stream, for which there must be blocks.
    fn write(&mut self, mut at: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let within = at % BLOCK_BYTES;
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - within));
            let Some(block) = self.blocks.get_mut(at / BLOCK_BYTES) else { return };
            block[within..within + now.len()].copy_from_slice(now);
            at += now.len();
            bytes = later;
        }
    }

    /// The pieces of `len` bytes from a place of the stream on.
    fn chunks(&self, from: usize, len: usize) -> impl Iterator<Item = &[u8]> + Clone {
        let end = from + len;
        (from / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)).map_while(move |i| {
            let first = i * BLOCK_BYTES;
            let range = from.saturating_sub(first)..(end - first).min(BLOCK_BYTES);
            self.blocks.get(i)?.get(range)
        })
    }

    fn header(&self) -> Option<(Meta, usize)> {
        if self.frames == 0 {
            return None;
        }
        let mut bytes = [0; RECORD_BYTES];
        let mut at = 0;
        for piece in self.chunks(self.start, RECORD_BYTES) {
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        Some(decode(bytes))
    }
}

const UNFINISHED: u8 = 1;
const GSO: u8 = 2;

/// at 8, frame length 4, gso 2, kind 1, flags 1; in this machine's byte order, as it never leaves it.
fn encode(meta: Meta, len: usize) -> [u8; RECORD_BYTES] {
    let flags = if meta.unfinished { UNFINISHED } else { 0 } | if meta.gso.is_some() { GSO } else { 0 };
    let mut out = [0; RECORD_BYTES];
    out[0..8].copy_from_slice(&meta.at.to_ne_bytes());
    out[8..12].copy_from_slice(&(len as u32).to_ne_bytes());
    out[12..14].copy_from_slice(&meta.gso.unwrap_or(0).to_ne_bytes());
    out[14] = meta.kind;
    out[15] = flags;
    out
}

fn decode(bytes: [u8; RECORD_BYTES]) -> (Meta, usize) {
    let [a, b, c, d, e, f, g, h, l0, l1, l2, l3, g0, g1, kind, flags] = bytes;
    let meta = Meta {
        kind,
        unfinished: flags & UNFINISHED != 0,
        gso: (flags & GSO != 0).then_some(u16::from_ne_bytes([g0, g1])),
        at: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
    };
    (meta, u32::from_ne_bytes([l0, l1, l2, l3]) as usize)
}

#[cfg(test)]
mod tests;

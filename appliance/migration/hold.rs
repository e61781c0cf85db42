//! The hold: separate memory in which frames wait while their node is migrating, so that a hold never exhausts the
//! pools that receive. Enters: bytes of frames, in order. Leaves: the same bytes, in that order. All memory is
//! allocated and touched at start; later nothing here allocates, locks or waits. It knows nothing of DPDK or
//! headers.

use crossbeam::queue::ArrayQueue;
use std::{collections::VecDeque, iter, sync::Arc};

/// Bytes of a block.
pub const BLOCK: usize = 16 * 1024;
/// Bytes of an entry besides its frame.
pub const HEADER: usize = 16;
/// Longest frame: an unsegmented one of a guest, with its headers.
pub const MAX_FRAME: usize = 0x1_ffff;

const UNFINISHED: u8 = 1;
const GSO: u8 = 2;

type Block = [u8; BLOCK];

/// What a held frame is: stored as [`Meta::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HeldKind {
    /// A frame that waits.
    Frame,
    /// A frame that arrived during the redirection of others, and is queued behind them.
    Straggler,
    /// An end marker.
    Marker,
}

impl HeldKind {
    /// The reverse of `as u8`; an unknown number is a frame.
    #[must_use]
    pub const fn from_u8(number: u8) -> Self {
        match number {
            1 => Self::Straggler,
            2 => Self::Marker,
            _ => Self::Frame,
        }
    }
}

/// The limit of the queue is reached, or the pool is empty. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Stored with a frame besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The kind of the entry, defined by the caller.
    pub kind: u8,
    /// Its sender left the checksum to the device.
    pub unfinished: bool,
    /// Its sender left segmentation to the device: payload bytes per segment.
    pub gso: Option<u16>,
    /// Its time of arrival, of any clock that does not go back. (The TSC exceeds 48 bits within about 30 hours.)
    pub at: u64,
}

/// Free blocks, shared by all lcores.
#[derive(Debug)]
pub struct HoldPool {
    free: ArrayQueue<Box<Block>>,
    blocks: usize,
}

impl HoldPool {
    /// A pool of `bytes`, rounded up to whole blocks, its memory touched.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<Self> {
        let blocks = bytes.div_ceil(BLOCK).max(1);
        let free = ArrayQueue::new(blocks);
        for _ in 0..blocks {
            // Not zero: zeroed memory would be mapped only when it is first written, on the packet path.
            let _ = free.push(Box::new([0xa5; BLOCK]));
        }
        Arc::new(Self { free, blocks })
    }

    /// The number of blocks that a queue needs for this many bytes.
    #[must_use]
    pub const fn blocks_for(bytes: usize) -> usize {
        bytes.div_ceil(BLOCK) + 1
    }

    /// Free bytes.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.free.len() * BLOCK
    }

    /// All its bytes.
    #[must_use]
    pub const fn total_bytes(&self) -> usize {
        self.blocks * BLOCK
    }

    fn take_block(&self) -> Option<Box<Block>> {
        self.free.pop()
    }

    /// There is always room: all blocks are from this pool.
    fn return_block(&self, block: Box<Block>) {
        let _ = self.free.push(block);
    }
}

/// A queue of frames. Always used with the same pool.
#[derive(Debug)]
pub struct HoldQueue {
    blocks: VecDeque<Box<Block>>,
    max_blocks: usize,
    /// Offset of the first entry in the first block.
    head: usize,
    /// Bytes of all entries.
    bytes: usize,
    frames: usize,
}

impl HoldQueue {
    /// An empty queue that will use at most `max_blocks` blocks.
    #[must_use]
    pub fn new(max_blocks: usize) -> Self {
        Self { blocks: VecDeque::with_capacity(max_blocks), max_blocks, head: 0, bytes: 0, frames: 0 }
    }

    /// The number of frames.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.frames
    }

    /// Whether there is no frame.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Bytes of all frames, with [`HEADER`] for each.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a frame. `len`: the length of all `segments` together.
    pub fn push<'a>(
        &mut self,
        pool: &HoldPool,
        meta: Meta,
        segments: impl Iterator<Item = &'a [u8]>,
        len: usize,
    ) -> Result<(), Full> {
        if len > MAX_FRAME || !self.grow(pool, HEADER + len) {
            return Err(Full);
        }
        let end = self.head + self.bytes;
        let mut at = self.write(end, &pack(meta, len));
        let mut left = len;
        for segment in segments {
            let part = segment.get(..left.min(segment.len())).unwrap_or_default();
            at = self.write(at, part);
            left -= part.len();
        }
        self.bytes += HEADER + len;
        self.frames += 1;
        Ok(())
    }

    /// Takes blocks for `more` bytes. False, and nothing changed, if there are not enough.
    fn grow(&mut self, pool: &HoldPool, more: usize) -> bool {
        let needed = (self.head + self.bytes + more).div_ceil(BLOCK);
        if needed > self.max_blocks {
            return false;
        }
        let before = self.blocks.len();
        while self.blocks.len() < needed {
            match pool.take_block() {
                Some(block) => self.blocks.push_back(block),
                None => {
                    while self.blocks.len() > before
                        && let Some(block) = self.blocks.pop_back()
                    {
                        pool.return_block(block);
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Writes at an offset from the start of the first block. Returns the offset of the next byte.
    fn write(&mut self, mut at: usize, mut bytes: &[u8]) -> usize {
        while !bytes.is_empty() {
            let Some(room) = self.blocks.get_mut(at / BLOCK).and_then(|block| block.get_mut(at % BLOCK..))
            else {
                break;
            };
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            if let Some(to) = room.get_mut(..now.len()) {
                to.copy_from_slice(now);
            }
            at += now.len();
            bytes = later;
        }
        at
    }

    /// The pieces of `len` bytes at an offset from the start of the first block.
    fn read(&self, at: usize, len: usize) -> impl Iterator<Item = &[u8]> + Clone {
        let (mut at, end) = (at, at + len);
        iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let block = self.blocks.get(at / BLOCK)?;
            let from = at % BLOCK;
            let piece = block.get(from..(from + end - at).min(BLOCK))?;
            at += piece.len();
            Some(piece)
        })
    }

    fn header(&self) -> Option<(Meta, usize)> {
        if self.frames == 0 {
            return None;
        }
        let mut header = [0; HEADER];
        for (to, from) in header.iter_mut().zip(self.read(self.head, HEADER).flatten()) {
            *to = *from;
        }
        Some(unpack(u128::from_le_bytes(header)))
    }

    /// The metadata of the first frame.
    #[must_use]
    pub fn front(&self) -> Option<Meta> {
        self.header().map(|(meta, _)| meta)
    }

    /// Its length; 0 if there is none.
    #[must_use]
    pub fn front_len(&self) -> usize {
        self.header().map_or(0, |(_, len)| len)
    }

    /// Its bytes, in as many pieces as it has blocks.
    pub fn front_chunks(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.read(self.head + HEADER, self.front_len())
    }

    /// Removes the first frame. False if there is none.
    pub fn pop_front(&mut self, pool: &HoldPool) -> bool {
        let Some((_, len)) = self.header() else { return false };
        self.head += HEADER + len;
        self.bytes -= HEADER + len;
        self.frames -= 1;
        while self.head >= BLOCK
            && let Some(block) = self.blocks.pop_front()
        {
            pool.return_block(block);
            self.head -= BLOCK;
        }
        if self.frames == 0 {
            self.head = 0;
            while let Some(block) = self.blocks.pop_front() {
                pool.return_block(block);
            }
        }
        true
    }

    /// Removes the first frames that arrived before `at`. Returns how many.
    pub fn expire_before(&mut self, pool: &HoldPool, at: u64) -> usize {
        let mut removed = 0;
        while self.front().is_some_and(|meta| meta.at < at) && self.pop_front(pool) {
            removed += 1;
        }
        removed
    }

    /// Removes all frames.
    pub fn clear(&mut self, pool: &HoldPool) {
        while self.pop_front(pool) {}
    }
}

/// An entry's header: from the lowest bits, time (64), length (24), payload per segment (16), kind (8), flags (8).
fn pack(meta: Meta, len: usize) -> [u8; HEADER] {
    let gso = meta.gso.unwrap_or(0);
    let flags = if meta.unfinished { UNFINISHED } else { 0 } | if meta.gso.is_some() { GSO } else { 0 };
    let word = u128::from(meta.at)
        | (len as u128) << 64
        | u128::from(gso) << 88
        | u128::from(meta.kind) << 104
        | u128::from(flags) << 112;
    word.to_le_bytes()
}

fn unpack(word: u128) -> (Meta, usize) {
    let flags = (word >> 112) as u8;
    let meta = Meta {
        kind: (word >> 104) as u8,
        unfinished: flags & UNFINISHED != 0,
        gso: (flags & GSO != 0).then_some((word >> 88) as u16),
        at: word as u64,
    };
    (meta, (word >> 64) as usize & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push { queue: usize, kind: u8, gso: Option<u16>, len: usize },
        Pop { queue: usize },
        Clear { queue: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = prop_oneof![0usize..200, 1000usize..2000, 10_000usize..70_000];
        let push = (0usize..2, any::<u8>(), any::<Option<u16>>(), len);
        prop_oneof![
            6 => push.prop_map(|(queue, kind, gso, len)| Step::Push { queue, kind, gso, len }),
            5 => (0usize..2).prop_map(|queue| Step::Pop { queue }),
            1 => (0usize..2).prop_map(|queue| Step::Clear { queue }),
        ]
    }

    fn bytes(queue: &HoldQueue) -> Vec<u8> {
        queue.front_chunks().flatten().copied().collect()
    }

    proptest! {
        #[test]
        fn two_queues_on_one_pool_are_two_lists(steps in prop::collection::vec(step(), 0..200)) {
            let pool = HoldPool::new(12 * BLOCK);
            let mut queues = [HoldQueue::new(8), HoldQueue::new(20)];
            let mut model: [VecDeque<(Meta, Vec<u8>)>; 2] = Default::default();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push { queue: q, kind, gso, len } => {
                        let meta = Meta { kind, unfinished: gso.is_some_and(|g| g & 1 == 1), gso, at: number as u64 };
                        let frame: Vec<u8> = (0..len).map(|n| (n ^ number) as u8).collect();
                        let (before, free) = (queues[q].bytes(), pool.free_bytes());
                        let parts = frame.split_at(len / 3);
                        match queues[q].push(&pool, meta, [parts.0, parts.1].into_iter(), len) {
                            Ok(()) => {
                                prop_assert_eq!(queues[q].bytes(), before + len + HEADER);
                                model[q].push_back((meta, frame));
                            }
                            Err(Full) => {
                                prop_assert_eq!((queues[q].bytes(), pool.free_bytes()), (before, free));
                                let spare = (if q == 0 { 8 } else { 20 } - queues[q].blocks.len()).min(free / BLOCK);
                                prop_assert!(spare * BLOCK < len + HEADER, "refused with room");
                            }
                        }
                    }
                    Step::Pop { queue: q } => {
                        let popped = queues[q].pop_front(&pool);
                        prop_assert_eq!(popped, model[q].pop_front().is_some());
                    }
                    Step::Clear { queue: q } => {
                        queues[q].clear(&pool);
                        model[q].clear();
                    }
                }
                for (queue, model) in queues.iter().zip(&model) {
                    prop_assert_eq!(queue.len(), model.len());
                    prop_assert_eq!(queue.front(), model.front().map(|(meta, _)| *meta));
                    prop_assert_eq!(bytes(queue), model.front().map(|(_, b)| b.clone()).unwrap_or_default());
                }
            }
            for queue in &mut queues {
                queue.clear(&pool);
            }
            prop_assert_eq!(pool.free_bytes(), pool.total_bytes());
        }
    }

    #[test]
    fn times_of_64_bits_are_kept() {
        let pool = HoldPool::new(BLOCK);
        let mut queue = HoldQueue::new(1);
        let now = 1 << 60;
        let meta = Meta { kind: 0, unfinished: false, gso: None, at: now };
        queue.push(&pool, meta, iter::once(&[1][..]), 1).unwrap();
        assert_eq!((queue.expire_before(&pool, now), queue.front()), (0, Some(meta)));
        assert_eq!(queue.expire_before(&pool, now + 1), 1);
    }

    proptest! {
        #[test]
        fn headers_round_trip(
            kind: u8, unfinished: bool, gso: Option<u16>, at: u64, len in 0..=MAX_FRAME,
        ) {
            let meta = Meta { kind, unfinished, gso, at };
            prop_assert_eq!(unpack(u128::from_le_bytes(pack(meta, len))), (meta, len));
        }
    }

    #[test]
    fn only_expired_frames_are_removed() {
        let pool = HoldPool::new(BLOCK);
        let mut queue = HoldQueue::new(1);
        for at in 1..=5 {
            let meta = Meta { kind: 0, unfinished: false, gso: None, at };
            queue.push(&pool, meta, iter::once(&[at as u8][..]), 1).unwrap();
        }
        assert_eq!(queue.expire_before(&pool, 4), 3);
        assert_eq!((queue.len(), bytes(&queue)), (2, vec![4]));
        assert_eq!(queue.expire_before(&pool, 100), 2);
        assert_eq!(pool.free_bytes(), BLOCK);
    }

    #[test]
    fn a_frame_longer_than_any_is_refused() {
        let pool = HoldPool::new(64 * BLOCK);
        let mut queue = HoldQueue::new(64);
        let meta = Meta { kind: 0, unfinished: false, gso: None, at: 0 };
        assert_eq!(queue.push(&pool, meta, iter::empty(), MAX_FRAME + 1), Err(Full));
        assert!(queue.is_empty());
    }
}

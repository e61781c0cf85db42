//! Memory of segments. Small ones are from the heap; large ones are carved from blocks of whole 2 MiB
//! pages, for which huge pages are requested: a lookup in a large table would otherwise pay a TLB
//! miss on top of the cache miss.
#![allow(unsafe_code)] // owns raw, aligned memory

use super::{
    MapError,
    bucket::Bucket,
    segment::{SEGMENT_ALIGN, SegmentRef},
};
use std::{
    alloc::{Layout, alloc, dealloc},
    ptr::NonNull,
};

const HUGE_PAGE: usize = 2 << 20;
/// Blocks grow with the map, up to this: then an unused rest weighs little.
const LARGEST_BLOCK: usize = 16 * HUGE_PAGE;
/// From this size on a segment is in a block.
const LARGE: usize = 256 << 10;

#[derive(Debug)]
struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

/// A hole in a block, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hole {
    block: usize,
    offset: usize,
    len: usize,
}

/// All segments of one map. Dropping it frees them, in use or not.
#[derive(Debug, Default)]
pub(super) struct Arena {
    blocks: Vec<Option<Block>>,
    /// Sorted by block and offset; no two touch.
    holes: Vec<Hole>,
    /// Small segments, in no order: there are few, only a small map has any.
    small: Vec<SegmentRef>,
    bytes: usize,
}

// SAFETY: the block is owned memory, and independent of threads.
unsafe impl Send for Block {}

fn layout(buckets: usize) -> Result<Layout, MapError> {
    Layout::array::<Bucket>(buckets).and_then(|l| l.align_to(SEGMENT_ALIGN)).map_err(|_| MapError::Memory)
}

impl Arena {
    /// A segment of `units` units with all buckets empty.
    pub(super) fn allocate(&mut self, units: usize) -> Result<SegmentRef, MapError> {
        let layout = layout(SegmentRef::buckets_in(units))?;
        let start = if layout.size() < LARGE {
            // SAFETY: the layout has a size: `units` is at least 1.
            let start = NonNull::new(unsafe { alloc(layout) }).ok_or(MapError::Memory)?;
            self.bytes += layout.size();
            start
        } else {
            self.carve(layout.size())?
        };
        // SAFETY: `start` is unused memory of `layout`, so of this many buckets, aligned for segments, and it
        // remains until `release` or the arena's drop.
        let segment = unsafe { SegmentRef::create(start.cast(), units) };
        if layout.size() < LARGE {
            self.small.push(segment);
        }
        Ok(segment)
    }

    /// Takes a segment's memory back.
    ///
    /// # Safety
    /// `segment` is from this arena, was not released before, and is not read any more.
    pub(super) unsafe fn release(&mut self, segment: SegmentRef) {
        // SAFETY: the caller's promise.
        unsafe { segment.destroy() };
        let Ok(layout) = layout(segment.len()) else { return };
        if let Some(at) = self.small.iter().position(|&s| s == segment) {
            self.small.swap_remove(at);
            self.bytes -= layout.size();
            // SAFETY: segments in `small` were allocated with exactly this layout.
            unsafe { dealloc(segment.start().cast().as_ptr(), layout) };
            return;
        }
        let address = segment.start().addr().get();
        let owner = self.blocks.iter().enumerate().find_map(|(i, block)| {
            let block = block.as_ref()?;
            let offset = address.checked_sub(block.start.addr().get())?;
            (offset < block.layout.size()).then_some((i, offset))
        });
        if let Some((block, offset)) = owner {
            self.add_hole(Hole { block, offset, len: layout.size() });
        }
    }

    /// Bytes taken from the system.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The smallest hole that fits, or the start of a new block.
    fn carve(&mut self, len: usize) -> Result<NonNull<u8>, MapError> {
        let best = |holes: &[Hole]| {
            holes.iter().enumerate().filter(|(_, h)| h.len >= len).min_by_key(|(_, h)| h.len).map(|(i, _)| i)
        };
        let at = match best(&self.holes) {
            Some(at) => at,
            None => {
                self.add_block(len)?;
                best(&self.holes).ok_or(MapError::Memory)?
            }
        };
        let hole = &mut self.holes[at];
        let Hole { block, offset, .. } = *hole;
        hole.offset += len;
        hole.len -= len;
        if hole.len == 0 {
            self.holes.remove(at);
        }
        let block = self.blocks[block].as_ref().ok_or(MapError::Memory)?;
        // SAFETY: holes lie within their block.
        Ok(unsafe { block.start.add(offset) })
    }

    fn add_block(&mut self, at_least: usize) -> Result<(), MapError> {
        let size = (self.bytes / 8).clamp(at_least, LARGEST_BLOCK).next_multiple_of(HUGE_PAGE);
        let layout = Layout::from_size_align(size, HUGE_PAGE).map_err(|_| MapError::Memory)?;
        // SAFETY: `size` is not zero.
        let start = NonNull::new(unsafe { alloc(layout) }).ok_or(MapError::Memory)?;
        advise_huge(start, size);
        self.bytes += size;
        let block = self.blocks.iter().position(Option::is_none).unwrap_or_else(|| {
            self.blocks.push(None);
            self.blocks.len() - 1
        });
        self.blocks[block] = Some(Block { start, layout });
        self.add_hole(Hole { block, offset: 0, len: size });
        Ok(())
    }

    /// Adds a hole, joined with those it touches.
    fn add_hole(&mut self, mut hole: Hole) {
        let mut at = self.holes.partition_point(|h| *h < hole);
        if let Some(&after) = self.holes.get(at)
            && after.block == hole.block
            && after.offset == hole.offset + hole.len
        {
            hole.len += after.len;
            self.holes.remove(at);
        }
        if let Some(&before) = at.checked_sub(1).and_then(|i| self.holes.get(i))
            && before.block == hole.block
            && before.offset + before.len == hole.offset
        {
            at -= 1;
            hole.offset = before.offset;
            hole.len += before.len;
            self.holes.remove(at);
        }
        self.holes.insert(at, hole);
    }

    /// Returns blocks without a segment to the system, unless growth will soon need them.
    pub(super) fn trim(&mut self) {
        let unused: usize = self.holes.iter().map(|h| h.len).sum();
        if unused < LARGEST_BLOCK && unused < self.bytes / 2 {
            return;
        }
        let (blocks, bytes) = (&mut self.blocks, &mut self.bytes);
        self.holes.retain(|hole| {
            let whole = blocks[hole.block].take_if(|b| b.layout.size() == hole.len);
            if let Some(block) = &whole {
                *bytes -= block.layout.size();
                // SAFETY: allocated by `add_block` with this layout; all of it is hole, so no segment is in it.
                unsafe { dealloc(block.start.as_ptr(), block.layout) };
            }
            whole.is_none()
        });
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for segment in self.small.drain(..) {
            if let Ok(layout) = layout(segment.len()) {
                // SAFETY: as in `release`; the map and its readers are dropped.
                unsafe {
                    segment.destroy();
                    dealloc(segment.start().cast().as_ptr(), layout);
                }
            }
        }
        for block in self.blocks.drain(..).flatten() {
            // SAFETY: allocated by `add_block` with this layout; the map and its readers are dropped.
            unsafe { dealloc(block.start.as_ptr(), block.layout) };
        }
    }
}

/// Requests huge pages. Without them the table is only slower.
fn advise_huge(start: NonNull<u8>, len: usize) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: advice on our own fresh memory; this kind changes no contents.
        let _ = unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, len);
}

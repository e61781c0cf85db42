//! The memory of a front end: one region, which the back end maps too. It has the rings from a given page on, then a
//! buffer for each descriptor of each ring. Enters: sizes. Leaves: offsets, and access that is checked against the
//! region's bounds.

use std::fs::File;

use anyhow::{Context, bail};
use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap, MmapRegion, VolatileMemory, VolatileSlice};

/// Where the region is for the other side; distinct from our own addresses, so that none is taken for the other.
pub const GUEST_BASE: u64 = 0x1000_0000;
const PAGE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;
/// The largest rings of virtio 1.2 (section 2.7) are 32768; a power of two is required.
const MAX_RING: u16 = 32_768;
/// Enough for the descriptors of both layouts, the largest parts of a ring.
const DESCRIPTOR: usize = 16;

/// Offsets within the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Descriptors of a ring.
    pub ring: u16,
    /// Bytes of a buffer.
    pub buffer: u32,
    rings: usize,
    begin: usize,
}

/// The parts of a ring: the descriptors, what the driver writes, and what the device writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingOffsets {
    /// The table of descriptors; in the packed layout the ring itself.
    pub descriptors: usize,
    /// The available ring, or the driver's event suppression.
    pub driver: usize,
    /// The used ring, or the device's event suppression.
    pub device: usize,
}

impl Layout {
    /// For so many queue pairs, from a page on.
    ///
    /// # Errors
    /// A size cannot be used.
    pub fn new(pairs: u16, ring: u16, buffer: u32, page: u16) -> anyhow::Result<Self> {
        if !(1..=128).contains(&pairs) {
            bail!("{pairs} queue pairs; 1 to 128 were expected");
        }
        if !ring.is_power_of_two() || !(2..=MAX_RING).contains(&ring) {
            bail!("a ring of {ring}; a power of two up to {MAX_RING} was expected");
        }
        if !(128..=65_536).contains(&buffer) {
            bail!("buffers of {buffer} bytes; 128 to 65536 were expected");
        }
        Ok(Self { ring, buffer, rings: usize::from(pairs) * 2, begin: usize::from(page) * PAGE })
    }

    /// The largest parts, each on a cache line of its own: 16 bytes a descriptor, 2 and 8 bytes an entry.
    fn ring_len(self) -> usize {
        (usize::from(self.ring) * (DESCRIPTOR + 2 + 8) + 3 * 64).next_multiple_of(64) + 64
    }

    /// The offsets of a ring; 0 receives and 1 sends for the first pair, and so on.
    pub fn offsets(self, ring: usize) -> RingOffsets {
        let descriptors = self.begin + ring * self.ring_len();
        let driver = descriptors + usize::from(self.ring) * DESCRIPTOR;
        let device = (driver + 6 + 2 * usize::from(self.ring)).next_multiple_of(64);
        RingOffsets { descriptors, driver, device }
    }

    /// Where the buffer of a ring's descriptor begins.
    pub fn buffer_at(self, ring: usize, descriptor: u16) -> usize {
        let before = ring * usize::from(self.ring) + usize::from(descriptor);
        self.buffers() + before * self.buffer as usize
    }

    fn buffers(self) -> usize {
        (self.begin + self.rings * self.ring_len()).next_multiple_of(PAGE)
    }

    /// Bytes of the whole region.
    pub fn size(self) -> usize {
        self.buffers() + self.rings * usize::from(self.ring) * self.buffer as usize
    }
}

/// The region, mapped.
pub struct Memory {
    /// For the back end.
    pub region: GuestRegionMmap,
    /// What is where.
    pub layout: Layout,
}

impl Memory {
    /// A new region of zeros in an anonymous file, of huge pages if wanted.
    ///
    /// # Errors
    /// There is not so much memory.
    pub fn new(name: &str, layout: Layout, huge: bool) -> anyhow::Result<Self> {
        let (flags, page) = match huge {
            true => (MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB, HUGE_PAGE),
            false => (MemfdFlags::empty(), PAGE),
        };
        let size = layout.size().next_multiple_of(page);
        let file: File = memfd_create(name, flags | MemfdFlags::CLOEXEC).context("memfd_create")?.into();
        file.set_len(size as u64).with_context(|| format!("{size} bytes of memory"))?;
        let region =
            GuestRegionMmap::from_range(GuestAddress(GUEST_BASE), size, Some(FileOffset::new(file, 0)))
                .with_context(|| {
                    format!("mapping {size} bytes of {} pages", if huge { "huge" } else { "small" })
                })?;
        Ok(Self { region, layout })
    }

    /// All of it.
    #[inline]
    pub fn slice(&self) -> VolatileSlice<'_> {
        let mapping: &MmapRegion = &self.region;
        VolatileMemory::as_volatile_slice(mapping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vm_memory::Bytes;

    #[test]
    fn sizes_that_no_ring_has_are_refused() {
        for (pairs, ring, buffer) in
            [(0, 256, 2048), (129, 256, 2048), (1, 255, 2048), (1, 1, 2048), (1, 256, 64)]
        {
            assert!(Layout::new(pairs, ring, buffer, 0).is_err(), "{pairs} {ring} {buffer}");
        }
    }

    #[test]
    fn a_region_has_zeros_and_keeps_what_is_written() {
        let layout = Layout::new(1, 4, 128, 3).unwrap();
        let memory = Memory::new("test", layout, false).unwrap();
        let at = layout.buffer_at(1, 3);
        let mut last = [1; 128];
        memory.slice().read_slice(&mut last, at).unwrap();
        assert_eq!(last, [0; 128]);
        memory.slice().write_slice(&[7; 128], at).unwrap();
        memory.slice().read_slice(&mut last, at).unwrap();
        assert_eq!(last, [7; 128]);
        assert_eq!(at + 128, layout.size());
    }

    proptest! {
        #[test]
        fn parts_are_aligned_and_do_not_overlap(pairs in 1u16..9, order in 1u32..12, buffer in 128u32..4096, page in 0u16..9) {
            let n = 1usize << order;
            let layout = Layout::new(pairs, n as u16, buffer, page).unwrap();
            let mut end = usize::from(page) * PAGE;
            for ring in 0..usize::from(pairs) * 2 {
                let at = layout.offsets(ring);
                // Virtio 1.2 section 2.7: alignments and sizes of the parts.
                prop_assert!(at.descriptors >= end && at.descriptors.is_multiple_of(16));
                prop_assert!(at.driver >= at.descriptors + 16 * n && at.driver.is_multiple_of(2));
                prop_assert!(at.device >= at.driver + 6 + 2 * n && at.device.is_multiple_of(4));
                end = at.device + 6 + 8 * n;
            }
            prop_assert!(end <= layout.buffer_at(0, 0));
            prop_assert_eq!(layout.buffer_at(1, 0), layout.buffer_at(0, 0) + n * buffer as usize);
        }
    }
}

//! The split layout (virtio 1.2 section 2.7): a table of descriptors, a ring of those that the device may use, and a
//! ring of those that it has used.

use std::sync::atomic::{
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

use anyhow::bail;
use virtio_bindings::virtio_ring::{VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_WRITE, VRING_USED_F_NO_NOTIFY};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, VolatileMemory, VolatileSlice};

use super::{Access, Buffer, Used};
use crate::memory::RingOffsets;

/// Bytes of a descriptor, and of entries of the two rings.
const DESCRIPTOR: usize = 16;
const AVAILABLE: usize = 2;
const USED: usize = 8;
/// The rings' index behind their flags, and their entries behind both.
const INDEX: usize = 2;
const ENTRIES: usize = 4;

/// A ring in the split layout.
#[derive(Debug)]
pub struct Split {
    at: RingOffsets,
    size: u16,
    available: u16,
    used: u16,
    /// The device's index as it was last read.
    used_end: u16,
}

impl Split {
    pub(super) fn new(at: RingOffsets, size: u16, memory: VolatileSlice<'_>) -> anyhow::Result<Self> {
        memory.store(VRING_AVAIL_F_NO_INTERRUPT as u16, at.driver, Relaxed)?;
        Ok(Self { at, size, available: 0, used: 0, used_end: 0 })
    }

    #[inline]
    pub(super) fn offer(&mut self, buffer: Buffer, memory: VolatileSlice<'_>) -> anyhow::Result<()> {
        let flags = match buffer.for_device {
            Access::Reads => 0,
            Access::Writes => VRING_DESC_F_WRITE as u16,
        };
        let descriptor = Descriptor::new(buffer.address, buffer.len, flags, 0);
        memory.get_ref(self.at.descriptors + usize::from(buffer.id) * DESCRIPTOR)?.store(descriptor);
        let entry = usize::from(self.available % self.size);
        memory.store(buffer.id, self.at.driver + ENTRIES + entry * AVAILABLE, Relaxed)?;
        self.available = self.available.wrapping_add(1);
        Ok(())
    }

    #[inline]
    pub(super) fn publish(&mut self, memory: VolatileSlice<'_>) -> anyhow::Result<bool> {
        memory.store(self.available, self.at.driver + INDEX, Release)?;
        // The device writes its wish and then reads our index.
        fence(SeqCst);
        let flags: u16 = memory.load(self.at.device, Relaxed)?;
        Ok(flags & VRING_USED_F_NO_NOTIFY as u16 == 0)
    }

    #[inline]
    pub(super) fn take(&mut self, memory: VolatileSlice<'_>) -> anyhow::Result<Option<Used>> {
        if self.used == self.used_end {
            self.used_end = memory.load(self.at.device + INDEX, Acquire)?;
            if self.used == self.used_end {
                return Ok(None);
            }
        }
        let entry = self.at.device + ENTRIES + usize::from(self.used % self.size) * USED;
        let (id, len): (u32, u32) = (memory.load(entry, Relaxed)?, memory.load(entry + 4, Relaxed)?);
        if id >= u32::from(self.size) {
            bail!("the back end used descriptor {id} of a ring of {}", self.size);
        }
        self.used = self.used.wrapping_add(1);
        Ok(Some(Used { id: id as u16, len }))
    }
}

/// With rust-vmm's implementation of the device's side.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{GUEST_BASE, Layout, Memory};
    use crate::ring::Ring;
    use virtio_queue::{Queue, QueueT};
    use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

    const SIZE: u16 = 4;

    fn device(memory: &Memory, ring: usize) -> (Queue, GuestMemoryMmap) {
        let region = GuestRegionMmap::with_arc(memory.region.get_mmap(), GuestAddress(GUEST_BASE)).unwrap();
        let guest = GuestMemoryMmap::from_regions(vec![region]).unwrap();
        let at = memory.layout.offsets(ring);
        let address = |offset: usize| GuestAddress(GUEST_BASE + offset as u64);
        let mut queue = Queue::new(SIZE).unwrap();
        queue.set_size(SIZE);
        queue.try_set_desc_table_address(address(at.descriptors)).unwrap();
        queue.try_set_avail_ring_address(address(at.driver)).unwrap();
        queue.try_set_used_ring_address(address(at.device)).unwrap();
        queue.set_ready(true);
        assert!(queue.is_valid(&guest));
        (queue, guest)
    }

    #[test]
    fn buffers_go_to_the_device_and_back_round_after_round() {
        let memory = Memory::new("test", Layout::new(1, SIZE, 128, 0).unwrap(), false).unwrap();
        let (mut queue, guest) = device(&memory, 1);
        let slice = memory.slice();
        let mut ring = Ring::new(false, memory.layout.offsets(1), SIZE, slice).unwrap();
        assert_eq!((ring.base(), ring.take(slice).unwrap()), (0, None));
        for round in 0..70_000u32 {
            let id = (round * 3 % 4) as u16;
            let buffer = Buffer { id, address: GUEST_BASE + 64, len: 100, for_device: Access::Writes };
            ring.offer(buffer, slice).unwrap();
            assert!(queue.pop_descriptor_chain(&guest).is_none(), "it is not published");
            assert!(ring.publish(slice).unwrap(), "the device has not said otherwise");
            let mut chain = queue.pop_descriptor_chain(&guest).unwrap();
            assert_eq!(chain.head_index(), id);
            let descriptor = chain.next().unwrap();
            assert_eq!((descriptor.addr().0, descriptor.len()), (GUEST_BASE + 64, 100));
            assert!(descriptor.is_write_only() && !descriptor.has_next());
            queue.add_used(&guest, id, round).unwrap();
            assert_eq!(ring.take(slice).unwrap(), Some(Used { id, len: round }));
            assert_eq!(ring.take(slice).unwrap(), None);
        }
    }

    #[test]
    fn the_device_is_not_notified_if_it_polls() {
        let memory = Memory::new("test", Layout::new(1, SIZE, 128, 0).unwrap(), false).unwrap();
        let (_, guest) = device(&memory, 0);
        let at = memory.layout.offsets(0);
        let mut ring = Ring::new(false, at, SIZE, memory.slice()).unwrap();
        let flags = |offset: usize| GuestAddress(GUEST_BASE + offset as u64);
        assert_eq!(guest.load::<u16>(flags(at.driver), Relaxed).unwrap(), 1, "it need not notify us");
        guest.store(1u16, flags(at.device), Relaxed).unwrap();
        assert!(!ring.publish(memory.slice()).unwrap());
    }

    #[test]
    fn a_descriptor_that_does_not_exist_is_refused() {
        let memory = Memory::new("test", Layout::new(1, SIZE, 128, 0).unwrap(), false).unwrap();
        let at = memory.layout.offsets(0);
        let slice = memory.slice();
        let mut ring = Ring::new(false, at, SIZE, slice).unwrap();
        slice.store(u32::from(SIZE), at.device + ENTRIES, Relaxed).unwrap();
        slice.store(1u16, at.device + INDEX, Relaxed).unwrap();
        assert!(ring.take(slice).is_err());
    }
}

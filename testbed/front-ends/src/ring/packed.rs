//! The packed layout (virtio 1.2 section 2.8): one ring of descriptors, which the device writes over when it has used
//! them. Two bits of a descriptor tell whose it is; their meaning changes with every round.

use std::sync::atomic::{
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

use anyhow::bail;
use virtio_bindings::virtio_ring::{
    VRING_DESC_F_WRITE, VRING_PACKED_DESC_F_AVAIL, VRING_PACKED_DESC_F_USED, VRING_PACKED_EVENT_FLAG_DISABLE,
};
use vm_memory::{Bytes, VolatileSlice};

use super::{Access, Buffer, Used};
use crate::memory::RingOffsets;

/// Bytes of a descriptor, and its fields after the address.
const DESCRIPTOR: usize = 16;
const LEN: usize = 8;
const ID: usize = 12;
const FLAGS: usize = 14;
/// The flags of an event suppression structure.
const EVENT_FLAGS: usize = 2;

const AVAILABLE: u16 = 1 << VRING_PACKED_DESC_F_AVAIL;
const USED: u16 = 1 << VRING_PACKED_DESC_F_USED;

/// A place in the ring.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    at: u16,
    wrap: bool,
}

impl Cursor {
    #[inline]
    fn step(&mut self, size: u16) {
        self.at += 1;
        if self.at == size {
            *self = Self { at: 0, wrap: !self.wrap };
        }
    }
}

/// A ring in the packed layout.
#[derive(Debug)]
pub struct Packed {
    at: RingOffsets,
    size: u16,
    available: Cursor,
    used: Cursor,
}

impl Packed {
    pub(super) fn new(at: RingOffsets, size: u16, memory: VolatileSlice<'_>) -> anyhow::Result<Self> {
        memory.store(VRING_PACKED_EVENT_FLAG_DISABLE as u16, at.driver + EVENT_FLAGS, Relaxed)?;
        let begin = Cursor { at: 0, wrap: true };
        Ok(Self { at, size, available: begin, used: begin })
    }

    #[inline]
    pub(super) fn offer(&mut self, buffer: Buffer, memory: VolatileSlice<'_>) -> anyhow::Result<()> {
        let descriptor = self.at.descriptors + usize::from(self.available.at) * DESCRIPTOR;
        let access = match buffer.for_device {
            Access::Reads => 0,
            Access::Writes => VRING_DESC_F_WRITE as u16,
        };
        let mine = if self.available.wrap { AVAILABLE } else { USED };
        memory.store(buffer.address, descriptor, Relaxed)?;
        memory.store(buffer.len, descriptor + LEN, Relaxed)?;
        memory.store(buffer.id, descriptor + ID, Relaxed)?;
        memory.store(access | mine, descriptor + FLAGS, Release)?;
        self.available.step(self.size);
        Ok(())
    }

    /// Descriptors are visible once they are written.
    #[inline]
    pub(super) fn publish(&mut self, memory: VolatileSlice<'_>) -> anyhow::Result<bool> {
        fence(SeqCst);
        let flags: u16 = memory.load(self.at.device + EVENT_FLAGS, Relaxed)?;
        Ok(flags & 0b11 != VRING_PACKED_EVENT_FLAG_DISABLE as u16)
    }

    #[inline]
    pub(super) fn take(&mut self, memory: VolatileSlice<'_>) -> anyhow::Result<Option<Used>> {
        let descriptor = self.at.descriptors + usize::from(self.used.at) * DESCRIPTOR;
        let flags: u16 = memory.load(descriptor + FLAGS, Acquire)?;
        let (available, used) = (flags & AVAILABLE != 0, flags & USED != 0);
        if available != used || used != self.used.wrap {
            return Ok(None);
        }
        let (id, len): (u16, u32) =
            (memory.load(descriptor + ID, Relaxed)?, memory.load(descriptor + LEN, Relaxed)?);
        if id >= self.size {
            bail!("the back end used buffer {id} of a ring of {}", self.size);
        }
        self.used.step(self.size);
        Ok(Some(Used { id, len }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Layout, Memory};
    use crate::ring::Ring;

    const SIZE: u16 = 4;

    /// The device's side: uses descriptors in order.
    struct Device(Cursor);

    impl Device {
        fn use_next(
            &mut self,
            at: usize,
            memory: VolatileSlice<'_>,
            written: u32,
        ) -> Option<(u64, u32, u16)> {
            let descriptor = at + usize::from(self.0.at) * DESCRIPTOR;
            let flags: u16 = memory.load(descriptor + FLAGS, Acquire).unwrap();
            let (available, used) = (flags & AVAILABLE != 0, flags & USED != 0);
            if available == used || available != self.0.wrap {
                return None;
            }
            let found = (
                memory.load(descriptor, Relaxed).unwrap(),
                memory.load(descriptor + LEN, Relaxed).unwrap(),
                flags & !(AVAILABLE | USED),
            );
            memory.store(written, descriptor + LEN, Relaxed).unwrap();
            let mark = if self.0.wrap { AVAILABLE | USED } else { 0 };
            memory.store(mark, descriptor + FLAGS, Release).unwrap();
            self.0.step(SIZE);
            Some(found)
        }
    }

    #[test]
    fn buffers_go_to_the_device_and_back_round_after_round() {
        let memory = Memory::new("test", Layout::new(1, SIZE, 128, 0).unwrap(), false).unwrap();
        let (at, slice) = (memory.layout.offsets(0), memory.slice());
        let mut ring = Ring::new(true, at, SIZE, slice).unwrap();
        let mut device = Device(Cursor { at: 0, wrap: true });
        assert_eq!((ring.base(), ring.take(slice).unwrap()), (0x8000, None));
        assert_eq!(device.use_next(at.descriptors, slice, 0), None);
        for round in 0..1000u32 {
            for n in 0..=round % 4 {
                let id = ((round + n) % 4) as u16;
                let buffer = Buffer { id, address: u64::from(round), len: 9, for_device: Access::Reads };
                ring.offer(buffer, slice).unwrap();
            }
            assert!(ring.publish(slice).unwrap());
            assert_eq!(ring.take(slice).unwrap(), None);
            for n in 0..=round % 4 {
                assert_eq!(device.use_next(at.descriptors, slice, n), Some((u64::from(round), 9, 0)));
            }
            assert_eq!(device.use_next(at.descriptors, slice, 0), None);
            for n in 0..=round % 4 {
                assert_eq!(ring.take(slice).unwrap(), Some(Used { id: ((round + n) % 4) as u16, len: n }));
            }
            assert_eq!(ring.take(slice).unwrap(), None);
        }
    }

    #[test]
    fn the_device_is_not_notified_if_it_polls() {
        let memory = Memory::new("test", Layout::new(1, SIZE, 128, 0).unwrap(), false).unwrap();
        let (at, slice) = (memory.layout.offsets(0), memory.slice());
        let mut ring = Ring::new(true, at, SIZE, slice).unwrap();
        assert_eq!(slice.load::<u16>(at.driver + EVENT_FLAGS, Relaxed).unwrap(), 1, "it need not notify us");
        slice.store(1u16, at.device + EVENT_FLAGS, Relaxed).unwrap();
        assert!(!ring.publish(slice).unwrap());
    }

    #[test]
    fn a_buffer_that_does_not_exist_is_refused() {
        let memory = Memory::new("test", Layout::new(1, SIZE, 128, 0).unwrap(), false).unwrap();
        let (at, slice) = (memory.layout.offsets(0), memory.slice());
        let mut ring = Ring::new(true, at, SIZE, slice).unwrap();
        slice.store(SIZE, at.descriptors + ID, Relaxed).unwrap();
        slice.store(AVAILABLE | USED, at.descriptors + FLAGS, Relaxed).unwrap();
        assert!(ring.take(slice).is_err());
    }
}

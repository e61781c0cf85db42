//! The driver's side of a virtqueue (virtio 1.2 section 2.6), without notifications from the device. Each buffer is one
//! descriptor, and its id is that of its place in memory. Enters: buffers for the device. Leaves: buffers that the
//! device has used.

mod packed;
mod split;

use vm_memory::VolatileSlice;

use crate::memory::RingOffsets;

/// A buffer for the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Its number, below the ring's size.
    pub id: u16,
    /// Its address for the device.
    pub address: u64,
    /// Its bytes.
    pub len: u32,
    /// Whether the device writes it.
    pub for_device: Access,
}

/// What the device does with a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It sends it.
    Reads,
    /// It receives into it.
    Writes,
}

/// A buffer that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Its number.
    pub id: u16,
    /// Bytes that the device wrote.
    pub len: u32,
}

/// A ring of either layout. Its methods take the memory that it is in.
#[derive(Debug)]
pub enum Ring {
    /// Virtio 1.2 section 2.7.
    Split(split::Split),
    /// Virtio 1.2 section 2.8.
    Packed(packed::Packed),
}

impl Ring {
    /// A ring of `size` descriptors at these offsets, where memory is zero.
    ///
    /// # Errors
    /// It is not within the memory; the same for all methods.
    pub fn new(packed: bool, at: RingOffsets, size: u16, memory: VolatileSlice<'_>) -> anyhow::Result<Self> {
        Ok(match packed {
            true => Self::Packed(packed::Packed::new(at, size, memory)?),
            false => Self::Split(split::Split::new(at, size, memory)?),
        })
    }

    /// What the back end is told where the ring begins. In the packed layout its bit 15 is the wrap counter.
    pub fn base(&self) -> u16 {
        match self {
            Self::Split(_) => 0,
            Self::Packed(_) => 1 << 15,
        }
    }

    /// Adds a buffer. The ring must have room for it.
    #[inline]
    pub fn offer(&mut self, buffer: Buffer, memory: VolatileSlice<'_>) -> anyhow::Result<()> {
        match self {
            Self::Split(ring) => ring.offer(buffer, memory),
            Self::Packed(ring) => ring.offer(buffer, memory),
        }
    }

    /// Makes the added buffers visible to the device. Returns whether it wants to be notified.
    #[inline]
    pub fn publish(&mut self, memory: VolatileSlice<'_>) -> anyhow::Result<bool> {
        match self {
            Self::Split(ring) => ring.publish(memory),
            Self::Packed(ring) => ring.publish(memory),
        }
    }

    /// The next buffer that the device has used.
    #[inline]
    pub fn take(&mut self, memory: VolatileSlice<'_>) -> anyhow::Result<Option<Used>> {
        match self {
            Self::Split(ring) => ring.take(memory),
            Self::Packed(ring) => ring.take(memory),
        }
    }
}

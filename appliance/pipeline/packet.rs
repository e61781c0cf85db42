//! The buffer of a frame as the stages need it, as a trait: an mbuf on the packet path, a plain vector in tests and
//! in `stopover trace`. No DPDK and no protocol here.

use stopover_net::VlanId;

/// A buffer that holds one frame and owns it. Offsets are in bytes from the start of the frame.
///
/// Only the first segment is addressed in place ([`Packet::head`]); stages make sure that the headers they
/// read lie within it and leave the rest alone.
#[allow(clippy::len_without_is_empty)] // a frame is not a collection
pub trait Packet: Sized {
    /// Length of the whole frame over all segments.
    fn len(&self) -> usize;
    /// The first segment.
    fn head(&self) -> &[u8];
    /// The first segment, to be rewritten in place.
    fn head_mut(&mut self) -> &mut [u8];
    /// All segments in order.
    fn segments(&self) -> impl Iterator<Item = &[u8]> + Clone;
    /// Grows the frame by `n` bytes at the front and returns them; `None` when the headroom is too small.
    fn push(&mut self, n: usize) -> Option<&mut [u8]>;
    /// Removes `n` bytes from the front. False, and nothing changed, if the first segment is shorter.
    fn pull(&mut self, n: usize) -> bool;
    /// Cuts the tail so that `len` bytes remain. False, and nothing changed, if the frame is shorter.
    fn truncate(&mut self, len: usize) -> bool;
    /// Becomes a single-segment frame of these bytes, without offload marks. False if they do not fit.
    fn replace(&mut self, bytes: &[u8]) -> bool;
    /// The sender left the TCP or UDP checksum for the device to fill in (data is good).
    fn checksum_unfilled(&self) -> bool;
    /// The receiving device found the TCP or UDP checksum wrong. The receiver drops such a frame; a bridge forwards
    /// it.
    fn checksum_bad(&self) -> bool;
    /// Payload bytes per segment when the sender left TCP segmentation to the device.
    fn gso_size(&self) -> Option<u16>;
    /// A VLAN tag that the receiving device took out of the frame.
    fn stripped_vlan(&self) -> Option<VlanId>;
    /// Requests the sending device to finish the frame: the checksum and, if set, segmentation. False if the headers
    /// cannot be described to a device.
    fn request_offload(&mut self, offload: TxOffload) -> bool;
    /// Withdraws every request to the sending device.
    fn clear_offload(&mut self);
    /// The frame has no offload mark: nothing is left to a device, and the receiving device reported no bad checksum
    /// and stripped no tag.
    #[inline]
    fn is_plain(&self) -> bool {
        let finished = !self.checksum_unfilled() && self.gso_size().is_none();
        finished && !self.checksum_bad() && self.stripped_vlan().is_none()
    }
    /// The only mark is that the checksum is left to a device.
    #[inline]
    fn lacks_only_checksum(&self) -> bool {
        self.checksum_unfilled() && self.gso_size().is_none() && self.stripped_vlan().is_none()
    }
    /// Keeps `len` bytes from byte `from` on. False if they do not exist, or do not begin in the first segment.
    #[inline]
    fn cut(&mut self, from: usize, len: usize) -> bool {
        self.pull(from) && self.truncate(len)
    }
}

/// Where the headers of a frame are, for a sending device that finishes its checksum. All in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxOffload {
    /// Length of the Ethernet header with its tags.
    pub l2_len: u8,
    /// Length of the IP header with options or extension headers.
    pub l3_len: u16,
    /// Length of the TCP header; 8 for UDP.
    pub l4_len: u8,
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
    /// TCP rather than UDP.
    pub tcp: bool,
    /// TCP payload bytes per segment; 0 when the frame is not to be segmented.
    pub gso_size: u16,
}

/// A source of new frames: the mempool of the lcore, or the heap.
pub trait Pool<P: Packet> {
    /// A deep copy without offload marks changed; `None` when the pool is empty.
    fn copy(&mut self, packet: &P) -> Option<P>;
    /// A single-segment frame of `head` followed by bytes `from..from + len` of `packet`.
    fn copy_range(&mut self, head: &[u8], packet: &P, from: usize, len: usize) -> Option<P>;
    /// A frame of these bytes.
    fn make(&mut self, bytes: &[u8]) -> Option<P>;
}

/// A frame in a plain vector, with headroom: for tests and for `stopover trace`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VecPacket {
    bytes: Vec<u8>,
    start: usize,
    /// See [`Packet::checksum_unfilled`].
    pub unfilled: bool,
    /// See [`Packet::gso_size`].
    pub gso: Option<u16>,
    /// What was requested of the sending device.
    pub requested: Option<TxOffload>,
    /// See [`Packet::checksum_bad`].
    pub bad_checksum: bool,
    /// See [`Packet::stripped_vlan`].
    pub stripped: Option<VlanId>,
}

/// Headroom of a [`VecPacket`]; DPDK's default too (`RTE_PKTMBUF_HEADROOM`).
const HEADROOM: usize = 128;

impl VecPacket {
    /// A frame of these bytes.
    #[must_use]
    pub fn new(frame: &[u8]) -> Self {
        let mut bytes = vec![0; HEADROOM];
        bytes.extend_from_slice(frame);
        Self { bytes, start: HEADROOM, ..Self::default() }
    }
}

#[cfg(test)]
impl VecPacket {
    /// The headroom of a new one.
    pub(super) const fn headroom() -> usize {
        HEADROOM
    }
}

impl Packet for VecPacket {
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }
    fn head(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
    fn head_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
    fn segments(&self) -> impl Iterator<Item = &[u8]> + Clone {
        std::iter::once(self.head())
    }
    fn push(&mut self, n: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(n)?;
        self.bytes.get_mut(self.start..self.start + n)
    }
    fn pull(&mut self, n: usize) -> bool {
        let ok = n <= self.len();
        if ok {
            self.start += n;
        }
        ok
    }
    fn truncate(&mut self, len: usize) -> bool {
        let ok = len <= self.len();
        if ok {
            self.bytes.truncate(self.start + len);
        }
        ok
    }
    fn replace(&mut self, bytes: &[u8]) -> bool {
        *self = Self::new(bytes);
        true
    }
    fn checksum_unfilled(&self) -> bool {
        self.unfilled
    }
    fn checksum_bad(&self) -> bool {
        self.bad_checksum
    }
    fn gso_size(&self) -> Option<u16> {
        self.gso
    }
    fn stripped_vlan(&self) -> Option<VlanId> {
        self.stripped
    }
    fn request_offload(&mut self, offload: TxOffload) -> bool {
        self.requested = Some(offload);
        true
    }
    fn clear_offload(&mut self) {
        self.unfilled = false;
        self.bad_checksum = false;
        self.gso = None;
        self.requested = None;
    }
}

/// The heap as a [`Pool`] of `left` frames, so that tests can exhaust it.
#[derive(Debug, Clone, Default)]
pub struct VecPool {
    /// How many frames may still be taken.
    pub left: usize,
}

impl VecPool {
    fn take_one(&mut self) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        Some(())
    }
}

impl Pool<VecPacket> for VecPool {
    fn copy(&mut self, packet: &VecPacket) -> Option<VecPacket> {
        self.take_one()?;
        Some(packet.clone())
    }
    fn copy_range(&mut self, head: &[u8], packet: &VecPacket, from: usize, len: usize) -> Option<VecPacket> {
        self.take_one()?;
        let mut bytes = head.to_vec();
        bytes.extend_from_slice(packet.head().get(from..from.checked_add(len)?)?);
        Some(VecPacket::new(&bytes))
    }
    fn make(&mut self, bytes: &[u8]) -> Option<VecPacket> {
        self.take_one()?;
        Some(VecPacket::new(bytes))
    }
}

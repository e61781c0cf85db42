//! Offload: what a sender left to the device is finished here when no device will. A guest with a
//! paravirtual NIC sends frames without a TCP or UDP checksum, and TCP frames of many segments at once; on
//! the wire both must be real. Enters: a frame marked so. Leaves: finished frames.

use super::{
    Io, Pipeline, Slot,
    fate::{Drop, add},
    packet::{Packet, TxOffload},
    witness::Witness,
};
use stopover_net::{
    checksum,
    frame::{Frame, Kind, L4},
    gso::{self, Segmenter},
};

/// Length of the Ethernet header of an untagged frame.
const ETHERNET: usize = 14;

/// Whether the sender left something to the device.
#[inline]
pub fn unfinished<P: Packet>(packet: &P) -> bool {
    packet.checksum_unfilled() || packet.gso_size().is_some()
}

/// Length in bytes of the largest layer 3 packet that this frame will be on a wire.
#[inline]
pub fn layer3_len<P: Packet>(slot: &Slot<P>) -> Option<usize> {
    match slot.packet.gso_size() {
        None => slot.packet.len().checked_sub(ETHERNET),
        Some(size) => Some(header_len(&slot.frame)? + usize::from(size) - ETHERNET),
    }
}

/// Length of all headers up to the TCP data.
fn header_len(frame: &Frame) -> Option<usize> {
    match frame.l4 {
        L4::Tcp { hdr_len, .. } => Some(usize::from(frame.l4_off?) + usize::from(hdr_len)),
        _ => None,
    }
}

/// Asks the sending device to finish the frame. False if it cannot be asked.
pub fn request<P: Packet>(slot: &mut Slot<P>) -> bool {
    let Some(l4_off) = slot.frame.l4_off else { return false };
    let (tcp, l4_len) = match slot.frame.l4 {
        L4::Tcp { hdr_len, .. } => (true, hdr_len),
        // No device is asked to segment UDP.
        L4::Udp { .. } if slot.packet.gso_size().is_none() => (false, 8),
        _ => return false,
    };
    let offload = TxOffload {
        l2_len: slot.frame.l3_off as u8,
        l3_len: l4_off - slot.frame.l3_off,
        l4_len,
        ipv6: matches!(slot.frame.kind, Kind::Ipv6(_)),
        tcp,
        gso_size: slot.packet.gso_size().unwrap_or(0),
    };
    slot.packet.request_offload(offload)
}

impl<I: Io, W: Witness> Pipeline<'_, I, W> {
    /// Finishes a frame and passes what it becomes to `next`: itself with its checksum, or its segments.
    #[cold]
    pub fn finish(&mut self, mut slot: Slot<I::P>, mut next: impl FnMut(&mut Self, Slot<I::P>)) {
        match slot.packet.gso_size() {
            None => {
                if fill_checksum(&slot.frame, &mut slot.packet) {
                    slot.packet.clear_offload();
                    next(self, slot);
                } else {
                    self.drop(slot.packet, Drop::BadChecksumOffload);
                }
            }
            Some(size) => self.segment(slot, size, next),
        }
    }

    /// The original counts as the first segment in the books; the others are copies.
    fn segment(&mut self, slot: Slot<I::P>, size: u16, mut next: impl FnMut(&mut Self, Slot<I::P>)) {
        let Ok(segmenter) = Segmenter::new(&slot.frame, slot.packet.head(), size) else {
            return self.drop(slot.packet, Drop::BadChecksumOffload);
        };
        add(&self.counters.copied, Segmenter::count(&segmenter) as u64 - 1);
        for segment in segmenter.clone() {
            let mut header = [0; gso::MAX_HEADER];
            let packet = segmenter.write_header(&segment, &mut header).and_then(|()| {
                let header = header.get(..segmenter.header_len())?;
                self.io.copy_range(header, &slot.packet, segment.payload.start, segment.payload.len())
            });
            let Some(mut packet) = packet else {
                self.counters.drop(Drop::PoolEmpty, 1);
                continue;
            };
            if fill_checksum(&segment.frame, &mut packet) {
                let Slot { net, vni, origin, priority, .. } = slot;
                next(self, Slot { packet, frame: segment.frame, net, vni, origin, priority });
            } else {
                self.drop(packet, Drop::BadChecksumOffload);
            }
        }
    }
}

/// Computes the TCP or UDP checksum and writes it. False if the frame has none, or it is out of reach.
fn fill_checksum<P: Packet>(frame: &Frame, packet: &mut P) -> bool {
    let Some(sum) = checksum::finish_l4(frame, packet.segments()) else { return false };
    let Some(field) = packet.head_mut().get_mut(sum.offset..sum.offset + 2) else { return false };
    field.copy_from_slice(&sum.value.to_be_bytes());
    true
}

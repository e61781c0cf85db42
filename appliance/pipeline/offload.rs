//! Offload: finishes in software what a sender left to the device and no device will do. A guest with a paravirtual
//! NIC sends frames without a TCP or UDP checksum, and TCP frames of many segments; on the wire neither is allowed.
//! Enters: a frame with such a mark. Leaves: finished frames.

use super::{
    Egress, PacketCtx, Pipeline,
    drop_reason::DropReason,
    graph::Stage,
    packet::{Packet, TxOffload},
    packet_counters::add,
    tracer::Tracer,
};
use stopover_net::{
    frame::{Frame, Kind, L4},
    gso::{self, Segmenter},
    l4_checksum,
};

/// Whether the sender left something to the device.
#[inline]
pub fn unfinished<P: Packet>(packet: &P) -> bool {
    packet.checksum_unfilled() || packet.gso_size().is_some()
}

/// Length in bytes of the longest frame that this one will be on a wire.
#[inline]
pub fn wire_len<P: Packet>(ctx: &PacketCtx<P>) -> Option<usize> {
    match ctx.packet.gso_size() {
        None => Some(ctx.packet.len()),
        Some(size) => Some(header_len(&ctx.frame)? + usize::from(size)),
    }
}

/// Length of all headers up to the TCP data.
fn header_len(frame: &Frame) -> Option<usize> {
    match frame.l4 {
        L4::Tcp { hdr_len, .. } => Some(usize::from(frame.l4_off?) + usize::from(hdr_len)),
        _ => None,
    }
}

/// Requests the sending device to finish the frame. False if it cannot.
pub fn request<P: Packet>(ctx: &mut PacketCtx<P>) -> bool {
    let Some(l4_off) = ctx.frame.l4_off else { return false };
    let (tcp, l4_len) = match ctx.frame.l4 {
        L4::Tcp { hdr_len, .. } => (true, hdr_len),
        // UDP segmentation is never requested.
        L4::Udp { .. } if ctx.packet.gso_size().is_none() => (false, 8),
        _ => return false,
    };
    let offload = TxOffload {
        l2_len: ctx.frame.l3_off as u8,
        l3_len: l4_off - ctx.frame.l3_off,
        l4_len,
        ipv6: matches!(ctx.frame.kind, Kind::Ipv6(_)),
        tcp,
        gso_size: ctx.packet.gso_size().unwrap_or(0),
    };
    ctx.packet.request_offload(offload)
}

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Finishes a frame and passes the result to `next`: the frame with its checksum, or its segments.
    #[cold]
    pub fn finish(&mut self, mut ctx: PacketCtx<I::P>, mut next: impl FnMut(&mut Self, PacketCtx<I::P>)) {
        self.tracer.enter(Stage::Offload);
        match ctx.packet.gso_size() {
            None => {
                if fill_checksum(&ctx.frame, &mut ctx.packet) {
                    ctx.packet.clear_offload();
                    next(self, ctx);
                } else {
                    self.drop(ctx.packet, DropReason::BadChecksumOffload);
                }
            }
            Some(size) => self.segment(ctx, size, next),
        }
    }

    /// The original is counted as the first segment; the others are copies.
    fn segment(&mut self, ctx: PacketCtx<I::P>, size: u16, mut next: impl FnMut(&mut Self, PacketCtx<I::P>)) {
        let Ok(segmenter) = Segmenter::new(&ctx.frame, ctx.packet.head(), size) else {
            return self.drop(ctx.packet, DropReason::BadChecksumOffload);
        };
        add(&self.counters.copied, Segmenter::count(&segmenter) as u64 - 1);
        for segment in segmenter.clone() {
            self.tracer.enter(Stage::Offload);
            let mut header = [0; gso::MAX_HEADER];
            let packet = segmenter.write_header(&segment, &mut header).and_then(|()| {
                let header = header.get(..segmenter.header_len())?;
                self.egress.copy_range(header, &ctx.packet, segment.payload.start, segment.payload.len())
            });
            let Some(mut packet) = packet else {
                self.drop_unmade();
                continue;
            };
            if fill_checksum(&segment.frame, &mut packet) {
                let PacketCtx { bd, vni, origin, priority, .. } = ctx;
                next(self, PacketCtx { packet, frame: segment.frame, bd, vni, origin, priority });
            } else {
                self.drop(packet, DropReason::BadChecksumOffload);
            }
        }
    }
}

/// Computes the TCP or UDP checksum and writes it. False if the frame has none, or it is out of reach.
pub(super) fn fill_checksum<P: Packet>(frame: &Frame, packet: &mut P) -> bool {
    let Some(sum) = l4_checksum::finish_l4(frame, packet.segments()) else { return false };
    let Some(field) = packet.head_mut().get_mut(sum.offset..sum.offset + 2) else { return false };
    field.copy_from_slice(&sum.value.to_be_bytes());
    true
}

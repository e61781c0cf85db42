//! Deliver: the last stage towards a local port. Enters: an untagged frame and its port. Leaves: the frame as the
//! stations of the port expect it: tagged on a trunk, with its checksum and segmentation finished here or by the
//! device.

use super::{
    Egress, PacketCtx, Pipeline, drop_reason::DropReason, graph::Stage, packet::Packet, tracer::Tracer, vlan,
};

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Sends a frame from a local port, with a VLAN tag unless `vlan` is 0.
    #[inline]
    pub fn deliver(&mut self, ctx: PacketCtx<I::P>, port: u16, vlan: u16) {
        self.deliver_by(ctx, port, vlan, I::send);
    }

    /// As [`Pipeline::deliver`], by `send` instead of [`Egress::send`].
    pub fn deliver_by(
        &mut self,
        mut ctx: PacketCtx<I::P>,
        port: u16,
        vlan: u16,
        send: impl Fn(&mut I, u16, I::P),
    ) {
        self.tracer.enter(Stage::Deliver);
        let Some(out) = self.ports.get(usize::from(port)) else {
            return self.drop(ctx.packet, DropReason::PortDown);
        };
        if !super::too_big::each_fits(&ctx, out.mtu) {
            return self.too_big(ctx, out.mtu);
        }
        self.tracer.note(|| describe(port, vlan));
        if super::offload::unfinished(&ctx.packet) {
            // A tag shifts the headers, and few devices finish a checksum behind one.
            let by_device = vlan == 0
                && out.fills_checksums
                && (out.segments_tcp || ctx.packet.gso_size().is_none())
                && super::offload::request(&mut ctx);
            if !by_device {
                return self.finish(ctx, |path, ctx| path.tag_and_send(ctx, port, vlan, &send));
            }
        }
        self.tag_and_send(ctx, port, vlan, &send);
    }

    #[inline]
    fn tag_and_send(
        &mut self,
        mut ctx: PacketCtx<I::P>,
        port: u16,
        vlan: u16,
        send: &impl Fn(&mut I, u16, I::P),
    ) {
        self.tracer.enter(Stage::Deliver);
        if vlan != 0 && !vlan::push(&mut ctx.packet, vlan, ctx.priority) {
            return self.drop(ctx.packet, DropReason::NoHeadroom);
        }
        send(self.egress, port, ctx.packet);
    }

    /// Sends a frame that was built here from the port, and with the tag, that the frame it answers came with.
    pub fn send_back(&mut self, mut packet: I::P, port: u16, vlan: u16) {
        self.tracer.enter(Stage::Deliver);
        if vlan != 0 && !vlan::push(&mut packet, vlan, 0) {
            return self.drop(packet, DropReason::NoHeadroom);
        }
        self.egress.send(port, packet);
    }
}

/// Describes a delivery for a trace.
#[must_use]
pub(super) fn describe(port: u16, vlan: u16) -> String {
    match vlan {
        0 => format!("to port {port}"),
        tag => format!("to port {port} with VLAN tag {tag}"),
    }
}

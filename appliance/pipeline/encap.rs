//! Encap: the last stage towards another host. Enters: an untagged frame and the slot of its host. Leaves: the frame
//! behind its outer headers (RFC 7348 section 5), on the underlay port of the path in force.

use super::{
    Egress, PacketCtx, Pipeline, drop_reason::DropReason, graph::Stage, packet::Packet, tracer::Tracer,
};
use crate::tables::{
    entries::{EncapTemplate, Path, Seal},
    peer::{Peer, Slot},
};
use stopover_net::{Mac, Vni};
use stopover_net::{
    checksum::Sum,
    flow, outer,
    vxlan::{self, OverlayFlags},
};

/// What one appliance transmits to another with a frame, besides its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncapMeta {
    /// For the VXLAN header.
    pub flags: OverlayFlags,
    /// The only node that the frame is for, whatever its destination MAC says.
    pub node: Option<Mac>,
    /// How the UDP source port is chosen.
    pub port: SourcePort,
}

/// How the UDP source port of a tunnel datagram is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePort {
    /// From the flow alone.
    FromFlow,
    /// From the flow, but one of the few that this lcore uses for this migrating node: each of them gets an end
    /// marker when the node has moved.
    Bounded(Mac),
    /// This one.
    Fixed(u16),
}

impl EncapMeta {
    /// No flags, no node.
    pub const PLAIN: Self = Self { flags: OverlayFlags::NONE, node: None, port: SourcePort::FromFlow };

    /// Whether only an appliance understands it.
    fn is_overlay(&self) -> bool {
        self.flags != OverlayFlags::NONE || self.node.is_some()
    }
}

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Sends a frame by the path of a slot.
    #[inline]
    pub fn encap(&mut self, ctx: PacketCtx<I::P>, slot: Slot) {
        self.encap_with(ctx, slot, EncapMeta::PLAIN);
    }

    /// Sends a frame to a host that is known by its number, with flags or a node.
    pub fn encap_to_peer(&mut self, ctx: PacketCtx<I::P>, peer: Peer, meta: EncapMeta) {
        match self.view.slot_in(peer, ctx.bd) {
            Some(slot) => self.encap_with(ctx, slot, meta),
            None => {
                self.tracer.enter(Stage::Encap);
                self.drop(ctx.packet, DropReason::HostUnresolved);
            }
        }
    }

    /// Sends a frame by the path of a slot, with flags or a node. A foreign VTEP gets neither: it may drop what it does
    /// not understand.
    #[inline]
    pub fn encap_with(&mut self, ctx: PacketCtx<I::P>, slot: Slot, meta: EncapMeta) {
        self.tracer.enter(Stage::Encap);
        let view = self.view;
        let Some(path) = view.slot(slot).and_then(|entry| entry.path.as_ref()) else {
            return self.drop(ctx.packet, DropReason::HostUnresolved);
        };
        let foreign = meta.is_overlay() && !view.is_appliance(path.peer);
        let meta = if foreign { EncapMeta { port: meta.port, ..EncapMeta::PLAIN } } else { meta };
        let inner_mtu = path.inner_mtu - if meta.node.is_some() { vxlan::SHIM_LEN as u16 } else { 0 };
        if !super::too_big::each_fits(&ctx, inner_mtu) {
            return self.too_big(ctx, inner_mtu);
        }
        if super::offload::unfinished(&ctx.packet) {
            return self.finish(ctx, |pipeline, ctx| pipeline.push_headers_and_send(ctx, (slot, path), meta));
        }
        self.push_headers_and_send(ctx, (slot, path), meta);
    }

    #[inline]
    fn push_headers_and_send(
        &mut self,
        mut ctx: PacketCtx<I::P>,
        (slot, path): (Slot, &Path),
        meta: EncapMeta,
    ) {
        self.tracer.enter(Stage::Encap);
        let flow_port = flow::source_port(flow::hash(&ctx.frame));
        let flow = Flow {
            vni: ctx.vni,
            source_port: match meta.port {
                SourcePort::FromFlow => flow_port,
                SourcePort::Bounded(node) => self.egress.source_port(ctx.bd, node, flow_port),
                SourcePort::Fixed(port) => port,
            },
            tos: ctx.frame.tos().unwrap_or(0),
            priority: ctx.priority,
        };
        if let Some(node) = meta.node {
            let Some(room) = ctx.packet.push(vxlan::SHIM_LEN) else {
                return self.drop(ctx.packet, DropReason::NoHeadroom);
            };
            room.copy_from_slice(&vxlan::shim(node));
        }
        if let Seal::Tunnel(tunnel) = path.seal {
            return self.seal_and_send(ctx, (slot, path, tunnel), meta, flow.source_port);
        }
        if !push_outer(&mut ctx.packet, path, flow, meta.flags) {
            return self.drop(ctx.packet, DropReason::NoHeadroom);
        }
        self.tracer.note(|| flow.describe(path));
        self.egress.send(path.port, ctx.packet);
    }
}

/// The values of a frame that its outer headers contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    pub vni: Vni,
    pub source_port: u16,
    /// The inner packet's DSCP and ECN; 0 if it is not IP.
    pub tos: u8,
    /// See [`PacketCtx::priority`].
    pub priority: u8,
}

impl Flow {
    /// A value that no frame has.
    pub const NONE: Self = Self { vni: Vni::ONE, source_port: 0, tos: 0, priority: 0 };

    pub fn describe(self, path: &Path) -> String {
        let Self { vni, source_port, tos, priority } = self;
        let (port, tos, outer_len) =
            (path.port, path.template.tos.of(tos, priority), path.template.outer.len());
        let host = path.peer;
        format!(
            "to host {host} by port {port}: VNI {vni}, UDP source {source_port}, type of service {tos:#04x}, {outer_len} outer bytes"
        )
    }
}

/// Adds the outer headers to a frame without overlay flags. False if there is no room for them; the frame is invalid
/// then.
#[inline(always)]
pub(super) fn push_plain<P: Packet>(packet: &mut P, path: &Path, flow: Flow) -> bool {
    if path.template.outer.len() != outer::V4_LEN {
        return push_plain_other(packet, &path.template, flow);
    }
    let inner_len = packet.len();
    let room = packet.push(outer::V4_LEN).and_then(|room| room.first_chunk_mut());
    let EncapTemplate { tos, outer, .. } = &path.template;
    let tos = tos.of(flow.tos, flow.priority);
    room.and_then(|room| outer.fill_ipv4(room, inner_len, flow.vni, flow.source_port, tos)).is_some()
}

/// As [`push_plain`], for an underlay with IPv6 or a VLAN.
#[inline(never)]
fn push_plain_other<P: Packet>(packet: &mut P, template: &EncapTemplate, flow: Flow) -> bool {
    let EncapTemplate { tos, zero_checksum, outer } = template;
    let (tos, inner_len) = (tos.of(flow.tos, flow.priority), packet.len());
    let has_checksum = outer.is_ipv6() && !zero_checksum;
    let mut inner = Sum::new();
    match has_checksum {
        true if packet.head().len() == inner_len => inner.add(packet.head()),
        true => packet.segments().for_each(|segment| inner.add(segment)),
        false => {}
    }
    let Some(room) = packet.push(outer.len()) else { return false };
    let filled = match has_checksum {
        true => outer.fill_ipv6(room, (inner_len, inner), flow.vni, flow.source_port, tos),
        false => outer.fill(room, inner_len, flow.vni, flow.source_port, tos),
    };
    filled.is_some()
}

/// Adds the outer headers. False if there is no room for them; the frame is invalid then.
#[inline(never)]
fn push_outer<P: Packet>(packet: &mut P, path: &Path, flow: Flow, flags: OverlayFlags) -> bool {
    let Flow { vni, source_port, tos, priority } = flow;
    let template = &path.template;
    let tos = template.tos.of(tos, priority);
    if template.outer.is_ipv6() {
        return push_ipv6(packet, template, (vni, source_port, tos), flags);
    }
    let inner_len = packet.len();
    let room = packet.push(template.outer.len());
    room.and_then(|room| {
        template.outer.fill(room, inner_len, vni, source_port, tos)?;
        if flags != OverlayFlags::NONE {
            template.outer.set_flags(room, flags);
        }
        Some(())
    })
    .is_some()
}

/// The outer headers of IPv6, whose UDP checksum covers the inner frame (RFC 8200 section 8.1).
fn push_ipv6<P: Packet>(
    packet: &mut P,
    template: &EncapTemplate,
    (vni, source_port, tos): (Vni, u16, u8),
    flags: OverlayFlags,
) -> bool {
    let mut header = [0; outer::MAX_LEN];
    let Some(header) = header.get_mut(..template.outer.len()) else { return false };
    if template.outer.fill(header, packet.len(), vni, source_port, tos).is_none() {
        return false;
    }
    template.outer.set_flags(header, flags);
    if !template.zero_checksum {
        template.outer.seal(header, packet.segments());
    }
    let Some(room) = packet.push(header.len()) else { return false };
    room.copy_from_slice(header);
    true
}

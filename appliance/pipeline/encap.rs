//! Encap: the last stage towards another host. Enters: an untagged frame and the host it is for. Leaves: the
//! frame behind its outer headers (RFC 7348 section 5), on the underlay port towards that host.

use super::{Io, Pipeline, Slot, fate::Drop, packet::Packet, witness::Stage, witness::Witness};
use crate::tables::entries::Way;
use stopover_net::{Mac, Vni};
use stopover_net::{
    flow, outer,
    vxlan::{self, OverlayFlags},
};

/// What one appliance tells another of a frame, beside its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// For the VXLAN header.
    pub flags: OverlayFlags,
    /// The only node that the frame is for, whatever its destination MAC says.
    pub node: Option<Mac>,
    /// Where the source port comes from.
    pub port: SourcePort,
}

/// Where the UDP source port of a tunnel datagram comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePort {
    /// From the flow alone.
    OfFlow,
    /// From the flow, but one of the few that this lcore uses for this node, which is on the move: each of them is ended
    /// by a marker of its own when the node has moved.
    Bounded(Mac),
    /// It is this one.
    Is(u16),
}

impl Label {
    /// Nothing to tell.
    pub const PLAIN: Self = Self { flags: OverlayFlags::NONE, node: None, port: SourcePort::OfFlow };
}

impl<I: Io, W: Witness> Pipeline<'_, I, W> {
    /// Sends a frame to host number `host`.
    #[inline]
    pub fn encap(&mut self, slot: Slot<I::P>, host: u32) {
        self.encap_marked(slot, host, Label::PLAIN);
    }

    /// Sends a frame to host number `host` with a label. A foreign VTEP gets it without: it may drop what it does
    /// not understand.
    #[inline]
    pub fn encap_marked(&mut self, slot: Slot<I::P>, host: u32, label: Label) {
        let view = self.view;
        let Some(entry) = view.host(host) else { return self.drop(slot.packet, Drop::HostUnresolved) };
        let Some(way) = entry.way.as_ref() else { return self.drop(slot.packet, Drop::HostUnresolved) };
        let label = if entry.is_appliance { label } else { Label { port: label.port, ..Label::PLAIN } };
        let room = way.inner_mtu - if label.node.is_some() { vxlan::SHIM_LEN as u16 } else { 0 };
        if let Some(size) = super::offload::layer3_len(&slot)
            && size > usize::from(room)
        {
            return self.too_big(slot, room);
        }
        if super::offload::unfinished(&slot.packet) {
            return self.finish(slot, |path, slot| path.wrap(slot, way, host, label));
        }
        self.wrap(slot, way, host, label);
    }

    #[inline]
    fn wrap(&mut self, mut slot: Slot<I::P>, way: &Way, host: u32, label: Label) {
        let of_flow = flow::source_port(flow::hash(&slot.frame));
        let flow = Flow {
            vni: slot.vni,
            source_port: match label.port {
                SourcePort::OfFlow => of_flow,
                SourcePort::Bounded(node) => self.io.bounded_port(slot.net, node, of_flow),
                SourcePort::Is(port) => port,
            },
            tos: slot.frame.tos().unwrap_or(0),
            priority: slot.priority,
        };
        if let Some(node) = label.node {
            let Some(room) = slot.packet.push(vxlan::SHIM_LEN) else {
                return self.drop(slot.packet, Drop::NoHeadroom);
            };
            room.copy_from_slice(&vxlan::shim(node));
        }
        if !push_outer(&mut slot.packet, way, flow, label.flags) {
            return self.drop(slot.packet, Drop::NoHeadroom);
        }
        self.witness.note(Stage::Encap, || flow.describe(way, host));
        self.io.send(way.port, slot.packet);
    }
}

/// What of a frame shows in its outer headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    pub vni: Vni,
    pub source_port: u16,
    /// The inner packet's DSCP and ECN; 0 if it is not IP.
    pub tos: u8,
    /// See [`Slot::priority`].
    pub priority: u8,
}

impl Flow {
    pub fn describe(self, way: &Way, host: u32) -> String {
        let Self { vni, source_port, tos, priority } = self;
        let (port, tos, outer_len) = (way.port, way.tos.of(tos, priority), way.outer.len());
        format!(
            "to host {host} by port {port}: VNI {vni}, UDP source {source_port}, type of service {tos:#04x}, {outer_len} outer bytes"
        )
    }
}

/// Puts the outer headers on an unmarked frame. False, and the frame is good for nothing, if there is no room for
/// them.
#[inline(always)]
pub(super) fn push_plain<P: Packet>(packet: &mut P, way: &Way, flow: Flow) -> bool {
    if way.outer.len() != outer::V4_LEN {
        return push_outer(packet, way, flow, OverlayFlags::NONE);
    }
    let inner_len = packet.len();
    let room = packet.push(outer::V4_LEN).and_then(|room| room.first_chunk_mut());
    let tos = way.tos.of(flow.tos, flow.priority);
    room.and_then(|room| way.outer.fill_ipv4(room, inner_len, flow.vni, flow.source_port, tos)).is_some()
}

/// Puts the outer headers on. False, and the frame is good for nothing, if there is no room for them.
#[inline(never)]
fn push_outer<P: Packet>(packet: &mut P, way: &Way, flow: Flow, flags: OverlayFlags) -> bool {
    let Flow { vni, source_port, tos, priority } = flow;
    let tos = way.tos.of(tos, priority);
    if way.outer.is_ipv6() {
        return push_ipv6(packet, way, (vni, source_port, tos), flags);
    }
    let inner_len = packet.len();
    let room = packet.push(way.outer.len());
    room.and_then(|room| {
        way.outer.fill(room, inner_len, vni, source_port, tos)?;
        if flags != OverlayFlags::NONE {
            way.outer.set_flags(room, flags);
        }
        Some(())
    })
    .is_some()
}

/// The outer headers of IPv6, whose UDP checksum covers the inner frame (RFC 8200 section 8.1).
fn push_ipv6<P: Packet>(
    packet: &mut P,
    way: &Way,
    (vni, source_port, tos): (Vni, u16, u8),
    flags: OverlayFlags,
) -> bool {
    let mut header = [0; outer::MAX_LEN];
    let Some(header) = header.get_mut(..way.outer.len()) else { return false };
    if way.outer.fill(header, packet.len(), vni, source_port, tos).is_none() {
        return false;
    }
    way.outer.set_flags(header, flags);
    if !way.zero_checksum {
        way.outer.seal(header, packet.segments());
    }
    let Some(room) = packet.push(header.len()) else { return false };
    room.copy_from_slice(header);
    true
}

//! Decap: the first stages of a frame from another host. Enters: a tunnel datagram. Leaves: the inner frame with its
//! network and sender, or the reason why it is not accepted.

use super::{
    Egress, PacketCtx, Pipeline,
    drop_reason::DropReason,
    packet::Packet,
    ports::{Network, Origin, Underlay},
    tracer::{Stage, Tracer, describe},
    underlay::{Opened, Opening},
};
use std::net::IpAddr;
use stopover_net::{
    Vni, ecn, frame,
    underlay::{UdpChecksum, Vxlan},
    vxlan::OverlayFlags,
};

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    #[inline]
    pub(super) fn decap(&mut self, own: &Underlay, mut packet: I::P, d: &Vxlan) -> Opening<I::P> {
        if d.dst_mac != own.mac || !own.addresses.contains(&d.dst) {
            return Err((packet, DropReason::OuterNotOurs));
        }
        if let Err(reason) = check_udp(own, &packet, d) {
            return Err((packet, reason));
        }
        let Some(vtep) = self.view.vtep(d.src) else { return Err((packet, DropReason::UnknownVtep)) };
        if !vtep.accepts_plain() {
            return Err((packet, DropReason::PlainRefused));
        }
        let peer = vtep.peer();
        if d.flags != OverlayFlags::NONE && !self.view.is_appliance(peer) {
            return self.open_foreign(own, packet);
        }
        let Some(bd) = self.view.bd_of(d.vni) else { return Err((packet, DropReason::UnknownVni)) };
        if !packet.pull(usize::from(d.inner_off)) || !packet.truncate(usize::from(d.inner_len)) {
            return Err((packet, DropReason::OuterMalformed));
        }
        packet.clear_offload();
        if d.flags.contains(OverlayFlags::CONTROL) {
            return Ok(Opened::Marker(packet, Network { bd, vni: d.vni }));
        }
        self.tracer.note(Stage::Decap, || describe_decap(d.src, d.vni, usize::from(d.inner_len)));
        let frame = match frame::parse(packet.head(), packet.len()) {
            Ok(frame) => frame,
            Err(bad) => return Err((packet, bad.into())),
        };
        self.tracer.note(Stage::Parse, || describe(&frame));
        if frame.vlan.is_some() {
            return Err((packet, DropReason::InnerVlan));
        }
        if let Err(reason) = super::guard::check_addresses(&frame) {
            return Err((packet, reason));
        }
        if let Some(tos) = frame.tos() {
            match ecn::decap(d.tos, tos) {
                ecn::Decap::Keep => {}
                ecn::Decap::Set(codepoint) => {
                    ecn::set(&frame, packet.head_mut(), codepoint);
                }
                ecn::Decap::Drop => return Err((packet, DropReason::EcnViolation)),
            }
        }
        let (hop, apart) = (d.flags.contains(OverlayFlags::HOP), d.flags.separate_copies());
        let origin = Origin::Underlay { peer, hop, apart };
        let priority = if own.pcp { ecn::pcp_of(d.tos) << 1 } else { 0 };
        let ctx = PacketCtx { packet, frame, bd, vni: d.vni, origin, priority };
        Ok(match d.node {
            None => Opened::Frame(ctx),
            Some(node) => Opened::ForNode(ctx, node),
        })
    }
}

/// RFC 7348 section 5: a checksum of zero is accepted, any other must be right. RFC 8200 section 8.1 and
/// RFC 6935: over IPv6 zero is accepted only where it was configured.
#[inline]
fn check_udp<P: Packet>(own: &Underlay, packet: &P, d: &Vxlan) -> Result<(), DropReason> {
    let valid = match d.checksum {
        UdpChecksum::Absent => true,
        UdpChecksum::AbsentV6 => own.udp6_zero_checksum,
        // A sender on this machine may leave the checksum to the device: there is nothing to verify yet.
        UdpChecksum::Present => packet.checksum_unfilled() || d.udp_checksum_ok(packet.segments()),
    };
    if valid { Ok(()) } else { Err(DropReason::OuterChecksum) }
}

/// Describes a decapsulation for a trace.
#[must_use]
pub(super) fn describe_decap(src: IpAddr, vni: Vni, inner_len: usize) -> String {
    format!("from VTEP {src}, VNI {vni}, {inner_len} inner bytes")
}

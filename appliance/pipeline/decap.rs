//! Decap: whether a tunnel datagram is from a host and for a network of ours. Enters: a frame with intact outer headers.
//! Leaves: the inner frame with its network and sender, or the reason why it is not accepted.

use super::{
    Egress, Pipeline, drop_reason::DropReason, graph::Stage, packet::Packet, ports::Underlay, tracer::Tracer,
};
use crate::tables::{
    packed::Bd,
    peer::{NetworkSeal, Peer},
};
use std::net::IpAddr;
use stopover_net::{
    Vni,
    underlay::{UdpChecksum, Vxlan},
    vxlan::OverlayFlags,
};

/// An accepted datagram.
pub(super) enum Decapped {
    /// Its inner frame, in this network and from this host.
    Inner(Bd, Peer),
    /// It has reserved bits set that its sender gives no meaning; nothing was taken off.
    Foreign,
}

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Checks the sender and the network of a datagram and takes the outer headers off.
    #[inline]
    pub(super) fn decap(
        &mut self,
        own: &Underlay,
        packet: &mut I::P,
        d: &Vxlan,
    ) -> Result<Decapped, DropReason> {
        self.tracer.enter(Stage::Decap);
        if d.dst_mac != own.mac || !own.has_address(d.dst) {
            return Err(DropReason::OuterNotOurs);
        }
        check_udp(own, packet, d.checksum, |packet| d.udp_checksum_ok(packet.segments()))?;
        let vtep = self.view.vtep(d.src).ok_or(DropReason::UnknownVtep)?;
        let peer = vtep.peer();
        let bd = self.view.bd_of(d.vni);
        if !vtep.accepts_plain_in(bd.map_or(NetworkSeal::ByHost, |bd| self.view.seal_of(bd))) {
            self.egress.report_refused(peer);
            return Err(DropReason::PlainRefused);
        }
        if d.flags != OverlayFlags::NONE && !self.view.is_appliance(peer) {
            return Ok(Decapped::Foreign);
        }
        let bd = bd.ok_or(DropReason::UnknownVni)?;
        if !packet.pull(usize::from(d.inner_off)) || !packet.truncate(usize::from(d.inner_len)) {
            return Err(DropReason::OuterMalformed);
        }
        packet.clear_offload();
        if !d.flags.contains(OverlayFlags::CONTROL) {
            self.tracer.note(|| describe_decap(d.src, d.vni, usize::from(d.inner_len)));
        }
        Ok(Decapped::Inner(bd, peer))
    }
}

/// RFC 7348 section 5: a checksum of zero is accepted, any other must be right. RFC 8200 section 8.1 and
/// RFC 6935: over IPv6 zero is accepted only where it was configured.
#[inline]
pub(super) fn check_udp<P: Packet>(
    own: &Underlay,
    packet: &P,
    checksum: UdpChecksum,
    is_right: impl FnOnce(&P) -> bool,
) -> Result<(), DropReason> {
    let valid = match checksum {
        UdpChecksum::Absent => true,
        UdpChecksum::AbsentV6 => own.udp6_zero_checksum,
        // A sender on this machine may leave the checksum to the device: there is nothing to verify yet.
        UdpChecksum::Present => packet.checksum_unfilled() || is_right(packet),
    };
    if valid { Ok(()) } else { Err(DropReason::OuterChecksum) }
}

/// Describes a decapsulation for a trace.
#[must_use]
pub(super) fn describe_decap(src: IpAddr, vni: Vni, inner_len: usize) -> String {
    format!("from VTEP {src}, VNI {vni}, {inner_len} inner bytes")
}

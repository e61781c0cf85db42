//! Too big: a packet that exceeds the MTU of its path. The overlay never fragments (RFC 7348 section 4.3), so the
//! frame is dropped, and its sender gets the MTU in an ICMP error, as from a router (RFC 1191, RFC 4443 section 3.2).
//! There is no silent black hole.

use super::{
    Egress, PacketCtx, Pipeline, drop_reason::DropReason, graph::Stage, offload, packet::Packet,
    packet_counters::add, ports::Origin, tracer::Tracer,
};
use crate::tables::packed::FdbEntry;
use stopover_net::IPV6_MIN_MTU;
use stopover_net::{
    ethernet,
    frame::{self, Kind},
    icmp,
};

/// Whether an untagged frame of `len` bytes has no more layer 3 bytes than `mtu`.
#[inline(always)]
pub(super) fn fits(len: usize, mtu: u16) -> bool {
    len <= usize::from(mtu) + ethernet::HEADER_LEN
}

/// Whether a frame fits, or each of its segments.
#[inline]
pub(super) fn each_fits<P: Packet>(ctx: &PacketCtx<P>, mtu: u16) -> bool {
    offload::wire_len(ctx).is_none_or(|len| fits(len, mtu))
}

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Drops the frame and sends its sender the largest layer 3 packet, in bytes, that fits: `mtu`, or the declared
    /// MTU of the network, if that is less. Then packets to its other stations fit as well.
    #[cold]
    pub fn too_big(&mut self, ctx: PacketCtx<I::P>, mtu: u16) {
        self.tracer.enter(Stage::TooBig);
        let declared = self.view.network(ctx.bd).map_or(0, |network| network.mtu);
        let ipv6 = matches!(ctx.frame.kind, Kind::Ipv6(_));
        let declared = match declared {
            0 => mtu,
            // No IPv6 node uses less.
            _ if ipv6 => declared.max(IPV6_MIN_MTU),
            _ => declared,
        };
        let mtu = mtu.min(declared);
        let head = ctx.packet.head();
        match ctx.frame.kind {
            Kind::Ipv4(_) => {
                if let Some(answer) = icmp::build_frag_needed(head, &ctx.frame, mtu) {
                    self.send_icmp_error(&ctx, &answer);
                }
            }
            Kind::Ipv6(_) => {
                if let Some(answer) = icmp::build_packet_too_big(head, &ctx.frame, u32::from(mtu)) {
                    self.send_icmp_error(&ctx, &answer);
                }
            }
            _ => {}
        }
        self.tracer.enter(Stage::TooBig);
        self.drop(ctx.packet, DropReason::TooBig);
    }

    /// A local sender gets the error at its port. A sender at another host gets it through the tunnel, if it is
    /// registered. The error is no replica, and cannot cause another error.
    fn send_icmp_error(&mut self, to: &PacketCtx<I::P>, answer: &[u8]) {
        match to.origin {
            Origin::Port { port, vlan } => {
                if let Some(packet) = self.make_icmp_error(answer) {
                    self.send_back(packet, port, vlan);
                }
            }
            Origin::Underlay { .. } => {
                let Some(FdbEntry::Remote { slot, .. }) = self.view.fdb_entry(to.bd, to.frame.src) else {
                    return;
                };
                let Ok(frame) = frame::parse(answer, answer.len()) else { return };
                if let Some(packet) = self.make_icmp_error(answer) {
                    let PacketCtx { bd, vni, origin, priority, .. } = *to;
                    self.encap(PacketCtx { packet, frame, bd, vni, origin, priority }, slot);
                }
            }
        }
    }

    /// The buffer of an error, if one may be sent now.
    fn make_icmp_error(&mut self, answer: &[u8]) -> Option<I::P> {
        if !self.egress.may_send_icmp_error() {
            return None;
        }
        add(&self.counters.copied, 1);
        let packet = self.egress.make(answer);
        if packet.is_none() {
            self.drop_unmade();
        }
        packet
    }
}

//! Open: datagrams to the tunnel's port that are not plain VXLAN. Enters: a frame with intact outer headers. Leaves: the
//! inner frame of one that was sealed by a peer, for a network of ours, from a node that belongs to that peer; datagrams of
//! handshakes, for the control thread; or the reason why it is dropped.

use super::{
    Egress, PacketCtx, Pipeline,
    decap::{check_udp, describe_decap},
    drop_reason::DropReason,
    graph::Stage,
    packet::Packet,
    ports::{Network, Origin, Underlay},
    tracer::Tracer,
    tunnel_egress::Unsealed,
    underlay::{Opened, Opening},
};
use crate::tables::{
    packed::{Bd, FdbEntry},
    peer::Peer,
};
use stopover_net::{
    Mac, ecn,
    underlay::{self, Other},
    vxlan::OverlayFlags,
};
use stopover_tunnel::{
    Spi,
    wire::{self, Datagram},
};

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// A datagram to our port, of any kind but plain VXLAN.
    pub(super) fn open_other(&mut self, own: &Underlay, port: u16, packet: I::P, d: &Other) -> Opening<I::P> {
        self.tracer.enter(Stage::Open);
        if d.dst_mac != own.mac || !own.has_address(d.dst) {
            return Err((packet, DropReason::OuterNotOurs));
        }
        if let Err(reason) = check_udp(own, &packet, d.checksum, |p| d.udp_checksum_ok(p.segments())) {
            return Err((packet, reason));
        }
        let payload = packet.head().get(d.off()..).unwrap_or_default();
        let payload = payload.get(..usize::from(d.len)).unwrap_or(payload);
        match wire::classify(payload, usize::from(d.len)) {
            Ok(Datagram::Esp(spi)) => self.open_sealed(own, port, packet, d, spi),
            Ok(Datagram::Handshake) => {
                self.tracer.note(|| format!("of a handshake, from {}: to the control thread", d.src));
                self.egress.punt_handshake(port, packet).map(|()| {
                    super::packet_counters::add(&self.counters.to_control, 1);
                    Opened::Elsewhere
                })
            }
            Ok(Datagram::Stun | Datagram::Relayed | Datagram::Keepalive | Datagram::Vxlan) => {
                Err((packet, DropReason::OuterUnexpected))
            }
            Err(_) => Err((packet, DropReason::BadVxlan)),
        }
    }

    fn open_sealed(&mut self, own: &Underlay, port: u16, packet: I::P, d: &Other, spi: Spi) -> Opening<I::P> {
        let end = d.off() + usize::from(d.len);
        // A piece that is not there is counted as dropped already.
        let Some(packet) = self.in_one_piece(packet) else { return Ok(Opened::Elsewhere) };
        let (mut packet, peer, text) = match self.egress.open(port, packet, d.off()..end) {
            Unsealed::Here(packet, peer, text) => (packet, peer, text),
            Unsealed::Handed => {
                self.tracer.note(|| format!("under SPI {spi}: to the lcore that has its window"));
                return Ok(Opened::Elsewhere);
            }
            Unsealed::Refused(packet, reason) => {
                if reason == DropReason::UnknownSpi {
                    self.egress.report_unknown_spi(d.src, spi);
                }
                return Err((packet, reason));
            }
        };
        let inner = match underlay::parse_sealed(packet.head(), text.start, text.end) {
            Ok(inner) => inner,
            Err(bad) => return Err((packet, bad.into())),
        };
        let Some(bd) = self.view.bd_of(inner.vni) else { return Err((packet, DropReason::UnknownVni)) };
        if !packet.pull(usize::from(inner.off)) || !packet.truncate(usize::from(inner.len)) {
            return Err((packet, DropReason::OuterMalformed));
        }
        packet.clear_offload();
        if inner.flags.contains(OverlayFlags::CONTROL) {
            return Ok(Opened::Marker(packet, Network { bd, vni: inner.vni }));
        }
        self.tracer.note(|| describe_decap(d.src, inner.vni, usize::from(inner.len)));
        let frame = match self.admit_inner(&mut packet, d.tos) {
            Ok(frame) => frame,
            Err(reason) => return Err((packet, reason)),
        };
        let hop = inner.flags.contains(OverlayFlags::HOP);
        self.tracer.enter(Stage::Stations);
        let is_sent_on = hop && self.may_be_sent_on(bd, inner.node.unwrap_or(frame.dst));
        if !is_sent_on && !self.may_be_from(bd, frame.src, peer) {
            return Err((packet, DropReason::NotItsNode));
        }
        let origin = Origin::Underlay { peer, hop, apart: inner.flags.separate_copies() };
        let priority = if own.pcp { ecn::pcp_of(d.tos) << 1 } else { 0 };
        let ctx = PacketCtx { packet, frame, bd, vni: inner.vni, origin, priority };
        Ok(match inner.node {
            None => Opened::Frame(ctx),
            Some(node) => Opened::ForNode(ctx, node),
        })
    }

    /// Whether a node can be at the peer whose key has sealed its frame. One that is not known contradicts nothing; one that
    /// is moving may be there already. Our own stations are the matter of a later stage.
    #[inline]
    fn may_be_from(&mut self, bd: Bd, source: Mac, peer: Peer) -> bool {
        let word = self.view.packed_fdb_entry(bd, source);
        let Some(FdbEntry::Remote { slot, .. }) = word.unpack() else { return true };
        if self.view.peer_of(slot).is_none_or(|at| at == peer) {
            return true;
        }
        if word.is_migrating() {
            self.egress.report_came_from(bd, source, peer);
        }
        word.is_migrating()
    }

    /// Whether frames for a node may come from its host of before, which sends them on.
    #[cold]
    fn may_be_sent_on(&self, bd: Bd, node: Mac) -> bool {
        self.view.is_migrating(bd, node)
            || self.view.network(bd).is_some_and(|network| network.moved.binary_search(&node).is_ok())
    }
}

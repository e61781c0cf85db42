//! Seal: encrypts a frame for a peer. Enters: a frame that fits, and the path to its host, which has a tunnel. Leaves: ESP
//! in UDP around the inner UDP and VXLAN headers and the frame (RFC 4303, RFC 3948), on the underlay port of the path. A
//! frame whose tunnel is not there yet waits. Nothing leaves here in plain.

use super::{
    Egress, PacketCtx, Pipeline, drop_reason::DropReason, encap::EncapMeta, graph::Stage, packet::Packet,
    packet_counters::add, tracer::Tracer, tunnel_egress::SealFor,
};
use crate::tables::{
    entries::{Path, Seal},
    peer::{Slot, TunnelIndex},
};
use stopover_net::{udp, vxlan};

/// Bytes of the inner UDP and VXLAN headers.
const INNER_HEADERS: usize = udp::HEADER_LEN + vxlan::HEADER_LEN;

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Seals a frame, which has its shim if it needs one, and sends it. `source_port`: of the inner UDP header.
    pub(super) fn seal_and_send(
        &mut self,
        mut ctx: PacketCtx<I::P>,
        (slot, path, tunnel): (Slot, &Path, TunnelIndex),
        meta: EncapMeta,
        source_port: u16,
    ) {
        self.tracer.enter(Stage::Seal);
        let tos = path.template.tos.of(ctx.frame.tos().unwrap_or(0), ctx.priority);
        let Ok(udp_len) = u16::try_from(ctx.packet.len() + INNER_HEADERS) else {
            return self.drop(ctx.packet, DropReason::NoTailroom);
        };
        let Some(room) = ctx.packet.push(INNER_HEADERS) else {
            return self.drop(ctx.packet, DropReason::NoHeadroom);
        };
        let ports = u32::from(source_port) << 16 | u32::from(path.template.outer.dst_port());
        // No checksum: the seal protects more than one would.
        let (udp, vxlan_header) = room.split_at_mut(udp::HEADER_LEN);
        udp.copy_from_slice(&(u64::from(ports) << 32 | u64::from(udp_len) << 16).to_be_bytes());
        let mut header = vxlan::bytes(ctx.vni);
        vxlan::set_flags(&mut header, meta.flags);
        vxlan_header.copy_from_slice(&header);
        let seal = SealFor { peer: path.peer, slot, tunnel, tos };
        if self.egress.waits_for(tunnel) {
            return self.wait_for_tunnel(seal, ctx.packet);
        }
        self.send_sealed(path, seal, ctx.packet);
    }

    /// Seals a text and sends it.
    fn send_sealed(&mut self, path: &Path, seal: SealFor, packet: I::P) {
        let Some(mut packet) = self.in_one_piece(packet) else { return };
        let source_port = match self.egress.seal(seal.tunnel, &mut packet) {
            Ok(source_port) => source_port,
            Err(DropReason::NoTunnel) => return self.wait_for_tunnel(seal, packet),
            Err(reason) => return self.drop(packet, reason),
        };
        let outer = &path.template.outer;
        let payload_len = packet.len();
        let mut header = [0; stopover_net::outer::MAX_LEN];
        let filled = outer.fill_udp(&mut header, payload_len, source_port, seal.tos);
        if outer.is_ipv6() && !path.template.zero_checksum {
            outer.seal_udp(&mut header, packet.segments());
        }
        let header = header.get(..outer.udp_len()).unwrap_or_default();
        match packet.push(header.len()).filter(|_| filled.is_some()) {
            Some(room) => room.copy_from_slice(header),
            None => return self.drop(packet, DropReason::NoHeadroom),
        }
        let SealFor { peer, tos, .. } = seal;
        self.tracer
            .note(|| format!("for host {peer}: {payload_len} bytes of ESP, type of service {tos:#04x}"));
        self.egress.send(path.port, packet);
    }

    fn wait_for_tunnel(&mut self, seal: SealFor, packet: I::P) {
        match self.egress.wait_for_tunnel(seal, packet) {
            Ok(()) => {
                add(&self.counters.held, 1);
                self.tracer.note(|| "waits until its tunnel is up".into());
            }
            Err(packet) => self.drop(packet, DropReason::NoTunnel),
        }
    }

    /// The frame with all its bytes in its first segment. `None`: no buffer was free, which is counted.
    pub(super) fn in_one_piece(&mut self, packet: I::P) -> Option<I::P> {
        if packet.head().len() == packet.len() {
            return Some(packet);
        }
        let whole = self.egress.copy_range(&[], &packet, 0, packet.len());
        if whole.is_none() {
            self.drop(packet, DropReason::PoolEmpty);
        }
        whole
    }

    /// Sends a frame that has waited for a tunnel, by the path in force now, or drops it if that is over.
    pub fn send_waited(&mut self, seal: SealFor, packet: I::P, is_over: bool) {
        self.tracer.enter(Stage::Seal);
        let view = self.view;
        let path = view.slot(seal.slot).and_then(|entry| entry.path.as_ref());
        let is_same = |path: &&Path| path.peer == seal.peer && path.seal == Seal::Tunnel(seal.tunnel);
        match path.filter(|path| !is_over && is_same(path)) {
            Some(path) => self.send_sealed(path, seal, packet),
            None => self.drop(packet, DropReason::NoTunnel),
        }
    }
}

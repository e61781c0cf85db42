//! Encap: the last stage towards another host. Enters: an untagged frame and the host it is for. Leaves: the
//! frame behind its outer headers (RFC 7348 section 5), on the underlay port towards that host.

use super::{Io, Pipeline, Slot, fate::Drop, packet::Packet, witness::Stage, witness::Witness};
use crate::tables::entries::Way;
use crate::wire::{ecn, flow, outer};
use stopover_config::net::Vni;

impl<I: Io, W: Witness> Pipeline<'_, I, W> {
    /// Sends a frame to host number `host`.
    #[inline]
    pub fn encap(&mut self, slot: Slot<I::P>, host: u32) {
        let view = self.view;
        let Some(way) = view.host(host).and_then(|entry| entry.way.as_ref()) else {
            return self.drop(slot.packet, Drop::HostUnresolved);
        };
        if let Some(size) = super::offload::layer3_len(&slot)
            && size > usize::from(way.inner_mtu)
        {
            return self.too_big(slot, way.inner_mtu);
        }
        if super::offload::unfinished(&slot.packet) {
            return self.finish(slot, |path, slot| path.wrap(slot, way, host));
        }
        self.wrap(slot, way, host);
    }

    #[inline]
    fn wrap(&mut self, mut slot: Slot<I::P>, way: &Way, host: u32) {
        let vni = slot.vni;
        let inner_len = slot.packet.len();
        let source_port = flow::source_port(flow::hash(&slot.frame));
        let tos = ecn::encap(slot.frame.tos().unwrap_or(0), way.dscp);
        let outer_len = way.outer.len();
        let done = if way.outer.is_ipv6() {
            push_ipv6(&mut slot.packet, way, vni, source_port, tos)
        } else {
            slot.packet
                .push(outer_len)
                .and_then(|room| way.outer.fill(room, inner_len, vni, source_port, tos))
                .is_some()
        };
        if !done {
            return self.drop(slot.packet, Drop::NoHeadroom);
        }
        self.witness.note(Stage::Encap, || {
            format!(
                "to host {host} by port {}: VNI {vni}, UDP source {source_port}, type of service {tos:#04x}, {outer_len} outer bytes",
                way.port
            )
        });
        self.io.send(way.port, slot.packet);
    }
}

/// The outer headers of IPv6, whose UDP checksum covers the inner frame (RFC 8200 section 8.1).
fn push_ipv6<P: Packet>(packet: &mut P, way: &Way, vni: Vni, source_port: u16, tos: u8) -> bool {
    let mut header = [0; outer::MAX_LEN];
    let Some(header) = header.get_mut(..way.outer.len()) else { return false };
    if way.outer.fill(header, packet.len(), vni, source_port, tos).is_none() {
        return false;
    }
    if !way.zero_checksum {
        way.outer.seal(header, packet.segments());
    }
    let Some(room) = packet.push(header.len()) else { return false };
    room.copy_from_slice(header);
    true
}

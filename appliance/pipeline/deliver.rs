//! Deliver: the last stage towards a local port. Enters: an untagged frame and the port it is for. Leaves:
//! the frame as the port's stations expect it, tagged on a trunk, its checksum and size finished here or by
//! the device.

use super::{
    Io, Pipeline, Slot, fate::Drop, packet::Packet, ports::Origin, vlan, witness::Stage, witness::Witness,
};

impl<I: Io, W: Witness> Pipeline<'_, I, W> {
    /// Sends a frame from a local port, with a VLAN tag unless `vlan` is 0.
    pub fn deliver(&mut self, mut slot: Slot<I::P>, port: u16, vlan: u16) {
        let Some(out) = self.ports.get(usize::from(port)) else {
            return self.drop(slot.packet, Drop::PortDown);
        };
        if let Some(size) = super::offload::layer3_len(&slot)
            && size > usize::from(out.mtu)
        {
            return self.too_big(slot, out.mtu);
        }
        self.witness.note(Stage::Deliver, || say(port, vlan));
        if super::offload::unfinished(&slot.packet) {
            // A tag shifts the headers, and few devices finish a checksum behind one: do it here.
            let by_device = vlan == 0
                && out.fills_checksums
                && (out.segments_tcp || slot.packet.gso_size().is_none())
                && super::offload::request(&mut slot);
            if !by_device {
                return self.finish(slot, |path, slot| path.tag_and_send(slot, port, vlan));
            }
        }
        self.tag_and_send(slot, port, vlan);
    }

    fn tag_and_send(&mut self, mut slot: Slot<I::P>, port: u16, vlan: u16) {
        if vlan != 0 && !vlan::tag(&mut slot.packet, vlan, slot.priority) {
            return self.drop(slot.packet, Drop::NoHeadroom);
        }
        self.io.send(port, slot.packet);
    }

    /// Sends a frame that was made here back to where `origin` says.
    pub fn send_back(&mut self, mut packet: I::P, origin: Origin) {
        let Origin::Port { port, vlan } = origin else {
            return self.drop(packet, Drop::HostUnresolved);
        };
        if vlan != 0 && !vlan::tag(&mut packet, vlan, 0) {
            return self.drop(packet, Drop::NoHeadroom);
        }
        self.io.send(port, packet);
    }
}

/// A delivery in words, for a trace.
#[must_use]
pub(super) fn say(port: u16, vlan: u16) -> String {
    match vlan {
        0 => format!("to port {port}"),
        tag => format!("to port {port} with VLAN tag {tag}"),
    }
}

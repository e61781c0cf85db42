//! Too big: a packet that does not fit where it must go. The overlay never fragments (RFC 7348 section 4.3),
//! so the frame is dropped, and its sender is told what fits, as a router would (RFC 1191, RFC 4443 section
//! 3.2): no silent black hole.

use super::{Io, Pipeline, Slot, fate::Drop, fate::add, packet::Packet, ports::Origin, witness::Witness};
use crate::wire::{frame::Kind, icmp};

impl<I: Io, W: Witness> Pipeline<'_, I, W> {
    /// Drops the frame and answers its sender, if that is behind a local port, with the largest layer 3
    /// packet, in bytes, that fits.
    #[cold]
    pub fn too_big(&mut self, slot: Slot<I::P>, mtu: u16) {
        if matches!(slot.origin, Origin::Port { .. }) {
            let head = slot.packet.head();
            match slot.frame.kind {
                Kind::Ipv4(_) => {
                    if let Some(answer) = icmp::build_frag_needed(head, &slot.frame, mtu) {
                        self.tell(&answer, slot.origin);
                    }
                }
                Kind::Ipv6(_) => {
                    if let Some(answer) = icmp::build_packet_too_big(head, &slot.frame, u32::from(mtu)) {
                        self.tell(&answer, slot.origin);
                    }
                }
                _ => {}
            }
        }
        self.drop(slot.packet, Drop::TooBig);
    }

    fn tell(&mut self, answer: &[u8], origin: Origin) {
        add(&self.counters.copied, 1);
        match self.io.make(answer) {
            Some(packet) => self.send_back(packet, origin),
            None => self.counters.drop(Drop::PoolEmpty, 1),
        }
    }
}

//! Ports that accept every frame, and the rest of what a pipeline needs. Enters: the frames that the stages send.
//! Leaves: their buffers, for the arena.

use super::arena::{Arena, Buffer};
use std::sync::Arc;
use stopover::migration::hold::Class;
use stopover::migration::hold::{HoldPool, HoldQueue, Meta};
use stopover::migration::record::{EndMarkerBarrier, MigrationRecord};
use stopover::migration::source_ports::UsedPorts;
use stopover::pipeline::{
    Egress, Learn, MarkerHandoff,
    packet::{Packet, Pool},
    ports::Network,
};
use stopover::tables::packed::Bd;
use stopover_net::Mac;
use stopover_net::marker::Marker;

/// Copies use a list of buffers that is refilled when they have been sent.
#[derive(Debug, Default)]
pub struct Sink {
    /// Sent buffers, to return to the arena.
    pub sent: Vec<Buffer>,
    spare: Vec<Box<[u8]>>,
    /// The hold; without it no frame can be held.
    pub hold: Option<(Arc<HoldPool>, HoldQueue)>,
}

impl Sink {
    fn copy_of(&mut self, parts: &[&[u8]]) -> Option<Buffer> {
        Buffer::copy(self.spare.pop(), parts)
    }

    /// Returns sent buffers to their owner. Returns how many.
    #[inline]
    pub fn recycle(&mut self, arena: &mut Arena) -> usize {
        let sent = self.sent.len();
        for buffer in self.sent.drain(..) {
            if buffer.is_copy() {
                self.spare.extend(buffer.spare());
            } else {
                arena.put_back(buffer);
            }
        }
        sent
    }

    /// A hold larger than the caches. Its blocks are used in turn.
    pub fn enable_hold(&mut self) {
        let bytes = 64 << 20;
        self.hold = Some((HoldPool::new(bytes), HoldQueue::new(HoldPool::blocks_for(bytes))));
    }

    /// Frees the held frames. Returns how many.
    pub fn release(&mut self) -> usize {
        let Some((pool, queue)) = &mut self.hold else { return 0 };
        let held = queue.len();
        queue.clear(pool);
        held
    }

    /// Sends the held frames from a port, in order.
    pub fn replay(&mut self) {
        while let Some((pool, queue)) = &mut self.hold {
            if queue.is_empty() {
                break;
            }
            // One that lies in two blocks is in two parts.
            let mut parts = [&[][..]; 2];
            for (part, chunk) in parts.iter_mut().zip(queue.front_chunks()) {
                *part = chunk;
            }
            let copy = Buffer::copy(self.spare.pop(), &parts);
            queue.pop_front(pool);
            self.sent.extend(copy);
        }
    }
}

impl Egress for Sink {
    type P = Buffer;
    #[inline]
    fn send(&mut self, _: u16, packet: Buffer) {
        self.sent.push(packet);
    }
    fn punt(&mut self, _: u16, packet: Buffer) -> Result<(), Buffer> {
        Err(packet)
    }
    fn learn(&mut self, _: Learn) {}
    fn report_router(&mut self, _: stopover::pipeline::RouterSeen) {}
    fn has_held(&self, _: u32, _: u32) -> bool {
        false
    }
    fn hold(&mut self, _: &MigrationRecord, _: u32, _: u32, class: Class, packet: &Buffer) -> bool {
        let Some((pool, queue)) = &mut self.hold else { return false };
        let meta = Meta { kind: class as u8, unfinished: packet.unfilled, gso: packet.gso, at: 0 };
        queue.push(pool, meta, packet.segments(), packet.len()).is_ok()
    }
    fn queue_behind_hold(&mut self, _: u16, packet: Buffer) -> Result<(), Buffer> {
        Err(packet)
    }
    fn park(&mut self, packet: Buffer, _: Network) -> Result<(), Buffer> {
        Err(packet)
    }
    fn hand_off_marker(&mut self, _: u16, packet: Buffer, _: Network) -> MarkerHandoff<Buffer> {
        MarkerHandoff::Own(packet)
    }
    fn queue_behind_device(&mut self, _: u16, packet: Buffer) -> Result<(), Buffer> {
        Err(packet)
    }
    fn note_old_path_frame(&mut self, _: &EndMarkerBarrier) {}
    fn report_relayed(&mut self, _: Bd, _: Marker) {}
    fn bounded_source_port(&mut self, _: Bd, _: Mac, of_flow: u16) -> u16 {
        of_flow
    }
    fn used_source_ports(&self, _: Bd, _: Mac) -> UsedPorts {
        UsedPorts::new()
    }
    fn report_arrived(&mut self, _: Bd, _: Mac, _: u32, _: u64) {}
    fn own_marker_returned(&mut self, _: &EndMarkerBarrier, _: u32) {}
    fn may_send_icmp_error(&mut self) -> bool {
        true
    }
}

impl Pool<Buffer> for Sink {
    fn copy(&mut self, packet: &Buffer) -> Option<Buffer> {
        self.copy_of(&[packet.head()])
    }
    fn copy_range(&mut self, head: &[u8], packet: &Buffer, from: usize, len: usize) -> Option<Buffer> {
        self.copy_of(&[head, packet.head().get(from..from + len)?])
    }
    fn make(&mut self, bytes: &[u8]) -> Option<Buffer> {
        self.copy_of(&[bytes])
    }
}

//! Ports that accept every frame, and the rest of what a pipeline needs. Enters: the frames that the stages send.
//! Leaves: their buffers, for the arena.

use super::arena::{Arena, Buffer};
use std::sync::Arc;
use stopover::migration::{
    hold::{HeldKind, HoldPool, HoldQueue, Meta},
    record::MigrationRecord,
};
use stopover::pipeline::{
    Egress, Learn,
    migration_egress::MigrationEgress,
    packet::{Packet, Pool},
    tunnel_egress::TunnelEgress,
};

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

/// Without tunnels.
impl TunnelEgress<Buffer> for Sink {}

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
    fn may_send_icmp_error(&mut self) -> bool {
        true
    }
}

impl MigrationEgress<Buffer> for Sink {
    fn hold(&mut self, _: &MigrationRecord, _: u32, _: u32, kind: HeldKind, packet: &Buffer) -> bool {
        let Some((pool, queue)) = &mut self.hold else { return false };
        let meta = Meta { kind: kind as u8, unfinished: packet.unfilled, gso: packet.gso, at: 0 };
        queue.push(pool, meta, packet.segments(), packet.len()).is_ok()
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

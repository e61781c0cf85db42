//! What is done with the device of a transmit queue besides sending. Enters: the queue, a time without frames, a device that
//! is reset or is back. Leaves: a call of its driver, another queue in its place.

use super::OwnQueue;
use dpdk::TxQueue;

impl OwnQueue {
    /// Calls the driver without a frame.
    #[cold]
    pub fn keep_alive(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.keep_alive();
        }
    }

    /// Sends through another queue of the device, or none, and puts the one of before in its place.
    pub fn swap_queue(&mut self, queue: &mut Option<TxQueue>) {
        std::mem::swap(&mut self.queue, queue);
    }
}

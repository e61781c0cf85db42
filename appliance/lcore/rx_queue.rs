//! A receive queue of one lcore. Enters: a queue of a port. Leaves: the same, with what the lcore has to know of it.

use super::rx_coalesce::RxCoalesce;
use dpdk::RxQueue;

/// One receive queue and the port it belongs to.
#[derive(Debug)]
pub struct PortRxQueue {
    /// The port.
    pub port: u16,
    /// The queue; this lcore's alone.
    pub queue: RxQueue,
    /// When it is polled again, for a ring of a guest.
    pub coalesce: Option<RxCoalesce>,
}

impl PortRxQueue {
    /// A queue of this port.
    #[must_use]
    pub fn new(port: u16, queue: RxQueue) -> Self {
        let coalesce = queue.is_vhost().then(RxCoalesce::default);
        Self { port, queue, coalesce }
    }
}

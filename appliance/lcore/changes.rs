//! Changes: what an lcore works with changes while it runs. Enters: changes of the control thread, one after another.
//! Leaves: each of them as it came, with what it replaced inside. The control thread frees that: an lcore allocates and
//! frees nothing, and has room for as many ports and queues as there may be. `worker::change` executes them.

use super::{rx_queue::PortRxQueue, tx_port::TxPort};
use crate::pipeline::ports::{MAX_PORTS, Port};
use crossbeam::queue::ArrayQueue;
use dpdk::TxQueue;
use std::sync::Arc;

/// Most receive queues that one lcore polls.
pub const MAX_RX_QUEUES: usize = 4 * MAX_PORTS;

/// Changes between lcores, or back to the control thread.
pub type ChangeRing = Arc<ArrayQueue<Box<Change>>>;

/// A change for one lcore.
#[derive(Debug)]
pub enum Change {
    /// These are the ports from now on. Comes back with those of before.
    Ports(Arc<[Port]>),
    /// The lcore sends to this port through this from now on. What waits for the port is dropped. Comes back with what it
    /// sent through before.
    TxPort(u16, TxPort),
    /// The lcore sends to a port, of which it has a queue, through this one from now on, or, with `None`, through none: its
    /// device is not in service. Other lcores go on handing frames over; what waits for a migrating node waits on, other
    /// frames are dropped while the port is down. Comes back with the queue of before.
    TxQueue(u16, Option<TxQueue>),
    /// The lcore polls these queues, too, each with the most frames it can hold (0: not of the underlay). Comes back empty.
    Poll(Vec<(PortRxQueue, usize)>),
    /// The lcore polls no queue of this port any more. Comes back with its queues; it has room for them.
    StopPolling(u16, Vec<PortRxQueue>),
    /// The lcore gives this receive queue to another, at the end of a round after which nothing waits that the other could
    /// overtake. It polls the queue until then. Comes back without `take` when that is done, and with it if there was no
    /// such round within [`RELEASE_MS`]. With the queue given, end markers wait until [`Change::Arrived`].
    Release {
        /// The port.
        port: u16,
        /// The number of the queue there.
        queue: u16,
        /// The ring of the other lcore for what lcores give it.
        to: ChangeRing,
        /// Guests, too, must have taken what a frame in another of their rings could overtake.
        to_the_end: bool,
        /// An empty [`Change::Take`] for the other lcore.
        take: Option<Box<Change>>,
    },
    /// The lcore polls a queue that another gave away. Comes back when what waited there is on its way.
    Take(Option<(PortRxQueue, usize)>),
    /// A queue that this lcore gave away is polled again.
    Arrived,
    /// The lcore sleeps no longer than so many microseconds, or polls.
    LongestSleep(Option<u32>),
}

/// How long an lcore tries to give a queue away.
pub const RELEASE_MS: u64 = 20;

/// Changes that take several rounds.
#[derive(Debug, Default)]
pub struct SlowChanges {
    /// A queue that is given away when nothing waits; and until when that is tried.
    pub releasing: Option<(Box<Change>, u64)>,
    /// Queues that were taken, until they have been polled.
    pub taking: Vec<Box<Change>>,
}

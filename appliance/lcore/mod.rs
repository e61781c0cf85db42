//! The lcore: one pinned thread that runs the whole path for the bursts of its queues. Enters: bursts from its
//! receive queues, frames of the control thread, frames that other lcores have for its transmit queues. It does not
//! wait: no lock, no allocation, no system call but the sleep when there is nothing to do. `worker` is its loop.

pub mod bonds;
pub mod capture;
pub mod changes;
pub mod counters;
pub mod egress;
pub mod events;
pub mod handover;
pub mod idle;
pub mod packet;
mod repeats;
pub mod rx_coalesce;
pub mod rx_queue;
mod tunnel_egress;
pub mod tunnels;
pub mod tx_port;
pub mod wake;
pub mod worker;

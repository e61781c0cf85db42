//! Stopover's appliance: an L2 overlay gateway for virtual machines, on DPDK. See README.md for what it is
//! and docs/ for how it is used.
//!
//! `tables` say who is where; `pipeline` is the path of a frame; `lcore` runs it on DPDK queues; `migration` knows
//! what a migrating node goes through and holds its frames; `underlay` makes the VTEP a good neighbour; `control`
//! is the thread that keeps all of these in step with the board, the ports and the operator. `tables`, `pipeline`,
//! `migration` and `underlay` know no DPDK. Addresses and headers are in the crate `stopover-net`.

pub mod control;
pub mod lcore;
pub mod migration;
pub mod pipeline;
pub mod tables;
pub mod underlay;

//! Stopover's appliance: an L2 overlay gateway for virtual machines, on DPDK. See README.md for what it is
//! and docs/ for how it is used.
//!
//! `tables` hold where each node is; `pipeline` is the path of a frame; `lcore` runs it on DPDK queues; `migration`
//! has every part of what is done for a migrating node; `underlay` resolves next hops and answers ARP and ND for the
//! VTEP; `control` is the thread that keeps all of these in step with the board, the ports and the operator. `tables`,
//! `pipeline` and `underlay` know no DPDK. Addresses and headers are in the crate `stopover-net`.

pub mod control;
pub mod lcore;
pub mod migration;
pub mod pipeline;
pub mod sealing;
pub mod tables;
pub mod underlay;

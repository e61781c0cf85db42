//! Live migration, as far as it is pure: what one node on one appliance goes through (`machine`), the memory in
//! which its frames wait (`hold`), and what end markers wait for (`barrier`). The stages that deliver, hold and send on are in `pipeline::moving`, what an
//! outlet does when its ring refuses in `lcore::keeper`; `control::moves` ties these to ports and board.

pub mod barrier;
#[cfg(test)]
mod barrier_tests;
pub mod hold;
pub mod machine;

use crate::tables::sync;

//! Live migration, the pure part: the states of one node on one appliance (`machine`), and the memory in which its
//! frames wait (`hold`). The stages that deliver, hold and redirect are in `pipeline::migration`; `lcore::tx_hold`
//! handles what a ring refuses; `control::migration` connects these with ports and board. End markers wait for
//! `stopover_lockfree::barrier`.

pub mod hold;
pub mod machine;

//! Live migration, as far as it is pure: what one node on one appliance goes through (`machine`), and the memory in
//! which its frames wait (`hold`). The stages that deliver, hold and send on are in `pipeline::migration`, what an outlet
//! does when its ring refuses in `lcore::keeper`; `control::migration` ties these to ports and board. End markers wait for
//! `stopover_lockfree::barrier`.

pub mod hold;
pub mod machine;

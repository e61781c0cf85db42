//! Live migration: everything that an appliance does for a node that leaves it or arrives, from what its frames meet
//! to the requests to the board. docs/migration.md tells what happens, docs/migration-states.md has the states.
//!
//! On the path of a frame: `record` is what the tables have of a migrating node, with its counters and the end markers
//! that are waited for; `stage` is the stage that delivers, holds or redirects its frames; `source_ports` are those
//! that a sender uses for it. Where frames wait, on each lcore: `hold` is the memory for them; `tx_hold` is the hold of
//! a TX port, for what its device refuses; `reorder` has frames whose predecessors are under way by the old host, and
//! copies of a windowed port; `markers` has end markers; `replay` sends on what waits no longer. On the control thread:
//! `machine` is the state machine of one node, pure; `driver` connects the machines with ports, tables and the board.
//!
//! These are of different levels, and each uses what is below it: `tables` use `record`, `stage` uses `pipeline`,
//! `lcore` uses the holds, `replay` uses `lcore`, and `driver` is one of the subsystems of `control`.
//! checks/tests/arrows.rs has what each may use. As any stage, `stage` adds methods to `Pipeline`, which the stages
//! before it call and which call those after it.
//!
//! Three things are elsewhere. The writer's side of the records is that of any table (`tables`, its `migrating.rs`).
//! What the stages need of an lcore is beside the rest of it, in `pipeline::migration_egress`. The order of backlog,
//! device and hold is that of a transmit queue (`lcore::tx_port`, and `lcore::handover` for those of other lcores).

pub mod driver;
pub mod hold;
pub mod machine;
pub mod markers;
pub mod record;
pub mod reorder;
pub mod replay;
pub mod source_ports;
mod stage;
pub mod tx_hold;

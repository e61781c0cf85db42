//! Live migration: everything that an appliance does for a node that leaves it or arrives, from what its frames meet
//! to the requests to the board. docs/migration.md tells what happens, docs/migration-states.md has the states.
//!
//! On the path of a frame: `record` is what the tables have of a migrating node, with its counters and the end markers
//! that are waited for; `stage` is the stage that delivers, holds or redirects its frames; `source_ports` are those
//! that a sender uses for it. Where frames wait, on each lcore: `hold` is the memory for them; `tx_hold` is the hold of
//! a TX port, for what its device refuses; `reorder` has frames whose predecessors are under way by the old host, and
//! copies of a windowed port; `markers` has end markers. On the control thread: `machine` is the state machine of one
//! node, pure; `driver` connects the machines with ports, tables and the board.
//!
//! These are of different levels: `tables` use `record`, `pipeline` is below `stage`, `lcore` uses what waits on it,
//! `driver` is one of the subsystems of `control`. checks/tests/arrows.rs has what each may use. Three things are
//! elsewhere: the writer's side of the records, as of any table (`tables`, its `migrating.rs`); the order of backlog,
//! device and hold in a transmit queue (`lcore::tx_port`, `lcore::handover`); and what an lcore does in each round
//! (`lcore`, its `migration.rs`).

pub mod driver;
pub mod hold;
pub mod machine;
pub mod markers;
pub mod record;
pub mod reorder;
pub mod source_ports;
mod stage;
pub mod tx_hold;

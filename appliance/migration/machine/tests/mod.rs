//! Tests of the state machine: its table, and its behaviour in a world with events in any order.

mod board;
mod plane;
mod runs;
mod table;
mod world;

//! Tests of the state machine: its table, and its behaviour in a world where anything may happen.

mod board;
mod plane;
mod runs;
mod table;
mod world;

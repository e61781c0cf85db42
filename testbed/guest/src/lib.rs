//! The part of the guests' tools that other tools of the testbed use.

pub mod pace;
pub mod sequence;

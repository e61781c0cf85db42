//! What other tools of the testbed use of the guests' tools: the sequences on a stream.

pub mod sequences;

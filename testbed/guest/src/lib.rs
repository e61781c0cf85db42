//! What other tools of the testbed use of the guests' tools: the books on a stream.

pub mod books;

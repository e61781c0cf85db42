//! Faults for the board, and what finds their consequences. For tests alone: no program of the product uses this crate.
//!
//! | Module | Contents |
//! |---|---|
//! | [`disk`] | storage beneath the embedded store that forgets what was not made durable |
//! | [`host`] | a host, as a board sees it |
//! | [`history`] | what the clients of a board did and saw |
//! | [`table`] | a board's tables, as a watcher has them, with a fingerprint of each network |
//! | [`truth`] | the tables that a board must have had in each revision, from what was written |
//! | [`check`] | the comparison of the two |

pub mod check;
pub mod disk;
pub mod history;
pub mod host;
pub mod table;
pub mod truth;

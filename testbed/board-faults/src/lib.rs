//! Faults for the board, and what finds their consequences. For tests alone: no program of the product uses this crate.
//!
//! | Module | Contents |
//! |---|---|
//! | [`disk`] | storage beneath the embedded store that forgets what was not made durable |

pub mod disk;

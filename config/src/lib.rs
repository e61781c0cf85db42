//! Configuration for both programs.
//!
//! Text comes in (RON files, CSV bulk files, command-line words) and validated types go out: whoever
//! holds one of these types need not check it again. Nothing here knows DPDK, sockets or the board.
//!
//! | Room | What it holds |
//! |---|---|
//! | [`appliance`] | the appliance's RON file |
//! | [`bbs`] | the board's RON file |
//! | [`bulk`] | CSV tables of nodes, hosts, networks and members |
//! | [`Endpoint`] | where a board listens or is reached |
//! | [`ConfigError`] | the one message everything above fails with |

pub mod appliance;
pub mod bbs;
pub mod bulk;
mod endpoint;
mod error;
mod fault;
mod locate;
mod read;
mod text;

pub use endpoint::Endpoint;
pub use error::{ConfigError, Position};

//! Configuration for both programs.
//!
//! Text enters (RON files, CSV bulk files, command-line words) and validated types leave: the users of
//! these types need no checks. Nothing here depends on DPDK, sockets or the board.
//!
//! | Module | Contents |
//! |---|---|
//! | [`appliance`] | the appliance's RON file |
//! | [`bbs`] | the board's RON file |
//! | [`bulk`] | CSV tables of nodes, hosts, networks and members |
//! | [`Endpoint`] | address of a board |
//! | [`ConfigError`] | the error of all of them |

pub mod appliance;
pub mod bbs;
pub mod bulk;
mod endpoint;
mod error;
mod fault;
mod limits;
mod locate;
mod read;
mod text;

pub use endpoint::{Endpoint, is_insecure};
pub use error::{ConfigError, Position};

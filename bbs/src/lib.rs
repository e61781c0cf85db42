//! The bulletin board: truth about hosts, networks and nodes, and how everyone learns of it.
//!
//! | Room | What it holds | May not know |
//! |---|---|---|
//! | [`model`] | the vocabulary: host, network, member, node, change, event | anything else |
//! | [`proto`] | the generated gRPC types, and the only doors between them and the model | sockets, state |
//! | `board` | the pure state machine: a command in, changes and records out | clocks, files, sockets |
//! | `store` | records on stable storage, consistent views of them | what the records mean |
//! | `server` | gRPC, the one writing thread, watches, metrics | how state changes |
//! | [`client`] | an appliance's session and the operator's calls | the server |
//!
//! `board`, `store` and `server` are built with the feature `server` (default); a crate that only talks to a
//! board does without.

#[cfg(feature = "server")]
pub mod board;
pub mod client;
pub mod model;
pub mod proto;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod store;

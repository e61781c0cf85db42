//! The bulletin board: the records of hosts, networks and nodes, and how appliances receive them.
//!
//! | Module | Contents | May not use |
//! |---|---|---|
//! | [`model`] | the types: host, network, member, node, change, event | anything else |
//! | [`proto`] | the generated gRPC types, and their conversion to and from the model | sockets, state |
//! | `access` | who may do what | the rest |
//! | `board` | the pure state machine: a command in, changes and records out | clocks, files, sockets |
//! | `table` | records as tables, keys and bytes | what the records mean |
//! | `store` | tables on stable storage, consistent views of them | what the records mean |
//! | `records` | records by kind, from a view of a store | |
//! | `server` | gRPC, the one writing thread, watches, metrics | rules of state changes |
//! | [`client`] | an appliance's session and the operator's calls | the server |
//!
//! `access`, `board`, `store`, `records` and `server` are built with the feature `server` (default); a crate that only talks to a
//! board does without.

#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "server")]
pub mod board;
pub mod client;
pub mod model;
pub mod proto;
#[cfg(feature = "server")]
pub mod records;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod table;

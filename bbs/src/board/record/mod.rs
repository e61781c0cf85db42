//! The records of the durable part of the board's state: one file a kind, with its table, key and codec
//! ([`crate::table::Record`]). What is stored is apart from the wire's messages, so that either can change alone.
//!
//! | Kind | Key | Table |
//! |---|---|---|
//! | [`HostRecord`] | id | `hosts` |
//! | [`Network`], a declaration | VNI | `networks` |
//! | [`MemberRecord`] | network, host | `members` |
//! | [`NodeRecord`] | network, MAC | `nodes` |
//! | [`KeyRecord`] | place in the memory of keys | `keys` |
//! | [`Event`] | number | `events` |
//! | [`Migration`] | id | `migrations` |
//! | [`Lock`] | network, MAC | `locks` |
//! | [`Run`](super::Run) | number | `runs` |
//! | [`NextHost`] | | `meta` |

mod event;
mod fields;
mod host;
mod key;
mod lock;
mod member;
mod migration;
mod network;
mod next_host;
mod node;
mod run;
#[cfg(test)]
mod tests;

pub use host::HostRecord;
pub use key::KeyRecord;
pub use member::MemberRecord;
pub use next_host::{NextHost, NextHostKey};
pub use node::NodeRecord;

#[cfg(doc)]
use crate::model::{Event, Lock, Migration, Network};
use crate::{model::Change, table::Table};

/// The tables of the board alone. [`NextHost`] is beside what a store knows of itself.
pub const TABLES: [Table; 9] = [
    Table("hosts"),
    Table("networks"),
    Table("members"),
    Table("nodes"),
    Table("keys"),
    Table("events"),
    Table("migrations"),
    Table("locks"),
    Table("runs"),
];

/// The changes of one revision, as watchers get them; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// One more than the commit before.
    pub revision: u64,
    /// In order.
    pub changes: Vec<Change>,
}

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

mod event;
mod fields;
mod host;
mod key;
mod lock;
mod member;
mod migration;
mod network;
mod node;
mod run;
#[cfg(test)]
mod tests;

pub use host::HostRecord;
pub use key::KeyRecord;
pub use member::MemberRecord;
pub use node::NodeRecord;

use crate::model::{Change, Event, Lock, Migration, Network};
use stopover_net::{Mac, Vni};

/// One record to write; `None` removes it. Later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// By id.
    Host(u32, Option<HostRecord>),
    /// A declaration.
    Network(Vni, Option<Network>),
    /// By network and host.
    Member(Vni, u32, Option<MemberRecord>),
    /// By network and MAC.
    Node(Vni, Mac, Option<NodeRecord>),
    /// By its place in the memory of keys.
    Key(u64, Option<KeyRecord>),
    /// By number.
    Event(u64, Option<Event>),
    /// By id.
    Migration(u64, Option<Box<Migration>>),
    /// By the node's network and MAC.
    Lock(Vni, Mac, Option<Lock>),
}

/// The changes of one revision, as watchers get them; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// One more than the commit before.
    pub revision: u64,
    /// In order.
    pub changes: Vec<Change>,
}

//! The client of a board: [`Session`] for an appliance (it sends what the host has, and receives what other hosts have),
//! and [`Operator`] for the operator's calls. It does not depend on the server.

mod connect;
mod desired;
mod driver;
mod entries;
mod error;
mod follow;
mod migrations;
mod operator;
mod session;
mod shared;

pub use crate::model::{
    Accepted, Change, Claim, DeclaredBy, Event, EventKind, Host, HostDetails, Member, Migration,
    MigrationState, Network, Nic, Node, NodeBatch, NodeFacts, PackedNode, PublicKey, Report, Row, RowError,
    ShortName, StationKind, Target, Unlocked,
};
pub use connect::{Calls, Connection, connect};
pub use entries::{BoardInfo, HostEntry, MemberEntry, NetworkEntry, NodeEntry, NodeFilter, WatcherEntry};
pub use error::{Error, Reason};
pub use migrations::MigrationUpdate;
pub use operator::{BeginMigration, LoadStep, MigrationTicket, Operator};
pub use session::{Session, start};
pub use shared::{SessionConfig, SessionState, Update};

//! The client of a board: [`Session`] for an appliance (it sends what the host has, and receives what other hosts have),
//! and [`Operator`] for the operator's calls. It does not depend on the server.

mod checkpoint;
mod connect;
mod desired;
mod driver;
mod enrol;
mod entries;
mod error;
mod follow;
mod migrations;
mod operator;
mod session;
mod shared;

pub use crate::model::{
    Accepted, BATCH_NODES, Change, Claim, DeclaredBy, Event, EventKind, Host, HostDetails, Member, Migration,
    MigrationState, Network, Nic, Node, NodeBatch, NodeFacts, PackedNode, Point, PublicKey, Report, Row,
    RowError, ShortName, StationKind, Target, Unlocked,
};
#[cfg(any(test, feature = "exercise"))]
pub use checkpoint::exercise_checkpoint;
pub use checkpoint::{
    Checkpoint, CheckpointError, CheckpointHead, CheckpointPiece, CheckpointWriter, parse as parse_checkpoint,
};
pub use connect::{BoardAddress, Calls, Connection, connect};
pub use enrol::{EnrolError, enrol};
pub use entries::{BoardInfo, HostEntry, MemberEntry, NetworkEntry, NodeEntry, NodeFilter, WatcherEntry};
pub use error::{Error, Reason};
pub use migrations::MigrationUpdate;
pub use operator::{BeginMigration, LoadStep, MigrationTicket, Operator};
pub use session::{Session, start};
pub use shared::{SessionConfig, SessionState, Update};

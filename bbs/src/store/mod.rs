//! Records on stable storage. A store writes the records of many commands in one transaction. It provides consistent views,
//! each of one revision, independent of later writes. It does not know the meaning of the records.
//!
//! [`Store`] is the interface for other stores, such as a replicated one. [`Redb`] is the embedded store.

mod format;
mod redb;

pub use redb::Redb;

use crate::{
    board::{
        Lineage,
        record::{HostRecord, KeyRecord, MemberRecord, NodeRecord, Write},
    },
    model::{Event, Lock, Migration, Network, Uuid},
};
use std::fmt;
use stopover_net::{Mac, Vni};

/// An error of a store. After an error of [`Store::commit`] the board cannot continue: it does not know what is on the
/// disk.
#[derive(Debug)]
pub struct StoreError(String);

impl StoreError {
    fn new(doing: &str, why: impl fmt::Display) -> Self {
        Self(format!("{doing}: {why}"))
    }

    /// No thread could be started to serve it.
    #[must_use]
    pub fn thread(why: &std::io::Error) -> Self {
        Self::new("starting its thread", why)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store failed while {}", self.0)
    }
}

impl std::error::Error for StoreError {}

/// The revision of the board and the next id; written with every transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitHeader {
    /// The board's revision.
    pub revision: u64,
    /// Id for the next new host.
    pub next_host: u32,
}

/// A store of records.
pub trait Store: Send + Sync + 'static {
    /// Chosen when the store was created; does not change.
    fn board_id(&self) -> Uuid;

    /// Counts a start of the board and adds a run with a new id; durable before it returns.
    fn begin_run(&self) -> Result<u32, StoreError>;

    /// The runs so far.
    fn lineage(&self) -> Result<Lineage, StoreError>;

    /// Writes everything in one transaction; durable when it returns. `progress` is called from time to time with the
    /// number of records written.
    fn commit(
        &self,
        header: CommitHeader,
        writes: Vec<Write>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError>;

    /// A view of the last committed state.
    fn view(&self) -> Result<Box<dyn View>, StoreError>;
}

/// One consistent state. Ordered by key; with `after` and `limit` the caller reads it in pieces.
pub trait View: Send {
    /// The header of its last commit.
    fn header(&self) -> CommitHeader;
    /// Hosts, by id.
    fn hosts_after(&self, after: Option<u32>, limit: usize) -> Result<Vec<(u32, HostRecord)>, StoreError>;
    /// All hosts.
    fn hosts(&self) -> Result<Vec<(u32, HostRecord)>, StoreError> {
        self.hosts_after(None, usize::MAX)
    }
    /// One host.
    fn host(&self, id: u32) -> Result<Option<HostRecord>, StoreError>;
    /// Declared networks, by VNI.
    fn networks_after(&self, after: Option<Vni>, limit: usize) -> Result<Vec<Network>, StoreError>;
    /// All declared networks.
    fn networks(&self) -> Result<Vec<Network>, StoreError> {
        self.networks_after(None, usize::MAX)
    }
    /// One declared network.
    fn network(&self, vni: Vni) -> Result<Option<Network>, StoreError>;
    /// Memberships of one network, or all, after `after`.
    fn members(
        &self,
        vni: Option<Vni>,
        after: Option<(Vni, u32)>,
        limit: usize,
    ) -> Result<Vec<(Vni, u32, MemberRecord)>, StoreError>;
    /// Nodes of one network, or all, after `after`.
    fn nodes(
        &self,
        vni: Option<Vni>,
        after: Option<(Vni, Mac)>,
        limit: usize,
    ) -> Result<Vec<(Vni, Mac, NodeRecord)>, StoreError>;
    /// One node.
    fn node(&self, vni: Vni, mac: Mac) -> Result<Option<NodeRecord>, StoreError>;
    /// All remembered keys, by place.
    fn keys(&self) -> Result<Vec<(u64, KeyRecord)>, StoreError>;
    /// All migrations, by id.
    fn migrations(&self) -> Result<Vec<Migration>, StoreError>;
    /// One migration.
    fn migration(&self, id: u64) -> Result<Option<Migration>, StoreError>;
    /// Locks of one network, or all, after `after`.
    fn locks(
        &self,
        vni: Option<Vni>,
        after: Option<(Vni, Mac)>,
        limit: usize,
    ) -> Result<Vec<(Vni, Mac, Lock)>, StoreError>;
    /// All events after `number`.
    fn events(&self, after: u64) -> Result<Vec<Event>, StoreError>;
}

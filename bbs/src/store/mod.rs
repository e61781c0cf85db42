//! Records on stable storage. A store takes the writes of many commands in one transaction, and gives consistent
//! views of what it holds, each of one revision, that writers neither wait for nor disturb. It does not know what
//! the records mean.
//!
//! [`Store`] is the seam for others: a replicated store has transactions and reads at a revision too. [`Redb`] is
//! the embedded one.

mod codec;
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

/// Why a store cannot do its work. The board cannot go on after one of these from [`Store::commit`]: it does not
/// know what is on the disk.
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

/// Where the board has got to; written with every transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitHeader {
    /// The board's revision.
    pub revision: u64,
    /// Id for the next new host.
    pub next_host: u32,
}

/// What is asked of a store.
pub trait Store: Send + Sync + 'static {
    /// Made when the store was created; never changes.
    fn board_id(&self) -> Uuid;

    /// Counts the starts of the board, and gives this one an id; durable before it returns.
    fn begin_run(&self) -> Result<u32, StoreError>;

    /// The runs so far.
    fn lineage(&self) -> Result<Lineage, StoreError>;

    /// Writes everything in one transaction; durable when it returns. `progress` hears, now and then, how many
    /// records are written.
    fn commit(
        &self,
        header: CommitHeader,
        writes: Vec<Write>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError>;

    /// All that is committed now.
    fn view(&self) -> Result<Box<dyn View>, StoreError>;
}

/// One consistent state. Ordered by key; `after` and `limit` let the caller take it in pieces.
pub trait View: Send {
    /// Whose state it is.
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

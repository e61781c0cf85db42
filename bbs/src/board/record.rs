//! The records of the durable part of the board's state. A store writes and reads them without knowledge of their
//! meaning.

use super::{Ips, Outcome};
use crate::model::{Change, DeclaredBy, Event, Host, Lock, Migration, Network, Node, NodeFacts, Uuid};
use std::net::IpAddr;
use stopover_net::{HostName, Mac, Vni};

/// A host, without its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// Name, unique.
    pub name: HostName,
    /// 1 to 4.
    pub vteps: Vec<IpAddr>,
    /// VXLAN port, host byte order.
    pub udp_port: u16,
    /// Who declared it.
    pub declared_by: DeclaredBy,
    /// Whether it is up.
    pub up: bool,
    /// Down for longer than the grace: flooded frames are not sent to it.
    pub no_flood: bool,
    /// When it went down, milliseconds since 1970; 0 = it is up, or the time is not known.
    pub down_unix_ms: u64,
}

impl HostRecord {
    /// The same host, up.
    #[must_use]
    pub fn brought_up(&self) -> Self {
        Self { up: true, no_flood: false, down_unix_ms: 0, ..self.clone() }
    }

    /// As watchers see it.
    #[must_use]
    pub fn to_host(&self, id: u32) -> Host {
        Host {
            id,
            name: self.name.clone(),
            vteps: self.vteps.clone(),
            udp_port: self.udp_port,
            declared_by: self.declared_by,
            up: self.up,
            no_flood: self.no_flood,
            down_unix_ms: self.down_unix_ms,
        }
    }
}

/// Why a host is member of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberRecord {
    /// Its appliance joined; with `segment`.
    pub joined: Option<bool>,
    /// The operator declared it; with `segment`.
    pub declared: Option<bool>,
    /// It has nodes there.
    pub has_nodes: bool,
}

impl MemberRecord {
    /// What watchers see: `segment` if it is a member at all.
    #[must_use]
    pub fn visible(&self) -> Option<bool> {
        let segment = self.joined == Some(true) || self.declared == Some(true);
        (self.joined.is_some() || self.declared.is_some() || self.has_nodes).then_some(segment)
    }
}

/// A node, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Where it is.
    pub host: u32,
    /// Revision in which it moved there.
    pub generation: u64,
    /// Who declared it.
    pub declared_by: DeclaredBy,
    /// Its addresses.
    pub ips: Ips,
    /// Its kind, and whether it is a router.
    pub facts: NodeFacts,
}

impl NodeRecord {
    /// As watchers see it.
    #[must_use]
    pub fn to_node(&self, vni: Vni, mac: Mac) -> Node {
        let Self { host: host_id, generation, facts, .. } = *self;
        Node { vni, mac, ips: self.ips.to_vec(), host_id, generation, facts }
    }
}

/// The outcome of a request, remembered by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The request's key.
    pub id: Uuid,
    /// Of the request's contents.
    pub fingerprint: u64,
    /// The answer.
    pub outcome: Outcome,
}

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

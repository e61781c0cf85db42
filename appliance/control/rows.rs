//! The long lists of the control API, made a bounded number of rows at a time: nodes, addresses, hosts, networks.
//! Enters: where in a list to continue. Leaves: some rows, and where to continue after them. A row that exists
//! throughout is listed exactly once, whatever is added or removed between two turns; see `Piece`. `lists` combines
//! turns; nothing here may search a whole table.

use super::{
    replica::{HostRecord, NetworkRecord, Replica},
    stations::{Kind, Stations},
};
use crate::{
    tables::{Tables, packed::FdbEntry, peer::Peer},
    underlay::{State, Underlay},
};
use std::net::IpAddr;
use stopover_bbs::model::Nic;
use stopover_ctl as ctl;
use stopover_lockfree::map64::Piece;
use stopover_net::{HostName, Vni};

/// Most rows of one turn; members of a network count as rows.
pub const MAX_TURN_ROWS: usize = 2_048;

/// A position in a list. The default is its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor(pub u64, pub u64);

/// What to make in one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Only of this network.
    pub vni: Option<Vni>,
    /// Where to continue.
    pub from: Cursor,
    /// Most rows, at most [`MAX_TURN_ROWS`].
    pub at_most: usize,
}

impl Part {
    /// Most rows to make.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.at_most.clamp(1, MAX_TURN_ROWS)
    }
}

/// Rows made in one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<T> {
    /// The rows; few or none if few of the rows that were examined match.
    pub rows: Vec<T>,
    /// Where to continue; `None` at the end of the list.
    pub next: Option<Cursor>,
}

impl<T> Turn<T> {
    /// None.
    pub const EMPTY: Self = Self { rows: Vec::new(), next: None };
}

/// The sources of rows.
pub struct Rows<'a> {
    /// This host's name.
    pub own: &'a HostName,
    /// The origin of nodes of other hosts.
    pub remote_origin: ctl::NodeOrigin,
    /// The name of a port.
    pub port: &'a dyn Fn(u16) -> String,
    /// The packet path's tables.
    pub tables: &'a Tables,
    /// The board's state.
    pub replica: &'a Replica,
    /// The stations of this host.
    pub stations: &'a Stations,
    /// How hosts are reached.
    pub underlay: &'a Underlay,
}

impl Rows<'_> {
    /// Nodes, without their addresses.
    pub fn nodes(&self, part: &Part) -> Turn<ctl::NodeEntry> {
        let only = part.vni.map(|vni| self.replica.bd_of(vni));
        if only == Some(None) {
            return Turn::EMPTY;
        }
        let Piece { rows, next, .. } = self.tables.nodes_from(part.from.1, part.rows(), only.flatten());
        let rows = rows.into_iter().filter_map(|(bd, mac, place)| {
            let (host, port, origin) = match place {
                FdbEntry::Local { port, .. } | FdbEntry::Migrating { port, .. } => {
                    let kind = self.stations.get(bd, mac).map(|s| s.kind);
                    (self.own.to_string(), Some((self.port)(port)), origin(kind))
                }
                FdbEntry::Remote { slot, .. } => {
                    let host = self.tables.peer_of(slot).and_then(|peer| self.replica.host(peer.get()));
                    let name = host.map_or_else(String::new, |h| h.host.name.to_string());
                    (name, None, self.remote_origin)
                }
            };
            Some(ctl::NodeEntry { vni: self.replica.vni_of(bd)?, mac, host, port, origin })
        });
        Turn { rows: rows.collect(), next: next.map(|next| Cursor(0, next)) }
    }

    /// Addresses with the nodes that have them: first all of IPv4, then all of IPv6.
    pub fn addresses(&self, part: &Part) -> Turn<ctl::AddressEntry> {
        let only = part.vni.map(|vni| self.replica.bd_of(vni));
        if only == Some(None) {
            return Turn::EMPTY;
        }
        let (Cursor(family, from), at_most, only) = (part.from, part.rows(), only.flatten());
        let (Piece { rows, next, .. }, after) = match family {
            0 => (self.tables.owners4_from(from, at_most, only), Some(Cursor(1, 0))),
            _ => (self.tables.owners6_from(from, at_most, only), None),
        };
        let rows = rows
            .into_iter()
            .filter_map(|(bd, ip, mac)| Some(ctl::AddressEntry { vni: self.replica.vni_of(bd)?, ip, mac }));
        Turn { rows: rows.collect(), next: next.map(|next| Cursor(family, next)).or(after) }
    }

    /// Hosts in the order of their numbers.
    pub fn hosts(&self, part: &Part) -> Turn<ctl::HostRow> {
        let mut hosts = self.replica.hosts_from(u32::try_from(part.from.1).unwrap_or(u32::MAX));
        let rows = hosts.by_ref().take(part.rows()).map(|(id, record)| self.host(id, record)).collect();
        Turn { rows, next: hosts.next().map(|(id, _)| Cursor(0, id.into())) }
    }

    fn host(&self, id: u32, record: &HostRecord) -> ctl::HostRow {
        let own = record.host.name == *self.own;
        let nodes = if own { self.tables.counts().local() } else { self.tables.nodes_at(Peer::new(id)) };
        let details = &record.host.details;
        ctl::HostRow {
            name: record.host.name.to_string(),
            id,
            vteps: record.host.vteps.clone(),
            udp_port: record.host.udp_port,
            up: record.host.up,
            own,
            path: (!own).then(|| self.path(record.vtep)),
            nodes: nodes.into(),
            nics: details.nics.iter().map(nic_row).collect(),
            capabilities: details.capabilities.iter().map(ToString::to_string).collect(),
            public_key: details.public_key.map(|key| key.to_string()),
        }
    }

    fn path(&self, vtep: Option<IpAddr>) -> ctl::HostPath {
        let path = vtep.and_then(|vtep| self.underlay.path_to(vtep));
        let (hop, source, neighbour) = path.map_or((None, None, None), |w| (w.hop, w.source, w.neighbour));
        ctl::HostPath {
            vtep,
            port: hop.map(|hop| (self.port)(hop.port as u16)),
            source,
            next_hop: hop.map(|hop| hop.next_hop_ip),
            next_hop_mac: neighbour.and_then(|(_, mac)| mac),
            state: match (hop, neighbour) {
                (None, _) => ctl::NextHopState::NoRoute,
                (Some(_), None) => ctl::NextHopState::Resolving,
                (Some(_), Some((state, _))) => next_hop_state(state),
            },
        }
    }

    /// Networks in the order of their VNIs. One with many members is split into several consecutive rows, each with
    /// some of them.
    pub fn networks(&self, part: &Part) -> Turn<ctl::NetworkRow> {
        let Cursor(vni, member) = part.from;
        let first = part.vni.map_or(vni, |only| vni.max(only.get().into()));
        let mut left = part.rows();
        let mut rows = Vec::new();
        for (vni, record) in self.replica.networks_from(u32::try_from(first).unwrap_or(u32::MAX)) {
            if part.vni.is_some_and(|only| only != vni) {
                break;
            }
            if left == 0 {
                return Turn { rows, next: Some(Cursor(vni.get().into(), 0)) };
            }
            let from = if u64::from(vni.get()) == part.from.0 { member } else { 0 };
            let mut members = record.members.range(u32::try_from(from).unwrap_or(u32::MAX)..);
            let some: Vec<_> = members.by_ref().take(left).collect();
            left = left.saturating_sub(some.len().max(1));
            rows.push(self.network(vni, record, &some));
            if let Some((id, _)) = members.next() {
                return Turn { rows, next: Some(Cursor(vni.get().into(), (*id).into())) };
            }
        }
        Turn { rows, next: None }
    }

    fn network(&self, vni: Vni, record: &NetworkRecord, members: &[(&u32, &bool)]) -> ctl::NetworkRow {
        let count = self.tables.counts().network(record.bd);
        let fits = self.replica.min_inner_mtu(vni, members.iter().map(|(id, _)| **id));
        let members = members.iter().filter_map(|(id, segment)| {
            let host = self.replica.host(**id)?.host.name.to_string();
            Some(ctl::MemberHost { host, segment: **segment })
        });
        ctl::NetworkRow {
            vni,
            name: (!record.name.is_empty()).then(|| record.name.clone()),
            flood: record.flood,
            mtu: record.mtu,
            fits,
            ports: record.ports.iter().map(|m| (self.port)(m.port)).collect(),
            members: members.collect(),
            nodes: count.nodes.into(),
            ips: count.addresses.into(),
        }
    }
}

fn origin(kind: Option<Kind>) -> ctl::NodeOrigin {
    match kind {
        Some(Kind::Vif) => ctl::NodeOrigin::Vif,
        Some(Kind::Static) => ctl::NodeOrigin::Station,
        Some(Kind::Learned) | None => ctl::NodeOrigin::Learned,
    }
}

fn nic_row(nic: &Nic) -> ctl::HostNic {
    ctl::HostNic { name: nic.name.to_string(), address: nic.address, mtu: nic.mtu }
}

fn next_hop_state(state: State) -> ctl::NextHopState {
    match state {
        State::Incomplete => ctl::NextHopState::Resolving,
        State::Reachable => ctl::NextHopState::Reachable,
        State::Stale | State::Probe => ctl::NextHopState::Stale,
        State::Failed => ctl::NextHopState::Failed,
        State::Static => ctl::NextHopState::Static,
    }
}

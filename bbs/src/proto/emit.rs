//! Model to wire. It cannot fail.

use super::v1;
use crate::model::{
    Accepted, Change, Claim, DeclaredBy, Event, EventKind, Host, HostDetails, Network, Node, Point, Row,
    StationKind, Target, Unlocked,
};
use std::net::IpAddr;
use stopover_net::{FloodPolicy, Mac, Vni};

/// 4 or 16 bytes, as on the wire.
#[must_use]
pub fn ip(ip: &IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// As [`ip`].
#[must_use]
pub fn ips(list: &[IpAddr]) -> Vec<Vec<u8>> {
    list.iter().map(ip).collect()
}

/// 6 bytes, as on the wire.
#[must_use]
pub fn mac(mac: Mac) -> Vec<u8> {
    mac.octets().to_vec()
}

/// A node's key.
#[must_use]
pub fn node_key(vni: Vni, m: Mac) -> v1::NodeKey {
    v1::NodeKey { vni: vni.get(), mac: mac(m) }
}

impl From<DeclaredBy> for v1::DeclaredBy {
    fn from(by: DeclaredBy) -> Self {
        match by {
            DeclaredBy::Appliance => Self::Appliance,
            DeclaredBy::Operator => Self::Operator,
        }
    }
}

/// A flood policy's number.
#[must_use]
pub fn flood(policy: FloodPolicy) -> i32 {
    match policy {
        FloodPolicy::Flood => v1::FloodPolicy::Flood,
        FloodPolicy::Drop => v1::FloodPolicy::Drop,
        FloodPolicy::ToSegments => v1::FloodPolicy::ToSegments,
    }
    .into()
}

impl From<&Host> for v1::Host {
    fn from(h: &Host) -> Self {
        Self {
            id: h.id,
            name: h.name.as_str().to_owned(),
            vteps: ips(&h.vteps),
            udp_port: h.udp_port.into(),
            declared_by: v1::DeclaredBy::from(h.declared_by).into(),
            up: h.up,
            no_flood: h.no_flood,
            down_unix_ms: h.down_unix_ms,
            details: (h.details != HostDetails::default()).then(|| (&h.details).into()),
        }
    }
}

impl From<&Network> for v1::Network {
    fn from(n: &Network) -> Self {
        Self { vni: n.vni.get(), name: n.name.clone(), flood: flood(n.flood), mtu: n.mtu.into() }
    }
}

impl From<&Node> for v1::Node {
    fn from(n: &Node) -> Self {
        Self {
            vni: n.vni.get(),
            mac: mac(n.mac),
            ips: ips(&n.ips),
            host_id: n.host_id,
            generation: n.generation,
            kind: kind(n.facts.kind),
            router: router(n.facts.router),
        }
    }
}

fn kind(kind: StationKind) -> i32 {
    match kind {
        StationKind::Declared => v1::StationKind::Declared.into(),
        StationKind::Learned => v1::StationKind::Learned.into(),
    }
}

fn router(router: Option<bool>) -> i32 {
    match router {
        None => v1::RouterFlag::Unspecified.into(),
        Some(true) => v1::RouterFlag::Router.into(),
        Some(false) => v1::RouterFlag::Host.into(),
    }
}

impl From<&Change> for v1::Change {
    fn from(change: &Change) -> Self {
        use v1::change::Change as C;
        Self {
            change: Some(match change {
                Change::HostPut(h) => C::HostPut(h.into()),
                Change::HostGone { id } => C::HostGone(*id),
                Change::NetworkPut(n) => C::NetworkPut(n.into()),
                Change::NetworkGone { vni } => C::NetworkGone(vni.get()),
                Change::MemberPut { vni, host_id, segment } => {
                    C::MemberPut(v1::Member { vni: vni.get(), host_id: *host_id, segment: *segment })
                }
                Change::MemberGone { vni, host_id } => {
                    C::MemberGone(v1::Member { vni: vni.get(), host_id: *host_id, segment: false })
                }
                Change::NodePut { node, gone_ips } => {
                    C::NodePut(v1::NodePut { node: Some(node.into()), gone_ips: ips(gone_ips) })
                }
                Change::NodeGone { vni, mac: m, ips: removed } => {
                    C::NodeGone(v1::NodeGone { vni: vni.get(), mac: mac(*m), ips: ips(removed) })
                }
                Change::NodeLocked { vni, mac: m, migration, generation, source, target } => {
                    C::NodeLocked(v1::NodeLocked {
                        vni: vni.get(),
                        mac: mac(*m),
                        migration: *migration,
                        generation: *generation,
                        source: *source,
                        target: target.unwrap_or(0),
                    })
                }
                Change::NodeUnlocked { vni, mac: m, migration, generation, outcome } => {
                    C::NodeUnlocked(v1::NodeUnlocked {
                        vni: vni.get(),
                        mac: mac(*m),
                        migration: *migration,
                        generation: *generation,
                        completed: *outcome == Unlocked::Completed,
                    })
                }
            }),
        }
    }
}

impl From<&Claim> for v1::NodeClaim {
    fn from(c: &Claim) -> Self {
        Self {
            vni: c.vni.get(),
            mac: mac(c.mac),
            ips: ips(&c.ips),
            kind: kind(c.facts.kind),
            router: router(c.facts.router),
            heard: c.received,
            announced: ips(&c.announced),
            shared: ips(&c.shared),
            used: ips(&c.used),
        }
    }
}

impl From<&Accepted> for v1::AcceptedAddresses {
    fn from(a: &Accepted) -> Self {
        Self { ips: ips(&a.ips), refused: a.refused.clone() }
    }
}

/// A row and the number by which errors name it (0 = its place).
#[must_use]
pub fn row(row: &Row, number: u64) -> v1::Row {
    use v1::row::Row as R;
    let row = match row {
        Row::Host(h) => R::Host(v1::HostRow {
            name: h.name.as_str().to_owned(),
            vteps: ips(&h.vteps),
            udp_port: h.udp_port.into(),
        }),
        Row::Network(n) => R::Network(v1::Network {
            vni: n.vni.get(),
            name: n.name.clone().unwrap_or_default(),
            flood: flood(n.flood),
            mtu: n.mtu.into(),
        }),
        Row::Node(n) => R::Node(v1::NodeRow {
            vni: n.vni.get(),
            mac: mac(n.mac),
            ips: ips(&n.ips),
            host: n.host.as_str().to_owned(),
            shared_ips: ips(&n.shared_ips),
        }),
        Row::Member(m) => R::Member(v1::MemberRow {
            vni: m.vni.get(),
            host: m.host.as_str().to_owned(),
            segment: m.segment,
        }),
    };
    v1::Row { row: Some(row), number }
}

/// A deletion.
#[must_use]
pub fn target(target: &Target) -> (v1::delete_request::Target, bool) {
    use v1::delete_request::Target as T;
    match target {
        Target::Host { name, cascade } => (T::Host(name.as_str().to_owned()), *cascade),
        Target::Network { vni } => (T::Network(vni.get()), false),
        Target::Node { vni, mac } => (T::Node(node_key(*vni, *mac)), false),
        Target::Member { vni, host } => (
            T::Member(v1::MemberRow { vni: vni.get(), host: host.as_str().to_owned(), segment: false }),
            false,
        ),
    }
}

impl From<EventKind> for v1::EventKind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::HostUp => Self::HostUp,
            EventKind::HostDown => Self::HostDown,
            EventKind::HostReplaced => Self::HostReplaced,
            EventKind::Conflict => Self::Conflict,
            EventKind::TakenOver => Self::TakenOver,
            EventKind::Operator => Self::Operator,
            EventKind::Other => Self::Unspecified,
            EventKind::Migration => Self::Migration,
            EventKind::Lineage => Self::Lineage,
        }
    }
}

impl From<Point> for v1::Point {
    fn from(point: Point) -> Self {
        Self {
            board_id: point.board.into(),
            revision: point.revision,
            run_id: point.run.map_or_else(Vec::new, |run| run.into()),
        }
    }
}

impl From<&Event> for v1::Event {
    fn from(e: &Event) -> Self {
        Self {
            number: e.number,
            unix_ms: e.unix_ms,
            kind: v1::EventKind::from(e.kind).into(),
            text: e.text.clone(),
            revision: e.revision,
            actor: e.actor.clone(),
        }
    }
}

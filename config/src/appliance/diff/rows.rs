//! Rows of `declared`: which are gone, new or changed. Enters: the sources of two configurations. Leaves: changes, those
//! of what is gone apart, because they come before those of ports.

use super::{Change, text};
use crate::{
    appliance::{Declared, Truth},
    bulk::{HostRow, MemberRow, NetworkRow, NodeRow},
};
use std::{collections::HashMap, fmt, hash::Hash, sync::Arc};

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclaredRow {
    /// A host.
    Host(HostRow),
    /// A network.
    Network(NetworkRow),
    /// A node.
    Node(NodeRow),
    /// A member.
    Member(MemberRow),
}

impl DeclaredRow {
    /// What it says of its key.
    pub(super) fn values(&self) -> String {
        match self {
            Self::Host(HostRow { name: _, vteps, udp_port }) => {
                format!("VTEP {} at UDP port {udp_port}", text::list(vteps))
            }
            Self::Network(NetworkRow { vni: _, name, flood, mtu }) => format!(
                "{}, flood {flood}, {}",
                name.as_ref().map_or("without a name".to_owned(), |name| format!("named {name}")),
                if *mtu == 0 { "no MTU".to_owned() } else { format!("MTU {mtu}") }
            ),
            Self::Node(NodeRow { vni: _, mac: _, host, ips, shared_ips }) => {
                let shared = if shared_ips.is_empty() {
                    String::new()
                } else {
                    format!(", shared {}", text::list(shared_ips))
                };
                format!("at host {host}, addresses {}{shared}", text::list(ips))
            }
            Self::Member(MemberRow { vni: _, host: _, segment }) => {
                if *segment { "with a segment" } else { "without a segment" }.to_owned()
            }
        }
    }
}

impl fmt::Display for DeclaredRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(row) => write!(f, "host {}", row.name)?,
            Self::Network(row) => write!(f, "network {}", row.vni)?,
            Self::Node(row) => write!(f, "node {} of network {}", row.mac, row.vni)?,
            Self::Member(row) => write!(f, "member {} of network {}", row.host, row.vni)?,
        }
        write!(f, " ({})", self.values())
    }
}

/// What is gone, and what is new or changed. A configuration with a board has no rows.
pub(super) fn changes(was: &Truth, is: &Truth) -> (Vec<Change>, Vec<Change>) {
    let Truth::Declared(is) = is else { return Default::default() };
    let none = Arc::default();
    let was = match was {
        Truth::Declared(was) => was,
        Truth::Board(_) => &none,
    };
    if Arc::ptr_eq(was, is) {
        return Default::default();
    }
    let Declared { hosts, networks, nodes, members } = &**was;
    let (mut removed, mut put) = (Vec::new(), Vec::new());
    // Who names a host is gone before the host, and comes after it.
    compare(members, &is.members, |row| (row.vni, &row.host), DeclaredRow::Member, &mut removed, &mut put);
    compare(nodes, &is.nodes, |row| (row.vni, row.mac), DeclaredRow::Node, &mut removed, &mut put);
    compare(networks, &is.networks, |row| row.vni, DeclaredRow::Network, &mut removed, &mut put);
    compare(hosts, &is.hosts, |row| &row.name, DeclaredRow::Host, &mut removed, &mut put);
    put.reverse();
    (removed, put)
}

fn compare<'a, R: Clone + PartialEq, K: Eq + Hash>(
    was: &'a [R],
    is: &'a [R],
    key: impl Fn(&'a R) -> K,
    row: impl Fn(R) -> DeclaredRow,
    removed: &mut Vec<Change>,
    put: &mut Vec<Change>,
) {
    if was == is {
        return;
    }
    let mut before: HashMap<K, &R> = was.iter().map(|row| (key(row), row)).collect();
    let mut new = Vec::new();
    for now in is {
        let then = before.remove(&key(now));
        if then != Some(now) {
            new.push(Change::RowPut { was: then.cloned().map(&row), is: row(now.clone()) });
        }
    }
    removed.extend(
        was.iter()
            .filter(|then| before.contains_key(&key(then)))
            .map(|then| Change::RowRemoved(row(then.clone()))),
    );
    // Reversed by the caller, with the kinds of rows.
    put.extend(new.into_iter().rev());
}

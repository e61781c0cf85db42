//! What is wrong with the content of a store. Pure. Enters: a view. Leaves: a line for each record that cannot be read, that
//! names something which is not there, or that contradicts another one.

use crate::{
    board::{
        Run,
        record::{HostRecord, KeyRecord, MemberRecord, NextHost, NextHostKey, NodeRecord},
    },
    model::{Event, Lock, Migration, MigrationState, Network},
    records::Records,
    store::{StoreError, View},
    table::Unreadable,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use stopover_net::{Mac, Vni};

/// What a store has, and what is wrong with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Number of hosts.
    pub hosts: u64,
    /// Number of nodes.
    pub nodes: u64,
    /// The board's revision.
    pub revision: u64,
    /// One line each.
    pub findings: Vec<String>,
}

/// Reads everything.
pub fn inspect(view: &dyn View) -> Result<Inspection, StoreError> {
    let mut unreadable = Vec::new();
    let mut found = Inspection { revision: view.header().revision, ..Inspection::default() };
    let hosts = inspect_hosts(view, &mut found, &mut unreadable)?;
    view.each_readable::<Network>(&mut unreadable, |_, _| ())?;
    let mut members = HashSet::new();
    view.each_readable::<MemberRecord>(&mut unreadable, |(vni, host), _| {
        members.insert((vni, host));
        if !hosts.contains(&host) {
            found.findings.push(format!("member `VNI {vni}, host {host}`: there is no such host"));
        }
    })?;
    let nodes = inspect_nodes(view, (&hosts, &members), &mut found, &mut unreadable)?;
    inspect_locks(view, &nodes, &mut found, &mut unreadable)?;
    view.each_readable::<KeyRecord>(&mut unreadable, |_, _| ())?;
    view.each_readable::<Event>(&mut unreadable, |_, _| ())?;
    view.each_readable::<Run>(&mut unreadable, |term, run| {
        if run.first > found.revision {
            found
                .findings
                .push(format!("run {term} began at revision {}, which the store does not have", run.first));
        }
    })?;
    found.findings.splice(0..0, unreadable.iter().map(Unreadable::to_string));
    Ok(found)
}

fn inspect_hosts(
    view: &dyn View,
    found: &mut Inspection,
    unreadable: &mut Vec<Unreadable>,
) -> Result<BTreeSet<u32>, StoreError> {
    let (mut hosts, mut names, mut vteps) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    view.each_readable::<HostRecord>(unreadable, |id, record| {
        hosts.insert(id);
        if let Some(other) = names.insert(record.name.clone(), id) {
            found.findings.push(format!("hosts {other} and {id} are both called {}", record.name));
        }
        for vtep in record.vteps {
            if let Some(other) = vteps.insert((vtep, record.udp_port), id) {
                found.findings.push(format!("hosts {other} and {id} both have VTEP {vtep}"));
            }
        }
    })?;
    found.hosts = hosts.len() as u64;
    let next = view.record::<NextHost>(NextHostKey);
    match (next, hosts.last()) {
        (Ok(next), Some(last)) if next.as_ref().is_none_or(|NextHost(next)| next <= last) => {
            found.findings.push(format!("host {last} has an id that the board will give again"));
        }
        (Err(e), _) => found.findings.push(e.to_string()),
        _ => {}
    }
    Ok(hosts)
}

type Nodes = HashMap<(Vni, Mac), u32>;

fn inspect_nodes(
    view: &dyn View,
    (hosts, members): (&BTreeSet<u32>, &HashSet<(Vni, u32)>),
    found: &mut Inspection,
    unreadable: &mut Vec<Unreadable>,
) -> Result<Nodes, StoreError> {
    let (mut nodes, mut holders) = (Nodes::new(), HashMap::new());
    let revision = found.revision;
    view.each_readable::<NodeRecord>(unreadable, |(vni, mac), record| {
        let node = format!("node `VNI {vni}, {mac}`");
        let host = record.host;
        nodes.insert((vni, mac), host);
        if !hosts.contains(&host) {
            found.findings.push(format!("{node}: there is no host {host}, on which it is"));
        } else if !members.contains(&(vni, host)) {
            found.findings.push(format!("{node}: its host {host} is no member of the network"));
        }
        if record.generation > revision {
            found.findings.push(format!(
                "{node}: it is of revision {}, which the store does not have",
                record.generation
            ));
        }
        for ip in record.ips.iter() {
            if let Some(other) = holders.insert((vni, ip), mac) {
                found.findings.push(format!("{node}: its address {ip} is also that of {other}"));
            }
        }
    })?;
    found.nodes = nodes.len() as u64;
    Ok(nodes)
}

fn inspect_locks(
    view: &dyn View,
    nodes: &Nodes,
    found: &mut Inspection,
    unreadable: &mut Vec<Unreadable>,
) -> Result<(), StoreError> {
    let mut expected = BTreeMap::new();
    view.each_readable::<Migration>(unreadable, |id, migration| {
        if migration.state == MigrationState::Locked {
            expected.extend(migration.nodes.iter().map(|node| ((node.vni, node.mac), id)));
        }
    })?;
    view.each_readable::<Lock>(unreadable, |key, lock| {
        let of = format!("lock `VNI {}, {}`", key.0, key.1);
        if expected.remove(&key) != Some(lock.migration) {
            found.findings.push(format!("{of}: migration {} does not hold it", lock.migration));
        }
        if nodes.get(&key) != Some(&lock.source) {
            found.findings.push(format!("{of}: the node is not on host {}", lock.source));
        }
    })?;
    for ((vni, mac), id) in expected {
        found.findings.push(format!("migration {id} is active and has no lock of `VNI {vni}, {mac}`"));
    }
    Ok(())
}

//! Makes a configuration from another one and the changes between the two. Enters: a configuration, changes. Leaves: the
//! new configuration, in which what is new comes last.

use super::{Change, DeclaredRow, PortSetup, QueuesByName};
use crate::appliance::{Appliance, Declared, QueueRef, Truth};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use stopover_net::{HostName, Mac, Vni};

pub(super) fn apply(was: &Appliance, changes: &[Change]) -> Appliance {
    let mut to = was.clone();
    let mut queues = was.queues_by_name();
    let mut rows = Rows::default();
    for change in changes {
        match change {
            Change::Setting { is, .. } => is.set(&mut to),
            Change::SpareVdevs { was, is } => {
                was.iter().for_each(|vdev| remove_vdev(&mut to, vdev));
                to.vdevs.extend(is.iter().cloned());
            }
            Change::PortRemoved(setup) => remove_port(&mut to, setup),
            Change::PortChanged { was, is, .. } => replace_port(&mut to, was, is),
            Change::PortAdded(setup) => {
                to.ports.push(setup.port.clone());
                to.vdevs.extend(setup.vdev.clone());
            }
            Change::Queues { is, .. } => queues.clone_from(is),
            Change::RowRemoved(row) => rows.gone.add(row),
            Change::RowPut { is, .. } => {
                rows.gone.add(is);
                rows.new.push(is);
            }
        }
    }
    if let Truth::Declared(declared) = &mut to.truth {
        rows.apply(declared);
    }
    to.lcores = queues.map(|queues| by_index(&to, &queues));
    to
}

/// Changes of declared rows. They are made together: there may be as many as rows.
#[derive(Default)]
struct Rows<'a> {
    gone: Keys<'a>,
    new: Vec<&'a DeclaredRow>,
}

/// Keys of rows that are gone or have other values.
#[derive(Default)]
struct Keys<'a> {
    hosts: HashSet<&'a HostName>,
    networks: HashSet<Vni>,
    nodes: HashSet<(Vni, Mac)>,
    members: HashSet<(Vni, &'a HostName)>,
}

impl<'a> Keys<'a> {
    fn add(&mut self, row: &'a DeclaredRow) {
        match row {
            DeclaredRow::Host(row) => self.hosts.insert(&row.name),
            DeclaredRow::Network(row) => self.networks.insert(row.vni),
            DeclaredRow::Node(row) => self.nodes.insert((row.vni, row.mac)),
            DeclaredRow::Member(row) => self.members.insert((row.vni, &row.host)),
        };
    }
}

impl Rows<'_> {
    fn apply(self, to: &mut Arc<Declared>) {
        let Keys { hosts, networks, nodes, members } = self.gone;
        if hosts.is_empty() && networks.is_empty() && nodes.is_empty() && members.is_empty() {
            return;
        }
        let to = Arc::make_mut(to);
        to.hosts.retain(|row| !hosts.contains(&row.name));
        to.networks.retain(|row| !networks.contains(&row.vni));
        to.nodes.retain(|row| !nodes.contains(&(row.vni, row.mac)));
        to.members.retain(|row| !members.contains(&(row.vni, &row.host)));
        for row in self.new {
            match row.clone() {
                DeclaredRow::Host(row) => to.hosts.push(row),
                DeclaredRow::Network(row) => to.networks.push(row),
                DeclaredRow::Node(row) => to.nodes.push(row),
                DeclaredRow::Member(row) => to.members.push(row),
            }
        }
    }
}

fn remove_vdev(to: &mut Appliance, vdev: &str) {
    if let Some(at) = to.vdevs.iter().position(|other| other == vdev) {
        to.vdevs.remove(at);
    }
}

fn remove_port(to: &mut Appliance, setup: &PortSetup) {
    to.ports.retain(|port| port.name != setup.port.name);
    if let Some(vdev) = &setup.vdev {
        remove_vdev(to, vdev);
    }
}

fn replace_port(to: &mut Appliance, was: &PortSetup, is: &PortSetup) {
    if let Some(port) = to.ports.iter_mut().find(|port| port.name == is.port.name) {
        *port = is.port.clone();
    }
    if was.vdev != is.vdev {
        if let Some(vdev) = &was.vdev {
            remove_vdev(to, vdev);
        }
        to.vdevs.extend(is.vdev.clone());
    }
}

/// Queues of ports that are gone are left out.
fn by_index(to: &Appliance, queues: &QueuesByName) -> BTreeMap<u32, Vec<QueueRef>> {
    let index = |name: &str| to.ports.iter().position(|port| port.name == name);
    let of = |queues: &[(String, u16)]| {
        queues
            .iter()
            .filter_map(|(name, queue)| Some(QueueRef { port: index(name)?, queue: *queue }))
            .collect()
    };
    queues.iter().map(|(lcore, queues)| (*lcore, of(queues))).collect()
}

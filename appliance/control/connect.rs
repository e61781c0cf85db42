//! Connects a port that runs with the lcores: what each of them sends through, and the handle that the control thread
//! keeps. Enters: a port and its queues, its role. Leaves: these parts, not yet with the lcores; `start` gives them to
//! lcores that it starts, `port_changes` to lcores that run.

use super::{
    Control,
    ports::{PortHandle, queues},
};
use crate::lcore::tx_port::TxPort;
use crate::migration::{
    hold::{HoldPool, HoldQueue},
    tx_hold::{PortMigration, TxHold},
};
use crate::pipeline::ports::Role;
use dpdk::{Port, Queues, RxQueue};
use std::sync::{Arc, atomic::AtomicBool};

/// As many frames as the receive ring of any usual device holds.
const MOST_DESCRIPTORS: usize = 4096;

/// A port with its queues.
pub struct Started {
    /// The port.
    pub port: Port,
    /// Its queues.
    pub queues: Queues,
}

/// What a port consists of.
pub struct Connected {
    /// The handle for the control thread. No lcore polls the port yet.
    pub handle: PortHandle,
    /// By lcore, what it sends through.
    pub tx_ports: Vec<TxPort>,
    /// The receive queues.
    pub rx: Vec<RxQueue>,
}

impl Control {
    /// Connects a port with this many lcores.
    pub(crate) fn connect(
        &self,
        number: u16,
        name: &str,
        role: &Role,
        started: Started,
        lcores: usize,
    ) -> Connected {
        let up = Arc::new(AtomicBool::new(false));
        let migration = self.migrations.port(number);
        let network = match role {
            Role::Vif(vif) => Some(vif.network),
            Role::Segment(_) | Role::Underlay(_) | Role::Absent => None,
        };
        let sender = queues::first_sender(number, lcores);
        let tx_hold = || self.tx_hold(migration.clone());
        let tx = (started.queues.tx, started.port.info().is_bond());
        let tx_ports = queues::distribute(tx, (sender, lcores), &up, network, tx_hold);
        let handle = PortHandle {
            name: name.to_owned(),
            vhost: started.port.vhost(),
            device: started.port,
            up,
            sender,
            rx_lcores: Vec::new(),
            removed: false,
            in_service: true,
            cleared: Default::default(),
        };
        Connected { handle, tx_ports, rx: started.queues.rx }
    }

    /// One lcore's share of a vif's hold.
    fn tx_hold(&self, migration: Option<Arc<PortMigration>>) -> Option<Box<TxHold>> {
        let node_bytes = self.config.migration.hold_node_bytes;
        let queue = HoldQueue::new(HoldPool::blocks_for(node_bytes));
        Some(Box::new(TxHold::new(migration?, Arc::clone(&self.hold), queue, node_bytes as u64)))
    }

    /// The most frames that a queue of the underlay can hold; 0 for other ports, where no frames arrive that an end
    /// marker must wait for. Some drivers have rings of their own size, which they do not report.
    pub(crate) fn max_queued_frames(&self, role: Option<&Role>) -> usize {
        if matches!(role, Some(Role::Underlay(_))) {
            MOST_DESCRIPTORS.max(self.config.rxd as usize)
        } else {
            0
        }
    }
}

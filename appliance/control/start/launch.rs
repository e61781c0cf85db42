//! Lcores: assigns queues to them and starts each with its rings, counters and view of the tables. Enters: running ports
//! with their queues, the control thread's shared parts. Leaves: handles on ports and lcores.

use super::devices::Started;
use crate::control::{
    Control,
    ports::{LcoreHandle, PortHandle},
};
use crate::lcore::{
    counters::LcoreCounters,
    egress::{LcoreEgress, Rings},
    handover::{Handoff, Handover},
    idle::Idle,
    tx_port::{OwnQueue, TxPort},
    worker::{PortRxQueue, Worker},
};
use crate::migration::{
    hold::{HoldPool, HoldQueue},
    markers::Markers,
    reorder::ReorderBuffer,
    tx_hold::{PortMigration, TxHold},
};
use crate::pipeline::ports::{Network, Role};
use crate::tables::ParkedView;
use anyhow::Result;
use crossbeam::queue::ArrayQueue;
use dpdk::{Eal, LcoreId, RxQueue, TxQueue, cycles};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
};
use stopover_config::appliance::{self as config, QueueRef};
use stopover_lockfree::barrier::{Barrier, Member};

/// Places in each ring between lcores, and between an lcore and the control thread.
const RING: usize = 1024;
/// As many frames as the receive ring of any usual device holds.
const MOST_DESCRIPTORS: usize = 4096;

/// Assigns the queues to the lcores and starts these.
pub(super) fn launch(
    eal: &Eal,
    control: &Control,
    started: Vec<Started>,
    assigned: &BTreeMap<u32, Vec<QueueRef>>,
    views: Vec<ParkedView>,
) -> Result<(Vec<PortHandle>, Vec<LcoreHandle>)> {
    let mut tx_ports: Vec<Vec<TxPort>> = assigned.iter().map(|_| Vec::new()).collect();
    let mut rx = Vec::new();
    let mut ports = Vec::new();
    for (number, started) in started.into_iter().enumerate() {
        let (port, rx_queues) = add_port(control, number, started, assigned, &mut tx_ports);
        ports.push(port);
        rx.push(rx_queues);
    }
    let mut lcores = Vec::new();
    let barrier = Barrier::new(assigned.len());
    for (number, (((lcore, queues), view), tx_ports)) in assigned.iter().zip(views).zip(tx_ports).enumerate()
    {
        let rx_queues: Vec<PortRxQueue> = queues
            .iter()
            .filter_map(|q| {
                let queue = rx.get_mut(q.port)?.get_mut(usize::from(q.queue))?.take()?;
                Some(PortRxQueue { port: q.port as u16, queue })
            })
            .collect();
        let depths = rx_queues.iter().map(|rx_queue| max_queued_frames(control, rx_queue.port)).collect();
        let markers = Markers::new(Member::new(Arc::clone(&barrier), number, depths, tx_ports.len()));
        let names = queues.iter().map(|q| format!("{}:{}", control.config.ports[q.port].name, q.queue));
        let mut handle = launch_lcore(eal, control, *lcore, view, rx_queues, tx_ports, markers)?;
        handle.queues = names.collect();
        lcores.push(handle);
    }
    Ok((ports, lcores))
}

/// Distributes a port's transmit queues over the lcores. Returns its handle and its receive queues.
fn add_port(
    control: &Control,
    number: usize,
    started: Started,
    assigned: &BTreeMap<u32, Vec<QueueRef>>,
    tx_ports: &mut [Vec<TxPort>],
) -> (PortHandle, Vec<Option<RxQueue>>) {
    let port = &control.config.ports[number];
    let up = Arc::new(AtomicBool::new(false));
    let migrations = control.migrations.port(number as u16);
    let network = match control.ports.role(number as u16) {
        Some(Role::Vif(vif)) => Some(vif.network),
        _ => None,
    };
    distribute_tx_queues(started.queues.tx, &up, tx_ports, network, || tx_hold(control, migrations.clone()));
    let handle = PortHandle {
        name: port.name.clone(),
        vhost: started.port.vhost(),
        device: started.port,
        up,
        sender: 0,
        rx_lcores: rx_lcores(assigned, number, port.rxq),
        cleared: Default::default(),
    };
    (handle, started.queues.rx.into_iter().map(Some).collect())
}

/// Starts one lcore. The names of its queues are left empty.
fn launch_lcore(
    eal: &Eal,
    control: &Control,
    lcore: u32,
    view: ParkedView,
    rx_queues: Vec<PortRxQueue>,
    tx_ports: Vec<TxPort>,
    markers: Markers,
) -> Result<LcoreHandle> {
    let Control { config, ports, api, .. } = control;
    let counters = Arc::new(LcoreCounters::new(config.ports.len()));
    let rings = Rings::new(RING, ports.wake());
    let (stop, asleep) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let vifs = vifs_with_hold(&tx_ports);
    let reorder = reorder_buffer(control);
    let egress = LcoreEgress::new(
        tx_ports,
        rings.clone(),
        ports.pool().clone(),
        Arc::clone(&counters),
        reorder,
        markers,
    );
    let (ports, capture) = (Arc::clone(ports.stage()), api.capture());
    let parts = (Arc::clone(&counters), Arc::clone(&stop), Arc::clone(&asleep));
    let (cap_us, poll_us) = match config.idle {
        config::Idle::Poll => (None, 0),
        config::Idle::Adaptive { cap_us, poll_us } => (Some(cap_us), poll_us),
    };
    let burst = usize::from(config.burst);
    let name = format!("stopover-{lcore}");
    let job = eal.launch(LcoreId::new(lcore), move || {
        dpdk::lcore::set_thread_name(&name);
        dpdk::lcore::tighten_timer_slack();
        let (counters, stop, asleep) = parts;
        let idle = Idle::new(cap_us, cycles::tsc_hz() / 1_000_000 * u64::from(poll_us));
        let view = view.online();
        let scratch = Box::default();
        let worker = Worker {
            rx_queues,
            ports,
            view,
            counters,
            egress,
            vifs,
            capture,
            idle,
            stop,
            asleep,
            burst,
            scratch,
        };
        worker.run();
    })?;
    Ok(LcoreHandle { lcore, queues: Vec::new(), counters, rings, asleep, stop, job: Some(job) })
}

/// One TX port's share of a vif's hold.
fn tx_hold(control: &Control, migrations: Option<Arc<PortMigration>>) -> Option<Box<TxHold>> {
    let node_bytes = control.config.migration.hold_node_bytes;
    let queue = HoldQueue::new(HoldPool::blocks_for(node_bytes));
    Some(Box::new(TxHold::new(migrations?, Arc::clone(&control.hold), queue, node_bytes as u64)))
}

/// The most frames that a queue of the underlay can hold; 0 for other ports, where no frames arrive that an end
/// marker must wait for. Some drivers have rings of their own size, which they do not report.
fn max_queued_frames(control: &Control, port: u16) -> usize {
    if matches!(control.ports.role(port), Some(Role::Underlay(_))) {
        MOST_DESCRIPTORS.max(control.config.rxd as usize)
    } else {
        0
    }
}

/// One lcore's share of the hold.
fn reorder_buffer(control: &Control) -> ReorderBuffer {
    let config = &control.config.migration;
    let cycles = |ms: u64| cycles::tsc_hz() / 1000 * ms;
    let (wait, longest) = (cycles(config.marker_wait_ms), cycles(config.hold_ms));
    ReorderBuffer::new(Arc::clone(&control.hold), config.hold_node_bytes as u64, wait, longest)
}

/// The ports with a hold whose transmit queue is this lcore's.
fn vifs_with_hold(tx_ports: &[TxPort]) -> Vec<u16> {
    let has_hold = |tx_port: &TxPort| matches!(tx_port, TxPort::Own(queue) if queue.tx_hold.is_some());
    (0..).zip(tx_ports).filter(|(_, tx_port)| has_hold(tx_port)).map(|(port, _)| port).collect()
}

/// Gives transmit queue i to lcore i. A port with fewer queues than lcores shares them: lcores without a queue hand
/// their frames to one that has it.
fn distribute_tx_queues(
    tx: Vec<TxQueue>,
    up: &Arc<AtomicBool>,
    tx_ports: &mut [Vec<TxPort>],
    network: Option<Network>,
    tx_hold: impl Fn() -> Option<Box<TxHold>>,
) {
    let owners = tx.len();
    let shared = owners < tx_ports.len();
    let handoffs: Vec<Option<Handoff>> =
        (0..owners).map(|_| shared.then(|| Arc::new(ArrayQueue::new(RING)))).collect();
    let mut tx = tx.into_iter();
    for (number, of_lcore) in tx_ports.iter_mut().enumerate() {
        let tx_port = match tx.next() {
            Some(queue) => {
                let handoff = handoffs.get(number).cloned().flatten();
                TxPort::Own(Box::new(OwnQueue::new(
                    queue,
                    Arc::clone(up),
                    handoff,
                    tx_hold(),
                    cycles::tsc_hz(),
                )))
            }
            None => match number.checked_rem(owners).and_then(|owner| handoffs.get(owner).cloned().flatten())
            {
                Some(ring) => TxPort::Other(Handover::new(ring, tx_hold().zip(network))),
                None => TxPort::Closed,
            },
        };
        of_lcore.push(tx_port);
    }
}

fn rx_lcores(assigned: &BTreeMap<u32, Vec<QueueRef>>, port: usize, rxq: u16) -> Vec<u32> {
    (0..rxq)
        .filter_map(|queue| {
            let of = |queues: &Vec<QueueRef>| queues.iter().any(|q| q.port == port && q.queue == queue);
            assigned.iter().find(|(_, queues)| of(queues)).map(|(lcore, _)| *lcore)
        })
        .collect()
}

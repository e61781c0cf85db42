//! Lcores: assigns queues to them and starts each with its rings, counters and view of the tables. Enters: running ports
//! with their queues, the control thread's shared parts. Leaves: handles on ports and lcores.

use crate::control::{
    Control,
    connect::Started,
    ports::{LcoreHandle, queues::RING},
    sleeps,
    spread::QueueAt,
};
use crate::lcore::{
    bonds::Bonds,
    changes::SlowChanges,
    counters::LcoreCounters,
    egress::{LcoreEgress, Rings},
    idle::Idle,
    rx_coalesce::defer_cycles,
    rx_queue::PortRxQueue,
    tunnels::{self, LcoreTunnels},
    tx_port::TxPort,
    worker::Worker,
};
use crate::migration::{markers::Markers, reorder::ReorderBuffer};
use crate::pipeline::ports::{MAX_PORTS, Role};
use crate::tables::ParkedView;
use anyhow::Result;
use dpdk::{LcoreId, cycles};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
};
use stopover_config::appliance::QueueRef;
use stopover_lockfree::barrier::{Barrier, Member};

/// Assigns the queues to the lcores and starts these. `looks`: the links are read before, so that the lcores drop nothing
/// that waits for them already.
pub(super) fn launch(
    control: &mut Control,
    started: Vec<Started>,
    assigned: &BTreeMap<u32, Vec<QueueRef>>,
    views: Vec<ParkedView>,
    looks: bool,
) -> Result<()> {
    let mut tx_ports: Vec<Vec<TxPort>> = assigned.iter().map(|_| Vec::new()).collect();
    let mut rx = Vec::new();
    let mut ports = Vec::new();
    for (started, (number, port)) in started.into_iter().zip(control.ports.wanted()) {
        let role = control.ports.role(number).unwrap_or(&Role::Absent);
        let mut connected = control.connect(number, &port.name, role, started, assigned.len());
        for (tx_ports, tx_port) in tx_ports.iter_mut().zip(connected.tx_ports) {
            tx_ports.push(tx_port);
        }
        connected.handle.rx_lcores = rx_lcores(assigned, usize::from(number), port.rxq);
        ports.push(connected.handle);
        rx.push(connected.rx.into_iter().map(Some).collect::<Vec<_>>());
    }
    let running = ports.iter().zip(control.ports.wanted().map(|(_, port)| port));
    let (longest, why) = sleeps::longest(control.config.idle, running);
    if let Some(why) = why {
        log::info!("{why}");
    }
    let sleeps = (longest, sleeps::poll_us(control.config.idle));
    control.ports.connected(ports);
    if looks {
        control.look_at_ports();
    }
    let mut lcores = Vec::new();
    let barrier = Barrier::new(assigned.len());
    let handed = tunnels::handed_rings(assigned.len());
    for (number, (((lcore, queues), view), tx_ports)) in assigned.iter().zip(views).zip(tx_ports).enumerate()
    {
        let rx_queues: Vec<PortRxQueue> = queues
            .iter()
            .filter_map(|q| {
                let queue = rx.get_mut(q.port)?.get_mut(usize::from(q.queue))?.take()?;
                Some(PortRxQueue::new(q.port as u16, queue))
            })
            .collect();
        let depths = rx_queues
            .iter()
            .map(|rx_queue| control.max_queued_frames(control.ports.role(rx_queue.port)))
            .collect();
        let markers = Markers::new(Member::new(Arc::clone(&barrier), number, depths, tx_ports.len()));
        let tunnels = control.tunnels.as_ref().map(|of_control| {
            let (room, hz) = (of_control.room(), cycles::tsc_hz());
            let engine = of_control.engines().make();
            Box::new(LcoreTunnels::new(engine, number as u32, Arc::clone(&handed), room, hz))
        });
        let mut handle =
            launch_lcore(control, *lcore, view, rx_queues, (tx_ports, markers, tunnels), sleeps)?;
        handle.queues = queues.iter().map(|q| QueueAt { port: q.port as u16, queue: q.queue }).collect();
        lcores.push(handle);
    }
    control.ports.run(lcores);
    Ok(())
}

/// Starts one lcore. The names of its queues are left empty.
fn launch_lcore(
    control: &Control,
    lcore: u32,
    view: ParkedView,
    mut rx_queues: Vec<PortRxQueue>,
    (tx_ports, markers, tunnels): (Vec<TxPort>, Markers, Option<Box<LcoreTunnels>>),
    sleeps: (Option<u32>, u32),
) -> Result<LcoreHandle> {
    let Control { config, ports, api, eal, .. } = control;
    let counters = Arc::new(LcoreCounters::new(MAX_PORTS));
    let rings = Rings::new(RING, ports.wake());
    let (stop, asleep) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let vifs = (0..).zip(&tx_ports).filter(|(_, tx_port)| tx_port.own_hold().is_some());
    let vifs = vifs.map(|(port, _)| port).collect();
    let bonds = (0..).zip(&tx_ports).filter(|(_, tx_port)| tx_port.is_own_bond());
    let bonds = Bonds::new(bonds.map(|(port, _)| port).collect(), cycles::tsc_hz());
    let reorder = reorder_buffer(control);
    let socket = LcoreId::new(lcore).socket();
    let pool = ports.pools().of(Some(socket));
    rx_queues.iter_mut().for_each(|rx| rx.queue.receive_into(pool));
    let mut egress =
        LcoreEgress::new(tx_ports, rings.clone(), pool.clone(), Arc::clone(&counters), reorder, markers);
    egress.tunnels = tunnels;
    let (ports, capture) = (Arc::clone(ports.stage()), api.capture());
    let parts = (Arc::clone(&counters), Arc::clone(&stop), Arc::clone(&asleep));
    let (cap_us, poll_us) = sleeps;
    let burst = usize::from(config.burst);
    let name = format!("stopover-{lcore}");
    let job = eal.launch(LcoreId::new(lcore), move || {
        dpdk::lcore::set_thread_name(&name);
        dpdk::lcore::tighten_timer_slack();
        let (counters, stop, asleep) = parts;
        let poll_cycles = cycles::tsc_hz() / 1_000_000 * u64::from(poll_us);
        let idle = Idle::new(cap_us, poll_cycles);
        let view = view.online();
        let scratch = Box::default();
        let worker = Worker {
            rx_queues,
            ports,
            view,
            counters,
            egress,
            vifs,
            bonds,
            capture,
            slow_changes: SlowChanges::default(),
            idle,
            defer_cycles: defer_cycles(cycles::tsc_hz(), poll_cycles),
            stop,
            asleep,
            burst,
            scratch,
        };
        worker.run();
    })?;
    Ok(LcoreHandle {
        lcore,
        socket,
        queues: Vec::new(),
        counters,
        rings,
        asleep,
        longest_sleep_us: cap_us,
        stop,
        job: Some(job),
    })
}

/// One lcore's share of the hold.
fn reorder_buffer(control: &Control) -> ReorderBuffer {
    let config = &control.config.migration;
    let cycles = |ms: u64| cycles::tsc_hz() / 1000 * ms;
    let (wait, longest) = (cycles(config.marker_wait_ms), cycles(config.hold_ms));
    ReorderBuffer::new(Arc::clone(&control.hold), config.hold_node_bytes as u64, wait, longest)
}

fn rx_lcores(assigned: &BTreeMap<u32, Vec<QueueRef>>, port: usize, rxq: u16) -> Vec<u32> {
    (0..rxq)
        .filter_map(|queue| {
            let of = |queues: &Vec<QueueRef>| queues.iter().any(|q| q.port == port && q.queue == queue);
            assigned.iter().find(|(_, queues)| of(queues)).map(|(lcore, _)| *lcore)
        })
        .collect()
}

//! Start: from a checked configuration to running lcores, or to one error with nothing left behind. Order:
//! no other appliance runs with this file, then EAL, pool and devices, tables, control socket; then the board is told,
//! and when its first snapshot stands in the tables, ports and lcores start: no frame meets an empty table. For that
//! snapshot the start waits as long as it takes, and answers the operator meanwhile.

use super::{
    Control, Received,
    loops::Loops,
    migration::Migrations,
    mtu,
    plan::{self, Facts, Plan},
    ports::{LcoreHandle, PortHandle},
    replica::Replica,
    server::{self, PendingRequest},
    stations::Stations,
    vhost_sockets,
};
use crate::lcore::{
    PortRxQueue, Worker,
    capture::Capture,
    counters::LcoreCounters,
    egress::{LcoreEgress, Rings},
    handover::Handover,
    idle::Idle,
    markers::Markers,
    reorder::ReorderBuffer,
    tx_hold::{PortMigration, TxHold},
    tx_port::{Handoff, OwnQueue, TxPort},
};
use crate::migration::hold::{HoldPool, HoldQueue};
use crate::pipeline::ports::{Network, Port as StagePort, Role};
use crate::tables::{ParkedView, Tables};
use crate::underlay::Underlay;
use anyhow::{Context, Result, bail};
use crossbeam::{channel, queue::ArrayQueue};
use dpdk::{Device, Eal, LcoreId, Mempool, Offloads, Port, PortConfig, Queues, RxQueue, TxQueue, cycles};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};
use stopover_bbs::client::{self, Session, SessionConfig, Update};
use stopover_config::appliance::{self as config, Appliance, QueueRef, Truth};
use stopover_lockfree::barrier::{Barrier, Member};
use stopover_net::{Mac, Vni};
use uuid::Uuid;

/// How long after a restart nodes of an earlier run stay registered without being seen again: long enough for
/// VMs to reconnect to their sockets and for stations to speak.
const SETTLE: Duration = Duration::from_secs(60);
/// Updates of the board that may wait for the control thread: a piece of a snapshot takes 128 KiB.
const UPDATES: usize = 32;
/// Places in each ring between lcores, and between an lcore and the control thread.
const RING: usize = 1024;
/// As many frames as the receive ring of any usual device holds.
const MOST_DESCRIPTORS: usize = 4096;

/// A device that is configured but not started.
struct Ready {
    port: Port,
    facts: Facts,
}

/// Builds everything and starts the lcores; if told to stop before there is a table, without them. `rt` must have been made before, because EAL pins this thread and
/// all it starts later to one core.
pub fn start(
    config: Appliance,
    rt: &tokio::runtime::Handle,
    stop: Arc<AtomicBool>,
) -> Result<(Control, Eal)> {
    server::prepare_socket_path(&config.ctl)?;
    vhost_sockets::prepare_sockets(&config)?;
    let mut eal_args = config.eal.clone();
    eal_args.extend(config.vdevs.iter().map(|vdev| format!("--vdev={vdev}")));
    let eal = Eal::init(&eal_args)?;
    let pool = Mempool::create(&eal, "stopover", config.mbufs, config.mbcache, config.mbuf_size, None)?;
    let workers: Vec<u32> = eal.worker_lcores().into_iter().map(LcoreId::get).collect();
    let assigned = config.queues_by_lcore(&workers);
    check_lcores(&assigned, &workers, &eal)?;
    let ready = config
        .ports
        .iter()
        .map(|port| configure(&eal, &config, port, assigned.len(), &pool))
        .collect::<Result<Vec<_>>>()?;

    check_pool(&config, &ready, assigned.len())?;
    let facts: Vec<Facts> = ready.iter().map(|r| r.facts).collect();
    let (mut tables, mut views) = Tables::new(assigned.len() + 1)?;
    let plan = Plan::new(&config, &facts, &mut tables)?;
    let trace_view = views.pop();
    let networks = plan.networks.iter().map(|(vni, (bd, ports))| (*vni, *bd, ports.clone()));
    let replica = Replica::new(config.name.clone(), networks);
    let vnis = plan.networks.iter().map(|(vni, (bd, _))| (*bd, *vni)).collect();
    let segments = plan.segment_vnis();
    let stations = Stations::new(plan.declared, vnis, plan.ageing_ms).limited(plan.limits);
    // Another number in every process.
    let (instance, _) = Uuid::new_v4().as_u64_pair();
    let (loops, blocked) = Loops::new(config.name.clone(), instance, plan.segments);
    let stage_ports: Arc<[StagePort]> = plan.ports.into();
    let hold = HoldPool::new(config.migration.hold_bytes);
    let migrations = Migrations::new(&config, &facts, &stage_ports);
    let capture = Arc::new(Capture::default());

    let (ask_tx, requests) = channel::bounded::<PendingRequest>(64);
    let socket = server::serve(rt, &config, ask_tx)?;
    let mut control = Control {
        began: Instant::now(),
        dpdk: eal.version(),
        underlay: Underlay::new(plan.underlays),
        cleared: assigned.iter().map(|_| Default::default()).collect(),
        config,
        tables,
        replica,
        stations,
        loops,
        stage_ports,
        ports: Vec::new(),
        lcores: Vec::new(),
        pool,
        session: None,
        updates: channel::never(),
        requests,
        _socket: socket,
        capture,
        trace_view,
        waiting_trace: None,
        hold,
        migrations,
        wakes: channel::never(),
        migration_events: channel::never(),
        pending_epochs: VecDeque::new(),
        syncing: None,
        epoch_polls: 0,
        stream: 0,
        applied: Received::default(),
        acked: Received::default(),
        has_snapshot: false,
        stale_until_ms: None,
        other_branches: 0,
        stop,
        link_due_ms: 0,
        age_due_ms: 0,
    };
    control.act_on_loops(0, blocked);
    // What is declared stands in the tables before the first frame is received.
    control.declare();
    control.publish();
    if let Some((session, updates)) = open_session(&control.config, rt, segments) {
        control.migration_events = session.migrations();
        (control.session, control.updates) = (Some(session), updates);
        if !control.await_snapshot() {
            // Told to stop: there is nothing to forward by, and so nothing to start.
            return Ok((control, eal));
        }
    }
    let running = start_ports(&control.config, ready)
        .and_then(|started| launch(&eal, &control, started, &assigned, views));
    let (wake, wakes) = channel::bounded(1);
    control.wakes = wakes;
    match running {
        Ok(running) => {
            (control.ports, control.lcores) = running;
            control.subscribe_port_events(&wake);
        }
        Err(e) => {
            if let Some(session) = control.session.take() {
                session.stop();
            }
            return Err(e);
        }
    }
    Ok((control, eal))
}

/// Registers at the board. From here on the session does what it can by itself.
fn open_session(
    config: &Appliance,
    rt: &tokio::runtime::Handle,
    segments: BTreeSet<Vni>,
) -> Option<(Session, channel::Receiver<Update>)> {
    let Truth::Board(endpoints) = &config.truth else { return None };
    let mut session_config =
        SessionConfig::new(endpoints.clone(), config.name.clone(), config.vteps(), config.udp_port());
    session_config.interest = plan::interest(config);
    session_config.settle = SETTLE;
    session_config.queue = UPDATES;
    let (session, updates) = client::start(rt, session_config);
    for vni in segments {
        session.join(vni, true);
    }
    Some((session, updates))
}

fn check_lcores(assigned: &BTreeMap<u32, Vec<QueueRef>>, workers: &[u32], eal: &Eal) -> Result<()> {
    if workers.is_empty() {
        bail!(
            "EAL has no worker lcore beside the main lcore {}; expected at least two lcores; hint: name two in `eal`, for example `\"-l\", \"0-1\"`, or `\"--lcores\", \"0@0,1@0\"` on a single core",
            eal.main_lcore()
        );
    }
    for lcore in assigned.keys() {
        if !workers.contains(lcore) {
            bail!(
                "lcore {lcore} is not a worker lcore of EAL; expected one of {workers:?}; hint: correct `lcores` or the EAL arguments"
            );
        }
    }
    Ok(())
}

/// Every descriptor and every lcore's cache can hold a buffer; one more burst each must be left to work with.
fn check_pool(config: &Appliance, ready: &[Ready], lcores: usize) -> Result<()> {
    let descriptors: u32 = ready
        .iter()
        .map(|r| r.port.granted())
        .map(|g| u32::from(g.rxq) * u32::from(g.rxd) + u32::from(g.txq) * u32::from(g.txd))
        .sum();
    let needed = descriptors + lcores as u32 * (config.mbcache + u32::from(config.burst));
    if config.mbufs < needed {
        bail!(
            "mbufs: found {}; expected at least {needed}: {descriptors} for the queues' descriptors, the rest for {lcores} lcores' caches and bursts; hint: raise `mbufs`, or lower `rxd`, `txd` or the number of queues",
            config.mbufs
        );
    }
    Ok(())
}

/// Finds and configures the device of a port.
fn configure(
    eal: &Eal,
    config: &Appliance,
    port: &config::Port,
    lcores: usize,
    pool: &Mempool,
) -> Result<Ready> {
    let context = || format!("port {}", port.name);
    let device = Device::find(eal, port.device.as_str()).with_context(context)?;
    let info = device.info().with_context(context)?;
    if info.max_rxq < port.rxq {
        bail!(
            "port {}: {} receive queues wanted, {} has at most {}; hint: lower `rxq`, or give the vdev more queues",
            port.name,
            port.rxq,
            port.device.as_str(),
            info.max_rxq
        );
    }
    let is_underlay = matches!(port.role, config::Role::Underlay(_));
    let is_vhost = info.driver == "net_vhost";
    let wants = PortConfig {
        rxq: port.rxq,
        txq: match port.txq {
            // A tap has one file per pair of queues.
            0 if info.driver == "net_tap" => port.rxq,
            0 => (lcores as u16).min(info.max_txq).max(1),
            txq => txq,
        },
        rxd: config.rxd as u16,
        txd: config.txd as u16,
        mtu: port.mtu,
        promiscuous: port.promiscuous,
        all_multicast: true,
        offloads: Offloads {
            rx_l4_csum: !is_underlay,
            tx_l4_csum: is_vhost,
            tso: is_vhost,
            multi_segs: true,
            scatter: true,
            rss: true,
            ..Offloads::default()
        },
    };
    let ready = device.configure(&wants, pool).with_context(context)?;
    let granted = ready.granted();
    if port.mtu.is_some_and(|mtu| mtu != granted.mtu) {
        log::warn!(
            "port {}: MTU {} instead of {:?}: the device takes no other",
            port.name,
            granted.mtu,
            port.mtu
        );
    }
    let mac = Mac::new(ready.mac().with_context(context)?);
    let mtu = port.mtu.map_or(granted.mtu, |mtu| mtu.min(granted.mtu));
    if let Some(why) = mtu::too_small(&port.name, mtu, &mtu::inside(&port.role, mtu)) {
        log::warn!("{why}");
    }
    let facts = Facts {
        mac,
        mtu,
        fills_checksums: granted.offloads.tx_l4_csum,
        segments_tcp: granted.offloads.tso,
        exact: is_vhost,
    };
    Ok(Ready { port: ready, facts })
}

/// A port that runs, with its queues not yet given out.
struct Started {
    port: Port,
    queues: Queues,
}

fn start_ports(config: &Appliance, ready: Vec<Ready>) -> Result<Vec<Started>> {
    let mut started = Vec::new();
    for (port, ready) in config.ports.iter().zip(ready) {
        let queues = ready.port.start().with_context(|| format!("port {}", port.name))?;
        started.push(Started { port: ready.port, queues });
    }
    Ok(started)
}

/// Gives every lcore its queues and starts it.
fn launch(
    eal: &Eal,
    control: &Control,
    started: Vec<Started>,
    assigned: &BTreeMap<u32, Vec<QueueRef>>,
    views: Vec<ParkedView>,
) -> Result<(Vec<PortHandle>, Vec<LcoreHandle>)> {
    let Control { config, stage_ports, pool, capture, .. } = control;
    let mut rx: Vec<Vec<Option<RxQueue>>> = Vec::new();
    let mut tx_ports: Vec<Vec<TxPort>> = assigned.iter().map(|_| Vec::new()).collect();
    let mut ports = Vec::new();
    for (number, (port, started)) in config.ports.iter().zip(started).enumerate() {
        let up = Arc::new(AtomicBool::new(false));
        let migrations = control.migrations.port(number as u16);
        let network = match stage_ports.get(number).map(|port| &port.role) {
            Some(Role::Vif(vif)) => Some(vif.network),
            _ => None,
        };
        distribute_tx_queues(started.queues.tx, &up, &mut tx_ports, network, || {
            tx_hold(control, migrations.clone())
        });
        rx.push(started.queues.rx.into_iter().map(Some).collect());
        ports.push(PortHandle {
            name: port.name.clone(),
            vhost: started.port.vhost(),
            device: started.port,
            is_underlay: matches!(port.role, config::Role::Underlay(_)),
            up,
            sender: 0,
            rx_lcores: rx_lcores(assigned, number, port.rxq),
            cleared: Default::default(),
        });
    }
    let mut lcores = Vec::new();
    let barrier = Barrier::new(assigned.len());
    for (number, (((lcore, queues), view), tx_ports)) in assigned.iter().zip(views).zip(tx_ports).enumerate()
    {
        let counters = Arc::new(LcoreCounters::new(ports.len()));
        let rings = Rings::new(RING);
        let (stop, asleep) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let rx_queues: Vec<PortRxQueue> = queues
            .iter()
            .filter_map(|q| {
                let queue = rx.get_mut(q.port)?.get_mut(usize::from(q.queue))?.take()?;
                Some(PortRxQueue { port: q.port as u16, queue })
            })
            .collect();
        let vifs = vifs_with_hold(&tx_ports);
        let reorder = reorder_buffer(control);
        let depths = rx_queues.iter().map(|rx_queue| max_queued_frames(control, rx_queue.port)).collect();
        let markers = Markers::new(Member::new(Arc::clone(&barrier), number, depths, tx_ports.len()));
        let egress =
            LcoreEgress::new(tx_ports, rings.clone(), pool.clone(), Arc::clone(&counters), reorder, markers);
        let (stage_ports, capture) = (Arc::clone(stage_ports), Arc::clone(capture));
        let parts = (Arc::clone(&counters), Arc::clone(&stop), Arc::clone(&asleep));
        let (cap_us, poll_us) = match config.idle {
            config::Idle::Poll => (None, 0),
            config::Idle::Adaptive { cap_us, poll_us } => (Some(cap_us), poll_us),
        };
        let burst = usize::from(config.burst);
        let name = format!("stopover-{lcore}");
        let job = eal.launch(LcoreId::new(*lcore), move || {
            dpdk::lcore::set_thread_name(&name);
            dpdk::lcore::tighten_timer_slack();
            let (counters, stop, asleep) = parts;
            let idle = Idle::new(cap_us, cycles::tsc_hz() / 1_000_000 * u64::from(poll_us));
            let view = view.online();
            let ports = stage_ports;
            let scratch = Box::default();
            Worker {
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
            }
            .run();
        })?;
        let queues = queues.iter().map(|q| format!("{}:{}", config.ports[q.port].name, q.queue)).collect();
        lcores.push(LcoreHandle { lcore: *lcore, queues, counters, rings, asleep, stop, job: Some(job) });
    }
    Ok((ports, lcores))
}

/// One outlet's share of a vif's hold.
fn tx_hold(control: &Control, migrations: Option<Arc<PortMigration>>) -> Option<Box<TxHold>> {
    let node_bytes = control.config.migration.hold_node_bytes;
    let queue = HoldQueue::new(HoldPool::blocks_for(node_bytes));
    Some(Box::new(TxHold::new(migrations?, Arc::clone(&control.hold), queue, node_bytes as u64)))
}

/// The most frames that a queue of the underlay can hold; 0 for other ports, where nothing arrives behind which an end
/// marker must stay. Some drivers have rings of their own size, which nobody tells.
fn max_queued_frames(control: &Control, port: u16) -> usize {
    let role = control.stage_ports.get(usize::from(port)).map(|port| &port.role);
    if matches!(role, Some(Role::Underlay(_))) {
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
    let keeps = |tx_port: &TxPort| matches!(tx_port, TxPort::Own(queue) if queue.tx_hold.is_some());
    (0..).zip(tx_ports).filter(|(_, tx_port)| keeps(tx_port)).map(|(port, _)| port).collect()
}

/// Gives transmit queue i to lcore i. A port with fewer queues than lcores shares: lcores without a queue of
/// their own hand their frames to one that has.
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

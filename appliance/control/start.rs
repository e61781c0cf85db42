//! Start: from a checked configuration to running lcores, or to one error with nothing left behind. In this order:
//! sockets, EAL, pool and devices, tables, the checkpoint, control socket, the board, and, once the checkpoint or the
//! board's first snapshot is in the tables, ports and lcores. A process that takes the place of another has the control
//! socket and the board last, if it can. So no frame meets an empty table. Without a checkpoint the
//! start waits for that snapshot without a limit, and answers the operator meanwhile. `devices` configures and starts devices; `launch` starts lcores.

mod launch;

use super::{
    Control,
    api::Api,
    board_link::BoardLink,
    changes::Changes,
    checkpoint::{Checkpoints, Restored},
    connect::Started,
    cut_overs::CutOvers,
    declared::HostIds,
    device_events::DeviceEvents,
    devices::{self, Ready, Reserved},
    host_key::{self, HostKeyError},
    loops::Loops,
    numa::Pools,
    open_files,
    plan::{self, Facts, Plan},
    port_changes::PortChanges,
    ports::Ports,
    queue_moves::QueueMoves,
    replica::Replica,
    request::PendingRequest,
    server,
    source::Source,
    stations::Stations,
    take_over::Predecessor,
    tunnels::Tunnels,
    vhost_sockets,
};
use crate::migration::{driver::Migrations, hold::HoldPool};
use crate::pipeline::ports::Port as StagePort;
use crate::sealing::Engines;
use crate::tables::{ParkedView, Tables};
use crate::underlay::Underlay;
use anyhow::{Context, Result, ensure};
use crossbeam::channel::{self, Sender};
use dpdk::Eal;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};
use stopover_bbs::client::{self, Point, PublicKey, Session, SessionConfig, Update};
use stopover_config::appliance::{Appliance, QueueRef, Truth};
use stopover_ctl::KnownNeighbour;
use stopover_net::Vni;
use stopover_pki::ClientTls;
use stopover_tunnel::handshake::MOST_QUEUES;
use uuid::Uuid;

/// How long after a restart nodes of an earlier run stay registered without being seen again: long enough for VMs to
/// reconnect to their sockets and for stations to send.
const SETTLE: Duration = Duration::from_secs(60);
/// Updates of the board that may wait for the control thread: a piece of a snapshot takes 128 KiB.
const UPDATES: usize = 32;

/// The control thread before ports run.
struct Built {
    control: Control,
    /// Views of the tables, one per lcore.
    views: Vec<ParkedView>,
    /// Networks in which stations can appear that nothing declares.
    segments: BTreeSet<Vni>,
    /// Where requests are sent.
    requests: Sender<PendingRequest>,
}

/// Checks what depends on the DPDK of this program and on the files beside the configuration, and not on the devices of
/// this machine.
///
/// # Errors
/// DPDK cannot have so many devices, or the key of this host cannot be used.
pub fn check(config: &Appliance, source: &Source) -> Result<()> {
    devices::check_number(config)?;
    if let Some(path) = key_path(config, source) {
        host_key::read(&path)?;
    }
    Ok(())
}

/// Where the key of this host is. Hosts without a board have none: nobody learns of it.
fn key_path(config: &Appliance, source: &Source) -> Option<PathBuf> {
    matches!(config.truth, Truth::Board(_)).then(|| source.host_key_path()).flatten()
}

/// The public half of this host's key, made at the first start. Where nothing can be written there is none, and the host
/// forwards all the same.
fn public_key(config: &Appliance, source: &Source) -> Result<Option<PublicKey>> {
    let Some(path) = key_path(config, source) else { return Ok(None) };
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).context("the system has no random numbers")?;
    match host_key::open(&path, fresh) {
        Ok(key) => Ok(Some(key)),
        Err(e @ HostKeyError::NotMade { .. }) => {
            log::warn!("{e}");
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}

/// The tunnels of the configuration, with this host's key.
fn tunnels(config: &Appliance, source: &Source, lcores: usize) -> Result<Option<Tunnels>> {
    let Some(wanted) = &config.tunnels else { return Ok(None) };
    ensure!(
        lcores <= usize::from(MOST_QUEUES),
        "tunnels: found {lcores} lcores, each of which has keys of its own; expected at most {MOST_QUEUES}; hint: name fewer in lcores"
    );
    let key = key_path(config, source).map(|path| host_key::pair(&path)).transpose()?.flatten();
    let key = key.context(
        "tunnels: found no key of this host, and none could be made; expected a file with one; hint: let the appliance write to the folder of its configuration",
    )?;
    // Keys of handshakes are on the heap.
    if let Err(e) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        log::warn!("tunnels: {e}: a core dump of this process would have keys; hint: disable core dumps");
    }
    let engines = Engines::new(wanted.engine)?;
    log::info!("tunnels: AES-GCM by {}", engines.make().name());
    Ok(Some(Tunnels::new(wanted.clone(), key, engines, lcores, Control::tunnel_now())))
}

/// What may become a problem on this machine, for the operator.
#[must_use]
pub fn warnings(config: &Appliance) -> Vec<String> {
    let plain = config.plain_board().map(|plain| {
        format!("insecure: whoever reaches the board at {plain} may do anything; expected https:// or unix:")
    });
    let exported = config.tunnels.as_ref().and_then(|tunnels| tunnels.export_keys.as_ref()).map(|path| {
        format!(
            "tunnels.export_keys: the keys of all tunnels are written to {}: whoever reads it reads and forges their frames",
            path.display()
        )
    });
    open_files::warning(config).into_iter().chain(plain).chain(exported).collect()
}

/// Builds everything and starts the lcores. If it is stopped before the first snapshot, no lcore runs. `source`: where the
/// configuration is from. `rt` must be made before, because EAL pins this thread, and all that it starts later, to one
/// core. `predecessor`: the process whose place this one takes.
pub fn start(
    config: Appliance,
    source: Source,
    rt: &tokio::runtime::Handle,
    stop: Arc<AtomicBool>,
    predecessor: Option<Predecessor>,
) -> Result<Control> {
    check(&config, &source)?;
    warnings(&config).iter().for_each(|warning| log::warn!("{warning}"));
    if predecessor.is_none() {
        server::prepare_socket_path(&config.ctl)?;
        vhost_sockets::prepare_sockets(&config)?;
    }
    // Before EAL: their threads are to run anywhere. A VMM waits for each reply.
    dpdk::vhost::relay()?;
    let checkpoints = Checkpoints::new(source.checkpoint_path(), config.checkpoint_s)?;
    let tls = config.tls.as_deref().map(ClientTls::load).transpose()?;
    let mut board = BoardLink::new(&config, public_key(&config, &source)?);
    let eal = Eal::init(&eal_args(&config, predecessor.is_some()))?;
    let reserved = Reserved::new(&eal, &config)?;
    let tunnels = tunnels(&config, &source, reserved.assigned.len())?;
    let lcores = reserved.assigned.len();
    let memory = (Tables::new(lcores + 1)?, HoldPool::new(config.migration.hold_bytes));
    let mut hand_over = predecessor.map(|predecessor| predecessor.ask(rt, &config)).transpose()?;
    if let Some(hand_over) = &mut hand_over {
        board.take_over(hand_over.instance());
        hand_over.open_devices(&eal, &config)?;
    }
    let ready = reserved.configure(&eal, &config)?;
    let Reserved { pools, assigned } = reserved;
    let facts: Vec<Facts> = ready.iter().map(|r| r.facts).collect();
    let api_file = source.path().map(Path::to_owned);
    let Built { mut control, views, segments, requests } =
        build(config, (source, checkpoints, board), &facts, memory, (pools, eal), stop)?;
    control.tunnels = tunnels;
    if let Some(hand_over) = &hand_over {
        control.learn_neighbours(hand_over.neighbours());
    }
    let restored = control.restore_checkpoint();
    let mut outside = Outside { rt, facts: &facts, segments, restored, tls, api_file, requests };
    let run = Run { ready, assigned, views };
    match hand_over {
        None => {
            outside.open_api(&mut control)?;
            if outside.await_board(&mut control) {
                run.run(&mut control, false, |_, _| Ok(()))?;
            }
        }
        Some(mut hand_over) if hand_over.is_beside() && control.can_forward(restored) => {
            run.run(&mut control, true, |control, started| {
                hand_over.take(started)?;
                hand_over.connect(&control.config)?;
                // The board learns of guests by it.
                outside.open_session(control);
                Ok(())
            })?;
            hand_over.await_closed()?;
            outside.open_api(&mut control)?;
        }
        Some(mut hand_over) => {
            if hand_over.is_beside() {
                hand_over.take(&mut [])?;
                hand_over.await_closed()?;
            }
            outside.open_api(&mut control)?;
            if outside.await_board(&mut control) {
                run.run(&mut control, true, |control, _| hand_over.connect(&control.config))?;
            }
        }
    }
    Ok(control)
}

/// What is needed to be reached, and to reach the board.
struct Outside<'s> {
    rt: &'s tokio::runtime::Handle,
    facts: &'s [Facts],
    segments: BTreeSet<Vni>,
    restored: Option<Restored>,
    tls: Option<ClientTls>,
    /// What is read again for a reload.
    api_file: Option<PathBuf>,
    requests: Sender<PendingRequest>,
}

impl Outside<'_> {
    /// Opens the control socket.
    fn open_api(&self, control: &mut Control) -> Result<()> {
        let socket =
            server::serve(self.rt, &control.config, self.api_file.as_deref(), self.requests.clone())?;
        control.api.open(socket);
        Ok(())
    }

    /// Registers at the board, if there is one. From here on the session works by itself.
    fn open_session(&mut self, control: &mut Control) -> bool {
        let held = self.restored.map(|restored| restored.point);
        let segments = std::mem::take(&mut self.segments);
        let session = open_session(control, self.facts, self.rt, (segments, held, self.tls.take()));
        let has_board = session.is_some();
        if let Some((session, updates)) = session {
            control.board.open(session, updates);
        }
        has_board
    }

    /// The same; then waits until there is a state to forward by. False if it is stopped before.
    fn await_board(&mut self, control: &mut Control) -> bool {
        !self.open_session(control) || control.await_snapshot() && control.await_board(self.restored)
    }
}

/// What is needed to forward.
struct Run {
    ready: Vec<Ready>,
    assigned: BTreeMap<u32, Vec<QueueRef>>,
    views: Vec<ParkedView>,
}

impl Run {
    /// Starts ports and lcores; `between` is done between the two. `looks`: see [`launch::launch`].
    fn run(
        self,
        control: &mut Control,
        looks: bool,
        between: impl FnOnce(&mut Control, &mut [Started]) -> Result<()>,
    ) -> Result<()> {
        let Self { ready, assigned, views } = self;
        let running = devices::start_ports(&control.config, ready).and_then(|mut started| {
            between(control, &mut started)?;
            launch::launch(control, started, &assigned, views, looks)
        });
        running.inspect_err(|_| control.board.close())
    }
}

impl Control {
    /// Neighbours that the predecessor knew, before hosts are reached by them.
    fn learn_neighbours(&mut self, known: &[KnownNeighbour]) {
        let now_ms = self.now_ms();
        for KnownNeighbour { port, ip, mac } in known {
            if let Some(port) = self.ports.number(port) {
                self.underlay.inherit(now_ms, port.into(), *ip, *mac);
            }
        }
    }

    /// Whether there is a state to forward by, without waiting for the board.
    fn can_forward(&self, restored: Option<Restored>) -> bool {
        match self.config.truth {
            Truth::Board(_) => restored.is_some_and(|restored| !restored.is_old()),
            _ => true,
        }
    }
}

/// A process beside another has its devices later.
fn eal_args(config: &Appliance, is_beside: bool) -> Vec<String> {
    if is_beside {
        return Predecessor::eal_args(config);
    }
    let vdevs = config.eal_vdevs().map(|vdev| format!("--vdev={vdev}"));
    config.eal.iter().cloned().chain(vdevs).collect()
}

/// Builds the control thread's state. `facts`: of the configuration's ports, in their order.
fn build(
    config: Appliance,
    (source, checkpoints, board): (Source, Checkpoints, BoardLink),
    facts: &[Facts],
    ((mut tables, mut views), hold): ((Tables, Vec<ParkedView>), Arc<HoldPool>),
    (pools, eal): (Pools, Eal),
    stop: Arc<AtomicBool>,
) -> Result<Built> {
    let plan = Plan::new(&config, facts, &mut tables)?;
    let trace_view = views.pop();
    let lcores = views.len();
    let replica = replica_of(&config, &plan);
    let vnis = plan.networks.iter().map(|(vni, (bd, _))| (*bd, *vni)).collect();
    let segments = plan.segment_vnis();
    let stations = Stations::new(plan.declared, vnis, plan.ageing_ms).limited(plan.limits);
    // Another number in every process.
    let (instance, _) = Uuid::new_v4().as_u64_pair();
    let (loops, blocked) = Loops::new(config.name.clone(), instance, plan.segments);
    let stage_ports: Arc<[StagePort]> = plan.ports.into();
    let migrations = Migrations::new(&config, facts, &stage_ports);
    let (request_tx, requests) = channel::bounded::<PendingRequest>(64);
    let ports = Ports::new(&config.ports, stage_ports, pools)?;
    let mut control = Control {
        began: Instant::now(),
        underlay: Underlay::new(plan.underlays),
        board,
        hold,
        device_events: DeviceEvents::new(&eal, &ports),
        ports,
        config,
        tables,
        replica,
        stations,
        loops,
        api: Api::new(requests, lcores, trace_view),
        checkpoints,
        changes: Changes::new(source)?,
        host_ids: HostIds::default(),
        migrations,
        port_changes: PortChanges::default(),
        queue_moves: QueueMoves::default(),
        tunnels: None,
        cut_overs: CutOvers::default(),
        kept_paths: VecDeque::new(),
        stop,
        successor: None,
        rounds: 0,
        eal,
    };
    control.execute(0, blocked);
    // Declarations are in the tables before the first frame is received.
    control.declare();
    control.publish();
    Ok(Built { control, views, segments, requests: request_tx })
}

fn replica_of(config: &Appliance, plan: &Plan) -> Replica {
    let networks = plan.networks.iter().map(|(vni, (bd, ports))| (*vni, *bd, ports.clone()));
    Replica::new(config.name.clone(), networks).sealed(config.tunnels.clone())
}

/// Registers at the board. From here on the session works by itself.
fn open_session(
    control: &Control,
    facts: &[Facts],
    rt: &tokio::runtime::Handle,
    (segments, held, tls): (BTreeSet<Vni>, Option<Point>, Option<ClientTls>),
) -> Option<(Session, channel::Receiver<Update>)> {
    let config = &control.config;
    let Truth::Board(endpoints) = &config.truth else { return None };
    let mut session_config =
        SessionConfig::new(endpoints.clone(), config.name.clone(), config.vteps(), config.udp_port());
    session_config.tls = tls;
    let mtus = facts.iter().map(|facts| facts.mtu);
    session_config.details = plan::host_details(config.ports.iter().zip(mtus), control.board.public_key());
    session_config.interest = plan::interest(config);
    session_config.instance = control.board.instance();
    session_config.held = held;
    session_config.settle = SETTLE;
    session_config.queue = UPDATES;
    let (session, updates) = client::start(rt, session_config);
    for vni in segments {
        session.join(vni, true);
    }
    Some((session, updates))
}

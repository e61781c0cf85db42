//! Adds a port. Enters: a checked port. Leaves: a running port that every lcore has, in the tables; or an error and
//! nothing of it.

use super::{Adding, Outcome, PortChange, Step, refused};
use crate::control::{
    Control,
    connect::{Connected, Started},
    devices::{self, DeviceSource},
    numa,
    plan::{Facts, Plan},
    ports::{LcoreHandle, PortHandle},
    spread::QueueAt,
};
use crate::lcore::{
    changes::{Change, MAX_RX_QUEUES},
    rx_queue::PortRxQueue,
    tx_port::TxPort,
};
use crate::pipeline::ports::Role;
use dpdk::RxQueue;
use stopover_config::appliance as config;

impl Control {
    pub(super) fn begin_adding(&mut self, now_ms: u64, port: config::Port, source: &DeviceSource) -> Outcome {
        let number = self
            .ports
            .free_number(now_ms)
            .ok_or_else(|| refused("a port more than there can be", "at most 1024 ports", "remove one"))?;
        let begun = self.begin_adding_at(number, now_ms, port, source);
        if begun.is_err() {
            self.ports.return_number(number);
        }
        begun
    }

    fn begin_adding_at(
        &mut self,
        number: u16,
        now_ms: u64,
        port: config::Port,
        source: &DeviceSource,
    ) -> Outcome {
        let polled: usize = self.ports.lcores().iter().map(|lcore| lcore.queues.len()).sum();
        if polled + usize::from(port.rxq) > MAX_RX_QUEUES {
            let found = format!("{} more receive queues beside {polled}", port.rxq);
            return Err(refused(&found, &format!("at most {MAX_RX_QUEUES}"), "give ports fewer queues"));
        }
        let name = port.name.clone();
        let lcores = self.ports.lcores().len();
        let opened = self.open(&port, source, lcores).map_err(|e| {
            refused(&format!("{e:#}"), "a device that can be opened", "see the appliance's log")
        });
        let (is_new, facts, started) = opened?;
        let plan = match Plan::of_port(number, &port, &facts, &mut self.tables) {
            Ok(plan) => plan,
            Err(full) => {
                drop(started);
                source.give_back(&self.eal, is_new);
                return Err(refused(&format!("{full}"), "room in the tables", "remove networks or ports"));
            }
        };
        let Some(stage) = plan.ports.first().cloned() else { return Ok(()) };
        match &stage.role {
            Role::Vif(vif) => {
                let key = (vif.network.bd, vif.mac);
                self.migrate(now_ms, |migrations| migrations.forget_station(key));
                self.migrations.add_vif(number, vif, facts.exact);
            }
            // Until it is known that there is no loop.
            Role::Segment(segment) => {
                plan.segments.iter().for_each(|s| segment.gate.set_blocked(s.vlan, true))
            }
            // Others do not know it yet.
            Role::Underlay(_) => self.ports.set_used(number, false),
            Role::Absent => {}
        }
        let depth = self.max_queued_frames(Some(&stage.role));
        let Connected { mut handle, tx_ports, rx } =
            self.connect(number, &name, &stage.role, started, lcores);
        self.limit_sleeps(Some((&handle, &port)));
        self.ports.want(number, port);
        let polled = self.spread_queues(number, rx, depth, &mut handle);
        self.ports.count_from_here(number);
        self.give_stage(number, stage);
        let (mut tx_ports, mut polled) = (tx_ports.into_iter(), polled.into_iter());
        self.ports.give_each(|_| {
            let tx_port = tx_ports.next().unwrap_or(TxPort::Closed);
            let polled = polled.next().unwrap_or_default();
            vec![Change::TxPort(number, tx_port), Change::Poll(polled)]
        });
        if let DeviceSource::Driver(devargs) = source
            && !is_new
        {
            self.port_changes.begun(PortChange::AddDevice(devargs.clone()));
        }
        self.port_changes.begun(PortChange::Remove(name));
        let adding = Adding { number, plan, handle };
        self.port_changes.step = Some(Step::Adding(Box::new(adding)));
        Ok(())
    }

    /// Opens and starts the device of a port. Returns whether DPDK did not have the device before. After an error it has
    /// what it had.
    fn open(
        &self,
        port: &config::Port,
        source: &DeviceSource,
        lcores: usize,
    ) -> anyhow::Result<(bool, Facts, Started)> {
        let is_new = source.prepare(&self.eal)?;
        match self.start(port, source, lcores) {
            Ok((facts, started)) => Ok((is_new, facts, started)),
            Err(e) => {
                source.give_back(&self.eal, is_new);
                Err(e)
            }
        }
    }

    fn start(
        &self,
        port: &config::Port,
        source: &DeviceSource,
        lcores: usize,
    ) -> anyhow::Result<(Facts, Started)> {
        let pools = self.ports.pools();
        let ready = devices::configure(&self.eal, &self.config, port, source.vhost(), (lcores, pools))?;
        let others = self.ports.handles().map(|(_, handle)| &handle.device);
        let others = others.map(|device| (device.info().socket, device.granted()));
        let all: Vec<_> = others.chain([ready.on_socket()]).collect();
        devices::check_pools(&self.config, &all, lcores, pools)?;
        Ok((ready.facts, ready.start(&port.name)?))
    }

    /// A device for no port.
    pub(super) fn add_device(&mut self, vdev: String) -> Outcome {
        let created = DeviceSource::Driver(vdev.clone()).prepare(&self.eal);
        let is_new = created.map_err(|e| {
            refused(&format!("vdevs: {e:#}"), "a device that can be opened", "correct `vdevs`")
        })?;
        if is_new {
            self.port_changes.begun(PortChange::RemoveDevice(vdev));
        }
        Ok(())
    }

    /// Gives each receive queue to the lcore that polls the fewest, of those near to the port if there are any. Returns
    /// what each lcore polls of the port.
    fn spread_queues(
        &mut self,
        number: u16,
        rx: Vec<RxQueue>,
        depth: usize,
        handle: &mut PortHandle,
    ) -> Vec<Vec<(PortRxQueue, usize)>> {
        let socket = handle.device.info().socket;
        let mut polled: Vec<Vec<_>> = self.ports.lcores().iter().map(|_| Vec::new()).collect();
        for queue in rx {
            let lcores = self.ports.lcores_mut().iter_mut().zip(&mut polled);
            let far = |lcore: &LcoreHandle| !numa::is_near(socket, lcore.socket);
            let fewest = lcores.min_by_key(|(lcore, _)| (far(lcore), lcore.queues.len()));
            let Some((lcore, polled)) = fewest else { break };
            lcore.queues.push(QueueAt { port: number, queue: queue.index() });
            handle.rx_lcores.push(lcore.lcore);
            polled.push((PortRxQueue::new(number, queue), depth));
        }
        polled
    }

    /// Every lcore has the port: now the tables may name it.
    pub(super) fn finish_adding(&mut self, now_ms: u64, adding: Adding) {
        let Adding { number, plan, handle } = adding;
        let Plan { declared, networks, mut ageing_ms, mut limits, segments, underlays, .. } = plan;
        for (vni, (bd, members)) in networks {
            for member in members {
                if self.replica.add_port(vni, bd, member) {
                    self.board.follow(vni);
                    self.declare_network(now_ms, vni);
                }
            }
            if self.replica.has_segment(vni) {
                self.board.join(vni);
            }
            self.stations.add_network(bd, vni);
        }
        let limits = limits.ports.remove(&number);
        self.stations.add_port(number, declared, ageing_ms.remove(&number), limits);
        let blocked = self.loops.add(segments);
        self.execute(now_ms, blocked);
        let name = handle.name.clone();
        self.ports.insert(number, handle);
        if let Some(port) = self.ports.wanted_at(number) {
            self.device_events.add(number, &port.device, &self.eal, self.ports.waker());
        }
        if let Some(Role::Vif(vif)) = self.ports.role(number) {
            let key = (vif.network.bd, vif.mac);
            self.migrate(now_ms, |migrations| migrations.on_vif_added(now_ms, key));
        }
        log::info!(port = name; "port {name} is added{}", self.changes.by());
        if let Some(underlay) = underlays.into_iter().next() {
            self.underlay.add_port(underlay);
            self.make_known(now_ms, number);
        }
    }
}

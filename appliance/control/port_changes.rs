//! Ports that are added and removed while the appliance runs. Enters: lists of changes, whose ports are checked and fit the
//! configuration. Leaves: running ports, or a list that ends at its first error.
//!
//! A port that is added is with every lcore before a table names it. A port that is removed is in no table before the
//! lcores are told, and goes in steps, each of which every lcore must have done before the next: they stop polling it and
//! handing frames over; the owners of its queues drop what was handed over, and give the queues back; its number is
//! nobody's. Only then the device is closed. The lcores go on meanwhile.

use super::{
    Control,
    connect::{Connected, Started},
    devices,
    plan::{Facts, Plan, networks_of},
    ports::{LcoreHandle, PortHandle},
    spread::{Move, QueueAt},
    vhost_sockets,
};
use crate::lcore::{
    changes::{Change, MAX_RX_QUEUES},
    rx_queue::PortRxQueue,
    tx_port::TxPort,
};
use crate::pipeline::ports::{Port, Role};
use dpdk::RxQueue;
use std::{collections::VecDeque, sync::Arc};
use stopover_config::appliance as config;
use stopover_ctl::ApiError;
use stopover_net::Mac;
use tokio::sync::oneshot;

/// A change of the ports.
#[derive(Debug)]
pub enum PortChange {
    /// Another port, and its socket if it is a vhost-user port.
    Add(Box<config::Port>, Option<config::Vhost>),
    /// The port of this name is removed.
    Remove(String),
    /// The vif of this name has other addresses, or may send other frames.
    Set(Box<config::Port>),
    /// This lcore polls a receive queue of the port of this name.
    Poll(String, u16, u32),
}

/// How a list of changes has ended.
pub type Outcome = Result<(), ApiError>;

/// Changes under way, and those that wait.
#[derive(Default)]
pub struct PortChanges {
    lists: VecDeque<List>,
    step: Option<Step>,
}

/// Changes that are made all or not at all.
struct List {
    left: VecDeque<PortChange>,
    /// What takes back those that were made, the last first.
    undo: VecDeque<PortChange>,
    /// Why the list is being taken back.
    error: Option<ApiError>,
    reply: oneshot::Sender<Outcome>,
}

/// What every lcore is doing.
pub(super) enum Step {
    /// They receive a port.
    Adding(Box<Adding>),
    /// They stop polling a port, and handing frames over for it.
    Closing(u16),
    /// They drop what was handed over for it.
    Draining(u16),
    /// They forget its number.
    Removing(u16),
    /// They give back the queues of a device that is not in service.
    Leaving(u16),
    /// They receive its queues again.
    Returning(u16),
    /// One gives a queue to another. It may be too busy to do so: then it is asked again, so often.
    Handing(Move, u32),
}

/// How often an lcore is asked for a queue: two seconds and more.
const TRIES: u32 = 100;

pub(super) struct Adding {
    number: u16,
    plan: Plan,
    handle: PortHandle,
}

impl std::fmt::Debug for PortChanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PortChanges({} lists)", self.lists.len())
    }
}

impl PortChanges {
    /// Makes these changes, in this order, after those that wait. The outcome is sent to `reply`.
    pub fn push(&mut self, changes: Vec<PortChange>, reply: oneshot::Sender<Outcome>) {
        self.lists.push_back(List { left: changes.into(), undo: VecDeque::new(), error: None, reply });
    }

    /// Whether nothing waits or is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lists.is_empty() && self.step.is_none()
    }

    /// The next change comes after this step.
    pub(super) fn wait_for(&mut self, step: Step) {
        self.step = Some(step);
    }

    /// Whether a step is under way.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.step.is_some()
    }

    fn next(&mut self) -> Option<PortChange> {
        while let Some(list) = self.lists.front_mut() {
            if let Some(change) = list.left.pop_front() {
                return Some(change);
            }
            if let Some(List { error, reply, .. }) = self.lists.pop_front() {
                // The client may have disconnected.
                let _ = reply.send(error.map_or(Ok(()), Err));
            }
        }
        None
    }

    /// Whether the list under way is being taken back.
    fn takes_back(&self) -> bool {
        self.lists.front().is_some_and(|list| list.error.is_some())
    }

    /// A change was begun, and this takes it back.
    fn begun(&mut self, undo: PortChange) {
        if let Some(list) = self.lists.front_mut() {
            list.undo.push_front(undo);
        }
    }

    /// A change could not be begun: those before it are taken back.
    fn failed(&mut self, error: ApiError) {
        let Some(list) = self.lists.front_mut() else { return };
        if list.error.is_some() {
            return log::error!("a change of ports cannot be taken back: {error}");
        }
        list.error = Some(error);
        list.left = std::mem::take(&mut list.undo);
    }
}

impl Control {
    /// Takes the steps that the lcores are ready for.
    pub(super) fn advance_port_changes(&mut self, now_ms: u64) {
        // Also what was given outside a change of ports: this thread does not sleep while something of it is there.
        self.ports.has_changed();
        while self.has_port_changes(now_ms) && self.queue_moves.is_idle() && self.ports.has_changed() {
            let done = match self.port_changes.step.take() {
                Some(Step::Adding(adding)) => {
                    self.finish_adding(now_ms, *adding);
                    Ok(())
                }
                Some(Step::Closing(number)) => {
                    self.ports.give_each(|_| vec![Change::TxPort(number, TxPort::Closed)]);
                    self.port_changes.step = Some(Step::Draining(number));
                    Ok(())
                }
                Some(Step::Draining(number)) => {
                    self.give_stage(number, Port::ABSENT);
                    self.port_changes.step = Some(Step::Removing(number));
                    Ok(())
                }
                Some(Step::Removing(number)) => {
                    self.finish_removing(now_ms, number);
                    Ok(())
                }
                Some(Step::Leaving(number)) => {
                    self.finish_leaving(now_ms, number);
                    Ok(())
                }
                Some(Step::Returning(number)) => {
                    self.finish_returning(now_ms, number);
                    Ok(())
                }
                Some(Step::Handing(which, tries)) => self.continue_moving(which, tries),
                // A device that is not in service comes before what the operator wants next.
                None if self.begin_device_job(now_ms) => Ok(()),
                None => match self.port_changes.next() {
                    Some(PortChange::Add(port, vhost)) => self.begin_adding(now_ms, *port, vhost),
                    Some(PortChange::Remove(name)) => self.begin_removing(now_ms, &name),
                    Some(PortChange::Set(port)) => self.begin_setting(now_ms, *port),
                    Some(PortChange::Poll(name, queue, lcore)) => self.begin_moving(&name, queue, lcore),
                    None => return,
                },
            };
            if let Err(e) = done {
                self.port_changes.failed(e);
            }
        }
    }

    fn has_port_changes(&self, now_ms: u64) -> bool {
        !self.port_changes.is_idle() || self.device_events.next_job(now_ms).is_some()
    }

    fn begin_adding(&mut self, now_ms: u64, port: config::Port, vhost: Option<config::Vhost>) -> Outcome {
        let number = self
            .ports
            .free_number(now_ms)
            .ok_or_else(|| refused("a port more than there can be", "at most 1024 ports", "remove one"))?;
        let begun = self.begin_adding_at(number, now_ms, port, vhost);
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
        vhost: Option<config::Vhost>,
    ) -> Outcome {
        if matches!(port.role, config::Role::Underlay(_)) {
            return Err(refused("an underlay port", "a vif or a segment", "restart the appliance with it"));
        }
        let polled: usize = self.ports.lcores().iter().map(|lcore| lcore.queues.len()).sum();
        if polled + usize::from(port.rxq) > MAX_RX_QUEUES {
            let found = format!("{} more receive queues beside {polled}", port.rxq);
            return Err(refused(&found, &format!("at most {MAX_RX_QUEUES}"), "give ports fewer queues"));
        }
        let name = port.name.clone();
        let lcores = self.ports.lcores().len();
        let opened = self.open(&port, vhost, lcores).map_err(|e| {
            refused(&format!("{e:#}"), "a device that can be opened", "see the appliance's log")
        });
        let (facts, started) = opened?;
        let full = |full| refused(&format!("{full}"), "room in the tables", "remove networks or ports");
        let plan = Plan::of_port(number, &port, &facts, &mut self.tables).map_err(full)?;
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
            Role::Underlay(_) | Role::Absent => {}
        }
        let Connected { mut handle, tx_ports, rx } =
            self.connect(number, &name, &stage.role, started, lcores);
        self.ports.want(number, port);
        let polled = self.spread_queues(number, rx, &mut handle);
        self.give_stage(number, stage);
        let (mut tx_ports, mut polled) = (tx_ports.into_iter(), polled.into_iter());
        self.ports.give_each(|_| {
            let tx_port = tx_ports.next().unwrap_or(TxPort::Closed);
            let polled = polled.next().unwrap_or_default();
            vec![Change::TxPort(number, tx_port), Change::Poll(polled)]
        });
        self.port_changes.begun(PortChange::Remove(name));
        let adding = Adding { number, plan, handle };
        self.port_changes.step = Some(Step::Adding(Box::new(adding)));
        Ok(())
    }

    /// Opens and starts the device of a port.
    fn open(
        &self,
        port: &config::Port,
        vhost: Option<config::Vhost>,
        lcores: usize,
    ) -> anyhow::Result<(Facts, Started)> {
        vhost.iter().try_for_each(vhost_sockets::prepare_socket)?;
        let ready = devices::configure(&self.eal, &self.config, port, vhost, (lcores, self.ports.pool()))?;
        Ok((ready.facts, ready.start(&port.name)?))
    }

    /// Gives each receive queue to the lcore that polls the fewest. Returns what each lcore polls of the port.
    fn spread_queues(
        &mut self,
        number: u16,
        rx: Vec<RxQueue>,
        handle: &mut PortHandle,
    ) -> Vec<Vec<(PortRxQueue, usize)>> {
        let depth = self.max_queued_frames(number);
        let mut polled: Vec<Vec<_>> = self.ports.lcores().iter().map(|_| Vec::new()).collect();
        for queue in rx {
            let lcores = self.ports.lcores_mut().iter_mut().zip(&mut polled);
            let Some((lcore, polled)) = lcores.min_by_key(|(lcore, _)| lcore.queues.len()) else { break };
            lcore.queues.push(QueueAt { port: number, queue: queue.index() });
            handle.rx_lcores.push(lcore.lcore);
            polled.push((PortRxQueue::new(number, queue), depth));
        }
        polled
    }

    /// Gives all lcores the ports as the stages see them, with this one at this number.
    pub(super) fn give_stage(&mut self, number: u16, port: Port) {
        let stage = self.ports.replace_stage(number, port);
        self.ports.give_each(|_| vec![Change::Ports(Arc::clone(&stage))]);
    }

    /// Every lcore has the port: now the tables may name it.
    fn finish_adding(&mut self, now_ms: u64, adding: Adding) {
        let Adding { number, plan, handle } = adding;
        let Plan { declared, networks, mut ageing_ms, mut limits, segments, .. } = plan;
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
        self.device_events.add(number);
        if let Some(Role::Vif(vif)) = self.ports.role(number) {
            let key = (vif.network.bd, vif.mac);
            self.migrate(now_ms, |migrations| migrations.on_vif_added(now_ms, key));
        }
        log::info!(port = name; "port {name} is added");
    }

    fn begin_removing(&mut self, now_ms: u64, name: &str) -> Outcome {
        let Some(number) = self.ports.number(name) else { return Err(self.no_such_port(name)) };
        let keeps = self.migrations.keeps(number).or_else(|| {
            self.has_migrating_node(number).then_some("is being migrated, or a station of it is")
        });
        // A port that is taken back was never there for anybody.
        if let Some(why) = keeps.filter(|_| !self.port_changes.takes_back()) {
            return Err(refused(
                &format!("port {name}, whose VM {why}"),
                "a port whose VM is not migrating",
                "wait until `stopover show migrations` no longer lists it",
            ));
        }
        if matches!(self.ports.role(number), Some(Role::Underlay(_))) {
            return Err(refused(
                &format!("underlay port {name}"),
                "a vif or a segment",
                "restart the appliance without it",
            ));
        }
        if !self.port_changes.takes_back() {
            self.device_events.may_close(number, name)?;
        }
        self.device_events.remove(number);
        if let Some(port) = self.ports.wanted_at(number).cloned() {
            let vhost = self.config.vhost(port.device.as_str());
            self.port_changes.begun(PortChange::Add(Box::new(port), vhost));
        }
        self.migrate(now_ms, |migrations| migrations.remove_vif(now_ms, number));
        let effects = self.stations.remove_port(&mut self.tables, number);
        self.execute(now_ms, effects);
        self.loops.remove_port(number);
        for vni in self.replica.remove_port(number) {
            self.board.unfollow(vni);
        }
        self.leave_networks(number);
        self.ports.set_down(number);
        self.publish();
        let senders = self.ports.owners(number);
        self.ports.give_each(|lcore| {
            let queues = Vec::with_capacity(usize::from(devices::MAX_QUEUES));
            let mut changes = vec![Change::StopPolling(number, queues)];
            if !senders.contains(&lcore) {
                changes.push(Change::TxPort(number, TxPort::Closed));
            }
            changes
        });
        self.port_changes.step = Some(Step::Closing(number));
        Ok(())
    }

    /// The stages see other settings of a vif; its station has other addresses.
    fn begin_setting(&mut self, now_ms: u64, port: config::Port) -> Outcome {
        let number = self.ports.number(&port.name).ok_or_else(|| self.no_such_port(&port.name))?;
        let Some(before) = self.ports.wanted_at(number).cloned() else { return Ok(()) };
        let (Some(stage), Some(handle)) =
            (self.ports.stage().get(usize::from(number)), self.ports.handle(number))
        else {
            return Ok(());
        };
        let mac = handle
            .device
            .mac()
            .map_err(|e| refused(&e.to_string(), "a device that answers", "see the log"))?;
        let facts = Facts {
            mac: Mac::new(mac),
            mtu: stage.mtu,
            fills_checksums: stage.fills_checksums,
            segments_tcp: stage.segments_tcp,
            exact: handle.vhost.is_some(),
        };
        let full = |full| refused(&format!("{full}"), "room in the tables", "remove networks or ports");
        let plan = Plan::of_port(number, &port, &facts, &mut self.tables).map_err(full)?;
        let Some(stage) = plan.ports.first().cloned() else { return Ok(()) };
        self.port_changes.begun(PortChange::Set(Box::new(before)));
        self.ports.want(number, port);
        self.give_stage(number, stage);
        let effects = self.stations.set_declared(&mut self.tables, now_ms, number, plan.declared);
        self.execute(now_ms, effects);
        Ok(())
    }

    fn begin_moving(&mut self, name: &str, queue: u16, lcore: u32) -> Outcome {
        let port = self.ports.number(name).ok_or_else(|| self.no_such_port(name))?;
        let at = QueueAt { port, queue };
        if !self.device_events.is_with_lcores(port) {
            if let Some(before) = self.ports.reserve_queue(at, lcore) {
                self.port_changes.begun(PortChange::Poll(name.to_owned(), queue, before));
            }
            return Ok(());
        }
        let lcores = self.ports.lcores();
        let place = |wanted: &dyn Fn(&LcoreHandle) -> bool| lcores.iter().position(wanted);
        let from = place(&|handle| handle.queues.contains(&at));
        let to = place(&|handle| handle.lcore == lcore);
        let (Some(from), Some(to)) = (from, to) else {
            let found = format!("queue {queue} of port {name} for lcore {lcore}");
            return Err(refused(
                &found,
                "a queue of the port and a running lcore",
                "see `stopover show lcores`",
            ));
        };
        if from == to {
            return Ok(());
        }
        let of = lcores.get(from).map_or(lcore, |handle| handle.lcore);
        self.port_changes.begun(PortChange::Poll(name.to_owned(), queue, of));
        self.continue_moving(Move { queue: at, from, to }, TRIES)
    }

    fn continue_moving(&mut self, which: Move, tries: u32) -> Outcome {
        if self.ports.lcores().get(which.to).is_some_and(|lcore| lcore.queues.contains(&which.queue)) {
            return Ok(());
        }
        self.device_events.may_move(which.queue.port)?;
        if tries == 0 {
            return Err(refused(
                "an lcore that always has frames waiting",
                "a moment without, so that no frame is overtaken",
                "try again under less load, or when no VM migrates",
            ));
        }
        self.queue_moves.begin(&mut self.ports, which, true);
        self.port_changes.step = Some(Step::Handing(which, tries - 1));
        Ok(())
    }

    /// Networks of a port that have no segment here any more are only followed.
    fn leave_networks(&self, number: u16) {
        let Some(port) = self.ports.wanted_at(number) else { return };
        if matches!(port.role, config::Role::Segment(_)) {
            for vni in networks_of(port).into_iter().filter(|vni| !self.replica.has_segment(*vni)) {
                self.board.leave(vni);
            }
        }
    }

    /// No lcore has the port any more.
    fn finish_removing(&mut self, now_ms: u64, number: u16) {
        let Some(PortHandle { name, device, .. }) = self.ports.remove(now_ms, number) else { return };
        if let Err(e) = device.stop() {
            log::error!("port {name}: {e}");
        }
        for LcoreHandle { queues, .. } in self.ports.lcores_mut() {
            queues.retain(|queue| queue.port != number);
        }
        log::info!(port = name; "port {name} is removed");
    }
}

fn refused(found: &str, expected: &str, hint: &str) -> ApiError {
    ApiError::new(found, expected, hint)
}

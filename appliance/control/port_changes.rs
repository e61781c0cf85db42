//! Ports that are added and removed while the appliance runs. Enters: lists of changes, whose ports are checked and fit the
//! configuration. Leaves: running ports, or a list that ends at its first error.
//!
//! A port that is added is with every lcore before a table names it. A port that is removed is in no table before the
//! lcores are told, and goes in steps, each of which every lcore must have done before the next: they stop polling it and
//! handing frames over; the owners of its queues drop what was handed over, and give the queues back; its number is
//! nobody's. Only then the device is closed. The lcores go on meanwhile. `adding`, `removing` and `setting` are the changes
//! themselves; `underlays` is what underlay ports need besides.

mod adding;
mod removing;
mod setting;
mod underlays;

use super::{Control, devices::DeviceSource, plan::Plan, ports::PortHandle, spread::Move};
use crate::lcore::{changes::Change, tx_port::TxPort};
use crate::pipeline::ports::Port;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};
use stopover_config::appliance as config;
use stopover_ctl::ApiError;
use stopover_net::Vni;
use tokio::sync::oneshot;
use underlays::UnderlayChange;

/// A change of the ports.
#[derive(Debug)]
pub enum PortChange {
    /// Another port, and what its device is made of.
    Add(Box<config::Port>, DeviceSource),
    /// The port of this name is removed.
    Remove(String),
    /// The vif of this name has other addresses, or may send other frames.
    Set(Box<config::Port>),
    /// This lcore polls a receive queue of the port of this name.
    Poll(String, u16, u32),
    /// There is a virtual device for no port, made by this string.
    AddDevice(String),
    /// There is no such device any more.
    RemoveDevice(String),
}

/// How a change has ended, or a part of it.
type Outcome = Result<(), ApiError>;

/// Why a list of changes was not made.
#[derive(Debug)]
pub struct Failure {
    /// The error of the change that could not be made.
    pub error: ApiError,
    /// Changes before it that could not be taken back: the port of each, and why. All others are taken back.
    pub kept: Vec<(String, ApiError)>,
}

/// How a list of changes has ended.
pub type Ended = Result<(), Failure>;

/// Changes under way, and those that wait.
#[derive(Default)]
pub struct PortChanges {
    lists: VecDeque<List>,
    step: Option<Step>,
    /// Networks whose last port here is gone, until nothing of them is left in the tables.
    vacated: BTreeSet<Vni>,
    /// When it is looked again.
    vacated_due_ms: u64,
}

/// Changes that are made all or not at all.
struct List {
    left: VecDeque<PortChange>,
    /// What takes back those that were made, the last first.
    undo: VecDeque<PortChange>,
    /// Why the list is being taken back, and what of it cannot.
    failure: Option<Failure>,
    reply: oneshot::Sender<Ended>,
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
    /// Other hosts are told of an underlay port, or that it goes.
    Underlay(UnderlayChange),
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
    pub fn push(&mut self, changes: Vec<PortChange>, reply: oneshot::Sender<Ended>) {
        self.lists.push_back(List { left: changes.into(), undo: VecDeque::new(), failure: None, reply });
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
            if let Some(List { failure, reply, .. }) = self.lists.pop_front() {
                // Nobody may wait for it.
                let _ = reply.send(failure.map_or(Ok(()), Err));
            }
        }
        None
    }

    /// Whether the list under way is being taken back.
    fn takes_back(&self) -> bool {
        self.lists.front().is_some_and(|list| list.failure.is_some())
    }

    /// A change was begun, and this takes it back.
    fn begun(&mut self, undo: PortChange) {
        if let Some(list) = self.lists.front_mut() {
            list.undo.push_front(undo);
        }
    }

    /// A change of this port could not be made: those before it are taken back. What cannot be taken back stays, and the
    /// rest is taken back all the same.
    fn failed(&mut self, port: String, error: ApiError) {
        let Some(list) = self.lists.front_mut() else { return };
        if let Some(failure) = &mut list.failure {
            return failure.kept.push((port, error));
        }
        list.failure = Some(Failure { error, kept: Vec::new() });
        list.left = std::mem::take(&mut list.undo);
    }
}

impl Control {
    /// Takes the steps that the lcores are ready for.
    pub(super) fn advance_port_changes(&mut self, now_ms: u64) {
        // Also what was given outside a change of ports: this thread does not sleep while something of it is there.
        self.ports.has_changed();
        while self.has_port_changes(now_ms) && self.queue_moves.is_idle() && self.ports.has_changed() {
            match self.port_changes.step.take() {
                Some(Step::Underlay(change)) => {
                    if !self.continue_underlay(now_ms, change) {
                        return;
                    }
                }
                Some(step) => self.take_step(now_ms, step),
                // A device that is not in service comes before what the operator wants next.
                None if self.begin_device_job(now_ms) => {}
                None => match self.port_changes.next() {
                    Some(change) => self.begin(now_ms, change),
                    None => return,
                },
            }
        }
    }

    /// Every lcore has done this step.
    fn take_step(&mut self, now_ms: u64, step: Step) {
        match step {
            Step::Adding(adding) => self.finish_adding(now_ms, *adding),
            Step::Closing(number) => {
                self.ports.give_each(|_| vec![Change::TxPort(number, TxPort::Closed)]);
                self.port_changes.step = Some(Step::Draining(number));
            }
            Step::Draining(number) => {
                self.give_stage(number, Port::ABSENT);
                self.port_changes.step = Some(Step::Removing(number));
            }
            Step::Removing(number) => self.finish_removing(now_ms, number),
            // Taken before.
            Step::Underlay(_) => {}
            Step::Leaving(number) => self.finish_leaving(now_ms, number),
            Step::Returning(number) => self.finish_returning(now_ms, number),
            Step::Handing(which, tries) => {
                if let Err(e) = self.continue_moving(which, tries) {
                    self.port_changes.failed(self.ports.name(which.queue.port).to_owned(), e);
                }
            }
        }
    }

    fn begin(&mut self, now_ms: u64, change: PortChange) {
        let (of, begun) = match change {
            PortChange::Add(port, source) => (port.name.clone(), self.begin_adding(now_ms, *port, &source)),
            PortChange::Remove(name) => {
                let begun = self.begin_removing(now_ms, &name);
                (name, begun)
            }
            PortChange::Set(port) => (port.name.clone(), self.begin_setting(now_ms, *port)),
            PortChange::Poll(name, queue, lcore) => {
                let begun = self.begin_moving(&name, queue, lcore);
                (name, begun)
            }
            PortChange::AddDevice(vdev) => (vdev.clone(), self.add_device(vdev)),
            PortChange::RemoveDevice(vdev) => (vdev.clone(), self.remove_device(vdev)),
        };
        if let Err(e) = begun {
            self.port_changes.failed(of, e);
        }
    }

    fn has_port_changes(&self, now_ms: u64) -> bool {
        !self.port_changes.is_idle() || self.device_events.next_job(now_ms).is_some()
    }

    /// Gives all lcores the ports as the stages see them, with this one at this number.
    pub(super) fn give_stage(&mut self, number: u16, port: Port) {
        let stage = self.ports.replace_stage(number, port);
        self.ports.give_each(|_| vec![Change::Ports(Arc::clone(&stage))]);
    }
}

fn refused(found: &str, expected: &str, hint: &str) -> ApiError {
    ApiError::new(found, expected, hint)
}

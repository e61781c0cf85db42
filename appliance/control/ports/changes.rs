//! What the ports and lcores need to change while they run: numbers, the list that the stages see, changes given to the
//! lcores. Enters: changes. Leaves: whether every lcore has made them; what they replaced is freed here.

use super::{PortHandle, Ports, queues};
use crate::control::spread::{Move, QueueAt};
use crate::lcore::{
    changes::Change,
    counters::{LcoreReading, PortReading},
    egress::Order,
};
use crate::pipeline::ports::{MAX_PORTS, Port};
use crossbeam::queue::ArrayQueue;
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use stopover_config::appliance as config;

/// For how long a number that was given up is not given again, as long as others are free: reports about the port of
/// before may still be under way.
const REST_MS: u64 = 1000;

/// Changes that lcores have not made yet, and numbers that are free again.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Given to an lcore, and not returned.
    given: usize,
    /// Found no room in an lcore's ring yet, by lcore.
    waiting: VecDeque<(usize, Box<Change>)>,
    /// The last release of a queue has succeeded.
    is_released: bool,
    /// Numbers that were given up, and when, the oldest first.
    free: VecDeque<(u16, u64)>,
    /// By port that was added while running: each lcore's counters of its number before.
    before: Vec<(u16, Vec<PortReading>)>,
}

impl Ports {
    /// A number for another port, if there is one.
    pub fn free_number(&mut self, now_ms: u64) -> Option<u16> {
        let rested = self.changes.free.front().is_some_and(|(_, since)| since + REST_MS <= now_ms);
        let fresh = self.stage.len();
        if !rested && fresh < MAX_PORTS {
            return u16::try_from(fresh).ok();
        }
        self.changes.free.pop_front().map(|(number, _)| number)
    }

    /// No port has this number after all.
    pub fn return_number(&mut self, number: u16) {
        if usize::from(number) < self.stage.len() {
            self.changes.free.push_front((number, 0));
        }
    }

    /// A port is wanted at this number.
    pub fn want(&mut self, number: u16, port: config::Port) {
        self.wanted.insert(number, port);
    }

    /// Sets what the stages see at this number. Returns the new list, for the lcores.
    pub fn replace_stage(&mut self, number: u16, port: Port) -> Arc<[Port]> {
        let mut stage = self.stage.to_vec();
        let at = usize::from(number);
        if at >= stage.len() {
            stage.resize(at + 1, Port::ABSENT);
        }
        if let Some(place) = stage.get_mut(at) {
            *place = port;
        }
        self.stage = stage.into();
        Arc::clone(&self.stage)
    }

    /// Gives each lcore its changes, by its number among them.
    pub fn give_each(&mut self, mut changes: impl FnMut(usize) -> Vec<Change>) {
        for lcore in 0..self.lcores.len() {
            for change in changes(lcore) {
                self.give(lcore, change);
            }
        }
    }

    /// Gives one lcore a change.
    pub fn give(&mut self, lcore: usize, change: Change) {
        self.changes.given += 1;
        self.changes.waiting.push_back((lcore, Box::new(change)));
        self.give_waiting();
    }

    /// Asks an lcore to give a receive queue to another; for `to_the_end` see [`Change::Release`].
    pub fn give_release(&mut self, which: Move, to_the_end: bool) {
        let Some(to) = self.lcores.get(which.to).map(|lcore| Arc::clone(&lcore.rings.given)) else { return };
        self.changes.is_released = false;
        // Both come back: by different lcores, or one in the other.
        self.changes.given += 1;
        let QueueAt { port, queue } = which.queue;
        let take = Some(Box::new(Change::Take(None)));
        self.give(which.from, Change::Release { port, queue, to, to_the_end, take });
    }

    /// Whether the last release has succeeded.
    #[must_use]
    pub const fn is_released(&self) -> bool {
        self.changes.is_released
    }

    /// A receive queue is polled by another lcore.
    pub fn move_queue(&mut self, which: Move) {
        let Some(to) = self.lcores.get(which.to).map(|lcore| lcore.lcore) else { return };
        for (number, lcore) in self.lcores.iter_mut().enumerate() {
            lcore.queues.retain(|at| *at != which.queue);
            if number == which.to {
                lcore.queues.push(which.queue);
            }
        }
        let of_queue = self.handles.get_mut(&which.queue.port);
        let place = of_queue.and_then(|port| port.rx_lcores.get_mut(usize::from(which.queue.queue)));
        if let Some(place) = place {
            *place = to;
        }
        let name = self.name(which.queue.port);
        log::info!(port = name, queue = which.queue.queue, lcore = to; "port {name}: queue {} moves to lcore {to}", which.queue.queue);
    }

    /// Whether every lcore has made all changes. Frees what they returned.
    pub fn has_changed(&mut self) -> bool {
        for lcore in &self.lcores {
            while let Some(change) = lcore.rings.changed.pop() {
                self.changes.given = self.changes.given.saturating_sub(1);
                if let Change::Release { take, .. } = &*change {
                    self.changes.is_released = take.is_none();
                    self.changes.given = self.changes.given.saturating_sub(usize::from(take.is_some()));
                }
            }
        }
        self.give_waiting();
        self.changes.given == 0
    }

    fn give_waiting(&mut self) {
        while let Some((lcore, change)) = self.changes.waiting.pop_front() {
            let Some(handle) = self.lcores.get(lcore) else { continue };
            let ring: &ArrayQueue<Order> = &handle.rings.from_control;
            if let Err(Order::Change(change)) = ring.push(Order::Change(change)) {
                self.changes.waiting.push_front((lcore, change));
                return;
            }
        }
    }

    /// A port runs from now on.
    pub fn insert(&mut self, number: u16, handle: PortHandle) {
        self.watch(number, &handle);
        self.handles.insert(number, handle);
    }

    /// What is counted at this number from now on is another port's: call it before an lcore polls that.
    pub fn count_from_here(&mut self, number: u16) {
        let readings = self.lcores.iter().map(|lcore| lcore.counters.read_port(usize::from(number)));
        self.changes.before.retain(|(port, _)| *port != number);
        self.changes.before.push((number, readings.collect()));
    }

    /// Subtracts what a port of before has counted at the same number, on the lcore with this number.
    pub fn without_earlier(&self, lcore: usize, mut reading: LcoreReading) -> LcoreReading {
        for (port, before) in &self.changes.before {
            if let (Some(now), Some(before)) = (reading.ports.get_mut(usize::from(*port)), before.get(lcore))
            {
                *now = now.since(*before);
            }
        }
        reading
    }

    /// A port has no link from now on, whatever its device says.
    pub fn set_down(&mut self, number: u16) {
        if let Some(handle) = self.handles.get_mut(&number) {
            handle.up.store(false, Relaxed);
            handle.removed = true;
        }
    }

    /// The device of a port is in service, or is not. The link is read again soon. Returns whether that has changed.
    pub fn set_in_service(&mut self, number: u16, in_service: bool) -> bool {
        self.link_due_ms = 0;
        let handle = self.handles.get_mut(&number);
        handle.is_some_and(|handle| std::mem::replace(&mut handle.in_service, in_service) != in_service)
    }

    /// A port has another device, which is started.
    pub fn replace_device(&mut self, number: u16, device: dpdk::Port) {
        let Some(handle) = self.handles.get_mut(&number) else { return };
        handle.device = device;
        handle.cleared = dpdk::PortStats::default();
        if let Some(handle) = self.handles.get(&number) {
            self.watch(number, handle);
        }
    }

    /// The counters of a device may have begun again.
    pub fn recount(&mut self, number: u16) {
        let Some(handle) = self.handles.get_mut(&number) else { return };
        let (now, then) = (handle.device.stats().unwrap_or_default(), &handle.cleared);
        if now.rx_packets < then.rx_packets || now.tx_packets < then.tx_packets {
            handle.cleared = dpdk::PortStats::default();
        }
    }

    /// This receive queue is for another lcore, once there is a device. Returns the one of before.
    pub fn reserve_queue(&mut self, at: QueueAt, lcore: u32) -> Option<u32> {
        let place = self.handles.get_mut(&at.port)?.rx_lcores.get_mut(usize::from(at.queue))?;
        Some(std::mem::replace(place, lcore))
    }

    /// The lcores that own transmit queues of a port.
    #[must_use]
    pub fn owners(&self, number: u16) -> Vec<usize> {
        let Some(handle) = self.handle(number) else { return Vec::new() };
        queues::owners(handle.sender, handle.device.granted().txq, self.lcores.len())
    }

    /// A port is no more, and no lcore has it.
    pub fn remove(&mut self, now_ms: u64, number: u16) -> Option<PortHandle> {
        self.wanted.remove(&number);
        self.unused.remove(&number);
        self.changes.free.push_back((number, now_ms));
        self.handles.remove(&number)
    }
}

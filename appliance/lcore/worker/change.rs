//! Executes changes of what the lcore works with. Enters: a change, or the end of a round while one takes several. Leaves:
//! the change, back to the control thread.

use super::Worker;
use crate::lcore::{
    changes::{Change, MAX_RX_QUEUES, RELEASE_MS},
    rx_queue::PortRxQueue,
    tx_port::TxPort,
};
use crate::pipeline::ports::MAX_PORTS;
use dpdk::cycles;

impl Worker {
    /// Makes room for all ports and queues that may come.
    pub(super) fn reserve(&mut self) {
        self.rx_queues.reserve(MAX_RX_QUEUES.saturating_sub(self.rx_queues.len()));
        self.egress.tx_ports.reserve(MAX_PORTS.saturating_sub(self.egress.tx_ports.len()));
        self.vifs.reserve(MAX_PORTS);
        self.bonds.reserve(MAX_PORTS);
        self.egress.markers.barrier.reserve(MAX_RX_QUEUES, MAX_PORTS);
        self.slow_changes.taking.reserve(MAX_RX_QUEUES);
    }

    /// Begins a change.
    #[cold]
    pub(super) fn change(&mut self, mut change: Box<Change>) {
        match &mut *change {
            Change::Release { .. } => {
                let until = self.egress.now + cycles::tsc_hz() / 1000 * RELEASE_MS;
                if let Some((other, _)) = self.slow_changes.releasing.replace((change, until)) {
                    self.returned(other);
                }
            }
            Change::Take(taken) => {
                if let Some((queue, depth)) = taken.take() {
                    self.poll(queue);
                    self.egress.markers.barrier.take(depth);
                }
                self.slow_changes.taking.push(change);
            }
            quick => {
                self.apply(quick);
                self.returned(change);
            }
        }
    }

    /// Gives a change back to the control thread.
    fn returned(&self, change: Box<Change>) {
        // There are as many places in both rings.
        let _ = self.egress.rings.changed.push(change);
        self.egress.rings.wake.notify();
    }

    /// Whether a change takes several rounds.
    #[inline]
    pub(super) fn has_slow_changes(&self) -> bool {
        self.slow_changes.releasing.is_some() || !self.slow_changes.taking.is_empty()
    }

    /// Goes on with such changes, at the end of a round. `serves`: the barrier was served in it. Returns whether there is
    /// more to do. To wait for others is not: they may need this CPU.
    #[cold]
    pub(super) fn advance_changes(&mut self, serves: bool) -> bool {
        if self.egress.markers.barrier.has_polled_taken() {
            while let Some(change) = self.slow_changes.taking.pop() {
                self.returned(change);
            }
        }
        let is_taking = !self.slow_changes.taking.is_empty();
        let Some((mut change, until)) = self.slow_changes.releasing.take() else { return is_taking };
        let to_the_end = matches!(&*change, Change::Release { to_the_end: true, .. });
        let is_given = !serves && self.egress.is_quiet(to_the_end) && self.give(&mut change);
        if is_given || self.egress.now >= until {
            self.returned(change);
        } else {
            self.slow_changes.releasing = Some((change, until));
        }
        is_taking
    }

    /// Gives a receive queue to the other lcore, which polls it from its next round on.
    fn give(&mut self, change: &mut Change) -> bool {
        let Change::Release { port, queue, to, take, .. } = change else { return false };
        let is_it = |rx: &PortRxQueue| rx.port == *port && rx.queue.index() == *queue;
        let (Some(at), Some(mut taken)) = (self.rx_queues.iter().position(is_it), take.take()) else {
            return false;
        };
        let Change::Take(slot) = &mut *taken else { return false };
        let Some(depth) = self.egress.markers.barrier.give(at) else {
            *take = Some(taken);
            return false;
        };
        *slot = Some((self.rx_queues.swap_remove(at), depth));
        let Err(mut refused) = to.push(taken) else { return true };
        if let Change::Take(slot) = &mut *refused
            && let Some((rx_queue, depth)) = slot.take()
        {
            self.rx_queues.push(rx_queue);
            self.egress.markers.barrier.add(depth);
            self.egress.markers.barrier.arrived();
        }
        *take = Some(refused);
        false
    }

    /// Executes a change that takes one round.
    fn apply(&mut self, change: &mut Change) {
        match change {
            Change::Ports(ports) => std::mem::swap(&mut self.ports, ports),
            Change::TxPort(port, tx_port) => self.replace_tx_port(*port, tx_port),
            Change::TxQueue(port, queue) => {
                if let Some(TxPort::Own(own)) = self.egress.tx_ports.get_mut(usize::from(*port)) {
                    own.swap_queue(queue);
                }
            }
            Change::Poll(queues) => {
                for (queue, depth) in queues.drain(..) {
                    self.poll(queue);
                    self.egress.markers.barrier.add(depth);
                }
            }
            Change::StopPolling(port, queues) => {
                for at in (0..self.rx_queues.len()).rev() {
                    if self.rx_queues.get(at).is_some_and(|queue| queue.port == *port) {
                        queues.push(self.rx_queues.swap_remove(at));
                        self.egress.markers.barrier.remove(at);
                    }
                }
            }
            Change::LongestSleep(cap_us) => self.idle.set_longest(*cap_us),
            Change::Arrived => self.egress.markers.barrier.arrived(),
            // Not in one round.
            Change::Release { .. } | Change::Take(_) => {}
        }
    }

    /// Polls a queue from now on.
    fn poll(&mut self, mut rx: PortRxQueue) {
        rx.queue.receive_into(&self.egress.pool.0);
        self.rx_queues.push(rx);
    }

    fn replace_tx_port(&mut self, port: u16, tx_port: &mut TxPort) {
        let at = usize::from(port);
        let tx_ports = &mut self.egress.tx_ports;
        if at >= MAX_PORTS {
            return;
        }
        if at >= tx_ports.len() {
            tx_ports.resize_with(at + 1, || TxPort::Closed);
            self.egress.markers.barrier.set_rings(at + 1);
        }
        self.egress.close(port);
        self.vifs.retain(|vif| *vif != port);
        if tx_port.own_hold().is_some() {
            self.vifs.push(port);
        }
        self.bonds.set(port, tx_port.is_own_bond());
        if let Some(before) = self.egress.tx_ports.get_mut(at) {
            std::mem::swap(before, tx_port);
        }
    }
}

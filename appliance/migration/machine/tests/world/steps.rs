//! The steps of the world. Enters: one [`Op`], or a number of rounds in which all pending events happen. Leaves: the
//! world after it.

use super::{HOSTS, Vm, World};
use crate::migration::machine::Event;

#[derive(Debug, Clone, Copy)]
pub enum Op {
    On(usize),
    Off,
    Begin(usize),
    /// Stops at the source; logging is switched off before, or not.
    Stop(bool),
    Start,
    Cancel,
    OperatorBegin(Option<usize>),
    OperatorComplete,
    OperatorAbort,
    Ports(usize),
    Claims(usize),
    Calls(usize),
    Watch(usize),
    Deliver(usize),
    Lose(usize),
    Drained(usize),
    Settled(usize),
    SendFromVm,
    /// Replaces an idle machine by a new one.
    RestartMachine(usize),
    Pass(u64),
    Kill(usize),
    Restart(usize),
    Link(usize, bool),
    Links(bool),
}

impl World {
    pub fn step(&mut self, op: Op) {
        match op {
            Op::On(_) | Op::Off | Op::Begin(_) | Op::Stop(_) | Op::Start | Op::Cancel => self.step_vm(op),
            Op::Ports(_) | Op::Claims(_) | Op::Calls(_) | Op::Watch(_) => self.step_host(op),
            Op::OperatorBegin(target) => {
                self.board.begin(self.now, None, target);
            }
            Op::OperatorComplete => {
                self.board.complete(self.now, None, None);
            }
            Op::OperatorAbort => {
                self.board.abort(None);
            }
            Op::Deliver(nth) => {
                let nth = nth % self.in_flight.len().max(1);
                if let Some((from, to, generation)) = self.in_flight.remove(nth) {
                    self.apply_event(to, Event::Arrived { from, generation });
                }
            }
            Op::Lose(nth) => {
                let nth = nth % self.in_flight.len().max(1);
                self.in_flight.remove(nth);
            }
            Op::Drained(host) => self.apply_event(host, Event::Drained),
            Op::Settled(host) => self.apply_event(host, Event::Settled),
            Op::SendFromVm => self.send_from_vm(),
            Op::RestartMachine(host) if self.station => self.restart_machine(host),
            Op::RestartMachine(_) => {}
            Op::Pass(ms) => self.advance(ms),
            Op::Kill(host) => self.hosts[host] = None,
            Op::Restart(host) => self.restart(host),
            Op::Link(host, on) => self.set_link(host, on),
            Op::Links(on) => (0..HOSTS).for_each(|host| self.set_link(host, on)),
        }
    }

    /// What the VM or its hypervisor does.
    fn step_vm(&mut self, op: Op) {
        match (op, self.vm) {
            (Op::On(place), Vm::Off) => {
                self.vm = Vm::Runs(place, None);
                self.set_rings(place, true, false);
            }
            (Op::Off, vm) => {
                if let Vm::Runs(at, _) = vm {
                    self.set_rings(at, false, false);
                }
                self.vm = Vm::Off;
            }
            (Op::Begin(to), Vm::Runs(at, None)) if at != to => {
                self.vm = Vm::Runs(at, Some(to));
                self.set_logging(at, true);
            }
            (Op::Stop(quietly), Vm::Runs(at, Some(to))) => {
                self.vm = Vm::Transit(at, to);
                if quietly {
                    self.set_logging(at, false);
                }
                self.set_rings(at, false, false);
            }
            (Op::Start, Vm::Transit(_, to)) => {
                self.vm = Vm::Runs(to, None);
                self.set_rings(to, true, false);
            }
            (Op::Cancel, Vm::Runs(at, Some(_))) => {
                self.vm = Vm::Runs(at, None);
                self.set_logging(at, false);
            }
            (Op::Cancel, Vm::Transit(at, _)) => {
                self.vm = Vm::Runs(at, None);
                self.set_rings(at, true, true);
                self.set_logging(at, false);
            }
            _ => {}
        }
    }

    /// Processes one entry of a queue of a host.
    fn step_host(&mut self, op: Op) {
        match op {
            Op::Ports(host) => match self.hosts[host].as_mut().and_then(|a| a.ports.pop_front()) {
                Some(Event::PortUp(port)) if self.station => self.station_seen(host, port),
                Some(event) => self.apply_event(host, event),
                None => {}
            },
            Op::Claims(host) => {
                if let Some(a) = self.hosts[host].as_mut().filter(|a| a.linked)
                    && let Some(answer) = a.session.claim_step(&mut self.board, self.now, host)
                {
                    self.apply_answer(host, answer);
                }
            }
            Op::Calls(host) => {
                let Some(a) = self.hosts[host].as_mut().filter(|a| a.linked) else { return };
                let begun = a.session.call_step(&mut self.board, self.now, host, self.processes[host]);
                if let Some((migration, generation)) = begun {
                    self.apply_event(host, Event::Begun { migration, generation });
                }
            }
            Op::Watch(host) => {
                let Some(a) = self.hosts[host].as_mut().filter(|a| a.linked) else { return };
                if let Some(change) = self.board.log.get(a.session.seen).copied() {
                    a.session.seen += 1;
                    self.apply_change(host, change);
                }
            }
            _ => {}
        }
    }

    /// All pending events happen, in a fair order.
    pub fn run(&mut self, rounds: usize) {
        self.rounds(rounds, true);
    }

    /// As [`World::run`], but no host finishes forwarding: it waits for end markers.
    pub fn run_undrained(&mut self, rounds: usize) {
        self.rounds(rounds, false);
    }

    fn rounds(&mut self, rounds: usize, drained: bool) {
        for round in 0..rounds {
            if round % 4 == 0 {
                self.send_from_vm();
            }
            for host in 0..HOSTS {
                while self.hosts[host].as_ref().is_some_and(|a| !a.ports.is_empty()) {
                    self.step(Op::Ports(host));
                }
                for op in [Op::Claims(host), Op::Calls(host), Op::Settled(host)] {
                    self.step(op);
                }
                if drained {
                    self.step(Op::Drained(host));
                }
                for host in 0..HOSTS {
                    (0..8).for_each(|_| self.step(Op::Watch(host)));
                }
            }
            while !self.in_flight.is_empty() {
                self.step(Op::Deliver(0));
            }
            self.advance(10);
        }
    }
}

//! What must hold in the world. Enters: the world after some steps. Leaves: whether it has settled, where the node is, and
//! whether a frame reaches it.

use super::{Op, PLACES, Vm, World};
use crate::migration::machine::State;
use crate::migration::machine::tests::board::{HOSTS, id};
use crate::migration::record::RedirectTarget;

impl World {
    fn state(&self, host: usize) -> State {
        *self.hosts[host].as_ref().unwrap().machine.state()
    }

    /// After a quiet time: the node is where its port is up, here and at the board, and nothing is pending.
    pub fn is_settled(&self) -> Result<(), String> {
        let place = match self.vm {
            Vm::Runs(at, _) => Some(PLACES[at]),
            Vm::Off | Vm::Transit(..) => None,
        };
        let check = |right: bool, what: &str| if right { Ok(()) } else { Err(what.to_owned()) };
        check(self.in_flight.is_empty(), "announcements are under way")?;
        check(self.board.lock().is_none(), "a lock is left")?;
        check(self.board.record == place.map(|(host, _)| host), "the board has it elsewhere")?;
        for (host, a) in self.hosts.iter().enumerate() {
            let Some(a) = a else { continue };
            let up_to_date = a.session.seen == self.board.log.len() && a.ports.is_empty();
            check(up_to_date, &format!("host {host} has pending events"))?;
            let wanted = match place {
                Some((at, port)) if at == host => State::Here { port },
                _ => State::Away,
            };
            check(*a.machine.state() == wanted, &format!("host {host} is {:?}", a.machine.state()))?;
            check(a.machine.next_deadline().is_none(), &format!("host {host} waits for something"))?;
            check(a.machine.lock().is_none() && a.session.is_quiet(), "host {host} wants something")?;
            let over = wanted == State::Away || self.station;
            check(!over || a.machine.is_idle(), &format!("host {host} is not idle"))?;
        }
        Ok(())
    }

    pub fn heal(&mut self) {
        for host in 0..HOSTS {
            self.restart(host);
        }
        self.step(Op::Links(true));
        match self.vm {
            Vm::Transit(..) => self.step(Op::Start),
            Vm::Runs(_, Some(_)) => self.step(Op::Cancel),
            _ => {}
        }
    }

    pub fn is_at(&self, host: usize) -> bool {
        self.board.record == Some(host)
    }

    pub fn is_locked(&self) -> bool {
        self.board.lock().is_some()
    }

    /// Runs the world until it has settled, at most this long.
    pub fn assert_settles_within(&mut self, limit_ms: u64) {
        let start = self.now;
        self.run(1);
        while let Err(why) = self.is_settled() {
            assert!(self.now - start < limit_ms, "{why}; {}", self.show());
            self.run(1);
        }
        self.run(50);
        assert_eq!(self.is_settled(), Ok(()), "it did not last; {}", self.show());
    }

    pub fn show(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().flatten().map(|a| (&a.machine, &a.session)).collect();
        format!("{:?} {:?} {hosts:?}", self.vm, self.board)
    }

    /// A frame for the VM that a host with the board's record sends reaches it by at most one redirection.
    pub fn vm_is_reachable(&self) -> bool {
        let (Vm::Runs(at, _), Some(holder)) = (self.vm, self.board.record) else { return true };
        let (host, port) = PLACES[at];
        match self.state(holder) {
            State::Here { port: p } | State::Leaving { port: p } | State::Arriving { port: p, .. } => {
                (holder, p) == (host, port)
            }
            State::Forwarding { to: RedirectTarget::Host(to), .. } => {
                to == id(host)
                    && matches!(
                        self.state(host),
                        State::Here { port: p } | State::Leaving { port: p } | State::Arriving { port: p, .. }
                            if p == port
                    )
            }
            State::Forwarding { to: RedirectTarget::Port(p), .. } => (holder, p) == (host, port),
            State::Away | State::Paused { .. } | State::Expected { .. } => false,
        }
    }
}

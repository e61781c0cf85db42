//! The rules of the state machine: what each event does in each state. One function an event, one arm a state.
//! What it means to enter a state is in `entry`.

use super::{
    ANNOUNCE_MAX_MS, Action, Announcing, CANCEL_MS, Event, Facts, Machine, Record,
    State::{Arriving, Away, Expected, Forwarding, Here, Leaving, Paused},
    Target,
};
use stopover_bbs::model::{Lock, Unlocked};

impl Machine {
    pub(super) fn apply(&mut self, now: u64, event: Event) {
        match event {
            Event::PortUp(port) => self.port_up(now, port),
            Event::PortDown(port) => self.port_down(now, port),
            Event::Logging(port, on) => self.logging_is(now, port, on),
            Event::Record(record) => self.recorded(now, record),
            Event::Locked(lock) => self.locked(lock),
            Event::Unlocked(outcome) => self.unlocked(now, outcome),
            Event::Begun { migration, generation } => self.begun(migration, generation),
            Event::Arrived { from, generation } => self.arrived(now, from, generation),
            Event::Drained => self.drained(now),
            Event::Settled => self.settled(),
            Event::Refused => self.refused(),
            Event::Tick => self.tick(now),
        }
        self.always();
    }

    fn port_up(&mut self, now: u64, port: u16) {
        let exact = self.config.exact;
        if !self.facts.up.contains(&port) {
            self.facts.up.push(port);
        }
        match self.state {
            Away => self.start(now, port),
            // Windowed: its link is up, or its station was heard, where it was not before.
            Here { port: at } if at != port && !exact => self.stay(port),
            Leaving { port: at } if at != port && !exact => self.forward(now, at, Target::Port(port)),
            Arriving { port: at, .. } if at != port && !exact => {
                self.act(Action::EndArrival);
                self.start(now, port);
            }
            // Two exact ports: the VM runs on the second when the first stops.
            Here { .. } | Leaving { .. } | Arriving { .. } => {}
            Paused { port: at, .. } if at == port => self.resume(now, port),
            Forwarding { port: at, to } if at == port => {
                self.act(Action::Release { port });
                match to {
                    Target::Host(host) => self.come_from(host),
                    Target::Port(_) => {}
                }
                self.start(now, port);
            }
            Forwarding { to: Target::Port(at), .. } if at == port => {}
            Expected { port: at, .. } if at == port => {
                self.act(Action::Release { port });
                self.start(now, port);
            }
            Forwarding { port: at, to: Target::Host(host) } => {
                self.come_from(host);
                self.forward(now, at, Target::Port(port));
            }
            Paused { port: at, .. } | Forwarding { port: at, .. } | Expected { port: at, .. } => {
                self.forward(now, at, Target::Port(port));
            }
        }
    }

    fn port_down(&mut self, now: u64, port: u16) {
        self.facts.up.retain(|up| *up != port);
        // Whoever starts the rings again says anew whether its pages are logged.
        self.facts.logging.retain(|logging| *logging != port);
        let other = self.facts.up.last().copied();
        let arrived = self.facts.arrived.filter(|(_, until)| now < *until).map(|(host, _)| host);
        let moved = match self.facts.record {
            Record::Other(host) if self.facts.news => Some(host),
            _ => None,
        };
        match self.state {
            Here { port: at } if at == port => match (other, arrived, moved) {
                (Some(other), ..) => self.stay(other),
                (None, Some(host), _) => self.forward(now, port, Target::Host(host)),
                (None, None, Some(host)) => {
                    self.disclaim();
                    self.act(Action::Depart { host });
                    self.away();
                }
                (None, None, None) => {
                    self.disclaim();
                    self.act(Action::Forget);
                    self.away();
                }
            },
            Leaving { port: at } if at == port => match (other, arrived.or(moved)) {
                (Some(other), _) => self.forward(now, port, Target::Port(other)),
                (None, Some(host)) => self.forward(now, port, Target::Host(host)),
                (None, None) => self.pause(now, port),
            },
            Arriving { port: at, .. } if at == port => {
                self.act(Action::EndArrival);
                match (other, arrived) {
                    (Some(other), _) => self.start(now, other),
                    (None, Some(host)) => self.forward(now, port, Target::Host(host)),
                    (None, None) => {
                        self.act(Action::Keep { port });
                        self.pause(now, port);
                    }
                }
            }
            Forwarding { port: at, to: Target::Port(to) } if to == port => match other {
                Some(other) => self.forward(now, at, Target::Port(other)),
                None => {
                    self.act(Action::Keep { port: at });
                    self.pause(now, at);
                }
            },
            Away
            | Here { .. }
            | Leaving { .. }
            | Paused { .. }
            | Forwarding { .. }
            | Arriving { .. }
            | Expected { .. } => {}
        }
    }

    fn logging_is(&mut self, now: u64, port: u16, on: bool) {
        let was = self.facts.logging.contains(&port);
        self.facts.logging.retain(|logging| *logging != port);
        if on {
            self.facts.logging.push(port);
        }
        match self.state {
            Here { port: at } if at == port && on => self.leave(port),
            Arriving { port: at, .. } if at == port && on => {
                self.act(Action::EndArrival);
                self.leave(port);
            }
            Leaving { port: at } if at == port && on && !was => {
                self.deadline = None;
                self.lock_it();
            }
            // The rings may be about to stop, which is then no cancellation.
            Leaving { port: at } if at == port && was && !on => self.deadline = Some(now + CANCEL_MS),
            Away
            | Here { .. }
            | Leaving { .. }
            | Paused { .. }
            | Forwarding { .. }
            | Arriving { .. }
            | Expected { .. } => {}
        }
    }

    fn recorded(&mut self, now: u64, record: Record) {
        let before = std::mem::replace(&mut self.facts.record, record);
        if before == record {
            return;
        }
        self.facts.news = true;
        // What was withdrawn before the board said this was withdrawn of something else.
        self.facts.let_go = false;
        self.facts.whence = match (record, before) {
            (Record::Here, Record::Other(host)) => Some(host),
            (Record::Here, _) => self.lock_from_elsewhere().map(|lock| lock.source),
            (Record::Other(_) | Record::Nowhere, _) => None,
        };
        match (self.state, record) {
            (Away, Record::Here) if self.facts.whence.is_some() => match self.config.declared {
                Some(port) => self.expect(now, port),
                // The board believes in a node that may never show up.
                None => self.deadline = Some(now + self.config.silent_ms),
            },
            (Away, Record::Other(_) | Record::Nowhere) => self.deadline = None,
            (Away, Record::Here) => {}
            // The board's first word of it: its record, not our claim, is the older.
            (Here { port }, Record::Other(host)) if before == Record::Nowhere => {
                self.come_from(host);
                self.start(now, port);
            }
            // The VM is here, or the news that it is not is on its way.
            (Here { .. }, Record::Other(host)) if self.config.exact => {
                let pause = self.config.arrival_ms;
                self.announcing = Some(Announcing { to: host, at: now + pause, pause });
            }
            (Here { .. }, Record::Other(host)) => {
                self.disclaim();
                self.act(Action::Depart { host });
                self.away();
            }
            (Here { .. } | Leaving { .. } | Arriving { .. }, Record::Here) => self.announcing = None,
            (Here { .. } | Leaving { .. } | Arriving { .. }, Record::Nowhere) => {}
            (Leaving { port }, Record::Other(host)) if !self.config.exact => {
                self.forward(now, port, Target::Host(host));
            }
            (Leaving { .. }, Record::Other(_)) => self.doubt(now),
            (Paused { .. }, Record::Here | Record::Nowhere) => {}
            (Paused { port, .. } | Expected { port, .. }, Record::Other(host)) => {
                self.forward(now, port, Target::Host(host));
            }
            (Forwarding { to: Target::Port(_), .. }, _) => {}
            (Forwarding { to: Target::Host(to), .. }, Record::Other(host)) if to == host => {
                self.deadline = None;
            }
            (Forwarding { port, .. }, Record::Other(host)) => self.forward(now, port, Target::Host(host)),
            (Forwarding { .. }, Record::Here | Record::Nowhere) => {
                self.deadline = Some(now + self.config.hold_ms);
            }
            (Arriving { port, since, .. }, Record::Other(host)) => {
                self.state = Arriving { port, from: Some(host), since };
                self.announce(now, host);
            }
            (Expected { .. }, Record::Here) => {}
            (Expected { port, .. }, Record::Nowhere) => self.expire(port),
        }
    }

    fn locked(&mut self, lock: Lock) {
        self.facts.ending = self.facts.ending.filter(|ending| *ending == lock.migration);
        let leaves = self.facts.ending.is_none();
        self.facts.lock = Some(lock);
        self.facts.latest = Some(lock);
        let elsewhere = self.lock_from_elsewhere().is_some();
        match self.state {
            Here { .. } if elsewhere => self.born(),
            Arriving { port, .. } if leaves && self.lock_from_here().is_some() => {
                self.act(Action::EndArrival);
                self.leave(port);
            }
            Arriving { .. } => self.born(),
            // Let go: the board may give it to whoever claims it.
            Paused { .. } => self.withdraw(),
            Away | Here { .. } | Leaving { .. } | Forwarding { .. } | Expected { .. } => {}
        }
    }

    fn unlocked(&mut self, now: u64, outcome: Unlocked) {
        if outcome == Unlocked::Completed {
            self.born();
        }
        let ended = self.facts.lock.take().map(|lock| lock.migration);
        // The board's answer about a later one may be here before the watch tells of the earlier's end.
        self.facts.ours = self.facts.ours.filter(|(ours, _)| Some(*ours) != ended);
        self.facts.ending = self.facts.ending.filter(|ending| Some(*ending) != ended);
        match self.state {
            Leaving { port } if !self.logging() && self.deadline.is_none() => match self.facts.record {
                Record::Other(_) if self.facts.news => self.doubt(now),
                _ => self.stay_after_all(now, port),
            },
            Away
            | Here { .. }
            | Leaving { .. }
            | Paused { .. }
            | Forwarding { .. }
            | Arriving { .. }
            | Expected { .. } => {}
        }
    }

    fn begun(&mut self, migration: u64, generation: u64) {
        if self.facts.lock.is_none() && self.facts.latest.is_some_and(|lock| lock.migration == migration) {
            // The watch has told of its end before.
            return;
        }
        self.facts.ours = Some((migration, generation));
        let wanted = match self.state {
            Leaving { .. } => self.logging() || self.deadline.is_some(),
            Paused { .. } | Forwarding { .. } => true,
            Away | Here { .. } | Arriving { .. } | Expected { .. } => false,
        };
        if !wanted {
            self.abort();
        }
    }

    fn arrived(&mut self, now: u64, from: u32, generation: u64) {
        let Facts { own, born, record, .. } = self.facts;
        let older = self.lock_from_here().is_some_and(|lock| generation < lock.generation);
        if own == Some(from) || (generation != 0 && (generation <= born || older)) {
            return;
        }
        let to = Target::Host(from);
        match self.state {
            // It had expired, and the board does not know yet.
            Away if record == Record::Here => match self.facts.last_port.or(self.config.declared) {
                Some(port) => {
                    self.act(Action::ShowLocal { port });
                    self.forward(now, port, to);
                }
                None => self.disclaim(),
            },
            Leaving { port } if !self.config.exact => self.forward(now, port, to),
            Here { .. } | Leaving { .. } | Arriving { .. } => {
                self.facts.arrived = Some((from, now + self.config.hold_ms));
            }
            // It runs there although the board gave it back to us meanwhile: that host's claim must not find us in its way.
            Forwarding { to: known, .. } if known == to => {
                if record == Record::Here {
                    self.disclaim();
                }
            }
            Paused { port, .. } | Expected { port, .. } | Forwarding { port, to: Target::Host(_) } => {
                self.forward(now, port, to);
            }
            Away | Forwarding { to: Target::Port(_), .. } => {}
        }
    }

    fn drained(&mut self, now: u64) {
        match (self.state, self.facts.record) {
            (Forwarding { to: Target::Host(to), .. }, Record::Other(host))
                if self.facts.news || host == to =>
            {
                self.depart(host);
            }
            (Forwarding { to: Target::Port(port), .. }, _) => {
                self.act(Action::ShowLocal { port });
                self.act(Action::Release { port });
                self.complete_here();
                self.start(now, port);
                self.act(Action::Report);
            }
            (
                Away
                | Here { .. }
                | Leaving { .. }
                | Paused { .. }
                | Forwarding { .. }
                | Arriving { .. }
                | Expected { .. },
                _,
            ) => {}
        }
    }

    fn settled(&mut self) {
        match self.state {
            Arriving { port, .. } => {
                self.act(Action::EndArrival);
                self.state = Here { port };
                self.deadline = None;
                self.act(Action::Report);
            }
            Away | Here { .. } | Leaving { .. } | Paused { .. } | Forwarding { .. } | Expected { .. } => {}
        }
    }

    fn refused(&mut self) {
        match self.state {
            Here { .. } | Arriving { .. } if !self.config.exact => {
                if matches!(self.state, Arriving { .. }) {
                    self.act(Action::EndArrival);
                }
                self.withdraw();
                match self.facts.record {
                    Record::Other(host) => self.act(Action::Depart { host }),
                    Record::Here | Record::Nowhere => self.act(Action::Forget),
                }
                self.away();
            }
            // Kept frames are not left behind: what is waited for comes, or its time ends.
            Away
            | Here { .. }
            | Leaving { .. }
            | Paused { .. }
            | Forwarding { .. }
            | Arriving { .. }
            | Expected { .. } => {}
        }
    }

    fn tick(&mut self, now: u64) {
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            match self.state {
                Away if self.facts.record == Record::Here => {
                    self.facts.whence = None;
                    self.disclaim();
                }
                // Another's lock goes on without logging.
                Leaving { .. } if self.lock_from_here().is_some() && self.facts.ours.is_none() => {}
                Leaving { port } => self.stay_after_all(now, port),
                Paused { port, .. } | Expected { port, .. } => self.expire(port),
                Forwarding { port, .. } => match self.facts.record {
                    Record::Nowhere if self.facts.lock.is_none() => self.expire(port),
                    // An old record, but it has stood the test of time.
                    Record::Other(host) => self.depart(host),
                    _ => {
                        // Nobody has claimed it in all this time, or the board was told to give it back.
                        self.disclaim();
                        self.abort();
                        self.deadline = Some(now + self.config.hold_ms);
                    }
                },
                Arriving { .. } => self.settled(),
                Away | Here { .. } => {}
            }
        }
        if let Some(Announcing { to, at, pause }) = self.announcing
            && at <= now
        {
            self.act(Action::Announce { to, generation: self.generation() });
            let pause = (2 * pause).clamp(1, ANNOUNCE_MAX_MS);
            self.announcing = Some(Announcing { to, at: now + pause, pause });
        }
    }
}

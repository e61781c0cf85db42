//! The rules of the state machine: what each event does in each state. One function an event, one arm a state;
//! below them what entering a state means, and what holds whatever has happened.

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
        self.facts.whence = match (record, before) {
            (Record::Here, Record::Other(host)) => Some(host),
            (Record::Here, _) => self.lock_from_elsewhere().map(|lock| lock.source),
            (Record::Other(_) | Record::Nowhere, _) => None,
        };
        match (self.state, record) {
            (Away, Record::Here) if self.facts.whence.is_some() => match self.config.declared {
                Some(port) => self.expect(now, port),
                // The board believes in a node that may never show up.
                None => self.deadline = Some(now + self.config.hold_ms),
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
        if self.facts.lock.is_none_or(|known| known.migration != lock.migration) {
            self.facts.ending = None;
        }
        self.facts.lock = Some(lock);
        self.facts.latest = Some(lock);
        let elsewhere = self.lock_from_elsewhere().is_some();
        match self.state {
            Here { .. } if elsewhere => self.born(),
            Arriving { port, .. } if !elsewhere && self.lock_from_here().is_some() => {
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
        self.facts.lock = None;
        self.facts.ours = None;
        self.facts.ending = None;
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
            Forwarding { to: known, .. } if known == to => {}
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
                self.act(Action::Depart { host });
                self.away();
                self.act(Action::Report);
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

    fn tick(&mut self, now: u64) {
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            match self.state {
                Away if self.facts.record == Record::Here => self.disclaim(),
                // Another's lock goes on without logging.
                Leaving { .. } if self.lock_from_here().is_some() && self.facts.ours.is_none() => {}
                Leaving { port } => self.stay_after_all(now, port),
                Paused { port, .. } | Expected { port, .. } => self.expire(port),
                Forwarding { port, .. } => match self.facts.record {
                    Record::Nowhere if self.facts.lock.is_none() => self.expire(port),
                    _ => {
                        // Nobody has claimed it in all this time.
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

    /// What holds whatever has happened.
    fn always(&mut self) {
        let held = matches!(self.state, Here { .. } | Leaving { .. } | Arriving { .. });
        if let Some(lock) = self.facts.lock
            && self.facts.ending != Some(lock.migration)
            && held
        {
            match self.state {
                // The VM runs here, which is where it was to go.
                _ if self.lock_to_here() => self.complete(lock),
                Here { port } if self.lock_from_here().is_some() => self.leave(port),
                _ => {}
            }
        }
        if !held {
            self.announcing = None;
        }
        if self.facts.stand_in && !matches!(self.state, Leaving { .. } | Paused { .. } | Forwarding { .. }) {
            self.facts.stand_in = false;
            self.act(Action::StandIn(false));
        }
    }

    /// The VM runs behind this port, and nothing is kept any more.
    fn start(&mut self, now: u64, port: u16) {
        let from = match (self.facts.whence, self.facts.record) {
            (Some(host), _) | (None, Record::Other(host)) => Some(host),
            (None, Record::Here | Record::Nowhere) => None,
        };
        let ours = self.facts.ours.is_some();
        match from {
            Some(host) if self.facts.own != Some(host) => {
                self.stay(port);
                self.act(Action::StartArrival { port, from });
                self.state = Arriving { port, from, since: now };
                self.deadline = Some(now + self.config.arrival_ms);
                self.announce(now, host);
            }
            _ => self.stay(port),
        }
        if self.facts.logging.contains(&port) {
            if matches!(self.state, Arriving { .. }) {
                self.act(Action::EndArrival);
            }
            self.leave(port);
        } else if ours {
            self.abort();
        }
    }

    /// It is here and has not come from anywhere.
    fn stay(&mut self, port: u16) {
        self.act(Action::ShowLocal { port });
        self.claim();
        self.state = Here { port };
        self.deadline = None;
        self.facts.whence = None;
        self.facts.news = false;
        self.facts.arrived = None;
        if self.lock_from_elsewhere().is_some() {
            self.born();
        }
    }

    fn leave(&mut self, port: u16) {
        self.state = Leaving { port };
        self.deadline = None;
        self.act(Action::Keep { port });
        if !self.config.exact {
            self.facts.stand_in = true;
            self.act(Action::StandIn(true));
        }
        if self.logging() {
            self.lock_it();
        }
    }

    /// The migration was cancelled, or the VM did not go where the board believes it.
    fn stay_after_all(&mut self, now: u64, port: u16) {
        self.act(Action::Release { port });
        self.abort();
        match self.facts.record {
            Record::Other(host) if self.facts.news => {
                self.come_from(host);
                self.start(now, port);
            }
            _ => {
                self.state = Here { port };
                self.deadline = None;
                self.facts.arrived = None;
                self.act(Action::Report);
            }
        }
    }

    /// The board believes it elsewhere, though its port is up. That may be early, or wrong.
    fn doubt(&mut self, now: u64) {
        if !self.logging() && self.facts.lock.is_none() && self.deadline.is_none() {
            self.deadline = Some(now + self.config.hold_ms);
        }
    }

    fn pause(&mut self, now: u64, port: u16) {
        self.state = Paused { port, since: now };
        self.deadline = Some(now + self.config.hold_ms);
        // Without a lock the node would vanish from the board, and its senders would lose sight of it.
        if self.facts.lock.is_some() || self.facts.record != Record::Here {
            self.withdraw();
        }
    }

    /// Its rings run again where they stopped.
    fn resume(&mut self, now: u64, port: u16) {
        if let Record::Other(host) = self.facts.record {
            self.come_from(host);
            self.act(Action::Release { port });
            return self.start(now, port);
        }
        let logging = self.facts.logging.contains(&port);
        self.claim();
        self.facts.news = false;
        self.facts.arrived = None;
        self.deadline = None;
        if logging || (self.lock_from_here().is_some() && self.facts.ours.is_none()) {
            self.state = Leaving { port };
        } else {
            self.act(Action::Release { port });
            self.state = Here { port };
            self.abort();
            self.act(Action::Report);
        }
    }

    fn forward(&mut self, now: u64, port: u16, to: Target) {
        self.state = Forwarding { port, to };
        self.facts.arrived = None;
        match to {
            Target::Host(host) => {
                self.disclaim();
                let sure = self.facts.news && self.facts.record == Record::Other(host);
                self.deadline = (!sure).then_some(now + self.config.hold_ms);
                // A windowed port may be up without the VM; an exact one is down.
                self.facts.up.clear();
                self.facts.logging.clear();
            }
            Target::Port(_) => {
                self.claim();
                self.deadline = None;
                self.facts.logging.retain(|logging| *logging != port);
            }
        }
        self.act(Action::Forward { port, to });
    }

    /// The node was moved here, and frames for it come before its VM does.
    fn expect(&mut self, now: u64, port: u16) {
        self.state = Expected { port, since: now };
        self.deadline = Some(now + self.config.hold_ms);
        self.act(Action::ShowLocal { port });
        self.claim();
        self.act(Action::Keep { port });
    }

    /// Nobody has taken it over in time.
    fn expire(&mut self, port: u16) {
        self.act(Action::Discard { port });
        self.act(Action::Forget);
        self.disclaim();
        self.abort();
        self.away();
        self.act(Action::Report);
    }

    fn away(&mut self) {
        self.facts.last_port = self.port();
        self.state = Away;
        self.deadline = None;
        self.facts.arrived = None;
        self.facts.whence = None;
        self.facts.logging.clear();
    }

    /// The VM was at this host before it came up here, whatever the board's record says.
    fn come_from(&mut self, host: u32) {
        self.facts.whence = Some(host);
    }

    fn announce(&mut self, now: u64, to: u32) {
        let pause = self.config.arrival_ms.max(1);
        self.act(Action::Announce { to, generation: self.generation() });
        self.announcing =
            (self.facts.record != Record::Here).then_some(Announcing { to, at: now + pause, pause });
    }

    /// Of the lock under which the VM came here, if the board knows where it was to go.
    fn generation(&self) -> u64 {
        self.facts.lock.filter(|_| self.lock_to_here()).map_or(0, |lock| lock.generation)
    }

    fn born(&mut self) {
        let known = self.lock_from_elsewhere().map_or(0, |lock| lock.generation);
        self.facts.born = self.facts.born.max(known);
    }

    fn lock_from_here(&self) -> Option<Lock> {
        self.facts.lock.filter(|lock| self.facts.own == Some(lock.source))
    }

    fn lock_from_elsewhere(&self) -> Option<Lock> {
        self.facts.lock.filter(|lock| self.facts.own.is_some_and(|own| own != lock.source))
    }

    fn lock_to_here(&self) -> bool {
        self.lock_from_elsewhere().is_some_and(|lock| lock.target.is_none() || lock.target == self.facts.own)
    }

    fn lock_it(&mut self) {
        if self.facts.ours.is_none() {
            self.act(Action::Lock);
        }
    }

    /// Ends the migration that our session keeps alive, if there is one.
    fn abort(&mut self) {
        if let Some((migration, generation)) = self.facts.ours.take() {
            self.facts.ending = Some(migration);
            self.act(Action::Abort { migration, generation });
        }
    }

    fn complete(&mut self, lock: Lock) {
        let Lock { migration, generation, .. } = lock;
        self.facts.ending = Some(migration);
        self.act(Action::Complete { migration, generation });
    }

    /// It went from one port of this host to another.
    fn complete_here(&mut self) {
        if let Some(lock) = self.lock_from_here()
            && lock.target.is_none_or(|target| target == lock.source)
        {
            self.facts.ours = None;
            self.complete(lock);
        }
    }

    fn claim(&mut self) {
        self.facts.claimed = true;
        self.act(Action::Claim);
    }

    fn withdraw(&mut self) {
        if std::mem::take(&mut self.facts.claimed) {
            self.act(Action::Withdraw);
        }
    }

    /// Withdraws it also when the board has it here without our claim: a session withdraws what it claimed.
    fn disclaim(&mut self) {
        if self.facts.record == Record::Here && !self.facts.claimed {
            self.claim();
        }
        self.withdraw();
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }
}

//! What it means to enter a state, what holds whatever has happened, and what the facts say.

use super::{
    Action, Announcing, Machine, Record,
    State::{Arriving, Away, Expected, Forwarding, Here, Leaving, Paused},
    Target,
};
use stopover_bbs::model::Lock;

impl Machine {
    /// What holds whatever has happened.
    pub(super) fn always(&mut self) {
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
        if !self.facts.stand_in && !self.config.exact && matches!(self.state, Leaving { .. }) {
            self.facts.stand_in = true;
            self.act(Action::StandIn(true));
        }
        if self.facts.stand_in && !matches!(self.state, Leaving { .. } | Paused { .. } | Forwarding { .. }) {
            self.facts.stand_in = false;
            self.act(Action::StandIn(false));
        }
    }

    /// The VM runs behind this port, and nothing is kept any more.
    pub(super) fn start(&mut self, now: u64, port: u16) {
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
    pub(super) fn stay(&mut self, port: u16) {
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

    pub(super) fn leave(&mut self, port: u16) {
        self.state = Leaving { port };
        self.deadline = None;
        self.act(Action::Keep { port });
        if self.logging() {
            self.lock_it();
        }
    }

    /// The migration was cancelled, or the VM did not go where the board believes it.
    pub(super) fn stay_after_all(&mut self, now: u64, port: u16) {
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
    pub(super) fn doubt(&mut self, now: u64) {
        if !self.logging() && self.facts.lock.is_none() && self.deadline.is_none() {
            self.deadline = Some(now + self.config.hold_ms);
        }
    }

    pub(super) fn pause(&mut self, now: u64, port: u16) {
        self.state = Paused { port, since: now };
        self.deadline = Some(now + self.config.hold_ms);
        // Without a lock the node would vanish from the board, and its senders would lose sight of it.
        if self.facts.lock.is_some() || self.facts.record != Record::Here {
            self.withdraw();
        }
    }

    /// Its rings run again where they stopped.
    pub(super) fn resume(&mut self, now: u64, port: u16) {
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

    pub(super) fn forward(&mut self, now: u64, port: u16, to: Target) {
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
    pub(super) fn expect(&mut self, now: u64, port: u16) {
        self.state = Expected { port, since: now };
        self.deadline = Some(now + self.config.hold_ms);
        self.act(Action::ShowLocal { port });
        self.claim();
        self.act(Action::Keep { port });
    }

    /// Its way there is known to all.
    pub(super) fn depart(&mut self, host: u32) {
        self.act(Action::Depart { host });
        self.away();
        self.act(Action::Report);
    }

    /// Nobody has taken it over in time.
    pub(super) fn expire(&mut self, port: u16) {
        self.act(Action::Discard { port });
        self.act(Action::Forget);
        self.disclaim();
        self.away();
        self.act(Action::Report);
    }

    pub(super) fn away(&mut self) {
        self.facts.last_port = self.port();
        self.state = Away;
        self.deadline = None;
        self.facts.arrived = None;
        self.facts.whence = None;
        self.facts.logging.clear();
        if !self.config.exact {
            // A windowed port may be up without the VM.
            self.facts.up.clear();
        }
        self.abort();
    }

    /// The VM was at this host before it came up here, whatever the board's record says.
    pub(super) fn come_from(&mut self, host: u32) {
        self.facts.whence = Some(host);
    }

    pub(super) fn announce(&mut self, now: u64, to: u32) {
        let pause = self.config.arrival_ms.max(1);
        self.act(Action::Announce { to, generation: self.generation() });
        self.announcing =
            (self.facts.record != Record::Here).then_some(Announcing { to, at: now + pause, pause });
    }

    /// Of the lock under which the VM came here, if the board knows where it was to go.
    pub(super) fn generation(&self) -> u64 {
        self.facts.lock.filter(|_| self.lock_to_here()).map_or(0, |lock| lock.generation)
    }

    pub(super) fn born(&mut self) {
        let known = self.lock_from_elsewhere().map_or(0, |lock| lock.generation);
        self.facts.born = self.facts.born.max(known);
    }

    pub(super) fn lock_from_here(&self) -> Option<Lock> {
        self.facts.lock.filter(|lock| self.facts.own == Some(lock.source))
    }

    pub(super) fn lock_from_elsewhere(&self) -> Option<Lock> {
        self.facts.lock.filter(|lock| self.facts.own.is_some_and(|own| own != lock.source))
    }

    fn lock_to_here(&self) -> bool {
        self.lock_from_elsewhere().is_some_and(|lock| lock.target.is_none() || lock.target == self.facts.own)
    }

    pub(super) fn lock_it(&mut self) {
        if self.facts.ours.is_none() {
            self.act(Action::Lock);
        }
    }

    /// Ends the migration that our session keeps alive, if there is one.
    pub(super) fn abort(&mut self) {
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
    pub(super) fn complete_here(&mut self) {
        if let Some(lock) = self.lock_from_here()
            && lock.target.is_none_or(|target| target == lock.source)
        {
            self.facts.ours = self.facts.ours.filter(|(ours, _)| *ours != lock.migration);
            self.complete(lock);
        }
    }

    fn claim(&mut self) {
        self.facts.claimed = true;
        self.facts.let_go = false;
        self.act(Action::Claim);
    }

    pub(super) fn withdraw(&mut self) {
        if std::mem::take(&mut self.facts.claimed) {
            self.facts.let_go = true;
            self.act(Action::Withdraw);
        }
    }

    /// Withdraws it also when the board has it here without our claim: a session withdraws what it claimed.
    pub(super) fn disclaim(&mut self) {
        if self.facts.record == Record::Here && !self.facts.claimed && !self.facts.let_go {
            self.claim();
        }
        self.withdraw();
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }
}

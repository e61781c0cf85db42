//! Entering a state, the invariants of all states, and queries of the facts.

use super::{
    Action, Announcing, Machine, Record, RedirectTarget,
    State::{Arriving, Away, Expected, Forwarding, Here, Leaving, Paused},
};
use stopover_bbs::model::Lock;

impl Machine {
    /// Enforces what holds after any event.
    pub(super) fn enforce_invariants(&mut self) {
        let held = matches!(self.state, Here { .. } | Leaving { .. } | Arriving { .. });
        if let Some(lock) = self.facts.lock
            && self.facts.ending != Some(lock.migration)
            && held
        {
            match self.state {
                // The VM runs here, at the target of the lock.
                _ if self.lock_to_here() => self.complete(lock),
                Here { port } if self.lock_from_here().is_some() => self.enter_leaving(port),
                _ => {}
            }
        }
        if !held {
            self.announcing = None;
        }
        if !self.facts.stand_in && !self.config.exact && matches!(self.state, Leaving { .. }) {
            self.facts.stand_in = true;
            self.push_action(Action::StandIn(true));
        }
        if self.facts.stand_in && !matches!(self.state, Leaving { .. } | Paused { .. } | Forwarding { .. }) {
            self.facts.stand_in = false;
            self.push_action(Action::StandIn(false));
        }
    }

    /// The VM runs behind this port, and no frame is held any more.
    pub(super) fn start_here(&mut self, now: u64, port: u16) {
        let from = match (self.facts.previous_host, self.facts.record) {
            (Some(host), _) | (None, Record::Other(host)) => Some(host),
            (None, Record::Here | Record::Nowhere) => None,
        };
        let ours = self.facts.own_migration.is_some();
        match from {
            Some(host) if self.facts.own != Some(host) => {
                self.enter_here(port);
                self.push_action(Action::StartArrival { port, from });
                self.state = Arriving { port, from, since: now };
                self.deadline = Some(now + self.config.arrival_ms);
                self.announce(now, host);
            }
            _ => self.enter_here(port),
        }
        if self.facts.logging.contains(&port) {
            if matches!(self.state, Arriving { .. }) {
                self.push_action(Action::EndArrival);
            }
            self.enter_leaving(port);
        } else if ours {
            self.abort();
        }
    }

    /// It is here, not by a migration.
    pub(super) fn enter_here(&mut self, port: u16) {
        self.push_action(Action::ShowLocal { port });
        self.claim();
        self.state = Here { port };
        self.deadline = None;
        self.facts.previous_host = None;
        self.facts.record_changed = false;
        self.facts.announced_by = None;
        if self.lock_from_elsewhere().is_some() {
            self.note_arrival_generation();
        }
    }

    pub(super) fn enter_leaving(&mut self, port: u16) {
        self.state = Leaving { port };
        self.deadline = None;
        self.push_action(Action::Hold { port });
        if self.logging() {
            self.request_lock();
        }
    }

    /// The migration was cancelled, or the VM did not move to the host that the board has.
    pub(super) fn cancel_departure(&mut self, now: u64, port: u16) {
        self.push_action(Action::Release { port });
        self.abort();
        match self.facts.record {
            Record::Other(host) if self.facts.record_changed => {
                self.set_previous_host(host);
                self.start_here(now, port);
            }
            _ => {
                self.state = Here { port };
                self.deadline = None;
                self.facts.announced_by = None;
                self.push_action(Action::Report);
            }
        }
    }

    /// The board has it elsewhere, but its port is up. That record may be early, or wrong.
    pub(super) fn start_doubt_timer(&mut self, now: u64) {
        if !self.logging() && self.facts.lock.is_none() && self.deadline.is_none() {
            self.deadline = Some(now + self.config.hold_ms);
        }
    }

    pub(super) fn enter_paused(&mut self, now: u64, port: u16) {
        self.state = Paused { port, since: now };
        self.deadline = Some(now + self.config.hold_ms);
        // Without a lock the node would be removed from the board, and its senders would lose it.
        if self.facts.lock.is_some() || self.facts.record != Record::Here {
            self.withdraw();
        }
    }

    /// Its rings run again at the same port.
    pub(super) fn resume(&mut self, now: u64, port: u16) {
        if let Record::Other(host) = self.facts.record {
            self.set_previous_host(host);
            self.push_action(Action::Release { port });
            return self.start_here(now, port);
        }
        let logging = self.facts.logging.contains(&port);
        self.claim();
        self.facts.record_changed = false;
        self.facts.announced_by = None;
        self.deadline = None;
        if logging || (self.lock_from_here().is_some() && self.facts.own_migration.is_none()) {
            self.state = Leaving { port };
        } else {
            self.push_action(Action::Release { port });
            self.state = Here { port };
            self.abort();
            self.push_action(Action::Report);
        }
    }

    pub(super) fn enter_forwarding(&mut self, now: u64, port: u16, to: RedirectTarget) {
        self.state = Forwarding { port, to };
        self.facts.announced_by = None;
        match to {
            RedirectTarget::Host(host) => {
                self.disclaim();
                let confirmed = self.facts.record_changed && self.facts.record == Record::Other(host);
                self.deadline = (!confirmed).then_some(now + self.config.hold_ms);
                // A windowed port may be up without the VM; an exact one is down.
                self.facts.ports_up.clear();
                self.facts.logging.clear();
            }
            RedirectTarget::Port(_) => {
                self.claim();
                self.deadline = None;
                self.facts.logging.retain(|logging| *logging != port);
            }
        }
        self.push_action(Action::Forward { port, to });
    }

    /// The board has moved the node here, and frames for it arrive before its VM starts.
    pub(super) fn enter_expected(&mut self, now: u64, port: u16) {
        self.state = Expected { port, since: now };
        self.deadline = Some(now + self.config.hold_ms);
        self.push_action(Action::ShowLocal { port });
        self.claim();
        self.push_action(Action::Hold { port });
    }

    /// All hosts know its new host.
    pub(super) fn depart(&mut self, host: u32) {
        self.push_action(Action::Depart { host });
        self.enter_away();
        self.push_action(Action::Report);
    }

    /// No host has claimed it in time.
    pub(super) fn expire_hold(&mut self, port: u16) {
        self.push_action(Action::Discard { port });
        self.push_action(Action::Forget);
        self.disclaim();
        self.enter_away();
        self.push_action(Action::Report);
    }

    pub(super) fn enter_away(&mut self) {
        self.facts.last_port = self.port();
        self.state = Away;
        self.deadline = None;
        self.facts.announced_by = None;
        self.facts.previous_host = None;
        self.facts.logging.clear();
        if !self.config.exact {
            // A windowed port may be up without the VM.
            self.facts.ports_up.clear();
        }
        self.abort();
    }

    /// Sets the host that the VM was at before, whatever the board's record is.
    pub(super) fn set_previous_host(&mut self, host: u32) {
        self.facts.previous_host = Some(host);
    }

    pub(super) fn announce(&mut self, now: u64, to: u32) {
        let pause = self.config.arrival_ms.max(1);
        self.push_action(Action::Announce { to, generation: self.generation() });
        self.announcing =
            (self.facts.record != Record::Here).then_some(Announcing { to, at: now + pause, pause });
    }

    /// The generation of the lock of the migration to here, if its target is known.
    pub(super) fn generation(&self) -> u64 {
        self.facts.lock.filter(|_| self.lock_to_here()).map_or(0, |lock| lock.generation)
    }

    pub(super) fn note_arrival_generation(&mut self) {
        let known = self.lock_from_elsewhere().map_or(0, |lock| lock.generation);
        self.facts.arrival_generation = self.facts.arrival_generation.max(known);
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

    pub(super) fn request_lock(&mut self) {
        if self.facts.own_migration.is_none() {
            self.push_action(Action::Lock);
        }
    }

    /// Aborts the migration that our session keeps alive, if there is one.
    pub(super) fn abort(&mut self) {
        if let Some((migration, generation)) = self.facts.own_migration.take() {
            self.facts.ending = Some(migration);
            self.push_action(Action::Abort { migration, generation });
        }
    }

    fn complete(&mut self, lock: Lock) {
        let Lock { migration, generation, .. } = lock;
        self.facts.ending = Some(migration);
        self.push_action(Action::Complete { migration, generation });
    }

    /// It moved from one port of this host to another.
    pub(super) fn complete_local_move(&mut self) {
        if let Some(lock) = self.lock_from_here()
            && lock.target.is_none_or(|target| target == lock.source)
        {
            self.facts.own_migration = self.facts.own_migration.filter(|(ours, _)| *ours != lock.migration);
            self.complete(lock);
        }
    }

    fn claim(&mut self) {
        self.facts.claimed = true;
        self.facts.withdrawn = false;
        self.push_action(Action::Claim);
    }

    pub(super) fn withdraw(&mut self) {
        if std::mem::take(&mut self.facts.claimed) {
            self.facts.withdrawn = true;
            self.push_action(Action::Withdraw);
        }
    }

    /// Withdraws the claim, also if the board has the node here without one: a session withdraws what it has claimed.
    pub(super) fn disclaim(&mut self) {
        if self.facts.record == Record::Here && !self.facts.claimed && !self.facts.withdrawn {
            self.claim();
        }
        self.withdraw();
    }

    pub(super) fn push_action(&mut self, action: Action) {
        self.actions.push(action);
    }
}

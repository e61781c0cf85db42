//! The rules of the state machine: what each event does in each state. One function an event, one arm a state.
//! `entry` has the functions that enter a state.

use super::{
    ANNOUNCE_MAX_MS, Action, Announcing, CANCEL_MS, Event, Facts, Machine, Record, RedirectTarget,
    State::{Arriving, Away, Expected, Forwarding, Here, Leaving, Paused},
};
use stopover_bbs::model::{Lock, Unlocked};

impl Machine {
    pub(super) fn apply(&mut self, now: u64, event: Event) {
        match event {
            Event::PortUp(port) => self.on_port_up(now, port),
            Event::PortDown(port) => self.on_port_down(now, port),
            Event::Logging(port, on) => self.on_logging(now, port, on),
            Event::Record(record) => self.on_record(now, record),
            Event::Locked(lock) => self.on_locked(lock),
            Event::Unlocked(outcome) => self.on_unlocked(now, outcome),
            Event::Begun { migration, generation } => self.on_begun(migration, generation),
            Event::Arrived { from, generation } => self.on_arrived(now, from, generation),
            Event::Drained => self.on_drained(now),
            Event::Settled => self.on_settled(),
            Event::Refused => self.on_refused(),
            Event::Tick => self.on_tick(now),
        }
        self.enforce_invariants();
    }

    fn on_port_up(&mut self, now: u64, port: u16) {
        let exact = self.config.exact;
        if !self.facts.ports_up.contains(&port) {
            self.facts.ports_up.push(port);
        }
        match self.state {
            Away => self.start_here(now, port),
            // Windowed: its link is up, or its station was seen, at another port than before.
            Here { port: at } if at != port && !exact => self.enter_here(port),
            Leaving { port: at } if at != port && !exact => {
                self.enter_forwarding(now, at, RedirectTarget::Port(port))
            }
            Arriving { port: at, .. } if at != port && !exact => {
                self.push_action(Action::EndArrival);
                self.start_here(now, port);
            }
            // Two exact ports: the VM runs on the second when the first stops.
            Here { .. } | Leaving { .. } | Arriving { .. } => {}
            Paused { port: at, .. } if at == port => self.resume(now, port),
            Forwarding { port: at, to } if at == port => {
                self.push_action(Action::Release { port });
                match to {
                    RedirectTarget::Host(host) => self.set_previous_host(host),
                    RedirectTarget::Port(_) => {}
                }
                self.start_here(now, port);
            }
            Forwarding { to: RedirectTarget::Port(at), .. } if at == port => {}
            Expected { port: at, .. } if at == port => {
                self.push_action(Action::Release { port });
                self.start_here(now, port);
            }
            Forwarding { port: at, to: RedirectTarget::Host(host) } => {
                self.set_previous_host(host);
                self.enter_forwarding(now, at, RedirectTarget::Port(port));
            }
            Paused { port: at, .. } | Forwarding { port: at, .. } | Expected { port: at, .. } => {
                self.enter_forwarding(now, at, RedirectTarget::Port(port));
            }
        }
    }

    fn on_port_down(&mut self, now: u64, port: u16) {
        self.facts.ports_up.retain(|up| *up != port);
        // The next start of the rings comes with the logging state.
        self.facts.logging.retain(|logging| *logging != port);
        let other = self.facts.ports_up.last().copied();
        let arrived = self.facts.announced_by.filter(|(_, until)| now < *until).map(|(host, _)| host);
        let moved = match self.facts.record {
            Record::Other(host) if self.facts.record_changed => Some(host),
            _ => None,
        };
        match self.state {
            Here { port: at } if at == port => match (other, arrived, moved) {
                (Some(other), ..) => self.enter_here(other),
                (None, Some(host), _) => self.enter_forwarding(now, port, RedirectTarget::Host(host)),
                (None, None, Some(host)) => {
                    self.disclaim();
                    self.push_action(Action::Depart { host });
                    self.enter_away();
                }
                (None, None, None) => {
                    self.disclaim();
                    self.push_action(Action::Forget);
                    self.enter_away();
                }
            },
            Leaving { port: at } if at == port => match (other, arrived.or(moved)) {
                (Some(other), _) => self.enter_forwarding(now, port, RedirectTarget::Port(other)),
                (None, Some(host)) => self.enter_forwarding(now, port, RedirectTarget::Host(host)),
                (None, None) => self.enter_paused(now, port),
            },
            Arriving { port: at, .. } if at == port => {
                self.push_action(Action::EndArrival);
                match (other, arrived) {
                    (Some(other), _) => self.start_here(now, other),
                    (None, Some(host)) => self.enter_forwarding(now, port, RedirectTarget::Host(host)),
                    (None, None) => {
                        self.push_action(Action::Hold { port });
                        self.enter_paused(now, port);
                    }
                }
            }
            Forwarding { port: at, to: RedirectTarget::Port(to) } if to == port => match other {
                Some(other) => self.enter_forwarding(now, at, RedirectTarget::Port(other)),
                None => {
                    self.push_action(Action::Hold { port: at });
                    self.enter_paused(now, at);
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

    fn on_logging(&mut self, now: u64, port: u16, on: bool) {
        let was = self.facts.logging.contains(&port);
        self.facts.logging.retain(|logging| *logging != port);
        if on {
            self.facts.logging.push(port);
        }
        match self.state {
            Here { port: at } if at == port && on => self.enter_leaving(port),
            Arriving { port: at, .. } if at == port && on => {
                self.push_action(Action::EndArrival);
                self.enter_leaving(port);
            }
            Leaving { port: at } if at == port && on && !was => {
                self.deadline = None;
                self.request_lock();
            }
            // The rings may be about to stop; then this is no cancellation.
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

    fn on_record(&mut self, now: u64, record: Record) {
        let before = std::mem::replace(&mut self.facts.record, record);
        if before == record {
            return;
        }
        self.facts.record_changed = true;
        // An earlier withdrawal concerned the record before.
        self.facts.withdrawn = false;
        self.facts.previous_host = match (record, before) {
            (Record::Here, Record::Other(host)) => Some(host),
            (Record::Here, _) => self.lock_from_elsewhere().map(|lock| lock.source),
            (Record::Other(_) | Record::Nowhere, _) => None,
        };
        self.follow_record(now, before, record);
    }

    /// Handles a record that has changed.
    fn follow_record(&mut self, now: u64, before: Record, record: Record) {
        match (self.state, record) {
            (Away, Record::Here) if self.facts.previous_host.is_some() => match self.config.declared {
                Some(port) => self.enter_expected(now, port),
                // The board has a node that may never appear.
                None => self.deadline = Some(now + self.config.silent_ms),
            },
            (Away, Record::Other(_) | Record::Nowhere) => self.deadline = None,
            (Away, Record::Here) => {}
            // The first record from the board: it is older than our claim.
            (Here { port }, Record::Other(host)) if before == Record::Nowhere => {
                self.set_previous_host(host);
                self.start_here(now, port);
            }
            // The VM is here, or the event of its end has not arrived yet.
            (Here { .. }, Record::Other(host)) if self.config.exact => {
                let pause = self.config.arrival_ms;
                self.announcing = Some(Announcing { to: host, at: now + pause, pause });
            }
            (Here { .. }, Record::Other(host)) => {
                self.disclaim();
                self.push_action(Action::Depart { host });
                self.enter_away();
            }
            (Here { .. } | Leaving { .. } | Arriving { .. }, Record::Here) => self.announcing = None,
            (Here { .. } | Leaving { .. } | Arriving { .. }, Record::Nowhere) => {}
            (Leaving { port }, Record::Other(host)) if !self.config.exact => {
                self.enter_forwarding(now, port, RedirectTarget::Host(host));
            }
            (Leaving { .. }, Record::Other(_)) => self.start_doubt_timer(now),
            (Paused { .. }, Record::Here | Record::Nowhere) => {}
            (Paused { port, .. } | Expected { port, .. }, Record::Other(host)) => {
                self.enter_forwarding(now, port, RedirectTarget::Host(host));
            }
            (Forwarding { to: RedirectTarget::Port(_), .. }, _) => {}
            (Forwarding { to: RedirectTarget::Host(to), .. }, Record::Other(host)) if to == host => {
                self.deadline = None;
            }
            (Forwarding { port, .. }, Record::Other(host)) => {
                self.enter_forwarding(now, port, RedirectTarget::Host(host))
            }
            (Forwarding { .. }, Record::Here | Record::Nowhere) => {
                self.deadline = Some(now + self.config.hold_ms);
            }
            (Arriving { port, since, .. }, Record::Other(host)) => {
                self.state = Arriving { port, from: Some(host), since };
                self.announce(now, host);
            }
            (Expected { .. }, Record::Here) => {}
            (Expected { port, .. }, Record::Nowhere) => self.expire_hold(port),
        }
    }

    fn on_locked(&mut self, lock: Lock) {
        self.facts.ending = self.facts.ending.filter(|ending| *ending == lock.migration);
        let leaves = self.facts.ending.is_none();
        self.facts.lock = Some(lock);
        self.facts.last_lock = Some(lock);
        let elsewhere = self.lock_from_elsewhere().is_some();
        match self.state {
            Here { .. } if elsewhere => self.note_arrival_generation(),
            Arriving { port, .. } if leaves && self.lock_from_here().is_some() => {
                self.push_action(Action::EndArrival);
                self.enter_leaving(port);
            }
            Arriving { .. } => self.note_arrival_generation(),
            // Withdraw: the board may assign it to any host that claims it.
            Paused { .. } => self.withdraw(),
            Away | Here { .. } | Leaving { .. } | Forwarding { .. } | Expected { .. } => {}
        }
    }

    fn on_unlocked(&mut self, now: u64, outcome: Unlocked) {
        if outcome == Unlocked::Completed {
            self.note_arrival_generation();
        }
        let ended = self.facts.lock.take().map(|lock| lock.migration);
        // The answer to a later lock may arrive before the watch reports the end of the earlier one.
        self.facts.own_migration = self.facts.own_migration.filter(|(ours, _)| Some(*ours) != ended);
        self.facts.ending = self.facts.ending.filter(|ending| Some(*ending) != ended);
        match self.state {
            Leaving { port } if !self.logging() && self.deadline.is_none() => match self.facts.record {
                Record::Other(_) if self.facts.record_changed => self.start_doubt_timer(now),
                _ => self.cancel_departure(now, port),
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

    fn on_begun(&mut self, migration: u64, generation: u64) {
        if self.facts.lock.is_none() && self.facts.last_lock.is_some_and(|lock| lock.migration == migration) {
            // The watch has already reported its end.
            return;
        }
        self.facts.own_migration = Some((migration, generation));
        let wanted = match self.state {
            Leaving { .. } => self.logging() || self.deadline.is_some(),
            Paused { .. } | Forwarding { .. } => true,
            Away | Here { .. } | Arriving { .. } | Expected { .. } => false,
        };
        if !wanted {
            self.abort();
        }
    }

    fn on_arrived(&mut self, now: u64, from: u32, generation: u64) {
        let Facts { own, arrival_generation, record, .. } = self.facts;
        let is_older = self.lock_from_here().is_some_and(|lock| generation < lock.generation);
        if own == Some(from) || (generation != 0 && (generation <= arrival_generation || is_older)) {
            return;
        }
        let to = RedirectTarget::Host(from);
        match self.state {
            // Its hold had expired, and the board does not know yet.
            Away if record == Record::Here => match self.facts.last_port.or(self.config.declared) {
                Some(port) => {
                    self.push_action(Action::ShowLocal { port });
                    self.enter_forwarding(now, port, to);
                }
                None => self.disclaim(),
            },
            Leaving { port } if !self.config.exact => self.enter_forwarding(now, port, to),
            Here { .. } | Leaving { .. } | Arriving { .. } => {
                self.facts.announced_by = Some((from, now + self.config.hold_ms));
            }
            // It runs there although the board gave it back to us: our claim must not block the claim of that host.
            Forwarding { to: known, .. } if known == to => {
                if record == Record::Here {
                    self.disclaim();
                }
            }
            Paused { port, .. }
            | Expected { port, .. }
            | Forwarding { port, to: RedirectTarget::Host(_) } => {
                self.enter_forwarding(now, port, to);
            }
            Away | Forwarding { to: RedirectTarget::Port(_), .. } => {}
        }
    }

    fn on_drained(&mut self, now: u64) {
        match (self.state, self.facts.record) {
            (Forwarding { to: RedirectTarget::Host(to), .. }, Record::Other(host))
                if self.facts.record_changed || host == to =>
            {
                self.depart(host);
            }
            (Forwarding { to: RedirectTarget::Port(port), .. }, _) => {
                self.push_action(Action::ShowLocal { port });
                self.push_action(Action::Release { port });
                self.complete_local_move();
                self.start_here(now, port);
                self.push_action(Action::Report);
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

    fn on_settled(&mut self) {
        match self.state {
            Arriving { port, .. } => {
                self.push_action(Action::EndArrival);
                self.state = Here { port };
                self.deadline = None;
                self.push_action(Action::Report);
            }
            Away | Here { .. } | Leaving { .. } | Paused { .. } | Forwarding { .. } | Expected { .. } => {}
        }
    }

    fn on_refused(&mut self) {
        match self.state {
            Here { .. } | Arriving { .. } if !self.config.exact => {
                if matches!(self.state, Arriving { .. }) {
                    self.push_action(Action::EndArrival);
                }
                self.withdraw();
                match self.facts.record {
                    Record::Other(host) => self.push_action(Action::Depart { host }),
                    Record::Here | Record::Nowhere => self.push_action(Action::Forget),
                }
                self.enter_away();
            }
            // Held frames remain: the event that they wait for arrives, or their time ends.
            Away
            | Here { .. }
            | Leaving { .. }
            | Paused { .. }
            | Forwarding { .. }
            | Arriving { .. }
            | Expected { .. } => {}
        }
    }

    fn on_tick(&mut self, now: u64) {
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            match self.state {
                Away if self.facts.record == Record::Here => {
                    self.facts.previous_host = None;
                    self.disclaim();
                }
                // A lock of another owner continues without logging.
                Leaving { .. } if self.lock_from_here().is_some() && self.facts.own_migration.is_none() => {}
                Leaving { port } => self.cancel_departure(now, port),
                Paused { port, .. } | Expected { port, .. } => self.expire_hold(port),
                Forwarding { port, .. } => match self.facts.record {
                    Record::Nowhere if self.facts.lock.is_none() => self.expire_hold(port),
                    // An old record, but it has lasted for the whole hold time.
                    Record::Other(host) => self.depart(host),
                    _ => {
                        // No host has claimed it in this time, or the board was told to give it back.
                        self.disclaim();
                        self.abort();
                        self.deadline = Some(now + self.config.hold_ms);
                    }
                },
                Arriving { .. } => self.on_settled(),
                Away | Here { .. } => {}
            }
        }
        if let Some(Announcing { to, at, pause }) = self.announcing
            && at <= now
        {
            self.push_action(Action::Announce { to, generation: self.generation() });
            let pause = (2 * pause).clamp(1, ANNOUNCE_MAX_MS);
            self.announcing = Some(Announcing { to, at: now + pause, pause });
        }
    }
}

//! The state machine of one node on one appliance: where its VM is, what happens to its frames, and what the board is
//! told. Enters: events of its ports, the board, the packet path and other hosts, and the time as a number. Leaves:
//! [`Action`]s, to be executed in order. No clock, no table, no I/O. The rules are in `rules`;
//! docs/migration-states.md has them as a table, which the tests compare with the code.

mod enter;
mod rules;
#[cfg(test)]
mod tests;

use super::record::RedirectTarget;
use stopover_bbs::model::{Lock, Unlocked};

/// How long after the end of dirty logging the migration counts as cancelled, in milliseconds. A successful migration
/// ends the logging at about the time when the rings stop, and either event may arrive first.
pub const CANCEL_MS: u64 = 200;

/// Longest pause between two announcements of one arrival, in milliseconds. They are repeated because one may be lost
/// while the board is unreachable. Each pause is twice the one before, from `arrival_ms`.
pub const ANNOUNCE_MAX_MS: u64 = 10_000;

/// The constant configuration of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node's ports report what they accepted (vhost-user), and are up only while its VM runs on them. False for
    /// ports with a window (A6).
    pub exact: bool,
    /// An exact port that is declared for this node. The first, if it has two.
    pub declared: Option<u16>,
    /// How long frames are held for a VM that runs nowhere.
    pub hold_ms: u64,
    /// Longest time that an arrival waits for end markers.
    pub arrival_ms: u64,
    /// How long the board's record that the node is here is accepted without the node, if no exact port is declared.
    pub silent_ms: u64,
}

/// Where the board says the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Record {
    /// It has no such node, or has not sent its record yet.
    #[default]
    Nowhere,
    /// At this host.
    Here,
    /// At the host with this id.
    Other(u32),
}

/// Where the node is, as this appliance sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not here.
    Away,
    /// Its VM runs behind this port.
    Here {
        /// Which.
        port: u16,
    },
    /// It runs here and is about to leave: frames that the port refuses are held.
    Leaving {
        /// Behind which port.
        port: u16,
    },
    /// Its rings have stopped and it is unknown where it runs: all frames are held.
    Paused {
        /// Where it ran.
        port: u16,
        /// Since when, milliseconds.
        since: u64,
    },
    /// It runs elsewhere: held frames are redirected there, and later ones follow them.
    Forwarding {
        /// Where it ran.
        port: u16,
        /// Where it runs.
        to: RedirectTarget,
    },
    /// It runs here, and frames by its old host are delivered first.
    Arriving {
        /// Behind which port.
        port: u16,
        /// The old host, if that is known.
        from: Option<u32>,
        /// Since when, milliseconds.
        since: u64,
    },
    /// The board has it here, but its port is not up yet: all frames are held.
    Expected {
        /// Where it will be.
        port: u16,
        /// Since when, milliseconds.
        since: u64,
    },
}

/// An event for the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The rings of the port run; its link is up; the station was seen there. May be repeated.
    PortUp(u16),
    /// The rings, the link or the station are no longer there.
    PortDown(u16),
    /// Dirty logging as the features of the port state it, on each change. It counts as off after a
    /// [`Event::PortDown`]. If it is on when the rings start, this event comes before the [`Event::PortUp`].
    Logging(u16, bool),
    /// Where the board says the node is. May be repeated.
    Record(Record),
    /// The node is locked. May be repeated, and is sent again when the lock changes.
    Locked(Lock),
    /// Its lock has ended. If it ended while the watch was interrupted: `Aborted`, unless the record has changed.
    Unlocked(Unlocked),
    /// The board's answer to [`Action::Lock`]. From then on our session keeps the lock alive.
    Begun {
        /// The migration.
        migration: u64,
        /// Its generation.
        generation: u64,
    },
    /// An end marker of kind `Arrived` from another host.
    Arrived {
        /// Which host.
        from: u32,
        /// The generation of the lock as that host knows it; 0 = none.
        generation: u64,
    },
    /// All held frames have been sent. May be repeated while that holds.
    Drained,
    /// The end markers of all senders have arrived.
    Settled,
    /// The board refuses our claim of the node; a learned station is given up.
    Refused,
    /// [`Machine::next_deadline`] has passed, or [`Machine::set_own`] was called.
    Tick,
}

/// An action, to be executed in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The tables show the node behind this port. May already be so.
    ShowLocal {
        /// Which.
        port: u16,
    },
    /// The tables no longer show it here, but where the board has it.
    Forget,
    /// As `Forget`, and stragglers for it are redirected to this host. Held frames go there first.
    Depart {
        /// Which.
        host: u32,
    },
    /// Claim it at the board, until withdrawn. May already be claimed.
    Claim,
    /// Withdraw the claim.
    Withdraw,
    /// Begin a migration of it from here, with the target unnamed. The answer is [`Event::Begun`].
    Lock,
    /// Complete this migration, at this host.
    Complete {
        /// Which.
        migration: u64,
        /// Its generation.
        generation: u64,
    },
    /// Abort this one.
    Abort {
        /// Which.
        migration: u64,
        /// Its generation.
        generation: u64,
    },
    /// From now on hold, in order, the frames that the port refuses. It still gets those that it accepts.
    Hold {
        /// Which.
        port: u16,
    },
    /// Deliver the held frames to this port, in order and before any newer one; then stop holding.
    Release {
        /// Which: the one that they were held for, or another of this appliance.
        port: u16,
    },
    /// Drop the held frames, which have expired, and stop holding.
    Discard {
        /// For which port it was kept.
        port: u16,
    },
    /// Redirect the frames held for this port and all later ones, in order. Replaces an earlier `Forward`; ended by
    /// `Hold`, `Release`, `Discard` or `Depart`.
    Forward {
        /// For which port it was kept.
        port: u16,
        /// Where it goes.
        to: RedirectTarget,
    },
    /// Hold direct frames of each sender until its end markers have arrived.
    StartArrival {
        /// Where the VM runs.
        port: u16,
        /// The old host, if that is known.
        from: Option<u32>,
    },
    /// Stop that; deliver the held frames to the port.
    EndArrival,
    /// Send `Arrived` markers to this host.
    Announce {
        /// Which.
        to: u32,
        /// The generation in them; 0 = none known.
        generation: u64,
    },
    /// On its own segment the node has its stand-in MAC (A7), or its real one again.
    StandIn(bool),
    /// A migration has ended here: report the counts of [`Machine::migration`] to the board.
    Report,
}

/// The actions of one event.
pub type Actions = Vec<Action>;

/// Announcements, repeated until the board accepts our claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Announcing {
    to: u32,
    at: u64,
    pause: u64,
}

/// The facts that the machine keeps besides its state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    own: Option<u32>,
    record: Record,
    /// The record has changed since the VM last started here. Until then, `Other` is where it came from.
    record_changed: bool,
    /// The host that had it when the board assigned it to us.
    previous_host: Option<u32>,
    lock: Option<Lock>,
    /// The latest lock, also after its end.
    last_lock: Option<Lock>,
    /// A migration that our session keeps alive, and that we must end.
    own_migration: Option<(u64, u64)>,
    /// The migration that we have asked the board to end.
    ending: Option<u64>,
    ports_up: Vec<u16>,
    logging: Vec<u16>,
    /// A host that announced the VM while it still appeared to run here, and until when that counts.
    announced_by: Option<(u32, u64)>,
    /// Generation of the lock of the migration to here. Announcements of this and older generations are late.
    arrival_generation: u64,
    claimed: bool,
    /// The claim has been withdrawn.
    withdrawn: bool,
    stand_in: bool,
    /// Its last port here.
    last_port: Option<u16>,
}

/// The state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    config: NodeConfig,
    state: State,
    facts: Facts,
    deadline: Option<u64>,
    announcing: Option<Announcing>,
    actions: Actions,
}

impl Machine {
    /// A node of which nothing is known. Pass `set_own`, [`Event::Record`] and [`Event::Locked`] as they are, before
    /// any other event.
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        Self {
            config,
            state: State::Away,
            facts: Facts::default(),
            deadline: None,
            announcing: None,
            actions: Actions::new(),
        }
    }

    /// The board's id of this host. Takes effect with the next event, such as a [`Event::Tick`].
    pub fn set_own(&mut self, own: u32) {
        self.facts.own = Some(own);
    }

    /// One more exact port is declared for the node.
    pub fn declare(&mut self, port: u16) {
        self.config.declared.get_or_insert(port);
    }

    /// A port of the node is gone, without a link before. `other`: an exact one that is left.
    pub fn remove_port(&mut self, port: u16, other: Option<u16>) {
        if self.config.declared == Some(port) {
            self.config.declared = other;
        }
        if self.facts.last_port == Some(port) {
            self.facts.last_port = None;
        }
    }

    /// Handles one event at `now_ms`, which must not go back.
    pub fn on(&mut self, now_ms: u64, event: Event) -> Actions {
        self.apply(now_ms, event);
        std::mem::take(&mut self.actions)
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadline.into_iter().chain(self.announcing.map(|a| a.at)).min()
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where the board says it is.
    #[must_use]
    pub fn record(&self) -> Record {
        self.facts.record
    }

    /// The lock on it, as the board has it.
    #[must_use]
    pub fn lock(&self) -> Option<Lock> {
        self.facts.lock
    }

    /// The latest lock, also after its end: the migration of a [`Action::Report`].
    #[must_use]
    pub fn migration(&self) -> Option<Lock> {
        self.facts.last_lock
    }

    /// The port of the state.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self.state {
            State::Away => None,
            State::Here { port }
            | State::Leaving { port }
            | State::Paused { port, .. }
            | State::Forwarding { port, .. }
            | State::Arriving { port, .. }
            | State::Expected { port, .. } => Some(port),
        }
    }

    /// Whether dirty pages of its VM are logged.
    #[must_use]
    pub fn logging(&self) -> bool {
        self.port().is_some_and(|port| self.facts.logging.contains(&port))
    }

    /// The machine knows nothing that a new one would not learn, and may be dropped: the node is away, or it is a
    /// station whose migration is over and which is here like one that never migrated.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let Facts { record, previous_host, lock, own_migration, ending, ports_up, logging, .. } = &self.facts;
        let over = match self.state {
            // The record here is due to our claim or to the operator.
            State::Away => ports_up.is_empty() && previous_host.is_none(),
            State::Here { .. } => !self.config.exact && *record == Record::Here && ending.is_none(),
            _ => false,
        };
        over && lock.is_none()
            && own_migration.is_none()
            && self.next_deadline().is_none()
            && logging.is_empty()
    }
}

//! One node on one appliance: where its VM is, what is to be done with its frames, and what the board is to be
//! told. Enters: what its ports, the board, the packet path and other hosts say, and the passing of time as
//! numbers. Leaves: [`Action`]s, to be done in their order. No clock, no table, no I/O. The rules are in
//! `rules`; docs/migration-states.md has them as a table, which the tests compare with the code.

mod entry;
mod rules;
#[cfg(test)]
mod tests;

use stopover_bbs::model::{Lock, Unlocked};

/// How long after dirty logging was switched off the VM is taken to stay, in milliseconds. A migration that
/// succeeds switches it off about when the rings stop, and either may be told first.
pub const CANCEL_MS: u64 = 200;

/// Longest pause between two announcements of one arrival, in milliseconds. They are repeated because one may
/// be lost while the board is away; each pause is twice the one before, from `arrival_ms`.
pub const ANNOUNCE_MAX_MS: u64 = 10_000;

/// What does not change while the machine lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node's ports tell what they accepted (vhost-user), and are up only while its VM runs on them. False
    /// for ports with a window (A6).
    pub exact: bool,
    /// An exact port that is declared for this node. The first, if it has two.
    pub declared: Option<u16>,
    /// How long frames are kept for a VM that runs nowhere.
    pub hold_ms: u64,
    /// Longest time that an arrival waits for end markers.
    pub arrival_ms: u64,
    /// How long the board's word that the node is here stands without the node, where no exact port is declared.
    pub silent_ms: u64,
}

/// Where the board says the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Record {
    /// It knows no such node, or has told us nothing yet.
    #[default]
    Nowhere,
    /// At this host.
    Here,
    /// At the host with this id.
    Other(u32),
}

/// Where kept frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To the host with this id, with the HOP mark.
    Host(u32),
    /// To another port of this appliance.
    Port(u16),
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
    /// It runs here and is about to leave: what the port does not take is kept.
    Leaving {
        /// Behind which port.
        port: u16,
    },
    /// Its rings have stopped and nobody has said where it runs: everything is kept.
    Paused {
        /// Where it ran.
        port: u16,
        /// Since when, milliseconds.
        since: u64,
    },
    /// It runs elsewhere: what was kept goes there, and what still comes goes behind it.
    Forwarding {
        /// Where it ran.
        port: u16,
        /// Where it runs.
        to: Target,
    },
    /// It runs here, and frames that came by its old host go first.
    Arriving {
        /// Behind which port.
        port: u16,
        /// The old host, if that is known.
        from: Option<u32>,
        /// Since when, milliseconds.
        since: u64,
    },
    /// The board says that it is here, but its port is not up yet: everything is kept.
    Expected {
        /// Where it will be.
        port: u16,
        /// Since when, milliseconds.
        since: u64,
    },
}

/// What the machine is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The port's rings run; its link is up; the station was heard there. May be repeated.
    PortUp(u16),
    /// No more so.
    PortDown(u16),
    /// Dirty logging as the port's features say, on each change. It counts as off after a [`Event::PortDown`]; if
    /// it is on when the rings start, say so before the [`Event::PortUp`].
    Logging(u16, bool),
    /// Where the board says the node is. May be repeated.
    Record(Record),
    /// The node is locked. May be repeated, and said anew when the lock changes.
    Locked(Lock),
    /// Its lock has ended. If it did while the watch was broken: `Aborted`, unless the record has changed.
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
        /// The lock's generation as that host knows it; 0 = none.
        generation: u64,
    },
    /// All that was kept is on its way. May be repeated while that is so.
    Drained,
    /// Every sender's end markers have passed.
    Settled,
    /// The board gives the node to another than us, and a station that is only heard gives way.
    Refused,
    /// [`Machine::next_deadline`] has come, or [`Machine::set_own`] was called.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The tables show the node behind this port. May already be so.
    ShowLocal {
        /// Which.
        port: u16,
    },
    /// The tables show it here no more, but where the board says.
    Forget,
    /// As `Forget`, and what comes for it by mistake is redirected to this host. What is kept goes there first.
    Depart {
        /// Which.
        host: u32,
    },
    /// Claim it at the board, until withdrawn. May already be claimed.
    Claim,
    /// Claim it no more.
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
    /// From now on keep, in order, what the port does not take. It still gets what it takes.
    Keep {
        /// Which.
        port: u16,
    },
    /// What is kept goes to this port, in order and before anything newer; then nothing is kept any more.
    Release {
        /// Which: the one it was kept for, or another of this appliance.
        port: u16,
    },
    /// What is kept has expired, and nothing is kept any more.
    Discard {
        /// For which port it was kept.
        port: u16,
    },
    /// What is kept for this port, and everything that still comes, goes elsewhere in order. Replaces an earlier
    /// `Forward`; ended by `Keep`, `Release`, `Discard` or `Depart`.
    Forward {
        /// For which port it was kept.
        port: u16,
        /// Where it goes.
        to: Target,
    },
    /// Hold direct frames of each sender until its end markers have passed.
    StartArrival {
        /// Where the VM runs.
        port: u16,
        /// The old host, if that is known.
        from: Option<u32>,
    },
    /// No more so; what is held goes to the port.
    EndArrival,
    /// Send `Arrived` markers to this host.
    Announce {
        /// Which.
        to: u32,
        /// To be put into them; 0 = none known.
        generation: u64,
    },
    /// On its own segment the node has its stand-in MAC (A7), or its real one again.
    StandIn(bool),
    /// A migration has ended here: tell the board what was counted, of [`Machine::migration`].
    Report,
}

/// What one event leads to.
pub type Actions = Vec<Action>;

/// Announcements until the board accepts our claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Announcing {
    to: u32,
    at: u64,
    pause: u64,
}

/// What is known besides the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    own: Option<u32>,
    record: Record,
    /// The record has changed since the VM last came up here. Until then, `Other` is where it came from.
    record_changed: bool,
    /// Where it was when the board gave it to us.
    previous_host: Option<u32>,
    lock: Option<Lock>,
    /// The latest lock, also after its end.
    last_lock: Option<Lock>,
    /// A migration that our session keeps alive, and that we must therefore end.
    own_migration: Option<(u64, u64)>,
    /// The migration that we have asked the board to end.
    ending: Option<u64>,
    ports_up: Vec<u16>,
    logging: Vec<u16>,
    /// A host that announced the VM while it still seemed to run here, and until when that is of use.
    announced_by: Option<(u32, u64)>,
    /// Generation of the lock under which the VM came: announcements of it, and older ones, are late.
    arrival_generation: u64,
    claimed: bool,
    /// It was claimed here and has been withdrawn.
    withdrawn: bool,
    stand_in: bool,
    /// Where it was last.
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
    /// A node of which nothing is known. Tell it `set_own`, [`Event::Record`] and [`Event::Locked`] as they are,
    /// before anything else.
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

    /// Takes one event at `now_ms`, which must not go back.
    pub fn on(&mut self, now_ms: u64, event: Event) -> Actions {
        self.apply(now_ms, event);
        std::mem::take(&mut self.actions)
    }

    /// When [`Event::Tick`] is wanted.
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

    /// The lock on it, as the board tells.
    #[must_use]
    pub fn lock(&self) -> Option<Lock> {
        self.facts.lock
    }

    /// The latest lock, also after its end: whom a [`Action::Report`] concerns.
    #[must_use]
    pub fn migration(&self) -> Option<Lock> {
        self.facts.last_lock
    }

    /// The port the state is about.
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

    /// Its VM's dirty pages are being logged.
    #[must_use]
    pub fn logging(&self) -> bool {
        self.port().is_some_and(|port| self.facts.logging.contains(&port))
    }

    /// The machine knows nothing that a new one would not be told, and may be dropped: the node is away, or it is a
    /// station whose migration is over, which is here as one that never moved.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let Facts { record, previous_host, lock, own_migration, ending, ports_up, logging, .. } = &self.facts;
        let over = match self.state {
            // That the board has it here is our claim's doing, or the operator's.
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

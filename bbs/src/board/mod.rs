//! The board itself: a pure state machine. A [`Command`] goes in; an answer, the changes for watchers, the records
//! for the store and the events for the operator come out. No clock, no files, no sockets, no randomness: the
//! same commands at the same times make the same board.
//!
//! | File | What is there |
//! |---|---|
//! | `command` | what can be asked and answered |
//! | `state` | the tables and the ways to change them, each of which can be taken back |
//! | `hosts` | registration, leases, fencing |
//! | `absent` | hosts that stay down |
//! | `nodes` | claims, joins, sync |
//! | `contest` | who keeps a MAC or an address that two claim |
//! | `migrations` | migrations begin; deferred claims; reports |
//! | `ending` | migrations end |
//! | `barriers` | until an ended one is in force everywhere |
//! | `deadlines` | what is due, in order of time |
//! | `locks` | the record of a migration, and what follows from it |
//! | `operator` | declarations, deletions, loads |
//! | `keys` | idempotency |
//! | `lineage` | which states a store has had, and which are of a copy of it |
//! | `record` | what is written down |
//!
//! The rules of conflict: a MAC is on one host of a network, an IP on one node of a network, a VTEP address and
//! port on one host. What is declared stays with its first holder, and goes before what is learned. Among learned nodes
//! and addresses the newest sender wins (`contest`). A claim may take over from a host that is down, since the holder no
//! longer speaks for it; what the operator declared is never taken over.

mod absent;
mod barriers;
mod command;
mod contest;
mod deadlines;
mod hosts;
mod ips;
mod keys;
mod lineage;
mod locks;
mod migration_end;
mod migrations;
mod nodes;
mod operator;
pub mod record;
mod state;

pub use absent::Absence;
pub use barriers::BARRIER_MS;
pub use command::{Applied, Command, Key, Now, Outcome, Principal, Refusal, Session, Ticket};
pub use ips::{Hold, Ips};
pub use keys::REMEMBERED;
pub use lineage::{Lineage, RUNS_KEPT, Relation, Run};
pub use migration_end::MIGRATIONS_KEPT;
pub use state::COMMIT_CHANGES;

use crate::model::{DeclaredBy, Event, EventKind, Migration, Network};
use command::Actor;
use deadlines::Deadlines;
use hashbrown::{HashMap, HashSet};
use keys::Keys;
use migrations::Begin;
use record::{HostRecord, KeyRecord, MemberRecord, NodeRecord, Write};
use state::{EARLIER, MemberState, NodeState, OPERATOR, State};
use std::sync::Arc;
use stopover_net::{Mac, Vni};

/// Events kept.
pub const EVENTS_KEPT: u64 = 4096;
/// Standing conflicts remembered, so that a claim repeated every few seconds is one event and not thousands.
const CONFLICTS_REMEMBERED: usize = 8192;

/// What does not change while the board runs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Which start of the board this is; grows with each. Session numbers begin with it.
    pub run: u32,
    /// How long a host may be silent.
    pub lease_ms: u64,
    /// Most changes a history may keep: of a larger load, only the last are handed out.
    pub keep_changes: usize,
    /// What is done about hosts that stay down.
    pub absence: Absence,
}

/// Counts, for lists and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Hosts.
    pub hosts: u64,
    /// Of them, up.
    pub hosts_up: u64,
    /// Networks, declared or not.
    pub networks: u64,
    /// Nodes.
    pub nodes: u64,
    /// Memberships.
    pub members: u64,
}

/// The board.
pub struct Board {
    state: State,
    keys: Keys,
    settings: Settings,
    /// Sessions begun in this run.
    sessions: u32,
    events: u64,
    /// When the locks of migrations run out, on the lease clock.
    leases: Deadlines,
    /// Learned nodes and addresses that moved lately.
    recent_moves: contest::RecentMoves,
    /// Conflicts said and not resolved: who claims what, and what was said.
    conflicts: HashMap<(Vni, Mac, u32), String>,
    /// Said of registrations.
    host_conflicts: HashSet<String>,
    /// The history of the store, once it is known.
    lineage: Option<Arc<Lineage>>,
    /// Since when, on the lease clock, the board hears any host at all.
    any_up_since: Option<u64>,
    /// Whose command is under way.
    actor: Actor,
    /// Events of it, each with who did it.
    pending_events: Vec<(EventKind, String, String)>,
}

impl Board {
    /// An empty board. Records of an earlier run follow by the `restore_` methods, hosts first, then
    /// [`Board::finish_restore`].
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            state: State::new(settings.keep_changes),
            keys: Keys::default(),
            settings,
            sessions: 0,
            events: 0,
            leases: Deadlines::default(),
            recent_moves: contest::RecentMoves::default(),
            conflicts: HashMap::new(),
            host_conflicts: HashSet::new(),
            any_up_since: None,
            actor: Actor::Board,
            lineage: None,
            pending_events: Vec::new(),
        }
    }

    /// What hosts say that they hold is compared with this.
    pub fn set_lineage(&mut self, lineage: Arc<Lineage>) {
        self.lineage = Some(lineage);
    }

    /// A host of an earlier run.
    pub fn restore_host(&mut self, id: u32, record: HostRecord) {
        self.state.put_host(id, Some(record));
    }

    /// A declaration of an earlier run.
    pub fn restore_network(&mut self, network: Network) {
        self.state.put_network(network.vni, Some(network));
    }

    /// A membership of an earlier run. Whether it has nodes is counted anew.
    pub fn restore_member(&mut self, vni: Vni, host: u32, record: &MemberRecord) {
        self.state.set_member(vni, host, |m| {
            *m =
                MemberState { joined: record.joined, declared: record.declared, join_session: EARLIER, ..*m };
        });
    }

    /// A node of an earlier run.
    pub fn restore_node(&mut self, vni: Vni, mac: Mac, record: NodeRecord) {
        let claimant = if record.declared_by == DeclaredBy::Operator { OPERATOR } else { EARLIER };
        let NodeRecord { host, generation, ips, facts, .. } = record;
        self.state.put_node(vni, mac, Some(NodeState::new(ips, generation, facts, (host, claimant))));
    }

    /// A migration of an earlier run; after its nodes. One that is under way locks them again.
    pub fn restore_migration(&mut self, record: Migration) {
        self.state.put_migration(record.id, Some(Box::new(record)));
    }

    /// A remembered key of an earlier run.
    pub fn restore_key(&mut self, place: u64, record: KeyRecord) {
        self.keys.restore(place, record);
    }

    /// All records are back. Hosts that were up have a whole lease from now to register again, and locks one of
    /// theirs.
    pub fn finish_restore(&mut self, revision: u64, next_host: u32, last_event: u64, now: Now) {
        self.state.revision = revision;
        self.state.next_host = next_host;
        self.events = last_event;
        let lease_until = now.lease_ms + self.settings.lease_ms;
        for host in self.state.hosts.values_mut() {
            host.lease_until = lease_until;
            host.down_since = now.lease_ms;
        }
        for id in &self.state.active {
            let lease_ms = self.state.migrations.get(id).map_or(0, |m| m.lease_ms);
            self.leases.set(*id, now.lease_ms + lease_ms);
        }
        for id in self.state.barriers.open.clone() {
            self.state.barriers.deadlines.set(id, now.lease_ms + BARRIER_MS);
        }
        self.state.set_journal(true);
    }

    /// Of the last command that changed anything.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.state.revision
    }

    /// The id the next new host will get.
    #[must_use]
    pub fn next_host(&self) -> u32 {
        self.state.next_host
    }

    /// Counts of everything.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            hosts: self.state.hosts.len() as u64,
            hosts_up: self.state.hosts.values().filter(|h| h.record.up).count() as u64,
            networks: self.state.networks.len() as u64,
            nodes: self.state.nodes,
            members: self.state.members,
        }
    }

    /// Migrations under way.
    #[must_use]
    pub fn active_migrations(&self) -> usize {
        self.state.active.len()
    }

    /// Completed migrations that are not yet in force everywhere.
    #[must_use]
    pub fn open_barriers(&self) -> usize {
        self.state.barriers.open.len()
    }

    /// Migrations and barriers looked at since the start. Grows with what happens to them, not with how many there are.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.state.steps
    }

    /// When the lock of a migration under way runs out, on the lease clock.
    #[must_use]
    pub fn lock_until(&self, migration: u64) -> Option<u64> {
        self.leases.get(migration)
    }

    /// Nodes and networks of each host, by id.
    #[must_use]
    pub fn host_counts(&self) -> std::collections::HashMap<u32, (u64, u64)> {
        self.state.hosts.iter().map(|(id, h)| (*id, (h.nodes, h.networks.len() as u64))).collect()
    }

    /// Nodes and members of each network, declared or not.
    #[must_use]
    pub fn network_counts(&self) -> std::collections::BTreeMap<Vni, (u64, u64)> {
        let counts = |n: &state::NetworkState| (n.nodes.len() as u64, n.members.len() as u64);
        self.state.networks.iter().map(|(vni, n)| (*vni, counts(n))).collect()
    }

    /// Does one command. A refused one changes nothing (a heartbeat it may have carried still counts).
    pub fn apply(&mut self, now: Now, key: Option<Key>, command: Command) -> Applied {
        if let Some(result) = key.as_ref().and_then(|key| self.keys.lookup(key)) {
            return Applied { result, commits: Vec::new(), writes: Vec::new(), events: Vec::new() };
        }
        // A session ends with the process: a registration repeated after a restart must be done again.
        let durable_key = !matches!(command, Command::Register(_));
        self.actor = command.actor();
        let result = self.run(now, command);
        if result.is_err() {
            self.state.undo();
        }
        self.actor = Actor::Board;
        self.expire_migrations(now);
        let (commits, mut writes) = self.state.finish();
        // A refused command may still have let an overdue lock be settled: its own part stays undone.
        let result = result.map(|outcome| outcome.with_revision(self.state.revision));
        if let (Ok(outcome), Some(key)) = (&result, key) {
            let durable = durable_key && !writes.is_empty();
            self.keys.remember(key, outcome, durable, &mut writes);
        }
        let events = self.number_events(now, &mut writes);
        Applied { result, commits, writes, events }
    }

    fn run(&mut self, now: Now, command: Command) -> Result<Outcome, Refusal> {
        match command {
            Command::Register(registration) => self.register(now, registration),
            Command::Heartbeat(session) => self.check_session(now, &session).map(|_| DONE),
            Command::WatchOpened { session, peer } => self.watch_opened(now, &session, peer),
            Command::WatchClosed(session) => {
                self.watch_closed(&session);
                Ok(DONE)
            }
            Command::Deregister { session, withdraw_all } => self.deregister(now, &session, withdraw_all),
            Command::Claim { session, claims } => self.claim(now, &session, claims),
            Command::Withdraw { session, nodes } => self.withdraw(now, &session, &nodes),
            Command::Join { session, networks } => self.join(now, &session, &networks),
            Command::Leave { session, networks } => self.leave(now, &session, &networks),
            Command::SyncClaims(session) => self.sync_claims(now, &session),
            Command::Declare(row) => self.declare(row),
            Command::Delete(target) => self.delete(now, target),
            Command::BeginMigration { by, nodes, source, target, cause, lease_ms, renew } => {
                self.begin_migration(now, &by, Begin { nodes, source, target, cause, lease_ms, renew })
            }
            Command::CompleteMigration { by, ticket, at, cause } => {
                self.complete_migration(now, &by, ticket, at.as_ref(), &cause)
            }
            Command::AbortMigration { by, ticket, cause } => self.abort_migration(now, &by, ticket, &cause),
            Command::ReportMigration { session, ticket, report } => {
                let host = self.check_session(now, &session)?;
                self.report_migration(host, ticket, report)
            }
            Command::Acked(acks) => {
                self.handle_acks(now, &acks);
                Ok(DONE)
            }
            Command::Load(rows) => self.load(rows),
            Command::Tick => {
                self.tick(now);
                Ok(DONE)
            }
        }
    }

    fn push_event(&mut self, kind: EventKind, text: String) {
        self.pending_events.push((kind, text, self.actor.to_string()));
    }

    fn number_events(&mut self, now: Now, writes: &mut Vec<Write>) -> Vec<Event> {
        let mut events = Vec::new();
        for (kind, text, actor) in std::mem::take(&mut self.pending_events) {
            self.events += 1;
            let number = self.events;
            let revision = self.state.revision;
            let event = Event { number, unix_ms: now.unix_ms, kind, text, revision, actor };
            writes.push(Write::Event(number, Some(event.clone())));
            if let Some(old) = number.checked_sub(EVENTS_KEPT).filter(|old| *old > 0) {
                writes.push(Write::Event(old, None));
            }
            events.push(event);
        }
        events
    }
}

/// To be given its revision by [`Outcome::with_revision`].
const DONE: Outcome = Outcome::Done { revision: 0 };

impl Outcome {
    fn with_revision(mut self, now: u64) -> Self {
        match &mut self {
            Self::Done { revision }
            | Self::Registered { revision, .. }
            | Self::Claimed { revision, .. }
            | Self::Synced { revision, .. } => *revision = now,
            // That of an ended migration stays.
            Self::Migration { revision, .. } if *revision == 0 => *revision = now,
            Self::Migration { .. } => {}
        }
        self
    }
}

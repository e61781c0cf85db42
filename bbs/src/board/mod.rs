//! The board itself: a pure state machine. Enters: a [`Command`]. Leaves: an answer, the changes for watchers, the records
//! for the store and the events for the operator. It has no clock, files, sockets or randomness: the same commands at
//! the same times make the same board.
//!
//! | File | Contents |
//! |---|---|
//! | `command` | commands, outcomes, refusals |
//! | `state` | the tables and the functions that change them, each of which can be undone |
//! | `hosts` | registration, leases, fencing |
//! | `absent` | hosts that remain down |
//! | `nodes` | claims, joins, sync |
//! | `contest` | which of two claims of a MAC or an address wins |
//! | `migrations` | begin of migrations; deferred claims; reports |
//! | `migration_end` | end of migrations |
//! | `acks` | which hosts a barrier no longer waits for |
//! | `barriers` | until a completed migration is in force everywhere |
//! | `deadlines` | deadlines in order of time |
//! | `locks` | the record of a migration, and what is derived from it |
//! | `operator` | declarations, deletions, loads |
//! | `quota` | how much the board may hold |
//! | `keys` | idempotency |
//! | `lineage` | which states a store has had, and which only a copy of it |
//! | `record` | the records that are stored |
//!
//! The rules of conflict: a MAC is on one host of a network, an IP on one node of a network, a VTEP address and port on one
//! host. What is declared remains with its first holder, and takes precedence over what is learned. Among learned nodes
//! and addresses the newest sender wins (`contest`). A claim may take over from a host that is down; a
//! learned one only what was learned there. What the operator declared is never taken over.

mod absent;
mod acks;
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
mod quota;
pub mod record;
mod state;

pub use absent::Absence;
pub use barriers::BARRIER_MS;
pub use command::{Applied, Command, Key, Now, Outcome, Principal, Refusal, Session, Ticket, UNNAMED};
pub use ips::{Hold, Ips};
pub use keys::REMEMBERED;
pub use lineage::{Lineage, RUNS_KEPT, Relation, Run};
pub use migrations::MIGRATIONS_KEPT;
pub use state::COMMIT_CHANGES;

use crate::{
    model::{DeclaredBy, Event, EventKind, Migration, Network},
    table::{Limits, Write},
};
use command::Actor;
use deadlines::Deadlines;
use hashbrown::{HashMap, HashSet};
use keys::Keys;
use migrations::Begin;
use record::{HostRecord, KeyRecord, MemberRecord, NodeRecord};
use state::{EARLIER, MemberState, NodeState, OPERATOR, State};
use std::sync::Arc;
use stopover_net::{Mac, Vni};

/// Events kept.
pub const EVENTS_KEPT: u64 = 4096;
/// Most conflicts remembered, so that a claim that is repeated every few seconds causes one event.
const CONFLICTS_REMEMBERED: usize = 8192;

/// Settings that do not change while the board runs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Number of this start of the board; increases with each. The upper half of session numbers.
    pub run: u32,
    /// Time without a sign of life after which a host is down.
    pub lease_ms: u64,
    /// Most changes that a history may keep: of a larger load only the last changes are returned.
    pub keep_changes: usize,
    /// How hosts that remain down are handled.
    pub absence: Absence,
    /// What the store takes in one transaction. One command is one transaction, at most. It may fill half of one: the
    /// rest is for what follows from it, such as the ends of migrations and events.
    pub limits: Limits,
}

/// Counts, for lists and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Hosts.
    pub hosts: u64,
    /// Hosts that are up.
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
    quotas: quota::Quotas,
    /// Sessions begun in this run.
    sessions: u32,
    events: u64,
    /// When the locks of migrations expire, on the lease clock.
    leases: Deadlines,
    /// Learned nodes and addresses that moved recently.
    recent_moves: contest::RecentMoves,
    /// Reported conflicts that are not resolved: network, node and claiming host, and the text of the event.
    conflicts: HashMap<(Vni, Mac, u32), String>,
    /// Reported texts about registrations.
    host_conflicts: HashSet<String>,
    /// The history of the store, after [`Board::set_lineage`].
    lineage: Option<Arc<Lineage>>,
    /// Since when at least one host is up, on the lease clock.
    any_up_since: Option<u64>,
    /// Originator of the current command.
    actor: Actor,
    /// Events of the current command, each with its originator.
    pending_events: Vec<(EventKind, String, String)>,
}

impl Board {
    /// An empty board. The `restore_` methods add records of an earlier run, hosts first; then call
    /// [`Board::finish_restore`].
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            state: State::new(settings.keep_changes),
            keys: Keys::default(),
            settings,
            quotas: quota::Quotas::default(),
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

    /// The history with which the points of registering hosts are compared.
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

    /// A membership of an earlier run. Its nodes are counted again.
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

    /// A migration of an earlier run; after its nodes. An active migration locks them again.
    pub fn restore_migration(&mut self, record: Migration) {
        self.state.put_migration(record.id, Some(Box::new(record)));
    }

    /// A remembered key of an earlier run.
    pub fn restore_key(&mut self, place: u64, record: KeyRecord) {
        self.keys.restore(place, record);
    }

    /// Called after all records are restored. Hosts that were up have a whole lease from now to register again; locks
    /// get a whole lease of their own.
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

    /// The revision after the last command that changed anything.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.state.revision
    }

    /// Counts of everything.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            hosts: self.state.hosts.len() as u64,
            hosts_up: self.state.hosts_up,
            networks: self.state.networks.len() as u64,
            nodes: self.state.nodes,
            members: self.state.members,
        }
    }

    /// How many migrations are active.
    #[must_use]
    pub fn active_migrations(&self) -> usize {
        self.state.active.len()
    }

    /// How many completed migrations are not yet in force everywhere.
    #[must_use]
    pub fn open_barriers(&self) -> usize {
        self.state.barriers.open.len()
    }

    /// Migrations and barriers examined since the start. Increases with changes of them, not with their number.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.state.steps
    }

    /// When the lock of an active migration expires, on the lease clock.
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

    /// The answer to this request, if it was answered before.
    #[must_use]
    pub fn answered(&self, key: &Key) -> Option<Result<Outcome, Refusal>> {
        self.keys.lookup(key)
    }

    /// Executes one command. A refused command changes nothing, except that it is a sign of life of its host.
    pub fn apply(&mut self, now: Now, key: Option<Key>, command: Command) -> Applied {
        self.apply_by(now, UNNAMED, key, command)
    }

    /// The same. Without a session, the command is of `by`: a role and a name.
    pub fn apply_by(&mut self, now: Now, by: &str, key: Option<Key>, command: Command) -> Applied {
        if let Some(result) = key.as_ref().and_then(|key| self.keys.lookup(key)) {
            return Applied { result, commits: Vec::new(), writes: Vec::new(), events: Vec::new() };
        }
        // A session ends with the process: a registration that is repeated after a restart must be executed again.
        let durable_key = !matches!(command, Command::Register(_));
        self.actor = command.actor(by);
        let called = self.actor != Actor::Board;
        let mut result = self.run(now, command);
        if called && let (Ok(_), Err(refusal)) = (&result, self.check_size()) {
            self.pending_events.clear();
            result = Err(refusal);
        }
        if result.is_err() {
            self.state.undo();
        }
        self.actor = Actor::Board;
        self.expire_migrations(now);
        let (commits, mut writes) = self.state.finish();
        // A refused command may have caused the end of an overdue lock. Only its own part is undone.
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

    /// Refuses a command that writes more than the store takes at once.
    fn check_size(&self) -> Result<(), Refusal> {
        self.settings.limits.half().check(self.state.writes()).map_err(|excess| {
            Refusal::TooLarge(format!(
                "the store of this board takes a limited change at once: this one has {excess}; hint: make it in \
                 several parts"
            ))
        })
    }

    /// Whether what follows from a command must wait for the next one.
    fn is_half_full(&self) -> bool {
        self.state.writes().len() >= self.settings.limits.half().writes
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
            writes.push(Write::put(number, &event));
            if let Some(old) = number.checked_sub(EVENTS_KEPT).filter(|old| *old > 0) {
                writes.push(Write::remove::<Event>(old));
            }
            events.push(event);
        }
        events
    }
}

/// Gets its revision from [`Outcome::with_revision`].
const DONE: Outcome = Outcome::Done { revision: 0 };

impl Outcome {
    fn with_revision(mut self, now: u64) -> Self {
        match &mut self {
            Self::Done { revision }
            | Self::Registered { revision, .. }
            | Self::Claimed { revision, .. }
            | Self::Synced { revision, .. } => *revision = now,
            // An ended migration keeps the revision of its end.
            Self::Migration { revision, .. } if *revision == 0 => *revision = now,
            Self::Migration { .. } => {}
        }
        self
    }
}

//! A board wired to its store and its history by hand. Enters: commands. Each is applied, committed and published, and what
//! must hold after every command is checked.

use super::{ABSENCE, LEASE, Replica};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use stopover_bbs::{
    board::{Applied, Board, Command, Key, Lineage, Now, Settings},
    model::{Lock, Migration, MigrationState},
    records::Records,
    server::{History, Writer, lineage, restore},
    store::{Redb, Store},
    table::Limits,
};

/// A board, its store and its history, without threads.
pub struct Rig {
    pub board: Board,
    pub store: Arc<Redb>,
    writer: Writer,
    pub history: Arc<History>,
    pub lineage: Arc<Lineage>,
    pub now: Now,
    pub sessions: BTreeMap<u8, u64>,
    /// Hosts with an open watch in the current session; true: the session is the second process's.
    pub watching: BTreeMap<u8, bool>,
    /// Hosts whose current session is the second process's.
    pub rivals: BTreeSet<u8>,
    /// The state at every revision, by its changes.
    pub states: Vec<Replica>,
    keep: usize,
    pub run: u32,
}

impl Rig {
    pub fn new(keep: usize) -> Self {
        let store = Arc::new(Redb::in_memory().unwrap());
        let limits = Limits::UNLIMITED;
        let settings = Settings { run: 0, lease_ms: LEASE, keep_changes: keep, absence: ABSENCE, limits };
        let mut rig = Self {
            board: Board::new(settings),
            writer: Writer::begin(store.clone()).unwrap(),
            lineage: Arc::new(lineage(&*store).unwrap()),
            store,
            history: Arc::new(History::new(0, keep)),
            now: Now::default(),
            sessions: BTreeMap::new(),
            watching: BTreeMap::new(),
            rivals: BTreeSet::new(),
            states: vec![Replica::default()],
            keep,
            run: 0,
        };
        rig.restart();
        rig
    }

    /// As after a crash: only the store is left.
    pub fn restart(&mut self) {
        self.writer = Writer::begin(self.store.clone()).unwrap();
        self.run = self.writer.run().unwrap();
        let (run, limits) = (self.run, self.writer.limits());
        let settings = Settings { run, lease_ms: LEASE, keep_changes: self.keep, absence: ABSENCE, limits };
        self.board = restore(&*self.store.view().unwrap(), settings).unwrap().0;
        self.lineage = Arc::new(self.writer.lineage().unwrap());
        self.board.set_lineage(self.lineage.clone());
        self.history = Arc::new(History::new(self.board.revision(), self.keep));
        self.now = Now::default();
        self.sessions.clear();
        self.watching.clear();
        self.rivals.clear();
    }

    /// Applies, commits and publishes; checks what holds of every command.
    pub fn apply(&mut self, key: Option<Key>, command: Command) -> Applied {
        let before = self.board.revision();
        let applied = self.board.apply(self.now, key, command);
        let mut state = self.states.last().unwrap().clone();
        let mut expected = before;
        for commit in &applied.commits {
            expected += 1;
            assert_eq!(commit.revision, expected, "revisions are consecutive");
            assert!(!commit.changes.is_empty());
            for change in &commit.changes {
                state.apply(change);
            }
            self.states.push(state.clone());
        }
        assert_eq!(self.board.revision(), expected);
        if applied.result.is_err() {
            assert_eq!(applied.commits, [], "a refused command changes nothing");
        }
        state.check();
        self.writer.commit(expected, applied.writes.clone(), &mut |_| {}).unwrap();
        self.history.publish(applied.commits.clone());
        assert_eq!(Replica::of(&*self.store.view().unwrap()), state, "the store and the changes agree");
        let counts = self.board.counts();
        assert_eq!(counts.nodes, state.nodes.len() as u64);
        assert_eq!(counts.members, state.members.len() as u64);
        assert_eq!(counts.hosts, state.hosts.len() as u64);
        self.check_migrations(&state);
        applied
    }

    /// Every lock has an active migration and a lease, and every active migration has its locks.
    fn check_migrations(&self, state: &Replica) {
        let mut locks = BTreeMap::new();
        let mut last = 0;
        for (_, m) in self.store.view().unwrap().all::<Migration>().unwrap() {
            assert!(m.generation > last, "generations grow with migrations");
            last = m.generation;
            let up = |id: u32| state.hosts.get(&id).is_some_and(|h| h.up);
            if m.state == MigrationState::Locked {
                let until = self.board.lock_until(m.id).expect("a lock without a lease");
                assert!(until > self.now.lease_ms, "a lock outlives its lease");
                assert!(m.owner.as_ref().is_none_or(|o| up(o.id)), "a lock outlives its owner");
                let lock = Lock {
                    migration: m.id,
                    generation: m.generation,
                    source: m.source.id,
                    target: m.target.as_ref().map(|t| t.id),
                };
                locks.extend(m.nodes.iter().map(|n| ((n.vni, n.mac), lock)));
                let stuck = !up(m.source.id) && m.deferred.iter().any(|d| up(d.host.id));
                assert!(!stuck, "the source is down, the target claims, and nothing is done: {m:?}");
            }
        }
        assert_eq!(state.locks, locks, "locks and migrations agree");
    }

    pub fn state(&self) -> &Replica {
        self.states.last().unwrap()
    }
}

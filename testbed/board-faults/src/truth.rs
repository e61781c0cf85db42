//! The tables that a board must have had in each revision. Enters: runs and writes. Leaves: for each branch of the history
//! and each revision the fingerprints of the tables, and what changed.
//!
//! A branch is what the runs of one store have in common; a restored backup begins another one, at the revision of the
//! backup. A write has its revision from its answer. If it has none, a watcher may have seen it: the change of a revision
//! that no answer names must be that of a write without an answer.

use crate::{
    history::{Effect, History, RunId, Seen, Write},
    table::{Node, Part, Table},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use stopover_bbs::model::Change;
use stopover_net::{HostName, Mac, Vni};

/// A branch, by its place in [`Truth`].
pub type BranchId = usize;

/// The state in a revision.
#[derive(Debug, Clone, Default)]
struct State {
    prints: BTreeMap<Part, u64>,
    /// The parts that are not as in the revision before.
    changed: Vec<Part>,
}

#[derive(Debug, Clone, Default)]
struct Branch {
    /// The branch from which it was restored, and at which revision.
    from: Option<(BranchId, u64)>,
    /// Of the revisions after `from`, in order.
    states: Vec<State>,
    /// From this revision on the tables are not known: no answer and no watcher tells what changed.
    unknown_from: Option<u64>,
}

/// What is wrong with the writes themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contradiction {
    /// A revision of a branch has a change that no write made.
    Invented(BranchId, u64),
    /// The change of a write is in a revision that is not its own.
    Doubled(BranchId, u64),
    /// Several writes that change something have this revision.
    Ambiguous(BranchId, u64),
}

/// A node or host that a watcher has seen to change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Put(Vni, Mac, u32),
    Gone(Vni, Mac),
    Host(HostName),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Truth {
    branches: Vec<Branch>,
    runs: BTreeMap<RunId, BranchId>,
    /// Writes by branch and revision of their answers.
    answered: BTreeMap<(BranchId, u64), Vec<usize>>,
    /// Changes that watchers have seen, by branch and revision.
    evidence: BTreeMap<(BranchId, u64), BTreeSet<Key>>,
    /// Writes by what they do to one node or host.
    by_key: BTreeMap<Key, Vec<usize>>,
    /// The hosts, and all networks in which a node was written.
    pub parts: BTreeSet<Part>,
    /// What is wrong with the writes.
    pub contradictions: Vec<Contradiction>,
}

impl Truth {
    /// Computes it.
    #[must_use]
    pub fn new(history: &History) -> Self {
        let mut truth = Self::default();
        for run in &history.runs {
            let before = run.before.and_then(|id| truth.branch(id));
            let branch = match before {
                Some(branch) if !run.restored => branch,
                _ => {
                    let from = before.map(|branch| truth.place(branch, run.first));
                    truth.branches.push(Branch { from, ..Branch::default() });
                    truth.branches.len() - 1
                }
            };
            truth.runs.insert(run.id, branch);
        }
        truth.note_writes(&history.writes);
        let networks = truth.by_key.keys().filter_map(|key| match key {
            Key::Put(vni, ..) | Key::Gone(vni, _) => Some(Some(*vni)),
            Key::Host(_) => None,
        });
        truth.parts = networks.chain([None]).collect();
        for records in &history.watchers {
            truth.note_evidence(records.iter().map(|record| &record.seen));
        }
        for branch in 0..truth.branches.len() {
            truth.build(history, branch);
        }
        truth
    }

    fn note_writes(&mut self, writes: &[Write]) {
        for (n, write) in writes.iter().enumerate() {
            for key in keys(&write.effect) {
                self.by_key.entry(key).or_default().push(n);
            }
            for answer in &write.answers {
                if let (Some(branch), Some(revision)) = (self.branch(answer.run), answer.revision) {
                    let writes = self.answered.entry(self.place(branch, revision)).or_default();
                    if !writes.contains(&n) {
                        writes.push(n);
                    }
                }
            }
        }
    }

    fn note_evidence<'a>(&mut self, seen: impl Iterator<Item = &'a Seen>) {
        let mut on = None;
        for seen in seen {
            match seen {
                Seen::Resumed(run, _) | Seen::Begin(run, _) => on = self.branch(*run),
                Seen::Delta(revision, changes) => {
                    let Some(branch) = on else { continue };
                    let found = changes.iter().filter_map(key_of);
                    self.evidence.entry(self.place(branch, *revision)).or_default().extend(found);
                }
                _ => {}
            }
        }
    }

    /// The branch of a run.
    #[must_use]
    pub fn branch(&self, run: RunId) -> Option<BranchId> {
        self.runs.get(&run).copied()
    }

    fn from(&self, branch: BranchId) -> Option<(BranchId, u64)> {
        self.branches.get(branch).and_then(|b| b.from)
    }

    fn fork(&self, branch: BranchId) -> u64 {
        self.from(branch).map_or(0, |(_, fork)| fork)
    }

    /// Where this revision of a branch was made: there, or on one from which it was restored.
    #[must_use]
    pub fn place(&self, mut branch: BranchId, revision: u64) -> (BranchId, u64) {
        while let Some((from, fork)) = self.from(branch)
            && revision <= fork
        {
            branch = from;
        }
        (branch, revision)
    }

    fn state(&self, branch: BranchId, revision: u64) -> Option<&State> {
        let (branch, revision) = self.place(branch, revision);
        let index = revision.checked_sub(self.fork(branch) + 1)?;
        self.branches.get(branch)?.states.get(usize::try_from(index).ok()?)
    }

    /// The parts that changed in a revision.
    #[must_use]
    pub fn changed(&self, branch: BranchId, revision: u64) -> &[Part] {
        self.state(branch, revision).map_or(&[], |state| &state.changed)
    }

    /// The fingerprint of a part in a revision.
    #[must_use]
    pub fn print(&self, branch: BranchId, revision: u64, part: Part) -> u64 {
        self.state(branch, revision).and_then(|state| state.prints.get(&part).copied()).unwrap_or_default()
    }

    /// Whether the tables of this revision are known.
    #[must_use]
    pub fn is_known(&self, branch: BranchId, revision: u64) -> bool {
        let (branch, revision) = self.place(branch, revision);
        let unknown = self.branches.get(branch).and_then(|b| b.unknown_from);
        let inherited = self.from(branch).is_none_or(|(from, fork)| self.is_known(from, fork));
        let there = revision == 0 || self.state(branch, revision).is_some();
        inherited && there && unknown.is_none_or(|from| revision < from)
    }

    /// The tables in a revision.
    #[must_use]
    pub fn table(&self, history: &History, branch: BranchId, revision: u64) -> Table {
        let mut table = Table::default();
        for revision in 1..=revision {
            let (branch, revision) = self.place(branch, revision);
            let _ = self.step(history, (branch, revision), &mut table);
        }
        table
    }

    fn build(&mut self, history: &History, branch: BranchId) {
        let mut table = match self.from(branch) {
            Some((from, fork)) => self.table(history, from, fork),
            None => Table::default(),
        };
        let of_branch = (branch, 0)..=(branch, u64::MAX);
        let answered =
            self.answered.range(of_branch.clone()).next_back().map_or(0, |((_, revision), _)| *revision);
        let seen = self.evidence.range(of_branch).next_back().map_or(0, |((_, revision), _)| *revision);
        let mut before = table.prints().clone();
        for revision in self.fork(branch) + 1..=answered.max(seen) {
            let step = self.step(history, (branch, revision), &mut table);
            let prints = table.prints().clone();
            let changed = prints.iter().filter(|(part, print)| before.get(part) != Some(print));
            let state = State { changed: changed.map(|(part, _)| *part).collect(), prints: prints.clone() };
            before = prints;
            let Some(b) = self.branches.get_mut(branch) else { return };
            b.states.push(state);
            match step {
                Step::Known => {}
                Step::Unknown => drop(b.unknown_from.get_or_insert(revision)),
                Step::Wrong(why) => {
                    b.unknown_from.get_or_insert(revision);
                    self.contradictions.push(why);
                }
            }
        }
    }

    /// Makes the change of a revision.
    fn step(&self, history: &History, at: (BranchId, u64), table: &mut Table) -> Step {
        let write = |n: &usize| history.writes.get(*n);
        let named = self.answered.get(&at).into_iter().flatten().filter_map(write);
        // Of several writes with one revision only one has changed something: the others had nothing to change.
        let changing: Vec<_> = named.filter(|write| changes(&write.effect, table)).collect();
        if let Some((write, others)) = changing.split_first() {
            apply(&write.effect, table, at.1);
            // Another one that does the same had nothing to change after it.
            if others.iter().any(|other| changes(&other.effect, table)) {
                return Step::Wrong(Contradiction::Ambiguous(at.0, at.1));
            }
            return Step::Known;
        }
        // No answer names it. Of a registration without an answer nobody may have seen anything.
        let Some(evidence) = self.evidence.get(&at) else { return Step::Unknown };
        let candidates: BTreeSet<_> =
            evidence.iter().filter_map(|key| self.by_key.get(key)).flatten().collect();
        let fits = |write: &&Write| {
            let keys = keys(&write.effect);
            evidence.iter().all(|key| keys.contains(key)) && changes(&write.effect, table)
        };
        let settled = |write: &&Write| {
            write.answers.iter().any(|answer| self.is_on_path(answer.run, at.0) && answer.revision.is_some())
        };
        let mut fitting = candidates.into_iter().filter_map(write).filter(fits).peekable();
        match (fitting.peek(), evidence.is_empty()) {
            (_, true) => Step::Unknown,
            (None, _) => Step::Wrong(Contradiction::Invented(at.0, at.1)),
            (Some(_), _) => match fitting.find(|write| !settled(write)) {
                Some(write) => {
                    apply(&write.effect, table, at.1);
                    Step::Known
                }
                None => Step::Wrong(Contradiction::Doubled(at.0, at.1)),
            },
        }
    }

    /// Whether a run is on this branch or on one from which it was restored.
    fn is_on_path(&self, run: RunId, branch: BranchId) -> bool {
        let of_run = self.branch(run);
        let mut at = Some(branch);
        while let Some(branch) = at {
            if Some(branch) == of_run {
                return true;
            }
            at = self.from(branch).map(|(from, _)| from);
        }
        false
    }
}

enum Step {
    Known,
    Unknown,
    Wrong(Contradiction),
}

fn ip(number: u32) -> IpAddr {
    IpAddr::from(number.to_be_bytes())
}

fn keys(effect: &Effect) -> BTreeSet<Key> {
    match effect {
        Effect::Host(name) => [Key::Host(name.clone())].into(),
        Effect::Put(puts) => puts.iter().map(|put| Key::Put(put.vni, put.mac, put.ip)).collect(),
        Effect::Gone(nodes) => nodes.iter().map(|(vni, mac)| Key::Gone(*vni, *mac)).collect(),
    }
}

fn key_of(change: &Change) -> Option<Key> {
    match change {
        Change::HostPut(host) => Some(Key::Host(host.name.clone())),
        Change::NodePut { node, .. } => match node.ips.first() {
            Some(IpAddr::V4(ip)) => Some(Key::Put(node.vni, node.mac, u32::from(*ip))),
            _ => Some(Key::Put(node.vni, node.mac, 0)),
        },
        Change::NodeGone { vni, mac, .. } => Some(Key::Gone(*vni, *mac)),
        _ => None,
    }
}

/// Whether a write changes these tables.
fn changes(effect: &Effect, table: &Table) -> bool {
    match effect {
        Effect::Host(name) => table.host(name) != Some(true),
        Effect::Put(puts) => puts.iter().any(|put| {
            table.node(put.vni, put.mac).is_none_or(|node| node.host != put.host || node.ips != [ip(put.ip)])
        }),
        Effect::Gone(nodes) => nodes.iter().any(|(vni, mac)| table.node(*vni, *mac).is_some()),
    }
}

fn apply(effect: &Effect, table: &mut Table, revision: u64) {
    match effect {
        Effect::Host(name) => table.put_host(name, true),
        Effect::Put(puts) => {
            for put in puts {
                let before = table.node(put.vni, put.mac);
                let generation =
                    before.filter(|node| node.host == put.host).map_or(revision, |node| node.generation);
                let node = Node { host: put.host.clone(), ips: vec![ip(put.ip)], generation };
                let before = table.put_node(put.vni, put.mac, node);
                for host in before.map(|node| node.host).iter().chain([&put.host]) {
                    table.derive_member(put.vni, host);
                }
            }
        }
        Effect::Gone(nodes) => {
            for (vni, mac) in nodes {
                if let Some(node) = table.remove_node(*vni, *mac) {
                    table.derive_member(*vni, &node.host);
                }
            }
        }
    }
}

//! The comparison of what the clients of a board saw with what it must have had. Pure. Enters: a [`History`]. Leaves: every
//! violation of the board's promises, by kind, and how long watchers took to be in step again.
//!
//! | Kind | The promise |
//! |---|---|
//! | lost write | what was acknowledged is there after every restart |
//! | lost event | no change in a watcher's scope is left out between two revisions that it is sent |
//! | doubled | a write is executed once, however often it is sent; a revision is sent once |
//! | out of order | revisions increase |
//! | from the future | nothing is sent that a restart takes back |
//! | diverged | a snapshot, and a snapshot with the changes after it, are the tables in that revision |
//! | invented | each change is that of a write |
//! | late | all are in step soon after the last disturbance |

use crate::{
    history::{History, Record, Seen},
    table::{Part, Replica},
    truth::{BranchId, Contradiction, Truth},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};
use stopover_bbs::model::{Change, NodeBatch};
use stopover_net::Vni;

/// A kind of violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the module's table")]
pub enum Kind {
    LostWrite,
    LostEvent,
    Doubled,
    OutOfOrder,
    Future,
    Diverged,
    Invented,
    Late,
}

/// A violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise is broken.
    pub kind: Kind,
    /// Where and how.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.why)
    }
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// In no order.
    pub violations: Vec<Violation>,
    /// States that were compared.
    pub compared: u64,
    /// States that were not, because what led to them is not known.
    pub unknown: u64,
    /// The longest time from a quiet moment until a watcher was in step, in milliseconds.
    pub in_step_ms_max: u64,
}

/// Checks a history. Watchers must be in step within `bound_ms` of each quiet moment.
#[must_use]
pub fn check(history: &History, bound_ms: u64) -> Report {
    let truth = Truth::new(history);
    let mut report = Report::default();
    for contradiction in &truth.contradictions {
        let (kind, why) = match contradiction {
            Contradiction::Invented(branch, at) => {
                (Kind::Invented, format!("revision {at} of branch {branch} has a change of no write"))
            }
            Contradiction::Doubled(branch, at) => (
                Kind::Doubled,
                format!("revision {at} of branch {branch} has the change of an earlier write again"),
            ),
            Contradiction::Ambiguous(branch, at) => (
                Kind::Invented,
                format!("several writes were answered with revision {at} of branch {branch}"),
            ),
        };
        report.violations.push(Violation { kind, why });
    }
    check_answers(history, &truth, &mut report);
    check_restarts(history, &truth, &mut report);
    for (number, records) in history.watchers.iter().enumerate() {
        Watch::new(history, &truth, number, &mut report).check(records);
        check_in_step(history, &truth, (number, records), bound_ms, &mut report);
    }
    report
}

/// A write that is sent again is answered with the revision of before, on one history.
fn check_answers(history: &History, truth: &Truth, report: &mut Report) {
    for write in &history.writes {
        let mut places = BTreeSet::new();
        for answer in &write.answers {
            if let (Some(branch), Some(revision)) = (truth.branch(answer.run), answer.revision) {
                places.insert((branch, truth.place(branch, revision)));
            }
        }
        for (branch, place) in &places {
            // On the branch itself, and on those that come from it.
            let other = places
                .iter()
                .find(|(of, other)| other != place && truth.place(*of, place.1) == *place && of >= branch);
            if let Some((_, other)) = other {
                let (kind, why) =
                    (Kind::Doubled, format!("{:?} is answered with {place:?} and {other:?}", write.effect));
                report.violations.push(Violation { kind, why });
                break;
            }
        }
    }
}

/// What was answered or sent before a restart is there after it.
fn check_restarts(history: &History, truth: &Truth, report: &mut Report) {
    let mut answered: BTreeMap<u128, u64> = BTreeMap::new();
    for answer in history.writes.iter().flat_map(|write| &write.answers) {
        let last = answered.entry(answer.run).or_default();
        *last = answer.revision.map_or(*last, |revision| revision.max(*last));
    }
    let mut sent: BTreeMap<u128, u64> = BTreeMap::new();
    for records in &history.watchers {
        let mut run = 0;
        for record in records {
            let revision = match &record.seen {
                Seen::Resumed(of, revision) | Seen::Begin(of, revision) => {
                    run = *of;
                    *revision
                }
                Seen::End(revision)
                | Seen::Delta(revision, _)
                | Seen::Progress(revision)
                | Seen::Scope { revision, .. } => *revision,
                Seen::Opened { .. } | Seen::Piece(_) | Seen::Nodes(_) => 0,
            };
            let last = sent.entry(run).or_default();
            *last = revision.max(*last);
        }
    }
    for run in history.runs.iter().filter(|run| !run.restored) {
        let Some(before) = run.before else { continue };
        for (kind, last, what) in
            [(Kind::LostWrite, &answered, "acknowledged"), (Kind::Future, &sent, "sent")]
        {
            let last = last.get(&before).copied().unwrap_or_default();
            if last > run.first {
                let why = format!("revision {last} was {what}, and the board started again at {}", run.first);
                report.violations.push(Violation { kind, why });
            }
        }
    }
    let unknown = |run: &u128| truth.branch(*run).is_none();
    if let Some(run) = answered.keys().find(|run| unknown(run)) {
        report
            .violations
            .push(Violation { kind: Kind::Invented, why: format!("run {run:x} answers, and is none") });
    }
}

/// The first time from which on a watcher had what the board had in a quiet moment.
fn check_in_step(
    history: &History,
    truth: &Truth,
    (number, records): (usize, &[Record]),
    bound_ms: u64,
    report: &mut Report,
) {
    for quiet in &history.quiets {
        let Some(wanted) = truth.branch(quiet.run) else { continue };
        let (mut on, mut in_step) = (None, None);
        for record in records {
            let revision = match &record.seen {
                Seen::Opened { .. } | Seen::Begin(..) => {
                    on = match &record.seen {
                        Seen::Begin(run, _) => truth.branch(*run),
                        _ => None,
                    };
                    (record.at_ms < quiet.at_ms).then(|| in_step = None);
                    continue;
                }
                Seen::Resumed(run, revision) => {
                    on = truth.branch(*run);
                    *revision
                }
                Seen::End(revision)
                | Seen::Delta(revision, _)
                | Seen::Progress(revision)
                | Seen::Scope { revision, .. } => *revision,
                Seen::Piece(_) | Seen::Nodes(_) => continue,
            };
            if on == Some(wanted) && revision >= quiet.revision {
                in_step = in_step.or(Some(record.at_ms));
            }
        }
        let took = in_step.map(|at| at.saturating_sub(quiet.at_ms));
        report.in_step_ms_max = report.in_step_ms_max.max(took.unwrap_or_default());
        if took.is_none_or(|took| took > bound_ms) {
            let why = format!(
                "watcher {number} is in step with revision {} of the moment {} ms after {took:?} ms",
                quiet.revision, quiet.at_ms
            );
            report.violations.push(Violation { kind: Kind::Late, why });
        }
    }
}

/// The check of one watcher.
struct Watch<'a> {
    history: &'a History,
    truth: &'a Truth,
    number: usize,
    report: &'a mut Report,
    scope: Option<BTreeSet<Vni>>,
    /// What it asked to resume from.
    resume: Option<(u128, u64)>,
    branch: Option<BranchId>,
    position: u64,
    replica: Replica,
    /// A snapshot being received, with its revision.
    snapshot: Option<(Replica, u64)>,
    /// A change of scope being received.
    partial: bool,
    /// It has been wrong already, or has no tables yet: until the next snapshot they are not compared.
    wrong: bool,
}

impl<'a> Watch<'a> {
    fn new(history: &'a History, truth: &'a Truth, number: usize, report: &'a mut Report) -> Self {
        Self {
            history,
            truth,
            number,
            report,
            scope: None,
            resume: None,
            branch: None,
            position: 0,
            replica: Replica::default(),
            snapshot: None,
            partial: false,
            wrong: true,
        }
    }

    fn found(&mut self, kind: Kind, why: String) {
        // What follows from a first mistake is not another one.
        let follows = self.wrong && matches!(kind, Kind::Diverged | Kind::LostEvent);
        if !follows {
            let why = format!("watcher {} after revision {}: {why}", self.number, self.position);
            self.report.violations.push(Violation { kind, why });
        }
        self.wrong = true;
    }

    fn in_scope(&self, part: Part) -> bool {
        match (&self.scope, part) {
            (Some(vnis), Some(vni)) => vnis.contains(&vni),
            _ => true,
        }
    }

    fn check(mut self, records: &[Record]) {
        for record in records {
            match &record.seen {
                Seen::Opened { scope, resume } => {
                    (self.scope, self.resume) = (scope.clone(), *resume);
                    (self.snapshot, self.branch) = (None, None);
                }
                Seen::Resumed(run, revision) => self.resumed(*run, *revision),
                Seen::Begin(run, revision) => {
                    self.branch = self.truth.branch(*run);
                    self.snapshot = Some((Replica::default(), *revision));
                    self.partial = false;
                }
                Seen::Piece(changes) => self.piece(changes),
                Seen::Nodes(batches) => {
                    for node in batches.iter().flat_map(NodeBatch::to_nodes) {
                        self.piece(&[Change::NodePut { node, gone_ips: Vec::new() }]);
                    }
                }
                Seen::End(revision) => self.end(*revision),
                Seen::Delta(revision, changes) => self.delta(*revision, changes),
                Seen::Scope { revision, changes, added, removed } => {
                    self.scope_change(*revision, changes, added, removed);
                }
                Seen::Progress(revision) => {
                    self.advance(*revision, *revision);
                    self.compare();
                }
            }
        }
    }

    /// The watch continues from a state on the history of this run.
    fn resumed(&mut self, run: u128, revision: u64) {
        self.branch = self.truth.branch(run);
        let held = self.resume.and_then(|(run, at)| Some(self.truth.place(self.truth.branch(run)?, at)));
        let here = self.branch.map(|branch| self.truth.place(branch, revision));
        if held != here {
            self.found(Kind::Diverged, format!("it holds {held:?} and is resumed at {here:?}"));
        }
        if self.position != revision {
            self.found(Kind::OutOfOrder, format!("it is resumed at {revision}"));
        }
        self.compare();
    }

    /// A piece of a snapshot.
    fn piece(&mut self, changes: &[Change]) {
        let Some((replica, revision)) = &mut self.snapshot else {
            return self.found(Kind::OutOfOrder, "a piece of no snapshot".into());
        };
        let failed = changes.iter().find_map(|change| replica.apply(change).err());
        if let Some(why) = failed {
            let why = format!("in the snapshot of {revision} {why}");
            self.wrong = false;
            self.found(Kind::Diverged, why);
        }
    }

    fn end(&mut self, revision: u64) {
        let Some((replica, begun)) = self.snapshot.take() else {
            return self.found(Kind::OutOfOrder, "a snapshot ends that has not begun".into());
        };
        (self.replica, self.position, self.wrong) = (replica, begun, false);
        if begun != revision {
            self.found(Kind::Diverged, format!("a snapshot of {begun} ends at {revision}"));
        }
        self.compare();
    }

    fn delta(&mut self, revision: u64, changes: &[Change]) {
        if self.snapshot.is_some() || self.partial {
            return self.found(
                Kind::OutOfOrder,
                format!("revision {revision} within a snapshot or a change of scope"),
            );
        }
        if revision == self.position {
            return self.found(Kind::Doubled, format!("revision {revision} again"));
        }
        self.advance(revision, revision.saturating_sub(1));
        self.apply(revision, changes);
        self.compare();
    }

    fn scope_change(&mut self, revision: u64, changes: &[Change], added: &[Vni], removed: &[Vni]) {
        self.advance(revision, revision);
        self.apply(revision, changes);
        self.partial = added.is_empty() && removed.is_empty();
        if let Some(scope) = &mut self.scope {
            scope.extend(added);
            scope.retain(|vni| !removed.contains(vni));
        }
        if !self.partial {
            self.compare();
        }
    }

    fn apply(&mut self, revision: u64, changes: &[Change]) {
        if let Some(why) = changes.iter().find_map(|change| self.replica.apply(change).err()) {
            self.found(Kind::Diverged, format!("at revision {revision} {why}"));
        }
    }

    /// The watcher goes on to `revision`; nothing in scope may have changed up to `unchanged`.
    fn advance(&mut self, revision: u64, unchanged: u64) {
        if revision < self.position {
            self.found(Kind::OutOfOrder, format!("revision {revision}"));
        }
        if let Some(branch) = self.branch {
            let lost = (self.position + 1..=unchanged).find(|revision| {
                self.truth.is_known(branch, *revision)
                    && self.truth.changed(branch, *revision).iter().any(|part| self.in_scope(*part))
            });
            if let Some(lost) = lost {
                self.found(Kind::LostEvent, format!("revision {revision} follows, {lost} is left out"));
            }
        }
        self.position = revision;
    }

    /// The watcher's tables are those of the board.
    fn compare(&mut self) {
        let Some(branch) = self.branch.filter(|_| !self.wrong) else { return };
        if !self.truth.is_known(branch, self.position) {
            self.report.unknown += 1;
            return;
        }
        self.report.compared += 1;
        let parts: Vec<Part> = match &self.scope {
            None => self.replica.table.prints().keys().chain(&self.truth.parts).copied().collect(),
            Some(vnis) => vnis.iter().map(|vni| Some(*vni)).chain([None]).collect(),
        };
        let differs =
            |part: &Part| self.replica.table.print(*part) != self.truth.print(branch, self.position, *part);
        if parts.iter().any(differs) {
            let table = self.truth.table(self.history, branch, self.position);
            let found = self.replica.table.differences(&table, |part| self.in_scope(part));
            self.found(Kind::Diverged, format!("its tables are not the board's: {found}"));
        }
    }
}

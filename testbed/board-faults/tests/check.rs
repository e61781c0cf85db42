//! The check of histories: it accepts a history in which everything is right, and finds each kind of violation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::{collections::BTreeSet, net::IpAddr};
use stopover_bbs::model::{Change, DeclaredBy, Host, HostDetails, Node, NodeFacts};
use stopover_board_faults::{
    check::{Kind, Report, check},
    history::{Answer, Effect, History, Put, Quiet, Record, Run, RunId, Seen, Write},
};
use stopover_net::{HostName, Mac, Vni};

const BOUND_MS: u64 = 1000;
const FIRST: RunId = 1;
const SECOND: RunId = 2;
const RESTORED: RunId = 3;

fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}

fn mac(n: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, n])
}

fn name() -> HostName {
    HostName::new("lx").unwrap()
}

fn host() -> Change {
    Change::HostPut(Host {
        id: 1,
        name: name(),
        vteps: vec![IpAddr::from([10, 0, 0, 1])],
        udp_port: 4789,
        declared_by: DeclaredBy::Operator,
        up: true,
        no_flood: false,
        down_unix_ms: 0,
        details: HostDetails::default(),
    })
}

fn member(network: u32) -> Change {
    Change::MemberPut { vni: vni(network), host_id: 1, segment: false }
}

fn member_gone(network: u32) -> Change {
    Change::MemberGone { vni: vni(network), host_id: 1 }
}

fn put(network: u32, n: u8, ip: u32, generation: u64) -> Change {
    let ips = vec![IpAddr::from(ip.to_be_bytes())];
    let node =
        Node { vni: vni(network), mac: mac(n), ips, host_id: 1, generation, facts: NodeFacts::default() };
    Change::NodePut { node, gone_ips: vec![] }
}

fn gone(network: u32, n: u8, ip: u32) -> Change {
    Change::NodeGone { vni: vni(network), mac: mac(n), ips: vec![IpAddr::from(ip.to_be_bytes())] }
}

fn write(effect: Effect, run: RunId, revision: u64) -> Write {
    Write { effect, answers: vec![Answer { run, revision: Some(revision) }] }
}

fn write_put(network: u32, n: u8, ip: u32, run: RunId, revision: u64) -> Write {
    let put = Put { vni: vni(network), mac: mac(n), host: name(), ip };
    write(Effect::Put(vec![put]), run, revision)
}

fn records(seen: Vec<Seen>) -> Vec<Record> {
    (0..).zip(seen).map(|(n, seen)| Record { at_ms: n * 10, seen }).collect()
}

fn opened(scope: Option<BTreeSet<Vni>>, resume: Option<(RunId, u64)>) -> Seen {
    Seen::Opened { scope, resume }
}

/// A watcher that sees everything.
fn of_everything() -> Vec<Seen> {
    vec![
        opened(None, None),
        Seen::Begin(FIRST, 0),
        Seen::End(0),
        Seen::Delta(1, vec![host()]),
        Seen::Delta(2, vec![member(1), put(1, 1, 101, 2)]),
        Seen::Delta(3, vec![member(2), put(2, 2, 102, 3)]),
        Seen::Delta(4, vec![put(1, 1, 103, 2)]),
        Seen::Delta(5, vec![gone(2, 2, 102), member_gone(2)]),
        opened(None, Some((FIRST, 5))),
        Seen::Resumed(SECOND, 5),
        Seen::Delta(6, vec![put(1, 3, 104, 6)]),
        opened(None, Some((SECOND, 6))),
        Seen::Begin(RESTORED, 3),
        Seen::Piece(vec![host(), member(1), put(1, 1, 101, 2), member(2), put(2, 2, 102, 3)]),
        Seen::End(3),
        Seen::Delta(4, vec![put(2, 4, 105, 4)]),
    ]
}

/// A watcher of network 1, for a while also of network 2.
fn of_one_network() -> Vec<Seen> {
    vec![
        opened(Some([vni(1)].into()), None),
        Seen::Begin(FIRST, 1),
        Seen::Piece(vec![host()]),
        Seen::End(1),
        Seen::Delta(2, vec![member(1), put(1, 1, 101, 2)]),
        Seen::Progress(3),
        Seen::Delta(4, vec![put(1, 1, 103, 2)]),
        Seen::Scope {
            revision: 4,
            changes: vec![member(2), put(2, 2, 102, 3)],
            added: vec![vni(2)],
            removed: vec![],
        },
        Seen::Delta(5, vec![gone(2, 2, 102), member_gone(2)]),
        Seen::Scope { revision: 5, changes: vec![], added: vec![], removed: vec![vni(2)] },
        opened(Some([vni(1)].into()), Some((FIRST, 5))),
        Seen::Resumed(SECOND, 5),
        Seen::Delta(6, vec![put(1, 3, 104, 6)]),
        opened(Some([vni(1)].into()), Some((SECOND, 6))),
        Seen::Begin(RESTORED, 3),
        Seen::Piece(vec![host(), member(1), put(1, 1, 101, 2)]),
        Seen::End(3),
        Seen::Progress(4),
    ]
}

/// A watcher that takes a snapshot of each run.
fn of_snapshots() -> Vec<Seen> {
    vec![
        opened(None, None),
        Seen::Begin(FIRST, 4),
        Seen::Piece(vec![host(), member(1), put(1, 1, 103, 2), member(2), put(2, 2, 102, 3)]),
        Seen::End(4),
        opened(None, None),
        Seen::Begin(SECOND, 6),
        Seen::Piece(vec![host(), member(1), put(1, 1, 103, 2), put(1, 3, 104, 6)]),
        Seen::End(6),
        opened(None, None),
        Seen::Begin(RESTORED, 4),
        Seen::Piece(vec![
            host(),
            member(1),
            put(1, 1, 101, 2),
            member(2),
            put(2, 2, 102, 3),
            put(2, 4, 105, 4),
        ]),
        Seen::End(4),
    ]
}

/// A board with five writes, a restart, a sixth, and a restored backup of revision 3 with another fourth. Watcher 0 sees
/// all of it, watcher 1 some networks, and watcher 2 takes snapshots.
fn right() -> History {
    let run = |id, before, restored, first| Run { id, before, restored, first };
    let writes = vec![
        write(Effect::Host(name()), FIRST, 1),
        write_put(1, 1, 101, FIRST, 2),
        write_put(2, 2, 102, FIRST, 3),
        write_put(1, 1, 103, FIRST, 4),
        write(Effect::Gone(vec![(vni(2), mac(2))]), FIRST, 5),
        write_put(1, 3, 104, SECOND, 6),
        write_put(2, 4, 105, RESTORED, 4),
    ];
    History {
        runs: vec![
            run(FIRST, None, false, 0),
            run(SECOND, Some(FIRST), false, 5),
            run(RESTORED, Some(FIRST), true, 3),
        ],
        writes,
        watchers: vec![records(of_everything()), records(of_one_network()), records(of_snapshots())],
        quiets: vec![Quiet { at_ms: 100, run: RESTORED, revision: 4 }],
    }
}

fn kinds(report: &Report) -> Vec<Kind> {
    let mut kinds: Vec<_> = report.violations.iter().map(|violation| violation.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// The right history with one mistake.
fn with(mistake: impl FnOnce(&mut History)) -> Report {
    let mut history = right();
    mistake(&mut history);
    check(&history, BOUND_MS)
}

/// Finds something that a watcher has seen.
fn seen(history: &mut History, watcher: usize, wanted: impl Fn(&Seen) -> bool) -> usize {
    history.watchers[watcher].iter().position(|record| wanted(&record.seen)).expect("it has seen it")
}

#[track_caller]
fn finds(kind: Kind, mistake: impl FnOnce(&mut History)) {
    let report = with(mistake);
    assert!(kinds(&report).contains(&kind), "{:?}", report.violations);
}

#[test]
fn a_right_history_has_no_violation() {
    let report = check(&right(), BOUND_MS);
    assert_eq!(report.violations, []);
    assert_eq!((report.compared, report.unknown), (24, 0));
    assert_eq!(report.in_step_ms_max, 70);
}

#[test]
fn a_lost_write_is_found() {
    // The board answered revision 6 before it stopped, and started again at 5.
    finds(Kind::LostWrite, |h| h.writes[5].answers[0].run = FIRST);
    // An answered write that is in no table.
    finds(Kind::Diverged, |h| {
        let at = seen(h, 2, |seen| matches!(seen, Seen::Piece(changes) if changes.len() == 4));
        h.watchers[2][at].seen = Seen::Piece(vec![host(), member(1), put(1, 1, 103, 2)]);
    });
}

#[test]
fn a_lost_event_is_found() {
    // Later changes hide that it is missing: only the gap tells.
    finds(Kind::LostEvent, |h| {
        let at = seen(h, 1, |seen| matches!(seen, Seen::Delta(2, _)));
        h.watchers[1].remove(at);
    });
    finds(Kind::LostEvent, |h| {
        let at = seen(h, 1, |seen| matches!(seen, Seen::Delta(4, _)));
        h.watchers[1][at].seen = Seen::Progress(4);
    });
}

#[test]
fn a_doubled_event_and_a_doubled_write_are_found() {
    finds(Kind::Doubled, |h| {
        let at = seen(h, 0, |seen| matches!(seen, Seen::Delta(2, _)));
        let again = h.watchers[0][at].clone();
        h.watchers[0].insert(at, again);
    });
    // A write is answered with two revisions of one history.
    finds(Kind::Doubled, |h| h.writes[1].answers.push(Answer { run: SECOND, revision: Some(6) }));
    finds(Kind::Doubled, |h| h.writes[1].answers.push(Answer { run: RESTORED, revision: Some(4) }));
    // One that was executed again without an answer: the change is seen twice.
    finds(Kind::Doubled, |h| {
        h.watchers[0].truncate(11);
        h.watchers[0].push(Record { at_ms: 200, seen: Seen::Delta(7, vec![put(1, 1, 101, 2)]) });
    });
}

#[test]
fn another_order_is_found() {
    finds(Kind::OutOfOrder, |h| {
        let at = seen(h, 0, |seen| matches!(seen, Seen::Delta(3, _)));
        h.watchers[0].swap(at, at + 1);
    });
    finds(Kind::OutOfOrder, |h| {
        let at = seen(h, 0, |seen| matches!(seen, Seen::Resumed(..)));
        h.watchers[0][at].seen = Seen::Resumed(SECOND, 4);
    });
    finds(Kind::OutOfOrder, |h| {
        let at = seen(h, 2, |seen| matches!(seen, Seen::End(4)));
        h.watchers[2].insert(at, Record { at_ms: 0, seen: Seen::Delta(4, vec![]) });
    });
}

#[test]
fn an_event_from_the_future_is_found() {
    finds(Kind::Future, |h| {
        let at = seen(h, 0, |seen| matches!(seen, Seen::Delta(5, _)));
        h.watchers[0].insert(at + 1, Record { at_ms: 0, seen: Seen::Delta(6, vec![put(1, 3, 104, 6)]) });
    });
}

#[test]
fn tables_that_are_not_those_of_the_revision_are_found() {
    for wrong in [
        vec![host(), member(1), put(1, 1, 101, 2), member(2), put(2, 2, 102, 3)],
        vec![host(), member(1), put(1, 1, 103, 4), member(2), put(2, 2, 102, 3)],
        vec![host(), member(1), put(1, 1, 103, 2), put(2, 2, 102, 3)],
        vec![host(), member(1), put(1, 1, 103, 2), member(2), put(2, 2, 102, 3), put(2, 9, 109, 3)],
    ] {
        finds(Kind::Diverged, |h| {
            let at = seen(h, 2, |seen| matches!(seen, Seen::Piece(_)));
            h.watchers[2][at].seen = Seen::Piece(wrong);
        });
    }
    // A watch that continues on another branch of the history, as if nothing had happened.
    finds(Kind::Diverged, |h| {
        let at = seen(h, 0, |seen| matches!(seen, Seen::Begin(RESTORED, _)));
        h.watchers[0].splice(at..at + 3, [Record { at_ms: 120, seen: Seen::Resumed(RESTORED, 6) }]);
    });
}

#[test]
fn a_change_that_nobody_wrote_is_found() {
    finds(Kind::Invented, |h| {
        h.watchers[0].truncate(11);
        h.watchers[0].push(Record { at_ms: 200, seen: Seen::Delta(7, vec![put(1, 9, 999, 7)]) });
    });
}

#[test]
fn of_writes_with_one_revision_only_one_may_have_changed_something() {
    let gone = || write(Effect::Gone(vec![(vni(2), mac(2))]), FIRST, 5);
    assert_eq!(with(|h| h.writes.push(gone())).violations, []);
    finds(Kind::Invented, |h| h.writes.push(write_put(2, 7, 107, FIRST, 5)));
}

#[test]
fn a_watcher_that_stays_behind_is_found() {
    finds(Kind::Late, |h| h.watchers[1].truncate(17));
    finds(Kind::Late, |h| h.watchers[1].last_mut().unwrap().at_ms = 100 + BOUND_MS + 1);
    let report = with(|h| h.watchers[1].last_mut().unwrap().at_ms = 100 + BOUND_MS);
    assert_eq!((report.violations.len(), report.in_step_ms_max), (0, BOUND_MS));
}

#[test]
fn a_write_without_an_answer_may_have_been_made_or_not() {
    // Watchers have seen it, so it was.
    let report = with(|h| h.writes[3].answers.clear());
    assert_eq!(report.violations, []);
    assert_eq!(report.unknown, 0);
    // Nobody has seen it.
    let report = with(|h| {
        let put = Put { vni: vni(1), mac: mac(8), host: name(), ip: 108 };
        h.writes.push(Write { effect: Effect::Put(vec![put]), answers: vec![] });
    });
    assert_eq!(report.violations, []);
    // What followed it is not known: nothing is said about it.
    let report = with(|h| {
        h.writes[3].answers.clear();
        for records in &mut h.watchers {
            records.truncate(1);
        }
        h.watchers[2] = records(vec![
            Seen::Opened { scope: None, resume: None },
            Seen::Begin(SECOND, 6),
            Seen::Piece(vec![host()]),
            Seen::End(6),
        ]);
        h.quiets.clear();
    });
    assert_eq!(report.violations, []);
    assert_eq!(report.unknown, 1);
}

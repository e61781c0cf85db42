//! The table of docs/migration-states.md, generated from the machine: every event in every situation.
//! `STOPOVER_WRITE_DOCS=1` writes it again after a change of the rules.

use crate::migration::machine::{Action, Event, Machine, NodeConfig, Record, State};
use crate::migration::record::RedirectTarget;
use std::{collections::BTreeSet, fmt::Write, fs};
use stopover_bbs::model::{Lock, Unlocked};

const DOC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/migration-states.md");
const BEGIN: &str = "<!-- made by appliance/migration/machine/tests/table.rs -->\n";

const OWN: u32 = 1;
const B: u32 = 2;
const C: u32 = 3;
const P: u16 = 1;
const Q: u16 = 2;

fn lock(source: u32, target: Option<u32>) -> Event {
    Event::Locked(Lock { migration: 7, generation: 70, source, target })
}

const HERE: Event = Event::Record(Record::Here);
const AT_B: Event = Event::Record(Record::Other(B));
const BEGUN: Event = Event::Begun { migration: 7, generation: 70 };
const FROM_B: Event = Event::Arrived { from: B, generation: 0 };

/// The events before each situation, and whether its ports are exact.
fn situations() -> Vec<(&'static str, bool, Vec<Event>)> {
    let up = Event::PortUp(P);
    let down = Event::PortDown(P);
    let logging = Event::Logging(P, true);
    let ours = [up, HERE, logging, lock(OWN, None), BEGUN];
    let with = |then: &[Event]| [&ours[..], then].concat();
    vec![
        ("Away, the board knows no such node", true, vec![]),
        ("Away, the board has it at B", true, vec![AT_B]),
        ("Away, the board has it at B and locked to us", true, vec![AT_B, lock(B, Some(OWN))]),
        ("Away, given to us by the board, no exact port declared", false, vec![AT_B, HERE]),
        ("Away, expired, and the board still has it here", true, vec![up, HERE, logging, down, Event::Tick]),
        ("Here", true, vec![up, HERE]),
        ("Here, both ports up", true, vec![up, HERE, Event::PortUp(Q)]),
        ("Here, windowed", false, vec![up, HERE]),
        ("Here, and the board has it at B still", true, vec![AT_B, up, Event::Settled]),
        ("Here, and B has announced it", true, vec![up, HERE, FROM_B]),
        ("Leaving, not locked yet", true, vec![up, HERE, logging]),
        ("Leaving, our lock", true, ours.to_vec()),
        ("Leaving, our lock, both ports up", true, with(&[Event::PortUp(Q)])),
        ("Leaving, our lock, B has announced it", true, with(&[FROM_B])),
        ("Leaving, our lock, logging just switched off", true, with(&[Event::Logging(P, false)])),
        ("Leaving, completed to B early", true, with(&[AT_B, Event::Unlocked(Unlocked::Completed)])),
        ("Leaving, another's lock", true, vec![up, HERE, lock(OWN, None)]),
        ("Leaving, windowed, another's lock", false, vec![up, HERE, lock(OWN, None)]),
        ("Paused, our lock", true, with(&[down])),
        ("Paused, another's lock", true, vec![up, HERE, lock(OWN, None), down]),
        ("Paused, not locked", true, vec![up, HERE, logging, down]),
        ("Forwarding to B, our lock, the board has not heard", true, with(&[down, FROM_B])),
        (
            "Forwarding to B, where the board has it",
            true,
            with(&[down, AT_B, Event::Unlocked(Unlocked::Completed)]),
        ),
        (
            "Forwarding to B, the board knows no such node",
            true,
            with(&[down, FROM_B, Event::Unlocked(Unlocked::Aborted), Event::Record(Record::Nowhere)]),
        ),
        ("Forwarding to the other port, our lock", true, with(&[down, Event::PortUp(Q)])),
        ("Arriving from B, windowed", false, vec![AT_B, lock(B, None), up]),
        ("Arriving from B", true, vec![AT_B, lock(B, None), up]),
        ("Expected", true, vec![AT_B, HERE]),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let older = Event::Arrived { from: C, generation: 60 };
    vec![
        ("port up", Event::PortUp(P)),
        ("other port up", Event::PortUp(Q)),
        ("port down", Event::PortDown(P)),
        ("other port down", Event::PortDown(Q)),
        ("logging on", Event::Logging(P, true)),
        ("logging off", Event::Logging(P, false)),
        ("record: here", HERE),
        ("record: at B", AT_B),
        ("record: at C", Event::Record(Record::Other(C))),
        ("record: nowhere", Event::Record(Record::Nowhere)),
        ("locked from here", lock(OWN, None)),
        ("locked from B to here", lock(B, Some(OWN))),
        ("locked from B to C", lock(B, Some(C))),
        ("completed", Event::Unlocked(Unlocked::Completed)),
        ("aborted", Event::Unlocked(Unlocked::Aborted)),
        ("begun by us", BEGUN),
        ("arrived at B", FROM_B),
        ("arrived at C", Event::Arrived { from: C, generation: 0 }),
        ("arrived at C, older lock", older),
        ("drained", Event::Drained),
        ("settled", Event::Settled),
        ("claim refused", Event::Refused),
        ("time", Event::Tick),
    ]
}

fn host(host: u32) -> &'static str {
    match host {
        B => "B",
        C => "C",
        _ => "?",
    }
}

fn port(port: u16) -> &'static str {
    if port == P { "" } else { " (other port)" }
}

fn target(to: RedirectTarget) -> &'static str {
    match to {
        RedirectTarget::Host(to) => host(to),
        RedirectTarget::Port(P) => "the port",
        RedirectTarget::Port(_) => "the other port",
    }
}

fn state(state: &State) -> String {
    match *state {
        State::Away => "Away".into(),
        State::Here { port: p } => format!("Here{}", port(p)),
        State::Leaving { port: p } => format!("Leaving{}", port(p)),
        State::Paused { port: p, .. } => format!("Paused{}", port(p)),
        State::Forwarding { to, .. } => format!("Forwarding to {}", target(to)),
        State::Arriving { port: p, from, .. } => {
            format!("Arriving{} from {}", port(p), from.map_or("somewhere", host))
        }
        State::Expected { .. } => "Expected".into(),
    }
}

fn action(action: &Action) -> String {
    match *action {
        Action::ShowLocal { port: p } => format!("show local{}", port(p)),
        Action::Forget => "forget".into(),
        Action::Depart { host: to } => format!("depart to {}", host(to)),
        Action::Claim => "claim".into(),
        Action::Withdraw => "withdraw".into(),
        Action::Lock => "lock".into(),
        Action::Complete { .. } => "complete".into(),
        Action::Abort { .. } => "abort".into(),
        Action::Hold { port: p } => format!("hold frames{}", port(p)),
        Action::Release { port: p } => format!("release{}", port(p)),
        Action::Discard { .. } => "discard".into(),
        Action::Forward { to, .. } => format!("forward to {}", target(to)),
        Action::StartArrival { .. } => "start arrival".into(),
        Action::EndArrival => "end arrival".into(),
        Action::Announce { to, generation: 0 } => format!("announce to {}", host(to)),
        Action::Announce { to, .. } => format!("announce to {} (with the generation)", host(to)),
        Action::StandIn(true) => "stand-in MAC".into(),
        Action::StandIn(false) => "real MAC".into(),
        Action::Report => "report".into(),
    }
}

/// A machine after these events, and the time.
fn machine(exact: bool, happened: &[Event]) -> (Machine, u64) {
    let declared = exact.then_some(P);
    let mut machine =
        Machine::new(NodeConfig { exact, declared, hold_ms: 10_000, arrival_ms: 80, silent_ms: 10_000 });
    machine.set_own(OWN);
    let mut now = 1_000;
    for event in happened {
        if *event == Event::Tick {
            now = machine.next_deadline().unwrap();
        }
        machine.on(now, *event);
    }
    (machine, now)
}

fn table() -> String {
    let mut text = String::new();
    for (title, exact, happened) in situations() {
        let (before, now) = machine(exact, &happened);
        assert!(title.starts_with(state(before.state()).split(" from").next().unwrap()), "{title}");
        writeln!(text, "\n### {title}\n| Event | Becomes | Does |\n|---|---|---|").unwrap();
        let (mut noted, mut nothing) = (Vec::new(), Vec::new());
        for (name, event) in events() {
            let mut machine = before.clone();
            let at = if event == Event::Tick { machine.next_deadline().unwrap_or(now) } else { now };
            let actions = machine.on(at, event);
            if actions.is_empty() && machine.state() == before.state() {
                if machine == before {
                    nothing.push(name)
                } else {
                    noted.push(name)
                }
                continue;
            }
            let becomes = match machine.state() {
                same if same == before.state() => "–".into(),
                other => state(other),
            };
            let does: Vec<_> = actions.iter().map(action).collect();
            let does = if does.is_empty() { "–".into() } else { does.join(", ") };
            writeln!(text, "| {name} | {becomes} | {does} |").unwrap();
        }
        for (what, names) in [("Noted", noted), ("Nothing", nothing)] {
            if !names.is_empty() {
                writeln!(text, "\n{what}: {}.", names.join("; ")).unwrap();
            }
        }
    }
    text
}

#[test]
fn the_table_in_the_docs_matches_the_machine() {
    let doc = fs::read_to_string(DOC).unwrap();
    let (prose, written) = doc.split_once(BEGIN).expect("the marker in docs/migration-states.md");
    let table = table();
    if std::env::var_os("STOPOVER_WRITE_DOCS").is_some() {
        fs::write(DOC, format!("{prose}{BEGIN}{table}")).unwrap();
        return;
    }
    for (made, written) in table.lines().zip(written.lines()) {
        assert_eq!(written, made, "docs/migration-states.md is not what the machine does");
    }
    assert_eq!(written.lines().count(), table.lines().count());
}

#[test]
fn the_table_has_every_state_and_every_event() {
    let states: BTreeSet<_> = situations()
        .iter()
        .map(|(_, exact, happened)| match machine(*exact, happened).0.state() {
            State::Away => 0,
            State::Here { .. } => 1,
            State::Leaving { .. } => 2,
            State::Paused { .. } => 3,
            State::Forwarding { to: RedirectTarget::Host(_), .. } => 4,
            State::Forwarding { to: RedirectTarget::Port(_), .. } => 5,
            State::Arriving { .. } => 6,
            State::Expected { .. } => 7,
        })
        .collect();
    assert_eq!(states, (0..8).collect());
    let event_rows: BTreeSet<_> = events()
        .iter()
        .map(|(_, event)| match event {
            Event::PortUp(_) => 0,
            Event::PortDown(_) => 1,
            Event::Logging(..) => 2,
            Event::Record(_) => 3,
            Event::Locked(_) => 4,
            Event::Unlocked(_) => 5,
            Event::Begun { .. } => 6,
            Event::Arrived { .. } => 7,
            Event::Drained => 8,
            Event::Settled => 9,
            Event::Refused => 10,
            Event::Tick => 11,
        })
        .collect();
    assert_eq!(event_rows, (0..12).collect());
}

#[test]
fn an_announcement_is_repeated_with_growing_pauses_until_the_claim_is_accepted() {
    let (mut m, mut now) = machine(true, &[AT_B, Event::PortUp(P), Event::Settled]);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let next = m.next_deadline().unwrap();
        pauses.push(next - now);
        now = next;
        assert_eq!(m.on(now, Event::Tick), [Action::Announce { to: B, generation: 0 }]);
    }
    assert_eq!(pauses, [80, 160, 320, 640, 1_280, 2_560, 5_120, 10_000, 10_000, 10_000]);
    m.on(now, HERE);
    assert_eq!(m.next_deadline(), None);
}

#[test]
fn an_announcement_of_an_earlier_migration_is_ignored() {
    let lock =
        |generation, source| Event::Locked(Lock { migration: generation, generation, source, target: None });
    // It arrived from B under generation 50, and leaves under 60.
    let arrival_events = [AT_B, lock(50, B), Event::PortUp(P), HERE, Event::Unlocked(Unlocked::Completed)];
    let leaves = [Event::Settled, Event::Logging(P, true), lock(60, OWN), Event::PortDown(P)];
    let (paused, now) = machine(true, &[&arrival_events[..], &leaves[..]].concat());
    for (generation, taken) in [(40, false), (50, false), (59, false), (60, true), (61, true), (0, true)] {
        let mut m = paused.clone();
        let actions = m.on(now, Event::Arrived { from: C, generation });
        assert_eq!(!actions.is_empty(), taken, "generation {generation}");
    }
    // Without its lock, only generation 50 of its arrival is known.
    let mut unlocked = paused;
    unlocked.on(now, Event::Unlocked(Unlocked::Aborted));
    assert_eq!(unlocked.clone().on(now, Event::Arrived { from: C, generation: 50 }), []);
    assert_ne!(unlocked.on(now, Event::Arrived { from: C, generation: 51 }), []);
}

#[test]
fn a_lock_with_a_late_answer_is_aborted() {
    let cancelled = [Event::PortUp(P), HERE, Event::Logging(P, true), Event::Logging(P, false), Event::Tick];
    let (mut m, now) = machine(true, &cancelled);
    assert_eq!(*m.state(), State::Here { port: P });
    assert_eq!(m.on(now, BEGUN), [Action::Abort { migration: 7, generation: 70 }]);
    assert_eq!(m.on(now, lock(OWN, None)), [], "it is being aborted");
    assert_eq!(m.on(now, Event::Unlocked(Unlocked::Aborted)), []);

    let (mut m, now) = machine(true, &[]);
    assert_eq!(m.on(now, BEGUN), [Action::Abort { migration: 7, generation: 70 }], "machine made anew");
    assert!(m.is_idle());
}

//! A VM that migrates between three appliances, one of which has two ports for it, with events in any order: late
//! events of rings and watch, lost announcements, killed appliances, an unreachable board. Or it is a station of a
//! segment, which is learned, falls silent and ages out, and whose machine is dropped when that is allowed.

mod checks;
mod steps;

pub use steps::Op;

use super::board::{Answer, Board, Call, Change, HOSTS, Session, id, record};
use super::plane::{Hold, Plane};
use crate::migration::machine::{Action, Event, Machine, NodeConfig, Record, State};
use std::collections::VecDeque;
use stopover_bbs::model::Unlocked;

const HOLD_MS: u64 = 2_000;
const ARRIVAL_MS: u64 = 80;
/// A silent station is removed after this.
const AGEING_MS: u64 = 1_500;
/// A station whose claim was refused is not claimed again for this long.
const QUIET_MS: u64 = 1_000;
pub const PLACES: [(usize, u16); 4] = [(0, 10), (0, 11), (1, 20), (2, 30)];

struct Appliance {
    machine: Machine,
    plane: Plane,
    session: Session,
    /// Events of its ports that it has not processed yet.
    ports: VecDeque<Event>,
    linked: bool,
    /// When the station last sent.
    last_seen_ms: u64,
    quiet_until_ms: u64,
    /// Seen although the board has it elsewhere: behind which port, and until when it is claimed.
    doubt: Option<(u16, u64)>,
}

/// What the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A vif that reports what was delivered.
    Exact,
    /// A vif that does not report it.
    Windowed,
    /// A station of a segment.
    Station,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Vm {
    Off,
    /// Where it runs, and where it is being migrated to.
    Runs(usize, Option<usize>),
    Transit(usize, usize),
}

pub struct World {
    exact: bool,
    station: bool,
    now: u64,
    board: Board,
    pub vm: Vm,
    hosts: [Option<Appliance>; HOSTS],
    processes: [u32; HOSTS],
    in_flight: VecDeque<(u32, usize, u64)>,
    /// Actions since time last passed: an endless exchange would not end.
    busy: usize,
}

impl World {
    pub fn new(kind: Kind) -> Self {
        let mut world = Self {
            exact: kind == Kind::Exact,
            station: kind == Kind::Station,
            now: 1,
            board: Board::default(),
            vm: Vm::Off,
            hosts: [const { None }; HOSTS],
            processes: [0; HOSTS],
            in_flight: VecDeque::new(),
            busy: 0,
        };
        (0..HOSTS).for_each(|host| world.restart(host));
        world
    }

    fn restart(&mut self, host: usize) {
        if self.hosts[host].is_some() {
            return;
        }
        self.processes[host] += 1;
        let machine = self.machine(host);
        let plane = Plane { local: None, hold: Hold::Off, arrival: false, stand_in: false };
        let (session, ports) = (Session::default(), VecDeque::new());
        let (last_seen_ms, quiet_until_ms, doubt) = (0, 0, None);
        let linked = false;
        self.hosts[host] =
            Some(Appliance { machine, plane, session, ports, linked, last_seen_ms, quiet_until_ms, doubt });
        if let Vm::Runs(at, going) = self.vm
            && PLACES[at].0 == host
        {
            self.set_rings(at, true, going.is_some());
        }
    }

    fn machine(&self, host: usize) -> Machine {
        let declared = PLACES.iter().find(|(h, _)| *h == host).map(|(_, port)| *port);
        let mut machine = Machine::new(NodeConfig {
            exact: self.exact,
            declared: declared.filter(|_| self.exact),
            hold_ms: HOLD_MS,
            arrival_ms: ARRIVAL_MS,
            silent_ms: HOLD_MS,
        });
        machine.set_own(id(host));
        machine
    }

    /// Drops an idle machine. The new one gets only the events that a new one gets.
    fn restart_machine(&mut self, host: usize) {
        let mut new = self.machine(host);
        let Some(a) = self.hosts[host].as_mut().filter(|a| a.machine.is_idle()) else { return };
        assert_eq!(new.on(self.now, Event::Record(a.machine.record())), []);
        let old = std::mem::replace(&mut a.machine, new);
        if let State::Here { port } = *old.state() {
            self.apply_event(host, Event::PortUp(port));
        }
    }

    /// The station has sent; handled as by the control thread.
    fn station_seen(&mut self, host: usize, port: u16) {
        let now = self.now;
        let Some(a) = &mut self.hosts[host] else { return };
        a.last_seen_ms = now;
        let may_come = a.machine.lock().is_some_and(|lock| {
            lock.source != id(host) && lock.target.is_none_or(|target| target == id(host))
        });
        match (*a.machine.state(), a.machine.record()) {
            (State::Forwarding { .. }, Record::Other(_) | Record::Nowhere) if !may_come => return,
            (State::Away, Record::Other(_)) if !may_come => {
                if now >= a.quiet_until_ms {
                    a.doubt = Some((port, now + 2 * QUIET_MS));
                    a.session.claim();
                }
                return;
            }
            _ => a.doubt = None,
        }
        self.apply_event(host, Event::PortUp(port));
    }

    /// Applies the answer of the board to a claim.
    fn apply_answer(&mut self, host: usize, answer: Answer) {
        let quiet_until_ms = self.now + QUIET_MS;
        let Some(a) = self.hosts[host].as_mut().filter(|_| self.station) else { return };
        match (answer, a.doubt, *a.machine.state()) {
            (Answer::Done, Some((port, _)), _) => {
                a.doubt = None;
                self.apply_event(host, Event::PortUp(port));
            }
            (Answer::Refused, Some(_), _) => {
                (a.doubt, a.quiet_until_ms) = (None, quiet_until_ms);
                a.session.withdraw();
            }
            (Answer::Refused, None, State::Here { .. } | State::Arriving { .. }) => {
                a.quiet_until_ms = quiet_until_ms;
                self.apply_event(host, Event::Refused);
            }
            _ => {}
        }
    }

    /// Removes stations that are silent for too long.
    fn age_stations(&mut self, host: usize) {
        let now = self.now;
        let Some(a) = self.hosts[host].as_mut().filter(|_| self.station) else { return };
        if a.doubt.is_some_and(|(_, until)| until <= now) {
            a.doubt = None;
            a.session.withdraw();
        }
        if let State::Here { port } = *a.machine.state()
            && now >= a.last_seen_ms + AGEING_MS
        {
            self.apply_event(host, Event::PortDown(port));
        }
    }

    fn apply_event(&mut self, host: usize, event: Event) {
        let Some(a) = &mut self.hosts[host] else { return };
        for action in a.machine.on(self.now, event) {
            self.busy += 1;
            a.plane.apply(action);
            match action {
                Action::Claim => a.session.claim(),
                Action::Withdraw => a.session.withdraw(),
                Action::Lock => a.session.call(Call::Begin),
                Action::Complete { migration, generation } => {
                    a.session.call(Call::Complete((migration, generation)));
                }
                Action::Abort { migration, generation } => {
                    a.session.call(Call::Abort((migration, generation)));
                }
                Action::Announce { to, generation } => {
                    assert_ne!(to, id(host), "announces to itself");
                    self.in_flight.push_back((id(host), to as usize - 1, generation));
                }
                _ => {}
            }
        }
        assert!(self.busy < 2_000, "an endless exchange");
        a.plane.assert_agrees(a.machine.state(), a.session.claims() && a.doubt.is_none(), self.exact);
    }

    fn set_rings(&mut self, place: usize, up: bool, logging: bool) {
        let (host, port) = PLACES[place];
        let exact = self.exact;
        if self.station && !up {
            // It has left unnoticed.
            return;
        }
        let Some(a) = &mut self.hosts[host] else { return };
        // Off after each stop, unless an event states otherwise.
        if exact && logging {
            a.ports.push_back(Event::Logging(port, true));
        }
        a.ports.push_back(if up { Event::PortUp(port) } else { Event::PortDown(port) });
    }

    fn set_logging(&mut self, place: usize, on: bool) {
        let (host, port) = PLACES[place];
        if self.exact
            && let Some(a) = &mut self.hosts[host]
        {
            a.ports.push_back(Event::Logging(port, on));
        }
    }

    /// A VM behind a port with a window sends a frame.
    fn send_from_vm(&mut self) {
        if let Vm::Runs(at, _) = self.vm
            && !self.exact
            && let Some(a) = &mut self.hosts[PLACES[at].0]
        {
            a.ports.push_back(Event::PortUp(PLACES[at].1));
        }
    }

    fn snapshot(&mut self, host: usize) {
        let at = record(self.board.record, host);
        let Some(a) = &mut self.hosts[host] else { return };
        a.session.seen = self.board.log.len();
        a.session.reconnected();
        let (known, lock) = (a.machine.lock(), self.board.lock());
        let outcome = if a.machine.record() == at { Unlocked::Aborted } else { Unlocked::Completed };
        self.apply_event(host, Event::Record(at));
        if known.is_some() && known.map(|l| l.migration) != lock.map(|l| l.migration) {
            self.apply_event(host, Event::Unlocked(outcome));
        }
        if let Some(lock) = lock {
            self.apply_change(host, Change::Locked(lock));
        }
    }

    fn apply_change(&mut self, host: usize, change: Change) {
        if let Some(a) = &mut self.hosts[host] {
            a.session.apply_change(self.now, host, change);
        }
        self.apply_event(
            host,
            match change {
                Change::Record(at) => Event::Record(record(at, host)),
                Change::Locked(lock) => Event::Locked(lock),
                Change::Unlocked(outcome) => Event::Unlocked(outcome),
            },
        );
    }

    fn heartbeat(&mut self) {
        for host in 0..HOSTS {
            if let Some(a) = self.hosts[host].as_mut().filter(|a| a.linked) {
                a.session.renew(&self.board);
                self.board.heartbeat(self.now, host, self.processes[host], a.session.keeps);
            }
        }
        self.board.settle(self.now);
    }

    fn set_link(&mut self, host: usize, on: bool) {
        let Some(a) = &mut self.hosts[host] else { return };
        if std::mem::replace(&mut a.linked, on) != on && on {
            self.heartbeat();
            self.snapshot(host);
        }
    }

    fn advance(&mut self, ms: u64) {
        self.busy = 0;
        let end = self.now + ms;
        while self.now < end {
            self.now = end.min(self.now + 50);
            self.heartbeat();
            for host in 0..HOSTS {
                self.age_stations(host);
                let due = self.hosts[host].as_ref().and_then(|a| a.machine.next_deadline());
                if due.is_some_and(|at| at <= self.now) {
                    self.apply_event(host, Event::Tick);
                    let next = self.hosts[host].as_ref().and_then(|a| a.machine.next_deadline());
                    assert!(next.is_none_or(|at| at > self.now), "a deadline that does not pass");
                }
            }
        }
    }
}

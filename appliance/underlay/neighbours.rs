//! The neighbour cache: the MAC of each station on an underlay link, and its state. The states are those of RFC 4861
//! section 7.3.2 for both families, with `failed` and `static` of Linux added. Enters: messages (already checked by
//! ARP or ND rules) and the time. Leaves: the requests to send, and the entries that changed. It builds no frames and
//! knows no routes.
//!
//! A VTEP is always in use, so a used entry never becomes stale silently: it is probed by unicast when its 30 s are
//! over, keeps its MAC meanwhile, and is requested without end after it failed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use stopover_net::Mac;

/// Interval of the first requests for a new entry: short, so that a start takes tenths of a second, not seconds.
const QUICK_RETRANS_MS: u64 = 200;
/// The number of requests at that interval.
const QUICK_TRIES: u32 = 3;
/// Retransmission after that (RetransTimer, RFC 4861 section 10).
const RETRANS_MS: u64 = 1_000;
/// Requests without an answer until a new entry counts as failed.
const RESOLVE_TRIES: u32 = 6;
/// An answer is valid this long (REACHABLE_TIME, RFC 4861 section 10; not randomised: few stations, one requester).
const REACHABLE_MS: u64 = 30_000;
/// A used entry that a message of another station made stale is verified after this (DELAY_FIRST_PROBE_TIME).
const DELAY_MS: u64 = 5_000;
/// Unicast probes (MAX_UNICAST_SOLICIT), then as many by multicast in case the station has a new MAC.
const UNICAST_PROBES: u32 = 3;
/// All probes until the entry counts as failed.
const ALL_PROBES: u32 = 6;
/// First pause between requests for a failed entry; doubles each time.
const RETRY_MIN_MS: u64 = 2_000;
/// Longest pause between requests for a failed entry.
const RETRY_MAX_MS: u64 = 30_000;
/// An unused entry is removed this long after the last message of its station.
const UNUSED_MS: u64 = 600_000;
/// A failed, unused entry is removed after this.
const UNUSED_FAILED_MS: u64 = 60_000;
/// If the request budget of the port is used up, try again after this.
const BUDGET_WAIT_MS: u64 = 10;
/// Maximum number of entries that exist only because the station sent to us; the newest replaces the oldest.
pub const LEARNED_MAX: usize = 4_096;

/// The state of a neighbour's MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Requested, no answer yet.
    Incomplete,
    /// Answered within the last 30 s.
    Reachable,
    /// Known, not confirmed recently; used as it is.
    Stale,
    /// Known, requested again; used as it is.
    Probe,
    /// Does not answer; requested again at growing intervals.
    Failed,
    /// From the configuration; never requested, never changed.
    Static,
}

impl State {
    /// The name an operator sees, as `ip neighbour` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Probe => "probe",
            Self::Failed => "failed",
            Self::Static => "static",
        }
    }
}

/// The content of a message about a neighbour, in the terms of RFC 4861 section 7.2.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourMessage {
    /// The link-layer address it carries, if it carries one.
    pub mac: Option<Mac>,
    /// It answers a request of ours, so the path works in both directions.
    pub solicited: bool,
    /// It may replace an address that we have already.
    pub overrides: bool,
}

/// The change of an entry by a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// No entry, or nothing new in the message.
    Nothing,
    /// The entry has a MAC where it had none.
    Resolved,
    /// The entry's MAC was this one and is another now.
    Moved(Mac),
}

/// The receiver of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solicitation {
    /// All stations: ARP broadcast, NS to the solicited-node group.
    All,
    /// The station itself, at the MAC we have.
    One(Mac),
}

/// The result of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Send a request.
    Solicit(Solicitation),
    /// The entry failed; requests continue later.
    Failed,
}

/// One station on one link.
#[derive(Debug, Clone)]
pub struct Neighbour {
    state: State,
    mac: Option<Mac>,
    updated_ms: u64,
    due_ms: u64,
    tries: u32,
    router: bool,
    users: BTreeSet<IpAddr>,
}

impl Neighbour {
    fn new(state: State, mac: Option<Mac>, now_ms: u64) -> Self {
        let users = BTreeSet::new();
        let mut n = Self { state, mac, updated_ms: now_ms, due_ms: now_ms, tries: 0, router: false, users };
        n.enter(state, now_ms);
        n
    }

    /// The MAC to send to, in every state in which one is known.
    #[must_use]
    pub const fn mac(&self) -> Option<Mac> {
        self.mac
    }

    /// The state, for display and route choice.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Milliseconds since the last message of the station.
    #[must_use]
    pub const fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.updated_ms)
    }

    /// The destinations that are sent through this neighbour.
    #[must_use]
    pub const fn users(&self) -> &BTreeSet<IpAddr> {
        &self.users
    }

    /// Named as a router by the configuration.
    #[must_use]
    pub const fn is_router(&self) -> bool {
        self.router
    }

    fn wanted(&self) -> bool {
        self.router || !self.users.is_empty()
    }

    fn enter(&mut self, state: State, now_ms: u64) {
        self.state = state;
        self.tries = 0;
        self.due_ms = match state {
            State::Incomplete | State::Probe => now_ms,
            State::Reachable => now_ms.saturating_add(REACHABLE_MS),
            State::Stale if self.wanted() => now_ms.saturating_add(DELAY_MS),
            State::Stale => self.updated_ms.saturating_add(UNUSED_MS),
            State::Failed if self.wanted() => now_ms.saturating_add(RETRY_MIN_MS),
            State::Failed => now_ms.saturating_add(UNUSED_FAILED_MS),
            State::Static => u64::MAX,
        };
    }

    /// RFC 4861 section 7.2.5 and appendix C. The caller expresses the rules of ARP in the same terms.
    fn update(&mut self, now_ms: u64, message: NeighbourMessage) -> Learned {
        let next = if message.solicited { State::Reachable } else { State::Stale };
        match (self.state, self.mac, message.mac) {
            (State::Static, ..) | (_, None, None) => Learned::Nothing,
            (_, None, Some(mac)) => {
                self.updated_ms = now_ms;
                self.mac = Some(mac);
                self.enter(next, now_ms);
                Learned::Resolved
            }
            (state, Some(old), Some(mac)) if mac != old => {
                if !message.overrides {
                    if state == State::Reachable {
                        self.enter(State::Stale, now_ms);
                    }
                    return Learned::Nothing;
                }
                self.updated_ms = now_ms;
                self.mac = Some(mac);
                self.enter(next, now_ms);
                Learned::Moved(old)
            }
            (_, Some(_), _) => {
                self.updated_ms = now_ms;
                if message.solicited {
                    self.enter(State::Reachable, now_ms);
                }
                Learned::Nothing
            }
        }
    }

    /// The timer fired. `None` with a later `due_ms`, or `None` and [`Neighbour::is_expired`].
    fn on_timer(&mut self, now_ms: u64, take_request: impl FnOnce() -> bool) -> Option<Due> {
        match self.state {
            State::Static => {
                self.due_ms = u64::MAX;
                return None;
            }
            State::Reachable if !self.wanted() => {
                self.enter(State::Stale, now_ms);
                return None;
            }
            State::Stale if !self.wanted() => return None,
            State::Reachable | State::Stale => self.enter(State::Probe, now_ms),
            State::Incomplete if self.tries >= RESOLVE_TRIES => return Some(self.fail(now_ms)),
            State::Probe if self.tries >= ALL_PROBES => return Some(self.fail(now_ms)),
            State::Failed if !self.wanted() => return None,
            State::Incomplete | State::Probe | State::Failed => {}
        }
        if !take_request() {
            self.due_ms = now_ms.saturating_add(BUDGET_WAIT_MS);
            return None;
        }
        let pause_ms = match self.state {
            State::Failed => (RETRY_MIN_MS << self.tries.min(8)).min(RETRY_MAX_MS),
            State::Incomplete if self.tries < QUICK_TRIES => QUICK_RETRANS_MS,
            _ => RETRANS_MS,
        };
        let solicitation = match (self.state, self.mac) {
            (State::Probe, Some(mac)) if self.tries < UNICAST_PROBES => Solicitation::One(mac),
            _ => Solicitation::All,
        };
        self.tries = self.tries.saturating_add(1);
        self.due_ms = now_ms.saturating_add(pause_ms);
        Some(Due::Solicit(solicitation))
    }

    fn fail(&mut self, now_ms: u64) -> Due {
        self.mac = None;
        self.enter(State::Failed, now_ms);
        Due::Failed
    }

    /// The timer of an unused entry has expired.
    fn is_expired(&self, now_ms: u64) -> bool {
        !self.wanted() && self.due_ms <= now_ms && matches!(self.state, State::Stale | State::Failed)
    }
}

/// All neighbours of all underlay ports, by (port index, address).
#[derive(Debug, Default)]
pub struct Cache {
    table: BTreeMap<(usize, IpAddr), Neighbour>,
    /// No entry is due before this. May be early, never late.
    due_ms: u64,
}

impl Cache {
    /// The entry, if there is one.
    #[must_use]
    pub fn get(&self, port: usize, ip: IpAddr) -> Option<&Neighbour> {
        self.table.get(&(port, ip))
    }

    /// All entries in order of port and address.
    pub fn iter(&self) -> impl Iterator<Item = (usize, IpAddr, &Neighbour)> {
        self.table.iter().map(|(&(port, ip), n)| (port, ip, n))
    }

    /// The earliest time at which [`Cache::expire`] has something to do.
    #[must_use]
    pub const fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Adds a configured neighbour. One that was known before keeps its destinations.
    pub fn put_static(&mut self, port: usize, ip: IpAddr, mac: Mac) {
        let mut n = Neighbour::new(State::Static, Some(mac), 0);
        if let Some(before) = self.table.remove(&(port, ip)) {
            (n.router, n.users) = (before.router, before.users);
        }
        self.table.insert((port, ip), n);
    }

    /// A neighbour is not configured any more. Its MAC is used until the probes fail.
    pub fn end_static(&mut self, port: usize, ip: IpAddr, now_ms: u64) {
        let Some(n) = self.table.get_mut(&(port, ip)).filter(|n| n.state == State::Static) else { return };
        n.enter(if n.wanted() { State::Probe } else { State::Stale }, now_ms);
        self.due_ms = self.due_ms.min(n.due_ms);
    }

    /// A port is no more, and nor are its neighbours.
    pub fn remove_port(&mut self, port: usize) {
        self.table.retain(|(of, _), _| *of != port);
    }

    /// These are the routers from now on; others are kept only while they are used.
    pub fn watch_routers(&mut self, routers: &[(usize, IpAddr)], now_ms: u64) {
        for (_, n) in self.table.iter_mut().filter(|(key, n)| n.router && !routers.contains(key)) {
            n.router = false;
            if !n.wanted() && matches!(n.state, State::Stale | State::Failed) {
                n.enter(n.state, now_ms);
            }
        }
        for (port, router) in routers {
            self.watch_router(*port, *router, now_ms);
        }
        self.due_ms = 0;
    }

    /// Keeps the entry of a configured router resolved, from the next [`Cache::expire`] on.
    pub fn watch_router(&mut self, port: usize, ip: IpAddr, now_ms: u64) {
        self.wanted_entry(port, ip, now_ms).router = true;
        self.due_ms = 0;
    }

    /// Adds `user` to the destinations of this neighbour. The next [`Cache::expire`] requests a new entry and
    /// verifies a stale one; a failed one keeps its interval.
    pub fn attach(&mut self, port: usize, ip: IpAddr, user: IpAddr, now_ms: u64) {
        let n = self.wanted_entry(port, ip, now_ms);
        let first = !n.wanted();
        n.users.insert(user);
        match n.state {
            State::Stale if first => n.enter(State::Probe, now_ms),
            State::Failed if first => n.enter(State::Failed, now_ms),
            _ => {}
        }
        let due_ms = n.due_ms;
        self.due_ms = self.due_ms.min(due_ms);
    }

    /// Removes `user` from the destinations of this neighbour.
    pub fn detach(&mut self, port: usize, ip: IpAddr, user: IpAddr, now_ms: u64) {
        let Some(n) = self.table.get_mut(&(port, ip)) else { return };
        if n.users.remove(&user) && !n.wanted() && matches!(n.state, State::Stale | State::Failed) {
            n.enter(n.state, now_ms);
            self.due_ms = self.due_ms.min(n.due_ms);
        }
    }

    fn wanted_entry(&mut self, port: usize, ip: IpAddr, now_ms: u64) -> &mut Neighbour {
        self.table.entry((port, ip)).or_insert_with(|| Neighbour::new(State::Incomplete, None, now_ms))
    }

    /// Applies a message to an existing entry.
    pub fn update(&mut self, port: usize, ip: IpAddr, message: NeighbourMessage, now_ms: u64) -> Learned {
        let Some(n) = self.table.get_mut(&(port, ip)) else { return Learned::Nothing };
        let learned = n.update(now_ms, message);
        self.due_ms = self.due_ms.min(n.due_ms);
        learned
    }

    /// Adds an entry for a station that sent to us, since we will probably send to it. True if an older such entry
    /// was removed for it.
    pub fn learn(&mut self, port: usize, ip: IpAddr, mac: Mac, now_ms: u64) -> bool {
        let mut evicted = false;
        if self.table.len() >= LEARNED_MAX {
            let learned = || self.table.iter().filter(|(_, n)| !n.wanted() && n.state != State::Static);
            if learned().count() >= LEARNED_MAX
                && let Some(oldest) = learned().min_by_key(|(_, n)| n.updated_ms).map(|(key, _)| *key)
            {
                self.table.remove(&oldest);
                evicted = true;
            }
        }
        let n =
            self.table.entry((port, ip)).or_insert_with(|| Neighbour::new(State::Stale, Some(mac), now_ms));
        self.due_ms = self.due_ms.min(n.due_ms);
        evicted
    }

    /// The link of `port` came up: known neighbours may have moved, others are requested at once. Known MACs are used
    /// until the probes fail.
    pub fn link_up(&mut self, port: usize, now_ms: u64) {
        for (_, n) in self.table.iter_mut().filter(|((p, _), n)| *p == port && n.state != State::Static) {
            let state = match (n.wanted(), n.mac.is_some()) {
                (true, true) => State::Probe,
                (true, false) => State::Incomplete,
                (false, true) => State::Stale,
                (false, false) => State::Failed,
            };
            n.enter(state, now_ms);
        }
        self.due_ms = self.due_ms.min(now_ms);
    }

    /// Runs all timers that are due. `take_request(port)` takes one request from the port's budget if there is one left.
    pub fn expire(
        &mut self,
        now_ms: u64,
        up: impl Fn(usize) -> bool,
        mut take_request: impl FnMut(usize) -> bool,
    ) -> Vec<(usize, IpAddr, Due)> {
        let mut out = Vec::new();
        if now_ms < self.due_ms {
            return out;
        }
        self.due_ms = u64::MAX;
        self.table.retain(|&(port, ip), n| {
            if n.due_ms <= now_ms && !up(port) {
                // A missing answer means nothing while the link is down; `link_up` starts over.
                n.due_ms = u64::MAX;
            } else if n.due_ms <= now_ms
                && let Some(due) = n.on_timer(now_ms, || take_request(port))
            {
                out.push((port, ip, due));
            }
            let keep = !n.is_expired(now_ms);
            if keep {
                self.due_ms = self.due_ms.min(n.due_ms);
            }
            keep
        });
        out
    }
}

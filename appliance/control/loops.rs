//! Loops through segments: two segment ports of one network on one LAN send each other's floods round without end,
//! through the overlay if they are at two hosts. Enters: ports that go up and down, received loop probes, the time.
//! Leaves: probes to send, and which ports are blocked for which network.
//!
//! The rule: of all segment ports that receive each other's probes for a network, the one with the lowest rank (host
//! name, instance, port, VLAN) forwards; the others are blocked. A port that receives its own probe is blocked too:
//! its LAN reflects frames. A port begins blocked and listens for a moment. One that has received no probe of a lower
//! rank for [`EXPIRE_MS`] forwards again. Pure: no clock, no device.

#[cfg(test)]
mod tests;

use super::effects::{Effect, Reason, Report};
use hashbrown::HashMap;
use stopover_net::loop_probe::{self, Probe};
use stopover_net::{HostName, Mac, Vni};

/// How often a probe is sent, in milliseconds.
const PROBE_MS: u64 = 1000;
/// How often while a port listens or a loop is suspected.
const FAST_PROBE_MS: u64 = 100;
/// How long a port listens before it forwards. A port that forwards answers a probe at once.
const LISTEN_MS: u64 = 300;
/// Three probes may be lost.
const EXPIRE_MS: u64 = 3500;
/// Least time between two probes of one location, however many are received.
const MIN_GAP_MS: u64 = 20;
/// How often the operator is told of a suspected loop, at most.
const REPORT_INTERVAL_MS: u64 = 10_000;
/// Most lower ranks that a location remembers.
const MAX_BETTER: usize = 16;
/// Probes sent in one round, so that a trunk of four thousand VLANs does not fill the ring.
const PROBES_PER_TICK: usize = 128;

/// A port in one of its networks.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The port.
    pub port: u16,
    /// The VLAN tag of the network there; 0 for none.
    pub vlan: u16,
    /// The network.
    pub vni: Vni,
    /// The port's MAC.
    pub mac: Mac,
}

/// The sender of a probe; the lowest forwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    host: HostName,
    instance: u64,
    port: u16,
    vlan: u16,
}

/// What a port does in one of its networks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Without a link.
    Down,
    /// Blocked until this time, to receive the probes of others.
    Listening(u64),
    /// It forwards.
    Forwarding,
    /// Blocked for this reason.
    Blocked(Reason),
}

#[derive(Debug)]
struct Location {
    segment: Segment,
    state: State,
    /// Lower ranks and until when each is valid; `None`: our own, reflected.
    better: Vec<(Option<Rank>, u64)>,
    sent_ms: Option<u64>,
    due_ms: u64,
    fast_until_ms: u64,
    /// When a suspected loop was last reported.
    reported_ms: Option<u64>,
}

/// All segment ports of this host, by network.
#[derive(Debug)]
pub struct Loops {
    host: HostName,
    instance: u64,
    locations: Vec<Location>,
    index: HashMap<(u16, u16), usize>,
}

impl Loops {
    /// `instance`: a number that no other process has. All ports are blocked until they have a link.
    #[must_use]
    pub fn new(host: HostName, instance: u64, segments: Vec<Segment>) -> (Self, Vec<Effect>) {
        let mut loops = Self { host, instance, locations: Vec::new(), index: HashMap::new() };
        let blocked = loops.add(segments);
        (loops, blocked)
    }

    /// These segments are here from now on, blocked until they have a link.
    pub fn add(&mut self, segments: Vec<Segment>) -> Vec<Effect> {
        let blocked =
            segments.iter().map(|s| Effect::Block { port: s.port, vlan: s.vlan, on: true }).collect();
        self.locations.extend(segments.into_iter().map(|segment| Location {
            segment,
            state: State::Down,
            better: Vec::new(),
            sent_ms: None,
            due_ms: u64::MAX,
            fast_until_ms: 0,
            reported_ms: None,
        }));
        self.number_locations();
        blocked
    }

    /// The segments of a port are gone.
    pub fn remove_port(&mut self, port: u16) {
        self.locations.retain(|location| location.segment.port != port);
        self.number_locations();
    }

    fn number_locations(&mut self) {
        let numbered = self.locations.iter().enumerate();
        self.index = numbered.map(|(at, l)| ((l.segment.port, l.segment.vlan), at)).collect();
    }

    /// A port has gained or lost its link.
    pub fn link(&mut self, now_ms: u64, port: u16, up: bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        for location in self.locations.iter_mut().filter(|location| location.segment.port == port) {
            let Segment { port, vlan, .. } = location.segment;
            location.better.clear();
            if up {
                location.state = State::Listening(now_ms + LISTEN_MS);
                (location.due_ms, location.fast_until_ms) = (now_ms, now_ms + LISTEN_MS);
            } else {
                if location.state == State::Forwarding {
                    effects.push(Effect::Block { port, vlan, on: true });
                }
                (location.state, location.due_ms) = (State::Down, u64::MAX);
            }
        }
        effects
    }

    /// A port received a frame for [`loop_probe::DESTINATION`]. `knows`: whether this host exchanges floods with a
    /// host; the probes of others belong to another overlay, with which there is no loop.
    pub fn on_probe(
        &mut self,
        now_ms: u64,
        port: u16,
        frame: &[u8],
        knows: impl Fn(&HostName) -> bool,
    ) -> Vec<Effect> {
        let Some((vlan, probe)) = loop_probe::parse(frame) else { return Vec::new() };
        let Some(at) = self.index.get(&(port, vlan)).copied() else { return Vec::new() };
        let own = probe.host == self.host && probe.instance == self.instance;
        let Some(location) = self.locations.get_mut(at) else { return Vec::new() };
        if location.state == State::Down || probe.vni != location.segment.vni || !(own || knows(&probe.host))
        {
            return Vec::new();
        }
        let rank = Rank { host: probe.host, instance: probe.instance, port: probe.port, vlan: probe.vlan };
        let ours = Rank { host: self.host.clone(), instance: self.instance, port, vlan };
        if rank > ours {
            // It listens for who forwards here.
            let answers = location.sent_ms.is_none_or(|sent| now_ms >= sent + MIN_GAP_MS);
            return if answers { location.send(&ours, now_ms).into_iter().collect() } else { Vec::new() };
        }
        let who = (rank != ours).then_some(rank);
        let until_ms = now_ms + EXPIRE_MS;
        if let Some((_, until)) = location.better.iter_mut().find(|(known, _)| *known == who) {
            *until = until_ms;
        } else if location.better.len() < MAX_BETTER {
            location.better.push((who, until_ms));
        }
        location.decide(now_ms)
    }

    /// The packet path saw the same frame arrive at a port again and again: checks at once whether that is a loop,
    /// and tells the operator now and then.
    pub fn suspect(&mut self, now_ms: u64, port: u16, vlan: u16) -> Option<Effect> {
        let at = self.index.get(&(port, vlan))?;
        let location = self.locations.get_mut(*at).filter(|location| location.state != State::Down)?;
        if now_ms >= location.fast_until_ms {
            location.due_ms = now_ms;
        }
        location.fast_until_ms = now_ms + LISTEN_MS;
        let quiet = location.reported_ms.is_some_and(|reported| now_ms < reported + REPORT_INTERVAL_MS);
        if quiet {
            return None;
        }
        location.reported_ms = Some(now_ms);
        Some(Effect::Report(Report::Repeats { port, vlan }))
    }

    /// Sends the probes that are due, and lets ports forward that have received no lower rank for long enough.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut sent = 0;
        for location in &mut self.locations {
            if location.due_ms <= now_ms && sent < PROBES_PER_TICK {
                sent += 1;
                let Segment { port, vlan, .. } = location.segment;
                let ours = Rank { host: self.host.clone(), instance: self.instance, port, vlan };
                effects.extend(location.send(&ours, now_ms));
            }
            if location.is_due(now_ms) {
                effects.extend(location.decide(now_ms));
            }
        }
        effects
    }

    /// When something is due next, if nothing happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.locations.iter().filter_map(Location::next_timeout).min()
    }

    /// Ports that are blocked for longer than they listen: port, VLAN, network and why.
    pub fn blocked(&self) -> impl Iterator<Item = (&Segment, &Reason)> {
        self.locations.iter().filter_map(|location| match &location.state {
            State::Blocked(reason) => Some((&location.segment, reason)),
            State::Down | State::Listening(_) | State::Forwarding => None,
        })
    }
}

impl Location {
    fn send(&mut self, ours: &Rank, now_ms: u64) -> Option<Effect> {
        if self.state == State::Down {
            return None;
        }
        let every = if now_ms < self.fast_until_ms { FAST_PROBE_MS } else { PROBE_MS };
        (self.sent_ms, self.due_ms) = (Some(now_ms), now_ms + every);
        let Segment { port, vlan, vni, mac } = self.segment;
        let probe = Probe { vni, port, vlan, instance: ours.instance, host: ours.host.clone() };
        Some(Effect::Send { port, vlan: 0, frame: loop_probe::build(mac, &probe) })
    }

    /// Whether its state may change by time alone.
    fn is_due(&self, now_ms: u64) -> bool {
        match self.state {
            State::Listening(until) => until <= now_ms,
            State::Blocked(_) => self.better.iter().any(|(_, until)| *until <= now_ms),
            State::Down | State::Forwarding => false,
        }
    }

    /// When it sends a probe, or its state may change by time alone.
    fn next_timeout(&self) -> Option<u64> {
        let changes_ms = match self.state {
            State::Down => return None,
            State::Listening(until) => Some(until),
            State::Blocked(_) => self.better.iter().map(|(_, until)| *until).min(),
            State::Forwarding => None,
        };
        changes_ms.into_iter().chain([self.due_ms]).min()
    }

    fn decide(&mut self, now_ms: u64) -> Vec<Effect> {
        self.better.retain(|(_, until)| *until > now_ms);
        let best = self.better.iter().map(|(who, _)| who).min();
        let next = match (best, &self.state) {
            (Some(Some(rank)), _) => State::Blocked(Reason::Forwards(rank.host.clone())),
            (Some(None), _) => State::Blocked(Reason::Reflected),
            (None, State::Listening(until)) if now_ms < *until => return Vec::new(),
            (None, _) => State::Forwarding,
        };
        let before = std::mem::replace(&mut self.state, next);
        if before == self.state {
            return Vec::new();
        }
        let Segment { port, vlan, vni, .. } = self.segment;
        let blocked = match &self.state {
            State::Blocked(reason) => Some(reason.clone()),
            _ => None,
        };
        let mut effects = Vec::new();
        if (self.state == State::Forwarding) != (before == State::Forwarding) {
            effects.push(Effect::Block { port, vlan, on: blocked.is_some() });
        }
        // A port that forwards after it has listened is not reported.
        if blocked.is_some() || !matches!(before, State::Listening(_)) {
            effects.push(Effect::Report(Report::Loop { port, vlan, vni, blocked }));
        }
        effects
    }
}

//! The times of calls, by kind. Enters: when a call began, and why it failed. Leaves: counts and percentiles.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A connection, with its TLS handshake and the client's first call.
    Connection,
    /// A registration on it.
    Registration,
    /// A heartbeat.
    Heartbeat,
    /// A claim.
    Claim,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Connection, Self::Registration, Self::Heartbeat, Self::Claim];

    const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Registration => "registration",
            Self::Heartbeat => "heartbeat",
            Self::Claim => "claim",
        }
    }
}

#[derive(Debug, Default)]
struct Counted {
    times: [Vec<Duration>; Kind::ALL.len()],
    lost: u64,
    changes: u64,
}

/// The times since the last look.
#[derive(Debug, Default)]
pub struct Times(Mutex<Counted>);

impl Times {
    fn with(&self, act: impl FnOnce(&mut Counted)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A call has ended.
    pub fn note(&self, kind: Kind, began: Instant, failure: Option<String>) {
        let time = began.elapsed();
        if let Some(why) = &failure {
            println!("lost: {why}");
        }
        self.with(|counted| {
            counted.lost += u64::from(failure.is_some());
            if let Some(times) = counted.times.get_mut(kind as usize) {
                times.push(time);
            }
        });
    }

    /// Something else was not as expected.
    pub fn lost(&self, why: &str) {
        println!("lost: {why}");
        self.with(|counted| counted.lost += 1);
    }

    /// A watch has had changes of so many revisions.
    pub fn changes(&self, n: u64) {
        self.with(|counted| counted.changes += n);
    }

    /// What was counted since the last time.
    pub fn take(&self) -> Figures {
        let mut taken = Counted::default();
        self.with(|counted| taken = std::mem::take(counted));
        taken.times.iter_mut().for_each(|times| times.sort_unstable());
        Figures(taken)
    }
}

/// What was counted.
#[derive(Debug)]
pub struct Figures(Counted);

impl Figures {
    fn percentile_ms(&self, kind: Kind, percent: usize) -> f64 {
        let times = self.0.times.get(kind as usize);
        let time = times.and_then(|times| times.get(times.len() * percent / 100));
        time.copied().unwrap_or_default().as_secs_f64() * 1000.0
    }

    fn count(&self, kind: Kind) -> usize {
        self.0.times.get(kind as usize).map_or(0, Vec::len)
    }

    /// As an object of JSON.
    #[must_use]
    pub fn to_json(&self, hosts: u32, nodes: u32, seconds: u64) -> String {
        let mut text = format!("{{\"hosts\": {hosts}, \"nodes\": {nodes}, \"lost\": {}", self.0.lost);
        for kind in Kind::ALL {
            let (name, count, p99) = (kind.name(), self.count(kind), self.percentile_ms(kind, 99));
            text += &format!(", \"{name}s\": {count}, \"{name}_p99_ms\": {p99:.1}");
        }
        let claims_per_s = self.count(Kind::Claim) as u64 / seconds.max(1);
        text + &format!(", \"claims_per_s\": {claims_per_s}, \"changes_seen\": {}}}", self.0.changes)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::ALL {
            let [half, most] = [50, 99].map(|percent| self.percentile_ms(kind, percent));
            write!(f, "{} {}s, p50 {half:.1} ms, p99 {most:.1} ms; ", self.count(kind), kind.name())?;
        }
        write!(f, "{} changes seen; {} lost", self.0.changes, self.0.lost)
    }
}

//! What becomes of a port whose device is reset, removed, or repaired by its driver. Enters: events of the device, the time,
//! how the jobs have ended. Leaves: the next job. Pure.
//!
//! ```text
//!     in service ──event──▶ leaving ──every lcore has given its queues back──▶ out of service
//!          ▲                                                                        │ reset; or close, then open:
//!          └──────── every lcore has its queues ◀── returning ◀─────────────────────┘ tried until one succeeds
//! ```
//!
//! Tries come at growing intervals, also when each of them succeeds and the device soon needs the next.

/// What happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The driver needs a reset.
    Reset,
    /// It is gone, or must be given up.
    Removed,
    /// The driver has begun to repair it. DPDK allows no control function until it reports the end.
    Recovering,
    /// The driver has repaired it.
    Recovered,
    /// The driver could not repair it.
    Failed,
    /// It may be there again: the next try is due.
    Present,
}

/// Why a device is not in service. A later one outweighs an earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It needs a reset.
    Reset,
    /// It has to be closed and opened again.
    Failed,
    /// It is gone.
    Removed,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// The lcores give its queues back: [`Device::begin_leaving`], [`Device::left`].
    Leave,
    /// It is reset, and started: [`Device::started`] or [`Device::failed`].
    Reset,
    /// It is closed: [`Device::closed`] or [`Device::failed`].
    Close,
    /// It is looked for, opened and started: [`Device::started`] or [`Device::failed`].
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    InService,
    /// The lcores are to give its queues back.
    Leaves(Cause),
    /// They do so.
    Leaving(Cause),
    /// No lcore has a queue of it.
    Out(Cause),
    /// It is started, and the lcores receive its queues. An event meanwhile takes it out again.
    Returning(Option<Cause>),
}

/// What an operator sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It works, as far as is known.
    InService,
    /// The driver repairs it.
    Recovering,
    /// It is not in service.
    Out(Cause),
}

/// See the module.
#[derive(Debug)]
pub struct Device {
    phase: Phase,
    recovering: bool,
    is_closed: bool,
    /// Tries in quick succession, and those among them, without a success between, that failed.
    tries: u32,
    failures: u32,
    due_ms: u64,
    returned_ms: u64,
}

/// The second try, in milliseconds after the first; each further one takes twice as long, up to [`LONGEST_MS`].
const FIRST_MS: u64 = 250;
const LONGEST_MS: u64 = 30_000;
/// A device that was in service for so long is sound: what comes then is tried at once.
const SOUND_MS: u64 = 10_000;
/// So many resets fail, and the device is closed and opened again.
const RESETS: u32 = 3;

impl Default for Device {
    fn default() -> Self {
        Self {
            phase: Phase::InService,
            recovering: false,
            is_closed: false,
            tries: 0,
            failures: 0,
            due_ms: 0,
            returned_ms: 0,
        }
    }
}

impl Device {
    /// An event at this time. Returns whether it takes the device out of service, or makes that worse.
    pub fn on_event(&mut self, now_ms: u64, event: Event) -> bool {
        match event {
            Event::Recovering => return !std::mem::replace(&mut self.recovering, true),
            Event::Recovered => self.recovering = false,
            Event::Failed => {
                self.recovering = false;
                return self.take_out(now_ms, Cause::Failed);
            }
            Event::Reset => return self.take_out(now_ms, Cause::Reset),
            Event::Removed => return self.take_out(now_ms, Cause::Removed),
            Event::Present => {
                self.tries = 0;
                self.due_ms = now_ms;
            }
        }
        false
    }

    fn take_out(&mut self, now_ms: u64, cause: Cause) -> bool {
        let before = self.phase;
        self.phase = match before {
            Phase::InService => {
                if now_ms >= self.returned_ms + SOUND_MS {
                    self.tries = 0;
                }
                Phase::Leaves(cause)
            }
            Phase::Leaves(other) => Phase::Leaves(other.max(cause)),
            Phase::Leaving(other) => Phase::Leaving(other.max(cause)),
            // A reset that comes is for this event, too. A closed device cannot be reset.
            Phase::Out(other) => Phase::Out(other.max(cause)),
            Phase::Returning(other) => Phase::Returning(other.max(Some(cause))),
        };
        if before != self.phase && matches!(before, Phase::Out(_)) {
            self.due_ms = now_ms;
        }
        before != self.phase
    }

    /// What is to be done at this time.
    #[must_use]
    pub fn job(&self, now_ms: u64) -> Option<Job> {
        match self.phase {
            Phase::Leaves(_) => Some(Job::Leave),
            Phase::Out(cause) if now_ms >= self.due_ms && !self.must_wait(cause) => Some(match cause {
                Cause::Reset => Job::Reset,
                Cause::Failed | Cause::Removed if self.is_closed => Job::Open,
                Cause::Failed | Cause::Removed => Job::Close,
            }),
            Phase::InService | Phase::Leaving(_) | Phase::Out(_) | Phase::Returning(_) => None,
        }
    }

    /// When there is something to do, if nothing happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        match self.phase {
            Phase::Leaves(_) => Some(0),
            Phase::Out(cause) if !self.must_wait(cause) => Some(self.due_ms),
            Phase::InService | Phase::Leaving(_) | Phase::Out(_) | Phase::Returning(_) => None,
        }
    }

    /// The driver is at work on a device that is still there.
    const fn must_wait(&self, cause: Cause) -> bool {
        self.recovering && !matches!(cause, Cause::Removed)
    }

    /// The lcores are asked for its queues.
    pub fn begin_leaving(&mut self) {
        if let Phase::Leaves(cause) = self.phase {
            self.phase = Phase::Leaving(cause);
        }
    }

    /// No lcore has a queue of it any more.
    pub fn left(&mut self, now_ms: u64) {
        if let Phase::Leaving(cause) = self.phase {
            self.phase = Phase::Out(cause);
            self.due_ms = now_ms + delay_ms(self.tries);
        }
    }

    /// It is closed.
    pub fn closed(&mut self, now_ms: u64) {
        self.is_closed = true;
        // What is wrong with it besides does not matter any more.
        self.recovering = false;
        self.due_ms = now_ms;
    }

    /// A job has failed.
    pub fn failed(&mut self, now_ms: u64) {
        self.tries += 1;
        self.failures += 1;
        self.due_ms = now_ms + delay_ms(self.tries);
        if self.phase == Phase::Out(Cause::Reset) && self.failures >= RESETS {
            // Something else, so at once.
            self.phase = Phase::Out(Cause::Failed);
            self.due_ms = now_ms;
        }
    }

    /// It is started, and the lcores are given its queues.
    pub fn started(&mut self) {
        if matches!(self.phase, Phase::Out(_)) {
            self.phase = Phase::Returning(None);
            self.is_closed = false;
            self.tries += 1;
            self.failures = 0;
        }
    }

    /// Every lcore has its queues. Returns whether it is in service again.
    pub fn returned(&mut self, now_ms: u64) -> bool {
        if let Phase::Returning(next) = self.phase {
            self.returned_ms = now_ms;
            self.phase = next.map_or(Phase::InService, Phase::Leaves);
        }
        self.phase == Phase::InService
    }

    /// What an operator sees.
    #[must_use]
    pub const fn condition(&self) -> Condition {
        match self.phase {
            Phase::Leaves(cause) | Phase::Leaving(cause) | Phase::Out(cause) => Condition::Out(cause),
            Phase::Returning(Some(cause)) => Condition::Out(cause),
            Phase::Returning(None) => Condition::Out(Cause::Reset),
            Phase::InService if self.recovering => Condition::Recovering,
            Phase::InService => Condition::InService,
        }
    }

    /// Whether the lcores have its queues, and keep them.
    #[must_use]
    pub const fn is_with_lcores(&self) -> bool {
        matches!(self.phase, Phase::InService)
    }

    /// Whether the driver is at work on it.
    #[must_use]
    pub const fn is_recovering(&self) -> bool {
        self.recovering
    }
}

/// How long after the start of this many tries, in quick succession, the next is due.
fn delay_ms(tries: u32) -> u64 {
    match tries {
        0 => 0,
        tries => FIRST_MS.saturating_mul(1 << (tries - 1).min(16)).min(LONGEST_MS),
    }
}

#[cfg(test)]
mod tests;

//! A small model of the board with one node, after docs/migration-board.md, and of its sessions.

use crate::migration::machine::Record;
use stopover_bbs::model::{Lock, Unlocked};

pub const HOSTS: usize = 3;
pub const LEASE_MS: u64 = 15_000;
const SILENT_MS: u64 = 3_000;
const RETRY_MS: u64 = 3_000;

pub fn id(host: usize) -> u32 {
    host as u32 + 1
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    Record(Option<usize>),
    Locked(Lock),
    Unlocked(Unlocked),
}

#[derive(Debug, Clone)]
struct Held {
    migration: u64,
    generation: u64,
    source: usize,
    target: Option<usize>,
    /// Host and process; none for the operator.
    owner: Option<(usize, u32)>,
    until: u64,
    withdrawn_by_source: bool,
    deferred: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    Done,
    Deferred,
    Refused,
    Begun { migration: u64, generation: u64 },
}

#[derive(Debug, Default)]
pub struct Board {
    pub record: Option<usize>,
    held: Option<Held>,
    revision: u64,
    migrations: u64,
    last_heartbeat_ms: [u64; HOSTS],
    process: [u32; HOSTS],
    up: [bool; HOSTS],
    pub log: Vec<Change>,
}

impl Board {
    pub fn lock(&self) -> Option<Lock> {
        self.held.as_ref().map(|h| Lock {
            migration: h.migration,
            generation: h.generation,
            source: id(h.source),
            target: h.target.map(id),
        })
    }

    fn log_change(&mut self, change: Change) {
        self.revision += 1;
        self.log.push(change);
    }

    fn put(&mut self, record: Option<usize>) {
        if self.record != record {
            self.record = record;
            self.log_change(Change::Record(record));
        }
    }

    pub fn heartbeat(&mut self, now: u64, host: usize, process: u32, keeps: Option<u64>) {
        if self.process[host] != process
            && let Some(h) = &mut self.held
        {
            h.deferred.retain(|d| *d != host);
        }
        self.process[host] = process;
        self.last_heartbeat_ms[host] = now;
        self.up[host] = true;
        if let Some(h) = self.held.as_mut().filter(|h| keeps == Some(h.migration)) {
            h.until = now + LEASE_MS;
        }
    }

    pub fn claim(&mut self, now: u64, host: usize) -> Answer {
        let answer = match &mut self.held {
            None => match self.record {
                Some(holder) if holder != host && self.up[holder] => Answer::Refused,
                _ => {
                    self.put(Some(host));
                    Answer::Done
                }
            },
            Some(h) if h.source == host => {
                h.withdrawn_by_source = false;
                Answer::Done
            }
            Some(h) if h.target.is_none_or(|target| target == host) => {
                h.deferred.retain(|d| *d != host);
                h.deferred.push(host);
                Answer::Deferred
            }
            Some(_) => Answer::Refused,
        };
        self.settle(now);
        answer
    }

    pub fn withdraw(&mut self, now: u64, host: usize) {
        match &mut self.held {
            Some(h) if h.source == host => h.withdrawn_by_source = true,
            Some(h) => h.deferred.retain(|d| *d != host),
            None if self.record == Some(host) => self.put(None),
            None => {}
        }
        self.settle(now);
    }

    /// Called by a process of a host, or by the operator.
    pub fn begin(&mut self, now: u64, owner: Option<(usize, u32)>, target: Option<usize>) -> Answer {
        let Some(source) = self.record else { return Answer::Refused };
        if owner.is_some_and(|(host, _)| host != source) {
            return Answer::Refused;
        }
        match &mut self.held {
            Some(h) if target.is_some() && h.target.is_some() && h.target != target => {
                return Answer::Refused;
            }
            Some(h) => {
                h.until = h.until.max(now + LEASE_MS);
                if h.target.is_none() && target.is_some() {
                    h.target = target;
                    h.deferred.retain(|d| Some(*d) == target);
                }
            }
            None => {
                self.migrations += 1;
                self.held = Some(Held {
                    migration: self.migrations,
                    generation: self.revision + 1,
                    source,
                    target,
                    owner,
                    until: now + LEASE_MS,
                    withdrawn_by_source: false,
                    deferred: Vec::new(),
                });
            }
        }
        let Some(lock) = self.lock() else { return Answer::Refused };
        if self.log.last() != Some(&Change::Locked(lock)) {
            self.log_change(Change::Locked(lock));
        }
        Answer::Begun { migration: lock.migration, generation: lock.generation }
    }

    fn finish(&mut self, to: Option<usize>) {
        let Some(h) = self.held.take() else { return };
        match to {
            Some(to) if !(to == h.source && h.withdrawn_by_source) => self.put(Some(to)),
            Some(_) => self.put(None),
            None => {}
        }
        self.log_change(Change::Unlocked(if to.is_some() { Unlocked::Completed } else { Unlocked::Aborted }));
        if to.is_none() && h.withdrawn_by_source {
            self.put(None);
        }
    }

    /// Called by the target host, or by the operator, who names no host.
    pub fn complete(&mut self, now: u64, at: Option<usize>, ticket: Option<(u64, u64)>) -> Answer {
        let Some(h) = self.held.as_ref().filter(|h| ticket.is_none_or(|t| t == (h.migration, h.generation)))
        else {
            return Answer::Refused;
        };
        let to = match (at, h.target, &h.deferred[..]) {
            // A completion by an appliance is valid only with its claim.
            (Some(at), target, deferred)
                if target.is_none_or(|target| target == at) && (at == h.source || deferred.contains(&at)) =>
            {
                at
            }
            (None, Some(target), _) => target,
            (None, None, [one]) => *one,
            _ => return Answer::Refused,
        };
        self.finish(Some(to));
        self.settle(now);
        Answer::Done
    }

    pub fn abort(&mut self, ticket: Option<(u64, u64)>) -> Answer {
        match &self.held {
            Some(h) if ticket.is_none_or(|t| t == (h.migration, h.generation)) => {
                self.finish(None);
                Answer::Done
            }
            _ => Answer::Refused,
        }
    }

    pub fn sweep(&mut self, now: u64, host: usize) {
        if self.record == Some(host) {
            self.withdraw(now, host);
        }
    }

    /// Expires hosts and leases, and completes or aborts the migration.
    pub fn settle(&mut self, now: u64) {
        for host in 0..HOSTS {
            self.up[host] &= now < self.last_heartbeat_ms[host] + SILENT_MS;
        }
        let Some(h) = &self.held else { return };
        let live: Vec<usize> = h.deferred.iter().copied().filter(|d| self.up[*d]).collect();
        let orphan = now >= h.until
            || h.owner.is_some_and(|(host, process)| !self.up[host] || self.process[host] != process);
        match live[..] {
            [first, ..] if !self.up[h.source] || (h.withdrawn_by_source && (live.len() == 1 || orphan)) => {
                self.finish(Some(first));
            }
            _ if orphan => self.finish(None),
            _ => {}
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Call {
    Begin,
    Complete((u64, u64)),
    Abort((u64, u64)),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ClaimState {
    Pending,
    Accepted,
    Waiting(u64),
    Moved(u64),
}

/// The claims and calls of the session of an appliance.
#[derive(Debug, Default)]
pub struct Session {
    claim: Option<ClaimState>,
    withdrawn: bool,
    pub calls: std::collections::VecDeque<Call>,
    /// A lock that it renews.
    pub keeps: Option<u64>,
    locked: bool,
    synced: bool,
    pub seen: usize,
}

impl Session {
    pub fn claims(&self) -> bool {
        self.claim.is_some()
    }

    pub fn is_quiet(&self) -> bool {
        !self.withdrawn && self.calls.is_empty() && self.keeps.is_none() && {
            matches!(self.claim, None | Some(ClaimState::Accepted))
        }
    }

    pub fn claim(&mut self) {
        self.withdrawn = false;
        self.claim.get_or_insert(ClaimState::Pending);
    }

    pub fn withdraw(&mut self) {
        self.withdrawn |= self.claim.take().is_some();
    }

    pub fn call(&mut self, call: Call) {
        if let Call::Complete((m, _)) | Call::Abort((m, _)) = call {
            self.keeps = self.keeps.filter(|kept| *kept != m);
        }
        self.calls.push_back(call);
    }

    pub fn reconnected(&mut self) {
        self.claim = self.claim.map(|_| ClaimState::Pending);
        self.locked = false;
        self.synced = false;
    }

    /// Sends one claim or withdrawal. Returns the answer to a claim.
    pub fn claim_step(&mut self, board: &mut Board, now: u64, host: usize) -> Option<Answer> {
        if std::mem::take(&mut self.withdrawn) {
            board.withdraw(now, host);
            return None;
        }
        match self.claim {
            Some(ClaimState::Waiting(at) | ClaimState::Moved(at)) if now < at => {}
            Some(ClaimState::Accepted) | None => {
                if !std::mem::replace(&mut self.synced, true) && self.claim.is_none() {
                    board.sweep(now, host);
                }
            }
            Some(_) => {
                let answer = board.claim(now, host);
                self.claim = Some(match answer {
                    Answer::Done => ClaimState::Accepted,
                    _ => ClaimState::Waiting(now + RETRY_MS),
                });
                return Some(answer);
            }
        }
        None
    }

    /// Whether no claim is pending that a completion must follow.
    fn claim_was_sent(&self) -> bool {
        self.claim != Some(ClaimState::Pending)
    }

    pub fn call_step(
        &mut self,
        board: &mut Board,
        now: u64,
        host: usize,
        process: u32,
    ) -> Option<(u64, u64)> {
        if matches!(self.calls.front(), Some(Call::Complete(_))) && !self.claim_was_sent() {
            return None;
        }
        match self.calls.pop_front()? {
            Call::Begin => match board.begin(now, Some((host, process)), None) {
                Answer::Begun { migration, generation } => {
                    self.keeps = Some(migration);
                    Some((migration, generation))
                }
                _ => None,
            },
            Call::Complete(ticket) => {
                board.complete(now, Some(host), Some(ticket));
                None
            }
            Call::Abort(ticket) => {
                board.abort(Some(ticket));
                None
            }
        }
    }

    /// Applies a change to the session.
    pub fn apply_change(&mut self, now: u64, host: usize, change: Change) {
        match (change, self.claim) {
            (Change::Locked(lock), _) => self.locked = lock.source == id(host),
            (Change::Record(None), Some(_)) => self.claim = Some(ClaimState::Pending),
            (Change::Record(Some(at)), Some(ClaimState::Accepted | ClaimState::Pending)) if at != host => {
                self.claim = Some(match self.locked {
                    true => ClaimState::Moved(now + RETRY_MS),
                    false => ClaimState::Pending,
                });
            }
            (Change::Unlocked(_), claim) => {
                self.locked = false;
                if let Some(ClaimState::Waiting(_)) = claim {
                    self.claim = Some(ClaimState::Pending);
                }
            }
            _ => {}
        }
    }

    /// Its renewal is refused once the migration has ended.
    pub fn renew(&mut self, board: &Board) {
        self.keeps = self.keeps.filter(|kept| board.lock().is_some_and(|lock| lock.migration == *kept));
    }
}

pub fn record(board: Option<usize>, host: usize) -> Record {
    match board {
        None => Record::Nowhere,
        Some(at) if at == host => Record::Here,
        Some(at) => Record::Other(id(at)),
    }
}

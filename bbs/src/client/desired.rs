//! What an appliance wants to be true at the board, and how much of it has been told. Pure; the driver asks for
//! the next piece of [`Work`] and reports what came of it. Anything may change between the two: each wish has a
//! version, and a report about an older version counts for nothing.

mod reports;
#[cfg(test)]
mod tests;

use crate::model::{Accepted, Claim};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};
use stopover_net::{Mac, Vni};

/// Most items of one call; far below what the board accepts, so that one call stays short.
const BATCH: usize = 1000;

/// How long what was received counts as received just now. A claim that is told later takes nothing over for it: the
/// station may have been received elsewhere since.
const FRESH: Duration = Duration::from_secs(1);

type Key = (Vni, Mac);

#[derive(Debug, Clone, PartialEq, Eq)]
enum ClaimState {
    Pending,
    Accepted,
    /// The same for a deferred one: it is tried again, and accepted once the migration has ended.
    Refused {
        retry_at: Instant,
    },
    /// A migration took the node elsewhere. Whoever claims it has yet to see that, and is given the time; who
    /// then claims it still has it after all, and is to hear the board's refusal.
    Moved {
        retry_at: Instant,
    },
    /// The board puts it off until then. The claim counts as fresh once more, unless another host got the node meanwhile.
    Postponed {
        retry_at: Instant,
    },
    /// Another host has received it later. Not claimed any more, unless the board is new to us.
    TakenOver,
}

/// What the consumer was last told of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reported {
    Nothing,
    Accepted(Option<Accepted>),
    Refused(String),
    Deferred(u64),
}

#[derive(Debug)]
struct DesiredNode {
    claim: Claim,
    version: u64,
    state: ClaimState,
    reported: Reported,
    /// When it was claimed last.
    claimed_at: Instant,
    /// Until when what was received is fresh.
    fresh_until: Instant,
    /// The board's revision when it accepted the claim. What it says of an earlier one has been superseded by the claim.
    accepted_at: u64,
    /// What others took over, and in which revision, while the answer to the claim is under way: an address, or the node.
    taken: Vec<(Option<IpAddr>, u64)>,
}

#[derive(Debug)]
struct Joined {
    segment: bool,
    pending: bool,
}

/// One call to make.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    Withdraw(Vec<Key>),
    Leave(Vec<Vni>),
    Join(Vec<(Vni, bool)>),
    /// With the version of each wish.
    Claim(Vec<(Claim, u64)>),
    /// Everything has been told in this registration: what else the board has of us is stale.
    Sync,
}

/// What the board said of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClaimResult {
    /// In this revision; with other addresses, perhaps.
    Accepted(u64, Option<Accepted>),
    Refused(String),
    Deferred(u64),
    /// To be repeated at this time.
    Later(Instant),
}

/// Something the consumer should hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClaimEvent {
    Accepted { vni: Vni, mac: Mac, addresses: Option<Accepted> },
    Refused { claim: Claim, why: String },
    Deferred { vni: Vni, mac: Mac, migration: u64 },
    NodeMoved { vni: Vni, mac: Mac },
    AddressesMoved { vni: Vni, mac: Mac, ips: Vec<IpAddr> },
}

#[derive(Debug, Default)]
pub(super) struct Desired {
    nodes: HashMap<Key, DesiredNode>,
    /// Keys of wishes that are (or were) pending, in the order they became so.
    queue: VecDeque<Key>,
    /// Keys of wishes that are refused, deferred or moved.
    refused: HashSet<Key>,
    /// Nodes of this host that a migration has locked.
    locked: HashSet<Key>,
    withdrawn: HashSet<Key>,
    joins: BTreeMap<Vni, Joined>,
    left_networks: BTreeSet<Vni>,
    /// When the first claim that the board put off is to be repeated.
    repeat_at: Option<Instant>,
    /// What the consumer is yet to hear.
    pub events: VecDeque<ClaimEvent>,
    /// Reasons to follow each network.
    interest: BTreeMap<Vni, usize>,
    synced: bool,
    /// How many entries `queue` was given, how many were taken from it, and through which of them the board has answered.
    queued: u64,
    dequeued: u64,
    answered: u64,
    /// A call with claims is under way.
    claiming: bool,
    versions: u64,
}

impl Desired {
    pub fn new(interest: impl Iterator<Item = Vni>) -> Self {
        Self { interest: interest.map(|vni| (vni, 1)).collect(), ..Self::default() }
    }

    /// Networks to follow.
    pub fn interest(&self) -> BTreeSet<Vni> {
        self.interest.keys().copied().collect()
    }

    fn follow(&mut self, vni: Vni) -> bool {
        let reasons = self.interest.entry(vni).or_default();
        *reasons += 1;
        *reasons == 1
    }

    fn unfollow(&mut self, vni: Vni) -> bool {
        match self.interest.get_mut(&vni) {
            Some(reasons) if *reasons > 1 => {
                *reasons -= 1;
                false
            }
            Some(_) => self.interest.remove(&vni).is_some(),
            None => false,
        }
    }

    /// True if the interest has changed. So for the next three.
    pub fn claim(&mut self, mut claim: Claim, now: Instant) -> bool {
        claim.ips.sort_unstable();
        claim.ips.dedup();
        let fresh_until = now + FRESH;
        let key = (claim.vni, claim.mac);
        if let Some(node) =
            self.nodes.get(&key).filter(|w| w.state == ClaimState::Pending && now < w.fresh_until)
        {
            // What was just received counts, though more has been since.
            claim.received |= node.claim.received;
            let before = &node.claim.announced;
            let still = before.iter().filter(|ip| claim.ips.contains(ip) && !claim.announced.contains(ip));
            let still: Vec<_> = still.copied().collect();
            claim.announced.extend(still);
        }
        self.withdrawn.remove(&key);
        self.versions += 1;
        let version = self.versions;
        let new = match self.nodes.get_mut(&key) {
            Some(node) if node.claim == claim && !(claim.is_fresh() && node.state != ClaimState::Pending) => {
                (node.claimed_at, node.fresh_until) = (now, fresh_until);
                return false;
            }
            Some(node) => {
                if claim.is_fresh() {
                    node.reported = Reported::Nothing;
                }
                node.claim = claim;
                node.version = version;
                node.state = ClaimState::Pending;
                (node.claimed_at, node.fresh_until) = (now, fresh_until);
                false
            }
            None => {
                let node = DesiredNode {
                    claim,
                    version,
                    state: ClaimState::Pending,
                    reported: Reported::Nothing,
                    claimed_at: now,
                    fresh_until,
                    accepted_at: 0,
                    taken: Vec::new(),
                };
                self.nodes.insert(key, node);
                true
            }
        };
        self.refused.remove(&key);
        self.enqueue(key);
        new && self.follow(key.0)
    }

    pub fn withdraw(&mut self, vni: Vni, mac: Mac) -> bool {
        if self.nodes.remove(&(vni, mac)).is_none() {
            return false;
        }
        self.refused.remove(&(vni, mac));
        self.withdrawn.insert((vni, mac));
        self.unfollow(vni)
    }

    pub fn join(&mut self, vni: Vni, segment: bool) -> bool {
        self.left_networks.remove(&vni);
        match self.joins.get_mut(&vni) {
            Some(joined) if joined.segment == segment => false,
            Some(joined) => {
                *joined = Joined { segment, pending: true };
                false
            }
            None => {
                self.joins.insert(vni, Joined { segment, pending: true });
                self.follow(vni)
            }
        }
    }

    pub fn leave(&mut self, vni: Vni) -> bool {
        if self.joins.remove(&vni).is_none() {
            return false;
        }
        self.left_networks.insert(vni);
        self.unfollow(vni)
    }

    /// A new registration: nothing has been told in it yet. What was withdrawn while the board was away still has
    /// to be told: the board may have kept it across its own restart.
    pub fn handle_registered(&mut self) {
        self.synced = false;
        for joined in self.joins.values_mut() {
            joined.pending = true;
        }
        self.requeue_claims();
    }

    /// All claims are to be told again.
    pub fn requeue_claims(&mut self) {
        self.refused.clear();
        self.queue.clear();
        self.dequeued = self.queued;
        self.answered = self.queued;
        self.claiming = false;
        for (key, node) in &mut self.nodes {
            node.state = ClaimState::Pending;
            // The revisions may be another board's from now on.
            node.accepted_at = 0;
            node.taken.clear();
            self.queue.push_back(*key);
            self.queued += 1;
        }
    }

    fn enqueue(&mut self, key: Key) {
        self.queue.push_back(key);
        self.queued += 1;
    }

    /// The next call, if any. Withdrawals first: an address may have moved from one node to another.
    pub fn next_work(&mut self, now: Instant, may_sync: bool) -> Option<Work> {
        if !self.withdrawn.is_empty() {
            return Some(Work::Withdraw(self.withdrawn.iter().copied().take(BATCH).collect()));
        }
        if !self.left_networks.is_empty() {
            return Some(Work::Leave(self.left_networks.iter().copied().take(BATCH).collect()));
        }
        let joins: Vec<_> =
            self.joins.iter().filter(|(_, j)| j.pending).map(|(v, j)| (*v, j.segment)).take(BATCH).collect();
        if !joins.is_empty() {
            return Some(Work::Join(joins));
        }
        self.retry_refused(now);
        self.repeat_at = self.repeat_at.filter(|at| now < *at);
        let mut batch = Vec::new();
        let mut seen = HashSet::new();
        while batch.len() < BATCH
            && let Some(key) = self.queue.pop_front()
        {
            self.dequeued += 1;
            if let Some(node) = self.nodes.get(&key)
                && node.state == ClaimState::Pending
                && seen.insert(key)
            {
                let claim = node.claim.clone();
                batch.push((if now < node.fresh_until { claim } else { claim.stale() }, node.version));
            }
        }
        if !batch.is_empty() {
            self.claiming = true;
            return Some(Work::Claim(batch));
        }
        if !self.claiming {
            // What was left in the queue was withdrawn or answered already.
            self.answered = self.dequeued;
        }
        (may_sync && !self.synced).then_some(Work::Sync)
    }

    /// The number of the last claim so far.
    pub fn last_claim(&self) -> u64 {
        self.queued
    }

    /// The number of the claim through which the board has answered all.
    pub fn answered_claim(&self) -> u64 {
        self.answered
    }

    /// The board has answered all claims of a call.
    pub fn mark_answered(&mut self) {
        self.claiming = false;
        self.answered = self.dequeued;
    }

    fn retry_refused(&mut self, now: Instant) {
        let Self { refused, nodes, queue, queued, .. } = self;
        refused.retain(|key| match nodes.get_mut(key) {
            Some(node) => match node.state {
                ClaimState::Refused { retry_at }
                | ClaimState::Postponed { retry_at }
                | ClaimState::Moved { retry_at }
                    if retry_at <= now =>
                {
                    node.state = ClaimState::Pending;
                    queue.push_back(*key);
                    *queued += 1;
                    false
                }
                ClaimState::Refused { .. } | ClaimState::Postponed { .. } | ClaimState::Moved { .. } => true,
                _ => false,
            },
            None => false,
        });
    }

    /// A call other than a claim succeeded.
    pub fn mark_sent(&mut self, work: &Work) {
        match work {
            Work::Withdraw(keys) => keys.iter().for_each(|key| {
                self.withdrawn.remove(key);
            }),
            Work::Leave(vnis) => vnis.iter().for_each(|vni| {
                self.left_networks.remove(vni);
            }),
            Work::Join(joins) => {
                for (vni, segment) in joins {
                    if let Some(joined) = self.joins.get_mut(vni)
                        && joined.segment == *segment
                    {
                        joined.pending = false;
                    }
                }
            }
            Work::Claim(_) => {}
            Work::Sync => self.synced = true,
        }
    }

    /// When there may be work again without anyone asking for it.
    pub fn retry_delay(&self, now: Instant, retry: Duration) -> Option<Duration> {
        let until = self.repeat_at.map_or(retry, |at| at.saturating_duration_since(now).min(retry));
        (!self.refused.is_empty()).then_some(until)
    }
}

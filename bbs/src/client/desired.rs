//! What an appliance wants to be true at the board, and how much of it has been told. Pure; the driver asks for
//! the next piece of [`Work`] and reports what came of it. Anything may change between the two: each wish has a
//! version, and a report about an older version counts for nothing.

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

    /// The board says that the node is at another host in this revision. True if it is to be claimed at once.
    pub fn handle_elsewhere(&mut self, vni: Vni, mac: Mac, revision: u64, retry_at: Instant) -> bool {
        let migrated = self.locked.contains(&(vni, mac));
        match self.nodes.get_mut(&(vni, mac)).map(|node| (node.state.clone(), node)) {
            Some((ClaimState::Accepted | ClaimState::Pending, node)) if migrated => {
                self.versions += 1;
                node.version = self.versions;
                node.state = ClaimState::Moved { retry_at };
                self.refused.insert((vni, mac));
                false
            }
            Some((ClaimState::Accepted, node)) if node.claim.facts.is_learned() => {
                node.taken.push((None, revision));
                self.yield_taken(vni, mac)
            }
            Some((ClaimState::Accepted, _)) => self.claim_again(vni, mac),
            Some((ClaimState::Postponed { .. }, node)) => {
                node.claim = node.claim.clone().stale();
                false
            }
            Some((ClaimState::Pending, node)) => {
                node.taken.push((None, revision));
                false
            }
            _ => false,
        }
    }

    /// The board says that our node has lost these addresses in this revision. True if they are to be claimed at once.
    pub fn handle_lost(&mut self, vni: Vni, mac: Mac, ips: &[IpAddr], revision: u64) -> bool {
        let Some(node) = self.nodes.get_mut(&(vni, mac)) else { return false };
        // Not only those of our claim: the answer that is under way may give it others, which it had elsewhere.
        node.taken.extend(ips.iter().map(|ip| (Some(*ip), revision)));
        node.state == ClaimState::Accepted && self.yield_taken(vni, mac)
    }

    /// After the verdict on a claim: what others took over while it was under way is theirs, if it was after.
    pub fn apply_taken(&mut self, vni: Vni, mac: Mac) {
        if self.nodes.get(&(vni, mac)).is_some_and(|node| node.state == ClaimState::Accepted) {
            self.yield_taken(vni, mac);
        }
    }

    /// Leaves to others what they took over after the board accepted our claim. True if some of it, being declared, is
    /// to be claimed again at once.
    fn yield_taken(&mut self, vni: Vni, mac: Mac) -> bool {
        let Some(node) = self.nodes.get_mut(&(vni, mac)) else { return false };
        let mut taken = std::mem::take(&mut node.taken);
        let ours = |ip: &IpAddr| node.claim.ips.contains(ip);
        taken.retain(|(ip, revision)| *revision > node.accepted_at && ip.as_ref().is_none_or(ours));
        let learned = node.claim.facts.is_learned();
        if learned && taken.iter().any(|(ip, _)| ip.is_none()) {
            // Until the consumer, who hears of it, withdraws the claim.
            node.state = ClaimState::TakenOver;
            self.events.push_back(ClaimEvent::NodeMoved { vni, mac });
            return false;
        }
        let mut ips: Vec<_> = taken.iter().filter_map(|(ip, _)| *ip).collect();
        ips.retain(|ip| node.claim.is_contestable(*ip));
        let claim_rest = taken.len() > ips.len();
        if !ips.is_empty() {
            node.claim.remove_ips(|ip| ips.contains(&ip));
            self.events.push_back(ClaimEvent::AddressesMoved { vni, mac, ips });
        }
        claim_rest && self.claim_again(vni, mac)
    }

    /// The board says that nobody has the node. True if it is to be claimed at once.
    pub fn handle_removed(&mut self, vni: Vni, mac: Mac) -> bool {
        self.locked.remove(&(vni, mac));
        self.claim_again(vni, mac)
    }

    /// A migration has locked a node of this host.
    pub fn handle_locked(&mut self, vni: Vni, mac: Mac) {
        self.locked.insert((vni, mac));
    }

    /// The locks are about to be told anew.
    pub fn clear_locks(&mut self) {
        self.locked.clear();
    }

    /// The lock on a node has ended. If it deferred a claim, there is no need to wait for the next try. True if
    /// the node is to be claimed at once.
    pub fn handle_unlocked(&mut self, vni: Vni, mac: Mac) -> bool {
        self.locked.remove(&(vni, mac));
        match self.nodes.get(&(vni, mac)).map(|node| &node.state) {
            Some(ClaimState::Pending | ClaimState::Refused { .. } | ClaimState::Postponed { .. }) => {
                self.claim_again(vni, mac)
            }
            Some(ClaimState::Accepted | ClaimState::Moved { .. } | ClaimState::TakenOver) | None => false,
        }
    }

    /// Claims it anew. The answer to a claim that is under way may be of a time before; it counts for nothing.
    fn claim_again(&mut self, vni: Vni, mac: Mac) -> bool {
        let Some(node) = self.nodes.get_mut(&(vni, mac)) else { return false };
        self.versions += 1;
        node.version = self.versions;
        node.state = ClaimState::Pending;
        self.enqueue((vni, mac));
        true
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

    /// A claim was judged. What the consumer should hear of it, if anything.
    pub fn handle_result(
        &mut self,
        claim: &Claim,
        version: u64,
        claim_result: ClaimResult,
        retry_at: Instant,
    ) -> Option<ClaimEvent> {
        let key = (claim.vni, claim.mac);
        let node = self.nodes.get_mut(&key).filter(|node| node.version == version)?;
        let reported = match claim_result {
            ClaimResult::Accepted(revision, addresses) => {
                node.state = ClaimState::Accepted;
                node.accepted_at = revision;
                node.claim = node.claim.clone().stale();
                if let Some(Accepted { ips, .. }) = &addresses {
                    let learned = node.claim.facts.is_learned();
                    if learned {
                        node.claim.ips.clone_from(ips);
                        node.claim.ips.sort_unstable();
                    } else {
                        let moved: Vec<_> =
                            node.claim.ips.iter().filter(|ip| node.claim.is_contestable(**ip)).collect();
                        let moved: Vec<_> =
                            moved.into_iter().filter(|ip| !ips.contains(ip)).copied().collect();
                        node.claim.remove_ips(|ip| moved.contains(&ip));
                    }
                    if node.claim.ips.iter().any(|ip| !ips.contains(ip)) {
                        // What is declared is tried again.
                        node.state = ClaimState::Refused { retry_at };
                        self.refused.insert(key);
                    }
                }
                Reported::Accepted(addresses)
            }
            ClaimResult::Later(at) => {
                node.state = ClaimState::Postponed { retry_at: at };
                // Only as long as what was received is recent: others contend with what they receive now.
                node.fresh_until = node.fresh_until.max((at + FRESH / 4).min(node.claimed_at + 2 * FRESH));
                self.refused.insert(key);
                self.repeat_at = Some(self.repeat_at.map_or(at, |other| other.min(at)));
                return None;
            }
            ClaimResult::Refused(why) => {
                node.state = ClaimState::Refused { retry_at };
                self.refused.insert(key);
                Reported::Refused(why)
            }
            ClaimResult::Deferred(migration) => {
                node.state = ClaimState::Refused { retry_at };
                self.refused.insert(key);
                Reported::Deferred(migration)
            }
        };
        if node.reported == reported {
            return None;
        }
        node.reported = reported.clone();
        match reported {
            Reported::Nothing => None,
            Reported::Accepted(addresses) => Some(ClaimEvent::Accepted { vni: key.0, mac: key.1, addresses }),
            Reported::Refused(why) => Some(ClaimEvent::Refused { claim: node.claim.clone(), why }),
            Reported::Deferred(migration) => Some(ClaimEvent::Deferred { vni: key.0, mac: key.1, migration }),
        }
    }

    /// When there may be work again without anyone asking for it.
    pub fn retry_delay(&self, now: Instant, retry: Duration) -> Option<Duration> {
        let until = self.repeat_at.map_or(retry, |at| at.saturating_duration_since(now).min(retry));
        (!self.refused.is_empty()).then_some(until)
    }
}

//! The state that an appliance wants at the board, and how much of it has been sent. Pure: the driver takes the next
//! piece of [`Work`] and returns its result. The desired state may change between the two, so each claim has a version,
//! and the result for an older version is ignored.

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

/// Most items of one call; far below what the board accepts, so that one call is short.
const BATCH: usize = 1000;

/// How long a received frame counts as new. A claim that is sent later takes nothing over because of it: another host
/// may have received the station since.
const FRESH: Duration = Duration::from_secs(1);

type Key = (Vni, Mac);

#[derive(Debug, Clone, PartialEq, Eq)]
enum ClaimState {
    Pending,
    Accepted,
    /// Refused or deferred. It is sent again; a deferred claim is accepted after the end of the migration.
    Refused {
        retry_at: Instant,
    },
    /// A migration moved the node to another host. The consumer has until `retry_at` to withdraw its claim. After that
    /// the claim is sent again, and the consumer gets the board's refusal.
    Moved {
        retry_at: Instant,
    },
    /// The board postpones it. The claim counts as fresh once more, unless another host got the node meanwhile.
    Postponed {
        retry_at: Instant,
    },
    /// Another host has received the station later. Not claimed again, except after a new registration or snapshot.
    TakenOver,
}

/// The last result of a claim that was reported to the consumer.
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
    /// When the consumer claimed it last.
    claimed_at: Instant,
    /// Until when the received frame is fresh.
    fresh_until: Instant,
    /// The board's revision when it accepted the claim. Changes of earlier revisions are superseded by the claim.
    accepted_at: u64,
    /// What others have taken over, an address or the node (`None`), and in which revision. Kept while an answer to the
    /// claim is outstanding.
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
    /// Each with its version.
    Claim(Vec<(Claim, u64)>),
    /// Everything has been sent in this registration. What else the board has of this host is stale.
    Sync,
}

/// The board's answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClaimResult {
    /// In this revision; with the addresses if they are others than claimed.
    Accepted(u64, Option<Accepted>),
    Refused(String),
    Deferred(u64),
    /// The claim is to be repeated at this time.
    Later(Instant),
}

/// An event for the consumer.
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
    /// Keys of claims that are (or were) pending, in that order.
    queue: VecDeque<Key>,
    /// Keys of claims that are refused, deferred, postponed or moved.
    refused: HashSet<Key>,
    /// Nodes of this host that a migration has locked.
    locked: HashSet<Key>,
    withdrawn: HashSet<Key>,
    joins: BTreeMap<Vni, Joined>,
    left_networks: BTreeSet<Vni>,
    /// When the first postponed claim is to be repeated.
    repeat_at: Option<Instant>,
    /// Events that the consumer has not received yet.
    pub events: VecDeque<ClaimEvent>,
    /// How many reasons there are to follow each network.
    interest: BTreeMap<Vni, usize>,
    synced: bool,
    /// Entries ever pushed to `queue`, entries ever popped from it, and the last entry through which the board has
    /// answered all.
    queued: u64,
    dequeued: u64,
    answered: u64,
    /// A call with claims is outstanding.
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

    /// There is one more reason to follow a network.
    pub fn follow(&mut self, vni: Vni) -> bool {
        let reasons = self.interest.entry(vni).or_default();
        *reasons += 1;
        *reasons == 1
    }

    /// There is one reason less.
    pub fn unfollow(&mut self, vni: Vni) -> bool {
        match self.interest.get_mut(&vni) {
            Some(reasons) if *reasons > 1 => {
                *reasons -= 1;
                false
            }
            Some(_) => self.interest.remove(&vni).is_some(),
            None => false,
        }
    }

    /// Claims a node. True if the interest has changed, as for the next three.
    pub fn claim(&mut self, mut claim: Claim, now: Instant) -> bool {
        claim.ips.sort_unstable();
        claim.ips.dedup();
        let fresh_until = now + FRESH;
        let key = (claim.vni, claim.mac);
        if let Some(node) =
            self.nodes.get(&key).filter(|w| w.state == ClaimState::Pending && now < w.fresh_until)
        {
            // The earlier frame still counts, although more frames have been received since.
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

    /// A new registration: nothing has been sent in it yet. Withdrawals from the time without a connection remain to
    /// be sent: the board may have kept the nodes across its own restart.
    pub fn handle_registered(&mut self) {
        self.synced = false;
        for joined in self.joins.values_mut() {
            joined.pending = true;
        }
        self.requeue_claims();
    }

    /// All claims are to be sent again.
    pub fn requeue_claims(&mut self) {
        self.refused.clear();
        self.queue.clear();
        self.dequeued = self.queued;
        self.answered = self.queued;
        self.claiming = false;
        for (key, node) in &mut self.nodes {
            node.state = ClaimState::Pending;
            // From now on the revisions may be another board's.
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
            // The rest of the queue was withdrawn or answered already.
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

    /// A call succeeded. Answers to claims are handled by [`Desired::handle_result`].
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

    /// Time until there may be work again without a change of the desired state.
    pub fn retry_delay(&self, now: Instant, retry: Duration) -> Option<Duration> {
        let until = self.repeat_at.map_or(retry, |at| at.saturating_duration_since(now).min(retry));
        (!self.refused.is_empty()).then_some(until)
    }
}

//! What an appliance wants to be true at the board, and how much of it has been told. Pure; the driver asks for
//! the next piece of [`Work`] and reports what came of it. Anything may change between the two: each wish has a
//! version, and a report about an older version counts for nothing.

use crate::model::Claim;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};
use stopover_config::net::{Mac, Vni};

/// Most items of one call; far below what the board accepts, so that one call stays short.
const BATCH: usize = 1000;

type Key = (Vni, Mac);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
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
}

/// What the consumer was last told of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Nothing,
    Accepted,
    Refused(String),
    Deferred(u64),
}

#[derive(Debug)]
struct Wish {
    claim: Claim,
    version: u64,
    standing: Standing,
    told: Told,
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
pub(super) enum Judgement {
    Accepted,
    Refused(String),
    Deferred(u64),
}

/// Something the consumer should hear.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted { vni: Vni, mac: Mac },
    Refused { claim: Claim, why: String },
    Deferred { vni: Vni, mac: Mac, migration: u64 },
}

#[derive(Debug, Default)]
pub(super) struct Desired {
    wishes: HashMap<Key, Wish>,
    /// Keys of wishes that are (or were) pending, in the order they became so.
    queue: VecDeque<Key>,
    /// Keys of wishes that are refused, deferred or moved.
    refused: HashSet<Key>,
    /// Nodes of this host that a migration has locked.
    locked: HashSet<Key>,
    withdrawn: HashSet<Key>,
    joins: BTreeMap<Vni, Joined>,
    left: BTreeSet<Vni>,
    /// Reasons to follow each network.
    interest: BTreeMap<Vni, usize>,
    synced: bool,
    /// Claims are under way.
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
    pub fn claim(&mut self, mut claim: Claim) -> bool {
        claim.ips.sort_unstable();
        claim.ips.dedup();
        let key = (claim.vni, claim.mac);
        self.withdrawn.remove(&key);
        self.versions += 1;
        let version = self.versions;
        let new = match self.wishes.get_mut(&key) {
            Some(wish) if wish.claim == claim => return false,
            Some(wish) => {
                wish.claim = claim;
                wish.version = version;
                wish.standing = Standing::Pending;
                false
            }
            None => {
                let wish = Wish { claim, version, standing: Standing::Pending, told: Told::Nothing };
                self.wishes.insert(key, wish);
                true
            }
        };
        self.refused.remove(&key);
        self.queue.push_back(key);
        new && self.follow(key.0)
    }

    pub fn withdraw(&mut self, vni: Vni, mac: Mac) -> bool {
        if self.wishes.remove(&(vni, mac)).is_none() {
            return false;
        }
        self.refused.remove(&(vni, mac));
        self.withdrawn.insert((vni, mac));
        self.unfollow(vni)
    }

    pub fn join(&mut self, vni: Vni, segment: bool) -> bool {
        self.left.remove(&vni);
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
        self.left.insert(vni);
        self.unfollow(vni)
    }

    /// A new registration: nothing has been told in it yet. What was withdrawn while the board was away still has
    /// to be told: the board may have kept it across its own restart.
    pub fn registered(&mut self) {
        self.synced = false;
        for joined in self.joins.values_mut() {
            joined.pending = true;
        }
        self.requeue();
    }

    /// All claims are to be told again.
    pub fn requeue(&mut self) {
        self.refused.clear();
        self.queue.clear();
        self.claiming = false;
        for (key, wish) in &mut self.wishes {
            wish.standing = Standing::Pending;
            self.queue.push_back(*key);
        }
    }

    /// The board says that the node is at another host. True if it is to be claimed at once.
    pub fn elsewhere(&mut self, vni: Vni, mac: Mac, retry_at: Instant) -> bool {
        let migrated = self.locked.contains(&(vni, mac));
        match self.wishes.get_mut(&(vni, mac)).map(|wish| (wish.standing.clone(), wish)) {
            Some((Standing::Accepted | Standing::Pending, wish)) if migrated => {
                self.versions += 1;
                wish.version = self.versions;
                wish.standing = Standing::Moved { retry_at };
                self.refused.insert((vni, mac));
                false
            }
            Some((Standing::Accepted, _)) => self.again(vni, mac),
            _ => false,
        }
    }

    /// The board says that nobody has the node. True if it is to be claimed at once.
    pub fn gone(&mut self, vni: Vni, mac: Mac) -> bool {
        self.locked.remove(&(vni, mac));
        self.again(vni, mac)
    }

    /// A migration has locked a node of this host.
    pub fn locked(&mut self, vni: Vni, mac: Mac) {
        self.locked.insert((vni, mac));
    }

    /// The locks are about to be told anew.
    pub fn forget_locks(&mut self) {
        self.locked.clear();
    }

    /// The lock on a node has ended. If it deferred a claim, there is no need to wait for the next try. True if
    /// the node is to be claimed at once.
    pub fn unlocked(&mut self, vni: Vni, mac: Mac) -> bool {
        self.locked.remove(&(vni, mac));
        match self.wishes.get(&(vni, mac)).map(|wish| &wish.standing) {
            Some(Standing::Pending | Standing::Refused { .. }) => self.again(vni, mac),
            Some(Standing::Accepted | Standing::Moved { .. }) | None => false,
        }
    }

    /// Claims it anew. The answer to a claim that is under way may be of a time before; it counts for nothing.
    fn again(&mut self, vni: Vni, mac: Mac) -> bool {
        let Some(wish) = self.wishes.get_mut(&(vni, mac)) else { return false };
        self.versions += 1;
        wish.version = self.versions;
        wish.standing = Standing::Pending;
        self.queue.push_back((vni, mac));
        true
    }

    /// The next call, if any. Withdrawals first: an address may have moved from one node to another.
    pub fn next(&mut self, now: Instant, may_sync: bool) -> Option<Work> {
        if !self.withdrawn.is_empty() {
            return Some(Work::Withdraw(self.withdrawn.iter().copied().take(BATCH).collect()));
        }
        if !self.left.is_empty() {
            return Some(Work::Leave(self.left.iter().copied().take(BATCH).collect()));
        }
        let joins: Vec<_> =
            self.joins.iter().filter(|(_, j)| j.pending).map(|(v, j)| (*v, j.segment)).take(BATCH).collect();
        if !joins.is_empty() {
            return Some(Work::Join(joins));
        }
        self.retry_refused(now);
        let mut batch = Vec::new();
        let mut seen = HashSet::new();
        while batch.len() < BATCH
            && let Some(key) = self.queue.pop_front()
        {
            if let Some(wish) = self.wishes.get(&key)
                && wish.standing == Standing::Pending
                && seen.insert(key)
            {
                batch.push((wish.claim.clone(), wish.version));
            }
        }
        if !batch.is_empty() {
            self.claiming = true;
            return Some(Work::Claim(batch));
        }
        (may_sync && !self.synced).then_some(Work::Sync)
    }

    /// Whether the board has answered every claim that was made so far.
    pub fn claims_are_told(&self) -> bool {
        self.queue.is_empty() && !self.claiming
    }

    /// The board has answered all claims of a call.
    pub fn answered(&mut self) {
        self.claiming = false;
    }

    fn retry_refused(&mut self, now: Instant) {
        let Self { refused, wishes, queue, .. } = self;
        refused.retain(|key| match wishes.get_mut(key) {
            Some(wish) => match wish.standing {
                Standing::Refused { retry_at } | Standing::Moved { retry_at } if retry_at <= now => {
                    wish.standing = Standing::Pending;
                    queue.push_back(*key);
                    false
                }
                Standing::Refused { .. } | Standing::Moved { .. } => true,
                _ => false,
            },
            None => false,
        });
    }

    /// A call other than a claim succeeded.
    pub fn told(&mut self, work: &Work) {
        match work {
            Work::Withdraw(keys) => keys.iter().for_each(|key| {
                self.withdrawn.remove(key);
            }),
            Work::Leave(vnis) => vnis.iter().for_each(|vni| {
                self.left.remove(vni);
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
    pub fn judged(
        &mut self,
        claim: &Claim,
        version: u64,
        judgement: Judgement,
        retry_at: Instant,
    ) -> Option<Verdict> {
        let key = (claim.vni, claim.mac);
        let wish = self.wishes.get_mut(&key).filter(|wish| wish.version == version)?;
        let told = match judgement {
            Judgement::Accepted => {
                wish.standing = Standing::Accepted;
                Told::Accepted
            }
            Judgement::Refused(why) => {
                wish.standing = Standing::Refused { retry_at };
                self.refused.insert(key);
                Told::Refused(why)
            }
            Judgement::Deferred(migration) => {
                wish.standing = Standing::Refused { retry_at };
                self.refused.insert(key);
                Told::Deferred(migration)
            }
        };
        if wish.told == told {
            return None;
        }
        wish.told = told.clone();
        match told {
            Told::Nothing => None,
            Told::Accepted => Some(Verdict::Accepted { vni: key.0, mac: key.1 }),
            Told::Refused(why) => Some(Verdict::Refused { claim: wish.claim.clone(), why }),
            Told::Deferred(migration) => Some(Verdict::Deferred { vni: key.0, mac: key.1, migration }),
        }
    }

    /// When there may be work again without anyone asking for it.
    pub fn idle(&self, retry: Duration) -> Option<Duration> {
        (!self.refused.is_empty()).then_some(retry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vni(n: u32) -> Vni {
        Vni::new(n).unwrap()
    }
    fn claim(n: u32, last: u8, ip: &str) -> Claim {
        Claim { vni: vni(n), mac: Mac::new([2, 0, 0, 0, 0, last]), ips: vec![ip.parse().unwrap()] }
    }

    #[test]
    fn withdrawal_goes_before_the_claim_that_may_need_the_address() {
        let now = Instant::now();
        let mut d = Desired::new([].into_iter());
        assert!(d.claim(claim(1, 1, "10.0.0.1")));
        assert!(!d.claim(claim(1, 2, "10.0.0.2")), "interest is there already");
        let Some(Work::Claim(batch)) = d.next(now, true) else { panic!() };
        assert_eq!(batch.len(), 2);
        for (c, v) in &batch {
            assert!(matches!(d.judged(c, *v, Judgement::Accepted, now), Some(Verdict::Accepted { .. })));
        }
        assert_eq!(d.next(now, true), Some(Work::Sync));
        d.told(&Work::Sync);
        assert_eq!(d.next(now, true), None);

        assert!(!d.claims_are_told(), "not before the answers have been taken");
        d.answered();
        assert!(d.claims_are_told());

        d.claim(claim(1, 2, "10.0.0.1"));
        assert!(!d.claims_are_told());
        d.withdraw(vni(1), Mac::new([2, 0, 0, 0, 0, 1]));
        let first = d.next(now, true).unwrap();
        assert_eq!(first, Work::Withdraw(vec![(vni(1), Mac::new([2, 0, 0, 0, 0, 1]))]));
        d.told(&first);
        assert!(matches!(d.next(now, true), Some(Work::Claim(b)) if b.len() == 1));
    }

    #[test]
    fn a_verdict_on_an_older_version_counts_for_nothing() {
        let now = Instant::now();
        let mut d = Desired::new([].into_iter());
        d.claim(claim(1, 1, "10.0.0.1"));
        let Some(Work::Claim(old)) = d.next(now, false) else { panic!() };
        d.claim(claim(1, 1, "10.0.0.9"));
        assert_eq!(d.judged(&old[0].0, old[0].1, Judgement::Accepted, now), None);
        let Some(Work::Claim(new)) = d.next(now, false) else { panic!() };
        assert_eq!(new[0].0.ips, claim(1, 1, "10.0.0.9").ips);
    }

    #[test]
    fn refusal_is_told_once_and_retried() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3);
        let mut d = Desired::new([].into_iter());
        d.claim(claim(1, 1, "10.0.0.1"));
        let Some(Work::Claim(b)) = d.next(now, false) else { panic!() };
        assert!(matches!(
            d.judged(&b[0].0, b[0].1, Judgement::Refused("held".into()), later),
            Some(Verdict::Refused { why, .. }) if why == "held"
        ));
        assert_eq!(d.next(now, false), None, "not before its time");
        let Some(Work::Claim(b)) = d.next(later, false) else { panic!() };
        assert_eq!(d.judged(&b[0].0, b[0].1, Judgement::Refused("held".into()), later), None, "said already");
        let Some(Work::Claim(b)) = d.next(later, false) else { panic!() };
        assert!(matches!(
            d.judged(&b[0].0, b[0].1, Judgement::Accepted, later),
            Some(Verdict::Accepted { .. })
        ));
    }

    #[test]
    fn what_a_migration_took_is_left_to_its_claimant_to_withdraw() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3);
        let (one, key) = (claim(1, 1, "10.0.0.1"), Mac::new([2, 0, 0, 0, 0, 1]));
        let accepted = |d: &mut Desired| {
            let Some(Work::Claim(b)) = d.next(now, false) else { panic!() };
            d.judged(&b[0].0, b[0].1, Judgement::Accepted, later);
        };
        let mut d = Desired::new([].into_iter());
        d.claim(one.clone());
        accepted(&mut d);
        assert!(d.elsewhere(vni(1), key, later), "without a migration it is claimed at once");
        accepted(&mut d);
        d.locked(vni(1), key);
        assert!(!d.elsewhere(vni(1), key, later) && !d.unlocked(vni(1), key));
        assert_eq!(d.next(now, false), None);
        assert!(matches!(d.next(later, false), Some(Work::Claim(_))), "still here, then");

        // Withdrawn, and claimed when the VM comes back: nothing of the old claim is left.
        d.withdraw(vni(1), key);
        let Some(work @ Work::Withdraw(_)) = d.next(now, false) else { panic!() };
        d.told(&work);
        assert!(!d.gone(vni(1), key), "nobody claims it here");
        d.claim(one);
        accepted(&mut d);
        d.locked(vni(1), key);
        assert!(!d.elsewhere(vni(1), key, later));
        assert!(d.gone(vni(1), key), "nobody has it, so we may");
        accepted(&mut d);
    }

    #[test]
    fn an_answer_from_before_the_node_was_free_counts_for_nothing() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3);
        let key = Mac::new([2, 0, 0, 0, 0, 1]);
        for free in [Desired::gone, Desired::unlocked] {
            let mut d = Desired::new([].into_iter());
            d.claim(claim(1, 1, "10.0.0.1"));
            let Some(Work::Claim(old)) = d.next(now, false) else { panic!() };
            assert!(free(&mut d, vni(1), key), "while the answer is under way");
            assert_eq!(d.judged(&old[0].0, old[0].1, Judgement::Deferred(7), later), None);
            let Some(Work::Claim(new)) = d.next(now, false) else { panic!() };
            assert!(d.judged(&new[0].0, new[0].1, Judgement::Refused("held".into()), later).is_some());
            assert!(free(&mut d, vni(1), key), "and after it");
            assert!(matches!(d.next(now, false), Some(Work::Claim(_))), "without waiting");
        }
    }

    #[test]
    fn registration_tells_everything_again_and_interest_is_counted() {
        let now = Instant::now();
        let mut d = Desired::new([vni(9)].into_iter());
        assert!(d.join(vni(1), true));
        assert!(!d.claim(claim(1, 1, "10.0.0.1")));
        assert!(!d.leave(vni(1)), "the claim still needs it");
        assert!(d.withdraw(vni(1), Mac::new([2, 0, 0, 0, 0, 1])));
        assert_eq!(d.interest(), [vni(9)].into());
        d.join(vni(2), false);
        d.registered();
        // What went while nobody could be told is told first: the board may have kept it.
        for work in [Work::Withdraw(vec![(vni(1), Mac::new([2, 0, 0, 0, 0, 1]))]), Work::Leave(vec![vni(1)])]
        {
            assert_eq!(d.next(now, true).as_ref(), Some(&work));
            d.told(&work);
        }
        assert_eq!(d.next(now, true), Some(Work::Join(vec![(vni(2), false)])));
        d.told(&Work::Join(vec![(vni(2), false)]));
        assert_eq!(d.next(now, true), Some(Work::Sync));
    }
}

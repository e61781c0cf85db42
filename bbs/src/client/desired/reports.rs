//! What the board reports about claims. Enters: answers to claims, and changes of nodes, addresses and locks from the
//! watch. Leaves: events for the consumer, and claims that are pending again.

use super::{ClaimEvent, ClaimResult, ClaimState, Desired, DesiredNode, FRESH, Reported};
use crate::model::{Accepted, Claim};
use std::{net::IpAddr, time::Instant};
use stopover_net::{Mac, Vni};

impl DesiredNode {
    /// The board accepted the claim, with these addresses if they are others than claimed. True if the claim is to be
    /// tried again.
    fn accept(&mut self, revision: u64, addresses: Option<&Accepted>, retry_at: Instant) -> bool {
        self.state = ClaimState::Accepted;
        self.accepted_at = revision;
        self.claim = self.claim.clone().stale();
        let Some(Accepted { ips, .. }) = addresses else { return false };
        if self.claim.facts.is_learned() {
            self.claim.ips.clone_from(ips);
            self.claim.ips.sort_unstable();
        } else {
            let moved = self.claim.ips.iter().copied();
            let moved: Vec<_> =
                moved.filter(|ip| self.claim.is_contestable(*ip) && !ips.contains(ip)).collect();
            self.claim.remove_ips(|ip| moved.contains(&ip));
        }
        if self.claim.ips.iter().all(|ip| ips.contains(ip)) {
            return false;
        }
        // Declared addresses are claimed again.
        self.state = ClaimState::Refused { retry_at };
        true
    }
}

impl Desired {
    /// At the board the node is at another host in this revision. True if it is to be claimed at once.
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

    /// At the board our node has lost these addresses in this revision. True if they are to be claimed at once.
    pub fn handle_lost(&mut self, vni: Vni, mac: Mac, ips: &[IpAddr], revision: u64) -> bool {
        let Some(node) = self.nodes.get_mut(&(vni, mac)) else { return false };
        // Not only addresses of our claim: the outstanding answer may add others, which it had at another host.
        node.taken.extend(ips.iter().map(|ip| (Some(*ip), revision)));
        node.state == ClaimState::Accepted && self.yield_taken(vni, mac)
    }

    /// After the answer to a claim: applies what others have taken over since the revision of the answer.
    pub fn apply_taken(&mut self, vni: Vni, mac: Mac) {
        if self.nodes.get(&(vni, mac)).is_some_and(|node| node.state == ClaimState::Accepted) {
            self.yield_taken(vni, mac);
        }
    }

    /// Gives up what others have taken over after the board accepted our claim. True if some of it is declared and is to
    /// be claimed again at once.
    fn yield_taken(&mut self, vni: Vni, mac: Mac) -> bool {
        let Some(node) = self.nodes.get_mut(&(vni, mac)) else { return false };
        let mut taken = std::mem::take(&mut node.taken);
        let ours = |ip: &IpAddr| node.claim.ips.contains(ip);
        taken.retain(|(ip, revision)| *revision > node.accepted_at && ip.as_ref().is_none_or(ours));
        let learned = node.claim.facts.is_learned();
        if learned && taken.iter().any(|(ip, _)| ip.is_none()) {
            // The consumer gets the event, and then withdraws the claim.
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

    /// At the board no host has the node. True if it is to be claimed at once.
    pub fn handle_removed(&mut self, vni: Vni, mac: Mac) -> bool {
        self.locked.remove(&(vni, mac));
        self.claim_again(vni, mac)
    }

    /// A migration has locked a node of this host.
    pub fn handle_locked(&mut self, vni: Vni, mac: Mac) {
        self.locked.insert((vni, mac));
    }

    /// A snapshot begins: the board sends all locks again.
    pub fn clear_locks(&mut self) {
        self.locked.clear();
    }

    /// The lock on a node has ended. A deferred claim need not wait for its next try. True if the node is to be claimed at
    /// once.
    pub fn handle_unlocked(&mut self, vni: Vni, mac: Mac) -> bool {
        self.locked.remove(&(vni, mac));
        match self.nodes.get(&(vni, mac)).map(|node| &node.state) {
            Some(ClaimState::Pending | ClaimState::Refused { .. } | ClaimState::Postponed { .. }) => {
                self.claim_again(vni, mac)
            }
            Some(ClaimState::Accepted | ClaimState::Moved { .. } | ClaimState::TakenOver) | None => false,
        }
    }

    /// Claims it again. An outstanding answer to an earlier claim is ignored: it may describe an earlier state.
    fn claim_again(&mut self, vni: Vni, mac: Mac) -> bool {
        let Some(node) = self.nodes.get_mut(&(vni, mac)) else { return false };
        self.versions += 1;
        node.version = self.versions;
        node.state = ClaimState::Pending;
        self.enqueue((vni, mac));
        true
    }

    /// The board's answer to a claim. The event for the consumer, if there is one.
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
                if node.accept(revision, addresses.as_ref(), retry_at) {
                    self.refused.insert(key);
                }
                Reported::Accepted(addresses)
            }
            ClaimResult::Later(at) => {
                node.state = ClaimState::Postponed { retry_at: at };
                // Not longer: other hosts claim because of frames that they receive now.
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
}

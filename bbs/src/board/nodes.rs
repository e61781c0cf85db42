//! Claims and joins of hosts. Enters: what an appliance claims, withdraws, joins and leaves. Leaves: the answer for each
//! claim, and events about conflicts.

use super::{
    Board, CONFLICTS_REMEMBERED, DONE, Hold, Ips, Now, Outcome, Refusal, Session,
    contest::{Contest, Contested, hold},
    state::{EARLIER, NodeState, OPERATOR},
};
use crate::model::{Accepted, Claim, DeclaredBy, EventKind, MAX_IPS, NodeFacts};
use std::net::IpAddr;
use stopover_config::bbs::Exceeded;
use stopover_net::{Mac, Vni};

/// A holder that is in conflict with a claim.
pub(super) enum Holder {
    /// The node itself is on this host.
    Mac(u32),
    /// This node has one of the addresses.
    Ip(IpAddr, Mac, u32),
}

/// The refused part of a claim.
enum Refused {
    /// The node, and with it all addresses.
    Node,
    /// Some of its addresses. The node itself was accepted.
    Address,
}

/// The result of a claim that was not refused.
enum ClaimOutcome {
    Accepted,
    /// It waits for the end of this migration.
    Deferred(u64),
    /// Accepted with other addresses. If not 0: delay in milliseconds after which the claim is to be repeated for the
    /// rest.
    Partial(Accepted, u64),
    /// Delay in milliseconds after which the claim is to be repeated.
    Later(u64),
    /// A limit is met. Not a conflict: there is one event per host, not one per node.
    Exceeded(Exceeded),
}

/// The result for the addresses of a claim.
#[derive(Default)]
struct Addresses {
    /// Addresses taken from other nodes: the address, the node and its host.
    taken: Vec<(IpAddr, Mac, u32)>,
    refused: Vec<(IpAddr, String)>,
    retry_ms: u64,
}

impl Board {
    pub(super) fn claim(
        &mut self,
        now: Now,
        session: &Session,
        claims: Vec<Claim>,
    ) -> Result<Outcome, Refusal> {
        let host = self.check_session(now, session)?;
        let claimant = session.number as u32;
        let judged = claims.len() as u32;
        let (mut refused, mut deferred) = (Vec::new(), Vec::new());
        let (mut partial, mut later) = (Vec::new(), Vec::new());
        let mut accepted_claims = Vec::new();
        for (i, claim) in (0..).zip(claims) {
            let Claim { vni, mac, .. } = claim;
            let result = self.claim_one(now, (host, claimant), claim);
            if matches!(result, Ok(ClaimOutcome::Accepted | ClaimOutcome::Partial(..))) {
                accepted_claims.push((i, vni, mac, self.addresses(vni, mac)));
            }
            match result {
                Ok(ClaimOutcome::Partial(accepted, retry_ms)) => {
                    match accepted.refused[..] {
                        [] => drop(self.conflicts.remove(&(vni, mac, host))),
                        _ => {
                            self.push_conflict(vni, mac, host, Refused::Address, &accepted.refused.join("; "))
                        }
                    }
                    partial.push((i, accepted));
                    later.extend(Some((i, retry_ms)).filter(|(_, ms)| *ms > 0));
                }
                Ok(ClaimOutcome::Exceeded(exceeded)) => refused.push((i, exceeded.to_string())),
                Ok(ClaimOutcome::Later(retry_ms)) => later.push((i, retry_ms)),
                Ok(other) => {
                    self.conflicts.remove(&(vni, mac, host));
                    if let ClaimOutcome::Deferred(migration) = other {
                        deferred.push((i, migration));
                    }
                }
                Err(why) => {
                    self.push_conflict(vni, mac, host, Refused::Node, &why);
                    refused.push((i, why));
                }
            }
        }
        // The answer describes the state after all claims: a later claim may have taken an address from an earlier one.
        for (i, vni, mac, had) in accepted_claims {
            let ips = self.addresses(vni, mac);
            if ips == had {
                continue;
            }
            match partial.iter_mut().find(|(at, _)| *at == i) {
                Some((_, accepted)) => accepted.ips = ips,
                None => partial.push((i, Accepted { ips, refused: Vec::new() })),
            }
        }
        Ok(Outcome::Claimed { revision: 0, judged, refused, deferred, partial, later })
    }

    fn addresses(&self, vni: Vni, mac: Mac) -> Vec<IpAddr> {
        let node = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&mac));
        node.map_or_else(Vec::new, |node| node.ips.to_vec())
    }

    fn claim_one(&mut self, now: Now, by: (u32, u32), claim: Claim) -> Result<ClaimOutcome, String> {
        let Claim { vni, mac, .. } = claim;
        let (host, _) = by;
        let old = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&mac)).cloned();
        if let Some(old) = &old
            && old.host == host
            && old.claimant == OPERATOR
        {
            return Ok(claim_of_declared(old, &claim));
        }
        if self.state.locks.contains_key(&(vni, mac)) {
            if old.as_ref().is_some_and(|old| old.host != host) {
                return self.defer(now, host, claim).map(ClaimOutcome::Deferred);
            }
            self.set_released(vni, mac, false);
        }
        if let Err(exceeded) = self.check_claim(vni, host, old.as_ref()) {
            return Ok(ClaimOutcome::Exceeded(exceeded));
        }
        let elsewhere = old.as_ref().filter(|old| old.host != host);
        if let Some(holder) = elsewhere {
            match self.contest_node(now, holder, &claim) {
                Contest::Yields => self.push_node_move(now, vni, mac, (holder.host, host)),
                Contest::Later(ms) => return Ok(ClaimOutcome::Later(ms)),
                Contest::Keeps => {
                    let why = self.describe(&Holder::Mac(holder.host), vni, mac);
                    return Err(why + &self.moved_note(vni, mac, host));
                }
            }
        }
        let Addresses { taken, refused, retry_ms } = self.resolve_addresses(now, by, &claim);
        self.take_addresses(now, (vni, mac, host), taken);
        let mut ips: Vec<_> =
            claim.ips.iter().copied().filter(|ip| refused.iter().all(|(no, _)| no != ip)).collect();
        if let Some(from) = elsewhere.filter(|from| from.facts().is_learned() && claim.facts.is_learned()) {
            // A learned station need not announce its addresses again at its new host.
            let kept: Vec<_> = from.ips.iter().filter(|ip| !claim.ips.contains(ip)).collect();
            ips.extend(kept.into_iter().take(MAX_IPS - ips.len()));
        }
        let complete = ips.len() == claim.ips.len() && refused.is_empty();
        let accepted = Accepted { ips, refused: refused.into_iter().map(|(_, why)| why).collect() };
        let ips = accepted.ips.iter().copied().collect::<Ips>().with_holds(|ip| hold(&claim, ip));
        let generation = match &old {
            Some(old) if old.host == host => old.generation(),
            _ => self.state.next_revision(),
        };
        let router = claim.facts.router.or(old.and_then(|old| old.facts().router));
        let facts = NodeFacts { router, ..claim.facts };
        self.state.put_node(vni, mac, Some(NodeState::new(ips, generation, facts, by)));
        Ok(if complete { ClaimOutcome::Accepted } else { ClaimOutcome::Partial(accepted, retry_ms) })
    }

    /// Gives addresses of other nodes to a node of `host`.
    fn take_addresses(
        &mut self,
        now: Now,
        (vni, mac, host): (Vni, Mac, u32),
        taken: Vec<(IpAddr, Mac, u32)>,
    ) {
        for (ip, other, from) in taken {
            self.take_address(vni, other, ip);
            if !self.is_up(from) {
                let (from, name) = (self.state.name(from), self.state.name(host));
                let text = format!(
                    "{ip} in VNI {vni} taken over from node {other} on host {from}, which is down, by {mac} on {name}"
                );
                self.push_event(EventKind::TakenOver, text);
            } else {
                self.count_move(now, vni, Contested::Address(ip), (from, host));
            }
        }
    }

    fn push_node_move(&mut self, now: Now, vni: Vni, mac: Mac, (from, to): (u32, u32)) {
        if self.is_up(from) {
            return self.count_move(now, vni, Contested::Node(mac), (from, to));
        }
        let (from, to) = (self.state.name(from), self.state.name(to));
        let text = format!("node {mac} in VNI {vni} taken over from host {from}, which is down, by {to}");
        self.push_event(EventKind::TakenOver, text);
    }

    /// Decides about each address separately: if another node keeps an address, the claim of the node is still accepted.
    fn resolve_addresses(&self, now: Now, by: (u32, u32), claim: &Claim) -> Addresses {
        let mut judged = Addresses::default();
        let Some(network) = self.state.networks.get(&claim.vni) else { return judged };
        for ip in &claim.ips {
            let Some(other) = network.addresses.get(ip).filter(|mac| **mac != claim.mac) else { continue };
            let Some(holder) = network.nodes.get(other) else { continue };
            let why = || self.describe(&Holder::Ip(*ip, *other, holder.host), claim.vni, claim.mac);
            match self.contest_address(now, by, (holder, *ip), claim) {
                Contest::Yields => judged.taken.push((*ip, *other, holder.host)),
                Contest::Keeps => judged.refused.push((*ip, why())),
                Contest::Later(ms) => {
                    judged.refused.push((*ip, why()));
                    judged.retry_ms = judged.retry_ms.max(ms);
                }
            }
        }
        judged
    }

    /// All other holders of the MAC or of one of the addresses.
    pub(super) fn holders(&self, vni: Vni, mac: Mac, ips: &Ips, host: u32) -> Vec<Holder> {
        let Some(network) = self.state.networks.get(&vni) else { return Vec::new() };
        let elsewhere = network.nodes.get(&mac).filter(|n| n.host != host).map(|n| Holder::Mac(n.host));
        let addresses = ips.iter().filter_map(|ip| {
            let holder = *network.addresses.get(&ip).filter(|m| **m != mac)?;
            Some(Holder::Ip(ip, holder, network.nodes.get(&holder)?.host))
        });
        elsewhere.into_iter().chain(addresses).collect()
    }

    pub(super) fn describe(&self, holder: &Holder, vni: Vni, mac: Mac) -> String {
        match holder {
            Holder::Mac(host) => format!(
                "MAC {mac} in VNI {vni} is held by {}: a station is on one host; withdraw or delete it there first",
                self.holder_name(*host)
            ),
            Holder::Ip(ip, node, host) => format!(
                "IP {ip} in VNI {vni} is held by node {node} on {}: an address belongs to one node of a \
                 network; give {mac} another, or withdraw or delete that one first",
                self.holder_name(*host)
            ),
        }
    }

    fn holder_name(&self, id: u32) -> String {
        let name = self.state.name(id);
        if self.is_up(id) {
            return format!("host {name}");
        }
        format!("host {name}, which is down (if it is gone for good: `stopover host forget {name}`)")
    }

    /// Whether a node shares this address with others, so that it is not the node's own.
    pub(super) fn is_shared(&self, vni: Vni, mac: Mac, ip: IpAddr) -> bool {
        let node = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&mac));
        node.is_some_and(|n| n.facts().is_learned() || n.ips.hold(ip) != Hold::Own)
    }

    /// Whether a node of an appliance has a shared address because it has announced it.
    pub(super) fn has_announced(&self, vni: Vni, mac: Mac, ip: IpAddr) -> bool {
        let node = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&mac));
        node.is_some_and(|n| n.declared_by() == DeclaredBy::Appliance && n.ips.hold(ip) == Hold::Shared)
    }

    pub(super) fn take_address(&mut self, vni: Vni, from: Mac, ip: IpAddr) {
        let Some(node) = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&from)).cloned() else {
            return;
        };
        let ips = node.ips.filtered(|held| held != ip);
        self.state.put_node(vni, from, Some(node.with_ips(ips)));
    }

    fn push_conflict(&mut self, vni: Vni, mac: Mac, host: u32, what: Refused, why: &str) {
        if self.conflicts.get(&(vni, mac, host)).is_some_and(|reported| reported == why) {
            return;
        }
        if self.conflicts.len() >= CONFLICTS_REMEMBERED {
            self.conflicts.clear();
        }
        self.conflicts.insert((vni, mac, host), why.to_owned());
        let name = self.state.name(host);
        let text = match what {
            Refused::Node => format!("claim of host {name} refused: {why}"),
            Refused::Address => format!("address of node {mac} of host {name} refused: {why}"),
        };
        self.push_event(EventKind::Conflict, text);
    }

    pub(super) fn withdraw(
        &mut self,
        now: Now,
        session: &Session,
        nodes: &[(Vni, Mac)],
    ) -> Result<Outcome, Refusal> {
        let host = self.check_session(now, session)?;
        for (vni, mac) in nodes {
            let node = self.state.networks.get(vni).and_then(|n| n.nodes.get(mac));
            let (own, declared) = node.map_or((false, false), |n| (n.host == host, n.claimant == OPERATOR));
            if !own {
                self.drop_deferred(host, |claim| (claim.vni, claim.mac) == (*vni, *mac));
            } else if !declared && !self.set_released(*vni, *mac, true) {
                self.state.put_node(*vni, *mac, None);
            }
            self.conflicts.remove(&(*vni, *mac, host));
        }
        Ok(DONE)
    }

    pub(super) fn join(
        &mut self,
        now: Now,
        session: &Session,
        networks: &[(Vni, bool)],
    ) -> Result<Outcome, Refusal> {
        let host = self.check_session(now, session)?;
        let number = session.number as u32;
        for (vni, segment) in networks {
            self.check_member(*vni, host)?;
            self.state.set_member(*vni, host, |m| (m.joined, m.join_session) = (Some(*segment), number));
        }
        Ok(DONE)
    }

    pub(super) fn leave(
        &mut self,
        now: Now,
        session: &Session,
        networks: &[Vni],
    ) -> Result<Outcome, Refusal> {
        let host = self.check_session(now, session)?;
        for vni in networks {
            if self.state.member(*vni, host).is_some_and(|m| m.joined.is_some()) {
                self.state.set_member(*vni, host, |m| (m.joined, m.join_session) = (None, EARLIER));
            }
        }
        Ok(DONE)
    }

    pub(super) fn sync_claims(&mut self, now: Now, session: &Session) -> Result<Outcome, Refusal> {
        let id = self.check_session(now, session)?;
        let number = session.number as u32;
        let stale_nodes = self.state.hosts.get(&id).is_some_and(|h| h.appliance_nodes != h.session_nodes);
        // A search of whole networks is expensive, and usually finds nothing.
        let nodes_deleted = if stale_nodes {
            self.sweep(id, |claimant| claimant != OPERATOR && claimant != number)
        } else {
            self.remove_stale_joins(id, number);
            0
        };
        Ok(Outcome::Synced { revision: 0, nodes_deleted })
    }

    fn remove_stale_joins(&mut self, id: u32, number: u32) {
        let Some(host) = self.state.hosts.get(&id) else { return };
        let networks: Vec<_> = host.networks.iter().copied().collect();
        for vni in networks {
            if self.state.member(vni, id).is_some_and(|m| m.joined.is_some() && m.join_session != number) {
                self.state.set_member(vni, id, |m| (m.joined, m.join_session) = (None, EARLIER));
            }
        }
    }
}

/// A claim of a node that the operator declared on the claiming host: the declaration stands, and the answer has its
/// addresses.
fn claim_of_declared(declared: &NodeState, claim: &Claim) -> ClaimOutcome {
    let ips = declared.ips.to_vec();
    if ips.len() == claim.ips.len() && claim.ips.iter().all(|ip| ips.contains(ip)) {
        ClaimOutcome::Accepted
    } else {
        ClaimOutcome::Partial(Accepted { ips, refused: vec![] }, 0)
    }
}

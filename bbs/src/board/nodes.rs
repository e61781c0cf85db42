//! What a host says of its nodes and networks, and what happens when two say the same.

use super::{
    Board, CONFLICTS_REMEMBERED, DONE, Ips, Now, Outcome, Refusal, Session,
    state::{EARLIER, NodeState, OPERATOR},
};
use crate::model::{Claim, EventKind};
use stopover_config::net::{Mac, Vni};

/// Somebody else's that would have to give way.
pub(super) enum Holder {
    /// The node itself is on this host.
    Mac(u32),
    /// One of the addresses is this node's.
    Ip(std::net::IpAddr, Mac, u32),
}

impl Board {
    pub(super) fn claim(
        &mut self,
        now: Now,
        session: &Session,
        claims: Vec<Claim>,
    ) -> Result<Outcome, Refusal> {
        let host = self.speaking(now, session)?;
        let speaker = session.number as u32;
        let judged = claims.len() as u32;
        let mut refused = Vec::new();
        let mut deferred = Vec::new();
        for (i, claim) in claims.into_iter().enumerate() {
            let Claim { vni, mac, .. } = claim;
            match self.claim_one(now, host, speaker, claim) {
                Ok(waits) => {
                    self.conflicts.remove(&(vni, mac, host));
                    deferred.extend(waits.map(|migration| (i as u32, migration)));
                }
                Err(why) => {
                    self.say_conflict(vni, mac, host, &why);
                    refused.push((i as u32, why));
                }
            }
        }
        Ok(Outcome::Claimed { revision: 0, judged, refused, deferred })
    }

    /// `Ok(Some(_))`: it waits for the end of that migration.
    fn claim_one(&mut self, now: Now, host: u32, speaker: u32, claim: Claim) -> Result<Option<u64>, String> {
        let Claim { vni, mac, .. } = claim;
        let old = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&mac)).cloned();
        if let Some(old) = &old
            && old.host == host
            && old.speaker == OPERATOR
        {
            // The operator's word stands.
            return Ok(None);
        }
        if self.state.locks.contains_key(&(vni, mac)) {
            if old.as_ref().is_some_and(|old| old.host != host) {
                return self.defer(now, host, claim).map(Some);
            }
            self.held(vni, mac, false);
        }
        let ips: Ips = claim.ips.into_iter().collect();
        let holders = self.holders(vni, mac, &ips, host);
        if let Some(holder) = holders.iter().find(|h| !self.gives_way(h, vni, mac, host, speaker)) {
            let moved = if matches!(holder, Holder::Mac(_)) {
                self.moved_note(vni, mac, host)
            } else {
                String::new()
            };
            return Err(self.describe(holder, vni, mac) + &moved);
        }
        for holder in holders {
            let name = self.state.name(host);
            match holder {
                Holder::Mac(from) => {
                    let from = self.state.name(from);
                    let text = format!(
                        "node {mac} in VNI {vni} taken over from host {from}, which is down, by {name}"
                    );
                    self.say(EventKind::TakenOver, text);
                }
                Holder::Ip(ip, other, from) => {
                    self.take_address(vni, other, ip);
                    if from != host {
                        let from = self.state.name(from);
                        let text = format!(
                            "{ip} in VNI {vni} taken over from node {other} on host {from}, which is down, by \
                             {mac} on {name}"
                        );
                        self.say(EventKind::TakenOver, text);
                    }
                }
            }
        }
        let generation = match &old {
            Some(old) if old.host == host => old.generation,
            _ => self.state.coming(),
        };
        self.state.put_node(vni, mac, Some(NodeState { ips, generation, host, speaker }));
        Ok(None)
    }

    /// Everyone else who has the MAC or one of the addresses.
    pub(super) fn holders(&self, vni: Vni, mac: Mac, ips: &Ips, host: u32) -> Vec<Holder> {
        let Some(network) = self.state.networks.get(&vni) else { return Vec::new() };
        let elsewhere = network.nodes.get(&mac).filter(|n| n.host != host).map(|n| Holder::Mac(n.host));
        let addresses = ips.iter().filter_map(|ip| {
            let holder = *network.addresses.get(&ip).filter(|m| **m != mac)?;
            Some(Holder::Ip(ip, holder, network.nodes.get(&holder)?.host))
        });
        elsewhere.into_iter().chain(addresses).collect()
    }

    /// A holder gives way if nobody speaks for it any more: its host is down, or it is the claimant's own from an
    /// earlier session.
    fn gives_way(&self, holder: &Holder, vni: Vni, mac: Mac, host: u32, speaker: u32) -> bool {
        let (node, at) = match holder {
            Holder::Mac(at) => (mac, *at),
            Holder::Ip(_, node, at) => (*node, *at),
        };
        let held_by =
            self.state.networks.get(&vni).and_then(|n| n.nodes.get(&node)).map_or(OPERATOR, |n| n.speaker);
        if held_by == OPERATOR {
            return false;
        }
        if at == host { held_by != speaker } else { self.state.hosts.get(&at).is_some_and(|h| !h.record.up) }
    }

    pub(super) fn describe(&self, holder: &Holder, vni: Vni, mac: Mac) -> String {
        match holder {
            Holder::Mac(host) => format!(
                "MAC {mac} in VNI {vni} is held by host {}: a station is on one host; withdraw or delete it there first",
                self.state.name(*host)
            ),
            Holder::Ip(ip, node, host) => format!(
                "IP {ip} in VNI {vni} is held by node {node} on host {}: an address belongs to one node of a \
                 network; give {mac} another, or withdraw or delete that one first",
                self.state.name(*host)
            ),
        }
    }

    fn take_address(&mut self, vni: Vni, from: Mac, ip: std::net::IpAddr) {
        let Some(node) = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&from)).cloned() else {
            return;
        };
        let ips = node.ips.iter().filter(|i| *i != ip).collect();
        self.state.put_node(vni, from, Some(NodeState { ips, ..node }));
    }

    fn say_conflict(&mut self, vni: Vni, mac: Mac, host: u32, why: &str) {
        if self.conflicts.get(&(vni, mac, host)).is_some_and(|said| said == why) {
            return;
        }
        if self.conflicts.len() >= CONFLICTS_REMEMBERED {
            self.conflicts.clear();
        }
        self.conflicts.insert((vni, mac, host), why.to_owned());
        let text = format!("claim of host {} refused: {why}", self.state.name(host));
        self.say(EventKind::Conflict, text);
    }

    pub(super) fn withdraw(
        &mut self,
        now: Now,
        session: &Session,
        nodes: &[(Vni, Mac)],
    ) -> Result<Outcome, Refusal> {
        let host = self.speaking(now, session)?;
        for (vni, mac) in nodes {
            let node = self.state.networks.get(vni).and_then(|n| n.nodes.get(mac));
            let (own, declared) = node.map_or((false, false), |n| (n.host == host, n.speaker == OPERATOR));
            if !own {
                self.drop_deferred(host, |claim| (claim.vni, claim.mac) == (*vni, *mac));
            } else if !declared && !self.held(*vni, *mac, true) {
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
        let host = self.speaking(now, session)?;
        let number = session.number as u32;
        for (vni, segment) in networks {
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
        let host = self.speaking(now, session)?;
        for vni in networks {
            if self.state.member(*vni, host).is_some_and(|m| m.joined.is_some()) {
                self.state.set_member(*vni, host, |m| (m.joined, m.join_session) = (None, EARLIER));
            }
        }
        Ok(DONE)
    }

    pub(super) fn sync_claims(&mut self, now: Now, session: &Session) -> Result<Outcome, Refusal> {
        let id = self.speaking(now, session)?;
        let number = session.number as u32;
        let stale_nodes = self.state.hosts.get(&id).is_some_and(|h| h.appliance_nodes != h.session_nodes);
        // Looking through the nodes of whole networks costs; usually there is nothing to find.
        let nodes_deleted = if stale_nodes {
            self.sweep(id, |speaker| speaker != OPERATOR && speaker != number)
        } else {
            self.leave_stale(id, number);
            0
        };
        Ok(Outcome::Synced { revision: 0, nodes_deleted })
    }

    fn leave_stale(&mut self, id: u32, number: u32) {
        let Some(host) = self.state.hosts.get(&id) else { return };
        let networks: Vec<_> = host.networks.iter().copied().collect();
        for vni in networks {
            if self.state.member(vni, id).is_some_and(|m| m.joined.is_some() && m.join_session != number) {
                self.state.set_member(vni, id, |m| (m.joined, m.join_session) = (None, EARLIER));
            }
        }
    }
}

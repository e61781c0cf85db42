//! The end of migrations: completed or aborted, by a call or because they cannot continue. What follows a completed
//! migration is in `barriers`.
//!
//! [`Board::expire_migrations`] runs after every command and ends every migration that cannot continue. So no other code
//! has to remember locks, and no lock is left behind.

use super::{
    Board, Ips, Now, Outcome, Principal, Refusal, Ticket,
    barriers::BARRIER_MS,
    contest::hold,
    migrations::{MIGRATIONS_KEPT, list_nodes, migration_outcome},
    nodes::Holder,
    state::{EARLIER, NodeState, OPERATOR},
};
use crate::model::{
    Claim, DeclaredBy, EventKind, HostRef, MAX_MIGRATING, Migration, MigrationState, NodeFacts,
};
use stopover_net::{HostName, Mac, Vni};

impl Board {
    /// The source and the target may end a migration. While no target is named, a host that claims all of its nodes may
    /// end it as well: the VM runs there. A claim of only some of the nodes is no proof of that.
    fn may_end(&self, m: &Migration, claimant: Option<u32>) -> Result<(), Refusal> {
        let Some(id) = claimant else { return Ok(()) };
        let claimed = m.nodes.iter().filter(|n| m.has_claim(id, n.vni, n.mac)).count();
        let arrived = m.target.is_none() && claimed == m.nodes.len();
        if id == m.source.id || m.target.as_ref().is_some_and(|t| t.id == id) || arrived {
            return Ok(());
        }
        let and = match claimed {
            0 => String::new(),
            n => format!(", and claims {n} of its {} nodes: claim all that runs there first", m.nodes.len()),
        };
        Err(Refusal::Conflict(format!(
            "host {} is neither source nor target of migration {}{and}",
            self.state.name(id),
            m.id
        )))
    }

    /// The refusal of an attempt to end a migration that has ended with the other outcome.
    pub(super) fn already_ended(&self, m: &Migration) -> Refusal {
        let how = match m.state {
            MigrationState::Completed => {
                format!("completed to host {}", m.target.as_ref().map_or("?", |t| t.name.as_str()))
            }
            _ => "aborted".into(),
        };
        let now = m.nodes.iter().filter_map(|n| self.state.locked_by(n.vni, n.mac)).next();
        let now = now.map_or(String::new(), |n| {
            format!("; its node is locked now by migration {}, generation {}", n.id, n.generation)
        });
        Refusal::Stale(format!(
            "migration {} (generation {}) was {how} at revision {}: {}{now}",
            m.id, m.generation, m.revision, m.reason
        ))
    }

    pub(super) fn complete_migration(
        &mut self,
        now: Now,
        by: &Principal,
        ticket: Ticket,
        at: Option<&HostName>,
        cause: &str,
    ) -> Result<Outcome, Refusal> {
        let claimant = self.principal_host(now, by)?;
        let m = self.migration_by_ticket(ticket)?;
        let at = at.map(|at| self.host_ref(at)).transpose()?;
        self.may_end(&m, claimant)?;
        match m.state {
            MigrationState::Completed if at.is_none() || at == m.target => {
                Ok(migration_outcome(&m, m.revision))
            }
            MigrationState::Completed | MigrationState::Aborted => Err(self.already_ended(&m)),
            MigrationState::Locked => {
                let to = self.destination(&m, at, claimant)?;
                if let Some(id) = claimant {
                    self.check_claimed_by(&m, &to)?;
                    if id != m.source.id && id != to.id {
                        return Err(Refusal::Conflict(format!(
                            "host {} may complete migration {} only to itself, not to {}",
                            self.state.name(id),
                            m.id,
                            to.name
                        )));
                    }
                }
                Ok(self.complete(now, m, to, cause))
            }
        }
    }

    /// An appliance completes a migration only to a host that claims its nodes: the statement may be older than the
    /// claims.
    fn check_claimed_by(&self, m: &Migration, to: &HostRef) -> Result<(), Refusal> {
        if to.id == m.source.id || m.deferred.iter().any(|d| d.host.id == to.id) {
            return Ok(());
        }
        Err(Refusal::Conflict(format!(
            "host {} claims no node of migration {}: claim what runs there, then complete it",
            to.name, m.id
        )))
    }

    fn destination(
        &self,
        m: &Migration,
        at: Option<HostRef>,
        claimant: Option<u32>,
    ) -> Result<HostRef, Refusal> {
        match (at, &m.target) {
            (None, Some(target)) => return Ok(target.clone()),
            (Some(at), None) => return Ok(at),
            (Some(at), Some(target)) if at.id == target.id => return Ok(at),
            (Some(at), Some(target)) => {
                let hint = if at.id == m.source.id { "abort it" } else { "abort it and begin another" };
                return Err(Refusal::Conflict(format!(
                    "the target of migration {} is host {}, not {}: {hint}",
                    m.id, target.name, at.name
                )));
            }
            (None, None) => {}
        }
        let mut hosts: Vec<_> = m.deferred.iter().map(|d| d.host.clone()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        if let Some(own) = hosts.iter().find(|h| Some(h.id) == claimant) {
            return Ok(own.clone());
        }
        match &hosts[..] {
            [one] => Ok(one.clone()),
            [] => Err(Refusal::Conflict(format!(
                "migration {} has no target, and no host claims its nodes yet: name the target",
                m.id
            ))),
            many => Err(Refusal::Conflict(format!(
                "hosts {} claim the nodes of migration {}: name the target",
                many.iter().map(|h| h.name.as_str()).collect::<Vec<_>>().join(", "),
                m.id
            ))),
        }
    }

    /// Moves every node to `to`, with the addresses and facts of that host's claim if there is one.
    fn complete(&mut self, now: Now, mut m: Migration, to: HostRef, cause: &str) -> Outcome {
        let mut released_nodes = Vec::new();
        for node in &m.nodes {
            let deferred = m
                .deferred
                .iter()
                .find(|d| d.host.id == to.id && (d.claim.vni, d.claim.mac) == (node.vni, node.mac));
            if to.id == m.source.id && node.released && deferred.is_none() {
                released_nodes.push((node.vni, node.mac));
            } else {
                self.move_node(node.vni, node.mac, &to, deferred.map(|d| &d.claim));
            }
        }
        let text = format!(
            "migration {} of {} from {} to {} is complete: {cause}",
            m.id,
            list_nodes(&m),
            m.source.name,
            to.name
        );
        self.push_event(EventKind::Migration, text);
        m.waiting = self.hosts_to_wait_for(&m);
        m.target = Some(to);
        let id = m.id;
        let outcome = self.end(now, m, MigrationState::Completed, cause);
        if self.state.barriers.open.contains(&id) {
            self.state.barriers.deadlines.set(id, now.lease_ms + BARRIER_MS);
        }
        for (vni, mac) in released_nodes {
            self.state.put_node(vni, mac, None);
        }
        outcome
    }

    fn move_node(&mut self, vni: Vni, mac: Mac, to: &HostRef, claim: Option<&Claim>) {
        let Some(old) = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&mac)).cloned() else {
            return;
        };
        let generation = self.state.next_revision();
        let session = self.state.hosts.get(&to.id).map_or(EARLIER, |h| h.session);
        let mut facts = old.facts();
        if let Some(claim) = claim.filter(|_| old.claimant != OPERATOR) {
            facts = NodeFacts { kind: claim.facts.kind, router: claim.facts.router.or(facts.router) };
        }
        let (ips, claimant) = match claim {
            _ if old.claimant == OPERATOR => (old.ips, OPERATOR),
            None if old.host == to.id => (old.ips, old.claimant),
            None => (old.ips, session),
            Some(claim) => {
                let ips: Ips = claim.ips.iter().copied().collect();
                let ips = ips.with_holds(|ip| hold(claim, ip));
                let taken: Vec<_> = self
                    .holders(vni, mac, &ips, to.id)
                    .into_iter()
                    .filter_map(|h| if let Holder::Ip(ip, other, _) = h { Some((ip, other)) } else { None })
                    .collect();
                for (ip, other) in &taken {
                    let text = format!("{ip} in VNI {vni} remains with node {other}: {mac} moved without it");
                    self.push_event(EventKind::Conflict, text);
                }
                let free = ips.filtered(|ip| taken.iter().all(|(held, _)| *held != ip));
                (free, session)
            }
        };
        self.state.put_node(vni, mac, Some(NodeState::new(ips, generation, facts, (to.id, claimant))));
    }

    /// Appliances that forward in the migration's networks.
    fn hosts_to_wait_for(&self, m: &Migration) -> Vec<HostRef> {
        let mut hosts: Vec<HostRef> = m
            .nodes
            .iter()
            .filter_map(|n| self.state.networks.get(&n.vni))
            .flat_map(|network| network.members.keys())
            .filter_map(|id| Some((*id, &self.state.hosts.get(id)?.record)))
            .filter(|(_, r)| r.up && r.declared_by == DeclaredBy::Appliance)
            .map(|(id, r)| HostRef { id, name: r.name.clone() })
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    fn end(&mut self, now: Now, mut m: Migration, state: MigrationState, reason: &str) -> Outcome {
        m.state = state;
        reason.clone_into(&mut m.reason);
        m.ended_unix_ms = now.unix_ms;
        m.revision = self.state.next_revision();
        let outcome = migration_outcome(&m, m.revision);
        self.leases.remove(m.id);
        self.state.put_migration(m.id, Some(Box::new(m)));
        while self.state.migrations.len() - self.state.active.len() > MIGRATIONS_KEPT {
            let oldest = self.state.migrations.iter().find(|(_, m)| m.state != MigrationState::Locked);
            let Some(id) = oldest.map(|(id, _)| *id) else { break };
            self.state.put_migration(id, None);
        }
        outcome
    }

    pub(super) fn abort_migration(
        &mut self,
        now: Now,
        by: &Principal,
        ticket: Ticket,
        cause: &str,
    ) -> Result<Outcome, Refusal> {
        let claimant = self.principal_host(now, by)?;
        let m = self.migration_by_ticket(ticket)?;
        self.may_end(&m, claimant)?;
        match m.state {
            MigrationState::Aborted => Ok(migration_outcome(&m, m.revision)),
            MigrationState::Completed => Err(self.already_ended(&m)),
            MigrationState::Locked => Ok(self.abort(now, m, cause)),
        }
    }

    /// The nodes remain where they are; those that the source has released are deleted.
    fn abort(&mut self, now: Now, m: Migration, cause: &str) -> Outcome {
        let released_nodes: Vec<_> = m.nodes.iter().filter(|n| n.released).map(|n| (n.vni, n.mac)).collect();
        let text =
            format!("migration {} of {} from {} is aborted: {cause}", m.id, list_nodes(&m), m.source.name);
        self.push_event(EventKind::Migration, text);
        let outcome = self.end(now, m, MigrationState::Aborted, cause);
        for (vni, mac) in released_nodes {
            self.state.put_node(vni, mac, None);
        }
        outcome
    }

    /// Aborts migrations that a deletion makes meaningless.
    pub(super) fn abort_where(&mut self, now: Now, cause: &str, matches: impl Fn(&Migration) -> bool) {
        let ids: Vec<_> = self.state.active.iter().copied().collect();
        for id in ids {
            if let Some(m) = self.state.migrations.get(&id).filter(|m| matches(m)).cloned() {
                self.abort(now, m, cause);
            }
        }
    }

    /// Ends migrations that cannot continue. Called after every command. It examines only what can have changed:
    /// migrations that the command touched, those whose lease has expired, and all of them if a host went up or down.
    pub(super) fn expire_migrations(&mut self, now: Now) {
        let mut ids = std::mem::take(&mut self.state.touched);
        if std::mem::take(&mut self.state.host_state_changed) {
            ids.extend(&self.state.active);
        }
        ids.extend(self.leases.due(now.lease_ms));
        for id in ids {
            if self.is_half_full() {
                // At the next command.
                self.state.touched.insert(id);
                continue;
            }
            self.state.steps += 1;
            let Some(m) = self.state.migrations.get(&id) else { continue };
            let source_down = !self.is_up(m.source.id);
            let expired = self.leases.get(id).is_none_or(|until| until <= now.lease_ms);
            let owner_down = m.owner.as_ref().is_some_and(|o| !self.is_up(o.id));
            let released = m.nodes.iter().filter(|n| n.released).count();
            let target = self.live_claimant(m);
            let claimed = |host: u32| {
                let by = m.deferred.iter().filter(|d| d.host.id == host);
                by.count() == m.nodes.len()
            };
            let (to, why) = match target {
                Some(to) if source_down && self.is_proven(m, &to) => {
                    (Some(to), "the source host is down, and the target claims")
                }
                Some(to) if released == m.nodes.len() && claimed(to.id) => {
                    (Some(to), "the source has released the nodes, and the target claims")
                }
                Some(to) if (expired || owner_down) && released > 0 => {
                    (Some(to), "its lease ended after the source had released nodes, and the target claims")
                }
                _ if expired => (None, "its lease has run out"),
                _ if owner_down => (None, "the host that began it is down"),
                _ => continue,
            };
            let m = m.clone();
            // At most five changes a node: membership there, node, lock, and membership here.
            self.state.make_room(MAX_MIGRATING * 5);
            match to {
                Some(to) => self.complete(now, m, to, why),
                None => self.abort(now, m, why),
            };
        }
        self.expire_barriers(now);
    }

    /// Whether the claims of `to` prove that the VM runs there although its source has not said that it left: it is the
    /// target that was named, or it has declared the nodes. What is only learned there proves nothing of what the source has
    /// declared: see `contest_node`.
    fn is_proven(&self, m: &Migration, to: &HostRef) -> bool {
        let is_declared = |vni: Vni, mac: Mac| {
            let node = self.state.networks.get(&vni).and_then(|network| network.nodes.get(&mac));
            node.is_some_and(|node| !node.facts().is_learned())
        };
        let is_released =
            |vni: Vni, mac: Mac| m.nodes.iter().any(|n| n.released && (n.vni, n.mac) == (vni, mac));
        let mut learned = m.deferred.iter().filter(|d| d.host.id == to.id && d.claim.facts.is_learned());
        m.target.as_ref().is_some_and(|named| named.id == to.id)
            || !learned.any(|d| {
                let (vni, mac) = (d.claim.vni, d.claim.mac);
                is_declared(vni, mac) && !is_released(vni, mac)
            })
    }

    /// A host that is up and claims a node of the migration; the latest claim first.
    fn live_claimant(&self, m: &Migration) -> Option<HostRef> {
        let mut live = m.deferred.iter().rev().map(|d| &d.host).filter(|h| self.is_up(h.id));
        live.next().cloned()
    }
}

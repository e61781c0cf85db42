//! Migrations from their beginning on: locks on nodes, claims that the locks defer, and reports of appliances. Their end
//! is in `migration_end`; the transition table is in docs/migration-board.md.

use super::{Board, Now, Outcome, Principal, Refusal, Ticket, state::OPERATOR};
use crate::model::{
    Claim, Deferred, EventKind, HostRef, HostReport, MAX_CAUSES, MAX_DEFERRED, MAX_MIGRATING, MAX_REPORTS,
    MigratingNode, Migration, MigrationState, Report,
};
use stopover_net::{HostName, Mac, Vni};

/// Ended migrations kept.
pub const MIGRATIONS_KEPT: usize = 512;

/// The arguments of [`Board::begin_migration`].
pub(super) struct Begin {
    pub nodes: Vec<(Vni, Mac)>,
    pub source: HostName,
    pub target: Option<HostName>,
    pub cause: String,
    pub lease_ms: u64,
    pub renew: Option<u64>,
}

pub(super) fn migration_outcome(m: &Migration, revision: u64) -> Outcome {
    Outcome::Migration { id: m.id, generation: m.generation, state: m.state, revision }
}

/// Its nodes, for messages.
pub(super) fn list_nodes(m: &Migration) -> String {
    m.nodes.iter().map(|n| format!("{} in VNI {}", n.mac, n.vni)).collect::<Vec<_>>().join(", ")
}

impl Board {
    pub(super) fn principal_host(&mut self, now: Now, by: &Principal) -> Result<Option<u32>, Refusal> {
        match by {
            Principal::Host(session) => self.check_session(now, session).map(Some),
            Principal::Operator => Ok(None),
        }
    }

    pub(super) fn host_ref(&self, name: &HostName) -> Result<HostRef, Refusal> {
        Ok(HostRef { id: self.known_host(name)?, name: name.clone() })
    }

    pub(super) fn is_up(&self, id: u32) -> bool {
        self.state.hosts.get(&id).is_some_and(|h| h.record.up)
    }

    pub(super) fn begin_migration(
        &mut self,
        now: Now,
        by: &Principal,
        begin: Begin,
    ) -> Result<Outcome, Refusal> {
        let claimant = self.principal_host(now, by)?;
        if let Some(id) = begin.renew {
            match self.state.migrations.get(&id) {
                None => return Err(Refusal::NotFound(format!("there is no migration {id} to renew"))),
                Some(m) if m.state != MigrationState::Locked => return Err(self.already_ended(m)),
                Some(_) => {}
            }
        }
        let source = self.host_ref(&begin.source)?;
        let target = begin.target.as_ref().map(|t| self.host_ref(t)).transpose()?;
        if let Some(id) = claimant
            && id != source.id
            && target.as_ref().is_none_or(|t| t.id != id)
        {
            return Err(Refusal::Conflict(format!(
                "host {} may begin a migration only from or to itself",
                self.state.name(id)
            )));
        }
        let mut others = Vec::new();
        for (vni, mac) in &begin.nodes {
            self.may_move(*vni, *mac, &source, claimant)?;
            if let Some(m) = self.state.locked_by(*vni, *mac)
                && !others.contains(&m.id)
            {
                others.push(m.id);
            }
        }
        let migration = match others[..] {
            [] => {
                self.check_new_migration()?;
                self.new_migration(now, claimant, source, target, &begin)
            }
            [id] => self.join_migration(now, id, target, &begin)?,
            _ => {
                return Err(Refusal::Conflict(format!(
                    "the nodes are locked by several migrations ({}): end them first, or lock nodes of one VM \
                     together",
                    others.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
                )));
            }
        };
        Ok(migration)
    }

    fn may_move(&self, vni: Vni, mac: Mac, source: &HostRef, claimant: Option<u32>) -> Result<(), Refusal> {
        let Some(node) = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&mac)) else {
            return Err(Refusal::NotFound(format!("there is no node {mac} in VNI {vni} to migrate")));
        };
        if node.host != source.id {
            return Err(Refusal::Conflict(format!(
                "node {mac} in VNI {vni} is on host {}, not on {} (generation {}){}",
                self.state.name(node.host),
                source.name,
                node.generation(),
                self.moved_note(vni, mac, source.id)
            )));
        }
        if node.claimant == OPERATOR && claimant.is_some() {
            return Err(Refusal::Conflict(format!(
                "node {mac} in VNI {vni} was declared by the operator: only the operator migrates it"
            )));
        }
        Ok(())
    }

    /// For the refusal of a claim or lock by a host from which a migration has moved the node.
    pub(super) fn moved_note(&self, vni: Vni, mac: Mac, from: u32) -> String {
        let moved = self.state.last_migration.get(&(vni, mac)).and_then(|id| self.state.migrations.get(id));
        match moved.filter(|m| m.source.id == from) {
            Some(m) => format!(
                "; migration {} moved it from {} to {} at revision {}: if it runs on {} after all, begin a \
                 migration back",
                m.id,
                m.source.name,
                m.target.as_ref().map_or("?", |t| t.name.as_str()),
                m.revision,
                m.source.name
            ),
            None => String::new(),
        }
    }

    fn new_migration(
        &mut self,
        now: Now,
        claimant: Option<u32>,
        source: HostRef,
        target: Option<HostRef>,
        begin: &Begin,
    ) -> Outcome {
        let id = self.state.migrations.last_key_value().map_or(0, |(id, _)| *id) + 1;
        let mut nodes: Vec<_> = begin
            .nodes
            .iter()
            .map(|(vni, mac)| MigratingNode { vni: *vni, mac: *mac, released: false })
            .collect();
        nodes.sort_unstable_by_key(|n| (n.vni, n.mac));
        let owner = claimant
            .and_then(|id| Some(HostRef { id, name: self.state.hosts.get(&id)?.record.name.clone() }));
        let m = Migration {
            id,
            generation: self.state.next_revision(),
            nodes,
            source,
            target,
            owner,
            causes: vec![begin.cause.clone()],
            lease_ms: begin.lease_ms,
            state: MigrationState::Locked,
            reason: String::new(),
            deferred: Vec::new(),
            locked_unix_ms: now.unix_ms,
            deferred_unix_ms: 0,
            ended_unix_ms: 0,
            switched_unix_ms: 0,
            revision: 0,
            waiting: Vec::new(),
            missed: Vec::new(),
            reports: Vec::new(),
        };
        let to = m.target.as_ref().map_or(String::new(), |t| format!(" to {}", t.name));
        let text = format!(
            "migration {id} of {} from {}{to} has begun ({})",
            list_nodes(&m),
            m.source.name,
            begin.cause
        );
        self.push_event(EventKind::Migration, text);
        self.leases.set(id, now.lease_ms + begin.lease_ms);
        let outcome = migration_outcome(&m, 0);
        self.state.put_migration(id, Some(Box::new(m)));
        outcome
    }

    /// Adds to a migration that another caller has begun, or renews its lease.
    fn join_migration(
        &mut self,
        now: Now,
        id: u64,
        target: Option<HostRef>,
        begin: &Begin,
    ) -> Result<Outcome, Refusal> {
        let Some(mut m) = self.state.migrations.get(&id).cloned() else {
            return Err(Refusal::NotFound(format!("there is no migration {id}")));
        };
        match (&m.target, target) {
            (Some(known), Some(other)) if known.id != other.id => {
                return Err(Refusal::Conflict(format!(
                    "{} is locked by migration {id} to host {}, not to {}: abort that one first",
                    list_nodes(&m),
                    known.name,
                    other.name
                )));
            }
            (None, Some(target)) => {
                m.deferred.retain(|d| d.host.id == target.id);
                m.target = Some(target);
            }
            _ => {}
        }
        for (vni, mac) in &begin.nodes {
            if !m.has_node(*vni, *mac) {
                m.nodes.push(MigratingNode { vni: *vni, mac: *mac, released: false });
            }
        }
        if m.nodes.len() > MAX_MIGRATING {
            return Err(Refusal::Conflict(format!(
                "migration {id} would have more than {MAX_MIGRATING} nodes"
            )));
        }
        m.nodes.sort_unstable_by_key(|n| (n.vni, n.mac));
        if !m.causes.contains(&begin.cause) && m.causes.len() < MAX_CAUSES {
            m.causes.push(begin.cause.clone());
        }
        let until = now.lease_ms + begin.lease_ms;
        if self.leases.get(id).is_none_or(|lease| until > lease) {
            self.leases.set(id, until);
            m.lease_ms = begin.lease_ms;
        }
        let outcome = migration_outcome(&m, 0);
        self.state.put_migration(id, Some(Box::new(m)));
        Ok(outcome)
    }

    pub(super) fn migration_by_ticket(&self, ticket: Ticket) -> Result<Migration, Refusal> {
        let Ticket { migration: id, generation } = ticket;
        let Some(m) = self.state.migrations.get(&id) else {
            return Err(Refusal::NotFound(format!(
                "there is no migration {id}; the last {MIGRATIONS_KEPT} that ended are remembered"
            )));
        };
        if m.generation != generation {
            return Err(Refusal::Stale(format!(
                "migration {id} has generation {}, not {generation}: take both from the answer to `begin`",
                m.generation
            )));
        }
        Ok(m.clone())
    }

    /// A claim of a locked node by a host that does not hold it. It is recorded, or refused if the host is not the target.
    pub(super) fn defer(&mut self, now: Now, host: u32, claim: Claim) -> Result<u64, String> {
        let Some(m) = self.state.locked_by(claim.vni, claim.mac) else { return Err("not locked".into()) };
        let mut m = m.clone();
        let Claim { vni, mac, .. } = claim;
        if let Some(target) = m.target.as_ref().filter(|t| t.id != host) {
            return Err(format!(
                "MAC {mac} in VNI {vni} is held by host {}, and migration {} moves it to {}: abort that one first",
                m.source.name, m.id, target.name
            ));
        }
        let same = |d: &Deferred| d.host.id == host && (d.claim.vni, d.claim.mac) == (vni, mac);
        let Some(name) = self.state.hosts.get(&host).map(|h| h.record.name.clone()) else {
            return Err(format!("host #{host} no longer exists"));
        };
        let deferred = Deferred { host: HostRef { id: host, name }, claim };
        match m.deferred.iter().position(same) {
            Some(i) => m.deferred[i] = deferred,
            None if m.deferred.len() >= MAX_DEFERRED => {
                return Err(format!("too many hosts claim the nodes of migration {}", m.id));
            }
            None => m.deferred.push(deferred),
        }
        if m.deferred_unix_ms == 0 {
            m.deferred_unix_ms = now.unix_ms;
        }
        let id = m.id;
        self.state.put_migration(id, Some(Box::new(m)));
        Ok(id)
    }

    /// Records whether the holder of a locked node still has it. False if the node is not locked.
    pub(super) fn set_released(&mut self, vni: Vni, mac: Mac, released: bool) -> bool {
        let Some(mut m) = self.state.locked_by(vni, mac).cloned() else { return false };
        for node in m.nodes.iter_mut().filter(|n| (n.vni, n.mac) == (vni, mac)) {
            node.released = released;
        }
        self.state.put_migration(m.id, Some(Box::new(m)));
        true
    }

    /// Removes the deferred claims of a host.
    pub(super) fn drop_deferred(&mut self, host: u32, matches: impl Fn(&Claim) -> bool) {
        let ids: Vec<_> = self.state.active.iter().copied().collect();
        for id in ids {
            let deferred = |m: &&Migration| m.deferred.iter().any(|d| d.host.id == host && matches(&d.claim));
            let Some(mut m) = self.state.migrations.get(&id).filter(deferred).cloned() else { continue };
            m.deferred.retain(|d| d.host.id != host || !matches(&d.claim));
            self.state.put_migration(id, Some(Box::new(m)));
        }
    }

    pub(super) fn report_migration(
        &mut self,
        host: u32,
        ticket: Ticket,
        report: Report,
    ) -> Result<Outcome, Refusal> {
        let mut m = self.migration_by_ticket(ticket)?;
        let Some(name) = self.state.hosts.get(&host).map(|h| h.record.name.clone()) else {
            return Err(Refusal::NotFound(format!("there is no host #{host}")));
        };
        let outcome = migration_outcome(&m, self.state.revision);
        match m.reports.iter().position(|r| r.host >= name) {
            Some(i) if m.reports[i].host == name => m.reports[i].report = report,
            _ if m.reports.len() >= MAX_REPORTS => {
                return Err(Refusal::Conflict(format!(
                    "{MAX_REPORTS} hosts have reported on migration {} already",
                    m.id
                )));
            }
            place => m.reports.insert(place.unwrap_or(m.reports.len()), HostReport { host: name, report }),
        }
        self.state.put_migration(m.id, Some(Box::new(m)));
        Ok(outcome)
    }
}

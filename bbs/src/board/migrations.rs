//! Migrations: locks on nodes, claims deferred by them, and how they end. The transition table is in
//! docs/migration-board.md.
//!
//! Whatever happens, [`Board::settle`] runs after it and ends every migration that cannot go on: nothing else has
//! to remember that locks exist for locks not to be left behind.

use super::{
    Board, Now, Outcome, Party, Refusal, Ticket,
    nodes::Holder,
    state::{EARLIER, NodeState, OPERATOR},
};
use crate::model::{
    Claim, DeclaredBy, Deferred, EventKind, HostRef, HostReport, MAX_CAUSES, MAX_DEFERRED, MAX_MOVING,
    MAX_REPORTS, Migration, MigrationState, Moving, Report,
};
use stopover_config::net::{HostName, Mac, Vni};

/// Ended migrations kept.
pub const MIGRATIONS_KEPT: usize = 512;

/// What `begin` was asked for.
pub(super) struct Begin {
    pub nodes: Vec<(Vni, Mac)>,
    pub source: HostName,
    pub target: Option<HostName>,
    pub cause: String,
    pub lease_ms: u64,
    pub renew: Option<u64>,
}

fn stands(m: &Migration, revision: u64) -> Outcome {
    Outcome::Migration { id: m.id, generation: m.generation, state: m.state, revision }
}

fn list(m: &Migration) -> String {
    m.nodes.iter().map(|n| format!("{} in VNI {}", n.mac, n.vni)).collect::<Vec<_>>().join(", ")
}

impl Board {
    fn party(&mut self, now: Now, by: &Party) -> Result<Option<u32>, Refusal> {
        match by {
            Party::Host(session) => self.speaking(now, session).map(Some),
            Party::Operator => Ok(None),
        }
    }

    fn host_ref(&self, name: &HostName) -> Result<HostRef, Refusal> {
        Ok(HostRef { id: self.known_host(name)?, name: name.clone() })
    }

    fn is_up(&self, id: u32) -> bool {
        self.state.hosts.get(&id).is_some_and(|h| h.record.up)
    }

    pub(super) fn begin_migration(&mut self, now: Now, by: &Party, begin: Begin) -> Result<Outcome, Refusal> {
        let speaker = self.party(now, by)?;
        if let Some(id) = begin.renew {
            match self.state.migrations.get(&id) {
                None => return Err(Refusal::NotFound(format!("there is no migration {id} to renew"))),
                Some(m) if m.state != MigrationState::Locked => return Err(self.ended(m)),
                Some(_) => {}
            }
        }
        let source = self.host_ref(&begin.source)?;
        let target = begin.target.as_ref().map(|t| self.host_ref(t)).transpose()?;
        if let Some(id) = speaker
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
            self.may_move(*vni, *mac, &source, speaker)?;
            if let Some(m) = self.state.locked_by(*vni, *mac)
                && !others.contains(&m.id)
            {
                others.push(m.id);
            }
        }
        let migration = match others[..] {
            [] => self.new_migration(now, speaker, source, target, &begin),
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

    fn may_move(&self, vni: Vni, mac: Mac, source: &HostRef, speaker: Option<u32>) -> Result<(), Refusal> {
        let Some(node) = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&mac)) else {
            return Err(Refusal::NotFound(format!("there is no node {mac} in VNI {vni} to migrate")));
        };
        if node.host != source.id {
            return Err(Refusal::Conflict(format!(
                "node {mac} in VNI {vni} is on host {}, not on {} (generation {}){}",
                self.state.name(node.host),
                source.name,
                node.generation,
                self.moved_note(vni, mac, source.id)
            )));
        }
        if node.speaker == OPERATOR && speaker.is_some() {
            return Err(Refusal::Conflict(format!(
                "node {mac} in VNI {vni} was declared by the operator, who alone migrates it"
            )));
        }
        Ok(())
    }

    /// Of a claim or lock by a host from which a migration has taken the node.
    pub(super) fn moved_note(&self, vni: Vni, mac: Mac, from: u32) -> String {
        let moved = self.state.moved.get(&(vni, mac)).and_then(|id| self.state.migrations.get(id));
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
        speaker: Option<u32>,
        source: HostRef,
        target: Option<HostRef>,
        begin: &Begin,
    ) -> Outcome {
        let id = self.state.migrations.last_key_value().map_or(0, |(id, _)| *id) + 1;
        let mut nodes: Vec<_> =
            begin.nodes.iter().map(|(vni, mac)| Moving { vni: *vni, mac: *mac, let_go: false }).collect();
        nodes.sort_unstable_by_key(|n| (n.vni, n.mac));
        let owner =
            speaker.and_then(|id| Some(HostRef { id, name: self.state.hosts.get(&id)?.record.name.clone() }));
        let m = Migration {
            id,
            generation: self.state.coming(),
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
        let text =
            format!("migration {id} of {} from {}{to} has begun ({})", list(&m), m.source.name, begin.cause);
        self.say(EventKind::Migration, text);
        self.leases.insert(id, now.lease_ms + begin.lease_ms);
        let outcome = stands(&m, 0);
        self.state.put_migration(id, Some(Box::new(m)));
        outcome
    }

    /// The same migration, seen by another, or its lease renewed.
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
                    list(&m),
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
            if !m.moves(*vni, *mac) {
                m.nodes.push(Moving { vni: *vni, mac: *mac, let_go: false });
            }
        }
        if m.nodes.len() > MAX_MOVING {
            return Err(Refusal::Conflict(format!("migration {id} would have more than {MAX_MOVING} nodes")));
        }
        m.nodes.sort_unstable_by_key(|n| (n.vni, n.mac));
        if !m.causes.contains(&begin.cause) && m.causes.len() < MAX_CAUSES {
            m.causes.push(begin.cause.clone());
        }
        let until = now.lease_ms + begin.lease_ms;
        let lease = self.leases.entry(id).or_default();
        if until > *lease {
            *lease = until;
            m.lease_ms = begin.lease_ms;
        }
        let outcome = stands(&m, 0);
        self.state.put_migration(id, Some(Box::new(m)));
        Ok(outcome)
    }

    fn ticketed(&self, ticket: Ticket) -> Result<Migration, Refusal> {
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

    fn may_end(&self, m: &Migration, speaker: Option<u32>) -> Result<(), Refusal> {
        let Some(id) = speaker else { return Ok(()) };
        let ends = id == m.source.id
            || m.target.as_ref().is_some_and(|t| t.id == id)
            || m.deferred.iter().any(|d| d.host.id == id);
        if ends {
            return Ok(());
        }
        Err(Refusal::Conflict(format!(
            "host {} is neither source nor target of migration {}",
            self.state.name(id),
            m.id
        )))
    }

    /// Of an attempt to end what has ended the other way.
    fn ended(&self, m: &Migration) -> Refusal {
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
        by: &Party,
        ticket: Ticket,
        at: Option<&HostName>,
        cause: &str,
    ) -> Result<Outcome, Refusal> {
        let speaker = self.party(now, by)?;
        let m = self.ticketed(ticket)?;
        self.may_end(&m, speaker)?;
        let at = at.map(|at| self.host_ref(at)).transpose()?;
        match m.state {
            MigrationState::Completed if at.is_none() || at == m.target => Ok(stands(&m, m.revision)),
            MigrationState::Completed | MigrationState::Aborted => Err(self.ended(&m)),
            MigrationState::Locked => {
                let to = self.destination(&m, at, speaker)?;
                Ok(self.complete(now, m, to, cause))
            }
        }
    }

    fn destination(
        &self,
        m: &Migration,
        at: Option<HostRef>,
        speaker: Option<u32>,
    ) -> Result<HostRef, Refusal> {
        match (at, &m.target) {
            (None, Some(target)) => return Ok(target.clone()),
            (Some(at), None) => return Ok(at),
            (Some(at), Some(target)) if at.id == target.id => return Ok(at),
            (Some(at), Some(target)) => {
                let mend = if at.id == m.source.id { "abort it" } else { "abort it and begin another" };
                return Err(Refusal::Conflict(format!(
                    "migration {} goes to host {}, not to {}: {mend}",
                    m.id, target.name, at.name
                )));
            }
            (None, None) => {}
        }
        let mut hosts: Vec<_> = m.deferred.iter().map(|d| d.host.clone()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        if let Some(own) = hosts.iter().find(|h| Some(h.id) == speaker) {
            return Ok(own.clone());
        }
        match &hosts[..] {
            [one] => Ok(one.clone()),
            [] => Err(Refusal::Conflict(format!(
                "nobody has said where migration {} goes, and no host claims its nodes yet: name the target",
                m.id
            ))),
            many => Err(Refusal::Conflict(format!(
                "hosts {} claim the nodes of migration {}: name the target",
                many.iter().map(|h| h.name.as_str()).collect::<Vec<_>>().join(", "),
                m.id
            ))),
        }
    }

    /// Every node goes to `to`, with what that host claims of it if it has claimed it already.
    fn complete(&mut self, now: Now, mut m: Migration, to: HostRef, cause: &str) -> Outcome {
        let mut gone = Vec::new();
        for node in &m.nodes {
            let deferred = m
                .deferred
                .iter()
                .find(|d| d.host.id == to.id && (d.claim.vni, d.claim.mac) == (node.vni, node.mac));
            if to.id == m.source.id && node.let_go && deferred.is_none() {
                gone.push((node.vni, node.mac));
            } else {
                self.move_node(node.vni, node.mac, &to, deferred.map(|d| &d.claim));
            }
        }
        let text = format!(
            "migration {} of {} from {} to {} is complete: {cause}",
            m.id,
            list(&m),
            m.source.name,
            to.name
        );
        self.say(EventKind::Migration, text);
        m.waiting = self.interested(&m);
        m.target = Some(to);
        let outcome = self.end(now, m, MigrationState::Completed, cause);
        for (vni, mac) in gone {
            self.state.put_node(vni, mac, None);
        }
        outcome
    }

    fn move_node(&mut self, vni: Vni, mac: Mac, to: &HostRef, claim: Option<&Claim>) {
        let Some(old) = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&mac)).cloned() else {
            return;
        };
        let generation = self.state.coming();
        let session = self.state.hosts.get(&to.id).map_or(EARLIER, |h| h.session);
        let (ips, speaker) = match claim {
            _ if old.speaker == OPERATOR => (old.ips, OPERATOR),
            None if old.host == to.id => (old.ips, old.speaker),
            None => (old.ips, session),
            Some(claim) => {
                let ips = claim.ips.iter().copied().collect();
                let taken: Vec<_> = self
                    .holders(vni, mac, &ips, to.id)
                    .into_iter()
                    .filter_map(|h| if let Holder::Ip(ip, other, _) = h { Some((ip, other)) } else { None })
                    .collect();
                for (ip, other) in &taken {
                    let text = format!("{ip} in VNI {vni} stays with node {other}: {mac} came without it");
                    self.say(EventKind::Conflict, text);
                }
                let free = ips.iter().filter(|ip| taken.iter().all(|(held, _)| held != ip)).collect();
                (free, session)
            }
        };
        self.state.put_node(vni, mac, Some(NodeState { ips, generation, host: to.id, speaker }));
    }

    /// Appliances that forward in the migration's networks.
    fn interested(&self, m: &Migration) -> Vec<HostRef> {
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
        m.revision = self.state.coming();
        let outcome = stands(&m, m.revision);
        self.leases.remove(&m.id);
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
        by: &Party,
        ticket: Ticket,
        cause: &str,
    ) -> Result<Outcome, Refusal> {
        let speaker = self.party(now, by)?;
        let m = self.ticketed(ticket)?;
        self.may_end(&m, speaker)?;
        match m.state {
            MigrationState::Aborted => Ok(stands(&m, m.revision)),
            MigrationState::Completed => Err(self.ended(&m)),
            MigrationState::Locked => Ok(self.abort(now, m, cause)),
        }
    }

    /// The nodes stay where they are; those the source has let go of are deleted.
    fn abort(&mut self, now: Now, m: Migration, cause: &str) -> Outcome {
        let gone: Vec<_> = m.nodes.iter().filter(|n| n.let_go).map(|n| (n.vni, n.mac)).collect();
        let text = format!("migration {} of {} from {} is aborted: {cause}", m.id, list(&m), m.source.name);
        self.say(EventKind::Migration, text);
        let outcome = self.end(now, m, MigrationState::Aborted, cause);
        for (vni, mac) in gone {
            self.state.put_node(vni, mac, None);
        }
        outcome
    }

    /// Aborts those that a deletion makes meaningless.
    pub(super) fn abort_where(&mut self, now: Now, cause: &str, meant: impl Fn(&Migration) -> bool) {
        let ids: Vec<_> = self.state.active.iter().copied().collect();
        for id in ids {
            if let Some(m) = self.state.migrations.get(&id).filter(|m| meant(m)).cloned() {
                self.abort(now, m, cause);
            }
        }
    }

    /// A claim of a locked node by a host that does not hold it: recorded, or refused if it is not the target's.
    pub(super) fn defer(&mut self, now: Now, host: u32, claim: Claim) -> Result<u64, String> {
        let Some(m) = self.state.locked_by(claim.vni, claim.mac) else { return Err("not locked".into()) };
        let mut m = m.clone();
        let Claim { vni, mac, .. } = claim;
        if let Some(target) = m.target.as_ref().filter(|t| t.id != host) {
            return Err(format!(
                "MAC {mac} in VNI {vni} is held by host {}, and migration {} takes it to {}: abort that one first",
                m.source.name, m.id, target.name
            ));
        }
        let same = |d: &Deferred| d.host.id == host && (d.claim.vni, d.claim.mac) == (vni, mac);
        let Some(name) = self.state.hosts.get(&host).map(|h| h.record.name.clone()) else {
            return Err(format!("host #{host} is gone"));
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

    /// The holder of a locked node says that it has it (or, `let_go`, has it no more). False if it is not locked.
    pub(super) fn held(&mut self, vni: Vni, mac: Mac, let_go: bool) -> bool {
        let Some(mut m) = self.state.locked_by(vni, mac).cloned() else { return false };
        for node in m.nodes.iter_mut().filter(|n| (n.vni, n.mac) == (vni, mac)) {
            node.let_go = let_go;
        }
        self.state.put_migration(m.id, Some(Box::new(m)));
        true
    }

    /// A host takes back claims that were deferred.
    pub(super) fn drop_deferred(&mut self, host: u32, meant: impl Fn(&Claim) -> bool) {
        let ids: Vec<_> = self.state.active.iter().copied().collect();
        for id in ids {
            let Some(mut m) = self.state.migrations.get(&id).cloned() else { continue };
            m.deferred.retain(|d| d.host.id != host || !meant(&d.claim));
            self.state.put_migration(id, Some(Box::new(m)));
        }
    }

    pub(super) fn report_migration(
        &mut self,
        host: u32,
        ticket: Ticket,
        report: Report,
    ) -> Result<Outcome, Refusal> {
        let mut m = self.ticketed(ticket)?;
        let Some(name) = self.state.hosts.get(&host).map(|h| h.record.name.clone()) else {
            return Err(Refusal::NotFound(format!("there is no host #{host}")));
        };
        let outcome = stands(&m, self.state.revision);
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

    pub(super) fn acked(&mut self, now: Now, acks: &[(HostName, u64)]) {
        let ids: Vec<_> = self.state.barriers.iter().copied().collect();
        for id in ids {
            let Some(mut m) = self.state.migrations.get(&id).cloned() else { continue };
            let revision = m.revision;
            m.waiting.retain(|h| !acks.iter().any(|(name, acked)| *name == h.name && *acked >= revision));
            if m.waiting.is_empty() {
                m.switched_unix_ms = now.unix_ms;
            }
            self.state.put_migration(id, Some(Box::new(m)));
        }
    }

    /// Ends what cannot go on. After every command.
    pub(super) fn settle(&mut self, now: Now) {
        let ids: Vec<_> = self.state.active.iter().copied().collect();
        for id in ids {
            let Some(m) = self.state.migrations.get(&id) else { continue };
            let source_down = !self.is_up(m.source.id);
            let expired = self.leases.get(&id).is_none_or(|until| *until <= now.lease_ms);
            let owner_down = m.owner.as_ref().is_some_and(|o| !self.is_up(o.id));
            let let_go = m.nodes.iter().filter(|n| n.let_go).count();
            let target = self.live_claimant(m);
            let claimed = |host: u32| {
                let by = m.deferred.iter().filter(|d| d.host.id == host);
                by.count() == m.nodes.len()
            };
            let (to, why) = match target {
                Some(to) if source_down => (Some(to), "the source host is down, and the target claims"),
                Some(to) if let_go == m.nodes.len() && claimed(to.id) => {
                    (Some(to), "the source has let go, and the target claims")
                }
                Some(to) if (expired || owner_down) && let_go > 0 => {
                    (Some(to), "its lease ended after the source had let go, and the target claims")
                }
                _ if expired => (None, "its lease has run out"),
                _ if owner_down => (None, "the host that began it is down"),
                _ => continue,
            };
            let m = m.clone();
            // At most five changes a node: membership there, node, lock, and membership here.
            self.state.make_room(MAX_MOVING * 5);
            match to {
                Some(to) => self.complete(now, m, to, why),
                None => self.abort(now, m, why),
            };
        }
        let ids: Vec<_> = self.state.barriers.iter().copied().collect();
        for id in ids {
            let Some(mut m) = self.state.migrations.get(&id).cloned() else { continue };
            let (waiting, missed) = m.waiting.into_iter().partition(|h| self.is_up(h.id));
            m.waiting = waiting;
            m.missed.extend::<Vec<_>>(missed);
            if m.waiting.is_empty() {
                m.switched_unix_ms = now.unix_ms;
            }
            self.state.put_migration(id, Some(Box::new(m)));
        }
    }

    /// A host that is up and claims a node of the migration; the target before others, later claims before earlier.
    fn live_claimant(&self, m: &Migration) -> Option<HostRef> {
        let mut live = m.deferred.iter().rev().map(|d| &d.host).filter(|h| self.is_up(h.id));
        live.next().cloned()
    }
}

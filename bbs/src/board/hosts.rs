//! Hosts that register by their appliance: registration, leases, fencing. Enters: registrations, heartbeats, watches that
//! open and close, time. Leaves: sessions, and hosts that are up or down.

use super::{
    Board, CONFLICTS_REMEMBERED, DONE, Now, Outcome, Refusal, Relation, Session,
    record::{HostRecord, NextHost, NextHostKey},
    state::{EARLIER, OPERATOR, Undo},
};
use crate::{
    model::{DeclaredBy, EventKind, Registration, Uuid},
    table::Write,
};
use std::net::IpAddr;
use stopover_net::HostName;

/// Whether a registration names the same VTEPs, in any order.
fn same_vteps(record: &HostRecord, r: &Registration) -> bool {
    let sorted = |vteps: &[IpAddr]| {
        let mut vteps = vteps.to_vec();
        vteps.sort_unstable();
        vteps
    };
    record.udp_port == r.udp_port && sorted(&record.vteps) == sorted(&r.vteps)
}

fn list_vteps(vteps: &[IpAddr], port: u16) -> String {
    let vteps: Vec<_> = vteps.iter().map(IpAddr::to_string).collect();
    format!("VTEP {} port {port}", vteps.join(", "))
}

impl Board {
    pub(super) fn register(&mut self, now: Now, r: Registration) -> Result<Outcome, Refusal> {
        let forked = self.compare_lineage(&r)?;
        let known = self.state.by_name.get(&r.host).copied();
        let free = self.vteps_are_free(&r.vteps, r.udp_port, known);
        if let Err(refusal) = free.and_then(|()| self.may_register(now, &r, known)) {
            let Registration { host, instance, .. } = &r;
            let text =
                format!("registration of host {host} by instance {} refused: {refusal}", instance.simple());
            self.push_event_once(EventKind::Conflict, text);
            return Err(refusal);
        }
        if known.is_none() {
            self.check_new_host()?;
        }
        let id = known.unwrap_or_else(|| self.new_host_id());
        let before = self.state.hosts.get(&id).map(|h| (h.record.up, h.session, h.instance));
        let declared =
            self.state.hosts.get(&id).is_some_and(|h| h.record.declared_by == DeclaredBy::Operator);
        let new_key = self.new_key(id, &r);
        let record = HostRecord {
            name: r.host.clone(),
            vteps: r.vteps,
            udp_port: r.udp_port,
            declared_by: DeclaredBy::Appliance,
            up: true,
            no_flood: false,
            down_unix_ms: 0,
            details: *r.details,
        };
        self.state.put_host(id, Some(record));
        self.sessions += 1;
        let session = self.sessions;
        if let Some(host) = self.state.hosts.get_mut(&id) {
            host.begin_session(session);
            host.instance = r.instance;
            host.lease_until = now.lease_ms + self.settings.lease_ms;
        }
        if before.is_some_and(|(_, _, instance)| instance != r.instance) {
            // Nodes that an earlier process saw may be unknown to this one. It claims again what it sees.
            self.drop_deferred(id, |_| true);
        }
        self.push_registered(&r.host, r.instance, before, declared);
        if let Some(text) = new_key {
            self.push_event(EventKind::HostReplaced, text);
        }
        if let Some(text) = forked {
            self.push_event_once(EventKind::Lineage, text);
        }
        let number = u64::from(self.settings.run) << 32 | u64::from(session);
        Ok(Outcome::Registered { host_id: id, session: number, revision: 0 })
    }

    /// What the operator has to know if the host had another key before: by its key other hosts know it.
    fn new_key(&self, id: u32, r: &Registration) -> Option<String> {
        let before = self.state.hosts.get(&id)?.record.details.public_key?;
        let now = r.details.public_key;
        (now != Some(before)).then(|| {
            let now = now.map_or_else(|| "no public key".to_owned(), |key| format!("the public key {key}"));
            format!("host {} has {now} now, and had {before} before", r.host)
        })
    }

    /// The event of a registration. `before`: whether the host was up, its session and its process.
    fn push_registered(
        &mut self,
        host: &HostName,
        new: Uuid,
        before: Option<(bool, u32, Uuid)>,
        declared: bool,
    ) {
        match before {
            _ if declared => {
                let text = format!(
                    "host {host}, which the operator declared with the same VTEPs, is registered by its own appliance now"
                );
                self.push_event(EventKind::TakenOver, text);
            }
            Some((true, old, instance)) if old != 0 && instance != new => {
                let text = format!(
                    "host {host}: instance {} has registered and replaces {}, whose connection has ended",
                    new.simple(),
                    instance.simple()
                );
                self.push_event(EventKind::HostReplaced, text);
            }
            Some((true, ..)) => {}
            _ => self.push_event(EventKind::HostUp, format!("host {host} has registered")),
        }
    }

    /// Whether a process may register a host of this name. The process that is registered may, over any connection.
    /// Another process may if the registered one has ended: its lease has expired, or the VTEPs are the same (it is the
    /// same machine) and the watch of the earlier process has closed. So two machines of one name do not alternate.
    fn may_register(&self, now: Now, r: &Registration, id: Option<u32>) -> Result<(), Refusal> {
        let Some(host) = id.and_then(|id| self.state.hosts.get(&id)) else { return Ok(()) };
        let record = &host.record;
        let same = same_vteps(record, r);
        if record.declared_by == DeclaredBy::Operator {
            if same {
                return Ok(());
            }
            return Err(Refusal::Conflict(format!(
                "host {} was declared by the operator with {}, and this appliance has {}: give the appliance the same \
                 VTEPs, or delete the declaration first",
                r.host,
                list_vteps(&record.vteps, record.udp_port),
                list_vteps(&r.vteps, r.udp_port),
            )));
        }
        let alive = record.up && host.lease_until > now.lease_ms;
        let own = host.session != 0 && host.instance == r.instance;
        // A session that has not opened its watch yet may still be in use. After a restart of the board the same holds
        // for the process of before, if the VTEPs differ.
        let previous_closed = host.session == 0 || (host.watched && host.watches == 0);
        if own || !alive || (same && previous_closed) {
            return Ok(());
        }
        let vteps = list_vteps(&record.vteps, record.udp_port);
        let holder = match (host.session, host.peer.as_str()) {
            (0, _) => format!("{vteps}, registered before the board started"),
            (_, "") => format!("instance {}, {vteps}", host.instance.simple()),
            (_, peer) => format!("instance {}, {vteps}, connected from {peer}", host.instance.simple()),
        };
        Err(Refusal::Conflict(format!(
            "host {} is held by another appliance, which is alive ({holder}): give one of the two another `name`; if it \
             is to replace the other, stop that one first",
            r.host
        )))
    }

    /// The session's watch is open; a sign of life.
    pub(super) fn watch_opened(
        &mut self,
        now: Now,
        session: &Session,
        peer: String,
    ) -> Result<Outcome, Refusal> {
        let id = self.check_session(now, session)?;
        if let Some(host) = self.state.hosts.get_mut(&id) {
            host.watches += 1;
            host.watched = true;
            host.peer = peer;
        }
        Ok(DONE)
    }

    /// The session's watch has closed. Not a sign of life.
    pub(super) fn watch_closed(&mut self, session: &Session) {
        let id = self.current(session);
        if let Some(host) = id.and_then(|id| self.state.hosts.get_mut(&id)) {
            host.watches = host.watches.saturating_sub(1);
        }
    }

    /// The host of a session, if the session is the host's current one.
    pub(super) fn current(&self, session: &Session) -> Option<u32> {
        let id = *self.state.by_name.get(&session.host)?;
        (self.session_of(id)? == session.number).then_some(id)
    }

    fn session_of(&self, id: u32) -> Option<u64> {
        let session = self.state.hosts.get(&id)?.session;
        (session != 0).then(|| u64::from(self.settings.run) << 32 | u64::from(session))
    }

    /// The session of this host, if no watch names it yet: for a watcher of an older version that cannot name one.
    #[must_use]
    pub fn unwatched_session(&self, host: &HostName) -> Option<u64> {
        let id = *self.state.by_name.get(host)?;
        self.session_of(id).filter(|_| self.state.hosts.get(&id).is_some_and(|h| h.watches == 0))
    }

    /// Refuses a host that holds another board's state. Returns the text of an event if the host holds the state of
    /// another branch of this board's history.
    fn compare_lineage(&mut self, r: &Registration) -> Result<Option<String>, Refusal> {
        let (Some(lineage), Some(held)) = (self.lineage.clone(), &r.holds) else { return Ok(None) };
        let (host, now) = (&r.host, self.state.revision);
        match lineage.relation(held, now) {
            Relation::Same | Relation::Unknown => Ok(None),
            Relation::OtherBranch => Ok(Some(format!(
                "host {host} holds revision {} of another branch of this board's history, which is at revision {now}: \
                 the store was restored from a backup. The host is sent a snapshot and claims its nodes again; what \
                 the operator declared after the backup is lost",
                held.revision
            ))),
            Relation::OtherBoard => {
                let why = format!(
                    "host {host} forwards by board {}; this is board {}: the host keeps what it has; hint: if this \
                     board takes the place of that one, run `stopover board accept` at the host; if not, correct \
                     `board` in its configuration",
                    held.board.simple(),
                    lineage.board().simple()
                );
                self.push_event_once(EventKind::Lineage, why.clone());
                Err(Refusal::OtherBoard(why))
            }
        }
    }

    /// A refused host tries again and again; only the first refusal is an event.
    pub(super) fn push_event_once(&mut self, kind: EventKind, text: String) {
        if self.host_conflicts.len() >= CONFLICTS_REMEMBERED {
            self.host_conflicts.clear();
        }
        if self.host_conflicts.insert(text.clone()) {
            self.push_event(kind, text);
        }
    }

    /// Refuses VTEPs that another host has.
    pub(super) fn vteps_are_free(
        &self,
        vteps: &[IpAddr],
        port: u16,
        own: Option<u32>,
    ) -> Result<(), Refusal> {
        for vtep in vteps {
            if let Some(holder) = self.state.by_vtep.get(&(*vtep, port)).filter(|h| Some(**h) != own) {
                let up = self.state.hosts.get(holder).is_some_and(|h| h.record.up);
                return Err(Refusal::Conflict(format!(
                    "VTEP {vtep} port {port} is held by host {} ({}): give this host another address, or delete \
                     that host if it no longer exists",
                    self.state.name(*holder),
                    if up { "up" } else { "down" },
                )));
            }
        }
        Ok(())
    }

    pub(super) fn new_host_id(&mut self) -> u32 {
        let id = self.state.next_host;
        self.state.next_host += 1;
        self.state.write(|| Write::put(NextHostKey, &NextHost(id + 1)));
        self.state.push_undo(|| Undo::NextHost(id));
        id
    }

    /// The host of a session, if the session is valid. The call is a sign of life: it renews the lease, and the host is up.
    pub(super) fn check_session(&mut self, now: Now, session: &Session) -> Result<u32, Refusal> {
        let name = &session.host;
        let unregistered = || {
            Refusal::Unregistered(format!(
                "host {name} has no session {:#x} since the board started: register, then claim again",
                session.number
            ))
        };
        let id = *self.state.by_name.get(name).ok_or_else(unregistered)?;
        let host = self.state.hosts.get_mut(&id).ok_or_else(unregistered)?;
        let own_run = session.number >> 32 == u64::from(self.settings.run);
        let number = session.number as u32;
        if !own_run || host.session == 0 || number > host.session || number == 0 {
            return Err(unregistered());
        }
        if number < host.session {
            return Err(Refusal::Fenced(format!(
                "host {name} has been registered again by a later process or connection: this session is over; if \
                 two appliances have this name, rename one"
            )));
        }
        host.lease_until = now.lease_ms + self.settings.lease_ms;
        if !host.record.up {
            let record = host.record.brought_up();
            self.state.put_host(id, Some(record));
            self.push_event(EventKind::HostUp, format!("host {name} is up again"));
        }
        Ok(id)
    }

    pub(super) fn deregister(
        &mut self,
        now: Now,
        session: &Session,
        withdraw_all: bool,
    ) -> Result<Outcome, Refusal> {
        let id = self.check_session(now, session)?;
        if withdraw_all {
            self.sweep(id, |claimant| claimant != OPERATOR);
            self.drop_deferred(id, |_| true);
        }
        self.mark_down(now, id, "has deregistered");
        if let Some(host) = self.state.hosts.get_mut(&id) {
            host.begin_session(0);
        }
        Ok(DONE)
    }

    fn mark_down(&mut self, now: Now, id: u32, why: &str) {
        let Some(host) = self.state.hosts.get_mut(&id) else { return };
        host.down_since = now.lease_ms;
        host.absent_before_ms = Some(0);
        let record = HostRecord { up: false, down_unix_ms: now.unix_ms, ..host.record.clone() };
        let text = format!("host {} {why}; its {} nodes remain", record.name, host.nodes);
        self.state.put_host(id, Some(record));
        self.push_event(EventKind::HostDown, text);
    }

    /// Marks hosts down whose lease has expired. Their session remains valid, so that a late heartbeat brings them up.
    pub(super) fn tick(&mut self, now: Now) {
        let mut late: Vec<u32> = self
            .state
            .hosts
            .iter()
            .filter(|(_, h)| h.record.up && h.record.declared_by == DeclaredBy::Appliance)
            .filter(|(_, h)| h.lease_until <= now.lease_ms)
            .map(|(id, _)| *id)
            .collect();
        late.sort_unstable();
        late.truncate(self.hosts_per_tick());
        let why = format!("has been silent for {} ms and is down", self.settings.lease_ms);
        for id in late {
            self.mark_down(now, id, &why);
        }
        self.tick_absent(now);
    }

    /// Deletes a host's nodes and joins whose claimant matches. Returns the number of nodes.
    pub(super) fn sweep(&mut self, id: u32, mut matches: impl FnMut(u32) -> bool) -> u64 {
        let Some(host) = self.state.hosts.get(&id) else { return 0 };
        let networks: Vec<_> = host.networks.iter().copied().collect();
        let mut deleted = 0;
        for vni in networks {
            let Some(network) = self.state.networks.get(&vni) else { continue };
            let remove_join =
                network.members.get(&id).is_some_and(|m| m.joined.is_some() && matches(m.join_session));
            let mut macs: Vec<_> = network
                .nodes
                .iter()
                .filter(|(_, n)| n.host == id && matches(n.claimant))
                .map(|(mac, _)| *mac)
                .collect();
            // The order of a hash map must not be visible.
            macs.sort_unstable();
            deleted += macs.len() as u64;
            for mac in macs {
                if !self.set_released(vni, mac, true) {
                    self.state.put_node(vni, mac, None);
                }
            }
            if remove_join {
                self.state.set_member(vni, id, |m| (m.joined, m.join_session) = (None, EARLIER));
            }
        }
        deleted
    }
}

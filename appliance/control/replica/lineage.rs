//! The end of a snapshot, and snapshots of another branch of the board's history: the board's store was restored from
//! a backup, or the operator has accepted another board. Then a node that the snapshot does not name may still exist,
//! at a host that has not claimed it again yet; it is kept for a while. And host numbers may stand for other hosts
//! than before. Pure but for the tables it writes.

use super::{HostRecord, Replica, ReplicaCtx};
use crate::control::effects::Effect;
use crate::tables::{Full, LAST_HOST, entries::Path, peer::Peer};
use hashbrown::HashMap;
use stopover_bbs::model::Change;
use stopover_net::HostName;

/// The state while a snapshot of another branch is under way, or until everything from before it has been named again
/// or removed.
#[derive(Debug)]
pub struct Branch {
    /// Numbers of the hosts that this branch has not named yet.
    numbers: HashMap<HostName, u32>,
}

impl Branch {
    /// From the hosts known before.
    pub(super) fn of(hosts: &HashMap<u32, HostRecord>) -> Self {
        Self { numbers: hosts.iter().map(|(id, record)| (record.host.name.clone(), *id)).collect() }
    }
}

impl Replica {
    /// Whether entries are kept that the newest snapshot did not name.
    #[must_use]
    pub fn has_stale(&self) -> bool {
        self.branch.is_some() && !self.in_snapshot
    }

    /// A snapshot is complete: removes what it did not name. With a snapshot of another branch, that remains until
    /// [`Replica::remove_stale`].
    pub fn end_snapshot(&mut self, ctx: &mut ReplicaCtx) -> Result<Vec<Effect>, Full> {
        if !std::mem::take(&mut self.in_snapshot) || self.branch.is_some() {
            return Ok(Vec::new());
        }
        self.remove_stale(ctx)
    }

    /// Removes what neither the newest snapshot nor a later change named.
    pub fn remove_stale(&mut self, ctx: &mut ReplicaCtx) -> Result<Vec<Effect>, Full> {
        self.branch = None;
        self.version += 1;
        let Some(stale) = self.stale.take() else { return Ok(Vec::new()) };
        ctx.tables.sweep();
        let mut changes: Vec<Change> =
            stale.networks.into_iter().map(|vni| Change::NetworkGone { vni }).collect();
        changes.extend(stale.members.into_iter().map(|(vni, host_id)| Change::MemberGone { vni, host_id }));
        changes.extend(stale.hosts.into_iter().map(|id| Change::HostGone { id }));
        let mut effects = Vec::new();
        for change in changes {
            effects.extend(self.apply(ctx, change)?);
        }
        Ok(effects)
    }

    /// A host is put. On another branch its number may be that of another host, which then gets a number that no
    /// board assigns; and the host may have had another number, whose nodes now belong to this one.
    pub(super) fn renumber(&mut self, ctx: &mut ReplicaCtx, id: u32, name: &HostName) -> Result<(), Full> {
        if self.hosts.get(&id).is_some_and(|other| other.host.name != *name)
            && let Some(free) = (0..=LAST_HOST).rev().find(|number| !self.hosts.contains_key(number))
        {
            self.set_number(ctx, id, free)?;
        }
        let before = self.branch.as_mut().and_then(|branch| branch.numbers.remove(name));
        match before {
            Some(before) if before != id => self.set_number(ctx, before, id),
            _ => Ok(()),
        }
    }

    /// Gives host `from` the free number `to`.
    fn set_number(&mut self, ctx: &mut ReplicaCtx, from: u32, to: u32) -> Result<(), Full> {
        let Some(mut record) = self.take_host(from) else { return Ok(()) };
        record.host.id = to;
        let own = record.host.name == self.own;
        let peer = Peer::new(to);
        ctx.tables.renumber_peer(Peer::new(from), peer)?;
        for ip in record.host.vteps.iter().filter(|_| !own) {
            ctx.tables.put_vtep(*ip, peer)?;
        }
        record.path = record.path.map(|path| Path { peer, ..path });
        if let Some(number) = self.branch.as_mut().and_then(|b| b.numbers.get_mut(&record.host.name)) {
            *number = to;
        }
        self.insert_host(to, record);
        let mut stale = self.stale.take().unwrap_or_default();
        if stale.hosts.remove(&from) {
            stale.hosts.insert(to);
        }
        for (vni, network) in &mut self.networks {
            let Some(segment) = network.members.remove(&from) else { continue };
            network.members.insert(to, segment);
            if stale.members.remove(&(*vni, from)) {
                stale.members.insert((*vni, to));
            }
            self.dirty.insert(*vni);
        }
        self.stale = Some(stale);
        Ok(())
    }
}

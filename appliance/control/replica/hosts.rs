//! Hosts of the replica: their records, their VTEP addresses, and how they are reached. Enters: hosts of the board, paths
//! from the underlay. Leaves: peers, their paths and VTEPs in the tables, and which VTEP addresses are to be resolved.

use super::{Effect, HostRecord, Replica, ReplicaCtx, seal_of};
use crate::tables::{
    Full, Tables,
    entries::Path,
    peer::{Accept, PathClass, Peer},
};
use std::net::IpAddr;
use stopover_bbs::model::{DeclaredBy, Host};
use stopover_config::appliance::TunnelMode;
use stopover_net::{HostName, Vni};

/// Puts the paths of a host in force.
fn set_paths(tables: &mut Tables, peer: Peer, record: &HostRecord) -> Result<(), Full> {
    tables.set_path(peer, PathClass::Plain, record.path.clone())?;
    if record.accept == Accept::Plain {
        return Ok(());
    }
    tables.set_path(peer, PathClass::Sealed, record.sealed.clone())
}

impl Replica {
    /// The known hosts from this number on, in order.
    pub fn hosts_from(&self, id: u32) -> impl Iterator<Item = (u32, &HostRecord)> {
        self.host_ids.range(id..).filter_map(|id| Some((*id, self.hosts.get(id)?)))
    }

    /// A host by the board's number.
    #[must_use]
    pub fn host(&self, id: u32) -> Option<&HostRecord> {
        self.hosts.get(&id)
    }

    /// The largest inner layer 3 packet of a network that fits the paths to all these hosts, as far as they are known.
    #[must_use]
    pub fn min_inner_mtu(&self, vni: Vni, hosts: impl Iterator<Item = u32>) -> Option<u16> {
        let seal = seal_of(self.tunnels.as_ref(), vni);
        let path = |id| {
            let record = self.hosts.get(&id)?;
            match record.accept.class(seal) {
                PathClass::Plain => record.path.as_ref(),
                PathClass::Sealed => record.sealed.as_ref(),
            }
        };
        hosts.filter_map(|id| Some(path(id)?.inner_mtu)).min()
    }

    pub(super) fn put_host(&mut self, ctx: &mut ReplicaCtx, host: Host) -> Result<Vec<Effect>, Full> {
        if self.branch.is_some() {
            self.renumber(ctx, host.id, &host.name)?;
        }
        if let Some(stale) = &mut self.stale {
            stale.hosts.remove(&host.id);
        }
        let (id, own) = (host.id, host.name == self.own);
        let vtep = host.vteps.iter().copied().find(|ip| !own && (ctx.routable)(*ip));
        let old = self.take_host(id);
        for ip in old.iter().flat_map(|old| &old.host.vteps).filter(|ip| !host.vteps.contains(ip)) {
            self.drop_vtep(ctx, *ip, id)?;
        }
        let peer = Peer::new(id);
        let is_appliance = host.declared_by == DeclaredBy::Appliance;
        let accept = self.accept(&host.name);
        let slot = ctx.tables.put_peer(peer, is_appliance, accept)?;
        let slots = [slot, ctx.tables.slot(peer, PathClass::Sealed).unwrap_or(slot)];
        for ip in host.vteps.iter().filter(|_| !own) {
            ctx.tables.put_vtep(*ip, peer)?;
        }
        if old.as_ref().is_none_or(|old| old.host.no_flood != host.no_flood) {
            // Memberships that arrived before their host count only now.
            let named = self.networks.iter().filter(|(_, n)| n.members.contains_key(&id));
            self.dirty.extend(named.map(|(vni, _)| *vni));
        }
        let (target, before) =
            (vtep.map(|ip| (ip, host.udp_port)), old.as_ref().and_then(HostRecord::target));
        // Until another VTEP is resolved, the host receives at that of before.
        let old = old.filter(|_| target.is_some());
        let (path, sealed) = old.map_or((None, None), |old| (old.path, old.sealed));
        let record = HostRecord { host, vtep, path, sealed, slots, accept };
        set_paths(ctx.tables, peer, &record)?;
        self.insert_host(id, record);
        let mut effects: Vec<Effect> = self.peer_effect(id).filter(|_| !own).into_iter().collect();
        effects.extend(target.map(|(ip, port)| Effect::Track(ip, port)));
        let untracked = before.filter(|old| Some(*old) != target && !self.is_tracked(*old));
        effects.extend(untracked.map(|(ip, port)| Effect::Untrack(ip, port)));
        Ok(effects)
    }

    /// Chooses again where hosts are sent to: other underlay ports may be used. The path of before stays until the next hop of
    /// the new one is known.
    pub fn choose_vteps(&mut self, ctx: &mut ReplicaCtx) -> Vec<Effect> {
        let mut effects = Vec::new();
        let ids: Vec<u32> = self.host_ids.iter().copied().collect();
        for id in ids.into_iter().filter(|id| Some(*id) != self.own_id) {
            let Some(record) = self.hosts.get_mut(&id) else { continue };
            let vtep = record.host.vteps.iter().copied().find(|ip| (ctx.routable)(*ip));
            if vtep == record.vtep {
                continue;
            }
            let before = record.target();
            record.vtep = vtep;
            effects.extend(self.tunnels.is_some().then_some(Effect::Peer(id)));
            effects.extend(record.target().map(|(ip, port)| Effect::Track(ip, port)));
            let untracked = before.filter(|before| !self.is_tracked(*before));
            effects.extend(untracked.map(|(ip, port)| Effect::Untrack(ip, port)));
        }
        effects
    }

    /// What is known of a host has changed, if that concerns tunnels.
    fn peer_effect(&self, id: u32) -> Option<Effect> {
        self.tunnels.is_some().then_some(Effect::Peer(id))
    }

    /// Which datagrams of a host are accepted.
    fn accept(&self, host: &HostName) -> Accept {
        match &self.tunnels {
            None => Accept::Plain,
            Some(tunnels) => match (tunnels.hosts.get(host), tunnels.mode) {
                (Some(TunnelMode::Required), _) => Accept::Sealed,
                (Some(TunnelMode::Off), _) | (None, TunnelMode::Off) => Accept::Both,
                (None, TunnelMode::Required) => Accept::SealedUnlessOff,
            },
        }
    }

    /// Host `id`, which is not in `hosts` now, does not send from `ip` any more; another host may, with another UDP
    /// port.
    fn drop_vtep(&self, ctx: &mut ReplicaCtx, ip: IpAddr, id: u32) -> Result<(), Full> {
        ctx.tables.remove_vtep(ip, Peer::new(id));
        match self.with_vtep(ip).find(|(other, _)| Some(*other) != self.own_id) {
            Some((other, _)) => ctx.tables.put_vtep(ip, Peer::new(other)),
            None => Ok(()),
        }
    }

    /// Adds the record of a host that is not in `hosts`.
    pub(super) fn insert_host(&mut self, id: u32, record: HostRecord) {
        if record.host.name == self.own {
            self.own_id = Some(id);
        }
        for ip in &record.host.vteps {
            self.by_vtep.entry(*ip).or_default().push(id);
        }
        self.host_ids.insert(id);
        self.hosts.insert(id, record);
    }

    pub(super) fn take_host(&mut self, id: u32) -> Option<HostRecord> {
        let record = self.hosts.remove(&id)?;
        self.host_ids.remove(&id);
        self.own_id = self.own_id.filter(|own| *own != id);
        for ip in &record.host.vteps {
            if let Some(ids) = self.by_vtep.get_mut(ip) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_vtep.remove(ip);
                }
            }
        }
        Some(record)
    }

    /// Hosts with this VTEP address.
    fn with_vtep(&self, ip: IpAddr) -> impl Iterator<Item = (u32, &HostRecord)> {
        let ids = self.by_vtep.get(&ip).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.hosts.get(id)?)))
    }

    pub(super) fn remove_host(&mut self, ctx: &mut ReplicaCtx, id: u32) -> Result<Vec<Effect>, Full> {
        let Some(old) = self.take_host(id) else { return Ok(Vec::new()) };
        for ip in &old.host.vteps {
            self.drop_vtep(ctx, *ip, id)?;
        }
        ctx.tables.remove_peer(Peer::new(id));
        for (vni, record) in &mut self.networks {
            if record.members.remove(&id).is_some() {
                self.dirty.insert(*vni);
            }
        }
        let target = old.target().filter(|target| !self.is_tracked(*target));
        let mut effects: Vec<Effect> = self.peer_effect(id).into_iter().collect();
        effects.extend(target.map(|(ip, port)| Effect::Untrack(ip, port)));
        Ok(effects)
    }

    fn is_tracked(&self, target: (IpAddr, u16)) -> bool {
        self.with_vtep(target.0).any(|(_, record)| record.target() == Some(target))
    }

    /// Hosts that are reached through this VTEP address, with the UDP port each listens on.
    pub fn hosts_behind(&self, vtep: IpAddr) -> impl Iterator<Item = (u32, u16)> {
        self.with_vtep(vtep)
            .filter(move |(_, record)| record.vtep == Some(vtep))
            .map(|(id, record)| (id, record.host.udp_port))
    }

    /// Sets the paths to a host, or (`None`) removes them: what may be plain, and what is always sealed.
    pub fn set_path(
        &mut self,
        tables: &mut Tables,
        id: u32,
        (path, sealed): (Option<Path>, Option<Path>),
    ) -> Result<(), Full> {
        let Some(record) = self.hosts.get_mut(&id) else { return Ok(()) };
        (record.path, record.sealed) = (path, sealed);
        set_paths(tables, Peer::new(id), record)
    }

    /// Our number at the board, once it is known.
    #[must_use]
    pub fn own_id(&self) -> Option<u32> {
        self.own_id
    }

    /// The appliances, other than this one, that send frames of a network.
    pub fn appliances_in(&self, vni: Vni) -> impl Iterator<Item = u32> + '_ {
        let members = self.networks.get(&vni).into_iter().flat_map(|network| network.members.keys().copied());
        members.filter(|id| {
            let other = |record: &HostRecord| record.host.name != self.own && record.host.up;
            self.hosts.get(id).is_some_and(|record| other(record) && record.is_appliance())
        })
    }
}

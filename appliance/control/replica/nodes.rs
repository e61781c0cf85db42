//! Nodes of the replica: where each is, which addresses it has, and whether it is locked. Enters: nodes of the board, one
//! by one or in batches. Leaves: FDB entries and owners of addresses in the tables.

use super::{Effect, Replica, ReplicaCtx, seal_of};
use crate::tables::{
    Full, Tables,
    packed::Bd,
    peer::{IsolationClass, NetworkSeal, Peer},
};
use std::net::IpAddr;
use stopover_bbs::model::{Node, NodeBatch};
use stopover_net::{Mac, Vni};

/// How many nodes of a batch are prefetched: enough to hide the latency of memory, few enough to remain in the
/// first-level cache.
const PREFETCH_AHEAD: usize = 12;

impl Replica {
    pub(super) fn lock_node(&self, ctx: &mut ReplicaCtx, vni: Vni, mac: Mac, on: bool) {
        if let Some(bd) = self.bd_of(vni) {
            ctx.tables.set_migrating_flag(bd, mac, on);
        }
    }

    pub(super) fn put_node(
        &self,
        ctx: &mut ReplicaCtx,
        node: &Node,
        gone_ips: &[IpAddr],
    ) -> Result<Vec<Effect>, Full> {
        let Some(bd) = self.bd_of(node.vni) else { return Ok(Vec::new()) };
        let station = ctx.stations.get(bd, node.mac);
        for ip in gone_ips.iter().filter(|ip| !station.is_some_and(|station| station.ips.contains(ip))) {
            ctx.tables.clear_owner(bd, *ip, node.mac);
        }
        let (vni, mac, router) = (node.vni, node.mac, node.facts.router);
        let seal = seal_of(self.tunnels.as_ref(), vni);
        let moved =
            self.apply_node(ctx, (vni, bd, seal), (mac, router), node.host_id, node.ips.iter().copied())?;
        Ok(moved.into_iter().collect())
    }

    /// Applies many nodes of a snapshot. All are stored that can be; `on_full` is called for each that cannot.
    pub fn put_nodes(
        &self,
        ctx: &mut ReplicaCtx,
        batch: &NodeBatch,
        mut on_full: impl FnMut(Full),
    ) -> Vec<Effect> {
        let Some(bd) = self.bd_of(batch.vni) else { return Vec::new() };
        let network = (batch.vni, bd, seal_of(self.tunnels.as_ref(), batch.vni));
        let mut effects = Vec::new();
        let mut ahead = batch.nodes.iter();
        let mut prefetch = |tables: &Tables, nodes: usize| {
            for node in ahead.by_ref().take(nodes) {
                tables.prefetch(bd, node.mac, node.ipv4);
            }
        };
        prefetch(ctx.tables, PREFETCH_AHEAD);
        for (node, more) in batch.iter() {
            prefetch(ctx.tables, 1);
            let ips = node.ipv4.map(IpAddr::V4).into_iter().chain(more.iter().copied());
            let known = (node.mac, node.facts.router);
            match self.apply_node(ctx, network, known, node.host_id, ips) {
                Ok(moved) => effects.extend(moved),
                Err(full) => on_full(full),
            }
        }
        effects
    }

    /// Stores that a node is at a host and has these addresses.
    #[inline]
    fn apply_node(
        &self,
        ctx: &mut ReplicaCtx,
        (vni, bd, seal): (Vni, Bd, NetworkSeal),
        (mac, router): (Mac, Option<bool>),
        host_id: u32,
        ips: impl Iterator<Item = IpAddr>,
    ) -> Result<Option<Effect>, Full> {
        let station = ctx.stations.get(bd, mac);
        // Our own stations are known better here; a claim of ours that only the board still has is being withdrawn.
        let host = self.hosts.get(&host_id).filter(|_| self.own_id != Some(host_id));
        let ours = host.is_none();
        let mut effect = None;
        match host {
            None => ctx.tables.remove_remote(bd, mac),
            // A local station with this MAC shadows it until the board has decided whose it is.
            Some(record) => {
                let slot = record.slot_in(seal);
                let before = ctx.tables.set_remote(bd, mac, slot, IsolationClass::default())?;
                let left = before.filter(|before| *before != slot && station.is_none());
                let from = left.and_then(|left| ctx.tables.peer_of(left)).map(Peer::get);
                effect = from.filter(|from| *from != host_id).map(|from| Effect::Moved { vni, mac, from });
            }
        }
        for ip in ips {
            if !ours || station.is_some_and(|station| station.ips.contains(&ip)) {
                ctx.tables.set_owner(bd, ip, mac)?;
                if let (IpAddr::V6(ip), Some(router)) = (ip, router) {
                    ctx.tables.set_router(bd, ip, mac, router);
                }
            }
        }
        Ok(effect)
    }

    /// A node is sent to at another host, before the board reports it there. Returns what follows.
    pub fn send_to(
        &self,
        tables: &mut Tables,
        (vni, mac): (Vni, Mac),
        (from, to): (u32, u32),
    ) -> Result<Option<Effect>, Full> {
        let (Some(bd), Some(record)) = (self.bd_of(vni), self.hosts.get(&to)) else { return Ok(None) };
        let slot = record.slot_in(seal_of(self.tunnels.as_ref(), vni));
        tables.set_remote(bd, mac, slot, IsolationClass::default())?;
        Ok(Some(Effect::Moved { vni, mac, from }))
    }

    pub(super) fn remove_node(&self, ctx: &mut ReplicaCtx, vni: Vni, mac: Mac, ips: &[IpAddr]) {
        let Some(bd) = self.networks.get(&vni).map(|n| n.bd) else { return };
        let station = ctx.stations.get(bd, mac);
        ctx.tables.remove_remote(bd, mac);
        for ip in ips.iter().filter(|ip| station.is_none_or(|station| !station.ips.contains(ip))) {
            ctx.tables.clear_owner(bd, *ip, mac);
        }
    }
}

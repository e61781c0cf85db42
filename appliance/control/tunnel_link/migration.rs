//! Moves of nodes behind tunnels: passes reports and frames to `cut_overs`, and puts what it decides into the tables.

use crate::control::{Control, cut_overs::Switch};
use crate::tables::{packed::Bd, peer::Peer};
use stopover_net::{Mac, Vni};
use stopover_tunnel::handshake::Moved;

impl Control {
    /// A host reports that a node has left from it.
    pub(crate) fn on_peer_moved(&mut self, now_ms: u64, peer: u32, moved: &Moved) {
        let Some(bd) = self.replica.bd_of(moved.vni) else { return };
        let at = self.tables.recorded_host(bd, moved.node).map(Peer::get);
        let is_known = self.replica.host(moved.host).is_some() && self.replica.own_id() != Some(moved.host);
        let Some(at) = at.filter(|_| is_known) else { return };
        let is_up = self.tunnels.as_ref().is_some_and(|tunnels| tunnels.is_up(moved.host));
        if let Some(wanted) = self.cut_overs.moved(bd, peer, moved, at, is_up) {
            self.with_tunnels(now_ms, |tunnels, now| tunnels.start(wanted, now));
        }
    }

    /// A sealed frame of a moving node has come from a host where it is not yet, as far as is known here.
    pub(crate) fn on_came_from(&mut self, now_ms: u64, bd: Bd, mac: Mac, peer: Peer) {
        let switch = self.cut_overs.frame(bd, mac, peer.get());
        self.switch(now_ms, switch);
    }

    /// A tunnel is up or down.
    pub(crate) fn on_tunnel(&mut self, now_ms: u64, host: u32, up: bool) {
        let switches = self.cut_overs.tunnel(host, up);
        self.switch(now_ms, switches);
    }

    /// The board has named the host of a node.
    pub(crate) fn on_node_decided(&mut self, vni: Vni, mac: Mac) {
        if let Some(bd) = self.replica.bd_of(vni) {
            self.cut_overs.decided(bd, mac);
        }
    }

    fn switch(&mut self, now_ms: u64, switches: impl IntoIterator<Item = Switch>) {
        for Switch { bd, mac, from, to } in switches {
            let Some(vni) = self.replica.vni_of(bd) else { continue };
            let host =
                |id| self.replica.host(id).map_or_else(String::new, |record| record.host.name.to_string());
            log::info!(
                "node {mac} of network {vni}: sent to at host {}, no longer by host {}",
                host(to),
                host(from)
            );
            let effects = self.replica.send_to(&mut self.tables, (vni, mac), (from, to));
            self.execute_or_log(now_ms, effects.map(|effect| effect.into_iter().collect()));
        }
    }

    /// Sends the reports that are due, to all hosts with members of the network to which there is a tunnel.
    pub(super) fn send_reports(&mut self, now_ms: u64) {
        while let Some(moved) = self.cut_overs.next_report(now_ms) {
            let hosts: Vec<u32> =
                self.replica.appliances_in(moved.vni).filter(|host| *host != moved.host).collect();
            for host in hosts {
                self.with_tunnels(now_ms, |tunnels, now| tunnels.report_moved(host, moved, now));
            }
        }
    }
}

//! Executes the effects of the subsystems. Enters: effects, in the order in which they are to happen. Leaves: calls of
//! other subsystems, whose effects are executed before the next; claims, frames, log lines.

use super::{
    Control,
    effects::{self, Effect, Probe},
};
use crate::{migration::driver::Driver, tables::Full, underlay::Actions};
use std::net::{IpAddr, Ipv4Addr};
use stopover_net::{arp, nd, prober};

impl Control {
    /// Executes effects in order. Those that follow from one are executed before the next.
    pub(super) fn execute(&mut self, now_ms: u64, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            self.execute_one(now_ms, effect);
        }
    }

    /// The same, or logs that a table is full.
    pub(super) fn execute_or_log(&mut self, now_ms: u64, effects: Result<Vec<Effect>, Full>) {
        match effects {
            Ok(effects) => self.execute(now_ms, effects),
            Err(full) => log::error!("{full}; frames for it are treated as for an unknown node"),
        }
    }

    /// Executes what the underlay requests.
    pub(super) fn execute_underlay(&mut self, now_ms: u64, actions: Actions) {
        self.execute(now_ms, effects::of_underlay(actions));
    }

    /// Passes an event to migrations, and executes its effects.
    pub(super) fn migrate(&mut self, now_ms: u64, event: impl FnOnce(&mut Driver<'_>)) {
        let mut driver = Driver {
            migrations: &mut self.migrations,
            tables: &mut self.tables,
            replica: &mut self.replica,
            stations: &mut self.stations,
            ports: &self.ports,
            effects: Vec::new(),
        };
        event(&mut driver);
        let effects = driver.effects;
        self.execute(now_ms, effects);
    }

    fn execute_one(&mut self, now_ms: u64, effect: Effect) {
        match effect {
            Effect::Claim { vni, mac, ips } => {
                let claim = self.stations.to_claim(vni, mac, ips);
                self.board.claim(claim);
            }
            Effect::Withdraw { vni, mac } => self.board.withdraw(vni, mac),
            Effect::WithdrawUnlessLocal { vni, mac } => {
                let bd = self.replica.bd_of(vni);
                if bd.is_none_or(|bd| self.stations.get(bd, mac).is_none()) {
                    self.board.withdraw(vni, mac);
                }
            }
            Effect::Removal { bd, mac, why } => {
                self.migrate(now_ms, |migrations| migrations.on_station_removal(now_ms, (bd, mac), why));
            }
            Effect::Unconfirmed(learn) => self.stations.mark_unconfirmed(now_ms, learn),
            Effect::Track(ip, udp_port) => {
                let actions = self.underlay.track(now_ms, ip, udp_port);
                self.execute_underlay(now_ms, actions);
                self.refresh_new(now_ms, ip);
            }
            Effect::Untrack(ip, udp_port) => self.underlay.untrack(now_ms, ip, udp_port),
            Effect::Refresh(ip) => self.refresh(ip),
            Effect::Peer(host) => self.put_tunnel_peer(now_ms, host),
            Effect::SentOn(moved) => {
                // Reports go through tunnels.
                if self.tunnels.is_some() {
                    self.cut_overs.left(now_ms, moved);
                }
            }
            Effect::PeerMoved(peer, moved) => self.on_peer_moved(now_ms, peer, &moved),
            Effect::TunnelIs(host, up) => self.on_tunnel(now_ms, host, up),
            Effect::ExportKeys(sa) => self.export_keys(&sa),
            Effect::Datagram(to, payload) => self.send_datagram(to, &payload),
            Effect::Unlocked { vni, mac } => self.migrations.unlocked(now_ms, vni, mac),
            Effect::Moved { vni, mac, from } => {
                self.migrate(now_ms, |migrations| migrations.end_old_path(now_ms, vni, mac, from));
            }
            Effect::Block { port, vlan, on } => self.block(now_ms, port, vlan, on),
            Effect::Send { port, vlan, frame } => self.ports.send(port, vlan, frame),
            Effect::Probe(probe) => self.send_probe(&probe),
            Effect::Board(request) => self.board.request(request),
            Effect::Report(report) => self.log_report(&report),
        }
    }

    fn block(&mut self, now_ms: u64, port: u16, vlan: u16, on: bool) {
        self.ports.block(port, vlan, on);
        let effects = self.stations.block(&mut self.tables, now_ms, port, vlan, on);
        self.execute(now_ms, effects);
    }

    /// Asks a station whether it still has an address.
    fn send_probe(&self, probe: &Probe) {
        let own = prober::mac(&self.config.name);
        let frame = match probe.ip {
            // Without a sender address, so that no cache changes (RFC 5227 section 2.1.1).
            IpAddr::V4(ip) => arp::build_request(probe.mac, (own, Ipv4Addr::UNSPECIFIED), ip).to_vec(),
            IpAddr::V6(ip) => nd::build_solicit((own, own.link_local()), ip, Some(probe.mac)).to_vec(),
        };
        self.ports.send(probe.port, probe.vlan, frame);
    }
}

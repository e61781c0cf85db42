//! Frames between the control thread and stations of segments: probes of addresses, announcements of stations that
//! moved to the segment they left, routers. Enters: probes of `stations`, the board's updates. Leaves: frames for
//! segment ports.

use super::Control;
use crate::pipeline::{RouterSeen, ports::Role};
use std::net::{IpAddr, Ipv4Addr};
use stopover_net::{Mac, Vni};
use stopover_net::{arp, nd, prober};

impl Control {
    /// Sends a frame from a segment port, with the tag that its station needs.
    pub(super) fn send_to_segment(&self, port: u16, vlan: u16, mut frame: Vec<u8>) {
        if vlan != 0 {
            let [high, low] = vlan.to_be_bytes();
            frame.splice(12..12, [0x81, 0x00, high, low]);
        }
        self.send(usize::from(port), &frame);
    }

    /// Probes the addresses of stations that may not be in use any more.
    pub(super) fn ask_for_addresses(&mut self) {
        let own = prober::mac(&self.config.name);
        for probe in self.stations.take_probes() {
            let frame = match probe.ip {
                // Without a sender address, so that no cache changes (RFC 5227 section 2.1.1).
                IpAddr::V4(ip) => arp::build_request(probe.mac, (own, Ipv4Addr::UNSPECIFIED), ip).to_vec(),
                IpAddr::V6(ip) => nd::build_solicit((own, own.link_local()), ip, Some(probe.mac)).to_vec(),
            };
            self.send_to_segment(probe.port, probe.vlan, frame);
        }
    }

    /// Another host has received a station of ours. Its old segment must send frames for it to us: announces it
    /// there.
    pub(super) fn station_moved(&mut self, now_ms: u64, vni: Vni, mac: Mac) {
        let station = self.stations.node_moved(&mut self.tables, now_ms, vni, mac);
        self.on_station_removals(now_ms);
        let bd = self.replica.bd_of(vni);
        if let Some(session) = &self.session
            && bd.is_none_or(|bd| self.stations.get(bd, mac).is_none())
        {
            session.withdraw(vni, mac);
        }
        let Some(station) = station else { return };
        let role = self.stage_ports.get(usize::from(station.port)).map(|port| &port.role);
        if matches!(role, Some(Role::Segment(_))) {
            self.send_to_segment(station.port, station.vlan, arp::build_rarp(mac).to_vec());
        }
    }

    /// A node is an IPv6 router, or is not.
    pub(super) fn on_router(&mut self, seen: &RouterSeen) {
        if self.tables.is_remote(seen.bd, seen.mac) {
            return self.tables.set_router(seen.bd, seen.ip, seen.mac, seen.router);
        }
        let claim_update = self.stations.router(&mut self.tables, seen);
        self.send_claims(claim_update.into_iter().collect());
    }
}

//! Tunnels in the control thread: what they have to do with hosts, paths, lcores and the wire. `show` answers the operator,
//! `export` is the debug switch for keys, `migration` has nodes that move.

mod export;
mod migration;
mod show;

use super::{
    Control,
    effects::Effect,
    tunnels::{Tunnels, millis},
};
use crate::lcore::egress::Order;
use crate::pipeline::ports::Role;
use crate::tables::peer::{Peer, TunnelIndex};
use dpdk::cycles;
use std::{
    net::{IpAddr, SocketAddr},
    time::{SystemTime, UNIX_EPOCH},
};
use stopover_config::appliance as config;
use stopover_net::{
    outer::{OuterHeader, OuterSpec},
    underlay::{Expect, Underlay, parse},
};
use stopover_tunnel::handshake::{Now, PublicKey};

/// DSCP CS6, network control (RFC 2474 section 4.2.2): keys come before what they seal.
const TOS: u8 = 0xc0;

impl Control {
    /// The time as tunnels have it.
    pub(crate) fn tunnel_now() -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Now { at: millis(cycles::tsc(), cycles::tsc_hz()), wall_ns: wall }
    }

    /// Passes something to the tunnels, if there are any, and executes what they request.
    pub(crate) fn with_tunnels(&mut self, now_ms: u64, f: impl FnOnce(&mut Tunnels, Now) -> Vec<Effect>) {
        let now = Self::tunnel_now();
        if let Some(tunnels) = &mut self.tunnels {
            let effects = f(tunnels, now);
            self.execute(now_ms, effects);
        }
    }

    /// The record of a host has changed: it may have a tunnel now, or none any more.
    pub(crate) fn put_tunnel_peer(&mut self, now_ms: u64, host: u32) {
        let record = self.replica.host(host).filter(|_| self.replica.own_id() != Some(host));
        let peer = record.map(|record| {
            let key = record.host.details.public_key.as_ref().filter(|_| record.is_appliance());
            let key = key.map(|key| PublicKey::new(*key.bytes()));
            let address = record.vtep.map(|ip| SocketAddr::from((ip, record.host.udp_port)));
            (record.host.name.clone(), key.zip(address))
        });
        self.with_tunnels(now_ms, |tunnels, now| match peer {
            Some((name, known)) => tunnels.put_peer(host, &name, known, now),
            None => tunnels.remove_peer(host, now),
        });
    }

    /// An lcore has frames for a tunnel that is not up.
    pub(crate) fn on_wanted_tunnel(&mut self, now_ms: u64, tunnel: TunnelIndex) {
        self.with_tunnels(now_ms, |tunnels, now| tunnels.wanted(tunnel, now));
    }

    /// A plain frame of a host was refused.
    pub(crate) fn on_refused(&mut self, now_ms: u64, peer: Peer) {
        self.with_tunnels(now_ms, |tunnels, now| tunnels.start(peer.get(), now));
    }

    /// Sealed frames with unknown keys come from an address.
    pub(crate) fn on_unknown_spi(&mut self, now_ms: u64, from: IpAddr) {
        self.with_tunnels(now_ms, |tunnels, now| tunnels.unknown_spi(from, now));
    }

    /// An underlay port has received a datagram of a handshake.
    pub(crate) fn on_handshake(&mut self, now_ms: u64, port: u16, frame: &[u8]) {
        let Some(Role::Underlay(own)) = self.ports.role(port) else { return };
        let expect = Expect { vlan: own.vlan, udp_port: own.udp_port };
        // An lcore has read it before.
        let Ok(Underlay::Datagram(facts)) = parse(frame, frame.len(), &expect) else { return };
        let from = SocketAddr::from((facts.src, facts.udp_src));
        let Some(payload) = frame.get(facts.off()..facts.off() + usize::from(facts.len)) else { return };
        self.with_tunnels(now_ms, |tunnels, now| tunnels.receive(from, payload, now));
    }

    /// Sends a datagram from our port to another host's. It is lost if the way there is not known; what is requested is
    /// requested again.
    pub(crate) fn send_datagram(&self, to: SocketAddr, payload: &[u8]) {
        let Some(found) = self.underlay.resolved(to.ip()) else { return };
        let Ok(port) = u16::try_from(found.port) else { return };
        let ttl = match self.ports.wanted_at(port).map(|port| &port.role) {
            Some(config::Role::Underlay(underlay)) => underlay.ttl,
            _ => return,
        };
        let spec = OuterSpec {
            src_mac: found.src_mac,
            dst_mac: found.dst_mac,
            vlan: found.vlan,
            src: found.src_ip,
            dst: to.ip(),
            dst_port: to.port(),
            ttl,
        };
        let Ok(outer) = OuterHeader::new(&spec) else { return };
        let mut frame = vec![0; outer.udp_len()];
        let source_port = self.config.udp_port();
        if outer.fill_udp(&mut frame, payload.len(), source_port, TOS).is_some() {
            outer.seal_udp(&mut frame, std::iter::once(payload));
            frame.extend_from_slice(payload);
            self.ports.send(port, 0, frame);
        }
    }

    /// When tunnels have something to do, in the time of the control thread.
    pub(crate) fn tunnel_timeout(&self, now_ms: u64) -> Option<u64> {
        let tunnels = self.tunnels.as_ref()?;
        Some(now_ms + tunnels.next_timeout().saturating_sub(Self::tunnel_now().at.0))
    }

    /// Goes on with what lcores have done and what is due, and gives lcores their orders.
    pub(crate) fn serve_tunnels(&mut self, now_ms: u64) {
        let Some(tunnels) = &mut self.tunnels else { return };
        for (number, lcore) in self.ports.lcores().iter().enumerate() {
            while let Some(order) = lcore.rings.tunnel_orders.pop() {
                tunnels.orders().made(number, *order);
            }
        }
        if tunnels.orders().has_done() || tunnels.next_timeout() <= Self::tunnel_now().at.0 {
            self.with_tunnels(now_ms, |tunnels, now| tunnels.tick(now));
        }
        self.send_reports(now_ms);
        self.give_tunnel_orders();
    }

    fn give_tunnel_orders(&mut self) {
        let Some(tunnels) = &mut self.tunnels else { return };
        if self.ports.lcores().is_empty() {
            return;
        }
        while let Some((lcore, order)) = tunnels.orders().next() {
            let ring = self.ports.lcores().get(lcore).map(|lcore| &lcore.rings.from_control);
            let refused = match ring.map(|ring| ring.push(Order::Tunnel(order))) {
                Some(Err(Order::Tunnel(order))) => order,
                _ => continue,
            };
            tunnels.orders().put_back((lcore, refused));
            return;
        }
    }
}

//! Tunnels and their SAs for the operator, as rows. No keys.

use super::{Peer, Tunnels, describe, sas::SaRecord};
use crate::control::rows::{Cursor, Part, Turn};
use stopover_config::appliance as config;
use stopover_ctl::{HostTunnelMode, SaDirection, SaInfo, TunnelInfo, TunnelState};
use stopover_tunnel::{handshake::Now, sa::SaStats};

/// How long a tunnel that is wanted counts as being set up.
const CONNECTING_MS: u64 = 10_000;

impl Tunnels {
    /// Tunnels by the numbers of their hosts.
    #[must_use]
    pub fn list(&self, part: &Part, now: Now) -> Turn<TunnelInfo> {
        let mut peers = self.peers.range(first(part)..);
        let rows = peers.by_ref().take(part.rows()).map(|(host, peer)| self.row(*host, peer, now)).collect();
        Turn { rows, next: peers.next().map(|(host, _)| Cursor(0, (*host).into())) }
    }

    /// The SAs, those of each host together.
    #[must_use]
    pub fn list_sas(&self, part: &Part, now: Now) -> Turn<SaInfo> {
        let mut rows = Vec::new();
        for (host, peer) in self.peers.range(first(part)..) {
            if rows.len() >= part.rows() {
                return Turn { rows, next: Some(Cursor(0, (*host).into())) };
            }
            let outbound = self.sas.outbound(*host).iter().zip(0..);
            rows.extend(outbound.map(|(sa, lcore)| sa_row(peer, sa, (SaDirection::Out, Some(lcore)), now)));
            let inbound = self.sas.inbound(*host);
            rows.extend(inbound.map(|sa| sa_row(peer, sa, (SaDirection::In, sa.counters.owner()), now)));
        }
        Turn { rows, next: None }
    }

    /// One tunnel.
    #[must_use]
    pub fn info(&self, host: u32, now: Now) -> Option<TunnelInfo> {
        self.peers.get(&host).map(|peer| self.row(host, peer, now))
    }

    fn row(&self, host: u32, peer: &Peer, now: Now) -> TunnelInfo {
        let [sent, received] = self.sas.totals(host);
        let is_wanted = peer.wanted_ms.is_some_and(|since| now.at.0 < since + CONNECTING_MS);
        let newest = self.sas.outbound(host).first().or_else(|| self.sas.inbound(host).last());
        TunnelInfo {
            host: peer.name.to_string(),
            number: host,
            mode: self.mode(peer),
            state: match peer.why {
                _ if peer.up_ms.is_some() => TunnelState::Up,
                Some(_) => TunnelState::Down,
                None if is_wanted => TunnelState::Connecting,
                None => TunnelState::Idle,
            },
            why: peer.why.map(|why| describe(why).to_owned()),
            address: peer.known.map(|(_, address)| address),
            age_s: newest.map(|sa| now.at.0.saturating_sub(sa.since.0) / 1000),
            sessions: peer.sessions,
            sent_packets: sent.frames,
            sent_bytes: sent.bytes,
            received_packets: received.frames,
            received_bytes: received.bytes,
            replayed: received.replayed,
            bad_seal: received.bad_seal,
        }
    }

    fn mode(&self, peer: &Peer) -> HostTunnelMode {
        let default = self.config.hosts.get(&peer.name).copied().unwrap_or(self.config.mode);
        let is_other = |mode: &config::TunnelMode| *mode != default;
        let explicit = self.config.hosts.get(&peer.name) == Some(&config::TunnelMode::Required);
        match default {
            _ if !explicit && self.config.networks.values().any(is_other) => HostTunnelMode::Mixed,
            config::TunnelMode::Required => HostTunnelMode::Required,
            config::TunnelMode::Off => HostTunnelMode::Off,
        }
    }
}

fn first(part: &Part) -> u32 {
    u32::try_from(part.from.1).unwrap_or(u32::MAX)
}

fn sa_row(peer: &Peer, sa: &SaRecord, (direction, lcore): (SaDirection, Option<u32>), now: Now) -> SaInfo {
    let SaStats { frames, bytes, replayed, bad_seal } = sa.counters.read();
    SaInfo {
        host: peer.name.to_string(),
        direction,
        spi: sa.spi.to_string(),
        lcore,
        session: sa.session,
        packets: frames,
        bytes,
        replayed,
        bad_seal,
        age_s: now.at.0.saturating_sub(sa.since.0) / 1000,
    }
}

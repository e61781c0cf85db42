//! Encrypted tunnels, the control thread's side: which hosts have one, their handshakes and the life of their keys. Enters:
//! hosts of the replica, datagrams of handshakes, what lcores want and have counted, the time. Leaves: datagrams to send,
//! changes of the lcores' SAs, log lines. What a handshake does is in `tunnel`; here its actions become orders. `orders`
//! are changes that lcores have not made yet, `sas` is what is known of the SAs that they have, `show` makes rows of it.

mod orders;
mod sas;
mod show;
#[cfg(test)]
mod tests;

use super::effects::{Effect, ExportedSa};
use crate::lcore::tunnels::{TunnelChange, TunnelOrder};
use crate::sealing::{AnyEngine, Engines, InboundSa, OutboundSa};
use crate::tables::peer::TunnelIndex;
use orders::{Orders, Then};
use sas::Sas;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use stopover_config::appliance as config;
use stopover_net::HostName;
use stopover_tunnel::{
    Millis, Spi,
    cipher::{Algorithm, Engine, SaSecret},
    esp::SequenceBits,
    handshake::{
        Action, Config, DownReason, Endpoint, Moved, NewSa, Now, PublicKey, Random, StaticKey, Timing,
    },
    sa::Limits,
    window::WindowSize,
};

/// Inbound SAs for each peer: two sessions of some sender queues.
const SAS_PER_PEER: u32 = 16;
/// Initiations a second above which senders must show that they receive at their address.
const BUSY_ABOVE: u32 = 200;
/// How often the timers of all peers are looked at, at most.
const TICK_MS: u64 = 20;
/// How often the counters of the SAs are read.
const TRAFFIC_MS: u64 = 500;

/// A host that may have a tunnel.
#[derive(Debug)]
struct Peer {
    name: HostName,
    /// Where its frames are sealed, if they must be.
    index: Option<TunnelIndex>,
    /// Its key and address, as the endpoint has them.
    known: Option<(PublicKey, SocketAddr)>,
    /// Since when it is up.
    up_ms: Option<u64>,
    /// Why it is down, if it was up or was tried.
    why: Option<DownReason>,
    /// When a tunnel was last wanted and there was none.
    wanted_ms: Option<u64>,
    /// Sessions that were agreed on.
    sessions: u64,
}

/// A tunnel, for paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// Its number.
    pub index: TunnelIndex,
    /// What need not be sealed is sealed, too: there are keys. So a host that demands it can be the first of two that does.
    pub is_used: bool,
}

/// Random bytes of the system.
#[derive(Debug)]
struct System;

impl Random for System {
    fn fill(&mut self, bytes: &mut [u8]) {
        // It fails only before the system has any, and it had some at the start. Zeros make a handshake that is dropped.
        if getrandom::fill(bytes).is_err() {
            log::error!("the system has no random numbers: tunnels cannot be set up");
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Tunnels {
    config: config::Tunnels,
    endpoint: Endpoint,
    engines: Engines,
    engine: AnyEngine,
    window: WindowSize,
    limits: Limits,
    lcores: usize,
    peers: BTreeMap<u32, Peer>,
    /// The peer of each number that was given.
    by_index: Vec<Option<u32>>,
    sas: Sas,
    orders: Orders,
    tick_ms: u64,
    traffic_ms: u64,
    /// Sessions that were agreed on.
    sessions: u64,
    /// What the last actions have brought.
    effects: Vec<Effect>,
}

impl Tunnels {
    /// Of the host with this key, whose lcores are so many.
    #[must_use]
    pub fn new(config: config::Tunnels, key: StaticKey, engines: Engines, lcores: usize, now: Now) -> Self {
        let algorithm = match config.cipher {
            config::TunnelCipher::Aes128 => Algorithm::Aes128Gcm,
            config::TunnelCipher::Aes256 => Algorithm::Aes256Gcm,
        };
        let timing = timing(config.rekey_s);
        let endpoint_config = Config {
            queues: lcores as u8,
            algorithm,
            sas: inbound_sas(&config),
            busy_above: BUSY_ABOVE,
            timing,
        };
        Self {
            endpoint: Endpoint::new(key, endpoint_config, now, &mut System),
            engine: engines.make(),
            engines,
            window: WindowSize::new(config.window).unwrap_or(WindowSize::LEAST),
            limits: Limits { hard_age: timing.reject_after, ..Limits::HANDSHAKE },
            lcores,
            peers: BTreeMap::new(),
            by_index: Vec::new(),
            sas: Sas::default(),
            orders: Orders::new(lcores),
            tick_ms: 0,
            traffic_ms: 0,
            sessions: 0,
            effects: Vec::new(),
            config,
        }
    }

    /// What makes the engines of lcores.
    #[must_use]
    pub const fn engines(&self) -> &Engines {
        &self.engines
    }

    /// Room that lcores need: tunnels, and inbound SAs.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        (self.config.peers as usize, inbound_sas(&self.config) as usize)
    }

    /// The tunnel to a host, if it has one.
    #[must_use]
    pub fn of(&self, host: u32) -> Option<Tunnel> {
        let peer = self.peers.get(&host)?;
        let is_used = self.sas.is_active(host) || self.config.host_requires(&peer.name);
        Some(Tunnel { index: peer.index?, is_used })
    }

    /// What is known of a host has changed: its name, and its key and address if it can have a tunnel.
    pub fn put_peer(
        &mut self,
        host: u32,
        name: &HostName,
        known: Option<(PublicKey, SocketAddr)>,
        now: Now,
    ) -> Vec<Effect> {
        if self.peers.get(&host).is_some_and(|peer| peer.name != *name) {
            self.remove_peer(host, now);
        }
        let mut out = Vec::new();
        let index = match self.peers.get(&host).and_then(|peer| peer.index) {
            None if known.is_some() => self.take_index(host, name),
            index => index,
        };
        let peer = self.peers.entry(host).or_insert_with(|| Peer {
            name: name.clone(),
            index: None,
            known: None,
            up_ms: None,
            why: None,
            wanted_ms: None,
            sessions: 0,
        });
        peer.index = index;
        if peer.known != known {
            peer.known = known;
            match known {
                Some((key, address)) => self.endpoint.add_peer(host, key, address, now, &mut out),
                None => self.endpoint.remove_peer(host, now, &mut out),
            }
        }
        self.act(out, now)
    }

    /// A host is gone.
    pub fn remove_peer(&mut self, host: u32, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        self.endpoint.remove_peer(host, now, &mut out);
        let effects = self.act(out, now);
        if let Some(index) = self.peers.remove(&host).and_then(|peer| peer.index) {
            // No lcore may have the SA of before when the number is another host's.
            self.orders.each(Then::Free(index), |_| TunnelChange::Outbound(index, None));
        }
        effects
    }

    /// A number that no tunnel has.
    fn take_index(&mut self, host: u32, name: &HostName) -> Option<TunnelIndex> {
        let at = match self.by_index.iter().position(Option::is_none) {
            Some(at) => at,
            None if self.by_index.len() < self.config.peers as usize => {
                self.by_index.push(None);
                self.by_index.len() - 1
            }
            None => {
                let peers = self.config.peers;
                log::error!(host:% = name; "host {name} has no tunnel, because {peers} others have one: its frames are dropped; hint: raise tunnels.peers");
                return None;
            }
        };
        *self.by_index.get_mut(at)? = Some(host);
        Some(TunnelIndex::new(at as u32))
    }

    /// An lcore has frames for a tunnel that is not up.
    pub fn wanted(&mut self, index: TunnelIndex, now: Now) -> Vec<Effect> {
        let Some(host) = self.by_index.get(index.get() as usize).copied().flatten() else {
            return Vec::new();
        };
        self.start(host, now)
    }

    /// A tunnel to a host is wanted.
    pub fn start(&mut self, host: u32, now: Now) -> Vec<Effect> {
        if let Some(peer) = self.peers.get_mut(&host) {
            peer.wanted_ms = Some(now.at.0);
        }
        let mut out = Vec::new();
        self.endpoint.start(host, now, &mut System, &mut out);
        self.act(out, now)
    }

    /// Sealed frames with unknown keys come from this address.
    pub fn unknown_spi(&mut self, from: IpAddr, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        self.endpoint.unknown_spi((from, 0).into(), now, &mut System, &mut out);
        self.act(out, now)
    }

    /// A datagram of a handshake has come.
    pub fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        if let Err(why) = self.endpoint.receive(from, datagram, now, &mut System, &mut out) {
            self.sas.count_handshake_drop(why);
            log::debug!(reason = why.name(); "a datagram of a handshake from {from} is dropped: {}", why.name());
        }
        self.act(out, now)
    }

    /// How many tunnels are up.
    #[must_use]
    pub fn up_count(&self) -> u64 {
        self.peers.values().filter(|peer| peer.up_ms.is_some()).count() as u64
    }

    /// How many sessions were agreed on.
    #[must_use]
    pub fn session_count(&self) -> u64 {
        self.sessions
    }

    /// Datagrams of handshakes that were dropped, by reason.
    pub fn handshake_drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.sas.handshake_drops()
    }

    /// The host with this name, if there is a tunnel to it.
    #[must_use]
    pub fn host_named(&self, name: &str) -> Option<u32> {
        let named = |(_, peer): &(&u32, &Peer)| peer.name.as_str() == name && peer.known.is_some();
        self.peers.iter().find(named).map(|(host, _)| *host)
    }

    /// New keys for a host, now.
    pub fn rekey(&mut self, host: u32, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        self.endpoint.rekey(host, now, &mut System, &mut out);
        self.act(out, now)
    }

    /// Whether the tunnel to a host is up.
    #[must_use]
    pub fn is_up(&self, host: u32) -> bool {
        self.peers.get(&host).is_some_and(|peer| peer.up_ms.is_some())
    }

    /// Reports to a host, if there is a tunnel, that a node has left from here.
    pub fn report_moved(&mut self, host: u32, moved: Moved, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        self.endpoint.report_moved(host, moved, now, &mut out);
        self.act(out, now)
    }

    /// Ends the tunnel to a host. The next frame for it sets up another one.
    pub fn close(&mut self, host: u32, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        self.endpoint.close(host, now, &mut System, &mut out);
        self.act(out, now)
    }

    /// When there is something to do.
    #[must_use]
    pub fn next_timeout(&self) -> u64 {
        self.tick_ms.min(self.traffic_ms)
    }

    /// Time has passed, and lcores may have made changes.
    pub fn tick(&mut self, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        while let Some(then) = self.orders.next_done() {
            match then {
                Then::Nothing => {}
                Then::Installed { peer, session } => {
                    self.endpoint.installed(peer, session, now, &mut System, &mut out);
                }
                Then::Retired(spis) => self.endpoint.retired(&spis),
                Then::Free(index) => {
                    if let Some(place) = self.by_index.get_mut(index.get() as usize) {
                        *place = None;
                    }
                }
            }
        }
        if now.at.0 >= self.traffic_ms {
            self.traffic_ms = now.at.0 + TRAFFIC_MS;
            for (host, traffic) in self.sas.traffic(&self.limits) {
                self.endpoint.traffic(host, traffic, now, &mut System, &mut out);
            }
        }
        if now.at.0 >= self.tick_ms {
            self.tick_ms = now.at.0 + TICK_MS;
            self.endpoint.tick(now, &mut System, &mut out);
        }
        self.act(out, now)
    }

    /// Orders for lcores that are not given yet.
    pub fn orders(&mut self) -> &mut Orders {
        &mut self.orders
    }

    /// Turns actions into orders and effects.
    fn act(&mut self, actions: Vec<Action>, now: Now) -> Vec<Effect> {
        for action in actions {
            match action {
                Action::Send { to, datagram } => self.effects.push(Effect::Datagram(to, datagram)),
                Action::InstallInbound { peer, session, sas } => self.install(peer, session, sas, now),
                Action::Activate { peer, session, sas } => self.activate(peer, session, sas, now),
                Action::Deactivate { peer } => {
                    self.sas.deactivate(peer);
                    self.refresh(peer);
                    if let Some(index) = self.peers.get(&peer).and_then(|peer| peer.index) {
                        self.orders.each(Then::Nothing, |_| TunnelChange::Outbound(index, None));
                    }
                }
                Action::Retire { peer, spis } => {
                    self.sas.retire(peer, &spis);
                    let change = |_| TunnelChange::Retire(spis.clone(), Vec::with_capacity(spis.len()));
                    self.orders.each(Then::Retired(spis.clone()), change);
                }
                Action::Moved { peer, moved } => self.effects.push(Effect::PeerMoved(peer, moved)),
                Action::Up { peer } => self.up(peer, now),
                Action::Down { peer, why } => self.down(peer, why),
            }
        }
        std::mem::take(&mut self.effects)
    }

    fn install(&mut self, peer: u32, session: u32, sas: Vec<NewSa>, now: Now) {
        let mut each: Vec<Vec<Box<InboundSa>>> = (0..self.lcores).map(|_| Vec::new()).collect();
        for NewSa { spi, secret } in &sas {
            let Ok(key) = self.engine.expand(secret) else {
                log::error!("the cipher has taken no key: no tunnel can be set up");
                return;
            };
            let counters = self.sas.add_inbound(peer, session, *spi, now.at);
            self.export(peer, false, *spi, secret);
            for of_lcore in &mut each {
                of_lcore.push(Box::new(InboundSa::with_key(
                    key.clone(),
                    secret.salt(),
                    (*spi, peer),
                    (SequenceBits::Extended, self.window),
                    Arc::clone(&counters),
                )));
            }
        }
        let mut each = each.into_iter();
        self.orders.each(Then::Installed { peer, session }, |_| {
            TunnelChange::Install(each.next().unwrap_or_default())
        });
    }

    fn activate(&mut self, peer: u32, session: u32, sas: Vec<NewSa>, now: Now) {
        let was_active = self.sas.is_active(peer);
        self.sas.deactivate(peer);
        let Some(host) = self.peers.get_mut(&peer) else { return };
        host.sessions += 1;
        self.sessions += 1;
        let Some(index) = host.index else { return };
        let mut made = Vec::new();
        for NewSa { spi, secret } in &sas {
            self.export(peer, true, *spi, secret);
            match OutboundSa::new(&self.engine, *spi, secret, SequenceBits::Extended, self.limits, now.at) {
                Ok(sa) => {
                    self.sas.add_outbound(peer, session, *spi, (Arc::clone(sa.counters()), now.at));
                    made.push(Some(Box::new(sa)));
                }
                Err(_) => return log::error!("the cipher has taken no key: no tunnel can be set up"),
            }
        }
        self.orders.each(Then::Nothing, |lcore| {
            TunnelChange::Outbound(index, made.get_mut(lcore).and_then(Option::take))
        });
        if !was_active {
            self.refresh(peer);
        }
    }

    /// The paths to a host may be others now.
    fn refresh(&mut self, host: u32) {
        let known = self.peers.get(&host).and_then(|peer| peer.known);
        self.effects.extend(known.map(|(_, address)| Effect::Refresh(address.ip())));
    }

    /// Only if the configuration has the debug switch.
    fn export(&mut self, peer: u32, outbound: bool, spi: Spi, secret: &SaSecret) {
        let known = self.peers.get(&peer).and_then(|peer| peer.known);
        if let (Some(_), Some((_, address))) = (&self.config.export_keys, known) {
            let sa = ExportedSa { host: address.ip(), outbound, spi, secret: secret.clone() };
            self.effects.push(Effect::ExportKeys(Box::new(sa)));
        }
    }

    fn up(&mut self, host: u32, now: Now) {
        let Some(peer) = self.peers.get_mut(&host) else { return };
        (peer.up_ms, peer.why) = (Some(now.at.0), None);
        let name = &peer.name;
        log::info!(host:% = name; "tunnel to host {name}: up");
        self.effects.push(Effect::TunnelIs(host, true));
    }

    fn down(&mut self, host: u32, why: DownReason) {
        let Some(peer) = self.peers.get_mut(&host) else { return };
        (peer.up_ms, peer.why) = (None, Some(why));
        let (name, text) = (&peer.name, describe(why));
        log::warn!(host:% = name; "tunnel to host {name}: down, because {text}");
        self.effects.push(Effect::TunnelIs(host, false));
    }
}

/// Why a tunnel is down, for the operator.
#[must_use]
pub const fn describe(why: DownReason) -> &'static str {
    match why {
        DownReason::NoAnswer => "the host answers no handshake",
        DownReason::Silent => "the host answers no probe",
        DownReason::Expired => "its keys are too old, and no handshake has replaced them",
        DownReason::Closed => "one of the two hosts has closed it",
    }
}

/// The waiting times where keys are replaced at this age.
fn timing(rekey_s: u32) -> Timing {
    let rekey = Duration::from_secs(rekey_s.into());
    Timing {
        rekey_after: rekey,
        rekey_jitter: rekey / 6,
        follow_after: rekey / 8,
        reject_after: rekey + rekey / 2,
        ..Timing::default()
    }
}

fn inbound_sas(config: &config::Tunnels) -> u32 {
    (config.peers * SAS_PER_PEER).min(stopover_tunnel::SaIndex::COUNT)
}

/// An order for an lcore, by the lcore's number.
pub type OrderFor = (usize, Box<TunnelOrder>);

/// The time of tunnels: milliseconds of the TSC, as lcores have it.
#[must_use]
pub fn millis(tsc: u64, hz: u64) -> Millis {
    Millis(tsc / (hz / 1000).max(1))
}

//! Two hosts and the network between them. Frames of both sides are under way all the time; each names the SPI and the
//! key that it was sealed with, and must find them at its receiver.

use super::host::{Host, Later, PEER, Sa, Seeded, key_of};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use stopover_tunnel::handshake::{Action, Config, HandshakeDrop, Moved, NewSa, Now, Traffic, datagram};
use stopover_tunnel::{Millis, Spi};

const STEP_MS: u64 = 10;
/// Between frames of a host, and between its reports of traffic.
const FRAME_MS: u64 = 50;
/// Lcores take at most so long to install or to retire an SA.
const LCORES_MS: u64 = 40;

/// What the network does to handshakes. Frames are delayed and reordered, and never lost by the network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Of 100 datagrams.
    pub loss: u64,
    /// Of 100 datagrams.
    pub doubled: u64,
    /// At most, in milliseconds.
    pub delay: u64,
}

enum Packet {
    Handshake(Vec<u8>),
    Frame { spi: Spi, key: Vec<u8>, incarnations: [u32; 2] },
}

pub struct World {
    pub faults: Faults,
    /// A host's wall clock goes back at each restart.
    pub clock_back: bool,
    /// Datagrams come from this address: somebody repeats them.
    pub repeated_from: Option<SocketAddr>,
    /// Frames delivered.
    pub frames: u64,
    /// Frames that found no SA at a receiver that had not restarted or closed meanwhile.
    pub lost: u64,
    /// All datagrams of handshakes that were sent, and to which host.
    pub record: Vec<(usize, Vec<u8>)>,
    /// Datagrams dropped, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Reports of moved nodes, and which host received them.
    pub moved: Vec<(usize, Moved)>,
    pub hosts: [Host; 2],
    configs: [Config; 2],
    now: u64,
    rng: Seeded,
    /// By time of arrival and a number.
    network: BTreeMap<(u64, u64), (usize, Packet)>,
    sent: u64,
    /// Every key that was ever installed to receive, and to send.
    received_under: BTreeSet<Vec<u8>>,
    sent_under: BTreeSet<Vec<u8>>,
    /// Goes up when a host forgets its SAs.
    incarnations: [u32; 2],
}

impl World {
    pub fn new(seed: u64, configs: [Config; 2], faults: Faults) -> Self {
        let mut rng = Seeded(seed);
        let now = Now { at: Millis(0), wall_ns: 1 << 60 };
        let hosts = [Host::new(0, configs[0], now, &mut rng), Host::new(1, configs[1], now, &mut rng)];
        Self {
            faults,
            clock_back: false,
            repeated_from: None,
            frames: 0,
            lost: 0,
            record: Vec::new(),
            drops: BTreeMap::new(),
            moved: Vec::new(),
            hosts,
            configs,
            now: 0,
            rng,
            network: BTreeMap::new(),
            sent: 0,
            received_under: BTreeSet::new(),
            sent_under: BTreeSet::new(),
            incarnations: [0; 2],
        }
    }

    pub fn now(&self, host: usize) -> Now {
        let wall = (1 << 60) + self.now * 1_000_000;
        Now { at: Millis(self.now), wall_ns: wall - self.hosts[host].wall_behind_ns }
    }

    /// How many sessions there were, at least.
    pub fn sessions(&self) -> usize {
        self.sent_under.len() / usize::from(self.configs[0].queues + self.configs[1].queues)
    }

    pub fn restart(&mut self, host: usize) {
        let behind = self.hosts[host].wall_behind_ns + if self.clock_back { 3_600_000_000_000 } else { 0 };
        self.hosts[host] = Host::new(host, self.configs[host], self.now(host), &mut self.rng);
        self.hosts[host].wall_behind_ns = behind;
        self.incarnations[host] += 1;
    }

    pub fn rekey(&mut self, host: usize) {
        let (now, mut out) = (self.now(host), Vec::new());
        self.hosts[host].endpoint.rekey(PEER, now, &mut self.rng, &mut out);
        self.act(host, out);
    }

    pub fn close(&mut self, host: usize) {
        let (now, mut out) = (self.now(host), Vec::new());
        self.hosts[host].endpoint.close(PEER, now, &mut self.rng, &mut out);
        // The other side closes when it is notified, at any time from now.
        self.incarnations = self.incarnations.map(|count| count + 1);
        self.act(host, out);
    }

    pub fn report_moved(&mut self, host: usize, moved: Moved) -> bool {
        let (now, mut out) = (self.now(host), Vec::new());
        let sent = self.hosts[host].endpoint.report_moved(PEER, moved, now, &mut out);
        self.act(host, out);
        sent
    }

    pub fn run_until(&mut self, end: u64) {
        while self.now < end {
            self.now += STEP_MS;
            self.lcores();
            self.deliver();
            for host in 0..2 {
                self.tick(host);
                if self.now % FRAME_MS == host as u64 * STEP_MS {
                    self.traffic(host);
                }
            }
        }
    }

    fn tick(&mut self, host: usize) {
        let now = self.now(host);
        if self.hosts[host].endpoint.next_timeout().is_some_and(|at| at <= now.at) {
            let mut out = Vec::new();
            self.hosts[host].endpoint.tick(now, &mut self.rng, &mut out);
            self.act(host, out);
            let next = self.hosts[host].endpoint.next_timeout();
            assert!(next.is_none_or(|at| at > now.at), "all that was due is done");
        }
    }

    fn traffic(&mut self, host: usize) {
        let received = self.hosts[host].received.take();
        let (now, mut out) = (self.now(host), Vec::new());
        let traffic = Traffic { sent: true, received, wants_rekey: false };
        self.hosts[host].endpoint.traffic(PEER, traffic, now, &mut self.rng, &mut out);
        self.act(host, out);
        for (spi, sa) in self.hosts[host].outbound.clone() {
            let frame = Packet::Frame { spi, key: sa.key, incarnations: self.incarnations };
            let delay = self.rng.below(self.faults.delay + 1);
            self.put(1 - host, frame, delay);
        }
    }

    fn put(&mut self, to: usize, packet: Packet, delay: u64) {
        self.sent += 1;
        self.network.insert((self.now + STEP_MS + delay, self.sent), (to, packet));
    }

    fn send(&mut self, to: usize, datagram: &[u8]) {
        assert!(datagram.len() <= datagram::MOST_LEN, "{}", datagram.len());
        self.record.push((to, datagram.to_vec()));
        let copies = if self.rng.below(100) < self.faults.doubled { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.rng.below(self.faults.delay + 1);
            if self.rng.below(100) >= self.faults.loss {
                self.put(to, Packet::Handshake(datagram.to_vec()), delay);
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.network.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (host, packet) = entry.remove();
            let (now, mut out) = (self.now(host), Vec::new());
            let from = self.repeated_from.unwrap_or(super::host::address(1 - host));
            let Host { endpoint, inbound, received, .. } = &mut self.hosts[host];
            match packet {
                Packet::Handshake(bytes) => {
                    if let Err(drop) = endpoint.receive(from, &bytes, now, &mut self.rng, &mut out) {
                        *self.drops.entry(HandshakeDrop::name(drop)).or_default() += 1;
                    }
                }
                Packet::Frame { spi, key, incarnations } => {
                    self.frames += 1;
                    match inbound.get(&spi).filter(|sa| sa.key == key) {
                        Some(sa) => *received = Some(sa.session),
                        None => {
                            self.lost += u64::from(incarnations == self.incarnations);
                            endpoint.unknown_spi(from, now, &mut self.rng, &mut out);
                        }
                    }
                }
            }
            self.act(host, out);
        }
    }

    fn lcores(&mut self) {
        for host in 0..2 {
            while self.hosts[host].later.front().is_some_and(|(at, _)| *at <= self.now) {
                let Some((_, later)) = self.hosts[host].later.pop_front() else { break };
                let (now, mut out) = (self.now(host), Vec::new());
                match later {
                    Later::Installed(session) => {
                        self.hosts[host].endpoint.installed(PEER, session, now, &mut self.rng, &mut out);
                    }
                    Later::Retired(spis) => self.hosts[host].endpoint.retired(&spis),
                }
                self.act(host, out);
            }
        }
    }

    fn act(&mut self, host: usize, actions: Vec<Action>) {
        for action in actions {
            self.check_secrets(&action);
            let delay = self.rng.below(LCORES_MS);
            let later = self.hosts[host].later.back().map_or(0, |(at, _)| *at).max(self.now + delay);
            match action {
                Action::Send { to, datagram } => {
                    assert_eq!(to, super::host::address(1 - host), "as the board has it");
                    self.send(1 - host, &datagram);
                }
                Action::InstallInbound { session, sas, .. } => {
                    for sa in &sas {
                        assert!(self.received_under.insert(key_of(sa)), "a key comes once");
                        let before = self.hosts[host].inbound.insert(sa.spi, Sa { session, key: key_of(sa) });
                        assert_eq!(before, None, "the SPI was free");
                    }
                    self.hosts[host].later.push_back((later, Later::Installed(session)));
                }
                Action::Activate { session, sas, .. } => self.activate(host, session, &sas),
                Action::Deactivate { .. } => self.hosts[host].outbound.clear(),
                Action::Retire { spis, .. } => {
                    for spi in &spis {
                        assert!(self.hosts[host].inbound.remove(spi).is_some(), "it was installed");
                    }
                    self.hosts[host].later.push_back((later, Later::Retired(spis)));
                }
                Action::Moved { moved, .. } => self.moved.push((host, moved)),
                Action::Up { .. } => self.hosts[host].up = true,
                Action::Down { .. } => self.hosts[host].up = false,
            }
        }
    }

    fn activate(&mut self, host: usize, session: u32, sas: &[NewSa]) {
        assert_eq!(sas.len(), usize::from(self.configs[host].queues), "one for each sender queue");
        for sa in sas {
            assert!(self.sent_under.insert(key_of(sa)), "a key seals once, so no nonce comes again");
            if self.incarnations == [0; 2] {
                let theirs = self.hosts[1 - host].inbound.get(&sa.spi).expect("the peer has the SPI");
                assert_eq!(theirs.key, key_of(sa), "both sides agree");
            }
        }
        let sas = sas.iter().map(|sa| (sa.spi, Sa { session, key: key_of(sa) }));
        self.hosts[host].outbound = sas.collect();
    }

    /// No format of an action has a part of a key.
    fn check_secrets(&self, action: &Action) {
        let (Action::InstallInbound { sas, .. } | Action::Activate { sas, .. }) = action else { return };
        let text = format!("{action:?}{:?}", self.hosts.each_ref().map(|host| &host.endpoint));
        assert!(text.contains("SaSecret(secret)") && text.contains("StaticKey(secret)"));
        for sa in sas {
            let part = &sa.secret.key()[..8];
            let decimal = part.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
            let hexadecimal = part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            assert!(!text.contains(&decimal) && !text.to_lowercase().contains(&hexadecimal), "{text}");
        }
    }

    /// Both sides send, and the other opens it; nothing older is left than the session in use and one before.
    pub fn assert_in_step(&self) {
        let story = (self.now, &self.drops, self.lost);
        for (host, other) in [(0, 1), (1, 0)] {
            let (from, to) = (&self.hosts[host], &self.hosts[other]);
            assert!(from.up, "host {host} is up: {story:?}");
            assert_eq!(from.outbound.len(), usize::from(self.configs[host].queues), "{story:?}");
            for (spi, sa) in &from.outbound {
                assert_eq!(to.inbound.get(spi).map(|sa| &sa.key), Some(&sa.key), "host {host}: {story:?}");
            }
            let sessions: BTreeSet<u32> = from.inbound.values().map(|sa| sa.session).collect();
            assert!(sessions.len() <= 3, "host {host} has {sessions:?}: {story:?}");
        }
    }
}

//! Two hosts with tunnels between them: their handshakes, orders and paths, with lcores that make each change when they are
//! asked. The time is an argument, datagrams are lists.

use super::*;
use crate::control::rows::{Cursor, Part};
use crate::lcore::tunnels::{LcoreTunnels, handed_rings};
use std::collections::VecDeque;
use stopover_config::appliance::{TunnelCipher, TunnelEngine, TunnelMode};
use stopover_ctl::{HostTunnelMode, SaDirection, TunnelState};
use stopover_net::Vni;

const LCORES: usize = 2;

fn name(n: u32) -> HostName {
    HostName::new(format!("hv-{n}")).unwrap()
}

fn key(n: u32) -> StaticKey {
    StaticKey::new([n as u8; 32])
}

fn address(n: u32) -> SocketAddr {
    ([10, 0, 0, n as u8], 4789).into()
}

fn wanted(mode: TunnelMode) -> config::Tunnels {
    config::Tunnels {
        mode,
        networks: BTreeMap::new(),
        hosts: BTreeMap::new(),
        cipher: TunnelCipher::Aes128,
        window: 2048,
        engine: TunnelEngine::AwsLc,
        peers: 2,
        rekey_s: 120,
        export_keys: None,
    }
}

/// A host, its lcores, and what they have not made yet.
struct Host {
    number: u32,
    tunnels: Tunnels,
    lcores: Vec<LcoreTunnels>,
    refreshed: Vec<IpAddr>,
    is: Vec<(u32, bool)>,
    moved: Vec<(u32, Moved)>,
}

impl Host {
    fn new(number: u32, config: config::Tunnels) -> Self {
        let engines = Engines::new(config.engine).unwrap();
        let tunnels = Tunnels::new(config, key(number), engines, LCORES, now(0));
        let handed = handed_rings(LCORES);
        let lcore = |number| {
            let engine = tunnels.engines().make();
            LcoreTunnels::new(engine, number, Arc::clone(&handed), tunnels.room(), 1000)
        };
        let lcores = (0..LCORES as u32).map(lcore).collect();
        Self { number, tunnels, lcores, refreshed: Vec::new(), is: Vec::new(), moved: Vec::new() }
    }

    fn know(&mut self, other: u32, ms: u64) -> Vec<Effect> {
        self.tunnels.put_peer(other, &name(other), Some((key(other).public(), address(other))), now(ms))
    }

    /// The lcores make what they are asked.
    fn serve_lcores(&mut self) {
        while let Some((lcore, mut order)) = self.tunnels.orders().next() {
            self.lcores[lcore].change(&mut order.change);
            self.tunnels.orders().made(lcore, *order);
        }
    }

    fn row(&self, other: u32, ms: u64) -> stopover_ctl::TunnelInfo {
        self.tunnels.info(other, now(ms)).unwrap()
    }
}

fn now(ms: u64) -> Now {
    Now { at: Millis(ms), wall_ns: (1 << 60) + ms * 1_000_000 }
}

/// Hosts 1 and 2, and datagrams under way.
struct World {
    hosts: [Host; 2],
    ms: u64,
    under_way: VecDeque<(u32, SocketAddr, Vec<u8>)>,
}

impl World {
    fn new(modes: [TunnelMode; 2]) -> Self {
        let [one, two] = modes.map(wanted);
        let mut world =
            Self { hosts: [Host::new(1, one), Host::new(2, two)], ms: 1000, under_way: VecDeque::new() };
        for at in 0..2 {
            let (other, ms) = (world.hosts[1 - at].number, world.ms);
            let effects = world.hosts[at].know(other, ms);
            world.take(at, effects);
        }
        world
    }

    fn take(&mut self, at: usize, effects: Vec<Effect>) {
        let from = address(self.hosts[at].number);
        for effect in effects {
            match effect {
                Effect::Datagram(to, bytes) => {
                    let to =
                        u32::from(to.ip().to_string().rsplit('.').next().unwrap().parse::<u8>().unwrap());
                    self.under_way.push_back((to, from, bytes));
                }
                Effect::Refresh(ip) => self.hosts[at].refreshed.push(ip),
                Effect::TunnelIs(host, up) => self.hosts[at].is.push((host, up)),
                Effect::PeerMoved(peer, moved) => self.hosts[at].moved.push((peer, moved)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn of(&mut self, at: usize, f: impl FnOnce(&mut Tunnels, Now) -> Vec<Effect>) {
        let now = now(self.ms);
        let effects = f(&mut self.hosts[at].tunnels, now);
        self.take(at, effects);
    }

    fn run(&mut self, ms: u64) {
        let end = self.ms + ms;
        while self.ms < end {
            self.ms += 10;
            while let Some((to, from, bytes)) = self.under_way.pop_front() {
                let at = to as usize - 1;
                self.of(at, |tunnels, now| tunnels.receive(from, &bytes, now));
            }
            for at in 0..2 {
                self.hosts[at].serve_lcores();
                self.of(at, Tunnels::tick);
            }
        }
    }

    fn states(&self) -> [TunnelState; 2] {
        [self.hosts[0].row(2, self.ms).state, self.hosts[1].row(1, self.ms).state]
    }
}

const REQUIRED: [TunnelMode; 2] = [TunnelMode::Required; 2];

#[test]
fn frames_that_wait_bring_a_tunnel_up_on_every_lcore() {
    let mut world = World::new(REQUIRED);
    world.run(100);
    assert_eq!(world.states(), [TunnelState::Idle; 2], "nobody wants it");
    let tunnel = world.hosts[0].tunnels.of(2).unwrap();
    assert!(tunnel.is_used, "there is no other way");
    world.of(0, |tunnels, now| tunnels.wanted(tunnel.index, now));
    assert_eq!(world.states()[0], TunnelState::Connecting);
    world.run(300);
    assert_eq!(world.states(), [TunnelState::Up; 2]);
    for host in &world.hosts {
        assert!(host.tunnels.orders.is_idle());
        let rows =
            host.tunnels.list_sas(&Part { vni: None, from: Cursor::default(), at_most: 9 }, now(world.ms));
        let out = rows.rows.iter().filter(|sa| sa.direction == SaDirection::Out).count();
        assert_eq!((out, rows.rows.len(), rows.next), (LCORES, 2 * LCORES, None), "one for each lcore");
        assert_eq!(host.tunnels.up_count(), 1);
    }
}

#[test]
fn a_host_that_is_off_seals_while_the_other_keeps_a_tunnel() {
    let mut world = World::new([TunnelMode::Required, TunnelMode::Off]);
    assert!(!world.hosts[1].tunnels.of(1).unwrap().is_used, "plain");
    // The first refuses its plain frames, and so makes a tunnel.
    world.of(0, |tunnels, now| tunnels.start(2, now));
    world.run(300);
    assert!(world.hosts[1].tunnels.of(1).unwrap().is_used);
    assert_eq!(world.hosts[1].refreshed, [address(1).ip()], "the path is another from now on");
    assert_eq!(world.hosts[1].row(1, world.ms).mode, HostTunnelMode::Off);
    world.of(0, |tunnels, now| tunnels.close(2, now));
    world.run(100);
    assert!(!world.hosts[1].tunnels.of(1).unwrap().is_used);
    assert_eq!(world.hosts[1].refreshed.len(), 2);
    assert!(world.hosts[0].tunnels.of(2).unwrap().is_used, "never plain");
    assert_eq!(world.states(), [TunnelState::Down; 2]);
    let why = world.hosts[0].row(2, world.ms).why;
    assert_eq!(why.as_deref(), Some("one of the two hosts has closed it"));
}

#[test]
fn new_keys_replace_the_old_ones_and_these_go() {
    let mut world = World::new(REQUIRED);
    world.of(0, |tunnels, now| tunnels.start(2, now));
    world.run(300);
    for _ in 0..3 {
        world.of(1, |tunnels, now| tunnels.rekey(1, now));
        world.run(300);
    }
    assert_eq!(world.hosts.each_ref().map(|host| host.tunnels.session_count()), [4; 2]);
    assert_eq!(world.states(), [TunnelState::Up; 2]);
    // Without frames the old ones stay until they are too old: then no lcore has any.
    world.run(400_000);
    for host in &world.hosts {
        assert_eq!(host.tunnels.sas.inbound(3 - host.number).count(), 0);
        assert!(!host.tunnels.sas.is_active(3 - host.number) && host.tunnels.orders.is_idle());
    }
    assert_eq!(world.states(), [TunnelState::Down; 2]);
}

#[test]
fn a_moved_node_is_reported_through_the_tunnel() {
    let mut world = World::new(REQUIRED);
    let node = stopover_net::Mac::new([2, 0, 0, 0, 0, 9]);
    let moved = Moved { generation: 4, vni: Vni::new(100).unwrap(), node, host: 3 };
    world.of(0, |tunnels, now| tunnels.report_moved(2, moved, now));
    world.run(50);
    assert_eq!(world.hosts[1].moved, [], "there is no tunnel");
    world.of(0, |tunnels, now| tunnels.start(2, now));
    world.run(300);
    assert!(world.hosts[0].tunnels.is_up(2) && !world.hosts[0].tunnels.is_up(3));
    assert_eq!(world.hosts.each_ref().map(|host| host.is.len()), [1; 2]);
    world.of(0, |tunnels, now| tunnels.report_moved(2, moved, now));
    world.run(50);
    assert_eq!(world.hosts[1].moved, [(1, moved)]);
}

#[test]
fn a_number_is_free_when_no_lcore_has_its_keys() {
    let mut host = Host::new(1, wanted(TunnelMode::Required));
    host.know(2, 0);
    host.know(3, 0);
    host.know(4, 0);
    let index = |host: &Host, of: u32| host.tunnels.of(of).map(|tunnel| tunnel.index.get());
    assert_eq!([2, 3, 4].map(|of| index(&host, of)), [Some(0), Some(1), None], "as many as there may be");
    host.tunnels.remove_peer(2, now(1));
    host.know(4, 1);
    assert_eq!(index(&host, 4), None, "lcores may still have the keys of host 2 there");
    host.serve_lcores();
    host.tunnels.tick(now(2));
    host.know(4, 3);
    assert_eq!((index(&host, 4), index(&host, 3)), (Some(0), Some(1)));
}

#[test]
fn another_key_or_name_is_another_peer() {
    let mut world = World::new(REQUIRED);
    world.of(0, |tunnels, now| tunnels.start(2, now));
    world.run(300);
    let known = Some((key(9).public(), address(2)));
    world.of(0, |tunnels, now| tunnels.put_peer(2, &name(2), known, now));
    world.run(100);
    assert!(!world.hosts[0].tunnels.sas.is_active(2), "nothing is sealed for the old key");
    assert_eq!(world.hosts[0].tunnels.sas.inbound(2).count(), 0, "and nothing of it accepted");
    world.of(0, |tunnels, now| tunnels.put_peer(2, &name(7), None, now));
    assert_eq!(world.hosts[0].tunnels.host_named("hv-2"), None);
    assert_eq!(world.hosts[0].tunnels.of(2), None, "a host without a key has no tunnel");
}

#[test]
fn traffic_is_what_the_counters_say() {
    let limits = Limits::HANDSHAKE;
    let mut sas = Sas::default();
    let spi = |n: u32| Spi::new(stopover_tunnel::SaIndex::new(n).unwrap(), 0);
    for (session, at) in [(70, 1), (60, 2)] {
        sas.add_inbound(5, session, spi(at), Millis(0));
    }
    assert_eq!(sas.traffic(&limits), []);
    assert_eq!(sas.inbound(5).count(), 2);
    sas.retire(5, &[spi(1), spi(3)]);
    assert_eq!(sas.inbound(5).map(|sa| sa.session).collect::<Vec<_>>(), [60]);
    sas.retire(5, &[spi(2)]);
    assert_eq!(sas.totals(5), [stopover_tunnel::sa::SaStats::default(); 2]);
}

#[test]
fn the_mode_of_a_host_is_that_of_all_its_networks() {
    let mode = |hosts: &[(u32, TunnelMode)], networks: &[(u32, TunnelMode)], default| {
        let mut config = wanted(default);
        config.hosts = hosts.iter().map(|(n, mode)| (name(*n), *mode)).collect();
        config.networks = networks.iter().map(|(n, mode)| (Vni::new(*n).unwrap(), *mode)).collect();
        let mut host = Host::new(1, config);
        host.know(2, 0);
        host.row(2, 0).mode
    };
    use TunnelMode::{Off, Required};
    assert_eq!(mode(&[], &[], Off), HostTunnelMode::Off);
    assert_eq!(mode(&[(2, Required)], &[(100, Off)], Off), HostTunnelMode::Required);
    assert_eq!(mode(&[(2, Off)], &[], Required), HostTunnelMode::Off);
    assert_eq!(mode(&[(2, Off)], &[(100, Required)], Required), HostTunnelMode::Mixed);
    assert_eq!(mode(&[], &[(100, Off)], Required), HostTunnelMode::Mixed);
    assert_eq!(mode(&[], &[(100, Off)], Off), HostTunnelMode::Off);
}

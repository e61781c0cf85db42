//! Named cases, each with what exactly happens.

use super::host::{self, PEER, Seeded, key};
use super::world::{Faults, World};
use super::{config, timing};
use std::time::Duration;
use stopover_net::{Mac, Vni};
use stopover_tunnel::Millis;
use stopover_tunnel::cipher::Algorithm;
use stopover_tunnel::handshake::{
    Action, Config, DownReason, Endpoint, HandshakeDrop, Moved, Now, Timing, Traffic, datagram,
};

fn sound() -> World {
    World::new(1, [config(2), config(3)], Faults::default())
}

#[test]
fn a_start_takes_one_handshake() {
    let mut world = sound();
    world.run_until(500);
    world.assert_in_step();
    assert_eq!((world.sessions(), world.lost), (1, 0), "both started at once, and agreed on one");
    assert!(
        world.drops.keys().all(|reason| ["handshake_crossed", "handshake_unexpected"].contains(reason)),
        "{:?}",
        world.drops
    );
}

#[test]
fn a_session_in_use_is_replaced_in_time() {
    let mut world = sound();
    world.run_until(60_000);
    world.assert_in_step();
    assert_eq!(world.lost, 0);
    // Every 5 to 6 s.
    assert!((10..=13).contains(&world.sessions()), "{}", world.sessions());
}

#[test]
fn a_restart_takes_well_below_a_second() {
    for host in 0..2 {
        let mut world = sound();
        world.run_until(3000);
        world.restart(host);
        world.run_until(3500);
        world.assert_in_step();
        assert_eq!(world.sessions(), 2, "host {host}");
        // What the peer sent before it knew: frames of two or three sender queues, every 50 ms.
        let lost = world.lost;
        assert!(lost <= 9, "{lost}");
        world.run_until(20_000);
        world.assert_in_step();
        assert_eq!(world.lost, lost);
    }
}

/// Who repeats datagrams from another address diverts nothing: not the answers, and so not the frames.
#[test]
fn answers_go_to_the_address_of_the_board() {
    let mut world = sound();
    world.run_until(3000);
    world.repeated_from = Some(([198, 51, 100, 9], 4789).into());
    for host in [0, 1, 0] {
        world.rekey(host);
        let end = world.now(0).at.0 + 1000;
        world.run_until(end);
    }
    world.assert_in_step();
    assert_eq!((world.sessions(), world.lost), (4, 0));
}

#[test]
fn a_clock_that_went_back_costs_a_cookie() {
    let mut world = sound();
    world.clock_back = true;
    world.run_until(3000);
    for host in [0, 0, 1, 1] {
        world.restart(host);
        world.run_until(world.now(0).at.0 + 1000);
        world.assert_in_step();
    }
    assert!(world.drops.contains_key("handshake_stale"), "{:?}", world.drops);
}

/// One that is delayed until a newer session is in use must not bring its own session back.
#[test]
fn a_confirmation_that_comes_late() {
    for seed in [6527422485985088900, 12375555341748975] {
        let mut world = World::new(seed, [config(3), config(1)], Faults { loss: 26, doubled: 6, delay: 287 });
        world.run_until(30_000);
        world.faults = Faults::default();
        world.run_until(90_000);
        world.assert_in_step();
        assert_eq!(world.lost, 0, "{seed}");
    }
}

#[test]
fn a_stronger_cipher_is_what_both_use() {
    let strong = Config { algorithm: Algorithm::Aes256Gcm, ..config(1) };
    for configs in [[config(1), strong], [strong, config(1)]] {
        let mut world = World::new(1, configs, Faults::default());
        world.run_until(500);
        world.assert_in_step();
        assert!(world.hosts.iter().all(|host| host.outbound[0].1.key.len() == 32 + 4));
    }
}

#[test]
fn a_host_under_load_wants_a_cookie_first() {
    let busy = Config { busy_above: 0, ..config(1) };
    let mut world = World::new(1, [busy, busy], Faults::default());
    world.run_until(1000);
    world.assert_in_step();
    assert!(world.drops["handshake_needs_cookie"] >= 1);
}

/// An endpoint with a peer that answers nothing.
struct Alone {
    endpoint: Endpoint,
    rng: Seeded,
    out: Vec<Action>,
}

impl Alone {
    fn new(timing: Timing) -> Self {
        let mut rng = Seeded(5);
        let config = Config { timing, ..config(1) };
        let mut endpoint = Endpoint::new(key(0), config, at(0), &mut rng);
        let mut out = Vec::new();
        endpoint.add_peer(PEER, key(1).public(), host::address(1), at(0), &mut out);
        Self { endpoint, rng, out }
    }

    fn start(&mut self, ms: u64) {
        self.endpoint.start(PEER, at(ms), &mut self.rng, &mut self.out);
    }

    fn receive(&mut self, bytes: &[u8], ms: u64) -> Result<(), HandshakeDrop> {
        self.endpoint.receive(host::address(1), bytes, at(ms), &mut self.rng, &mut self.out)
    }

    /// Lets the time pass, and returns when datagrams were sent.
    fn sent_until(&mut self, end: u64) -> Vec<u64> {
        let mut times = Vec::new();
        while let Some(Millis(ms)) = self.endpoint.next_timeout().filter(|at| at.0 <= end) {
            self.out.clear();
            self.endpoint.tick(at(ms), &mut self.rng, &mut self.out);
            times.extend(self.out.iter().filter(|action| matches!(action, Action::Send { .. })).map(|_| ms));
        }
        times
    }

    fn datagrams(&self) -> Vec<Vec<u8>> {
        let sent = |action: &Action| match action {
            Action::Send { datagram, .. } => Some(datagram.clone()),
            _ => None,
        };
        self.out.iter().filter_map(sent).collect()
    }
}

fn at(ms: u64) -> Now {
    Now { at: Millis(ms), wall_ns: (1 << 60) + ms * 1_000_000 }
}

#[test]
fn an_initiation_is_repeated_with_longer_waits_and_then_given_up() {
    let mut alone = Alone::new(Timing { wanted_life: Duration::from_secs(20), ..timing() });
    alone.start(0);
    assert_eq!(alone.datagrams().len(), 2, "ML-KEM's key takes two pieces");
    let mut times = alone.sent_until(9_000);
    times.dedup();
    let waits: Vec<u64> = std::iter::once(&0).chain(&times).zip(&times).map(|(a, b)| b - a).collect();
    assert!(
        waits
            .iter()
            .zip([200, 400, 800, 1600, 3200])
            .all(|(wait, least)| (least..=least * 5 / 4).contains(wait)),
        "{waits:?}"
    );
    assert!(times.len() == 5 || times.len() == 4, "{times:?}");
    alone.sent_until(15_000);
    let quiet = alone.sent_until(100_000);
    assert!(quiet.iter().all(|at| *at < 45_000), "{quiet:?}");
    assert_eq!(alone.endpoint.next_timeout(), None);
    alone.start(100_000);
    assert!(alone.endpoint.next_timeout().is_some());
}

#[test]
fn a_missing_answer_is_reported_once() {
    let mut alone = Alone::new(timing());
    alone.start(0);
    let mut down = 0;
    while let Some(Millis(ms)) = alone.endpoint.next_timeout().filter(|at| at.0 < 60_000) {
        alone.out.clear();
        alone.endpoint.tick(at(ms), &mut alone.rng, &mut alone.out);
        down += alone
            .out
            .iter()
            .filter(|action| **action == Action::Down { peer: PEER, why: DownReason::NoAnswer })
            .count();
    }
    assert_eq!(down, 1);
}

#[test]
fn bad_datagrams_are_dropped_for_their_reason() {
    let mut alone = Alone::new(timing());
    assert_eq!(alone.receive(&[0; 15], 0), Err(HandshakeDrop::Malformed));
    let piece = datagram::build_pieces(datagram::Message::Initiation, 1, 0, &[1; 100]).remove(0);
    assert_eq!(alone.receive(&piece, 0), Err(HandshakeDrop::BadMac));
    let mut stranger = Seeded(9);
    let mut other = Endpoint::new(key(2), config(1), at(0), &mut stranger);
    let mut out = Vec::new();
    other.add_peer(1, key(0).public(), host::address(0), at(0), &mut out);
    other.start(1, at(0), &mut stranger, &mut out);
    let sent: Vec<_> = out
        .iter()
        .filter_map(|action| if let Action::Send { datagram, .. } = action { Some(datagram) } else { None })
        .collect();
    assert_eq!(alone.receive(sent[0], 0), Ok(()));
    assert_eq!(alone.receive(sent[1], 0), Err(HandshakeDrop::UnknownPeer));
    assert_eq!(alone.out, []);
}

#[test]
fn what_is_replayed_changes_nothing() {
    let mut world = sound();
    world.run_until(8500);
    assert!(world.sessions() >= 2);
    let before = world.hosts.each_ref().map(|host| (host.outbound.clone(), host.inbound.clone()));
    let record = world.record.clone();
    assert!(record.len() >= 12, "two handshakes of two pieces, response and confirmation each");
    for (host, datagram) in &record {
        let (now, mut out) = (world.now(*host), Vec::new());
        let from = host::address(1 - host);
        let done = world.hosts[*host].endpoint.receive(from, datagram, now, &mut Seeded(3), &mut out);
        // A first piece alone is no message, and does nothing.
        assert!(done.is_err() || out.is_empty(), "{out:?}");
        let cookie = |action: &Action| matches!(action, Action::Send { datagram, .. } if datagram.len() < 80);
        assert!(out.iter().all(cookie), "{out:?}");
    }
    world.run_until(9900);
    assert_eq!(world.hosts.each_ref().map(|host| (host.outbound.clone(), host.inbound.clone())), before);
}

#[test]
fn a_peer_without_a_sign_of_life_is_down_and_its_sas_stay() {
    let mut world = sound();
    world.run_until(1000);
    let mut out = Vec::new();
    let mut downs = Vec::new();
    for ms in (1000..12_000).step_by(10) {
        let now = Now { at: Millis(ms), wall_ns: (1 << 60) + ms * 1_000_000 };
        let endpoint = &mut world.hosts[0].endpoint;
        let traffic = Traffic { sent: true, ..Traffic::default() };
        endpoint.traffic(PEER, traffic, now, &mut Seeded(ms), &mut out);
        endpoint.tick(now, &mut Seeded(ms), &mut out);
        downs.extend(out.drain(..).filter_map(|action| match action {
            Action::Down { why, .. } => Some((ms, why)),
            Action::Deactivate { .. } => panic!("its SAs stay"),
            _ => None,
        }));
    }
    // 3 s, and three probes every 300 ms.
    assert!(matches!(downs[..], [(3900..=4300, DownReason::Silent)]) || downs.len() == 1, "{downs:?}");
    assert_eq!(downs[0].1, DownReason::Silent);
}

#[test]
fn a_removed_peer_leaves_nothing() {
    let mut world = sound();
    world.run_until(1000);
    let now = world.now(0);
    let mut out = Vec::new();
    world.hosts[0].endpoint.remove_peer(PEER, now, &mut out);
    let retired: usize =
        out.iter().map(|action| if let Action::Retire { spis, .. } = action { spis.len() } else { 0 }).sum();
    assert_eq!(retired, world.hosts[0].inbound.len());
    assert!(out.contains(&Action::Deactivate { peer: PEER }));
    assert!(out.contains(&Action::Down { peer: PEER, why: DownReason::Closed }));
    assert_eq!(world.hosts[0].endpoint.next_timeout(), None);
}

#[test]
fn a_moved_node_is_reported_under_the_session() {
    let mut world = sound();
    let node = Mac::new([0x52, 0x54, 0, 0, 0, 9]);
    let moved = Moved { generation: 1 << 40, vni: Vni::new(0xabcdef).unwrap(), node, host: 12 };
    assert!(!world.report_moved(1, moved), "without a session");
    world.run_until(1000);
    assert!(world.report_moved(1, moved));
    world.run_until(1100);
    assert_eq!(world.moved, [(0, moved)]);
    // The network may repeat it.
    let (to, datagram) = world.record.last().cloned().unwrap();
    let (now, mut out) = (world.now(to), Vec::new());
    let done = world.hosts[to].endpoint.receive(host::address(1), &datagram, now, &mut Seeded(1), &mut out);
    assert_eq!((done, out), (Err(HandshakeDrop::Unexpected), vec![]));
}

/// Frames under an unknown SPI start a handshake with the peer that is at their address now, and with no other.
#[test]
fn a_hint_concerns_the_peer_at_its_address() {
    let mut rng = Seeded(3);
    let mut out = Vec::new();
    let mut endpoint = Endpoint::new(key(0), config(1), at(0), &mut rng);
    let [here, there, nowhere] = [1, 2, 3].map(host::address);
    endpoint.add_peer(PEER, key(1).public(), here, at(0), &mut out);
    let mut hint = |endpoint: &mut Endpoint, from, ms| {
        let mut out = Vec::new();
        endpoint.unknown_spi(from, at(ms), &mut rng, &mut out);
        out.iter().any(|action| matches!(action, Action::Send { .. }))
    };
    assert!(!hint(&mut endpoint, nowhere, 0));
    endpoint.add_peer(PEER, key(1).public(), there, at(0), &mut out);
    assert!(!hint(&mut endpoint, here, 2000), "it has moved");
    assert!(hint(&mut endpoint, there, 4000));
    endpoint.remove_peer(PEER, at(5000), &mut out);
    assert!(!hint(&mut endpoint, there, 9000));
}

//! Hosts on LANs that are joined and separated: one host of a LAN forwards, and never two.

use super::*;

const PORT: u16 = 3;

fn name(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

fn segment(port: u16, vlan: u16, vni: u32) -> Segment {
    Segment { port, vlan, vni: Vni::new(vni).unwrap(), mac: Mac::new([2, 0, 0, 0, 0, port as u8]) }
}

/// Hosts with their segments, all on LANs, and the time.
struct World {
    hosts: Vec<Loops>,
    /// By host and port, the LAN.
    cables: HashMap<(usize, u16), u32>,
    /// LANs that reflect frames.
    mirrors: Vec<u32>,
    blocked: HashMap<(usize, u16, u16), bool>,
    reports: Vec<(usize, Option<Reason>)>,
    now_ms: u64,
    knows: bool,
}

impl World {
    fn new(hosts: &[(&str, &[Segment])]) -> Self {
        let mut world = Self {
            hosts: Vec::new(),
            cables: HashMap::new(),
            mirrors: Vec::new(),
            blocked: HashMap::new(),
            reports: Vec::new(),
            now_ms: 0,
            knows: true,
        };
        for (at, (host, segments)) in hosts.iter().enumerate() {
            let (loops, effects) = Loops::new(name(host), at as u64, segments.to_vec());
            world.hosts.push(loops);
            world.act(at, effects);
        }
        world
    }

    fn act(&mut self, host: usize, effects: Vec<Effect>) {
        for action in effects {
            match action {
                Effect::Send { port, frame, .. } => self.carry(host, port, &frame),
                Effect::Block { port, vlan, on } => {
                    self.blocked.insert((host, port, vlan), on);
                }
                Effect::Report(Report::Loop { blocked, .. }) => self.reports.push((host, blocked)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// A frame reaches all others on its LAN.
    fn carry(&mut self, host: usize, port: u16, frame: &[u8]) {
        let Some(lan) = self.cables.get(&(host, port)).copied() else { return };
        let mirror = self.mirrors.contains(&lan);
        let others: Vec<_> = self
            .cables
            .iter()
            .filter(|(at, on)| **on == lan && (**at != (host, port) || mirror))
            .map(|(at, _)| *at)
            .collect();
        for (to, at) in others {
            let knows = self.knows;
            let effects = self.hosts[to].on_probe(self.now_ms, at, frame, |_| knows);
            self.act(to, effects);
        }
    }

    fn plug(&mut self, host: usize, port: u16, lan: Option<u32>) {
        match lan {
            Some(lan) => self.cables.insert((host, port), lan),
            None => self.cables.remove(&(host, port)),
        };
        let effects = self.hosts[host].link(self.now_ms, port, lan.is_some());
        self.act(host, effects);
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            for host in 0..self.hosts.len() {
                let effects = self.hosts[host].tick(self.now_ms);
                self.act(host, effects);
            }
        }
    }

    fn forwards(&self, host: usize, port: u16, vlan: u16) -> bool {
        !self.blocked[&(host, port, vlan)]
    }

    /// Which of the first `n` hosts forward untagged frames from [`PORT`].
    fn forwarding(&self, n: usize) -> Vec<bool> {
        (0..n).map(|host| self.forwards(host, PORT, 0)).collect()
    }
}

#[test]
fn one_of_two_gateways_on_a_lan_forwards() {
    let mut world = World::new(&[("gw-b", &[segment(PORT, 0, 100)]), ("gw-a", &[segment(PORT, 0, 100)])]);
    assert_eq!(world.forwarding(2), [false, false], "none without a link");
    world.plug(0, PORT, Some(1));
    world.run(LISTEN_MS - 1);
    assert_eq!(world.forwarding(2), [false, false]);
    world.run(1);
    assert_eq!((world.forwarding(2), world.reports.len()), (vec![true, false], 0));
    // A lower rank arrives: at no moment do both forward.
    world.plug(1, PORT, Some(1));
    for _ in 0..5000 {
        world.run(1);
        assert_ne!(world.forwarding(2), [true, true], "at {} ms", world.now_ms);
    }
    assert_eq!(world.forwarding(2), [false, true]);
    assert_eq!(world.reports, [(0, Some(Reason::Forwards(name("gw-a"))))]);
    assert_eq!(world.hosts[0].blocked().count(), 1);
    // It leaves: the other one forwards within seconds.
    world.plug(1, PORT, None);
    world.run(EXPIRE_MS + PROBE_MS);
    assert_eq!(world.forwarding(2), [true, false]);
    assert_eq!((world.reports.last(), world.hosts[0].blocked().count()), (Some(&(0, None)), 0));
}

#[test]
fn of_many_that_start_together_one_forwards() {
    let names = ["d", "b", "a", "e", "c"];
    let segments = [segment(PORT, 0, 100)];
    let hosts: Vec<_> = names.iter().map(|name| (*name, &segments[..])).collect();
    let mut world = World::new(&hosts);
    for host in 0..5 {
        world.plug(host, PORT, Some(1));
    }
    for _ in 0..10_000 {
        world.run(1);
        assert!(world.forwarding(5).iter().filter(|forwards| **forwards).count() <= 1);
    }
    assert_eq!(world.forwarding(5), [false, false, true, false, false]);
}

#[test]
fn lans_joined_later_are_detected_within_a_probe() {
    let mut world = World::new(&[("a", &[segment(PORT, 0, 100)]), ("b", &[segment(PORT, 0, 100)])]);
    world.plug(0, PORT, Some(1));
    world.plug(1, PORT, Some(2));
    world.run(2500);
    assert_eq!(world.forwarding(2), [true, true]);
    // No port loses its link.
    world.cables.insert((1, PORT), 1);
    world.run(PROBE_MS);
    assert_eq!(world.forwarding(2), [true, false]);
    world.cables.insert((1, PORT), 2);
    world.run(EXPIRE_MS);
    assert_eq!(world.forwarding(2), [true, true]);
    // The packet path suspects a loop, so it does not take that long.
    world.run(PROBE_MS / 2);
    world.cables.insert((1, PORT), 1);
    let report = Effect::Report(Report::Repeats { port: PORT, vlan: 0 });
    assert_eq!(world.hosts[0].suspect(world.now_ms, PORT, 0), Some(report));
    assert_eq!(world.hosts[0].suspect(world.now_ms, PORT, 0), None, "once in a while");
    world.run(1);
    assert_eq!(world.forwarding(2), [true, false]);
}

#[test]
fn two_ports_of_one_host_on_a_trunk_are_decided_per_vlan() {
    let trunk = [segment(PORT, 10, 110), segment(PORT, 20, 120), segment(4, 10, 110), segment(4, 30, 130)];
    let mut world = World::new(&[("a", &trunk)]);
    world.plug(0, PORT, Some(1));
    world.plug(0, 4, Some(1));
    world.run(5000);
    let forwarding =
        [(PORT, 10), (PORT, 20), (4, 10), (4, 30)].map(|(port, vlan)| world.forwards(0, port, vlan));
    assert_eq!(forwarding, [true, true, false, true], "only the network that both are in");
    world.plug(0, PORT, None);
    world.run(EXPIRE_MS);
    assert!(world.forwards(0, 4, 10) && !world.forwards(0, PORT, 20));
}

#[test]
fn reflecting_lan_is_blocked() {
    let mut world = World::new(&[("a", &[segment(PORT, 0, 100)])]);
    world.plug(0, PORT, Some(1));
    world.run(2000);
    assert_eq!(world.forwarding(1), [true]);
    world.mirrors.push(1);
    world.run(PROBE_MS);
    assert_eq!((world.forwarding(1), &world.reports[..]), (vec![false], &[(0, Some(Reason::Reflected))][..]));
    world.run(20_000);
    assert_eq!(world.forwarding(1), [false], "as long as it does so");
    world.mirrors.clear();
    world.run(EXPIRE_MS);
    assert_eq!(world.forwarding(1), [true]);
}

#[test]
fn other_networks_and_overlays_are_no_loop() {
    let mut world = World::new(&[("a", &[segment(PORT, 0, 100)]), ("b", &[segment(PORT, 0, 200)])]);
    world.plug(0, PORT, Some(1));
    world.plug(1, PORT, Some(1));
    world.run(2000);
    assert_eq!(world.forwarding(2), [true, true]);
    let mut world = World::new(&[("a", &[segment(PORT, 0, 100)]), ("b", &[segment(PORT, 0, 100)])]);
    world.knows = false;
    world.plug(0, PORT, Some(1));
    world.plug(1, PORT, Some(1));
    world.run(2000);
    assert_eq!(world.forwarding(2), [true, true]);
    // Another frame for the same address is ignored.
    let mut frame = loop_probe::DESTINATION.octets().to_vec();
    frame.resize(60, 7);
    assert_eq!(world.hosts[0].on_probe(5000, PORT, &frame, |_| true), []);
}

#[test]
fn loops_are_due_at_probes_and_when_listening_ends() {
    let (mut loops, _) = Loops::new(name("b"), 1, vec![segment(PORT, 0, 100)]);
    assert_eq!(loops.next_timeout(), None, "no link");
    loops.link(1000, PORT, true);
    assert_eq!(loops.next_timeout(), Some(1000));
    loops.tick(1000);
    assert_eq!(loops.next_timeout(), Some(1000 + FAST_PROBE_MS));
    loops.tick(1250);
    assert_eq!(loops.next_timeout(), Some(1000 + LISTEN_MS), "before the next probe");
    loops.tick(1300);
    assert_eq!(loops.next_timeout(), Some(1350));
    loops.tick(1350);
    assert_eq!(loops.next_timeout(), Some(1350 + PROBE_MS));
    // A lower rank blocks it until it expires.
    let probe = Probe { vni: Vni::new(100).unwrap(), port: 0, vlan: 0, instance: 2, host: name("a") };
    loops.on_probe(1400, PORT, &loop_probe::build(Mac::new([2; 6]), &probe), |_| true);
    for now_ms in [2350, 3350, 4350] {
        assert_eq!(loops.next_timeout(), Some(now_ms));
        loops.tick(now_ms);
    }
    assert_eq!(loops.next_timeout(), Some(1400 + EXPIRE_MS));
    loops.link(4400, PORT, false);
    assert_eq!(loops.next_timeout(), None);
}

/// A host that sleeps until [`Loops::next_timeout`] decides as early as one that looks every millisecond.
#[test]
fn sleeping_until_the_next_timeout_misses_nothing() {
    let run = |sleeps: bool| {
        let (mut loops, _) = Loops::new(name("b"), 1, vec![segment(PORT, 0, 100), segment(4, 7, 100)]);
        let mut effects = loops.link(10, PORT, true);
        effects.extend(loops.link(25, 4, true));
        let mut history = vec![(0, effects)];
        for now_ms in 30..9_000 {
            if sleeps && loops.next_timeout().is_none_or(|due_ms| now_ms < due_ms) {
                continue;
            }
            let effects = loops.tick(now_ms);
            if !effects.is_empty() {
                history.push((now_ms, effects));
            }
        }
        history
    };
    let history = run(true);
    assert!(history.len() > 10, "{history:?}");
    assert_eq!(history, run(false));
}

/// A port that comes later is blocked first, and one that is gone no longer counts.
#[test]
fn segments_come_and_go() {
    let (mut loops, _) = Loops::new(name("a"), 1, vec![segment(1, 0, 100)]);
    let blocked = |port, vlan| Effect::Block { port, vlan, on: true };
    assert_eq!(
        loops.add(vec![segment(PORT, 0, 100), segment(PORT, 7, 200)]),
        [blocked(PORT, 0), blocked(PORT, 7)]
    );
    loops.link(0, 1, true);
    loops.link(0, PORT, true);
    let sent = |effects: &[Effect]| {
        let ports = effects.iter().filter_map(|effect| match effect {
            Effect::Send { port, .. } => Some(*port),
            _ => None,
        });
        ports.collect::<Vec<_>>()
    };
    assert_eq!(sent(&loops.tick(0)), [1, PORT, PORT]);
    loops.remove_port(1);
    assert_eq!(sent(&loops.tick(FAST_PROBE_MS)), [PORT, PORT]);
    assert_eq!(loops.on_probe(FAST_PROBE_MS, 1, &[], |_| true), []);
    loops.remove_port(PORT);
    assert_eq!(loops.tick(2 * FAST_PROBE_MS), []);
    assert_eq!(loops.next_timeout(), None);
}

//! For any input: no panic, packet accounting holds, no frame is sent for an address that is not ours, and the output
//! is bounded.

use super::*;
use proptest::prelude::*;
use stopover_net::arp;
use stopover_net::frame::{self, Kind};
use stopover_net::nd::{self, Nd};

fn ports() -> Vec<UnderlayPort> {
    let plain = UnderlayPort {
        gateways: vec![ip("10.0.0.254"), ip("fe80::fe")],
        ..port(3, 1, &["10.0.0.1/24", "fd00::1/64"])
    };
    let vlan = Some(VlanId::new(30).unwrap());
    vec![plain, UnderlayPort { vlan, ..port(4, 7, &["10.1.0.7/16"]) }]
}

/// Checks that a frame is sent from the MAC of the port, with the tag of the port, for addresses of the port.
fn check_sent(config: &UnderlayPort, bytes: &[u8]) -> Result<(), TestCaseError> {
    let f = frame::parse(bytes, bytes.len()).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert_eq!(f.src, config.mac);
    prop_assert_eq!(f.vlan.map_or(0, |t| t.vid()), config.vlan.map_or(0, |v| v.get()));
    match f.kind {
        Kind::Arp => {
            let a = arp::parse(&f, bytes).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let probe = a.sender_ip.is_unspecified() && config.owns(a.target_ip.into());
            prop_assert!(probe || config.owns(a.sender_ip.into()));
            prop_assert_eq!(a.sender_mac, config.mac);
        }
        Kind::Ipv4(p) => prop_assert!(config.owns(p.src.into()) && !p.dst.is_multicast()),
        Kind::Ipv6(p) => match nd::parse(&f, bytes) {
            Ok(Nd::Advert(a)) => {
                prop_assert!(config.owns(a.target.into()) && a.target_mac == Some(config.mac))
            }
            Ok(Nd::Solicit(s)) => {
                prop_assert!(config.owns(s.src.into()) || (s.dad && config.owns(s.target.into())))
            }
            _ => prop_assert!(config.owns(p.src.into())),
        },
        Kind::Rarp | Kind::Other => prop_assert!(false, "what is this?"),
    }
    Ok(())
}

fn check(u: &Underlay, actions: &Actions) -> Result<(), TestCaseError> {
    prop_assert!(actions.send.len() <= 2 * 256 + 32, "{} frames", actions.send.len());
    prop_assert!(actions.events.len() <= 100);
    for (port, bytes) in &actions.send {
        let config = u.ports().find(|p| p.index == *port).unwrap();
        check_sent(config, bytes)?;
    }
    for (dst, r) in &actions.resolved {
        let config = u.ports().find(|p| p.index == r.port).unwrap();
        prop_assert!(config.owns(r.src_ip) && r.src_ip.is_ipv4() == dst.is_ipv4());
        prop_assert!(r.src_mac == config.mac && r.vlan == config.vlan && r.dst_mac.station().is_ok());
        let floor = if dst.is_ipv4() { 576 } else { 1_280 };
        prop_assert!((floor..=config.mtu).contains(&r.mtu));
        prop_assert!(!actions.lost.contains(dst));
    }
    Ok(())
}

/// Real frames of every kind this module understands.
fn seed() -> impl Strategy<Value = Vec<u8>> {
    let last = prop::sample::select(vec![1u8, 2, 3, 7, 253, 254, 255]);
    (0..11usize, last.clone(), last, any::<bool>()).prop_map(|(kind, a, b, tag)| {
        let vlan = tag.then(|| VlanId::new(30).unwrap());
        let from = UnderlayPort { vlan, ..port(0, a, &[]) };
        let net = u8::from(tag);
        let (a4, b4) = (Ipv4Addr::new(10, net, 0, a), Ipv4Addr::new(10, net, 0, b));
        let six = |last: u8| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into());
        let (a6, b6) = (six(a), six(b));
        match kind {
            0 => frames::arp_request(&from, None, a4, b4),
            1 => arp_reply(&from, a4, mac(b), b4),
            2 => frames::announcement(&from, a4.into()),
            3 => frames::arp_request(&from, None, Ipv4Addr::UNSPECIFIED, b4),
            4 => frames::solicit(&from, None, a6, b6),
            5 => frames::solicit(&from, Some(mac(b)), a6, b6),
            6 => frames::solicit(&from, None, Ipv6Addr::UNSPECIFIED, b6),
            7 => frames::advert(&from, a6, (mac(b), b6)),
            8 => frames::announcement(&from, a6.into()),
            9 => fragmentation_needed("10.0.0.1", "10.0.0.2", 4789, 1_550, 1_200 + u16::from(b)),
            _ => packet_too_big("fd00::1", "fd00::2", 4789, 1_550, 1_200 + u32::from(b)),
        }
    })
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    (
        seed(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        any::<Option<prop::sample::Index>>(),
    )
        .prop_map(|(mut frame, changes, cut)| {
            for (at, value) in changes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if let Some(cut) = cut {
                frame.truncate(cut.index(frame.len()));
            }
            frame
        })
}

#[derive(Debug, Clone)]
enum Step {
    Frame(usize, Vec<u8>),
    Tick,
    Link(usize, bool),
    Want(u8, bool),
    Unwant(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let port = 3..6usize;
    prop_oneof![
        4 => (port.clone(), seed()).prop_map(|(p, f)| Step::Frame(p, f)),
        4 => (port.clone(), mutated()).prop_map(|(p, f)| Step::Frame(p, f)),
        2 => (port.clone(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(p, f)| Step::Frame(p, f)),
        3 => Just(Step::Tick),
        1 => (port, any::<bool>()).prop_map(|(p, up)| Step::Link(p, up)),
        2 => (0..4u8, any::<bool>()).prop_map(|(n, six)| Step::Want(n, six)),
        1 => (0..4u8, any::<bool>()).prop_map(|(n, six)| Step::Unwant(n, six)),
    ]
}

/// On the first link, on the second, and beyond a gateway.
fn destination(n: u8, six: bool) -> IpAddr {
    let (four, sixth) = [
        ("10.0.0.2", "fd00::2"),
        ("10.0.0.3", "fd00::3"),
        ("10.1.0.3", "2001:db8::1"),
        ("203.0.113.1", "::"),
    ][usize::from(n)];
    ip(if six { sixth } else { four })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_order_of_events(steps in prop::collection::vec((0..3_000u64, step()), 1..120)) {
        let mut u = Underlay::new(ports());
        let mut now_ms = 0;
        let mut reported = std::collections::BTreeMap::new();
        let mut frames = 0;
        for (pause_ms, step) in steps {
            now_ms += pause_ms;
            let actions = match step {
                Step::Frame(port, frame) => {
                    frames += u64::from(port < 5);
                    u.input(now_ms, port, &frame)
                }
                Step::Tick => u.tick(now_ms),
                Step::Link(port, up) => u.link(now_ms, port, up),
                Step::Want(n, six) => u.track(now_ms, destination(n, six), 4789),
                Step::Unwant(n, six) => {
                    reported.remove(&destination(n, six));
                    u.untrack(now_ms, destination(n, six), 4789);
                    Actions::default()
                }
            };
            check(&u, &actions)?;
            for dst in &actions.lost {
                prop_assert!(reported.remove(dst).is_some(), "{dst} lost that was never resolved");
            }
            for (dst, resolution) in actions.resolved {
                prop_assert_ne!(reported.insert(dst, resolution), Some(resolution), "reported twice");
            }
            prop_assert!(u.next_tick(now_ms) >= now_ms);
        }
        // The reports together give the state of the module.
        let believed: std::collections::BTreeMap<_, _> =
            u.show_destinations(now_ms).into_iter().filter_map(|row| Some((row.dst, row.resolution?))).collect();
        prop_assert_eq!(reported, believed);
        // Every destination uses exactly the neighbour of its route.
        let rows = u.show(now_ms);
        for row in u.show_destinations(now_ms) {
            let users: Vec<_> = rows.iter().filter(|n| n.used_by.contains(&row.dst)).map(|n| (n.port, n.ip)).collect();
            let hop: Vec<_> = row.hop.iter().map(|h| (h.port, h.next_hop_ip)).collect();
            prop_assert_eq!(users, hop);
        }
        let counted: u64 = [3, 4].into_iter().map(|p| {
            let c = u.counters(p).unwrap();
            Outcome::ALL.iter().map(|(o, _)| c.get(*o)).sum::<u64>()
        }).sum();
        prop_assert_eq!(counted, frames);
    }

    /// Ticks at `next_tick` always make progress: the next is later.
    #[test]
    fn the_clock_advances(wanted in 1..8u8, start in 0..u64::from(u32::MAX)) {
        let mut u = Underlay::new(ports());
        u.link(start, 3, true);
        for n in 0..wanted {
            u.track(start, destination(n % 4, n >= 4), 4789);
        }
        let mut now_ms = start;
        for _ in 0..200 {
            let next = u.next_tick(now_ms);
            prop_assert!(next >= now_ms);
            now_ms = next;
            u.tick(now_ms);
            prop_assert!(u.next_tick(now_ms) > now_ms);
        }
        prop_assert!(now_ms > start + 60_000);
    }
}

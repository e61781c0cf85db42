//! For any input nothing panics, the packet accounting holds, and only expected frames are sent.

use super::frames::{FROM_1, FROM_2, Tunnel, advert, arp_request, solicit, tagged, udp4, udp6};
use super::*;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use std::cell::RefCell;

const UNDERLAYS: [u16; 2] = [UNDERLAY, UNDERLAY_30];

/// Valid frames of every kind, to be damaged.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let tcp = frames::tcp(A.ip4.into(), R1.ip4.into(), 1, 0x18, &frames::data(3000));
    let tcp = frames::eth(R1.mac, A.mac, frames::IPV4, &frames::ip4(A.ip4, R1.ip4, frames::TCP, 2, &tcp));
    let inner = vec![
        udp4(A, B, 40),
        udp4(S, R1, 1420),
        udp6(A, R2, 3, 40),
        udp4(R1, A, 40),
        tcp,
        arp_request(A, R1.ip4),
        arp_request(S, B.ip4),
        solicit(A.mac, A.ip6, R2.ip6),
        solicit(S.mac, Ipv6Addr::UNSPECIFIED, R1.ip6),
        advert((A.mac, A.ip6), S.mac, S.ip6, 0x60),
        frames::other(A.mac, Mac::BROADCAST, 60),
    ];
    let tunnels = [FROM_1, FROM_2, Tunnel { checksum: true, tos: 3, ..FROM_1 }];
    let outer: Vec<_> = inner.iter().flat_map(|f| tunnels.map(|t| t.around(f))).collect();
    let all = [inner, outer].concat();
    let tags: Vec<_> = all.iter().flat_map(|f| [tagged(f, 0x8100, 10), tagged(f, 0x8100, 30)]).collect();
    [all, tags].concat()
}

/// One change to a valid frame: bytes set, the end cut off, or bytes appended.
#[derive(Debug, Clone)]
enum Spoil {
    Set(Vec<(prop::sample::Index, u8)>),
    Cut(prop::sample::Index),
    Pad(Vec<u8>),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => vec((at(), any::<u8>()), 0..5).prop_map(Spoil::Set),
        1 => at().prop_map(Spoil::Cut),
        1 => vec(any::<u8>(), 0..40).prop_map(Spoil::Pad),
    ]
}

fn apply(frame: &mut Vec<u8>, spoil: &Spoil) {
    match spoil {
        Spoil::Set(_) | Spoil::Cut(_) if frame.is_empty() => {}
        // Most changes should hit headers: three of four are in the first 120 bytes.
        Spoil::Set(list) => list.iter().for_each(|(at, value)| {
            let reach = if value % 4 == 0 { frame.len() } else { frame.len().min(120) };
            let at = at.index(reach);
            frame[at] = *value;
        }),
        Spoil::Cut(at) => frame.truncate(at.index(frame.len())),
        Spoil::Pad(bytes) => frame.extend_from_slice(bytes),
    }
}

/// Marks that a guest's device may have left on it.
fn marked(frame: &[u8], unfilled: bool, gso: Option<u16>) -> VecPacket {
    let mut packet = VecPacket::new(frame);
    (packet.unfilled, packet.gso) = (unfilled, gso);
    packet
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

fn marks() -> impl Strategy<Value = (bool, Option<u16>)> {
    (any::<bool>(), prop::option::weighted(0.2, 0..3000u16))
}

fn check(lab: &mut Lab, port: u16, burst: Vec<VecPacket>) {
    lab.exits.pool.left = 100;
    let came_from_underlay = UNDERLAYS.contains(&port);
    let before = lab.counters.read().dropped[DropReason::TooBig as usize];
    let out = lab.burst(port, burst);
    // Split horizon: only an error about a packet too big may return.
    let too_big = (lab.counters.read().dropped[DropReason::TooBig as usize] - before) as usize;
    let to_underlay = out.ports().iter().filter(|p| UNDERLAYS.contains(p)).count();
    assert!(!came_from_underlay || to_underlay <= too_big, "{out:?}");
    for ((to, frame), packet) in out.sent.iter().zip(&out.packets) {
        let finished = !packet.unfilled && packet.gso.is_none();
        assert!(finished || (*to == VM_B && packet.requested.is_some()), "port {to}: {frame:02x?}");
    }
}

#[test]
fn any_bytes_into_any_port() {
    let lab = RefCell::new(Lab::new());
    let strategy = (0..7u16, vec((vec(any::<u8>(), 0..200), marks()), 1..8));
    runner(512)
        .run(&strategy, |(port, burst)| {
            let burst = burst.iter().map(|(f, (unfilled, gso))| marked(f, *unfilled, *gso)).collect();
            check(&mut lab.borrow_mut(), port, burst);
            Ok(())
        })
        .unwrap();
}

#[test]
fn spoiled_frames_into_any_port() {
    let seeds = seeds();
    let lab = RefCell::new(Lab::new());
    let frame = (any::<prop::sample::Index>(), vec(spoil(), 0..3), marks());
    let strategy = (0..7u16, vec(frame, 1..8));
    runner(4096)
        .run(&strategy, |(port, burst)| {
            let burst = burst
                .iter()
                .map(|(seed, spoils, (unfilled, gso))| {
                    let mut frame = seeds[seed.index(seeds.len())].clone();
                    spoils.iter().for_each(|s| apply(&mut frame, s));
                    marked(&frame, *unfilled, *gso)
                })
                .collect();
            check(&mut lab.borrow_mut(), port, burst);
            Ok(())
        })
        .unwrap();
    // The seeds are useful: they reach every exit and most stages.
    let packets = lab.borrow().counters.read();
    assert!(packets.sent > 0 && packets.copied > 0 && packets.to_control > 0);
}

#[test]
fn a_frame_to_another_host_and_back_is_the_same_frame() {
    let lab = RefCell::new(Lab::new());
    let strategy = (prop::sample::select(vec![VM_A, VM_B]), any::<u8>(), 0..1300usize, any::<bool>());
    runner(512)
        .run(&strategy, |(port, class, len, v6)| {
            let lab = &mut *lab.borrow_mut();
            let from = if port == VM_A { A } else { B };
            for (to, tunnel, outer) in [(R1, FROM_1, 50), (R2, FROM_2, 70)] {
                let class = class & !3;
                let there =
                    if v6 { udp6(from, to, class, len) } else { frames::udp4_tos(from, to, class, len) };
                let sent = lab.one(port, &there);
                prop_assert_eq!(&sent.only(UNDERLAY)[outer..], &there[..]);
                let back =
                    if v6 { udp6(to, from, class, len) } else { frames::udp4_tos(to, from, class, len) };
                let received = lab.one(UNDERLAY, &Tunnel { tos: class, ..tunnel }.around(&back));
                prop_assert_eq!(received.only(port), &back[..]);
            }
            Ok(())
        })
        .unwrap();
}

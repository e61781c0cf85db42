//! Which frames take the fast path: of each condition in docs/path-of-a-frame.md, a frame that just meets it and one that
//! just does not. [`Lab::burst`] compares [`eligible`] with the path that each frame of every test takes. The slow path
//! does the same with what is eligible.

use super::{
    frames::{
        FROM_1, FROM_2, Tunnel, arp_request, eth, icmp4, icmp6, ip4, ip6, tagged, tcp, udp4, udp4_tos, udp6,
    },
    golden::{Frames, is_migrating},
    migration::record,
    *,
};
use crate::{migration::record::RecordMode, pipeline::eligible::eligible};

/// A frame at a port, and what is changed before.
struct Case {
    port: u16,
    packet: VecPacket,
    change: fn(&mut Lab),
}

fn at(port: u16, frame: &[u8]) -> Case {
    Case { port, packet: VecPacket::new(frame), change: |_| {} }
}

impl Case {
    fn after(self, change: fn(&mut Lab)) -> Self {
        Self { change, ..self }
    }

    fn with(mut self, mark: impl FnOnce(&mut VecPacket)) -> Self {
        mark(&mut self.packet);
        self
    }

    fn is_eligible(&self) -> bool {
        let mut lab = Lab::new();
        (self.change)(&mut lab);
        lab.publish();
        let is = eligible(&lab.view, &lab.ports, self.port, &self.packet);
        lab.burst(self.port, vec![self.packet.clone()]);
        assert_eq!(lab.notes.slow, usize::from(!is));
        is
    }
}

#[track_caller]
fn check(cases: impl IntoIterator<Item = (&'static str, Case, Case)>) {
    for (condition, inside, outside) in cases {
        assert!(inside.is_eligible(), "meets: {condition}");
        assert!(!outside.is_eligible(), "does not meet: {condition}");
    }
}

/// The same frame with other bytes from `offset` on.
fn with(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

fn options4(from: Station, to: Station) -> Vec<u8> {
    let plain = udp4(from, to, 18);
    let (header, rest) = plain[14..].split_at(20);
    let len = (plain.len() as u16 - 14 + 4).to_be_bytes();
    let mut header = [&[0x46, 0, len[0], len[1]], &header[4..10], &[0, 0], &header[12..], &[1; 4]].concat();
    let sum = frames::checksum(&[&header]).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    eth(to.mac, from.mac, frames::IPV4, &[&header, rest].concat())
}

fn from_a(frame: &[u8]) -> Case {
    at(VM_A, frame)
}

#[test]
fn the_frame_of_a_vif() {
    let plain = || udp4(A, R1, 18);
    let tcp4 = tcp4(A, R1, 40);
    let ping = eth(R1.mac, A.mac, frames::IPV4, &ip4(A.ip4, R1.ip4, 1, 0, &icmp4(8, 0, &[0; 8])));
    let (second, foreign) = (Station { ip4: SHARED, ..A }, Station { ip4: B.ip4, ..A });
    let pair = Station { ip4: Ipv4Addr::new(10, 1, 2, 3), ..A };
    let allow_pair = |lab: &mut Lab| {
        let Role::Vif(vif) = &mut lab.ports[usize::from(VM_A)].role else { panic!("a vif") };
        vif.allowed.pairs = [Pair { mac: A.mac, prefix: "10.1.0.0/16".parse().unwrap() }].into();
    };
    check([
        ("untagged", from_a(&plain()), from_a(&tagged(&plain(), 0x8100, 0xe000))),
        ("no stripped tag", from_a(&plain()), from_a(&plain()).with(|p| p.stripped = VlanId::new(10).ok())),
        ("TCP or UDP", from_a(&tcp4), from_a(&ping)),
        ("IPv4 or IPv6", from_a(&plain()), from_a(&with(plain(), 12, &[0x86, 0xde]))),
        ("without options", from_a(&plain()), from_a(&options4(A, R1))),
        ("no fragment", from_a(&with(plain(), 20, &[0x40])), from_a(&with(plain(), 20, &[0x20]))),
        ("no later fragment", from_a(&plain()), from_a(&with(plain(), 20, &[0, 1]))),
        ("no bad checksum", from_a(&plain()), from_a(&plain()).with(|p| p.bad_checksum = true)),
        ("own address", from_a(&udp4(second, R1, 18)), from_a(&udp4(foreign, R1, 18))),
        ("allowed address", from_a(&udp4(pair, R1, 18)).after(allow_pair), from_a(&udp4(pair, R1, 18))),
        ("own MAC", from_a(&plain()), from_a(&udp4(Station { mac: B.mac, ..A }, R1, 18))),
        (
            "a station's MAC",
            at(VM_200, &udp4(A, B, 18)).after(b_in_200),
            at(VM_200, &with(udp4(A, B, 18), 6, &[0; 6])).after(b_in_200),
        ),
        ("no DHCP server", from_a(&with(plain(), 34, &[0, 68])), from_a(&with(plain(), 34, &[0, 67]))),
        ("for one node", from_a(&plain()), from_a(&with(plain(), 0, &[1]))),
    ]);
}

fn tcp4(from: Station, to: Station, len: usize) -> Vec<u8> {
    let segment = tcp(from.ip4.into(), to.ip4.into(), 1, 0x18, &frames::data(len));
    eth(to.mac, from.mac, frames::IPV4, &ip4(from.ip4, to.ip4, frames::TCP, 0, &segment))
}

#[test]
fn the_ipv6_frame_of_a_vif() {
    let plain = || udp6(A, R1, 0, 18);
    let over_ip6 = |next, payload: &[u8]| {
        from_a(&eth(R1.mac, A.mac, frames::IPV6, &ip6(A.ip6, R1.ip6, next, 0, 64, payload)))
    };
    let segment = tcp(A.ip6.into(), R1.ip6.into(), 1, 0x18, &frames::data(40));
    let options = [&[frames::TCP, 0, 1, 4, 0, 0, 0, 0][..], &segment].concat();
    let foreign = Station { ip6: B.ip6, ..A };
    let chosen = Station { ip6: "fe80::1234".parse().unwrap(), ..A };
    let derived = Station { ip6: A.mac.link_local(), ..A };
    check([
        ("TCP or UDP", over_ip6(frames::TCP, &segment), over_ip6(58, &icmp6(A.ip6, R1.ip6, 128, &[0; 4]))),
        ("no extension header", over_ip6(frames::TCP, &segment), over_ip6(60, &options)),
        ("all there", from_a(&plain()), from_a(&with(plain(), 18, &[0, 27]))),
        ("own address", from_a(&plain()), from_a(&udp6(foreign, R1, 0, 18))),
        (
            "a declared link-local address",
            from_a(&udp6(derived, R1, 0, 18)),
            from_a(&udp6(chosen, R1, 0, 18)),
        ),
        ("no DHCP server", from_a(&with(plain(), 54, &[2, 34])), from_a(&with(plain(), 54, &[2, 35]))),
        // 48 bytes of IPv6 and UDP headers.
        ("fits", from_a(&udp6(A, R1, 0, 1450 - 48)), from_a(&udp6(A, R1, 0, 1451 - 48))),
    ]);
}

#[test]
fn the_frame_of_a_segment() {
    let from_t = |tci| at(TRUNK, &tagged(&udp4(T, R1, 18), 0x8100, tci));
    let block = |lab: &mut Lab| {
        let Role::Segment(segment) = &lab.ports[usize::from(TRUNK)].role else { panic!("a segment") };
        segment.gate.set_blocked(10, true);
    };
    let lock_s = |lab: &mut Lab| {
        lab.tables.set_migrating(record(lab, S.mac, SEGMENT, RecordMode::Window { cycles: 1000 })).unwrap();
    };
    let from_s = || at(SEGMENT, &udp4(S, R1, 18));
    let double = tagged(&tagged(&udp4(T, R1, 18), 0x8100, 10), 0x8100, 10);
    check([
        ("from a known station", from_s(), at(SEGMENT, &udp4(NOBODY, R1, 18))),
        ("known at this port", from_s(), at(SEGMENT, &udp4(T, R1, 18))),
        ("known in this VLAN", from_t(10), from_t(20)),
        ("at rest", from_s(), from_s().after(lock_s)),
        ("not blocked", from_t(10), from_t(10).after(block)),
        ("a VLAN with a network", from_t(0xf00a), from_t(11)),
        ("tagged or mapped", from_s(), at(TRUNK, &udp4(T, R1, 18))),
        ("tagged with a priority", at(SEGMENT, &tagged(&udp4(S, R1, 18), 0x8100, 0xe000)), from_t(0xe000)),
        ("a customer's tag", from_t(10), at(TRUNK, &tagged(&udp4(T, R1, 18), 0x88a8, 10))),
        ("one tag", from_t(10), at(TRUNK, &double)),
        ("no stripped tag", from_s(), from_s().with(|p| p.stripped = VlanId::new(10).ok())),
        ("for another port", from_t(10), at(TRUNK, &tagged(&udp4(T, T, 18), 0x8100, 10))),
        ("IPv4 or IPv6", at(SEGMENT, &udp6(S, R1, 0, 18)), at(SEGMENT, &arp_request(S, A.ip4))),
        // The tag does not count.
        (
            "fits",
            at(TRUNK, &tagged(&udp4(T, R1, 1450 - 28), 0x8100, 10)),
            at(TRUNK, &tagged(&udp4(T, R1, 1451 - 28), 0x8100, 10)),
        ),
    ]);
}

#[test]
fn what_a_sender_left_to_the_device() {
    let unfilled = |from: Case| from.with(|p| p.unfilled = true);
    let segments = |to: Station, size| from_a(&tcp4(A, to, 3000)).with(|p| p.gso = Some(size));
    let udp_segments = from_a(&udp4(A, B, 3000)).with(|p| p.gso = Some(1000));
    let no_segmentation = |lab: &mut Lab| lab.ports[usize::from(VM_B)].segments_tcp = false;
    let (to_host, to_b) = (|| from_a(&udp4(A, R1, 18)), || from_a(&udp4(A, B, 18)));
    let bad = |from: Case| from.with(|p| p.bad_checksum = true);
    check([
        ("a checksum, towards a host", unfilled(to_host()), bad(to_host())),
        ("a checksum, towards a port that fills it", unfilled(to_b()), bad(to_b())),
        (
            "a checksum, from a segment",
            unfilled(at(SEGMENT, &udp4(S, A, 18))),
            bad(at(SEGMENT, &udp4(S, A, 18))),
        ),
        ("segments, towards a port that cuts", segments(B, 1000), segments(S, 1000)),
        ("its device cuts", segments(B, 1000), segments(B, 1000).after(no_segmentation)),
        ("not towards a host", segments(B, 1000), segments(R1, 1000)),
        ("of TCP", segments(B, 1000), udp_segments),
        // 40 bytes of IPv4 and TCP headers.
        ("each fits", segments(B, 1500 - 40), segments(B, 1501 - 40)),
    ]);
}

/// B is behind the trunk in network 200, too.
fn b_in_200(lab: &mut Lab) {
    lab.tables.set_local(lab.net200, B.mac, TRUNK, 20, None).unwrap();
}

#[test]
fn the_destination_of_a_frame_of_a_vif() {
    let lock_r1 = |lab: &mut Lab| {
        lab.tables.set_migrating_flag(lab.net100, R1.mac, true);
    };
    let move_b = |lab: &mut Lab| {
        lab.tables.set_migrating(record(lab, B.mac, VM_B, RecordMode::Window { cycles: 1000 })).unwrap();
    };
    let (to_1, to_b) = (udp4(A, R1, 18), udp4(A, B, 18));
    check([
        ("registered", from_a(&to_1), from_a(&udp4(A, NOBODY, 18))),
        ("at a host with a path", from_a(&to_1), from_a(&udp4(A, R3, 18))),
        ("behind another port", from_a(&to_b), from_a(&udp4(A, A, 18))),
        ("at a host, at rest", from_a(&to_1), from_a(&to_1).after(lock_r1)),
        ("at a port, at rest", from_a(&to_b), from_a(&to_b).after(move_b)),
        // 28 bytes of IPv4 and UDP headers.
        ("fits behind IPv4", from_a(&udp4(A, R1, 1450 - 28)), from_a(&udp4(A, R1, 1451 - 28))),
        ("fits behind IPv6", from_a(&udp4(A, R2, 1430 - 28)), from_a(&udp4(A, R2, 1431 - 28))),
        ("fits the port", from_a(&udp4(A, B, 1500 - 28)), from_a(&udp4(A, B, 1501 - 28))),
    ]);
}

fn received(tunnel: Tunnel, inner: &[u8]) -> Case {
    at(UNDERLAY, &tunnel.around(inner))
}

#[test]
fn a_tunnel_datagram() {
    let inner = udp4(R1, A, 33);
    let good = || received(FROM_1, &inner);
    let bare = FROM_1.around(&inner);
    let refuse_plain = |lab: &mut Lab| {
        lab.tables.put_peer(Peer::new(1), true, Accept::Sealed).unwrap();
        lab.tables.put_vtep(HOST_1.into(), Peer::new(1)).unwrap();
    };
    let accept_both = |lab: &mut Lab| {
        lab.tables.put_peer(Peer::new(1), true, Accept::Both).unwrap();
        lab.tables.put_vtep(HOST_1.into(), Peer::new(1)).unwrap();
    };
    let unknown = Tunnel { src: "10.0.0.3".parse().unwrap(), ..FROM_1 };
    let loopback = Tunnel { src: "127.0.0.1".parse().unwrap(), ..FROM_1 };
    let other_address = Tunnel { dst: "10.0.0.77".parse().unwrap(), ..FROM_1 };
    let other_mac = Tunnel { macs: (NEXT_HOP, NEXT_HOP), ..FROM_1 };
    let checked = Tunnel { checksum: true, ..FROM_1 };
    check([
        ("untagged", good(), at(UNDERLAY, &tagged(&bare, 0x8100, 0))),
        ("no fragment", good(), at(UNDERLAY, &with(bare.clone(), 20, &[0x20]))),
        ("header checksum", good(), at(UNDERLAY, &with(bare.clone(), 24, &[bare[24] ^ 1]))),
        ("no wrong UDP checksum", received(checked, &inner), at(UNDERLAY, &spoilt(&checked.around(&inner)))),
        ("UDP port", good(), received(Tunnel { port: VXLAN_PORT + 1, ..FROM_1 }, &inner)),
        ("no overlay flags", good(), received(Tunnel { flags: 1, ..FROM_1 }, &inner)),
        ("known VTEP", good(), received(unknown, &inner)),
        ("a host's address", good(), received(loopback, &inner)),
        ("plain accepted", good().after(accept_both), good().after(refuse_plain)),
        ("our address", good(), received(other_address, &inner)),
        ("our MAC", good(), received(other_mac, &inner)),
        ("a network here", good(), received(Tunnel { vni: 101, ..FROM_1 }, &inner)),
        ("no mark of the device", good(), good().with(|p| p.unfilled = true)),
    ]);
}

/// With another last byte.
fn spoilt(frame: &[u8]) -> Vec<u8> {
    let last = frame.len() - 1;
    with(frame.to_vec(), last, &[frame[last] ^ 1])
}

#[test]
fn a_tunnel_datagram_over_ipv6_or_in_a_vlan() {
    let inner = udp4(R1, A, 33);
    let over_ip6 = FROM_2.around(&inner);
    let unchecked = Tunnel { checksum: false, ..FROM_2 };
    let in_vlan = |tunnel: Tunnel, tci| at(UNDERLAY_30, &tagged(&tunnel.around(&inner), 0x8100, tci));
    let unknown = Tunnel { src: "fd00::77".parse().unwrap(), ..FROM_2 };
    let loopback = Tunnel { src: "::1".parse().unwrap(), ..FROM_2 };
    let refuse_plain = |lab: &mut Lab| {
        lab.tables.put_peer(Peer::new(2), true, Accept::Sealed).unwrap();
        lab.tables.put_vtep(HOST_2.into(), Peer::new(2)).unwrap();
    };
    let good = || received(FROM_2, &inner);
    check([
        ("the VLAN of the underlay", in_vlan(FROM_1, 30), in_vlan(FROM_1, 31)),
        ("of any priority", in_vlan(FROM_2, 0xe01e), in_vlan(FROM_2, 0)),
        ("tagged where expected", in_vlan(FROM_1, 30), at(UNDERLAY_30, &FROM_1.around(&inner))),
        (
            "a customer's tag",
            in_vlan(FROM_1, 30),
            at(UNDERLAY_30, &tagged(&FROM_1.around(&inner), 0x88a8, 30)),
        ),
        ("with a UDP checksum", good(), received(unchecked, &inner)),
        ("without where accepted", in_vlan(unchecked, 30), received(unchecked, &inner)),
        ("the right one", good(), at(UNDERLAY, &spoilt(&over_ip6))),
        ("UDP next", good(), at(UNDERLAY, &with(over_ip6.clone(), 20, &[60]))),
        ("known VTEP", good(), received(unknown, &inner)),
        ("a host's address", good(), received(loopback, &inner)),
        ("plain accepted", good(), good().after(refuse_plain)),
    ]);
}

#[test]
fn the_inner_frame_of_a_datagram() {
    let ping6 = icmp6(R1.ip6, A.ip6, 128, &[0; 4]);
    let ping6 = eth(A.mac, R1.mac, frames::IPV6, &ip6(R1.ip6, A.ip6, 58, 0, 64, &ping6));
    let fragment = with(udp4(R1, A, 33), 20, &[0x20]);
    let inner = udp4(R1, A, 33);
    let congested = Tunnel { tos: 3, ..FROM_1 };
    let good = || received(FROM_1, &inner);
    check([
        ("IPv4 without options", received(FROM_1, &fragment), received(FROM_1, &options4(R1, A))),
        ("IPv6 with UDP", received(FROM_1, &udp6(R1, A, 0, 33)), received(FROM_1, &ping6)),
        ("IP", good(), received(FROM_1, &arp_request(R1, A.ip4))),
        ("untagged inside", good(), received(FROM_1, &tagged(&inner, 0x8100, 10))),
        ("for one node", good(), received(FROM_1, &with(inner.clone(), 0, &[1]))),
        ("from a station", good(), received(FROM_1, &with(inner.clone(), 6, &[1]))),
        ("from a station", good(), received(FROM_1, &with(inner.clone(), 6, &[0; 6]))),
        (
            "congestion mark kept",
            received(congested, &udp4_tos(R1, A, 3, 33)),
            received(congested, &udp4_tos(R1, A, 2, 33)),
        ),
    ]);
}

#[test]
fn the_destination_of_an_inner_frame() {
    let with_pcp = |lab: &mut Lab| {
        let Role::Underlay(own) = &mut lab.ports[usize::from(UNDERLAY)].role else { panic!("an underlay") };
        own.pcp = true;
    };
    let move_a = |lab: &mut Lab| {
        lab.tables.set_migrating(record(lab, A.mac, VM_A, RecordMode::Window { cycles: 1000 })).unwrap();
    };
    let to = |station| received(FROM_1, &udp4(R1, station, 33));
    check([
        ("not from here", to(A), received(FROM_1, &udp4(B, A, 33))),
        ("here", to(A), to(R2)),
        ("registered", to(A), to(NOBODY)),
        ("at rest", to(A), to(A).after(move_a)),
        ("a tag with priority", to(T).after(with_pcp), to(NOBODY).after(with_pcp)),
        (
            "fits the port",
            received(FROM_1, &udp4(R1, A, 1500 - 28)),
            received(FROM_1, &udp4(R1, A, 1501 - 28)),
        ),
    ]);
}

/// The frames of the golden captures, with a tag where one is expected.
fn frame(frames: &mut Frames, lab: &Lab, n: usize) -> (u16, VecPacket) {
    let (port, packet) = frames.one(lab);
    let tci = match port {
        TRUNK => (10 + n as u16 % 3 * 5) | ((n as u16) << 12),
        UNDERLAY_30 => 30,
        _ => return (port, packet),
    };
    if packet.len() < 12 || n.is_multiple_of(8) {
        return (port, packet);
    }
    let mut with_tag = VecPacket::new(&tagged(packet.head(), 0x8100, tci));
    (with_tag.unfilled, with_tag.gso) = (packet.unfilled, packet.gso);
    (port, with_tag)
}

/// All rules that both paths express agree: what is eligible leaves the slow path as it leaves the fast path.
#[test]
fn the_slow_path_does_the_same_with_what_is_eligible() {
    let (mut compared, mut unfinished) = ([0; 7], [0; 2]);
    for migrating in [false, true] {
        let [mut fast, mut slow] = [(); 2].map(|()| {
            let mut lab = Lab::new();
            b_in_200(&mut lab);
            let Role::Underlay(own) = &mut lab.ports[usize::from(UNDERLAY)].role else {
                panic!("an underlay")
            };
            own.pcp = migrating;
            lab.publish();
            if migrating {
                is_migrating(&mut lab);
            }
            lab
        });
        let mut frames = Frames::new();
        for n in 0..60_000 {
            let (port, packet) = frame(&mut frames, &fast, n);
            if !eligible(&fast.view, &fast.ports, port, &packet) {
                continue;
            }
            let is_underlay = port == UNDERLAY || port == UNDERLAY_30;
            let direction = if is_underlay { &FROM_UNDERLAY } else { &FROM_TENANT };
            unfinished[0] += usize::from(packet.unfilled);
            unfinished[1] += usize::from(packet.gso.is_some());
            let single = [packet.clone()];
            let by_slow_path = slow.packets_from(direction, 1, |path| match is_underlay {
                true => path.underlay_slow(port, single),
                false => path.tenant_slow(port, single),
            });
            let trace = slow.trace();
            assert_eq!(fast.burst(port, vec![packet]), by_slow_path);
            assert_eq!(fast.trace(), trace);
            compared[usize::from(port)] += 1;
        }
    }
    assert!(compared.iter().all(|n| *n > 100), "{compared:?}");
    assert!(unfinished.iter().all(|n| *n > 20), "{unfinished:?}");
}

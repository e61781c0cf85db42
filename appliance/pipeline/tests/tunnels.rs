//! Encrypted tunnels: what is sealed and opened, what waits, and what is refused. The other side is the same crate
//! `tunnel` with the other keys; the bytes around it are built here.

use super::exits::Keys;
use super::frames::{FROM_1, ip4_is_right, l4_is_right, udp4, udp6};
use super::migration::{end_marker, marked, record};
use super::*;
use crate::migration::record::{RecordMode, RedirectTarget};
use crate::pipeline::tunnel_egress::SealFor;
use crate::tables::peer::TunnelIndex;
use stopover_tunnel::{
    Millis, SaIndex, Spi,
    cipher::{Algorithm, AwsLc, Engine, SaSecret},
    esp::{self, SequenceBits},
    sa::{self, InboundSa, InboundSas, Limits, OpenedBy, OutboundSa, OutboundSas},
    window::WindowSize,
};

const TUNNEL: TunnelIndex = TunnelIndex::new(0);
const BITS: SequenceBits = SequenceBits::Extended;

fn spi(index: u32) -> Spi {
    Spi::new(SaIndex::new(index).unwrap(), 3)
}

fn secret(byte: u8) -> SaSecret {
    SaSecret::new(Algorithm::Aes128Gcm, &[byte; 16], [byte; 4]).unwrap()
}

fn outbound(at: u32, to: Spi, byte: u8, limits: Limits) -> OutboundSas<<AwsLc as Engine>::Key> {
    let mut sas = OutboundSas::new(1);
    let sa = OutboundSa::new(&AwsLc, to, &secret(byte), BITS, limits, Millis(0)).unwrap();
    assert!(sas.set(at, Some(Box::new(sa))).is_none());
    sas
}

fn inbound(spi: Spi, peer: u32, byte: u8) -> InboundSas<<AwsLc as Engine>::Key> {
    let mut sas = InboundSas::new(8);
    let sa = InboundSa::new(&AwsLc, spi, peer, &secret(byte), BITS, WindowSize::LEAST).unwrap();
    sas.install(Box::new(sa)).unwrap();
    sas
}

/// We and host 1, which may exchange sealed frames only; the host's side of the tunnel.
struct Sealed {
    lab: Lab,
    theirs: Keys,
}

impl Sealed {
    fn new() -> Self {
        let mut lab = Lab::new();
        lab.rewrite_path(1, HOST_1.into(), None, |path| path.seal = Seal::Tunnel(TUNNEL));
        let peer = Peer::new(1);
        lab.tables.put_peer(peer, true, Accept::Sealed).unwrap();
        let sealed = Path { seal: Seal::Tunnel(TUNNEL), ..path(peer, HOST_1.into(), None) };
        lab.tables.set_path(peer, PathClass::Sealed, Some(sealed)).unwrap();
        lab.tables.put_vtep(HOST_1.into(), Peer::new(1)).unwrap();
        lab.publish();
        lab.exits.keys =
            Some(Keys { out: outbound(0, spi(1), 1, Limits::HANDSHAKE), into: inbound(spi(2), 1, 2) });
        let theirs = Keys { out: outbound(0, spi(2), 2, Limits::HANDSHAKE), into: inbound(spi(1), 0, 1) };
        Self { lab, theirs }
    }

    /// What the host finds in a frame that we sent it: outer frame, inner UDP and VXLAN headers, inner frame.
    #[track_caller]
    fn opened(&mut self, frame: &[u8]) -> ([u8; 16], Vec<u8>) {
        let at = if frame[12..14] == frames::IPV4.to_be_bytes() { 42 } else { 62 };
        let mut datagram = frame[at..].to_vec();
        let opened = sa::open(&mut AwsLc, &mut self.theirs.into, 0, &mut datagram).unwrap();
        let OpenedBy::Here(opened) = opened else { panic!("{opened:?}") };
        let text = &datagram[opened.text];
        (text[..16].try_into().unwrap(), text[16..].to_vec())
    }

    /// The datagram in which host 1 sends us an inner frame, with these VXLAN flags.
    fn host_sends(&mut self, flags: u8, inner: &[u8]) -> Vec<u8> {
        let mut vxlan = frames::vxlan(100, inner);
        vxlan[7] = flags;
        self.host_sends_text(&frames::udp(HOST_1.into(), OUR_4.into(), (50_000, VXLAN_PORT), &vxlan))
    }

    fn host_sends_text(&mut self, text: &[u8]) -> Vec<u8> {
        let at = esp::HEAD_LEN..esp::HEAD_LEN + text.len();
        let mut buffer = [&[0; esp::HEAD_LEN], text, &[0; esp::TAIL_LEN]].concat();
        let (range, _) = sa::seal(&mut AwsLc, &mut self.theirs.out, 0, (&mut buffer, at), Millis(1)).unwrap();
        around(&buffer[range])
    }
}

/// A UDP payload from host 1 to our port.
fn around(payload: &[u8]) -> Vec<u8> {
    let mut l4 = frames::udp(HOST_1.into(), OUR_4.into(), (50_000, VXLAN_PORT), payload);
    l4[6..8].fill(0);
    frames::eth(OUR_MAC, NEXT_HOP, frames::IPV4, &frames::ip4(HOST_1, OUR_4, frames::UDP, 0, &l4))
}

#[test]
fn a_frame_is_sealed_for_its_host_and_nothing_else_is() {
    let mut t = Sealed::new();
    for inner in [udp4(A, R1, 33), udp6(A, R1, 0x0f, 700)] {
        let out = t.lab.one(VM_A, &inner);
        let frame = out.only(UNDERLAY).to_vec();
        assert!(ip4_is_right(&frame) && !frame.windows(20).any(|part| part == &inner[14..34]));
        assert_eq!((&frame[26..30], &frame[30..34]), (&OUR_4.octets()[..], &HOST_1.octets()[..]));
        assert_eq!((&frame[36..38], &frame[40..42]), (&VXLAN_PORT.to_be_bytes()[..], &[0, 0][..]));
        assert_eq!(frame[42..46], spi(1).bits().to_be_bytes());
        let (headers, opened) = t.opened(&frame);
        assert_eq!(opened, inner);
        let flow = Lab::new().one(VM_A, &inner).only(UNDERLAY).to_vec();
        assert_eq!(headers[..2], flow[34..36], "the inner source port is that of a plain datagram");
        assert_eq!(headers[2..4], VXLAN_PORT.to_be_bytes());
        assert_eq!(usize::from(u16::from_be_bytes([headers[4], headers[5]])), 16 + inner.len());
        assert_eq!(headers[6..], [&[0, 0][..], &flow[42..50]].concat());
    }
    let ports: Vec<_> =
        [1, 2, 3].map(|n| frames::source_port(t.lab.one(VM_A, &udp4(A, R1, n)).only(UNDERLAY))).into();
    assert!(ports.iter().all(|port| *port == ports[0]), "one 5-tuple: {ports:?}");
    let plain = t.lab.one(VM_A, &udp4(A, R2, 33));
    assert_eq!(plain.only(UNDERLAY)[62..70], frames::vxlan(100, &[])[..], "host 2 has no tunnel");
}

#[test]
fn over_ipv6_the_outer_datagram_has_a_checksum() {
    let mut t = Sealed::new();
    t.lab.rewrite_path(1, HOST_2.into(), None, |path| path.seal = Seal::Tunnel(TUNNEL));
    let inner = udp4(A, R1, 333);
    let frame = t.lab.one(VM_A, &inner).only(UNDERLAY).to_vec();
    assert!(l4_is_right(&frame) && frame[60..62] != [0, 0]);
    assert_eq!(t.opened(&frame).1, inner);
    t.lab.rewrite_path(1, HOST_2.into(), None, |path| {
        path.seal = Seal::Tunnel(TUNNEL);
        path.template.zero_checksum = true;
    });
    assert_eq!(t.lab.one(VM_A, &inner).only(UNDERLAY)[60..62], [0, 0]);
}

#[test]
fn a_frame_that_does_not_fit_sealed_is_too_big() {
    let mut t = Sealed::new();
    t.lab.rewrite_path(1, HOST_1.into(), None, |path| {
        path.seal = Seal::Tunnel(TUNNEL);
        path.inner_mtu = 1408;
    });
    assert_eq!(t.lab.one(VM_A, &udp4(A, R1, 1408 - 28)).ports(), [UNDERLAY]);
    let out = t.lab.one(VM_A, &udp4(A, R1, 1409 - 28));
    assert_eq!(
        (out.ports(), out.dropped),
        (vec![VM_A], vec![DropReason::TooBig]),
        "its sender gets an error"
    );
}

#[test]
fn each_reason_not_to_seal_is_counted_and_nothing_leaves() {
    let reasons =
        [DropReason::SealExhausted, DropReason::SealFailed, DropReason::NoHeadroom, DropReason::NoTailroom];
    let straggler = udp4(R2, R1, 1);
    for reason in reasons {
        let mut t = Sealed::new();
        t.lab.exits.seal_refused = Some(reason);
        t.lab.one(VM_A, &udp4(A, R1, 33)).is_dropped(reason);
        t.lab.tables.set_departed(t.lab.net100, R1.mac);
        t.lab.publish();
        let out = t.lab.burst(UNDERLAY, vec![marked(frames::FROM_2, 0, &straggler)]);
        assert_eq!((out.sent, out.dropped), (vec![], vec![reason]));
        let seal = t.lab.seal_for_1();
        let packet = VecPacket::new(&straggler);
        t.lab.packets_of(1, |path| path.send_waited(seal, packet, false)).is_dropped(reason);
    }
}

#[test]
fn keys_that_have_sealed_all_they_may_seal_no_more() {
    let mut t = Sealed::new();
    let limits = Limits { hard_sequence: 2, ..Limits::HANDSHAKE };
    t.lab.exits.keys.as_mut().unwrap().out = outbound(0, spi(1), 1, limits);
    for _ in 0..2 {
        t.lab.one(VM_A, &udp4(A, R1, 33)).only(UNDERLAY);
    }
    t.lab.one(VM_A, &udp4(A, R1, 33)).is_dropped(DropReason::SealExhausted);
}

impl Lab {
    fn seal_for_1(&self) -> SealFor {
        SealFor { peer: Peer::new(1), slot: self.slot(1), tunnel: TUNNEL, tos: 0 }
    }
}

#[test]
fn frames_wait_for_their_tunnel_in_order() {
    let mut t = Sealed::new();
    let keys = t.lab.exits.keys.take();
    let (first, second) = (udp4(A, R1, 33), udp4(A, R1, 34));
    let out = t.lab.one(VM_A, &first);
    assert_eq!((out.sent, out.dropped), (vec![], vec![]));
    assert_eq!(t.lab.exits.waiting.len(), 1);
    // The tunnel is up, and the first still waits: the second goes behind it.
    t.lab.exits.keys = keys;
    assert_eq!(t.lab.one(VM_A, &second).sent, []);
    assert!(t.lab.trace().contains("seal: waits until its tunnel is up"), "{}", t.lab.trace());
    for inner in [first, second] {
        let (seal, packet) = t.lab.exits.waiting.remove(0);
        t.lab.counters.release(1);
        let out = t.lab.packets_of(0, |path| path.send_waited(seal, packet, false));
        assert_eq!(t.opened(out.only(UNDERLAY)).1, inner);
    }
    // A straggler that is redirected, and what an lcore passes on.
    t.lab.exits.keys = None;
    t.lab.exits.wait_full = true;
    t.lab.one(VM_A, &udp4(A, R1, 35)).is_dropped(DropReason::NoTunnel);
    t.lab.tables.set_departed(t.lab.net100, R1.mac);
    t.lab.publish();
    let out = t.lab.burst(UNDERLAY, vec![marked(frames::FROM_2, 0, &udp4(R2, R1, 1))]);
    assert_eq!(out.dropped, [DropReason::NoTunnel]);
}

#[test]
fn a_frame_that_waited_goes_to_its_host_or_nowhere() {
    let mut t = Sealed::new();
    let seal = t.lab.seal_for_1();
    let packet = || VecPacket::new(&[7; 60]);
    t.lab.packets_of(1, |path| path.send_waited(seal, packet(), true)).is_dropped(DropReason::NoTunnel);
    // The slot, or the tunnel, is another host's by now.
    for wrong in [
        SealFor { peer: Peer::new(9), ..seal },
        SealFor { tunnel: TunnelIndex::new(1), ..seal },
        SealFor { slot: t.lab.slot(2), ..seal },
        SealFor { slot: t.lab.slot(3), ..seal },
    ] {
        t.lab.packets_of(1, |path| path.send_waited(wrong, packet(), false)).is_dropped(DropReason::NoTunnel);
    }
    assert_eq!(t.lab.packets_of(1, |path| path.send_waited(seal, packet(), false)).ports(), [UNDERLAY]);
}

#[test]
fn what_a_lock_redirects_is_sealed_too() {
    let mut t = Sealed::new();
    let record = record(&t.lab, S.mac, SEGMENT, RecordMode::Forward(RedirectTarget::Host(1)));
    t.lab.tables.set_migrating(record).unwrap();
    t.lab.publish();
    let inner = udp4(R2, S, 1);
    let out = t.lab.burst(UNDERLAY, vec![marked(frames::FROM_2, 0, &inner)]);
    let (headers, opened) = t.opened(out.only(UNDERLAY));
    assert_eq!((headers[15], opened), (1, inner), "with the flag of a frame that was redirected");
    let marker = VecPacket::new(&end_marker(S.mac, 2, false));
    let network = Network { bd: t.lab.net100, vni: vni(100) };
    let relay = stopover_net::marker::Relay::default();
    let out = t.lab.packets_of(1, |path| path.relay_marker(marker, network, Peer::new(1), relay));
    let (headers, _) = t.opened(out.only(UNDERLAY));
    assert_eq!(headers[15] & 2, 2, "end markers, too");
}

#[test]
fn sealed_frames_are_opened_and_plain_ones_refused() {
    let mut t = Sealed::new();
    for inner in [udp4(R1, A, 33), udp6(R1, A, 0, 600)] {
        let frame = t.host_sends(0, &inner);
        assert_eq!(t.lab.one(UNDERLAY, &frame).only(VM_A), inner);
        t.lab.one(UNDERLAY, &frame).is_dropped(DropReason::Replayed);
        t.lab.one(UNDERLAY, &FROM_1.around(&inner)).is_dropped(DropReason::PlainRefused);
    }
    let bound = t.host_sends(0, &udp4(R1, A, 34));
    for at in 42..bound.len() {
        let mut forged = bound.clone();
        forged[at] ^= 0x10;
        let out = t.lab.one(UNDERLAY, &forged);
        let expected = match at {
            42..46 => &[DropReason::UnknownSpi, DropReason::BadVxlan][..],
            46..50 => &[DropReason::Replayed, DropReason::BadSeal],
            _ => &[DropReason::BadSeal, DropReason::Replayed],
        };
        assert!(out.sent.is_empty() && expected.contains(&out.dropped[0]), "{at}: {:?}", out.dropped);
    }
    assert_eq!(t.lab.one(UNDERLAY, &bound).ports(), [VM_A], "forged ones have not used up its number");
}

#[test]
fn a_datagram_must_be_for_us_and_intact() {
    let mut t = Sealed::new();
    let good = t.host_sends(0, &udp4(R1, A, 33));
    let mut wrong_mac = good.clone();
    wrong_mac[5] ^= 1;
    t.lab.one(UNDERLAY, &wrong_mac).is_dropped(DropReason::OuterNotOurs);
    let mut checksum = good.clone();
    checksum[40..42].copy_from_slice(&[1, 2]);
    t.lab.one(UNDERLAY, &checksum).is_dropped(DropReason::OuterChecksum);
    for (payload, reason) in [
        (&[0xff][..], DropReason::OuterUnexpected),
        (&[0x80; 40], DropReason::BadVxlan),
        (&[], DropReason::BadVxlan),
        (&[&[0x40, 1][..], &[0; 30]].concat(), DropReason::OuterUnexpected),
        (&[&spi(2).bits().to_be_bytes()[..], &[0; 33]].concat(), DropReason::OuterMalformed),
        (&[&spi(7).bits().to_be_bytes()[..], &[0; 40]].concat(), DropReason::UnknownSpi),
    ] {
        t.lab.one(UNDERLAY, &around(payload)).is_dropped(reason);
    }
    assert_eq!(t.lab.exits.unknown, [IpAddr::V4(HOST_1)], "a peer may not know that we restarted");
}

#[test]
fn what_was_sealed_must_be_a_frame_of_a_network_of_ours() {
    let mut t = Sealed::new();
    let inner = udp4(R1, A, 33);
    let text = |vni: u32, flags: u8| {
        let mut vxlan = frames::vxlan(vni, &inner);
        vxlan[0] = flags;
        frames::udp(HOST_1.into(), OUR_4.into(), (50_000, VXLAN_PORT), &vxlan)
    };
    for (text, reason) in [
        (text(101, 8), DropReason::UnknownVni),
        (text(100, 0), DropReason::BadVxlan),
        (text(0, 8), DropReason::BadVxlan),
        (text(100, 8)[..9].to_vec(), DropReason::OuterMalformed),
        (text(100, 8)[..7].to_vec(), DropReason::OuterMalformed),
        (Vec::new(), DropReason::OuterMalformed),
    ] {
        let frame = t.host_sends_text(&text);
        t.lab.one(UNDERLAY, &frame).is_dropped(reason);
    }
    let frame = t.host_sends_text(&text(100, 8));
    assert_eq!(t.lab.one(UNDERLAY, &frame).only(VM_A), inner);
}

#[test]
fn a_source_must_belong_to_the_host_whose_key_sealed_it() {
    let mut t = Sealed::new();
    let send = |t: &mut Sealed, flags: u8, who: Station, to: Station| {
        let frame = t.host_sends(flags, &udp4(who, to, 33));
        let out = t.lab.one(UNDERLAY, &frame);
        out.dropped.first().copied()
    };
    assert_eq!(send(&mut t, 0, R1, A), None);
    assert_eq!(send(&mut t, 0, NOBODY, A), None, "nothing contradicts it");
    assert_eq!(send(&mut t, 0, R2, A), Some(DropReason::NotItsNode));
    assert_eq!(send(&mut t, 1, R2, A), Some(DropReason::NotItsNode), "nothing of A is on its way");
    assert_eq!(send(&mut t, 0, B, A), Some(DropReason::SourceIsLocal));
    // R2 moves: it may be at host 1 already.
    t.lab.tables.set_migrating_flag(t.lab.net100, R2.mac, true);
    t.lab.publish();
    assert_eq!(send(&mut t, 0, R2, A), None);
    t.lab.tables.set_migrating_flag(t.lab.net100, R2.mac, false);
    // A has come from host 1, which sends on what is for it.
    let moved = super::migration::record(&t.lab, A.mac, VM_A, RecordMode::Window { cycles: 10 });
    t.lab.tables.set_migrating(moved).unwrap();
    t.lab.publish();
    assert_eq!(send(&mut t, 1, R2, A), None);
    assert_eq!(send(&mut t, 0, R2, A), Some(DropReason::NotItsNode), "but not as its own");
}

#[test]
fn markers_and_frames_for_one_node_come_sealed() {
    let mut t = Sealed::new();
    t.lab.exits.holding_port = Some(VM_A);
    let marker = end_marker(A.mac, 1, false);
    let frame = t.host_sends(2, &marker);
    assert_eq!(t.lab.one(UNDERLAY, &frame).dropped, []);
    assert_eq!(t.lab.exits.relayed, [(VM_A, marker)]);
    let flooded = [&[0xff; 6][..], &udp4(R1, A, 1)[6..]].concat();
    let shim = [&A.mac.octets()[..], &[0, 0], &flooded].concat();
    let frame = t.host_sends(4, &shim);
    assert_eq!(t.lab.one(UNDERLAY, &frame).sent, [(VM_A, flooded)]);
}

#[test]
fn handshakes_go_to_the_control_thread() {
    let mut t = Sealed::new();
    let handshake = around(&[0; 120]);
    let out = t.lab.one(UNDERLAY, &handshake);
    assert_eq!((out.punted, out.dropped), (vec![(UNDERLAY, handshake.clone())], vec![]));
    t.lab.exits.control_full = true;
    t.lab.one(UNDERLAY, &handshake).is_dropped(DropReason::ControlFull);
}

#[test]
fn a_datagram_is_for_the_lcore_that_has_the_window() {
    let mut t = Sealed::new();
    let first = t.host_sends(0, &udp4(R1, A, 33));
    t.lab.one(UNDERLAY, &first).only(VM_A);
    t.lab.exits.lcore = 1;
    let second = t.host_sends(0, &udp4(R1, A, 34));
    let out = t.lab.one(UNDERLAY, &second);
    assert_eq!((out.sent, out.dropped), (vec![], vec![]));
    assert_eq!(t.lab.exits.handed, [(UNDERLAY, second.clone())], "as it was");
    t.lab.exits.ring_full = true;
    t.lab.one(UNDERLAY, &second).is_dropped(DropReason::HandoffFull);
    t.lab.exits.lcore = 0;
    t.lab.one(UNDERLAY, &second).only(VM_A);
}

/// What is accepted and how it is sent follows from the host and the network, in every combination.
#[test]
fn host_and_network_decide_together() {
    use PathClass::{Plain, Sealed as Secret};
    let by_network = [NetworkSeal::ByHost, NetworkSeal::Required, NetworkSeal::Off];
    for (accept, classes) in [
        (Accept::Both, [Plain, Secret, Plain]),
        (Accept::SealedUnlessOff, [Secret, Secret, Plain]),
        (Accept::Sealed, [Secret; 3]),
    ] {
        for (network, class) in by_network.into_iter().zip(classes) {
            assert_eq!(accept.class(network), class, "{accept:?} {network:?}");
            let mut t = Sealed::new();
            let peer = Peer::new(1);
            t.lab.tables.put_peer(peer, true, accept).unwrap();
            t.lab.tables.put_vtep(HOST_1.into(), peer).unwrap();
            t.lab.tables.set_path(peer, Plain, Some(path(peer, HOST_1.into(), None))).unwrap();
            let sealed = Path { seal: Seal::Tunnel(TUNNEL), ..path(peer, HOST_1.into(), None) };
            t.lab.tables.set_path(peer, Secret, Some(sealed)).unwrap();
            let slot = t.lab.tables.slot(peer, class).unwrap();
            t.lab.tables.set_remote(t.lab.net100, R1.mac, slot, IsolationClass::default()).unwrap();
            let entry = NetworkEntry { seal: network, ..t.lab.view.network(t.lab.net100).unwrap().clone() };
            t.lab.tables.put_network(entry).unwrap();
            t.lab.publish();
            let inner = udp4(R1, A, 33);
            let sealed_frame = t.host_sends(0, &inner);
            assert_eq!(t.lab.one(UNDERLAY, &sealed_frame).only(VM_A), inner, "sealed is always right");
            for tunnel in [FROM_1, frames::Tunnel { checksum: true, ..FROM_1 }] {
                let out = t.lab.one(UNDERLAY, &tunnel.around(&inner));
                match class {
                    Plain => assert_eq!(out.only(VM_A), inner),
                    Secret => out.is_dropped(DropReason::PlainRefused),
                }
            }
            let frame = t.lab.one(VM_A, &udp4(A, R1, 33)).only(UNDERLAY).to_vec();
            assert_eq!(frame[42] & 8 == 0, class == Secret, "{accept:?} {network:?}");
            let marker = VecPacket::new(&end_marker(S.mac, 2, false));
            let of = Network { bd: t.lab.net100, vni: vni(100) };
            let relay = stopover_net::marker::Relay::default();
            let out = t.lab.packets_of(1, |path| path.relay_marker(marker, of, peer, relay));
            assert_eq!(out.only(UNDERLAY)[42] & 8 == 0, class == Secret, "markers go the same way");
        }
    }
    assert_eq!(by_network.map(|network| Accept::Plain.class(network)), [Plain; 3], "without tunnels");
}

#[test]
fn without_tunnels_nothing_is_opened() {
    let mut t = Sealed::new();
    t.lab.exits.keys = None;
    let frame = t.host_sends(0, &udp4(R1, A, 33));
    t.lab.one(UNDERLAY, &frame).is_dropped(DropReason::BadVxlan);
    t.lab.one(UNDERLAY, &around(&[0; 120])).is_dropped(DropReason::BadVxlan);
}

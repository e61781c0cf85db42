//! Packets that exceed an MTU: dropped, with an ICMP error to the sender.

use super::frames::{FROM_1, Tunnel, checksum, icmp4, icmp6, ip6, other, source_port, tagged, udp4, udp6};
use super::*;

/// UDP data for an IPv4 packet of this many bytes.
const fn data4(packet: u16) -> usize {
    packet as usize - 28
}

/// UDP data for an IPv6 packet of this many bytes.
const fn data6(packet: u16) -> usize {
    packet as usize - 48
}

/// "Fragmentation needed" about this frame, to its sender, from its receiver (RFC 1191 section 4, RFC 1812 section
/// 4.3.2.3).
fn frag_needed(about: &[u8], from: Station, to: Station, mtu: u16) -> Vec<u8> {
    let mtu = mtu.to_be_bytes();
    let quote = &about[14..about.len().min(14 + 548)];
    let icmp = icmp4(3, 4, &[&[0, 0, mtu[0], mtu[1]], quote].concat());
    frames::eth(to.mac, from.mac, frames::IPV4, &frames::ip4(from.ip4, to.ip4, frames::ICMP, 0xc0, &icmp))
}

/// "Packet too big" about this frame (RFC 4443 section 3.2).
fn packet_too_big(about: &[u8], from: Station, to: Station, mtu: u16) -> Vec<u8> {
    let quote = &about[14..about.len().min(14 + 1280 - 48)];
    let icmp = icmp6(from.ip6, to.ip6, 2, &[&u32::from(mtu).to_be_bytes(), quote].concat());
    frames::eth(to.mac, from.mac, frames::IPV6, &ip6(from.ip6, to.ip6, 58, 0, 64, &icmp))
}

#[track_caller]
fn assert_answered(out: &Out, port: u16, answer: &[u8]) {
    assert_eq!(out.dropped, [DropReason::TooBig]);
    assert_eq!(out.sent, [(port, answer.to_vec())]);
}

#[test]
fn the_largest_packet_passes_and_one_more_byte_is_an_error() {
    let mut lab = Lab::new();
    assert_eq!(lab.one(VM_A, &udp4(A, R1, data4(INNER_MTU_4))).only(UNDERLAY).len(), 1514);
    let big = udp4(A, R1, data4(INNER_MTU_4 + 1));
    assert_answered(&lab.one(VM_A, &big), VM_A, &frag_needed(&big, R1, A, INNER_MTU_4));

    assert_eq!(lab.one(VM_A, &udp6(A, R2, 0, data6(INNER_MTU_6))).only(UNDERLAY).len(), 1514);
    let big = udp6(A, R2, 0, data6(INNER_MTU_6 + 1));
    assert_answered(&lab.one(VM_A, &big), VM_A, &packet_too_big(&big, R2, A, INNER_MTU_6));
    assert_eq!(lab.counters.read().copied, 2);
}

#[test]
fn the_declared_mtu_is_reported_if_it_is_less() {
    let mut lab = Lab::new();
    let (big4, big6) = (udp4(A, R1, data4(INNER_MTU_4 + 1)), udp6(A, R2, 0, data6(INNER_MTU_6 + 1)));
    for (declared, told4, told6) in [
        (1400, 1400, 1400),
        (9000, INNER_MTU_4, INNER_MTU_6),
        (576, 576, 1280),
        (0, INNER_MTU_4, INNER_MTU_6),
    ] {
        let (bd, ports) = (lab.net100, [Member { port: VM_A, vlan: 0, segment: false }].into());
        let slots: [Box<[Slot]>; 2] = [[].into(), [].into()];
        let [slots, segment_slots] = slots;
        let flood = FloodPolicy::Flood;
        let entry = NetworkEntry {
            migrating: [].into(),
            moved: [].into(),
            bd,
            vni: vni(100),
            flood,
            mtu: declared,
            seal: NetworkSeal::ByHost,
            slots,
            segment_slots,
            ports,
        };
        lab.tables.put_network(entry).unwrap();
        lab.publish();
        assert_answered(&lab.one(VM_A, &big4), VM_A, &frag_needed(&big4, R1, A, told4));
        assert_answered(&lab.one(VM_A, &big6), VM_A, &packet_too_big(&big6, R2, A, told6));
        // It limits nothing that fits.
        assert_eq!(lab.one(VM_A, &udp4(A, R1, data4(INNER_MTU_4))).only(UNDERLAY).len(), 1514);
    }
}

#[test]
fn an_error_to_a_trunk_is_tagged() {
    let mut lab = Lab::new();
    let big = udp4(T, R1, data4(1451));
    let out = lab.one(TRUNK, &tagged(&big, 0x8100, 10));
    assert_answered(&out, TRUNK, &tagged(&frag_needed(&big, R1, T, INNER_MTU_4), 0x8100, 10));
}

#[test]
fn a_local_port_has_an_mtu_too() {
    let mut lab = Lab::new();
    lab.ports[usize::from(VM_B)].mtu = 1280;
    lab.ports[usize::from(TRUNK)].mtu = 1280;
    for to in [B, T] {
        let big = udp6(A, to, 0, data6(1281));
        assert_answered(&lab.one(VM_A, &big), VM_A, &packet_too_big(&big, to, A, 1280));
    }
    // The tag of a trunk is not counted in its MTU.
    assert_eq!(lab.one(VM_A, &udp6(A, T, 0, data6(1280))).only(TRUNK).len(), 1280 + 18);
}

#[test]
fn no_error_without_ip_or_a_single_sender() {
    let mut lab = Lab::new();
    lab.one(VM_A, &other(A.mac, R1.mac, 1451)).is_dropped(DropReason::TooBig);
    assert_eq!(lab.one(VM_A, &other(A.mac, R1.mac, 1450)).only(UNDERLAY).len(), 1514);
    // Nor for an error, which must not cause another (RFC 1122 section 3.2.2).
    let error = icmp4(3, 4, &[0; 1500]);
    let error = frames::eth(R1.mac, A.mac, frames::IPV4, &frames::ip4(A.ip4, R1.ip4, 1, 0, &error));
    lab.one(VM_A, &error).is_dropped(DropReason::TooBig);
    let group = Station { mac: Mac::new([1, 0, 0x5e, 0, 0, 9]), ip4: Ipv4Addr::new(224, 0, 0, 9), ..R1 };
    let out = lab.one(VM_A, &udp4(A, group, data4(1451)));
    // It fits the ports, but not the path to a host.
    assert_eq!((out.ports().len(), out.dropped), (3, vec![DropReason::TooBig; 2]));
}

#[test]
fn without_a_buffer_there_is_no_error() {
    let mut lab = Lab::new();
    lab.exits.pool.left = 0;
    let out = lab.one(VM_A, &udp4(A, R1, data4(1451)));
    assert_eq!((out.sent.len(), out.dropped), (0, vec![DropReason::TooBig, DropReason::PoolEmpty]));
}

#[test]
fn an_error_to_a_sender_at_another_host_uses_the_tunnel() {
    let mut lab = Lab::new();
    lab.ports[usize::from(VM_A)].mtu = 1400;
    for (big, answer) in [
        (udp4(R1, A, data4(1401)), frag_needed(&udp4(R1, A, data4(1401)), A, R1, 1400)),
        (udp6(R1, A, 0, data6(1401)), packet_too_big(&udp6(R1, A, 0, data6(1401)), A, R1, 1400)),
    ] {
        let out = lab.one(UNDERLAY, &FROM_1.around(&big));
        let source_port = source_port(&out.sent[0].1);
        let tos = if big[12] == 8 { 0xc0 } else { 0 };
        let expected = Tunnel { source_port, tos, ..FROM_1.back() }.around(&answer);
        assert_answered(&out, UNDERLAY, &expected);
    }
    // The host of this sender is unknown.
    lab.one(UNDERLAY, &FROM_1.around(&udp4(NOBODY, A, data4(1401)))).is_dropped(DropReason::TooBig);
    // An error that does not fit its tunnel causes no other.
    lab.rewrite_path(1, HOST_1.into(), None, |path| path.inner_mtu = 500);
    let out = lab.one(UNDERLAY, &FROM_1.around(&udp4(R1, A, data4(1401))));
    assert_eq!((out.sent.len(), out.dropped), (0, vec![DropReason::TooBig, DropReason::TooBig]));
}

#[test]
fn a_frame_to_be_segmented_is_measured_by_its_segments() {
    let mut lab = Lab::new();
    let whole = |to: Station, len| {
        let tcp = frames::tcp(A.ip4.into(), to.ip4.into(), 1, 0x18, &frames::data(len));
        frames::eth(to.mac, A.mac, frames::IPV4, &frames::ip4(A.ip4, to.ip4, frames::TCP, 0, &tcp))
    };
    let mut fits = VecPacket::new(&whole(R1, 9000));
    (fits.unfilled, fits.gso) = (true, Some(1410));
    assert_eq!(lab.burst(VM_A, vec![fits.clone()]).sent.len(), 7);
    let mut exceeds = fits;
    exceeds.gso = Some(1411);
    let out = lab.burst(VM_A, vec![exceeds]);
    assert_eq!(out.dropped, [DropReason::TooBig]);
    let (port, answer) = &out.sent[0];
    assert_eq!((*port, &answer[34..36], &answer[40..42]), (VM_A, &[3, 4][..], &1450u16.to_be_bytes()[..]));
    assert_eq!(checksum(&[&answer[34..]]), 0);
}

#[test]
fn without_error_budget_the_frame_is_still_dropped() {
    let mut lab = Lab::new();
    lab.exits.errors_spent = true;
    lab.one(VM_A, &udp4(A, R1, data4(1451))).is_dropped(DropReason::TooBig);
}

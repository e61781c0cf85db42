//! Drops that need an unusual state: no headroom, no buffer, a full ring, a table that changed meanwhile.

use super::{
    frames::{FROM_1, FROM_2, other, tcp, udp4},
    migration::{end_marker, marked, record},
    *,
};
use crate::{
    migration::record::{RecordMode, RedirectTarget},
    pipeline::PacketCtx,
    pipeline::ports::Origin,
};
use stopover_net::{HostName, frame, loop_probe};

/// A buffer with this headroom. The frame must be longer than what a buffer has usually.
fn with_headroom(frame: &[u8], headroom: usize) -> VecPacket {
    let before = VecPacket::headroom() - headroom;
    let mut packet = VecPacket::new(&frame[before..]);
    packet.push(before).unwrap().copy_from_slice(&frame[..before]);
    packet
}

/// A frame as the lcore passes it on after a wait.
fn waited(lab: &Lab, packet: VecPacket) -> PacketCtx<VecPacket> {
    let frame = frame::parse(packet.head(), packet.len()).unwrap();
    let origin = Origin::Underlay { peer: Peer::new(1), hop: true, apart: 0 };
    PacketCtx { packet, frame, bd: lab.net100, vni: vni(100), origin, priority: 0 }
}

#[test]
fn a_tag_needs_headroom() {
    let mut lab = Lab::new();
    let packet = with_headroom(&udp4(A, T, 200), 3);
    lab.burst(VM_A, vec![packet.clone()]).is_dropped(DropReason::NoHeadroom);
    let ctx = waited(&lab, packet);
    lab.packets_of(1, |path| path.deliver(ctx, TRUNK, 10)).is_dropped(DropReason::NoHeadroom);
    let host = HostName::new("gw-b").unwrap();
    let mut probe =
        loop_probe::build(A.mac, &loop_probe::Probe { vni: vni(100), port: 1, vlan: 10, instance: 5, host });
    probe.resize(200, 0);
    let mut packet = with_headroom(&probe, 3);
    packet.stripped = Some(VlanId::new(10).unwrap());
    lab.burst(TRUNK, vec![packet]).is_dropped(DropReason::NoHeadroom);
}

#[test]
fn outer_headers_need_headroom() {
    let mut lab = Lab::new();
    lab.tables
        .set_migrating(record(&lab, A.mac, VM_A, RecordMode::Forward(RedirectTarget::Host(2))))
        .unwrap();
    lab.publish();
    let frame = udp4(R1, A, 200);
    // The headers that were taken off are shorter than those of IPv6.
    let packet = with_headroom(&FROM_1.around(&frame), 19);
    lab.burst(UNDERLAY, vec![packet]).is_dropped(DropReason::NoHeadroom);
    let ctx = waited(&lab, with_headroom(&frame, 69));
    let out = lab.packets_of(1, |path| path.redirect(ctx, A.mac, RedirectTarget::Host(2), 0));
    out.is_dropped(DropReason::NoHeadroom);
}

#[test]
fn what_has_waited_is_treated_like_any_other_frame() {
    let mut lab = Lab::new();
    let plain = VecPacket::new(&udp4(R1, A, 9));
    let deliver = |lab: &mut Lab, packet: VecPacket, port| {
        let ctx = waited(lab, packet);
        lab.packets_of(1, |path| path.deliver(ctx, port, 0))
    };
    let redirect = |lab: &mut Lab, packet: VecPacket, target| {
        let ctx = waited(lab, packet);
        lab.packets_of(1, |path| path.redirect(ctx, A.mac, target, 0))
    };
    assert_eq!(deliver(&mut lab, plain.clone(), VM_A).only(VM_A), plain.head());
    assert_eq!(redirect(&mut lab, plain.clone(), RedirectTarget::Port(VM_B)).only(VM_B), plain.head());
    deliver(&mut lab, plain.clone(), 99).is_dropped(DropReason::PortDown);
    redirect(&mut lab, plain.clone(), RedirectTarget::Host(3)).is_dropped(DropReason::HostUnresolved);

    let l4 = tcp(R1.ip4.into(), A.ip4.into(), 1, 0x10, &frames::data(900));
    let packet = frames::ip4(R1.ip4, A.ip4, frames::TCP, 0, &l4);
    let mut unfinished = VecPacket::new(&frames::eth(A.mac, R1.mac, frames::IPV4, &packet));
    (unfinished.unfilled, unfinished.gso) = (true, Some(500));
    assert_eq!(deliver(&mut lab, unfinished.clone(), VM_A).ports(), [VM_A, VM_A]);
    assert_eq!(redirect(&mut lab, unfinished.clone(), RedirectTarget::Host(1)).ports(), [UNDERLAY, UNDERLAY]);
    lab.exits.pool.left = 0;
    assert_eq!(deliver(&mut lab, unfinished, VM_A).dropped, [DropReason::PoolEmpty; 2]);
    let mut senseless = VecPacket::new(&other(R1.mac, A.mac, 100));
    senseless.unfilled = true;
    deliver(&mut lab, senseless, VM_A).is_dropped(DropReason::BadChecksumOffload);
}

#[test]
fn what_has_waited_and_does_not_fit_is_an_error_to_its_sender() {
    let mut lab = Lab::new();
    for (target, mtu) in [(RedirectTarget::Port(VM_B), 1500), (RedirectTarget::Host(1), 1450)] {
        let packet = VecPacket::new(&udp4(R1, A, mtu));
        let ctx = waited(&lab, packet.clone());
        let out = lab.packets_of(1, |path| path.redirect(ctx, A.mac, target, 0));
        assert_eq!((out.ports(), out.dropped), (vec![UNDERLAY], vec![DropReason::TooBig]));
        lab.exits.pool.left = 0;
        let ctx = waited(&lab, packet);
        let out = lab.packets_of(1, |path| path.redirect(ctx, A.mac, target, 0));
        assert_eq!(out.dropped, [DropReason::TooBig, DropReason::PoolEmpty]);
        lab.exits.pool.left = 100;
    }
    lab.exits.pool.left = 0;
    let out = lab.one(UNDERLAY, &FROM_2.around(&udp4(R1, A, 1500)));
    assert_eq!(out.dropped, [DropReason::TooBig, DropReason::PoolEmpty]);
}

#[test]
fn tables_may_name_a_port_or_a_host_that_is_gone() {
    let mut lab = Lab::new();
    lab.tables.set_local(lab.net100, NOBODY.mac, 99, 0, None).unwrap();
    lab.tables.set_departed(lab.net100, R3.mac);
    lab.publish();
    lab.one(UNDERLAY, &FROM_1.around(&udp4(R1, NOBODY, 9))).is_dropped(DropReason::PortDown);
    lab.one(UNDERLAY, &FROM_1.around(&udp4(R1, R3, 9))).is_dropped(DropReason::HostUnresolved);
    let mut burst = [VecPacket::new(&udp4(A, R1, 9))].into_iter().collect();
    let out = lab.packets_from(&FROM_TENANT, 1, |path| path.tenant(99, &mut burst, &mut Scratch::default()));
    out.is_dropped(DropReason::OuterUnexpected);
}

#[test]
fn blocked_and_separately_served_members_get_no_copy() {
    let mut lab = Lab::new();
    let network = lab.view.network(lab.net100).unwrap().clone();
    let Role::Segment(segment) = &lab.ports[usize::from(SEGMENT)].role else { panic!("a segment") };
    segment.gate.set_blocked(0, true);
    let segment = [Member { port: SEGMENT, vlan: 0, segment: true }].into();
    lab.tables.put_network(NetworkEntry { ports: segment, ..network.clone() }).unwrap();
    lab.publish();
    let flooded = other(R1.mac, Mac::BROADCAST, 50);
    lab.one(UNDERLAY, &FROM_1.around(&flooded)).is_dropped(DropReason::SegmentBlocked);

    let vif = [Member { port: VM_B, vlan: 0, segment: false }].into();
    let alone = NetworkEntry {
        ports: vif,
        slots: [].into(),
        migrating: [B.mac].into(),
        moved: [B.mac].into(),
        ..network
    };
    lab.tables.put_network(alone).unwrap();
    lab.publish();
    let bit = stopover_net::vxlan::separate_copy_bit(B.mac);
    lab.one(UNDERLAY, &replicate::apart(FROM_1, bit, &flooded)).is_dropped(DropReason::ServedApart);
    let flooded = other(A.mac, Mac::BROADCAST, 50);
    let out = lab.one(VM_A, &flooded);
    assert_eq!(
        (out.ports(), out.dropped),
        (vec![VM_B], vec![DropReason::ServedApart]),
        "a copy and the frame"
    );
}

#[test]
fn end_markers_that_cannot_be_passed_on_are_dropped() {
    let mut lab = Lab::new();
    let network = Network { bd: lab.net100, vni: vni(100) };
    lab.exits.ring_full = true;
    let marker = end_marker(B.mac, 2, false);
    lab.burst(UNDERLAY, vec![marked(FROM_2, 2, &marker)]).is_dropped(DropReason::HandoffFull);
    let packet = VecPacket::new(&marker);
    lab.packets_of(1, |path| path.forward_marker(packet, network)).is_dropped(DropReason::HandoffFull);
    let packet = VecPacket::new(&other(R1.mac, B.mac, 50));
    lab.packets_of(1, |path| path.forward_marker(packet, network)).is_dropped(DropReason::BadMarker);
    // A copy for each source port.
    (lab.exits.used, lab.exits.pool.left) = ([7, 8].into_iter().collect(), 0);
    let packet = VecPacket::new(&marker);
    let out = lab.packets_of(1, |path| path.send_end_markers(packet, network, Peer::new(1)));
    assert_eq!((out.ports(), out.dropped), (vec![UNDERLAY], vec![DropReason::PoolEmpty]));
    // Behind copies that are held.
    lab.tables.set_migrating(record(&lab, B.mac, VM_B, RecordMode::Window { cycles: 1000 })).unwrap();
    lab.publish();
    lab.exits.hold_full = true;
    let packet = VecPacket::new(&marker);
    lab.packets_of(1, |path| path.forward_marker(packet, network)).is_dropped(DropReason::HoldFull);
}

#[test]
fn a_bridge_may_flood_a_frame_for_a_node_of_its_own_segment() {
    let mut lab = Lab::new();
    lab.tables.set_migrating(record(&lab, S.mac, SEGMENT, RecordMode::Window { cycles: 1000 })).unwrap();
    lab.publish();
    let out = lab.one(SEGMENT, &udp4(NOBODY, S, 9));
    assert_eq!((out.ports(), out.dropped), (vec![], vec![DropReason::SameSegment]));
    assert_eq!(lab.exits.held.len(), 1, "the node may have left");
}

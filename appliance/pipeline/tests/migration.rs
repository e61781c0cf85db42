//! Migrating nodes: which frames are delivered, held or redirected, and in which order.

use super::{
    Lab, OUR_4, R1, R2, SEGMENT, UNDERLAY, VM_A, VM_B,
    frames::{FROM_1, FROM_2, Tunnel, udp4},
    {A, B, S},
};
use crate::migration::hold::HeldKind;
use crate::migration::record::WINDOW;
use crate::migration::record::{EndMarkerBarrier, MigrationRecord, RecordMode, RedirectTarget};
use crate::pipeline::{drop_reason::DropReason, packet::VecPacket, ports::Network};
use crate::tables::peer::{IsolationClass, Peer};
use std::sync::Arc;
use stopover_net::marker::{self, Kind, Marker, Relay};
use stopover_net::{Mac, Vni};

const HOP: u8 = 1;
const CONTROL: u8 = 2;
const NODE: u8 = 4;

pub(super) fn record(lab: &Lab, mac: Mac, port: u16, mode: RecordMode) -> MigrationRecord {
    let vni = Vni::new(100).unwrap();
    MigrationRecord {
        bd: lab.net100,
        vni,
        mac,
        port,
        vlan: 0,
        stand_in: None,
        mode,
        counters: Arc::default(),
    }
}

pub(super) fn end_marker(node: Mac, host: u32, relayed: bool) -> Vec<u8> {
    let kind = Kind::End;
    let marker = Marker {
        kind,
        relayed,
        ends: false,
        port: 0,
        ports: 1,
        source_port: 0,
        sender_queue: 0,
        sender_queues: 1,
        host,
        generation: 0,
        node,
        paused_us: 0,
    };
    marker::build(&marker).to_vec()
}

pub(super) fn marked(tunnel: Tunnel, flags: u8, inner: &[u8]) -> VecPacket {
    VecPacket::new(&Tunnel { flags, ..tunnel }.around(inner))
}

/// A has arrived from host 1; the end markers of host 2 are still missing.
fn arriving(lab: &mut Lab) -> Arc<EndMarkerBarrier> {
    let arrival = Arc::new(EndMarkerBarrier::new(9, 0, Some(1), [2]));
    let mode = RecordMode::Arriving(Arc::clone(&arrival));
    let record = record(lab, A.mac, VM_A, mode);
    lab.tables.set_migrating(record).unwrap();
    lab.publish();
    arrival
}

#[test]
fn only_frames_of_a_sender_wait_for_its_end_marker() {
    let mut lab = Lab::new();
    let arrival = arriving(&mut lab);
    let direct = udp4(R2, A, 1);
    assert_eq!(lab.burst(UNDERLAY, vec![marked(FROM_2, 0, &direct)]).sent, []);
    assert_eq!(lab.exits.held, [(0, 2, HeldKind::Frame, direct.clone())]);
    let by_the_old_host = udp4(R2, A, 2);
    assert_eq!(lab.burst(UNDERLAY, vec![marked(FROM_1, HOP, &by_the_old_host)]).only(VM_A), by_the_old_host);
    let of_the_old_host = udp4(R1, A, 3);
    assert_eq!(lab.burst(UNDERLAY, vec![marked(FROM_1, 0, &of_the_old_host)]).only(VM_A), of_the_old_host);
    let out = lab.burst(UNDERLAY, vec![marked(FROM_1, HOP | CONTROL, &end_marker(A.mac, 2, true))]);
    assert_eq!(out.dropped, [DropReason::EndMarker]);
    assert!(arrival.is_open(2));
    lab.exits.held.clear();
    assert_eq!(lab.burst(UNDERLAY, vec![marked(FROM_2, 0, &direct)]).only(VM_A), direct);
}

#[test]
fn local_senders_wait_like_others() {
    let mut lab = Lab::new();
    let arrival = arriving(&mut lab);
    let frame = udp4(B, A, 1);
    assert_eq!(lab.one(VM_B, &frame).sent, []);
    assert_eq!(lab.exits.held, [(0, 9, HeldKind::Frame, frame.clone())]);
    lab.exits.held.clear();
    arrival.open(9);
    assert_eq!(lab.one(VM_B, &frame).only(VM_A), frame);
}

#[test]
fn a_full_hold_is_a_named_drop() {
    let mut lab = Lab::new();
    arriving(&mut lab);
    lab.exits.hold_full = true;
    assert_eq!(lab.burst(UNDERLAY, vec![marked(FROM_2, 0, &udp4(R2, A, 1))]).dropped, [DropReason::HoldFull]);
}

#[test]
fn a_copy_without_room_is_no_loss() {
    use std::sync::atomic::Ordering::Relaxed;
    let mut lab = Lab::new();
    let counters = std::sync::Arc::<crate::migration::record::MigrationCounters>::default();
    let record = MigrationRecord {
        bd: lab.net100,
        vni: super::vni(100),
        mac: S.mac,
        port: SEGMENT,
        vlan: 0,
        stand_in: None,
        mode: RecordMode::Window { cycles: 1000 },
        counters: counters.clone(),
    };
    lab.tables.set_migrating(record).unwrap();
    lab.publish();
    lab.exits.hold_full = true;
    let frame = udp4(A, S, 1);
    assert_eq!(lab.one(VM_A, &frame).only(SEGMENT), frame);
    assert_eq!((counters.dropped.load(Relaxed), counters.uncopied.load(Relaxed)), (0, 1));
}

#[test]
fn an_end_marker_overtakes_nothing_in_its_burst() {
    let mut lab = Lab::new();
    lab.tables.remove_remote(lab.net100, R1.mac);
    lab.tables.set_remote(lab.net100, R1.mac, lab.slot(2), IsolationClass::default()).unwrap();
    lab.tables.set_departed(lab.net100, R1.mac);
    lab.publish();
    let frame = udp4(R2, R1, 1);
    let burst = vec![marked(FROM_1, 0, &frame), marked(FROM_1, CONTROL, &end_marker(R1.mac, 1, false))];
    let out = lab.burst(UNDERLAY, burst);
    let flags: Vec<u8> = out.sent.iter().map(|(_, frame)| frame[69]).collect();
    assert_eq!(flags, [HOP, HOP | CONTROL], "the frame first, then the marker");
}

#[test]
fn a_straggler_is_redirected_once_and_only_by_the_old_host() {
    let mut lab = Lab::new();
    let frame = udp4(R2, R1, 1);
    assert_eq!(lab.burst(UNDERLAY, vec![marked(FROM_2, 0, &frame)]).dropped, [DropReason::NotHere]);
    lab.tables.set_departed(lab.net100, R1.mac);
    lab.publish();
    let out = lab.burst(UNDERLAY, vec![marked(FROM_2, 0, &frame)]);
    let (port, sent) = &out.sent[0];
    assert_eq!((*port, sent[49], &sent[50..]), (UNDERLAY, HOP, &frame[..]));
    assert_eq!(sent[26..30], OUR_4.octets(), "from us, not from the first sender");
    assert_eq!(lab.burst(UNDERLAY, vec![marked(FROM_2, HOP, &frame)]).dropped, [DropReason::NotHere]);
}

#[test]
fn a_frame_for_one_node_reaches_no_other() {
    let mut lab = Lab::new();
    let frame = udp4(R1, A, 1);
    let flooded = [&[0xff; 6][..], &frame[6..]].concat();
    let shim = [&A.mac.octets()[..], &[0, 0], &flooded].concat();
    let out = lab.burst(UNDERLAY, vec![marked(FROM_1, HOP | NODE, &shim)]);
    assert_eq!(out.sent, [(VM_A, flooded)]);
}

#[test]
fn an_end_marker_is_queued_behind_frames_of_the_port() {
    let mut lab = Lab::new();
    let marker = end_marker(A.mac, 1, false);
    let out = lab.burst(UNDERLAY, vec![marked(FROM_1, CONTROL, &marker)]);
    assert_eq!(out.dropped, [DropReason::EndMarker], "nothing is kept: nothing to be behind");
    lab.exits.holding_port = Some(VM_A);
    let out = lab.burst(UNDERLAY, vec![marked(FROM_1, CONTROL, &marker)]);
    assert_eq!((out.sent, out.dropped), (vec![], vec![]));
    assert_eq!(lab.exits.relayed, [(VM_A, marker)]);
}

#[test]
fn a_window_delivers_and_holds_a_copy_also_for_the_stand_in() {
    let mut lab = Lab::new();
    let stand_in = Mac::new([2, 0x53, 0x54, 0, 0, 50]);
    let mut record = record(&lab, S.mac, SEGMENT, RecordMode::Window { cycles: 1000 });
    record.stand_in = Some(stand_in);
    let counters = Arc::clone(&record.counters);
    lab.tables.set_migrating(record).unwrap();
    lab.publish();
    let frame = udp4(R1, S, 1);
    assert_eq!(lab.burst(UNDERLAY, vec![marked(FROM_1, 0, &frame)]).only(SEGMENT), frame);
    assert_eq!(lab.exits.held, [(0, WINDOW, HeldKind::Frame, frame.clone())]);
    let to_stand_in = [&stand_in.octets()[..], &frame[6..]].concat();
    let out = lab.burst(UNDERLAY, vec![marked(FROM_1, 0, &to_stand_in)]);
    assert_eq!(out.only(SEGMENT), frame, "with its real MAC");
    assert_eq!(counters.held.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn frames_after_a_window_are_redirected_and_flagged_ones_delivered() {
    let mut lab = Lab::new();
    let record = record(&lab, S.mac, SEGMENT, RecordMode::Forward(RedirectTarget::Host(2)));
    lab.tables.set_migrating(record).unwrap();
    lab.publish();
    let frame = udp4(R1, S, 1);
    let out = lab.burst(UNDERLAY, vec![marked(FROM_1, 0, &frame)]);
    let (port, sent) = &out.sent[0];
    assert_eq!((*port, sent[69], &sent[70..]), (UNDERLAY, HOP, &frame[..]));
    assert_eq!(lab.burst(UNDERLAY, vec![marked(FROM_2, HOP, &frame)]).only(SEGMENT), frame);
}

#[test]
fn an_end_marker_waits_for_other_queues_and_follows_the_frames_of_its_node() {
    let mut lab = Lab::new();
    let arrival = arriving(&mut lab);
    (lab.exits.barrier_on, lab.exits.foreign_port) = (true, Some(VM_A));
    let marker = end_marker(A.mac, 2, true);
    let out = lab.burst(UNDERLAY, vec![marked(FROM_1, HOP | CONTROL, &marker)]);
    assert_eq!((out.sent, out.dropped), (vec![], vec![]), "held until the barrier is over");
    assert!(!arrival.is_open(2));
    let (packet, network) = lab.exits.parked.pop().unwrap();
    lab.counters.release(1);
    let out = lab.packets_of(0, |path| path.forward_marker(packet, network));
    assert_eq!(out.sent, [(VM_A, marker)], "to the lcore that sends from the port");
    assert!(!arrival.is_open(2), "that lcore has yet to come to it");
    let packet = out.packets.into_iter().next().unwrap();
    lab.exits.holding_port = Some(VM_A);
    assert_eq!(lab.packets_of(1, |path| path.handle_marker_at_port(packet, network, VM_A)).dropped, []);
    assert!(!arrival.is_open(2), "frames before it still wait for the device");
    let (_, bytes) = lab.exits.relayed.pop().unwrap();
    lab.counters.release(1);
    let out = lab.packets_of(0, |path| path.record_marker(VecPacket::new(&bytes), network));
    assert_eq!(out.dropped, [DropReason::EndMarker]);
    assert!(arrival.is_open(2));
}

#[test]
fn a_marker_without_the_control_flag_is_a_tenant_frame() {
    let mut lab = Lab::new();
    let arrival = arriving(&mut lab);
    let forged = end_marker(A.mac, 2, true);
    lab.burst(UNDERLAY, vec![marked(FROM_1, HOP, &forged)]).only(VM_A);
    assert!(!arrival.is_open(2));
}

#[test]
fn a_relayed_marker_is_not_relayed_again() {
    let mut lab = Lab::new();
    let network = Network { bd: lab.net100, vni: Vni::new(100).unwrap() };
    let marker = |relayed| VecPacket::new(&end_marker(A.mac, 2, relayed));
    let one = marker(false);
    assert_eq!(
        lab.packets_of(1, |path| path.relay_marker(one, network, Peer::new(1), Relay::default())).ports(),
        [UNDERLAY]
    );
    let again = marker(true);
    assert_eq!(
        lab.packets_of(1, |path| path.relay_marker(again, network, Peer::new(1), Relay::default())).dropped,
        [DropReason::EndMarker]
    );
}

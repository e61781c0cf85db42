//! Frames that a guest left unfinished are finished.

use super::frames::{TCP, data, eth, ip4, ip4_is_right, ip6, l4_is_right, udp4, udp6};
use super::*;
use crate::pipeline::packet::TxOffload;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;

fn tcp4(from: Station, to: Station, len: usize) -> Vec<u8> {
    let tcp = frames::tcp(from.ip4.into(), to.ip4.into(), 1000, ACK | PSH | FIN, &data(len));
    eth(to.mac, from.mac, frames::IPV4, &ip4(from.ip4, to.ip4, TCP, 0, &tcp))
}

fn tcp6(from: Station, to: Station, len: usize) -> Vec<u8> {
    let tcp = frames::tcp(from.ip6.into(), to.ip6.into(), 1000, ACK | PSH | FIN, &data(len));
    eth(to.mac, from.mac, frames::IPV6, &ip6(from.ip6, to.ip6, TCP, 0, 64, &tcp))
}

/// The frame as a guest sends it: any value in place of the checksum, or the sum of the pseudo header.
fn unfilled(frame: &[u8], gso: Option<u16>) -> VecPacket {
    let mut frame = frame.to_vec();
    let l4 = if frame[12..14] == frames::IPV4.to_be_bytes() { 34 } else { 54 };
    let proto = if l4 == 34 { frame[23] } else { frame[20] };
    let at = l4 + if proto == TCP { 16 } else { 6 };
    frame[at..at + 2].copy_from_slice(&[0xde, 0xad]);
    let mut packet = VecPacket::new(&frame);
    (packet.unfilled, packet.gso) = (true, gso);
    packet
}

#[test]
fn a_checksum_is_filled_in_before_the_tunnel() {
    let mut lab = Lab::new();
    for whole in [tcp4(A, R1, 100), tcp6(A, R1, 101), udp4(A, R1, 7), udp6(A, R1, 0, 8)] {
        let out = lab.burst(VM_A, vec![unfilled(&whole, None)]);
        assert_eq!(out.only(UNDERLAY)[50..], whole);
        assert_eq!((out.packets[0].unfilled, out.packets[0].requested), (false, None));
    }
    let whole = tcp4(A, R2, 100);
    let out = lab.burst(VM_A, vec![unfilled(&whole, None)]);
    assert_eq!(out.only(UNDERLAY)[70..], whole);
    assert!(l4_is_right(out.only(UNDERLAY)));
}

#[test]
fn a_port_that_cannot_gets_a_finished_frame() {
    let mut lab = Lab::new();
    for whole in [tcp4(A, S, 100), tcp6(A, S, 101), udp4(A, S, 7), udp6(A, S, 0, 8)] {
        let out = lab.burst(VM_A, vec![unfilled(&whole, None)]);
        assert_eq!(out.only(SEGMENT), whole);
        assert_eq!((out.packets[0].unfilled, out.packets[0].requested), (false, None));
    }
    let whole = tcp4(A, T, 100);
    let out = lab.burst(VM_A, vec![unfilled(&whole, None)]);
    assert_eq!(out.only(TRUNK), frames::tagged(&whole, 0x8100, 10));
}

#[test]
fn a_capable_port_gets_the_request() {
    let mut lab = Lab::new();
    let request = TxOffload { l2_len: 14, l3_len: 20, l4_len: 20, ipv6: false, tcp: true, gso_size: 0 };
    for (whole, expected) in [
        (tcp4(A, B, 100), request),
        (tcp6(A, B, 100), TxOffload { l3_len: 40, ipv6: true, ..request }),
        (udp4(A, B, 100), TxOffload { l4_len: 8, tcp: false, ..request }),
    ] {
        let packet = unfilled(&whole, None);
        let left_by_guest = packet.head().to_vec();
        let out = lab.burst(VM_A, vec![packet]);
        assert_eq!(out.only(VM_B), left_by_guest);
        assert_eq!(out.packets[0].requested, Some(expected));
    }
    let big = unfilled(&tcp4(A, B, 9000), Some(1448));
    let out = lab.burst(VM_A, vec![big]);
    assert_eq!(out.only(VM_B).len(), 9054);
    assert_eq!(out.packets[0].requested, Some(TxOffload { gso_size: 1448, ..request }));
}

/// Checks the segments of `whole`: lengths, checksums, sequence numbers, flags, and all the data.
#[track_caller]
fn assert_segments(frames: &[&[u8]], whole: &[u8], mss: usize) {
    let v4 = whole[12..14] == frames::IPV4.to_be_bytes();
    let headers = if v4 { 54 } else { 74 };
    let l4 = headers - 20;
    let mut seq = 1000;
    let mut payload = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        let last = i + 1 == frames.len();
        assert!(l4_is_right(frame), "segment {i}");
        if v4 {
            assert!(ip4_is_right(frame));
            assert_eq!(usize::from(u16::from_be_bytes([frame[16], frame[17]])), frame.len() - 14);
            assert_eq!(u16::from_be_bytes([frame[18], frame[19]]), i as u16);
        } else {
            assert_eq!(usize::from(u16::from_be_bytes([frame[18], frame[19]])), frame.len() - 54);
        }
        assert_eq!(u32::from_be_bytes(frame[l4 + 4..l4 + 8].try_into().unwrap()), seq);
        assert_eq!(frame[l4 + 13], if last { ACK | PSH | FIN } else { ACK });
        assert_eq!(frame[..12], whole[..12]);
        let data = &frame[headers..];
        assert!(data.len() == mss || last && data.len() <= mss);
        seq += data.len() as u32;
        payload.extend_from_slice(data);
    }
    assert_eq!(payload, whole[headers..]);
}

#[test]
fn a_large_frame_becomes_segments_before_the_tunnel() {
    let mut lab = Lab::new();
    for (whole, to, mss, count) in [
        (tcp4(A, R1, 9000), 50, 1000, 9),
        (tcp4(A, R1, 9001), 50, 1000, 10),
        (tcp6(A, R1, 4000), 50, 1300, 4),
        (tcp4(A, R2, 60000), 70, 1380, 44),
    ] {
        let copied = lab.counters.read().copied;
        let out = lab.burst(VM_A, vec![unfilled(&whole, Some(mss))]);
        assert_eq!((out.dropped.len(), out.sent.len()), (0, count));
        assert!(out.packets.iter().all(|p| p.gso.is_none() && !p.unfilled && p.requested.is_none()));
        let inner: Vec<&[u8]> = out
            .sent
            .iter()
            .map(|(port, f)| {
                assert_eq!(*port, UNDERLAY);
                &f[to..]
            })
            .collect();
        assert_segments(&inner, &whole, usize::from(mss));
        assert_eq!(lab.counters.read().copied - copied, count as u64 - 1);
        let ports: std::collections::BTreeSet<u16> =
            out.sent.iter().map(|(_, f)| frames::source_port(f)).collect();
        assert_eq!(ports.len(), 1, "segments of one flow must not take different paths");
    }
}

#[test]
fn a_port_that_cannot_segment_gets_segments() {
    let mut lab = Lab::new();
    let whole = tcp4(A, S, 5000);
    let out = lab.burst(VM_A, vec![unfilled(&whole, Some(1400))]);
    let got: Vec<&[u8]> = out.sent.iter().map(|(_, f)| f.as_slice()).collect();
    assert_eq!(out.ports(), [SEGMENT; 4]);
    assert_segments(&got, &whole, 1400);
    // The same for a port that only fills in checksums.
    lab.ports[usize::from(VM_B)].segments_tcp = false;
    let whole = tcp6(A, B, 5000);
    let out = lab.burst(VM_A, vec![unfilled(&whole, Some(1400))]);
    let got: Vec<&[u8]> = out.sent.iter().map(|(_, f)| f.as_slice()).collect();
    assert_segments(&got, &whole, 1400);
}

#[test]
fn an_exhausted_pool_drops_only_segments_without_a_buffer() {
    let mut lab = Lab::new();
    lab.exits.pool.left = 2;
    let out = lab.burst(VM_A, vec![unfilled(&tcp4(A, R1, 5000), Some(1000))]);
    assert_eq!((out.sent.len(), out.dropped), (2, vec![DropReason::PoolEmpty; 3]));
}

#[test]
fn frames_that_cannot_be_finished_are_dropped() {
    let mut lab = Lab::new();
    let mark = |frame: &[u8], gso| {
        let mut packet = VecPacket::new(frame);
        (packet.unfilled, packet.gso) = (true, gso);
        packet
    };
    for to in [R1, B, S] {
        let plain = frames::other(A.mac, to.mac, 50);
        lab.burst(VM_A, vec![mark(&plain, None)]).is_dropped(DropReason::BadChecksumOffload);
        lab.burst(VM_A, vec![mark(&plain, Some(10))]).is_dropped(DropReason::BadChecksumOffload);
        // UDP segmentation was never offered.
        lab.burst(VM_A, vec![mark(&udp4(A, to, 3000), Some(1000))])
            .is_dropped(DropReason::BadChecksumOffload);
        let mut fragment = udp4(A, to, 50);
        fragment[20] = 0x20;
        fragment[24..26].copy_from_slice(&[0, 0]);
        let sum = frames::checksum(&[&fragment[14..34]]);
        fragment[24..26].copy_from_slice(&sum.to_be_bytes());
        if to != B {
            lab.burst(VM_A, vec![mark(&fragment, None)]).is_dropped(DropReason::BadChecksumOffload);
        }
    }
    let zero = mark(&tcp4(A, R1, 100), Some(0));
    lab.burst(VM_A, vec![zero]).is_dropped(DropReason::BadChecksumOffload);
}

#[test]
fn replicas_of_an_unfinished_frame_are_each_finished() {
    let mut lab = Lab::new();
    let group = Station { mac: Mac::new([1, 0, 0x5e, 0, 0, 9]), ip4: Ipv4Addr::new(224, 0, 0, 9), ..R1 };
    let whole = udp4(A, group, 100);
    let out = lab.burst(VM_A, vec![unfilled(&whole, None)]);
    assert_eq!((out.sent.len(), out.dropped.len()), (5, 0));
    for ((port, frame), packet) in out.sent.iter().zip(&out.packets) {
        let inner = match (*port, frame[12..14] == frames::IPV4.to_be_bytes()) {
            (UNDERLAY, true) => &frame[50..],
            (UNDERLAY, false) => &frame[70..],
            (VM_B, _) => {
                assert!(packet.requested.is_some());
                continue;
            }
            (TRUNK, _) => &[&frame[..12], &frame[16..]].concat(),
            _ => frame.as_slice(),
        };
        assert_eq!(inner, whole);
        assert!(!packet.unfilled);
    }
}

#[test]
fn an_answer_has_no_offload_marks_of_the_request() {
    let mut lab = Lab::new();
    let mut ask = VecPacket::new(&frames::arp_request(A, R1.ip4));
    ask.unfilled = true;
    let out = lab.burst(VM_A, vec![ask]);
    out.only(VM_A);
    assert!(!out.packets[0].unfilled);
}

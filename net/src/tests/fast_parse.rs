//! `fast_parse` accepts ordinary frames, and the complete parsers accept each of them, with the same
//! facts (asserted by `exercise`), whichever byte of an ordinary frame is another, and wherever the frame ends.

use super::{A, B, golden};
use crate::Vni;
use crate::{checksum, exercise, fast_parse};
use std::net::Ipv4Addr;

const ORDINARY: [&str; 6] = ["tcp4", "udp4", "tcp6", "tcp4_vlan", "vxlan4", "vxlan6"];

/// Makes the checksum of an IPv4 header without options right, so that a change there is not all that matters.
fn hint(frame: &mut [u8]) {
    if let Some(header) = frame.get_mut(14..34).filter(|header| header[0] == 0x45) {
        header[10..12].copy_from_slice(&[0, 0]);
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

fn exercise(frame: &[u8], first_segment: usize) {
    let input = [&(first_segment as u16).to_be_bytes()[..], frame].concat();
    exercise::frame_parse(&input);
    exercise::underlay_parse(&input);
}

fn sent(head: &[u8], len: usize) -> Option<fast_parse::Sent> {
    fast_parse::sent(head, len, &fast_parse::Sender::from_mac(A))
}

#[test]
fn ordinary_frames_are_accepted() {
    for name in ["tcp4", "udp4"] {
        let frame = golden(name);
        let facts = sent(&frame, frame.len()).unwrap();
        assert_eq!((facts.dst, facts.src, facts.src_ip), (B, A, Ipv4Addr::new(192, 168, 0, 10)), "{name}");
        // The shortest head that has all headers; one byte less is for others.
        let headers = if name == "tcp4" { 14 + 20 + 32 } else { 14 + 20 + 8 };
        assert_eq!(sent(&frame[..headers], frame.len()), Some(facts));
        assert_eq!(sent(&frame[..headers - 1], frame.len()), None);
    }
    for name in ["tcp4", "udp4", "tcp6"] {
        let received = fast_parse::received(&golden(name)).unwrap();
        assert_eq!((received.dst, received.src), (B, A), "{name}");
    }
    let frame = golden("vxlan4");
    let tunnel = fast_parse::tunnel(&frame, frame.len(), 4789).unwrap();
    assert_eq!(
        (tunnel.vni, tunnel.inner_len),
        (Vni::new(0x12_3456).unwrap(), frame.len() - fast_parse::TUNNEL_LEN)
    );
    assert_eq!(fast_parse::tunnel(&frame, frame.len(), 4790), None);
    assert_eq!(
        fast_parse::tunnel(&frame[..frame.len() - 1], frame.len(), 4789),
        None,
        "not all in one segment"
    );
}

#[test]
fn other_frames_are_left_to_the_complete_parsers() {
    for name in ["arp_request", "tcp4_vlan", "vxlan6", "tcp6"] {
        let frame = golden(name);
        assert_eq!(sent(&frame, frame.len()), None, "{name}");
        assert_eq!(fast_parse::tunnel(&frame, frame.len(), 4789), None, "{name}");
    }
    for name in ["arp_request", "tcp4_vlan"] {
        assert_eq!(fast_parse::received(&golden(name)), None, "{name}");
    }
    for first_byte_of in [0, 6] {
        let mut group = golden("udp4");
        group[first_byte_of] |= 1;
        assert_eq!(fast_parse::received(&group), None, "a group as destination or source");
    }
}

#[test]
fn no_byte_makes_the_fast_path_accept_a_frame_that_the_complete_parsers_refuse() {
    for name in ORDINARY {
        let ordinary = golden(name);
        for at in 0..ordinary.len().min(100) {
            for value in 0..=u8::MAX {
                let mut frame = ordinary.clone();
                frame[at] = value;
                exercise(&frame, frame.len());
                hint(&mut frame);
                exercise(&frame, frame.len());
            }
        }
    }
}

#[test]
fn no_length_makes_the_fast_path_accept_a_frame_that_the_complete_parsers_refuse() {
    for name in ORDINARY {
        let frame = golden(name);
        for end in 0..=frame.len() {
            exercise(&frame[..end], end);
            exercise(&frame, end);
        }
        // Its length field and its length, both changed.
        for total_len in 0..100 {
            let mut frame = frame.clone();
            frame[16..18].copy_from_slice(&u16::to_be_bytes(total_len));
            hint(&mut frame);
            for end in 0..=frame.len() {
                exercise(&frame[..end], end);
            }
        }
    }
}

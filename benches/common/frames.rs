//! Golden frames with other addresses.

use super::{A, B, Buffer, NODES, golden, remote};
use stopover::pipeline::packet::Packet;
use stopover_net::Mac;
use stopover_net::checksum::{of, update16};

/// A golden frame from a station here to others.
pub fn from(name: &str, src: Mac, dst: impl Fn(u32) -> Mac) -> impl Fn(u32) -> Vec<u8> {
    let golden = golden(name);
    move |n| {
        let mut frame = golden.clone();
        frame[..6].copy_from_slice(&dst(n).octets());
        frame[6..12].copy_from_slice(&src.octets());
        frame
    }
}

/// A UDP frame over IPv4, cut to 64 bytes with FCS.
pub fn shortest(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame[..60].to_vec();
    for (at, before) in [(16, 14), (38, 34)] {
        let len = (frame.len() - before) as u16;
        frame[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }
    frame
}

/// A golden tunnel datagram, changed to be from a node at another host to a local vif.
pub fn inward(name: &str, outer_len: usize, dst: impl Fn(u32) -> Mac) -> impl Fn(u32) -> Vec<u8> {
    let golden = golden(name);
    move |n| {
        let mut frame = golden.clone();
        let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let macs = [dst(n).octets(), remote(n % NODES).octets()].concat();
        let sum_at = outer_len - 10;
        for (i, new) in macs.chunks_exact(2).enumerate() {
            let at = outer_len + 2 * i;
            let sum = update16(word(&frame, sum_at), word(&frame, at), word(new, 0));
            frame[at..at + 2].copy_from_slice(new);
            if word(&frame, sum_at) != 0 {
                frame[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
            }
        }
        frame
    }
}

/// A datagram from the other host over IPv4, around an inner frame.
pub fn around(inner: &[u8]) -> Vec<u8> {
    let mut frame = golden("vxlan4")[..50].to_vec();
    for (at, before) in [(16, 14), (38, 34)] {
        let len = (50 - before + inner.len()) as u16;
        frame[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }
    frame[24..26].fill(0);
    let sum = of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(inner);
    frame
}

/// A tag of VLAN 10.
const TAG: [u8; 4] = [0x81, 0, 0, 10];

/// The frame with a tag.
pub fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &TAG, &frame[12..]].concat()
}

/// Restores the tag of a frame that a stage has taken off.
pub fn retag(buffer: &mut Buffer) {
    let head = buffer.head_mut();
    if head[12..14] != TAG[..2] {
        head.copy_within(4..16, 0);
        head[12..16].copy_from_slice(&TAG);
    }
}

/// One vif and the other in turns.
pub fn two_vifs(n: u32) -> Mac {
    if n.is_multiple_of(2) { A } else { B }
}

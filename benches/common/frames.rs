//! Golden frames with other addresses.

use super::{A, B, NODES, golden, remote};
use stopover_net::Mac;
use stopover_net::checksum::update16;

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

/// One vif and the other in turns.
pub fn two_vifs(n: u32) -> Mac {
    if n.is_multiple_of(2) { A } else { B }
}

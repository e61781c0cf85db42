//! Software segmentation against the same segments built one by one by scapy.

use super::{assert_golden, facts, golden};
use crate::gso::{NotSegmentable, Segmenter};
use crate::l4_checksum::finish_l4;

/// All segments as finished frames.
fn cut(bytes: &[u8], mss: u16) -> Vec<Vec<u8>> {
    let segmenter = Segmenter::new(&facts(bytes), bytes, mss).unwrap();
    let count = Segmenter::count(&segmenter);
    let frames: Vec<Vec<u8>> = segmenter
        .clone()
        .map(|segment| {
            let mut out = vec![0xee; segmenter.header_len()];
            segmenter.write_header(&segment, &mut out).unwrap();
            let data = &bytes[segment.payload.clone()];
            let sum = finish_l4(&segment.frame, [out.as_slice(), data].into_iter()).unwrap();
            out[sum.offset..sum.offset + 2].copy_from_slice(&sum.value.to_be_bytes());
            out.extend_from_slice(data);
            assert_eq!(segment.frame, facts(&out));
            out
        })
        .collect();
    assert_eq!(frames.len(), count);
    frames
}

#[test]
fn segments_are_those_of_scapy() {
    for name in ["gso4", "gso6"] {
        let frames = cut(&golden(name), 1400);
        assert_eq!(frames.len(), 3);
        for (i, frame) in frames.iter().enumerate() {
            assert_golden(frame, &format!("{name}_{i}"));
        }
    }
}

#[test]
fn one_segment_is_the_frame_itself() {
    for name in ["tcp4", "tcp6", "tcp4_vlan", "gso6_1"] {
        let frames = cut(&golden(name), 9000);
        assert_eq!(frames.len(), 1);
        assert_golden(&frames[0], name);
    }
}

#[test]
fn frames_that_cannot_be_segmented() {
    let refuse = |name: &str, head: usize, mss: u16| {
        let bytes = golden(name);
        Segmenter::new(&facts(&bytes), &bytes[..head.min(bytes.len())], mss).map(|s| Segmenter::count(&s))
    };
    assert_eq!(refuse("udp4", 999, 100), Err(NotSegmentable::NotTcp));
    assert_eq!(refuse("arp_request", 999, 100), Err(NotSegmentable::NotTcp));
    assert_eq!(refuse("tcp4", 999, 0), Err(NotSegmentable::ZeroMss));
    assert_eq!(refuse("tcp4", 65, 100), Err(NotSegmentable::Headers));
    assert_eq!(refuse("tcp4", 66, 100), Ok(2));
    let mut fragment = golden("tcp4");
    fragment[20] = 0x20;
    let refused = Segmenter::new(&facts(&fragment), &fragment, 100).map(|s| Segmenter::count(&s));
    assert_eq!(refused, Err(NotSegmentable::Fragment));
}

#[test]
fn a_short_buffer_is_refused() {
    let bytes = golden("gso4");
    let mut segmenter = Segmenter::new(&facts(&bytes), &bytes, 1400).unwrap();
    let segment = segmenter.next().unwrap();
    let mut out = vec![0; segmenter.header_len() - 1];
    assert_eq!(segmenter.write_header(&segment, &mut out), None);
}

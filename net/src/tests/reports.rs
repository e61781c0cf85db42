//! ICMP errors and echo replies against golden frames, and when no error may be sent.

use super::{assert_golden, facts, golden};
use crate::icmp::{build_frag_needed, build_packet_too_big, echo_reply};

#[test]
fn frag_needed_is_that_of_scapy() {
    let bytes = golden("big4");
    assert_golden(&build_frag_needed(&bytes, &facts(&bytes), 1400).unwrap(), "big4_error");
    let bytes = golden("big4_vlan");
    assert_golden(&build_frag_needed(&bytes, &facts(&bytes), 60).unwrap(), "big4_vlan_error");
}

#[test]
fn packet_too_big_is_that_of_scapy() {
    let bytes = golden("big6");
    let error = build_packet_too_big(&bytes, &facts(&bytes), 1300).unwrap();
    assert_eq!(error.len(), 14 + 1280);
    assert_golden(&error, "big6_error");
}

#[test]
fn only_the_first_segment_is_quoted() {
    let bytes = golden("big4");
    let error = build_frag_needed(&bytes[..64], &facts(&bytes), 1400).unwrap();
    assert_eq!(error.len(), 14 + 28 + 50);
    assert_eq!(&error[42..], &bytes[14..64]);
}

/// Whether an error would be sent about a golden frame with `changes` made.
fn answers(name: &str, changes: &[(usize, u8)]) -> bool {
    let mut bytes = golden(name);
    for &(at, value) in changes {
        bytes[at] = value;
    }
    let frame = facts(&bytes);
    let (v4, v6) = (build_frag_needed(&bytes, &frame, 1400), build_packet_too_big(&bytes, &frame, 1400));
    assert!(v4.is_none() || v6.is_none());
    v4.is_some() || v6.is_some()
}

#[test]
fn an_error_is_sent_about_ordinary_packets() {
    for name in
        ["udp4", "tcp4", "frag4_first", "icmp4_echo", "udp6", "frag6_first", "frag6_later", "icmp6_echo"]
    {
        assert!(answers(name, &[]), "{name}");
    }
}

#[test]
fn no_error_is_sent_where_it_is_forbidden() {
    for name in ["frag4_later", "big4_error", "big6_error", "icmp6_unreachable", "ns", "arp_request", "rarp"]
    {
        assert!(!answers(name, &[]), "{name}");
    }
    assert!(!answers("udp4", &[(0, 0x01)]), "group destination MAC");
    assert!(!answers("udp4", &[(6, 0x01)]), "group source MAC");
    assert!(!answers("udp4", &[(30, 224)]), "multicast destination");
    assert!(!answers("udp4", &[(30, 255), (31, 255), (32, 255), (33, 255)]), "broadcast destination");
    assert!(!answers("udp4", &[(26, 0), (27, 0), (28, 0), (29, 0)]), "unspecified source");
    assert!(!answers("udp4", &[(26, 127)]), "loopback source");
    assert!(!answers("icmp4_echo", &[(34, 11)]), "about an ICMP error");
    assert!(!answers("udp6", &[(38, 0xff)]), "multicast destination");
    assert!(!answers("udp6", &[(22, 0xff)]), "multicast source");
    assert!(!answers("icmp6_echo", &[(54, 137)]), "about a redirect");
    assert!(!answers("frag6_later", &[(54, 58)]), "perhaps about an ICMPv6 error");
}

#[test]
fn echo_replies_are_those_of_scapy() {
    for (request, reply) in [("icmp4_echo", "icmp4_echo_reply"), ("icmp6_echo", "icmp6_echo_reply")] {
        let mut bytes = golden(request);
        let frame = facts(&bytes);
        assert!(echo_reply(&frame, &mut bytes));
        assert_golden(&bytes, reply);
        assert!(!echo_reply(&facts(&bytes), &mut bytes), "a reply is not answered");
    }
}

#[test]
fn frames_other_than_echo_requests_are_not_changed() {
    for name in ["udp4", "tcp6", "ns", "arp_request", "frag4_first", "icmp6_unreachable"] {
        let mut bytes = golden(name);
        assert!(!echo_reply(&facts(&bytes), &mut bytes), "{name}");
        assert_eq!(bytes, golden(name));
    }
    let mut bytes = golden("icmp4_echo");
    bytes[30] = 224;
    let frame = facts(&bytes);
    assert!(!echo_reply(&frame, &mut bytes), "multicast ping");
}

//! ARP and ND against golden frames: messages read, and answers.

use super::{A, B, assert_golden, facts, golden};
use crate::Mac;
use crate::arp::{self, ArpFacts, ArpKind, BadArp};
use crate::ipv6;
use crate::nd::{self, Advert, AdvertSpec, BadNd, Nd, Solicit};
use std::net::{Ipv4Addr, Ipv6Addr};

const A4: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);
const B4: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 11);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xa);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xb);

fn arp(name: &str) -> ArpFacts {
    let bytes = golden(name);
    arp::parse(&facts(&bytes), &bytes).unwrap()
}

#[test]
fn arp_kinds() {
    let request = arp("arp_request");
    assert_eq!(
        request,
        ArpFacts {
            kind: ArpKind::Request,
            is_reply: false,
            sender_mac: A,
            sender_ip: A4,
            target_mac: Mac::new([0; 6]),
            target_ip: B4
        }
    );
    let kinds = ["arp_reply", "arp_probe", "arp_announce", "arp_gratuitous_reply", "arp_probe_reply"]
        .map(|name| (arp(name).kind, arp(name).is_reply));
    assert_eq!(
        kinds,
        [
            (ArpKind::Reply, true),
            (ArpKind::Probe, false),
            (ArpKind::Announcement, false),
            (ArpKind::Announcement, true),
            (ArpKind::Reply, true),
        ]
    );
}

#[test]
fn arp_messages_are_those_of_scapy() {
    assert_golden(&arp::build_reply(&arp("arp_request"), B), "arp_reply");
    assert_golden(&arp::build_reply(&arp("arp_probe"), B), "arp_probe_reply");
    assert_golden(&arp::build_request(Mac::BROADCAST, (A, A4), B4), "arp_request");
    assert_golden(&arp::build_announcement(A, A4), "arp_announce");
}

#[test]
fn arp_refusals() {
    let parse = |at: usize, value: u8| {
        let mut bytes = golden("arp_request");
        bytes[at] = value;
        arp::parse(&facts(&bytes), &bytes)
    };
    assert_eq!(parse(15, 6), Err(BadArp::NotEthernetIpv4));
    assert_eq!(parse(16, 9), Err(BadArp::NotEthernetIpv4));
    assert_eq!(parse(18, 8), Err(BadArp::NotEthernetIpv4));
    assert_eq!(parse(21, 3), Err(BadArp::Operation));
    assert_eq!(parse(22, 0x53), Err(BadArp::SenderMac));
    let bytes = golden("arp_request");
    for len in 14..42 {
        assert_eq!(arp::parse(&facts(&bytes[..len]), &bytes[..len]), Err(BadArp::Truncated));
    }
    let rarp = golden("rarp");
    assert_eq!(arp::parse(&facts(&rarp), &rarp), Err(BadArp::Truncated));
    assert!(arp::Packet::new_checked(&bytes[14..]).is_ok_and(|p| p.operation() == 1 && p.target_ip() == B4));
    assert!(arp::Packet::new_checked(&bytes[14..41]).is_err());
}

fn nd(name: &str) -> Result<Nd, BadNd> {
    let bytes = golden(name);
    nd::parse(&facts(&bytes), &bytes)
}

fn solicit(name: &str) -> Solicit {
    match nd(name) {
        Ok(Nd::Solicit(solicit)) => solicit,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn nd_messages_are_read() {
    let dst = ipv6::solicited_node(B6);
    let expected = Solicit { src: A6, dst, target: B6, source_mac: Some(A), dad: false };
    assert_eq!(solicit("ns"), expected);
    assert_eq!(solicit("ns_unicast"), Solicit { dst: B6, ..expected });
    assert_eq!(
        solicit("ns_dad"),
        Solicit { src: Ipv6Addr::UNSPECIFIED, source_mac: None, dad: true, ..expected }
    );
    let advert = Advert {
        src: B6,
        dst: A6,
        target: B6,
        target_mac: Some(B),
        router: false,
        solicited: true,
        overrides: true,
    };
    assert_eq!(nd("na"), Ok(Nd::Advert(advert)));
    assert_eq!(nd("na_router"), Ok(Nd::Advert(Advert { router: true, ..advert })));
    assert_eq!(nd("na_dad"), Ok(Nd::Advert(Advert { dst: ipv6::ALL_NODES, solicited: false, ..advert })));
    assert_eq!(nd("rs"), Ok(Nd::RouterSolicit));
    assert_eq!(nd("ra"), Ok(Nd::RouterAdvert));
}

#[test]
fn nd_refusals_of_rfc4861_section_7_1() {
    for (name, bad) in [
        ("ns_hop_limit", BadNd::HopLimit),
        ("ns_bad_checksum", BadNd::Checksum),
        ("ns_code", BadNd::Code),
        ("ns_multicast_target", BadNd::TargetMulticast),
        ("ns_option_zero", BadNd::Option),
        ("ns_option_overrun", BadNd::Option),
        ("ns_option_group_mac", BadNd::LinkLayer),
        ("ns_dad_with_mac", BadNd::Dad),
        ("ns_dad_unicast", BadNd::Dad),
        ("na_multicast_solicited", BadNd::SolicitedMulticast),
        ("icmp6_echo", BadNd::NotNd),
        ("arp_request", BadNd::NotNd),
    ] {
        assert_eq!(nd(name), Err(bad), "{name}");
    }
    let bytes = golden("ns");
    let frame = facts(&bytes);
    assert_eq!(nd::parse(&frame, &bytes[..bytes.len() - 1]), Err(BadNd::Split));
    // "ICMP length (derived from the IP length) is 24 or more octets": 16 here, checksum made good.
    let mut short = golden("ns_short");
    let frame = facts(&short);
    let sum = crate::l4_checksum::finish_l4(&frame, std::iter::once(short.as_slice())).unwrap();
    short[sum.offset..sum.offset + 2].copy_from_slice(&sum.value.to_be_bytes());
    assert_eq!(nd::parse(&frame, &short), Err(BadNd::Length));
}

#[test]
fn nd_messages_are_those_of_scapy() {
    let frame = facts(&golden("ns"));
    assert_golden(&nd::build_answer(&solicit("ns"), &frame, B, false), "na");
    assert_golden(&nd::build_answer(&solicit("ns"), &frame, B, true), "na_router");
    assert_golden(&nd::build_answer(&solicit("ns_dad"), &frame, B, false), "na_dad");
    assert_golden(&nd::build_announcement(B, B6, false), "na_dad");
    assert_golden(&nd::build_announcement(B, B6, true), "na_announce_router");
    assert_golden(&nd::build_solicit((A, A6), B6, None), "ns");
    assert_golden(&nd::build_solicit((A, A6), B6, Some(B)), "ns_unicast");
    assert_golden(&nd::build_solicit((A, Ipv6Addr::UNSPECIFIED), B6, None), "ns_dad");
    let spec = AdvertSpec {
        owner: B,
        dst_mac: A,
        src: B6,
        dst: A6,
        target: B6,
        router: false,
        solicited: true,
        overrides: true,
    };
    assert_golden(&nd::build_advert(&spec), "na");
}

//! Generated input: no bytes make the parsers panic or break a promise, and what we build we read back.

use super::{all_golden, facts, golden};
use crate::gso::Segmenter;
use crate::l4_checksum::{L4Check, check_l4, finish_l4};
use crate::marker::{self, Marker, Relay};
use crate::outer::{OuterHeader, OuterSpec};
use crate::underlay::{self, Expect, Underlay};
use crate::vxlan::{OverlayFlags, shim};
use crate::{Mac, VlanId, Vni};
use crate::{arp, exercise, flow, icmp, nd, tcp};
use proptest::prelude::*;
use std::net::IpAddr;

/// A golden frame with some bytes changed, cut somewhere, split somewhere: in the fuzz targets' input form.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let golden: Vec<Vec<u8>> = all_golden().into_iter().map(|(_, bytes)| bytes).collect();
    let change = (0usize..120, any::<u8>());
    (proptest::sample::select(golden), proptest::collection::vec(change, 0..6), 0usize..2000, 0u16..400)
        .prop_map(|(mut bytes, changes, len, split)| {
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(len);
            let mut input = split.to_be_bytes().to_vec();
            input.extend(bytes);
            input
        })
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(|mut b| {
        b[0] = b[0] & 0xfc | 2;
        Mac::new(b)
    })
}

/// Two addresses of one family, as hosts have them.
fn hosts() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        (any::<[u8; 3]>(), any::<[u8; 3]>())
            .prop_map(|(a, b)| ([10, a[0], a[1], a[2]].into(), [10, b[0], b[1], b[2]].into())),
        (any::<u64>(), any::<u64>()).prop_map(|(a, b)| {
            let ip = |n: u64| IpAddr::V6((0xfd00_u128 << 112 | u128::from(n)).into());
            (ip(a), ip(b))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        exercise::frame_parse(&input);
        exercise::underlay_parse(&input);
        exercise::arp_nd(&input);
        exercise::marker(&input);
    }

    #[test]
    fn mutated_frames_never_panic(input in mutated()) {
        exercise::frame_parse(&input);
        exercise::underlay_parse(&input);
        exercise::arp_nd(&input);
        exercise::marker(&input);
    }
}

proptest! {
    #[test]
    fn encapsulated_frames_are_decapsulated(
        ips in hosts(), macs in (mac(), mac()), vlan in proptest::option::of(1u16..4095),
        vni in 1u32..=Vni::MAX, src_port in flow::FIRST_PORT.., dst_port: u16, ttl: u8, tos: u8,
        inner in proptest::collection::vec(any::<u8>(), 14..200), padding in 0usize..20, cut in 0usize..300,
        bits in 0u8..4, node in proptest::option::of(mac()),
    ) {
        let (node, flags) = match node {
            // An end marker has its node inside.
            Some(node) => (Some(node), OverlayFlags::of(bits & 1).with(OverlayFlags::NODE)),
            None => (None, OverlayFlags::of(bits)),
        };
        let vlan = vlan.and_then(|v| VlanId::new(v).ok());
        let spec = OuterSpec { src_mac: macs.0, dst_mac: macs.1, vlan, src: ips.0, dst: ips.1, dst_port, ttl };
        let header = OuterHeader::new(&spec).unwrap();
        let vni = Vni::new(vni).unwrap();
        let mut frame = vec![0xee; header.len()];
        let shim = node.map(|node| shim(node).to_vec()).unwrap_or_default();
        header.fill(&mut frame, shim.len() + inner.len(), vni, src_port, tos).unwrap();
        header.set_flags(&mut frame, flags);
        header.seal(&mut frame, [shim.as_slice(), inner.as_slice()].into_iter());
        let headers = frame.len() + shim.len();
        frame.extend(shim);
        frame.extend(&inner);
        let whole = facts(&frame);
        let check = check_l4(&whole, std::iter::once(frame.as_slice()));
        prop_assert_eq!(check, if header.is_ipv6() { L4Check::Good } else { L4Check::Absent });
        frame.extend(vec![0xaa; padding]);
        let cut = cut.clamp(headers, frame.len());
        let parsed = underlay::parse(&frame[..cut], frame.len(), &Expect { vlan, udp_port: dst_port });
        let Ok(Underlay::Vxlan(v)) = parsed else { panic!("{parsed:?}") };
        prop_assert_eq!((v.src, v.dst, v.src_mac, v.dst_mac), (ips.0, ips.1, macs.0, macs.1));
        prop_assert_eq!((v.vni, v.udp_src, v.tos, v.ttl), (vni, src_port, tos, ttl));
        prop_assert_eq!((v.flags, v.node), (flags, node));
        prop_assert_eq!(&frame[usize::from(v.inner_off)..v.inner_end()], inner.as_slice());
        if header.is_ipv6() {
            prop_assert!(v.udp_checksum_ok([&frame[..cut], &frame[cut..]].into_iter()));
        }
    }

    #[test]
    fn segments_reassemble_to_the_stream(
        v6: bool, data in proptest::collection::vec(any::<u8>(), 0..5000), mss in 1u16..2000, seq: u32, flags: u8,
        id: u16,
    ) {
        let mut bytes = golden(if v6 { "gso6_0" } else { "gso4_0" });
        let before = facts(&bytes);
        let l4 = usize::from(before.l4_off.unwrap());
        let header = l4 + 32;
        bytes.truncate(header);
        bytes.extend(&data);
        let len = bytes.len() as u16;
        if v6 {
            bytes[18..20].copy_from_slice(&(len - 54).to_be_bytes());
        } else {
            bytes[16..18].copy_from_slice(&(len - 14).to_be_bytes());
            bytes[18..20].copy_from_slice(&id.to_be_bytes());
        }
        bytes[l4 + tcp::SEQ_AT..l4 + 8].copy_from_slice(&seq.to_be_bytes());
        bytes[l4 + tcp::FLAGS_AT] = flags;
        let whole = facts(&bytes);
        let segmenter = Segmenter::new(&whole, &bytes, mss).unwrap();
        let (mut stream, mut all_flags, mut finals, mut reduced) = (Vec::new(), 0, 0, 0);
        for segment in segmenter.clone() {
            let mut out = vec![0; header];
            segmenter.write_header(&segment, &mut out).unwrap();
            out.extend_from_slice(&bytes[segment.payload.clone()]);
            let facts = facts(&out);
            let sum = finish_l4(&facts, std::iter::once(out.as_slice())).unwrap();
            out[sum.offset..sum.offset + 2].copy_from_slice(&sum.value.to_be_bytes());
            prop_assert_eq!(check_l4(&facts, std::iter::once(out.as_slice())), L4Check::Good);
            prop_assert!(v6 || crate::checksum::is_valid(&out[14..38]));
            let tcp = tcp::Header::new_checked(&out[l4..]).unwrap();
            prop_assert_eq!(tcp.seq(), seq.wrapping_add(stream.len() as u32));
            if !v6 {
                let expected = id.wrapping_add(segment.index as u16);
                prop_assert_eq!(u16::from_be_bytes([out[18], out[19]]), expected);
            }
            all_flags |= tcp.flags();
            finals += u32::from(tcp.flags() & (tcp::flag::FIN | tcp::flag::PSH) != 0);
            reduced += u32::from(tcp.flags() & tcp::flag::CWR != 0);
            stream.extend_from_slice(&out[header..]);
        }
        prop_assert_eq!(stream, data);
        prop_assert_eq!(all_flags, flags);
        prop_assert!(finals <= 1 && reduced <= 1);
    }

    #[test]
    fn marker_round_trip(
        arrived: bool, relayed: bool, sender_queues in 1..=marker::MAX_SENDER_QUEUES, sender_queue: proptest::sample::Index, host: u32,
        generation: u64, node in mac(), paused_us: u32, later: u32, ends: bool, behind in 0usize..30,
        ports in 1..=marker::MAX_PORTS, port: proptest::sample::Index, source_port: u16,
    ) {
        let kind = if arrived { marker::Kind::Arrived } else { marker::Kind::End };
        let sender_queue = sender_queue.index(usize::from(sender_queues)) as u8;
        let port = port.index(usize::from(ports)) as u8;
        let marker = Marker {
            kind,
            relayed,
            ends: false,
            sender_queue,
            sender_queues,
            port,
            ports,
            source_port,
            host,
            generation,
            node,
            paused_us,
        };
        let mut bytes = marker::build(&marker).to_vec();
        bytes.extend(vec![0xaa; behind]);
        prop_assert_eq!(marker::parse(&bytes), Ok(marker));
        marker::relay_in_place(&mut bytes, Relay { paused_us: later, ends });
        prop_assert_eq!(marker::parse(&bytes), Ok(Marker { relayed: true, ends, paused_us: later, ..marker }));
        prop_assert!(bytes[marker::FRAME_LEN..].iter().all(|b| *b == 0xaa));
        // A sender queue that is not among them is written as it is, and refused.
        let wrong = Marker { sender_queue: sender_queues, ..marker };
        prop_assert_eq!(marker::parse(&marker::build(&wrong)), Err(marker::BadMarker::SenderQueue));
        let wrong = Marker { port: ports, ..marker };
        prop_assert_eq!(marker::parse(&marker::build(&wrong)), Err(marker::BadMarker::Port));
    }

    #[test]
    fn arp_round_trip(owner in mac(), asker in mac(), a: [u8; 4], b: [u8; 4]) {
        prop_assume!(a != b && a != [0; 4]);
        let request = arp::build_request(Mac::BROADCAST, (asker, a.into()), b.into());
        let read = arp::parse(&facts(&request), &request).unwrap();
        prop_assert_eq!((read.kind, read.sender_mac, read.sender_ip), (arp::ArpKind::Request, asker, a.into()));
        let reply = arp::build_reply(&read, owner);
        let read = arp::parse(&facts(&reply), &reply).unwrap();
        prop_assert_eq!((read.kind, read.sender_mac, read.sender_ip), (arp::ArpKind::Reply, owner, b.into()));
        prop_assert_eq!((read.target_mac, read.target_ip), (asker, a.into()));
    }

    #[test]
    fn nd_round_trip(owner in mac(), asker in mac(), a: u64, b: u64, dad: bool) {
        let ip = |n: u64| std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n));
        let from = if dad { std::net::Ipv6Addr::UNSPECIFIED } else { ip(a) };
        let request = nd::build_solicit((asker, from), ip(b), None);
        let frame = facts(&request);
        let Ok(nd::Nd::Solicit(solicit)) = nd::parse(&frame, &request) else { panic!("not read back") };
        prop_assert_eq!((solicit.target, solicit.dad, solicit.src), (ip(b), dad, from));
        prop_assert_eq!(solicit.source_mac, (!dad).then_some(asker));
        let answer = nd::build_answer(&solicit, &frame, owner, false);
        let Ok(nd::Nd::Advert(advert)) = nd::parse(&facts(&answer), &answer) else { panic!("not read back") };
        prop_assert_eq!((advert.target, advert.target_mac), (ip(b), Some(owner)));
        prop_assert_eq!(advert.solicited, !dad);
    }

    #[test]
    fn echo_replies_keep_checksums_good(v6: bool, ttl: u8, data in proptest::collection::vec(any::<u8>(), 57)) {
        let mut bytes = golden(if v6 { "icmp6_echo" } else { "icmp4_echo" });
        bytes[if v6 { 21 } else { 22 }] = ttl;
        let at = bytes.len() - 57;
        bytes[at..].copy_from_slice(&data);
        let frame = facts(&bytes);
        let sum = finish_l4(&frame, std::iter::once(bytes.as_slice())).unwrap();
        bytes[sum.offset..sum.offset + 2].copy_from_slice(&sum.value.to_be_bytes());
        if !v6 {
            bytes[24..26].fill(0);
            let sum = crate::checksum::of(&bytes[14..34]);
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        prop_assert!(icmp::echo_reply(&frame, &mut bytes));
        prop_assert_eq!(check_l4(&facts(&bytes), std::iter::once(bytes.as_slice())), L4Check::Good);
        prop_assert!(v6 || crate::checksum::is_valid(&bytes[14..34]));
    }
}

//! Frames built by scapy, not by us: frames of other stations are understood, and ours are, byte for byte, the same
//! as theirs.

use super::*;

const ARP_REQUEST: &str = "\
    ffffffffffff525400000001080600010800060400015254000000010a0000010000000000000a000002";
const ARP_QUESTION: &str = "\
    ffffffffffff525400000002080600010800060400015254000000020a0000020000000000000a000001";
const ARP_ANSWER: &str = "\
    525400000002525400000001080600010800060400025254000000010a0000015254000000020a000002";
const NS_REQUEST: &str = "\
    3333ff00000252540000000186dd6000000000203afffd000000000000000000000000000001ff020000000000000000\
    0001ff00000287002d4300000000fd0000000000000000000000000000020101525400000001";
const NS_QUESTION: &str = "\
    3333ff00000152540000000286dd6000000000203afffd000000000000000000000000000002ff020000000000000000\
    0001ff00000187002d4300000000fd0000000000000000000000000000010101525400000002";
const NA_ANSWER: &str = "\
    52540000000252540000000186dd6000000000203afffd000000000000000000000000000001fd000000000000000000\
    0000000000028800cc4760000000fd0000000000000000000000000000010201525400000001";
const NA_ANNOUNCEMENT: &str = "\
    33330000000152540000000186dd6000000000203afffd000000000000000000000000000001ff020000000000000000\
    00000000000188000a4720000000fd0000000000000000000000000000010201525400000001";
const PING: &str = "\
    52540000000152540000000208004500002500004000210145d60a0000020a00000108001f220007000973746f706f76\
    657221";
const PONG: &str = "\
    52540000000252540000000108004500002500004000400126d60a0000010a000002000027220007000973746f706f76\
    657221";
const PING6: &str = "\
    52540000000152540000000286dd6000000000113a21fd000000000000000000000000000002fd000000000000000000\
    0000000000018000acd10007000973746f706f76657221";
const PONG6: &str = "\
    52540000000252540000000186dd6000000000113a40fd000000000000000000000000000001fd000000000000000000\
    0000000000028100abd10007000973746f706f76657221";
const MLD_QUERY: &str = "\
    33330000000152540000000286dd6000000000240001fe800000000000000000000000000002ff020000000000000000\
    0000000000013a0005020000010082005912271000000000000000000000000000000000000000000000";
const MLD_REPORT: &str = "\
    33330000001652540000000186dd6000000000240001fe80000000000000505400fffe000001ff020000000000000000\
    0000000000163a000502000001008f0023b30000000102000000ff0200000000000000000001ff000001";
const FRAGMENTATION_NEEDED: &str = "\
    52540000000152540000000208004500003800010000400165c60a0000fe0a00000103041992000005784500060e0000\
    40003c1124dd0a0000010a000002c35012b505fa01f2";
const PACKET_TOO_BIG: &str = "\
    52540000000152540000000286dd6000000000483a40fd0000000000000000000000000000fefd000000000000000000\
    00000000000102008bd5000005786000000005e61140fd000000000000000000000000000001fd000000000000000000\
    000000000002c35012b505e61c1808000000000000000000000000000000";

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn requests() {
    let mut u = us();
    assert_eq!(u.track(10_000, ip("10.0.0.2"), 4789).send, vec![(3, hex(ARP_REQUEST))]);
    assert_eq!(u.track(10_000, ip("fd00::2"), 4789).send, vec![(3, hex(NS_REQUEST))]);
}

#[test]
fn requests_and_answers() {
    let pairs = [
        (ARP_QUESTION, ARP_ANSWER, Outcome::ArpAnswered),
        (NS_QUESTION, NA_ANSWER, Outcome::NdAnswered),
        (PING, PONG, Outcome::EchoAnswered),
        (PING6, PONG6, Outcome::EchoAnswered),
        (MLD_QUERY, MLD_REPORT, Outcome::MldAnswered),
    ];
    for (question, answer, outcome) in pairs {
        let mut u = us();
        let got = u.input(10_000, 3, &hex(question));
        let text: String = got.send.iter().flat_map(|(_, f)| f).map(|b| format!("{b:02x}")).collect();
        assert_eq!(text, answer, "{outcome:?}");
        assert_eq!(count(&u, outcome), 1);
    }
}

#[test]
fn padding_is_not_sent_back() {
    let mut ping = hex(PING);
    ping.resize(90, 0xee);
    assert_eq!(us().input(10_000, 3, &ping).send, vec![(3, hex(PONG))]);
}

#[test]
fn announcements() {
    let mut u = Underlay::new(vec![port(3, 1, &["10.0.0.1/24", "fd00::1/64"])]);
    let sent = u.link(0, 3, true).send;
    assert!(sent.contains(&(3, hex(NA_ANNOUNCEMENT))));
    assert!(sent.contains(&(3, hex(MLD_REPORT))));
}

#[test]
fn path_mtu_messages() {
    let mut u = us();
    for dst in ["10.0.0.2", "fd00::2"] {
        u.track(10_000, ip(dst), 4789);
    }
    u.input(10_000, 3, &hex(ARP_QUESTION));
    u.input(10_000, 3, &hex(NS_QUESTION));
    assert_eq!(u.input(10_000, 3, &hex(FRAGMENTATION_NEEDED)).resolved[0].1.mtu, 1_400);
    assert_eq!(u.input(10_000, 3, &hex(PACKET_TOO_BIG)).resolved[0].1.mtu, 1_400);
}

/// Every frame above, cut at every length: nothing is sent, nothing learned, each counted as truncated.
#[test]
fn truncated_at_each_length() {
    for whole in [ARP_QUESTION, NS_QUESTION, PING, PING6, MLD_QUERY, FRAGMENTATION_NEEDED, PACKET_TOO_BIG] {
        let mut u = us();
        let frame = hex(whole);
        for len in 0..frame.len() {
            assert_eq!(u.input(10_000, 3, &frame[..len]), Actions::default(), "{len} of {whole}");
        }
        assert_eq!((count(&u, Outcome::Truncated), u.show(0).len()), (frame.len() as u64, 0), "{whole}");
    }
}

/// One wrong byte anywhere behind the Ethernet header of a frame with a checksum: nothing is sent.
#[test]
fn damaged_in_each_byte() {
    for whole in [NS_QUESTION, PING, PING6] {
        let frame = hex(whole);
        for at in 14..frame.len() {
            let mut u = us();
            let mut damaged = frame.clone();
            damaged[at] ^= 0x10;
            // IPv6 has no header checksum: traffic class and flow label may be anything, and a ping's hop limit.
            let free =
                frame[12..14] == [0x86, 0xdd] && ((14..18).contains(&at) || (at == 21 && whole == PING6));
            assert!(free || u.input(10_000, 3, &damaged).send.is_empty(), "byte {at} of {whole}");
        }
    }
}

#[test]
fn refused_frames_and_their_outcomes() {
    let edit = |whole: &str, at: usize, bytes: &[u8]| {
        let mut frame = hex(whole);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let cases = [
        ("from our own MAC", edit(ARP_QUESTION, 6, &mac(1).octets()), Outcome::OwnFrame),
        ("to another MAC", edit(ARP_QUESTION, 0, &mac(7).octets()), Outcome::OtherMac),
        ("from a group MAC", edit(ARP_QUESTION, 6, &[1]), Outcome::BadSource),
        ("ARP sender MAC broadcast", edit(ARP_QUESTION, 22, &[0xff; 6]), Outcome::BadSource),
        ("ARP sender 255.255.255.255", edit(ARP_QUESTION, 28, &[0xff; 4]), Outcome::BadSource),
        ("ARP sender 10.0.0.255", edit(ARP_QUESTION, 31, &[0xff]), Outcome::BadSource),
        ("ARP for token ring", edit(ARP_QUESTION, 15, &[6]), Outcome::Malformed),
        ("ARP operation 3", edit(ARP_QUESTION, 21, &[3]), Outcome::Malformed),
        ("EtherType 88cc", edit(ARP_QUESTION, 12, &[0x88, 0xcc]), Outcome::EtherType),
        ("IPv4 version 6", edit(PING, 14, &[0x65]), Outcome::Malformed),
        ("NS with hop limit 254", edit(NS_QUESTION, 21, &[254]), Outcome::Malformed),
        ("damaged ping", edit(PING, 45, &[0]), Outcome::Checksum),
        ("ping to a broadcast MAC", edit(PING, 0, &[0xff; 6]), Outcome::OtherMac),
        ("damaged IPv4 header", edit(PING, 22, &[1]), Outcome::Checksum),
    ];
    for (what, frame, outcome) in cases {
        let mut u = us();
        assert_eq!(u.input(10_000, 3, &frame), Actions::default(), "{what}");
        let counted: Vec<_> =
            Outcome::ALL.iter().filter(|(o, _)| count(&u, *o) > 0).map(|(o, _)| *o).collect();
        assert_eq!(counted, [outcome], "{what}");
    }
}

/// Header fields of a ping changed, with a correct header checksum.
#[test]
fn pings_that_are_not_answered() {
    let cases: [(&str, usize, &[u8], Outcome); 9] = [
        ("another address", 30, &[10, 0, 0, 3], Outcome::OtherAddress),
        ("from loopback", 26, &[127, 0, 0, 1], Outcome::BadSource),
        ("from ourselves", 26, &[10, 0, 0, 1], Outcome::BadSource),
        ("from a group", 26, &[224, 0, 0, 1], Outcome::BadSource),
        ("from the subnet's broadcast", 26, &[10, 0, 0, 255], Outcome::BadSource),
        ("first fragment", 20, &[0x20, 0], Outcome::Fragment),
        ("later fragment", 20, &[0, 1], Outcome::Fragment),
        ("as TCP", 23, &[6], Outcome::Malformed),
        ("as GRE", 23, &[47], Outcome::UnexpectedProtocol),
    ];
    for (what, at, bytes, outcome) in cases {
        let mut frame = hex(PING);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame[24..26].fill(0);
        let sum = stopover_net::checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        let mut u = us();
        assert_eq!(u.input(10_000, 3, &frame), Actions::default(), "{what}");
        assert_eq!(count(&u, outcome), 1, "{what}");
    }
}

//! Scripted scenarios with times. The other stations are instances of the module or frames built for a second port
//! configuration, so both sides of every exchange are checked. `golden` has frames built by scapy.

mod answers;
mod fuzz;
mod golden;
mod neighbours;
mod paths;
mod reconfigure;

use super::*;
use stopover_net::VlanId;
use stopover_net::arp::{ArpFacts, ArpKind};
use stopover_net::{checksum, ipv4, ipv6};

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn v4(s: &str) -> Ipv4Addr {
    s.parse().unwrap()
}

fn v6(s: &str) -> Ipv6Addr {
    s.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, last])
}

/// Port `index` with MAC `mac(last)`.
fn port(index: usize, last: u8, addresses: &[&str]) -> UnderlayPort {
    UnderlayPort {
        index,
        mac: mac(last),
        mtu: 1600,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        vlan: None,
        gateways: vec![],
        routes: vec![],
        neighbours: vec![],
    }
}

/// Us: 10.0.0.1 and fd00::1 on port 3, link up since time 0, announcements done.
fn us() -> Underlay {
    up(vec![port(3, 1, &["10.0.0.1/24", "fd00::1/64"])])
}

/// All links up at time 0, and the announcements of the first 3 s done.
fn up(ports: Vec<UnderlayPort>) -> Underlay {
    let indices: Vec<_> = ports.iter().map(|p| p.index).collect();
    let mut u = Underlay::new(ports);
    for index in indices {
        u.link(0, index, true);
    }
    for now_ms in [1_000, 2_000, 3_000] {
        u.tick(now_ms);
    }
    u
}

/// The other station: 10.0.0.2 and fd00::2.
fn peer() -> UnderlayPort {
    port(0, 2, &["10.0.0.2/24", "fd00::2/64"])
}

/// Calls `tick` whenever it is due until `until_ms`. Returns the actions with their times.
fn run(u: &mut Underlay, from_ms: u64, until_ms: u64) -> Vec<(u64, Actions)> {
    let mut out = Vec::new();
    let mut now_ms = from_ms;
    loop {
        now_ms = u.next_tick(now_ms);
        if now_ms > until_ms {
            return out;
        }
        let actions = u.tick(now_ms);
        if !actions.is_empty() {
            out.push((now_ms, actions));
        }
        now_ms += 1;
    }
}

/// The times at which frames were sent, and the destination MACs.
fn sends(log: &[(u64, Actions)]) -> Vec<(u64, Mac)> {
    log.iter().flat_map(|(at, a)| a.send.iter().map(|(_, f)| (*at, dst_mac(f)))).collect()
}

fn dst_mac(frame: &[u8]) -> Mac {
    Mac::new(frame[..6].try_into().unwrap())
}

/// A solicited advertisement of `own` at the MAC of `from`, to the station `to`.
fn arp_reply(from: &UnderlayPort, own: Ipv4Addr, to: Mac, to_ip: Ipv4Addr) -> Vec<u8> {
    let (kind, sender_mac, sender_ip) = (ArpKind::Request, to, to_ip);
    let request = ArpFacts {
        kind,
        is_reply: false,
        sender_mac,
        sender_ip,
        target_mac: Mac::new([0; 6]),
        target_ip: own,
    };
    frames::arp_reply(from, &request)
}

/// An ARP reply from `from` to our station.
fn arp_reply_to_us(from: &UnderlayPort, sender: &str) -> Vec<u8> {
    arp_reply(from, v4(sender), mac(1), v4("10.0.0.1"))
}

/// A message of a router at 10.0.0.254 that an IPv4 VXLAN packet of `len` bytes was too big.
fn fragmentation_needed(src: &str, dst: &str, udp_dst: u16, len: u16, mtu: u16) -> Vec<u8> {
    let spec = |total_len, protocol, src, dst| ipv4::Spec {
        tos: 0,
        total_len,
        df: true,
        ttl: 9,
        protocol,
        src,
        dst,
    };
    let mut quote = [0; 28];
    ipv4::emit(quote.first_chunk_mut().unwrap(), &spec(len, 17, v4(src), v4(dst)));
    quote[22..24].copy_from_slice(&udp_dst.to_be_bytes());
    let mut message = [&[3, 4, 0, 0, 0, 0][..], &mtu.to_be_bytes(), &quote].concat();
    let sum = checksum::of(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let mut header = [0; 20];
    ipv4::emit(&mut header, &spec(56, 1, v4("10.0.0.254"), v4(src)));
    [&mac(1).octets()[..], &mac(0xfe).octets(), &[8, 0], &header, &message].concat()
}

/// A message of a router at fd00::fe that an IPv6 VXLAN packet of `len` bytes was too big.
fn packet_too_big(src: &str, dst: &str, udp_dst: u16, len: u16, mtu: u32) -> Vec<u8> {
    let spec = |payload_len, next_header, src, dst| ipv6::Spec {
        traffic_class: 0,
        payload_len,
        next_header,
        hop_limit: 9,
        src,
        dst,
    };
    let mut quote = [0; 48];
    ipv6::emit(quote.first_chunk_mut().unwrap(), &spec(len - 40, 17, v6(src), v6(dst)));
    quote[42..44].copy_from_slice(&udp_dst.to_be_bytes());
    let mut message = [&[2, 0, 0, 0][..], &mtu.to_be_bytes(), &quote].concat();
    let mut sum = checksum::Sum::pseudo_v6(v6("fd00::fe"), v6(src), 58, message.len() as u32);
    sum.add(&message);
    message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    let mut header = [0; 40];
    ipv6::emit(&mut header, &spec(56, 58, v6("fd00::fe"), v6(src)));
    [&mac(1).octets()[..], &mac(0xfe).octets(), &[0x86, 0xdd], &header, &message].concat()
}

/// The same untagged advertisement with the override flag clear.
fn without_override(mut advert: Vec<u8>) -> Vec<u8> {
    let word = |at: usize, b: &[u8]| u16::from_be_bytes([b[at], b[at + 1]]);
    let old = word(58, &advert);
    advert[58] &= !0x20;
    let sum = checksum::update16(word(56, &advert), old, word(58, &advert));
    advert[56..58].copy_from_slice(&sum.to_be_bytes());
    advert
}

fn state(u: &Underlay, address: &str) -> Option<State> {
    u.show(0).into_iter().find(|row| row.ip == ip(address)).map(|row| row.state)
}

fn count(u: &Underlay, outcome: Outcome) -> u64 {
    u.counters(3).unwrap().get(outcome)
}

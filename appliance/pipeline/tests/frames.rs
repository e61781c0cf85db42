//! Frames built by hand, with a separate, simple checksum: the output of the stages is compared with these, not with
//! the output of the same code.

use super::{HOST_1, HOST_2, NEXT_HOP, OUR_4, OUR_6, OUR_MAC, Station, VXLAN_PORT};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use stopover_net::Mac;

pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const IPV6: u16 = 0x86dd;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

/// The Internet checksum of RFC 1071, word by word.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.iter().flat_map(|p| p.iter().copied()).collect();
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, len: usize) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let len = (len as u16).to_be_bytes();
            [&s.octets()[..], &d.octets(), &[0, proto], &len].concat()
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let len = (len as u32).to_be_bytes();
            [&s.octets()[..], &d.octets(), &len, &[0, 0, 0, proto]].concat()
        }
        _ => panic!("two families"),
    }
}

pub fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + 3) as u8).collect()
}

pub fn eth(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.octets()[..], &src.octets(), &ethertype.to_be_bytes(), payload].concat()
}

/// The frame with a tag between MACs and EtherType.
pub fn tagged(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    [&frame[..12], &tpid.to_be_bytes(), &tci.to_be_bytes(), &frame[12..]].concat()
}

pub fn ip4(src: Ipv4Addr, dst: Ipv4Addr, proto: u8, tos: u8, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len() as u16).to_be_bytes();
    let mut h =
        [&[0x45, tos, len[0], len[1], 0, 0, 0x40, 0, 64, proto, 0, 0][..], &src.octets(), &dst.octets()]
            .concat();
    let sum = checksum(&[&h]);
    h[10..12].copy_from_slice(&sum.to_be_bytes());
    [&h[..], payload].concat()
}

pub fn ip6(src: Ipv6Addr, dst: Ipv6Addr, next: u8, class: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let h = [0x60 | class >> 4, class << 4, 0, 0, len[0], len[1], next, hops];
    [&h[..], &src.octets(), &dst.octets(), payload].concat()
}

pub fn udp(src: IpAddr, dst: IpAddr, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let len = 8 + data.len();
    let mut h = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), (len as u16).to_be_bytes(), [0, 0]].concat();
    let sum = match checksum(&[&pseudo(src, dst, UDP, len), &h, data]) {
        0 => 0xffff,
        sum => sum,
    };
    h[6..8].copy_from_slice(&sum.to_be_bytes());
    [&h[..], data].concat()
}

pub fn tcp(src: IpAddr, dst: IpAddr, seq: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut h =
        [&40000u16.to_be_bytes()[..], &443u16.to_be_bytes(), &seq.to_be_bytes(), &[0, 0, 0, 9]].concat();
    h.extend([0x50, flags, 0x10, 0, 0, 0, 0, 0]);
    let sum = checksum(&[&pseudo(src, dst, TCP, 20 + data.len()), &h, data]);
    h[16..18].copy_from_slice(&sum.to_be_bytes());
    [&h[..], data].concat()
}

pub fn icmp6(src: Ipv6Addr, dst: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut m = [&[kind, 0, 0, 0][..], body].concat();
    let sum = checksum(&[&pseudo(src.into(), dst.into(), ICMPV6, m.len()), &m]);
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    m
}

pub fn icmp4(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut m = [&[kind, code, 0, 0][..], rest].concat();
    let sum = checksum(&[&m]);
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    m
}

/// A UDP datagram over IPv4 with `len` bytes of data.
pub fn udp4(from: Station, to: Station, len: usize) -> Vec<u8> {
    udp4_tos(from, to, 0, len)
}

pub fn udp4_tos(from: Station, to: Station, tos: u8, len: usize) -> Vec<u8> {
    let l4 = udp(from.ip4.into(), to.ip4.into(), (5000, 6000), &data(len));
    eth(to.mac, from.mac, IPV4, &ip4(from.ip4, to.ip4, UDP, tos, &l4))
}

/// A UDP datagram over IPv6.
pub fn udp6(from: Station, to: Station, class: u8, len: usize) -> Vec<u8> {
    let l4 = udp(from.ip6.into(), to.ip6.into(), (5000, 6000), &data(len));
    eth(to.mac, from.mac, IPV6, &ip6(from.ip6, to.ip6, UDP, class, 64, &l4))
}

/// A frame of neither ARP nor IP.
pub fn other(from: Mac, to: Mac, len: usize) -> Vec<u8> {
    eth(to, from, 0x88b5, &data(len))
}

pub fn arp(dst: Mac, operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let body = [
        &[0, 1, 8, 0, 6, 4, 0, operation][..],
        &sender.0.octets(),
        &sender.1.octets(),
        &target.0.octets(),
        &target.1.octets(),
    ]
    .concat();
    eth(dst, sender.0, ARP, &body)
}

pub const NO_MAC: Mac = Mac::new([0; 6]);

/// An ARP request for `target`.
pub fn arp_request(from: Station, target: Ipv4Addr) -> Vec<u8> {
    arp(Mac::BROADCAST, 1, (from.mac, from.ip4), (NO_MAC, target))
}

pub fn solicited_node(ip: Ipv6Addr) -> (Ipv6Addr, Mac) {
    let o = ip.octets();
    let group =
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(o[13]), u16::from_be_bytes([o[14], o[15]]));
    (group, Mac::new([0x33, 0x33, 0xff, o[13], o[14], o[15]]))
}

/// A neighbour solicitation to the target's solicited-node group. From `::` it is a probe.
pub fn solicit(mac: Mac, src: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let (group, group_mac) = solicited_node(target);
    solicit_to(group_mac, group, mac, src, target)
}

pub fn solicit_to(dst_mac: Mac, dst: Ipv6Addr, mac: Mac, src: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let option = if src.is_unspecified() { Vec::new() } else { [&[1, 1][..], &mac.octets()].concat() };
    let body = [&[0; 4][..], &target.octets(), &option].concat();
    eth(dst_mac, mac, IPV6, &ip6(src, dst, ICMPV6, 0, 255, &icmp6(src, dst, 135, &body)))
}

/// A neighbour advertisement with these flags (solicited 0x40, override 0x20).
pub fn advert(dst: (Mac, Ipv6Addr), from: Mac, target: Ipv6Addr, flags: u8) -> Vec<u8> {
    let body = [&[flags, 0, 0, 0][..], &target.octets(), &[2, 1], &from.octets()].concat();
    eth(dst.0, from, IPV6, &ip6(target, dst.1, ICMPV6, 0, 255, &icmp6(target, dst.1, 136, &body)))
}

/// The VXLAN header of RFC 7348 section 5.
pub fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes(), inner].concat()
}

/// The fields of a tunnel datagram. The default is a valid one from host 1 to us in network 100.
#[derive(Debug, Clone, Copy)]
pub struct Tunnel {
    pub macs: (Mac, Mac),
    pub src: IpAddr,
    pub dst: IpAddr,
    pub source_port: u16,
    pub port: u16,
    pub tos: u8,
    pub vni: u32,
    /// Last byte of the VXLAN header.
    pub flags: u8,
    /// With a UDP checksum.
    pub checksum: bool,
}

/// From host 1 to us, over IPv4.
pub const FROM_1: Tunnel = Tunnel {
    macs: (OUR_MAC, NEXT_HOP),
    src: IpAddr::V4(HOST_1),
    dst: IpAddr::V4(OUR_4),
    source_port: 50000,
    port: VXLAN_PORT,
    tos: 0,
    vni: 100,
    flags: 0,
    checksum: false,
};

/// From host 2 to us, over IPv6.
pub const FROM_2: Tunnel =
    Tunnel { src: IpAddr::V6(HOST_2), dst: IpAddr::V6(OUR_6), checksum: true, ..FROM_1 };

impl Tunnel {
    /// The datagram around an inner frame.
    pub fn around(self, inner: &[u8]) -> Vec<u8> {
        let mut vxlan = vxlan(self.vni, inner);
        vxlan[7] = self.flags;
        let mut l4 = udp(self.src, self.dst, (self.source_port, self.port), &vxlan);
        if !self.checksum {
            l4[6..8].copy_from_slice(&[0, 0]);
        }
        let (ethertype, l3) = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => (IPV4, ip4(src, dst, UDP, self.tos, &l4)),
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut l3 = ip6(src, dst, UDP, self.tos, 64, &l4);
                if self.macs.1 == OUR_MAC {
                    // Our datagrams have the source port as flow label (RFC 6438).
                    l3[2..4].copy_from_slice(&self.source_port.to_be_bytes());
                }
                (IPV6, l3)
            }
            _ => panic!("two families"),
        };
        eth(self.macs.0, self.macs.1, ethertype, &l3)
    }

    /// The same tunnel in the other direction, from us.
    pub fn back(self) -> Self {
        Self { macs: (self.macs.1, self.macs.0), src: self.dst, dst: self.src, ..self }
    }
}

/// The UDP source port of an untagged tunnel datagram.
pub fn source_port(frame: &[u8]) -> u16 {
    let at = if frame[12..14] == IPV4.to_be_bytes() { 34 } else { 54 };
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// Whether the TCP or UDP checksum of an untagged IP frame without options is correct.
pub fn l4_is_right(frame: &[u8]) -> bool {
    let (src, dst, proto, l4): (IpAddr, IpAddr, u8, &[u8]) = if frame[12..14] == IPV4.to_be_bytes() {
        let ip = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        (ip(26), ip(30), frame[23], &frame[34..end])
    } else {
        let ip = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        let end = 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]));
        (ip(22), ip(38), frame[20], &frame[54..end])
    };
    checksum(&[&pseudo(src, dst, proto, l4.len()), l4]) == 0
}

/// Whether the IPv4 header checksum of an untagged frame is correct.
pub fn ip4_is_right(frame: &[u8]) -> bool {
    checksum(&[&frame[14..34]]) == 0
}

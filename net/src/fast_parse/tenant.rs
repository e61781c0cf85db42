//! The parser for an ordinary frame of a tenant, of any kind: untagged or with one 802.1Q tag, TCP or UDP over IPv4
//! without options and fragments, or directly behind an IPv6 header. Enters: the frame. Leaves: what the fast path needs
//! of it, and where its checksum belongs, so that one that the sender left to the device is computed without more parsing.

use super::{FRAGMENTED, IPV4_PLAIN, IPV6_PLAIN};
use crate::bytes::{array, at, be16, be32, be64, byte};
use crate::checksum::{Sum, nonzero};
use crate::ipv4::protocol;
use crate::{Mac, ethernet, flow, ipv4, ipv6, tcp, udp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An ordinary frame of a tenant, of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantFrame {
    /// Destination address, of one station.
    pub dst: Mac,
    /// Source address, not a group's. The caller refuses the zero address.
    pub src: Mac,
    /// Priority and VLAN identifier of its 802.1Q tag.
    pub tci: Option<u16>,
    /// Source address of its packet.
    pub src_ip: IpAddr,
    /// DSCP and ECN.
    pub tos: u8,
    /// Its [`flow::hash`].
    pub flow: u32,
    /// Source port.
    pub src_port: u16,
    /// Its TCP or UDP header.
    pub transport: Transport,
}

/// Where the TCP segment or UDP datagram of a frame is. Offsets are in bytes from the start of the frame without its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// Over IPv6.
    pub ipv6: bool,
    /// TCP, not UDP.
    pub tcp: bool,
    /// Where its header begins.
    pub start: u16,
    /// Length of its header in bytes.
    pub header_len: u8,
    /// Where its data ends.
    pub end: u32,
}

/// Reads an ordinary frame of `len` bytes to a station. Its first segment is `head`.
#[inline(always)]
#[must_use]
pub fn tenant(head: &[u8], len: usize) -> Option<TenantFrame> {
    const TYPE: usize = ethernet::HEADER_LEN - 2;
    let link: &[u8; TYPE + 4] = at(head, 0)?;
    if (byte::<0, _>(link) | byte::<6, _>(link)) & 1 != 0 {
        return None;
    }
    let tagged = be16::<TYPE, _>(link) == ethernet::ethertype::VLAN;
    let (tci, tag_len) =
        if tagged { (Some(be16::<{ TYPE + 2 }, _>(link)), ethernet::TAG_LEN) } else { (None, 0) };
    let packet = head.get(TYPE + tag_len..)?;
    let room = len.checked_sub(ethernet::HEADER_LEN + tag_len)?;
    let Packet { src_ip, tos, proto, len, addresses } = Packet::read(packet, room)?;
    let ipv6 = src_ip.is_ipv6();
    let header_len = if ipv6 { ipv6::HEADER_LEN } else { ipv4::HEADER_LEN };
    let ports: &[u8; 4] = at(packet, 2 + header_len)?;
    let ports = be32::<0, _>(ports);
    let l4 = packet.get(2 + header_len..)?;
    let (tcp, l4_header_len, l4_len) = transport(l4, len - header_len, proto)?;
    let start = ethernet::HEADER_LEN + header_len;
    Some(TenantFrame {
        dst: Mac::from_u64(be64::<0, _>(link) >> 16),
        src: Mac::from_u64(be64::<4, _>(link)),
        tci,
        src_ip,
        tos,
        flow: match addresses {
            Addresses::V4(both) => flow::of_ipv4(both, proto, ports),
            Addresses::V6(src, dst) => flow::of_ipv6(src, dst, proto, ports),
        },
        src_port: (ports >> 16) as u16,
        transport: Transport {
            ipv6,
            tcp,
            start: start as u16,
            header_len: l4_header_len,
            end: (start + l4_len) as u32,
        },
    })
}

/// What the parser takes from an IP header of either version.
struct Packet {
    src_ip: IpAddr,
    tos: u8,
    proto: u8,
    /// Of header and payload, at least that of the header.
    len: usize,
    addresses: Addresses,
}

enum Addresses {
    V4(u64),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Packet {
    /// `b`: the EtherType and the packet. `room`: the bytes of the frame behind the EtherType.
    #[inline(always)]
    fn read(b: &[u8], room: usize) -> Option<Self> {
        let kind: &[u8; 4] = at(b, 0)?;
        let kind = be32::<0, _>(kind);
        if kind >> 8 == IPV4_PLAIN {
            let b: &[u8; 2 + ipv4::HEADER_LEN] = at(b, 0)?;
            let len = usize::from(be16::<4, _>(b));
            let addresses = be64::<14, _>(b);
            let whole = be16::<8, _>(b) & FRAGMENTED == 0 && len >= ipv4::HEADER_LEN && len <= room;
            whole.then(|| Self {
                src_ip: Ipv4Addr::from_bits((addresses >> 32) as u32).into(),
                tos: kind as u8,
                proto: byte::<11, _>(b),
                len,
                addresses: Addresses::V4(addresses),
            })
        } else if kind >> 12 == IPV6_PLAIN {
            let b: &[u8; 2 + ipv6::HEADER_LEN] = at(b, 0)?;
            let len = ipv6::HEADER_LEN + usize::from(be16::<6, _>(b));
            let (src, dst) = (Ipv6Addr::from(array::<10, 16, _>(b)), Ipv6Addr::from(array::<26, 16, _>(b)));
            (len <= room).then(|| Self {
                src_ip: src.into(),
                tos: (kind >> 4) as u8,
                proto: byte::<8, _>(b),
                len,
                addresses: Addresses::V6(src, dst),
            })
        } else {
            None
        }
    }
}

/// Whether it is TCP, the length of its header, and of header and data, of a segment or datagram in a packet with `room`
/// bytes for it, the first of which are `b`.
#[inline(always)]
pub(super) fn transport(b: &[u8], room: usize, proto: u8) -> Option<(bool, u8, usize)> {
    if proto == protocol::UDP {
        let header: &[u8; udp::HEADER_LEN] = at(b, 0)?;
        let len = usize::from(be16::<4, _>(header));
        (len >= udp::HEADER_LEN && len <= room).then_some((false, udp::HEADER_LEN as u8, len))
    } else if proto == protocol::TCP {
        let len = usize::from(b.get(tcp::DATA_OFFSET_AT)? >> 4) * 4;
        let fits = len >= tcp::HEADER_LEN && len <= room && len <= b.len();
        fits.then_some((true, len as u8, room))
    } else {
        None
    }
}

impl Transport {
    /// Of a frame that [`sent`](super::sent) has accepted: nothing is checked again but that the headers are there.
    #[inline(always)]
    #[must_use]
    pub fn of_sent(head: &[u8]) -> Option<Self> {
        const L4: usize = ipv4::HEADER_LEN;
        let packet: &[u8; L4 + udp::HEADER_LEN] = at(head, ethernet::HEADER_LEN)?;
        let l4_room = be16::<2, _>(packet).wrapping_sub(L4 as u16);
        let udp_len = be16::<{ L4 + 4 }, _>(packet);
        Some(Self::behind(head, false, ethernet::HEADER_LEN + L4, byte::<9, _>(packet), l4_room, udp_len))
    }

    /// Of a frame that [`sent6`](super::sent6) has accepted, in the same way.
    #[inline(always)]
    #[must_use]
    pub fn of_sent6(head: &[u8]) -> Option<Self> {
        const L4: usize = ipv6::HEADER_LEN;
        let packet: &[u8; L4 + udp::HEADER_LEN] = at(head, ethernet::HEADER_LEN)?;
        let (l4_room, udp_len) = (be16::<4, _>(packet), be16::<{ L4 + 4 }, _>(packet));
        Some(Self::behind(head, true, ethernet::HEADER_LEN + L4, byte::<6, _>(packet), l4_room, udp_len))
    }

    /// At `start`, in a packet with `room` bytes for it.
    #[inline(always)]
    fn behind(head: &[u8], ipv6: bool, start: usize, proto: u8, room: u16, udp_len: u16) -> Self {
        let tcp = proto == protocol::TCP;
        let len = if tcp { room } else { udp_len };
        let tcp_header_len = || head.get(start + tcp::DATA_OFFSET_AT).map_or(0, |byte| (byte >> 4) * 4);
        let header_len = if tcp { tcp_header_len() } else { udp::HEADER_LEN as u8 };
        Self { ipv6, tcp, start: start as u16, header_len, end: start as u32 + u32::from(len) }
    }

    /// Computes the checksum and stores it. `frame` is the untagged frame. What is in the field does not matter: a guest
    /// should leave the sum of the pseudo header there (virtio 1.2 section 5.1.6.2.1), and some leave another or none.
    /// `None`, and nothing stored, if the frame is not all there.
    #[inline(always)]
    #[must_use]
    pub fn fill_checksum(&self, frame: &mut [u8]) -> Option<()> {
        let (start, end) = (usize::from(self.start), self.end as usize);
        // The addresses, which the checksum covers, are right before the header.
        let addresses = if self.ipv6 { 2 * size_of::<Ipv6Addr>() } else { 2 * size_of::<Ipv4Addr>() };
        let covered = frame.get_mut(start.wrapping_sub(addresses)..end)?;
        if self.tcp {
            fill(covered, addresses, protocol::TCP, tcp::CHECKSUM_AT, |value| value)
        } else {
            fill(covered, addresses, protocol::UDP, udp::CHECKSUM_AT, nonzero)
        }
    }
}

/// Stores in `covered`, a segment or datagram behind `addresses` bytes of addresses, its checksum `at` bytes behind them.
#[inline(always)]
fn fill(
    covered: &mut [u8],
    addresses: usize,
    proto: u8,
    at: usize,
    stored: impl FnOnce(u16) -> u16,
) -> Option<()> {
    let len = (covered.len() - addresses) as u32;
    let bytes = Sum::of_short(covered);
    let field = covered.get_mut(addresses + at..addresses + at + 2)?.first_chunk_mut()?;
    // Taken out of the sum: if it was set to 0 before, the load of the word around it would wait for that store.
    let others = Sum::pseudo_rest(proto, len).without(*field);
    *field = stored(bytes.with(others).finish()).to_be_bytes();
    Some(())
}

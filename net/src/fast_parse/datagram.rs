//! The parser for an ordinary tunnel datagram of any kind: over IPv4 without options or IPv6 without extension headers,
//! in the VLAN of the underlay or untagged, with or without UDP checksum, without overlay flags. Enters: a frame from the
//! underlay. Leaves: the facts that the fast path needs, and where its inner frame is.

use super::{FRAGMENTED, IPV4_PLAIN, IPV6_PLAIN};
use crate::bytes::{array, at, be16, be32, be64, byte};
use crate::checksum::{self, Sum};
use crate::ipv4::protocol;
use crate::{Mac, VlanId, Vni};
use crate::{ethernet, ipv4, ipv6, udp, vxlan};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An ordinary tunnel datagram of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Outer Ethernet destination.
    pub dst_mac: Mac,
    /// Outer source: the sending VTEP.
    pub src: IpAddr,
    /// Outer destination.
    pub dst: IpAddr,
    /// Outer DSCP and ECN.
    pub tos: u8,
    /// The network.
    pub vni: Vni,
    /// Whether it has a UDP checksum; see [`Datagram::checksum_ok`].
    pub has_checksum: bool,
    /// Where the inner frame begins, in bytes.
    pub inner_off: u16,
    /// Length of the inner frame in bytes, at least 14, all of them in the first segment.
    pub inner_len: u16,
}

/// Reads an ordinary tunnel datagram to UDP port `udp_port` in this VLAN, in a frame of `len` bytes whose first segment is
/// `head`. The source is not checked ([`underlay::is_martian`](crate::underlay::is_martian)): the caller does so unless it
/// is a known host's.
#[inline(always)]
#[must_use]
pub fn datagram(head: &[u8], len: usize, vlan: Option<VlanId>, udp_port: u16) -> Option<Datagram> {
    const TYPE: usize = ethernet::HEADER_LEN - 2;
    let link: &[u8; TYPE + 4] = at(head, 0)?;
    let tag_len = match vlan {
        Some(vlan) => {
            let tag = be32::<TYPE, _>(link);
            let expected = u32::from(ethernet::ethertype::VLAN) << 16 | u32::from(vlan.get());
            if tag & 0xffff_0fff != expected {
                return None;
            }
            ethernet::TAG_LEN
        }
        None => 0,
    };
    let packet = head.get(TYPE + tag_len..)?;
    let room = len.checked_sub(ethernet::HEADER_LEN + tag_len)?;
    let Outer { src, dst, tos, header_len, payload_len } = Outer::read(packet, room)?;
    let tunnel: &[u8; udp::HEADER_LEN + vxlan::HEADER_LEN] = at(packet, 2 + header_len)?;
    let (udp_len, sum) = (usize::from(be16::<4, _>(tunnel)), be16::<{ udp::CHECKSUM_AT }, _>(tunnel));
    if be16::<2, _>(tunnel) != udp_port || udp_len > payload_len {
        return None;
    }
    let inner_len = udp_len.checked_sub(udp::HEADER_LEN + vxlan::HEADER_LEN)?;
    let inner_off = ethernet::HEADER_LEN + tag_len + header_len + udp::HEADER_LEN + vxlan::HEADER_LEN;
    let header = vxlan::Header::of(at(tunnel, udp::HEADER_LEN)?);
    let ordinary = header.has_vni() && header.overlay_flags() == vxlan::OverlayFlags::NONE;
    if !ordinary || inner_len < ethernet::HEADER_LEN || inner_off + inner_len > head.len() {
        return None;
    }
    Some(Datagram {
        dst_mac: Mac::from_u64(be64::<0, _>(link) >> 16),
        src,
        dst,
        tos,
        vni: Vni::from_field(header.vni())?,
        has_checksum: sum != 0,
        inner_off: inner_off as u16,
        inner_len: inner_len as u16,
    })
}

/// What the parser takes from the outer IP header of either version.
struct Outer {
    src: IpAddr,
    dst: IpAddr,
    tos: u8,
    header_len: usize,
    /// Of what follows the header, in bytes.
    payload_len: usize,
}

impl Outer {
    /// `b`: the EtherType and the packet. `room`: the bytes of the frame behind the EtherType.
    #[inline(always)]
    fn read(b: &[u8], room: usize) -> Option<Self> {
        let kind: &[u8; 4] = at(b, 0)?;
        let kind = be32::<0, _>(kind);
        if kind >> 8 == IPV4_PLAIN {
            let ip: &[u8; ipv4::HEADER_LEN] = at(b, 2)?;
            let len = usize::from(be16::<2, _>(ip));
            let is_udp = be16::<6, _>(ip) & FRAGMENTED == 0 && byte::<9, _>(ip) == protocol::UDP;
            if !is_udp || len > room || !checksum::is_valid_header(ip) {
                return None;
            }
            Some(Self {
                src: Ipv4Addr::from_bits(be32::<12, _>(ip)).into(),
                dst: Ipv4Addr::from_bits(be32::<16, _>(ip)).into(),
                tos: kind as u8,
                header_len: ipv4::HEADER_LEN,
                payload_len: len.checked_sub(ipv4::HEADER_LEN)?,
            })
        } else if kind >> 12 == IPV6_PLAIN {
            let ip: &[u8; ipv6::HEADER_LEN] = at(b, 2)?;
            let payload_len = usize::from(be16::<4, _>(ip));
            let is_udp = byte::<6, _>(ip) == protocol::UDP;
            if !is_udp || ipv6::HEADER_LEN + payload_len > room {
                return None;
            }
            Some(Self {
                src: Ipv6Addr::from(array::<8, 16, _>(ip)).into(),
                dst: Ipv6Addr::from(array::<24, 16, _>(ip)).into(),
                tos: (kind >> 4) as u8,
                header_len: ipv6::HEADER_LEN,
                payload_len,
            })
        } else {
            None
        }
    }
}

impl Datagram {
    /// Verifies the UDP checksum, if there is one. `head` as for [`datagram`].
    #[inline(always)]
    #[must_use]
    pub fn checksum_ok(&self, head: &[u8]) -> bool {
        let udp_off = usize::from(self.inner_off) - udp::HEADER_LEN - vxlan::HEADER_LEN;
        let end = usize::from(self.inner_off) + usize::from(self.inner_len);
        // The addresses, which the checksum covers, are right before the header.
        let addresses = match self.src {
            IpAddr::V4(_) => 2 * size_of::<Ipv4Addr>(),
            IpAddr::V6(_) => 2 * size_of::<Ipv6Addr>(),
        };
        let mut sum = Sum::pseudo_rest(protocol::UDP, (end - udp_off) as u32);
        sum.add(head.get(udp_off.saturating_sub(addresses)..end).unwrap_or_default());
        sum.finish() == 0
    }
}

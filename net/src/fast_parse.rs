//! The parsers of the fast path: they read only what the fast path needs of an ordinary frame, by a few loads from
//! fixed positions. There are two of each. The first one is for the most frequent kind: an untagged frame with TCP or UDP
//! over IPv4 without options or fragments, and not from a DHCP server ([`sent`]), the same over IPv6 ([`sent6`]); an untagged IPv4 tunnel datagram without
//! UDP checksum and without overlay flags ([`tunnel`]). The second one is for every ordinary kind: [`tenant`()] also
//! reads IPv6 and one tag, [`datagram`()] also IPv6, the tag of the underlay, and checksums. The inner frame of a datagram
//! has IPv4 without options, or TCP or UDP right behind an IPv6 header ([`received`]).
//!
//! A frame accepted here is accepted by [`crate::frame::parse`] or [`crate::underlay::parse`], with the same
//! facts: the tests compare them. A frame refused here is not invalid: the complete parsers decide about it.

mod datagram;
mod ipv6;
mod tenant;

pub use self::ipv6::{DHCPV6_SERVER, Sent6, sent6};
pub use datagram::{Datagram, datagram};
pub use tenant::{TenantFrame, Transport, tenant};

use crate::bytes::{at, be16, be32, be64, byte, ne64};
use crate::ipv4::protocol;
use crate::{Mac, Vni};
use crate::{checksum, ethernet, flow, ipv4, tcp, udp, vxlan};
use std::net::Ipv4Addr;

/// EtherType IPv4, version 4 and a header of 20 bytes: the bits before the type of service.
const IPV4_PLAIN: u32 = 0x08_0045;
/// EtherType IPv6 and version 6: the bits before the traffic class.
const IPV6_PLAIN: u32 = 0x8_6dd6;
/// "More fragments" and the fragment offset. The reserved bit and "don't fragment" are ignored.
const FRAGMENTED: u16 = ipv4::FLAG_MF | 0x1fff;
/// Where the payload of an untagged frame begins.
const L3: usize = ethernet::HEADER_LEN;
/// Where the payload of IPv4 without options begins.
const L4: usize = L3 + ipv4::HEADER_LEN;
/// A DHCP server's source port (RFC 2131 section 4.1): not every tenant may use it.
pub const DHCP_SERVER: u16 = 67;
const UDP_END: usize = L4 + udp::HEADER_LEN;
/// Length of the outer headers that [`tunnel`] accepts: there the inner frame begins.
pub const TUNNEL_LEN: usize = UDP_END + vxlan::HEADER_LEN;

/// An ordinary frame of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Destination address.
    pub dst: Mac,
    /// Source address.
    pub src: Mac,
    /// Source address of its IPv4 packet.
    pub src_ip: Ipv4Addr,
    /// DSCP and ECN.
    pub tos: u8,
    /// Its [`flow::hash`].
    pub flow: u32,
    /// Whether the source address is the expected one, or none is expected. Another may be legitimate too.
    pub expected: bool,
}

/// Who may have sent a frame.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    /// Source address and EtherType in wire order, and which of their bits are compared.
    header: u64,
    mask: u64,
    /// The expected IPv4 address, and which of its bits are compared.
    ip: u64,
    ip_mask: u64,
}

impl Sender {
    /// This station, with any IPv4 address.
    #[must_use]
    pub fn from_mac(mac: Mac) -> Self {
        Self { header: Self::header(mac), mask: u64::MAX, ip: 0, ip_mask: 0 }
    }

    /// Any station: any address that is not a group's. The caller refuses the zero address.
    #[must_use]
    pub fn any() -> Self {
        let (group, none) = (Mac::from_u64(0x0100_0000_0000), Mac::from_u64(0));
        let ethertype = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        Self { header: Self::header(none), mask: ethertype | Self::header(group), ip: 0, ip_mask: 0 }
    }

    /// The same with this expected address; `None`: no address is the expected one.
    #[must_use]
    pub fn with_expected_ip(self, ip: Option<Ipv4Addr>) -> Self {
        const NO_ADDRESS: u64 = 1 << 32;
        Self { ip: ip.map_or(NO_ADDRESS, |ip| u64::from(ip.to_bits())), ip_mask: u64::MAX, ..self }
    }

    /// The same for [`sent6`], without an expected address.
    #[must_use]
    pub fn over_ipv6(self) -> Self {
        let ethertype = |ethertype: u16| {
            let [high, low] = ethertype.to_be_bytes();
            u64::from_ne_bytes([0, 0, 0, 0, 0, 0, high, low])
        };
        let change = ethertype(ethernet::ethertype::IPV4) ^ ethertype(ethernet::ethertype::IPV6);
        Self { header: self.header ^ change, ..self }
    }

    fn header(mac: Mac) -> u64 {
        let [a, b, c, d, e, f] = mac.octets();
        let [high, low] = ethernet::ethertype::IPV4.to_be_bytes();
        u64::from_ne_bytes([a, b, c, d, e, f, high, low])
    }
}

/// Reads an ordinary frame of `len` bytes from `sender` to a station. Its first segment is `head`.
#[inline(always)]
#[must_use]
pub fn sent(head: &[u8], len: usize, sender: &Sender) -> Option<Sent> {
    let b: &[u8; UDP_END] = at(head, 0)?;
    let total_len = usize::from(be16::<{ L3 + 2 }, _>(b));
    let proto = byte::<{ L3 + 9 }, _>(b);
    let foreign = (ne64::<6, _>(b) ^ sender.header) & sender.mask;
    if foreign != 0 || !is_whole_ipv4(b) || L3 + total_len > len || byte::<0, _>(b) & 1 != 0 {
        return None;
    }
    // Bytes after the shortest header; none at all if that does not fit.
    let data = total_len.checked_sub(ipv4::HEADER_LEN + udp::HEADER_LEN)?;
    let fits = if proto == protocol::UDP {
        // A length below 8 wraps round to more than is possible.
        usize::from(be16::<{ L4 + 4 }, _>(b)).wrapping_sub(udp::HEADER_LEN) <= data
            && be16::<{ L4 }, _>(b) != DHCP_SERVER
    } else if proto == protocol::TCP {
        let hdr_len = usize::from(head.get(L4 + tcp::DATA_OFFSET_AT)? >> 4) * 4;
        hdr_len >= tcp::HEADER_LEN && hdr_len <= data + udp::HEADER_LEN && L4 + hdr_len <= head.len()
    } else {
        false
    };
    let addresses = be64::<{ L3 + 12 }, _>(b);
    fits.then(|| Sent {
        dst: Mac::from_u64(be64::<0, _>(b) >> 16),
        src: Mac::from_u64(be64::<4, _>(b)),
        src_ip: Ipv4Addr::from_bits((addresses >> 32) as u32),
        tos: byte::<{ L3 + 1 }, _>(b),
        flow: flow::of_ipv4(addresses, proto, be32::<{ L4 }, _>(b)),
        expected: (addresses >> 32 ^ sender.ip) & sender.ip_mask == 0,
    })
}

/// Whether an untagged Ethernet header is followed by version 4, a header of 20 bytes, and no fragment.
#[inline(always)]
fn is_whole_ipv4<const N: usize>(b: &[u8; N]) -> bool {
    let [more, offset] = FRAGMENTED.to_be_bytes();
    let counts = u64::from_ne_bytes([0xff, 0, 0, 0, 0, 0, more, offset]);
    ne64::<L3, _>(b) & counts == u64::from_ne_bytes([0x45, 0, 0, 0, 0, 0, 0, 0])
}

/// An ordinary frame for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Destination address.
    pub dst: Mac,
    /// Source address.
    pub src: Mac,
    /// DSCP and ECN.
    pub tos: u8,
}

/// Reads an ordinary frame between two stations, all of which is in `frame`.
#[inline(always)]
#[must_use]
pub fn received(frame: &[u8]) -> Option<Received> {
    let b: &[u8; L4] = at(frame, 0)?;
    if (byte::<0, _>(b) | byte::<6, _>(b)) & 1 != 0 {
        return None;
    }
    let kind = be32::<{ L3 - 2 }, _>(b);
    let tos = if kind >> 8 == IPV4_PLAIN {
        let total_len = usize::from(be16::<{ L3 + 2 }, _>(b));
        if total_len < ipv4::HEADER_LEN || L3 + total_len > frame.len() {
            return None;
        }
        kind as u8
    } else if kind >> 12 == IPV6_PLAIN {
        let end = L3 + crate::ipv6::HEADER_LEN + usize::from(be16::<{ L3 + 4 }, _>(b));
        if end > frame.len() || !matches!(byte::<{ L3 + 6 }, _>(b), protocol::TCP | protocol::UDP) {
            return None;
        }
        (kind >> 4) as u8
    } else {
        return None;
    };
    Some(Received { dst: Mac::from_u64(be64::<0, _>(b) >> 16), src: Mac::from_u64(be64::<4, _>(b)), tos })
}

/// An ordinary tunnel datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// Outer Ethernet destination.
    pub dst_mac: Mac,
    /// Outer source: the sending VTEP, unless [`underlay::martian_v4`].
    pub src: Ipv4Addr,
    /// Outer destination.
    pub dst: Ipv4Addr,
    /// Outer DSCP and ECN.
    pub tos: u8,
    /// The network.
    pub vni: Vni,
    /// Length of the inner frame in bytes, at least 14, all of them in the first segment, from [`TUNNEL_LEN`] on.
    pub inner_len: usize,
}

/// Reads an ordinary tunnel datagram to UDP port `udp_port`, in a frame of `len` bytes whose first segment is `head`.
/// The source is not checked ([`underlay::martian_v4`]): the caller does so unless it is a known host's.
#[inline(always)]
#[must_use]
pub fn tunnel(head: &[u8], len: usize, udp_port: u16) -> Option<Tunnel> {
    let b: &[u8; TUNNEL_LEN] = at(head, 0)?;
    let total_len = usize::from(be16::<{ L3 + 2 }, _>(b));
    let is_ipv4 = be16::<{ L3 - 2 }, _>(b) == ethernet::ethertype::IPV4 && is_whole_ipv4(b);
    if !is_ipv4 || byte::<{ L3 + 9 }, _>(b) != protocol::UDP || L3 + total_len > len {
        return None;
    }
    let udp = be64::<{ L4 }, _>(b);
    let (port, udp_len, udp_sum) = ((udp >> 32) as u16, usize::from((udp >> 16) as u16), udp as u16);
    // A checksum needs verification.
    if port != udp_port || udp_sum != 0 || ipv4::HEADER_LEN + udp_len > total_len {
        return None;
    }
    let inner_len = udp_len.checked_sub(udp::HEADER_LEN + vxlan::HEADER_LEN)?;
    if inner_len < ethernet::HEADER_LEN || TUNNEL_LEN + inner_len > head.len() {
        return None;
    }
    let header = vxlan::Header::of(at(b, UDP_END)?);
    if !header.has_vni() || header.overlay_flags() != vxlan::OverlayFlags::NONE {
        return None;
    }
    let vni = Vni::from_field(header.vni())?;
    let ip: &[u8; ipv4::HEADER_LEN] = at(b, L3)?;
    if !checksum::is_valid_header(ip) {
        return None;
    }
    Some(Tunnel {
        dst_mac: Mac::from_u64(be64::<0, _>(b) >> 16),
        src: Ipv4Addr::from_bits(be32::<{ L3 + 12 }, _>(b)),
        dst: Ipv4Addr::from_bits(be32::<{ L3 + 16 }, _>(b)),
        tos: byte::<{ L3 + 1 }, _>(b),
        vni,
        inner_len,
    })
}

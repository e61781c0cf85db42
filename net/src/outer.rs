//! The outer header: Ethernet, optional 802.1Q tag, IPv4 or IPv6, UDP, VXLAN, built once per destination
//! host and then stamped in front of every frame to it.
//!
//! [`OuterHeader`] is the template the host table holds. [`OuterHeader::fill`] copies it and patches only what
//! differs from frame to frame: lengths, TOS, source port, VNI and the IPv4 header checksum, the latter from
//! a sum computed when the template was built.

use crate::bytes::{array, be16, put};
use crate::checksum::{Sum, nonzero};
use crate::ethernet::{self, ethertype};
use crate::ipv4::protocol;
use crate::{Mac, VlanId, Vni};
use crate::{ipv4, ipv6, udp, vxlan};
use std::net::{IpAddr, Ipv6Addr};

/// Longest outer header: Ethernet 14, tag 4, IPv6 40, UDP 8, VXLAN 8.
pub const MAX_LEN: usize = 74;

/// Contents of an outer header that are the same for all frames to one VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterSpec {
    /// The underlay port's address.
    pub src_mac: Mac,
    /// The next hop's address.
    pub dst_mac: Mac,
    /// 802.1Q tag on the underlay, priority 0.
    pub vlan: Option<VlanId>,
    /// Our VTEP address.
    pub src: IpAddr,
    /// The other VTEP's address, of the same family.
    pub dst: IpAddr,
    /// The other VTEP's UDP port.
    pub dst_port: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
}

/// The two addresses of an [`OuterSpec`] are not of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MixedFamilies;

impl std::fmt::Display for MixedFamilies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "the two tunnel addresses are of different families: expected two IPv4 or two IPv6 addresses",
        )
    }
}

impl std::error::Error for MixedFamilies {}

/// The template: 80 bytes, of which IPv4 touches the first 56.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct OuterHeader {
    /// Sum of the 16-bit words that are the same in all frames, at most 22 * 65535. IPv4: of the IP header. IPv6: of what
    /// the UDP checksum covers, the pseudo-header included.
    sum: u32,
    /// How many of `bytes` count: 50, 54, 70 or 74.
    len: u8,
    /// The header with lengths, TOS, checksums, source port and VNI zero.
    bytes: [u8; MAX_LEN],
}

impl OuterHeader {
    /// As far as this many bytes an untagged IPv4 header is written from.
    pub const USED_BY_IPV4: usize = std::mem::offset_of!(Self, bytes) + V4_LEN;

    /// Builds the template.
    pub fn new(spec: &OuterSpec) -> Result<Self, MixedFamilies> {
        let mut bytes = [0; MAX_LEN];
        let mut w = Writer { out: &mut bytes, len: 0 };
        w.push(spec.dst_mac.octets());
        w.push(spec.src_mac.octets());
        if let Some(vlan) = spec.vlan {
            w.push(ethertype::VLAN.to_be_bytes());
            w.push(vlan.get().to_be_bytes());
        }
        let sum;
        let dst_port = spec.dst_port;
        match (spec.src, spec.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut ip = [0; ipv4::HEADER_LEN];
                // "VTEPs MUST NOT fragment VXLAN packets" (RFC 7348 section 4.3), and no router may: DF.
                let spec = ipv4::Spec {
                    tos: 0,
                    total_len: 0,
                    df: true,
                    ttl: spec.ttl,
                    protocol: protocol::UDP,
                    src,
                    dst,
                };
                ipv4::emit(&mut ip, &spec);
                put::<{ ipv4::CHECKSUM_AT }, 2, _>(&mut ip, [0, 0]);
                sum = sum_of(&ip);
                w.push(ethertype::IPV4.to_be_bytes());
                w.push(ip);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut ip = [0; ipv6::HEADER_LEN];
                let spec = ipv6::Spec {
                    traffic_class: 0,
                    payload_len: 0,
                    next_header: protocol::UDP,
                    hop_limit: spec.ttl,
                    src,
                    dst,
                };
                ipv6::emit(&mut ip, &spec);
                let vxlan_flags = u32::from(vxlan::FLAG_I) << 8;
                let addresses = sum_of(&src.octets()) + sum_of(&dst.octets());
                sum = addresses + u32::from(protocol::UDP) + u32::from(dst_port) + vxlan_flags;
                w.push(ethertype::IPV6.to_be_bytes());
                w.push(ip);
            }
            _ => return Err(MixedFamilies),
        }
        w.push([0, 0]);
        w.push(dst_port.to_be_bytes());
        w.push([0; 4]);
        w.push([0; vxlan::HEADER_LEN]);
        let len = w.len as u8;
        Ok(Self { sum, len, bytes })
    }

    /// Length in bytes: 50 (IPv4), 54 (with tag), 70 (IPv6) or 74.
    #[inline]
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // never empty
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// As [`OuterHeader::fill`], for a header of [`V4_LEN`] bytes: one body without a choice in it.
    #[inline(always)]
    #[must_use]
    pub fn fill_ipv4(
        &self,
        out: &mut [u8; V4_LEN],
        inner_len: usize,
        vni: Vni,
        src_port: u16,
        tos: u8,
    ) -> Option<()> {
        self.fill_v4::<V4_LEN, 14>(out, inner_len, vni, src_port, tos)
    }

    /// Whether the outer IP is version 6, and so needs [`OuterHeader::seal`].
    #[inline]
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.len as usize >= V6_LEN
    }

    /// Writes the header for an inner frame of `inner_len` bytes into the first [`OuterHeader::len`] bytes of
    /// `out`. UDP checksum 0: final for IPv4 ("SHOULD be transmitted as zero", RFC 7348 section 5), to be
    /// computed by [`OuterHeader::seal`] for IPv6. IPv6 gets the source port as flow label (RFC 6438).
    ///
    /// `None`, with `out` untouched, if `out` is shorter or the frame exceeds the 16-bit IP length.
    #[inline]
    #[must_use]
    pub fn fill(&self, out: &mut [u8], inner_len: usize, vni: Vni, src_port: u16, tos: u8) -> Option<()> {
        // One monomorphic body for each length: constant-size copies, constant positions.
        match self.len as usize {
            V4_LEN => self.fill_v4::<V4_LEN, 14>(out.first_chunk_mut()?, inner_len, vni, src_port, tos),
            V4_TAGGED => self.fill_v4::<V4_TAGGED, 18>(out.first_chunk_mut()?, inner_len, vni, src_port, tos),
            V6_LEN => self.fill_v6::<V6_LEN, 14>(out.first_chunk_mut()?, inner_len, vni, src_port, tos),
            _ => self.fill_v6::<V6_TAGGED, 18>(out.first_chunk_mut()?, inner_len, vni, src_port, tos),
        }
    }

    #[inline(always)]
    fn fill_v4<const LEN: usize, const L3: usize>(
        &self,
        out: &mut [u8; LEN],
        inner_len: usize,
        vni: Vni,
        src_port: u16,
        tos: u8,
    ) -> Option<()> {
        let udp_len = u16::try_from(inner_len + TUNNEL_LEN).ok()?;
        let total_len = udp_len.checked_add(ipv4::HEADER_LEN as u16)?;
        *out = *self.bytes.first_chunk::<LEN>()?;
        let sum = self.sum + u32::from(tos) + u32::from(total_len);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        let (tos_len, sum) = (u32::from(tos) << 16 | u32::from(total_len), sum.to_be_bytes());
        let body = out.get_mut(L3..)?.first_chunk_mut::<36>()?;
        put::<0, 4, _>(body, (0x4500_0000 | tos_len).to_be_bytes());
        put::<10, 2, _>(body, sum);
        patch(body, src_port, udp_len, vni);
        Some(())
    }

    #[inline(always)]
    fn fill_v6<const LEN: usize, const L3: usize>(
        &self,
        out: &mut [u8; LEN],
        inner_len: usize,
        vni: Vni,
        src_port: u16,
        tos: u8,
    ) -> Option<()> {
        let udp_len = u16::try_from(inner_len + TUNNEL_LEN).ok()?;
        *out = *self.bytes.first_chunk::<LEN>()?;
        let body = out.get_mut(L3..)?.first_chunk_mut::<56>()?;
        put::<0, 4, _>(body, ipv6::first_word(tos, src_port as u32).to_be_bytes());
        put::<4, 2, _>(body, udp_len.to_be_bytes());
        patch(body, src_port, udp_len, vni);
        Some(())
    }

    /// As [`OuterHeader::fill`] and [`OuterHeader::seal`] in one, for IPv6. `inner`: length in bytes and sum of the inner
    /// frame.
    #[inline]
    #[must_use]
    pub fn fill_ipv6(
        &self,
        out: &mut [u8],
        inner: (usize, Sum),
        vni: Vni,
        src_port: u16,
        tos: u8,
    ) -> Option<()> {
        let (inner_len, inner) = inner;
        let [_, vni_high, vni_mid, vni_low] = vni.get().to_be_bytes();
        let vni_words = u32::from(u16::from_be_bytes([vni_high, vni_mid])) + (u32::from(vni_low) << 8);
        // The length is in the pseudo-header, too.
        let udp_len = (inner_len + TUNNEL_LEN) as u16;
        let sum =
            self.sum + 2 * u32::from(udp_len) + u32::from(src_port) + vni_words + u32::from(inner.value());
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = nonzero(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes();
        let seal = |tunnel: Option<&mut [u8; TUNNEL_LEN]>| {
            tunnel.map(|tunnel| put::<{ udp::CHECKSUM_AT }, 2, _>(tunnel, sum))
        };
        if self.len as usize == V6_LEN {
            let out: &mut [u8; V6_LEN] = out.first_chunk_mut()?;
            self.fill_v6::<V6_LEN, 14>(out, inner_len, vni, src_port, tos)?;
            seal(out.last_chunk_mut())
        } else {
            let out: &mut [u8; V6_TAGGED] = out.first_chunk_mut()?;
            self.fill_v6::<V6_TAGGED, 18>(out, inner_len, vni, src_port, tos)?;
            seal(out.last_chunk_mut())
        }
    }

    /// Sets the overlay flags in a header that [`OuterHeader::fill`] has written, before [`OuterHeader::seal`]
    /// computes its checksum. With [`vxlan::OverlayFlags::NODE`] the shim is part of the inner frame in both calls.
    /// Does nothing if `out` is shorter than the header.
    #[inline]
    pub fn set_flags(&self, out: &mut [u8], flags: vxlan::OverlayFlags) {
        if let Some(tunnel) = out.get_mut(..self.len()).and_then(|o| o.last_chunk_mut::<TUNNEL_LEN>()) {
            let [_, copies @ ..] = flags.separate_copies().to_be_bytes();
            put::<{ udp::HEADER_LEN + 1 }, 3, _>(tunnel, copies);
            put::<{ udp::HEADER_LEN + vxlan::OVERLAY_FLAGS_AT }, 1, _>(tunnel, [flags.bits()]);
        }
    }

    /// Length of the header without its VXLAN part.
    #[inline]
    #[must_use]
    pub const fn udp_len(&self) -> usize {
        self.len() - vxlan::HEADER_LEN
    }

    /// Whether it has an 802.1Q tag.
    #[inline]
    #[must_use]
    pub const fn has_vlan(&self) -> bool {
        matches!(self.len(), V4_TAGGED | V6_TAGGED)
    }

    /// The UDP port of the destination.
    #[inline]
    #[must_use]
    pub fn dst_port(&self) -> u16 {
        let at = self.udp_len() - udp::HEADER_LEN + 2;
        self.bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |port| u16::from_be_bytes(*port))
    }

    /// Writes the header of a UDP payload of `payload_len` bytes of any kind, without VXLAN, into the first
    /// [`OuterHeader::udp_len`] bytes of `out`. UDP checksum 0, as in [`OuterHeader::fill`]; IPv6 gets it by
    /// [`OuterHeader::seal_udp`].
    ///
    /// `None`, with `out` untouched, if `out` is shorter or the datagram exceeds the 16-bit IP length.
    #[inline]
    #[must_use]
    pub fn fill_udp(&self, out: &mut [u8], payload_len: usize, src_port: u16, tos: u8) -> Option<()> {
        let len = self.udp_len();
        let udp_len = u16::try_from(payload_len + udp::HEADER_LEN).ok()?;
        let total_len = udp_len.checked_add(ipv4::HEADER_LEN as u16)?;
        let out = out.get_mut(..len)?;
        out.copy_from_slice(self.bytes.get(..len)?);
        let udp = out.last_chunk_mut::<{ udp::HEADER_LEN }>()?;
        put::<0, 2, _>(udp, src_port.to_be_bytes());
        put::<4, 2, _>(udp, udp_len.to_be_bytes());
        if self.is_ipv6() {
            let ip = out.last_chunk_mut::<{ ipv6::HEADER_LEN + udp::HEADER_LEN }>()?;
            put::<0, 4, _>(ip, ipv6::first_word(tos, src_port as u32).to_be_bytes());
            put::<4, 2, _>(ip, udp_len.to_be_bytes());
            return Some(());
        }
        let ip = out.last_chunk_mut::<{ ipv4::HEADER_LEN + udp::HEADER_LEN }>()?;
        let sum = self.sum + u32::from(tos) + u32::from(total_len);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        put::<1, 1, _>(ip, [tos]);
        put::<2, 2, _>(ip, total_len.to_be_bytes());
        put::<10, 2, _>(ip, sum.to_be_bytes());
        Some(())
    }

    /// As [`OuterHeader::seal`], for a header written by [`OuterHeader::fill_udp`]; `payload` are the segments of the UDP
    /// payload.
    #[inline]
    pub fn seal_udp<'a>(&self, out: &mut [u8], payload: impl Iterator<Item = &'a [u8]>) {
        if !self.is_ipv6() {
            return;
        }
        let header = out.get_mut(..self.udp_len());
        let Some(ip) = header.and_then(|o| o.last_chunk_mut::<{ ipv6::HEADER_LEN + udp::HEADER_LEN }>())
        else {
            return;
        };
        let (src, dst) = (array::<8, 16, _>(ip), array::<24, 16, _>(ip));
        let udp_len = u32::from(be16::<4, _>(ip));
        put::<{ ipv6::HEADER_LEN + udp::CHECKSUM_AT }, 2, _>(ip, [0, 0]);
        let mut sum = Sum::pseudo_v6(Ipv6Addr::from(src), Ipv6Addr::from(dst), protocol::UDP, udp_len);
        sum.add(&array::<{ ipv6::HEADER_LEN }, { udp::HEADER_LEN }, _>(ip));
        payload.for_each(|segment| sum.add(segment));
        let value = nonzero(sum.finish()).to_be_bytes();
        put::<{ ipv6::HEADER_LEN + udp::CHECKSUM_AT }, 2, _>(ip, value);
    }

    /// Computes and stores the UDP checksum that IPv6 requires (RFC 8200 section 8.1) in a header written by
    /// [`OuterHeader::fill`]; `inner` are the segments of the inner frame. Does nothing for IPv4, or if `out`
    /// is shorter than the header.
    #[inline]
    pub fn seal<'a>(&self, out: &mut [u8], inner: impl Iterator<Item = &'a [u8]>) {
        let l3 = match self.len() {
            V6_LEN => 14,
            V6_TAGGED => 18,
            _ => return,
        };
        let Some(ip) = out.get_mut(l3..).and_then(|o| o.first_chunk_mut::<56>()) else { return };
        let (src, dst) = (array::<8, 16, _>(ip), array::<24, 16, _>(ip));
        let udp_len = u32::from(be16::<4, _>(ip));
        put::<{ ipv6::HEADER_LEN + udp::CHECKSUM_AT }, 2, _>(ip, [0, 0]);
        let mut sum = Sum::pseudo_v6(Ipv6Addr::from(src), Ipv6Addr::from(dst), protocol::UDP, udp_len);
        sum.add(&array::<{ ipv6::HEADER_LEN }, TUNNEL_LEN, _>(ip));
        inner.for_each(|segment| sum.add(segment));
        let value = nonzero(sum.finish()).to_be_bytes();
        put::<{ ipv6::HEADER_LEN + udp::CHECKSUM_AT }, 2, _>(ip, value);
    }
}

/// UDP and VXLAN together.
const TUNNEL_LEN: usize = udp::HEADER_LEN + vxlan::HEADER_LEN;
/// Length of an untagged IPv4 header.
pub const V4_LEN: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + TUNNEL_LEN;
const V4_TAGGED: usize = V4_LEN + ethernet::TAG_LEN;
/// Length of an untagged IPv6 header.
pub const V6_LEN: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + TUNNEL_LEN;
const V6_TAGGED: usize = V6_LEN + ethernet::TAG_LEN;

/// Sum of big-endian 16-bit words.
fn sum_of(words: &[u8]) -> u32 {
    words.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum()
}

/// Source port, UDP length and VXLAN header at the end of IP header, UDP and VXLAN.
#[inline(always)]
fn patch<const N: usize>(body: &mut [u8; N], src_port: u16, udp_len: u16, vni: Vni) {
    const { assert!(N >= TUNNEL_LEN) };
    if let Some(tunnel) = body.last_chunk_mut::<TUNNEL_LEN>() {
        put::<0, 2, _>(tunnel, src_port.to_be_bytes());
        put::<4, 2, _>(tunnel, udp_len.to_be_bytes());
        put::<{ udp::HEADER_LEN }, { vxlan::HEADER_LEN }, _>(tunnel, vxlan::bytes(vni));
    }
}

/// Appends to a template; what would not fit is left out (nothing is: the parts sum to [`MAX_LEN`]).
struct Writer<'a> {
    out: &'a mut [u8; MAX_LEN],
    len: usize,
}

impl Writer<'_> {
    fn push<const N: usize>(&mut self, part: [u8; N]) {
        if let Some(to) = self.out.get_mut(self.len..).and_then(|o| o.first_chunk_mut()) {
            *to = part;
            self.len += N;
        }
    }
}

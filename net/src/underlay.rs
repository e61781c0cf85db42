//! Frames from the underlay: whether one is intact VXLAN for us, and where its inner frame is; or a datagram of another
//! kind to the same port, whose kind is not decided here.
//!
//! All checks of a decapsulating VTEP are here, except those that need tables: whether the
//! destination address is ours and whether the source is a known host. Other traffic to the underlay port
//! (ARP, ND, ping) leaves with its facts, for the control path to answer.

use crate::bytes::at;
use crate::checksum::{self, Sum};
use crate::ethernet;
use crate::frame::{self, BadFrame, Fragment, Frame, Kind, L4};
use crate::ipv4::protocol;
use crate::reason::reasons;
use crate::vxlan::OverlayFlags;
use crate::{Mac, VlanId, Vni};
use crate::{icmpv6, udp, vxlan};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

reasons! {
    /// Why a frame from the underlay is dropped.
    pub enum BadOuter {
        /// Shorter than its Ethernet header, or ends within its VLAN tag.
        Runt = "runt",
        /// The headers are complete, but not all in the first segment.
        HeadersSplit = "headers_split",
        /// No tag, or another tag, where the underlay's is expected, or a tag where none is.
        WrongVlan = "wrong_vlan",
        /// The frame ends within the IPv4 header.
        Ipv4Truncated = "ipv4_truncated",
        /// EtherType IPv4, but the version field is not 4.
        Ipv4Version = "ipv4_version",
        /// IPv4 header length below 20 bytes or beyond the total length.
        Ipv4HeaderLength = "ipv4_header_length",
        /// IPv4 total length beyond the end of the frame.
        Ipv4Overrun = "ipv4_overrun",
        /// IPv4 header checksum wrong.
        Ipv4Checksum = "ipv4_checksum",
        /// The frame ends within the IPv6 header.
        Ipv6Truncated = "ipv6_truncated",
        /// EtherType IPv6, but the version field is not 6.
        Ipv6Version = "ipv6_version",
        /// IPv6 payload length beyond the end of the frame.
        Ipv6Overrun = "ipv6_overrun",
        /// A bad IPv6 extension header.
        Ipv6Extension = "ipv6_extension",
        /// Too many IPv6 extension headers.
        Ipv6Extensions = "ipv6_extensions",
        /// A fragment: no reassembly here (RFC 7348 section 4.3 allows discarding).
        Fragment = "fragment",
        /// The source address is not a host's: unspecified, loopback, multicast or broadcast.
        MartianSource = "martian_source",
        /// UDP header cut off, or its length below 8 or beyond the IP length.
        UdpLength = "udp_length",
        /// The UDP datagram ends within the VXLAN header.
        VxlanTruncated = "vxlan_truncated",
        /// What was sealed has no VXLAN header with its I flag set (RFC 7348 section 5).
        VxlanFlags = "vxlan_flags",
        /// VNI 0.
        VniZero = "vni_zero",
        /// The inner frame is shorter than an Ethernet header.
        InnerRunt = "inner_runt",
        /// NODE mark with a shim that names no station: zero, a group, or cut off; or the mark is on an end
        /// marker, which has its node inside.
        BadShim = "bad_shim",
    }
}

impl From<BadFrame> for BadOuter {
    fn from(bad: BadFrame) -> Self {
        match bad {
            BadFrame::Runt => Self::Runt,
            BadFrame::HeadersSplit => Self::HeadersSplit,
            BadFrame::Ipv4Truncated => Self::Ipv4Truncated,
            BadFrame::Ipv4Version => Self::Ipv4Version,
            BadFrame::Ipv4HeaderLength => Self::Ipv4HeaderLength,
            BadFrame::Ipv4Overrun => Self::Ipv4Overrun,
            BadFrame::Ipv6Truncated => Self::Ipv6Truncated,
            BadFrame::Ipv6Version => Self::Ipv6Version,
            BadFrame::Ipv6Overrun => Self::Ipv6Overrun,
            BadFrame::Ipv6Extension => Self::Ipv6Extension,
            BadFrame::Ipv6Extensions => Self::Ipv6Extensions,
        }
    }
}

/// What the underlay port expects of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    /// The underlay's VLAN. `None`: untagged, where a priority tag (VLAN 0) is accepted.
    pub vlan: Option<VlanId>,
    /// Our UDP port for VXLAN.
    pub udp_port: u16,
}

/// The UDP checksum field; see [`Vxlan::udp_checksum_ok`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpChecksum {
    /// Zero over IPv4: none, as usual for VXLAN.
    Absent,
    /// Zero over IPv6: allowed only where configured (RFC 6935 section 5, RFC 6936).
    AbsentV6,
    /// There is one; "a decapsulating endpoint ... MAY choose to verify" (RFC 7348 section 5), we do.
    Present,
}

/// Facts of a VXLAN datagram. Offsets count from the start of the outer frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// Outer Ethernet destination.
    pub dst_mac: Mac,
    /// Outer Ethernet source: the neighbour that forwarded it.
    pub src_mac: Mac,
    /// Outer source: the sending VTEP.
    pub src: IpAddr,
    /// Outer destination. The caller checks whether it is ours.
    pub dst: IpAddr,
    /// Outer DSCP and ECN.
    pub tos: u8,
    /// Outer TTL or hop limit.
    pub ttl: u8,
    /// Outer source port.
    pub udp_src: u16,
    /// The network. Never 0.
    pub vni: Vni,
    /// Overlay flags, valid if the sender is an appliance. For other senders use
    /// [`parse_foreign`].
    pub flags: OverlayFlags,
    /// Present with [`OverlayFlags::NODE`] only: the node whose port alone gets the frame.
    pub node: Option<Mac>,
    /// The UDP checksum field.
    pub checksum: UdpChecksum,
    /// Where the outer IP header begins.
    pub l3_off: u16,
    /// Where the UDP header begins.
    pub udp_off: u16,
    /// Where the inner frame begins: behind the VXLAN header, or the shim if there is one.
    pub inner_off: u16,
    /// Length of the inner frame, at least 14; the bytes after it are padding to trim.
    pub inner_len: u16,
}

impl Vxlan {
    /// End of the inner frame.
    #[inline]
    #[must_use]
    pub const fn inner_end(&self) -> usize {
        self.inner_off as usize + self.inner_len as usize
    }

    /// Verifies the UDP checksum over the whole datagram; `segments` are the outer frame's bytes from the
    /// Ethernet header on. Only meaningful if [`UdpChecksum::Present`]. False also if bytes are missing.
    #[must_use]
    pub fn udp_checksum_ok<'a>(&self, segments: impl Iterator<Item = &'a [u8]>) -> bool {
        udp_checksum_ok((self.src, self.dst), usize::from(self.udp_off), self.inner_end(), segments)
    }
}

/// Whether the datagram from `from` to `end` of a frame has its checksum.
fn udp_checksum_ok<'a>(
    (src, dst): (IpAddr, IpAddr),
    from: usize,
    end: usize,
    segments: impl Iterator<Item = &'a [u8]>,
) -> bool {
    let len = end - from;
    let mut sum = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Sum::pseudo_v4(src, dst, protocol::UDP, len as u16),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Sum::pseudo_v6(src, dst, protocol::UDP, len as u32),
        _ => return false,
    };
    checksum::add_range(&mut sum, segments, from, end, None) && sum.finish() == 0
}

/// Facts of a datagram to our port that is not VXLAN: the I flag is not set in its first byte, or it has none. Offsets
/// count from the start of the outer frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    /// Outer Ethernet destination.
    pub dst_mac: Mac,
    /// Outer source.
    pub src: IpAddr,
    /// Outer destination. The caller checks whether it is ours.
    pub dst: IpAddr,
    /// Outer DSCP and ECN.
    pub tos: u8,
    /// Outer source port.
    pub udp_src: u16,
    /// The UDP checksum field.
    pub checksum: UdpChecksum,
    /// Where the UDP header begins.
    pub udp_off: u16,
    /// Length of the UDP payload.
    pub len: u16,
}

impl Other {
    /// Where the UDP payload begins.
    #[inline]
    #[must_use]
    pub const fn off(&self) -> usize {
        self.udp_off as usize + udp::HEADER_LEN
    }

    /// As [`Vxlan::udp_checksum_ok`].
    #[must_use]
    pub fn udp_checksum_ok<'a>(&self, segments: impl Iterator<Item = &'a [u8]>) -> bool {
        udp_checksum_ok(
            (self.src, self.dst),
            usize::from(self.udp_off),
            self.off() + usize::from(self.len),
            segments,
        )
    }
}

/// A frame from the underlay. All but VXLAN carry the facts of the (outer) frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // lives in registers and on the stack of one burst
pub enum Underlay {
    /// VXLAN on our port.
    Vxlan(Vxlan),
    /// Of another kind on our port.
    Datagram(Other),
    /// ARP.
    Arp(Frame),
    /// ICMP over IPv4.
    Icmp(Frame),
    /// Neighbour discovery, not checked yet: see [`crate::nd::parse`].
    Nd(Frame),
    /// Other ICMPv6.
    Icmpv6(Frame),
    /// Not for us: other protocols, other ports.
    Other(Frame),
}

/// Parses a frame from the underlay whose first segment begins with `head` and whose segments together are
/// `total_len` bytes long. The UDP checksum is left to [`Vxlan::udp_checksum_ok`], which needs all segments.
///
/// The sender is assumed to be an appliance, which uses the last reserved byte of the VXLAN header. If that byte
/// matters (there are overlay flags, or the reason is [`BadOuter::BadShim`]) and the sender is not an appliance, the
/// caller uses [`parse_foreign`] instead.
#[inline]
pub fn parse(head: &[u8], total_len: usize, expect: &Expect) -> Result<Underlay, BadOuter> {
    read::<true>(head, total_len, expect)
}

/// As [`parse`], for a sender that is no appliance: its reserved bits are "ignored on receipt" (RFC 7348 section 5).
/// There are no overlay flags and no shim.
#[cold]
pub fn parse_foreign(head: &[u8], total_len: usize, expect: &Expect) -> Result<Underlay, BadOuter> {
    read::<false>(head, total_len, expect)
}

#[inline]
fn read<const OVERLAY_FLAGS: bool>(
    head: &[u8],
    total_len: usize,
    expect: &Expect,
) -> Result<Underlay, BadOuter> {
    let head = head.get(..total_len).unwrap_or(head);
    let frame = frame::parse(head, total_len)?;
    if !is_in_vlan(&frame, expect.vlan) {
        return Err(BadOuter::WrongVlan);
    }
    let (ip, proto, fragment) = match &frame.kind {
        Kind::Ipv4(ip) => {
            let l3 = usize::from(frame.l3_off);
            if !checksum::is_valid(head.get(l3..l3 + usize::from(ip.hdr_len)).unwrap_or_default()) {
                return Err(BadOuter::Ipv4Checksum);
            }
            if martian_v4(ip.src) {
                return Err(BadOuter::MartianSource);
            }
            let (src, dst) = (IpAddr::V4(ip.src), IpAddr::V4(ip.dst));
            (OuterIp { src, dst, tos: ip.tos, ttl: ip.ttl }, ip.proto, ip.fragment)
        }
        Kind::Ipv6(ip) => {
            let (src, dst) = (IpAddr::V6(ip.src), IpAddr::V6(ip.dst));
            (OuterIp { src, dst, tos: ip.tclass, ttl: ip.hop_limit }, ip.proto, ip.fragment)
        }
        Kind::Arp => return Ok(Underlay::Arp(frame)),
        Kind::Rarp | Kind::Other => return Ok(Underlay::Other(frame)),
    };
    if fragment != Fragment::Whole {
        return Err(BadOuter::Fragment);
    }
    let (udp_src, udp_len) = match frame.l4 {
        L4::Udp { src_port, dst_port, len } if dst_port == expect.udp_port => (src_port, usize::from(len)),
        L4::Icmp { .. } => return Ok(Underlay::Icmp(frame)),
        L4::Icmpv6 { kind, .. } if icmpv6::is_nd(kind) => return Ok(Underlay::Nd(frame)),
        L4::Icmpv6 { .. } => return Ok(Underlay::Icmpv6(frame)),
        L4::Malformed if proto == protocol::UDP => return Err(BadOuter::UdpLength),
        _ => return Ok(Underlay::Other(frame)),
    };
    if let IpAddr::V6(src) = ip.src
        && martian_v6(src)
    {
        return Err(BadOuter::MartianSource);
    }
    let payload = usize::from(frame.l4_off.unwrap_or_default()) + udp::HEADER_LEN;
    let is_vxlan = match udp_len.saturating_sub(udp::HEADER_LEN) {
        // A keepalive for NATs has one byte (RFC 3948 section 2.3).
        0 | 1 => false,
        _ => head.get(payload).ok_or(BadOuter::HeadersSplit)? & vxlan::FLAG_I != 0,
    };
    if !is_vxlan {
        return read_other(head, &frame, ip, udp_src, udp_len);
    }
    read_vxlan::<OVERLAY_FLAGS>(head, &frame, ip, udp_src, udp_len)
}

/// The facts of a datagram that is not VXLAN.
#[cold]
fn read_other(
    head: &[u8],
    frame: &Frame,
    ip: OuterIp,
    udp_src: u16,
    udp_len: usize,
) -> Result<Underlay, BadOuter> {
    let udp_off = frame.l4_off.unwrap_or_default();
    Ok(Underlay::Datagram(Other {
        dst_mac: frame.dst,
        src: ip.src,
        dst: ip.dst,
        tos: ip.tos,
        udp_src,
        checksum: checksum_of(head, udp_off, ip)?,
        udp_off,
        len: udp_len.checked_sub(udp::HEADER_LEN).ok_or(BadOuter::UdpLength)? as u16,
    }))
}

/// What the checksum field of a datagram means.
#[inline(always)]
fn checksum_of(head: &[u8], udp_off: u16, ip: OuterIp) -> Result<UdpChecksum, BadOuter> {
    let field = udp::Header::of(at(head, usize::from(udp_off)).ok_or(BadOuter::HeadersSplit)?).checksum();
    Ok(match (field, ip.src) {
        (0, IpAddr::V4(_)) => UdpChecksum::Absent,
        (0, IpAddr::V6(_)) => UdpChecksum::AbsentV6,
        _ => UdpChecksum::Present,
    })
}

/// Whether a frame has the tag that the underlay port expects.
#[inline(always)]
const fn is_in_vlan(frame: &Frame, vlan: Option<VlanId>) -> bool {
    match (vlan, frame.vlan) {
        (None, None) => true,
        (None, Some(tag)) => tag.vid() == 0,
        (Some(_), None) => false,
        (Some(vlan), Some(tag)) => tag.vid() == vlan.get() && tag.tpid == ethernet::ethertype::VLAN,
    }
}

/// What [`Vxlan`] takes from the outer IP header of either version.
#[derive(Clone, Copy)]
struct OuterIp {
    src: IpAddr,
    dst: IpAddr,
    tos: u8,
    ttl: u8,
}

/// The facts of a VXLAN datagram. `udp_len` is the length of the UDP datagram, whose header is complete in `head`.
// A part of `read` alone: a call would store the facts of the frame (see `frame::parse`).
#[inline(always)]
fn read_vxlan<const OVERLAY_FLAGS: bool>(
    head: &[u8],
    frame: &Frame,
    ip: OuterIp,
    udp_src: u16,
    udp_len: usize,
) -> Result<Underlay, BadOuter> {
    let udp_off = frame.l4_off.unwrap_or_default();
    let inner = read_header::<OVERLAY_FLAGS>(head, usize::from(udp_off), udp_len)?;
    let Inner { vni, flags, node, off: inner_off, len: inner_len } = inner;
    let checksum = checksum_of(head, udp_off, ip)?;
    Ok(Underlay::Vxlan(Vxlan {
        dst_mac: frame.dst,
        src_mac: frame.src,
        src: ip.src,
        dst: ip.dst,
        tos: ip.tos,
        ttl: ip.ttl,
        udp_src,
        vni,
        flags,
        node,
        checksum,
        l3_off: frame.l3_off,
        udp_off,
        inner_off,
        inner_len,
    }))
}

/// What a VXLAN header leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// The network. Never 0.
    pub vni: Vni,
    /// Overlay flags.
    pub flags: OverlayFlags,
    /// As [`Vxlan::node`].
    pub node: Option<Mac>,
    /// Where the inner frame begins.
    pub off: u16,
    /// Its length, at least 14.
    pub len: u16,
}

/// Reads what was sealed: a UDP datagram from `off` to `end` of a frame whose first segment is `head`, with VXLAN in it. The
/// seal has proven that an appliance sent it. Its addresses, ports and checksum mean nothing.
#[inline]
pub fn parse_sealed(head: &[u8], off: usize, end: usize) -> Result<Inner, BadOuter> {
    let udp = udp::Header::of(at(head, off).ok_or(BadOuter::HeadersSplit)?);
    let len = usize::from(udp.len());
    if end.checked_sub(off).is_none_or(|room| len > room) || len < udp::HEADER_LEN {
        return Err(BadOuter::UdpLength);
    }
    read_header::<true>(head, off, len)
}

/// Reads the VXLAN header behind the UDP header at `udp_off`, and the shim if there is one.
#[inline(always)]
fn read_header<const OVERLAY_FLAGS: bool>(
    head: &[u8],
    udp_off: usize,
    udp_len: usize,
) -> Result<Inner, BadOuter> {
    let vxlan_off = udp_off + udp::HEADER_LEN;
    let mut inner_off = vxlan_off + vxlan::HEADER_LEN;
    let Some(mut inner_len) = udp_len.checked_sub(udp::HEADER_LEN + vxlan::HEADER_LEN) else {
        return Err(BadOuter::VxlanTruncated);
    };
    let header = vxlan::Header::of(at(head, vxlan_off).ok_or(BadOuter::HeadersSplit)?);
    if !header.has_vni() {
        return Err(BadOuter::VxlanFlags);
    }
    if header.vni() == 0 {
        return Err(BadOuter::VniZero);
    }
    let vni = Vni::from_field(header.vni()).ok_or(BadOuter::VniZero)?;
    let flags = if OVERLAY_FLAGS { header.all_overlay_flags() } else { OverlayFlags::NONE };
    let mut node = None;
    if flags.contains(OverlayFlags::NODE) {
        node = Some(named_node(head, inner_off, inner_len, flags)?);
        inner_off += vxlan::SHIM_LEN;
        inner_len -= vxlan::SHIM_LEN;
    }
    if inner_len < ethernet::HEADER_LEN {
        return Err(BadOuter::InnerRunt);
    }
    Ok(Inner { vni, flags, node, off: inner_off as u16, len: inner_len as u16 })
}

/// The node named by the shim at `off`, where `len` bytes are left of the datagram. A cold function, because frames
/// with a shim are few: group frames that were held while their node moved.
#[cold]
fn named_node(head: &[u8], off: usize, len: usize, flags: OverlayFlags) -> Result<Mac, BadOuter> {
    if len < vxlan::SHIM_LEN || flags.contains(OverlayFlags::CONTROL) {
        return Err(BadOuter::BadShim);
    }
    vxlan::shim_node(at(head, off).ok_or(BadOuter::HeadersSplit)?).ok_or(BadOuter::BadShim)
}

/// Addresses that are never a host's source address.
#[inline]
pub const fn martian_v4(ip: Ipv4Addr) -> bool {
    ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast()
}

/// As [`martian_v4`], of either version.
#[must_use]
pub const fn is_martian(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => martian_v4(ip),
        IpAddr::V6(ip) => martian_v6(ip),
    }
}

/// The unspecified source is legal in ND (RFC 4861), so this is checked for VXLAN only.
#[inline]
const fn martian_v6(ip: Ipv6Addr) -> bool {
    ip.is_unspecified() || ip.is_loopback() || ip.is_multicast()
}

//! The L4 checksum of a parsed frame: finishing it for a sender that left it to the device, and checking it. The sums
//! themselves are in `checksum`.

use crate::checksum::{Sum, add_range, nonzero};
use crate::frame::{Fragment, Frame, Kind, L4};
use crate::ipv4::protocol;
use crate::{icmpv4, icmpv6, tcp, udp};

/// A finished L4 checksum and where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L4Checksum {
    /// Byte position of the two-byte field, from the start of the frame.
    pub offset: usize,
    /// The value to store there, in network byte order.
    pub value: u16,
}

/// What an L4 checksum covers, from the facts of a frame.
struct Cover {
    /// Sum of the pseudo header (zero for ICMP).
    pseudo: Sum,
    /// First byte of the L4 header, from the start of the frame.
    start: usize,
    /// End of what is summed; padding lies beyond.
    end: usize,
    /// Position of the checksum field.
    field: usize,
    /// UDP: 0 means "none".
    udp: bool,
}

/// `None` if the frame has no checksum that one frame alone can finish: not TCP, UDP or ICMP, a fragment, or
/// IPv6 with a routing header, where the address to sum is not the one in the header
/// (RFC 8200 section 8.1).
#[inline]
fn cover(frame: &Frame) -> Option<Cover> {
    let start = usize::from(frame.l4_off?);
    let end = frame.l3_end();
    let (protocol, field, end) = match frame.l4 {
        L4::Tcp { .. } => (protocol::TCP, tcp::CHECKSUM_AT, end),
        L4::Udp { len, .. } => (protocol::UDP, udp::CHECKSUM_AT, start + usize::from(len)),
        L4::Icmp { .. } => (protocol::ICMP, icmpv4::CHECKSUM_AT, end),
        L4::Icmpv6 { .. } => (protocol::ICMPV6, icmpv6::CHECKSUM_AT, end),
        L4::None | L4::Other | L4::Malformed => return None,
    };
    let len = end.checked_sub(start)?;
    let pseudo = match &frame.kind {
        Kind::Ipv4(ip) if ip.fragment == Fragment::Whole => {
            if protocol == protocol::ICMP {
                Sum::new()
            } else {
                Sum::pseudo_v4(ip.src, ip.dst, protocol, len as u16)
            }
        }
        Kind::Ipv6(ip) if ip.fragment == Fragment::Whole && !ip.routing => {
            Sum::pseudo_v6(ip.src, ip.dst, protocol, len as u32)
        }
        _ => return None,
    };
    Some(Cover { pseudo, start, end, field: start + field, udp: protocol == protocol::UDP })
}

/// Computes the TCP, UDP, ICMP or ICMPv6 checksum of a frame whose field holds anything at all (a pseudo
/// header sum left by a guest with checksum offload, or zero). `segments` are the frame's bytes from the
/// Ethernet header on. `None` if the frame has no such checksum (see [`L4`]), is a fragment, passes through
/// an IPv6 routing header, or if `segments` hold less than the IP length.
#[inline]
#[must_use]
pub fn finish_l4<'a>(frame: &Frame, segments: impl Iterator<Item = &'a [u8]>) -> Option<L4Checksum> {
    let Cover { pseudo: mut sum, start, end, field, udp } = cover(frame)?;
    if !add_range(&mut sum, segments, start, end, Some(field)) {
        return None;
    }
    let value = sum.finish();
    Some(L4Checksum { offset: field, value: if udp { nonzero(value) } else { value } })
}

/// What [`check_l4`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4Check {
    /// There is no checksum that this frame alone could prove.
    NotApplicable,
    /// UDP without a checksum.
    Absent,
    /// The checksum is right.
    Good,
    /// The checksum is wrong, or bytes are missing.
    Bad,
}

/// Verifies the L4 checksum of a frame; arguments as for [`finish_l4`].
#[must_use]
pub fn check_l4<'a>(frame: &Frame, segments: impl Iterator<Item = &'a [u8]> + Clone) -> L4Check {
    let Some(Cover { pseudo: mut sum, start, end, field, udp }) = cover(frame) else {
        return L4Check::NotApplicable;
    };
    if udp && segments.clone().next().and_then(|s| s.get(field..field + 2)) == Some(&[0, 0]) {
        return L4Check::Absent;
    }
    if add_range(&mut sum, segments, start, end, None) && sum.finish() == 0 {
        L4Check::Good
    } else {
        L4Check::Bad
    }
}

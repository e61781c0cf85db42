//! The parser for ordinary IPv6 of a vif: an untagged frame with TCP or UDP directly behind an IPv6 header, not from a DHCP
//! server. It is to IPv6 what [`sent`](super::sent) is to IPv4.

use super::{IPV6_PLAIN, L3, Sender, tenant::transport};
use crate::bytes::{array, at, be16, be32, be64, byte, ne64};
use crate::{Mac, flow, ipv6, udp};
use std::net::Ipv6Addr;

const L4: usize = L3 + ipv6::HEADER_LEN;
/// The port from which DHCP servers and relays send (RFC 8415 section 7.2): not every tenant may use it.
pub const DHCPV6_SERVER: u16 = 547;

/// An ordinary frame of a tenant over IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent6 {
    /// Destination address.
    pub dst: Mac,
    /// Source address.
    pub src: Mac,
    /// Source address of its packet.
    pub src_ip: Ipv6Addr,
    /// DSCP and ECN.
    pub tos: u8,
    /// Its [`flow::hash`].
    pub flow: u32,
}

/// Reads an ordinary frame of `len` bytes from `sender`, which is [`Sender::over_ipv6`], to a station. Its first segment is
/// `head`.
#[inline(always)]
#[must_use]
pub fn sent6(head: &[u8], len: usize, sender: &Sender) -> Option<Sent6> {
    let b: &[u8; L4 + udp::HEADER_LEN] = at(head, 0)?;
    let foreign = (ne64::<6, _>(b) ^ sender.header) & sender.mask;
    let kind = be32::<{ L3 - 2 }, _>(b);
    let payload_len = usize::from(be16::<{ L3 + 4 }, _>(b));
    let is_ipv6 = foreign == 0 && kind >> 12 == IPV6_PLAIN && byte::<0, _>(b) & 1 == 0;
    if !is_ipv6 || L4 + payload_len > len {
        return None;
    }
    let (proto, ports) = (byte::<{ L3 + 6 }, _>(b), be32::<{ L4 }, _>(b));
    let (tcp, _, _) = transport(head.get(L4..)?, payload_len, proto)?;
    let (src_ip, dst_ip) =
        (Ipv6Addr::from(array::<{ L3 + 8 }, 16, _>(b)), Ipv6Addr::from(array::<{ L3 + 24 }, 16, _>(b)));
    (tcp || ports >> 16 != u32::from(DHCPV6_SERVER)).then(|| Sent6 {
        dst: Mac::from_u64(be64::<0, _>(b) >> 16),
        src: Mac::from_u64(be64::<4, _>(b)),
        src_ip,
        tos: (kind >> 4) as u8,
        flow: flow::of_ipv6(src_ip, dst_ip, proto, ports),
    })
}

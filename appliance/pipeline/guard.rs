//! Guard: may this port send this frame? Enters: a frame from a tenant port and the declaration of the port. Leaves:
//! yes, or the reason why not. A vif may use only its own MAC and IP addresses and those that are allowed besides, in
//! every protocol that carries addresses. It is no router and no DHCP server unless that is allowed. A segment may
//! use any station address.

use super::{
    Egress, Learn, Pipeline,
    drop_reason::DropReason,
    graph::Stage,
    ports::{Role, Vif},
    tracer::Tracer,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use stopover_net::Mac;
use stopover_net::{
    arp, fast_parse,
    frame::{Fragment, Frame, Kind, L4},
    icmpv4, icmpv6, loop_probe, nd,
};

/// Checks what holds for every tenant frame, whatever its port.
#[inline]
pub fn check_addresses(frame: &Frame) -> Result<(), DropReason> {
    if frame.src.is_group() || frame.src.is_zero() {
        return Err(DropReason::BadSourceMac);
    }
    if is_link_local_control(frame.dst) || frame.dst == loop_probe::DESTINATION {
        return Err(DropReason::LinkLocalControl);
    }
    Ok(())
}

/// Whether this address is for neighbouring bridges only: 01:80:c2:00:00:00 to 0f (IEEE 802.1Q table 8-1), and
/// [`VENDOR_CONTROL`]. 01:80:c2:00:00:20 to 2f is not one of them: a bridge without the protocol in question (MVRP,
/// MMRP) forwards them (IEEE 802.1Q table 10-1).
#[inline]
fn is_link_local_control(dst: Mac) -> bool {
    let dst = dst.to_u64();
    dst & 0xffff_ffff_fff0 == 0x0180_c200_0000 || is_vendor_control(dst)
}

/// Control protocols between bridges of two vendors; Open vSwitch has the same list (`eth_addr_is_reserved`). Two
/// networks that receive each other's PVST+ or EAPS become one spanning tree or ring, and block ports in both.
const VENDOR_CONTROL: [u64; 7] = [
    0x0100_0c00_0000, // Cisco ISL
    0x0100_0ccc_cccc, // Cisco CDP, VTP, DTP, PAgP, UDLD
    0x0100_0ccc_cccd, // Cisco PVST+ and shared spanning tree
    0x0100_0ccd_cdcd, // Cisco STP UplinkFast, FlexLink
    0x00e0_2b00_0000, // Extreme EDP
    0x00e0_2b00_0004, // Extreme EAPS
    0x00e0_2b00_0006, // Extreme EAPS, shared ports
];

#[inline]
fn is_vendor_control(dst: u64) -> bool {
    const CISCO: u64 = 0x0001_000c;
    const EXTREME: u64 = 0x0000_e02b;
    // Cisco's connectivity fault management has eight addresses, one a level.
    const CISCO_CFM: u64 = 0x0100_0ccc_ccc0;
    matches!(dst >> 24, CISCO | EXTREME) && (VENDOR_CONTROL.contains(&dst) || dst & !7 == CISCO_CFM)
}

/// Undeclared link-local addresses that a vif used: its own unless they belong to another node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claims {
    /// The source of the packet.
    pub source: Option<Ipv6Addr>,
    /// The target of a neighbour advertisement, if it differs.
    pub target: Option<Ipv6Addr>,
}

/// Result for a frame that may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// It uses addresses of the vif only.
    Own,
    /// It may be sent if no other node of the network has the addresses that it claims: see [`claims`].
    Claims,
}

/// Checks a frame of a guarded vif, except the link-local addresses that it claims: those are in the tables.
#[inline]
pub fn check_vif(vif: &Vif, frame: &Frame, head: &[u8]) -> Result<Passed, DropReason> {
    if frame.src != vif.mac && !vif.allowed.has_mac(frame.src) {
        return Err(DropReason::GuardMac);
    }
    check_services(vif, frame)?;
    match &frame.kind {
        Kind::Ipv4(ip) => check_ipv4(vif, ip.src, frame).map(|()| Passed::Own),
        Kind::Ipv6(ip) => check_ipv6(vif, ip.src, frame, head),
        Kind::Arp => check_arp(vif, frame, head).map(|()| Passed::Own),
        Kind::Rarp | Kind::Other => Ok(Passed::Own),
    }
}

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Whether a tenant port may send a frame.
    #[inline]
    pub(super) fn guard(&mut self, port: u16, frame: &Frame, head: &[u8]) -> Result<(), DropReason> {
        self.tracer.enter(Stage::Guard);
        check_addresses(frame)?;
        if let Some(Role::Vif(vif)) = self.ports.get(usize::from(port)).map(|p| &p.role)
            && vif.guard
            && check_vif(vif, frame, head)? == Passed::Claims
        {
            self.claim_link_local(port, vif, claims(vif, frame, head))?;
        }
        self.tracer.note(|| format!("port {port} may send this"));
        Ok(())
    }

    /// A link-local address belongs to the first node that uses it (as in RFC 6620). An address of another node is
    /// refused; a free one is registered for the vif.
    #[cold]
    fn claim_link_local(&mut self, port: u16, vif: &Vif, claims: Claims) -> Result<(), DropReason> {
        for (ip, reason) in [(claims.source, DropReason::GuardIp), (claims.target, DropReason::GuardArp)] {
            let Some(ip) = ip.map(IpAddr::V6) else { continue };
            match self.view.owner(vif.network.bd, ip) {
                Some(owner) if owner != vif.mac => return Err(reason),
                Some(_) => {}
                None => {
                    let (bd, mac) = (vif.network.bd, vif.mac);
                    self.egress.learn(Learn { port, bd, vlan: 0, mac, ip: Some(ip) });
                }
            }
        }
        Ok(())
    }
}

/// DHCP for IPv4 (RFC 2131 section 4.1) and IPv6 (RFC 8415 section 7.2): servers and relays send from these ports.
pub(super) const DHCP_SERVER: u16 = fast_parse::DHCP_SERVER;
pub(super) const DHCPV6_SERVER: u16 = fast_parse::DHCPV6_SERVER;

/// Whether the vif may advertise routes or assign addresses, if the frame does so (RFC 6105, RFC 7610).
#[inline]
fn check_services(vif: &Vif, frame: &Frame) -> Result<(), DropReason> {
    match (frame.l4, &frame.kind) {
        (L4::Icmpv6 { kind: icmpv6::kind::ROUTER_ADVERT | icmpv6::kind::REDIRECT, .. }, _)
        | (L4::Icmp { kind: icmpv4::kind::REDIRECT | icmpv4::kind::ROUTER_ADVERT, .. }, _)
            if !vif.allowed.router =>
        {
            Err(DropReason::GuardRouter)
        }
        (L4::Udp { src_port: DHCP_SERVER, .. }, Kind::Ipv4(_))
        | (L4::Udp { src_port: DHCPV6_SERVER, .. }, Kind::Ipv6(_))
            if !vif.allowed.dhcp_server =>
        {
            Err(DropReason::GuardDhcp)
        }
        // A first fragment without all headers can hide one of the above (RFC 7113 section 3, RFC 7112).
        (L4::Malformed, Kind::Ipv6(ip))
            if ip.fragment == Fragment::First && !(vif.allowed.router && vif.allowed.dhcp_server) =>
        {
            Err(DropReason::GuardRouter)
        }
        _ => Ok(()),
    }
}

/// Whether the address may be used with this MAC. Without declared addresses the vif's own MAC may use any.
#[inline]
pub(super) fn owns4(vif: &Vif, mac: Mac, ip: Ipv4Addr) -> bool {
    let own = mac == vif.mac && (!vif.addressed || vif.ipv4.contains(&ip));
    own || vif.allowed.has(mac, ip.into())
}

/// As [`owns4`].
#[inline]
pub(super) fn owns6(vif: &Vif, mac: Mac, ip: Ipv6Addr) -> bool {
    let own = mac == vif.mac && (!vif.addressed || vif.ipv6.contains(&ip));
    own || vif.allowed.has(mac, ip.into())
}

#[inline]
fn check_ipv4(vif: &Vif, src: Ipv4Addr, frame: &Frame) -> Result<(), DropReason> {
    let requests_dhcp = || matches!(frame.l4, L4::Udp { src_port: 68, dst_port: DHCP_SERVER, .. });
    let allowed = owns4(vif, frame.src, src) || (src.is_unspecified() && requests_dhcp());
    if allowed { Ok(()) } else { Err(DropReason::GuardIp) }
}

/// ICMPv6 types that may have an unspecified source: multicast listener reports (RFC 3590; types 131, 132, 143),
/// router solicitation and duplicate address detection (RFC 4861 section 4.1, RFC 4862 section 5.4.2).
const UNSPECIFIED_SOURCE_KINDS: [u8; 5] =
    [131, 132, 143, icmpv6::kind::ROUTER_SOLICIT, icmpv6::kind::NEIGHBOUR_SOLICIT];

/// The first check is for ordinary packets: from an address of the vif, and no ICMPv6.
#[inline]
fn check_ipv6(vif: &Vif, src: Ipv6Addr, frame: &Frame, head: &[u8]) -> Result<Passed, DropReason> {
    if !matches!(frame.l4, L4::Icmpv6 { .. }) && owns6(vif, frame.src, src) {
        return Ok(Passed::Own);
    }
    let claims = ipv6_claims(vif, src, frame, head)?;
    Ok(if claims == Claims::default() { Passed::Own } else { Passed::Claims })
}

/// The addresses that a frame with [`Passed::Claims`] claims.
#[cold]
#[must_use]
pub fn claims(vif: &Vif, frame: &Frame, head: &[u8]) -> Claims {
    match &frame.kind {
        Kind::Ipv6(ip) => ipv6_claims(vif, ip.src, frame, head).unwrap_or_default(),
        _ => Claims::default(),
    }
}

#[cold]
fn ipv6_claims(vif: &Vif, src: Ipv6Addr, frame: &Frame, head: &[u8]) -> Result<Claims, DropReason> {
    let owns = |ip| owns6(vif, frame.src, ip);
    // A guest chooses its link-local address itself, not necessarily from its MAC (RFC 7217, RFC 8981).
    let chosen = |ip: Ipv6Addr| ip.is_unicast_link_local() && frame.src == vif.mac;
    let claimed = |ip| (!owns(ip) && chosen(ip)).then_some(ip);
    let mut claims = Claims { source: claimed(src), target: None };
    let kind = match frame.l4 {
        L4::Icmpv6 { kind, .. } => Some(kind),
        _ => None,
    };
    let unspecified_allowed =
        src.is_unspecified() && kind.is_some_and(|kind| UNSPECIFIED_SOURCE_KINDS.contains(&kind));
    if !owns(src) && !chosen(src) && !unspecified_allowed {
        return Err(DropReason::GuardIp);
    }
    if kind.is_none() || (!vif.addressed && frame.src == vif.mac) {
        return Ok(claims);
    }
    match nd::parse(frame, head) {
        Ok(nd::Nd::Solicit(ns)) if ns.source_mac.is_some_and(|mac| mac != frame.src) => {
            Err(DropReason::GuardArp)
        }
        Ok(nd::Nd::Advert(na)) => {
            let other_mac = na.target_mac.is_some_and(|mac| mac != frame.src);
            if other_mac || !owns(na.target) && !chosen(na.target) {
                return Err(DropReason::GuardArp);
            }
            claims.target = claimed(na.target).filter(|target| claims.source != Some(*target));
            Ok(claims)
        }
        _ => Ok(claims),
    }
}

fn check_arp(vif: &Vif, frame: &Frame, head: &[u8]) -> Result<(), DropReason> {
    let arp = arp::parse(frame, head).map_err(|_| DropReason::Malformed)?;
    let owns_ip = arp.sender_ip.is_unspecified() || owns4(vif, frame.src, arp.sender_ip);
    if arp.sender_mac == frame.src && owns_ip { Ok(()) } else { Err(DropReason::GuardArp) }
}

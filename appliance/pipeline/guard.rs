//! Guard: may this port send this frame? Enters: a frame from a tenant port and what is declared of the port.
//! Leaves: yes, or the reason why not. A vif may use its own MAC and IP addresses only, in every protocol
//! that carries them; a segment may use any station address.

use super::{fate::Drop, ports::Vif};
use crate::wire::{arp, frame::Frame, frame::Kind, frame::L4, icmpv6, nd};
use std::net::{Ipv4Addr, Ipv6Addr};
use stopover_config::net::Mac;

/// What every tenant frame must obey, whatever port it comes from.
#[inline]
pub fn station(frame: &Frame) -> Result<(), Drop> {
    if frame.src.is_group() || frame.src.is_zero() {
        return Err(Drop::BadSourceMac);
    }
    if is_link_local_control(frame.dst) {
        return Err(Drop::LinkLocalControl);
    }
    Ok(())
}

/// Whether frames for this address are between neighbouring bridges only: 01:80:c2:00:00:00 to 0f (IEEE 802.1Q table
/// 8-1), and [`VENDOR_CONTROL`]. 01:80:c2:00:00:20 to 2f is not among them: a bridge without the protocol in question
/// (MVRP, MMRP) forwards them (IEEE 802.1Q table 10-1).
#[inline]
fn is_link_local_control(dst: Mac) -> bool {
    let dst = dst.to_u64();
    dst & 0xffff_ffff_fff0 == 0x0180_c200_0000 || is_vendor_control(dst)
}

/// What bridges of two vendors say to their neighbours, as Open vSwitch lists it too (`eth_addr_is_reserved`). Two
/// networks that hear each other's PVST+ or EAPS become one spanning tree or ring, and block ports in both.
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

/// Checks a frame of a guarded vif.
#[inline]
pub fn vif(vif: &Vif, frame: &Frame, head: &[u8]) -> Result<(), Drop> {
    if frame.src != vif.mac {
        return Err(Drop::GuardMac);
    }
    match &frame.kind {
        Kind::Ipv4(ip) if vif.addressed => ipv4(vif, ip.src, frame),
        Kind::Ipv6(ip) if vif.addressed => ipv6(vif, ip.src, frame, head),
        Kind::Ipv4(_) | Kind::Ipv6(_) => Ok(()),
        Kind::Arp => arp_message(vif, frame, head),
        Kind::Rarp | Kind::Other => Ok(()),
    }
}

#[inline]
fn ipv4(vif: &Vif, src: Ipv4Addr, frame: &Frame) -> Result<(), Drop> {
    let asks_dhcp = || matches!(frame.l4, L4::Udp { src_port: 68, dst_port: 67, .. });
    if vif.ipv4.contains(&src) || (src.is_unspecified() && asks_dhcp()) { Ok(()) } else { Err(Drop::GuardIp) }
}

/// What an unspecified source is right for: multicast listener reports (RFC 3590; types 131, 132, 143),
/// looking for a router and duplicate address detection (RFC 4861 section 4.1, RFC 4862 section 5.4.2).
const UNSPECIFIED_MAY: [u8; 5] =
    [131, 132, 143, icmpv6::kind::ROUTER_SOLICIT, icmpv6::kind::NEIGHBOUR_SOLICIT];

fn ipv6(vif: &Vif, src: Ipv6Addr, frame: &Frame, head: &[u8]) -> Result<(), Drop> {
    let L4::Icmpv6 { kind, .. } = frame.l4 else {
        return if vif.ipv6.contains(&src) { Ok(()) } else { Err(Drop::GuardIp) };
    };
    let may = vif.ipv6.contains(&src) || src.is_unspecified() && UNSPECIFIED_MAY.contains(&kind);
    if !may {
        return Err(Drop::GuardIp);
    }
    match nd::parse(frame, head) {
        Ok(nd::Nd::Solicit(ns)) if ns.source_mac.is_some_and(|mac| mac != vif.mac) => Err(Drop::GuardArp),
        Ok(nd::Nd::Advert(na))
            if !vif.ipv6.contains(&na.target) || na.target_mac.is_some_and(|mac| mac != vif.mac) =>
        {
            Err(Drop::GuardArp)
        }
        _ => Ok(()),
    }
}

fn arp_message(vif: &Vif, frame: &Frame, head: &[u8]) -> Result<(), Drop> {
    let arp = arp::parse(frame, head).map_err(|_| Drop::Malformed)?;
    let ip_is_its_own = !vif.addressed || arp.sender_ip.is_unspecified() || vif.ipv4.contains(&arp.sender_ip);
    if arp.sender_mac == vif.mac && ip_is_its_own { Ok(()) } else { Err(Drop::GuardArp) }
}

//! ARP over Ethernet for IPv4 (RFC 826) with the meanings of RFC 5227 (probes and announcements), and the
//! messages Stopover sends itself.

use crate::Mac;
use crate::bytes::{array, at, be16, put};
use crate::ethernet::{self, ethertype};
use crate::frame::{Frame, Kind};
use crate::reason::{Truncated, reasons};
use std::net::Ipv4Addr;

/// Length of an ARP packet for Ethernet and IPv4, in bytes.
pub const PACKET_LEN: usize = 28;
/// Length of an untagged Ethernet frame with one. The port pads it to 60.
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + PACKET_LEN;

mod field {
    pub const HARDWARE: usize = 0;
    pub const PROTOCOL: usize = 2;
    pub const LENGTHS: usize = 4;
    pub const OPERATION: usize = 6;
    pub const SENDER_MAC: usize = 8;
    pub const SENDER_IP: usize = 14;
    pub const TARGET_MAC: usize = 18;
    pub const TARGET_IP: usize = 24;
}

const HARDWARE_ETHERNET: u16 = 1;
const LENGTHS: u16 = 0x0604;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const REVERSE_REQUEST: u16 = 3;

/// View of an ARP packet for Ethernet and IPv4.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a>(&'a [u8; PACKET_LEN]);

impl<'a> Packet<'a> {
    /// The packet at the start of `bytes`; hardware Ethernet, protocol IPv4, address lengths 6 and 4.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Truncated> {
        let p = Self(at(bytes, 0).ok_or(Truncated)?);
        if p.is_ethernet_ipv4() { Ok(p) } else { Err(Truncated) }
    }

    const fn is_ethernet_ipv4(self) -> bool {
        be16::<{ field::HARDWARE }, _>(self.0) == HARDWARE_ETHERNET
            && be16::<{ field::PROTOCOL }, _>(self.0) == ethertype::IPV4
            && be16::<{ field::LENGTHS }, _>(self.0) == LENGTHS
    }

    /// Operation: 1 request, 2 reply, others exist.
    #[must_use]
    pub const fn operation(self) -> u16 {
        be16::<{ field::OPERATION }, _>(self.0)
    }

    /// Sender hardware address.
    #[must_use]
    pub fn sender_mac(self) -> Mac {
        Mac::new(array::<{ field::SENDER_MAC }, 6, _>(self.0))
    }

    /// Sender protocol address.
    #[must_use]
    pub fn sender_ip(self) -> Ipv4Addr {
        Ipv4Addr::from(array::<{ field::SENDER_IP }, 4, _>(self.0))
    }

    /// Target hardware address; ignored in requests.
    #[must_use]
    pub fn target_mac(self) -> Mac {
        Mac::new(array::<{ field::TARGET_MAC }, 6, _>(self.0))
    }

    /// Target protocol address.
    #[must_use]
    pub fn target_ip(self) -> Ipv4Addr {
        Ipv4Addr::from(array::<{ field::TARGET_IP }, 4, _>(self.0))
    }
}

reasons! {
    /// Why an ARP packet is not understood.
    pub enum BadArp {
        /// The frame does not carry ARP, or ends within it.
        Truncated = "arp_truncated",
        /// Not for Ethernet and IPv4.
        NotEthernetIpv4 = "arp_not_ethernet_ipv4",
        /// Neither request nor reply.
        Operation = "arp_operation",
        /// The sender's hardware address is zero or a group: no station's.
        SenderMac = "arp_sender_mac",
    }
}

/// What an ARP packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArpKind {
    /// A request from 0.0.0.0: "is anybody using this address?" (RFC 5227 section 2.1.1). Its sender claims
    /// nothing, and is answered only if the address is in use.
    Probe,
    /// Sender and target address are the same: the sender claims it (RFC 5227 section 2.3). Both the request
    /// form and the reply form ("gratuitous ARP") are in use.
    Announcement,
    /// An ordinary question.
    Request,
    /// An ordinary answer.
    Reply,
}

/// Facts of an ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpFacts {
    /// What it is for.
    pub kind: ArpKind,
    /// It has the form of a reply (operation 2), else of a request (1).
    pub is_reply: bool,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address; 0.0.0.0 in a probe.
    pub sender_ip: Ipv4Addr,
    /// Target hardware address; means nothing in requests.
    pub target_mac: Mac,
    /// Target protocol address.
    pub target_ip: Ipv4Addr,
}

/// Reads the ARP packet of a frame whose first segment is `head`.
pub fn parse(frame: &Frame, head: &[u8]) -> Result<ArpFacts, BadArp> {
    let end = head.len().min(frame.len as usize);
    let bytes = head.get(usize::from(frame.l3_off)..end).filter(|_| frame.kind == Kind::Arp);
    let packet = Packet(bytes.and_then(|b| at(b, 0)).ok_or(BadArp::Truncated)?);
    if !packet.is_ethernet_ipv4() {
        return Err(BadArp::NotEthernetIpv4);
    }
    let is_reply = match packet.operation() {
        REQUEST => false,
        REPLY => true,
        _ => return Err(BadArp::Operation),
    };
    let (sender_mac, sender_ip, target_ip) = (packet.sender_mac(), packet.sender_ip(), packet.target_ip());
    if sender_mac.is_zero() || sender_mac.is_group() {
        return Err(BadArp::SenderMac);
    }
    let kind = if sender_ip.is_unspecified() && !is_reply {
        ArpKind::Probe
    } else if sender_ip == target_ip {
        ArpKind::Announcement
    } else if is_reply {
        ArpKind::Reply
    } else {
        ArpKind::Request
    };
    Ok(ArpFacts { kind, is_reply, sender_mac, sender_ip, target_mac: packet.target_mac(), target_ip })
}

/// The answer to `request` in the name of `owner`, who has the requested address: unicast to the requester.
#[must_use]
pub fn build_reply(request: &ArpFacts, owner: Mac) -> [u8; FRAME_LEN] {
    emit(request.sender_mac, REPLY, (owner, request.target_ip), (request.sender_mac, request.sender_ip))
}

/// A question for `target`'s hardware address. `dst` is broadcast, or the address believed so far, to
/// confirm it (RFC 1122 section 2.3.2.1).
#[must_use]
pub fn build_request(dst: Mac, sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> [u8; FRAME_LEN] {
    emit(dst, REQUEST, sender, (Mac::new([0; 6]), target))
}

/// An announcement that `mac` has `ip`: request form, broadcast (RFC 5227 section 2.3).
#[must_use]
pub fn build_announcement(mac: Mac, ip: Ipv4Addr) -> [u8; FRAME_LEN] {
    emit(Mac::BROADCAST, REQUEST, (mac, ip), (Mac::new([0; 6]), ip))
}

/// A RARP request of `mac` for itself, broadcast (RFC 903): bridges learn from its source where `mac` is, and no
/// station answers. VMMs announce a migrated VM like this.
#[must_use]
pub fn build_rarp(mac: Mac) -> [u8; FRAME_LEN] {
    let nowhere = (mac, Ipv4Addr::UNSPECIFIED);
    let mut out = emit(Mac::BROADCAST, REVERSE_REQUEST, nowhere, nowhere);
    if let Some(eth) = out.first_chunk_mut() {
        ethernet::emit(eth, Mac::BROADCAST, mac, ethertype::RARP);
    }
    out
}

fn emit(dst: Mac, operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> [u8; FRAME_LEN] {
    let mut out = [0; FRAME_LEN];
    if let Some(eth) = out.first_chunk_mut() {
        ethernet::emit(eth, dst, sender.0, ethertype::ARP);
    }
    if let Some(packet) = out.last_chunk_mut::<PACKET_LEN>() {
        put::<{ field::HARDWARE }, 2, _>(packet, HARDWARE_ETHERNET.to_be_bytes());
        put::<{ field::PROTOCOL }, 2, _>(packet, ethertype::IPV4.to_be_bytes());
        put::<{ field::LENGTHS }, 2, _>(packet, LENGTHS.to_be_bytes());
        put::<{ field::OPERATION }, 2, _>(packet, operation.to_be_bytes());
        put::<{ field::SENDER_MAC }, 6, _>(packet, sender.0.octets());
        put::<{ field::SENDER_IP }, 4, _>(packet, sender.1.octets());
        put::<{ field::TARGET_MAC }, 6, _>(packet, target.0.octets());
        put::<{ field::TARGET_IP }, 4, _>(packet, target.1.octets());
    }
    out
}

//! A tenant's Ethernet frame, parsed once into facts and offsets. Every later stage uses [`Frame`] and does
//! not read header bytes again.
//!
//! The frame may be spread over several segments; only its headers must lie in the first. A frame whose
//! headers contradict its length is refused ([`BadFrame`]); anything unknown is `Other` and forwarded as Ethernet.

mod parser;

pub use parser::parse;

use crate::Mac;
use crate::ethernet::{self, Tag};
use crate::ipv6;
use crate::reason::reasons;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

reasons! {
    /// Why a frame is not forwarded at all.
    pub enum BadFrame {
        /// Shorter than its Ethernet header, or ends within its VLAN tag.
        Runt = "runt",
        /// The headers are complete, but not all in the first segment.
        HeadersSplit = "headers_split",
        /// The frame ends within the IPv4 header.
        Ipv4Truncated = "ipv4_truncated",
        /// EtherType IPv4, but the version field is not 4.
        Ipv4Version = "ipv4_version",
        /// IPv4 header length below 20 bytes or beyond the total length.
        Ipv4HeaderLength = "ipv4_header_length",
        /// IPv4 total length beyond the end of the frame.
        Ipv4Overrun = "ipv4_overrun",
        /// The frame ends within the IPv6 header.
        Ipv6Truncated = "ipv6_truncated",
        /// EtherType IPv6, but the version field is not 6.
        Ipv6Version = "ipv6_version",
        /// IPv6 payload length beyond the end of the frame.
        Ipv6Overrun = "ipv6_overrun",
        /// An IPv6 extension header reaches beyond the payload length.
        Ipv6Extension = "ipv6_extension",
        /// More IPv6 extension headers than [`MAX_EXTENSIONS`].
        Ipv6Extensions = "ipv6_extensions",
    }
}

/// Extension headers walked before giving up. RFC 8200 section 4.1 recommends an order with at most seven.
pub const MAX_EXTENSIONS: usize = 8;

/// Place of a packet in a fragmented datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// Not fragmented (an IPv6 "atomic fragment", RFC 6946, counts as this).
    Whole,
    /// The first of several: has the L4 header, but not all of the data.
    First,
    /// Another: has no L4 header.
    Later,
}

/// Facts of an IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4 {
    /// Header length with options, in bytes: 20 to 60.
    pub hdr_len: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of header and payload in bytes; the frame is at least that long.
    pub total_len: u16,
    /// Protocol of the payload.
    pub proto: u8,
    /// Time to live.
    pub ttl: u8,
    /// "Don't fragment" is set.
    pub df: bool,
    /// Place in a fragmented datagram.
    pub fragment: Fragment,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

/// Facts of an IPv6 header and its extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6 {
    /// Length of all after the fixed header in bytes; the frame is at least that long.
    pub payload_len: u16,
    /// Length of the extension headers walked, in bytes.
    pub ext_len: u16,
    /// Traffic class: DSCP and ECN.
    pub tclass: u8,
    /// Type of what follows the extension headers: the L4 protocol.
    pub proto: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// A routing header with segments left: `dst` is not the final destination.
    pub routing: bool,
    /// Place in a fragmented datagram.
    pub fragment: Fragment,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
}

/// What the frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything Stopover does not look into; also anything after a second VLAN tag.
    Other,
    /// ARP; see [`crate::arp::parse`].
    Arp,
    /// Reverse ARP.
    Rarp,
    /// IPv4.
    Ipv4(Ipv4),
    /// IPv6.
    Ipv6(Ipv6),
}

/// What an IP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4 {
    /// No L4 header in this frame: not IP, a later fragment, or IPv6 "no next header".
    None,
    /// TCP.
    Tcp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Header length with options, in bytes: 20 to 60, all in the frame.
        hdr_len: u8,
        /// Control bits, see [`crate::tcp::flag`].
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Length of header and data in bytes; for a whole datagram, all in the frame.
        len: u16,
    },
    /// ICMP over IPv4.
    Icmp {
        /// Message type, see [`crate::icmpv4::kind`].
        kind: u8,
        /// Message code.
        code: u8,
    },
    /// ICMPv6 over IPv6.
    Icmpv6 {
        /// Message type, see [`crate::icmpv6::kind`].
        kind: u8,
        /// Message code.
        code: u8,
    },
    /// Another protocol.
    Other,
    /// TCP, UDP or ICMP whose header does not fit or whose length field is wrong. It can be forwarded as
    /// Ethernet; nothing may be computed from it.
    Malformed,
}

/// Facts of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Destination address.
    pub dst: Mac,
    /// Source address, not checked: see [`Mac::is_group`] before learning it.
    pub src: Mac,
    /// The outermost VLAN tag.
    pub vlan: Option<Tag>,
    /// Another tag follows the first; `ethertype` is that tag's.
    pub double_tagged: bool,
    /// EtherType after the (outermost) tag; a length if below 0x600.
    pub ethertype: u16,
    /// Where the payload begins: 14, or 18 behind a tag.
    pub l3_off: u16,
    /// Where the L4 header begins, if there is one in this frame.
    pub l4_off: Option<u16>,
    /// Length of the frame in bytes, over all segments, with padding.
    pub len: u32,
    /// What the frame carries.
    pub kind: Kind,
    /// What its IP packet carries.
    pub l4: L4,
}

impl Frame {
    /// End of the IP packet from the start of the frame; the end of the frame if it is not IP. Padding follows.
    #[inline]
    #[must_use]
    pub const fn l3_end(&self) -> usize {
        let l3 = self.l3_off as usize;
        match &self.kind {
            Kind::Ipv4(ip) => l3 + ip.total_len as usize,
            Kind::Ipv6(ip) => l3 + ipv6::HEADER_LEN + ip.payload_len as usize,
            _ => self.len as usize,
        }
    }

    /// DSCP and ECN byte, if IP.
    #[inline]
    #[must_use]
    pub const fn tos(&self) -> Option<u8> {
        match &self.kind {
            Kind::Ipv4(ip) => Some(ip.tos),
            Kind::Ipv6(ip) => Some(ip.tclass),
            _ => None,
        }
    }

    /// Source and destination address, if IP.
    #[inline]
    #[must_use]
    pub const fn ips(&self) -> Option<(IpAddr, IpAddr)> {
        match &self.kind {
            Kind::Ipv4(ip) => Some((IpAddr::V4(ip.src), IpAddr::V4(ip.dst))),
            Kind::Ipv6(ip) => Some((IpAddr::V6(ip.src), IpAddr::V6(ip.dst))),
            _ => None,
        }
    }

    /// Length of the IP packet in bytes (what an MTU limits); of all after the Ethernet header if not IP.
    #[inline]
    #[must_use]
    pub const fn l3_len(&self) -> usize {
        self.l3_end().saturating_sub(self.l3_off as usize)
    }

    /// The facts of the same frame after its outermost tag was removed (`None`), added or exchanged.
    /// Only for frames with at most one tag; a second one would become the first.
    #[inline]
    #[must_use]
    pub const fn retagged(mut self, tag: Option<Tag>) -> Self {
        if self.vlan.is_some() {
            self = self.without_tag();
        }
        if tag.is_some() {
            self.l3_off += ethernet::TAG_LEN as u16;
            self.len += ethernet::TAG_LEN as u32;
            if let Some(off) = self.l4_off {
                self.l4_off = Some(off + ethernet::TAG_LEN as u16);
            }
        }
        self.vlan = tag;
        self
    }

    #[inline]
    const fn without_tag(mut self) -> Self {
        self.l3_off = self.l3_off.saturating_sub(ethernet::TAG_LEN as u16);
        self.len = self.len.saturating_sub(ethernet::TAG_LEN as u32);
        if let Some(off) = self.l4_off {
            self.l4_off = Some(off.saturating_sub(ethernet::TAG_LEN as u16));
        }
        self
    }
}

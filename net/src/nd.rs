//! IPv6 neighbour discovery (RFC 4861): solicitations and advertisements read with every check of sections
//! 7.1.1 and 7.1.2, duplicate address detection (RFC 4862 section 5.4) recognised, and the messages Stopover
//! sends itself. Router messages are only recognised.

use crate::Mac;
use crate::bytes::{array, at, byte, put};
use crate::checksum::Sum;
use crate::ethernet::{self, ethertype};
use crate::frame::{Fragment, Frame, Kind, L4};
use crate::icmpv6::{self, kind};
use crate::ipv4::protocol;
use crate::ipv6;
use crate::l4_checksum::{L4Check, check_l4};
use crate::reason::reasons;
use arrayvec::ArrayVec;
use std::net::Ipv6Addr;

/// A finished Ethernet frame with an ND message.
pub type NdFrame = ArrayVec<u8, 128>;

/// "a packet could not possibly have been forwarded by a router" (RFC 4861 section 3.1).
const HOP_LIMIT: u8 = 255;
/// ICMPv6 header, flags word and target.
const MESSAGE_LEN: usize = 24;
/// One link-layer address option.
const OPTION_LEN: usize = 8;
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;
const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

mod field {
    pub const KIND: usize = 0;
    pub const CODE: usize = 1;
    pub const FLAGS: usize = 4;
    pub const TARGET: usize = 8;
}

reasons! {
    /// Why an ND message is discarded silently (RFC 4861 section 7.1).
    pub enum BadNd {
        /// Not a whole ICMPv6 packet with an ND type.
        NotNd = "nd_not_nd",
        /// The message is not all in the first segment.
        Split = "nd_split",
        /// Hop limit not 255.
        HopLimit = "nd_hop_limit",
        /// ICMPv6 checksum wrong.
        Checksum = "nd_checksum",
        /// Code not 0.
        Code = "nd_code",
        /// Shorter than 24 bytes.
        Length = "nd_length",
        /// Target is a multicast address.
        TargetMulticast = "nd_target_multicast",
        /// An option of length 0, or one that reaches beyond the message.
        Option = "nd_option",
        /// A link-layer address that is zero or a group: no station's.
        LinkLayer = "nd_link_layer",
        /// From `::` but not to a solicited-node address, or with a source link-layer address.
        Dad = "nd_dad",
        /// An advertisement to a multicast address with the solicited flag.
        SolicitedMulticast = "nd_solicited_multicast",
    }
}

/// A neighbour solicitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solicit {
    /// IPv6 source; `::` in duplicate address detection.
    pub src: Ipv6Addr,
    /// IPv6 destination: the target, or its solicited-node address.
    pub dst: Ipv6Addr,
    /// The requested address.
    pub target: Ipv6Addr,
    /// Source link-layer address option.
    pub source_mac: Option<Mac>,
    /// The sender probes whether the address is free (RFC 4862 section 5.4.2); it has none yet itself.
    pub dad: bool,
}

/// A neighbour advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advert {
    /// IPv6 source.
    pub src: Ipv6Addr,
    /// IPv6 destination: the asker, or all nodes.
    pub dst: Ipv6Addr,
    /// The address advertised.
    pub target: Ipv6Addr,
    /// Target link-layer address option.
    pub target_mac: Option<Mac>,
    /// The sender is a router.
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It overrides what is cached.
    pub overrides: bool,
}

/// An ND message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nd {
    /// Neighbour solicitation.
    Solicit(Solicit),
    /// Neighbour advertisement.
    Advert(Advert),
    /// Router solicitation (not looked into).
    RouterSolicit,
    /// Router advertisement (not looked into).
    RouterAdvert,
    /// Redirect (not looked into).
    Redirect,
}

/// Reads the ND message of a frame whose first segment is `head`.
pub fn parse(frame: &Frame, head: &[u8]) -> Result<Nd, BadNd> {
    let (Kind::Ipv6(ip), L4::Icmpv6 { kind, code }, Some(l4)) = (&frame.kind, frame.l4, frame.l4_off) else {
        return Err(BadNd::NotNd);
    };
    if ip.fragment != Fragment::Whole || !icmpv6::is_nd(kind) {
        return Err(BadNd::NotNd);
    }
    let message = head.get(usize::from(l4)..frame.l3_end()).ok_or(BadNd::Split)?;
    if ip.hop_limit != HOP_LIMIT {
        return Err(BadNd::HopLimit);
    }
    if check_l4(frame, std::iter::once(head)) != L4Check::Good {
        return Err(BadNd::Checksum);
    }
    if code != 0 {
        return Err(BadNd::Code);
    }
    match kind {
        kind::ROUTER_SOLICIT => return Ok(Nd::RouterSolicit),
        kind::ROUTER_ADVERT => return Ok(Nd::RouterAdvert),
        kind::REDIRECT => return Ok(Nd::Redirect),
        _ => {}
    }
    let (fixed, options) = message.split_first_chunk::<MESSAGE_LEN>().ok_or(BadNd::Length)?;
    let target = Ipv6Addr::from(array::<{ field::TARGET }, 16, _>(fixed));
    if target.is_multicast() {
        return Err(BadNd::TargetMulticast);
    }
    if kind == kind::NEIGHBOUR_SOLICIT {
        let source_mac = link_layer(options, OPTION_SOURCE)?;
        let dad = ip.src.is_unspecified();
        if dad && (source_mac.is_some() || ip.dst != ipv6::solicited_node(ip.dst)) {
            return Err(BadNd::Dad);
        }
        return Ok(Nd::Solicit(Solicit { src: ip.src, dst: ip.dst, target, source_mac, dad }));
    }
    let flags = byte::<{ field::FLAGS }, _>(fixed);
    let solicited = flags & FLAG_SOLICITED != 0;
    if solicited && ip.dst.is_multicast() {
        return Err(BadNd::SolicitedMulticast);
    }
    Ok(Nd::Advert(Advert {
        src: ip.src,
        dst: ip.dst,
        target,
        target_mac: link_layer(options, OPTION_TARGET)?,
        router: flags & FLAG_ROUTER != 0,
        solicited,
        overrides: flags & FLAG_OVERRIDE != 0,
    }))
}

/// Walks all options (each must be sound: RFC 4861 section 7.1) and returns the first link-layer address of
/// the wanted type.
fn link_layer(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, BadNd> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let len = usize::from(units) * 8;
        if len == 0 {
            return Err(BadNd::Option);
        }
        let (option, rest) = options.split_at_checked(len).ok_or(BadNd::Option)?;
        if kind == wanted && found.is_none() {
            let mac = Mac::new(*at(option, 2).ok_or(BadNd::Option)?);
            if mac.is_zero() || mac.is_group() {
                return Err(BadNd::LinkLayer);
            }
            found = Some(mac);
        }
        options = rest;
    }
    if options.is_empty() { Ok(found) } else { Err(BadNd::Option) }
}

/// Contents of a neighbour advertisement that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvertSpec {
    /// Ethernet source and target link-layer address: the owner of the address.
    pub owner: Mac,
    /// Ethernet destination.
    pub dst_mac: Mac,
    /// IPv6 source; normally the target.
    pub src: Ipv6Addr,
    /// IPv6 destination.
    pub dst: Ipv6Addr,
    /// The address advertised.
    pub target: Ipv6Addr,
    /// The owner is a router.
    pub router: bool,
    /// It answers a solicitation; not with a multicast destination.
    pub solicited: bool,
    /// It overrides what is cached.
    pub overrides: bool,
}

/// Builds a neighbour advertisement.
#[must_use]
pub fn build_advert(spec: &AdvertSpec) -> NdFrame {
    let flags = if spec.router { FLAG_ROUTER } else { 0 }
        | if spec.solicited { FLAG_SOLICITED } else { 0 }
        | if spec.overrides { FLAG_OVERRIDE } else { 0 };
    build(&Message {
        macs: (spec.dst_mac, spec.owner),
        ips: (spec.src, spec.dst),
        kind: kind::NEIGHBOUR_ADVERT,
        flags,
        target: spec.target,
        option: Some((OPTION_TARGET, spec.owner)),
    })
}

/// The answer to `solicit`, received in `frame`, in the name of `owner`, who has the target. To the requester,
/// solicited and overriding; to a duplicate address probe, to all nodes and unsolicited, as the prober has no
/// address yet (RFC 4861 section 7.2.4).
#[must_use]
pub fn build_answer(solicit: &Solicit, frame: &Frame, owner: Mac, router: bool) -> NdFrame {
    let (dst, dst_mac) = if solicit.dad {
        (ipv6::ALL_NODES, ipv6::multicast_mac(ipv6::ALL_NODES))
    } else {
        (solicit.src, frame.src)
    };
    build_advert(&AdvertSpec {
        owner,
        dst_mac,
        src: solicit.target,
        dst,
        target: solicit.target,
        router,
        solicited: !solicit.dad,
        overrides: true,
    })
}

/// An unsolicited announcement to all nodes that `owner` has `ip` (RFC 4861 section 7.2.6).
#[must_use]
pub fn build_announcement(owner: Mac, ip: Ipv6Addr, router: bool) -> NdFrame {
    build_advert(&AdvertSpec {
        owner,
        dst_mac: ipv6::multicast_mac(ipv6::ALL_NODES),
        src: ip,
        dst: ipv6::ALL_NODES,
        target: ip,
        router,
        solicited: false,
        overrides: true,
    })
}

/// A solicitation for `target` from `sender`: multicast to its solicited-node address, or unicast to the
/// address believed so far, to confirm it. From `::` it is a duplicate address probe and carries no
/// link-layer address.
#[must_use]
pub fn build_solicit(sender: (Mac, Ipv6Addr), target: Ipv6Addr, confirm: Option<Mac>) -> NdFrame {
    let group = ipv6::solicited_node(target);
    let (dst_mac, dst) = match confirm {
        Some(mac) => (mac, target),
        None => (ipv6::multicast_mac(group), group),
    };
    build(&Message {
        macs: (dst_mac, sender.0),
        ips: (sender.1, dst),
        kind: kind::NEIGHBOUR_SOLICIT,
        flags: 0,
        target,
        option: (!sender.1.is_unspecified()).then_some((OPTION_SOURCE, sender.0)),
    })
}

/// Parts of an ND message that differ.
struct Message {
    /// Ethernet destination and source.
    macs: (Mac, Mac),
    /// IPv6 source and destination.
    ips: (Ipv6Addr, Ipv6Addr),
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    /// Type and address of a link-layer address option.
    option: Option<(u8, Mac)>,
}

fn build(message: &Message) -> NdFrame {
    let mut body = [0; MESSAGE_LEN + OPTION_LEN];
    put::<{ field::KIND }, 1, _>(&mut body, [message.kind]);
    put::<{ field::CODE }, 1, _>(&mut body, [0]);
    put::<{ field::FLAGS }, 1, _>(&mut body, [message.flags]);
    put::<{ field::TARGET }, 16, _>(&mut body, message.target.octets());
    let len = match message.option {
        Some((kind, mac)) => {
            put::<MESSAGE_LEN, 2, _>(&mut body, [kind, 1]);
            put::<{ MESSAGE_LEN + 2 }, 6, _>(&mut body, mac.octets());
            MESSAGE_LEN + OPTION_LEN
        }
        None => MESSAGE_LEN,
    };
    let mut sum = Sum::pseudo_v6(message.ips.0, message.ips.1, protocol::ICMPV6, len as u32);
    sum.add(body.get(..len).unwrap_or_default());
    put::<{ icmpv6::CHECKSUM_AT }, 2, _>(&mut body, sum.finish().to_be_bytes());

    let mut eth = [0; ethernet::HEADER_LEN];
    ethernet::emit(&mut eth, message.macs.0, message.macs.1, ethertype::IPV6);
    let mut ip = [0; ipv6::HEADER_LEN];
    let spec = ipv6::Spec {
        traffic_class: 0,
        payload_len: len as u16,
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        src: message.ips.0,
        dst: message.ips.1,
    };
    ipv6::emit(&mut ip, &spec);
    eth.into_iter().chain(ip).chain(body).take(eth.len() + ip.len() + len).collect()
}

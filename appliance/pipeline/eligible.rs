//! Eligible: which frames take the fast path. Enters: a frame and the port that it came from. Leaves: what the fast path
//! needs of it; or nothing, then it takes the slow path, which decides about it.
//!
//! [`eligible`] is the whole condition, for one frame. The fast path asks for its parts in passes over a burst: the port
//! ([`ingress`]), the frame ([`admitted`], [`opened`]), and, with what the tables have, the source behind a segment
//! ([`PackedFdbEntry::station_at_rest`]) and the destination ([`Admitted::path_of`], [`Admitted::port_of`],
//! [`port_of_inner`]). The rules are those of the stages: what a stage refuses or treats in another way is not eligible.
//! Where a stage has a predicate it is used here.
//!
//! The most frequent kind, untagged IPv4 at a vif and in an untagged underlay, has parts of its own: [`sent`],
//! [`received`], [`path_to_host`], [`port_of_sent`], [`port_of_received`]. They accept less, and cost less. There two rules
//! are written a second time, because the parser compares many header fields with few instructions: that a source is a
//! station ([`guard::check_addresses`]) and from its vif ([`guard::check_vif`]). `tests/eligible.rs` compares all that is
//! eligible with the slow path.

use super::{
    encap::Flow,
    guard,
    packet::{Packet, TxOffload},
    ports::{Network, Port, Role, Segment, Underlay, Vif},
    too_big::fits,
};
use crate::tables::{
    View,
    entries::{Path, Seal, SlotEntry},
    packed::{Bd, PackedFdbEntry, node_key},
    peer::PackedVtep,
};
use std::net::IpAddr;
use stopover_net::{
    ecn, ethernet,
    fast_parse::{self, Datagram, Received, Sender, Sent, Sent6, Transport, Tunnel},
    flow,
    underlay::is_martian,
};

/// Whether a frame takes the fast path: an ordinary frame from a vif, or from a known station behind a segment, or an
/// ordinary tunnel datagram, for one node that is not migrating, by a path or port that it fits.
#[must_use]
pub fn eligible<P: Packet>(view: &View, ports: &[Port], port: u16, packet: &P) -> bool {
    match ingress(ports, port) {
        Some(Ingress::Tenant(from)) => admitted(from, packet).is_some_and(|frame| {
            let mut station = [0];
            view.lookup_locals(&[frame.source], &mut station);
            let is_known = PackedFdbEntry(station[0]).station_at_rest(port, frame.vlan).is_some();
            let mut word = [0];
            view.lookup_nodes(&[frame.destination], &mut word);
            let word = PackedFdbEntry(word[0]);
            let len = frame.untagged_len(packet);
            (is_known || !from.learns())
                && match word.slot_at_rest().and_then(|slot| view.slot(slot)) {
                    Some(entry) => frame.path_of(entry, len).is_some(),
                    None => frame.port_of(ports, port, word, len).is_some(),
                }
        }),
        Some(Ingress::Underlay(own)) => opened(own, packet).is_some_and(|(datagram, inner)| {
            let Datagram { src, dst, vni, inner_len, .. } = datagram;
            let sender = view.vtep(src).filter(|_| !is_martian(src));
            let is_ours = own.has_address(dst) && sender.is_some_and(PackedVtep::accepts_plain);
            view.plain_bd_of(vni).filter(|_| is_ours).is_some_and(|bd| {
                let is_local = view.lookup_locals(&[node_key(bd, inner.src)], &mut [0]) != 0;
                let word = view.packed_fdb_entry(bd, inner.dst);
                !is_local && port_of_inner(ports, word, inner_len.into()).is_some()
            })
        }),
        None => false,
    }
}

/// A port whose frames may be eligible.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ingress<'a> {
    Tenant(Tenant<'a>),
    Underlay(&'a Underlay),
}

/// A port of a tenant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tenant<'a> {
    Vif(&'a Vif),
    Segment(&'a Segment),
}

impl Tenant<'_> {
    /// Whether its stations are learned, so that only known ones are eligible.
    #[inline(always)]
    pub fn learns(self) -> bool {
        matches!(self, Self::Segment(_))
    }
}

#[inline(always)]
pub(super) fn ingress(ports: &[Port], port: u16) -> Option<Ingress<'_>> {
    Some(match &ports.get(usize::from(port))?.role {
        Role::Vif(vif) => Ingress::Tenant(Tenant::Vif(vif)),
        Role::Segment(segment) => Ingress::Tenant(Tenant::Segment(segment)),
        Role::Underlay(own) => Ingress::Underlay(own),
        Role::Absent => return None,
    })
}

/// Work that the sender of a frame left to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    Nothing,
    Checksum,
    /// Segments of so many bytes of TCP data, and their checksums.
    Segments(u16),
}

/// How it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    Nothing,
    /// The checksum is computed here.
    Checksum,
    /// The sending device does it.
    ByDevice,
}

impl Unfinished {
    /// Nothing if the device reported a bad checksum or stripped a tag.
    #[inline(always)]
    fn of<P: Packet>(packet: &P) -> Option<Self> {
        if packet.is_plain() {
            return Some(Self::Nothing);
        }
        if packet.checksum_bad() || packet.stripped_vlan().is_some() {
            return None;
        }
        Some(packet.gso_size().map_or(Self::Checksum, Self::Segments))
    }
}

/// An ordinary frame that its port may send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admitted {
    pub bd: Bd,
    /// Keys of its addresses.
    pub source: u64,
    pub destination: u64,
    /// With the priority of its tag.
    pub flow: Flow,
    /// The VLAN of its tag; 0 for none.
    pub vlan: u16,
    pub is_tagged: bool,
    pub unfinished: Unfinished,
    /// In the frame without its tag.
    pub transport: Transport,
}

/// A frame from a tenant: ordinary ([`fast_parse::tenant`]), in a network of the port, from addresses that the guard
/// accepts. A tag is eligible from a segment only.
#[inline(always)]
pub(super) fn admitted<P: Packet>(from: Tenant<'_>, packet: &P) -> Option<Admitted> {
    admitted_by(from, packet, network)
}

/// The network of a VLAN (0 for untagged) of a segment, unless the segment is blocked for it.
#[inline(always)]
pub(super) fn network(segment: &Segment, vlan: u16) -> Option<Network> {
    segment.network(vlan).filter(|_| !segment.gate.is_blocked(vlan))
}

/// As [`admitted`], with a faster [`network`].
#[inline(always)]
pub(super) fn admitted_by<P: Packet>(
    from: Tenant<'_>,
    packet: &P,
    network: impl FnOnce(&Segment, u16) -> Option<Network>,
) -> Option<Admitted> {
    let frame = fast_parse::tenant(packet.head(), packet.len())?;
    let unfinished = Unfinished::of(packet)?;
    let tci = frame.tci.unwrap_or(0);
    let vlan = tci & 0xfff;
    let network = match from {
        Tenant::Vif(vif) => {
            let may = frame.tci.is_none() && (!vif.guard || is_from(vif, &frame));
            may.then_some(vif.network)?
        }
        Tenant::Segment(segment) => network(segment, vlan)?,
    };
    let is_segmentable = frame.transport.tcp || !matches!(unfinished, Unfinished::Segments(_));
    if frame.src.is_zero() || !is_segmentable {
        return None;
    }
    let (source_port, priority) = (flow::source_port(frame.flow), (tci >> 12) as u8);
    Some(Admitted {
        bd: network.bd,
        source: node_key(network.bd, frame.src),
        destination: node_key(network.bd, frame.dst),
        flow: Flow { vni: network.vni, source_port, tos: frame.tos, priority },
        vlan,
        is_tagged: frame.tci.is_some(),
        unfinished,
        transport: frame.transport,
    })
}

/// Whether the guard accepts a frame without further rules: from an address of the vif, and not from a DHCP server.
#[inline(always)]
fn is_from(vif: &Vif, frame: &fast_parse::TenantFrame) -> bool {
    let (owns, dhcp_server) = match frame.src_ip {
        IpAddr::V4(ip) => (guard::owns4(vif, frame.src, ip), guard::DHCP_SERVER),
        IpAddr::V6(ip) => (guard::owns6(vif, frame.src, ip), guard::DHCPV6_SERVER),
    };
    owns && (frame.transport.tcp || frame.src_port != dhcp_server)
}

impl Admitted {
    /// Length in bytes of the frame without its tag.
    #[inline(always)]
    pub fn untagged_len<P: Packet>(&self, packet: &P) -> usize {
        packet.len() - if self.is_tagged { ethernet::TAG_LEN } else { 0 }
    }

    /// The path of a slot, if there is one and the frame of `len` bytes without its tag fits. Segmentation is for the
    /// slow path.
    #[inline(always)]
    pub fn path_of<'e>(&self, entry: &'e SlotEntry, len: usize) -> Option<&'e Path> {
        path_to_host(entry, len).filter(|_| !matches!(self.unfinished, Unfinished::Segments(_)))
    }

    /// The port and VLAN of its destination, if it is at another port, is not migrating, and the frame of `len` bytes
    /// without its tag fits, or each of its segments. Segmentation is for the slow path unless the device does it.
    #[inline(always)]
    pub fn port_of(
        &self,
        ports: &[Port],
        from: u16,
        word: PackedFdbEntry,
        len: usize,
    ) -> Option<(u16, u16, Finish)> {
        let (port, vlan) = word.local_port()?;
        let to = ports.get(usize::from(port)).filter(|_| port != from)?;
        // A tag shifts the headers, and few devices finish a checksum behind one.
        let by_device = vlan == 0 && to.fills_checksums;
        let (finish, longest) = match self.unfinished {
            Unfinished::Nothing => (Finish::Nothing, len),
            Unfinished::Checksum if by_device => (Finish::ByDevice, len),
            Unfinished::Checksum => (Finish::Checksum, len),
            Unfinished::Segments(size) if by_device && to.segments_tcp => {
                (Finish::ByDevice, self.headers_len() + usize::from(size))
            }
            Unfinished::Segments(_) => return None,
        };
        fits(longest, to.mtu).then_some((port, vlan, finish))
    }

    fn headers_len(&self) -> usize {
        usize::from(self.transport.start) + usize::from(self.transport.header_len)
    }

    /// What [`Finish::ByDevice`] requests.
    pub fn tx_offload(&self) -> TxOffload {
        let Transport { ipv6, tcp, start, header_len, .. } = self.transport;
        let gso_size = match self.unfinished {
            Unfinished::Segments(size) => size,
            Unfinished::Nothing | Unfinished::Checksum => 0,
        };
        let l2_len = ethernet::HEADER_LEN as u8;
        TxOffload { l2_len, l3_len: start - u16::from(l2_len), l4_len: header_len, ipv6, tcp, gso_size }
    }
}

/// A datagram for the MAC of the port: ordinary ([`fast_parse::datagram`]), with the right checksum, without a mark of a
/// device, around an ordinary frame ([`fast_parse::received`]) whose congestion mark does not change.
#[inline(always)]
pub(super) fn opened<P: Packet>(own: &Underlay, packet: &P) -> Option<(Datagram, Received)> {
    let head = packet.head();
    let datagram = fast_parse::datagram(head, packet.len(), own.vlan, own.udp_port)?;
    let inner = head.get(usize::from(datagram.inner_off)..)?.get(..usize::from(datagram.inner_len))?;
    let inner = fast_parse::received(inner)?;
    let keeps_ecn = ecn::decap(datagram.tos, inner.tos) == ecn::Decap::Keep;
    let for_us = datagram.dst_mac == own.mac && !inner.src.is_zero() && keeps_ecn && packet.is_plain();
    let valid = |datagram: &Datagram| match datagram.has_checksum {
        true => datagram.checksum_ok(head),
        false => datagram.src.is_ipv4() || own.udp6_zero_checksum,
    };
    (for_us && valid(&datagram)).then_some((datagram, inner))
}

/// The port and VLAN of the destination of a frame from the underlay, if it is at this host, is not migrating, and the
/// frame fits.
#[inline(always)]
pub(super) fn port_of_inner(ports: &[Port], word: PackedFdbEntry, len: usize) -> Option<(u16, u16)> {
    let (port, vlan) = word.local_port()?;
    fits(len, ports.get(usize::from(port))?.mtu).then_some((port, vlan))
}

/// Whether a burst probably has datagrams of the most frequent kind: its first one may be one.
#[inline(always)]
pub(super) fn begins_with_ipv4<P: Packet>(burst: &[P]) -> bool {
    burst.first().is_some_and(|packet| ethertype(packet) == Some(ethernet::ethertype::IPV4))
}

/// As it is in an untagged frame.
#[inline(always)]
fn ethertype<P: Packet>(packet: &P) -> Option<u16> {
    packet.head().get(12..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Kinds of frames of a vif that have an instance of the passes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FromVif {
    Ipv4,
    Ipv6,
    /// With checksums that are left to the device.
    UnfinishedIpv4,
    UnfinishedIpv6,
}

/// The kind that a burst probably has: its first frame may be of it.
#[inline(always)]
pub(super) fn kind_from_vif<P: Packet>(burst: &[P]) -> Option<FromVif> {
    let packet = burst.first()?;
    match (ethertype(packet)?, packet.is_plain()) {
        (ethernet::ethertype::IPV4, true) => Some(FromVif::Ipv4),
        (ethernet::ethertype::IPV6, true) => Some(FromVif::Ipv6),
        (ethernet::ethertype::IPV4, false) => Some(FromVif::UnfinishedIpv4),
        (ethernet::ethertype::IPV6, false) => Some(FromVif::UnfinishedIpv6),
        _ => None,
    }
}

/// The source addresses that are eligible from a vif, for [`sent`].
pub(super) fn sender(vif: &Vif) -> Sender {
    match vif.guard {
        // For a vif with one address the comparison needs no loop.
        true if vif.addressed => Sender::from_mac(vif.mac).with_expected_ip(vif.ipv4.first().copied()),
        true => Sender::from_mac(vif.mac),
        false => Sender::any(),
    }
}

/// A frame of a vif: ordinary ([`fast_parse::sent`]), from an address that the guard accepts.
#[inline(always)]
pub(super) fn sent(vif: &Vif, sender: &Sender, head: &[u8], len: usize) -> Option<Sent> {
    let sent = fast_parse::sent(head, len, sender)?;
    let may = sent.expected || guard::owns4(vif, sent.src, sent.src_ip);
    (may && !sent.src.is_zero()).then_some(sent)
}

/// As [`sent`], over IPv6. `sender`: [`Sender::over_ipv6`].
#[inline(always)]
pub(super) fn sent6(vif: &Vif, sender: &Sender, head: &[u8], len: usize) -> Option<Sent6> {
    let sent = fast_parse::sent6(head, len, sender)?;
    let is_first = vif.ipv6.first() == Some(&sent.src_ip) || !vif.guard;
    ((is_first || guard::owns6(vif, sent.src, sent.src_ip)) && !sent.src.is_zero()).then_some(sent)
}

/// A datagram for the MAC of the port: ordinary ([`fast_parse::tunnel`]), without a mark of a device, around an ordinary
/// frame ([`fast_parse::received`]) whose congestion mark does not change.
#[inline(always)]
pub(super) fn received<P: Packet>(own: &Underlay, packet: &P) -> Option<(Tunnel, Received)> {
    let head = packet.head();
    let tunnel = fast_parse::tunnel(head, packet.len(), own.udp_port)?;
    let inner = fast_parse::received(head.get(fast_parse::TUNNEL_LEN..)?.get(..tunnel.inner_len)?)?;
    let keeps_ecn = ecn::decap(tunnel.tos, inner.tos) == ecn::Decap::Keep;
    (tunnel.dst_mac == own.mac && !inner.src.is_zero() && keeps_ecn && packet.is_plain())
        .then_some((tunnel, inner))
}

/// The path of a slot, if there is one and a frame of `len` bytes fits.
#[inline(always)]
pub(super) fn path_to_host(entry: &SlotEntry, len: usize) -> Option<&Path> {
    entry.path.as_ref().filter(|path| fits(len, path.inner_mtu) && path.seal == Seal::None)
}

/// The port and VLAN of the destination of a frame of a vif, if it is at another port, is not migrating, and the frame
/// fits.
#[inline(always)]
pub(super) fn port_of_sent(
    ports: &[Port],
    from: u16,
    word: PackedFdbEntry,
    len: usize,
) -> Option<(u16, u16)> {
    let (port, vlan) = word.local_port()?;
    let takes = |to: &Port| port != from && fits(len, to.mtu);
    ports.get(usize::from(port)).is_some_and(takes).then_some((port, vlan))
}

/// As [`port_of_inner`], if its tag needs no priority.
#[inline(always)]
pub(super) fn port_of_received(
    ports: &[Port],
    own: &Underlay,
    word: PackedFdbEntry,
    len: usize,
) -> Option<(u16, u16)> {
    let (port, vlan) = word.local_port()?;
    let needs_priority = vlan != 0 && own.pcp;
    (!needs_priority && fits(len, ports.get(usize::from(port))?.mtu)).then_some((port, vlan))
}

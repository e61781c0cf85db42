//! Eligible: which frames take the fast path. Enters: a frame and the port that it came from. Leaves: what the fast path
//! needs of it; or nothing, then it takes the slow path, which decides about it.
//!
//! [`eligible`] is the whole condition, for one frame. The fast path asks for its parts in passes over a burst: the port
//! ([`ingress`]), the frame ([`sent`], [`opened`]), and, with what the tables have, the destination ([`path_to_host`],
//! [`port_of_sent`], [`port_of_inner`]). The rules are those of the stages: what a stage refuses or treats in another
//! way is not eligible. Where a stage has a predicate it is used here. Two are written twice, because the parser of the
//! fast path compares many header fields with few instructions: that a source is a station ([`guard::check_addresses`])
//! and from its vif ([`guard::check_vif`]). `tests/eligible.rs` compares all that is eligible with the slow path.
//!
//! The most frequent kind of datagram, untagged IPv4 without checksum, has parts of its own: [`received`] and
//! [`port_of_received`]. They accept less, and cost less.

use super::{
    guard,
    packet::Packet,
    ports::{Port, Role, Underlay, Vif},
    too_big::fits,
};
use crate::tables::{
    View,
    entries::{Path, SlotEntry},
    packed::{PackedFdbEntry, node_key},
    peer::PackedVtep,
};
use stopover_net::{
    ecn, ethernet,
    fast_parse::{self, Datagram, Received, Sender, Sent, Tunnel},
    underlay::is_martian,
};

/// Whether a frame takes the fast path: an ordinary frame from a vif, or an ordinary tunnel datagram, for one node that
/// is not migrating, by a path or port that it fits.
#[must_use]
pub fn eligible<P: Packet>(view: &View, ports: &[Port], port: u16, packet: &P) -> bool {
    match ingress(ports, port) {
        Some(Ingress::Vif(vif)) => sent(vif, &sender(vif), packet).is_some_and(|sent| {
            let word = view.packed_fdb_entry(vif.network.bd, sent.dst);
            match word.slot_at_rest().and_then(|slot| view.slot(slot)) {
                Some(entry) => path_to_host(entry, packet.len()).is_some(),
                None => port_of_sent(ports, port, word, packet.len()).is_some(),
            }
        }),
        Some(Ingress::Underlay(own)) => opened(own, packet).is_some_and(|(datagram, inner)| {
            let Datagram { src, dst, vni, inner_len, .. } = datagram;
            let sender = view.vtep(src).filter(|_| !is_martian(src));
            let is_ours = own.has_address(dst) && sender.is_some_and(PackedVtep::accepts_plain);
            view.bd_of(vni).filter(|_| is_ours).is_some_and(|bd| {
                let is_local = view.lookup_locals(&[node_key(bd, inner.src)], &mut [0]) != 0;
                let word = view.packed_fdb_entry(bd, inner.dst);
                !is_local && port_of_inner(ports, word, inner_len.into()).is_some()
            })
        }),
        None => false,
    }
}

/// A port whose frames may be eligible.
pub(super) enum Ingress<'a> {
    Vif(&'a Vif),
    Underlay(&'a Underlay),
}

/// Not a segment, whose stations are learned.
#[inline(always)]
pub(super) fn ingress(ports: &[Port], port: u16) -> Option<Ingress<'_>> {
    match &ports.get(usize::from(port))?.role {
        Role::Vif(vif) => Some(Ingress::Vif(vif)),
        Role::Underlay(own) => Some(Ingress::Underlay(own)),
        Role::Segment(_) | Role::Absent => None,
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

/// The source addresses that are eligible from a vif, for [`sent`].
pub(super) fn sender(vif: &Vif) -> Sender {
    match vif.guard {
        // For a vif with one address the comparison needs no loop.
        true if vif.addressed => Sender::from_mac(vif.mac).with_expected_ip(vif.ipv4.first().copied()),
        true => Sender::from_mac(vif.mac),
        false => Sender::any(),
    }
}

/// A frame of a vif: ordinary ([`fast_parse::sent`]), from an address that the guard accepts, without a mark of a device.
#[inline(always)]
pub(super) fn sent<P: Packet>(vif: &Vif, sender: &Sender, packet: &P) -> Option<Sent> {
    let sent = fast_parse::sent(packet.head(), packet.len(), sender)?;
    let may = sent.expected || guard::owns4(vif, sent.src, sent.src_ip);
    (may && !sent.src.is_zero() && packet.is_plain()).then_some(sent)
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
    entry.path.as_ref().filter(|path| fits(len, path.inner_mtu))
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

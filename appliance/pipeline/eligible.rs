//! Eligible: which frames take the fast path. Enters: a frame and the port that it came from. Leaves: what the fast path
//! needs of it; or nothing, then it takes the slow path, which decides about it.
//!
//! [`eligible`] is the whole condition, for one frame. The fast path asks for its parts in passes over a burst: the port
//! ([`ingress`]), the frame ([`sent`], [`received`]), and, with what the tables have, the destination ([`path_to_host`],
//! [`port_of_sent`], [`port_of_received`]). The rules are those of the stages: what a stage refuses or treats in another
//! way is not eligible. Where a stage has a predicate it is used here. Two are written twice, because the parser of the
//! fast path compares many header fields with few instructions: that a source is a station ([`guard::check_addresses`])
//! and from its vif ([`guard::check_vif`]). `tests/eligible.rs` compares all that is eligible with the slow path.

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
    ecn,
    fast_parse::{self, Received, Sender, Sent, Tunnel},
    underlay::martian_v4,
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
        Some(Ingress::Underlay(own)) => received(own, packet).is_some_and(|(tunnel, inner)| {
            let sender = view.vtep(tunnel.src.into()).filter(|_| !martian_v4(tunnel.src));
            let is_ours = own.has_address(tunnel.dst.into()) && sender.is_some_and(PackedVtep::accepts_plain);
            view.bd_of(tunnel.vni).filter(|_| is_ours).is_some_and(|bd| {
                let is_local = view.lookup_locals(&[node_key(bd, inner.src)], &mut [0]) != 0;
                let word = view.packed_fdb_entry(bd, inner.dst);
                !is_local && port_of_received(ports, own, word, tunnel.inner_len).is_some()
            })
        }),
        None => false,
    }
}

/// A port whose frames may be eligible.
pub(super) enum Ingress<'a> {
    Vif(&'a Vif),
    /// Untagged.
    Underlay(&'a Underlay),
}

/// Not a segment, whose stations are learned, and not a tagged underlay.
#[inline(always)]
pub(super) fn ingress(ports: &[Port], port: u16) -> Option<Ingress<'_>> {
    match &ports.get(usize::from(port))?.role {
        Role::Vif(vif) => Some(Ingress::Vif(vif)),
        Role::Underlay(own) if own.vlan.is_none() => Some(Ingress::Underlay(own)),
        Role::Underlay(_) | Role::Segment(_) | Role::Absent => None,
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

/// The port and VLAN of the destination of a frame from the underlay, if it is at this host, is not migrating, the frame
/// fits, and its tag needs no priority.
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
